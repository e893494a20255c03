//! The allocator: the C library's, of which a sample is taken now and then while somebody profiles
//! memory. Otherwise that costs one relaxed load for each allocation and each free.
// UNSAFETY: an allocator, which hands everything on.
#![expect(unsafe_code, reason = "an allocator is an unsafe trait")]

use super::sampler::{random, sample_here};
use control::profile::HEAP_RATE;
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Sampled allocations that can be told to be still there; untouched memory, and therefore none,
/// without a profile.
const SLOTS: usize = 8192;
/// How many slots one allocation may be in.
const PROBES: usize = 8;

struct Sampled;

#[global_allocator]
static ALLOCATOR: Sampled = Sampled;

static ON: AtomicBool = AtomicBool::new(false);
static NEXT_ID: AtomicU64 = AtomicU64::new(1);
/// The address of a sampled allocation; 0 where there is none.
static ADDRESSES: [AtomicU64; SLOTS] = [const { AtomicU64::new(0) }; SLOTS];
/// And its id.
static IDS: [AtomicU64; SLOTS] = [const { AtomicU64::new(0) }; SLOTS];

// SAFETY: everything is handed on to the C library's allocator as it comes; what is done beside it
// neither allocates nor unwinds nor touches the memory.
unsafe impl GlobalAlloc for Sampled {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise.
        let memory = unsafe { System.alloc(layout) };
        if ON.load(Ordering::Relaxed) {
            allocated(memory as u64, layout.size());
        }
        memory
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise.
        let memory = unsafe { System.alloc_zeroed(layout) };
        if ON.load(Ordering::Relaxed) {
            allocated(memory as u64, layout.size());
        }
        memory
    }

    #[inline]
    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        if ON.load(Ordering::Relaxed) {
            // Before it is free: from then on the address may be another's.
            freed(memory as u64);
        }
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(memory, layout) };
    }

    #[inline]
    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let on = ON.load(Ordering::Relaxed);
        if on {
            freed(memory as u64);
        }
        // SAFETY: the caller's promise.
        let memory = unsafe { System.realloc(memory, layout, size) };
        if on {
            allocated(memory as u64, size);
        }
        memory
    }
}

/// Begins.
pub(crate) fn begin() {
    ADDRESSES.iter().for_each(|a| a.store(0, Ordering::Relaxed));
    ON.store(true, Ordering::SeqCst);
}

/// Ends.
pub(crate) fn end() {
    ON.store(false, Ordering::SeqCst);
}

/// The ids of those sampled allocations that were not freed until the end.
pub(crate) fn live() -> Vec<u64> {
    let there = ADDRESSES.iter().zip(&IDS);
    let there = there.filter(|(address, _)| address.load(Ordering::SeqCst) != 0);
    there.map(|(_, id)| id.load(Ordering::SeqCst)).collect()
}

#[cold]
fn allocated(memory: u64, size: usize) {
    thread_local! {
        // Neither made nor dropped by anything that would allocate.
        static LEFT: Cell<Option<f64>> = const { Cell::new(None) };
    }
    if memory == 0 {
        return;
    }
    let left = LEFT.get().unwrap_or_else(interval) - size as f64;
    if left >= 0.0 {
        LEFT.set(Some(left));
        return;
    }
    LEFT.set(Some(interval()));
    let id = NEXT_ID.fetch_add(1, Ordering::Relaxed);
    remember(memory, id);
    sample_here(size as u64, id);
}

/// Bytes until the next sample: exponential, so that samples are a Poisson process.
fn interval() -> f64 {
    let chance = ((random() >> 11) + 1) as f64 / (1u64 << 53) as f64;
    -chance.ln() * HEAP_RATE as f64
}

fn slots(memory: u64) -> impl Iterator<Item = usize> {
    let hash = (memory >> 4).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
    (0..PROBES).map(move |n| (hash as usize).wrapping_add(n) % SLOTS)
}

/// Where there is no slot for it, it counts as freed.
fn remember(memory: u64, id: u64) {
    for slot in slots(memory) {
        let (Some(address), Some(its_id)) = (ADDRESSES.get(slot), IDS.get(slot)) else {
            return;
        };
        let free = address.compare_exchange(0, memory, Ordering::SeqCst, Ordering::Relaxed);
        if free.is_ok() {
            its_id.store(id, Ordering::SeqCst);
            return;
        }
    }
}

#[cold]
fn freed(memory: u64) {
    for address in slots(memory).filter_map(|slot| ADDRESSES.get(slot)) {
        if address.load(Ordering::Relaxed) == memory {
            address.store(0, Ordering::SeqCst);
            return;
        }
    }
}
