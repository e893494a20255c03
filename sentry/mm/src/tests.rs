//! Behaviour, one thing at a time, on the fake platform.

use crate::fake::{FakeFile, Guest};
use crate::types::*;
use crate::{RemapFlags, prot_from_bits};
use abi::page::{PAGE_SIZE, Range};
use abi::{Errno, libc};
use ctx::{UserMemory, UserMemoryExt};
use hostmem::MemoryFile;
use platform_api::{Access, Op};
use std::os::fd::AsFd;
use std::sync::Arc;

const P: u64 = PAGE_SIZE;
const RW: Prot = Prot::READ.union(Prot::WRITE);
const BASE: u64 = 0x2000_0000;

fn guest() -> (Arc<MemoryFile>, Guest) {
    let memory = MemoryFile::new().unwrap();
    let guest = Guest::new(&memory);
    (memory, guest)
}

fn limits() -> MmLimits {
    MmLimits::default()
}

fn map(g: &Guest, pages: u64, prot: Prot) -> u64 {
    g.0.mmap(MapRequest::anonymous(pages * P, prot), &limits())
        .unwrap()
}

fn map_at(g: &Guest, addr: u64, pages: u64, prot: Prot, flags: MapFlags) -> Result<u64, Errno> {
    let mut req = MapRequest::anonymous(pages * P, prot).fixed(addr);
    req.flags |= flags;
    g.0.mmap(req, &limits())
}

fn map_file(g: &Guest, addr: u64, pages: u64, prot: Prot, shared: bool, f: &Arc<FakeFile>) {
    let mut req = MapRequest::anonymous(pages * P, prot).fixed(addr);
    req.flags.set(MapFlags::SHARED, shared);
    req.file = f.map(0);
    g.0.mmap(req, &limits()).unwrap();
}

fn segv(r: Result<impl std::fmt::Debug, FaultSignal>) -> i32 {
    let s = r.unwrap_err();
    assert_eq!(s.signo, libc::SIGSEGV);
    s.code
}

#[test]
fn mapping_and_unmapping_what_is_never_touched_tells_the_platform_nothing() {
    let (memory, g) = guest();
    for _ in 0..10 {
        let at = map(&g, 1000, RW);
        g.0.munmap(at, 1000 * P).unwrap();
    }
    assert!(g.ops().is_empty());
    assert_eq!(memory.usage(), 0);
}

#[test]
fn one_operation_serves_many_pages() {
    let (_m, g) = guest();
    let at = map(&g, 256, RW);
    for i in 0..256 {
        g.store(at + i * P, 1).unwrap();
    }
    assert_eq!(g.ops().len(), 1);
    g.0.munmap(at, 256 * P).unwrap();
    assert_eq!(g.ops().len(), 1);
    assert_eq!(segv(g.load(at)), SEGV_MAPERR);
    g.check();
}

#[test]
fn unmapped_memory_goes_back_to_the_host_and_new_memory_is_zero() {
    let (memory, g) = guest();
    let at = map(&g, 16, RW);
    for i in 0..16 {
        g.store(at + i * P, 7).unwrap();
    }
    assert_eq!(memory.usage(), 16 * P);
    g.0.munmap(at + 4 * P, 4 * P).unwrap();
    assert_eq!(memory.usage(), 12 * P);
    map_at(&g, at + 4 * P, 4, RW, MapFlags::empty()).unwrap();
    assert_eq!(g.load(at + 5 * P), Ok(0));
    assert_eq!(g.load(at + 3 * P), Ok(7));
    g.check();
    g.0.destroy();
    assert_eq!(memory.usage(), 0);
    assert_eq!(g.0.read(at, &mut [0]), Err(Errno::EFAULT));
}

#[test]
fn an_empty_range_changes_nothing() {
    let (_m, g) = guest();
    let at = map(&g, 4, RW);
    g.store(at + 2 * P, 5).unwrap();
    g.0.mlock(at + 2 * P, 0, false, &limits()).unwrap();
    g.0.munlock(at + 2 * P, 0).unwrap();
    let shared = map_at(&g, at + 4 * P, 2, RW, MapFlags::SHARED).unwrap();
    assert_eq!(
        g.0.madvise(shared + P, P, libc::MADV_WIPEONFORK),
        Err(Errno::EINVAL)
    );
    g.store(shared + P, 6).unwrap();
    assert_eq!(g.load(at + 2 * P), Ok(5));
    g.check();
}

#[test]
fn protections_hold_for_the_guest_and_for_the_kernel() {
    let (_m, g) = guest();
    let at = map(&g, 4, RW);
    g.0.write(at, &[9; 4 * 4096]).unwrap();
    g.0.mprotect(at + P, P, Prot::READ, false, &limits())
        .unwrap();
    g.0.mprotect(at + 2 * P, P, Prot::empty(), false, &limits())
        .unwrap();
    assert_eq!(segv(g.store(at + P, 1)), SEGV_ACCERR);
    assert_eq!(segv(g.load(at + 2 * P)), SEGV_ACCERR);
    assert_eq!(segv(g.fetch(at)), SEGV_ACCERR);
    assert_eq!(g.0.write(at + P, b"x"), Err(Errno::EFAULT));
    assert_eq!(g.0.write_some(at + P - 3, b"abcdef"), Ok(3));
    assert_eq!(g.0.read(at + 2 * P, &mut [0]), Err(Errno::EFAULT));
    let mut buf = [0; 8192 + 10];
    assert_eq!(g.0.read_some(at, &mut buf), Ok(8192));
    assert!(g.0.is_accessible(at, 2 * P, false));
    assert!(!g.0.is_accessible(at, 2 * P, true));
    // A debugger's write gets through.
    assert_eq!(g.0.write_forced(at + P, b"y"), Ok(1));
    assert_eq!(g.load(at + P), Ok(b'y'));
    g.check();
    g.0.mprotect(at, 4 * P, RW | Prot::EXECUTE, false, &limits())
        .unwrap();
    g.fetch(at + 2 * P).unwrap();
    assert_eq!(g.load(at + 2 * P), Ok(9));
    assert_eq!(g.0.maps().len(), 1);
    let r = g.0.mprotect(at, 8 * P, Prot::READ, false, &limits());
    assert_eq!(r, Err(Errno::ENOMEM));
    assert_eq!(g.0.protection(at), Some(Prot::READ));
}

#[test]
fn a_forked_page_is_copied_once_and_then_one_side_has_it_for_itself() {
    let (memory, g) = guest();
    let at = map(&g, 64, RW);
    for i in 0..64 {
        g.store(at + i * P, i as u8).unwrap();
    }
    g.ops();
    let child = g.fork();
    assert_eq!(g.ops().len(), 1);
    child.store(at, 100).unwrap();
    assert_eq!((g.load(at), child.load(at)), (Ok(0), Ok(100)));
    g.store(at + 63 * P, 101).unwrap();
    assert_eq!(
        (g.load(at + 63 * P), child.load(at + 63 * P)),
        (Ok(101), Ok(63))
    );
    g.check();
    child.check();
    drop(child);
    g.ops();
    for i in 0..64 {
        g.store(at + i * P, 1).unwrap();
    }
    // The rest is unsealed by one operation, in place.
    assert!(g.ops().len() <= 2);
    g.check();
    assert!(memory.usage() <= 80 * P);
}

#[test]
fn only_what_is_there_is_copied_and_neighbouring_copies_become_one() {
    let (memory, g) = guest();
    let at = map(&g, 1024, RW);
    for i in (0..1024).step_by(4) {
        g.store(at + i * P, 1).unwrap();
    }
    let before = memory.usage();
    let child = g.fork();
    for i in (0..1024).rev().step_by(16) {
        child.store(at + i * P, 2).unwrap();
    }
    assert!(memory.usage() <= 2 * before + 64 * P);
    assert_eq!(child.0.state.read().extents.iter().count(), 1);
    child.check();
}

#[test]
fn after_a_fork_that_execs_the_first_store_unseals_everything() {
    let (_m, g) = guest();
    let places: Vec<u64> = (0..20).map(|i| BASE + i * 64 * P).collect();
    for p in &places {
        map_at(&g, *p, 4, RW, MapFlags::empty()).unwrap();
        g.store(*p, 1).unwrap();
    }
    drop(g.fork());
    g.ops();
    for p in &places {
        g.store(*p, 2).unwrap();
    }
    assert_eq!(g.ops().len(), 20);
    assert!(g.0.state.read().extents.iter().all(|e| !e.sealed));
}

#[test]
fn shared_memory_is_shared_with_children() {
    let (_m, g) = guest();
    map_at(&g, BASE, 8, RW, MapFlags::SHARED).unwrap();
    g.store(BASE, 1).unwrap();
    let child = g.fork();
    child.store(BASE, 2).unwrap();
    child.store(BASE + 7 * P, 3).unwrap();
    assert_eq!((g.load(BASE), g.load(BASE + 7 * P)), (Ok(2), Ok(3)));
    assert_eq!(g.0.futex_key(BASE, true), child.0.futex_key(BASE, true));
    assert_ne!(g.0.futex_key(BASE, false), child.0.futex_key(BASE, false));
    assert_eq!(g.0.futex_key(BASE + 64 * P, true), Err(Errno::EFAULT));
}

#[test]
fn private_file_pages_are_shared_until_written() {
    for f in [FakeFile::on_host(40, true), FakeFile::on_host(40, false)] {
        let (memory, g) = guest();
        map_file(&g, BASE, 40, RW, false, &f);
        assert_eq!(g.load(BASE + 5 * P), Ok(6));
        assert_eq!(g.ops().len(), 1);
        assert_eq!(memory.usage(), 0);
        g.store(BASE + 5 * P + 9, 99).unwrap();
        assert_eq!(g.load(BASE + 5 * P + 9), Ok(99));
        assert_eq!(g.load(BASE + 5 * P), Ok(6));
        let mut there = [0];
        nix::sys::uio::pread(f.host(), &mut there, (5 * P + 9) as i64).unwrap();
        assert_eq!(there, [6]);
        g.0.write(BASE + 39 * P, b"end").unwrap();
        assert_eq!(g.load(BASE + 39 * P + 1), Ok(b'n'));
        g.check();
        g.0.munmap(BASE, 40 * P).unwrap();
        assert!(!f.is_mapped());
        assert_eq!(memory.usage(), 0);
    }
}

#[test]
fn what_the_host_does_not_let_execute_is_copied_for_it() {
    let f = FakeFile::on_host(4, false);
    let (memory, g) = guest();
    map_file(&g, BASE, 4, Prot::READ | Prot::EXECUTE, false, &f);
    assert_eq!(g.load(BASE), Ok(1));
    g.fetch(BASE + P).unwrap();
    assert_eq!(g.load(BASE + P), Ok(2));
    assert_eq!(memory.usage(), 4 * P);
    g.check();
}

#[test]
fn shared_file_pages_are_the_files() {
    let f = FakeFile::on_host(4, true);
    let (_m, g) = guest();
    map_file(&g, BASE, 8, RW, true, &f);
    g.store(BASE + 1, 77).unwrap();
    g.0.write(BASE + P, b"kernel").unwrap();
    let mut there = [0; 6];
    nix::sys::uio::pread(f.host(), &mut there, P as i64).unwrap();
    assert_eq!(&there, b"kernel");
    let mut back = [0; 2];
    g.0.read(BASE, &mut back).unwrap();
    assert_eq!(back, [1, 77]);
    assert_eq!(
        g.0.cmpxchg_u32(BASE + 2 * P, 0x0303_0303, 5),
        Ok(0x0303_0303)
    );
    assert_eq!(g.0.load_u32(BASE + 2 * P), Ok(5));
    // Past the end.
    let s = g.load(BASE + 4 * P).unwrap_err();
    assert_eq!((s.signo, s.code), (libc::SIGBUS, BUS_ADRERR));
    assert_eq!(g.0.read(BASE + 4 * P, &mut [0]), Err(Errno::EFAULT));
    assert_eq!(g.0.write(BASE + 4 * P, &[0]), Err(Errno::EFAULT));
    assert_eq!(g.0.futex_key(BASE, true), g.fork().0.futex_key(BASE, true));
    g.check();
}

#[test]
fn truncation_takes_pages_away_everywhere_and_growth_brings_them_back() {
    let memory = MemoryFile::new().unwrap();
    for f in [FakeFile::on_host(8, true), FakeFile::in_frames(&memory, 8)] {
        let g = Guest::new(&memory);
        map_file(&g, BASE, 8, RW, true, &f);
        map_file(&g, BASE + 16 * P, 8, RW, false, &f);
        g.store(BASE + 16 * P + 6 * P, 50).unwrap();
        assert_eq!(g.load(BASE + 6 * P), Ok(7));
        let child = g.fork();
        f.truncate(4);
        for g in [&g, &child] {
            assert_eq!(g.load(BASE + 3 * P), Ok(4));
            assert_eq!(g.load(BASE + 6 * P).unwrap_err().signo, libc::SIGBUS);
            assert_eq!(g.load(BASE + 22 * P).unwrap_err().signo, libc::SIGBUS);
            g.check();
        }
        f.truncate(8);
        assert_eq!(child.load(BASE + 6 * P), Ok(0));
        assert_eq!(child.load(BASE + 22 * P), Ok(0));
        if let Some(frames) = f.frames() {
            frames.write(6 * P, b"!").unwrap();
            assert_eq!(g.load(BASE + 6 * P), Ok(b'!'));
        }
    }
}

#[test]
fn the_heap_grows_and_shrinks() {
    let (memory, g) = guest();
    g.0.set_brk(BASE);
    let l = limits();
    assert_eq!(g.0.brk(0, &l), BASE);
    assert_eq!(g.0.brk(BASE + 100, &l), BASE + 100);
    g.store(BASE, 1).unwrap();
    g.ops();
    assert_eq!(g.0.brk(BASE + 33 * P, &l), BASE + 33 * P);
    // In use to its end, so that growth needs no fault.
    for i in 1..33 {
        g.store(BASE + i * P, 2).unwrap();
    }
    assert_eq!(g.ops().len(), 1);
    assert_eq!(g.0.maps().len(), 1);
    assert_eq!(g.0.maps()[0].name, Some("[heap]"));
    assert_eq!(g.0.brk(BASE + 1, &l), BASE + 1);
    assert_eq!(memory.usage(), P);
    assert_eq!(segv(g.load(BASE + P)), SEGV_MAPERR);
    map_at(&g, BASE + 4 * P, 1, RW, MapFlags::empty()).unwrap();
    assert_eq!(g.0.brk(BASE + 8 * P, &l), BASE + 1);
    let tight = MmLimits { data: 2 * P, ..l };
    assert_eq!(g.0.brk(BASE + 3 * P, &tight), BASE + 1);
}

#[test]
fn stacks_grow_down_to_their_limit_and_keep_their_distance() {
    let (_m, g) = guest();
    let flags = MapFlags::STACK | MapFlags::GROWSDOWN;
    let top = BASE + (64 << 20);
    map_at(&g, top - 4 * P, 4, RW, flags).unwrap();
    g.store(top - 100 * P, 1).unwrap();
    g.0.write(top - 1000 * P, b"kernel too").unwrap();
    assert_eq!(segv(g.load(top - (8 << 20) - P)), SEGV_MAPERR);
    g.store(top - (8 << 20), 1).unwrap();
    let below = top - (8 << 20) - 300 * P;
    map_at(&g, below, 1, RW, MapFlags::empty()).unwrap();
    let more = MmLimits {
        stack: 64 << 20,
        ..limits()
    };
    g.0.set_limits(&more);
    g.store(below + P + 256 * P, 1).unwrap();
    assert_eq!(segv(g.store(below + 256 * P, 1)), SEGV_MAPERR);
    g.check();
}

#[test]
fn moving_keeps_contents() {
    let (_m, g) = guest();
    let at = map(&g, 40, RW);
    for i in 0..40 {
        g.store(at + i * P, i as u8).unwrap();
    }
    let l = limits();
    let grown =
        g.0.mremap(at, 40 * P, 80 * P, RemapFlags::MAYMOVE, 0, &l)
            .unwrap();
    for i in 0..40 {
        assert_eq!(g.load(grown + i * P), Ok(i as u8));
    }
    assert_eq!(g.load(grown + 79 * P), Ok(0));
    g.check();
    let fixed = RemapFlags::MAYMOVE | RemapFlags::FIXED;
    assert_eq!(g.0.mremap(grown, 10 * P, 5 * P, fixed, BASE, &l), Ok(BASE));
    assert_eq!(g.load(BASE + 4 * P), Ok(4));
    assert_eq!(segv(g.load(BASE + 5 * P)), SEGV_MAPERR);
    assert_eq!(segv(g.load(grown + 9 * P)), SEGV_MAPERR);
    assert_eq!(g.load(grown + 10 * P), Ok(10));
    let keep = RemapFlags::MAYMOVE | RemapFlags::DONTUNMAP;
    let moved = g.0.mremap(BASE, 5 * P, 5 * P, keep, 0, &l).unwrap();
    assert_eq!((g.load(moved + P), g.load(BASE + P)), (Ok(1), Ok(0)));
    assert_eq!(
        g.0.mremap(BASE, 5 * P, 0, RemapFlags::empty(), 0, &l),
        Err(Errno::EINVAL)
    );
    assert_eq!(
        g.0.mremap(BASE, 6 * P, 7 * P, RemapFlags::MAYMOVE, 0, &l),
        Err(Errno::EFAULT)
    );
    g.check();
}

#[test]
fn growth_in_place_joins() {
    let (_m, g) = guest();
    map_at(&g, BASE, 4, RW, MapFlags::empty()).unwrap();
    let r =
        g.0.mremap(BASE, 4 * P, 8 * P, RemapFlags::empty(), 0, &limits());
    assert_eq!(r, Ok(BASE));
    assert_eq!(g.0.maps().len(), 1);
    map_at(&g, BASE + 8 * P, 1, Prot::READ, MapFlags::empty()).unwrap();
    let r =
        g.0.mremap(BASE, 8 * P, 9 * P, RemapFlags::empty(), 0, &limits());
    assert_eq!(r, Err(Errno::ENOMEM));
}

#[test]
fn reservations_cost_nothing_and_reading_them_costs_little() {
    let (memory, g) = guest();
    let tib = 1u64 << 40;
    let mut req = MapRequest::anonymous(8 * tib, RW);
    req.flags |= MapFlags::NORESERVE;
    let at = g.0.mmap(req, &limits()).unwrap();
    let none =
        g.0.mmap(MapRequest::anonymous(16 * tib, Prot::empty()), &limits())
            .unwrap();
    assert_eq!(segv(g.load(none)), SEGV_ACCERR);
    let r = g.0.mmap(MapRequest::anonymous(8 * tib, RW), &limits());
    assert_eq!(r, Err(Errno::ENOMEM));
    for i in 0..1000 {
        assert_eq!(g.load(at + i * (1 << 30) + 5 * P), Ok(0));
    }
    assert!(memory.usage() <= 2 << 20);
    g.store(at + 5 * P, 3).unwrap();
    assert_eq!((g.load(at + 5 * P), g.load(at + 6 * P)), (Ok(3), Ok(0)));
    g.check();
}

#[test]
fn advice_empties_in_place() {
    let (memory, g) = guest();
    let at = map(&g, 32, RW);
    for i in 0..32 {
        g.store(at + i * P, 1).unwrap();
    }
    g.ops();
    g.0.madvise(at + 8 * P, 8 * P, libc::MADV_DONTNEED).unwrap();
    assert!(g.ops().is_empty());
    assert_eq!(memory.usage(), 24 * P);
    assert_eq!((g.load(at + 8 * P), g.load(at + 7 * P)), (Ok(0), Ok(1)));
    let child = g.fork();
    child.0.madvise(at, 32 * P, libc::MADV_DONTNEED).unwrap();
    assert_eq!((g.load(at), child.load(at)), (Ok(1), Ok(0)));
    g.0.madvise(at, 4 * P, libc::MADV_DONTFORK).unwrap();
    g.0.madvise(at + 4 * P, 4 * P, libc::MADV_WIPEONFORK)
        .unwrap();
    let child = g.fork();
    assert_eq!(segv(child.load(at)), SEGV_MAPERR);
    assert_eq!((child.load(at + 4 * P), g.load(at + 4 * P)), (Ok(0), Ok(1)));
    child.check();
    assert_eq!(g.0.madvise(at, P, 12345), Err(Errno::EINVAL));
    assert_eq!(
        g.0.madvise(at, 100 * P, libc::MADV_WILLNEED),
        Err(Errno::ENOMEM)
    );
}

#[test]
fn residency_and_sizes_are_told() {
    let (_m, g) = guest();
    map_at(&g, BASE, 8, RW, MapFlags::empty()).unwrap();
    g.store(BASE + 2 * P, 1).unwrap();
    assert_eq!(
        g.0.mincore(BASE, 4 * P, &auth::Creds::root()),
        Ok(vec![0, 0, 1, 0])
    );
    assert_eq!(
        g.0.mincore(BASE, 9 * P, &auth::Creds::root()),
        Err(Errno::ENOMEM)
    );
    let u = g.0.usage();
    assert_eq!((u.virtual_, u.resident, u.data), (8 * P, P, 8 * P));
    g.0.munmap(BASE, 8 * P).unwrap();
    let u = g.0.usage();
    assert_eq!((u.virtual_, u.peak_virtual, u.peak_resident), (0, 8 * P, P));
    assert_eq!(g.0.msync(BASE, P, libc::MS_SYNC), Err(Errno::ENOMEM));
    assert_eq!(
        g.0.msync(BASE, P, libc::MS_SYNC | libc::MS_ASYNC),
        Err(Errno::EINVAL)
    );
}

#[test]
fn limits_are_kept() {
    let (_m, g) = guest();
    let l = MmLimits {
        address_space: 100 * P,
        data: 50 * P,
        memlock: 10 * P,
        ..limits()
    };
    let mut req = MapRequest::anonymous(60 * P, RW);
    assert_eq!(g.0.mmap(req.clone(), &l), Err(Errno::ENOMEM));
    req.prot = Prot::READ;
    let at = g.0.mmap(req.clone(), &l).unwrap();
    assert_eq!(g.0.mmap(req.clone(), &l), Err(Errno::ENOMEM));
    // In place of what is there it fits.
    g.0.mmap(req.fixed(at), &l).unwrap();
    assert_eq!(g.0.mprotect(at, 60 * P, RW, false, &l), Err(Errno::ENOMEM));
    assert_eq!(g.0.mlock(at, 20 * P, false, &l), Err(Errno::ENOMEM));
    g.0.mlock(at + 1, P, false, &l).unwrap();
    assert_eq!(g.0.usage().locked, 2 * P);
    g.0.munlockall();
    assert_eq!(g.0.usage().locked, 0);
}

#[test]
fn bad_requests_get_linuxs_errors() {
    let (_m, g) = guest();
    let l = limits();
    let anon = |len| MapRequest::anonymous(len, RW);
    assert_eq!(g.0.mmap(anon(0), &l), Err(Errno::EINVAL));
    assert_eq!(g.0.mmap(anon(u64::MAX), &l), Err(Errno::ENOMEM));
    assert_eq!(g.0.mmap(anon(P).fixed(BASE + 1), &l), Err(Errno::EINVAL));
    assert_eq!(g.0.mmap(anon(P).fixed(0), &l), Err(Errno::EPERM));
    assert_eq!(
        g.0.mmap(anon(P).fixed(u64::MAX - 0xfff), &l),
        Err(Errno::ENOMEM)
    );
    // What the platform keeps for itself.
    assert_eq!(g.0.mmap(anon(P).fixed(1 << 40), &l), Err(Errno::ENOMEM));
    map_at(&g, BASE, 2, RW, MapFlags::empty()).unwrap();
    let mut req = anon(P);
    req.addr = BASE + P;
    req.flags = MapFlags::FIXED_NOREPLACE;
    assert_eq!(g.0.mmap(req.clone(), &l), Err(Errno::EEXIST));
    req.flags = MapFlags::empty();
    assert_ne!(g.0.mmap(req.clone(), &l), Ok(BASE + P));
    req.addr = BASE + 2 * P + 5;
    assert_eq!(g.0.mmap(req, &l), Ok(BASE + 2 * P));
    assert_eq!(g.0.munmap(BASE + 1, P), Err(Errno::EINVAL));
    assert_eq!(g.0.munmap(BASE, 0), Err(Errno::EINVAL));
    assert_eq!(g.0.munmap(0, u64::MAX), Err(Errno::EINVAL));
    let f = FakeFile::on_host(1, true);
    let mut req = anon(P);
    req.file = f.map(0).map(|f| MapFile {
        max_prot: Prot::READ,
        ..f
    });
    assert_eq!(g.0.mmap(req.clone(), &l), Err(Errno::EACCES));
    req.prot = Prot::READ;
    let at = g.0.mmap(req, &l).unwrap();
    assert_eq!(g.0.mprotect(at, P, RW, false, &l), Err(Errno::EACCES));
    assert_eq!(prot_from_bits(7), Prot::all());
}

#[test]
fn free_room_is_found_from_the_top_and_used_again() {
    let (_m, g) = guest();
    let a = map(&g, 10, RW);
    let b = map(&g, 10, Prot::READ);
    let c = map(&g, 10, RW);
    assert_eq!((b, c), (a - 10 * P, b - 10 * P));
    assert_eq!(a + 10 * P, g.0.layout().mmap_base);
    g.0.munmap(b, 10 * P).unwrap();
    assert_eq!(map(&g, 5, Prot::READ), b + 5 * P);
    assert_eq!(map(&g, 20, Prot::READ), c - 20 * P);
    assert_eq!(map(&g, 5, Prot::READ), b);
    let mut req = MapRequest::anonymous(P, RW);
    req.flags |= MapFlags::LOW;
    assert!(g.0.mmap(req, &limits()).unwrap() < 1 << 31);
}

#[test]
fn words_are_atomic_and_typed_copies_work() {
    let (_m, g) = guest();
    let at = map(&g, 2, RW);
    assert_eq!(g.0.try_load_u32(at), Ok(None));
    assert_eq!(g.0.load_u32(at), Ok(0));
    assert_eq!(g.0.update_u32(at, |v| v + 41), Ok(0));
    assert_eq!(g.0.cmpxchg_u32(at, 41, 1), Ok(41));
    assert_eq!(g.0.try_load_u32(at), Ok(Some(1)));
    assert_eq!(g.0.load_u32(at + 2), Err(Errno::EINVAL));
    assert_eq!(g.0.load_u32(4), Err(Errno::EFAULT));
    g.0.write_obj(at + P - 4, &0x1122_3344_5566_7788u64)
        .unwrap();
    assert_eq!(g.0.read_obj::<u64>(at + P - 4), Ok(0x1122_3344_5566_7788));
    g.0.write(at, b"string\0").unwrap();
    assert_eq!(g.0.read_cstr(at, 100), Ok(Some(b"string".to_vec())));
    assert_eq!(g.0.read_obj::<u64>(at + 2 * P - 4), Err(Errno::EFAULT));
}

#[test]
fn host_files_are_read_straight_into_guest_memory() {
    let (_m, g) = guest();
    let f = FakeFile::on_host(64, true);
    for len in [100usize, 64 * 4096] {
        let at = map(&g, 64, RW);
        let child = g.fork();
        assert_eq!(
            g.0.fill_from_host(at, len, f.host().as_fd(), Some(P)),
            Ok(len.min(63 * 4096))
        );
        assert_eq!((g.load(at), child.load(at)), (Ok(2), Ok(0)));
        let (r, w) = nix::unistd::pipe().unwrap();
        let n =
            g.0.drain_to_host(at, len.min(60000), w.as_fd(), None)
                .unwrap();
        assert_eq!(n, len.min(60000));
        g.0.mprotect(at, P, Prot::READ, false, &limits()).unwrap();
        assert_eq!(
            g.0.fill_from_host(at, len, r.as_fd(), None),
            Err(Errno::EFAULT)
        );
        assert_eq!(g.0.fill_from_host(at + P, 50, r.as_fd(), None), Ok(50));
    }
    map_file(&g, BASE, 64, Prot::READ, false, &f);
    let (_r, w) = nix::unistd::pipe().unwrap();
    assert_eq!(g.0.drain_to_host(BASE, 20000, w.as_fd(), None), Ok(20000));
}

#[test]
fn a_failed_map_is_made_good() {
    let (_m, g) = guest();
    let at = map(&g, 4, RW);
    g.store(at, 5).unwrap();
    g.0.map_failed(at, 4 * P, 12).unwrap();
    g.check();
    assert_eq!(g.load(at), Ok(5));
    g.check();
}

/// A platform that has no room for one more file gets rid of the others once; what it refuses
/// then is copied, or ends as a page that can't be read, but is not tried for ever.
#[test]
fn what_the_platform_refuses_for_good_is_not_tried_for_ever() {
    let (_m, g) = guest();
    let (f, other) = (FakeFile::on_host(4, true), FakeFile::on_host(4, true));
    let (private, shared, room) = (BASE, BASE + 16 * P, BASE + 32 * P);
    map_file(&g, private, 4, Prot::READ, false, &f);
    map_file(&g, shared, 4, Prot::READ, true, &f);
    map_file(&g, room, 4, Prot::READ, true, &other);
    let anonymous = map(&g, 1, RW);
    g.store(anonymous, 1).unwrap();
    for at in [private, shared] {
        let expected = g.load(room).unwrap();
        g.load(at).unwrap();
        g.ops();
        g.0.map_failed(at, 4 * P, libc::ENOMEM).unwrap();
        g.check();
        let unmapped = |addr| {
            let unmaps = |op: &Op| matches!(op, Op::Unmap { addr: a, .. } if *a == addr);
            g.ops().iter().any(unmaps)
        };
        assert!(unmapped(room), "the other file was left where it was");
        assert_eq!(g.load(room), Ok(expected));
        // Once more, and refused once more.
        g.load(at).unwrap();
        g.0.map_failed(at, 4 * P, libc::ENOMEM).unwrap();
    }
    assert_eq!(g.load(private + P), g.load(room + P));
    g.check();
    assert_eq!(g.load(shared).unwrap_err().signo, libc::SIGBUS);
    g.0.map_failed(anonymous, P, libc::ENOMEM).unwrap();
    assert_eq!(g.load(anonymous), Ok(1));
    g.0.map_failed(anonymous, P, libc::ENOMEM).unwrap();
    assert_eq!(g.load(anonymous).unwrap_err().signo, libc::SIGKILL);
    g.check();
}

#[test]
fn populating_brings_everything_in() {
    let (_m, g) = guest();
    let mut req = MapRequest::anonymous(8 << 20, RW);
    req.flags |= MapFlags::POPULATE;
    let at = g.0.mmap(req, &limits()).unwrap();
    let ops = g.ops().len();
    assert!((1..10).contains(&ops));
    for i in 0..2048 {
        g.store(at + i * P, 1).unwrap();
    }
    assert!(g.ops().is_empty());
}

#[test]
fn growing_use_keeps_the_host_at_one_mapping() {
    let (_m, g) = guest();
    let at = map(&g, 1 << 18, RW);
    for i in 0..1 << 18 {
        if i % 64 == 0 {
            g.store(at + i * P, 1).unwrap();
        }
    }
    assert_eq!(g.0.state.read().extents.iter().count(), 1);
    assert!(g.ops().iter().all(|op| matches!(op, Op::Map { .. })));
    assert_eq!(
        g.0.mapping_at(at).unwrap().range,
        Range::new(at, at + (1 << 30))
    );
    // All is in place, so that it is the host that has no page, and nobody else can go.
    assert_eq!(
        g.0.handle_fault(at, Access::Write, true).unwrap_err().signo,
        libc::SIGKILL
    );
}
