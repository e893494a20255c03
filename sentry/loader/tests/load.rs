//! Programs out of a tmpfs into an address space whose platform only takes notes.

use abi::Errno;
use abi::page::TASK_SIZE;
use ctx::{Dst, Src, SysErr, UserMemory, UserMemoryExt};
use fs_tmpfs::{Options, Tmpfs};
use hostmem::MemoryFile;
use mm::{Mm, MmLimits, Prot};
use platform_api::{AddressSpace, Context, Engine, Limits, Op, PlatformError};
use proptest::prelude::{Just, Strategy, any, prop_assert, prop_assert_eq, prop_oneof};
use proptest::test_runner::{Config, TestRunner};
use sentry_loader::{LoadOptions, Loaded, Program, load};
use std::sync::Arc;
use time::Clocks;
use vfs::{DeviceRegistry, KernelFsCtx, LookupFlags, MountFlags, MountNamespace, OpenFlags, Start};

struct Notes;

fn refused() -> PlatformError {
    PlatformError {
        what: "notes".into(),
        answer: "no".into(),
        remedy: "none".into(),
        errno: Some(12),
    }
}

impl Engine for Notes {
    fn limits(&self) -> Limits {
        Limits {
            lowest: 0x10000,
            highest: TASK_SIZE,
            holes: Vec::new(),
            populates: false,
        }
    }
    fn new_space(&self) -> Result<Arc<dyn AddressSpace>, PlatformError> {
        Ok(Arc::new(Notes))
    }
    fn new_context(&self) -> Result<Box<dyn Context>, PlatformError> {
        Err(refused())
    }
}

impl AddressSpace for Notes {
    fn apply(&self, _: &[Op]) -> Result<(), PlatformError> {
        Ok(())
    }
    fn fork(&self, _: &[Op]) -> Result<Arc<dyn AddressSpace>, PlatformError> {
        Err(refused())
    }
    fn reserve_context(&self) -> Result<(), PlatformError> {
        Ok(())
    }
    fn destroy(&self) {}
}

struct World {
    cx: KernelFsCtx,
    memory: Arc<MemoryFile>,
}

impl World {
    fn new() -> World {
        hostmem::install_handlers();
        let memory = MemoryFile::new().unwrap();
        let clocks = Arc::new(Clocks::new());
        let devices = DeviceRegistry::new();
        let none = MountFlags::empty();
        let spec = Tmpfs::mount_spec(&memory, &devices, Options::default(), &clocks, none);
        let cx = KernelFsCtx::new(clocks, MountNamespace::new(spec));
        World { cx, memory }
    }

    fn put(&self, path: &str, bytes: &[u8]) {
        let flags = OpenFlags::WRONLY | OpenFlags::CREAT | OpenFlags::TRUNC;
        let follow = LookupFlags::FOLLOW;
        let file = vfs::open(&self.cx, Start::Cwd, path.as_bytes(), flags, 0o755, follow).unwrap();
        assert_eq!(
            file.write(&self.cx, &mut Src::ours(bytes)).unwrap(),
            bytes.len()
        );
    }

    fn open(&self, path: &str) -> Result<Program, SysErr> {
        let argv = vec![b"zero".to_vec(), b"one".to_vec()];
        let follow = LookupFlags::FOLLOW;
        Program::open(
            &self.cx,
            Start::Cwd,
            path.as_bytes(),
            follow,
            None,
            argv,
            vec![b"A=b".to_vec()],
        )
    }

    fn load(&self, path: &str) -> Result<(Arc<Mm>, Loaded), Errno> {
        let program = self.open(path).map_err(SysErr::errno)?;
        let engine: Arc<dyn Engine> = Arc::new(Notes);
        let mm = Mm::new(&engine, &self.memory).unwrap();
        let options = LoadOptions {
            limits: MmLimits::default(),
            randomize: true,
            ids: [1, 2, 3, 4],
            secure: false,
            vdso: None,
        };
        let loaded = load(&self.cx, &mm, program, &options).map_err(SysErr::errno)?;
        Ok((mm, loaded))
    }
}

/// One loadable segment at 0x400000, entry in it, 100 bytes of which are in the file and then
/// zeros up to 0x3000.
fn small() -> Vec<u8> {
    let mut out = vec![0; 64];
    out[..4].copy_from_slice(b"\x7fELF");
    out[16] = 2;
    out[18] = 62;
    out[24..32].copy_from_slice(&0x400078u64.to_le_bytes());
    out[32] = 64;
    out[54] = 56;
    out[56] = 1;
    out.extend([1u32, 7].iter().flat_map(|v| v.to_le_bytes()));
    let fields = [0u64, 0x400000, 0, 200, 0x3000, 0x1000];
    out.extend(fields.iter().flat_map(|v| v.to_le_bytes()));
    out.resize(300, 0xcc);
    out
}

fn edited(at: usize, value: u64) -> Vec<u8> {
    let mut out = small();
    out[at..at + 8].copy_from_slice(&value.to_le_bytes());
    out
}

fn argv_of(mm: &Mm, loaded: Loaded) -> Vec<String> {
    let argc: u64 = mm.read_obj(loaded.stack).unwrap();
    (1..=argc)
        .map(|i| {
            let at: u64 = mm.read_obj(loaded.stack + i * 8).unwrap();
            String::from_utf8(mm.read_cstr(at, 4096).unwrap().unwrap()).unwrap()
        })
        .collect()
}

fn aux_of(mm: &Mm, kind: u64) -> Option<u64> {
    let info = mm.exec_info();
    let mut pairs = info.auxv.chunks_exact(16).map(|pair| {
        let word = |at: usize| u64::from_le_bytes(pair[at..at + 8].try_into().unwrap());
        (word(0), word(8))
    });
    pairs.find(|(k, _)| *k == kind).map(|(_, v)| v)
}

#[test]
fn a_static_program_lies_where_it_says() {
    let world = World::new();
    world.put("/small", &small());
    let (mm, loaded) = world.load("/small").unwrap();
    assert_eq!(loaded.entry, 0x400078);
    assert_eq!(argv_of(&mm, loaded), ["zero", "one"]);
    let mut bytes = [1; 8];
    mm.read(0x400000 + 196, &mut bytes).unwrap();
    assert_eq!(bytes, [0xcc, 0xcc, 0xcc, 0xcc, 0, 0, 0, 0]);
    mm.read(0x402ff8, &mut bytes).unwrap();
    assert_eq!(bytes, [0; 8]);
    assert!(mm.read(0x403000, &mut bytes).is_err());
    assert!(mm.heap().start >= 0x403000);
    // AT_PHDR, AT_EUID, AT_BASE
    assert_eq!(aux_of(&mm, 3), Some(0x400040));
    assert_eq!(aux_of(&mm, 12), Some(2));
    assert_eq!(aux_of(&mm, 7), Some(0));
    let stack = mm.mapping_at(loaded.stack).unwrap();
    assert_eq!(stack.name, Some("[stack]"));
    assert!(!stack.prot.contains(Prot::EXECUTE));
    // The file itself has not been touched by the zeros.
    let exe = sentry_loader::Executable::of(&mm).unwrap();
    let mut back = vec![0; 300];
    exe.file
        .pread(&world.cx, 0, &mut Dst::ours(&mut back))
        .unwrap();
    assert_eq!(back, small());
}

#[test]
fn a_running_program_cannot_be_written_to() {
    let world = World::new();
    world.put("/small", &small());
    let open = || {
        let flags = OpenFlags::WRONLY;
        vfs::open(
            &world.cx,
            Start::Cwd,
            b"/small",
            flags,
            0,
            LookupFlags::FOLLOW,
        )
        .map(drop)
    };
    let (mm, _) = world.load("/small").unwrap();
    assert_eq!(open(), Err(Errno::ETXTBSY.into()));
    mm.destroy();
    assert_eq!(open(), Ok(()));
}

#[test]
fn a_dynamic_program_of_the_host_is_loaded_with_its_interpreter() {
    let paths = ["/bin/true", "/lib64/ld-linux-x86-64.so.2"];
    let [Ok(program), Ok(interpreter)] = paths.map(std::fs::read) else {
        eprintln!("SKIPPED: this host has no {paths:?}");
        return;
    };
    let world = World::new();
    for dir in ["/bin", "/lib64"] {
        vfs::mkdir(&world.cx, Start::Cwd, dir.as_bytes(), 0o755).unwrap();
    }
    world.put("/bin/true", &program);
    world.put("/lib64/ld-linux-x86-64.so.2", &interpreter);
    let (mm, loaded) = world.load("/bin/true").unwrap();
    let base = aux_of(&mm, 7).unwrap();
    assert!(base != 0 && loaded.entry > base);
    let mut magic = [0; 4];
    mm.read(base, &mut magic).unwrap();
    assert_eq!(&magic, b"\x7fELF");
    // The program headers are where AT_PHDR says.
    let mut table = [0; 56];
    mm.read(aux_of(&mm, 3).unwrap(), &mut table).unwrap();
    assert_eq!(table[..], program[64..120]);
    assert!(mm.heap().start > aux_of(&mm, 9).unwrap());
    // By its own name it is a program without an interpreter.
    let (mm, loaded) = world.load("/lib64/ld-linux-x86-64.so.2").unwrap();
    assert_eq!(
        (aux_of(&mm, 7), aux_of(&mm, 9)),
        (Some(0), Some(loaded.entry))
    );
}

#[test]
fn scripts_lead_to_programs_five_times_at_most() {
    let world = World::new();
    world.put("/small", &small());
    world.put("/s1", b"#!/small -a b \n");
    let (mm, loaded) = world.load("/s1").unwrap();
    assert_eq!(argv_of(&mm, loaded), ["/small", "-a b", "/s1", "one"]);
    for n in 2..=6 {
        world.put(&format!("/s{n}"), format!("#!/s{}\n", n - 1).as_bytes());
    }
    let (mm, loaded) = world.load("/s5").unwrap();
    assert_eq!(
        argv_of(&mm, loaded),
        ["/small", "-a b", "/s1", "/s2", "/s3", "/s4", "/s5", "one"]
    );
    assert_eq!(world.open("/s6").map(drop), Err(Errno::ELOOP.into()));
    world.put("/loop", b"#!/loop");
    assert_eq!(world.open("/loop").map(drop), Err(Errno::ELOOP.into()));
    for (text, errno) in [
        ("#!", Errno::EACCES),
        ("#!\n", Errno::ENOEXEC),
        ("#!/no\n", Errno::ENOENT),
        ("", Errno::ENOEXEC),
    ] {
        world.put("/bad", text.as_bytes());
        assert_eq!(world.open("/bad").map(drop), Err(errno.into()), "{text:?}");
    }
}

#[test]
fn headers_that_lie_are_answered_as_linux_answers() {
    let world = World::new();
    let load = |bytes: &[u8]| {
        world.put("/bad", bytes);
        world.load("/bad").map(drop)
    };
    assert_eq!(load(&small()), Ok(()));
    for cut in [0, 4, 63, 64, 119] {
        assert_eq!(load(&small()[..cut]), Err(Errno::ENOEXEC), "{cut}");
    }
    // Table beyond the end; negative.
    assert_eq!(load(&edited(32, 1 << 40)), Err(Errno::ENOEXEC));
    assert_eq!(load(&edited(32, u64::MAX)), Err(Errno::ENOEXEC));
    // Address, sizes and offset of the segment; entry: too late for anything but a signal.
    for (at, value) in [
        (80, 1),
        (80, 1 << 63),
        (80, u64::MAX - 4095),
        (80, TASK_SIZE - 4096),
        (96, 1 << 50),
        (104, 1),
        (104, u64::MAX),
        (72, 1),
        (72, 1 << 62),
        (24, 1 << 63),
    ] {
        assert!(load(&edited(at, value)).is_err(), "{at} {value:#x}");
    }
}

#[test]
fn interpreters_are_checked() {
    let world = World::new();
    let with = |name: &[u8], offset: u64, len: u64| {
        let mut file = small();
        file[64] = 3;
        file[72..80].copy_from_slice(&offset.to_le_bytes());
        file[96..104].copy_from_slice(&len.to_le_bytes());
        file[200..200 + name.len()].copy_from_slice(name);
        world.put("/p", &file);
        world.open("/p").map(drop).map_err(SysErr::errno)
    };
    world.put("/text", &[b'x'; 100]);
    world.put("/short", b"x");
    assert_eq!(with(b"/none\0", 200, 6), Err(Errno::ENOENT));
    assert_eq!(with(b"\0\0", 200, 2), Err(Errno::EACCES));
    assert_eq!(with(b"/none\0", 200, 5), Err(Errno::ENOEXEC));
    assert_eq!(with(b"/none\0", 200, 1), Err(Errno::ENOEXEC));
    assert_eq!(with(b"/none\0", 200, 4097), Err(Errno::ENOEXEC));
    assert_eq!(with(b"/none\0", 200, 4096), Err(Errno::EIO));
    assert_eq!(with(b"/none\0", 1 << 63, 6), Err(Errno::EINVAL));
    assert_eq!(with(b"/text\0", 200, 6), Err(Errno::ELIBBAD));
    assert_eq!(with(b"/short\0", 200, 7), Err(Errno::EIO));
}

fn extreme() -> impl Strategy<Value = u64> {
    prop_oneof![
        Just(u64::MAX),
        Just(1 << 63),
        Just(TASK_SIZE),
        Just(TASK_SIZE - 4096),
        Just(u64::MAX - 4095),
        any::<u64>(),
        (0u64..1 << 36).prop_map(|pages| pages << 12),
        0u64..0x10000,
    ]
}

#[test]
fn whatever_headers_say_loading_ends_well_or_with_an_error() {
    let world = World::new();
    let dynamic = std::fs::read("/bin/true").unwrap_or_else(|_| small());
    if let Ok(interpreter) = std::fs::read("/lib64/ld-linux-x86-64.so.2") {
        vfs::mkdir(&world.cx, Start::Cwd, b"/lib64", 0o755).unwrap();
        world.put("/lib64/ld-linux-x86-64.so.2", &interpreter);
    }
    let mut runner = TestRunner::new(Config::with_cases(400));
    // Fields of the header, or of one of the first dozen program headers.
    let place = prop_oneof![
        (0usize..64).boxed(),
        ((0usize..12), (0usize..7))
            .prop_map(|(n, field)| 64 + n * 56 + field * 8)
            .boxed(),
    ];
    let edits = proptest::collection::vec((place, extreme()), 1..4);
    let outcome = runner.run(&(any::<bool>(), edits), |(is_dynamic, edits)| {
        let mut file = if is_dynamic { dynamic.clone() } else { small() };
        for (at, value) in edits {
            if let Some(field) = file.get_mut(at..at + 8) {
                field.copy_from_slice(&value.to_le_bytes());
            }
        }
        world.put("/fuzzed", &file);
        if let Ok((mm, loaded)) = world.load("/fuzzed") {
            prop_assert!(loaded.entry < TASK_SIZE);
            prop_assert_eq!(argv_of(&mm, loaded), ["zero", "one"]);
        }
        Ok(())
    });
    assert!(outcome.is_ok(), "{outcome:?}");
}
