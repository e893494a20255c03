//! Long sequences of calls on a table of descriptors, chosen by a fixed seed: copies and closing,
//! pipes, Unix sockets, counters, and who is told of them by poll and epoll.

use crate::dice::Dice;
use crate::out::Out;
use crate::sys::R;
use crate::util::{shared, show};
use crate::{cases, k, say};
use libc::*;
use std::sync::atomic::Ordering::SeqCst;

cases!(
    descriptors_1,
    descriptors_2,
    descriptors_3,
    descriptors_4,
    descriptors_5,
    descriptors_6,
    locks_1,
    locks_2,
    locks_3,
);

const STEPS: usize = 500;
/// Descriptors are numbered from here, up to there.
const FIRST: i32 = 3;
const LAST: i32 = 20;

struct World {
    o: Out,
    dice: Dice,
    sent: u8,
}

fn run(o: Out, seed: u64) {
    let limit = [LAST as u64 + 1, 300];
    k!(SYS_prlimit64, 0, RLIMIT_NOFILE, &limit, 0);
    let mut w = World {
        o,
        dice: Dice::new(seed),
        sent: 0,
    };
    for _ in 0..STEPS {
        let said = w.step();
        say!(w.o, "{said}");
    }
}

impl World {
    fn fd(&mut self) -> i32 {
        FIRST + self.dice.roll((LAST - FIRST) as usize) as i32
    }

    fn bytes(&mut self) -> Vec<u8> {
        let n = self.dice.pick(&[0, 1, 2, 7, 8, 8, 100, 3000]);
        self.sent = self.sent.wrapping_add(1);
        (0..n)
            .map(|i| b'A' + ((self.sent as usize + i) % 26) as u8)
            .collect()
    }

    fn make(&mut self) -> String {
        let mut two = [0i32; 2];
        match self.dice.roll(8) {
            0 | 1 => {
                let flags = O_NONBLOCK | self.dice.pick(&[0, O_CLOEXEC, O_DIRECT]);
                let r = k!(SYS_pipe2, &mut two, flags);
                format!("pipe {flags:o}: {r} {two:?}")
            }
            2..=4 => {
                let kind = self.dice.pick(&[SOCK_STREAM, SOCK_DGRAM, SOCK_SEQPACKET]);
                let r = k!(SYS_socketpair, AF_UNIX, kind | SOCK_NONBLOCK, 0, &mut two);
                format!("sockets {kind}: {r} {two:?}")
            }
            5 => {
                let flags = EFD_NONBLOCK | self.dice.pick(&[0, EFD_SEMAPHORE]);
                let first = self.dice.roll(3);
                format!(
                    "eventfd {first} {flags:o}: {}",
                    k!(SYS_eventfd2, first, flags)
                )
            }
            _ => format!("epoll: {}", k!(SYS_epoll_create1, 0)),
        }
    }

    fn step(&mut self) -> String {
        let (a, b) = (self.fd(), self.fd());
        match self.dice.roll(22) {
            0..=2 => self.make(),
            3 => format!("close {a}: {}", k!(SYS_close, a)),
            4 => match self.dice.roll(4) {
                0 => format!("dup {a}: {}", k!(SYS_dup, a)),
                1 => format!("dup2 {a} {b}: {}", k!(SYS_dup2, a, b)),
                2 => {
                    let flags = self.dice.pick(&[0, O_CLOEXEC, 1]);
                    format!("dup3 {a} {b} {flags:o}: {}", k!(SYS_dup3, a, b, flags))
                }
                _ => {
                    let how = self.dice.pick(&[F_DUPFD, F_DUPFD_CLOEXEC]);
                    format!("dupfd {a} {b} {how}: {}", k!(SYS_fcntl, a, how, b))
                }
            },
            5 => {
                let end = (a + self.dice.roll(3) as i32 - 1).min(LAST);
                let flags = self.dice.pick(&[0, 4, 4, 1]);
                format!(
                    "close_range {a} {end} {flags}: {}",
                    k!(SYS_close_range, a, end, flags)
                )
            }
            6 => {
                let how = self
                    .dice
                    .pick(&[F_GETFD, F_GETFL, F_GETPIPE_SZ, F_SETPIPE_SZ, F_SETFD]);
                let value = self.dice.pick(&[0, 1, 4096, 70_000]);
                format!("fcntl {a} {how} {value}: {}", k!(SYS_fcntl, a, how, value))
            }
            7..=9 => {
                let bytes = self.bytes();
                let r = k!(SYS_write, a, &bytes[..], bytes.len());
                format!("write {a} {}: {r}", bytes.len())
            }
            10..=12 => {
                let n = self.dice.pick(&[0, 1, 5, 8, 200, 5000]);
                let mut buf = vec![0u8; n];
                let r = k!(SYS_read, a, &mut buf[..], n);
                format!("read {a} {n}: {}", got(r, &buf))
            }
            13 => {
                let bytes = self.bytes();
                let flags =
                    MSG_DONTWAIT | MSG_NOSIGNAL | self.dice.bits(&[MSG_EOR, MSG_MORE, MSG_CONFIRM]);
                let r = k!(SYS_sendto, a, &bytes[..], bytes.len(), flags, 0, 0);
                format!("send {a} {} {flags:x}: {r}", bytes.len())
            }
            14 | 15 => {
                let n = self.dice.pick(&[0, 1, 8, 200, 5000]);
                let flags = MSG_DONTWAIT | self.dice.bits(&[MSG_PEEK, MSG_TRUNC]);
                let mut buf = vec![0u8; n];
                let r = k!(SYS_recvfrom, a, &mut buf[..], n, flags, 0, 0);
                format!("recv {a} {n} {flags:x}: {}", got(r, &buf))
            }
            16 => {
                let how = self.dice.roll(4);
                format!("shutdown {a} {how}: {}", k!(SYS_shutdown, a, how))
            }
            17 => {
                let op = 1 + self.dice.roll(4) as i32;
                let events = self.dice.bits(&[
                    EPOLLIN,
                    EPOLLOUT,
                    EPOLLRDHUP,
                    EPOLLET,
                    EPOLLONESHOT,
                    EPOLLEXCLUSIVE,
                    EPOLLPRI,
                ]);
                let event = epoll_event {
                    events: events as u32,
                    u64: b as u64,
                };
                format!(
                    "epoll_ctl {a} {op} {b} {events:x}: {}",
                    k!(SYS_epoll_ctl, a, op, b, &event)
                )
            }
            18 => {
                let most = self.dice.roll(6);
                let mut events = [epoll_event { events: 0, u64: 0 }; 6];
                let r = k!(SYS_epoll_wait, a, &mut events, most, 0);
                let n = if r.ok() { r.addr().min(6) } else { 0 };
                let mut told: Vec<String> = events[..n]
                    .iter()
                    .map(|e| format!("{}:{:x}", { e.u64 }, { e.events }))
                    .collect();
                told.sort();
                format!("epoll_wait {a} {most}: {r} {told:?}")
            }
            19 | 20 => {
                let want = self.dice.bits(&[
                    i32::from(POLLIN),
                    i32::from(POLLOUT),
                    i32::from(POLLRDHUP),
                    i32::from(POLLPRI),
                ]) as i16;
                let mut all: Vec<pollfd> = (FIRST..LAST)
                    .map(|fd| pollfd {
                        fd,
                        events: want,
                        revents: 0,
                    })
                    .collect();
                let r = k!(SYS_poll, all.as_mut_ptr(), all.len(), 0);
                let told: Vec<String> = all.iter().map(|p| format!("{:x}", p.revents)).collect();
                format!("poll {want:x}: {r} {}", told.join(" "))
            }
            _ => {
                let mut waiting = -1i32;
                let r = k!(SYS_ioctl, a, FIONREAD, &mut waiting);
                format!("waiting in {a}: {r} {waiting}")
            }
        }
    }
}

fn got(r: R, buf: &[u8]) -> String {
    let n = if r.ok() { r.addr().min(buf.len()) } else { 0 };
    format!("{r} {}", show(&buf[..n.min(24)]))
}

/// Record locks of two processes and two open files on one file: each asks in turn.
fn locks(o: Out, seed: u64) {
    let file = || k!(SYS_openat, AT_FDCWD, c"f", O_RDWR | O_CREAT, 0o644).int();
    let turn = shared(4096);
    let mut dice = Dice::new(seed);
    let mut plan = Vec::new();
    for _ in 0..200 {
        plan.push((
            dice.roll(2) as u32,
            dice.roll(2),
            ask(&mut dice),
            dice.roll(20),
        ));
    }
    let play = |me: u32| {
        let files = [file(), file()];
        for (i, (who, which, (how, mut lock), other)) in plan.iter().copied().enumerate() {
            if who == me {
                // One thing happens at a time, whosever turn it is.
                while crate::sys::word(turn).load(SeqCst) != i as u32 {
                    k!(SYS_sched_yield);
                }
                if other == 0 {
                    // All of this process's locks go, whichever descriptor they were taken by.
                    k!(SYS_close, k!(SYS_dup, files[0]));
                    say!(o, "{me} closes a copy");
                }
                let flock = how == 0;
                let r = if flock {
                    let op = [LOCK_SH, LOCK_EX, LOCK_UN][lock.l_type as usize] | LOCK_NB;
                    k!(SYS_flock, files[which], op)
                } else {
                    k!(SYS_fcntl, files[which], how, &mut lock)
                };
                let holder = match lock.l_pid {
                    0 | -1 => lock.l_pid.to_string(),
                    _ => "a process".into(),
                };
                say!(
                    o,
                    "{me} #{which} {how} {} {} {}+{}: {r} {holder}",
                    lock.l_type,
                    lock.l_whence,
                    lock.l_start,
                    lock.l_len
                );
                crate::sys::word(turn).fetch_add(1, SeqCst);
            }
        }
        // Who ends loses its locks: not before the other has had its turns.
        while crate::sys::word(turn).load(SeqCst) != plan.len() as u32 {
            k!(SYS_sched_yield);
        }
        0
    };
    let other = crate::sys::child(|| play(1));
    play(0);
    say!(o, "{}", crate::util::wait_text(other));
}

/// What is asked: the command (0: flock), and the lock.
fn ask(dice: &mut Dice) -> (i32, flock) {
    let how = dice.pick(&[
        F_SETLK,
        F_SETLK,
        F_GETLK,
        F_OFD_SETLK,
        F_OFD_SETLK,
        F_OFD_GETLK,
        0,
    ]);
    let lock = flock {
        l_type: dice.pick(&[F_RDLCK, F_WRLCK, F_UNLCK]) as i16,
        l_whence: dice.pick(&[SEEK_SET, SEEK_SET, SEEK_SET, SEEK_END, 7]) as i16,
        l_start: dice.pick(&[0, 1, 5, 10, 20, -1, i64::MAX]),
        l_len: dice.pick(&[0, 1, 5, 10, -1, -5, i64::MAX]),
        l_pid: if dice.roll(12) == 0 { 5 } else { 0 },
    };
    (how, lock)
}

macro_rules! seeds {
    ($($name:ident: $run:ident $seed:literal;)*) => {
        $(fn $name(o: Out) { $run(o, $seed); })*
    };
}
seeds! {
    descriptors_1: run 201;
    descriptors_2: run 202;
    descriptors_3: run 203;
    descriptors_4: run 204;
    descriptors_5: run 205;
    descriptors_6: run 206;
    locks_1: locks 211;
    locks_2: locks 212;
    locks_3: locks 213;
}
