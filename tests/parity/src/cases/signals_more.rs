//! Signals that meet blocked calls, stops, and who may send what.

use crate::out::Out;
use crate::sys::{child, count, on, set_handler};
use crate::util::{
    as_user, bit, in_child, mask, mask_text, open, pending, pipe, read, sleep_ms, status_text,
    wait_text, write,
};
use crate::{cases, k, say, sys, tell};
use libc::*;

cases!(
    read_interrupted,
    read_restarted,
    write_interrupted,
    sleep_interrupted_with_rest,
    sleep_restarted_after_stop,
    poll_never_restarts,
    select_interrupted,
    ignored_signal_does_not_interrupt,
    stop_and_continue_during_read,
    accept_of_broken_pipe,
    broken_pipe_ignored,
    stop_signals,
    continue_cancels_stop,
    stop_cancels_continue,
    continue_handler,
    kill_beats_mask_and_stop,
    permission_to_signal,
    continue_within_session,
    init_like_ignores,
    alarm_and_remaining,
    signal_descriptor,
    signal_descriptor_poll,
    signal_descriptor_arguments,
    signal_descriptor_child,
    rt_queue_limit,
    signals_from_children_storm,
    restart_with_partial_read,
    futex_wait_interrupted,
    flock_interrupted,
);

fn alarm_in(us: i64) {
    let it = itimerval {
        it_interval: sys::zeroed(),
        it_value: timeval {
            tv_sec: 0,
            tv_usec: us,
        },
    };
    k!(SYS_setitimer, ITIMER_REAL, &it, 0);
}

fn read_interrupted(o: Out) {
    let (r, _w) = pipe();
    on(SIGALRM, 0);
    alarm_in(30_000);
    tell!(o, "read" => read(r, 4).0, "handled" => count(SIGALRM));
}

fn read_restarted(o: Out) {
    let (r, w) = pipe();
    on(SIGALRM, SA_RESTART);
    let kid = child(|| {
        sleep_ms(120);
        write(w, b"late");
        0
    });
    alarm_in(30_000);
    let (n, text) = read(r, 4);
    tell!(o, "read" => n, "text" => text, "handled" => count(SIGALRM), "child" => wait_text(kid));
}

fn write_interrupted(o: Out) {
    let (_r, w) = pipe();
    let big = vec![0u8; 100_000];
    on(SIGALRM, 0);
    alarm_in(30_000);
    tell!(o, "part" => write(w, &big));
    alarm_in(30_000);
    tell!(o, "none" => write(w, b"x"), "handled" => count(SIGALRM));
}

fn sleep_interrupted_with_rest(o: Out) {
    on(SIGALRM, SA_RESTART);
    alarm_in(50_000);
    let want = timespec {
        tv_sec: 5,
        tv_nsec: 0,
    };
    let mut rest: timespec = sys::zeroed();
    tell!(o, "nanosleep" => k!(SYS_nanosleep, &want, &mut rest), "rest" => rest.tv_sec == 4);
    alarm_in(50_000);
    tell!(o, "clock_nanosleep" => k!(SYS_clock_nanosleep, CLOCK_MONOTONIC, 0, &want, &mut rest), "rest" => rest.tv_sec == 4);
    let mut at: timespec = sys::zeroed();
    k!(SYS_clock_gettime, CLOCK_MONOTONIC, &mut at);
    at.tv_sec += 5;
    rest.tv_sec = 77;
    alarm_in(50_000);
    tell!(o, "absolute" => k!(SYS_clock_nanosleep, CLOCK_MONOTONIC, TIMER_ABSTIME, &at, &mut rest), "untouched" => rest.tv_sec);
}

fn sleep_restarted_after_stop(o: Out) {
    // A stop without a handler does not end the sleep.
    let kid = child(|| {
        let t = crate::util::now_ms();
        let want = timespec {
            tv_sec: 0,
            tv_nsec: 250_000_000,
        };
        let r = k!(SYS_nanosleep, &want, 0);
        i32::from(r.ok()) + 2 * i32::from(crate::util::now_ms() - t >= 250)
    });
    sleep_ms(50);
    k!(SYS_kill, kid, SIGSTOP);
    k!(SYS_wait4, kid, 0, WUNTRACED, 0);
    k!(SYS_kill, kid, SIGCONT);
    tell!(o, "child" => wait_text(kid));
}

fn poll_never_restarts(o: Out) {
    let (r, _w) = pipe();
    on(SIGALRM, SA_RESTART);
    let mut p = pollfd {
        fd: r,
        events: POLLIN,
        revents: 0,
    };
    alarm_in(30_000);
    tell!(o, "poll" => k!(SYS_poll, &mut p, 1, 3000));
    alarm_in(30_000);
    let e = k!(SYS_epoll_create1, 0).int();
    let mut ev = [0u8; 12];
    tell!(o, "epoll" => k!(SYS_epoll_wait, e, &mut ev, 1, 3000), "handled" => count(SIGALRM));
}

fn select_interrupted(o: Out) {
    let (r, _w) = pipe();
    on(SIGALRM, SA_RESTART);
    let mut set = [0u64; 16];
    set[0] = 1 << r;
    alarm_in(30_000);
    let t = timeval {
        tv_sec: 3,
        tv_usec: 0,
    };
    tell!(o, "select" => k!(SYS_select, r + 1, &mut set, 0, 0, &t));
    mask(SIG_BLOCK, bit(SIGALRM));
    alarm_in(10_000);
    sleep_ms(40);
    let inner = [0u64; 1];
    let arg = [inner.as_ptr() as usize, 8];
    let ts = timespec {
        tv_sec: 3,
        tv_nsec: 0,
    };
    tell!(o, "pselect opens the mask" => k!(SYS_pselect6, 0, 0, 0, 0, &ts, &arg), "ppoll" => { alarm_in(10_000); sleep_ms(40); k!(SYS_ppoll, 0, 0, &ts, &inner, 8) }, "handled" => count(SIGALRM));
}

fn ignored_signal_does_not_interrupt(o: Out) {
    let (r, w) = pipe();
    set_handler(SIGALRM, SIG_IGN, 0);
    let kid = child(|| {
        sleep_ms(120);
        write(w, b"data");
        0
    });
    alarm_in(30_000);
    tell!(o, "read" => read(r, 4).1, "child" => wait_text(kid));
}

fn stop_and_continue_during_read(o: Out) {
    let (r, w) = pipe();
    let kid = child(|| i32::from(read(r, 4).1 == "\"go!!\""));
    sleep_ms(50);
    k!(SYS_kill, kid, SIGSTOP);
    k!(SYS_wait4, kid, 0, WUNTRACED, 0);
    k!(SYS_kill, kid, SIGCONT);
    sleep_ms(30);
    write(w, b"go!!");
    tell!(o, "read went on" => wait_text(kid));
}

fn accept_of_broken_pipe(o: Out) {
    on(SIGPIPE, 0);
    let (r, w) = pipe();
    k!(SYS_close, r);
    tell!(o, "write" => write(w, b"x"), "signals" => count(SIGPIPE), "empty write" => write(w, b""), "signals" => count(SIGPIPE));
    set_handler(SIGPIPE, SIG_DFL, 0);
    tell!(o, "default" => in_child(|| { write(w, b"x"); 0 }));
}

fn broken_pipe_ignored(o: Out) {
    set_handler(SIGPIPE, SIG_IGN, 0);
    let (r, w) = pipe();
    k!(SYS_close, r);
    tell!(o, "write" => write(w, b"x"));
    let mut s = [0i32; 2];
    k!(SYS_socketpair, AF_UNIX, SOCK_STREAM, 0, &mut s);
    k!(SYS_close, s[1]);
    on(SIGPIPE, 0);
    tell!(o, "send" => k!(SYS_sendto, s[0], b"x".as_slice(), 1, 0, 0, 0), "signals" => count(SIGPIPE), "nosignal" => k!(SYS_sendto, s[0], b"x".as_slice(), 1, MSG_NOSIGNAL, 0, 0), "signals" => count(SIGPIPE));
}

fn sleeper() -> i32 {
    child(|| {
        loop {
            k!(SYS_pause);
        }
    })
}

fn wait_once(pid: i32, flags: i32) -> String {
    let mut st = 0;
    let r = k!(SYS_wait4, pid, &mut st, flags, 0);
    if r.0 == i64::from(pid) {
        status_text(st & !0x80)
    } else {
        r.to_string()
    }
}

fn stop_signals(o: Out) {
    for s in [SIGSTOP, SIGTSTP, SIGTTIN, SIGTTOU] {
        let kid = sleeper();
        sleep_ms(20);
        k!(SYS_kill, kid, s);
        say!(o, "{}", wait_once(kid, WUNTRACED));
        k!(SYS_kill, kid, SIGTERM);
        sleep_ms(40);
        tell!(o, "term waits" => wait_once(kid, WNOHANG));
        k!(SYS_kill, kid, SIGCONT);
        say!(o, "{}", wait_text(kid));
    }
}

fn continue_cancels_stop(o: Out) {
    mask(SIG_BLOCK, bit(SIGTSTP) | bit(SIGCONT) | bit(SIGTTIN));
    k!(SYS_kill, k!(SYS_getpid), SIGTSTP);
    k!(SYS_kill, k!(SYS_getpid), SIGTTIN);
    tell!(o, "before" => mask_text(pending()));
    k!(SYS_kill, k!(SYS_getpid), SIGCONT);
    tell!(o, "after" => mask_text(pending()));
}

fn stop_cancels_continue(o: Out) {
    mask(SIG_BLOCK, bit(SIGTSTP) | bit(SIGCONT));
    k!(SYS_kill, k!(SYS_getpid), SIGCONT);
    tell!(o, "before" => mask_text(pending()));
    k!(SYS_kill, k!(SYS_getpid), SIGTSTP);
    tell!(o, "after" => mask_text(pending()));
}

fn continue_handler(o: Out) {
    let (r, w) = pipe();
    let kid = child(|| {
        on(SIGCONT, 0);
        write(w, b"r");
        k!(SYS_kill, k!(SYS_getpid), SIGSTOP);
        count(SIGCONT)
    });
    read(r, 1);
    tell!(o, "stop" => wait_once(kid, WUNTRACED), "cont" => k!(SYS_kill, kid, SIGCONT), "handled" => wait_text(kid));
}

fn kill_beats_mask_and_stop(o: Out) {
    let kid = child(|| {
        mask(SIG_SETMASK, u64::MAX);
        loop {
            k!(SYS_pause);
        }
    });
    sleep_ms(20);
    k!(SYS_kill, kid, SIGSTOP);
    tell!(o, "stop" => wait_once(kid, WUNTRACED), "kill" => k!(SYS_kill, kid, SIGKILL), "end" => wait_text(kid));
}

fn permission_to_signal(o: Out) {
    let other = child(|| {
        k!(SYS_setresuid, 1001, 1001, 1001);
        loop {
            k!(SYS_pause);
        }
    });
    let root = sleeper();
    sleep_ms(40);
    let me = k!(SYS_getpid).0;
    as_user(|| {
        let mine = sleeper();
        tell!(o, "other user" => k!(SYS_kill, other, SIGTERM), "probe other" => k!(SYS_kill, other, 0), "root's" => k!(SYS_kill, root, SIGTERM), "cont in session" => k!(SYS_kill, root, SIGCONT), "mine" => k!(SYS_kill, mine, SIGKILL), "parent" => k!(SYS_kill, me, 0), "nobody" => k!(SYS_kill, 999_999, 0), "end" => wait_text(mine));
    });
    let half = child(|| {
        k!(SYS_setresuid, 1001, 0, 1002);
        // The effective user is root still: allowed. Then real user counts.
        let a = k!(SYS_kill, other, 0).ok();
        k!(SYS_setresuid, -1, 1002, -1);
        i32::from(a) + 2 * i32::from(k!(SYS_kill, other, 0).ok())
    });
    tell!(o, "by real user" => wait_text(half));
    for p in [other, root] {
        k!(SYS_kill, p, SIGKILL);
        wait_text(p);
    }
}

fn continue_within_session(o: Out) {
    let apart = child(|| {
        k!(SYS_setsid);
        loop {
            k!(SYS_pause);
        }
    });
    sleep_ms(40);
    as_user(|| {
        tell!(o, "other session" => k!(SYS_kill, apart, SIGCONT));
    });
    k!(SYS_kill, apart, SIGKILL);
    wait_text(apart);
}

fn init_like_ignores(o: Out) {
    // The first process of the namespace cannot be ended from inside it.
    tell!(o, "kill init" => k!(SYS_kill, 1, SIGKILL), "term init" => k!(SYS_kill, 1, SIGTERM), "still there" => k!(SYS_kill, 1, 0));
}

fn alarm_and_remaining(o: Out) {
    on(SIGALRM, 0);
    tell!(o, "first" => k!(SYS_alarm, 0).0 > 0, "set" => k!(SYS_alarm, 100), "again" => k!(SYS_alarm, 200), "cancel" => k!(SYS_alarm, 0), "none" => k!(SYS_alarm, 0), "child" => { k!(SYS_alarm, 50); in_child(|| k!(SYS_alarm, 0).int()) });
    k!(SYS_alarm, 8);
}

fn sigfd(set: u64, flags: i32) -> sys::R {
    k!(SYS_signalfd4, -1, &set, 8, flags)
}

fn fd_info(fd: i32) -> String {
    let mut b = [0u8; 128];
    let n = k!(SYS_read, fd, &mut b, 128);
    if n.0 != 128 {
        return n.to_string();
    }
    let word = |i: usize| i32::from_ne_bytes(b[i * 4..i * 4 + 4].try_into().unwrap_or_default());
    format!(
        "signo {} code {} status {} int {}",
        word(0),
        word(2),
        word(10),
        if word(2) == SI_QUEUE { word(11) } else { 0 }
    )
}

fn signal_descriptor(o: Out) {
    let set = bit(SIGUSR1) | bit(40);
    mask(SIG_BLOCK, set);
    let fd = sigfd(set, SFD_NONBLOCK).int();
    tell!(o, "empty" => fd_info(fd));
    k!(SYS_kill, k!(SYS_getpid), 40);
    k!(SYS_kill, k!(SYS_getpid), SIGUSR1);
    k!(SYS_kill, k!(SYS_getpid), 40);
    for _ in 0..4 {
        say!(o, "{}", fd_info(fd));
    }
    k!(SYS_kill, k!(SYS_getpid), SIGUSR1);
    let mut b = [0u8; 64];
    tell!(o, "small buffer" => k!(SYS_read, fd, &mut b, 64), "write" => write(fd, b"x"), "change" => { let other = bit(SIGUSR2); k!(SYS_signalfd4, fd, &other, 8, 0).int() == fd }, "not in set" => fd_info(fd));
}

fn signal_descriptor_poll(o: Out) {
    mask(SIG_BLOCK, bit(SIGUSR1));
    let fd = sigfd(bit(SIGUSR1), 0).int();
    let mut p = pollfd {
        fd,
        events: POLLIN,
        revents: 0,
    };
    tell!(o, "nothing" => k!(SYS_poll, &mut p, 1, 0));
    let me = k!(SYS_getpid).0;
    let kid = child(|| {
        sleep_ms(40);
        k!(SYS_kill, me, SIGUSR1);
        0
    });
    tell!(o, "wakes" => k!(SYS_poll, &mut p, 1, 3000), "revents" => p.revents, "info" => fd_info(fd), "child" => wait_text(kid));
}

fn signal_descriptor_arguments(o: Out) {
    let set = bit(SIGUSR1);
    tell!(o, "flags" => sigfd(set, 7), "size" => k!(SYS_signalfd4, -1, &set, 4, 0), "bad set" => k!(SYS_signalfd4, -1, 16usize, 8, 0), "not one" => k!(SYS_signalfd4, open(c"/dev/null", O_RDONLY, 0), &set, 8, 0), "closed" => k!(SYS_signalfd4, 99, &set, 8, 0), "cloexec" => k!(SYS_fcntl, sigfd(set, SFD_CLOEXEC), F_GETFD), "old call" => k!(SYS_signalfd, -1, &set, 8).ok());
}

fn signal_descriptor_child(o: Out) {
    mask(SIG_BLOCK, bit(SIGCHLD));
    let fd = sigfd(bit(SIGCHLD), 0).int();
    let kid = child(|| 5);
    tell!(o, "info" => fd_info(fd), "reap" => wait_text(kid));
}

fn rt_queue_limit(o: Out) {
    mask(SIG_BLOCK, bit(40));
    let l = rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    tell!(o, "as user" => as_user(|| {
        k!(SYS_prlimit64, 0, RLIMIT_SIGPENDING, &l, 0);
        let mut info = [0i32; 32];
        info[2] = SI_QUEUE;
        tell!(o, "queue" => k!(SYS_rt_sigqueueinfo, k!(SYS_getpid), 40, &info), "kill" => k!(SYS_kill, k!(SYS_getpid), 40));
    }));
}

fn signals_from_children_storm(o: Out) {
    on(SIGUSR1, SA_RESTART);
    on(40, SA_RESTART);
    let me = k!(SYS_getpid).0;
    let kids: Vec<i32> = (0..4)
        .map(|_| {
            child(|| {
                for _ in 0..100 {
                    k!(SYS_kill, me, 40);
                }
                0
            })
        })
        .collect();
    let ends: Vec<String> = kids.into_iter().map(wait_text).collect();
    sleep_ms(20);
    tell!(o, "ends" => format!("{ends:?}"), "all came" => count(40));
}

fn restart_with_partial_read(o: Out) {
    // What has come already is returned instead of EINTR.
    let mut s = [0i32; 2];
    k!(SYS_socketpair, AF_UNIX, SOCK_STREAM, 0, &mut s);
    write(s[1], b"part");
    on(SIGALRM, 0);
    alarm_in(40_000);
    let mut b = [0u8; 16];
    tell!(o, "waitall" => k!(SYS_recvfrom, s[0], &mut b, 16, MSG_WAITALL, 0, 0), "handled" => count(SIGALRM));
}

fn futex_wait_interrupted(o: Out) {
    let m = crate::util::anon(4096);
    on(SIGALRM, 0);
    alarm_in(30_000);
    tell!(o, "plain" => k!(SYS_futex, m, FUTEX_WAIT, 0, 0, 0, 0));
    on(SIGALRM, SA_RESTART);
    let ts = timespec {
        tv_sec: 0,
        tv_nsec: 150_000_000,
    };
    alarm_in(30_000);
    tell!(o, "restarted with timeout" => k!(SYS_futex, m, FUTEX_WAIT, 0, &ts, 0, 0), "handled" => count(SIGALRM));
}

fn flock_interrupted(o: Out) {
    crate::util::mk(c"f", b"");
    let a = open(c"f", O_RDWR, 0).int();
    let b = open(c"f", O_RDWR, 0).int();
    k!(SYS_flock, a, LOCK_EX);
    on(SIGALRM, 0);
    alarm_in(30_000);
    tell!(o, "flock" => k!(SYS_flock, b, LOCK_EX), "handled" => count(SIGALRM));
}
