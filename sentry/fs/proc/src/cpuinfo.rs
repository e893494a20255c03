//! `cpuinfo`: what the guest's own `cpuid` says, in Linux's words.

use std::fmt::Write;
use task::Kernel;

/// Where the bits of a register stand: leaf, index, and 0 to 3 for `eax` to `edx`.
type Register = (u32, u32, usize);

/// Names that Linux gives to bits (`arch/x86/include/asm/cpufeatures.h`), in its order; of what
/// programs cannot use those alone that all CPUs have.
const FLAGS: &[(Register, &[(u32, &str)])] = &[
    (
        (1, 0, 3),
        &[
            (0, "fpu"),
            (1, "vme"),
            (2, "de"),
            (3, "pse"),
            (4, "tsc"),
            (5, "msr"),
            (6, "pae"),
            (7, "mce"),
            (8, "cx8"),
            (9, "apic"),
            (11, "sep"),
            (12, "mtrr"),
            (13, "pge"),
            (14, "mca"),
            (15, "cmov"),
            (16, "pat"),
            (17, "pse36"),
            (19, "clflush"),
            (23, "mmx"),
            (24, "fxsr"),
            (25, "sse"),
            (26, "sse2"),
            (27, "ss"),
            (28, "ht"),
        ],
    ),
    (
        (0x8000_0001, 0, 3),
        &[
            (11, "syscall"),
            (20, "nx"),
            (22, "mmxext"),
            (25, "fxsr_opt"),
            (26, "pdpe1gb"),
            (27, "rdtscp"),
            (29, "lm"),
            (30, "3dnowext"),
            (31, "3dnow"),
        ],
    ),
    (
        (0x8000_0007, 0, 3),
        &[(8, "constant_tsc"), (8, "nonstop_tsc")],
    ),
    (
        (1, 0, 2),
        &[
            (0, "pni"),
            (1, "pclmulqdq"),
            (9, "ssse3"),
            (12, "fma"),
            (13, "cx16"),
            (19, "sse4_1"),
            (20, "sse4_2"),
            (22, "movbe"),
            (23, "popcnt"),
            (25, "aes"),
            (26, "xsave"),
            (28, "avx"),
            (29, "f16c"),
            (30, "rdrand"),
        ],
    ),
    (
        (0x8000_0001, 0, 2),
        &[
            (0, "lahf_lm"),
            (1, "cmp_legacy"),
            (5, "abm"),
            (6, "sse4a"),
            (7, "misalignsse"),
            (8, "3dnowprefetch"),
            (11, "xop"),
            (16, "fma4"),
            (21, "tbm"),
        ],
    ),
    (
        (7, 0, 1),
        &[
            (0, "fsgsbase"),
            (3, "bmi1"),
            (4, "hle"),
            (5, "avx2"),
            (8, "bmi2"),
            (9, "erms"),
            (11, "rtm"),
            (16, "avx512f"),
            (17, "avx512dq"),
            (18, "rdseed"),
            (19, "adx"),
            (21, "avx512ifma"),
            (23, "clflushopt"),
            (24, "clwb"),
            (26, "avx512pf"),
            (27, "avx512er"),
            (28, "avx512cd"),
            (29, "sha_ni"),
            (30, "avx512bw"),
            (31, "avx512vl"),
        ],
    ),
    (
        (0xd, 1, 0),
        &[(0, "xsaveopt"), (1, "xsavec"), (2, "xgetbv1")],
    ),
    (
        (7, 1, 0),
        &[(4, "avx_vnni"), (5, "avx512_bf16"), (23, "avx_ifma")],
    ),
    ((0x8000_0008, 0, 1), &[(0, "clzero"), (9, "wbnoinvd")]),
    (
        (7, 0, 2),
        &[
            (1, "avx512vbmi"),
            (2, "umip"),
            (3, "pku"),
            (4, "ospke"),
            (6, "avx512_vbmi2"),
            (8, "gfni"),
            (9, "vaes"),
            (10, "vpclmulqdq"),
            (11, "avx512_vnni"),
            (12, "avx512_bitalg"),
            (14, "avx512_vpopcntdq"),
            (22, "rdpid"),
            (25, "cldemote"),
            (27, "movdiri"),
            (28, "movdir64b"),
        ],
    ),
    (
        (7, 0, 3),
        &[
            (2, "avx512_4vnniw"),
            (3, "avx512_4fmaps"),
            (4, "fsrm"),
            (8, "avx512_vp2intersect"),
            (14, "serialize"),
            (22, "amx_bf16"),
            (23, "avx512_fp16"),
            (24, "amx_tile"),
            (25, "amx_int8"),
        ],
    ),
];

/// The text for all CPUs.
pub(crate) fn text(kernel: &Kernel) -> String {
    let ask = |leaf: u32, index: u32| kernel.engine().cpuid(leaf, index);
    let cpu = Cpu::new(&ask);
    let khz = kernel
        .vdso()
        .counter_rate(kernel.clocks())
        .map(|hz| hz / 1000);
    let cpus = kernel.cpus();
    let mut s = String::new();
    for n in 0..cpus {
        cpu.write(&mut s, n, cpus, khz);
    }
    s
}

/// What is the same for all CPUs.
struct Cpu {
    vendor: String,
    family: u32,
    model: u32,
    stepping: u32,
    name: String,
    /// The highest leaf.
    level: u32,
    flags: Vec<&'static str>,
    /// KiB of the cache that counts as the CPU's.
    cache: u32,
    clflush: u32,
    physical: u32,
    virtual_: u32,
}

impl Cpu {
    fn new(ask: &dyn Fn(u32, u32) -> [u32; 4]) -> Cpu {
        let [level, b, c, d] = ask(0, 0);
        let [extended, ..] = ask(0x8000_0000, 0);
        // A leaf that the CPU does not have says what some other one does.
        let leaf = |leaf: u32, index: u32| {
            let there = match leaf {
                0x8000_0000.. => leaf <= extended,
                _ => leaf <= level,
            };
            if there { ask(leaf, index) } else { [0; 4] }
        };
        let [version, more, ..] = leaf(1, 0);
        let field = |low: u32, bits: u32| version >> low & ((1 << bits) - 1);
        let family = match field(8, 4) {
            0xf => 0xf + field(20, 8),
            family => family,
        };
        let model = match family {
            6.. => field(16, 4) << 4 | field(4, 4),
            _ => field(4, 4),
        };
        let has = |&(l, index, register): &Register, bit: u32| {
            leaf(l, index)
                .get(register)
                .is_some_and(|r| r >> bit & 1 == 1)
        };
        let flags = FLAGS.iter().flat_map(|(register, names)| {
            let there = names.iter().filter(move |(bit, _)| has(register, *bit));
            there.map(|(_, name)| *name)
        });
        let [sizes, ..] = leaf(0x8000_0008, 0);
        let bits = |size: u32, usual: u32| if size == 0 { usual } else { size };
        Cpu {
            vendor: ascii(&[b, d, c]),
            family,
            model,
            stepping: field(0, 4),
            name: ascii(
                &[0x8000_0002, 0x8000_0003, 0x8000_0004]
                    .map(|l| leaf(l, 0))
                    .concat(),
            ),
            level,
            flags: flags.collect(),
            cache: leaf(0x8000_0006, 0)[2] >> 16,
            clflush: (more >> 8 & 0xff) * 8,
            physical: bits(sizes & 0xff, 36),
            virtual_: bits(sizes >> 8 & 0xff, 48),
        }
    }

    /// CPU number `n` of one package of `cpus` cores with one thread each, as /sys has it, whose
    /// clock makes so many thousand counts a second, if that is known.
    fn write(&self, s: &mut String, n: u32, cpus: u32, khz: Option<u64>) {
        let mut row = |name: &str, value: &dyn std::fmt::Display| {
            // Names are padded with tabs to the width of two.
            let tabs = if name.len() < 8 { "\t\t" } else { "\t" };
            let _ = writeln!(s, "{name}{tabs}: {value}");
        };
        row("processor", &n);
        row("vendor_id", &self.vendor);
        row("cpu family", &self.family);
        row("model", &self.model);
        row("model name", &self.name);
        row("stepping", &self.stepping);
        if let Some(khz) = khz {
            row("cpu MHz", &format_args!("{}.{:03}", khz / 1000, khz % 1000));
        }
        row("cache size", &format_args!("{} KB", self.cache));
        row("physical id", &0);
        row("siblings", &cpus);
        row("core id", &n);
        row("cpu cores", &cpus);
        row("apicid", &n);
        row("initial apicid", &n);
        row("fpu", &"yes");
        row("fpu_exception", &"yes");
        row("cpuid level", &self.level);
        row("wp", &"yes");
        row("flags", &self.flags.join(" "));
        row("bugs", &"");
        if let Some(khz) = khz {
            // Loops that nobody runs any more: two a count.
            let bogus = khz / 5;
            row(
                "bogomips",
                &format_args!("{}.{:02}", bogus / 100, bogus % 100),
            );
        }
        row("clflush size", &self.clflush);
        row("cache_alignment", &self.clflush);
        row(
            "address sizes",
            &format_args!(
                "{} bits physical, {} bits virtual",
                self.physical, self.virtual_
            ),
        );
        let _ = writeln!(s, "power management:\n");
    }
}

fn ascii(words: &[u32]) -> String {
    let bytes: Vec<u8> = words.iter().flat_map(|w| w.to_le_bytes()).collect();
    let printable = bytes.iter().filter(|b| matches!(b, b' '..=b'~'));
    let text: String = printable.map(|b| char::from(*b)).collect();
    text.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_written_as_linux_writes_it() {
        let ask = |leaf: u32, _index: u32| match leaf {
            0 => [
                7,
                u32::from_le_bytes(*b"Genu"),
                u32::from_le_bytes(*b"ntel"),
                u32::from_le_bytes(*b"ineI"),
            ],
            1 => [0x000c_06a2, 8 << 8, 1, 1 | 1 << 25],
            0x8000_0000 => [0x8000_0001, 0, 0, 0],
            0x8000_0001 => [0, 0, 1, 1 << 29],
            // What is beyond the highest leaf.
            _ => [u32::MAX; 4],
        };
        let cpu = Cpu::new(&ask);
        assert_eq!(
            (cpu.vendor.as_str(), cpu.family, cpu.model, cpu.stepping),
            ("GenuineIntel", 6, 0xca, 2)
        );
        assert_eq!(cpu.flags[..2], ["fpu", "sse"]);
        assert!(!cpu.flags.contains(&"xsaveopt"));
        let mut s = String::new();
        cpu.write(&mut s, 1, 2, Some(2_445_406));
        for line in [
            "processor\t: 1",
            "cpu family\t: 6",
            "model\t\t: 202",
            "cpu MHz\t\t: 2445.406",
            "core id\t\t: 1",
            "fpu\t\t: yes",
            "bogomips\t: 4890.81",
            "address sizes\t: 36 bits physical, 48 bits virtual",
        ] {
            assert!(s.lines().any(|l| l == line), "{line:?} in {s}");
        }
        assert!(s.ends_with("power management:\n\n"));
    }
}
