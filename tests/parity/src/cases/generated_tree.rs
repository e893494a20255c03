//! Long sequences of calls on a small tree of files, chosen by a fixed seed: what each answers, and
//! what the tree is in the end.

use crate::dice::Dice;
use crate::out::Out;
use crate::sys::R;
use crate::util::{AT, cat, close, fstat, open, read, show, stat_text};
use crate::{cases, k, say};
use libc::*;
use std::ffi::{CStr, CString};

cases!(
    tree_1,
    tree_2,
    tree_3,
    tree_4,
    tree_5,
    tree_6,
    tree_user_1,
    tree_user_2,
    tree_user_3,
    tree_user_4,
);

const STEPS: usize = 400;
/// Descriptors kept open at once.
const HELD: usize = 6;
const NAMES: &[&str] = &["a", "b", "c", "x", "y", "z"];
const MODES: &[u32] = &[0o644, 0o755, 0o700, 0o400, 0o200, 0o000, 0o6755, 0o1777];
const OPEN: &[i32] = &[
    O_CREAT,
    O_CREAT,
    O_EXCL,
    O_TRUNC,
    O_APPEND,
    O_DIRECTORY,
    O_NOFOLLOW,
    O_PATH,
];

struct World {
    dice: Dice,
    base: i32,
    held: [Option<i32>; HELD],
}

fn run(o: Out, seed: u64) {
    k!(SYS_chroot, c".");
    play(o, seed);
}

fn play(o: Out, seed: u64) {
    let base = open(c".", O_RDONLY | O_DIRECTORY, 0).int();
    let mut w = World {
        dice: Dice::new(seed),
        base,
        held: [None; HELD],
    };
    for _ in 0..STEPS {
        let said = w.step();
        say!(o, "{said}");
    }
    k!(SYS_fchdir, base);
    let mut all = Vec::new();
    w.dump(".", &mut all);
    for line in all {
        say!(o, "{line}");
    }
}

/// The same as somebody for whom permissions count.
fn run_as_user(o: Out, seed: u64) {
    k!(SYS_chown, c".", 1000, 1000);
    k!(SYS_chroot, c".");
    let end = crate::util::as_user(|| play(o, seed));
    say!(o, "{end}");
}

fn c(text: &str) -> CString {
    CString::new(text).unwrap_or_default()
}

impl World {
    /// A path of one to four components, mostly short.
    fn path(&mut self) -> CString {
        let mut path = String::new();
        for i in 0..1 + self.dice.roll(3).min(self.dice.roll(4)) {
            if i > 0 {
                path.push('/');
            }
            path.push_str(match self.dice.roll(12) {
                0 => ".",
                1 if i > 0 => "..",
                _ => self.dice.pick(NAMES),
            });
        }
        if self.dice.roll(16) == 0 {
            path.push('/');
        }
        c(&path)
    }

    /// The number of a place, and the descriptor there or one that is none.
    fn slot(&mut self) -> (usize, i32) {
        let i = self.dice.roll(HELD);
        (i, self.held[i].unwrap_or(99))
    }

    fn keep(&mut self, r: R) {
        if !r.ok() {
            return;
        }
        let i = self.dice.roll(HELD);
        if let Some(old) = self.held[i].replace(r.int()) {
            close(old);
        }
    }

    /// A directory to start from: the current one, or one that is held.
    fn dir(&mut self) -> (String, i32) {
        if self.dice.roll(3) > 0 {
            return ("cwd".into(), AT);
        }
        let (i, fd) = self.slot();
        (format!("#{i}"), fd)
    }

    fn step(&mut self) -> String {
        let path = self.path();
        let p: &CStr = &path;
        let t = path.to_string_lossy();
        match self.dice.roll(26) {
            0..=4 => {
                let how = self.dice.pick(&[O_RDONLY, O_WRONLY, O_RDWR, O_RDWR]);
                // Nothing here is to wait for the other side of a FIFO.
                let flags = how | O_NONBLOCK | self.dice.bits(OPEN);
                let mode = self.dice.pick(MODES);
                let (d, dir) = self.dir();
                let r = k!(SYS_openat, dir, p, flags, mode);
                self.keep(r);
                format!("open {d} {t} {flags:o} {mode:o}: {}", r.yes())
            }
            5 => {
                let mode = self.dice.pick(MODES);
                let (d, dir) = self.dir();
                format!("mkdir {d} {t}: {}", k!(SYS_mkdirat, dir, p, mode))
            }
            6 => {
                let flags = self.dice.pick(&[0, AT_REMOVEDIR, 1]);
                let (d, dir) = self.dir();
                let r = k!(SYS_unlinkat, dir, p, flags);
                format!("unlink {d} {t} {flags:x}: {r}")
            }
            7..=9 => {
                let to = self.path();
                let flags = self.dice.pick(&[0, 0, 0, 1, 2, 2, 3, 8]);
                let ((d, from), (e, into)) = (self.dir(), self.dir());
                let r = k!(SYS_renameat2, from, p, into, to.as_c_str(), flags);
                format!("rename {d} {t} {e} {} {flags}: {r}", to.to_string_lossy())
            }
            10 => {
                let to = self.path();
                let flags = self.dice.pick(&[0, 0, AT_SYMLINK_FOLLOW, 1]);
                let r = k!(SYS_linkat, AT, p, AT, to.as_c_str(), flags);
                format!("link {t} {} {flags:x}: {r}", to.to_string_lossy())
            }
            11 => {
                let to = self.path();
                let r = k!(SYS_symlink, p, to.as_c_str());
                format!("symlink {t} {}: {r}", to.to_string_lossy())
            }
            12 => {
                let mut buf = [0u8; 64];
                let r = k!(SYS_readlink, p, &mut buf, buf.len());
                let n = if r.ok() { r.addr() } else { 0 };
                format!("readlink {t}: {r} {}", show(&buf[..n]))
            }
            13 => {
                let flags = self.dice.pick(&[0, AT_SYMLINK_NOFOLLOW]);
                format!("stat {t} {flags:x}: {}", stat_text(p, flags))
            }
            14 => {
                let mode = self.dice.pick(MODES);
                format!("chmod {t} {mode:o}: {}", k!(SYS_chmod, p, mode))
            }
            15 => {
                let (i, fd) = self.slot();
                let mode = self.dice.pick(MODES);
                format!("fchmod #{i} {mode:o}: {}", k!(SYS_fchmod, fd, mode))
            }
            16 => {
                let want = self.dice.roll(9) as i32;
                let flags = self.dice.pick(&[0, AT_EACCESS, AT_SYMLINK_NOFOLLOW]);
                let r = k!(SYS_faccessat2, AT, p, want, flags);
                format!("access {t} {want} {flags:x}: {r}")
            }
            17 => {
                let len = self.dice.pick(&[0, 1, 10, 4096, 5000]);
                let r = k!(SYS_truncate, p, len);
                format!("truncate {t} {len}: {r}")
            }
            18 => {
                let r = k!(SYS_mknod, p, S_IFIFO | 0o644, 0);
                format!("mkfifo {t}: {r}")
            }
            19 => {
                let back = self.dice.roll(2) == 0;
                let r = if back {
                    k!(SYS_fchdir, self.base)
                } else {
                    k!(SYS_chdir, p)
                };
                format!("chdir {}: {r}", if back { "back" } else { &t })
            }
            20..=21 => {
                let (i, fd) = self.slot();
                let bytes = vec![b'0' + i as u8; self.dice.pick(&[0, 1, 5, 100, 5000])];
                let n = bytes.len();
                format!("write #{i} {n}: {}", k!(SYS_write, fd, &bytes[..], n))
            }
            22 => {
                let (i, fd) = self.slot();
                let (r, text) = read(fd, 12);
                format!("read #{i}: {r} {text}")
            }
            23 => {
                let (i, fd) = self.slot();
                let (off, whence) = (self.dice.pick(&[-1, 0, 3, 7000]), self.dice.roll(4) as i32);
                // Where a directory ends, and where data does, hangs on the file system.
                let dir = fstat(fd).st_mode & S_IFMT == S_IFDIR;
                if whence == SEEK_DATA || (dir && whence == SEEK_END) {
                    return format!("where #{i}: {}", k!(SYS_lseek, fd, 0, SEEK_CUR));
                }
                let r = k!(SYS_lseek, fd, off, whence);
                // Of a directory, the position hangs on the file system.
                format!("seek #{i} {off} {whence}: {}", r.yes())
            }
            24 => {
                let (i, fd) = self.slot();
                let len = self.dice.pick(&[-1, 0, 2, 4095, 9000]);
                format!("ftruncate #{i} {len}: {}", k!(SYS_ftruncate, fd, len))
            }
            _ => {
                let (i, fd) = self.slot();
                let how = self.dice.pick(&[F_GETFL, F_SETFL, F_GETFD]);
                let bits = O_NONBLOCK | self.dice.bits(&[O_APPEND, O_TRUNC]);
                format!(
                    "fcntl #{i} {how} {bits:o}: {}",
                    k!(SYS_fcntl, fd, how, bits)
                )
            }
        }
    }

    fn dump(&self, dir: &str, into: &mut Vec<String>) {
        let mut names: Vec<String> = match std::fs::read_dir(dir) {
            Ok(entries) => entries
                .flatten()
                .map(|e| e.file_name().to_string_lossy().into_owned())
                .collect(),
            Err(e) => return into.push(format!("{dir}: {:?}", e.kind())),
        };
        names.sort();
        for name in names {
            let path = format!("{dir}/{name}");
            let text = stat_text(&c(&path), AT_SYMLINK_NOFOLLOW);
            let held = if text.starts_with("file") {
                let bytes = cat(&c(&path));
                bytes.chars().take(40).collect()
            } else {
                String::new()
            };
            into.push(format!("{path}: {text} {held}"));
            if text.starts_with("dir") {
                self.dump(&path, into);
            }
        }
    }
}

macro_rules! seeds {
    ($($name:ident: $run:ident $seed:literal;)*) => {
        $(fn $name(o: Out) { $run(o, $seed); })*
    };
}
seeds! {
    tree_1: run 101;
    tree_2: run 102;
    tree_3: run 103;
    tree_4: run 104;
    tree_5: run 105;
    tree_6: run 106;
    tree_user_1: run_as_user 111;
    tree_user_2: run_as_user 112;
    tree_user_3: run_as_user 113;
    tree_user_4: run_as_user 114;
}
