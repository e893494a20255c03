//! The image: an ELF shared object with symbols and their version.

use crate::code;
use std::sync::OnceLock;

/// Pages of the image.
pub const IMAGE_PAGES: u64 = 1;

const SIZE: usize = (IMAGE_PAGES * 4096) as usize;

/// The shared object, [`IMAGE_PAGES`] long, position-independent.
pub fn image() -> &'static [u8] {
    static IMAGE: OnceLock<Vec<u8>> = OnceLock::new();
    IMAGE.get_or_init(build)
}

struct Image(Vec<u8>);

impl Image {
    fn put(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }
    fn u16(&mut self, v: u16) {
        self.put(&v.to_le_bytes());
    }
    fn u32(&mut self, v: u32) {
        self.put(&v.to_le_bytes());
    }
    fn u64(&mut self, v: u64) {
        self.put(&v.to_le_bytes());
    }
    fn align(&mut self, to: usize) -> u64 {
        self.0.resize(self.0.len().next_multiple_of(to), 0);
        self.0.len() as u64
    }
}

const VERSION: &str = "LINUX_2.6";
const EHDR: usize = 64;
const PHDR: usize = 56;
const PHDRS: usize = 4;
const DYNAMIC_ENTRIES: usize = 11;

fn build() -> Vec<u8> {
    let functions = code::functions();
    let mut strings = vec![0u8];
    let mut name = |s: &str| {
        let at = strings.len() as u32;
        strings.extend_from_slice(s.as_bytes());
        strings.push(0);
        at
    };
    let soname = name(crate::SONAME);
    let version = name(VERSION);
    let names: Vec<u32> = functions.iter().map(|(n, _, _)| name(n)).collect();

    let mut o = Image(vec![0; EHDR + PHDRS * PHDR]);
    let dynamic = o.align(16);
    o.0.resize(o.0.len() + DYNAMIC_ENTRIES * 16, 0);

    // Symbols: the null one, the functions, the version's own.
    let symtab = o.align(8);
    o.0.resize(o.0.len() + 24, 0);
    for ((_, at, len), name) in functions.iter().zip(&names) {
        o.u32(*name);
        o.put(&[0x12, 0]); // STB_GLOBAL, STT_FUNC
        o.u16(1);
        o.u64(code::TEXT_OFFSET + at);
        o.u64(*len);
    }
    o.u32(version);
    o.put(&[0x11, 0]); // STB_GLOBAL, STT_OBJECT
    o.u16(0xfff1); // SHN_ABS
    o.u64(0);
    o.u64(0);
    let symbols = functions.len() as u32 + 2;

    // DT_HASH with a single bucket: the chain is every symbol in turn.
    let hash = o.align(8);
    o.u32(1);
    o.u32(symbols);
    o.u32(1);
    o.u32(0);
    for i in 1..symbols {
        o.u32((i + 1) % symbols);
    }

    // DT_GNU_HASH likewise, with a filter that lets everything through. The chain's last hash
    // has its low bit set.
    let gnu_hash = o.align(8);
    for v in [1, 1, 1, 0] {
        o.u32(v); // buckets, first symbol, filter words, filter shift
    }
    o.u64(u64::MAX);
    o.u32(1);
    let all_names = functions.iter().map(|f| f.0).chain([VERSION]);
    for (i, n) in all_names.enumerate() {
        let last = i as u32 == symbols - 2;
        o.u32(gnu_hash_of(n) & !1 | u32::from(last));
    }

    let versym = o.align(2);
    o.u16(0);
    for _ in 1..symbols {
        o.u16(2);
    }

    // Two version definitions: the object itself and LINUX_2.6.
    let verdef = o.align(8);
    for (flags, index, text, name, last) in [
        (1u16, 1u16, crate::SONAME, soname, false),
        (0, 2, VERSION, version, true),
    ] {
        o.u16(1);
        o.u16(flags);
        o.u16(index);
        o.u16(1);
        o.u32(elf_hash_of(text));
        o.u32(20); // to its name
        o.u32(if last { 0 } else { 28 });
        o.u32(name);
        o.u32(0);
    }

    let strtab = o.align(1);
    let strsz = strings.len() as u64;
    o.put(&strings);

    let text = code::text();
    assert!(
        o.0.len() as u64 <= code::TEXT_OFFSET && code::TEXT_OFFSET as usize + text.len() <= SIZE
    );
    o.0.resize(code::TEXT_OFFSET as usize, 0);
    o.put(text);
    o.0.resize(SIZE, 0);
    let mut image = o.0;

    let mut table = Image(Vec::new());
    for (tag, value) in [
        (14, u64::from(soname)), // DT_SONAME
        (4, hash),               // DT_HASH
        (0x6fff_fef5, gnu_hash), // DT_GNU_HASH
        (5, strtab),             // DT_STRTAB
        (6, symtab),             // DT_SYMTAB
        (10, strsz),             // DT_STRSZ
        (11, 24),                // DT_SYMENT
        (0x6fff_fffc, verdef),   // DT_VERDEF
        (0x6fff_fffd, 2),        // DT_VERDEFNUM
        (0x6fff_fff0, versym),   // DT_VERSYM
    ] {
        table.u64(tag);
        table.u64(value);
    }
    // The last entry, DT_NULL, is zeros already.
    let mut head = Image(Vec::new());
    head.put(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0");
    head.u16(3); // ET_DYN
    head.u16(62); // EM_X86_64
    head.u32(1);
    head.u64(code::TEXT_OFFSET);
    head.u64(EHDR as u64);
    head.u64(0);
    head.u32(0);
    head.u16(EHDR as u16);
    head.u16(PHDR as u16);
    head.u16(PHDRS as u16);
    head.u16(64);
    head.u16(0);
    head.u16(0);
    let dynamic_len = (DYNAMIC_ENTRIES * 16) as u64;
    for (kind, flags, offset, len, align) in [
        (1u32, 5u32, 0, SIZE as u64, 4096u64), // PT_LOAD
        (2, 4, dynamic, dynamic_len, 8),       // PT_DYNAMIC
        (0x6474_e551, 6, 0, 0, 16),            // PT_GNU_STACK
        (0, 0, 0, 0, 0),                       // PT_NULL
    ] {
        head.u32(kind);
        head.u32(flags);
        head.u64(offset);
        head.u64(offset);
        head.u64(offset);
        head.u64(len);
        head.u64(len);
        head.u64(align);
    }
    image[..head.0.len()].copy_from_slice(&head.0);
    let at = dynamic as usize;
    image[at..at + table.0.len()].copy_from_slice(&table.0);
    image
}

fn elf_hash_of(name: &str) -> u32 {
    name.bytes().fold(0u32, |h, b| {
        let h = (h << 4).wrapping_add(u32::from(b));
        let top = h & 0xf000_0000;
        (h ^ top >> 24) & !top
    })
}

fn gnu_hash_of(name: &str) -> u32 {
    name.bytes().fold(5381u32, |h, b| {
        h.wrapping_mul(33).wrapping_add(u32::from(b))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::code::run::Mapped;
    use crate::{HostTime, Params, Timekeeper, time_stamp};

    fn symbol(name: &str) -> u64 {
        let (_, at, _) = *code::functions().iter().find(|f| f.0 == name).unwrap();
        code::TEXT_OFFSET + at
    }

    #[test]
    fn without_a_line_the_code_makes_the_call() {
        let m = Mapped::new(&Params::default().bytes(0));
        let (r, ts) = m.clock_gettime(symbol("__vdso_clock_gettime"), 1);
        assert_eq!(r, 0);
        assert!(ts[0] > 0);
        let (r, _) = m.clock_gettime(symbol("__vdso_clock_gettime"), 77);
        assert_eq!(r, -22);
    }

    #[test]
    fn with_a_line_the_code_follows_it() {
        let Some(tsc) = time_stamp() else { return };
        let mut k = Timekeeper::new(2);
        let ns = 7_000_000_000;
        let t = |d: u64| HostTime {
            tsc: tsc - 40_000_000 + d,
            monotonic: ns + d,
            realtime: 3 * ns + d,
            boottime: ns + d,
        };
        k.sample(t(0));
        let line = *k.sample(t(40_000_000));
        let m = Mapped::new(&line.bytes(2));
        let (r, ts) = m.clock_gettime(symbol("__vdso_clock_gettime"), 1);
        assert_eq!((r, ts[0]), (0, 7), "{ts:?}");
        let (_, wall) = m.clock_gettime(symbol("__vdso_clock_gettime"), 0);
        assert_eq!(wall[0], 21);
        assert!(m.getcpu(symbol("__vdso_getcpu")) < 2);
    }

    #[test]
    fn the_dynamic_table_ends_with_null() {
        let image = image();
        assert_eq!(image.len(), SIZE);
        let dynamic =
            u64::from_le_bytes(image[EHDR + PHDR + 8..][..8].try_into().unwrap()) as usize;
        assert_eq!(image[dynamic + (DYNAMIC_ENTRIES - 1) * 16..][..16], [0; 16]);
    }
}
