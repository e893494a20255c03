//! ptrace(2): new tasks, programs and ends as events; threads.

use crate::out::Out;
use crate::sys::{child, clone_with, vfork_like, zeroed};
use crate::tracing::{finish, go, info, message, pt, regs, stop, tracee, trap_text};
use crate::util::{anon, wait_text};
use crate::{cases, k, say, tell};
use libc::*;

cases!(
    ptrace_event_fork,
    ptrace_event_fork_seized,
    ptrace_event_vfork,
    ptrace_event_clone,
    ptrace_events_not_wanted,
    ptrace_clone_flags,
    ptrace_event_exit,
    ptrace_event_exec,
    ptrace_threads,
    ptrace_thread_execs,
    ptrace_wait_of_this_thread,
);

fn ptrace_event_fork(o: Out) {
    let a = tracee(|| {
        let b = child(|| 4);
        say!(o, "{}", wait_text(b));
        5
    });
    pt(PTRACE_SETOPTIONS, a, 0, PTRACE_O_TRACEFORK as usize);
    tell!(o, "event" => go(PTRACE_CONT, a, 0), "info" => info(a), "rax" => regs(a).rax as i64);
    let b = message(a) as i32;
    tell!(o, "child" => stop(b), "info" => info(b), "rax" => regs(b).rax, "nr" => regs(b).orig_rax as i64);
    tell!(o, "child goes on" => go(PTRACE_CONT, b, 0));
    tell!(o, "its parent" => go(PTRACE_CONT, a, 0), "then" => go(PTRACE_CONT, a, 0));
}

fn ptrace_event_fork_seized(o: Out) {
    let a = child(|| {
        k!(SYS_kill, k!(SYS_getpid), SIGSTOP);
        let b = child(|| 4);
        say!(o, "{}", wait_text(b));
        5
    });
    let mut st = 0;
    k!(SYS_wait4, a, &mut st, WUNTRACED, 0);
    pt(PTRACE_SEIZE, a, 0, PTRACE_O_TRACEFORK as usize);
    tell!(o, "first" => stop(a));
    k!(SYS_kill, a, SIGCONT);
    pt(PTRACE_CONT, a, 0, 0);
    let mut texts = Vec::new();
    for _ in 0..3 {
        let text = stop(a);
        let event = text.contains("event 1") && !text.contains("event 12");
        texts.push(text);
        if event {
            break;
        }
        pt(PTRACE_CONT, a, 0, 0);
    }
    say!(o, "{}", texts.last().map_or("", |t| t));
    let b = message(a) as i32;
    tell!(o, "child" => stop(b), "info" => info(b), "end" => go(PTRACE_CONT, b, 0));
    tell!(o, "then" => go(PTRACE_CONT, a, 0), "end" => go(PTRACE_CONT, a, 0));
}

extern "C" fn vforked(_: *mut c_void) -> i32 {
    k!(SYS_exit, 6);
    0
}

fn ptrace_event_vfork(o: Out) {
    let a = tracee(|| {
        let b = vfork_like(CLONE_VM | CLONE_VFORK | SIGCHLD, vforked);
        say!(o, "{}", wait_text(b));
        5
    });
    pt(
        PTRACE_SETOPTIONS,
        a,
        0,
        (PTRACE_O_TRACEVFORK | PTRACE_O_TRACEVFORKDONE) as usize,
    );
    tell!(o, "event" => go(PTRACE_CONT, a, 0));
    let b = message(a) as i32;
    tell!(o, "child" => stop(b), "end" => go(PTRACE_CONT, b, 0), "done" => go(PTRACE_CONT, a, 0), "same" => message(a) == b as u64);
    tell!(o, "then" => go(PTRACE_CONT, a, 0), "end" => go(PTRACE_CONT, a, 0));
}

const THREAD: i32 =
    CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM;

extern "C" fn thread(_: *mut c_void) -> i32 {
    k!(SYS_exit, 3);
    0
}

extern "C" fn sleeping_thread(_: *mut c_void) -> i32 {
    loop {
        k!(SYS_pause);
    }
}

fn stack() -> usize {
    anon(64 * 1024) + 64 * 1024 - 64
}

fn ptrace_event_clone(o: Out) {
    let a = tracee(|| {
        clone_with(THREAD, stack(), thread);
        k!(SYS_pause);
        0
    });
    pt(PTRACE_SETOPTIONS, a, 0, PTRACE_O_TRACECLONE as usize);
    tell!(o, "event" => go(PTRACE_CONT, a, 0));
    let t = message(a) as i32;
    tell!(o, "thread" => stop(t), "in the same" => k!(SYS_tgkill, a, t, 0), "end of thread" => go(PTRACE_CONT, t, 0), "no more" => stop(t));
    pt(PTRACE_CONT, a, 0, 0);
    tell!(o, "end" => finish(a));
}

fn ptrace_events_not_wanted(o: Out) {
    let a = tracee(|| {
        let b = child(|| 4);
        say!(o, "{}", wait_text(b));
        clone_with(THREAD, stack(), thread);
        5
    });
    tell!(o, "child's end" => go(PTRACE_CONT, a, 0), "info" => info(a), "end" => go(PTRACE_CONT, a, 0));
}

fn ptrace_clone_flags(o: Out) {
    let a = tracee(|| {
        let b = clone_with(CLONE_UNTRACED | SIGCHLD, stack(), thread);
        say!(o, "{}", wait_text(b));
        let b = clone_with(CLONE_PTRACE | SIGCHLD, stack(), thread);
        say!(o, "{}", wait_text(b));
        5
    });
    pt(PTRACE_SETOPTIONS, a, 0, PTRACE_O_TRACEFORK as usize);
    tell!(o, "untraced's end" => go(PTRACE_CONT, a, 0), "event" => go(PTRACE_CONT, a, 0));
    let b = message(a) as i32;
    tell!(o, "child" => stop(b), "end" => go(PTRACE_CONT, b, 0), "signal" => go(PTRACE_CONT, a, 0));
    pt(PTRACE_SETOPTIONS, a, 0, 0);
    tell!(o, "end" => go(PTRACE_CONT, a, 0));
    let a = tracee(|| {
        let b = clone_with(CLONE_PTRACE | SIGCHLD, stack(), thread);
        say!(o, "{}", wait_text(b));
        6
    });
    // It stops without an event that would say so.
    pt(PTRACE_CONT, a, 0, 0);
    let mut st = 0;
    let b = k!(SYS_wait4, -1, &mut st, __WALL, 0).int();
    tell!(o, "child" => b != a, "how" => trap_text(st), "end" => go(PTRACE_CONT, b, 0), "signal" => stop(a), "end" => go(PTRACE_CONT, a, 0));
}

fn ptrace_event_exit(o: Out) {
    let a = tracee(|| 7);
    pt(PTRACE_SETOPTIONS, a, 0, PTRACE_O_TRACEEXIT as usize);
    tell!(o, "event" => go(PTRACE_CONT, a, 0), "info" => info(a), "status" => message(a), "memory" => regs(a).rip != 0, "end" => go(PTRACE_CONT, a, 0));
    let a = tracee(|| {
        k!(SYS_kill, k!(SYS_getpid), SIGTERM);
        0
    });
    pt(PTRACE_SETOPTIONS, a, 0, PTRACE_O_TRACEEXIT as usize);
    tell!(o, "signal" => go(PTRACE_CONT, a, 0), "event" => go(PTRACE_CONT, a, SIGTERM), "status" => message(a), "end" => go(PTRACE_CONT, a, 0));
}

fn execs() -> i32 {
    let args = [c"probes".as_ptr() as usize, c"--list".as_ptr() as usize, 0];
    k!(SYS_close, 1);
    k!(SYS_execve, c"/proc/self/exe", args.as_ptr(), 0);
    1
}

fn ptrace_event_exec(o: Out) {
    let a = tracee(execs);
    tell!(o, "trap" => go(PTRACE_CONT, a, 0), "info" => info(a), "rax" => regs(a).rax as i64, "end" => finish(a));
    let a = tracee(execs);
    pt(PTRACE_SETOPTIONS, a, 0, PTRACE_O_TRACEEXEC as usize);
    tell!(o, "event" => go(PTRACE_CONT, a, 0), "info" => info(a), "own" => message(a) == a as u64, "rax" => regs(a).rax as i64, "nr" => regs(a).orig_rax as i64, "end" => finish(a));
    let a = tracee(|| {
        k!(SYS_execve, c"/nowhere", 0, 0);
        2
    });
    pt(PTRACE_SETOPTIONS, a, 0, PTRACE_O_TRACEEXEC as usize);
    tell!(o, "failed" => go(PTRACE_CONT, a, 0));
}

fn ptrace_threads(o: Out) {
    let a = tracee(|| {
        clone_with(THREAD, stack(), sleeping_thread);
        clone_with(THREAD, stack(), sleeping_thread);
        loop {
            k!(SYS_pause);
        }
    });
    pt(PTRACE_SETOPTIONS, a, 0, PTRACE_O_TRACECLONE as usize);
    go(PTRACE_CONT, a, 0);
    let t = message(a) as i32;
    go(PTRACE_CONT, a, 0);
    let u = message(a) as i32;
    tell!(o, "threads" => stop(t), "each" => stop(u));
    for tid in [a, t, u] {
        pt(PTRACE_CONT, tid, 0, 0);
    }
    // A signal for one thread is shown by that thread.
    k!(SYS_tgkill, a, u, SIGUSR1);
    tell!(o, "one" => stop(u), "info" => info(u));
    // A stop of the process is everybody's.
    k!(SYS_tgkill, a, t, SIGSTOP);
    tell!(o, "shown" => stop(t));
    pt(PTRACE_CONT, t, 0, SIGSTOP as usize);
    pt(PTRACE_CONT, u, 0, 0);
    tell!(o, "all" => stop(a), "of" => stop(t), "them" => stop(u), "info" => info(u));
    // Each is let go by itself.
    tell!(o, "detach" => pt(PTRACE_DETACH, t, 0, 0), "ours" => pt(PTRACE_CONT, u, 0, 0), "not ours" => pt(PTRACE_CONT, t, 0, 0));
    k!(SYS_kill, a, SIGKILL);
    tell!(o, "thread" => stop(u), "process" => stop(a));
}

extern "C" fn execing_thread(_: *mut c_void) -> i32 {
    execs()
}

fn ptrace_thread_execs(o: Out) {
    let a = tracee(|| {
        clone_with(THREAD, stack(), execing_thread);
        loop {
            k!(SYS_pause);
        }
    });
    pt(
        PTRACE_SETOPTIONS,
        a,
        0,
        (PTRACE_O_TRACECLONE | PTRACE_O_TRACEEXEC) as usize,
    );
    go(PTRACE_CONT, a, 0);
    let t = message(a) as i32;
    stop(t);
    pt(PTRACE_CONT, a, 0, 0);
    pt(PTRACE_CONT, t, 0, 0);
    tell!(o, "event" => stop(a), "was" => message(a) == t as u64, "gone" => pt(PTRACE_CONT, t, 0, 0), "end" => finish(a));
}

fn ptrace_wait_of_this_thread(o: Out) {
    let a = tracee(|| 0);
    k!(SYS_kill, a, SIGKILL);
    let other = std::thread::spawn(move || {
        let mut i: siginfo_t = zeroed();
        let own = k!(SYS_wait4, a, 0, __WNOTHREAD | WNOHANG, 0);
        let cont = pt(PTRACE_CONT, a, 0, 0);
        let any = k!(SYS_waitid, P_PID, a, &mut i, WEXITED | WNOWAIT, 0);
        (own, cont, any)
    });
    if let Ok((own, cont, any)) = other.join() {
        tell!(o, "own" => own, "cont" => cont, "any" => any);
    }
    tell!(o, "end" => stop(a));
}
