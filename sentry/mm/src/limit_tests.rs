//! Behaviour at the memory limit, and when the host has no memory left.

use crate::Mm;
use crate::fake::Guest;
use crate::types::*;
use abi::page::PAGE_SIZE;
use abi::{Errno, libc};
use ctx::UserMemory;
use hostmem::{MemoryFile, Relief, Victim};
use nix::sys::memfd::{MFdFlags, memfd_create};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, Weak};

const P: u64 = PAGE_SIZE;
const RW: Prot = Prot::READ.union(Prot::WRITE);

/// A kernel of two processes: the first is trimmed, the second goes when somebody has to.
#[derive(Default)]
struct Two {
    kept: Mutex<Weak<Mm>>,
    victim: Mutex<Option<Guest>>,
    asked: AtomicU32,
}

impl Relief for Two {
    fn trim(&self, smallest: u64) {
        if let Some(mm) = self.kept.lock().unwrap().upgrade() {
            mm.trim(smallest).unwrap();
        }
    }
    fn make_go(&self) -> Victim {
        self.asked.fetch_add(1, Ordering::Relaxed);
        match self.victim.lock().unwrap().take() {
            Some(_gone) => Victim::Other,
            None => Victim::Asker,
        }
    }
}

fn limited(memory: Arc<MemoryFile>, pages: Option<u64>) -> (Guest, Arc<Two>) {
    let two = Arc::new(Two::default());
    let relief: Weak<Two> = Arc::downgrade(&two);
    memory.set_limit(pages.map(|n| n * P), relief);
    let guest = Guest::new(&memory);
    *two.kept.lock().unwrap() = Arc::downgrade(&guest.0);
    (guest, two)
}

fn with_limit(pages: u64) -> (Arc<MemoryFile>, Guest, Arc<Two>) {
    let memory = MemoryFile::new().unwrap();
    let (guest, two) = limited(memory.clone(), Some(pages));
    (memory, guest, two)
}

fn map(g: &Guest, pages: u64) -> u64 {
    let request = MapRequest::anonymous(pages * P, RW);
    g.0.mmap(request, &MmLimits::default()).unwrap()
}

#[test]
fn the_limit_is_reached_but_not_passed() {
    let (memory, g, two) = with_limit(512);
    let at = map(&g, 4096);
    let mut touched = 0;
    let end = loop {
        match g.store(at + touched * P, 1) {
            Ok(()) => touched += 1,
            Err(signal) => break signal,
        }
    };
    assert_eq!(end.signo, libc::SIGKILL);
    assert_eq!(touched, 512);
    assert!(memory.usage() <= 512 * P);
    assert_eq!(two.asked.load(Ordering::Relaxed), 1);
    g.check();
    // What is given back can be had again.
    g.0.madvise(at, 256 * P, libc::MADV_DONTNEED).unwrap();
    for i in 512..700 {
        g.store(at + i * P, 2).unwrap();
    }
    assert_eq!(g.load(at + 600 * P), Ok(2));
    g.check();
}

#[test]
fn who_goes_makes_room_for_who_stays() {
    let (memory, g, two) = with_limit(512);
    let other = Guest::new(&memory);
    let theirs = map(&other, 400);
    for i in 0..400 {
        other.store(theirs + i * P, 1).unwrap();
    }
    *two.victim.lock().unwrap() = Some(other);
    let at = map(&g, 500);
    for i in 0..500 {
        g.store(at + i * P, 3).unwrap();
    }
    assert_eq!(two.asked.load(Ordering::Relaxed), 1);
    assert!(memory.usage() <= 512 * P);
}

#[test]
fn what_was_never_touched_is_taken_back_before_anybody_goes() {
    let (memory, g, two) = with_limit(4096);
    // A page in every 256 KiB: far more is handed out than there is.
    let at = map(&g, 64 * 1000);
    for i in 0..1000 {
        g.store(at + i * 64 * P + 5 * P, i as u8).unwrap();
    }
    assert_eq!(two.asked.load(Ordering::Relaxed), 0);
    g.check();
    for i in 0..1000 {
        assert_eq!(g.load(at + i * 64 * P + 5 * P), Ok(i as u8));
    }
    // Now all of it: there is no stretch large enough that we would not be asked for.
    let end = (0..64 * 1000).find_map(|i| g.store(at + i * P, 1).err());
    assert_eq!(end.unwrap().signo, libc::SIGKILL);
    assert!(
        memory.usage() <= 4096 * P + 32 * P,
        "{}",
        memory.usage() / P
    );
    g.check();
}

#[test]
fn copies_of_a_fork_are_counted() {
    let (memory, g, two) = with_limit(512);
    let at = map(&g, 300);
    for i in 0..300 {
        g.store(at + i * P, 1).unwrap();
    }
    let child = g.fork();
    let end = (0..300).find_map(|i| child.store(at + i * P, 2).err());
    assert_eq!(end.unwrap().signo, libc::SIGKILL);
    assert_eq!(two.asked.load(Ordering::Relaxed), 1);
    assert!(memory.usage() <= 512 * P);
    assert_eq!(g.load(at), Ok(1));
}

#[test]
fn the_kernels_own_copies_keep_the_limit_and_say_so() {
    let (memory, g, _two) = with_limit(256);
    let at = map(&g, 1024);
    let done = g.0.write_some(at, &vec![7; 1024 * 4096]).unwrap();
    assert_eq!(done, 256 * 4096);
    assert!(memory.usage() <= 256 * P);
    assert_eq!(g.0.write_some(at + 512 * P, &[1]), Err(Errno::EFAULT));
}

/// A memory file over huge pages, of which the host has none: it has offsets and no memory.
fn dry() -> Option<Arc<MemoryFile>> {
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_HUGETLB;
    let file = memfd_create(c"dry", flags).ok()?;
    let pages = std::fs::read_to_string("/proc/sys/vm/nr_hugepages").ok()?;
    let more = std::fs::read_to_string("/proc/sys/vm/nr_overcommit_hugepages").ok()?;
    if pages.trim() != "0" || more.trim() != "0" {
        return None;
    }
    MemoryFile::from_file(file).ok()
}

#[test]
fn a_host_without_memory_is_survived() {
    let Some(memory) = dry() else {
        println!("skipped: huge pages cannot stand for a host without memory here");
        return;
    };
    let (g, two) = limited(memory.clone(), None);
    *two.victim.lock().unwrap() = Some(Guest::new(&memory));
    let at = map(&g, 16);
    // Somebody goes, it is tried again, and then it is the asker's turn.
    assert_eq!(g.0.write_some(at, b"x"), Err(Errno::EFAULT));
    assert_eq!(two.asked.load(Ordering::Relaxed), 2);
    assert_eq!(g.0.read_some(at, &mut [0]), Err(Errno::EFAULT));
    assert_eq!(g.0.load_u32(at), Err(Errno::EFAULT));
    // Guest code that gets SIGBUS where it has everything.
    let bus = g.0.handle_fault(at, platform_api::Access::Write, true);
    assert_eq!(bus.unwrap_err().signo, libc::SIGKILL);
    let mut request = MapRequest::anonymous(16 * P, RW);
    request.flags |= MapFlags::POPULATE;
    g.0.mmap(request, &MmLimits::default()).unwrap();
    assert_eq!(
        g.0.madvise(at, 16 * P, libc::MADV_POPULATE_WRITE),
        Err(Errno::ENOMEM)
    );
}
