//! System calls with arguments that were chosen by a fixed seed from what is worth trying:
//! descriptors of every kind, addresses good and bad, lengths, flags. What each answers, which is
//! for the most part a question of what is looked at first.

use super::generated_arguments_table::{A, CALLS, Call};
use crate::dice::Dice;
use crate::out::Out;
use crate::sys::{call, put};
use crate::util::{PAGE, anon, map_file, mk, open, pipe2};
use crate::{cases, k, say};
use libc::*;
use std::ffi::CString;

cases!(
    arguments_1,
    arguments_2,
    arguments_3,
    arguments_4,
    arguments_5,
    arguments_6,
    arguments_7,
    arguments_8,
);

const STEPS: usize = 900;
/// Bytes of each buffer.
const BUFFER: usize = 2 * PAGE;
const LENGTHS: &[i64] = &[
    0,
    1,
    4,
    7,
    8,
    12,
    16,
    24,
    32,
    64,
    88,
    128,
    4095,
    4096,
    8192,
    -1,
    i64::MAX,
    0x1_0000_0001,
];
const OFFSETS: &[i64] = &[
    -1,
    0,
    1,
    5,
    4096,
    1 << 40,
    i64::MIN,
    i64::MAX,
    i64::MAX - 4096,
];
const PATHS: &[&str] = &[
    "f",
    "f",
    "d",
    "d/g",
    "missing",
    "missing/x",
    "f/x",
    "d/",
    "f/",
    "loop",
    "dangling",
    "link",
    "to_d/g",
    "",
    ".",
    "..",
    "d/../f",
    "fifo",
];

/// What can be named in an argument.
struct World {
    fds: Vec<(&'static str, i32)>,
    /// Buffers with what they are filled with before each call.
    buffers: Vec<(&'static str, usize, Vec<u8>)>,
    bad: Vec<(&'static str, usize)>,
    paths: Vec<CString>,
}

impl World {
    fn new() -> World {
        mk(c"f", b"some text in a file");
        k!(SYS_mkdir, c"d", 0o755);
        mk(c"d/g", b"more");
        k!(SYS_symlink, c"loop", c"loop");
        k!(SYS_symlink, c"nowhere", c"dangling");
        k!(SYS_symlink, c"f", c"link");
        k!(SYS_symlink, c"d", c"to_d");
        k!(SYS_mknod, c"fifo", S_IFIFO | 0o644, 0);
        let (r, w) = pipe2(O_NONBLOCK);
        let mut two = [0i32; 2];
        k!(
            SYS_socketpair,
            AF_UNIX,
            SOCK_STREAM | SOCK_NONBLOCK,
            0,
            &mut two
        );
        let fds = vec![
            ("none", -1),
            ("cwd", AT_FDCWD),
            ("closed", 99),
            ("huge", 1_000_000),
            ("rw", open(c"f", O_RDWR, 0).int()),
            ("ro", open(c"f", O_RDONLY, 0).int()),
            ("append", open(c"d/g", O_WRONLY | O_APPEND, 0).int()),
            ("dir", open(c"d", O_RDONLY | O_DIRECTORY, 0).int()),
            ("path", open(c"f", O_PATH, 0).int()),
            ("pipe_r", r),
            ("pipe_w", w),
            ("socket", two[0]),
            ("other", two[1]),
            ("eventfd", k!(SYS_eventfd2, 3, EFD_NONBLOCK).int()),
            ("epoll", k!(SYS_epoll_create1, 0).int()),
            (
                "timerfd",
                k!(SYS_timerfd_create, CLOCK_MONOTONIC, TFD_NONBLOCK).int(),
            ),
            (
                "signalfd",
                k!(SYS_signalfd4, -1, &0u64, 8, SFD_NONBLOCK).int(),
            ),
            ("memfd", k!(SYS_memfd_create, c"m", MFD_ALLOW_SEALING).int()),
            ("inotify", k!(SYS_inotify_init1, IN_NONBLOCK).int()),
        ];
        let filled =
            |f: fn(usize) -> u64| (0..BUFFER / 8).flat_map(|i| f(i).to_ne_bytes()).collect();
        let mut world = World {
            fds,
            buffers: vec![
                ("zeros", 0, filled(|_| 0)),
                ("ones", 0, filled(|_| u64::MAX)),
                ("small", 0, filled(|i| (i as u64 + 1) % 3)),
                ("text", 0, [b"f\0d\0".as_slice(); BUFFER / 4].concat()),
            ],
            bad: Vec::new(),
            paths: PATHS
                .iter()
                .map(|p| (*p).to_owned())
                .chain(["n".repeat(300), "n/".repeat(2100)])
                .map(|p| CString::new(p).unwrap_or_default())
                .collect(),
        };
        for (_, at, _) in &mut world.buffers {
            *at = anon(BUFFER + PAGE);
            k!(SYS_munmap, *at + BUFFER, PAGE);
        }
        let file = k!(SYS_memfd_create, c"r", 0).int();
        k!(SYS_ftruncate, file, PAGE);
        let readonly = map_file(file, PAGE, PROT_READ, MAP_PRIVATE, 0).addr();
        let gone = anon(PAGE);
        k!(SYS_munmap, gone, PAGE);
        k!(SYS_close, file);
        world.bad = vec![
            ("null", 0),
            ("one", 1),
            ("readonly", readonly),
            ("unmapped", gone),
            ("kernel", 0xffff_8000_0000_0000),
            ("no_address", 0x8000_0000_0000_0000),
        ];
        world
    }

    /// A value for an argument and what it is called.
    fn choose(&self, dice: &mut Dice, kind: A) -> (String, usize) {
        match kind {
            A::Fd => {
                let (name, fd) = dice.pick(&self.fds);
                (name.into(), fd as isize as usize)
            }
            A::Ptr => {
                if dice.roll(4) == 0 {
                    let (name, at) = dice.pick(&self.bad);
                    return (name.into(), at);
                }
                let (name, at, _) = &self.buffers[dice.roll(self.buffers.len())];
                // Odd, or across the end.
                let off = dice.pick(&[0, 0, 0, 0, 1, 4, PAGE - 4, BUFFER - 4, BUFFER - 8]);
                (format!("{name}+{off}"), at + off)
            }
            A::Path => {
                if dice.roll(8) == 0 {
                    let (name, at) = dice.pick(&self.bad);
                    return (name.into(), at);
                }
                let path = &self.paths[dice.roll(self.paths.len())];
                let text = path.to_string_lossy();
                (
                    text[..text.len().min(12)].to_owned(),
                    path.as_ptr() as usize,
                )
            }
            A::Len => number(dice.pick(LENGTHS)),
            A::Off => number(dice.pick(OFFSETS)),
            A::V(values) => number(dice.pick(values)),
            A::F(bits) => {
                let some = dice.bits(bits);
                let odd = if dice.roll(12) == 0 {
                    1 << dice.roll(31)
                } else {
                    0
                };
                (format!("{:#x}", some | odd), (some | odd) as u32 as usize)
            }
        }
    }

    fn one(&self, o: Out, dice: &mut Dice, c: &Call) {
        let chosen: Vec<_> = c.args.iter().map(|a| self.choose(dice, *a)).collect();
        for (_, at, with) in &self.buffers {
            put_quickly(*at, with);
        }
        let args: Vec<usize> = chosen.iter().map(|(_, v)| *v).collect();
        let r = call(c.nr, &args);
        let names: Vec<&str> = chosen.iter().map(|(n, _)| n.as_str()).collect();
        let answer = if c.plain { r.to_string() } else { r.yes() };
        say!(o, "{}({}): {answer}", c.name, names.join(", "));
        if c.opens && r.ok() {
            k!(SYS_close, r);
        }
    }
}

/// Fills a buffer by one call.
fn put_quickly(at: usize, with: &[u8]) {
    let local = iovec {
        iov_base: with.as_ptr() as *mut c_void,
        iov_len: with.len(),
    };
    let remote = iovec {
        iov_base: at as *mut c_void,
        iov_len: with.len(),
    };
    let me = k!(SYS_getpid);
    if !k!(SYS_process_vm_writev, me, &local, 1, &remote, 1, 0).ok() {
        put(at, with);
    }
}

fn number(value: i64) -> (String, usize) {
    (value.to_string(), value as usize)
}

/// Every eighth call of the table, so that one case's failures are about few calls.
fn run(o: Out, seed: u64, part: usize) {
    let mine: Vec<&Call> = CALLS.iter().skip(part).step_by(8).collect();
    let world = World::new();
    let mut dice = Dice::new(seed);
    for _ in 0..STEPS {
        let chosen = mine[dice.roll(mine.len())];
        world.one(o, &mut dice, chosen);
    }
}

macro_rules! seeds {
    ($($name:ident: $part:literal;)*) => { $(fn $name(o: Out) { run(o, 400 + $part, $part); })* };
}
seeds! {
    arguments_1: 0;
    arguments_2: 1;
    arguments_3: 2;
    arguments_4: 3;
    arguments_5: 4;
    arguments_6: 5;
    arguments_7: 6;
    arguments_8: 7;
}
