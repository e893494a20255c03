//! ptrace(2): who may trace, stops for signals and with the process, and how it ends.

use crate::out::Out;
use crate::sys::{child, on, seen, zeroed};
use crate::tracing::{GOOD, finish, go, info, message, pt, status_line, stop, tracee, trap_text};
use crate::util::{as_user, bit, close, mask, pipe, read, wait_text, write};
use crate::{cases, k, say, tell};
use libc::*;
use std::sync::atomic::Ordering::SeqCst;

cases!(
    ptrace_who_may,
    ptrace_errors,
    ptrace_signals_shown,
    ptrace_signals_ignored,
    ptrace_signal_replaced,
    ptrace_signal_info_changed,
    ptrace_signals_queued,
    ptrace_mask,
    ptrace_attach,
    ptrace_attach_to_stopped,
    ptrace_group_stop,
    ptrace_seize,
    ptrace_listen,
    ptrace_interrupted_call_goes_on,
    ptrace_detach_with_signal,
    ptrace_killed,
    ptrace_options,
    ptrace_waits,
    ptrace_waits_of_parent_and_tracer,
    ptrace_tracer_ends,
    ptrace_exit_kill,
    ptrace_proc,
);

fn raise(signal: i32) {
    k!(SYS_kill, k!(SYS_getpid), signal);
}

fn sleeper() -> i32 {
    child(|| {
        loop {
            k!(SYS_pause);
        }
    })
}

fn ptrace_who_may(o: Out) {
    tell!(o, "self" => pt(PTRACE_ATTACH, k!(SYS_getpid).int(), 0, 0), "nobody" => pt(PTRACE_ATTACH, 999_999, 0, 0), "zero" => pt(PTRACE_ATTACH, 0, 0, 0));
    let a = sleeper();
    tell!(o, "first" => pt(PTRACE_ATTACH, a, 0, 0), "stop" => stop(a), "again" => pt(PTRACE_ATTACH, a, 0, 0));
    let other = child(|| {
        tell!(o, "another" => pt(PTRACE_ATTACH, a, 0, 0), "another's" => pt(PTRACE_CONT, a, 0, 0), "kills" => pt(PTRACE_KILL, a, 0, 0));
        0
    });
    wait_text(other);
    say!(
        o,
        "{}",
        as_user(|| {
            tell!(o, "user" => pt(PTRACE_ATTACH, a, 0, 0), "seizes" => pt(PTRACE_SEIZE, a, 0, 0));
        })
    );
    tell!(o, "end" => finish(a));
    let gone = child(|| 0);
    let mut i: siginfo_t = zeroed();
    k!(SYS_waitid, P_PID, gone, &mut i, WEXITED | WNOWAIT, 0);
    tell!(o, "zombie" => pt(PTRACE_ATTACH, gone, 0, 0), "seized" => pt(PTRACE_SEIZE, gone, 0, 0));
    tell!(o, "waited" => wait_text(gone));
    let twice = child(|| {
        tell!(o, "me" => pt(PTRACE_TRACEME, 0, 0, 0), "me again" => pt(PTRACE_TRACEME, 0, 0, 0));
        0
    });
    tell!(o, "twice" => stop(twice));
}

fn ptrace_errors(o: Out) {
    let a = child(|| {
        loop {
            k!(SYS_pause);
        }
    });
    for op in [
        PTRACE_CONT,
        PTRACE_PEEKDATA,
        PTRACE_GETREGS,
        PTRACE_INTERRUPT,
        PTRACE_KILL,
        9999,
    ] {
        tell!(o, "not traced" => pt(op, a, 0, 0));
    }
    tell!(o, "seize with address" => pt(PTRACE_SEIZE, a, 1, 0), "seize with options" => pt(PTRACE_SEIZE, a, 0, 1 << 9));
    tell!(o, "seize" => pt(PTRACE_SEIZE, a, 0, 0), "running" => pt(PTRACE_CONT, a, 0, 0), "unknown" => pt(9999, a, 0, 0));
    tell!(o, "interrupt" => pt(PTRACE_INTERRUPT, a, 0, 0), "stop" => stop(a));
    for op in [0x4250, 9999, 13, 18, 23] {
        say!(o, "{op:#x} {}", pt(op, a, 0, 0));
    }
    tell!(o, "signal" => pt(PTRACE_CONT, a, 0, 65), "huge" => pt(PTRACE_CONT, a, 0, usize::MAX), "detach" => pt(PTRACE_DETACH, a, 0, 99));
    tell!(o, "bad pointer" => pt(PTRACE_GETREGS, a, 0, 8), "message" => pt(PTRACE_GETEVENTMSG, a, 0, 8), "info" => pt(PTRACE_GETSIGINFO, a, 0, 8));
    tell!(o, "mask size" => pt(PTRACE_GETSIGMASK, a, 4, 0), "options" => pt(PTRACE_SETOPTIONS, a, 0, 1 << 12));
    tell!(o, "end" => finish(a));
}

fn ptrace_signals_shown(o: Out) {
    let a = tracee(|| {
        on(SIGUSR1, 0);
        raise(SIGUSR1);
        raise(SIGUSR1);
        raise(SIGTERM);
        say!(o, "handled {}", seen(SIGUSR1).count.load(SeqCst));
        5
    });
    tell!(o, "first" => go(PTRACE_CONT, a, 0), "info" => info(a), "delivered" => go(PTRACE_CONT, a, SIGUSR1), "kept" => go(PTRACE_CONT, a, 0), "info" => info(a), "kept" => go(PTRACE_CONT, a, 0));
}

fn ptrace_signals_ignored(o: Out) {
    let a = tracee(|| {
        for s in [SIGCHLD, SIGURG, SIGWINCH, SIGCONT] {
            raise(s);
        }
        k!(SYS_rt_sigaction, SIGTERM, &[1usize, 0, 0, 0], 0, 8);
        raise(SIGTERM);
        3
    });
    for _ in 0..6 {
        let text = go(PTRACE_CONT, a, 0);
        say!(o, "{text}");
    }
}

fn ptrace_signal_replaced(o: Out) {
    let a = tracee(|| {
        on(SIGUSR2, SA_SIGINFO);
        let parent = k!(SYS_getppid).int();
        raise(SIGUSR1);
        let s = seen(SIGUSR2);
        tell!(o, "count" => s.count.load(SeqCst), "code" => s.code.load(SeqCst), "from tracer" => s.pid.load(SeqCst) == parent);
        raise(SIGUSR1);
        0
    });
    tell!(o, "shown" => go(PTRACE_CONT, a, 0), "replaced" => go(PTRACE_CONT, a, SIGUSR2), "killed" => go(PTRACE_CONT, a, SIGTERM));
}

fn ptrace_signal_info_changed(o: Out) {
    let a = tracee(|| {
        on(SIGUSR1, SA_SIGINFO);
        raise(SIGUSR1);
        let s = seen(SIGUSR1);
        tell!(o, "code" => s.code.load(SeqCst), "pid" => s.pid.load(SeqCst));
        0
    });
    tell!(o, "shown" => go(PTRACE_CONT, a, 0));
    let mut i: siginfo_t = zeroed();
    i.si_signo = SIGUSR1;
    i.si_code = SI_QUEUE;
    tell!(o, "set" => pt(PTRACE_SETSIGINFO, a, 0, &raw const i as usize), "told" => info(a), "end" => go(PTRACE_CONT, a, SIGUSR1));
}

fn ptrace_signals_queued(o: Out) {
    let a = tracee(|| 0);
    for s in [SIGUSR1, SIGUSR2, 40, 40] {
        k!(SYS_kill, a, s);
    }
    k!(SYS_tgkill, a, a, SIGTERM);
    let mut out: [siginfo_t; 8] = zeroed();
    for (off, flags, nr) in [
        (0u64, 1u32, 8i32),
        (1, 1, 1),
        (9, 1, 1),
        (0, 0, 8),
        (0, 2, 1),
        (0, 0, -1),
    ] {
        let args = (off, flags, nr);
        let args: [u32; 4] = [args.0 as u32, 0, args.1, args.2 as u32];
        let r = pt(
            PTRACE_PEEKSIGINFO,
            a,
            args.as_ptr() as usize,
            out.as_mut_ptr() as usize,
        );
        let seen: Vec<i32> = out
            .iter()
            .take(r.0.max(0) as usize)
            .map(|i| i.si_signo)
            .collect();
        say!(o, "{off} {flags} {nr}: {r} {seen:?}");
    }
    tell!(o, "end" => finish(a));
}

fn ptrace_mask(o: Out) {
    let a = tracee(|| {
        mask(SIG_BLOCK, bit(SIGUSR1));
        raise(SIGUSR1);
        raise(SIGSTOP);
        say!(o, "after");
        raise(SIGTERM);
        0
    });
    let mut m = 0u64;
    tell!(o, "stop" => go(PTRACE_CONT, a, 0), "get" => pt(PTRACE_GETSIGMASK, a, 8, &raw mut m as usize), "mask" => crate::util::mask_text(m));
    m = bit(SIGTERM) | bit(SIGKILL) | bit(SIGSTOP);
    tell!(o, "set" => pt(PTRACE_SETSIGMASK, a, 8, &raw const m as usize));
    tell!(o, "get" => pt(PTRACE_GETSIGMASK, a, 8, &raw mut m as usize), "mask" => crate::util::mask_text(m));
    tell!(o, "next" => go(PTRACE_CONT, a, 0), "kept" => go(PTRACE_CONT, a, 0));
}

fn ptrace_attach(o: Out) {
    let a = sleeper();
    tell!(o, "attach" => pt(PTRACE_ATTACH, a, 0, 0), "stop" => stop(a), "info" => info(a), "message" => message(a));
    tell!(o, "detach" => pt(PTRACE_DETACH, a, 0, 0), "not ours" => pt(PTRACE_CONT, a, 0, 0));
    tell!(o, "again" => pt(PTRACE_ATTACH, a, 0, 0), "stop" => stop(a), "term" => k!(SYS_kill, a, SIGTERM), "shown" => go(PTRACE_CONT, a, 0), "killed" => go(PTRACE_CONT, a, SIGTERM));
}

fn ptrace_attach_to_stopped(o: Out) {
    for seize in [false, true] {
        let a = sleeper();
        let mut st = 0;
        k!(SYS_kill, a, SIGSTOP);
        k!(SYS_wait4, a, &mut st, WUNTRACED, 0);
        let op = if seize { PTRACE_SEIZE } else { PTRACE_ATTACH };
        tell!(o, "stopped" => trap_text(st), "attach" => pt(op, a, 0, 0), "stop" => stop(a), "info" => info(a));
        if !seize {
            tell!(o, "next" => go(PTRACE_CONT, a, 0), "info" => info(a));
        }
        tell!(o, "detach" => pt(PTRACE_DETACH, a, 0, 0));
        // It stays stopped with its process.
        let mut i: siginfo_t = zeroed();
        let r = k!(SYS_waitid, P_PID, a, &mut i, WSTOPPED | WNOHANG, 0);
        tell!(o, "wait" => r, "end" => finish(a));
    }
}

fn ptrace_group_stop(o: Out) {
    let a = tracee(|| {
        raise(SIGTSTP);
        k!(SYS_pause);
        0
    });
    k!(SYS_setpgid, a, 0);
    tell!(o, "shown" => go(PTRACE_CONT, a, 0), "info" => info(a), "stops" => go(PTRACE_CONT, a, SIGTSTP), "info" => info(a));
    tell!(o, "state" => status_line(a, "State"));
    tell!(o, "again" => pt(PTRACE_CONT, a, 0, 0));
    k!(SYS_kill, a, SIGCONT);
    tell!(o, "continued" => stop(a), "info" => info(a), "end" => finish(a));
}

fn ptrace_seize(o: Out) {
    let a = sleeper();
    tell!(o, "seize" => pt(PTRACE_SEIZE, a, 0, 0));
    let mut st = 0;
    tell!(o, "no stop" => k!(SYS_wait4, a, &mut st, __WALL | WNOHANG, 0));
    tell!(o, "interrupt" => pt(PTRACE_INTERRUPT, a, 0, 0), "stop" => stop(a), "info" => info(a));
    tell!(o, "go on" => pt(PTRACE_CONT, a, 0, 0), "twice" => pt(PTRACE_INTERRUPT, a, 0, 0), "stop" => stop(a));
    tell!(o, "detach" => pt(PTRACE_DETACH, a, 0, 0), "end" => finish(a));
    let b = tracee(|| 0);
    tell!(o, "not seized" => pt(PTRACE_INTERRUPT, b, 0, 0), "listen" => pt(PTRACE_LISTEN, b, 0, 0), "end" => finish(b));
}

fn ptrace_listen(o: Out) {
    let a = sleeper();
    pt(PTRACE_SEIZE, a, 0, 0);
    k!(SYS_kill, a, SIGSTOP);
    tell!(o, "shown" => stop(a), "info" => info(a), "not yet" => pt(PTRACE_LISTEN, a, 0, 0));
    tell!(o, "stops" => go(PTRACE_CONT, a, SIGSTOP), "info" => info(a));
    let mut st = 0;
    tell!(o, "listen" => pt(PTRACE_LISTEN, a, 0, 0), "not stopped" => pt(PTRACE_CONT, a, 0, 0), "nothing" => k!(SYS_wait4, a, &mut st, __WALL | WNOHANG, 0), "state" => status_line(a, "State"));
    k!(SYS_kill, a, SIGCONT);
    tell!(o, "told" => stop(a), "info" => info(a), "then" => go(PTRACE_CONT, a, 0), "info" => info(a), "end" => finish(a));
}

fn ptrace_interrupted_call_goes_on(o: Out) {
    let (r, w) = pipe();
    let a = child(|| {
        close(w);
        let (n, text) = read(r, 10);
        say!(o, "{n} {text}");
        0
    });
    for _ in 0..3 {
        // It is in the call, or about to make it.
        pt(PTRACE_ATTACH, a, 0, 0);
        stop(a);
        pt(PTRACE_DETACH, a, 0, 0);
    }
    write(w, b"here");
    tell!(o, "end" => wait_text(a));
}

fn ptrace_detach_with_signal(o: Out) {
    let a = sleeper();
    pt(PTRACE_ATTACH, a, 0, 0);
    stop(a);
    tell!(o, "detach" => pt(PTRACE_DETACH, a, 0, SIGTERM as usize), "end" => wait_text(a));
}

fn ptrace_killed(o: Out) {
    for (op, seize) in [
        (PTRACE_KILL, false),
        (PTRACE_CONT, false),
        (PTRACE_KILL, true),
    ] {
        let a = sleeper();
        if seize {
            pt(PTRACE_SEIZE, a, 0, 0);
            pt(PTRACE_INTERRUPT, a, 0, 0);
        } else {
            pt(PTRACE_ATTACH, a, 0, 0);
        }
        stop(a);
        let signal = if op == PTRACE_CONT { SIGKILL } else { 0 };
        tell!(o, "kill" => pt(op, a, 0, signal as usize), "end" => stop(a), "gone" => pt(PTRACE_CONT, a, 0, 0));
    }
    let a = sleeper();
    pt(PTRACE_SEIZE, a, 0, PTRACE_O_TRACEEXIT as usize);
    k!(SYS_kill, a, SIGKILL);
    tell!(o, "last stop" => stop(a), "message" => message(a), "end" => go(PTRACE_CONT, a, 0));
}

fn ptrace_options(o: Out) {
    let a = tracee(|| 0);
    for bits in [0, 1, 0xff, 1 << 8, 1 << 20, 1 << 22, 1 << 32, 0x1000ff] {
        say!(
            o,
            "{bits:#x} {} {}",
            pt(PTRACE_SETOPTIONS, a, 0, bits),
            pt(21, a, 0, bits)
        );
    }
    say!(
        o,
        "{}",
        as_user(|| {
            let b = tracee(|| 0);
            tell!(o, "suspend" => pt(PTRACE_SETOPTIONS, b, 0, 1 << 21), "filter" => pt(0x420c, b, 0, 0), "end" => finish(b));
        })
    );
    tell!(o, "suspend" => pt(PTRACE_SETOPTIONS, a, 0, 1 << 21), "filter" => pt(0x420c, a, 0, 0), "end" => finish(a));
}

fn ptrace_waits(o: Out) {
    let a = sleeper();
    pt(PTRACE_ATTACH, a, 0, 0);
    let mut i: siginfo_t = zeroed();
    let text = |i: &siginfo_t| crate::sys::child_info(i, a);
    tell!(o, "peek" => k!(SYS_waitid, P_PID, a, &mut i, WSTOPPED | WNOWAIT, 0), "info" => text(&i));
    tell!(o, "exited only" => k!(SYS_waitid, P_PID, a, &mut i, WEXITED | WNOHANG, 0), "info" => text(&i) == text(&zeroed()));
    tell!(o, "continued" => k!(SYS_waitid, P_PID, a, &mut i, WSTOPPED | WCONTINUED, 0), "info" => text(&i));
    tell!(o, "once" => k!(SYS_waitid, P_PID, a, &mut i, WSTOPPED | WNOHANG, 0));
    pt(PTRACE_CONT, a, 0, 0);
    k!(SYS_kill, a, SIGTERM);
    let mut st = 0;
    tell!(o, "any" => k!(SYS_wait4, -1, &mut st, 0, 0).0 == i64::from(a), "how" => trap_text(st), "none" => k!(SYS_wait4, -1, &mut st, WNOHANG, 0));
    tell!(o, "by group" => k!(SYS_wait4, 0, &mut st, WNOHANG, 0), "end" => finish(a), "nobody" => k!(SYS_wait4, -1, &mut st, WNOHANG, 0));
}

fn ptrace_waits_of_parent_and_tracer(o: Out) {
    let (r, w) = pipe();
    let a = child(|| {
        close(w);
        read(r, 1);
        7
    });
    let (ready, go_on) = (pipe(), pipe());
    let tracer = child(|| {
        close(w);
        pt(PTRACE_SEIZE, a, 0, 0);
        write(ready.1, b"x");
        let mut i: siginfo_t = zeroed();
        k!(SYS_waitid, P_PID, a, &mut i, WEXITED | WNOWAIT | __WALL, 0);
        write(ready.1, b"y");
        read(go_on.0, 1);
        tell!(o, "tracer" => stop(a), "and no more" => stop(a));
        0
    });
    read(ready.0, 1);
    close(w);
    read(ready.0, 1);
    let mut st = 0;
    tell!(o, "parent must wait" => k!(SYS_wait4, a, &mut st, WNOHANG, 0), "state" => status_line(a, "State"));
    write(go_on.1, b"x");
    tell!(o, "tracer's end" => wait_text(tracer), "parent" => wait_text(a));
}

fn ptrace_tracer_ends(o: Out) {
    let (r, w) = pipe();
    let a = child(|| {
        close(w);
        let (n, _) = read(r, 1);
        n.int() + 3
    });
    let tracer = child(|| {
        pt(PTRACE_ATTACH, a, 0, 0);
        say!(o, "{}", stop(a));
        0
    });
    tell!(o, "tracer" => wait_text(tracer), "free" => status_line(a, "TracerPid"));
    close(r);
    close(w);
    tell!(o, "end" => wait_text(a));
}

fn ptrace_exit_kill(o: Out) {
    let a = sleeper();
    let tracer = child(|| {
        tell!(o, "seize" => pt(PTRACE_SEIZE, a, 0, PTRACE_O_EXITKILL as usize));
        0
    });
    tell!(o, "tracer" => wait_text(tracer), "tracee" => wait_text(a));
}

fn ptrace_proc(o: Out) {
    let a = tracee(|| 0);
    let me = k!(SYS_getpid).int();
    tell!(o, "state" => status_line(a, "State"), "tracer" => status_line(a, "TracerPid") == format!("TracerPid:\\t{me}"), "options" => pt(PTRACE_SETOPTIONS, a, 0, GOOD as usize), "end" => finish(a));
    let b = sleeper();
    tell!(o, "untraced" => status_line(b, "TracerPid"), "end" => finish(b));
}
