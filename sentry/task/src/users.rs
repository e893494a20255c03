//! Things that tasks share and that the last of them tears down.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A value with a count of the tasks that use it, apart from the references that onlookers
/// (/proc, a signal on its way) hold.
#[derive(Debug)]
pub(crate) struct Users<T> {
    value: Arc<T>,
    count: AtomicUsize,
}

impl<T> Users<T> {
    /// With one user.
    pub(crate) fn new(value: Arc<T>) -> Arc<Users<T>> {
        Arc::new(Users {
            value,
            count: AtomicUsize::new(1),
        })
    }

    /// One more user.
    pub(crate) fn join(self: &Arc<Self>) -> Arc<Users<T>> {
        self.count.fetch_add(1, Ordering::SeqCst);
        self.clone()
    }

    /// One user less; whether it was the last.
    pub(crate) fn leave(&self) -> bool {
        self.count.fetch_sub(1, Ordering::SeqCst) == 1
    }

    /// Whether somebody else uses it too.
    pub(crate) fn is_shared(&self) -> bool {
        self.users() > 1
    }

    /// How many use it.
    pub(crate) fn users(&self) -> usize {
        self.count.load(Ordering::SeqCst)
    }

    pub(crate) fn get(&self) -> &Arc<T> {
        &self.value
    }
}
