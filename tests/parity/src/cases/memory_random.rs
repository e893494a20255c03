//! Long sequences of mapping calls and accesses, chosen by a fixed seed, over one stretch of
//! addresses: what each call answers, and what the pages hold and allow afterwards.

use crate::dice::Dice;
use crate::out::Out;
use crate::sys::{Access, R, peek, touch};
use crate::util::{PAGE, in_child, map, open, signal_name};
use crate::{cases, k, say};
use libc::*;

cases!(
    random_anonymous_1,
    random_anonymous_2,
    random_anonymous_3,
    random_anonymous_4,
    random_files_1,
    random_files_2,
    random_files_3,
    random_files_4,
    random_forks_1,
    random_forks_2,
    random_forks_3,
    random_everything_1,
    random_everything_2,
    random_everything_3,
);

const RW: i32 = PROT_READ | PROT_WRITE;
/// Pages of the stretch, and of the file.
const PAGES: usize = 24;
const FILE_PAGES: usize = 12;
const STEPS: usize = 160;
/// After so many steps everything is looked at.
const LOOK: usize = 8;

struct World {
    o: Out,
    base: usize,
    file: i32,
    dice: Dice,
    files: bool,
    forks: bool,
    stores: u8,
}

fn run(o: Out, seed: u64, files: bool, forks: bool) {
    let base = map(
        0,
        (PAGES + 2) * PAGE,
        PROT_NONE,
        MAP_PRIVATE | MAP_ANONYMOUS,
    );
    let file = open(c"f", O_CREAT | O_RDWR | O_TRUNC, 0o644).int();
    for i in 0..FILE_PAGES {
        crate::util::write(file, &[b'A' + i as u8; PAGE]);
    }
    let mut w = World {
        o,
        base: base.addr() + PAGE,
        file,
        dice: Dice::new(seed),
        files,
        forks,
        stores: 0,
    };
    for step in 1..=STEPS {
        w.step();
        if step % LOOK == 0 {
            say!(o, "{}", w.look());
        }
    }
}

impl World {
    fn random(&mut self, below: usize) -> usize {
        self.dice.roll(below)
    }

    /// First page and count of a part of the stretch.
    fn part(&mut self) -> (usize, usize) {
        let first = self.random(PAGES);
        let most = (PAGES - first).min(8);
        (first, 1 + self.random(most))
    }

    fn at(&self, page: usize) -> usize {
        self.base + page * PAGE
    }

    fn prot(&mut self) -> i32 {
        [RW, RW, RW, PROT_READ, PROT_NONE, RW | PROT_EXEC][self.random(6)]
    }

    /// An answer without addresses: the page of the stretch, or what it is.
    fn told(&self, r: R) -> String {
        match r.addr().checked_sub(self.base) {
            Some(off) if r.ok() && off < PAGES * PAGE => format!("page {}", off / PAGE),
            _ => r.to_string(),
        }
    }

    fn step(&mut self) {
        let (first, count) = self.part();
        let (a, len) = (self.at(first), count * PAGE);
        let what = self.random(if self.forks { 24 } else { 22 });
        let said = match what {
            0..=2 => {
                let prot = self.prot();
                let kind = [MAP_PRIVATE, MAP_PRIVATE, MAP_SHARED][self.random(3)];
                let more = [0, 0, MAP_NORESERVE, MAP_POPULATE][self.random(4)];
                let r = map(a, len, prot, kind | MAP_ANONYMOUS | MAP_FIXED | more);
                format!("anon {first}+{count} {prot} {kind}: {}", self.told(r))
            }
            3..=4 if self.files => {
                let prot = self.prot();
                let kind = [MAP_PRIVATE, MAP_SHARED][self.random(2)];
                let from = self.random(FILE_PAGES + 1);
                let r = k!(
                    SYS_mmap,
                    a,
                    len,
                    prot,
                    kind | MAP_FIXED,
                    self.file,
                    from * PAGE
                );
                format!(
                    "file {first}+{count} from {from} {prot} {kind}: {}",
                    self.told(r)
                )
            }
            5 => format!("unmap {first}+{count}: {}", k!(SYS_munmap, a, len)),
            6..=8 => {
                let prot = self.prot();
                let r = k!(SYS_mprotect, a, len, prot);
                format!("protect {first}+{count} {prot}: {r}")
            }
            9..=10 => {
                let to = self.random(PAGES - 8);
                let (new, at) = (1 + self.random(8), self.at(to));
                let keep = if new == count {
                    self.random(2) as i32 * 4
                } else {
                    0
                };
                let flags = MREMAP_MAYMOVE | MREMAP_FIXED | keep;
                let r = k!(SYS_mremap, a, len, new * PAGE, flags, at);
                format!(
                    "move {first}+{count} to {to}+{new} {keep}: {}",
                    self.told(r)
                )
            }
            11 => {
                let new = 1 + self.random(8.min(PAGES - first));
                let r = k!(SYS_mremap, a, len, new * PAGE, 0, 0);
                format!("resize {first}+{count} to {new}: {}", self.told(r))
            }
            12..=13 => {
                let advice = [
                    MADV_DONTNEED,
                    MADV_DONTNEED,
                    MADV_WILLNEED,
                    MADV_COLD,
                    MADV_PAGEOUT,
                    MADV_POPULATE_READ,
                    MADV_POPULATE_WRITE,
                    MADV_REMOVE,
                    MADV_DONTFORK,
                    MADV_DOFORK,
                    MADV_WIPEONFORK,
                    MADV_KEEPONFORK,
                    MADV_SEQUENTIAL,
                ][self.random(13)];
                let r = k!(SYS_madvise, a, len, advice);
                format!("advise {first}+{count} {advice}: {r}")
            }
            14 => {
                let r = [
                    k!(SYS_mlock, a, len),
                    k!(SYS_munlock, a, len),
                    k!(SYS_msync, a, len, MS_SYNC),
                ];
                format!("lock {first}+{count}: {} {} {}", r[0], r[1], r[2])
            }
            15 if self.files => {
                let size = self.random(FILE_PAGES * PAGE);
                format!("truncate {size}: {}", k!(SYS_ftruncate, self.file, size))
            }
            15 | 16 if self.files => {
                let (at, n) = (self.random(FILE_PAGES * PAGE), 1 + self.random(5000));
                let byte = b'a' + self.random(26) as u8;
                let r = k!(SYS_pwrite64, self.file, vec![byte; n].as_slice(), n, at);
                format!("pwrite {at}+{n}: {r}")
            }
            // From the file into the stretch and back, by the kernel's copies.
            17 if self.files => {
                let (from, skew) = (self.random(FILE_PAGES * PAGE), self.random(PAGE));
                let r = k!(SYS_pread64, self.file, a + skew, 3000, from);
                // Only within the file: what a write that fails behind its end does to its size
                // hangs on the file system.
                let s = if r.0 > 0 {
                    k!(SYS_pwrite64, self.file, a, 100.min(r.addr()), from)
                } else {
                    r
                };
                format!("pread {first} from {from}: {r}, back {s}")
            }
            22.. => {
                let (page, other) = (self.random(PAGES), self.random(PAGES));
                let (a, b) = (self.at(page), self.at(other));
                let s = in_child(|| {
                    store(a, 0xee);
                    i32::from(
                        load(b)
                            .as_bytes()
                            .iter()
                            .fold(0u8, |s, c| s.wrapping_mul(31).wrapping_add(*c)),
                    )
                });
                format!("child stores {page} loads {other}: {s}")
            }
            _ => {
                let page = self.random(PAGES);
                let a = self.at(page) + self.random(2) * (PAGE - 1);
                self.stores = self.stores.wrapping_add(1);
                let stored = store(a, self.stores);
                let other = self.random(PAGES);
                format!(
                    "store {page}: {stored}, load {other}: {}",
                    load(self.at(other))
                )
            }
        };
        say!(self.o, "{said}");
    }

    /// What each page allows, by /proc, and what its ends hold.
    fn look(&self) -> String {
        let text = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
        let hex = |s: &str| usize::from_str_radix(s, 16).unwrap_or(0);
        let mut out = String::new();
        for page in 0..PAGES {
            let a = self.at(page);
            let allowed = text.lines().find_map(|l| {
                let (range, rest) = l.split_once(' ')?;
                let (from, to) = range.split_once('-')?;
                (hex(from) <= a && a < hex(to)).then(|| rest.get(..4).unwrap_or("").to_owned())
            });
            let allowed = allowed.unwrap_or_else(|| "none".into());
            let held = if allowed.starts_with('r') {
                format!("{} {}", load(a), load(a + PAGE - 1))
            } else {
                String::new()
            };
            out.push_str(&format!("[{page} {allowed} {held}]"));
        }
        out
    }
}

fn load(a: usize) -> String {
    let f = touch(a, Access::Read);
    match f.signal {
        0 => peek(a).to_string(),
        s => format!("{} {}", signal_name(s), f.code),
    }
}

fn store(a: usize, value: u8) -> String {
    let f = touch(a, Access::Write);
    match f.signal {
        0 => {
            crate::sys::poke(a, value);
            "fine".into()
        }
        s => format!("{} {}", signal_name(s), f.code),
    }
}

macro_rules! seeds {
    ($($name:ident: $seed:literal, $files:literal, $forks:literal;)*) => {
        $(fn $name(o: Out) { run(o, $seed, $files, $forks); })*
    };
}
seeds! {
    random_anonymous_1: 1, false, false;
    random_anonymous_2: 2, false, false;
    random_anonymous_3: 3, false, false;
    random_anonymous_4: 4, false, false;
    random_files_1: 11, true, false;
    random_files_2: 12, true, false;
    random_files_3: 13, true, false;
    random_files_4: 14, true, false;
    random_forks_1: 21, false, true;
    random_forks_2: 22, false, true;
    random_forks_3: 23, false, true;
    random_everything_1: 31, true, true;
    random_everything_2: 32, true, true;
    random_everything_3: 33, true, true;
}
