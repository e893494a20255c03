//! Process groups and sessions.

use crate::out::Out;
use crate::sys::child;
use crate::util::{in_child, pipe, read, sleep_ms, wait_text, write};
use crate::{cases, k, sys, tell};
use libc::*;

cases!(
    groups_of_children,
    group_errors,
    sessions,
    session_errors,
    signal_to_group,
    signal_to_all,
    orphaned_group_is_hung_up,
    stop_signals_of_orphans,
    group_after_leader_exit,
);

fn groups_of_children(o: Out) {
    let me = k!(SYS_getpgrp);
    let a = child(|| {
        k!(SYS_pause);
        0
    });
    tell!(o, "inherits" => k!(SYS_getpgid, a) == me, "own" => k!(SYS_setpgid, a, a), "now" => k!(SYS_getpgid, a).0 == i64::from(a));
    let b = child(|| {
        k!(SYS_pause);
        0
    });
    tell!(o, "join" => k!(SYS_setpgid, b, a), "now" => k!(SYS_getpgid, b).0 == i64::from(a), "back" => k!(SYS_setpgid, b, me), "kill group" => k!(SYS_kill, -a, SIGTERM), "a" => wait_text(a));
    k!(SYS_kill, b, SIGKILL);
    wait_text(b);
}

fn group_errors(o: Out) {
    let a = child(|| {
        k!(SYS_setsid);
        k!(SYS_pause);
        0
    });
    sleep_ms(60);
    tell!(o, "other session" => k!(SYS_setpgid, a, 0), "negative" => k!(SYS_setpgid, 0, -5), "not mine" => k!(SYS_setpgid, 1, 0), "no such group" => k!(SYS_setpgid, 0, 999_999), "nobody" => k!(SYS_setpgid, 999_999, 0));
    k!(SYS_kill, a, SIGKILL);
    wait_text(a);
    let (r, w) = pipe();
    let b = child(|| {
        sys::call(
            SYS_execve,
            &[
                c"/proc/self/exe".as_ptr() as usize,
                [
                    c"p".as_ptr(),
                    c"--child".as_ptr(),
                    c"none".as_ptr(),
                    std::ptr::null(),
                ]
                .as_ptr() as usize,
                0,
            ],
        );
        write(w, b"x");
        0
    });
    let _ = (r, wait_text(b));
}

fn sessions(o: Out) {
    in_child(|| {
        let me = k!(SYS_getpid);
        tell!(o, "setsid" => k!(SYS_setsid) == me, "sid" => k!(SYS_getsid, 0) == me, "pgid" => k!(SYS_getpgrp) == me, "again" => k!(SYS_setsid), "child's" => in_child(|| i32::from(k!(SYS_getsid, 0) == me)), "no terminal" => crate::util::open(c"/dev/tty", O_RDWR, 0));
        0
    });
}

fn session_errors(o: Out) {
    tell!(o, "leader" => k!(SYS_setsid), "leader moves" => in_child(|| { k!(SYS_setsid); -k!(SYS_setpgid, 0, 0).0 as i32 }), "getpgid 0" => k!(SYS_getpgid, 0) == k!(SYS_getpid));
}

fn signal_to_group(o: Out) {
    let (r, w) = pipe();
    sys::on(SIGUSR1, 0);
    let kids: Vec<i32> = (0..3)
        .map(|_| {
            child(|| {
                write(w, b"r");
                k!(SYS_pause);
                sys::count(SIGUSR1)
            })
        })
        .collect();
    for _ in 0..3 {
        read(r, 1);
    }
    sleep_ms(50);
    tell!(o, "kill 0" => k!(SYS_kill, 0, SIGUSR1), "me too" => sys::count(SIGUSR1));
    for p in kids {
        tell!(o, "child" => wait_text(p));
    }
    tell!(o, "empty group" => k!(SYS_kill, -999_999, 0));
}

fn signal_to_all(o: Out) {
    let a = child(|| {
        k!(SYS_setresuid, 1000, 1000, 1000);
        let b = child(|| {
            k!(SYS_pause);
            0
        });
        sleep_ms(30);
        sys::set_handler(SIGTERM, SIG_IGN, 0);
        k!(SYS_kill, -1, SIGTERM);
        i32::from(wait_text(b) == "killed by SIGTERM")
    });
    tell!(o, "kill -1 as user" => wait_text(a));
}

fn orphaned_group_is_hung_up(o: Out) {
    let (r, w) = pipe();
    // In a session of its own: init's must not be the same.
    let mid = child(|| {
        k!(SYS_setsid);
        let g = child(|| {
            k!(SYS_setpgid, 0, 0);
            sys::on(SIGHUP, 0);
            sys::on(SIGCONT, 0);
            write(w, b"r");
            k!(SYS_kill, k!(SYS_getpid), SIGSTOP);
            for _ in 0..20 {
                if sys::count(SIGHUP) > 0 {
                    break;
                }
                sleep_ms(10);
            }
            let text = format!("hup {} cont {}", sys::count(SIGHUP), sys::count(SIGCONT));
            write(w, text.as_bytes());
            0
        });
        read(r, 1);
        let mut st = 0;
        k!(SYS_wait4, g, &mut st, WUNTRACED, 0);
        0
    });
    tell!(o, "middle" => wait_text(mid), "orphan" => read(r, 20).1);
}

fn stop_signals_of_orphans(o: Out) {
    // A group whose members have no parent in the session cannot be stopped
    // from the keyboard.
    let s = in_child(|| {
        k!(SYS_setsid);
        k!(SYS_kill, k!(SYS_getpid), SIGTSTP);
        k!(SYS_kill, k!(SYS_getpid), SIGTTIN);
        k!(SYS_kill, k!(SYS_getpid), SIGTTOU);
        7
    });
    tell!(o, "went on" => s);
}

fn group_after_leader_exit(o: Out) {
    let (r, w) = pipe();
    let leader = child(|| {
        k!(SYS_setpgid, 0, 0);
        child(|| {
            write(w, b"r");
            k!(SYS_pause);
            0
        });
        read(r, 1);
        0
    });
    tell!(o, "leader" => wait_text(leader), "group lives" => k!(SYS_kill, -leader, 0), "kill" => k!(SYS_kill, -leader, SIGKILL));
    sleep_ms(80);
    tell!(o, "gone" => k!(SYS_kill, -leader, 0));
}
