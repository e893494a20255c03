//! Signals for input and output: `O_ASYNC`, owners of files, what is sent when.

use crate::out::Out;
use crate::sys::{child, count, on};
use crate::util::{bit, close, in_child, mask, open, pipe, pipe2, read, wait_text, write};
use crate::{cases, k, sys, tell};
use libc::*;

cases!(
    async_flag,
    async_flag_where_not_supported,
    async_by_ioctl,
    async_owner,
    async_owner_ex,
    async_owner_is_gone,
    async_owner_by_ioctl,
    async_signal_number,
    async_pipe,
    async_pipe_blocked_reader,
    async_pipe_ends,
    async_pipe_splice,
    async_fifo_both_ways,
    async_stream,
    async_stream_shut,
    async_stream_room,
    async_datagram,
    async_listener,
    async_terminal,
    async_terminal_owner,
    async_inotify,
    async_plain_signal,
    async_specific_signal,
    async_queue_is_full,
    async_group,
    async_thread_owner,
    async_other_user,
    async_two_descriptions,
    async_duplicate,
    async_after_close,
    async_through_fork,
    async_kills,
    directory_watched,
    directory_watched_once,
    directory_watch_refused,
);

const F_SETSIG: i32 = 10;
const F_GETSIG: i32 = 11;
const F_SETOWN_EX: i32 = 15;
const F_GETOWN_EX: i32 = 16;
const F_GETOWNER_UIDS: i32 = 17;
const FIOSETOWN: i32 = 0x8901;
const SIOCSPGRP: i32 = 0x8902;
const FIOGETOWN: i32 = 0x8903;
const SIOCGPGRP: i32 = 0x8904;
const DN_ACCESS: u32 = 1;
const DN_MODIFY: u32 = 2;
const DN_CREATE: u32 = 4;
const DN_DELETE: u32 = 8;
const DN_RENAME: u32 = 0x10;
const DN_ATTRIB: u32 = 0x20;
const DN_MULTISHOT: u32 = 0x8000_0000;
/// A real-time signal.
const RT: i32 = 40;

fn block(signals: &[i32]) {
    mask(SIG_BLOCK, signals.iter().map(|s| bit(*s)).sum());
}

/// Asks for `signal` (0: the plain one) when something happens to `fd`.
fn arm(fd: i32, signal: i32) {
    block(&[SIGIO, RT, RT + 1]);
    k!(SYS_fcntl, fd, F_SETOWN, k!(SYS_getpid));
    k!(SYS_fcntl, fd, F_SETSIG, signal);
    watch(fd, true);
}

fn watch(fd: i32, yes: bool) -> sys::R {
    let flags = k!(SYS_fcntl, fd, F_GETFL).int();
    let flags = if yes {
        flags | O_ASYNC
    } else {
        flags & !O_ASYNC
    };
    k!(SYS_fcntl, fd, F_SETFL, flags)
}

/// The signals that are there, waiting for the first for `ms`.
fn came_within(ms: i64) -> String {
    let set = bit(SIGIO) | bit(RT) | bit(RT + 1) | bit(SIGUSR1) | bit(SIGSEGV);
    let mut all = Vec::new();
    let mut wait = timespec {
        tv_sec: ms / 1000,
        tv_nsec: ms % 1000 * 1_000_000,
    };
    loop {
        let mut info = [0i32; 32];
        if !k!(SYS_rt_sigtimedwait, &set, &mut info, &wait, 8).ok() {
            return format!("{all:?}");
        }
        let (signo, code) = (info[0], info[2]);
        all.push(match code {
            SI_USER | SI_KERNEL => format!("{signo} code {code}"),
            _ => format!("{signo} code {code} band {:#x} fd {}", info[4], info[6]),
        });
        wait = sys::zeroed();
    }
}

fn came() -> String {
    came_within(0)
}

fn socket_pair(kind: i32) -> (i32, i32) {
    let mut pair = [0i32; 2];
    k!(SYS_socketpair, AF_UNIX, kind, 0, &mut pair);
    (pair[0], pair[1])
}

fn become_user(id: u32) {
    k!(SYS_setresgid, id, id, id);
    k!(SYS_setresuid, id, id, id);
}

fn octal(r: sys::R) -> String {
    format!("{:o}", r.0)
}

fn async_flag(o: Out) {
    let (r, _w) = pipe();
    tell!(o, "set" => k!(SYS_fcntl, r, F_SETFL, O_ASYNC), "flags" => octal(k!(SYS_fcntl, r, F_GETFL)), "without an owner" => k!(SYS_fcntl, r, F_GETOWN), "signal" => k!(SYS_fcntl, r, F_GETSIG), "again" => k!(SYS_fcntl, r, F_SETFL, O_ASYNC | O_NONBLOCK), "flags" => octal(k!(SYS_fcntl, r, F_GETFL)), "off" => k!(SYS_fcntl, r, F_SETFL, 0), "flags" => octal(k!(SYS_fcntl, r, F_GETFL)));
    k!(SYS_mknodat, AT_FDCWD, c"fifo", S_IFIFO | 0o600, 0);
    let f = open(c"fifo", O_RDWR | O_ASYNC, 0).int();
    k!(SYS_fcntl, f, F_SETOWN, k!(SYS_getpid));
    block(&[SIGIO]);
    write(f, b"x");
    tell!(o, "from open" => octal(k!(SYS_fcntl, f, F_GETFL)), "came" => came(), "set" => watch(f, true), "came" => { write(f, b"x"); came() });
}

fn async_flag_where_not_supported(o: Out) {
    let epoll = k!(SYS_epoll_create1, 0).int();
    let event = k!(SYS_eventfd2, 0, 0).int();
    let timer = k!(SYS_timerfd_create, CLOCK_MONOTONIC, 0).int();
    let signal = k!(SYS_signalfd4, -1, &bit(SIGUSR1), 8, 0).int();
    let me = k!(SYS_pidfd_open, k!(SYS_getpid), 0).int();
    let memory = k!(SYS_memfd_create, c"m", 0).int();
    let file = open(c"file", O_RDWR | O_CREAT, 0o644).int();
    let dir = open(c".", O_RDONLY, 0).int();
    let null = open(c"/dev/null", O_RDWR, 0).int();
    let zero = open(c"/dev/zero", O_RDWR, 0).int();
    let random = open(c"/dev/urandom", O_RDWR, 0).int();
    let queue = k!(SYS_mq_open, c"async", O_RDWR | O_CREAT, 0o600, 0).int();
    for (name, fd) in [
        ("epoll", epoll),
        ("eventfd", event),
        ("timerfd", timer),
        ("signalfd", signal),
        ("pidfd", me),
        ("memfd", memory),
        ("file", file),
        ("directory", dir),
        ("null", null),
        ("zero", zero),
        ("urandom", random),
        ("queue", queue),
    ] {
        let set = watch(fd, true);
        let flags = octal(k!(SYS_fcntl, fd, F_GETFL));
        let off = watch(fd, false);
        let by_ioctl = k!(SYS_ioctl, fd, FIOASYNC, &1i32);
        tell!(o, "file" => name, "set" => set, "flags" => flags, "off" => off, "by ioctl" => by_ioctl, "off by ioctl" => k!(SYS_ioctl, fd, FIOASYNC, &0i32), "owner" => k!(SYS_fcntl, fd, F_SETOWN, k!(SYS_getpid)), "kept" => k!(SYS_fcntl, fd, F_GETOWN) == k!(SYS_getpid), "by request" => k!(SYS_ioctl, fd, FIOSETOWN, &1i32));
    }
    k!(SYS_mq_unlink, c"async");
}

fn async_by_ioctl(o: Out) {
    let (r, w) = pipe();
    block(&[SIGIO]);
    k!(SYS_fcntl, r, F_SETOWN, k!(SYS_getpid));
    tell!(o, "on" => k!(SYS_ioctl, r, FIOASYNC, &7i32), "flags" => octal(k!(SYS_fcntl, r, F_GETFL)), "null" => k!(SYS_ioctl, r, FIOASYNC, 0));
    write(w, b"a");
    tell!(o, "came" => came(), "off" => k!(SYS_ioctl, r, FIOASYNC, &0i32), "flags" => octal(k!(SYS_fcntl, r, F_GETFL)), "came" => { write(w, b"a"); came() });
}

fn async_owner(o: Out) {
    let (r, _w) = pipe();
    let me = k!(SYS_getpid).int();
    let set = |who: i32| k!(SYS_fcntl, r, F_SETOWN, who);
    let get = || k!(SYS_fcntl, r, F_GETOWN).int();
    tell!(o, "none" => get(), "me" => set(me), "got" => get() == me, "nobody there" => set(999_999), "still" => get() == me, "group that is not there" => set(-999_999), "smallest" => set(i32::MIN), "still" => get() == me, "largest" => set(i32::MAX));
    k!(SYS_setpgid, 0, 0);
    tell!(o, "my group" => set(-me), "got" => get() == -me, "cleared" => set(0), "got" => get());
    let path_only = open(c".", O_PATH, 0).int();
    tell!(o, "of a path" => k!(SYS_fcntl, path_only, F_SETOWN, me), "get" => k!(SYS_fcntl, path_only, F_GETOWN), "signal" => k!(SYS_fcntl, path_only, F_SETSIG, 1));
}

fn async_owner_ex(o: Out) {
    let (r, _w) = pipe();
    let me = k!(SYS_getpid).int();
    let get = || {
        let mut who = [9i32; 2];
        let r = k!(SYS_fcntl, r, F_GETOWN_EX, &mut who);
        let id = if who[1] == me {
            "me".into()
        } else {
            who[1].to_string()
        };
        format!("{r} kind {} {id}", who[0])
    };
    let set = |kind: i32, id: i32| k!(SYS_fcntl, r, F_SETOWN_EX, &[kind, id]);
    tell!(o, "none" => get());
    for kind in [0, 1, 2, 3, -1] {
        tell!(o, "kind" => kind, "nobody" => set(kind, 999_999), "negative" => set(kind, -me), "me" => set(kind, me), "got" => get(), "as before" => k!(SYS_fcntl, r, F_GETOWN).int() == me, "clear" => set(kind, 0), "got" => get());
    }
    let mut ids = [7u32; 2];
    set(1, me);
    tell!(o, "null" => k!(SYS_fcntl, r, F_SETOWN_EX, 0), "null" => k!(SYS_fcntl, r, F_GETOWN_EX, 0), "users" => k!(SYS_fcntl, r, F_GETOWNER_UIDS, &mut ids), "which" => format!("{ids:?}"));
}

fn async_owner_is_gone(o: Out) {
    let (r, w) = pipe();
    arm(r, RT);
    let (go, on) = pipe();
    let kid = child(|| {
        read(go, 1);
        0
    });
    tell!(o, "set" => k!(SYS_fcntl, r, F_SETOWN, kid), "got" => k!(SYS_fcntl, r, F_GETOWN).int() == kid);
    write(on, b"x");
    tell!(o, "ended" => wait_text(kid), "got" => k!(SYS_fcntl, r, F_GETOWN), "write" => write(w, b"x"), "came" => came());
    let mut who = [9i32; 2];
    tell!(o, "ex" => k!(SYS_fcntl, r, F_GETOWN_EX, &mut who), "kind" => who[0], "id" => who[1]);
}

fn async_owner_by_ioctl(o: Out) {
    let (a, _b) = socket_pair(SOCK_STREAM);
    let me = k!(SYS_getpid).int();
    let mut got = 1i32;
    for (set, get) in [(FIOSETOWN, FIOGETOWN), (SIOCSPGRP, SIOCGPGRP)] {
        tell!(o, "set" => k!(SYS_ioctl, a, set, &me), "get" => k!(SYS_ioctl, a, get, &mut got), "me" => got == me, "fcntl" => k!(SYS_fcntl, a, F_GETOWN).int() == me, "nobody" => k!(SYS_ioctl, a, set, &999_999i32), "null" => k!(SYS_ioctl, a, set, 0), "null" => k!(SYS_ioctl, a, get, 0), "clear" => k!(SYS_ioctl, a, set, &0i32), "get" => k!(SYS_ioctl, a, get, &mut got), "none" => got);
    }
    let (r, _w) = pipe();
    tell!(o, "of a pipe" => k!(SYS_ioctl, r, FIOSETOWN, &me), "get" => k!(SYS_ioctl, r, FIOGETOWN, &mut got));
}

fn async_signal_number(o: Out) {
    let (r, _w) = pipe();
    for n in [0, 1, 9, 19, 29, 31, 32, 64, 65, -1] {
        tell!(o, "signal" => n, "set" => k!(SYS_fcntl, r, F_SETSIG, n), "got" => k!(SYS_fcntl, r, F_GETSIG));
    }
}

fn async_pipe(o: Out) {
    let (r, w) = pipe2(O_NONBLOCK);
    arm(r, RT);
    arm(w, RT + 1);
    tell!(o, "nothing" => came(), "write" => write(w, b"one"), "came" => came(), "more" => write(w, b"two"), "came" => came());
    tell!(o, "a part" => read(r, 1).0, "came" => came(), "rest" => read(r, 99).0, "came" => came(), "empty" => read(r, 9).0, "came" => came(), "of nothing" => read(r, 0).0, "came" => came(), "nothing" => write(w, b""), "came" => came());
    tell!(o, "fill" => write(w, &[1; 80_000]), "came" => came(), "full" => write(w, b"x"), "came" => came(), "read" => read(r, 65536).0, "came" => came());
}

fn async_pipe_blocked_reader(o: Out) {
    let (r, w) = pipe();
    arm(r, RT);
    let (told, tell) = pipe();
    let kid = child(|| {
        write(tell, b"x");
        i32::from(read(r, 3).1 == "\"abc\"")
    });
    read(told, 1);
    crate::util::sleep_ms(50);
    tell!(o, "write" => write(w, b"abc"), "came" => came(), "reader" => wait_text(kid));
}

fn async_pipe_ends(o: Out) {
    let (r, w) = pipe();
    arm(r, RT);
    let twin = k!(SYS_dup, w).int();
    tell!(o, "one of two" => close(w), "came" => came(), "last" => close(twin), "came" => came(), "end" => read(r, 1).0, "came" => came());
    let (r, w) = pipe();
    arm(w, RT);
    tell!(o, "reader closes" => close(r), "came" => came());
}

fn async_pipe_splice(o: Out) {
    let (r, w) = pipe();
    let (r2, w2) = pipe();
    arm(r, RT);
    arm(r2, RT);
    arm(w, RT + 1);
    arm(w2, RT + 1);
    write(w, b"some bytes");
    let first = came();
    tell!(o, "write" => first, "tee" => k!(SYS_tee, r, w2, 4, 0), "came" => came(), "splice" => k!(SYS_splice, r, 0, w2, 0, 4, 0), "came" => came());
    let file = open(c"data", O_RDWR | O_CREAT, 0o644).int();
    write(file, b"from a file");
    k!(SYS_lseek, file, 0, SEEK_SET);
    tell!(o, "from a file" => k!(SYS_splice, file, 0, w, 0, 4, 0), "came" => came(), "to a file" => k!(SYS_splice, r, 0, file, 0, 4, 0), "came" => came());
    let (mut whole, mut rest) = ([0u8; 64], String::new());
    read(r, 4);
    came();
    write(w, b"slot");
    came();
    let n = k!(SYS_splice, r, 0, w2, 0, 100, 0);
    rest.push_str(&came());
    write(w, b"another");
    came();
    let out = [iovec {
        iov_base: whole.as_mut_ptr().cast(),
        iov_len: 64,
    }];
    tell!(o, "whole" => n, "came" => rest, "to memory" => k!(SYS_vmsplice, r, &out, 1, 0), "came" => came());
    let v = [iovec {
        iov_base: c"vectors".as_ptr().cast_mut().cast(),
        iov_len: 7,
    }];
    tell!(o, "from memory" => k!(SYS_vmsplice, w, &v, 1, 0), "came" => came());
}

fn async_fifo_both_ways(o: Out) {
    k!(SYS_mknodat, AT_FDCWD, c"fifo", S_IFIFO | 0o600, 0);
    let f = open(c"fifo", O_RDWR | O_NONBLOCK, 0).int();
    arm(f, RT);
    tell!(o, "write" => write(f, b"x"), "came" => came(), "read" => read(f, 1).0, "came" => came());
    let other = open(c"fifo", O_RDONLY | O_NONBLOCK, 0).int();
    tell!(o, "another" => came(), "closes" => close(other), "came" => came(), "last" => close(f), "came" => came());
}

fn async_stream(o: Out) {
    let (a, b) = socket_pair(SOCK_STREAM);
    arm(a, RT);
    arm(b, RT + 1);
    tell!(o, "write" => write(a, b"abc"), "came" => came(), "read" => read(b, 2).0, "came" => came(), "rest" => read(b, 9).0, "came" => came());
    let kid = child(|| i32::from(read(b, 3).1 == "\"def\""));
    crate::util::sleep_ms(100);
    // One who waits in the call gets what the signal would be about.
    tell!(o, "to one who waits" => write(a, b"def"), "came" => came(), "reader" => wait_text(kid));
    tell!(o, "close" => close(a), "came" => came());
}

fn async_stream_shut(o: Out) {
    for how in [SHUT_RD, SHUT_WR, SHUT_RDWR] {
        let (a, b) = socket_pair(SOCK_STREAM);
        arm(a, RT);
        arm(b, RT + 1);
        tell!(o, "shut" => k!(SYS_shutdown, a, how), "came" => came().replace(&format!("fd {a}"), "near").replace(&format!("fd {b}"), "far"));
        tell!(o, "close" => close(a), "came" => came().replace(&format!("fd {b}"), "far"));
        close(b);
    }
    let (a, b) = socket_pair(SOCK_DGRAM);
    arm(a, RT);
    arm(b, RT + 1);
    tell!(o, "datagrams" => k!(SYS_shutdown, a, SHUT_RDWR), "came" => came(), "close" => close(a), "came" => came());
}

fn async_stream_room(o: Out) {
    let (a, b) = socket_pair(SOCK_STREAM);
    k!(SYS_fcntl, a, F_SETFL, O_NONBLOCK);
    k!(SYS_fcntl, b, F_SETFL, O_NONBLOCK);
    arm(a, RT);
    while write(a, &[1; 4096]).ok() {}
    let first = came();
    while read(b, 65536).0.ok() {}
    tell!(o, "writing" => first, "room again" => came());
    write(a, b"x");
    read(b, 1);
    tell!(o, "never full" => came());
}

fn async_datagram(o: Out) {
    let (a, b) = socket_pair(SOCK_DGRAM);
    arm(a, RT);
    arm(b, RT + 1);
    tell!(o, "send" => write(a, b"abc"), "came" => came(), "two" => { write(a, b"1"); write(a, b"2") }, "came" => came(), "read" => read(b, 9).0, "came" => came());
    let (a, b) = socket_pair(SOCK_SEQPACKET);
    arm(a, RT);
    arm(b, RT + 1);
    tell!(o, "packet" => write(a, b"abc"), "came" => came(), "read" => read(b, 9).0, "came" => came(), "close" => close(a), "came" => came());
}

fn async_listener(o: Out) {
    let listener = k!(SYS_socket, AF_UNIX, SOCK_STREAM, 0).int();
    let mut at: sockaddr_un = sys::zeroed();
    at.sun_family = AF_UNIX as u16;
    at.sun_path[0] = b's' as c_char;
    k!(SYS_bind, listener, &at, 4);
    k!(SYS_listen, listener, 4);
    arm(listener, RT);
    let client = k!(SYS_socket, AF_UNIX, SOCK_STREAM, 0).int();
    arm(client, RT + 1);
    let connected = k!(SYS_connect, client, &at, 4);
    tell!(o, "connect" => connected, "came" => came());
    let server = k!(SYS_accept, listener, 0, 0).int();
    tell!(o, "accept" => came(), "inherited" => octal(k!(SYS_fcntl, server, F_GETFL)), "write" => write(server, b"x"), "came" => came(), "close" => close(server), "came" => came());
}

fn terminal() -> (i32, i32) {
    let m = open(c"/dev/ptmx", O_RDWR | O_NOCTTY, 0).int();
    k!(SYS_ioctl, m, TIOCSPTLCK, &0i32);
    let s = k!(SYS_ioctl, m, TIOCGPTPEER, O_RDWR | O_NOCTTY).int();
    (m, s)
}

fn async_terminal(o: Out) {
    let (m, s) = terminal();
    arm(s, RT);
    tell!(o, "half a line" => write(m, b"ha"), "came" => came_within(2000));
    read(m, 9);
    tell!(o, "the rest" => write(m, b"lf\n"), "came" => came_within(2000), "read" => read(s, 9).1);
    let (m2, s2) = terminal();
    arm(m2, RT + 1);
    let came = came_within(2000);
    tell!(o, "nothing" => came, "output" => write(s2, b"text"), "came" => came_within(2000), "flags" => octal(k!(SYS_fcntl, m2, F_GETFL)));
    tell!(o, "off" => watch(s, false), "typed" => write(m, b"x"), "came" => came_within(100));
}

fn async_terminal_owner(o: Out) {
    let (_m, s) = terminal();
    let me = k!(SYS_getpid).int();
    tell!(o, "none" => k!(SYS_fcntl, s, F_GETOWN), "set" => watch(s, true), "owner is me" => k!(SYS_fcntl, s, F_GETOWN).int() == me);
    let (r, _w) = pipe();
    tell!(o, "of a pipe" => watch(r, true), "owner" => k!(SYS_fcntl, r, F_GETOWN));
    tell!(o, "in a session" => in_child(|| {
        let (_m, s) = terminal();
        k!(SYS_setsid);
        k!(SYS_ioctl, s, TIOCSCTTY, 0);
        watch(s, true);
        i32::from(k!(SYS_fcntl, s, F_GETOWN).int() == -k!(SYS_getpid).int())
    }));
    let (_m, s) = terminal();
    k!(SYS_fcntl, s, F_SETOWN, 1);
    tell!(o, "one that was set" => watch(s, true), "stays" => k!(SYS_fcntl, s, F_GETOWN));
}

fn async_inotify(o: Out) {
    let n = k!(SYS_inotify_init1, 0).int();
    arm(n, RT);
    k!(SYS_mkdirat, AT_FDCWD, c"dir", 0o755);
    k!(SYS_inotify_add_watch, n, c"dir", IN_CREATE);
    close(open(c"dir/a", O_CREAT | O_WRONLY, 0o644).int());
    tell!(o, "one" => came());
    close(open(c"dir/b", O_CREAT | O_WRONLY, 0o644).int());
    close(open(c"dir/c", O_CREAT | O_WRONLY, 0o644).int());
    tell!(o, "two" => came());
}

fn async_plain_signal(o: Out) {
    let (r, w) = pipe();
    arm(r, 0);
    write(w, b"a");
    write(w, b"b");
    tell!(o, "merged" => came());
    k!(SYS_fcntl, r, F_SETSIG, SIGIO);
    write(w, b"c");
    tell!(o, "with details" => came());
    watch(r, false);
    write(w, b"d");
    tell!(o, "off" => came());
}

fn async_specific_signal(o: Out) {
    let (r, w) = pipe();
    block(&[SIGUSR1, SIGSEGV]);
    for signal in [SIGUSR1, SIGSEGV] {
        arm(r, signal);
        write(w, b"a");
        tell!(o, "signal" => signal, "came" => came());
    }
    let fd = k!(SYS_signalfd4, -1, &(bit(RT) | bit(SIGIO)), 8, 0).int();
    for signal in [RT, SIGIO, 0] {
        arm(r, signal);
        write(w, b"a");
        let mut record = [0u32; 32];
        k!(SYS_read, fd, &mut record, 128);
        tell!(o, "by descriptor" => format!("{:?}", &record[..9]));
    }
}

fn async_queue_is_full(o: Out) {
    let (r, w) = pipe();
    arm(r, RT);
    // What is queued counts to a user, who is to have nothing else.
    become_user(7777);
    k!(SYS_setrlimit, RLIMIT_SIGPENDING, &[1u64, 1]);
    for _ in 0..4 {
        write(w, b"a");
    }
    tell!(o, "came" => came());
}

fn async_group(o: Out) {
    let (r, w) = pipe();
    let (told, tell) = pipe();
    k!(SYS_setpgid, 0, 0);
    arm(r, RT);
    let me = k!(SYS_getpid).int();
    let kids: Vec<i32> = (0..2)
        .map(|_| {
            child(|| {
                write(tell, b"x");
                let mut info = [0i32; 32];
                k!(SYS_rt_sigtimedwait, &bit(RT), &mut info, 0, 8);
                info[2] * 10 + i32::from(info[6] == r)
            })
        })
        .collect();
    read(told, 1);
    read(told, 1);
    k!(SYS_fcntl, r, F_SETOWN, -me);
    write(w, b"x");
    let kids: Vec<_> = kids.into_iter().map(wait_text).collect();
    tell!(o, "came" => came(), "children" => format!("{kids:?}"));
}

fn async_thread_owner(o: Out) {
    let (r, w) = pipe();
    arm(r, RT);
    k!(SYS_fcntl, r, F_SETOWN_EX, &[0, k!(SYS_gettid).int()]);
    write(w, b"x");
    let thread = {
        let mut pending = 0u64;
        k!(SYS_rt_sigpending, &mut pending, 8);
        pending & bit(RT) != 0
    };
    let status = crate::util::cat(c"/proc/thread-self/status");
    let own = status
        .split("\\n")
        .find(|l| l.starts_with("SigPnd"))
        .map(str::to_string);
    tell!(o, "pending" => thread, "of the thread" => format!("{own:?}"), "came" => came());
}

fn async_other_user(o: Out) {
    let (r, w) = pipe();
    arm(r, RT);
    let parent = k!(SYS_getpid).int();
    tell!(o, "another user" => in_child(|| {
        become_user(4321);
        k!(SYS_fcntl, r, F_SETOWN, parent);
        i32::from(write(w, b"x").ok())
    }), "came" => came());
    // What counts is who set the owner, not who writes.
    k!(SYS_fcntl, r, F_SETOWN, parent);
    tell!(o, "writes alone" => in_child(|| {
        become_user(4321);
        i32::from(write(w, b"x").ok())
    }), "came" => came());
}

fn async_two_descriptions(o: Out) {
    k!(SYS_mknodat, AT_FDCWD, c"fifo", S_IFIFO | 0o600, 0);
    let a = open(c"fifo", O_RDONLY | O_NONBLOCK, 0).int();
    let b = open(c"fifo", O_RDONLY | O_NONBLOCK, 0).int();
    let w = open(c"fifo", O_WRONLY, 0).int();
    arm(a, RT);
    arm(b, RT + 1);
    write(w, b"x");
    tell!(o, "both" => came(), "one off" => watch(a, false), "write" => write(w, b"x"), "came" => came());
}

fn async_duplicate(o: Out) {
    let (r, w) = pipe();
    let twin = k!(SYS_dup, r).int();
    arm(r, RT);
    write(w, b"x");
    tell!(o, "told" => came(), "flags" => octal(k!(SYS_fcntl, twin, F_GETFL)));
    // Asking again where it is on changes nothing.
    watch(twin, true);
    write(w, b"x");
    tell!(o, "still" => came(), "off and on" => { watch(twin, false); watch(twin, true) }, "came" => { write(w, b"x"); came() });
    close(r);
    write(w, b"x");
    tell!(o, "the other is open" => came());
}

fn async_after_close(o: Out) {
    k!(SYS_mknodat, AT_FDCWD, c"fifo", S_IFIFO | 0o600, 0);
    let r = open(c"fifo", O_RDONLY | O_NONBLOCK, 0).int();
    let reader = open(c"fifo", O_RDONLY | O_NONBLOCK, 0).int();
    let w = open(c"fifo", O_WRONLY, 0).int();
    arm(r, RT);
    close(r);
    let first = came();
    tell!(o, "closing" => first, "write" => write(w, b"x"), "came" => came(), "reader" => read(reader, 9).1);
}

fn async_through_fork(o: Out) {
    let (r, w) = pipe();
    arm(r, RT);
    let kid = child(|| {
        write(w, b"x");
        i32::from(came() == "[]")
    });
    tell!(o, "child" => wait_text(kid), "came" => came());
}

fn async_kills(o: Out) {
    tell!(o, "plain" => in_child(|| {
        let (r, w) = pipe();
        k!(SYS_fcntl, r, F_SETOWN, k!(SYS_getpid));
        watch(r, true);
        write(w, b"x");
        0
    }), "handled" => in_child(|| {
        let (r, w) = pipe();
        on(SIGIO, 0);
        k!(SYS_fcntl, r, F_SETOWN, k!(SYS_getpid));
        watch(r, true);
        write(w, b"x");
        count(SIGIO) * 10 + sys::seen(SIGIO).code.load(std::sync::atomic::Ordering::SeqCst) / 64
    }));
}

/// Every kind of event in a directory, each with what came of it.
fn directory_story(o: Out) {
    let f = open(c"d/a", O_RDWR | O_CREAT, 0o644).int();
    tell!(o, "create" => came());
    write(f, b"xx");
    let written = came();
    k!(SYS_pread64, f, &mut [0u8; 2], 2, 0);
    let seen = came();
    k!(SYS_fchmod, f, 0o600);
    tell!(o, "write" => written, "read" => seen, "mode" => came());
    k!(SYS_renameat2, AT_FDCWD, c"d/a", AT_FDCWD, c"d/b", 0);
    let within = came();
    k!(SYS_renameat2, AT_FDCWD, c"d/b", AT_FDCWD, c"e/b", 0);
    let out = came();
    k!(SYS_renameat2, AT_FDCWD, c"e/b", AT_FDCWD, c"d/b", 0);
    tell!(o, "rename" => within, "move out" => out, "move in" => came());
    k!(SYS_mkdirat, AT_FDCWD, c"d/s", 0o755);
    let made = came();
    k!(SYS_unlinkat, AT_FDCWD, c"d/s", AT_REMOVEDIR);
    let removed = came();
    k!(SYS_unlinkat, AT_FDCWD, c"d/b", 0);
    tell!(o, "directory" => made, "removed" => removed, "unlink" => came());
    k!(SYS_fchmodat, AT_FDCWD, c"d", 0o755);
    let changed = came();
    let list = open(c"d", O_RDONLY, 0).int();
    k!(SYS_getdents64, list, &mut [0u8; 512], 512);
    tell!(o, "its own mode" => changed, "list" => came());
    close(list);
    close(f);
}

fn directories() -> i32 {
    k!(SYS_mkdirat, AT_FDCWD, c"d", 0o755);
    k!(SYS_mkdirat, AT_FDCWD, c"e", 0o755);
    block(&[SIGIO, RT]);
    let d = open(c"d", O_RDONLY, 0).int();
    k!(SYS_fcntl, d, F_SETSIG, RT);
    d
}

fn directory_watched(o: Out) {
    let d = directories();
    for what in [
        DN_ACCESS, DN_MODIFY, DN_CREATE, DN_DELETE, DN_RENAME, DN_ATTRIB,
    ] {
        k!(SYS_fcntl, d, F_NOTIFY, 0);
        let set = k!(SYS_fcntl, d, F_NOTIFY, what | DN_MULTISHOT);
        tell!(o, "watch" => what, "set" => set, "owner" => k!(SYS_fcntl, d, F_GETOWN) == k!(SYS_getpid));
        directory_story(o);
    }
}

fn directory_watched_once(o: Out) {
    let d = directories();
    let make = |name: &std::ffi::CStr| {
        close(open(name, O_CREAT | O_WRONLY, 0o644).int());
        came()
    };
    tell!(o, "set" => k!(SYS_fcntl, d, F_NOTIFY, DN_CREATE), "first" => make(c"d/1"), "second" => make(c"d/2"));
    tell!(o, "set" => k!(SYS_fcntl, d, F_NOTIFY, DN_CREATE | DN_MULTISHOT), "more" => k!(SYS_fcntl, d, F_NOTIFY, DN_DELETE), "made" => make(c"d/3"), "made" => make(c"d/4"));
    k!(SYS_unlinkat, AT_FDCWD, c"d/1", 0);
    tell!(o, "removed" => came(), "off" => k!(SYS_fcntl, d, F_NOTIFY, 0), "made" => make(c"d/5"));
    // Any descriptor that is closed ends it.
    k!(SYS_fcntl, d, F_NOTIFY, DN_CREATE | DN_MULTISHOT);
    let twin = k!(SYS_dup, d).int();
    tell!(o, "on" => make(c"d/6"), "twin" => { close(twin); make(c"d/7") });
    k!(SYS_fcntl, d, F_NOTIFY, DN_CREATE | DN_MULTISHOT);
    tell!(o, "child" => in_child(|| close(d).int()), "still" => make(c"d/8"));
    k!(SYS_fcntl, d, F_SETSIG, 0);
    tell!(o, "plain" => make(c"d/9"));
}

fn directory_watch_refused(o: Out) {
    let file = open(c"file", O_CREAT | O_RDWR, 0o644).int();
    let (r, _w) = pipe();
    let path = open(c".", O_PATH, 0).int();
    let d = directories();
    for (name, fd) in [
        ("file", file),
        ("pipe", r),
        ("path", path),
        ("directory", d),
    ] {
        tell!(o, "of" => name, "create" => k!(SYS_fcntl, fd, F_NOTIFY, DN_CREATE), "nothing" => k!(SYS_fcntl, fd, F_NOTIFY, 0), "multishot of nothing" => k!(SYS_fcntl, fd, F_NOTIFY, DN_MULTISHOT), "unknown" => k!(SYS_fcntl, fd, F_NOTIFY, 0x4000));
    }
}
