//! One task's place in a queue.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use sync::{Mutex, ranks};
use wait::Waker;

/// A task as a waiter. Each task keeps one and uses it again for every wait, so that waiting
/// allocates nothing.
#[derive(Debug)]
pub struct Waiter<K> {
    waker: Arc<Waker>,
    woken: AtomicBool,
    /// Where it is queued, which a requeue changes.
    key: Mutex<Option<K>, ranks::Leaf>,
}

/// How a wait ended, where it did not fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Woken.
    Woken,
    /// The deadline passed.
    TimedOut,
    /// A signal came first.
    Interrupted,
}

impl<K: Copy> Waiter<K> {
    /// For the task that parks on `waker`.
    pub fn new(waker: Arc<Waker>) -> Arc<Waiter<K>> {
        Arc::new(Waiter { waker, woken: AtomicBool::new(false), key: Mutex::new(None) })
    }

    pub(crate) fn prepare(&self, key: K) {
        self.woken.store(false, Ordering::Relaxed);
        *self.key.lock() = Some(key);
    }

    pub(crate) fn key(&self) -> Option<K> {
        *self.key.lock()
    }

    pub(crate) fn moved(&self, key: K) {
        *self.key.lock() = Some(key);
    }

    pub(crate) fn is_woken(&self) -> bool {
        self.woken.load(Ordering::Acquire)
    }

    pub(crate) fn wake(&self) {
        self.woken.store(true, Ordering::Release);
        self.waker.wake();
    }
}
