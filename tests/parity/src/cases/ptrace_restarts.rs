//! ptrace(2): a tracer that puts what the kernel returns of calls to be made again into `rax`.

use crate::out::Out;
use crate::sys::{jump, on, seen};
use crate::tracing::{CODE, GOOD, finish, go, load, message, pt, regs, set_regs, stop, tracee};
use crate::{cases, k, say, tell};
use libc::*;
use std::sync::atomic::Ordering::SeqCst;

cases!(
    ptrace_restart_after_a_call,
    ptrace_restart_before_a_call,
    ptrace_restart_with_a_signal,
    ptrace_restart_with_a_handler,
    ptrace_restart_when_stopped,
    ptrace_restart_of_a_call_that_is_to_be_made_again,
    ptrace_restart_outside_of_calls,
    ptrace_restart_within_a_call,
);

/// From `ERESTARTSYS` to `ERESTART_RESTARTBLOCK`, and their neighbours.
const CODES: std::ops::RangeInclusive<i64> = 511..=517;

/// Goes on to where the call that closes nothing begins; `false` where it ended instead.
fn to_close(pid: i32) -> bool {
    for _ in 0..20 {
        if !go(PTRACE_SYSCALL, pid, 0).starts_with("stopped") {
            return false;
        }
        if regs(pid).orig_rax as i64 == SYS_close && message(pid) == 1 {
            return true;
        }
    }
    false
}

fn set(pid: i32, change: impl FnOnce(&mut user_regs_struct)) {
    let mut r = regs(pid);
    change(&mut r);
    set_regs(pid, &r);
}

/// Where it stands, by call and result.
fn at(pid: i32) -> String {
    let r = regs(pid);
    format!("nr {} rax {}", r.orig_rax as i64, r.rax as i64)
}

fn closes(o: Out) -> i32 {
    let a = tracee(|| {
        say!(o, "{}", k!(SYS_close, 999).0);
        0
    });
    pt(PTRACE_SETOPTIONS, a, 0, GOOD as usize);
    to_close(a);
    a
}

fn ptrace_restart_after_a_call(o: Out) {
    for code in CODES {
        let a = closes(o);
        go(PTRACE_SYSCALL, a, 0);
        set(a, |r| r.rax = -code as u64);
        tell!(o, "code" => code, "next" => go(PTRACE_SYSCALL, a, 0), "is" => at(a).starts_with("nr 1 "), "end" => go(PTRACE_CONT, a, 0));
    }
    // Of no call there is nothing to make again.
    let a = closes(o);
    go(PTRACE_SYSCALL, a, 0);
    set(a, |r| (r.rax, r.orig_rax) = (-512i64 as u64, u64::MAX));
    tell!(o, "of none" => go(PTRACE_SYSCALL, a, 0), "end" => go(PTRACE_CONT, a, 0));
}

fn ptrace_restart_before_a_call(o: Out) {
    for code in CODES {
        let a = closes(o);
        set(a, |r| r.rax = -code as u64);
        tell!(o, "code" => code, "made" => go(PTRACE_SYSCALL, a, 0), "is" => at(a), "end" => go(PTRACE_CONT, a, 0));
        let a = closes(o);
        set(a, |r| (r.rax, r.orig_rax) = (-code as u64, u64::MAX));
        tell!(o, "skipped" => go(PTRACE_SYSCALL, a, 0), "is" => at(a), "end" => go(PTRACE_CONT, a, 0));
        let a = closes(o);
        set(a, |r| (r.rax, r.orig_rax) = (-code as u64, 9999));
        tell!(o, "unknown" => go(PTRACE_SYSCALL, a, 0), "is" => at(a), "end" => go(PTRACE_CONT, a, 0));
    }
}

fn ptrace_restart_with_a_signal(o: Out) {
    for code in CODES {
        // The signal is looked at, and with it what is to become of the call, though the tracer
        // takes it away.
        let a = closes(o);
        go(PTRACE_SYSCALL, a, 0);
        set(a, |r| r.rax = -code as u64);
        tell!(o, "code" => code, "shown" => go(PTRACE_SYSCALL, a, SIGUSR1), "is" => at(a), "taken away" => go(PTRACE_SYSCALL, a, 0), "call" => regs(a).orig_rax as i64, "end" => finish(a));
        let a = closes(o);
        set(a, |r| (r.rax, r.orig_rax) = (-code as u64, u64::MAX));
        go(PTRACE_SYSCALL, a, 0);
        tell!(o, "of none" => go(PTRACE_SYSCALL, a, SIGUSR1), "is" => at(a), "taken away" => go(PTRACE_CONT, a, 0));
        // One that comes by itself.
        let a = closes(o);
        go(PTRACE_SYSCALL, a, 0);
        set(a, |r| r.rax = -code as u64);
        k!(SYS_kill, a, SIGUSR1);
        tell!(o, "sent" => go(PTRACE_SYSCALL, a, 0), "is" => at(a), "taken away" => go(PTRACE_SYSCALL, a, 0), "call" => regs(a).orig_rax as i64, "end" => finish(a));
    }
}

fn ptrace_restart_with_a_handler(o: Out) {
    for code in CODES {
        for flags in [0, SA_RESTART] {
            let a = tracee(|| {
                on(SIGUSR1, flags);
                let r = k!(SYS_close, 999).0;
                say!(
                    o,
                    "{r} handled {} at {}",
                    seen(SIGUSR1).count.load(SeqCst),
                    seen(SIGUSR1).result.load(SeqCst)
                );
                0
            });
            pt(PTRACE_SETOPTIONS, a, 0, GOOD as usize);
            to_close(a);
            go(PTRACE_SYSCALL, a, 0);
            set(a, |r| r.rax = -code as u64);
            tell!(o, "code" => code, "flags" => flags, "shown" => go(PTRACE_SYSCALL, a, SIGUSR1), "is" => at(a), "end" => go(PTRACE_CONT, a, SIGUSR1));
        }
    }
}

fn ptrace_restart_when_stopped(o: Out) {
    // At the signal's own stop.
    for code in CODES {
        let a = closes(o);
        go(PTRACE_SYSCALL, a, 0);
        go(PTRACE_SYSCALL, a, SIGUSR1);
        set(a, |r| r.rax = -code as u64);
        tell!(o, "code" => code, "taken away" => go(PTRACE_SYSCALL, a, 0), "call" => regs(a).orig_rax as i64, "end" => finish(a));
    }
    // With the whole process.
    let a = closes(o);
    go(PTRACE_SYSCALL, a, 0);
    tell!(o, "shown" => go(PTRACE_SYSCALL, a, SIGSTOP), "all" => go(PTRACE_SYSCALL, a, SIGSTOP));
    set(a, |r| r.rax = -512i64 as u64);
    tell!(o, "again" => go(PTRACE_SYSCALL, a, 0), "is" => at(a), "end" => finish(a));
}

fn ptrace_restart_of_a_call_that_is_to_be_made_again(o: Out) {
    for code in [0, 4, 512, 513, 514, 516] {
        let a = tracee(|| {
            say!(o, "{}", k!(SYS_pause).0);
            0
        });
        pt(PTRACE_SETOPTIONS, a, 0, GOOD as usize);
        for _ in 0..20 {
            go(PTRACE_SYSCALL, a, 0);
            if regs(a).orig_rax as i64 == SYS_pause {
                break;
            }
        }
        pt(PTRACE_SYSCALL, a, 0, 0);
        k!(SYS_kill, a, SIGUSR1);
        tell!(o, "interrupted" => stop(a), "is" => at(a));
        set(a, |r| r.rax = -code as u64);
        tell!(o, "code" => code, "shown" => go(PTRACE_SYSCALL, a, 0), "is" => at(a), "taken away" => go(PTRACE_SYSCALL, a, 0), "call" => regs(a).orig_rax as i64, "end" => finish(a));
    }
}

fn ptrace_restart_outside_of_calls(o: Out) {
    for code in CODES {
        for nr in [SYS_getppid as u64, u64::MAX] {
            let own = k!(SYS_getpid).0;
            let a = tracee(|| {
                // syscall; ret; int3
                load(&[0x0f, 5, 0xc3, 0xcc]);
                let r = jump(CODE + 3);
                say!(
                    o,
                    "{}",
                    if r == own {
                        "made".into()
                    } else {
                        r.to_string()
                    }
                );
                0
            });
            pt(PTRACE_SETOPTIONS, a, 0, GOOD as usize);
            go(PTRACE_CONT, a, 0);
            set(a, |r| {
                (r.rip, r.rax, r.orig_rax) = (CODE as u64 + 2, -code as u64, nr);
            });
            tell!(o, "code" => code, "end" => go(PTRACE_CONT, a, 0));
        }
    }
}

fn ptrace_restart_within_a_call(o: Out) {
    for code in CODES {
        let a = tracee(|| {
            let b = crate::sys::child(|| 4);
            say!(o, "child {}", b > 0);
            k!(SYS_wait4, b, 0, 0, 0);
            0
        });
        pt(PTRACE_SETOPTIONS, a, 0, PTRACE_O_TRACEFORK as usize);
        tell!(o, "code" => code, "event" => go(PTRACE_CONT, a, 0));
        let b = message(a) as i32;
        set(a, |r| r.rax = -code as u64);
        stop(b);
        tell!(o, "child" => go(PTRACE_CONT, b, 0), "parent" => go(PTRACE_CONT, a, 0), "end" => go(PTRACE_CONT, a, 0));
    }
}
