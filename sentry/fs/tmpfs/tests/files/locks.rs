//! Advisory locks.

use crate::common::*;
use abi::Errno;
use ctx::{Pid, PidSpace};
use std::time::Duration;
use vfs::{FdTable, LeaseKind, LockOwner, OpenFlags as O};
use vfs::{conflicting_lock, flock, lease, lock_range, set_lease, unlock_range};

const fn called(id: i32) -> Pid {
    Pid::new(PidSpace(1), id)
}

const A: LockOwner = LockOwner::Process {
    table: 1_000_001,
    pid: called(11),
};
const B: LockOwner = LockOwner::Process {
    table: 1_000_002,
    pid: called(22),
};

#[test]
fn ranges_conflict_split_and_merge() {
    let w = World::new();
    let cx = &w.cx;
    put(cx, "/f", "");
    let f = open(cx, "/f", O::RDWR).unwrap();
    let lock = |owner, write, range| e(lock_range(cx, &f, owner, write, range, false));
    lock(A, true, (0, 99)).unwrap();
    assert_eq!(lock(B, false, (50, 60)), Err(Errno::EAGAIN));
    unlock_range(&f, A, 40, 69);
    lock(B, true, (50, 60)).unwrap();
    let seen = conflicting_lock(&f, B, false, 0, 1000).unwrap();
    assert_eq!(
        (seen.start, seen.last, seen.pid, seen.write),
        (0, 39, Some(called(11)), true)
    );
    let seen = conflicting_lock(&f, B, false, 60, 1000).unwrap();
    assert_eq!((seen.start, seen.last), (70, 99));
    unlock_range(&f, B, 0, 1000);
    lock(A, true, (40, 69)).unwrap();
    let seen = conflicting_lock(&f, B, false, 99, 99).unwrap();
    assert_eq!((seen.start, seen.last), (0, 99));
    // Weaker: readers share.
    lock(A, false, (0, 99)).unwrap();
    lock(B, false, (0, 99)).unwrap();
    assert_eq!(
        lock(LockOwner::Description, true, (5, 5)),
        Err(Errno::EAGAIN)
    );
    unlock_range(&f, A, 0, u64::MAX);
    unlock_range(&f, B, 0, u64::MAX);
}

#[test]
fn closing_any_descriptor_releases_a_process_s_locks() {
    let w = World::new();
    let cx = &w.cx;
    put(cx, "/f", "");
    let table = FdTable::new();
    let owner = LockOwner::Process {
        table: table.id(),
        pid: called(1),
    };
    let f = open(cx, "/f", O::RDWR).unwrap();
    e(lock_range(cx, &f, owner, true, (0, 9), false)).unwrap();
    let fd = table
        .insert(open(cx, "/f", O::RDONLY).unwrap(), false, 0, 10)
        .unwrap();
    assert!(conflicting_lock(&f, B, true, 0, 9).is_some());
    e(table.close(cx, fd)).unwrap();
    assert!(conflicting_lock(&f, B, true, 0, 9).is_none());
}

#[test]
fn a_description_s_locks_go_with_it() {
    let w = World::new();
    let cx = &w.cx;
    put(cx, "/f", "");
    let (f, g) = (
        open(cx, "/f", O::RDWR).unwrap(),
        open(cx, "/f", O::RDWR).unwrap(),
    );
    e(lock_range(
        cx,
        &f,
        LockOwner::Description,
        true,
        (0, 9),
        false,
    ))
    .unwrap();
    let dup = f.clone();
    drop(f);
    assert_eq!(
        conflicting_lock(&g, LockOwner::Description, true, 0, 9)
            .unwrap()
            .pid,
        None
    );
    drop(dup);
    assert!(conflicting_lock(&g, LockOwner::Description, true, 0, 9).is_none());
}

#[test]
fn flock_excludes_descriptions() {
    let w = World::new();
    let cx = &w.cx;
    put(cx, "/f", "");
    let (f, g) = (
        open(cx, "/f", O::RDONLY).unwrap(),
        open(cx, "/f", O::RDONLY).unwrap(),
    );
    e(flock(cx, &f, Some(false), true)).unwrap();
    e(flock(cx, &g, Some(false), true)).unwrap();
    assert_eq!(e(flock(cx, &f, Some(true), true)), Err(Errno::EAGAIN));
    e(flock(cx, &g, None, true)).unwrap();
    e(flock(cx, &f, Some(true), true)).unwrap();
    std::thread::scope(|s| {
        let (cx, g) = (w.root(), &g);
        let t = s.spawn(move || e(flock(&cx, g, Some(true), false)));
        std::thread::sleep(Duration::from_millis(10));
        drop(f);
        assert_eq!(t.join().unwrap(), Ok(()));
    });
}

#[test]
fn a_deadlock_is_refused() {
    let w = World::new();
    let cx = &w.cx;
    put(cx, "/f", "");
    let f = open(cx, "/f", O::RDWR).unwrap();
    e(lock_range(cx, &f, A, true, (0, 0), false)).unwrap();
    e(lock_range(cx, &f, B, true, (1, 1), false)).unwrap();
    // Whoever comes second is refused, and lets the other in by giving up what it has.
    let take = |cx: &vfs::KernelFsCtx, owner: LockOwner, range| {
        let result = e(lock_range(cx, &f, owner.clone(), true, range, true));
        unlock_range(&f, owner, 0, u64::MAX);
        result
    };
    let mut results = std::thread::scope(|s| {
        let (other, take) = (w.root(), &take);
        let t = s.spawn(move || take(&other, A, (1, 1)));
        vec![take(cx, B, (0, 0)), t.join().unwrap()]
    });
    results.sort_by_key(Result::is_err);
    assert_eq!(results, [Ok(()), Err(Errno::EDEADLK)]);
}

#[test]
fn a_lease_that_is_not_given_up_in_time_is_taken() {
    let w = World::new();
    let cx = &w.cx;
    put(cx, "/f", "");
    sysctl::LEASE_BREAK_TIME.set(1).unwrap();
    let f = open(cx, "/f", O::RDWR).unwrap();
    set_lease(cx, &f, 3, Some(LeaseKind::Write)).unwrap();
    // A reader leaves it one against writers.
    let r = open(cx, "/f", O::RDONLY).unwrap();
    assert_eq!(lease(&f), Some(LeaseKind::Read));
    open(cx, "/f", O::WRONLY).unwrap();
    assert_eq!(lease(&f), None);
    drop(f);
    assert_eq!(set_lease(cx, &r, 3, None), Err(Errno::EAGAIN));
    set_lease(cx, &r, 3, Some(LeaseKind::Write)).unwrap();
    sysctl::LEASE_BREAK_TIME.set(45).unwrap();
}
