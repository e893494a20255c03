//! Descriptor tables.

use crate::common::*;
use abi::Errno;
use vfs::{FdTable, OpenFlags as O};

#[test]
fn the_lowest_free_descriptor_is_given() {
    let w = World::new();
    let cx = &w.cx;
    put(cx, "/f", "");
    let f = || open(cx, "/f", O::RDONLY).unwrap();
    let t = FdTable::new();
    let fds: Vec<i32> = (0..5)
        .map(|_| t.insert(f(), false, 0, 5).unwrap())
        .collect();
    assert_eq!(fds, [0, 1, 2, 3, 4]);
    assert_eq!(t.insert(f(), false, 0, 5), Err(Errno::EMFILE));
    e(t.close(cx, 3)).unwrap();
    e(t.close(cx, 1)).unwrap();
    assert_eq!(t.insert(f(), false, 2, 5), Ok(3));
    assert_eq!(t.insert(f(), false, 0, 5), Ok(1));
    assert_eq!(e(t.close(cx, 9)), Err(Errno::EBADF));
    assert_eq!(t.get(-1).err(), Some(Errno::EBADF));
    e(t.close(cx, 4)).unwrap();
    assert_eq!(t.insert_two([f(), f()], false, 5), Err(Errno::EMFILE));
    assert_eq!(t.list().len(), 4);
    assert_eq!(t.insert_two([f(), f()], true, 6), Ok([4, 5]));
}

#[test]
fn duplicates_share_and_forks_do_not() {
    let w = World::new();
    let cx = &w.cx;
    put(cx, "/f", "abcdef");
    let t = FdTable::new();
    let fd = t
        .insert(open(cx, "/f", O::RDONLY).unwrap(), true, 0, 100)
        .unwrap();
    assert_eq!(t.dup_to(cx, fd, 70, false, 100), Ok(70));
    assert_eq!(t.dup_to(cx, fd, 100, false, 100), Err(Errno::EBADF));
    assert_eq!(t.dup_to(cx, 9, 10, false, 100), Err(Errno::EBADF));
    read(cx, &t.get(fd).unwrap(), 2).unwrap();
    assert_eq!(read(cx, &t.get(70).unwrap(), 2).unwrap(), b"cd");
    let child = t.fork();
    assert_ne!(child.id(), t.id());
    assert_eq!(read(cx, &child.get(70).unwrap(), 2).unwrap(), b"ef");
    child.close_on_exec(cx);
    assert_eq!(child.list().len(), 1);
    assert_eq!(t.list().len(), 2);
    assert_eq!((t.cloexec(fd), t.cloexec(70)), (Ok(true), Ok(false)));
    t.close_range(cx, 10, u32::MAX, true);
    assert_eq!(t.cloexec(70), Ok(true));
    t.close_range(cx, 0, u32::MAX, false);
    assert!(t.list().is_empty());
}

#[test]
fn places_are_not_files() {
    let w = World::new();
    let t = FdTable::new();
    let fd = t
        .insert(open(&w.cx, "/", O::PATH).unwrap(), false, 0, 10)
        .unwrap();
    assert_eq!(t.get(fd).err(), Some(Errno::EBADF));
    assert!(t.get_path_ok(fd).is_ok());
}
