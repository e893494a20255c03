//! What files hold.

use crate::common::*;
use abi::Errno;
use abi::page::{PAGE_SIZE, Range};
use ctx::{Dst, Src};
use memmap::{Mapping, Source, Space};
use sentry_fs_tmpfs::{MemfdFlags, Memfds, Options};
use std::sync::{Arc, Mutex, Weak};
use vfs::{OpenFlags as O, Whence};

#[test]
fn positions_and_offsets() {
    let w = World::new();
    let cx = &w.cx;
    let f = open(cx, "/f", O::CREAT | O::RDWR).unwrap();
    write(cx, &f, b"hello world").unwrap();
    assert_eq!(f.seek(cx, 6, Whence::Set), Ok(6));
    assert_eq!(read(cx, &f, 100).unwrap(), b"world");
    assert_eq!(read(cx, &f, 100).unwrap(), b"");
    assert_eq!(f.seek(cx, -5, Whence::End), Ok(6));
    assert_eq!(f.seek(cx, -7, Whence::Current), Err(Errno::EINVAL));
    let mut b = [0; 5];
    assert_eq!(e(f.pread(cx, 0, &mut Dst::ours(&mut b))), Ok(5));
    assert_eq!((&b, f.position()), (b"hello", 6));
    e(f.pwrite(cx, 0, &mut Src::ours(b"J"))).unwrap();
    assert_eq!(get(cx, "/f").unwrap(), "Jello world");
    let a = open(cx, "/f", O::APPEND | O::WRONLY).unwrap();
    write(cx, &a, b"!").unwrap();
    assert_eq!(a.position(), 12);
    e(a.pwrite(cx, 0, &mut Src::ours(b"?"))).unwrap();
    assert_eq!(get(cx, "/f").unwrap(), "Jello world!?");
}

#[test]
fn holes_take_no_memory_and_are_found() {
    let w = World::new();
    let cx = &w.cx;
    let f = open(cx, "/f", O::CREAT | O::RDWR).unwrap();
    let far = 1 << 40;
    e(f.pwrite(cx, far, &mut Src::ours(b"x"))).unwrap();
    assert_eq!(stat(cx, "/f").unwrap().size, far as i64 + 1);
    assert_eq!(stat(cx, "/f").unwrap().blocks, 8);
    assert_eq!(f.seek(cx, 0, Whence::Data), Ok(far));
    assert_eq!(f.seek(cx, 0, Whence::Hole), Ok(0));
    assert_eq!(f.seek(cx, far as i64, Whence::Hole), Ok(far + 1));
    assert_eq!(f.seek(cx, far as i64 + 1, Whence::Data), Err(Errno::ENXIO));
    let mut b = [1; 3];
    assert_eq!(e(f.pread(cx, far - 2, &mut Dst::ours(&mut b))), Ok(3));
    assert_eq!(&b, b"\0\0x");
    assert!(w.memory.usage() <= 2 * PAGE_SIZE);
    vfs::ftruncate(cx, &f, 0).unwrap();
    assert_eq!(w.memory.usage(), 0);
}

#[test]
fn what_is_cut_off_does_not_come_back() {
    let w = World::new();
    let cx = &w.cx;
    let f = open(cx, "/f", O::CREAT | O::RDWR).unwrap();
    write(cx, &f, &[7; 10000]).unwrap();
    vfs::ftruncate(cx, &f, 5000).unwrap();
    vfs::ftruncate(cx, &f, 10000).unwrap();
    let mut b = vec![1; 10000];
    e(f.pread(cx, 0, &mut Dst::ours(&mut b))).unwrap();
    assert!(b[..5000].iter().all(|x| *x == 7) && b[5000..].iter().all(|x| *x == 0));
    // A hole, not aligned.
    f.allocate(cx, 3, 100, 4500).unwrap();
    e(f.pread(cx, 0, &mut Dst::ours(&mut b))).unwrap();
    assert!(b[..100].iter().all(|x| *x == 7) && b[100..4600].iter().all(|x| *x == 0));
    assert!(b[4600..5000].iter().all(|x| *x == 7));
    assert_eq!(f.allocate(cx, 0x8, 0, 4096), Err(Errno::EOPNOTSUPP));
    f.allocate(cx, 0, 0, 1 << 20).unwrap();
    assert_eq!(stat(cx, "/f").unwrap().size, 1 << 20);
    assert_eq!(stat(cx, "/f").unwrap().blocks, 2048);
}

#[test]
fn a_large_file_comes_back_as_written() {
    let w = World::new();
    let cx = &w.cx;
    let f = open(cx, "/f", O::CREAT | O::RDWR).unwrap();
    let bytes: Vec<u8> = (0..3_000_001u32)
        .map(|i| (i * 7 + (i >> 13)) as u8)
        .collect();
    for part in bytes.chunks(99_991) {
        write(cx, &f, part).unwrap();
    }
    f.seek(cx, 0, Whence::Set).unwrap();
    assert!(read(cx, &f, bytes.len() + 5).unwrap() == bytes);
}

#[test]
fn limits_are_kept() {
    let w = World::with(Options {
        size: Some(64 << 10),
        inodes: Some(3),
        ..Options::default()
    });
    let cx = &w.cx;
    let f = open(cx, "/f", O::CREAT | O::RDWR).unwrap();
    assert_eq!(write(cx, &f, &[1; 64 << 10]), Ok(64 << 10));
    assert_eq!(write(cx, &f, b"x"), Err(Errno::ENOSPC));
    let s = vfs::statfs(cx, f.path().unwrap()).unwrap();
    assert_eq!((s.blocks, s.bfree, s.files, s.ffree), (16, 0, 3, 1));
    vfs::ftruncate(cx, &f, 4096).unwrap();
    assert_eq!(write(cx, &f, b"x"), Ok(1));
    mkdir(cx, "/d").unwrap();
    assert_eq!(mkdir(cx, "/e"), Err(Errno::ENOSPC));
    rmdir(cx, "/d").unwrap();
    mkdir(cx, "/e").unwrap();
    drop(f);
    unlink(cx, "/f").unwrap();
    let f = open(cx, "/f", O::CREAT | O::RDWR).unwrap();
    // As much as fits: behind a hole too, and in front of what is there already.
    vfs::ftruncate(cx, &f, 0).unwrap();
    assert_eq!(write(cx, &f, &[1; 3 << 16]), Ok(64 << 10));
    vfs::ftruncate(cx, &f, 60000).unwrap();
    assert_eq!(write(cx, &f, &[1; 9000]), Ok(4096));
    assert_eq!(write(cx, &f, b"x"), Err(Errno::ENOSPC));
    f.seek(cx, 59000, Whence::Set).unwrap();
    assert_eq!(write(cx, &f, &[1; 9000]), Ok(61440 - 59000));
}

#[derive(Default)]
struct Told(Mutex<Vec<(Range, bool)>>);
impl Space for Told {
    fn invalidate(&self, range: Range, drop_private: bool) {
        self.0.lock().unwrap().push((range, drop_private));
    }
}

#[test]
fn mappings_see_the_file_and_hear_of_truncation() {
    let w = World::new();
    let cx = &w.cx;
    let f = open(cx, "/f", O::CREAT | O::RDWR).unwrap();
    write(cx, &f, &[7; 3 * 4096]).unwrap();
    let m = f.ops().mappable(cx, &f).unwrap();
    let again = open(cx, "/f", O::RDWR).unwrap();
    assert!(Arc::ptr_eq(&m, &again.ops().mappable(cx, &again).unwrap()));
    assert_eq!(m.identity().path, b"/f");
    let space = Arc::new(Told::default());
    let weak: Weak<dyn Space> = Arc::downgrade(&(space.clone() as Arc<dyn Space>));
    let range = Range::new(0, 3 * PAGE_SIZE);
    m.attach(Mapping {
        space: weak.clone(),
        addr: 0x10000,
        range,
        shared_write: true,
    })
    .unwrap();
    let t = m.translate(PAGE_SIZE, 1 << 30, true).unwrap();
    let Source::Frames(frames) = t.source else {
        panic!("not frames")
    };
    assert_eq!(t.len, 2 * PAGE_SIZE);
    frames.write(1, b"abc").unwrap();
    let mut b = [0; 5];
    e(f.pread(cx, PAGE_SIZE, &mut Dst::ours(&mut b))).unwrap();
    assert_eq!(&b, b"\x07abc\x07");
    vfs::ftruncate(cx, &f, PAGE_SIZE as i64).unwrap();
    assert_eq!(
        *space.0.lock().unwrap(),
        [(Range::new(0x11000, 0x13000), true)]
    );
    assert_eq!(
        m.translate(PAGE_SIZE, PAGE_SIZE, false).err(),
        Some(Errno::EFAULT)
    );
    m.detach(&weak, 0x10000, range);
    assert_eq!(m.identity().path, b"");
}

#[test]
fn memfds_and_seals() {
    let w = World::new();
    let cx = &w.cx;
    let memfds = Memfds::new(&w.memory, &w.clocks);
    let f = memfds
        .create(cx, b"x", MemfdFlags::from_guest(2).unwrap())
        .unwrap();
    assert_eq!(f.name(), b"/memfd:x (deleted)");
    assert_eq!(vfs::fstat(cx, &f).unwrap().mode, 0o100777);
    write(cx, &f, b"data").unwrap();
    assert_eq!(f.ops().seals(), Ok(0));
    f.ops().add_seals(&f, 0x02 | 0x04).unwrap();
    assert_eq!(write(cx, &f, b"more"), Err(Errno::EPERM));
    assert_eq!(vfs::ftruncate(cx, &f, 0), Err(Errno::EPERM));
    f.ops().add_seals(&f, 0x08 | 0x01).unwrap();
    assert_eq!(e(f.pwrite(cx, 0, &mut Src::ours(b"x"))), Err(Errno::EPERM));
    assert_eq!(f.ops().add_seals(&f, 0x10), Err(Errno::EPERM));
    let unsealable = memfds.create(cx, b"y", MemfdFlags::default()).unwrap();
    assert_eq!(
        unsealable.ops().add_seals(&unsealable, 2),
        Err(Errno::EPERM)
    );
    assert_eq!(MemfdFlags::from_guest(0x80), Err(Errno::EINVAL));
}

#[test]
fn bytes_go_from_file_to_file() {
    let w = World::new();
    let cx = &w.cx;
    put(cx, "/a", "0123456789");
    let a = open(cx, "/a", O::RDONLY).unwrap();
    let b = open(cx, "/b", O::CREAT | O::RDWR).unwrap();
    let mut at = 2;
    assert_eq!(
        e(vfs::splice::sendfile(cx, &b, &a, Some(&mut at), 4)),
        Ok(4)
    );
    assert_eq!((at, a.position(), b.position()), (6, 0, 4));
    assert_eq!(e(vfs::splice::sendfile(cx, &b, &a, None, 100)), Ok(10));
    assert_eq!(get(cx, "/b").unwrap(), "23450123456789");
    let (mut from, mut to) = (0, 1);
    let n = vfs::splice::copy_file_range(cx, (&a, Some(&mut from)), (&b, Some(&mut to)), 3);
    assert_eq!((e(n), from, to), (Ok(3), 3, 4));
    assert_eq!(get(cx, "/b").unwrap(), "20120123456789");
    let append = open(cx, "/b", O::APPEND | O::WRONLY).unwrap();
    assert_eq!(
        e(vfs::splice::sendfile(cx, &append, &a, None, 1)),
        Err(Errno::EINVAL)
    );
}
