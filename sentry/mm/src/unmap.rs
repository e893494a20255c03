//! munmap(2).

use crate::batch::Batch;
use crate::state::{Garbage, Mm, State};
use abi::Errno;
use abi::page::{Range, is_page_aligned, page_up};

impl Mm {
    /// Unmaps whatever is mapped in the range.
    ///
    /// # Errors
    /// `EINVAL` for an address that is not aligned, an empty range or one beyond user addresses;
    /// `ENOMEM` when a mapping cannot be cut.
    pub fn munmap(&self, addr: u64, len: u64) -> Result<(), Errno> {
        let range = user_range(addr, len)?;
        self.note_peak(range.len());
        let mut garbage = Garbage::default();
        let mut st = self.state.write();
        let r = self.unmap_locked(&mut st, range, &mut garbage);
        drop(st);
        r
    }

    /// Takes `range` out of all tables and of the platform. Nothing is changed on error.
    pub(crate) fn unmap_locked(
        &self,
        st: &mut State,
        range: Range,
        garbage: &mut Garbage,
    ) -> Result<(), Errno> {
        if let Some(vma) = st.vmas.find(range.start)
            && vma.range.start < range.start
            && vma.range.end > range.end
            && st.vmas.count() >= sysctl::MAX_MAP_COUNT.size()
        {
            return Err(Errno::ENOMEM);
        }
        let mut batch = Batch::default();
        forget_installed(st, range, &mut batch);
        self.commit(batch)?;
        for vma in st.vmas.remove(range) {
            self.detach(&vma);
        }
        garbage.add(st.extents.remove(range));
        st.hint.freed(range);
        Ok(())
    }

    /// Takes what stands behind `range` away, leaving the mappings: the next touch starts anew.
    pub(crate) fn drop_extents(
        &self,
        st: &mut State,
        range: Range,
        garbage: &mut Garbage,
    ) -> Result<(), Errno> {
        let mut batch = Batch::default();
        forget_installed(st, range, &mut batch);
        self.commit(batch)?;
        garbage.add(st.extents.remove(range));
        Ok(())
    }
}

/// One operation from the first to the last address that the platform knows: what lies between is
/// going anyway.
fn forget_installed(st: &State, range: Range, batch: &mut Batch) {
    let mut span: Option<Range> = None;
    for extent in st
        .extents
        .overlapping(range)
        .filter(|e| e.installed.is_some())
    {
        let part = extent.range.intersect(&range);
        span = Some(Range::new(span.map_or(part.start, |s| s.start), part.end));
    }
    if let Some(span) = span {
        batch.unmap(span);
    }
}

/// A range as munmap(2) and its relatives check it.
pub(crate) fn user_range(addr: u64, len: u64) -> Result<Range, Errno> {
    if !is_page_aligned(addr) || len == 0 {
        return Err(Errno::EINVAL);
    }
    let len = page_up(len).ok_or(Errno::EINVAL)?;
    let range = Range::sized(addr, len)?;
    if range.end > abi::page::TASK_SIZE {
        return Err(Errno::EINVAL);
    }
    Ok(range)
}
