//! vfork(2): the parent sleeps until the child lets go of its memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use wait::Waker;

/// Held by the child; [`VforkDone::complete`] wakes the parent.
#[derive(Debug)]
pub(crate) struct VforkDone {
    done: AtomicBool,
    parent: Arc<Waker>,
}

impl VforkDone {
    pub(crate) fn new(parent: Arc<Waker>) -> Arc<VforkDone> {
        Arc::new(VforkDone {
            done: AtomicBool::new(false),
            parent,
        })
    }

    pub(crate) fn complete(&self) {
        self.done.store(true, Ordering::SeqCst);
        self.parent.wake();
    }

    pub(crate) fn is_done(&self) -> bool {
        self.done.load(Ordering::SeqCst)
    }
}
