//! Futexes with an owner, and several at once, for tasks.

use crate::TaskCx;
use abi::{Errno, libc};
use ctx::{Ctx, SysResult};
use futex::pi::{Caller, Word};
use mm::{FutexKey, Mm};
use std::cell::Cell;
use std::time::Instant;

/// After so many pages brought in without success the word is reached in the slow way: it is in a
/// file of the host's, whose pages are never simply there.
const TRIES: u32 = 3;

/// A word of the caller's address space.
struct MmWord<'a> {
    mm: &'a Mm,
    addr: u64,
    tries: Cell<u32>,
}

impl<'a> MmWord<'a> {
    fn new(mm: &'a Mm, addr: u64) -> MmWord<'a> {
        MmWord {
            mm,
            addr,
            tries: Cell::new(0),
        }
    }
}

impl Word for MmWord<'_> {
    fn load(&self) -> Result<Option<u32>, Errno> {
        if self.tries.get() >= TRIES {
            return self.mm.load_u32(self.addr).map(Some);
        }
        self.mm.try_load_u32(self.addr)
    }

    fn exchange(&self, old: u32, new: u32) -> Result<Option<u32>, Errno> {
        if self.tries.get() >= TRIES {
            return self.mm.cmpxchg_u32(self.addr, old, new).map(Some);
        }
        self.mm.try_cmpxchg_u32(self.addr, old, new)
    }

    fn bring_in(&self) -> Result<(), Errno> {
        self.tries.set(self.tries.get() + 1);
        // A store of what is there already makes the page one that can be written.
        let now = self.mm.load_u32(self.addr)?;
        self.mm.cmpxchg_u32(self.addr, now, now).map(drop)
    }
}

/// One element of futex_waitv(2).
#[derive(Clone, Copy, Debug)]
pub struct WaitOn {
    /// The word's address.
    pub addr: u64,
    /// What it must be.
    pub expected: u32,
    /// Whether others may have it mapped too.
    pub shared: bool,
}

impl TaskCx {
    fn futex_caller(&self) -> Caller {
        let scheduling = self.task().scheduling();
        let real_time = matches!(scheduling.policy, libc::SCHED_FIFO | libc::SCHED_RR);
        Caller {
            id: self.task().tid() as u32,
            tid: self.tid() as u32,
            priority: if real_time { scheduling.priority } else { 0 },
            waker: self.waker().clone(),
        }
    }

    /// The thread that it calls `tid`, as the table knows it.
    fn futex_owner(&self, tid: u32) -> Option<u32> {
        let task = self.task_called(tid as i32)?;
        (!task.is_exiting()).then(|| task.tid() as u32)
    }

    /// `FUTEX_LOCK_PI` and, with `try_only`, `FUTEX_TRYLOCK_PI`.
    ///
    /// # Errors
    /// Those of futex(2); a signal restarts it in any case.
    pub fn futex_lock_pi(
        &self,
        addr: u64,
        shared: bool,
        deadline: Option<Instant>,
        try_only: bool,
    ) -> SysResult<u64> {
        let key = self.mm().futex_key(addr, shared)?;
        let word = MmWord::new(self.mm(), addr);
        let owner_id = |tid| self.futex_owner(tid);
        let caller = self.futex_caller();
        let table = self.kernel().futexes_pi();
        table.lock(self, &caller, key, &word, deadline, try_only, &owner_id)?;
        Ok(0)
    }

    /// `FUTEX_UNLOCK_PI`.
    ///
    /// # Errors
    /// `EPERM` where the caller is not the owner, `EFAULT`, `EINVAL`.
    pub fn futex_unlock_pi(&self, addr: u64, shared: bool) -> SysResult<u64> {
        let key = self.mm().futex_key(addr, shared)?;
        let word = MmWord::new(self.mm(), addr);
        self.kernel()
            .futexes_pi()
            .unlock(self.tid() as u32, key, &word)?;
        Ok(0)
    }

    fn two_keys(&self, a: u64, b: u64, shared: bool) -> Result<(FutexKey, FutexKey), Errno> {
        let first = self.mm().futex_key(a, shared)?;
        let second = self.mm().futex_key(b, shared)?;
        if first == second {
            return Err(Errno::EINVAL);
        }
        Ok((first, second))
    }

    /// `FUTEX_WAIT_REQUEUE_PI`.
    ///
    /// # Errors
    /// Those of futex(2).
    pub fn futex_wait_requeue_pi(
        &self,
        addr: u64,
        expected: u32,
        lock: u64,
        shared: bool,
        deadline: Option<Instant>,
    ) -> SysResult<u64> {
        let (from, to) = self.two_keys(addr, lock, shared)?;
        let word = MmWord::new(self.mm(), addr);
        let lock = MmWord::new(self.mm(), lock);
        let caller = self.futex_caller();
        self.kernel().futexes_pi().wait_requeue(
            self,
            &caller,
            (from, &word),
            expected,
            (to, &lock),
            deadline,
        )?;
        Ok(0)
    }

    /// `FUTEX_CMP_REQUEUE_PI`: how many own the lock now or wait for it.
    ///
    /// # Errors
    /// Those of futex(2).
    pub fn futex_requeue_pi(
        &self,
        addr: u64,
        expected: u32,
        lock: u64,
        shared: bool,
        count: u32,
    ) -> Result<usize, Errno> {
        let (from, to) = self.two_keys(addr, lock, shared)?;
        let word = MmWord::new(self.mm(), addr);
        let lock = MmWord::new(self.mm(), lock);
        let owner_id = |tid| self.futex_owner(tid);
        self.kernel().futexes_pi().requeue(
            (from, &word),
            expected,
            (to, &lock),
            count as usize,
            &owner_id,
        )
    }

    /// futex_waitv(2): which of `all` was woken.
    ///
    /// # Errors
    /// `EAGAIN` where a word is not what it must be, `ETIMEDOUT`, `EFAULT`, `EINVAL`; a restart.
    pub fn futex_wait_many(&self, all: &[WaitOn], deadline: Option<Instant>) -> SysResult<u64> {
        let keys = all
            .iter()
            .map(|w| self.mm().futex_key(w.addr, w.shared))
            .collect::<Result<Vec<_>, Errno>>()?;
        let matches = |i: usize| match all.get(i) {
            Some(w) => Ok(self.mm().load_u32(w.addr)? == w.expected),
            None => Ok(false),
        };
        let woken = self
            .kernel()
            .futexes()
            .wait_many(self, &keys, deadline, matches)?;
        match woken {
            Some(i) => Ok(i as u64),
            None => Err(Errno::ETIMEDOUT.into()),
        }
    }
}
