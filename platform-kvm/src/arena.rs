//! The arena: pages of our own that the guest's CPUs read (tables, descriptors, stacks of
//! exceptions) and that guest code can't reach.

use crate::layout::{ARENA, ARENA_CHUNK, ARENA_CHUNKS, ARENA_PHYS, ENTRIES, PAGE};
use crate::leaf::{ACCESSED, DIRTY, LARGE, NO_EXECUTE, PRESENT, WRITE};
use crate::sys::map::Words;
use crate::sys::vm::Slot;
use kvm_ioctls::VmFd;
use parking_lot::Mutex;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

/// A page of the arena.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Page(u32);

impl Page {
    /// Its physical address.
    #[inline]
    pub(crate) fn phys(self) -> u64 {
        ARENA_PHYS + u64::from(self.0) * PAGE
    }

    /// The page at a physical address in the arena.
    #[inline]
    pub(crate) fn at(phys: u64) -> Page {
        Page(((phys - ARENA_PHYS) / PAGE) as u32)
    }

    /// Its address in the guest's ring 0.
    pub(crate) fn virt(self) -> u64 {
        ARENA + u64::from(self.0) * PAGE
    }
}

/// See the module.
pub(crate) struct Arena {
    vm: Arc<VmFd>,
    chunks: Box<[OnceLock<Slot<Words>>]>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Pages that were never used begin here.
    next: u32,
    /// Used before; no copy that the host may have kept is of any effect.
    free: Vec<Page>,
    /// No longer used, but the host may keep a copy of what was in them.
    limbo: Vec<Page>,
}

const PAGES_PER_CHUNK: u32 = (ARENA_CHUNK / PAGE) as u32;

/// The first page is the table that maps the arena.
const DIRECTORY: Page = Page(0);

impl Arena {
    /// With one chunk.
    pub(crate) fn new(vm: &Arc<VmFd>) -> io::Result<Arena> {
        let arena = Arena {
            vm: vm.clone(),
            chunks: (0..ARENA_CHUNKS).map(|_| OnceLock::new()).collect(),
            state: Mutex::default(),
        };
        arena.grow(0)?;
        arena.state.lock().next = 1;
        Ok(arena)
    }

    /// Makes a chunk. Called by one thread at a time.
    fn grow(&self, index: u32) -> io::Result<()> {
        let cell = self
            .chunks
            .get(index as usize)
            .ok_or_else(|| io::Error::from_raw_os_error(libc::ENOMEM))?;
        let words = Words::new(ARENA_CHUNK as usize)?;
        let phys = ARENA_PHYS + u64::from(index) * ARENA_CHUNK;
        let slot = Slot::new(&self.vm, index, phys, words, true)?;
        let _ = cell.set(slot);
        let entry = phys | PRESENT | WRITE | ACCESSED | DIRTY | LARGE | NO_EXECUTE;
        self.word(DIRECTORY, u64::from(index))
            .store(entry, Ordering::Release);
        Ok(())
    }

    /// The table of large pages that maps it.
    pub(crate) fn directory(&self) -> Page {
        DIRECTORY
    }

    /// A page of zeros.
    pub(crate) fn allocate(&self) -> io::Result<Page> {
        let mut state = self.state.lock();
        if let Some(page) = state.free.pop() {
            drop(state);
            (0..ENTRIES).for_each(|i| self.word(page, i).store(0, Ordering::Relaxed));
            return Ok(page);
        }
        let page = Page(state.next);
        if page.0.is_multiple_of(PAGES_PER_CHUNK) {
            self.grow(page.0 / PAGES_PER_CHUNK)?;
        }
        state.next += 1;
        Ok(page)
    }

    /// Takes pages back that no table leads to any more, nor any vCPU's memory of one.
    pub(crate) fn retire(&self, pages: &mut Vec<Page>) {
        if !pages.is_empty() {
            self.state.lock().limbo.append(pages);
        }
    }

    /// Moves at most `most` retired pages to `out`, to be touched and then given to
    /// [`Arena::free`].
    pub(crate) fn retired(&self, out: &mut Vec<Page>, most: usize) {
        let mut state = self.state.lock();
        let from = state.limbo.len().saturating_sub(most);
        out.extend(state.limbo.drain(from..));
    }

    /// Pages of which the host keeps no copy may be used again.
    pub(crate) fn free(&self, pages: &[Page]) {
        self.state.lock().free.extend_from_slice(pages);
    }

    /// A word of a page.
    #[inline]
    pub(crate) fn word(&self, page: Page, index: u64) -> &AtomicU64 {
        let chunk = (page.0 / PAGES_PER_CHUNK) as usize;
        let within = u64::from(page.0 % PAGES_PER_CHUNK) * ENTRIES + index;
        self.chunks[chunk]
            .get()
            .expect("pages are handed out from chunks that are there")
            .memory()
            .word(within as usize)
    }

    /// Writes bytes to a page.
    pub(crate) fn write(&self, page: Page, at: u64, bytes: &[u8]) {
        for (i, byte) in (at..).zip(bytes) {
            let word = self.word(page, i / 8);
            let shift = i % 8 * 8;
            let old = word.load(Ordering::Relaxed);
            let new = old & !(0xff << shift) | u64::from(*byte) << shift;
            word.store(new, Ordering::Relaxed);
        }
    }
}
