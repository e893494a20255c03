//! epoll.

use crate::out::Out;
use crate::sys::{bytes_of, child};
use crate::util::{close, open, pipe, pipe2, read, sleep_ms, wait_text, write};
use crate::{cases, k, say, sys, tell};
use libc::*;

cases!(
    level_triggered,
    edge_triggered,
    edge_on_more_data,
    one_shot,
    changes_and_removal,
    control_errors,
    create_arguments,
    waits_and_wakes,
    hang_up_and_error,
    closed_descriptor_leaves,
    duplicate_keeps_it,
    nested,
    nested_loops,
    regular_files_refused,
    many_ready_rotate,
    wait_arguments,
    over_fork,
    exclusive_flag,
    exclusive_without_a_waiter_is_passed_over,
    eventfd_edges,
    pwait_mask,
    data_is_kept,
);

fn new() -> i32 {
    k!(SYS_epoll_create1, 0).int()
}

fn ctl(e: i32, op: i32, fd: i32, events: i32, data: u64) -> sys::R {
    let ev = epoll_event {
        events: events as u32,
        u64: data,
    };
    k!(SYS_epoll_ctl, e, op, fd, &ev)
}

fn add(e: i32, fd: i32, events: i32) -> sys::R {
    ctl(e, EPOLL_CTL_ADD, fd, events, fd as u64)
}

/// What is ready: pairs of events and data.
fn ready(e: i32, ms: i32) -> String {
    let mut evs = [epoll_event { events: 0, u64: 0 }; 8];
    let n = k!(SYS_epoll_wait, e, evs.as_mut_ptr(), 8, ms);
    if n.0 <= 0 {
        return n.to_string();
    }
    let mut list: Vec<(u32, u64)> = evs[..n.addr()].iter().map(|v| (v.events, v.u64)).collect();
    list.sort_by_key(|v| v.1);
    let first = list[0].1;
    let text: Vec<String> = list
        .iter()
        .map(|v| format!("{:#x}@{}", v.0, v.1 - first))
        .collect();
    text.join(" ")
}

fn level_triggered(o: Out) {
    let (e, (r, w)) = (new(), pipe());
    add(e, r, EPOLLIN);
    tell!(o, "nothing" => ready(e, 0), "write" => write(w, b"ab"), "ready" => ready(e, 0), "still" => ready(e, 0), "part" => read(r, 1).0, "still" => ready(e, 0), "rest" => read(r, 1).0, "no more" => ready(e, 0));
}

fn edge_triggered(o: Out) {
    let (e, (r, w)) = (new(), pipe());
    add(e, r, EPOLLIN | EPOLLET);
    tell!(o, "write" => write(w, b"ab"), "ready" => ready(e, 0), "once" => ready(e, 0), "part" => read(r, 1).0, "not again" => ready(e, 0));
}

fn edge_on_more_data(o: Out) {
    let (e, (r, w)) = (new(), pipe());
    write(w, b"a");
    add(e, r, EPOLLIN | EPOLLET);
    tell!(o, "there at add" => ready(e, 0), "write more" => write(w, b"b"), "again" => ready(e, 0), "modify" => ctl(e, EPOLL_CTL_MOD, r, EPOLLIN | EPOLLET, r as u64), "re-armed" => ready(e, 0));
    add(e, w, EPOLLOUT | EPOLLET);
    tell!(o, "writer" => ready(e, 0), "once" => ready(e, 0), "drain" => read(r, 9).0, "nothing" => ready(e, 0));
}

fn one_shot(o: Out) {
    let (e, (r, w)) = (new(), pipe());
    add(e, r, EPOLLIN | EPOLLONESHOT);
    write(w, b"a");
    tell!(o, "first" => ready(e, 0), "then" => ready(e, 0), "more" => write(w, b"b"), "none" => ready(e, 0), "arm" => ctl(e, EPOLL_CTL_MOD, r, EPOLLIN | EPOLLONESHOT, 0), "again" => ready(e, 0), "then" => ready(e, 0));
}

fn changes_and_removal(o: Out) {
    let (e, (r, w)) = (new(), pipe());
    write(w, b"a");
    tell!(o, "add for out" => add(e, r, EPOLLOUT), "nothing" => ready(e, 0), "modify" => ctl(e, EPOLL_CTL_MOD, r, EPOLLIN, 7), "ready" => ready(e, 0), "delete" => ctl(e, EPOLL_CTL_DEL, r, 0, 0), "nothing" => ready(e, 0), "again" => ctl(e, EPOLL_CTL_DEL, r, 0, 0), "modify gone" => ctl(e, EPOLL_CTL_MOD, r, EPOLLIN, 0));
}

fn control_errors(o: Out) {
    let (e, (r, _w)) = (new(), pipe());
    add(e, r, EPOLLIN);
    tell!(o, "twice" => add(e, r, EPOLLIN), "closed" => add(e, 99, EPOLLIN), "closed epoll" => add(98, r, EPOLLIN), "not epoll" => add(r, e, EPOLLIN), "itself" => add(e, e, EPOLLIN), "operation" => ctl(e, 9, r, EPOLLIN, 0), "null event" => k!(SYS_epoll_ctl, e, EPOLL_CTL_ADD, r, 0), "null for delete" => k!(SYS_epoll_ctl, e, EPOLL_CTL_DEL, r, 0));
}

fn create_arguments(o: Out) {
    tell!(o, "flags" => k!(SYS_epoll_create1, 7), "size zero" => k!(SYS_epoll_create, 0), "negative" => k!(SYS_epoll_create, -1), "size" => k!(SYS_epoll_create, 5).ok(), "cloexec" => k!(SYS_fcntl, k!(SYS_epoll_create1, EPOLL_CLOEXEC), F_GETFD), "read" => read(new(), 8).0, "write" => write(new(), b"x"));
}

fn waits_and_wakes(o: Out) {
    let (e, (r, w)) = (new(), pipe());
    add(e, r, EPOLLIN);
    let kid = child(|| {
        sleep_ms(60);
        write(w, b"x");
        0
    });
    tell!(o, "woken" => ready(e, 5000), "child" => wait_text(kid), "read" => read(r, 9).0, "time out" => ready(e, 30));
}

fn hang_up_and_error(o: Out) {
    let (e, (r, w)) = (new(), pipe());
    ctl(e, EPOLL_CTL_ADD, r, 0, 1);
    close(w);
    tell!(o, "hang-up unasked" => ready(e, 0));
    let (e, (r, w)) = (new(), pipe());
    add(e, w, EPOLLOUT);
    close(r);
    tell!(o, "error" => ready(e, 0));
}

fn closed_descriptor_leaves(o: Out) {
    let (e, (r, w)) = (new(), pipe());
    add(e, r, EPOLLIN);
    write(w, b"x");
    tell!(o, "ready" => ready(e, 0), "close" => close(r), "gone" => ready(e, 0));
}

fn duplicate_keeps_it(o: Out) {
    let (e, (r, w)) = (new(), pipe());
    add(e, r, EPOLLIN);
    let d = k!(SYS_dup, r).int();
    write(w, b"x");
    tell!(o, "close" => close(r), "still" => ready(e, 0), "delete by number" => ctl(e, EPOLL_CTL_DEL, r, 0, 0), "add the copy" => add(e, d, EPOLLIN), "close" => close(d), "gone" => ready(e, 0));
}

fn nested(o: Out) {
    let (inner, outer, (r, w)) = (new(), new(), pipe());
    add(inner, r, EPOLLIN);
    add(outer, inner, EPOLLIN);
    tell!(o, "quiet" => ready(outer, 0), "write" => write(w, b"x"), "outer" => ready(outer, 0), "inner" => ready(inner, 0));
    let mut p = pollfd {
        fd: inner,
        events: POLLIN,
        revents: 0,
    };
    tell!(o, "poll" => k!(SYS_poll, &mut p, 1, 0), "revents" => p.revents, "drain" => read(r, 9).0, "outer" => ready(outer, 0), "poll" => k!(SYS_poll, &mut p, 1, 0));
    let kid = child(|| {
        sleep_ms(50);
        write(w, b"y");
        0
    });
    tell!(o, "wakes" => ready(outer, 4000), "child" => wait_text(kid));
}

fn nested_loops(o: Out) {
    let (a, b) = (new(), new());
    tell!(o, "a in b" => add(b, a, EPOLLIN), "b in a" => add(a, b, EPOLLIN));
    let chain: Vec<i32> = (0..7).map(|_| new()).collect();
    let depth: Vec<String> = chain
        .windows(2)
        .map(|p| add(p[1], p[0], EPOLLIN).to_string())
        .collect();
    tell!(o, "chain" => format!("{depth:?}"));
}

fn regular_files_refused(o: Out) {
    crate::util::mk(c"f", b"");
    let e = new();
    tell!(o, "file" => add(e, open(c"f", O_RDWR, 0).int(), EPOLLIN), "directory" => add(e, open(c".", O_RDONLY, 0).int(), EPOLLIN), "null" => add(e, open(c"/dev/null", O_RDWR, 0).int(), EPOLLIN), "path only" => add(e, open(c"f", O_PATH, 0).int(), EPOLLIN));
}

fn many_ready_rotate(o: Out) {
    let e = new();
    let pipes: Vec<_> = (0..12).map(|_| pipe()).collect();
    for (i, (r, w)) in pipes.iter().enumerate() {
        ctl(e, EPOLL_CTL_ADD, *r, EPOLLIN, i as u64);
        write(*w, b"x");
    }
    let mut seen = [0u32; 12];
    for _ in 0..6 {
        let mut evs = [epoll_event { events: 0, u64: 0 }; 4];
        let n = k!(SYS_epoll_wait, e, evs.as_mut_ptr(), 4, 0);
        for v in &evs[..n.addr().min(4)] {
            let at = v.u64 as usize;
            seen[at] += 1;
        }
    }
    tell!(o, "each had its turn" => format!("{seen:?}"));
}

fn wait_arguments(o: Out) {
    let (e, (r, w)) = (new(), pipe());
    add(e, r, EPOLLIN);
    write(w, b"x");
    let mut ev = epoll_event { events: 0, u64: 0 };
    tell!(o, "zero" => k!(SYS_epoll_wait, e, &mut ev, 0, 0), "negative" => k!(SYS_epoll_wait, e, &mut ev, -1, 0), "not epoll" => k!(SYS_epoll_wait, r, &mut ev, 1, 0), "closed" => k!(SYS_epoll_wait, 99, &mut ev, 1, 0), "bad buffer" => k!(SYS_epoll_wait, e, 16usize, 1, 0), "still there" => ready(e, 0), "huge" => k!(SYS_epoll_wait, e, &mut ev, i32::MAX, 0), "size of mask" => k!(SYS_epoll_pwait, e, &mut ev, 1, 0, &0u64, 4));
}

fn over_fork(o: Out) {
    let (e, (r, w)) = (new(), pipe());
    let kid = child(|| {
        add(e, r, EPOLLIN);
        0
    });
    wait_text(kid);
    write(w, b"x");
    tell!(o, "added by child" => ready(e, 0), "add again" => add(e, r, EPOLLIN));
}

fn exclusive_flag(o: Out) {
    let (e, (r, _w)) = (new(), pipe());
    const EXCLUSIVE: i32 = 1 << 28;
    tell!(o, "add" => add(e, r, EPOLLIN | EXCLUSIVE), "modify" => ctl(e, EPOLL_CTL_MOD, r, EPOLLIN, 0), "with oneshot" => add(e, k!(SYS_dup, r).int(), EPOLLIN | EXCLUSIVE | EPOLLONESHOT), "modify to" => { let d = k!(SYS_dup, r).int(); add(e, d, EPOLLIN); ctl(e, EPOLL_CTL_MOD, d, EPOLLIN | EXCLUSIVE, 0) });
}

fn exclusive_without_a_waiter_is_passed_over(o: Out) {
    const EXCLUSIVE: i32 = 1 << 28;
    let (r, w) = pipe();
    let idle = new();
    add(idle, r, EPOLLIN | EPOLLET | EXCLUSIVE);
    let waiter = child(|| {
        let e = new();
        add(e, r, EPOLLIN | EPOLLET | EXCLUSIVE);
        let mut ev = epoll_event { events: 0, u64: 0 };
        k!(SYS_epoll_wait, e, &mut ev, 1, 20_000).int()
    });
    // One that comes late finds the byte.
    sleep_ms(50);
    tell!(o, "write" => write(w, b"x"), "woken" => wait_text(waiter), "and the idle one has it" => ready(idle, 0));
}

fn eventfd_edges(o: Out) {
    let e = new();
    let fd = k!(SYS_eventfd2, 0, EFD_NONBLOCK).int();
    add(e, fd, EPOLLIN | EPOLLOUT | EPOLLET);
    let bump = || k!(SYS_write, fd, &1u64, 8);
    tell!(o, "at first" => ready(e, 0), "then" => ready(e, 0), "write" => bump(), "event" => ready(e, 0), "none" => ready(e, 0), "write" => bump(), "event" => ready(e, 0));
}

fn pwait_mask(o: Out) {
    let e = new();
    sys::on(SIGUSR1, 0);
    crate::util::mask(SIG_BLOCK, crate::util::bit(SIGUSR1));
    k!(SYS_kill, k!(SYS_getpid), SIGUSR1);
    let mut ev = epoll_event { events: 0, u64: 0 };
    tell!(o, "masked" => ready(e, 20), "opened" => k!(SYS_epoll_pwait, e, &mut ev, 1, 3000, &0u64, 8), "handled" => sys::count(SIGUSR1), "pwait2" => k!(SYS_epoll_pwait2, e, &mut ev, 1, &timespec { tv_sec: 0, tv_nsec: 1000 }, 0, 8));
}

fn data_is_kept(o: Out) {
    let (e, (_r, w)) = (new(), pipe2(0));
    ctl(e, EPOLL_CTL_ADD, w, EPOLLOUT, 0x1122_3344_5566_7788);
    let mut ev = epoll_event { events: 0, u64: 0 };
    k!(SYS_epoll_wait, e, &mut ev, 1, 0);
    say!(o, "{:x?}", bytes_of(&ev));
}
