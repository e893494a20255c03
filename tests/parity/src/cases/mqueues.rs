//! POSIX message queues by their raw calls.

use crate::out::Out;
use crate::sys::{self, R, child};
use crate::util::{as_user, close, in_child, now_ms, read, sleep_ms, wait_text, write};
use crate::{cases, k, say, tell};
use libc::*;
use std::ffi::CString;

cases!(
    open_and_unlink,
    open_arguments,
    names,
    attributes_of_queues,
    priorities,
    sizes,
    full_and_empty,
    timeouts,
    waiting_for_a_message,
    waiting_for_room,
    interrupted_waits,
    access_modes,
    permissions,
    unlinked_but_open,
    notification,
    notification_is_once,
    notification_owner,
    notification_arguments,
    notification_with_receiver,
    polling,
    reading_the_file,
    across_fork,
    limits_of_users,
    first_come_first_served,
    several_processes,
);

#[derive(Clone, Copy, Default, Debug)]
#[repr(C)]
struct Attr {
    flags: i64,
    maxmsg: i64,
    msgsize: i64,
    curmsgs: i64,
    reserved: [i64; 4],
}

fn attr(maxmsg: i64, msgsize: i64) -> Attr {
    Attr {
        maxmsg,
        msgsize,
        ..Attr::default()
    }
}

fn name(n: u32) -> CString {
    CString::new(format!("ringfence.{}.{n}", k!(SYS_getpid).0)).unwrap_or_default()
}

fn make(name: &CString, flags: i32, a: Attr) -> R {
    k!(SYS_mq_open, name.as_c_str(), flags | O_CREAT, 0o600, &a)
}

fn unlink(name: &CString) -> R {
    k!(SYS_mq_unlink, name.as_c_str())
}

fn queue(n: u32, maxmsg: i64, msgsize: i64) -> i32 {
    let name = name(n);
    let fd = make(&name, O_RDWR, attr(maxmsg, msgsize));
    unlink(&name);
    fd.int()
}

fn send(fd: i32, text: &[u8], prio: u32) -> R {
    k!(SYS_mq_timedsend, fd, text, text.len(), prio, 0)
}

fn recv(fd: i32, room: usize) -> String {
    recv_until(fd, room, 0)
}

fn recv_until(fd: i32, room: usize, until: usize) -> String {
    let mut b = vec![0u8; room];
    let mut prio = 99u32;
    let r = k!(SYS_mq_timedreceive, fd, &mut b[..], room, &mut prio, until);
    if r.ok() {
        format!("{prio} {:?}", String::from_utf8_lossy(&b[..r.addr()]))
    } else {
        r.to_string()
    }
}

fn get(fd: i32) -> Attr {
    let mut a = Attr::default();
    k!(SYS_mq_getsetattr, fd, 0, &mut a);
    a
}

fn soon(ms: i64) -> timespec {
    let mut t: timespec = sys::zeroed();
    k!(SYS_clock_gettime, CLOCK_REALTIME, &mut t);
    t.tv_nsec += ms % 1000 * 1_000_000;
    t.tv_sec += ms / 1000 + t.tv_nsec / 1_000_000_000;
    t.tv_nsec %= 1_000_000_000;
    t
}

fn at(t: &timespec) -> usize {
    std::ptr::from_ref(t) as usize
}

fn open_and_unlink(o: Out) {
    let n = name(1);
    let fd = make(&n, O_RDWR, attr(3, 10));
    tell!(o, "made" => fd.yes(), "cloexec" => k!(SYS_fcntl, fd, F_GETFD), "flags" => k!(SYS_fcntl, fd, F_GETFL), "exclusive" => make(&n, O_EXCL | O_RDWR, attr(3, 10)), "again" => make(&n, O_RDONLY, attr(9, 99)).yes(), "plain" => k!(SYS_mq_open, n.as_c_str(), O_WRONLY, 0, 0).yes());
    tell!(o, "unlink" => unlink(&n), "twice" => unlink(&n), "gone" => k!(SYS_mq_open, n.as_c_str(), O_RDWR, 0, 0), "still works" => send(fd.int(), b"x", 0));
}

fn open_arguments(o: Out) {
    let n = name(1);
    for (count, size) in [
        (0, 10),
        (10, 0),
        (-1, 10),
        (10, -1),
        (1 << 40, 10),
        (10, 1 << 40),
        (65537, 1),
        (1, (16 << 20) + 1),
    ] {
        tell!(o, "attributes" => make(&n, O_RDWR, attr(count, size)).yes());
        unlink(&n);
    }
    tell!(o, "bad attributes" => k!(SYS_mq_open, n.as_c_str(), O_CREAT | O_RDWR, 0o600, 16), "none given" => k!(SYS_mq_open, n.as_c_str(), O_CREAT | O_RDWR, 0o600, 0).yes(), "access mode" => k!(SYS_mq_open, n.as_c_str(), 3, 0, 0));
    unlink(&n);
    tell!(o, "bad name" => k!(SYS_mq_open, 16, O_RDWR, 0, 0), "not a queue" => send(0, b"x", 0), "bad descriptor" => send(99, b"x", 0), "receive" => recv(99, 10), "attributes" => k!(SYS_mq_getsetattr, 0, 0, 0));
}

fn names(o: Out) {
    let long = CString::new("n".repeat(255)).unwrap_or_default();
    let longer = CString::new("n".repeat(256)).unwrap_or_default();
    for n in [c"", c".", c"..", c"/x", c"a/b"]
        .map(CString::from)
        .iter()
        .chain([&longer])
    {
        tell!(o, "name" => make(n, O_RDWR, attr(1, 1)), "unlink" => unlink(n));
    }
    tell!(o, "long" => make(&long, O_RDWR, attr(1, 1)).yes(), "unlink" => unlink(&long));
}

fn attributes_of_queues(o: Out) {
    let fd = queue(1, 4, 20);
    say!(o, "{:?}", get(fd));
    send(fd, b"x", 0);
    let mut old = Attr::default();
    let new = Attr {
        flags: i64::from(O_NONBLOCK),
        maxmsg: 99,
        ..Attr::default()
    };
    tell!(o, "set" => k!(SYS_mq_getsetattr, fd, &new, &mut old));
    say!(o, "{old:?} {:?}", get(fd));
    let bad = Attr {
        flags: i64::from(O_APPEND),
        ..Attr::default()
    };
    tell!(o, "other flags" => k!(SYS_mq_getsetattr, fd, &bad, 0), "bad address" => k!(SYS_mq_getsetattr, fd, 16, 0), "bad address" => k!(SYS_mq_getsetattr, fd, 0, 16), "flags" => k!(SYS_fcntl, fd, F_GETFL));
    let n = name(2);
    let fd = k!(SYS_mq_open, n.as_c_str(), O_CREAT | O_RDWR, 0o600, 0).int();
    unlink(&n);
    say!(o, "{:?}", get(fd));
}

fn priorities(o: Out) {
    let fd = queue(1, 10, 20);
    for (text, prio) in [
        (&b"low"[..], 1),
        (b"high", 9),
        (b"middle", 5),
        (b"high again", 9),
        (b"zero", 0),
    ] {
        send(fd, text, prio);
    }
    for _ in 0..5 {
        say!(o, "{}", recv(fd, 20));
    }
    tell!(o, "most" => send(fd, b"", 32767), "too much" => send(fd, b"", 32768), "empty" => recv(fd, 20));
}

fn sizes(o: Out) {
    let fd = queue(1, 3, 5);
    tell!(o, "fits" => send(fd, b"12345", 0), "too long" => send(fd, b"123456", 0), "small buffer" => recv(fd, 4), "bad address" => k!(SYS_mq_timedsend, fd, 16, 5, 0, 0), "got" => recv(fd, 5), "larger buffer" => { send(fd, b"x", 0); recv(fd, 99) });
    send(fd, b"y", 3);
    tell!(o, "no priority wanted" => k!(SYS_mq_timedreceive, fd, &mut [0u8; 8], 8, 0, 0));
}

fn full_and_empty(o: Out) {
    let n = name(1);
    let fd = make(&n, O_RDWR | O_NONBLOCK, attr(2, 5)).int();
    unlink(&n);
    tell!(o, "empty" => recv(fd, 5), "one" => send(fd, b"1", 0), "two" => send(fd, b"2", 0), "full" => send(fd, b"3", 0), "count" => get(fd).curmsgs, "got" => recv(fd, 5), "room" => send(fd, b"3", 0));
}

fn timeouts(o: Out) {
    let fd = queue(1, 1, 5);
    let t = now_ms();
    tell!(o, "empty" => recv_until(fd, 5, at(&soon(80))), "long enough" => now_ms() - t >= 75, "past" => recv_until(fd, 5, at(&soon(-1000))));
    send(fd, b"x", 0);
    tell!(o, "full" => k!(SYS_mq_timedsend, fd, b"y".as_slice(), 1, 0, &soon(50)), "there" => recv_until(fd, 5, at(&soon(-1000))));
    let bad = timespec {
        tv_sec: 0,
        tv_nsec: -1,
    };
    tell!(o, "bad time" => recv_until(fd, 5, at(&bad)), "bad address" => recv_until(fd, 5, 16), "bad time, bad priority" => k!(SYS_mq_timedsend, fd, b"y".as_slice(), 1, 99999, &bad));
    send(fd, b"x", 0);
    tell!(o, "bad time though there is one" => recv_until(fd, 5, at(&bad)));
}

fn waiting_for_a_message(o: Out) {
    let fd = queue(1, 2, 10);
    let kid = child(|| i32::from(recv(fd, 10) != "4 \"hello\""));
    sleep_ms(60);
    tell!(o, "send" => send(fd, b"hello", 4), "child" => wait_text(kid), "left" => get(fd).curmsgs);
}

fn waiting_for_room(o: Out) {
    let fd = queue(1, 1, 10);
    send(fd, b"first", 0);
    let kid = child(|| i32::from(!send(fd, b"second", 1).ok()));
    sleep_ms(60);
    tell!(o, "count" => get(fd).curmsgs, "first" => recv(fd, 10), "child" => wait_text(kid), "second" => recv(fd, 10));
}

fn interrupted_waits(o: Out) {
    let fd = queue(1, 1, 10);
    sys::on(SIGALRM, 0);
    let it = [0i64, 0, 0, 60_000];
    k!(SYS_setitimer, ITIMER_REAL, &it, 0);
    tell!(o, "receive" => recv(fd, 10));
    send(fd, b"x", 0);
    k!(SYS_setitimer, ITIMER_REAL, &it, 0);
    tell!(o, "send" => send(fd, b"y", 0));
    recv(fd, 10);
    sys::on(SIGALRM, SA_RESTART);
    k!(SYS_setitimer, ITIMER_REAL, &it, 0);
    tell!(o, "restarted" => recv_until(fd, 10, at(&soon(200))));
}

fn access_modes(o: Out) {
    let n = name(1);
    let w = make(&n, O_WRONLY, attr(2, 5)).int();
    let r = k!(SYS_mq_open, n.as_c_str(), O_RDONLY, 0, 0).int();
    unlink(&n);
    tell!(o, "send by reader" => send(r, b"x", 0), "receive by writer" => recv(w, 5), "send" => send(w, b"x", 0), "receive" => recv(r, 5));
}

fn permissions(o: Out) {
    let n = name(1);
    k!(SYS_umask, 0);
    let a = attr(2, 5);
    let fd = k!(SYS_mq_open, n.as_c_str(), O_CREAT | O_RDWR, 0o644, &a);
    let st = crate::util::fstat(fd.int());
    tell!(o, "mode" => format!("{:o}", st.st_mode), "size" => st.st_size);
    let text = as_user(|| {
        let open = |flags: i32| k!(SYS_mq_open, n.as_c_str(), flags, 0, 0).yes();
        tell!(o, "read" => open(O_RDONLY), "write" => open(O_WRONLY), "both" => open(O_RDWR), "create" => k!(SYS_mq_open, n.as_c_str(), O_CREAT | O_WRONLY, 0o600, &a), "unlink" => unlink(&n));
        let own = name(2);
        tell!(o, "own" => make(&own, O_RDWR, a).yes(), "too many messages" => make(&name(3), O_RDWR, attr(11, 5)), "too long" => make(&name(3), O_RDWR, attr(5, 8193)), "unlink" => unlink(&own));
    });
    say!(o, "{text}");
    unlink(&n);
    k!(SYS_umask, 0o077);
    let fd = k!(SYS_mq_open, n.as_c_str(), O_CREAT | O_RDWR, 0o666, &a);
    tell!(o, "umask" => format!("{:o}", crate::util::fstat(fd.int()).st_mode));
    unlink(&n);
}

fn unlinked_but_open(o: Out) {
    let n = name(1);
    let a = make(&n, O_RDWR, attr(2, 5)).int();
    send(a, b"old", 0);
    unlink(&n);
    let b = make(&n, O_RDWR, attr(2, 5)).int();
    unlink(&n);
    tell!(o, "new one is empty" => get(b).curmsgs, "old one" => recv(a, 5));
}

/// `struct sigevent`, as far as it counts.
fn event(kind: i32, signal: i32, value: u64) -> [u64; 8] {
    [
        value,
        u64::from(signal as u32) | u64::from(kind as u32) << 32,
        0,
        0,
        0,
        0,
        0,
        0,
    ]
}

fn notify(fd: i32, e: &[u64; 8]) -> R {
    k!(SYS_mq_notify, fd, e)
}

fn notification(o: Out) {
    let fd = queue(1, 3, 5);
    sys::on(SIGUSR1, 0);
    tell!(o, "ask" => notify(fd, &event(SIGEV_SIGNAL, SIGUSR1, 77)), "nothing yet" => sys::count(SIGUSR1));
    let kid = in_child(|| i32::from(!send(fd, b"x", 0).ok()));
    let s = sys::seen(SIGUSR1);
    use std::sync::atomic::Ordering::SeqCst;
    tell!(o, "child" => kid, "told" => sys::count(SIGUSR1), "code" => s.code.load(SeqCst), "value" => s.value.load(SeqCst), "by another" => s.pid.load(SeqCst) > 0 && i64::from(s.pid.load(SeqCst)) != k!(SYS_getpid).0);
}

fn notification_is_once(o: Out) {
    let fd = queue(1, 5, 5);
    sys::on(SIGUSR1, 0);
    send(fd, b"x", 0);
    notify(fd, &event(SIGEV_SIGNAL, SIGUSR1, 0));
    send(fd, b"x", 0);
    tell!(o, "not of a second message" => sys::count(SIGUSR1), "taken" => notify(fd, &event(SIGEV_NONE, 0, 0)));
    recv(fd, 5);
    recv(fd, 5);
    send(fd, b"x", 0);
    tell!(o, "of the first" => sys::count(SIGUSR1));
    recv(fd, 5);
    send(fd, b"x", 0);
    tell!(o, "once" => sys::count(SIGUSR1), "anew" => notify(fd, &event(SIGEV_SIGNAL, SIGUSR1, 0)), "no more" => k!(SYS_mq_notify, fd, 0));
    recv(fd, 5);
    send(fd, b"x", 0);
    tell!(o, "cancelled" => sys::count(SIGUSR1));
}

fn notification_owner(o: Out) {
    let fd = queue(1, 5, 5);
    tell!(o, "ask" => notify(fd, &event(SIGEV_NONE, 0, 0)));
    let kid = in_child(|| {
        tell!(o, "other process" => notify(fd, &event(SIGEV_NONE, 0, 0)), "cancels nothing" => k!(SYS_mq_notify, fd, 0));
        i32::from(notify(fd, &event(SIGEV_NONE, 0, 0)).ok())
    });
    tell!(o, "child" => kid, "twice" => notify(fd, &event(SIGEV_NONE, 0, 0)));
    let copy = k!(SYS_dup, fd).int();
    close(copy);
    tell!(o, "ends with any close" => notify(fd, &event(SIGEV_NONE, 0, 0)));
    k!(SYS_mq_notify, fd, 0);
    let kid = in_child(|| i32::from(!notify(fd, &event(SIGEV_NONE, 0, 0)).ok()));
    tell!(o, "child" => kid, "ends with the process" => notify(fd, &event(SIGEV_NONE, 0, 0)));
}

fn notification_arguments(o: Out) {
    let fd = queue(1, 5, 5);
    tell!(o, "kind" => notify(fd, &event(9, 1, 0)), "signal" => notify(fd, &event(SIGEV_SIGNAL, 65, 0)), "negative" => notify(fd, &event(SIGEV_SIGNAL, -1, 0)), "bad address" => k!(SYS_mq_notify, fd, 16), "not a queue" => notify(0, &event(SIGEV_NONE, 0, 0)), "bad" => notify(99, &event(SIGEV_NONE, 0, 0)),
        "zero" => notify(fd, &event(SIGEV_SIGNAL, 0, 0)), "sent" => send(fd, b"x", 0), "nothing happened" => 0);
}

fn notification_with_receiver(o: Out) {
    let fd = queue(1, 5, 5);
    sys::on(SIGUSR1, 0);
    notify(fd, &event(SIGEV_SIGNAL, SIGUSR1, 0));
    let kid = child(|| i32::from(recv(fd, 5) != "0 \"x\""));
    sleep_ms(60);
    send(fd, b"x", 0);
    tell!(o, "receiver" => wait_text(kid), "not told" => sys::count(SIGUSR1));
    send(fd, b"y", 0);
    tell!(o, "told" => sys::count(SIGUSR1));
}

fn polling(o: Out) {
    let fd = queue(1, 1, 5);
    let mut p = pollfd {
        fd,
        events: POLLIN | POLLOUT | POLLRDNORM | POLLWRNORM,
        revents: 0,
    };
    tell!(o, "empty" => k!(SYS_poll, &mut p, 1, 0), "what" => p.revents);
    send(fd, b"x", 0);
    tell!(o, "full" => k!(SYS_poll, &mut p, 1, 0), "what" => p.revents);
    recv(fd, 5);
    let kid = child(|| {
        sleep_ms(50);
        send(fd, b"x", 0);
        0
    });
    p.events = POLLIN;
    tell!(o, "woken" => k!(SYS_poll, &mut p, 1, 3000), "what" => p.revents, "child" => wait_text(kid));
    let ep = k!(SYS_epoll_create1, 0);
    let e = epoll_event {
        events: EPOLLIN as u32,
        u64: 1,
    };
    tell!(o, "epoll" => k!(SYS_epoll_ctl, ep, EPOLL_CTL_ADD, fd, &e));
}

fn reading_the_file(o: Out) {
    let fd = queue(1, 3, 50);
    tell!(o, "empty" => read(fd, 100).1, "on" => read(fd, 100).1);
    send(fd, b"hello", 0);
    send(fd, b"you", 0);
    notify(fd, &event(SIGEV_SIGNAL, SIGUSR1, 0));
    k!(SYS_lseek, fd, 0, SEEK_SET);
    let text = read(fd, 100).1.replace(&k!(SYS_getpid).to_string(), "PID");
    let words: Vec<&str> = text.split(' ').filter(|w| !w.is_empty()).collect();
    tell!(o, "two" => words.join(" "), "write" => write(fd, b"x"));
}

fn across_fork(o: Out) {
    let fd = queue(1, 3, 50);
    let kid = in_child(|| {
        send(fd, b"from the child", 2);
        0
    });
    tell!(o, "child" => kid, "got" => recv(fd, 50));
}

fn limits_of_users(o: Out) {
    let limit = [1000u64, 1000];
    k!(SYS_prlimit64, 0, RLIMIT_MSGQUEUE, &limit, 0);
    let n = name(1);
    tell!(o, "fits" => make(&n, O_RDWR, attr(2, 100)).yes());
    unlink(&n);
    tell!(o, "too much" => make(&n, O_RDWR, attr(10, 8192)));
    unlink(&n);
}

fn first_come_first_served(o: Out) {
    let fd = queue(1, 1, 5);
    let out = queue(2, 9, 5);
    let kids: Vec<i32> = (0..3u8)
        .map(|i| {
            let kid = child(|| {
                let got = recv(fd, 5);
                send(out, format!("{i}{}", &got[3..4]).as_bytes(), 0);
                0
            });
            sleep_ms(50);
            kid
        })
        .collect();
    for text in [b"a", b"b", b"c"] {
        send(fd, text, 0);
        sleep_ms(40);
    }
    for kid in kids {
        wait_text(kid);
    }
    say!(o, "{} {} {}", recv(out, 5), recv(out, 5), recv(out, 5));
}

fn several_processes(o: Out) {
    let fd = queue(1, 4, 8);
    let kids: Vec<i32> = (0..3)
        .map(|_| {
            child(|| {
                for i in 0..100u64 {
                    send(fd, &i.to_ne_bytes(), 0);
                }
                0
            })
        })
        .collect();
    let mut sum = 0;
    for _ in 0..300 {
        let mut b = [0u8; 8];
        k!(SYS_mq_timedreceive, fd, &mut b, 8, 0, 0);
        sum += u64::from_ne_bytes(b);
    }
    for kid in kids {
        wait_text(kid);
    }
    tell!(o, "sum" => sum, "left" => get(fd).curmsgs);
}
