//! Filters and strict mode over the life of tasks: fork, exec, threads, the end.

use super::seccomp::{ALLOW, answer, install, install_with, mode, no_new_privs, status};
use crate::out::Out;
use crate::sys::R;
use crate::util::{in_child, pipe, read, wait_text, write};
use crate::{cases, k, say, sys, tell};
use libc::*;
use std::sync::atomic::{AtomicI32, Ordering::SeqCst};
use std::sync::{Arc, Barrier};
use std::thread;

cases!(
    seccomp_inherited,
    seccomp_kept_over_exec,
    seccomp_strict_mode,
    seccomp_strict_threads,
    seccomp_threads_apart,
    seccomp_threads_together,
    seccomp_kill_one_thread,
    seccomp_no_new_privileges,
    seccomp_restarted_call,
);

fn seccomp_inherited(o: Out) {
    install(&answer(SYS_getppid, SECCOMP_RET_ERRNO | 40));
    in_child(|| {
        tell!(o, "child" => k!(SYS_getppid), "status" => status(), "its own" => install(&answer(SYS_getppid, SECCOMP_RET_ERRNO | 41)), "now" => k!(SYS_getppid), "status now" => status());
        in_child(|| {
            tell!(o, "grandchild" => k!(SYS_getppid), "status" => status());
            0
        });
        0
    });
    tell!(o, "parent" => k!(SYS_getppid), "status" => status());
    let t = thread::spawn(|| (k!(SYS_getppid), status()));
    if let Ok((r, s)) = t.join() {
        tell!(o, "thread" => r, "its status" => s);
    }
}

fn seccomp_kept_over_exec(o: Out) {
    let (r, w) = pipe();
    install(&answer(SYS_getpid, SECCOMP_RET_ERRNO | 42));
    let pid = sys::child(|| {
        k!(SYS_dup2, w, 1);
        let argv = [
            c"probes".as_ptr(),
            c"--child".as_ptr(),
            c"pid".as_ptr(),
            std::ptr::null(),
        ];
        let envp = [std::ptr::null::<c_char>()];
        k!(SYS_execve, c"/proc/self/exe", argv.as_ptr(), envp.as_ptr());
        9
    });
    k!(SYS_close, w);
    tell!(o, "said" => read(r, 100).1, "ended" => wait_text(pid));
    let how = in_child(|| {
        install(&answer(SYS_execve, SECCOMP_RET_ERRNO | 13));
        let argv = [c"probes".as_ptr(), std::ptr::null()];
        tell!(o, "no exec" => k!(SYS_execve, c"/proc/self/exe", argv.as_ptr(), 0));
        7
    });
    tell!(o, "went on" => how);
}

fn seccomp_strict_mode(o: Out) {
    let strict = || k!(SYS_seccomp, SECCOMP_SET_MODE_STRICT, 0, 0);
    let by_prctl = || {
        k!(
            SYS_prctl,
            PR_SET_SECCOMP,
            SECCOMP_MODE_STRICT,
            16usize,
            5,
            5
        )
    };
    let (r, w) = pipe();
    let run = |enter: &dyn Fn() -> R, then: &dyn Fn()| {
        in_child(|| {
            if !enter().ok() {
                return 90;
            }
            then();
            k!(SYS_exit, 33);
            0
        })
    };
    tell!(o, "exit" => run(&strict, &|| {}), "by prctl" => run(&by_prctl, &|| {}), "write" => run(&strict, &|| { write(w, b"yes"); }), "came" => read(r, 3).1, "exit_group" => run(&strict, &|| { k!(SYS_exit_group, 1); }), "getpid" => run(&strict, &|| { k!(SYS_getpid); }), "unknown call" => run(&strict, &|| { sys::call(9999, &[]); }), "prctl" => run(&strict, &|| { mode(); }));
    let status_of = in_child(|| {
        let (r, w) = pipe();
        let pid = sys::child(|| {
            strict();
            let mut byte = [0u8];
            k!(SYS_read, r, &mut byte, 1);
            k!(SYS_exit, 5);
            0
        });
        // Once it waits, it is confined.
        let path = format!("/proc/{pid}/status");
        let of = || std::fs::read_to_string(&path).unwrap_or_default();
        while !of().contains("Seccomp:\t1") {
            thread::yield_now();
        }
        let lines: Vec<String> = of()
            .lines()
            .filter(|l| l.starts_with("Seccomp"))
            .map(|l| l.replace('\t', ""))
            .collect();
        say!(o, "status: {}", lines.join(" "));
        write(w, b"x");
        say!(o, "ended: {}", wait_text(pid));
        0
    });
    tell!(o, "watcher" => status_of);
}

/// Waits until the caller is the only thread of its process.
fn until_alone() {
    let tasks = || std::fs::read_dir("/proc/self/task").map_or(0, Iterator::count);
    while tasks() > 1 {
        thread::yield_now();
    }
}

fn seccomp_strict_threads(o: Out) {
    let how = in_child(|| {
        let t = thread::spawn(|| {
            k!(SYS_seccomp, SECCOMP_SET_MODE_STRICT, 0, 0);
            k!(SYS_getpid);
        });
        // It is gone without a word: its join never comes.
        until_alone();
        std::mem::forget(t);
        4
    });
    tell!(o, "process" => how);
}

fn seccomp_threads_apart(o: Out) {
    no_new_privs();
    let (up, down) = (Arc::new(Barrier::new(2)), Arc::new(Barrier::new(2)));
    let (up2, down2) = (up.clone(), down.clone());
    let tid = Arc::new(AtomicI32::new(0));
    let tid2 = tid.clone();
    let t = thread::spawn(move || {
        tid2.store(k!(SYS_gettid).int(), SeqCst);
        let own = install_with(&answer(SYS_getppid, SECCOMP_RET_ERRNO | 20), 0);
        up2.wait();
        down2.wait();
        (own, k!(SYS_getppid), k!(SYS_getpgrp).ok(), status())
    });
    up.wait();
    let p = answer(SYS_getpgrp, SECCOMP_RET_ERRNO | 21);
    let sync = install_with(&p, SECCOMP_FILTER_FLAG_TSYNC);
    tell!(o, "the other's only" => k!(SYS_getppid).ok(), "is told which" => sync == R(i64::from(tid.load(SeqCst))), "or an error" => install_with(&p, SECCOMP_FILTER_FLAG_TSYNC | SECCOMP_FILTER_FLAG_TSYNC_ESRCH), "not installed" => k!(SYS_getpgrp).ok(), "status" => status());
    down.wait();
    if let Ok((own, ppid, pgrp, status)) = t.join() {
        tell!(o, "own" => own, "its ppid" => ppid, "its pgrp" => pgrp, "its status" => status);
    }
}

fn seccomp_threads_together(o: Out) {
    no_new_privs();
    tell!(o, "before" => install_with(&answer(SYS_getppid, SECCOMP_RET_ERRNO | 22), 0));
    let barriers: Vec<_> = (0..2).map(|_| Arc::new(Barrier::new(4))).collect();
    let threads: Vec<_> = (0..3)
        .map(|_| {
            let b = barriers.clone();
            thread::spawn(move || {
                b[0].wait();
                b[1].wait();
                (k!(SYS_getppid), k!(SYS_getpgrp), status())
            })
        })
        .collect();
    barriers[0].wait();
    let p = answer(SYS_getpgrp, SECCOMP_RET_ERRNO | 23);
    tell!(o, "all" => install_with(&p, SECCOMP_FILTER_FLAG_TSYNC));
    barriers[1].wait();
    for t in threads {
        if let Ok((ppid, pgrp, status)) = t.join() {
            say!(o, "{ppid} {pgrp} {status}");
        }
    }
    tell!(o, "alone" => install_with(&p, SECCOMP_FILTER_FLAG_TSYNC | SECCOMP_FILTER_FLAG_TSYNC_ESRCH | SECCOMP_FILTER_FLAG_LOG | SECCOMP_FILTER_FLAG_SPEC_ALLOW), "status" => status());
}

fn seccomp_kill_one_thread(o: Out) {
    let how = in_child(|| {
        let t = thread::spawn(|| {
            install(&answer(SYS_getppid, SECCOMP_RET_KILL_THREAD));
            k!(SYS_getppid);
        });
        until_alone();
        std::mem::forget(t);
        4
    });
    tell!(o, "the rest" => how);
    let how = in_child(|| {
        let t = thread::spawn(|| {
            install(&answer(SYS_getppid, SECCOMP_RET_KILL_PROCESS));
            k!(SYS_getppid);
        });
        let _never = t.join();
        4
    });
    tell!(o, "all" => how);
    let how = in_child(|| {
        let t = thread::spawn(|| {
            install(&answer(SYS_getppid, SECCOMP_RET_TRAP));
            k!(SYS_getppid);
        });
        let _never = t.join();
        4
    });
    tell!(o, "trap" => how);
}

fn seccomp_no_new_privileges(o: Out) {
    let privs = || k!(SYS_prctl, PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0);
    let (up, down) = (Arc::new(Barrier::new(2)), Arc::new(Barrier::new(2)));
    let (up2, down2) = (up.clone(), down.clone());
    let t = thread::spawn(move || {
        up2.wait();
        down2.wait();
        (privs(), status())
    });
    up.wait();
    tell!(o, "set" => no_new_privs(), "filter for all" => install_with(&answer(SYS_getppid, ALLOW), SECCOMP_FILTER_FLAG_TSYNC));
    down.wait();
    if let Ok((p, s)) = t.join() {
        tell!(o, "the other thread" => p, "its status" => s);
    }
}

fn seccomp_restarted_call(o: Out) {
    // A stopped and continued sleep goes on by restart_syscall, which is a call of its own.
    let how = in_child(|| {
        let pid = sys::child(|| {
            install(&answer(SYS_restart_syscall, SECCOMP_RET_ERRNO | 44));
            let t = timespec {
                tv_sec: 20,
                tv_nsec: 0,
            };
            let r = k!(SYS_nanosleep, &t, 0);
            say!(o, "sleep: {}", r);
            0
        });
        let state = || {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            stat.rsplit(") ").next().and_then(|s| s.chars().next())
        };
        let confined = || {
            let status = std::fs::read_to_string(format!("/proc/{pid}/status"));
            status.unwrap_or_default().contains("Seccomp:\t2")
        };
        while !(confined() && state() == Some('S')) {
            thread::yield_now();
        }
        k!(SYS_kill, pid, SIGSTOP);
        while state() != Some('T') {
            thread::yield_now();
        }
        k!(SYS_kill, pid, SIGCONT);
        say!(o, "ended: {}", wait_text(pid));
        0
    });
    tell!(o, "watcher" => how);
}
