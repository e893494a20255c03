//! Asynchronous I/O: polls that raise an eventfd, which may be what somebody polls.

use super::aio::{Event, Iocb, POLL, RESFD, request, setup, submit};
use crate::out::Out;
use crate::sys::child;
use crate::util::{close, pipe, read, wait_text, write};
use crate::{cases, k, tell};
use libc::*;

cases!(
    polling_what_it_raises,
    polls_that_raise_each_other,
    a_chain_of_polls,
    polling_an_epoll_with_its_eventfd,
);

/// A poll of `fd` that raises `resfd`.
fn raising(data: u64, fd: i32, resfd: i32) -> Iocb {
    Iocb {
        data,
        flags: RESFD,
        resfd,
        ..request(POLL, fd, POLLIN as usize, 0, 0)
    }
}

/// Waits for `n` events: the data and the result of each.
fn wait_events(id: u64, n: usize) -> Vec<(u64, i64)> {
    let mut got = vec![Event::default(); n];
    let r = k!(SYS_io_getevents, id, n, n, got.as_mut_ptr(), &LONG);
    got.truncate(if r.ok() { r.addr() } else { 0 });
    got.iter().map(|e| (e.data, e.res)).collect()
}

/// Waits until an eventfd has counted to `n`, and takes that; what it has if that is long in
/// coming.
fn counted(fd: i32, n: u64) -> u64 {
    let mut all = 0;
    while all < n && wait_for(fd) {
        let mut one = 0u64;
        k!(SYS_read, fd, &mut one, 8);
        all += one;
    }
    all
}

fn wait_for(fd: i32) -> bool {
    let mut set = pollfd {
        fd,
        events: POLLIN,
        revents: 0,
    };
    let mut left = LONG;
    k!(SYS_ppoll, &mut set, 1, &mut left, 0, 8).0 == 1
}

/// Only what is broken takes as long.
const LONG: timespec = timespec {
    tv_sec: 20,
    tv_nsec: 0,
};

fn counter() -> i32 {
    k!(SYS_eventfd2, 0, EFD_NONBLOCK).int()
}

fn polling_what_it_raises(o: Out) {
    let (id, a) = (setup(100), counter());
    let one = 1u64.to_ne_bytes();
    tell!(o, "poll" => submit(id, &raising(1, a, a)), "write" => write(a, &one), "event" => format!("{:?}", wait_events(id, 1)), "count" => counted(a, 2));
    let all: Vec<Iocb> = (0..5).map(|data| raising(data, a, a)).collect();
    for cb in &all {
        submit(id, cb);
    }
    tell!(o, "write" => write(a, &one), "events" => wait_events(id, 5).len(), "count" => counted(a, 6));
    tell!(o, "write" => write(a, &one), "ready" => submit(id, &all[0]), "event" => format!("{:?}", wait_events(id, 1)), "count" => counted(a, 2));
}

fn polls_that_raise_each_other(o: Out) {
    let (id, a, b) = (setup(100), counter(), counter());
    let one = 1u64.to_ne_bytes();
    let both = [raising(1, a, b), raising(2, b, a)];
    let begin = || both.iter().filter(|cb| submit(id, cb).ok()).count();
    tell!(o, "polls" => begin(), "write" => write(a, &one), "events" => format!("{:?}", wait_events(id, 2)), "a" => counted(a, 2), "b" => counted(b, 1));
    // Both at the same time.
    let (r, w) = pipe();
    let pid = child(|| {
        close(w);
        while read(r, 1).0.0 == 1 {
            write(b, &one);
        }
        0
    });
    let mut right = 0;
    for _ in 0..50 {
        begin();
        write(w, b"x");
        write(a, &one);
        let events = wait_events(id, 2).len();
        let counts = [counted(a, 2), counted(b, 2)];
        right += i32::from(events == 2 && counts == [2, 2]);
        if right == 0 {
            break;
        }
    }
    close(w);
    tell!(o, "right" => right, "child" => wait_text(pid));
}

fn a_chain_of_polls(o: Out) {
    const N: usize = 500;
    let id = setup(N as u32);
    let all: Vec<i32> = (0..N).map(|_| counter()).collect();
    let polls: Vec<Iocb> = all
        .windows(2)
        .zip(0..)
        .map(|(two, data)| raising(data, two[0], two[1]))
        .collect();
    tell!(o, "polls" => polls.iter().filter(|cb| submit(id, cb).ok()).count(), "write" => write(all[0], &1u64.to_ne_bytes()));
    let events = wait_events(id, N - 1);
    tell!(o, "events" => events.len(), "in order" => events.iter().map(|e| e.0).eq(0..N as u64 - 1), "counted" => all.iter().all(|fd| counted(*fd, 1) == 1));
}

fn polling_an_epoll_with_its_eventfd(o: Out) {
    let (id, a) = (setup(100), counter());
    let (r, w) = pipe();
    let e = k!(SYS_epoll_create1, 0).int();
    for (fd, data) in [(r, 1), (a, 2)] {
        let wanted = epoll_event {
            events: EPOLLIN as u32,
            u64: data,
        };
        k!(SYS_epoll_ctl, e, EPOLL_CTL_ADD, fd, &wanted);
    }
    tell!(o, "poll" => submit(id, &raising(7, e, a)), "write" => write(w, b"x"), "event" => format!("{:?}", wait_events(id, 1)), "ready" => wait_for(a));
    let mut got = [epoll_event { events: 0, u64: 0 }; 4];
    let n = k!(SYS_epoll_pwait, e, &mut got, 4, 0, 0, 8);
    let mut seen: Vec<u64> = got[..n.addr()].iter().map(|e| e.u64).collect();
    seen.sort_unstable();
    tell!(o, "both" => format!("{n} {seen:?}"), "count" => counted(a, 1));
}
