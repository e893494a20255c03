//! PID namespaces: which signals reach whom, and what those who get them are told of the senders.

use super::pid_namespaces::{await_signal, block, inside, me, pause, unshare};
use crate::out::Out;
use crate::sys::{self, R, child};
use crate::util::{anon, pipe, read, status_text, wait_text, write};
use crate::{cases, k, say, tell};
use libc::*;

cases!(
    first_one_is_protected,
    first_one_handles,
    killed_from_outside,
    stopped_from_outside,
    its_faults_kill_it,
    sender_is_outside,
    sender_is_inside,
    group_across,
    kill_all_inside,
    waited_for,
    death_signal_across,
    queue_notices,
    without_privilege,
);

/// What a `sigtimedwait` finds at once.
fn poll_signal(signal: i32) -> (R, i32, i32) {
    let set = 1u64 << (signal - 1);
    let mut info = [0i32; 32];
    let now = [0i64; 2];
    let got = k!(SYS_rt_sigtimedwait, &set, &mut info, &now, 8);
    (got, info[2], info[4])
}

/// One inside that waits to be signalled.
fn waiting_inside() -> (i32, i32) {
    let (r, w) = pipe();
    let pid = inside(|| {
        write(w, b"x");
        loop {
            pause();
        }
    });
    read(r, 1);
    (pid, w)
}

fn first_one_is_protected(o: Out) {
    let pid = inside(|| {
        for signal in [SIGTERM, SIGKILL, SIGSTOP, SIGUSR1, SIGTSTP, SIGSEGV] {
            let other = child(|| {
                tell!(o, "kill" => k!(SYS_kill, 1, signal), "tkill" => k!(SYS_tkill, 1, signal), "tgkill" => k!(SYS_tgkill, 1, 1, signal));
                0
            });
            say!(o, "{signal} {}", wait_text(other));
        }
        tell!(o, "itself" => k!(SYS_kill, 1, SIGKILL), "by number" => k!(SYS_kill, me(), SIGTERM), "all" => k!(SYS_kill, 0, 0));
        // What is blocked stays, and is nothing later on.
        block(SIGTERM);
        k!(SYS_kill, 1, SIGTERM);
        let mut pending = 0u64;
        k!(SYS_rt_sigpending, &mut pending, 8);
        let none = 0u64;
        say!(
            o,
            "pending {pending:x} {}",
            k!(SYS_rt_sigprocmask, SIG_SETMASK, &none, 0, 8)
        );
        8
    });
    say!(o, "{}", wait_text(pid));
}

fn first_one_handles(o: Out) {
    let pid = inside(|| {
        block(SIGUSR1);
        let other = child(|| {
            tell!(o, "kill" => k!(SYS_kill, 1, SIGUSR1));
            0
        });
        say!(o, "{:?} {}", await_signal(SIGUSR1), wait_text(other));
        8
    });
    say!(o, "{}", wait_text(pid));
}

fn killed_from_outside(o: Out) {
    for signal in [SIGTERM, SIGINT, SIGUSR1, SIGKILL] {
        let (pid, _) = waiting_inside();
        let sent = k!(SYS_kill, pid, signal);
        // The others do nothing to it.
        if signal != SIGKILL {
            k!(SYS_kill, pid, SIGKILL);
        }
        say!(o, "{signal} {sent} {}", wait_text(pid));
    }
}

fn stopped_from_outside(o: Out) {
    let (pid, _) = waiting_inside();
    let mut st = 0;
    tell!(o, "stop" => k!(SYS_kill, pid, SIGSTOP), "wait" => k!(SYS_wait4, pid, &mut st, WUNTRACED, 0).0 == i64::from(pid), "status" => status_text(st));
    tell!(o, "continue" => k!(SYS_kill, pid, SIGCONT), "wait" => k!(SYS_wait4, pid, &mut st, WCONTINUED, 0).0 == i64::from(pid), "status" => status_text(st));
    tell!(o, "end" => k!(SYS_kill, pid, SIGKILL), "wait" => wait_text(pid));
}

fn its_faults_kill_it(o: Out) {
    let none = [0u64; 2];
    let pid = inside(|| {
        k!(SYS_prlimit64, 0, RLIMIT_CORE, &none, 0);
        sys::poke(8, 1);
        0
    });
    say!(o, "{}", wait_text(pid));
}

fn sender_is_outside(o: Out) {
    let (r, w) = pipe();
    let (r2, w2) = pipe();
    let pid = inside(|| {
        for signal in [SIGUSR1, SIGUSR2, SIGRTMIN(), SIGTERM] {
            block(signal);
        }
        write(w, b"x");
        read(r2, 1);
        say!(o, "kill {:?}", await_signal(SIGUSR1));
        say!(o, "tgkill {:?}", await_signal(SIGUSR2));
        say!(o, "queue {:?}", await_signal(SIGRTMIN()));
        say!(o, "pidfd {:?}", await_signal(SIGTERM));
        0
    });
    read(r, 1);
    let mut info = [0i32; 32];
    (info[0], info[2], info[4], info[5]) = (SIGRTMIN(), SI_QUEUE, 4242, 7);
    let fd = k!(SYS_pidfd_open, pid, 0);
    tell!(o, "kill" => k!(SYS_kill, pid, SIGUSR1), "tgkill" => k!(SYS_tgkill, pid, pid, SIGUSR2), "queue" => k!(SYS_rt_sigqueueinfo, pid, SIGRTMIN(), &info), "pidfd" => k!(SYS_pidfd_send_signal, fd, SIGTERM, 0, 0));
    write(w2, b"x");
    tell!(o, "wait" => wait_text(pid));
}

fn sender_is_inside(o: Out) {
    let (r, w) = pipe();
    let pid = inside(|| {
        k!(SYS_setpgid, 0, 0);
        block(SIGUSR1);
        block(SIGRTMIN());
        let other = child(|| {
            read(r, 1);
            let mut info = [0i32; 32];
            (info[0], info[2], info[4]) = (SIGRTMIN(), SI_QUEUE, 4242);
            tell!(o, "kill" => k!(SYS_kill, 1, SIGUSR1), "queue" => k!(SYS_rt_sigqueueinfo, 1, SIGRTMIN(), &info));
            0
        });
        write(w, b"x");
        say!(
            o,
            "{:?} {:?} {}",
            await_signal(SIGUSR1),
            await_signal(SIGRTMIN()),
            wait_text(other)
        );
        // From a deeper one: its number as it is seen here, or there.
        let deep = inside(|| {
            tell!(o, "group" => k!(SYS_kill, 0, SIGUSR1));
            0
        });
        say!(o, "{:?} {}", await_signal(SIGUSR1), wait_text(deep));
        0
    });
    say!(o, "{}", wait_text(pid));
}

fn group_across(o: Out) {
    let leader = child(|| {
        k!(SYS_setpgid, 0, 0);
        block(SIGUSR1);
        let (r, w) = pipe();
        let (r2, w2) = pipe();
        let pid = inside(|| {
            block(SIGUSR1);
            tell!(o, "group" => k!(SYS_getpgid, 0), "of the first" => k!(SYS_getpgid, 1), "join none" => k!(SYS_setpgid, 0, 77));
            write(w, b"x");
            read(r2, 1);
            say!(o, "from outside {:?}", await_signal(SIGUSR1));
            tell!(o, "own" => k!(SYS_setpgid, 0, 0), "is" => k!(SYS_getpgrp));
            write(w, b"x");
            read(r2, 1);
            0
        });
        read(r, 1);
        tell!(o, "send" => k!(SYS_kill, 0, SIGUSR1), "self" => await_signal(SIGUSR1).0);
        write(w2, b"x");
        read(r, 1);
        tell!(o, "its group" => k!(SYS_getpgid, pid).0 == i64::from(pid), "move it" => k!(SYS_setpgid, pid, me()), "is" => k!(SYS_getpgid, pid).0 == i64::from(me()), "go" => write(w2, b"x"), "wait" => wait_text(pid));
        0
    });
    say!(o, "{}", wait_text(leader));
}

fn kill_all_inside(o: Out) {
    let pid = inside(|| {
        tell!(o, "nobody" => k!(SYS_kill, -1, SIGKILL));
        let (r, w) = pipe();
        let others: Vec<i32> = (0..2)
            .map(|_| {
                child(|| {
                    write(w, b"x");
                    loop {
                        pause();
                    }
                })
            })
            .collect();
        let deep = inside(|| {
            write(w, b"x");
            loop {
                pause();
            }
        });
        for _ in 0..3 {
            read(r, 1);
        }
        let killer = child(|| {
            tell!(o, "all" => k!(SYS_kill, -1, SIGKILL));
            7
        });
        say!(o, "{killer} {}", wait_text(killer));
        for other in others.into_iter().chain([deep]) {
            say!(o, "{other} {}", wait_text(other));
        }
        0
    });
    say!(o, "{}", wait_text(pid));
}

fn waited_for(o: Out) {
    block(SIGCHLD);
    let pid = inside(|| {
        block(SIGCHLD);
        let other = child(|| 6);
        say!(o, "told {:?}", await_signal(SIGCHLD));
        let mut info = [0i32; 32];
        tell!(o, "look" => k!(SYS_waitid, P_PID, other, &mut info, WEXITED | WNOWAIT, 0), "pid" => info[3], "is" => info[5]);
        let mut st = 0;
        tell!(o, "nobody" => k!(SYS_wait4, 1, &mut st, 0, 0), "none" => k!(SYS_wait4, 99, &mut st, 0, 0), "group" => k!(SYS_wait4, -5, &mut st, 0, 0), "own group" => k!(SYS_wait4, 0, &mut st, 0, 0));
        let deep = inside(|| 5);
        say!(
            o,
            "{deep} told {:?} {}",
            await_signal(SIGCHLD),
            wait_text(deep)
        );
        0
    });
    let told = await_signal(SIGCHLD);
    tell!(o, "told" => told.0, "of it" => told.2 == pid, "wait" => wait_text(pid));
}

fn queue_notices(o: Out) {
    block(SIGUSR1);
    let queue = k!(SYS_mq_open, c"pidns", O_CREAT | O_RDWR, 0o600, 0).int();
    let mut event = [0u64; 8];
    event[1] = SIGUSR1 as u64 | (SIGEV_SIGNAL as u64) << 32;
    let ask = || k!(SYS_mq_notify, queue, &event);
    let (r, w) = pipe();
    let pid = inside(|| {
        block(SIGUSR1);
        let ours = ask();
        let other = child(|| {
            k!(SYS_mq_timedsend, queue, b"m".as_slice(), 1, 0, 0);
            0
        });
        say!(o, "{ours} {:?} {}", await_signal(SIGUSR1), wait_text(other));
        k!(SYS_mq_timedreceive, queue, anon(16384), 8192, 0, 0);
        ask();
        write(w, b"x");
        say!(o, "from outside {:?}", await_signal(SIGUSR1));
        k!(SYS_mq_timedreceive, queue, anon(16384), 8192, 0, 0);
        0
    });
    read(r, 1);
    k!(SYS_mq_timedsend, queue, b"m".as_slice(), 1, 0, 0);
    say!(o, "{}", wait_text(pid));
    let mine = ask();
    let pid = inside(|| {
        k!(SYS_mq_timedsend, queue, b"m".as_slice(), 1, 0, 0);
        0
    });
    let got = await_signal(SIGUSR1);
    tell!(o, "ask" => mine, "from inside" => got.2 == pid, "wait" => wait_text(pid), "unlink" => k!(SYS_mq_unlink, c"pidns"));
}

fn death_signal_across(o: Out) {
    let (r, w) = pipe();
    let (r2, w2) = pipe();
    let outlives = || {
        block(SIGUSR1);
        k!(SYS_prctl, PR_SET_PDEATHSIG, SIGUSR1, 0, 0, 0);
        write(w, b"x");
        say!(o, "{:?}", await_signal(SIGUSR1));
        write(w2, b"x");
        0
    };
    let pid = child(|| {
        inside(outlives);
        read(r, 1);
        0
    });
    let ended = wait_text(pid);
    read(r2, 1);
    tell!(o, "parent" => ended);
    let pid = inside(|| {
        let a = child(|| {
            child(outlives);
            read(r, 1);
            0
        });
        let ended = wait_text(a);
        read(r2, 1);
        tell!(o, "parent" => ended);
        0
    });
    say!(o, "{}", wait_text(pid));
}

fn without_privilege(o: Out) {
    let (pid, _) = waiting_inside();
    let fd = k!(SYS_pidfd_open, pid, 0);
    let text = crate::util::as_user(|| {
        tell!(o, "unshare" => unshare(CLONE_NEWPID), "clone" => k!(SYS_clone, CLONE_NEWPID | SIGCHLD, 0, 0, 0, 0), "thread" => k!(SYS_clone, CLONE_NEWPID | CLONE_THREAD | CLONE_VM | CLONE_SIGHAND, 0, 0, 0, 0), "enter" => k!(SYS_setns, fd, CLONE_NEWPID), "kill" => k!(SYS_kill, pid, SIGKILL));
    });
    tell!(o, "user" => text, "kill" => k!(SYS_kill, pid, SIGKILL), "wait" => wait_text(pid), "poll" => poll_signal(SIGUSR2).0);
}
