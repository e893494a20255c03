use super::*;
use proptest::prelude::*;

/// A header and a table of three segments: text, data with bss, stack.
pub(crate) fn sample() -> Vec<u8> {
    let mut out = vec![0; HEADER_LEN];
    out[..4].copy_from_slice(b"\x7fELF");
    out[16..18].copy_from_slice(&3u16.to_le_bytes());
    out[18..20].copy_from_slice(&62u16.to_le_bytes());
    out[24..32].copy_from_slice(&0x1040u64.to_le_bytes());
    out[32..40].copy_from_slice(&64u64.to_le_bytes());
    out[54..56].copy_from_slice(&56u16.to_le_bytes());
    out[56..58].copy_from_slice(&3u16.to_le_bytes());
    for (kind, flags, fields) in [
        (1u32, 5u32, [0u64, 0, 0, 0x2000, 0x2000, 0x1000]),
        (1, 6, [0x2800, 0x3800, 0x3800, 0x100, 0x5000, 0x20_0000]),
        (SEGMENT_STACK, 6, [0; 6]),
    ] {
        out.extend(kind.to_le_bytes());
        out.extend(flags.to_le_bytes());
        out.extend(fields.iter().flat_map(|f| f.to_le_bytes()));
    }
    out
}

#[test]
fn a_plain_program_is_read() {
    let file = sample();
    let header = Header::parse(&file, false).unwrap();
    assert!(header.relocatable);
    assert_eq!((header.entry, header.table_len()), (0x1040, Some(168)));
    let segments = Segments::parse(&file[64..]);
    assert_eq!(segments.loads.len(), 2);
    assert_eq!(segments.span(), Ok((0, 0x8800)));
    assert_eq!(segments.alignment(), 0x20_0000);
    assert_eq!(segments.table_address(&header), 64);
    assert_eq!(segments.interpreter(), Ok(None));
    assert!(!segments.executable_stack);
}

#[test]
fn headers_are_checked_as_linux_checks_them() {
    let with = |at: usize, bytes: &[u8]| {
        let mut file = sample();
        file[at..at + bytes.len()].copy_from_slice(bytes);
        Header::parse(&file, false)
    };
    // Class, byte order, version: of no interest.
    assert!(with(4, &[1, 2, 9]).is_some());
    assert!(with(0, b"\x7fELG").is_none());
    assert!(with(16, &[1, 0]).is_none());
    assert!(with(18, &[3, 0]).is_none());
    assert!(Header::parse(&sample()[..63], false).is_none());
    assert_eq!(with(54, &[32]).unwrap().table_len(), None);
    assert_eq!(with(56, &[0, 0]).unwrap().table_len(), None);
    assert_eq!(
        with(56, &1170u16.to_le_bytes()).unwrap().table_len(),
        Some(65520)
    );
    assert_eq!(with(56, &1171u16.to_le_bytes()).unwrap().table_len(), None);
}

#[test]
fn segments_that_lie_are_refused() {
    let good = Segments::parse(&sample()[64..]).loads[1];
    assert_eq!(good.placed(0x1000).map(|l| l.vaddr), Ok(0x4800));
    for bad in [
        Load {
            memory_size: 1,
            ..good
        },
        Load {
            memory_size: u64::MAX,
            ..good
        },
        Load {
            vaddr: u64::MAX - 4096,
            ..good
        },
        Load {
            vaddr: TASK_SIZE - 4096,
            ..good
        },
        Load {
            file_size: 1 << 50,
            ..good
        },
    ] {
        assert_eq!(bad.placed(0), Err(Errno::EINVAL), "{bad:?}");
    }
    assert_eq!(Segments::default().span(), Err(Errno::EINVAL));
}

proptest! {
    #[test]
    fn random_bytes_are_answered(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        read_all(&bytes);
    }

    #[test]
    fn mutated_headers_are_answered(
        edits in proptest::collection::vec((0usize..232, extreme()), 1..8),
        cut in 0usize..=232,
    ) {
        let mut file = sample();
        for (at, value) in edits {
            for (to, from) in file[at..].iter_mut().zip(value.to_le_bytes()) {
                *to = from;
            }
        }
        file.truncate(cut.max(64));
        read_all(&file);
    }
}

/// Values where arithmetic goes wrong.
fn extreme() -> impl Strategy<Value = u64> {
    prop_oneof![
        Just(u64::MAX),
        Just(1 << 63),
        Just(TASK_SIZE),
        Just(u64::MAX - 4095),
        any::<u64>(),
        0u64..0x10000,
    ]
}

fn read_all(file: &[u8]) {
    let header = Header::parse(file, true);
    let segments = Segments::parse(file.get(64..).unwrap_or_default());
    let _ = segments.interpreter();
    let alignment = segments.alignment();
    assert!(alignment.is_power_of_two() && alignment >= PAGE_SIZE);
    if let Ok((low, len)) = segments.span() {
        assert!(low.checked_add(len).is_some());
    }
    for load in &segments.loads {
        if let Ok(placed) = load.placed(0x5555_0000_0000) {
            assert!(placed.vaddr + placed.memory_size <= TASK_SIZE);
        }
    }
    if let Some(header) = header {
        let _ = header.table_len();
        let _ = segments.table_address(&header);
    }
}
