//! mprotect(2).

use crate::batch::Batch;
use crate::state::Mm;
use crate::types::{MmLimits, Prot};
use crate::vma::{Vma, VmaFlags};
use abi::Errno;
use abi::page::{Range, is_page_aligned, page_up};

impl Mm {
    /// Changes the protection of `addr..addr+len`. With `grow_down` (`PROT_GROWSDOWN`) from the
    /// start of the mapping that holds `addr`, which must grow down.
    ///
    /// # Errors
    /// As mprotect(2): `EINVAL`, `ENOMEM` where something is not mapped (what comes before is
    /// changed), `EACCES` where the file does not allow it.
    pub fn mprotect(
        &self,
        addr: u64,
        len: u64,
        prot: Prot,
        grow_down: bool,
        limits: &MmLimits,
    ) -> Result<(), Errno> {
        if !is_page_aligned(addr) {
            return Err(Errno::EINVAL);
        }
        if len == 0 {
            return Ok(());
        }
        let len = page_up(len).ok_or(Errno::ENOMEM)?;
        let mut range = Range::sized(addr, len).map_err(|_| Errno::ENOMEM)?;
        if range.end > abi::page::TASK_SIZE {
            return Err(Errno::ENOMEM);
        }
        let mut guard = self.state.write();
        let st = &mut *guard;
        if grow_down {
            let vma = st
                .vmas
                .at_or_above(addr)
                .filter(|v| v.range.start < range.end);
            let vma = vma.ok_or(Errno::ENOMEM)?;
            if !vma.flags.contains(VmaFlags::GROWSDOWN) {
                return Err(Errno::EINVAL);
            }
            range.start = vma.range.start;
        }

        // Linux goes from mapping to mapping and stops at the first that it cannot change.
        let mut outcome = Ok(());
        let mut end = range.start;
        let mut new_data = 0u64;
        for vma in st.vmas.overlapping(range) {
            if vma.range.start > end {
                break;
            }
            if !vma.max_prot.contains(prot) {
                outcome = Err(Errno::EACCES);
                break;
            }
            let part = vma.clip(range);
            if !part.is_data()
                && (Vma {
                    prot,
                    ..part.clone()
                })
                .is_data()
            {
                // Counted from now on, as in mmap(2).
                let counted = !part.flags.contains(VmaFlags::NORESERVE);
                if counted && part.range.len() > crate::map::host_memory() {
                    outcome = Err(Errno::ENOMEM);
                    break;
                }
                new_data += part.range.len();
            }
            end = vma.range.end.min(range.end);
        }
        if outcome.is_ok() && end < range.end {
            outcome = Err(Errno::ENOMEM);
        }
        let done = Range {
            start: range.start,
            end,
        };
        if done.is_empty() {
            return outcome;
        }
        if new_data > 0 && st.vmas.totals().data.saturating_add(new_data) > limits.data {
            return Err(Errno::ENOMEM);
        }

        // The platform first: when it fails nothing of ours has changed.
        st.extents.split(done.start);
        st.extents.split(done.end);
        let mut batch = Batch::default();
        for extent in st.extents.overlapping(done) {
            let access = extent.access(prot);
            if extent.installed.is_some_and(|now| now != access) {
                batch.protect(extent.range, access);
            }
        }
        let told = self.commit(batch);
        if told.is_ok() {
            for extent in st.extents.overlapping_mut(done) {
                if extent.installed.is_some() {
                    extent.installed = Some(extent.access(prot));
                }
            }
        }
        st.extents.join_all(done);
        told?;
        st.vmas.update(done, |vma| vma.prot = prot);
        outcome
    }

    /// The protection of the mapping at `addr`, where there is one.
    pub fn protection(&self, addr: u64) -> Option<Prot> {
        self.state.read().vmas.find(addr).map(|v| v.prot)
    }
}
