//! Futexes with an owner (futex(2), "Priority-inheritance futexes").
//!
//! The word holds the owner's thread id, so that taking and giving back a lock that nobody else
//! wants needs no kernel. Here is what the kernel knows of those that somebody wants: who owns
//! them and who waits. A lock is handed on: whoever unlocks names the next owner in the word
//! before that one runs. Nothing inherits priorities, as the host schedules; but waiters of a
//! higher real-time priority come first.
//!
//! The word and the queue change together, so it is looked at under the lock here, by accesses
//! that never bring a page in ([`Word`]); where one would have to be, that is done without the
//! lock and the step is tried again.

use abi::Errno;
use ctx::{Ctx, Restart, SysErr, Wake};
use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;
use sync::{Mutex, MutexGuard, ranks};
use wait::Waker;

/// Somebody waits, and unlocking needs the kernel.
pub const WAITERS: u32 = 0x8000_0000;
/// The owner ended without unlocking.
pub const OWNER_DIED: u32 = 0x4000_0000;
/// The owner's thread id.
pub const TID_MASK: u32 = 0x3fff_ffff;

/// A futex's word, in some address space.
pub trait Word {
    /// Its value; `None` where a page would have to be brought in.
    fn load(&self) -> Result<Option<u32>, Errno>;
    /// Stores `new` if `old` is there; what was there, or `None` as above.
    fn exchange(&self, old: u32, new: u32) -> Result<Option<u32>, Errno>;
    /// Brings the page in, for writing.
    fn bring_in(&self) -> Result<(), Errno>;
}

/// Who wants or gives up a lock.
#[derive(Clone)]
pub struct Caller {
    /// What tells its thread from all others.
    pub id: u32,
    /// The number that the word has while it owns the lock: the thread's in its PID namespace.
    pub tid: u32,
    /// Real-time priority; 0 for the ordinary.
    pub priority: i32,
    /// Wakes it.
    pub waker: Arc<Waker>,
}

struct Waiter<K> {
    caller: Caller,
    state: Mutex<Progress<K>, ranks::Leaf>,
}

/// How far a waiter has come.
enum Progress<K> {
    /// Waits for the lock of this futex.
    Locking(K),
    /// Waits to be moved to this one (`FUTEX_WAIT_REQUEUE_PI`).
    Requeue(K),
    /// Owns the lock.
    Owner,
    /// Owns it since the last owner has died; the word does not say so yet.
    Heir,
}

struct Lock<K> {
    /// [`Caller::id`]
    owner: u32,
    waiters: VecDeque<Arc<Waiter<K>>>,
    /// The owner has yet to enter itself into the word.
    inherited: bool,
}

struct Tables<K> {
    locks: HashMap<K, Lock<K>>,
    /// Those who wait at a condition's futex to be moved to a lock's.
    requeue: HashMap<K, VecDeque<Arc<Waiter<K>>>>,
}

/// The wanted locks of a sandbox.
pub struct PiTable<K> {
    tables: Mutex<Tables<K>, ranks::Futex>,
    /// How many there are: looked at without the lock where tasks end and futexes are woken.
    locks: AtomicUsize,
    requeue: AtomicUsize,
}

impl<K> std::fmt::Debug for PiTable<K> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("futex::PiTable")
    }
}

/// What became of one try at a lock.
enum Try {
    Taken,
    /// It has another owner, and the word says that somebody waits.
    Held,
    /// The word changed, or its page must be brought in.
    Again {
        page: bool,
    },
}

impl<K: Hash + Eq + Copy> Default for PiTable<K> {
    fn default() -> Self {
        PiTable::new()
    }
}

impl<K: Hash + Eq + Copy> PiTable<K> {
    /// Nobody wants anything.
    pub fn new() -> PiTable<K> {
        PiTable {
            tables: Mutex::new(Tables {
                locks: HashMap::new(),
                requeue: HashMap::new(),
            }),
            locks: AtomicUsize::new(0),
            requeue: AtomicUsize::new(0),
        }
    }

    fn counted(&self, tables: &Tables<K>) {
        self.locks.store(tables.locks.len(), Ordering::SeqCst);
        self.requeue.store(tables.requeue.len(), Ordering::SeqCst);
    }

    /// Takes the lock; waits for it until `deadline`, or with `try_only` not at all. `alive` says
    /// whether there is a thread with an id.
    ///
    /// # Errors
    /// `EDEADLK` where that could never end, `ESRCH` where the owner is no thread, `EAGAIN` for a
    /// try that failed, `ETIMEDOUT`, `EFAULT`; a restart.
    pub fn lock(
        &self,
        cx: &dyn Ctx,
        caller: &Caller,
        key: K,
        word: &dyn Word,
        deadline: Option<Instant>,
        try_only: bool,
        owner_id: &dyn Fn(u32) -> Option<u32>,
    ) -> Result<(), SysErr> {
        let waiter = loop {
            let mut tables = self.tables.lock();
            match tables.take(caller, key, word, false, owner_id)? {
                Try::Taken => return Ok(()),
                Try::Held if try_only => {
                    tables.forget_unwanted(&key);
                    self.counted(&tables);
                    return Err(Errno::EAGAIN.into());
                }
                Try::Held => {
                    if tables.would_deadlock(caller.id, key) {
                        tables.forget_unwanted(&key);
                        self.counted(&tables);
                        return Err(Errno::EDEADLK.into());
                    }
                    let waiter = Arc::new(Waiter {
                        caller: caller.clone(),
                        state: Mutex::new(Progress::Locking(key)),
                    });
                    tables.enqueue(key, waiter.clone());
                    self.counted(&tables);
                    break waiter;
                }
                Try::Again { page } => {
                    drop(tables);
                    if page {
                        word.bring_in()?;
                    }
                }
            }
        };
        self.wait(cx, &waiter, deadline, word)
    }

    /// Sleeps until `waiter` owns its lock.
    fn wait(
        &self,
        cx: &dyn Ctx,
        waiter: &Arc<Waiter<K>>,
        deadline: Option<Instant>,
        word: &dyn Word,
    ) -> Result<(), SysErr> {
        let failed: SysErr = loop {
            if waiter.is_owner() {
                return self.settle(waiter, word);
            }
            match cx.park(deadline) {
                Wake::Notified => {}
                Wake::TimedOut => break Errno::ETIMEDOUT.into(),
                Wake::Interrupted => break Restart::Always.into(),
            }
        };
        let mut tables = self.tables.lock();
        // What was handed over in the last moment counts.
        if waiter.is_owner() {
            drop(tables);
            return self.settle(waiter, word);
        }
        tables.dequeue(waiter);
        self.counted(&tables);
        Err(failed)
    }

    /// The new owner enters itself into the word, where the old one could not.
    fn settle(&self, waiter: &Arc<Waiter<K>>, word: &dyn Word) -> Result<(), SysErr> {
        if !matches!(*waiter.state.lock(), Progress::Heir) {
            return Ok(());
        }
        let new = waiter.caller.tid | WAITERS | OWNER_DIED;
        loop {
            let tables = self.tables.lock();
            let done = match word.load()? {
                None => None,
                Some(old) => word.exchange(old, new)?.map(|was| was == old),
            };
            match done {
                Some(true) => {
                    self.settled(tables, waiter.caller.id);
                    return Ok(());
                }
                Some(false) => {}
                None => {
                    drop(tables);
                    word.bring_in()?;
                }
            }
        }
    }

    fn settled(&self, mut tables: MutexGuard<'_, Tables<K>>, id: u32) {
        tables.locks.retain(|_, lock| {
            if lock.owner == id && lock.inherited {
                lock.inherited = false;
            }
            lock.inherited || !lock.waiters.is_empty()
        });
        self.counted(&tables);
    }

    /// Gives the lock up: to the next who waits, if anybody does.
    ///
    /// # Errors
    /// `EPERM` for a lock of somebody else, `EFAULT`.
    pub fn unlock(&self, tid: u32, key: K, word: &dyn Word) -> Result<(), Errno> {
        loop {
            let mut tables = self.tables.lock();
            let Some(old) = word.load()? else {
                drop(tables);
                word.bring_in()?;
                continue;
            };
            if old & TID_MASK != tid {
                return Err(Errno::EPERM);
            }
            let next = tables.locks.get(&key).and_then(|l| l.waiters.front());
            let new = next.map_or(0, |w| WAITERS | w.caller.tid);
            match word.exchange(old, new)? {
                Some(was) if was == old => {
                    tables.hand_on(key, false);
                    self.counted(&tables);
                    return Ok(());
                }
                Some(_) => {}
                None => {
                    drop(tables);
                    word.bring_in()?;
                }
            }
        }
    }

    /// A thread has ended: the locks that it owned and that somebody waits for go to the next.
    pub fn owner_gone(&self, id: u32) {
        if self.locks.load(Ordering::SeqCst) == 0 {
            return;
        }
        let mut tables = self.tables.lock();
        let owned = tables.locks.iter().filter(|(_, lock)| lock.owner == id);
        let keys: Vec<K> = owned.map(|(key, _)| *key).collect();
        for key in keys {
            tables.hand_on(key, true);
        }
        self.counted(&tables);
    }

    /// Whether somebody waits at `key` to be moved to a lock, whom a plain wake-up must not reach.
    pub fn requeue_waits_at(&self, key: &K) -> bool {
        self.requeue.load(Ordering::SeqCst) != 0 && self.tables.lock().requeue.contains_key(key)
    }

    /// `FUTEX_WAIT_REQUEUE_PI`: waits at `at` while its word is `expected`, then, once moved, for
    /// the lock `to`.
    ///
    /// # Errors
    /// `EAGAIN` where the word is not `expected`, and those of [`PiTable::lock`].
    pub fn wait_requeue(
        &self,
        cx: &dyn Ctx,
        caller: &Caller,
        (at, word): (K, &dyn Word),
        expected: u32,
        (to, lock): (K, &dyn Word),
        deadline: Option<Instant>,
    ) -> Result<(), SysErr> {
        let waiter = loop {
            let mut tables = self.tables.lock();
            match word.load()? {
                None => {
                    drop(tables);
                    word.bring_in()?;
                }
                Some(now) if now != expected => return Err(Errno::EAGAIN.into()),
                Some(_) => {
                    let waiter = Arc::new(Waiter {
                        caller: caller.clone(),
                        state: Mutex::new(Progress::Requeue(to)),
                    });
                    let queue = tables.requeue.entry(at).or_default();
                    queue.push_back(waiter.clone());
                    self.counted(&tables);
                    break waiter;
                }
            }
        };
        self.wait(cx, &waiter, deadline, lock)
    }

    /// `FUTEX_CMP_REQUEUE_PI`: the first who waits at `from` gets the lock `to` if it is free;
    /// the others, up to `count`, wait for it from now on. How many it were.
    ///
    /// # Errors
    /// `EAGAIN` where the word is not `expected`, `EINVAL` where somebody waits for another lock,
    /// those of [`PiTable::lock`].
    pub fn requeue(
        &self,
        (from, word): (K, &dyn Word),
        expected: u32,
        (to, lock): (K, &dyn Word),
        count: usize,
        owner_id: &dyn Fn(u32) -> Option<u32>,
    ) -> Result<usize, Errno> {
        loop {
            let mut tables = self.tables.lock();
            match word.load()? {
                None => {
                    drop(tables);
                    word.bring_in()?;
                    continue;
                }
                Some(now) if now != expected => return Err(Errno::EAGAIN),
                Some(_) => {}
            }
            let Some(queue) = tables.requeue.get(&from) else {
                return Ok(0);
            };
            if queue.iter().any(|w| !w.goes_to(&to)) {
                return Err(Errno::EINVAL);
            }
            let Some(first) = queue.front().cloned() else {
                return Ok(0);
            };
            // One of them may own the lock at once, beside those that are moved.
            let more = queue.len() > 1 && count > 0;
            match tables.take(&first.caller, to, lock, more, owner_id)? {
                Try::Again { page } => {
                    drop(tables);
                    if page {
                        lock.bring_in()?;
                    }
                    continue;
                }
                Try::Taken => {
                    tables.next_to_move(&from);
                    first.own(Progress::Owner);
                    let moved = tables.move_all(&from, to, count, first.caller.id);
                    self.counted(&tables);
                    return Ok(1 + moved);
                }
                Try::Held => {
                    let owner = tables.locks.get(&to).map_or(0, |l| l.owner);
                    let moved = tables.move_all(&from, to, count.saturating_add(1), owner);
                    self.counted(&tables);
                    return Ok(moved);
                }
            }
        }
    }
}

impl<K: Hash + Eq + Copy> Tables<K> {
    /// One try of `caller` at a lock. With `wanted`, others will wait for it at once.
    fn take(
        &mut self,
        caller: &Caller,
        key: K,
        word: &dyn Word,
        wanted: bool,
        owner_id: &dyn Fn(u32) -> Option<u32>,
    ) -> Result<Try, Errno> {
        let Some(old) = word.load()? else {
            return Ok(Try::Again { page: true });
        };
        let owner = old & TID_MASK;
        if owner == caller.tid {
            return Err(Errno::EDEADLK);
        }
        let known = self.locks.get(&key).map(|lock| lock.owner);
        let free = known.is_none() && owner == 0;
        let owner = match known {
            None if !free => owner_id(owner).ok_or(Errno::ESRCH)?,
            known => known.unwrap_or(0),
        };
        let new = if free {
            caller.tid | old & OWNER_DIED | if wanted { WAITERS } else { 0 }
        } else {
            old | WAITERS
        };
        match word.exchange(old, new)? {
            None => return Ok(Try::Again { page: true }),
            Some(was) if was != old => return Ok(Try::Again { page: false }),
            Some(_) => {}
        }
        if free {
            return Ok(Try::Taken);
        }
        self.locks.entry(key).or_insert_with(|| Lock {
            owner,
            waiters: VecDeque::new(),
            inherited: false,
        });
        Ok(Try::Held)
    }

    /// A lock that nobody waits for after all is none of ours.
    fn forget_unwanted(&mut self, key: &K) {
        if self
            .locks
            .get(key)
            .is_some_and(|l| l.waiters.is_empty() && !l.inherited)
        {
            self.locks.remove(key);
        }
    }

    /// Whether the owner of `key` waits, over however many steps, for a lock of `id`.
    fn would_deadlock(&self, id: u32, key: K) -> bool {
        let mut at = key;
        for _ in 0..=self.locks.len() {
            let Some(owner) = self.locks.get(&at).map(|lock| lock.owner) else {
                return false;
            };
            if owner == id {
                return true;
            }
            let waits = |lock: &Lock<K>| lock.waiters.iter().any(|w| w.caller.id == owner);
            match self.locks.iter().find(|(_, lock)| waits(lock)) {
                Some((next, _)) => at = *next,
                None => return false,
            }
        }
        false
    }

    /// Behind those of the same priority, before those of a lower one.
    fn enqueue(&mut self, key: K, waiter: Arc<Waiter<K>>) {
        if let Some(lock) = self.locks.get_mut(&key) {
            let priority = waiter.caller.priority;
            let at = lock
                .waiters
                .iter()
                .position(|w| w.caller.priority < priority)
                .unwrap_or(lock.waiters.len());
            lock.waiters.insert(at, waiter);
        }
    }

    fn dequeue(&mut self, waiter: &Arc<Waiter<K>>) {
        for lock in self.locks.values_mut() {
            lock.waiters.retain(|w| !Arc::ptr_eq(w, waiter));
        }
        self.locks
            .retain(|_, lock| lock.inherited || !lock.waiters.is_empty());
        for queue in self.requeue.values_mut() {
            queue.retain(|w| !Arc::ptr_eq(w, waiter));
        }
        self.requeue.retain(|_, queue| !queue.is_empty());
    }

    /// The first who waits owns the lock now; with `died`, it has to tell the word itself.
    fn hand_on(&mut self, key: K, died: bool) {
        let Some(lock) = self.locks.get_mut(&key) else {
            return;
        };
        lock.inherited = false;
        if let Some(next) = lock.waiters.pop_front() {
            lock.owner = next.caller.id;
            lock.inherited = died;
            next.own(if died {
                Progress::Heir
            } else {
                Progress::Owner
            });
        }
        self.forget_unwanted(&key);
    }

    fn next_to_move(&mut self, from: &K) -> Option<Arc<Waiter<K>>> {
        let queue = self.requeue.get_mut(from)?;
        let first = queue.pop_front();
        if queue.is_empty() {
            self.requeue.remove(from);
        }
        first
    }

    fn move_all(&mut self, from: &K, to: K, count: usize, owner: u32) -> usize {
        let mut moved = 0;
        while moved < count
            && let Some(waiter) = self.next_to_move(from)
        {
            *waiter.state.lock() = Progress::Locking(to);
            self.locks.entry(to).or_insert_with(|| Lock {
                owner,
                waiters: VecDeque::new(),
                inherited: false,
            });
            self.enqueue(to, waiter);
            moved += 1;
        }
        self.forget_unwanted(&to);
        moved
    }
}

impl<K: Eq> Waiter<K> {
    fn is_owner(&self) -> bool {
        matches!(*self.state.lock(), Progress::Owner | Progress::Heir)
    }

    fn goes_to(&self, key: &K) -> bool {
        match &*self.state.lock() {
            Progress::Requeue(to) | Progress::Locking(to) => to == key,
            Progress::Owner | Progress::Heir => false,
        }
    }

    fn own(&self, progress: Progress<K>) {
        *self.state.lock() = progress;
        self.caller.waker.wake();
    }
}
