//! Wait queues.

use crate::Events;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use sync::{Mutex, ranks};

/// Something that wants to hear when a queue's object becomes ready.
///
/// Called with the queue's lock held, from any thread: implementations must be short, may take
/// no lock below `ranks::WaitQueue`, and must not call back into the queue (another queue, yes, if
/// that cannot lead back to this one).
pub trait Listener: Send + Sync {
    /// `events` have become true (an over-approximation; the listener checks again).
    fn notify(&self, events: Events);

    /// Whether somebody is there who will see to an event. An exclusive listener without goes on
    /// to hear of events, and so does the next.
    fn is_attended(&self) -> bool {
        true
    }
}

/// Names one registration in one queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntryId(u64);

struct Entry {
    id: u64,
    mask: Events,
    exclusive: bool,
    listener: Arc<dyn Listener>,
}

#[derive(Default)]
struct Inner {
    next: u64,
    entries: Vec<Entry>,
}

/// The listeners of one object.
pub struct Queue {
    // Read without the lock so that notifying a queue nobody waits on costs one load.
    count: AtomicUsize,
    inner: Mutex<Inner, ranks::WaitQueue>,
}

impl Default for Queue {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Debug for Queue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Queue({} waiting)", self.count.load(Ordering::Relaxed))
    }
}

impl Queue {
    /// A queue with nobody in it.
    pub const fn new() -> Queue {
        let inner = Inner {
            next: 0,
            entries: Vec::new(),
        };
        Queue {
            count: AtomicUsize::new(0),
            inner: Mutex::new(inner),
        }
    }

    /// Registers `listener` for `mask`; errors and hang-ups are always delivered.
    ///
    /// Register first, then check the condition: an event between the two is not lost.
    pub fn add(&self, mask: Events, listener: Arc<dyn Listener>) -> EntryId {
        self.insert(mask, listener, false)
    }

    /// As [`Queue::add`], but only the first exclusive entry hears of an event
    /// (`WQ_FLAG_EXCLUSIVE`, so that one byte does not wake a thousand readers).
    pub fn add_exclusive(&self, mask: Events, listener: Arc<dyn Listener>) -> EntryId {
        self.insert(mask, listener, true)
    }

    fn insert(&self, mask: Events, listener: Arc<dyn Listener>, exclusive: bool) -> EntryId {
        let mut inner = self.inner.lock();
        let id = inner.next;
        inner.next += 1;
        let mask = mask | Events::ERR | Events::HUP;
        inner.entries.push(Entry {
            id,
            mask,
            exclusive,
            listener,
        });
        self.count.store(inner.entries.len(), Ordering::SeqCst);
        EntryId(id)
    }

    /// Takes a registration back. Once this returns the listener is not called for it any more.
    pub fn remove(&self, id: EntryId) {
        let mut inner = self.inner.lock();
        // The listener is dropped after the lock: its drop may be anything.
        let at = inner.entries.iter().position(|e| e.id == id.0);
        let gone = at.map(|at| inner.entries.remove(at));
        self.count.store(inner.entries.len(), Ordering::SeqCst);
        drop(inner);
        drop(gone);
    }

    /// Tells the listeners that `events` have become true: all ordinary ones, and the first
    /// exclusive one. Call it after the change is visible.
    pub fn notify(&self, events: Events) {
        std::sync::atomic::fence(Ordering::SeqCst);
        if self.count.load(Ordering::SeqCst) == 0 {
            return;
        }
        // Nested: a listener may be an epoll, which tells those who wait for it, or a poll of
        // asynchronous I/O, which tells an eventfd. Epolls contain no cycles; such a poll of an
        // eventfd or of an epoll leaves its eventfd to a thread that holds no queue: so this has
        // no cycles either, and little depth.
        let inner = self.inner.lock_nested();
        let mut exclusive_done = false;
        for e in &inner.entries {
            if !e.mask.intersects(events) || (e.exclusive && exclusive_done) {
                continue;
            }
            exclusive_done |= e.exclusive && e.listener.is_attended();
            e.listener.notify(events);
        }
    }

    /// Tells the first exclusive listener alone: what is left of an event that has been told goes
    /// to the next who blocks, and is no new event to anybody else (an edge-triggered epoll).
    pub fn pass_on(&self, events: Events) {
        std::sync::atomic::fence(Ordering::SeqCst);
        if self.count.load(Ordering::SeqCst) == 0 {
            return;
        }
        let inner = self.inner.lock();
        if let Some(e) = inner
            .entries
            .iter()
            .find(|e| e.exclusive && e.mask.intersects(events))
        {
            e.listener.notify(events);
        }
    }

    /// Tells every listener, exclusive ones too: for hang-ups, closes and errors.
    pub fn notify_all(&self, events: Events) {
        std::sync::atomic::fence(Ordering::SeqCst);
        if self.count.load(Ordering::SeqCst) == 0 {
            return;
        }
        for e in &self.inner.lock_nested().entries {
            if e.mask.intersects(events) {
                e.listener.notify(events);
            }
        }
    }

    /// Whether nobody is registered.
    pub fn is_empty(&self) -> bool {
        self.count.load(Ordering::SeqCst) == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Count(AtomicUsize);
    impl Listener for Count {
        fn notify(&self, _events: Events) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }
    fn count() -> Arc<Count> {
        Arc::new(Count(AtomicUsize::new(0)))
    }

    #[test]
    fn only_the_mask_and_errors_are_heard() {
        let q = Queue::new();
        let c = count();
        let id = q.add(Events::IN, c.clone());
        q.notify(Events::OUT);
        assert_eq!(c.0.load(Ordering::SeqCst), 0);
        q.notify(Events::IN);
        q.notify(Events::HUP);
        assert_eq!(c.0.load(Ordering::SeqCst), 2);
        q.remove(id);
        q.notify(Events::IN);
        assert_eq!(c.0.load(Ordering::SeqCst), 2);
        assert!(q.is_empty());
    }

    #[test]
    fn one_exclusive_listener_is_woken_unless_all_are() {
        let q = Queue::new();
        let (a, b) = (count(), count());
        q.add_exclusive(Events::IN, a.clone());
        q.add_exclusive(Events::IN, b.clone());
        q.notify(Events::IN);
        assert_eq!(
            (a.0.load(Ordering::SeqCst), b.0.load(Ordering::SeqCst)),
            (1, 0)
        );
        q.notify_all(Events::IN);
        assert_eq!(
            (a.0.load(Ordering::SeqCst), b.0.load(Ordering::SeqCst)),
            (2, 1)
        );
    }
}
