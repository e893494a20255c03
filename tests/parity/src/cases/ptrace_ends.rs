//! ptrace(2): what ends a stop but its tracer, and who hears of it.

use crate::out::Out;
use crate::sys::{child, clone_with, zeroed};
use crate::tracing::{finish, go, info, message, pt, status_line, stop, tracee, trap_text};
use crate::util::{anon, close, pipe, read, wait_text, write};
use crate::{cases, k, say, tell};
use libc::*;

cases!(
    ptrace_exec_frees_the_leader,
    ptrace_killed_at_its_exit,
    ptrace_killed_before_its_exit,
    ptrace_killed_at_its_end_as_a_thread,
    ptrace_stopped_at_an_event,
    ptrace_stopped_at_an_event_threads,
    ptrace_stopped_while_shown,
    ptrace_stop_completed_by_an_end,
);

const THREAD: i32 =
    CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM;

fn stack() -> usize {
    anon(64 * 1024) + 64 * 1024 - 64
}

/// Waits until `pid` sleeps.
fn until_asleep(pid: i32) {
    while !status_line(pid, "State").contains("S (") {
        k!(SYS_sched_yield);
    }
}

/// Ends of the pipe on which a thread waits for its turn to exec.
static TURN: std::sync::atomic::AtomicI32 = std::sync::atomic::AtomicI32::new(0);

extern "C" fn execing_thread(_: *mut c_void) -> i32 {
    read(TURN.load(std::sync::atomic::Ordering::SeqCst), 1);
    let args = [c"probes".as_ptr() as usize, c"--list".as_ptr() as usize, 0];
    k!(SYS_close, 1);
    k!(SYS_execve, c"/proc/self/exe", args.as_ptr(), 0);
    1
}

fn ptrace_exec_frees_the_leader(o: Out) {
    // Who has nothing but the leader to wait for sleeps, and hears that there is none any more.
    let ((turn, give), (seized, say_seized)) = (pipe(), pipe());
    TURN.store(turn, std::sync::atomic::Ordering::SeqCst);
    let a = child(|| {
        clone_with(THREAD, stack(), execing_thread);
        loop {
            k!(SYS_pause);
        }
    });
    let tracer = child(|| {
        let seize = pt(PTRACE_SEIZE, a, 0, 0);
        write(say_seized, b"x");
        let mut st = 0;
        let r = k!(SYS_wait4, -1, &mut st, __WALL, 0);
        tell!(o, "seize" => seize, "waited" => r, "again" => k!(SYS_wait4, a, &mut st, __WALL, 0), "cont" => pt(PTRACE_CONT, a, 0, 0));
        0
    });
    read(seized, 1);
    until_asleep(tracer);
    write(give, b"x");
    tell!(o, "tracer" => wait_text(tracer), "program" => wait_text(a));
    for fd in [turn, give, seized, say_seized] {
        close(fd);
    }
}

fn at_exit(f: impl FnOnce() -> i32, signal: i32) -> i32 {
    let a = tracee(f);
    pt(PTRACE_SETOPTIONS, a, 0, PTRACE_O_TRACEEXIT as usize);
    if signal != 0 {
        go(PTRACE_CONT, a, 0);
    }
    go(PTRACE_CONT, a, signal);
    a
}

/// Sends `SIGKILL` to one that is held at its exit, and gives that time to be heeded, which it is not
/// to be: it goes on when it is told to.
fn kill_in_vain(o: Out, a: i32) {
    tell!(o, "message" => message(a), "kill" => k!(SYS_kill, a, SIGKILL));
    crate::util::sleep_ms(30);
    let mut st = 0i32;
    tell!(o, "ended" => k!(SYS_wait4, a, &mut st, __WALL | WNOHANG, 0));
    tell!(o, "held" => message(a), "then" => go(PTRACE_CONT, a, 0));
}

fn ptrace_killed_at_its_exit(o: Out) {
    // It ends by itself: exit_group(2), exit(2), a signal.
    kill_in_vain(o, at_exit(|| 7, 0));
    let alone = || {
        k!(SYS_exit, 8);
        0
    };
    kill_in_vain(o, at_exit(alone, 0));
    let signal = || {
        k!(SYS_kill, k!(SYS_getpid), SIGTERM);
        0
    };
    kill_in_vain(o, at_exit(signal, SIGTERM));
}

fn ptrace_killed_before_its_exit(o: Out) {
    let a = tracee(|| 7);
    pt(PTRACE_SETOPTIONS, a, 0, PTRACE_O_TRACEEXIT as usize);
    tell!(o, "kill" => k!(SYS_kill, a, SIGKILL), "event" => stop(a));
    kill_in_vain(o, a);
}

extern "C" fn ending_thread(_: *mut c_void) -> i32 {
    k!(SYS_exit, 3);
    0
}

extern "C" fn sleeping_thread(_: *mut c_void) -> i32 {
    loop {
        k!(SYS_pause);
    }
}

fn ptrace_killed_at_its_end_as_a_thread(o: Out) {
    let a = tracee(|| {
        clone_with(THREAD, stack(), ending_thread);
        loop {
            k!(SYS_pause);
        }
    });
    let options = PTRACE_O_TRACEEXIT | PTRACE_O_TRACECLONE;
    pt(PTRACE_SETOPTIONS, a, 0, options as usize);
    go(PTRACE_CONT, a, 0);
    let t = message(a) as i32;
    stop(t);
    pt(PTRACE_CONT, a, 0, 0);
    tell!(o, "event" => go(PTRACE_CONT, t, 0), "status" => message(t), "kill" => k!(SYS_kill, a, SIGKILL));
    tell!(o, "thread" => stop(t), "leader" => stop(a), "end" => go(PTRACE_CONT, a, 0));
}

/// The other thread of a process that makes one.
fn thread_of(pid: i32) -> i32 {
    loop {
        let tasks = std::fs::read_dir(format!("/proc/{pid}/task"));
        let names = tasks.into_iter().flatten().flatten();
        let mut tids = names.filter_map(|e| e.file_name().to_str()?.parse().ok());
        if let Some(tid) = tids.find(|t| *t != pid) {
            return tid;
        }
    }
}

/// Makes a process that ends with it; nothing else comes.
fn forks_and_sleeps() -> i32 {
    child(|| {
        k!(SYS_prctl, PR_SET_PDEATHSIG, SIGKILL);
        loop {
            k!(SYS_pause);
        }
    });
    loop {
        k!(SYS_pause);
    }
}

/// What comes of `pid`, each stop told of and ended.
fn all_stops(o: Out, pid: i32, n: usize) {
    for _ in 0..n {
        tell!(o, "stop" => stop(pid), "info" => info(pid), "cont" => pt(PTRACE_CONT, pid, 0, 0));
    }
}

fn ptrace_stopped_at_an_event(o: Out) {
    // Seized, and held at an event when the signal comes.
    let (turn, give) = pipe();
    let a = child(|| {
        read(turn, 1);
        forks_and_sleeps()
    });
    pt(PTRACE_SEIZE, a, 0, PTRACE_O_TRACEFORK as usize);
    write(give, b"x");
    tell!(o, "event" => stop(a), "message" => message(a) > 0);
    let b = message(a) as i32;
    tell!(o, "child" => stop(b), "goes" => go(PTRACE_DETACH, b, 0).starts_with('-'));
    k!(SYS_kill, a, SIGSTOP);
    tell!(o, "shown" => go(PTRACE_CONT, a, 0), "info" => info(a), "all" => go(PTRACE_CONT, a, SIGSTOP), "info" => info(a));
    tell!(o, "listen" => pt(PTRACE_LISTEN, a, 0, 0), "continue" => k!(SYS_kill, a, SIGCONT), "told" => stop(a), "info" => info(a));
    tell!(o, "end" => finish(a));
    for fd in [turn, give] {
        close(fd);
    }
}

fn ptrace_stopped_at_an_event_threads(o: Out) {
    // One thread is held at an event while another takes part in the stop.
    let (turn, give) = pipe();
    let a = child(|| {
        clone_with(THREAD, stack(), sleeping_thread);
        read(turn, 1);
        forks_and_sleeps()
    });
    let t = thread_of(a);
    let options = PTRACE_O_TRACEFORK as usize;
    tell!(o, "seize" => pt(PTRACE_SEIZE, a, 0, options), "thread" => pt(PTRACE_SEIZE, t, 0, options));
    write(give, b"x");
    tell!(o, "event" => stop(a));
    let b = message(a) as i32;
    stop(b);
    pt(PTRACE_DETACH, b, 0, 0);
    k!(SYS_tgkill, a, t, SIGSTOP);
    tell!(o, "shown" => stop(t), "its part" => go(PTRACE_CONT, t, SIGSTOP), "info" => info(t));
    let mut i: siginfo_t = zeroed();
    tell!(o, "held" => k!(SYS_waitid, P_PID, a, &mut i, WSTOPPED | WNOHANG | WNOWAIT, 0), "status" => i.si_signo);
    tell!(o, "the other's part" => go(PTRACE_CONT, a, 0), "info" => info(a));
    tell!(o, "listen" => pt(PTRACE_LISTEN, a, 0, 0), "both" => pt(PTRACE_LISTEN, t, 0, 0), "continue" => k!(SYS_kill, a, SIGCONT));
    all_stops(o, t, 1);
    all_stops(o, a, 1);
    k!(SYS_kill, a, SIGKILL);
    tell!(o, "thread" => stop(t), "process" => stop(a));
    for fd in [turn, give] {
        close(fd);
    }
}

fn ptrace_stopped_while_shown(o: Out) {
    // One tracer, one parent: what the parent hears when tracees take part in a stop late.
    let (turn, give) = pipe();
    let a = child(|| {
        read(turn, 1);
        forks_and_sleeps()
    });
    let ((ready, say_ready), (heard, say_heard)) = (pipe(), pipe());
    let tracer = child(|| {
        pt(PTRACE_SEIZE, a, 0, PTRACE_O_TRACEFORK as usize);
        write(give, b"x");
        tell!(o, "event" => stop(a));
        let b = message(a) as i32;
        stop(b);
        pt(PTRACE_DETACH, b, 0, 0);
        k!(SYS_kill, a, SIGSTOP);
        tell!(o, "shown" => go(PTRACE_CONT, a, 0), "part" => go(PTRACE_CONT, a, SIGSTOP));
        tell!(o, "listen" => pt(PTRACE_LISTEN, a, 0, 0));
        write(say_ready, b"x");
        let told = stop(a);
        // One after the other.
        read(heard, 1);
        tell!(o, "told" => told, "goes" => pt(PTRACE_CONT, a, 0, 0));
        0
    });
    read(ready, 1);
    let mut st = 0;
    let r = k!(SYS_wait4, a, &mut st, WUNTRACED, 0);
    say!(o, "parent {} {}", r.0 == i64::from(a), trap_text(st));
    k!(SYS_kill, a, SIGCONT);
    let r = k!(SYS_wait4, a, &mut st, WCONTINUED, 0);
    say!(o, "parent {} {}", r.0 == i64::from(a), trap_text(st));
    write(say_heard, b"x");
    tell!(o, "tracer" => wait_text(tracer), "end" => finish(a));
    for fd in [turn, give, ready, say_ready, heard, say_heard] {
        close(fd);
    }
}

extern "C" fn thread_that_ends_in_turn(_: *mut c_void) -> i32 {
    read(TURN.load(std::sync::atomic::Ordering::SeqCst), 1);
    k!(SYS_exit, 3);
    0
}

fn ptrace_stop_completed_by_an_end(o: Out) {
    // All but one thread have stopped; that one does not, but ends.
    let ((turn, give), (ready, say_ready), (end, say_end)) = (pipe(), pipe(), pipe());
    TURN.store(turn, std::sync::atomic::Ordering::SeqCst);
    let a = child(|| {
        clone_with(THREAD, stack(), thread_that_ends_in_turn);
        loop {
            k!(SYS_pause);
        }
    });
    let t = thread_of(a);
    let tracer = child(|| {
        let at_exit = PTRACE_O_TRACEEXIT as usize;
        tell!(o, "seize" => pt(PTRACE_SEIZE, a, 0, 0), "thread" => pt(PTRACE_SEIZE, t, 0, at_exit));
        write(give, b"x");
        tell!(o, "event" => stop(t), "sent" => k!(SYS_tgkill, a, a, SIGSTOP), "shown" => stop(a), "part" => go(PTRACE_CONT, a, SIGSTOP));
        write(say_ready, b"x");
        read(end, 1);
        tell!(o, "goes on" => go(PTRACE_CONT, t, 0));
        write(say_ready, b"x");
        read(end, 1);
        0
    });
    read(ready, 1);
    let mut st = 0;
    tell!(o, "not yet" => k!(SYS_wait4, a, &mut st, WUNTRACED | WNOHANG, 0));
    write(say_end, b"x");
    read(ready, 1);
    let r = k!(SYS_wait4, a, &mut st, WUNTRACED, 0);
    say!(o, "parent {} {}", r.0 == i64::from(a), trap_text(st));
    write(say_end, b"x");
    tell!(o, "tracer" => wait_text(tracer), "end" => finish(a));
    for fd in [turn, give, ready, say_ready, end, say_end] {
        close(fd);
    }
}
