//! A thousand rounds each of two things that meet at every possible moment. What is said is what
//! must be so whichever of them came first.

use crate::out::Out;
use crate::sys::{child, count, on};
use crate::util::{anon, bit, close, map, mask, mk, open, pipe, shared, write};
use crate::{cases, k, sys, tell};
use libc::*;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, Ordering::SeqCst};
use std::thread;

cases!(
    signals_against_reads,
    signals_against_waits_with_masks,
    signals_against_futexes,
    exec_against_threads,
    exit_against_wait,
    exit_group_against_exits,
    close_against_epoll,
    close_against_readers,
    rename_against_lookup,
    exchange_against_walk,
    fork_against_mmap,
    fork_against_signals_to_its_group,
    fork_against_signals_to_all,
    requeue_against_timeouts,
);

const ROUNDS: i64 = 1000;

/// Gives way until `done`.
fn until(mut done: impl FnMut() -> bool) {
    while !done() {
        k!(SYS_sched_yield);
    }
}

/// Spins for a time that differs from round to round, so that the two meet elsewhere each time.
fn jitter(round: i64) {
    for _ in 0..(round * 7919) % 257 * 16 {
        std::hint::spin_loop();
    }
}

fn tally(what: &AtomicI64) {
    what.fetch_add(1, SeqCst);
}

fn signals_against_reads(o: Out) {
    on(SIGUSR1, 0);
    let (r, w) = pipe();
    let (bytes, other, tid) = (AtomicI64::new(0), AtomicI64::new(0), AtomicI64::new(0));
    thread::scope(|scope| {
        scope.spawn(|| {
            tid.store(k!(SYS_gettid).0, SeqCst);
            while bytes.load(SeqCst) < ROUNDS {
                match k!(SYS_read, r, &mut [0u8; 1], 1).0 {
                    1 => tally(&bytes),
                    e if e == i64::from(-EINTR) => {}
                    _ => tally(&other),
                }
            }
        });
        until(|| tid.load(SeqCst) != 0);
        for round in 0..ROUNDS {
            jitter(round);
            k!(SYS_tgkill, k!(SYS_getpid), tid.load(SeqCst), SIGUSR1);
            jitter(round * 3);
            write(w, b"x");
            until(|| bytes.load(SeqCst) > round && i64::from(count(SIGUSR1)) > round);
        }
    });
    tell!(o, "bytes" => bytes.load(SeqCst), "handled" => count(SIGUSR1), "other" => other.load(SeqCst));
}

fn signals_against_waits_with_masks(o: Out) {
    // With the signal blocked but in the call itself, none is missed and none comes outside.
    on(SIGUSR1, 0);
    mask(SIG_BLOCK, bit(SIGUSR1));
    let (r, _w) = pipe();
    let e = k!(SYS_epoll_create1, 0).int();
    let (ended, wrong, tid) = (AtomicI64::new(0), AtomicI64::new(0), AtomicI64::new(0));
    thread::scope(|scope| {
        scope.spawn(|| {
            tid.store(k!(SYS_gettid).0, SeqCst);
            for round in 0..ROUNDS {
                let mut p = pollfd {
                    fd: r,
                    events: POLLIN,
                    revents: 0,
                };
                let mut ev = epoll_event { events: 0, u64: 0 };
                let end = match round % 3 {
                    0 => k!(SYS_rt_sigsuspend, &0u64, 8),
                    1 => k!(SYS_ppoll, &mut p, 1, 0, &0u64, 8),
                    _ => k!(SYS_epoll_pwait, e, &mut ev, 1, -1, &0u64, 8),
                };
                if end.0 != i64::from(-EINTR) || i64::from(count(SIGUSR1)) != round + 1 {
                    tally(&wrong);
                }
                tally(&ended);
            }
        });
        until(|| tid.load(SeqCst) != 0);
        for round in 0..ROUNDS {
            jitter(round);
            k!(SYS_tgkill, k!(SYS_getpid), tid.load(SeqCst), SIGUSR1);
            until(|| ended.load(SeqCst) > round);
        }
    });
    tell!(o, "ended" => ended.load(SeqCst), "handled" => count(SIGUSR1), "wrong" => wrong.load(SeqCst));
}

fn signals_against_futexes(o: Out) {
    on(SIGUSR1, SA_RESTART);
    let at = anon(4096);
    let word = sys::word(at);
    let (woken, other, tid) = (AtomicI64::new(0), AtomicI64::new(0), AtomicI64::new(0));
    thread::scope(|scope| {
        scope.spawn(|| {
            tid.store(k!(SYS_gettid).0, SeqCst);
            for round in 0..ROUNDS as u32 {
                while word.load(SeqCst) == round {
                    match k!(SYS_futex, at, FUTEX_WAIT | FUTEX_PRIVATE_FLAG, round, 0).0 {
                        0 => {}
                        e if e == i64::from(-EAGAIN) => {}
                        _ => tally(&other),
                    }
                }
                tally(&woken);
            }
        });
        until(|| tid.load(SeqCst) != 0);
        for round in 0..ROUNDS {
            jitter(round);
            k!(SYS_tgkill, k!(SYS_getpid), tid.load(SeqCst), SIGUSR1);
            jitter(round * 5);
            word.fetch_add(1, SeqCst);
            k!(SYS_futex, at, FUTEX_WAKE | FUTEX_PRIVATE_FLAG, 1);
            until(|| woken.load(SeqCst) > round && i64::from(count(SIGUSR1)) > round);
        }
    });
    tell!(o, "woken" => woken.load(SeqCst), "handled" => count(SIGUSR1), "other" => other.load(SeqCst));
}

/// What [`exec_against_threads`] executes, again and again: the process with `left` rounds to go.
/// Two of its threads execute the next round at the same time while others are busy; one of them
/// comes through, under the process's own id.
pub fn exec_round(left: i64, pid: i64) -> i32 {
    if k!(SYS_getpid).0 != pid || k!(SYS_gettid).0 != pid {
        return 1;
    }
    let others = std::fs::read_dir("/proc/self/task").map_or(0, Iterator::count);
    if others != 1 {
        return 2;
    }
    if left == 0 {
        return 42;
    }
    let next = [
        std::ffi::CString::new((left - 1).to_string()).unwrap_or_default(),
        std::ffi::CString::new(pid.to_string()).unwrap_or_default(),
    ];
    let started = Arc::new(AtomicU32::new(0));
    for which in 0..3 {
        let (started, next) = (started.clone(), next.clone());
        thread::spawn(move || {
            started.fetch_add(1, SeqCst);
            match which {
                0 => loop {
                    k!(SYS_getppid);
                },
                1 => loop {
                    k!(SYS_pause);
                },
                _ => {
                    jitter(left);
                    exec_next(&next);
                }
            }
        });
    }
    until(|| started.load(SeqCst) == 3);
    jitter(left * 3);
    exec_next(&next);
    // Where the other one has gone before, this thread is not there any more.
    3
}

fn exec_next(next: &[std::ffi::CString; 2]) {
    let args = [
        c"probes".as_ptr(),
        c"--child".as_ptr(),
        c"exec-round".as_ptr(),
        next[0].as_ptr(),
        next[1].as_ptr(),
        std::ptr::null(),
    ];
    let none = [std::ptr::null::<c_char>()];
    k!(SYS_execve, c"/proc/self/exe", &args, &none);
}

fn exec_against_threads(o: Out) {
    let kid = child(|| {
        let me = k!(SYS_getpid).to_string();
        exec_next(&[
            std::ffi::CString::new(ROUNDS.to_string()).unwrap_or_default(),
            std::ffi::CString::new(me).unwrap_or_default(),
        ]);
        4
    });
    tell!(o, "end" => crate::util::wait_text(kid));
}

fn exit_against_wait(o: Out) {
    // Three threads wait for whatever child; each child is waited for once.
    let (waited, looked, wrong) = (AtomicI64::new(0), AtomicI64::new(0), AtomicI64::new(0));
    let sum = AtomicI64::new(0);
    let all_made = AtomicBool::new(false);
    thread::scope(|scope| {
        for which in 0..3 {
            let (waited, looked, wrong, sum, all_made) =
                (&waited, &looked, &wrong, &sum, &all_made);
            scope.spawn(move || {
                loop {
                    if which == 2 {
                        let mut info: siginfo_t = sys::zeroed();
                        k!(SYS_waitid, P_ALL, 0, &mut info, WEXITED | WNOWAIT, 0);
                        tally(looked);
                    }
                    let mut status = 0;
                    match k!(SYS_wait4, -1, &mut status, 0, 0).0 {
                        pid if pid > 0 => {
                            sum.fetch_add(i64::from(WEXITSTATUS(status)), SeqCst);
                            if !WIFEXITED(status) {
                                tally(wrong);
                            }
                            tally(waited);
                        }
                        e if e == i64::from(-ECHILD) => {
                            if all_made.load(SeqCst) {
                                break;
                            }
                            k!(SYS_sched_yield);
                        }
                        _ => tally(wrong),
                    }
                }
            });
        }
        for round in 0..ROUNDS {
            child(|| (round % 100) as i32);
        }
        all_made.store(true, SeqCst);
    });
    tell!(o, "waited" => waited.load(SeqCst), "sum" => sum.load(SeqCst), "wrong" => wrong.load(SeqCst), "looked" => looked.load(SeqCst) > 0);
}

fn exit_group_against_exits(o: Out) {
    // Threads end by themselves while one ends all: the status is the group's.
    let mut ends = [0; 2];
    for round in 0..ROUNDS / 4 {
        let kid = child(|| {
            for _ in 0..2 {
                thread::spawn(|| ());
            }
            thread::spawn(|| {
                k!(SYS_exit_group, 9);
            });
            jitter(round);
            k!(SYS_exit_group, 9);
            0
        });
        let end = crate::util::wait_text(kid);
        ends[usize::from(end != "exited 9")] += 1;
    }
    tell!(o, "ends" => format!("{ends:?}"));
}

fn close_against_epoll(o: Out) {
    let e = k!(SYS_epoll_create1, 0).int();
    let (stop_r, stop_w) = pipe();
    let mut ev = epoll_event {
        events: EPOLLIN as u32,
        u64: u64::MAX,
    };
    k!(SYS_epoll_ctl, e, EPOLL_CTL_ADD, stop_r, &mut ev);
    let strange = AtomicI64::new(0);
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let mut ev = epoll_event { events: 0, u64: 0 };
                    let n = k!(SYS_epoll_wait, e, &mut ev, 1, -1);
                    let (events, data) = (ev.events, ev.u64);
                    if data == u64::MAX {
                        break;
                    }
                    if n.0 != 1 || events & !((EPOLLIN | EPOLLHUP) as u32) != 0 {
                        tally(&strange);
                    }
                }
            });
        }
        for round in 0..ROUNDS {
            let (r, w) = pipe();
            let mut ev = epoll_event {
                events: (EPOLLIN | EPOLLET) as u32,
                u64: round as u64,
            };
            k!(SYS_epoll_ctl, e, EPOLL_CTL_ADD, r, &mut ev);
            if round % 2 == 0 {
                write(w, b"x");
            }
            jitter(round);
            close(w);
            close(r);
        }
        write(stop_w, b"x");
    });
    let mut ev = epoll_event { events: 0, u64: 0 };
    k!(SYS_epoll_ctl, e, EPOLL_CTL_DEL, stop_r, 0);
    tell!(o, "strange" => strange.load(SeqCst), "left" => k!(SYS_epoll_wait, e, &mut ev, 1, 0));
}

fn close_against_readers(o: Out) {
    // Two readers, one writer that goes: all bytes arrive once, and both see the end.
    let (bytes, ends, other) = (AtomicI64::new(0), AtomicI64::new(0), AtomicI64::new(0));
    let (reading, round_now) = (AtomicI64::new(0), AtomicI64::new(-1));
    let fd = AtomicI64::new(0);
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                for round in 0..ROUNDS {
                    until(|| round_now.load(SeqCst) >= round);
                    let r = fd.load(SeqCst);
                    loop {
                        match k!(SYS_read, r, &mut [0u8; 1], 1).0 {
                            1 => tally(&bytes),
                            0 => break tally(&ends),
                            _ => break tally(&other),
                        }
                    }
                    tally(&reading);
                }
            });
        }
        for round in 0..ROUNDS {
            let (r, w) = pipe();
            fd.store(i64::from(r), SeqCst);
            round_now.store(round, SeqCst);
            jitter(round);
            write(w, b"abc");
            jitter(round * 3);
            close(w);
            until(|| reading.load(SeqCst) == 2 * (round + 1));
            close(r);
        }
    });
    tell!(o, "bytes" => bytes.load(SeqCst), "ends" => ends.load(SeqCst), "other" => other.load(SeqCst));
}

fn rename_against_lookup(o: Out) {
    mk(c"there", b"old");
    let stop = AtomicBool::new(false);
    let (missing, opened) = (AtomicI64::new(0), AtomicI64::new(0));
    thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(SeqCst) {
                let fd = open(c"there", O_RDONLY, 0);
                let mut text = [0u8; 3];
                let whole = k!(SYS_read, fd, &mut text, 3).0 == 3;
                if !fd.ok() || !whole {
                    tally(&missing);
                }
                tally(&opened);
                close(fd.int());
            }
        });
        until(|| opened.load(SeqCst) > 0);
        for round in 0..ROUNDS {
            mk(c"new", b"new");
            jitter(round);
            k!(SYS_rename, c"new", c"there");
        }
        stop.store(true, SeqCst);
    });
    tell!(o, "missing" => missing.load(SeqCst), "gone" => open(c"new", O_RDONLY, 0));
}

fn exchange_against_walk(o: Out) {
    for (dir, file, text) in [
        (c"left", c"left/file", b"left "),
        (c"right", c"right/file", b"right"),
    ] {
        k!(SYS_mkdir, dir, 0o755);
        mk(file, text);
    }
    let stop = AtomicBool::new(false);
    let (wrong, walked) = (AtomicI64::new(0), AtomicI64::new(0));
    thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(SeqCst) {
                let fd = open(c"left/../left/file", O_RDONLY, 0);
                if !fd.ok() {
                    tally(&wrong);
                }
                tally(&walked);
                close(fd.int());
            }
        });
        until(|| walked.load(SeqCst) > 0);
        for round in 0..ROUNDS {
            jitter(round);
            k!(
                SYS_renameat2,
                AT_FDCWD,
                c"left",
                AT_FDCWD,
                c"right",
                RENAME_EXCHANGE
            );
        }
        stop.store(true, SeqCst);
    });
    tell!(o, "wrong" => wrong.load(SeqCst), "left" => crate::util::cat(c"left/file"), "right" => crate::util::cat(c"right/file"));
}

fn fork_against_mmap(o: Out) {
    // While one thread maps, protects and unmaps, children are made: each sees memory that no
    // moment of the parent contradicts, and what they write is theirs.
    let keep = anon(16 * 4096);
    sys::put(keep, &[7; 64]);
    let stop = AtomicBool::new(false);
    let turns = AtomicI64::new(0);
    let mut bad = 0;
    thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(SeqCst) {
                let m = anon(64 * 4096);
                sys::poke(m + 5 * 4096, 1);
                k!(SYS_mprotect, m + 4 * 4096, 8 * 4096, PROT_READ);
                sys::peek(m + 5 * 4096);
                k!(SYS_munmap, m + 32 * 4096, 4096);
                k!(SYS_munmap, m, 64 * 4096);
                tally(&turns);
            }
        });
        scope.spawn(|| {
            while !stop.load(SeqCst) {
                // Grows by one with every store; a child's copy holds still.
                let word = sys::word(keep + 8192);
                word.fetch_add(1, SeqCst);
            }
        });
        for _ in 0..ROUNDS / 2 {
            let kid = child(|| {
                let word = sys::word(keep + 8192);
                let before = word.load(SeqCst);
                let same = sys::get(keep, 64) == [7; 64];
                sys::poke(keep, 9);
                let m = map(0, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS);
                sys::poke(m.addr(), 3);
                i32::from(!(same && word.load(SeqCst) == before && sys::peek(m.addr()) == 3))
            });
            bad += i32::from(crate::util::wait_text(kid) != "exited 0");
            bad += i32::from(sys::peek(keep) != 7);
        }
        stop.store(true, SeqCst);
    });
    tell!(o, "bad" => bad, "mapped meanwhile" => turns.load(SeqCst) > 0);
}

fn fork_against_signals_to_its_group(o: Out) {
    forks_killed_together(o, |forker| -forker);
}

fn fork_against_signals_to_all(o: Out) {
    // An id of one's own, so that nobody else is meant.
    let uid = 50_000 + k!(SYS_getpid).0 % 10_000;
    k!(SYS_setresuid, uid, uid, uid);
    forks_killed_together(o, |_| -1);
}

/// A process makes children, and with them it is sent SIGKILL at once; `whom` says how kill(2)
/// names them all. Nobody comes away.
fn forks_killed_together(o: Out, whom: fn(i32) -> i32) {
    k!(SYS_prctl, PR_SET_CHILD_SUBREAPER, 1);
    let begun = sys::word(shared(4096));
    let (mut kills, mut escaped) = (0, 0);
    for round in 0..ROUNDS / 2 {
        begun.store(0, SeqCst);
        let forker = child(|| {
            k!(SYS_setpgid, 0, 0);
            let me = k!(SYS_getpid);
            for _ in 0..4 {
                begun.fetch_add(1, SeqCst);
                child(|| {
                    // Who was missed ends by something else.
                    k!(SYS_prctl, PR_SET_PDEATHSIG, SIGUSR1);
                    if k!(SYS_getppid) == me {
                        k!(SYS_pause);
                    }
                    7
                });
            }
            k!(SYS_pause);
            8
        });
        until(|| i64::from(begun.load(SeqCst)) > round % 3);
        for more in 0..round % 13 {
            jitter(round + more);
        }
        kills += i64::from(k!(SYS_kill, whom(forker), SIGKILL).ok());
        let mut status = 0;
        while k!(SYS_wait4, -1, &mut status, 0, 0).ok() {
            escaped += i32::from(!WIFSIGNALED(status) || WTERMSIG(status) != SIGKILL);
        }
    }
    tell!(o, "kills" => kills, "escaped" => escaped);
}

fn requeue_against_timeouts(o: Out) {
    // Waiters with short timeouts are woken and moved at the same time: each comes back, and
    // nobody is counted who did not wait.
    let at = anon(4096);
    let (a, b) = (at, at + 64);
    let (out, other) = (AtomicI64::new(0), AtomicI64::new(0));
    let (round_now, woken) = (AtomicI64::new(-1), AtomicI64::new(0));
    let (called, moved_back) = (AtomicI64::new(0), AtomicI64::new(0));
    const P: i32 = FUTEX_PRIVATE_FLAG;
    thread::scope(|scope| {
        for which in 0..3 {
            let (out, other, round_now, woken) = (&out, &other, &round_now, &woken);
            scope.spawn(move || {
                for round in 0..ROUNDS {
                    until(|| round_now.load(SeqCst) >= round);
                    let soon = timespec {
                        tv_sec: 0,
                        tv_nsec: 20_000 * (1 + (round * 31 + which) % 17),
                    };
                    let far = timespec {
                        tv_sec: 100,
                        tv_nsec: 0,
                    };
                    let until_when = if which == 0 { &far } else { &soon };
                    match k!(SYS_futex, a, FUTEX_WAIT | P, 0, until_when).0 {
                        0 => tally(woken),
                        e if e == i64::from(-ETIMEDOUT) && which != 0 => {}
                        _ => tally(other),
                    }
                    tally(out);
                }
            });
        }
        for round in 0..ROUNDS {
            round_now.store(round, SeqCst);
            jitter(round);
            // Woken here or there, until all are back.
            until(|| {
                let n = k!(SYS_futex, a, FUTEX_CMP_REQUEUE | P, 1, 10, b, 0).0;
                if !(0..=3).contains(&n) {
                    tally(&other);
                }
                let n = k!(SYS_futex, b, FUTEX_WAKE | P, 10).0;
                called.fetch_add(n, SeqCst);
                moved_back.fetch_add(i64::from(n > 3), SeqCst);
                out.load(SeqCst) == 3 * (round + 1)
            });
        }
    });
    tell!(o, "back" => out.load(SeqCst), "other" => other.load(SeqCst), "the one without a timeout" => woken.load(SeqCst) >= ROUNDS, "too many" => moved_back.load(SeqCst), "left" => k!(SYS_futex, b, FUTEX_WAKE | P, 10));
}
