//! mremap(2).

use crate::batch::Batch;
use crate::extent::Backing;
use crate::layout::{MIN_ADDR, blocking, usable};
use crate::state::{Garbage, Mm, State};
use crate::types::MmLimits;
use crate::vma::{Vma, VmaFlags};
use abi::Errno;
use abi::page::{Range, TASK_SIZE, is_page_aligned, page_up};

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

/// One step: this of the space, to be so long, moved to there.
struct Step {
    old: Range,
    new_len: u64,
    /// For `FIXED` the place, else a hint.
    to: u64,
    flags: RemapFlags,
}

impl Mm {
    /// Grows, shrinks or moves a mapping; returns its address. What is neither grown nor shrunk
    /// may be several mappings with holes between them when it is moved to a fixed place.
    ///
    /// # Errors
    /// As mremap(2): `EINVAL`, `EFAULT` when the old range is not mapped or not one mapping,
    /// `ENOMEM`, `EAGAIN`.
    pub fn mremap(
        &self,
        old_addr: u64,
        old_len: u64,
        new_len: u64,
        flags: RemapFlags,
        new_addr: u64,
        limits: &MmLimits,
    ) -> Result<u64, Errno> {
        let step = self.check_remap(old_addr, old_len, new_len, flags, new_addr)?;
        self.note_peak(step.old.len().saturating_sub(step.new_len));
        let mut garbage = Garbage::default();
        let mut guard = self.state.write();
        let st = &mut *guard;
        st.limits = *limits;
        let fixed = flags.contains(RemapFlags::FIXED);
        let (at, grown_locked) = if fixed && step.old.len() == new_len && !step.old.is_empty() {
            (self.move_all(st, &step, limits, &mut garbage)?, None)
        } else {
            self.remap_one(st, &step, limits, &mut garbage)?
        };
        drop(guard);
        if let Some(range) = grown_locked {
            let _ = self.populate(range, false);
        }
        Ok(at)
    }

    /// What can be said without looking at the space, in Linux's order.
    fn check_remap(
        &self,
        old_addr: u64,
        old_len: u64,
        new_len: u64,
        flags: RemapFlags,
        to: u64,
    ) -> Result<Step, Errno> {
        if !is_page_aligned(old_addr) {
            return Err(Errno::EINVAL);
        }
        let old_len = page_up(old_len).ok_or(Errno::EINVAL)?;
        let new_len = page_up(new_len).ok_or(Errno::EINVAL)?;
        if new_len == 0 || new_len > TASK_SIZE {
            return Err(Errno::EINVAL);
        }
        let old = Range {
            start: old_addr,
            end: old_addr.saturating_add(old_len),
        };
        let step = Step {
            old,
            new_len,
            to,
            flags,
        };
        if !flags.intersects(RemapFlags::FIXED | RemapFlags::DONTUNMAP) {
            return Ok(step);
        }
        let keep = flags.contains(RemapFlags::DONTUNMAP);
        if to > TASK_SIZE - new_len
            || !is_page_aligned(to)
            || !flags.contains(RemapFlags::MAYMOVE)
            || (keep && old_len != new_len)
            || Range::new(to, to + new_len).overlaps(&old)
        {
            return Err(Errno::EINVAL);
        }
        if flags.contains(RemapFlags::FIXED) {
            // A low place is refused later, when there is something to move.
            if to >= MIN_ADDR && !usable(&self.bounds, Range::new(to, to + new_len)) {
                return Err(Errno::ENOMEM);
            }
        }
        Ok(step)
    }

    /// Moves every mapping of the range to the same place in the new one.
    fn move_all(
        &self,
        st: &mut State,
        step: &Step,
        limits: &MmLimits,
        garbage: &mut Garbage,
    ) -> Result<u64, Errno> {
        let parts: Vec<Range> = st
            .vmas
            .overlapping(step.old)
            .map(|v| v.range.intersect(&step.old))
            .collect();
        if parts.first().is_none_or(|p| p.start != step.old.start) {
            return Err(Errno::EFAULT);
        }
        for old in parts {
            let one = Step {
                old,
                new_len: old.len(),
                to: step.to + (old.start - step.old.start),
                flags: step.flags,
            };
            self.remap_one(st, &one, limits, garbage)?;
        }
        Ok(step.to)
    }

    fn remap_one(
        &self,
        st: &mut State,
        step: &Step,
        limits: &MmLimits,
        garbage: &mut Garbage,
    ) -> Result<(u64, Option<Range>), Errno> {
        let (mut old, new_len) = (step.old, step.new_len);
        let fixed = step.flags.contains(RemapFlags::FIXED);
        let keep = step.flags.contains(RemapFlags::DONTUNMAP);
        let vma = st.vmas.find(old.start).cloned().ok_or(Errno::EFAULT)?;
        let growth = new_len.saturating_sub(old.len());
        if growth > 0 || fixed || keep {
            self.check_step(st, &vma, step, growth, limits)?;
        }
        if fixed {
            if step.to < MIN_ADDR {
                return Err(Errno::EPERM);
            }
            let new = Range::new(step.to, step.to + new_len);
            self.unmap_locked(st, new, garbage)?;
        }
        // Shrinking is the unmapping of the tail, whatever is mapped there.
        if new_len < old.len() {
            let tail = Range {
                start: old.start + new_len,
                end: old.end,
            };
            if tail.end > TASK_SIZE {
                return Err(Errno::EINVAL);
            }
            self.unmap_locked(st, tail, garbage)?;
            old.end = tail.start;
        }
        if growth == 0 && !fixed && !keep {
            return Ok((old.start, None));
        }
        // Shorter than it was, perhaps.
        let vma = st.vmas.find(old.start).cloned().ok_or(Errno::EFAULT)?;
        let grown = |start: u64| {
            let locked = growth > 0 && vma.flags.contains(VmaFlags::LOCKED);
            locked.then(|| Range::new(start + old.len(), start + new_len))
        };
        if keep {
            self.admit_more(st, &vma, old, new_len, limits)?;
        }
        if !fixed && !keep {
            if old.end == vma.range.end && self.grow_in_place(st, &vma, old, growth)? {
                return Ok((old.start, grown(old.start)));
            }
            if !step.flags.contains(RemapFlags::MAYMOVE) {
                return Err(Errno::ENOMEM);
            }
        }
        let start = match (fixed, keep) {
            (true, _) => step.to,
            (false, true) => self.find_room(st, step.to, new_len, false)?,
            (false, false) => self.find_room(st, 0, new_len, false)?,
        };
        let new = Range::new(start, start + new_len);
        self.relocate(st, &vma, old, new, keep, garbage)?;
        Ok((start, grown(start)))
    }

    /// Whether the mapping at the old place may grow or be moved.
    fn check_step(
        &self,
        st: &State,
        vma: &Vma,
        step: &Step,
        growth: u64,
        limits: &MmLimits,
    ) -> Result<(), Errno> {
        let old = step.old;
        if old.is_empty() && !vma.shared() {
            return Err(Errno::EINVAL);
        }
        // A tail that is to go may belong to others.
        let stays = old.start.saturating_add(step.new_len).min(old.end);
        if stays > vma.range.end {
            return Err(Errno::EFAULT);
        }
        if growth == 0 {
            return Ok(());
        }
        if let Some(offset) = vma.file_offset(old.start) {
            // The end of the file's range must still be a number.
            offset.checked_add(step.new_len).ok_or(Errno::EINVAL)?;
        }
        if vma.flags.contains(VmaFlags::SPECIAL) {
            return Err(Errno::EFAULT);
        }
        self.admit_more(st, vma, old, growth, limits)
    }

    /// Whether the limits allow `len` bytes more of the mapping.
    fn admit_more(
        &self,
        st: &State,
        vma: &Vma,
        old: Range,
        len: u64,
        limits: &MmLimits,
    ) -> Result<(), Errno> {
        let mut more = vma.clone();
        more.range = Range::sized(old.end, len)?;
        self.admit(st, &more, 0, limits)
    }

    /// Makes the mapping longer where it is, if there is room; whether there was.
    fn grow_in_place(
        &self,
        st: &mut State,
        vma: &Vma,
        old: Range,
        growth: u64,
    ) -> Result<bool, Errno> {
        if old.is_empty() {
            return Ok(false);
        }
        let more = Range::sized(old.end, growth).map_err(|_| Errno::ENOMEM)?;
        if !usable(&self.bounds, more) || blocking(&st.vmas, more).is_some() {
            return Ok(false);
        }
        let mut piece = vma.clone();
        piece.range = more;
        if let Some(file) = &mut piece.file {
            file.offset = file.offset.saturating_add(vma.range.len());
        }
        self.attach_and_insert(st, piece)?;
        Ok(true)
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
