//! Pipes and FIFOs.

use crate::common::*;
use abi::Errno;
use std::time::Duration;
use vfs::{OpenFlags as O, Pipe, Start, splice};
use wait::Events;

#[test]
fn bytes_pass_in_order_until_the_end() {
    let w = World::new();
    let cx = &w.cx;
    let [r, wr] = Pipe::pair(cx, O::NONBLOCK);
    assert_eq!(read(cx, &r, 10), Err(Errno::EAGAIN));
    assert!(r.ready().is_empty());
    assert_eq!(wr.ready(), Events::WRITABLE);
    write(cx, &wr, b"hello ").unwrap();
    write(cx, &wr, b"world").unwrap();
    assert_eq!(r.ready(), Events::READABLE);
    assert_eq!(read(cx, &r, 4).unwrap(), b"hell");
    assert_eq!(read(cx, &r, 100).unwrap(), b"o world");
    write(cx, &wr, b"x").unwrap();
    drop(wr);
    assert_eq!(r.ready(), Events::READABLE | Events::HUP);
    assert_eq!(read(cx, &r, 100).unwrap(), b"x");
    assert_eq!(read(cx, &r, 100).unwrap(), b"");
    assert!(r.name().starts_with(b"pipe:["));
    assert_eq!(vfs::fstat(cx, &r).unwrap().mode, 0o010600);
    assert_eq!(r.seek(cx, 0, vfs::Whence::Set), Err(Errno::ESPIPE));
}

#[test]
fn a_pipe_without_readers_is_broken() {
    let w = World::new();
    let [r, wr] = Pipe::pair(&w.cx, O::empty());
    drop(r);
    assert_eq!(write(&w.cx, &wr, b"x"), Err(Errno::EPIPE));
    assert_eq!(wr.ready(), Events::WRITABLE | Events::ERR);
}

#[test]
fn capacity_and_atomic_writes() {
    let w = World::new();
    let cx = &w.cx;
    let [r, wr] = Pipe::pair(cx, O::NONBLOCK);
    assert_eq!(write(cx, &wr, &[1; 100_000]), Ok(65536));
    assert!(wr.ready().is_empty());
    assert_eq!(write(cx, &wr, b"x"), Err(Errno::EAGAIN));
    assert_eq!(read(cx, &r, 1000).unwrap().len(), 1000);
    // It is whole pages that become free.
    assert_eq!(write(cx, &wr, b"x"), Err(Errno::EAGAIN));
    assert_eq!(write(cx, &wr, &[2; 4097]), Err(Errno::EAGAIN));
    assert_eq!(read(cx, &r, 3096).unwrap().len(), 3096);
    assert_eq!(write(cx, &wr, &[2; 4097]), Ok(4096));
    let pipe = Pipe::of(&r).unwrap();
    assert_eq!(pipe.len(), 65536);
    assert_eq!(pipe.set_capacity(cx, 4096), Err(Errno::EBUSY));
    assert_eq!(pipe.set_capacity(cx, 100_000), Ok(131072));
    assert_eq!(pipe.set_capacity(&w.user(1, 1), 2 << 20), Err(Errno::EPERM));
    // One byte at a time fills it too.
    let [r, wr] = Pipe::pair(cx, O::NONBLOCK);
    let mut n = 0;
    while write(cx, &wr, b"x").is_ok() {
        n += 1;
    }
    assert_eq!(n, 65536);
    drop(r);
}

#[test]
fn packets_keep_their_bounds() {
    let w = World::new();
    let cx = &w.cx;
    let [r, wr] = Pipe::pair(cx, O::NONBLOCK | O::DIRECT);
    write(cx, &wr, b"one").unwrap();
    write(cx, &wr, b"two").unwrap();
    assert_eq!(read(cx, &r, 100).unwrap(), b"one");
    assert_eq!(read(cx, &r, 2).unwrap(), b"tw");
    assert_eq!(read(cx, &r, 2), Err(Errno::EAGAIN));
}

#[test]
fn a_long_stream_through_blocked_ends() {
    let w = World::new();
    let [r, wr] = Pipe::pair(&w.cx, O::empty());
    let bytes: Vec<u8> = (0..1_000_000u32).map(|i| ((i * 31) >> 3) as u8).collect();
    std::thread::scope(|s| {
        let (wr, bytes, w) = (wr, &bytes, &w);
        let cx = w.root();
        s.spawn(move || {
            for part in bytes.chunks(70_001) {
                assert_eq!(write(&cx, &wr, part), Ok(part.len()));
            }
        });
        let mut got = Vec::new();
        loop {
            let part = read(&w.cx, &r, 33_333).unwrap();
            if part.is_empty() {
                break;
            }
            got.extend(part);
        }
        assert!(got == *bytes);
    });
}

#[test]
fn several_readers_share_without_lost_wakeups() {
    let w = World::new();
    let [r, wr] = Pipe::pair(&w.cx, O::empty());
    std::thread::scope(|s| {
        let readers: Vec<_> = (0..3)
            .map(|_| {
                let (cx, r) = (w.root(), r.clone());
                s.spawn(move || {
                    let mut n = 0;
                    while !read(&cx, &r, 1).unwrap().is_empty() {
                        n += 1;
                    }
                    n
                })
            })
            .collect();
        for _ in 0..1000 {
            write(&w.cx, &wr, b"xyz").unwrap();
        }
        drop(wr);
        let total: usize = readers.into_iter().map(|t| t.join().unwrap()).sum();
        assert_eq!(total, 3000);
    });
}

#[test]
fn fifos_wait_for_their_other_side() {
    let w = World::new();
    let cx = &w.cx;
    e(vfs::mknod(cx, Start::Cwd, b"/fifo", 0o010666, 0)).unwrap();
    assert_eq!(
        open(cx, "/fifo", O::WRONLY | O::NONBLOCK).err(),
        Some(Errno::ENXIO)
    );
    let r = open(cx, "/fifo", O::RDONLY | O::NONBLOCK).unwrap();
    // No writer yet: the end of the file, but no hang-up.
    assert_eq!(read(cx, &r, 1), Ok(vec![]));
    assert!(r.ready().is_empty());
    let wr = open(cx, "/fifo", O::WRONLY).unwrap();
    write(cx, &wr, b"x").unwrap();
    drop(wr);
    assert_eq!(r.ready(), Events::READABLE | Events::HUP);
    drop(r);
    std::thread::scope(|s| {
        let other = w.root();
        s.spawn(move || {
            std::thread::sleep(Duration::from_millis(20));
            let wr = open(&other, "/fifo", O::WRONLY).unwrap();
            write(&other, &wr, b"late").unwrap();
        });
        // What the first reader left went with it.
        let r = open(cx, "/fifo", O::RDONLY).unwrap();
        assert_eq!(read(cx, &r, 10).unwrap(), b"late");
    });
    assert_eq!(stat(cx, "/fifo").unwrap().mode, 0o010666);
    let both = open(cx, "/fifo", O::RDWR).unwrap();
    write(cx, &both, b"self").unwrap();
    assert_eq!(read(cx, &both, 10).unwrap(), b"self");
}

#[test]
fn splicing_moves_and_tee_copies() {
    let w = World::new();
    let cx = &w.cx;
    put(cx, "/f", "0123456789");
    let f = open(cx, "/f", O::RDWR).unwrap();
    let out = open(cx, "/out", O::CREAT | O::RDWR).unwrap();
    let [r1, w1] = Pipe::pair(cx, O::NONBLOCK);
    let [r2, w2] = Pipe::pair(cx, O::NONBLOCK);
    let mut at = 3;
    assert_eq!(
        e(splice::splice(
            cx,
            (&f, Some(&mut at)),
            (&w1, None),
            5,
            false
        )),
        Ok(5)
    );
    assert_eq!(at, 8);
    assert_eq!(e(splice::tee(cx, &r1, &w2, 100, false)), Ok(5));
    assert_eq!(
        e(splice::splice(cx, (&r1, None), (&out, None), 3, false)),
        Ok(3)
    );
    assert_eq!(
        e(splice::splice(cx, (&r1, None), (&w2, None), 100, false)),
        Ok(2)
    );
    assert_eq!(read(cx, &r2, 100).unwrap(), b"3456767");
    assert_eq!(get(cx, "/out").unwrap(), "345");
    assert_eq!(
        e(splice::splice(cx, (&f, None), (&out, None), 1, false)),
        Err(Errno::EINVAL)
    );
    assert_eq!(
        e(splice::splice(
            cx,
            (&r1, Some(&mut 0)),
            (&out, None),
            1,
            false
        )),
        Err(Errno::ESPIPE)
    );
}

#[test]
fn an_open_pipe_has_a_place_of_its_own() {
    let w = World::new();
    let cx = &w.cx;
    let [r, wr] = Pipe::pair(cx, O::NONBLOCK);
    write(cx, &wr, b"x").unwrap();
    let again = e(vfs::open_at(cx, r.place(), O::RDONLY | O::NONBLOCK)).unwrap();
    assert_eq!(read(cx, &again, 1).unwrap(), b"x");
    assert_eq!(r.place().text(), r.name());
    assert_eq!(
        r.place().attr(cx).unwrap().ino,
        vfs::fstat(cx, &r).unwrap().ino
    );
}
