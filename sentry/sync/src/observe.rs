//! Somebody who wants to know how long threads wait, and of the threads themselves: a profiler,
//! while there is one. Where there is none it costs one relaxed load, and that only of those who
//! have to wait, or begin.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

/// What is told to an [`Observer`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Interest {
    /// How long threads wait for the locks of this crate.
    Locks = 1,
    /// How long tasks sleep.
    Sleeps = 2,
    /// Which threads there are.
    Threads = 4,
}

/// Is told of the calling thread, by that thread itself. It may hold locks: nothing here may take
/// one of this crate's.
pub trait Observer: Sync {
    /// It has waited for so long.
    fn waited(&self, time: Duration);
    /// It begins to work for tasks.
    fn begins(&self);
    /// It is about to end.
    fn ends(&self);
}

static OBSERVER: OnceLock<&'static dyn Observer> = OnceLock::new();
static WANTED: AtomicU8 = AtomicU8::new(0);

/// Has `observer`, who is the same each time, told of one thing from now on.
pub fn observe(observer: &'static dyn Observer, interest: Interest) {
    OBSERVER.get_or_init(|| observer);
    WANTED.store(interest as u8, Ordering::SeqCst);
}

/// Has the observer told of nothing more; a thread may be about to tell it something.
pub fn ignore() {
    WANTED.store(0, Ordering::SeqCst);
}

/// Whether anybody wants to know.
#[inline]
pub fn wanted(interest: Interest) -> bool {
    WANTED.load(Ordering::Relaxed) & interest as u8 != 0
}

/// The calling thread has waited since then.
#[cold]
pub fn waited(since: Instant) {
    if let Some(observer) = OBSERVER.get() {
        observer.waited(since.elapsed());
    }
}

/// The calling thread, while it works for tasks.
#[derive(Debug)]
pub struct Working(());

impl Working {
    /// It begins.
    pub fn begin() -> Working {
        if wanted(Interest::Threads)
            && let Some(observer) = OBSERVER.get()
        {
            observer.begins();
        }
        Working(())
    }
}

impl Drop for Working {
    fn drop(&mut self) {
        if wanted(Interest::Threads)
            && let Some(observer) = OBSERVER.get()
        {
            observer.ends();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ranks::Leaf;
    use crate::{Mutex, RwLock};
    use std::sync::atomic::AtomicU32;
    use std::thread;

    struct Counter {
        waits: AtomicU32,
        begun: AtomicU32,
        ended: AtomicU32,
    }

    impl Observer for Counter {
        fn waited(&self, time: Duration) {
            assert!(time > Duration::ZERO);
            self.waits.fetch_add(1, Ordering::SeqCst);
        }
        fn begins(&self) {
            self.begun.fetch_add(1, Ordering::SeqCst);
        }
        fn ends(&self) {
            self.ended.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[test]
    fn who_waits_for_a_lock_tells_and_nobody_else() {
        static COUNTER: Counter = Counter {
            waits: AtomicU32::new(0),
            begun: AtomicU32::new(0),
            ended: AtomicU32::new(0),
        };
        let mutex: Mutex<(), Leaf> = Mutex::new(());
        let rw: RwLock<(), Leaf> = RwLock::new(());
        observe(&COUNTER, Interest::Locks);
        // A free lock is no wait.
        drop((mutex.lock(), mutex.try_lock()));
        drop(rw.read());
        drop(rw.write());
        assert_eq!(COUNTER.waits.load(Ordering::SeqCst), 0);
        let held = |take: &(dyn Fn() + Sync), release: &dyn Fn()| {
            let before = COUNTER.waits.load(Ordering::SeqCst);
            thread::scope(|scope| {
                let waiter = scope.spawn(take);
                // It may be that it has not come to the lock yet; a wait it is only from there on.
                thread::sleep(Duration::from_millis(20));
                release();
                waiter.join().unwrap();
            });
            COUNTER.waits.load(Ordering::SeqCst) - before
        };
        // On a slow machine the waiter may find the lock free: it has another try.
        let eventually = |mut once: Box<dyn FnMut() -> u32 + '_>| {
            assert!((0..500).any(|_| once() == 1));
        };
        eventually(Box::new(|| {
            let guard = std::cell::Cell::new(Some(mutex.lock()));
            held(&|| drop(mutex.lock()), &|| drop(guard.take()))
        }));
        eventually(Box::new(|| {
            let guard = std::cell::Cell::new(Some(rw.write()));
            held(&|| drop(rw.read()), &|| drop(guard.take()))
        }));
        eventually(Box::new(|| {
            let guard = std::cell::Cell::new(Some(rw.read()));
            held(&|| drop(rw.write()), &|| drop(guard.take()))
        }));

        observe(&COUNTER, Interest::Threads);
        drop(Working::begin());
        assert_eq!(COUNTER.begun.load(Ordering::SeqCst), 1);
        assert_eq!(COUNTER.ended.load(Ordering::SeqCst), 1);
        ignore();
        drop(Working::begin());
        let guard = std::cell::Cell::new(Some(mutex.lock()));
        assert_eq!(held(&|| drop(mutex.lock()), &|| drop(guard.take())), 0);
        assert_eq!(COUNTER.begun.load(Ordering::SeqCst), 1);
    }
}
