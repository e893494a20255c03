//! futex(2) for tasks: keys, words, robust lists.

use crate::TaskCx;
use abi::Errno;
use ctx::{Ctx, Restart, SysResult, UserMemoryExt};
use futex::{BITSET_ANY, Outcome, WakeOp};
use mm::FutexKey;
use std::time::Instant;

const FUTEX_WAITERS: u32 = 0x8000_0000;
const FUTEX_OWNER_DIED: u32 = 0x4000_0000;
const FUTEX_TID_MASK: u32 = 0x3fff_ffff;
/// A guest's list may be endless.
const ROBUST_LIMIT: usize = 2048;

impl TaskCx {
    /// Waits on the word at `addr` while it is `expected`.
    ///
    /// # Errors
    /// `EAGAIN`, `ETIMEDOUT`, `EFAULT`, `EINVAL`, a restart as `restart` says.
    pub fn futex_wait(
        &mut self,
        addr: u64,
        shared: bool,
        expected: u32,
        bitset: u32,
        deadline: Option<Instant>,
        restart: Restart,
    ) -> SysResult<u64> {
        if bitset == 0 {
            return Err(Errno::EINVAL.into());
        }
        let mm = self.mm();
        let key = mm.futex_key(addr, shared)?;
        let waiter = &self.task().futex;
        let outcome =
            self.kernel()
                .futexes()
                .wait(self, waiter, key, bitset, deadline, restart, || {
                    Ok(mm.load_u32(addr)? == expected)
                })?;
        match outcome {
            Outcome::Woken => Ok(0),
            Outcome::TimedOut => Err(Errno::ETIMEDOUT.into()),
        }
    }

    /// The key of a word that is not waited on. Where it may be shared, it must be there, as it
    /// must when it is waited on; a word of one's own is its address to Linux.
    fn futex_key(&self, addr: u64, shared: bool) -> Result<FutexKey, Errno> {
        let key = self.mm().futex_key(addr, shared)?;
        if shared {
            self.mm().load_u32(addr)?;
        }
        Ok(key)
    }

    /// Wakes up to `count` waiters; how many it were.
    ///
    /// # Errors
    /// `EFAULT`, `EINVAL`.
    pub fn futex_wake(
        &self,
        addr: u64,
        shared: bool,
        count: u32,
        bitset: u32,
    ) -> Result<u32, Errno> {
        if bitset == 0 {
            return Err(Errno::EINVAL);
        }
        let key = self.futex_key(addr, shared)?;
        if self.kernel().futexes_pi().requeue_waits_at(&key) {
            return Err(Errno::EINVAL);
        }
        Ok(self.kernel().futexes().wake(&key, count, bitset))
    }

    /// `FUTEX_REQUEUE` and, with `expected`, `FUTEX_CMP_REQUEUE`: how many were woken and moved.
    ///
    /// # Errors
    /// `EAGAIN` where the word is not `expected`, `EFAULT`, `EINVAL`.
    pub fn futex_requeue(
        &self,
        from: u64,
        to: u64,
        shared: bool,
        wake: u32,
        requeue: u32,
        expected: Option<u32>,
    ) -> Result<(u32, u32), Errno> {
        let a = self.futex_key(from, shared)?;
        let b = self.futex_key(to, shared)?;
        if let Some(expected) = expected
            && self.mm().load_u32(from)? != expected
        {
            return Err(Errno::EAGAIN);
        }
        Ok(self.kernel().futexes().requeue(&a, &b, wake, requeue))
    }

    /// futex_requeue(2), where each of the two words (address, and whether it is shared) may be
    /// of either kind.
    ///
    /// # Errors
    /// As [`TaskCx::futex_requeue`].
    pub fn futex_requeue_two(
        &self,
        (from, from_shared, to, to_shared): (u64, bool, u64, bool),
        wake: u32,
        requeue: u32,
        expected: u32,
    ) -> Result<(u32, u32), Errno> {
        let a = self.futex_key(from, from_shared)?;
        let b = self.futex_key(to, to_shared)?;
        if self.mm().load_u32(from)? != expected {
            return Err(Errno::EAGAIN);
        }
        Ok(self.kernel().futexes().requeue(&a, &b, wake, requeue))
    }

    /// `FUTEX_WAKE_OP`.
    ///
    /// # Errors
    /// `ENOSYS` for an unknown operation, `EFAULT`, `EINVAL`.
    pub fn futex_wake_op(
        &self,
        addr: u64,
        addr2: u64,
        shared: bool,
        wake: u32,
        wake2: u32,
        op: u32,
    ) -> Result<u32, Errno> {
        let a = self.futex_key(addr, shared)?;
        let b = self.futex_key(addr2, shared)?;
        let op = WakeOp::decode(op)?;
        let old = self.mm().update_u32(addr2, |v| op.apply(v))?;
        let mut woken = self.kernel().futexes().wake(&a, wake, BITSET_ANY);
        if op.compare(old) {
            woken += self.kernel().futexes().wake(&b, wake2, BITSET_ANY);
        }
        Ok(woken)
    }

    /// set_robust_list(2).
    pub fn set_robust_list(&mut self, head: u64) {
        self.task().state.lock().robust_list = head;
    }

    /// get_robust_list(2) of the task itself or another.
    pub fn robust_list(&self, task: &crate::Task) -> u64 {
        task.state.lock().robust_list
    }

    /// What set_tid_address(2) set (`PR_GET_TID_ADDRESS`).
    pub fn clear_child_tid(&self) -> u64 {
        self.task().state.lock().clear_child_tid
    }

    /// set_tid_address(2).
    pub fn set_clear_child_tid(&mut self, addr: u64) {
        self.task().state.lock().clear_child_tid = addr;
    }
}

/// Marks the futexes that a dying task holds (`struct robust_list_head` at `head`).
pub(crate) fn exit_robust_list(cx: &TaskCx, head: u64) {
    let memory = cx.memory();
    let Ok([first, offset, pending]) = memory.read_obj::<[u64; 3]>(head) else {
        return;
    };
    // The low bit of a link says that the futex is of the priority-inheriting kind.
    let strip = |link: u64| link & !1;
    let is_pi = |link: u64| link & 1 != 0;
    let at = |link: u64| strip(link).wrapping_add(offset);
    let mut entry = first;
    let mut left = ROBUST_LIMIT;
    while strip(entry) != head && left > 0 {
        let next = memory.read_obj::<u64>(strip(entry));
        // The entry being worked on when the task died is treated last, once.
        if strip(entry) != strip(pending) && !release(cx, at(entry), is_pi(entry), false) {
            return;
        }
        let Ok(next) = next else { return };
        entry = next;
        left -= 1;
    }
    if strip(pending) != 0 {
        release(cx, at(pending), is_pi(pending), true);
    }
}

/// Whether the word could be dealt with. Those who wait for a futex of the priority-inheriting
/// kind (`pi`) are not woken: the table of such futexes names the next owner.
fn release(cx: &TaskCx, addr: u64, pi: bool, pending: bool) -> bool {
    let tid = cx.tid() as u32;
    let Ok(mut word) = cx.mm().load_u32(addr) else {
        return false;
    };
    loop {
        if pending && !pi && word == 0 {
            // It had unlocked and died before it could wake.
            let _ = cx.futex_wake(addr, true, 1, BITSET_ANY);
            let _ = cx.futex_wake(addr, false, 1, BITSET_ANY);
            return true;
        }
        if word & FUTEX_TID_MASK != tid {
            return true;
        }
        let new = word & FUTEX_WAITERS | FUTEX_OWNER_DIED;
        match cx.mm().cmpxchg_u32(addr, word, new) {
            Ok(was) if was == word => break,
            Ok(was) => word = was,
            Err(_) => return false,
        }
    }
    if word & FUTEX_WAITERS != 0 && !pi {
        let _ = cx.futex_wake(addr, true, 1, BITSET_ANY);
        let _ = cx.futex_wake(addr, false, 1, BITSET_ANY);
    }
    true
}
