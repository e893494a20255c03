//! PID namespaces: who is called what in which, how they are made, entered and ended.
//!
//! Numbers inside are the same wherever the case runs; those outside are told only as whether they
//! are what they should be.

use crate::out::Out;
use crate::sys::{self, R, child};
use crate::util::{anon, close, open, pipe, read, status_text, wait_text, write};
use crate::{cases, k, say, tell};
use libc::*;
use std::ffi::CString;

cases!(
    numbers_begin_at_one,
    three_levels,
    unshare_is_for_children,
    unshare_twice,
    no_threads_into_another,
    first_one_ended,
    nested_too_deep,
    end_kills_all,
    end_waits_for_those_of_others,
    end_of_outer_ends_inner,
    orphans,
    subreapers_inside,
    sessions_across,
    nobody_outside_by_number,
    entering,
    entering_children,
    entering_above,
    chosen_numbers,
    numbers_stored_by_clone,
    exec_of_a_thread_keeps_it,
    no_siblings_of_the_first,
);

/// A process in a new PID namespace.
pub(super) fn inside(f: impl FnOnce() -> i32) -> i32 {
    inside_with(0, f)
}

/// The same, with further flags.
fn inside_with(flags: i32, f: impl FnOnce() -> i32) -> i32 {
    let pid = k!(SYS_clone, CLONE_NEWPID | flags | SIGCHLD, 0, 0, 0, 0);
    if pid.0 == 0 {
        let code = f();
        k!(SYS_exit_group, code);
    }
    pid.int()
}

pub(super) fn me() -> i32 {
    k!(SYS_getpid).int()
}

fn parent() -> i32 {
    k!(SYS_getppid).int()
}

pub(super) fn unshare(flags: i32) -> R {
    k!(SYS_unshare, flags)
}

fn ids() -> String {
    format!(
        "pid {} tid {} parent {} group {} session {}",
        me(),
        k!(SYS_gettid),
        parent(),
        k!(SYS_getpgid, 0),
        k!(SYS_getsid, 0)
    )
}

pub(super) fn pause() {
    k!(SYS_pause);
}

/// A procfs of the caller's namespace, mounted where nobody else sees it.
pub(super) fn mount_proc() -> R {
    unshare(CLONE_NEWNS);
    k!(SYS_mount, c"none", c"/", 0, MS_REC | MS_PRIVATE, 0);
    k!(SYS_mkdir, c"proc-inside", 0o755);
    k!(SYS_mount, c"proc", c"proc-inside", c"proc", 0, 0)
}

pub(super) fn block(signal: i32) {
    let set = 1u64 << (signal - 1);
    k!(SYS_rt_sigprocmask, SIG_BLOCK, &set, 0, 8);
}

/// Waits for a blocked signal: its number, code and sender.
pub(super) fn await_signal(signal: i32) -> (i32, i32, i32) {
    let set = 1u64 << (signal - 1);
    let mut info = [0i32; 32];
    let got = k!(SYS_rt_sigtimedwait, &set, &mut info, 0, 8);
    (got.int(), info[2], info[4])
}

fn deeper(o: Out, depth: i32) -> i32 {
    let pid = k!(SYS_clone, CLONE_NEWPID | SIGCHLD, 0, 0, 0, 0);
    if pid.0 == 0 {
        k!(SYS_exit_group, deeper(o, depth + 1));
    }
    if !pid.ok() {
        // Natively the case may begin in a nested one itself.
        say!(o, "deep {} {pid} and {}", depth > 20, unshare(CLONE_NEWPID));
        return 9;
    }
    let mut status = 0;
    k!(SYS_wait4, pid, &mut status, 0, 0);
    WEXITSTATUS(status)
}

/// clone3(2) with numbers asked for.
fn clone_with(flags: i32, wanted: &[i32]) -> R {
    let args = [
        flags as u64,
        0,
        0,
        0,
        SIGCHLD as u64,
        0,
        0,
        0,
        wanted.as_ptr() as u64,
        wanted.len() as u64,
    ];
    k!(SYS_clone3, &args, 80)
}

fn clone_in(o: Out, wanted: &[i32]) -> String {
    let pid = clone_with(0, wanted);
    if pid.0 == 0 {
        say!(o, "  {}", ids());
        k!(SYS_exit_group, 2);
    }
    match pid.ok() {
        true => format!("{pid} {}", wait_text(pid.int())),
        false => pid.to_string(),
    }
}

fn numbers_begin_at_one(o: Out) {
    let pid = inside(|| {
        say!(o, "first {}", ids());
        for _ in 0..2 {
            let other = child(|| {
                say!(o, "other {}", ids());
                7
            });
            say!(o, "made {other} {}", wait_text(other));
        }
        k!(SYS_setsid);
        say!(o, "leads {}", ids());
        3
    });
    let ended = wait_text(pid);
    tell!(o, "outside it is another" => pid > 1, "wait" => ended);
}

fn three_levels(o: Out) {
    let (r, w) = pipe();
    let (r2, w2) = pipe();
    let pid = inside(|| {
        let second = inside(|| {
            let third = inside(|| {
                say!(o, "third {}", ids());
                write(w, b"x");
                read(r2, 1);
                1
            });
            let ended = wait_text(third);
            say!(o, "second {} made {third} {ended}", ids());
            2
        });
        read(r, 1);
        // The third is the third here.
        tell!(o, "first" => ids(), "its group" => k!(SYS_getpgid, 3), "nobody" => k!(SYS_getpgid, 4));
        write(w2, b"x");
        tell!(o, "second" => wait_text(second), "was" => second);
        4
    });
    tell!(o, "wait" => wait_text(pid));
}

fn unshare_is_for_children(o: Out) {
    let pid = child(|| {
        let before = me();
        tell!(o, "unshare" => unshare(CLONE_NEWPID), "same" => me() == before);
        let a = child(|| {
            say!(o, "child {}", ids());
            let b = child(|| {
                say!(o, "grandchild {}", ids());
                0
            });
            say!(o, "{b} {}", wait_text(b));
            0
        });
        tell!(o, "child" => wait_text(a), "more" => k!(SYS_fork).yes());
        0
    });
    say!(o, "{}", wait_text(pid));
}

fn unshare_twice(o: Out) {
    let pid = child(|| {
        tell!(o, "unshare" => unshare(CLONE_NEWPID), "again" => unshare(CLONE_NEWPID), "clone" => k!(SYS_clone, CLONE_NEWPID | SIGCHLD, 0, 0, 0, 0));
        let a = child(|| {
            tell!(o, "inside" => unshare(CLONE_NEWPID), "again" => unshare(CLONE_NEWPID | CLONE_NEWUTS));
            let b = child(|| {
                say!(o, "{}", ids());
                0
            });
            say!(o, "{b} {}", wait_text(b));
            0
        });
        say!(o, "{}", wait_text(a));
        0
    });
    say!(o, "{}", wait_text(pid));
}

fn no_threads_into_another(o: Out) {
    let thread = CLONE_VM | CLONE_SIGHAND | CLONE_THREAD;
    tell!(o, "new" => k!(SYS_clone, thread | CLONE_NEWPID, 0, 0, 0, 0));
    let pid = child(|| {
        unshare(CLONE_NEWPID);
        tell!(o, "thread" => k!(SYS_clone, thread, 0, 0, 0, 0));
        0
    });
    say!(o, "{}", wait_text(pid));
}

fn first_one_ended(o: Out) {
    let pid = child(|| {
        unshare(CLONE_NEWPID);
        let a = child(|| 5);
        tell!(o, "first" => wait_text(a));
        for _ in 0..2 {
            tell!(o, "fork" => k!(SYS_fork));
        }
        tell!(o, "clone" => k!(SYS_clone, CLONE_VFORK | SIGCHLD, 0, 0, 0, 0), "unshare" => unshare(CLONE_NEWPID));
        // One's own, again.
        let own = open(c"/proc/self/ns/pid", O_RDONLY, 0);
        tell!(o, "back" => k!(SYS_setns, own, CLONE_NEWPID));
        let b = child(|| 6);
        tell!(o, "as before" => wait_text(b));
        0
    });
    say!(o, "{}", wait_text(pid));
}

fn nested_too_deep(o: Out) {
    say!(o, "{}", deeper(o, 0));
}

fn end_kills_all(o: Out) {
    let (r, w) = pipe();
    let (r2, w2) = pipe();
    let pid = inside(|| {
        close(r);
        for _ in 0..3 {
            child(|| {
                child(|| {
                    k!(SYS_setsid);
                    write(w2, b"x");
                    loop {
                        pause();
                    }
                });
                write(w2, b"x");
                loop {
                    pause();
                }
            });
        }
        // One that has ended, too.
        child(|| 0);
        for _ in 0..6 {
            read(r2, 1);
        }
        5
    });
    close(w);
    tell!(o, "wait" => wait_text(pid), "nobody has it open" => read(r, 1).0);
}

fn end_waits_for_those_of_others(o: Out) {
    let (r, w) = pipe();
    let (r2, w2) = pipe();
    let first = inside(|| {
        write(w, b"x");
        read(r2, 1);
        4
    });
    read(r, 1);
    let other = child(|| {
        let fd = k!(SYS_pidfd_open, first, 0);
        tell!(o, "enter" => k!(SYS_setns, fd, CLONE_NEWPID));
        let inner = child(|| {
            say!(o, "{}", ids());
            write(w, b"x");
            loop {
                pause();
            }
        });
        read(r, 1);
        write(w2, b"x");
        // It is killed, and its namespace's first process waits for us to wait for it.
        let mut info = [0i32; 32];
        k!(SYS_waitid, P_PID, inner, &mut info, WEXITED | WNOWAIT, 0);
        let mut st = 0;
        let early = k!(SYS_kill, first, 0);
        say!(o, "code {} status {} still there {early}", info[2], info[6]);
        say!(
            o,
            "{}",
            k!(SYS_wait4, inner, &mut st, 0, 0).0 == i64::from(inner)
        );
        say!(o, "{} fork {}", status_text(st), k!(SYS_fork));
        0
    });
    tell!(o, "other" => wait_text(other), "first" => wait_text(first));
}

fn end_of_outer_ends_inner(o: Out) {
    let (r, w) = pipe();
    let (r2, w2) = pipe();
    let pid = inside(|| {
        close(r);
        inside(|| {
            inside(|| {
                write(w2, b"x");
                loop {
                    pause();
                }
            });
            loop {
                pause();
            }
        });
        read(r2, 1);
        6
    });
    close(w);
    tell!(o, "wait" => wait_text(pid), "nobody has it open" => read(r, 1).0);
}

fn orphans(o: Out) {
    let (r, w) = pipe();
    let pid = inside(|| {
        let a = child(|| {
            child(|| {
                // Until its parent is gone.
                while parent() != 1 {
                    k!(SYS_sched_yield);
                }
                say!(o, "orphan {}", ids());
                write(w, b"x");
                3
            });
            0
        });
        let maker = wait_text(a);
        read(r, 1);
        let mut st = 0;
        tell!(o, "parent" => maker, "inherited" => k!(SYS_wait4, -1, &mut st, 0, 0), "status" => status_text(st), "none" => k!(SYS_wait4, -1, &mut st, 0, 0));
        0
    });
    say!(o, "{}", wait_text(pid));
    // One whose parent was outside goes to the outside.
    let (r2, w2) = pipe();
    let reaper = child(|| {
        k!(SYS_prctl, PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
        let a = child(|| {
            inside(|| {
                write(w, b"x");
                read(r2, 1);
                say!(o, "inside {}", ids());
                9
            });
            read(r, 1);
            0
        });
        let maker = wait_text(a);
        write(w2, b"x");
        let mut st = 0;
        let inherited = k!(SYS_wait4, -1, &mut st, 0, 0).yes();
        tell!(o, "maker" => maker, "inherited" => inherited, "status" => status_text(st));
        0
    });
    say!(o, "{}", wait_text(reaper));
}

fn subreapers_inside(o: Out) {
    // A child whose child outlives it, and who that one's parent is then.
    let orphaned = || {
        let a = child(|| {
            let maker = me();
            child(|| {
                while parent() == maker {
                    k!(SYS_sched_yield);
                }
                say!(o, "orphan {}", ids());
                3
            });
            0
        });
        let mut st = 0;
        let maker = wait_text(a);
        let inherited = k!(SYS_wait4, -1, &mut st, 0, 0);
        tell!(o, "maker" => maker, "inherited" => inherited, "status" => status_text(st));
    };
    let reaper = child(|| {
        k!(SYS_prctl, PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
        let pid = inside(|| {
            let sub = child(|| {
                k!(SYS_prctl, PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
                orphaned();
                0
            });
            say!(o, "{}", wait_text(sub));
            // Not to the one outside.
            orphaned();
            0
        });
        tell!(o, "first" => wait_text(pid), "nobody else" => k!(SYS_wait4, -1, 0, 0, 0));
        0
    });
    say!(o, "{}", wait_text(reaper));
}

fn sessions_across(o: Out) {
    let (r, w) = pipe();
    let (r2, w2) = pipe();
    let pid = inside(|| {
        tell!(o, "outside" => k!(SYS_getsid, 0), "new" => k!(SYS_setsid), "is" => ids(), "again" => k!(SYS_setsid));
        let other = child(|| {
            say!(o, "child {} new {} then {}", ids(), k!(SYS_setsid), ids());
            0
        });
        say!(o, "{}", wait_text(other));
        write(w, b"x");
        read(r2, 1);
        0
    });
    read(r, 1);
    tell!(o, "from outside" => k!(SYS_getsid, pid).0 == i64::from(pid), "go" => write(w2, b"x"), "wait" => wait_text(pid));
}

fn nobody_outside_by_number(o: Out) {
    let outside = me();
    let pid = inside(|| {
        // Numbers that mean somebody outside mean nobody here.
        let who = outside.max(300);
        let mut limit = [0u64; 2];
        let mut header = [0x2008_0522u32, who as u32];
        let mut caps = [0u32; 6];
        tell!(o, "kill" => k!(SYS_kill, who, 0), "group" => k!(SYS_kill, -who, 0), "tkill" => k!(SYS_tkill, who, 0), "tgkill" => k!(SYS_tgkill, who, who, 0), "queue" => k!(SYS_rt_sigqueueinfo, who, SIGUSR1, anon(4096)));
        tell!(o, "getpgid" => k!(SYS_getpgid, who), "getsid" => k!(SYS_getsid, who), "setpgid" => k!(SYS_setpgid, who, 0), "into" => k!(SYS_setpgid, 0, who), "pidfd" => k!(SYS_pidfd_open, who, 0));
        tell!(o, "limits" => k!(SYS_prlimit64, who, RLIMIT_NOFILE, 0, &mut limit), "priority" => k!(SYS_getpriority, PRIO_PROCESS, who), "of group" => k!(SYS_getpriority, PRIO_PGRP, who), "scheduler" => k!(SYS_sched_getscheduler, who), "affinity" => k!(SYS_sched_getaffinity, who, 8, &mut limit));
        tell!(o, "capabilities" => k!(SYS_capget, &mut header, &mut caps), "compare" => k!(SYS_kcmp, who, who, 0, 0, 0), "memory" => k!(SYS_process_vm_readv, who, 0, 0, 0, 0, 0), "robust" => k!(SYS_get_robust_list, who, &mut limit, &mut caps), "io" => k!(SYS_ioprio_get, 1, who));
        let file = open(c"/dev/null", O_RDONLY, 0).int();
        tell!(o, "owner" => k!(SYS_fcntl, file, F_SETOWN, who), "of group" => k!(SYS_fcntl, file, F_SETOWN, -who), "wait" => k!(SYS_wait4, who, 0, 0, 0), "waitid" => k!(SYS_waitid, P_PID, who, 0, WEXITED, 0));
        let clock = !(who as i64) << 3 | 2;
        let mut time = [0i64; 2];
        tell!(o, "clock" => k!(SYS_clock_gettime, clock, &mut time), "resolution" => k!(SYS_clock_getres, clock, &mut time));
        0
    });
    say!(o, "{}", wait_text(pid));
}

fn entering(o: Out) {
    let (r, w) = pipe();
    let (r2, w2) = pipe();
    let first = inside(|| {
        write(w, b"x");
        read(r2, 1);
        block(SIGUSR1);
        say!(o, "first hears {:?}", await_signal(SIGUSR1));
        0
    });
    read(r, 1);
    for by_pidfd in [false, true] {
        let pid = child(|| {
            let before = me();
            let path = CString::new(format!("/proc/{first}/ns/pid")).unwrap_or_default();
            let fd = match by_pidfd {
                false => open(&path, O_RDONLY, 0),
                true => k!(SYS_pidfd_open, first, 0),
            };
            tell!(o, "enter" => k!(SYS_setns, fd, CLONE_NEWPID), "still" => me() == before);
            let inner = child(|| {
                say!(o, "inner {}", ids());
                let next = child(|| {
                    say!(o, "next {}", ids());
                    0
                });
                say!(o, "{next} {}", wait_text(next));
                0
            });
            let ended = wait_text(inner);
            tell!(o, "seen from outside" => inner > 3, "wait" => ended, "new below" => unshare(CLONE_NEWPID));
            0
        });
        say!(o, "{}", wait_text(pid));
    }
    write(w2, b"x");
    let pid = child(|| {
        let fd = k!(SYS_pidfd_open, first, 0);
        k!(SYS_setns, fd, CLONE_NEWPID);
        let inner = child(|| {
            // It has to have blocked it.
            while k!(SYS_kill, 1, SIGUSR1).ok() {
                k!(SYS_sched_yield);
            }
            0
        });
        wait_text(inner);
        0
    });
    let first = wait_text(first);
    tell!(o, "first" => first, "last" => wait_text(pid));
}

fn entering_children(o: Out) {
    let pid = child(|| {
        unshare(CLONE_NEWPID);
        let own = open(c"/proc/self/ns/pid", O_RDONLY, 0);
        tell!(o, "not begun" => open(c"/proc/self/ns/pid_for_children", O_RDONLY, 0), "text" => k!(SYS_readlinkat, AT_FDCWD, c"/proc/self/ns/pid_for_children", anon(4096), 100));
        let (r, w) = pipe();
        let first = child(|| {
            read(r, 1);
            0
        });
        let fd = open(c"/proc/self/ns/pid_for_children", O_RDONLY, 0);
        tell!(o, "begun" => fd.yes(), "back" => k!(SYS_setns, own, 0), "there" => k!(SYS_setns, fd, 0));
        let second = child(|| {
            say!(o, "{}", ids());
            0
        });
        tell!(o, "second" => wait_text(second), "go" => write(w, b"x"), "first" => wait_text(first));
        tell!(o, "once more" => k!(SYS_setns, fd, CLONE_NEWPID), "fork" => k!(SYS_fork), "back" => k!(SYS_setns, own, CLONE_NEWPID));
        0
    });
    say!(o, "{}", wait_text(pid));
}

fn entering_above(o: Out) {
    let above = open(c"/proc/self/ns/pid", O_RDONLY, 0);
    let outside = k!(SYS_pidfd_open, me(), 0);
    let pid = inside(|| {
        tell!(o, "by file" => k!(SYS_setns, above, CLONE_NEWPID), "by process" => k!(SYS_setns, outside, CLONE_NEWPID), "its names" => k!(SYS_setns, outside, CLONE_NEWUTS));
        0
    });
    say!(o, "{}", wait_text(pid));
}

fn chosen_numbers(o: Out) {
    let made = |wanted: &[i32], flags: i32| {
        let pid = clone_with(flags, wanted);
        if pid.0 == 0 {
            say!(o, "  {}", ids());
            k!(SYS_exit_group, 2);
        }
        match pid.ok() {
            true => format!("{} {}", pid.int() > 0, wait_text(pid.int())),
            false => pid.to_string(),
        }
    };
    tell!(o, "first" => made(&[1], CLONE_NEWPID), "not the first" => made(&[7], CLONE_NEWPID), "zero" => made(&[0], CLONE_NEWPID), "too many" => made(&[1, 0, 0], CLONE_NEWPID), "too large" => made(&[0x40_0000], CLONE_NEWPID));
    let pid = inside(|| {
        tell!(o, "inside" => clone_in(o, &[500]), "then" => clone_in(o, &[]), "taken" => clone_in(o, &[1]), "below" => clone_in(o, &[300]));
        let low = clone_with(CLONE_NEWPID, &[1, 77]);
        if low.0 == 0 {
            say!(o, "deep {}", ids());
            k!(SYS_exit_group, 2);
        }
        let ended = wait_text(low.int());
        tell!(o, "both" => low, "wait" => ended, "many" => clone_with(CLONE_NEWPID, &[1; 33]));
        k!(SYS_setgid, 1000);
        k!(SYS_setuid, 1000);
        tell!(o, "without privilege" => clone_with(0, &[600]), "wrong" => clone_with(0, &[0]), "taken" => clone_with(0, &[1]));
        0
    });
    say!(o, "{}", wait_text(pid));
}

fn numbers_stored_by_clone(o: Out) {
    let at = anon(4096);

    let pid = k!(
        SYS_clone,
        CLONE_NEWPID | CLONE_PARENT_SETTID | CLONE_CHILD_SETTID | SIGCHLD,
        0,
        at,
        at + 4,
        0
    );
    if pid.0 == 0 {
        say!(
            o,
            "child's word {}",
            sys::word(at + 4).load(std::sync::atomic::Ordering::SeqCst)
        );
        let inner = k!(
            SYS_clone,
            CLONE_PARENT_SETTID | CLONE_CHILD_SETTID | SIGCHLD,
            0,
            at,
            at + 4,
            0
        );
        if inner.0 == 0 {
            say!(
                o,
                "grandchild's {}",
                sys::word(at + 4).load(std::sync::atomic::Ordering::SeqCst)
            );
            k!(SYS_exit_group, 0);
        }
        say!(
            o,
            "told {} {}",
            sys::word(at).load(std::sync::atomic::Ordering::SeqCst),
            wait_text(inner.int())
        );
        k!(SYS_exit_group, 0);
    }
    let word = sys::word(at).load(std::sync::atomic::Ordering::SeqCst);
    let ended = wait_text(pid.int());
    tell!(o, "parent's word" => i64::from(word) == pid.0, "wait" => ended);
}

fn exec_of_a_thread_keeps_it(o: Out) {
    let pid = inside(|| {
        let other = child(|| {
            let tid = std::thread::spawn(|| k!(SYS_gettid).0).join();
            say!(o, "thread {tid:?} of {}", me());
            let _ = std::thread::spawn(|| {
                let argv = [
                    c"p".as_ptr(),
                    c"--child".as_ptr(),
                    c"thread-pid".as_ptr(),
                    std::ptr::null(),
                ];
                k!(SYS_execve, c"/proc/self/exe", &argv, 0);
            })
            .join();
            77
        });
        say!(o, "{other} {}", wait_text(other));
        0
    });
    say!(o, "{}", wait_text(pid));
}

fn no_siblings_of_the_first(o: Out) {
    let pid = inside(|| {
        let sibling = || {
            let r = k!(SYS_clone, CLONE_PARENT | SIGCHLD, 0, 0, 0, 0);
            if r.0 == 0 {
                say!(o, "sibling {}", ids());
                k!(SYS_exit_group, 0);
            }
            r
        };
        tell!(o, "of the first" => sibling());
        let other = child(|| sibling().int());
        let ended = [other, 3].map(wait_text);
        tell!(o, "made" => ended[0], "it" => ended[1]);
        0
    });
    say!(o, "{}", wait_text(pid));
}
