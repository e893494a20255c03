//! Asynchronous I/O as io_submit(2) has it: contexts, their rings, and what is under way.
//!
//! A [`Context`] lets so many requests be under way and puts an event for each that is done into
//! its [`ring`], which user space has mapped and may take events from itself. Reads, writes and
//! syncs are done while they are submitted, as Linux does for what goes through its page cache;
//! the caller does them and says how they ended ([`Context::complete`]). What truly waits is a
//! [`poll`] of a file. [`Contexts`] is the table of a process's: it goes with the address space.
//!
//! Lock order: readers -> a file's wait queue -> context -> eventfd.

mod context;
mod poll;
mod ring;
mod slots;

pub use context::{Context, Done, Slot, Until};

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use sync::{Mutex, ranks};

/// Those that contexts were made for (`fs.aio-nr`).
static COUNT: AtomicU64 = AtomicU64::new(0);

/// `fs.aio-nr`
pub fn count() -> u64 {
    COUNT.load(Ordering::Relaxed)
}

/// The contexts of a process.
#[derive(Default)]
pub struct Contexts {
    table: Mutex<Vec<Option<Arc<Context>>>, ranks::Leaf>,
}

impl Contexts {
    /// None at all.
    pub fn new() -> Arc<Contexts> {
        Arc::new(Contexts::default())
    }

    /// Gives `context` the first free number, which its ring tells.
    pub fn insert(&self, context: &Arc<Context>) {
        let mut table = self.table.lock();
        let at = table.iter().position(Option::is_none);
        let at = at.unwrap_or_else(|| {
            table.push(None);
            table.len() - 1
        });
        if let Some(slot) = table.get_mut(at) {
            *slot = Some(context.clone());
        }
        context.ring().set_id(at as u32);
    }

    /// The one with this number.
    pub fn get(&self, id: u32) -> Option<Arc<Context>> {
        self.table.lock().get(id as usize)?.clone()
    }

    /// Takes `context` out; whether it was there.
    pub fn remove(&self, context: &Arc<Context>) -> bool {
        let mut table = self.table.lock();
        let slot = table
            .iter_mut()
            .find(|s| s.as_ref().is_some_and(|c| Arc::ptr_eq(c, context)));
        slot.is_some_and(|slot| slot.take().is_some())
    }
}

impl Drop for Contexts {
    fn drop(&mut self) {
        for context in std::mem::take(self.table.get_mut()).into_iter().flatten() {
            context.kill();
        }
    }
}

#[cfg(test)]
mod tests;
