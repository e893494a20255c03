//! What other threads know of a context: how to interrupt it, and whether guest code runs.

use crate::sys::kick;
use platform_api::Interrupter;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// One context's.
pub(crate) struct Handle {
    /// An interrupt was asked for and is not used up.
    asked: AtomicBool,
    /// Another context waits for a vCPU.
    wanted: AtomicBool,
    /// Zero outside of guest code; in it, one more than the generation of the space as of which
    /// it runs.
    inside: AtomicU64,
    thread: i32,
}

impl Handle {
    /// For a context of the calling thread.
    pub(crate) fn new() -> Handle {
        Handle {
            asked: AtomicBool::new(false),
            wanted: AtomicBool::new(false),
            inside: AtomicU64::new(0),
            thread: kick::own_thread(),
        }
    }

    /// Whether an interrupt was asked for and is not used up.
    #[inline]
    pub(crate) fn asked(&self) -> bool {
        self.asked.load(Ordering::SeqCst)
    }

    /// Uses it up.
    #[inline]
    pub(crate) fn clear(&self) {
        if self.asked() {
            self.asked.store(false, Ordering::SeqCst);
        }
    }

    /// Guest code is going to run, as of a generation. What was asked for before is to be looked
    /// at after this.
    #[inline]
    pub(crate) fn enter(&self, generation: u64) {
        self.inside.store(generation + 1, Ordering::SeqCst);
    }

    /// Guest code no longer runs.
    #[inline]
    pub(crate) fn leave(&self) {
        self.inside.store(0, Ordering::SeqCst);
    }

    /// Whether guest code runs.
    pub(crate) fn in_guest(&self) -> bool {
        self.inside.load(Ordering::SeqCst) != 0
    }

    /// Whether guest code runs as of a generation before this one.
    pub(crate) fn in_guest_before(&self, generation: u64) -> bool {
        let inside = self.inside.load(Ordering::SeqCst);
        inside != 0 && inside - 1 < generation
    }

    /// Brings guest code out.
    pub(crate) fn kick(&self) {
        kick::send(self.thread);
    }

    /// Asks for the context's vCPU.
    pub(crate) fn want(&self) {
        self.wanted.store(true, Ordering::SeqCst);
        if self.in_guest() {
            self.kick();
        }
    }

    /// Whether the vCPU was asked for; uses it up.
    #[inline]
    pub(crate) fn take_wanted(&self) -> bool {
        self.wanted.load(Ordering::SeqCst) && self.wanted.swap(false, Ordering::SeqCst)
    }
}

impl Interrupter for Handle {
    fn interrupt(&self) {
        // The context marks itself as in guest code before it looks at `asked`.
        self.asked.store(true, Ordering::SeqCst);
        if self.in_guest() {
            self.kick();
        }
    }
}
