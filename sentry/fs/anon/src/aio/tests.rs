use super::*;
use crate::EventFd;
use abi::Errno;
use abi::aio::IoEvent;
use ctx::{Ctx, KernelCtx, Src};
use hostmem::MemoryFile;
use std::time::{Duration, Instant};
use time::Clocks;
use vfs::{Epoll, EpollEvent, EpollOp, File, OpenFlags, Pipe};
use wait::{Events, Waker};

fn context(requests: u32) -> Arc<Context> {
    let memory = MemoryFile::new().unwrap();
    Context::new(&memory, requests, 1).unwrap()
}

fn done(obj: u64) -> Done {
    Done {
        data: obj * 10,
        obj,
        eventfd: None,
    }
}

/// The event behind the first `n`, as user space sees it.
fn event(context: &Context, n: u32) -> IoEvent {
    let mut one = [IoEvent::default()];
    context.ring().read(n, &mut one).unwrap();
    one[0]
}

/// Waits until there are `n` events.
fn settled(context: &Context, n: usize) {
    while context.waiting() < n {
        std::thread::yield_now();
    }
}

fn pipe(cx: &KernelCtx) -> [Arc<File>; 2] {
    Pipe::pair(cx, OpenFlags::empty())
}

#[test]
fn a_context_ends_with_its_count() {
    let memory = MemoryFile::new().unwrap();
    assert_eq!(Context::new(&memory, 1 << 23, 1).err(), Some(Errno::EINVAL));
    assert_eq!(Context::new(&memory, 0x10001, 1).err(), Some(Errno::EAGAIN));
    let context = context(100);
    context.kill();
    context.kill();
    assert!(count() < 0x10000);
}

#[test]
fn a_request_that_is_given_up_leaves_its_room() {
    let context = context(1);
    let mut held = Vec::new();
    while let Ok(slot) = context.slot() {
        held.push(slot);
    }
    let most = held.len();
    held.clear();
    for n in 0..most {
        context.slot().unwrap().complete(&done(n as u64), n as i64);
    }
    assert_eq!(context.slot().err(), Some(Errno::EAGAIN));
    assert_eq!(event(&context, 3).res, 3);
    // User space takes one.
    context.ring().set_head(1);
    assert!(context.slot().is_ok());
}

#[test]
fn a_poll_ends_by_data_by_the_other_end_or_by_cancelling() {
    let cx = KernelCtx::new(Arc::new(Clocks::new()));
    let context = context(8);
    let wait = |file: &Arc<File>, obj| {
        context
            .slot()
            .unwrap()
            .poll(file.clone(), Events::IN, done(obj))
            .unwrap();
    };
    let [reader, writer] = pipe(&cx);
    wait(&reader, 1);
    assert_eq!(context.waiting(), 0);
    writer.write(&cx, &mut Src::ours(b"x")).unwrap();
    assert_eq!(event(&context, 0).res, 0x41);
    // What is ready already is only what was asked for.
    wait(&reader, 2);
    assert_eq!(event(&context, 1).res, 1);

    let [reader, writer] = pipe(&cx);
    wait(&reader, 3);
    drop(writer);
    settled(&context, 3);
    assert_eq!(event(&context, 2).res, 0x10);

    let [reader, _writer] = pipe(&cx);
    wait(&reader, 4);
    assert!(!context.cancel(3) && context.cancel(4) && !context.cancel(4));
    assert_eq!((event(&context, 3).obj, event(&context, 3).res), (4, 0));
    wait(&reader, 5);
    context.kill();
    assert_eq!(event(&context, 4).obj, 5);
    assert!(reader.queue().is_some_and(wait::Queue::is_empty));
}

/// An eventfd.
fn counter(cx: &KernelCtx) -> Arc<File> {
    EventFd::open(cx, 0, false, OpenFlags::NONBLOCK)
}

fn add_one(cx: &KernelCtx, file: &File) {
    file.write(cx, &mut Src::ours(&1u64.to_ne_bytes())).unwrap();
}

/// Waits until an eventfd has counted to `n`.
fn counts(file: &File, n: u64) {
    while file.ops().fdinfo() != format!("eventfd-count: {n:16x}\n") {
        std::thread::yield_now();
    }
}

/// Polls `file`, and raises `eventfd`.
fn raise(context: &Arc<Context>, file: &Arc<File>, eventfd: &Arc<File>) {
    let done = Done {
        eventfd: Some(eventfd.clone()),
        ..done(1)
    };
    let slot = context.slot().unwrap();
    slot.poll(file.clone(), Events::IN, done).unwrap();
}

#[test]
fn eventfds_are_raised_in_circles_and_long_chains() {
    let cx = KernelCtx::new(Arc::new(Clocks::new()));
    let context = context(5000);
    let [a, b, c] = [(); 3].map(|()| counter(&cx));
    raise(&context, &a, &a);
    add_one(&cx, &a);
    counts(&a, 2);
    raise(&context, &b, &c);
    raise(&context, &c, &b);
    add_one(&cx, &b);
    counts(&b, 2);
    counts(&c, 1);

    let chain: Vec<_> = (0..4000).map(|_| counter(&cx)).collect();
    for two in chain.windows(2) {
        raise(&context, &two[0], &two[1]);
    }
    add_one(&cx, &chain[0]);
    for one in &chain {
        counts(one, 1);
    }
}

#[test]
fn an_eventfd_in_the_epoll_whose_poll_raises_it() {
    let cx = KernelCtx::new(Arc::new(Clocks::new()));
    let context = context(8);
    let (epoll, a) = (Epoll::new(), counter(&cx));
    let [reader, writer] = pipe(&cx);
    for (fd, file) in [(3, &reader), (4, &a)] {
        let wanted = EpollEvent { events: 1, data: 0 };
        epoll.ctl(EpollOp::Add(wanted), fd, file).unwrap();
    }
    let epoll = File::anonymous(&cx, epoll, OpenFlags::RDWR);
    raise(&context, &epoll, &a);
    raise(&context, &epoll, &a);
    writer.write(&cx, &mut Src::ours(b"x")).unwrap();
    counts(&a, 2);
    // Of anything else, it has been raised when the write is over.
    let [reader, writer] = pipe(&cx);
    raise(&context, &reader, &a);
    writer.write(&cx, &mut Src::ours(b"x")).unwrap();
    assert_eq!(a.ops().fdinfo(), format!("eventfd-count: {:16x}\n", 3));
}

#[test]
fn the_end_of_a_context_ends_the_wait_for_its_events() {
    let context = context(1);
    let other = context.clone();
    let waiting = std::thread::spawn(move || {
        let cx = KernelCtx::new(Arc::new(Clocks::new()));
        let waker: &Arc<Waker> = cx.waker();
        waker.bind();
        let long = Until::At(Instant::now() + Duration::from_secs(600));
        other.read_events(&cx, (1, 1), 0, long)
    });
    context.kill();
    assert_eq!(waiting.join().unwrap(), Err(Errno::EINVAL));
}
