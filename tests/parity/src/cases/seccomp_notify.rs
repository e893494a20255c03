//! Calls that another process decides about (seccomp_unotify(2)).

use super::seccomp::{answer, install, install_with, no_new_privs};
use crate::out::Out;
use crate::sys::{R, child, count, on, zeroed};
use crate::util::{close, in_child, open, pipe, read, wait_text, write};
use crate::{cases, k, tell};
use libc::*;

cases!(
    notify_requests,
    notify_one_listener,
    notify_answers,
    notify_wrong_answers,
    notify_events,
    notify_hang_up,
    notify_descriptors,
    notify_descriptor_arguments,
    notify_listener_goes,
    notify_interrupted,
    notify_interrupted_early,
    notify_restarted,
    notify_killable,
    notify_killed,
    notify_precedence,
    notify_threads,
    notify_many,
);

const LISTEN: u64 = SECCOMP_FILTER_FLAG_NEW_LISTENER;
const KILLABLE: u64 = SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV;
const SIZES: u32 = SECCOMP_GET_NOTIF_SIZES;
const RECV: u32 = 0xc050_2100;
const SEND: u32 = 0xc018_2101;
const VALID: u32 = 0x4008_2102;
const ADDFD: u32 = 0x4018_2103;
const CONTINUE: u32 = 1;
const SETFD: u32 = 1;
const AND_SEND: u32 = 2;

/// `struct seccomp_notif`
#[derive(Clone, Copy)]
#[repr(C)]
struct Notice {
    id: u64,
    pid: i32,
    flags: u32,
    nr: i32,
    arch: u32,
    ip: u64,
    args: [u64; 6],
}

/// `struct seccomp_notif_resp`
#[repr(C)]
struct Response {
    id: u64,
    val: i64,
    error: i32,
    flags: u32,
}

/// `struct seccomp_notif_addfd`
#[repr(C)]
struct Gift {
    id: u64,
    flags: u32,
    from: i32,
    number: i32,
    number_flags: u32,
}

/// A listener for getsid(2), which is ours and all later children's to make.
fn listen(flags: u64) -> i32 {
    no_new_privs();
    install_with(&answer(SYS_getsid, SECCOMP_RET_USER_NOTIF), LISTEN | flags).int()
}

fn take(fd: i32) -> (R, Notice) {
    let mut notice: Notice = zeroed();
    (k!(SYS_ioctl, fd, RECV, &mut notice), notice)
}

fn send(fd: i32, id: u64, val: i64, error: i32, flags: u32) -> R {
    k!(
        SYS_ioctl,
        fd,
        SEND,
        &Response {
            id,
            val,
            error,
            flags
        }
    )
}

fn valid(fd: i32, id: u64) -> R {
    k!(SYS_ioctl, fd, VALID, &id)
}

fn give(fd: i32, id: u64, flags: u32, from: i32, number: i32, number_flags: u32) -> R {
    k!(
        SYS_ioctl,
        fd,
        ADDFD,
        &Gift {
            id,
            flags,
            from,
            number,
            number_flags
        }
    )
}

fn events(fd: i32, wait: i32) -> String {
    let mut p = pollfd {
        fd,
        events: POLLIN | POLLOUT,
        revents: 0,
    };
    let r = k!(SYS_poll, &mut p, 1, wait);
    format!("{r} {:#x}", p.revents)
}

/// A child that makes the call and says what came of it.
fn caller() -> (i32, i32) {
    caller_without(-1)
}

/// As [`caller`], without one descriptor.
fn caller_without(fd: i32) -> (i32, i32) {
    let (r, w) = pipe();
    let pid = child(|| {
        close(fd);
        let got = k!(SYS_getsid, 77, 2, 3, 4, 5, 6);
        write(w, got.to_string().as_bytes());
        0
    });
    close(w);
    (pid, r)
}

fn notify_requests(o: Out) {
    let mut sizes = [9u16; 4];
    tell!(o, "sizes" => k!(SYS_seccomp, SIZES, 0, &mut sizes), "are" => format!("{sizes:?}"), "flags" => k!(SYS_seccomp, SIZES, 1, &mut sizes), "null" => k!(SYS_seccomp, SIZES, 0, 0), "action" => k!(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, &SECCOMP_RET_USER_NOTIF));
    let p = answer(SYS_getsid, SECCOMP_RET_USER_NOTIF);
    let esrch = SECCOMP_FILTER_FLAG_TSYNC_ESRCH;
    let together = SECCOMP_FILTER_FLAG_TSYNC;
    no_new_privs();
    tell!(o, "killable alone" => install_with(&p, KILLABLE), "with all threads" => install_with(&p, LISTEN | together), "unknown" => install_with(&p, LISTEN | 1 << 6), "with esrch" => in_child(|| i32::from(install_with(&p, LISTEN | together | esrch).0 > 2)));
    let fd = listen(0);
    let name = std::fs::read_link(format!("/proc/self/fd/{fd}")).unwrap_or_default();
    tell!(o, "closed by exec" => k!(SYS_fcntl, fd, F_GETFD), "flags" => format!("{:o}", k!(SYS_fcntl, fd, F_GETFL).0), "name" => name.display(), "read" => read(fd, 9).0, "write" => write(fd, b"x"), "seek" => k!(SYS_lseek, fd, 0, SEEK_SET), "unknown request" => k!(SYS_ioctl, fd, 0x2109, 0), "other" => k!(SYS_ioctl, fd, FIONREAD, 0), "set flags" => k!(SYS_ioctl, fd, 0x4008_2104u32, 1), "more" => k!(SYS_ioctl, fd, 0x4008_2104u32, 3));
    tell!(o, "null" => k!(SYS_ioctl, fd, RECV, 0), "dirty" => k!(SYS_ioctl, fd, RECV, &[1u8; 80]), "answer nothing" => send(fd, 1, 0, 0, 0), "valid" => valid(fd, 1), "null" => k!(SYS_ioctl, fd, SEND, 0), "null" => k!(SYS_ioctl, fd, VALID, 0), "events" => events(fd, 0));
}

fn notify_one_listener(o: Out) {
    let fd = listen(0);
    let p = answer(SYS_getpgid, SECCOMP_RET_USER_NOTIF);
    tell!(o, "first" => fd > 2, "second" => install_with(&p, LISTEN), "without" => install(&p), "nobody for that" => k!(SYS_getpgid, 0));
    close(fd);
    tell!(o, "after it is gone" => install_with(&p, LISTEN).0 > 2, "of the old" => k!(SYS_getsid, 0));
    k!(SYS_setrlimit, RLIMIT_NOFILE, &[0u64, 0]);
    tell!(o, "no room" => install_with(&p, LISTEN));
}

fn notify_answers(o: Out) {
    let fd = listen(0);
    for (val, error, flags) in [
        (5, 0, 0),
        (0, -EPERM, 0),
        (7, -EPERM, 0),
        (-3, 0, 0),
        (0, 12, 0),
        (0, 0, CONTINUE),
    ] {
        let (pid, r) = caller();
        let (got, notice) = take(fd);
        tell!(o, "take" => got, "pid" => notice.pid == pid, "flags" => notice.flags, "call" => i64::from(notice.nr) == SYS_getsid, "arch" => notice.arch, "ip" => notice.ip != 0, "args" => format!("{:?}", notice.args), "valid" => valid(fd, notice.id));
        tell!(o, "send" => send(fd, notice.id, val, error, flags), "result" => read(r, 99).1, "valid" => valid(fd, notice.id), "again" => send(fd, notice.id, val, error, flags), "ended" => wait_text(pid));
        close(r);
    }
}

fn notify_wrong_answers(o: Out) {
    let fd = listen(0);
    let (pid, r) = caller();
    events(fd, -1);
    // Nothing is decided about what was not taken; ids are not known before either.
    let (_, notice) = take(fd);
    let id = notice.id;
    tell!(o, "flags" => send(fd, id, 0, 0, 2), "value and go on" => send(fd, id, 1, 0, CONTINUE), "error and go on" => send(fd, id, 0, -1, CONTINUE), "other id" => send(fd, id + 1, 0, 0, 0), "still" => valid(fd, id), "right" => send(fd, id, 0, 0, 0), "result" => read(r, 99).1, "ended" => wait_text(pid));
}

fn notify_events(o: Out) {
    let fd = listen(0);
    tell!(o, "nothing" => events(fd, 0));
    let (pid, r) = caller();
    tell!(o, "waits" => events(fd, -1));
    let (_, notice) = take(fd);
    let taken = events(fd, 0);
    let (second, r2) = caller();
    tell!(o, "taken" => taken);
    while events(fd, -1) != "1 0x5" {}
    let (_, other) = take(fd);
    tell!(o, "both taken" => events(fd, 0), "one" => send(fd, notice.id, 1, 0, 0), "ended" => wait_text(pid), "other" => events(fd, 0), "send" => send(fd, other.id, 2, 0, 0), "ended" => wait_text(second), "none" => events(fd, 0), "results" => format!("{} {}", read(r, 9).1, read(r2, 9).1));
}

/// The listener of a child that ends when it is told to.
fn of_child() -> (i32, i32, i32) {
    let (r, w) = pipe();
    let (go, gone) = pipe();
    let pid = child(|| {
        close(gone);
        let fd = listen(0);
        write(w, &[fd as u8]);
        read(go, 1);
        0
    });
    let mut number = [0u8];
    k!(SYS_read, r, &mut number, 1);
    let process = k!(SYS_pidfd_open, pid, 0).int();
    let fd = k!(SYS_pidfd_getfd, process, i32::from(number[0]), 0).int();
    (pid, fd, gone)
}

fn notify_hang_up(o: Out) {
    let (pid, fd, gone) = of_child();
    tell!(o, "got" => fd > 2, "lives" => events(fd, 0));
    close(gone);
    tell!(o, "ended" => events(fd, -1), "take" => take(fd).0, "child" => wait_text(pid), "events" => events(fd, 0));
    let (pid, fd, gone) = of_child();
    let waiter = child(|| {
        close(gone);
        i32::from(take(fd).0.0 == i64::from(-ENOENT))
    });
    crate::util::sleep_ms(50);
    close(gone);
    tell!(o, "one who waits" => wait_text(waiter), "child" => wait_text(pid));
}

fn notify_descriptors(o: Out) {
    let fd = listen(0);
    let (r, w) = pipe();
    let kid = child(|| {
        let first = k!(SYS_getsid, 0);
        let link = |n: i32| {
            let at = std::fs::read_link(format!("/proc/self/fd/{n}")).unwrap_or_default();
            at.display()
                .to_string()
                .split('[')
                .next()
                .map(str::to_string)
        };
        let said = format!(
            "{first} {:?} {:?} {}",
            link(60),
            link(61),
            k!(SYS_fcntl, 61, F_GETFD)
        );
        write(w, said.as_bytes());
        let sent = k!(SYS_getsid, 0).int();
        let text = read(sent, 5).1;
        write(w, text.as_bytes());
        0
    });
    let null = open(c"/dev/null", O_RDONLY, 0).int();
    let (_, notice) = take(fd);
    let plain = give(fd, notice.id, 0, null, 0, 0);
    tell!(o, "lowest" => plain.0 > 2, "at a place" => give(fd, notice.id, SETFD, null, 60, 0), "over it" => give(fd, notice.id, SETFD, null, 60, 0), "closed by exec" => give(fd, notice.id, SETFD, null, 61, O_CLOEXEC as u32), "too high" => give(fd, notice.id, SETFD, null, 1 << 25, 0), "still" => valid(fd, notice.id), "send" => send(fd, notice.id, 9, 0, 0));
    tell!(o, "child" => read(r, 200).1);
    let (_, notice) = take(fd);
    let data = open(c"data", O_RDWR | O_CREAT, 0o644).int();
    write(data, b"bytes");
    k!(SYS_lseek, data, 0, SEEK_SET);
    tell!(o, "cannot answer" => give(fd, notice.id, SETFD | AND_SEND, data, 1 << 25, 0), "still" => valid(fd, notice.id), "answers" => give(fd, notice.id, AND_SEND, data, 0, 0).0 > 2, "valid" => valid(fd, notice.id), "child" => read(r, 200).1, "ended" => wait_text(kid));
}

fn notify_descriptor_arguments(o: Out) {
    let fd = listen(0);
    let (pid, r) = caller();
    events(fd, -1);
    let (_, notice) = take(fd);
    let id = notice.id;
    tell!(o, "flags" => give(fd, id, 4, 0, 0, 0), "number without flag" => give(fd, id, 0, 0, 5, 0), "number flags" => give(fd, id, 0, 0, 0, 1), "not open" => give(fd, id, 0, 999, 0, 0), "no such" => give(fd, id + 9, 0, 0, 0, 0), "small" => k!(SYS_ioctl, fd, 0x4010_2103u32, &[0u64; 4]), "large and zero" => k!(SYS_ioctl, fd, 0x4020_2103u32, &[id + 9, 0, 0, 0]), "large" => k!(SYS_ioctl, fd, 0x4020_2103u32, &[id, 0, 0, 1]), "null" => k!(SYS_ioctl, fd, ADDFD, 0));
    tell!(o, "send" => send(fd, id, 1, 0, 0), "result" => read(r, 9).1, "late" => give(fd, id, 0, 0, 0, 0), "ended" => wait_text(pid));
}

fn notify_listener_goes(o: Out) {
    let fd = listen(0);
    // One of the two is taken, whichever comes first.
    let (early, r) = caller_without(fd);
    let (taken, r2) = caller_without(fd);
    take(fd);
    events(fd, -1);
    close(fd);
    tell!(o, "one" => read(r, 20).1, "other" => read(r2, 20).1, "ended" => wait_text(early), "ended" => wait_text(taken), "later" => k!(SYS_getsid, 0));
}

/// A child that handles a signal during the call; how often, and what came of the call.
fn interrupted_caller(flags: i32) -> (i32, i32) {
    let (r, w) = pipe();
    let pid = child(|| {
        on(SIGUSR1, flags);
        let got = k!(SYS_getsid, 0);
        write(w, format!("{got} after {}", count(SIGUSR1)).as_bytes());
        0
    });
    close(w);
    (pid, r)
}

fn notify_interrupted(o: Out) {
    let fd = listen(0);
    let (pid, r) = interrupted_caller(0);
    let (_, notice) = take(fd);
    k!(SYS_kill, pid, SIGUSR1);
    tell!(o, "result" => read(r, 99).1, "valid" => valid(fd, notice.id), "send" => send(fd, notice.id, 0, 0, 0), "give" => give(fd, notice.id, 0, 0, 0, 0), "ended" => wait_text(pid), "events" => events(fd, 0));
}

fn notify_interrupted_early(o: Out) {
    let fd = listen(0);
    let (pid, r) = interrupted_caller(0);
    events(fd, -1);
    k!(SYS_kill, pid, SIGUSR1);
    // As Linux: a notice that was withdrawn before somebody took it ends one waiting for it.
    tell!(o, "result" => read(r, 99).1, "ended" => wait_text(pid), "events" => events(fd, 0), "take" => take(fd).0);
}

fn notify_restarted(o: Out) {
    let fd = listen(0);
    let (pid, r) = interrupted_caller(SA_RESTART);
    let (_, first) = take(fd);
    k!(SYS_kill, pid, SIGUSR1);
    let (again, second) = take(fd);
    tell!(o, "again" => again, "another" => first.id != second.id, "first" => valid(fd, first.id), "send" => send(fd, second.id, 3, 0, 0), "result" => read(r, 99).1, "ended" => wait_text(pid));
}

fn notify_killable(o: Out) {
    let fd = listen(KILLABLE);
    let (pid, r) = interrupted_caller(0);
    let (_, notice) = take(fd);
    k!(SYS_kill, pid, SIGUSR1);
    crate::util::sleep_ms(50);
    tell!(o, "valid" => valid(fd, notice.id), "send" => send(fd, notice.id, 4, 0, 0), "result" => read(r, 99).1, "ended" => wait_text(pid));
    let (pid, r) = interrupted_caller(0);
    events(fd, -1);
    k!(SYS_kill, pid, SIGUSR1);
    tell!(o, "not taken" => read(r, 99).1, "ended" => wait_text(pid));
}

fn notify_killed(o: Out) {
    for flags in [0, KILLABLE] {
        tell!(o, "flags" => flags, "how" => in_child(|| {
            let fd = listen(flags);
            let (pid, _r) = caller();
            let (_, notice) = take(fd);
            k!(SYS_kill, pid, SIGKILL);
            let ended = wait_text(pid);
            tell!(o, "ended" => ended, "valid" => valid(fd, notice.id), "events" => events(fd, 0));
            0
        }));
    }
}

fn notify_precedence(o: Out) {
    let fd = listen(0);
    for what in [
        SECCOMP_RET_ERRNO | 5,
        SECCOMP_RET_TRACE,
        SECCOMP_RET_LOG,
        SECCOMP_RET_ALLOW,
        SECCOMP_RET_USER_NOTIF,
    ] {
        let (r, w) = pipe();
        let pid = child(|| {
            install(&answer(SYS_getsid, what));
            write(w, k!(SYS_getsid, 0).to_string().as_bytes());
            0
        });
        close(w);
        let mut p = [
            pollfd {
                fd,
                events: POLLIN,
                revents: 0,
            },
            pollfd {
                fd: r,
                events: POLLIN,
                revents: 0,
            },
        ];
        k!(SYS_poll, &mut p, 2, -1);
        let asked = p[0].revents & POLLIN != 0;
        if asked {
            send(fd, take(fd).1.id, 6, 0, 0);
        }
        tell!(o, "above it" => format!("{what:#x}"), "asked" => asked, "result" => read(r, 9).1, "ended" => wait_text(pid));
    }
}

fn notify_threads(o: Out) {
    let (ready, go) = (std::sync::Barrier::new(2), std::sync::Barrier::new(2));
    std::thread::scope(|s| {
        let t = s.spawn(|| {
            ready.wait();
            go.wait();
            (k!(SYS_getsid, 0), k!(SYS_gettid).int())
        });
        ready.wait();
        let all = SECCOMP_FILTER_FLAG_TSYNC | SECCOMP_FILTER_FLAG_TSYNC_ESRCH;
        let fd = listen(all);
        go.wait();
        let (got, notice) = take(fd);
        let sent = send(fd, notice.id, 8, 0, 0);
        let (result, tid) = t.join().unwrap_or((R(0), 0));
        tell!(o, "take" => got, "its thread" => notice.pid == tid, "send" => sent, "result" => result);
    });
}

fn notify_many(o: Out) {
    let fd = listen(0);
    let kids: Vec<i32> = (0..4)
        .map(|_| {
            child(|| {
                let sum: i64 = (0..20).map(|n| k!(SYS_getsid, n).0).sum();
                (sum / 20) as i32
            })
        })
        .collect();
    // Two who decide.
    let other = child(|| {
        for _ in 0..40 {
            let (_, notice) = take(fd);
            send(fd, notice.id, 2 * notice.args[0] as i64, 0, 0);
        }
        0
    });
    for _ in 0..40 {
        let (_, notice) = take(fd);
        send(fd, notice.id, 2 * notice.args[0] as i64, 0, 0);
    }
    let kids: Vec<_> = kids.into_iter().map(wait_text).collect();
    tell!(o, "children" => format!("{kids:?}"), "other" => wait_text(other), "events" => events(fd, 0));
}
