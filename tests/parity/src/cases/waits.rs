//! Waiting for children in all its forms.

use crate::out::Out;
use crate::sys::child;
use crate::util::{bit, mask, sleep_ms, status_text, wait_text};
use crate::{cases, k, say, sys, tell};
use libc::*;

cases!(
    wait_any_and_one,
    wait_nohang,
    wait_errors,
    wait_by_group,
    wait_stopped_and_continued,
    waitid_fields,
    waitid_nowait,
    waitid_options,
    waitid_stopped,
    wait_for_grandchild,
    wait_interrupted,
    wait_restarted,
    children_ignored,
    children_no_wait_flag,
    sigchld_fields,
    sigchld_no_stop,
    zombie_can_be_signalled,
    wait_pidfd,
);

fn wait_any_and_one(o: Out) {
    let a = child(|| {
        sleep_ms(50);
        1
    });
    let b = child(|| 2);
    let mut st = 0;
    tell!(o, "one" => k!(SYS_wait4, a, &mut st, 0, 0).0 == i64::from(a), "status" => status_text(st), "any" => k!(SYS_wait4, -1, &mut st, 0, 0).0 == i64::from(b), "status" => status_text(st), "none" => k!(SYS_wait4, -1, &mut st, 0, 0));
}

fn wait_nohang(o: Out) {
    let a = child(|| {
        k!(SYS_pause);
        0
    });
    let mut st = 77;
    tell!(o, "nothing yet" => k!(SYS_wait4, a, &mut st, WNOHANG, 0), "untouched" => st, "kill" => k!(SYS_kill, a, SIGTERM));
    sleep_ms(100);
    tell!(o, "there" => k!(SYS_wait4, -1, &mut st, WNOHANG, 0).0 == i64::from(a), "status" => status_text(st), "none" => k!(SYS_wait4, -1, &mut st, WNOHANG, 0));
}

fn wait_errors(o: Out) {
    let a = child(|| {
        sleep_ms(30);
        0
    });
    tell!(o, "not mine" => k!(SYS_wait4, 1, 0, 0, 0), "nobody" => k!(SYS_wait4, 999_999, 0, 0, 0), "options" => k!(SYS_wait4, a, 0, 0x10, 0), "int min" => k!(SYS_wait4, i32::MIN, 0, 0, 0), "bad pointer" => k!(SYS_wait4, a, 8usize, 0, 0), "reaped though" => k!(SYS_wait4, a, 0, 0, 0));
}

fn wait_by_group(o: Out) {
    let a = child(|| {
        k!(SYS_setpgid, 0, 0);
        sleep_ms(60);
        1
    });
    let b = child(|| 2);
    k!(SYS_setpgid, a, a);
    let mut st = 0;
    tell!(o, "group of a" => k!(SYS_wait4, -a, &mut st, 0, 0).0 == i64::from(a), "status" => status_text(st), "own group" => k!(SYS_wait4, 0, &mut st, 0, 0).0 == i64::from(b), "status" => status_text(st), "empty group" => k!(SYS_wait4, -a, &mut st, 0, 0));
}

fn wait_stopped_and_continued(o: Out) {
    let a = child(|| {
        loop {
            k!(SYS_pause);
        }
    });
    let mut st = 0;
    for s in [SIGSTOP, SIGTSTP, SIGTTIN] {
        k!(SYS_kill, a, s);
        let r = k!(SYS_wait4, a, &mut st, WUNTRACED, 0);
        say!(o, "{} {}", r.0 == i64::from(a), status_text(st));
        tell!(o, "once" => k!(SYS_wait4, a, &mut st, WUNTRACED | WNOHANG, 0));
        k!(SYS_kill, a, SIGCONT);
        let r = k!(SYS_wait4, a, &mut st, WCONTINUED, 0);
        say!(o, "{} {}", r.0 == i64::from(a), status_text(st));
    }
    k!(SYS_kill, a, SIGSTOP);
    k!(SYS_wait4, a, &mut st, WUNTRACED, 0);
    k!(SYS_kill, a, SIGKILL);
    tell!(o, "killed while stopped" => wait_text(a));
}

fn info_text(i: &siginfo_t, pid: i32) -> String {
    sys::child_info(i, pid)
}

fn waitid_fields(o: Out) {
    for (what, code) in [("exit", 0), ("kill", SIGTERM)] {
        let a = child(|| {
            if code != 0 {
                k!(SYS_kill, k!(SYS_getpid), code);
            }
            3
        });
        let mut i: siginfo_t = sys::zeroed();
        let r = k!(SYS_waitid, P_PID, a, &mut i, WEXITED, 0);
        say!(o, "{what} {r} {}", info_text(&i, a));
    }
}

fn waitid_nowait(o: Out) {
    let a = child(|| 8);
    let mut i: siginfo_t = sys::zeroed();
    tell!(o, "peek" => k!(SYS_waitid, P_PID, a, &mut i, WEXITED | WNOWAIT, 0), "info" => info_text(&i, a), "still there" => wait_text(a), "gone" => k!(SYS_waitid, P_PID, a, &mut i, WEXITED, 0));
}

fn waitid_options(o: Out) {
    let a = child(|| {
        k!(SYS_pause);
        0
    });
    let mut i: siginfo_t = sys::zeroed();
    i.si_signo = 55;
    tell!(o, "none" => k!(SYS_waitid, P_PID, a, &mut i, 0, 0), "idtype" => k!(SYS_waitid, 9, a, &mut i, WEXITED, 0), "unknown" => k!(SYS_waitid, P_PID, a, &mut i, WEXITED | 0x100, 0), "nohang" => k!(SYS_waitid, P_PID, a, &mut i, WEXITED | WNOHANG, 0), "signo cleared" => i.si_signo, "pid 0" => k!(SYS_waitid, P_PID, 0, &mut i, WEXITED, 0));
    k!(SYS_kill, a, SIGKILL);
    tell!(o, "all" => k!(SYS_waitid, P_ALL, 0, &mut i, WEXITED, 0), "info" => info_text(&i, a), "null info" => k!(SYS_waitid, P_ALL, 0, 0, WEXITED, 0));
}

fn waitid_stopped(o: Out) {
    let a = child(|| {
        loop {
            k!(SYS_pause);
        }
    });
    let mut i: siginfo_t = sys::zeroed();
    k!(SYS_kill, a, SIGSTOP);
    tell!(o, "stopped" => k!(SYS_waitid, P_PID, a, &mut i, WSTOPPED, 0), "info" => info_text(&i, a));
    k!(SYS_kill, a, SIGCONT);
    tell!(o, "continued" => k!(SYS_waitid, P_PID, a, &mut i, WCONTINUED, 0), "info" => info_text(&i, a));
    k!(SYS_kill, a, SIGKILL);
    wait_text(a);
}

fn wait_for_grandchild(o: Out) {
    let (r, w) = crate::util::pipe();
    let mid = child(|| {
        let g = child(|| {
            sleep_ms(50);
            0
        });
        crate::util::write(w, &g.to_ne_bytes());
        i32::from(wait_text(g) == "exited 0")
    });
    let mut b = [0u8; 4];
    k!(SYS_read, r, &mut b, 4);
    tell!(o, "not mine" => k!(SYS_wait4, i32::from_ne_bytes(b), 0, 0, 0), "middle" => wait_text(mid));
}

fn wait_interrupted(o: Out) {
    sys::on(SIGALRM, 0);
    let a = child(|| {
        k!(SYS_pause);
        0
    });
    let it = itimerval {
        it_interval: sys::zeroed(),
        it_value: timeval {
            tv_sec: 0,
            tv_usec: 30_000,
        },
    };
    k!(SYS_setitimer, ITIMER_REAL, &it, 0);
    tell!(o, "wait" => k!(SYS_wait4, a, 0, 0, 0), "handled" => sys::count(SIGALRM));
    k!(SYS_kill, a, SIGKILL);
    tell!(o, "then" => wait_text(a));
}

fn wait_restarted(o: Out) {
    sys::on(SIGALRM, SA_RESTART);
    let a = child(|| {
        sleep_ms(120);
        5
    });
    let it = itimerval {
        it_interval: sys::zeroed(),
        it_value: timeval {
            tv_sec: 0,
            tv_usec: 30_000,
        },
    };
    k!(SYS_setitimer, ITIMER_REAL, &it, 0);
    let mut st = 0;
    tell!(o, "wait" => k!(SYS_wait4, a, &mut st, 0, 0).0 == i64::from(a), "status" => status_text(st), "handled" => sys::count(SIGALRM));
}

fn children_ignored(o: Out) {
    sys::set_handler(SIGCHLD, SIG_IGN, 0);
    let a = child(|| 3);
    tell!(o, "wait" => k!(SYS_wait4, a, 0, 0, 0), "gone" => k!(SYS_kill, a, 0));
}

fn children_no_wait_flag(o: Out) {
    sys::on(SIGCHLD, SA_NOCLDWAIT);
    let a = child(|| 3);
    tell!(o, "wait" => k!(SYS_wait4, a, 0, 0, 0), "signal" => sys::count(SIGCHLD));
}

fn sigchld_fields(o: Out) {
    use std::sync::atomic::Ordering::SeqCst;
    sys::on(SIGCHLD, 0);
    let a = child(|| 42);
    sleep_ms(200);
    let s = sys::seen(SIGCHLD);
    tell!(o, "count" => sys::count(SIGCHLD), "code" => s.code.load(SeqCst), "status" => s.status.load(SeqCst), "pid" => s.pid.load(SeqCst) == a);
    wait_text(a);
    let b = child(|| {
        k!(SYS_kill, k!(SYS_getpid), SIGKILL);
        0
    });
    sleep_ms(200);
    tell!(o, "count" => sys::count(SIGCHLD), "code" => s.code.load(SeqCst), "status" => s.status.load(SeqCst), "pid" => s.pid.load(SeqCst) == b);
    wait_text(b);
    let c = child(|| {
        loop {
            k!(SYS_pause);
        }
    });
    k!(SYS_kill, c, SIGSTOP);
    sleep_ms(100);
    tell!(o, "stop" => sys::count(SIGCHLD), "code" => s.code.load(SeqCst), "status" => s.status.load(SeqCst));
    k!(SYS_kill, c, SIGCONT);
    sleep_ms(100);
    tell!(o, "cont" => sys::count(SIGCHLD), "code" => s.code.load(SeqCst), "status" => s.status.load(SeqCst));
    k!(SYS_kill, c, SIGKILL);
    wait_text(c);
}

fn sigchld_no_stop(o: Out) {
    sys::on(SIGCHLD, SA_NOCLDSTOP);
    let a = child(|| {
        loop {
            k!(SYS_pause);
        }
    });
    k!(SYS_kill, a, SIGSTOP);
    let mut st = 0;
    k!(SYS_wait4, a, &mut st, WUNTRACED, 0);
    sleep_ms(50);
    tell!(o, "none for a stop" => sys::count(SIGCHLD));
    k!(SYS_kill, a, SIGKILL);
    wait_text(a);
    tell!(o, "one for the end" => sys::count(SIGCHLD));
}

fn zombie_can_be_signalled(o: Out) {
    mask(SIG_BLOCK, bit(SIGCHLD));
    let a = child(|| 0);
    let mut i: siginfo_t = sys::zeroed();
    k!(SYS_waitid, P_PID, a, &mut i, WEXITED | WNOWAIT, 0);
    tell!(o, "kill zombie" => k!(SYS_kill, a, SIGTERM), "its group" => k!(SYS_getpgid, a).ok(), "reap" => wait_text(a), "then" => k!(SYS_kill, a, SIGTERM), "pending" => crate::util::mask_text(crate::util::pending()));
}

fn wait_pidfd(o: Out) {
    let a = child(|| 6);
    let fd = k!(SYS_pidfd_open, a, 0).int();
    let mut i: siginfo_t = sys::zeroed();
    tell!(o, "waitid" => k!(SYS_waitid, P_PIDFD, fd, &mut i, WEXITED, 0), "info" => info_text(&i, a), "again" => k!(SYS_waitid, P_PIDFD, fd, &mut i, WEXITED, 0), "bad fd" => k!(SYS_waitid, P_PIDFD, 99, &mut i, WEXITED, 0));
}
