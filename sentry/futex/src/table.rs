//! Buckets of waiters.

use abi::Errno;
use ctx::{Ctx, Restart, SysErr, Wake};
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher, Hash};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Instant;
use sync::{Mutex, ranks};
use wait::Waker;

/// `FUTEX_BITSET_MATCH_ANY`
pub const BITSET_ANY: u32 = u32::MAX;

const BUCKETS: usize = 256;
const NOWHERE: usize = usize::MAX;

/// A task as a waiter. A task waits on one word at a time.
#[derive(Debug)]
pub struct Waiter {
    waker: Arc<Waker>,
    woken: AtomicBool,
    // The bucket it is queued in; changed under that bucket's lock (and the new one's).
    bucket: AtomicUsize,
}

impl Waiter {
    /// For the task that parks on `waker`.
    pub fn new(waker: Arc<Waker>) -> Arc<Waiter> {
        Arc::new(Waiter {
            waker,
            woken: AtomicBool::new(false),
            bucket: AtomicUsize::new(NOWHERE),
        })
    }
}

struct Entry<K> {
    key: K,
    bitset: u32,
    waiter: Arc<Waiter>,
}

/// How a wait ended without an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Somebody woke it.
    Woken,
    /// The deadline passed.
    TimedOut,
}

/// All futex waiters of a sandbox.
pub struct Table<K> {
    buckets: Box<[Mutex<Vec<Entry<K>>, ranks::Futex>]>,
}

impl<K> std::fmt::Debug for Table<K> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("futex::Table")
    }
}

impl<K: Hash + Eq + Copy> Default for Table<K> {
    fn default() -> Self {
        Table::new()
    }
}

impl<K: Hash + Eq + Copy> Table<K> {
    /// Nobody waits.
    pub fn new() -> Table<K> {
        Table {
            buckets: (0..BUCKETS).map(|_| Mutex::new(Vec::new())).collect(),
        }
    }

    /// How many wait.
    pub fn waiting(&self) -> usize {
        self.buckets.iter().map(|bucket| bucket.lock().len()).sum()
    }

    fn index(&self, key: &K) -> usize {
        let hash = BuildHasherDefault::<DefaultHasher>::default().hash_one(key);
        hash as usize % BUCKETS
    }

    /// Waits on `key` if `matches` still says that the word has the expected value.
    ///
    /// # Errors
    /// `EAGAIN` where it has not, what `matches` fails with, a restart (as `restart` says) where
    /// a signal came first.
    pub fn wait(
        &self,
        cx: &dyn Ctx,
        waiter: &Arc<Waiter>,
        key: K,
        bitset: u32,
        deadline: Option<Instant>,
        restart: Restart,
        matches: impl FnOnce() -> Result<bool, Errno>,
    ) -> Result<Outcome, SysErr> {
        waiter.woken.store(false, Ordering::SeqCst);
        self.enqueue(waiter, key, bitset);
        let failed = match matches() {
            Ok(true) => None,
            Ok(false) => Some(Errno::EAGAIN),
            Err(e) => Some(e),
        };
        if let Some(e) = failed {
            if !self.dequeue(waiter) {
                // This wake-up was meant for somebody who really waits.
                self.wake(&key, 1, bitset);
            }
            return Err(e.into());
        }
        let result = loop {
            if waiter.woken.load(Ordering::SeqCst) {
                return Ok(Outcome::Woken);
            }
            match cx.park(deadline) {
                Wake::Notified => {}
                Wake::TimedOut => break Ok(Outcome::TimedOut),
                Wake::Interrupted => break Err(restart.into()),
            }
        };
        // A wake-up that came at the last moment counts.
        if self.dequeue(waiter) {
            result
        } else {
            Ok(Outcome::Woken)
        }
    }

    /// futex_waitv(2): waits on all of `keys` at once, as long as `matches` says of each that its
    /// word has the expected value. Which of them was woken; `None` where the deadline passed.
    ///
    /// # Errors
    /// As [`Table::wait`].
    pub fn wait_many(
        &self,
        cx: &dyn Ctx,
        keys: &[K],
        deadline: Option<Instant>,
        mut matches: impl FnMut(usize) -> Result<bool, Errno>,
    ) -> Result<Option<usize>, SysErr> {
        let waiters: Vec<Arc<Waiter>> = keys
            .iter()
            .map(|_| Waiter::new(cx.waker().clone()))
            .collect();
        // Takes all of them out again; the last that had been woken.
        let leave = |queued: usize| {
            let all = waiters[..queued].iter().enumerate();
            all.fold(
                None,
                |last, (i, waiter)| {
                    if self.dequeue(waiter) { last } else { Some(i) }
                },
            )
        };
        for (i, (key, waiter)) in keys.iter().zip(&waiters).enumerate() {
            self.enqueue(waiter, *key, BITSET_ANY);
            let failed = match matches(i) {
                Ok(true) => continue,
                Ok(false) => Errno::EAGAIN,
                Err(e) => e,
            };
            return match leave(i + 1) {
                Some(woken) => Ok(Some(woken)),
                None => Err(failed.into()),
            };
        }
        let result = loop {
            if waiters.iter().any(|w| w.woken.load(Ordering::SeqCst)) {
                break Ok(None);
            }
            match cx.park(deadline) {
                Wake::Notified => {}
                Wake::TimedOut => break Ok(None),
                Wake::Interrupted => break Err(Restart::Sys.into()),
            }
        };
        match leave(keys.len()) {
            Some(woken) => Ok(Some(woken)),
            None => result,
        }
    }

    /// Wakes up to `count` waiters of `key` whose bitset meets `bitset`; returns how many.
    pub fn wake(&self, key: &K, count: u32, bitset: u32) -> u32 {
        let mut bucket = self.buckets[self.index(key)].lock();
        take(&mut bucket, key, count, bitset)
    }

    /// Wakes up to `wake` waiters of `from` and moves up to `requeue` others to `to`. Returns
    /// how many were woken, and how many were moved.
    pub fn requeue(&self, from: &K, to: &K, wake: u32, requeue: u32) -> (u32, u32) {
        let (a, b) = (self.index(from), self.index(to));
        if a == b {
            let mut bucket = self.buckets[a].lock();
            let woken = take(&mut bucket, from, wake, BITSET_ANY);
            let mut moved = 0;
            if from == to {
                let here = bucket.iter().filter(|e| e.key == *from).count();
                return (woken, requeue.min(u32::try_from(here).unwrap_or(u32::MAX)));
            }
            // Moved waiters go behind those that wait there already.
            let mut at = 0;
            let mut end = bucket.len();
            while at < end && moved < requeue {
                if bucket[at].key == *from {
                    let mut e = bucket.remove(at);
                    e.key = *to;
                    bucket.push(e);
                    end -= 1;
                    moved += 1;
                } else {
                    at += 1;
                }
            }
            return (woken, moved);
        }
        // Lock order: the bucket with the lower index first.
        let (mut first, mut second) = if a < b {
            let f = self.buckets[a].lock();
            (f, self.buckets[b].lock_nested())
        } else {
            let f = self.buckets[b].lock();
            (f, self.buckets[a].lock_nested())
        };
        let (source, target) = if a < b {
            (&mut *first, &mut *second)
        } else {
            (&mut *second, &mut *first)
        };
        let woken = take(source, from, wake, BITSET_ANY);
        let mut moved = 0;
        let mut at = 0;
        while at < source.len() && moved < requeue {
            if source[at].key == *from {
                let mut e = source.remove(at);
                e.key = *to;
                e.waiter.bucket.store(b, Ordering::SeqCst);
                target.push(e);
                moved += 1;
            } else {
                at += 1;
            }
        }
        (woken, moved)
    }

    fn enqueue(&self, waiter: &Arc<Waiter>, key: K, bitset: u32) {
        let at = self.index(&key);
        let mut bucket = self.buckets[at].lock();
        waiter.bucket.store(at, Ordering::SeqCst);
        bucket.push(Entry {
            key,
            bitset,
            waiter: waiter.clone(),
        });
    }

    /// Takes a waiter out; `false` where it had been woken already.
    fn dequeue(&self, waiter: &Arc<Waiter>) -> bool {
        loop {
            let at = waiter.bucket.load(Ordering::SeqCst);
            let Some(bucket) = self.buckets.get(at) else {
                return false;
            };
            let mut bucket = bucket.lock();
            if waiter.bucket.load(Ordering::SeqCst) != at {
                // It was requeued meanwhile.
                continue;
            }
            let here = bucket.iter().position(|e| Arc::ptr_eq(&e.waiter, waiter));
            waiter.bucket.store(NOWHERE, Ordering::SeqCst);
            return match here {
                Some(i) => {
                    bucket.remove(i);
                    true
                }
                None => false,
            };
        }
    }
}

/// Wakes waiters of one bucket, in the order in which they came.
fn take<K: Eq>(bucket: &mut Vec<Entry<K>>, key: &K, count: u32, bitset: u32) -> u32 {
    let mut woken = 0;
    let mut at = 0;
    while at < bucket.len() && woken < count {
        if bucket[at].key == *key && bucket[at].bitset & bitset != 0 {
            let e = bucket.remove(at);
            e.waiter.bucket.store(NOWHERE, Ordering::SeqCst);
            e.waiter.woken.store(true, Ordering::SeqCst);
            e.waiter.waker.wake();
            woken += 1;
        } else {
            at += 1;
        }
    }
    woken
}

#[cfg(test)]
mod tests {
    use super::*;
    use ::time::Clocks;
    use ctx::KernelCtx;
    use std::sync::atomic::AtomicU32;
    use std::time::Duration;

    fn wait_in_thread(
        t: &Arc<Table<u64>>,
        word: &Arc<AtomicU32>,
        key: u64,
    ) -> std::thread::JoinHandle<Result<Outcome, SysErr>> {
        let (t, word) = (t.clone(), word.clone());
        std::thread::spawn(move || {
            let cx = KernelCtx::new(Arc::new(Clocks::new()));
            let w = Waiter::new(cx.waker().clone());
            let far = Instant::now() + Duration::from_secs(20);
            t.wait(&cx, &w, key, BITSET_ANY, Some(far), Restart::Sys, || {
                Ok(word.load(Ordering::SeqCst) == 0)
            })
        })
    }

    fn waiting(t: &Table<u64>) -> usize {
        t.buckets.iter().map(|b| b.lock().len()).sum()
    }

    #[test]
    fn waiters_are_requeued_and_woken() {
        let t = Arc::new(Table::new());
        let word = Arc::new(AtomicU32::new(0));
        let threads: Vec<_> = (0..3).map(|_| wait_in_thread(&t, &word, 1)).collect();
        while waiting(&t) < 3 {
            std::thread::yield_now();
        }
        assert_eq!(t.requeue(&1, &2, 1, 10), (1, 2));
        assert_eq!(t.wake(&1, 10, BITSET_ANY), 0);
        assert_eq!(t.wake(&2, 10, BITSET_ANY), 2);
        for th in threads {
            assert_eq!(th.join().unwrap(), Ok(Outcome::Woken));
        }
    }

    #[test]
    fn a_changed_word_is_eagain_and_a_deadline_ends_the_wait() {
        let t: Table<u64> = Table::new();
        let cx = KernelCtx::new(Arc::new(Clocks::new()));
        let w = Waiter::new(cx.waker().clone());
        let r = t.wait(&cx, &w, 1, 1, None, Restart::Sys, || Ok(false));
        assert_eq!(r, Err(Errno::EAGAIN.into()));
        let soon = Some(Instant::now() + Duration::from_millis(5));
        assert_eq!(
            t.wait(&cx, &w, 1, 1, soon, Restart::Sys, || Ok(true)),
            Ok(Outcome::TimedOut)
        );
        assert_eq!(waiting(&t), 0);
    }
}
