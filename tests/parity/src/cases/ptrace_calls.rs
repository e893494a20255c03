//! ptrace(2): stops at system calls and at filters.

use super::seccomp::{answer, install};
use crate::out::Out;
use crate::sys::{on, zeroed};
use crate::tracing::{GOOD, finish, go, hex, info, message, pt, regs, set_regs, stop, tracee};
use crate::util::sleep_ms;
use crate::{cases, k, say, tell};
use libc::*;

cases!(
    ptrace_calls_seen,
    ptrace_calls_without_mark,
    ptrace_call_info,
    ptrace_call_replaced,
    ptrace_call_skipped,
    ptrace_call_info_set,
    ptrace_calls_emulated,
    ptrace_calls_interrupted,
    ptrace_calls_with_signals,
    ptrace_exec_calls,
    ptrace_exit_calls,
    ptrace_filters,
    ptrace_filter_read,
    ptrace_filters_suspended,
);

const EXTRA: usize = GOOD as usize;

fn call_text(pid: i32) -> String {
    let r = regs(pid);
    format!("nr {} result {}", r.orig_rax as i64, r.rax as i64)
}

fn ptrace_calls_seen(o: Out) {
    let a = tracee(|| {
        k!(SYS_getppid);
        k!(SYS_close, 999);
        k!(SYS_umask, 0o22);
        crate::sys::call(777, &[]);
        0
    });
    pt(PTRACE_SETOPTIONS, a, 0, EXTRA);
    // The end of kill(2) itself, first.
    for _ in 0..10 {
        let text = go(PTRACE_SYSCALL, a, 0);
        let call = call_text(a);
        let shown = call.replace(&format!("result {}", k!(SYS_getpid)), "result parent");
        say!(o, "{text} {} {} {shown}", info(a), message(a));
    }
    tell!(o, "end" => finish(a));
}

fn ptrace_calls_without_mark(o: Out) {
    let a = tracee(|| {
        k!(SYS_close, 999);
        0
    });
    for _ in 0..4 {
        say!(
            o,
            "{} {} {} {}",
            go(PTRACE_SYSCALL, a, 0),
            info(a),
            message(a),
            call_text(a)
        );
    }
    let mut raw = [0u8; 88];
    tell!(o, "info" => pt(0x420e, a, 88, raw.as_mut_ptr() as usize), "op" => raw[0]);
    // On it goes, without the stop at the end of the call.
    tell!(o, "end" => go(PTRACE_CONT, a, 0));
}

/// The info without addresses.
fn raw_info(pid: i32, room: usize) -> String {
    let mut raw = [0u8; 88];
    let r = pt(0x420e, pid, room, raw.as_mut_ptr() as usize);
    raw[8..24].fill(0);
    format!("{r} {}", hex(&raw, 88))
}

fn ptrace_call_info(o: Out) {
    let a = tracee(|| {
        k!(SYS_close, 999, 2, 3, 4, 5, 6);
        k!(SYS_umask, 0o22);
        0
    });
    pt(PTRACE_SETOPTIONS, a, 0, EXTRA);
    say!(o, "{}", raw_info(a, 88));
    go(PTRACE_SYSCALL, a, 0);
    say!(o, "{}", raw_info(a, 88));
    go(PTRACE_SYSCALL, a, 0);
    for room in [88, 80, 33, 24, 3, 0] {
        say!(o, "{}", raw_info(a, room));
    }
    go(PTRACE_SYSCALL, a, 0);
    say!(o, "{}", raw_info(a, 88));
    go(PTRACE_SYSCALL, a, 0);
    go(PTRACE_SYSCALL, a, 0);
    say!(o, "{}", raw_info(a, 40));
    tell!(o, "end" => finish(a));
}

/// Goes on to where call `nr` begins.
fn to_call(pid: i32, nr: i64) {
    for _ in 0..20 {
        go(PTRACE_SYSCALL, pid, 0);
        if regs(pid).orig_rax as i64 == nr && message(pid) == 1 {
            return;
        }
    }
}

fn ptrace_call_replaced(o: Out) {
    let a = tracee(|| {
        let r = k!(SYS_getppid);
        let s = k!(SYS_close, 999);
        let t = k!(SYS_close, 999);
        say!(o, "{} {s} {t}", r == k!(SYS_getpid));
        0
    });
    pt(PTRACE_SETOPTIONS, a, 0, EXTRA);
    to_call(a, SYS_getppid);
    let mut r = regs(a);
    r.orig_rax = SYS_getpid as u64;
    tell!(o, "set" => set_regs(a, &r));
    to_call(a, SYS_close);
    let mut r = regs(a);
    (r.orig_rax, r.rdi) = (SYS_umask as u64, 0o123);
    set_regs(a, &r);
    tell!(o, "at the end" => go(PTRACE_SYSCALL, a, 0) , "call" => call_text(a));
    let at = std::mem::offset_of!(user_regs_struct, rax);
    tell!(o, "result" => pt(PTRACE_POKEUSER, a, at, 42));
    to_call(a, SYS_close);
    go(PTRACE_SYSCALL, a, 0);
    tell!(o, "error" => pt(PTRACE_POKEUSER, a, at, -5i64 as usize), "end" => go(PTRACE_CONT, a, 0));
}

fn ptrace_call_skipped(o: Out) {
    let a = tracee(|| {
        let r = k!(SYS_getppid);
        let s = k!(SYS_getppid);
        let t = k!(SYS_getppid);
        say!(o, "{r} {s} {t}");
        0
    });
    pt(PTRACE_SETOPTIONS, a, 0, EXTRA);
    to_call(a, SYS_getppid);
    let mut r = regs(a);
    r.orig_rax = u64::MAX;
    set_regs(a, &r);
    tell!(o, "skipped" => go(PTRACE_SYSCALL, a, 0), "call" => call_text(a));
    to_call(a, SYS_getppid);
    let mut r = regs(a);
    (r.orig_rax, r.rax) = (u64::MAX, 99);
    set_regs(a, &r);
    go(PTRACE_SYSCALL, a, 0);
    to_call(a, SYS_getppid);
    let mut r = regs(a);
    r.orig_rax = 5000;
    set_regs(a, &r);
    tell!(o, "end" => go(PTRACE_CONT, a, 0));
}

fn ptrace_call_info_set(o: Out) {
    let a = tracee(|| {
        say!(o, "{}", k!(SYS_close, 999));
        0
    });
    pt(PTRACE_SETOPTIONS, a, 0, EXTRA);
    to_call(a, SYS_close);
    let mut raw = [0u8; 88];
    pt(0x420e, a, 88, raw.as_mut_ptr() as usize);
    let set = |raw: &[u8; 88], size: usize| pt(0x4212, a, size, raw.as_ptr() as usize);
    tell!(o, "short" => set(&raw, 80));
    for (at, value) in [(0, 2u8), (1, 1), (2, 1), (31, 1)] {
        let mut odd = raw;
        odd[at] = value;
        say!(o, "{at} {}", set(&odd, 88));
    }
    raw[24] = SYS_umask as u8;
    raw[32..40].copy_from_slice(&0o45u64.to_le_bytes());
    tell!(o, "set" => set(&raw, 88), "end of it" => go(PTRACE_SYSCALL, a, 0), "call" => call_text(a));
    pt(0x420e, a, 88, raw.as_mut_ptr() as usize);
    raw[24..32].copy_from_slice(&77u64.to_le_bytes());
    tell!(o, "result" => set(&raw, 88), "call" => call_text(a), "end" => go(PTRACE_CONT, a, 0));
}

fn ptrace_calls_emulated(o: Out) {
    const SYSEMU: u32 = 31;
    let a = tracee(|| {
        let r = k!(SYS_close, 999);
        let s = k!(SYS_close, 999);
        let t = k!(SYS_close, 999);
        say!(o, "{r} {s} {t}");
        0
    });
    pt(PTRACE_SETOPTIONS, a, 0, EXTRA);
    tell!(o, "entry" => go(SYSEMU, a, 0), "call" => call_text(a), "message" => message(a));
    pt(
        PTRACE_POKEUSER,
        a,
        std::mem::offset_of!(user_regs_struct, rax),
        11,
    );
    tell!(o, "next" => go(SYSEMU, a, 0), "call" => call_text(a), "on" => go(PTRACE_SYSCALL, a, 0), "call" => call_text(a), "message" => message(a));
    tell!(o, "end" => go(PTRACE_CONT, a, 0));
}

fn ptrace_calls_interrupted(o: Out) {
    let a = tracee(|| {
        on(SIGUSR1, 0);
        let t = [0i64, 30_000_000];
        say!(o, "{}", k!(SYS_nanosleep, &t, 0));
        say!(o, "{}", k!(SYS_pause));
        0
    });
    pt(PTRACE_SETOPTIONS, a, 0, EXTRA);
    to_call(a, SYS_nanosleep);
    pt(PTRACE_SYSCALL, a, 0, 0);
    k!(SYS_kill, a, SIGWINCH);
    tell!(o, "interrupted" => stop(a), "call" => call_text(a), "shown" => go(PTRACE_SYSCALL, a, 0), "call" => call_text(a));
    tell!(o, "goes on" => go(PTRACE_SYSCALL, a, 0), "call" => call_text(a), "ends" => go(PTRACE_SYSCALL, a, 0), "call" => call_text(a));
    to_call(a, SYS_pause);
    pt(PTRACE_SYSCALL, a, 0, 0);
    sleep_ms(20);
    k!(SYS_kill, a, SIGUSR1);
    tell!(o, "interrupted" => stop(a), "call" => call_text(a), "shown" => go(PTRACE_SYSCALL, a, 0), "call" => call_text(a));
    tell!(o, "return" => go(PTRACE_SYSCALL, a, SIGUSR1), "call" => regs(a).orig_rax as i64, "ends" => go(PTRACE_SYSCALL, a, 0), "call" => call_text(a), "end" => go(PTRACE_CONT, a, 0));
}

fn ptrace_calls_with_signals(o: Out) {
    // What a call is resumed with is sent.
    let a = tracee(|| {
        k!(SYS_close, 999);
        0
    });
    pt(PTRACE_SETOPTIONS, a, 0, EXTRA);
    to_call(a, SYS_close);
    tell!(o, "end of it" => go(PTRACE_SYSCALL, a, SIGTERM), "call" => call_text(a), "shown" => go(PTRACE_SYSCALL, a, 0), "info" => info(a), "killed" => go(PTRACE_SYSCALL, a, SIGTERM));
}

fn ptrace_exec_calls(o: Out) {
    for options in [0, PTRACE_O_TRACEEXEC] {
        let a = tracee(|| {
            let args = [
                c"/proc/self/exe".as_ptr() as usize,
                c"--list".as_ptr() as usize,
                0,
            ];
            k!(SYS_close, 1);
            k!(SYS_execve, c"/proc/self/exe", args.as_ptr(), 0);
            1
        });
        pt(PTRACE_SETOPTIONS, a, 0, (EXTRA as i32 | options) as usize);
        to_call(a, SYS_execve);
        for _ in 0..2 {
            let text = go(PTRACE_SYSCALL, a, 0);
            let own = message(a) == a as u64;
            say!(o, "{text} {} {} {own}", info(a), call_text(a));
        }
        tell!(o, "end" => finish(a));
    }
}

fn ptrace_exit_calls(o: Out) {
    let a = tracee(|| 9);
    pt(PTRACE_SETOPTIONS, a, 0, EXTRA);
    to_call(a, SYS_exit_group);
    tell!(o, "call" => call_text(a), "end" => go(PTRACE_SYSCALL, a, 0));
}

fn ptrace_filters(o: Out) {
    let a = tracee(|| {
        install(&answer(SYS_close, SECCOMP_RET_TRACE | 77));
        let q = k!(SYS_close, 999);
        k!(SYS_kill, k!(SYS_getpid), SIGSTOP);
        let r = k!(SYS_close, 999);
        let s = k!(SYS_close, 999);
        let t = k!(SYS_close, 999);
        say!(o, "{q} {r} {s} {t}");
        0
    });
    pt(PTRACE_SETOPTIONS, a, 0, EXTRA);
    tell!(o, "nobody asked" => go(PTRACE_CONT, a, 0));
    pt(
        PTRACE_SETOPTIONS,
        a,
        0,
        EXTRA | PTRACE_O_TRACESECCOMP as usize,
    );
    tell!(o, "filter" => go(PTRACE_CONT, a, 0), "info" => info(a), "message" => message(a), "call" => call_text(a));
    say!(o, "{}", raw_info(a, 88));
    tell!(o, "made" => go(PTRACE_SYSCALL, a, 0), "call" => call_text(a));
    tell!(o, "filter" => go(PTRACE_CONT, a, 0));
    let mut r = regs(a);
    (r.orig_rax, r.rax) = (u64::MAX, 5);
    set_regs(a, &r);
    tell!(o, "entry" => go(PTRACE_SYSCALL, a, 0), "entry" => go(PTRACE_SYSCALL, a, 0), "filter" => go(PTRACE_SYSCALL, a, 0));
    let mut r = regs(a);
    (r.orig_rax, r.rdi) = (SYS_umask as u64, 0o22);
    set_regs(a, &r);
    tell!(o, "end of it" => go(PTRACE_SYSCALL, a, 0), "call" => call_text(a), "end" => go(PTRACE_CONT, a, 0));
}

fn ptrace_filter_read(o: Out) {
    let a = tracee(|| {
        install(&answer(SYS_close, SECCOMP_RET_ERRNO | 3));
        install(&answer(SYS_getppid, SECCOMP_RET_ERRNO | 4));
        k!(SYS_kill, k!(SYS_getpid), SIGSTOP);
        0
    });
    tell!(o, "none" => pt(0x420c, a, 0, 0));
    go(PTRACE_CONT, a, 0);
    for index in 0..3 {
        let mut code: [sock_filter; 8] = zeroed();
        let len = pt(0x420c, a, index, 0);
        let r = pt(0x420c, a, index, code.as_mut_ptr() as usize);
        say!(o, "{index} {len} {r} {}", hex(&code, 64));
        let mut about = [index as u64, 9];
        say!(
            o,
            "{} {}",
            pt(0x420d, a, 16, about.as_mut_ptr() as usize),
            about[1]
        );
    }
    tell!(o, "short" => pt(0x420d, a, 4, 8), "end" => finish(a));
}

fn ptrace_filters_suspended(o: Out) {
    let a = tracee(|| {
        install(&answer(SYS_close, SECCOMP_RET_ERRNO | 3));
        let r = k!(SYS_close, 999);
        k!(SYS_kill, k!(SYS_getpid), SIGSTOP);
        let s = k!(SYS_close, 999);
        say!(o, "{r} {s}");
        0
    });
    tell!(o, "suspend" => pt(PTRACE_SETOPTIONS, a, 0, 1 << 21), "stop" => go(PTRACE_CONT, a, 0), "go on" => pt(PTRACE_SETOPTIONS, a, 0, 0), "end" => go(PTRACE_CONT, a, 0));
}
