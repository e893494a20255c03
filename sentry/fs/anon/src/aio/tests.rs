use super::*;
use abi::Errno;
use abi::aio::IoEvent;
use ctx::{Ctx, KernelCtx, Src};
use hostmem::MemoryFile;
use std::time::{Duration, Instant};
use time::Clocks;
use vfs::{File, OpenFlags, Pipe};
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
