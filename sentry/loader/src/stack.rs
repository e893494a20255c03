//! The first words on a program's stack, as bytes.

use abi::Errno;
use abi::page::page_up;

/// Entries of the auxiliary vector (getauxval(3)).
pub(crate) mod at {
    pub(crate) const NULL: u64 = 0;
    pub(crate) const PHDR: u64 = 3;
    pub(crate) const PHENT: u64 = 4;
    pub(crate) const PHNUM: u64 = 5;
    pub(crate) const PAGESZ: u64 = 6;
    pub(crate) const BASE: u64 = 7;
    pub(crate) const FLAGS: u64 = 8;
    pub(crate) const ENTRY: u64 = 9;
    pub(crate) const UID: u64 = 11;
    pub(crate) const EUID: u64 = 12;
    pub(crate) const GID: u64 = 13;
    pub(crate) const EGID: u64 = 14;
    pub(crate) const PLATFORM: u64 = 15;
    pub(crate) const HWCAP: u64 = 16;
    pub(crate) const CLKTCK: u64 = 17;
    pub(crate) const SECURE: u64 = 23;
    pub(crate) const RANDOM: u64 = 25;
    pub(crate) const HWCAP2: u64 = 26;
    pub(crate) const EXECFN: u64 = 31;
    pub(crate) const SYSINFO_EHDR: u64 = 33;
    pub(crate) const MINSIGSTKSZ: u64 = 51;
}

const PLATFORM: &[u8] = b"x86_64";

/// What goes onto the stack.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Content<'a> {
    /// `AT_EXECFN`
    pub(crate) filename: &'a [u8],
    /// Arguments.
    pub(crate) argv: &'a [Vec<u8>],
    /// Environment.
    pub(crate) envp: &'a [Vec<u8>],
    /// `AT_RANDOM`
    pub(crate) random: [u8; 16],
    /// Bytes left free between strings and words, so that the latter are not always at the same
    /// place: less than 8192, rounded down to 16.
    pub(crate) gap: u64,
    /// Auxiliary vector but for its pointers into the stack and its end.
    pub(crate) auxv: &'a [(u64, u64)],
}

/// A stack's content and where things lie in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Image {
    /// The first stack pointer, a multiple of 16: the address of `bytes`, which reach to the
    /// stack's top.
    pub(crate) pointer: u64,
    /// What lies there.
    pub(crate) bytes: Vec<u8>,
    /// The arguments' strings.
    pub(crate) args: (u64, u64),
    /// The environment's strings.
    pub(crate) env: (u64, u64),
    /// The auxiliary vector as it stands on the stack.
    pub(crate) auxv: Vec<u8>,
}

/// Lays out a stack that ends at `top` (page-aligned).
///
/// From the top down: a null word, the file name, the environment's strings, the arguments', the
/// gap, platform name and random bytes, then auxiliary vector, `envp`, `argv` and `argc`.
///
/// # Errors
/// `E2BIG` where there is not that much room below `top`.
pub(crate) fn build(top: u64, content: &Content<'_>) -> Result<Image, Errno> {
    let size = |list: &[Vec<u8>]| list.iter().map(|s| s.len() as u64 + 1).sum::<u64>();
    let down = |from: u64, by: u64| from.checked_sub(by).ok_or(Errno::E2BIG);

    let filename = down(top, 8 + content.filename.len() as u64 + 1)?;
    let env = down(filename, size(content.envp))?;
    let args = down(env, size(content.argv))?;
    let platform = down(args, content.gap % 8192)? & !15;
    let platform = down(platform, PLATFORM.len() as u64 + 1)? & !15;
    let random = down(platform, 16)?;

    let mut auxv = Vec::new();
    let pointers = [
        (at::RANDOM, random),
        (at::EXECFN, filename),
        (at::PLATFORM, platform),
        (at::NULL, 0),
    ];
    for (kind, value) in content.auxv.iter().chain(&pointers) {
        auxv.extend(kind.to_le_bytes());
        auxv.extend(value.to_le_bytes());
    }
    let words = 1 + (content.argv.len() + 1) as u64 + (content.envp.len() + 1) as u64;
    let pointer = down(
        random,
        words.saturating_mul(8).saturating_add(auxv.len() as u64),
    )? & !15;

    let mut out = Bytes {
        at: pointer,
        bytes: Vec::with_capacity((top - pointer) as usize),
    };
    out.word(content.argv.len() as u64);
    out.pointers(args, content.argv);
    out.pointers(env, content.envp);
    out.put(&auxv);
    out.pad(random);
    out.put(&content.random);
    out.pad(platform);
    out.string(PLATFORM);
    out.pad(args);
    content.argv.iter().for_each(|s| out.string(s));
    content.envp.iter().for_each(|s| out.string(s));
    out.string(content.filename);
    out.pad(top);
    Ok(Image {
        pointer,
        bytes: out.bytes,
        args: (args, env),
        env: (env, filename),
        auxv,
    })
}

/// Bytes of stack to map at first: what is on it and 128 KiB, within `limit`, never less than
/// what is on it.
pub(crate) fn mapped_len(content: u64, limit: u64) -> Option<u64> {
    let used = page_up(content)?;
    let wanted = used.checked_add(128 << 10)?;
    Some(wanted.min(abi::page::page_down(limit)).max(used))
}

/// Bytes being laid out upwards.
struct Bytes {
    at: u64,
    bytes: Vec<u8>,
}

impl Bytes {
    fn put(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }
    fn word(&mut self, word: u64) {
        self.put(&word.to_le_bytes());
    }
    fn string(&mut self, s: &[u8]) {
        self.put(s);
        self.bytes.push(0);
    }
    /// Zeros up to the address `to`.
    fn pad(&mut self, to: u64) {
        let len = (to.saturating_sub(self.at)) as usize;
        debug_assert!(self.bytes.len() <= len);
        self.bytes.resize(len, 0);
    }
    /// A vector of pointers to `strings`, the first of which lies at `at`.
    fn pointers(&mut self, mut at: u64, strings: &[Vec<u8>]) {
        for s in strings {
            self.word(at);
            at += s.len() as u64 + 1;
        }
        self.word(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TOP: u64 = 0x7fff_ffff_f000;

    /// Reads a stack back as a program's start code does.
    struct Reader<'a>(&'a Image);

    impl Reader<'_> {
        fn word(&self, at: u64) -> u64 {
            let i = (at - self.0.pointer) as usize;
            u64::from_le_bytes(self.0.bytes[i..i + 8].try_into().unwrap())
        }
        fn string(&self, at: u64) -> Vec<u8> {
            let i = (at - self.0.pointer) as usize;
            self.0.bytes[i..]
                .iter()
                .copied()
                .take_while(|b| *b != 0)
                .collect()
        }
        fn vector(&self, at: &mut u64) -> Vec<Vec<u8>> {
            let mut out = Vec::new();
            while self.word(*at) != 0 {
                out.push(self.string(self.word(*at)));
                *at += 8;
            }
            *at += 8;
            out
        }
    }

    fn check(argv: &[Vec<u8>], envp: &[Vec<u8>], gap: u64) {
        let content = Content {
            filename: b"/bin/x",
            argv,
            envp,
            random: *b"0123456789abcdef",
            gap,
            auxv: &[(at::PAGESZ, 4096), (at::ENTRY, 0x1234)],
        };
        let image = build(TOP, &content).unwrap();
        assert_eq!(image.pointer % 16, 0);
        assert_eq!(image.pointer + image.bytes.len() as u64, TOP);
        let r = Reader(&image);
        assert_eq!(r.word(image.pointer), argv.len() as u64);
        let mut at = image.pointer + 8;
        assert_eq!(r.vector(&mut at), argv);
        assert_eq!(r.vector(&mut at), envp);
        let mut aux = Vec::new();
        while r.word(at) != at::NULL {
            aux.push((r.word(at), r.word(at + 8)));
            at += 16;
        }
        let find = |kind| aux.iter().find(|a| a.0 == kind).unwrap().1;
        assert_eq!(find(at::ENTRY), 0x1234);
        assert_eq!(r.string(find(at::EXECFN)), b"/bin/x");
        assert_eq!(r.string(find(at::PLATFORM)), b"x86_64");
        assert_eq!(r.word(find(at::RANDOM)).to_le_bytes(), *b"01234567");
        assert_eq!(r.word(TOP - 8), 0);
        let joined: Vec<u8> = argv
            .iter()
            .flat_map(|s| s.iter().copied().chain([0]))
            .collect();
        let from = (image.args.0 - image.pointer) as usize;
        let to = (image.args.1 - image.pointer) as usize;
        assert_eq!(image.bytes[from..to], joined);
        assert_eq!(image.args.1, image.env.0);
    }

    #[test]
    fn a_program_finds_its_arguments() {
        let list = |l: &[&str]| l.iter().map(|s| s.as_bytes().to_vec()).collect::<Vec<_>>();
        check(&list(&["ls", "-l", ""]), &list(&["A=1", "PATH=/bin"]), 0);
        check(&list(&[""]), &[], 4711);
    }

    #[test]
    fn no_room_is_an_error() {
        let argv = [vec![b'x'; 100]];
        let content = Content {
            filename: b"",
            argv: &argv,
            envp: &[],
            random: [0; 16],
            gap: 0,
            auxv: &[],
        };
        assert_eq!(build(64, &content), Err(Errno::E2BIG));
    }

    #[test]
    fn the_first_stack_keeps_its_limit() {
        assert_eq!(mapped_len(5000, 8 << 20), Some(8192 + (128 << 10)));
        assert_eq!(mapped_len(5000, 64 << 10), Some(64 << 10));
        assert_eq!(mapped_len(70_000, 64 << 10), Some(73_728));
        assert_eq!(mapped_len(u64::MAX, 0), None);
    }

    proptest! {
        #[test]
        fn any_strings_come_back(
            argv in proptest::collection::vec(proptest::collection::vec(1u8.., 0..40), 1..20),
            envp in proptest::collection::vec(proptest::collection::vec(1u8.., 0..40), 0..20),
            gap in any::<u64>(),
        ) {
            check(&argv, &envp, gap);
        }
    }
}
