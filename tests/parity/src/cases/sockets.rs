//! Unix socket pairs and named sockets, and descriptors sent over them.

use crate::out::Out;
use crate::sys::child;
use crate::util::{
    close, fstat, in_child, open, pipe, read, rights, send_message, show, sleep_ms, stat_text,
    wait_text, write,
};
use crate::{cases, k, say, sys, tell};
use libc::*;

cases!(
    pair_stream,
    pair_datagram,
    pair_seqpacket,
    pair_arguments,
    pair_peer_closes,
    pair_shutdown,
    pair_nonblocking_and_full,
    pair_peek_and_waitall,
    pair_peek_over_pieces,
    pair_waiting_readers,
    pair_poll,
    pass_descriptors,
    pass_descriptors_limits,
    pass_descriptor_of_itself,
    out_of_reach_in_flight,
    pass_credentials,
    message_truncation,
    vectors_over_sockets,
    peer_credentials,
    socket_names,
    socket_options,
    named_stream,
    named_errors,
    named_datagram,
    abstract_names,
    listen_backlog,
    accept_flags,
    not_a_socket,
    stat_of_socket,
    other_families,
);

fn pair(kind: i32) -> (i32, i32) {
    let mut s = [0i32; 2];
    k!(SYS_socketpair, AF_UNIX, kind, 0, &mut s);
    (s[0], s[1])
}

fn recv(fd: i32, len: usize, flags: i32) -> String {
    let mut b = vec![0u8; len];
    let n = k!(SYS_recvfrom, fd, &mut b[..], len, flags, 0, 0);
    if n.ok() {
        format!("{n} {}", show(&b[..n.addr().min(len)]))
    } else {
        n.to_string()
    }
}

fn send(fd: i32, b: &[u8], flags: i32) -> sys::R {
    k!(SYS_sendto, fd, b, b.len(), flags | MSG_NOSIGNAL, 0, 0)
}

fn pair_stream(o: Out) {
    let (a, b) = pair(SOCK_STREAM);
    tell!(o, "write" => write(a, b"one"), "send" => send(a, b"two", 0), "together" => recv(b, 99, 0), "back" => write(b, b"three"), "part" => recv(a, 2, 0), "rest" => recv(a, 99, 0), "empty write" => write(a, b""), "none" => recv(b, 9, MSG_DONTWAIT));
}

fn pair_datagram(o: Out) {
    let (a, b) = pair(SOCK_DGRAM);
    tell!(o, "one" => send(a, b"one", 0), "empty" => send(a, b"", 0), "long" => send(a, b"long one", 0), "first" => recv(b, 99, 0), "empty" => recv(b, 99, 0), "cut" => recv(b, 4, 0), "none" => recv(b, 9, MSG_DONTWAIT), "trunc" => { send(a, b"12345678", 0); let mut x = [0u8; 4]; k!(SYS_recvfrom, b, &mut x, 4, MSG_TRUNC, 0, 0) }, "closed peer" => { close(b); send(a, b"x", 0) });
}

fn pair_seqpacket(o: Out) {
    let (a, b) = pair(SOCK_SEQPACKET);
    tell!(o, "one" => send(a, b"one", 0), "two" => send(a, b"twotwo", 0), "first" => recv(b, 99, 0), "cut" => recv(b, 3, 0), "close" => close(a), "end" => recv(b, 9, 0), "send" => send(b, b"x", 0));
}

fn pair_arguments(o: Out) {
    let mut s = [0i32; 2];
    tell!(o, "unknown family" => k!(SYS_socketpair, 99, SOCK_STREAM, 0, &mut s), "kind" => k!(SYS_socketpair, AF_UNIX, 9, 0, &mut s), "protocol" => k!(SYS_socketpair, AF_UNIX, SOCK_STREAM, 5, &mut s), "flags" => k!(SYS_socketpair, AF_UNIX, SOCK_STREAM | 0x100, 0, &mut s), "null" => k!(SYS_socketpair, AF_UNIX, SOCK_STREAM, 0, 0),
        "cloexec nonblock" => k!(SYS_socketpair, AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, &mut s), "fd" => k!(SYS_fcntl, s[0], F_GETFD), "fl" => format!("{:o}", k!(SYS_fcntl, s[0], F_GETFL).0));
}

fn pair_peer_closes(o: Out) {
    let (a, b) = pair(SOCK_STREAM);
    write(a, b"last");
    close(a);
    tell!(o, "rest" => recv(b, 99, 0), "end" => recv(b, 99, 0), "send" => send(b, b"x", 0));
    let (a, b) = pair(SOCK_STREAM);
    write(b, b"unread by a");
    close(a);
    tell!(o, "unread data resets" => recv(b, 9, 0), "then" => recv(b, 9, 0));
}

fn pair_shutdown(o: Out) {
    let (a, b) = pair(SOCK_STREAM);
    write(a, b"x");
    tell!(o, "write side" => k!(SYS_shutdown, a, SHUT_WR), "send" => send(a, b"y", 0), "peer gets" => recv(b, 9, 0), "end" => recv(b, 9, 0), "other way" => write(b, b"z"), "arrives" => recv(a, 9, 0), "read side" => k!(SYS_shutdown, a, SHUT_RD), "peer sends" => send(b, b"q", 0), "bad" => k!(SYS_shutdown, a, 7), "again" => k!(SYS_shutdown, a, SHUT_RDWR));
}

fn pair_nonblocking_and_full(o: Out) {
    let (a, b) = pair(SOCK_STREAM | SOCK_NONBLOCK);
    let mut total = 0i64;
    let block = [0u8; 1000];
    let end = loop {
        let n = send(a, &block, 0);
        if n.0 <= 0 {
            break n;
        }
        total += n.0;
    };
    tell!(o, "full" => end, "some went" => total > 10_000, "empty" => recv(a, 1, 0));
    let mut got = 0;
    loop {
        let n = read(b, 4096).0;
        if n.0 <= 0 {
            break;
        }
        got += n.0;
    }
    tell!(o, "all came" => got == total, "room again" => send(a, &block, 0));
}

fn pair_peek_and_waitall(o: Out) {
    let (a, b) = pair(SOCK_STREAM);
    write(a, b"abcdef");
    tell!(o, "peek" => recv(b, 3, MSG_PEEK), "peek" => recv(b, 9, MSG_PEEK), "take" => recv(b, 3, 0), "rest" => recv(b, 9, 0));
    let kid = child(|| {
        write(a, b"12");
        sleep_ms(60);
        write(a, b"34");
        0
    });
    tell!(o, "all" => recv(b, 4, MSG_WAITALL), "child" => wait_text(kid));
    let mut n = 5i32;
    write(a, b"xyz");
    tell!(o, "waiting" => k!(SYS_ioctl, b, FIONREAD, &mut n), "is" => n);
}

fn polled(fd: i32) -> String {
    let mut p = pollfd {
        fd,
        events: POLLIN | POLLOUT | POLLRDHUP | POLLPRI,
        revents: 0,
    };
    let r = k!(SYS_poll, &mut p, 1, 0);
    format!("{r} {:#x}", p.revents)
}

fn pair_peek_over_pieces(o: Out) {
    // Pieces that cannot be joined: each comes with a descriptor, or is large.
    let (a, b) = pair(SOCK_STREAM);
    for text in ["one", "two"] {
        send_message(a, text.as_bytes(), &rights(&[a]));
        write(a, b"-");
    }
    for len in [2, 3, 4, 99] {
        tell!(o, "peek" => recv(b, len, MSG_PEEK));
    }
    tell!(o, "take" => recv(b, 99, 0), "peek" => recv(b, 99, MSG_PEEK), "take" => recv(b, 99, 0), "peek" => recv(b, 99, MSG_PEEK), "take" => recv(b, 99, 0), "none" => recv(b, 99, MSG_PEEK | MSG_DONTWAIT));
    let (a, b) = pair(SOCK_STREAM);
    for piece in 0..3u8 {
        write(a, &vec![b'a' + piece; 40_000]);
    }
    let mut all = vec![0u8; 120_000];
    let peeked = k!(SYS_recvfrom, b, &mut all[..], all.len(), MSG_PEEK, 0, 0);
    tell!(o, "large" => peeked, "ends" => show(&[all[0], all[79_999], all[119_999]]), "not all" => k!(SYS_recvfrom, b, &mut all[..], 100_000, MSG_PEEK | MSG_WAITALL, 0, 0), "fault" => k!(SYS_recvfrom, b, 1, 100, MSG_PEEK, 0, 0), "still there" => recv(b, 3, MSG_PEEK));
    for on in [0, 1] {
        let (a, b) = pair(SOCK_STREAM);
        k!(SYS_setsockopt, b, SOL_SOCKET, SO_PASSCRED, &on, 4);
        write(a, b"mine");
        in_child(|| {
            write(a, b"other's");
            0
        });
        tell!(o, "two senders" => recv(b, 99, MSG_PEEK), "taken" => recv(b, 99, 0));
    }
}

fn pair_waiting_readers(o: Out) {
    // One write is enough for all who wait, however little each takes.
    let (a, b) = pair(SOCK_STREAM);
    let kids: Vec<i32> = (0..4)
        .map(|_| child(|| i32::from(recv(b, 1, 0) != "1 \"x\"")))
        .collect();
    sleep_ms(60);
    write(a, b"xxxx");
    for kid in kids {
        tell!(o, "reader" => wait_text(kid));
    }
}

fn pair_poll(o: Out) {
    let (a, b) = pair(SOCK_STREAM);
    tell!(o, "idle" => polled(a));
    write(b, b"x");
    tell!(o, "data" => polled(a), "shutdown" => k!(SYS_shutdown, b, SHUT_WR), "half" => polled(a), "close" => close(b), "gone" => polled(a));
    let (a, b) = pair(SOCK_DGRAM);
    tell!(o, "datagram" => polled(a), "close" => close(b), "gone" => polled(a));
    tell!(o, "unconnected stream" => polled(k!(SYS_socket, AF_UNIX, SOCK_STREAM, 0).int()));
}

/// What came: bytes, flags, and the descriptors in it.
fn recv_message(fd: i32, len: usize, room: usize, flags: i32) -> (String, Vec<i32>) {
    let mut data = vec![0u8; len];
    let mut control = vec![0u8; room];
    let v = iovec {
        iov_base: data.as_mut_ptr().cast(),
        iov_len: len,
    };
    let mut m: msghdr = sys::zeroed();
    m.msg_iov = std::ptr::from_ref(&v).cast_mut();
    m.msg_iovlen = 1;
    m.msg_control = control.as_mut_ptr().cast();
    m.msg_controllen = room;
    let n = k!(SYS_recvmsg, fd, &mut m, flags);
    let mut fds = Vec::new();
    if m.msg_controllen >= 20 {
        let size = usize::from_ne_bytes(control[..8].try_into().unwrap_or_default());
        for c in control[16..size.min(room)].chunks_exact(4) {
            fds.push(i32::from_ne_bytes(c.try_into().unwrap_or_default()));
        }
    }
    (
        format!("{n} flags {:#x} control {}", m.msg_flags, m.msg_controllen),
        fds,
    )
}

fn pass_descriptors(o: Out) {
    let (a, b) = pair(SOCK_STREAM);
    let (r, w) = pipe();
    tell!(o, "send" => send_message(a, b"fd", &rights(&[w, r])));
    close(w);
    let (text, fds) = recv_message(b, 9, 64, 0);
    tell!(o, "got" => text, "count" => fds.len(), "write" => write(fds[0], b"passed"), "read" => read(fds[1], 9).1, "cloexec" => k!(SYS_fcntl, fds[0], F_GETFD));
    send_message(a, b"x", &rights(&[r]));
    let (_, fds) = recv_message(b, 9, 64, MSG_CMSG_CLOEXEC);
    tell!(o, "asked for" => k!(SYS_fcntl, fds[0], F_GETFD));
    let kid = child(|| {
        let f = open(c"made", O_CREAT | O_RDWR, 0o600).int();
        write(f, b"by child");
        i32::from(send_message(a, b"y", &rights(&[f])).0 != 1)
    });
    let (_, fds) = recv_message(b, 9, 64, 0);
    let mut buf = [0u8; 9];
    tell!(o, "child" => wait_text(kid), "pread" => k!(SYS_pread64, fds[0], &mut buf, 9, 0), "text" => show(&buf));
}

fn pass_descriptors_limits(o: Out) {
    let (a, b) = pair(SOCK_STREAM);
    tell!(o, "253" => send_message(a, b"x", &rights(&[0; 253])), "254" => send_message(a, b"x", &rights(&[0; 254])), "closed one" => send_message(a, b"x", &rights(&[0, 99])), "no data" => send_message(a, b"", &rights(&[0])));
    let (text, fds) = recv_message(b, 9, 24, 0);
    tell!(o, "little room" => text, "count" => fds.len());
    send_message(a, b"x", &rights(&[0]));
    tell!(o, "no room" => recv_message(b, 9, 0, 0).0);
    send_message(a, b"x", &rights(&[0]));
    tell!(o, "plain read" => read(b, 5).0);
    let mut bad = rights(&[0]);
    bad[0] = 3;
    tell!(o, "short header" => send_message(a, b"x", &bad));
    bad[0] = 200;
    tell!(o, "long header" => send_message(a, b"x", &bad));
}

fn pass_descriptor_of_itself(o: Out) {
    let (a, b) = pair(SOCK_DGRAM);
    tell!(o, "send" => send_message(a, b"x", &rights(&[a, b])), "close" => close(a));
    let (text, fds) = recv_message(b, 9, 64, 0);
    tell!(o, "got" => text, "works" => send(fds[0], b"again", 0), "recv" => recv(b, 9, 0));
    // What is still on the way when the socket goes is closed with it.
    let (a, b) = pair(SOCK_STREAM);
    let (r, w) = pipe();
    send_message(a, b"x", &rights(&[w]));
    close(w);
    close(a);
    k!(SYS_fcntl, r, F_SETFL, O_NONBLOCK);
    tell!(o, "held" => read(r, 1).0, "close" => close(b), "let go" => read(r, 1).0);
}

/// Whether the other end of `r` is closed, once Linux looks for garbage, which it does at a close.
fn let_go(r: i32) -> bool {
    k!(SYS_fcntl, r, F_SETFL, O_NONBLOCK);
    (0..500).any(|_| {
        let (a, b) = pair(SOCK_STREAM);
        close(a);
        close(b);
        sleep_ms(10);
        read(r, 1).0.0 == 0
    })
}

fn out_of_reach_in_flight(o: Out) {
    // Two in each other and in themselves.
    let (a, b) = pair(SOCK_STREAM);
    let (r, w) = pipe();
    send_message(a, b"x", &rights(&[a, b, w]));
    send_message(b, b"x", &rights(&[a]));
    for fd in [a, b, w] {
        close(fd);
    }
    tell!(o, "each other" => let_go(r));
    // One that listens, in what it has not accepted.
    let (addr, len) = address(b"\0ringfence-flight");
    let l = k!(SYS_socket, AF_UNIX, SOCK_STREAM, 0).int();
    k!(SYS_bind, l, &addr, len);
    k!(SYS_listen, l, 1);
    let c = k!(SYS_socket, AF_UNIX, SOCK_STREAM, 0).int();
    let (r, w) = pipe();
    tell!(o, "connect" => k!(SYS_connect, c, &addr, len), "send" => send_message(c, b"x", &rights(&[l, w])));
    for fd in [c, l, w] {
        close(fd);
    }
    tell!(o, "a listener" => let_go(r));
    // In reach: through one that is in another, which is held.
    let (a, b) = pair(SOCK_DGRAM);
    let (c, d) = pair(SOCK_DGRAM);
    let (r, w) = pipe();
    send_message(c, b"y", &rights(&[w]));
    send_message(a, b"x", &rights(&[d, a]));
    for fd in [a, c, d, w] {
        close(fd);
    }
    let (e, f) = pair(SOCK_STREAM);
    close(e);
    close(f);
    let (text, fds) = recv_message(b, 9, 64, 0);
    tell!(o, "got" => text);
    let (text, more) = recv_message(fds[0], 9, 64, 0);
    tell!(o, "inside" => text, "works" => write(more[0], b"z"), "read" => read(r, 1).1);
    // One in another, as deep as may be.
    let (r, w) = pipe();
    let mut last = w;
    for _ in 0..5000 {
        let (a, b) = pair(SOCK_DGRAM);
        if !send_message(a, b"x", &rights(&[last])).ok() {
            close(b);
        } else {
            close(last);
            last = b;
        }
        close(a);
    }
    close(last);
    tell!(o, "a chain" => let_go(r));
}

fn pass_credentials(o: Out) {
    let (a, b) = pair(SOCK_STREAM);
    tell!(o, "on" => k!(SYS_setsockopt, b, SOL_SOCKET, SO_PASSCRED, &1i32, 4), "send" => write(a, b"who"));
    let mut data = [0u8; 8];
    let mut control = [0u8; 64];
    let v = iovec {
        iov_base: data.as_mut_ptr().cast(),
        iov_len: 8,
    };
    let mut m: msghdr = sys::zeroed();
    m.msg_iov = std::ptr::from_ref(&v).cast_mut();
    m.msg_iovlen = 1;
    m.msg_control = control.as_mut_ptr().cast();
    m.msg_controllen = 64;
    let n = k!(SYS_recvmsg, b, &mut m, 0);
    let word =
        |i: usize| i32::from_ne_bytes(control[i * 4..i * 4 + 4].try_into().unwrap_or_default());
    tell!(o, "recv" => n, "control" => m.msg_controllen, "level" => word(2), "type" => word(3), "pid" => i64::from(word(4)) == k!(SYS_getpid).0, "uid" => word(5), "gid" => word(6));
}

fn message_truncation(o: Out) {
    let (a, b) = pair(SOCK_DGRAM);
    send(a, b"0123456789", 0);
    tell!(o, "cut" => recv_message(b, 4, 0, 0).0, "whole" => { send(a, b"01", 0); recv_message(b, 4, 0, 0).0 }, "none" => recv_message(b, 4, 0, MSG_DONTWAIT).0);
}

fn vectors_over_sockets(o: Out) {
    let (a, b) = pair(SOCK_DGRAM);
    let parts = [
        iovec {
            iov_base: c"ab".as_ptr() as *mut c_void,
            iov_len: 2,
        },
        iovec {
            iov_base: c"cde".as_ptr() as *mut c_void,
            iov_len: 3,
        },
    ];
    tell!(o, "one datagram" => k!(SYS_writev, a, &parts, 2), "recv" => recv(b, 9, 0));
    let mut m: [mmsghdr; 2] = [sys::zeroed(), sys::zeroed()];
    for x in &mut m {
        x.msg_hdr.msg_iov = parts.as_ptr().cast_mut();
        x.msg_hdr.msg_iovlen = 2;
    }
    tell!(o, "sendmmsg" => k!(SYS_sendmmsg, a, &mut m, 2, 0), "len" => m[1].msg_len, "first" => recv(b, 9, 0), "second" => recv(b, 9, 0));
}

fn peer_credentials(o: Out) {
    let (a, _b) = pair(SOCK_STREAM);
    let mut c = [0i32; 3];
    let mut len = 12u32;
    tell!(o, "get" => k!(SYS_getsockopt, a, SOL_SOCKET, SO_PEERCRED, &mut c, &mut len), "pid" => i64::from(c[0]) == k!(SYS_getpid).0, "ids" => format!("{} {}", c[1], c[2]), "len" => len);
}

fn socket_names(o: Out) {
    let (a, _b) = pair(SOCK_STREAM);
    let mut n = [9u8; 110];
    let mut len = 110u32;
    tell!(o, "own" => k!(SYS_getsockname, a, &mut n, &mut len), "len" => len, "family" => n[0], "peer" => { len = 110; k!(SYS_getpeername, a, &mut n, &mut len) }, "len" => len, "unconnected" => { len = 110; k!(SYS_getpeername, k!(SYS_socket, AF_UNIX, SOCK_STREAM, 0), &mut n, &mut len) });
}

fn option(fd: i32, name: i32) -> String {
    let mut v = -1i32;
    let mut len = 4u32;
    let r = k!(SYS_getsockopt, fd, SOL_SOCKET, name, &mut v, &mut len);
    if r.ok() {
        format!("{v} ({len})")
    } else {
        r.to_string()
    }
}

fn socket_options(o: Out) {
    let (a, _b) = pair(SOCK_STREAM);
    tell!(o, "type" => option(a, SO_TYPE), "domain" => option(a, SO_DOMAIN), "protocol" => option(a, SO_PROTOCOL), "error" => option(a, SO_ERROR), "listening" => option(a, SO_ACCEPTCONN), "passcred" => option(a, SO_PASSCRED), "reuse" => option(a, SO_REUSEADDR), "keepalive" => option(a, SO_KEEPALIVE), "unknown" => option(a, 9999), "level" => k!(SYS_getsockopt, a, 77, 1, &mut 0i32, &mut 4u32),
        "set reuse" => k!(SYS_setsockopt, a, SOL_SOCKET, SO_REUSEADDR, &1i32, 4), "reuse" => option(a, SO_REUSEADDR), "short" => k!(SYS_setsockopt, a, SOL_SOCKET, SO_REUSEADDR, &1i32, 2), "set type" => k!(SYS_setsockopt, a, SOL_SOCKET, SO_TYPE, &1i32, 4));
    let t = timeval {
        tv_sec: 0,
        tv_usec: 60_000,
    };
    let t0 = crate::util::now_ms();
    tell!(o, "receive timeout" => k!(SYS_setsockopt, a, SOL_SOCKET, SO_RCVTIMEO, &t, 16), "recv" => recv(a, 1, 0), "waited" => crate::util::now_ms() - t0 >= 50);
}

fn address(path: &[u8]) -> ([u8; 110], u32) {
    let mut a = [0u8; 110];
    a[0] = AF_UNIX as u8;
    a[2..2 + path.len()].copy_from_slice(path);
    (a, 2 + path.len() as u32)
}

fn named_stream(o: Out) {
    let (addr, len) = address(b"sock\0");
    let l = k!(SYS_socket, AF_UNIX, SOCK_STREAM, 0).int();
    tell!(o, "bind" => k!(SYS_bind, l, &addr, len), "stat" => stat_text(c"sock", 0), "refused" => in_child(|| { let s = k!(SYS_socket, AF_UNIX, SOCK_STREAM, 0); (-k!(SYS_connect, s, &addr, len).0) as i32 }), "listen" => k!(SYS_listen, l, 5));
    let kid = child(|| {
        let s = k!(SYS_socket, AF_UNIX, SOCK_STREAM, 0).int();
        k!(SYS_connect, s, &addr, len);
        write(s, b"hi");
        i32::from(read(s, 9).1 == "\"answer\"")
    });
    let mut from = [0u8; 110];
    let mut n = 110u32;
    let c = k!(SYS_accept, l, &mut from, &mut n).int();
    tell!(o, "from" => n, "read" => read(c, 9).1, "answer" => write(c, b"answer"), "child" => wait_text(kid));
    let mut n = 110u32;
    tell!(o, "name" => k!(SYS_getsockname, c, &mut from, &mut n), "len" => n, "text" => show(&from[2..7]), "bind again" => k!(SYS_bind, l, &addr, len), "in use" => k!(SYS_bind, k!(SYS_socket, AF_UNIX, SOCK_STREAM, 0), &addr, len));
}

fn named_errors(o: Out) {
    let s = k!(SYS_socket, AF_UNIX, SOCK_STREAM, 0).int();
    crate::util::mk(c"plain", b"");
    let con = |p: &[u8]| {
        let (a, n) = address(p);
        k!(SYS_connect, s, &a, n)
    };
    let (addr, len) = address(b"none/such\0");
    tell!(o, "missing" => con(b"nosuch\0"), "not a socket" => con(b"plain\0"), "no directory" => k!(SYS_bind, s, &addr, len), "short" => k!(SYS_connect, s, &addr, 1), "long" => k!(SYS_bind, s, &addr, 200), "family" => { let mut x = addr; x[0] = 2; k!(SYS_bind, s, &x, len) }, "null" => k!(SYS_connect, s, 0, 20), "open it" => { let (a, n) = address(b"s\0"); k!(SYS_bind, s, &a, n); open(c"s", O_RDWR, 0) },
        "listen unbound" => k!(SYS_listen, k!(SYS_socket, AF_UNIX, SOCK_STREAM, 0), 1), "accept not listening" => k!(SYS_accept, s, 0, 0), "listen datagram" => k!(SYS_listen, k!(SYS_socket, AF_UNIX, SOCK_DGRAM, 0), 1), "send unconnected" => send(s, b"x", 0), "recv unconnected" => recv(s, 1, 0));
    let long = |name: usize, len: u32| {
        let mut hdr: msghdr = sys::zeroed();
        hdr.msg_name = name as *mut c_void;
        hdr.msg_namelen = len;
        k!(SYS_sendmsg, s, &hdr, 0)
    };
    tell!(o, "long name nowhere" => long(1, 200), "long name" => long(addr.as_ptr() as usize, 500), "negative" => long(1, u32::MAX));
}

fn named_datagram(o: Out) {
    let (addr, len) = address(b"dg\0");
    let l = k!(SYS_socket, AF_UNIX, SOCK_DGRAM, 0).int();
    k!(SYS_bind, l, &addr, len);
    let s = k!(SYS_socket, AF_UNIX, SOCK_DGRAM, 0).int();
    tell!(o, "sendto" => k!(SYS_sendto, s, b"hello".as_slice(), 5, 0, &addr, len), "recv" => recv(l, 9, 0), "connect" => k!(SYS_connect, s, &addr, len), "send" => send(s, b"more", 0), "recv" => recv(l, 9, 0), "other kind" => { let t = k!(SYS_socket, AF_UNIX, SOCK_STREAM, 0); k!(SYS_connect, t, &addr, len) }, "closed" => { close(l); send(s, b"x", 0) }, "unconnected" => send(k!(SYS_socket, AF_UNIX, SOCK_DGRAM, 0).int(), b"x", 0));
}

fn abstract_names(o: Out) {
    let (addr, len) = address(b"\0ringfence-parity");
    let l = k!(SYS_socket, AF_UNIX, SOCK_STREAM, 0).int();
    tell!(o, "bind" => k!(SYS_bind, l, &addr, len), "listen" => k!(SYS_listen, l, 1));
    let c = k!(SYS_socket, AF_UNIX, SOCK_STREAM, 0).int();
    tell!(o, "connect" => k!(SYS_connect, c, &addr, len), "other name" => k!(SYS_connect, k!(SYS_socket, AF_UNIX, SOCK_STREAM, 0), &addr, len - 1), "again" => k!(SYS_connect, c, &addr, len), "auto" => { let s = k!(SYS_socket, AF_UNIX, SOCK_STREAM, 0); let r = k!(SYS_bind, s, &addr, 2); let mut n = 110u32; let mut a = [0u8; 110]; k!(SYS_getsockname, s, &mut a, &mut n); format!("{r} {n}") });
}

fn listen_backlog(o: Out) {
    let (addr, len) = address(b"bl\0");
    let l = k!(SYS_socket, AF_UNIX, SOCK_STREAM, 0).int();
    k!(SYS_bind, l, &addr, len);
    k!(SYS_listen, l, 1);
    for _ in 0..4 {
        let s = k!(SYS_socket, AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
        say!(o, "{}", k!(SYS_connect, s, &addr, len));
    }
    tell!(o, "accept" => k!(SYS_accept, l, 0, 0).yes(), "close" => close(l));
}

fn accept_flags(o: Out) {
    let (addr, len) = address(b"af\0");
    let l = k!(SYS_socket, AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0).int();
    k!(SYS_bind, l, &addr, len);
    k!(SYS_listen, l, 5);
    tell!(o, "none" => k!(SYS_accept, l, 0, 0), "poll" => polled(l));
    let s = k!(SYS_socket, AF_UNIX, SOCK_STREAM, 0);
    k!(SYS_connect, s, &addr, len);
    tell!(o, "poll" => polled(l), "flags" => k!(SYS_accept4, l, 0, 0, 7));
    let c = k!(SYS_accept4, l, 0, 0, SOCK_CLOEXEC | SOCK_NONBLOCK).int();
    tell!(o, "fd" => k!(SYS_fcntl, c, F_GETFD), "nonblock" => recv(c, 1, 0), "listening" => option(l, SO_ACCEPTCONN));
}

fn not_a_socket(o: Out) {
    let (r, _w) = pipe();
    tell!(o, "send" => send(r, b"x", 0), "recv" => recv(r, 1, 0), "listen" => k!(SYS_listen, r, 1), "closed" => send(99, b"x", 0), "getsockopt" => option(r, SO_TYPE), "shutdown" => k!(SYS_shutdown, r, 0));
}

fn stat_of_socket(o: Out) {
    let (a, _b) = pair(SOCK_STREAM);
    let st = fstat(a);
    let mut b = [0u8; 40];
    let p = std::ffi::CString::new(format!("/proc/self/fd/{a}")).unwrap_or_default();
    let n = k!(SYS_readlinkat, AT_FDCWD, p.as_c_str(), &mut b, 40);
    tell!(o, "mode" => format!("{:o}", st.st_mode), "size" => st.st_size, "link" => String::from_utf8_lossy(&b[..n.addr().min(40)]).starts_with("socket:["), "seek" => k!(SYS_lseek, a, 0, 0), "reopen" => open(&p, O_RDWR, 0));
}

fn other_families(o: Out) {
    tell!(o, "unknown" => k!(SYS_socket, 99, SOCK_STREAM, 0), "kind" => k!(SYS_socket, AF_UNIX, 77, 0), "negative" => k!(SYS_socket, -1, SOCK_STREAM, 0), "unix raw" => k!(SYS_socket, AF_UNIX, SOCK_RAW, 0).yes());
}
