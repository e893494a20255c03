//! epoll and poll.

use crate::common::*;
use abi::Errno;
use std::sync::Arc;
use std::time::{Duration, Instant};
use vfs::{Epoll, EpollEvent, EpollOp, File, OpenFlags as O, Pipe, PollItem, Polled, poll_wait};
use wait::Events;

const IN: u32 = 1;
const ET: u32 = 1 << 31;
const ONESHOT: u32 = 1 << 30;

fn epoll(w: &World) -> (Arc<Epoll>, Arc<File>) {
    let e = Epoll::new();
    (e.clone(), File::anonymous(&w.cx, e, O::RDWR))
}

fn add(e: &Epoll, fd: i32, file: &Arc<File>, events: u32) -> Result<(), Errno> {
    e.ctl(
        EpollOp::Add(EpollEvent {
            events,
            data: fd as u64,
        }),
        fd,
        file,
    )
}

/// What is there now.
fn now(w: &World, epoll: &Epoll) -> Vec<(u32, u64)> {
    let events = e(epoll.wait(&w.cx, 16, Some(Instant::now()))).unwrap();
    events.into_iter().map(|e| (e.events, e.data)).collect()
}

#[test]
fn level_edge_and_one_shot() {
    let w = World::new();
    let cx = &w.cx;
    for (mode, expected) in [(0, [1, 1, 1]), (ET, [1, 0, 1]), (ONESHOT, [1, 0, 0])] {
        let [r, wr] = Pipe::pair(cx, O::NONBLOCK);
        let (ep, _file) = epoll(&w);
        add(&ep, 3, &r, IN | mode).unwrap();
        assert!(now(&w, &ep).is_empty());
        write(cx, &wr, b"x").unwrap();
        let first = now(&w, &ep).len();
        let second = now(&w, &ep).len();
        write(cx, &wr, b"y").unwrap();
        assert_eq!([first, second, now(&w, &ep).len()], expected, "{mode:#x}");
        if mode == ONESHOT {
            ep.ctl(
                EpollOp::Modify(EpollEvent {
                    events: IN,
                    data: 9,
                }),
                3,
                &r,
            )
            .unwrap();
            assert_eq!(now(&w, &ep), [(IN, 9)]);
        }
        read(cx, &r, 10).unwrap();
        assert!(now(&w, &ep).is_empty());
    }
}

#[test]
fn what_epoll_refuses() {
    let w = World::new();
    let cx = &w.cx;
    let (ep, file) = epoll(&w);
    put(cx, "/f", "");
    let f = open(cx, "/f", O::RDONLY).unwrap();
    assert_eq!(add(&ep, 1, &f, IN), Err(Errno::EPERM));
    assert_eq!(add(&ep, 1, &file, IN), Err(Errno::EINVAL));
    let [r, _wr] = Pipe::pair(cx, O::NONBLOCK);
    assert_eq!(ep.ctl(EpollOp::Delete, 1, &r), Err(Errno::ENOENT));
    add(&ep, 1, &r, IN).unwrap();
    assert_eq!(add(&ep, 1, &r, IN), Err(Errno::EEXIST));
    // The same file by another descriptor is another entry.
    add(&ep, 2, &r, IN).unwrap();
    ep.ctl(EpollOp::Delete, 1, &r).unwrap();
    assert_eq!(ep.interest().len(), 1);
}

#[test]
fn a_closed_file_leaves() {
    let w = World::new();
    let (ep, _file) = epoll(&w);
    let [r, wr] = Pipe::pair(&w.cx, O::NONBLOCK);
    write(&w.cx, &wr, b"x").unwrap();
    add(&ep, 1, &r, IN).unwrap();
    let dup = r.clone();
    drop(r);
    assert_eq!(now(&w, &ep).len(), 1);
    drop(dup);
    assert!(now(&w, &ep).is_empty());
    assert!(ep.interest().is_empty());
    // And with it the reading end.
    assert_eq!(write(&w.cx, &wr, b"x"), Err(Errno::EPIPE));
}

#[test]
fn epolls_nest_but_not_in_circles() {
    let w = World::new();
    let (inner, inner_file) = epoll(&w);
    let (outer, outer_file) = epoll(&w);
    add(&outer, 1, &inner_file, IN).unwrap();
    assert_eq!(add(&inner, 1, &outer_file, IN), Err(Errno::ELOOP));
    let [r, wr] = Pipe::pair(&w.cx, O::NONBLOCK);
    add(&inner, 2, &r, IN).unwrap();
    assert!(now(&w, &outer).is_empty());
    write(&w.cx, &wr, b"x").unwrap();
    assert_eq!(now(&w, &outer), [(IN, 1)]);
    assert_eq!(now(&w, &inner), [(IN, 2)]);
    assert_eq!(now(&w, &outer), [(IN, 1)]);
    read(&w.cx, &r, 1).unwrap();
    assert!(now(&w, &outer).is_empty());
    let mut chain = vec![outer_file];
    let mut result = Ok(());
    for _ in 0..6 {
        let (next, file) = epoll(&w);
        result = add(&next, 1, chain.last().unwrap(), IN);
        chain.push(file);
        if result.is_err() {
            break;
        }
    }
    assert_eq!(result, Err(Errno::ELOOP));
}

#[test]
fn waiters_are_woken() {
    let w = World::new();
    let (outer, _of) = epoll(&w);
    let (inner, inner_file) = epoll(&w);
    add(&outer, 1, &inner_file, IN | ET).unwrap();
    let [r, wr] = Pipe::pair(&w.cx, O::NONBLOCK);
    add(&inner, 2, &r, IN).unwrap();
    std::thread::scope(|s| {
        let cx = w.root();
        let outer = &outer;
        let t = s.spawn(move || e(outer.wait(&cx, 1, None)));
        std::thread::sleep(Duration::from_millis(10));
        write(&w.cx, &wr, b"x").unwrap();
        assert_eq!(t.join().unwrap().unwrap().len(), 1);
    });
    let soon = Instant::now() + Duration::from_millis(5);
    assert!(e(outer.wait(&w.cx, 1, Some(soon))).unwrap().is_empty());
}

#[test]
fn more_events_than_room_come_in_turn() {
    let w = World::new();
    let (ep, _file) = epoll(&w);
    let pipes: Vec<_> = (0..5).map(|_| Pipe::pair(&w.cx, O::NONBLOCK)).collect();
    for (i, [r, wr]) in pipes.iter().enumerate() {
        add(&ep, i as i32, r, IN).unwrap();
        write(&w.cx, wr, b"x").unwrap();
    }
    let take = |n| {
        let events = e(ep.wait(&w.cx, n, Some(Instant::now()))).unwrap();
        events.into_iter().map(|e| e.data).collect::<Vec<_>>()
    };
    assert_eq!(
        [take(2), take(2), take(2)],
        [vec![0, 1], vec![2, 3], vec![4, 0]]
    );
}

#[test]
fn poll_waits_for_any() {
    let w = World::new();
    let [r1, _w1] = Pipe::pair(&w.cx, O::NONBLOCK);
    let [r2, w2] = Pipe::pair(&w.cx, O::NONBLOCK);
    let items = || {
        [
            PollItem::new(Some(r1.clone()), Events::IN),
            PollItem::new(Some(r2.clone()), Events::IN),
        ]
    };
    let soon = Instant::now() + Duration::from_millis(5);
    assert_eq!(
        e(poll_wait(&w.cx, &mut items(), Some(soon))),
        Ok(Polled::TimedOut)
    );
    std::thread::scope(|s| {
        let cx = w.root();
        let w2 = w2.clone();
        s.spawn(move || {
            std::thread::sleep(Duration::from_millis(10));
            write(&cx, &w2, b"x").unwrap();
        });
        let mut items = items();
        assert_eq!(e(poll_wait(&w.cx, &mut items, None)), Ok(Polled::Ready(1)));
        assert_eq!(
            (items[0].ready, items[1].ready),
            (Events::empty(), Events::IN)
        );
    });
}
