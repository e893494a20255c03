//! mremap(2).

use crate::batch::Batch;
use crate::extent::Backing;
use crate::layout::{MIN_ADDR, blocking, usable};
use crate::state::{Garbage, Mm, State};
use crate::types::MmLimits;
use crate::vma::{Vma, VmaFlags};
use abi::Errno;
use abi::page::{Range, is_page_aligned, page_up};

bitflags::bitflags! {
    /// `MREMAP_*`, by Linux's bits.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct RemapFlags: u32 {
        /// May be moved.
        const MAYMOVE = 1;
        /// Must be moved, to a given address.
        const FIXED = 2;
        /// The old addresses stay mapped, with nothing behind them.
        const DONTUNMAP = 4;
    }
}

impl Mm {
    /// Grows, shrinks or moves a mapping; returns its address.
    ///
    /// # Errors
    /// As mremap(2): `EINVAL`, `EFAULT` when the old range is not one mapping, `ENOMEM`, `EAGAIN`.
    pub fn mremap(
        &self,
        old_addr: u64,
        old_len: u64,
        new_len: u64,
        flags: RemapFlags,
        new_addr: u64,
        limits: &MmLimits,
    ) -> Result<u64, Errno> {
        let fixed = flags.contains(RemapFlags::FIXED);
        let keep = flags.contains(RemapFlags::DONTUNMAP);
        if flags.intersects(RemapFlags::FIXED | RemapFlags::DONTUNMAP)
            && !flags.contains(RemapFlags::MAYMOVE)
        {
            return Err(Errno::EINVAL);
        }
        if !is_page_aligned(old_addr) {
            return Err(Errno::EINVAL);
        }
        let old_len = page_up(old_len).ok_or(Errno::EINVAL)?;
        let new_len = page_up(new_len).ok_or(Errno::EINVAL)?;
        if new_len == 0 || (keep && old_len != new_len) {
            return Err(Errno::EINVAL);
        }
        let old = Range::sized(old_addr, old_len)?;
        if new_len > abi::page::TASK_SIZE {
            return Err(if fixed { Errno::EINVAL } else { Errno::ENOMEM });
        }
        let target = if fixed {
            let new = Range::sized(new_addr, new_len)?;
            if !is_page_aligned(new_addr) || new.end > abi::page::TASK_SIZE || new.overlaps(&old) {
                return Err(Errno::EINVAL);
            }
            if new.start < MIN_ADDR {
                return Err(Errno::EPERM);
            }
            if !usable(&self.bounds, new) {
                return Err(Errno::ENOMEM);
            }
            Some(new)
        } else {
            None
        };

        let mut garbage = Garbage::default();
        let mut guard = self.state.write();
        let st = &mut *guard;
        st.limits = *limits;
        let (at, grown_locked) =
            self.remap_locked(st, old, new_len, flags, target, limits, &mut garbage)?;
        drop(guard);
        if let Some(range) = grown_locked {
            let _ = self.populate(range);
        }
        Ok(at)
    }

    fn remap_locked(
        &self,
        st: &mut State,
        mut old: Range,
        new_len: u64,
        flags: RemapFlags,
        target: Option<Range>,
        limits: &MmLimits,
        garbage: &mut Garbage,
    ) -> Result<(u64, Option<Range>), Errno> {
        let vma = st.vmas.find(old.start).cloned().ok_or(Errno::EFAULT)?;
        if old.is_empty() && !(vma.shared() && flags.contains(RemapFlags::MAYMOVE)) {
            return Err(Errno::EINVAL);
        }
        if old.end > vma.range.end {
            return Err(Errno::EFAULT);
        }
        if vma.flags.contains(VmaFlags::SPECIAL) && new_len > old.len() {
            return Err(Errno::EFAULT);
        }
        let keep = flags.contains(RemapFlags::DONTUNMAP);
        if let Some(file_offset) = vma.file_offset(old.start) {
            // The end of the file's range must still be a number.
            file_offset.checked_add(new_len).ok_or(Errno::EINVAL)?;
        }

        // Shrinking is the unmapping of the tail.
        if !old.is_empty() && new_len < old.len() {
            let tail = Range::new(old.start + new_len, old.end);
            self.unmap_locked(st, tail, garbage)?;
            old.end = tail.start;
        }
        if target.is_none() && !keep && new_len == old.len() {
            return Ok((old.start, None));
        }
        // The old mapping is as it was before the tail went, or shorter.
        let vma = st.vmas.find(old.start).cloned().ok_or(Errno::EFAULT)?;
        let locked = vma.flags.contains(VmaFlags::LOCKED);
        let growth = new_len - old.len();
        if growth > 0 || keep {
            let added = if keep { new_len } else { growth };
            let mut more = vma.clone();
            more.range = Range::sized(old.end, added)?;
            self.admit(st, &more, 0, limits)?;
        }

        if target.is_none() && !keep && old.end == vma.range.end && !old.is_empty() {
            let more = Range::sized(old.end, growth).map_err(|_| Errno::ENOMEM)?;
            if usable(&self.bounds, more) && blocking(&st.vmas, more).is_none() {
                let mut piece = vma.clone();
                piece.range = more;
                if let Some(file) = &mut piece.file {
                    file.offset = file.offset.saturating_add(vma.range.len());
                }
                self.attach_and_insert(st, piece)?;
                return Ok((old.start, locked.then_some(more)));
            }
        }
        if !flags.contains(RemapFlags::MAYMOVE) {
            return Err(Errno::ENOMEM);
        }

        let new = match target {
            Some(new) => {
                self.unmap_locked(st, new, garbage)?;
                new
            }
            None => {
                let at = self.find_room(st, 0, new_len, false)?;
                Range::new(at, at + new_len)
            }
        };
        self.relocate(st, &vma, old, new, keep, garbage)?;
        let grown = (locked && growth > 0).then(|| Range::new(new.start + old.len(), new.end));
        Ok((new.start, grown))
    }

    /// Moves what stands behind `old`, a part of `vma`, to `new`, which is free and at least as
    /// long.
    fn relocate(
        &self,
        st: &mut State,
        vma: &Vma,
        old: Range,
        new: Range,
        keep: bool,
        garbage: &mut Garbage,
    ) -> Result<(), Errno> {
        let mut moved = vma.clone();
        moved.range = new;
        if let Some(file) = &mut moved.file {
            file.offset = file.offset.saturating_add(old.start - vma.range.start);
        }
        self.attach_and_insert(st, moved)?;

        let mut batch = Batch::default();
        let mut span: Option<Range> = None;
        for mut extent in st.extents.remove(old) {
            let from = extent.range;
            let start = new.start + (from.start - old.start);
            extent.range = Range::new(start, start + from.len());
            if let Some(access) = extent.installed {
                span = Some(Range::new(span.map_or(from.start, |s| s.start), from.end));
                if matches!(extent.backing, Backing::Zero) {
                    // Cheaper to come by again than to map.
                    extent.installed = None;
                } else {
                    batch.install(&mut extent, access, &self.memory);
                }
            }
            st.extents.insert(extent);
        }
        if let Some(span) = span {
            batch.unmap(span);
        }
        let told = self.commit(batch);
        if told.is_err() {
            // What the platform has is unknown: the old place must go in any case.
            for extent in st.extents.overlapping_mut(new) {
                extent.installed = None;
            }
            let mut again = Batch::default();
            again.unmap(old);
            again.unmap(new);
            self.commit(again)?;
        }
        if keep {
            // It stays, and is empty: anonymous memory anew, a file translated again.
            st.vmas.update(old, |v| v.flags -= VmaFlags::LOCKED);
            return Ok(());
        }
        if !old.is_empty() {
            for gone in st.vmas.remove(old) {
                self.detach(&gone);
            }
            garbage.add(st.extents.remove(old));
            st.hint.freed(old);
        }
        Ok(())
    }
}
