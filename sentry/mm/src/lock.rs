//! mlock(2) and its relatives. Memory of ours is never swapped by us; what is kept is the account
//! and the promise that the pages are there.

use crate::state::{Mm, State};
use crate::types::MmLimits;
use crate::vma::VmaFlags;
use abi::page::{Range, page_down, page_up};
use abi::{Errno, libc};

impl Mm {
    /// Locks a range; with `on_fault` without bringing it in.
    ///
    /// # Errors
    /// `ENOMEM` beyond the limit or where something is not mapped, `EINVAL` on overflow. (`EPERM`
    /// for a limit of zero.)
    pub fn mlock(
        &self,
        addr: u64,
        len: u64,
        on_fault: bool,
        limits: &MmLimits,
    ) -> Result<(), Errno> {
        if limits.memlock == 0 {
            return Err(Errno::EPERM);
        }
        let mut st = self.state.write();
        if st.vmas.totals().locked.saturating_add(len) > limits.memlock
            && addr.checked_add(len).is_none()
        {
            return Err(Errno::ENOMEM);
        }
        let range = outward(addr, len)?;
        let locked = VmaFlags::LOCKED;
        let new: u64 = st
            .vmas
            .overlapping(range)
            .filter(|v| !v.flags.contains(locked))
            .map(|v| v.range.intersect(&range).len())
            .sum();
        if st.vmas.totals().locked.saturating_add(new) > limits.memlock {
            return Err(Errno::ENOMEM);
        }
        st.vmas.update(range, |v| v.flags.set(locked, true));
        covered(&st, range)?;
        drop(st);
        if on_fault {
            Ok(())
        } else {
            self.populate(range, true)
        }
    }

    /// Unlocks a range.
    ///
    /// # Errors
    /// `ENOMEM` where something is not mapped, `EINVAL` on overflow.
    pub fn munlock(&self, addr: u64, len: u64) -> Result<(), Errno> {
        let range = outward(addr, len)?;
        let mut st = self.state.write();
        st.vmas.update(range, |v| v.flags -= VmaFlags::LOCKED);
        covered(&st, range)
    }

    /// mlockall(2) with its flags.
    ///
    /// # Errors
    /// `EINVAL`, `EPERM` for a limit of zero, `ENOMEM` beyond the limit.
    pub fn mlockall(&self, flags: i32, limits: &MmLimits) -> Result<(), Errno> {
        let known = libc::MCL_CURRENT | libc::MCL_FUTURE | libc::MCL_ONFAULT;
        if flags == 0 || flags & !known != 0 || flags == libc::MCL_ONFAULT {
            return Err(Errno::EINVAL);
        }
        if limits.memlock == 0 {
            return Err(Errno::EPERM);
        }
        let mut st = self.state.write();
        let current = flags & libc::MCL_CURRENT != 0;
        if current && st.vmas.totals().all > limits.memlock {
            return Err(Errno::ENOMEM);
        }
        st.lock_future = flags & libc::MCL_FUTURE != 0;
        st.lock_on_fault = flags & libc::MCL_ONFAULT != 0;
        if !current {
            return Ok(());
        }
        let all = Range::new(0, abi::page::TASK_SIZE);
        st.vmas.update(all, |v| v.flags |= VmaFlags::LOCKED);
        drop(st);
        if flags & libc::MCL_ONFAULT == 0 {
            // Linux ignores what cannot be brought in.
            let _ = self.populate(all, false);
        }
        Ok(())
    }

    /// munlockall(2).
    pub fn munlockall(&self) {
        let mut st = self.state.write();
        st.lock_future = false;
        st.vmas.update(Range::new(0, abi::page::TASK_SIZE), |v| {
            v.flags -= VmaFlags::LOCKED
        });
    }
}

fn outward(addr: u64, len: u64) -> Result<Range, Errno> {
    let end = addr
        .checked_add(len)
        .and_then(page_up)
        .ok_or(Errno::EINVAL)?;
    Ok(Range::new(page_down(addr), end))
}

fn covered(st: &State, range: Range) -> Result<(), Errno> {
    if st.vmas.covers(range) {
        Ok(())
    } else {
        Err(Errno::ENOMEM)
    }
}
