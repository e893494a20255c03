//! Some hundreds of rounds of ptrace(2) against what else may happen to a tracee.

use crate::out::Out;
use crate::sys::{child, clone_with};
use crate::tracing::{pt, stop};
use crate::util::anon;
use crate::{cases, k, sys, tell};
use libc::*;

cases!(
    attach_against_exit,
    detach_against_kill,
    exec_against_interrupts,
    calls_against_kill,
    tracer_end_against_calls,
    many_tracees,
);

const ROUNDS: i32 = 150;

/// Spins for a time that differs from round to round.
fn jitter(round: i32) {
    for _ in 0..(round * 7919) % 257 * 16 {
        std::hint::spin_loop();
    }
}

/// Has it go on until it ends; how, and after how many stops at most.
fn to_the_end(pid: i32, op: u32) -> String {
    loop {
        let text = stop(pid);
        if !text.starts_with("stopped") {
            return text;
        }
        // What is shown of signals is delivered, but for the stop that an attachment is.
        pt(op, pid, 0, 0);
    }
}

fn attach_against_exit(o: Out) {
    let (mut ended, mut other) = (0, 0);
    for round in 0..ROUNDS {
        let a = child(|| {
            jitter(round);
            7
        });
        jitter(round * 3);
        let attached = pt(PTRACE_ATTACH, a, 0, 0);
        let fine = attached.ok() || attached == sys::R(i64::from(-EPERM));
        match to_the_end(a, PTRACE_CONT).as_str() {
            "exited 7" if fine => ended += 1,
            _ => other += 1,
        }
    }
    tell!(o, "ended" => ended, "other" => other);
}

fn detach_against_kill(o: Out) {
    let (mut killed, mut other) = (0, 0);
    for round in 0..ROUNDS {
        let a = child(|| {
            loop {
                k!(SYS_pause);
            }
        });
        let killer = child(|| {
            jitter(round * 5);
            k!(SYS_kill, a, SIGKILL);
            0
        });
        pt(PTRACE_SEIZE, a, 0, 0);
        jitter(round);
        pt(PTRACE_INTERRUPT, a, 0, 0);
        let first = stop(a);
        let text = match first.starts_with("stopped") {
            true => {
                pt(PTRACE_DETACH, a, 0, 0);
                to_the_end(a, PTRACE_CONT)
            }
            false => first,
        };
        match text.as_str() {
            "killed by SIGKILL" => killed += 1,
            _ => other += 1,
        }
        stop(killer);
    }
    tell!(o, "killed" => killed, "other" => other);
}

extern "C" fn idle(_: *mut c_void) -> i32 {
    loop {
        k!(SYS_pause);
    }
}

fn exec_against_interrupts(o: Out) {
    const THREAD: i32 =
        CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM;
    let (mut ended, mut other) = (0, 0);
    for round in 0..ROUNDS / 3 {
        let a = child(|| {
            for _ in 0..3 {
                clone_with(THREAD, anon(16384) + 16384 - 64, idle);
            }
            jitter(round);
            let args = [c"probes".as_ptr() as usize, c"--list".as_ptr() as usize, 0];
            k!(SYS_close, 1);
            k!(SYS_execve, c"/proc/self/exe", args.as_ptr(), 0);
            1
        });
        pt(
            PTRACE_SEIZE,
            a,
            0,
            (PTRACE_O_TRACECLONE | PTRACE_O_TRACEEXEC) as usize,
        );
        pt(PTRACE_INTERRUPT, a, 0, 0);
        let text = loop {
            let mut status = 0;
            let pid = k!(SYS_wait4, -1, &mut status, __WALL, 0).int();
            if pid < 0 {
                break "nothing".to_owned();
            }
            if WIFSTOPPED(status) {
                pt(PTRACE_CONT, pid, 0, 0);
            } else if pid == a {
                break crate::tracing::trap_text(status);
            }
        };
        match text.as_str() {
            "exited 0" => ended += 1,
            _ => other += 1,
        }
    }
    tell!(o, "ended" => ended, "other" => other);
}

fn calls_against_kill(o: Out) {
    let (mut killed, mut other) = (0, 0);
    for round in 0..ROUNDS {
        let a = child(|| {
            pt(PTRACE_TRACEME, 0, 0, 0);
            k!(SYS_kill, k!(SYS_getpid), SIGSTOP);
            loop {
                k!(SYS_getppid);
            }
        });
        stop(a);
        for _ in 0..round % 7 {
            pt(PTRACE_SYSCALL, a, 0, 0);
            stop(a);
        }
        pt(PTRACE_SYSCALL, a, 0, 0);
        jitter(round);
        k!(SYS_kill, a, SIGKILL);
        match to_the_end(a, PTRACE_SYSCALL).as_str() {
            "killed by SIGKILL" => killed += 1,
            _ => other += 1,
        }
    }
    tell!(o, "killed" => killed, "other" => other);
}

fn tracer_end_against_calls(o: Out) {
    let (mut ended, mut other) = (0, 0);
    for round in 0..ROUNDS {
        let a = child(|| {
            for _ in 0..20 + round % 11 {
                k!(SYS_getppid);
            }
            8
        });
        let tracer = child(|| {
            pt(PTRACE_SEIZE, a, 0, 0);
            pt(PTRACE_INTERRUPT, a, 0, 0);
            let first = stop(a);
            if first.starts_with("stopped") {
                pt(PTRACE_CONT, a, 0, 0);
                jitter(round);
            }
            0
        });
        stop(tracer);
        match stop(a).as_str() {
            "exited 8" => ended += 1,
            _ => other += 1,
        }
    }
    tell!(o, "ended" => ended, "other" => other);
}

fn many_tracees(o: Out) {
    let all: Vec<i32> = (0..ROUNDS)
        .map(|i| {
            child(|| {
                pt(PTRACE_TRACEME, 0, 0, 0);
                k!(SYS_kill, k!(SYS_getpid), SIGSTOP);
                i & 0x3f
            })
        })
        .collect();
    let mut st = 0;
    let mut stopped: Vec<i32> = (0..ROUNDS)
        .map(|_| k!(SYS_wait4, -1, &mut st, __WALL, 0).int())
        .collect();
    stopped.sort_unstable();
    let mut sorted = all.clone();
    sorted.sort_unstable();
    tell!(o, "each once" => stopped == sorted, "no more" => k!(SYS_wait4, -1, &mut st, __WALL | WNOHANG, 0));
    let (mut freed, mut ended, mut left) = (0, 0, 0);
    for (i, pid) in all.iter().enumerate() {
        match i % 3 {
            0 => freed += i32::from(pt(PTRACE_DETACH, *pid, 0, 0).ok()),
            1 => {
                pt(PTRACE_CONT, *pid, 0, 0);
                ended += i32::from(stop(*pid) == format!("exited {}", i & 0x3f));
            }
            _ => left += i32::from(pt(PTRACE_CONT, *pid, 0, 0).ok()),
        }
    }
    let mut gone = 0;
    while k!(SYS_wait4, -1, &mut st, __WALL, 0).ok() {
        gone += 1;
    }
    tell!(o, "freed" => freed, "ended" => ended, "left" => left, "gone" => gone);
}
