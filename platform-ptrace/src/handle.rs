//! What other threads know of a context: how to interrupt it, and where it sits.

use crate::stub::Stub;
use crate::sys::calls::{self, Pid};
use parking_lot::Mutex;
use platform_api::Interrupter;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};

/// One context's.
pub(crate) struct Handle {
    /// An interrupt was asked for and is not used up.
    asked: AtomicBool,
    /// The stub the context has now.
    stub: Mutex<Option<Arc<Stub>>>,
    /// The context's thread.
    pub(crate) thread: Pid,
    /// Whether thread and stub are bound to one CPU; see [`crate::cpu`].
    pub(crate) bound: AtomicBool,
    /// When they were bound, in milliseconds of the coarse clock.
    pub(crate) bound_at: AtomicU64,
    /// Where they are bound.
    pub(crate) cpu: AtomicUsize,
    /// Whether it spent most of its last term in guest code: not waiting for somebody else.
    pub(crate) busy: AtomicBool,
    /// Counts entries into guest code, around the clock.
    pub(crate) runs: AtomicU32,
}

impl Handle {
    /// For a context of the calling thread.
    pub(crate) fn new() -> Handle {
        Handle {
            asked: AtomicBool::new(false),
            stub: Mutex::new(None),
            thread: calls::own_thread(),
            bound: AtomicBool::new(false),
            bound_at: AtomicU64::new(0),
            cpu: AtomicUsize::new(0),
            busy: AtomicBool::new(false),
            runs: AtomicU32::new(0),
        }
    }

    /// Whether an interrupt was asked for and is not used up.
    pub(crate) fn asked(&self) -> bool {
        self.asked.load(Ordering::SeqCst)
    }

    /// Uses it up.
    pub(crate) fn clear(&self) {
        if self.asked() {
            self.asked.store(false, Ordering::SeqCst);
        }
    }

    /// The context has another stub.
    pub(crate) fn aim(&self, stub: Option<Arc<Stub>>) {
        *self.stub.lock() = stub;
    }

    /// The stub the context has now, when guest code runs in it.
    pub(crate) fn stub_in_guest(&self) -> Option<Arc<Stub>> {
        self.stub.lock().clone().filter(|s| s.in_guest())
    }
}

impl Interrupter for Handle {
    fn interrupt(&self) {
        // The context marks its stub as in guest code before it looks at `asked`.
        self.asked.store(true, Ordering::SeqCst);
        if let Some(stub) = &*self.stub.lock()
            && stub.in_guest()
        {
            stub.kick();
        }
    }
}
