//! madvise(2).

use crate::extent::Backing;
use crate::fault::Who;
use crate::state::{Garbage, Mm, State};
use crate::types::{Prot, SEGV_ACCERR};
use crate::vma::{Vma, VmaFlags};
use abi::page::{Range, is_page_aligned, page_up};
use abi::{Errno, libc};
use hostmem::Frames;
use memmap::Mappable;
use platform_api::Access;
use std::sync::Arc;

impl Mm {
    /// Takes advice (`MADV_*`) for the range.
    ///
    /// # Errors
    /// As madvise(2): `EINVAL` for advice not known, `ENOMEM` when something in the range is not
    /// mapped (the rest has been served), `EBUSY`, `EACCES`.
    pub fn madvise(&self, addr: u64, len: u64, advice: i32) -> Result<(), Errno> {
        if !is_page_aligned(addr) || !is_known(advice) {
            return Err(Errno::EINVAL);
        }
        let len = page_up(len).ok_or(Errno::EINVAL)?;
        let range = Range::sized(addr, len)?;
        if range.is_empty() {
            return Ok(());
        }
        match advice {
            libc::MADV_DONTNEED | libc::MADV_DONTNEED_LOCKED | libc::MADV_FREE => {
                self.discard(range, advice)
            }
            libc::MADV_REMOVE => self.remove_pages(range),
            libc::MADV_POPULATE_READ | libc::MADV_POPULATE_WRITE => {
                self.populate_for(range, advice == libc::MADV_POPULATE_WRITE)
            }
            libc::MADV_DONTFORK => self.flag(range, VmaFlags::DONTFORK, true),
            libc::MADV_DOFORK => self.flag(range, VmaFlags::DONTFORK, false),
            libc::MADV_DONTDUMP => self.flag(range, VmaFlags::DONTDUMP, true),
            libc::MADV_DODUMP => self.flag(range, VmaFlags::DONTDUMP, false),
            libc::MADV_HUGEPAGE => self.flag_huge(range, VmaFlags::HUGE),
            libc::MADV_NOHUGEPAGE => self.flag_huge(range, VmaFlags::NO_HUGE),
            libc::MADV_KEEPONFORK => self.flag(range, VmaFlags::WIPEONFORK, false),
            libc::MADV_WIPEONFORK => {
                let before = self.before_first(range, |v| v.file.is_some());
                let flagged = self.flag(before, VmaFlags::WIPEONFORK, true);
                // What is refused counts for more than what is not mapped.
                if before == range {
                    flagged
                } else {
                    Err(Errno::EINVAL)
                }
            }
            libc::MADV_COLD | libc::MADV_PAGEOUT => {
                let st = self.state.read();
                let locked = |v: &Vma| v.flags.contains(VmaFlags::LOCKED);
                if st.vmas.overlapping(range).any(locked) {
                    return Err(Errno::EINVAL);
                }
                covered(&st, range)
            }
            // Hints about speed, which change nothing one could see.
            _ => covered(&self.state.read(), range),
        }
    }

    /// The part of the range before the first mapping that is like this.
    fn before_first(&self, range: Range, is: impl Fn(&Vma) -> bool) -> Range {
        let st = self.state.read();
        let first = st.vmas.overlapping(range).find(|v| is(v));
        Range {
            start: range.start,
            end: first.map_or(range.end, |v| v.range.start.max(range.start)),
        }
    }

    fn flag(&self, range: Range, flag: VmaFlags, on: bool) -> Result<(), Errno> {
        let mut st = self.state.write();
        st.vmas.update(range, |v| v.flags.set(flag, on));
        covered(&st, range)
    }

    fn flag_huge(&self, range: Range, flag: VmaFlags) -> Result<(), Errno> {
        let mut st = self.state.write();
        st.vmas.update(range, |v| {
            v.flags -= VmaFlags::HUGE | VmaFlags::NO_HUGE;
            v.flags |= flag;
        });
        covered(&st, range)
    }

    fn discard(&self, range: Range, advice: i32) -> Result<(), Errno> {
        self.note_peak(range.len());
        let mut garbage = Garbage::default();
        let mut guard = self.state.write();
        let st = &mut *guard;
        let parts: Vec<Vma> = st.vmas.overlapping(range).map(|v| v.clip(range)).collect();
        for vma in &parts {
            let locked = vma.flags.contains(VmaFlags::LOCKED);
            if locked && advice != libc::MADV_DONTNEED_LOCKED {
                return Err(Errno::EINVAL);
            }
            if advice == libc::MADV_FREE && (vma.file.is_some() || vma.shared()) {
                return Err(Errno::EINVAL);
            }
            // Shared memory keeps its contents; only this space's page tables would go.
            if !vma.shared() {
                self.discard_private(st, vma.range, &mut garbage)?;
            }
        }
        let r = covered(st, range);
        drop(guard);
        r
    }

    /// Private memory goes back to what it was when it was mapped.
    fn discard_private(
        &self,
        st: &mut State,
        range: Range,
        garbage: &mut Garbage,
    ) -> Result<(), Errno> {
        // Anonymous frames that nobody else holds are just emptied: they stay mapped, and the
        // platform need not be told.
        st.extents.split(range.start);
        st.extents.split(range.end);
        let mut drop_these = Vec::new();
        for extent in st.extents.overlapping(range) {
            let anonymous = st.vmas.find(extent.range.start).is_some_and(Vma::anonymous);
            let emptied = match &extent.backing {
                Backing::Zero => true,
                Backing::Frames(frames) if anonymous && !extent.translated => {
                    emptied_in_place(frames)
                }
                _ => false,
            };
            if !emptied {
                drop_these.push(extent.range);
            }
        }
        for part in drop_these {
            self.drop_extents(st, part, garbage)?;
        }
        st.extents.join_all(range);
        Ok(())
    }

    fn remove_pages(&self, range: Range) -> Result<(), Errno> {
        let mut files: Vec<(Arc<dyn Mappable>, Range)> = Vec::new();
        {
            let st = self.state.read();
            for vma in st.vmas.overlapping(range) {
                let part = vma.clip(range);
                if part.flags.contains(VmaFlags::LOCKED) {
                    return Err(Errno::EINVAL);
                }
                let Some(file) = &part.file else {
                    return Err(Errno::EINVAL);
                };
                if !part.shared() || !part.max_prot.contains(Prot::WRITE) {
                    return Err(Errno::EACCES);
                }
                let end = file.offset.saturating_add(part.range.len());
                files.push((file.mappable.clone(), Range::new(file.offset, end)));
            }
            covered(&st, range)?;
        }
        for (file, range) in files {
            file.punch(range)?;
        }
        Ok(())
    }

    /// Brings in all of `range`: for `MAP_POPULATE` and locking. What cannot be accessed is left
    /// out, or with `strict` ends it.
    pub(crate) fn populate(&self, range: Range, strict: bool) -> Result<(), Errno> {
        let mut at = range.start;
        while at < range.end {
            let (next, access) = {
                let st = self.state.read();
                let Some(vma) = st.vmas.at_or_above(at) else {
                    break;
                };
                at = at.max(vma.range.start);
                let write = vma.prot.contains(Prot::WRITE) && !vma.shared();
                let access = if write { Access::Write } else { Access::Read };
                if vma.prot.is_empty() {
                    if strict {
                        return Err(Errno::ENOMEM);
                    }
                    (Some(vma.range.end), access)
                } else {
                    (None, access)
                }
            };
            if at >= range.end {
                break;
            }
            at = match next {
                Some(skip) => skip,
                None => self
                    .bring_in(at, range.end, access)
                    .map_err(|_| Errno::ENOMEM)?,
            };
        }
        Ok(())
    }

    fn populate_for(&self, range: Range, write: bool) -> Result<(), Errno> {
        let access = if write { Access::Write } else { Access::Read };
        let mut at = range.start;
        while at < range.end {
            at = self.bring_in(at, range.end, access)?;
        }
        Ok(())
    }

    /// Makes the page at `at` be there, and what comes with it until `end`; returns how far that
    /// went.
    fn bring_in(&self, at: u64, end: u64, access: Access) -> Result<u64, Errno> {
        self.fault(at, access, Who::Kernel).map_err(|signal| {
            match (signal.signo, signal.code) {
                (libc::SIGBUS, _) => Errno::EFAULT,
                (libc::SIGSEGV, SEGV_ACCERR) => Errno::EINVAL,
                _ => Errno::ENOMEM,
            }
        })?;
        let (frames, next) = {
            let st = self.state.read();
            let Some((extent, vma)) = st.extents.find(at).zip(st.vmas.find(at)) else {
                return Ok(at + abi::page::PAGE_SIZE);
            };
            let part = Range::new(at, extent.range.end.min(vma.range.end).min(end));
            let frames = match &extent.backing {
                Backing::Frames(f) => f.slice(at - extent.range.start, part.len()).ok(),
                Backing::Host { .. } | Backing::Zero => None,
            };
            (frames, part.end)
        };
        if let Some(frames) = frames {
            if self.bounds.populates {
                self.populate_mapped(Range::new(at, next))?;
                if frames.next_resident(0) == Some(Range::new(0, frames.len())) {
                    return Ok(next);
                }
            }
            frames.commit(0, frames.len())?;
        }
        Ok(next)
    }
}

impl Mm {
    /// Has the platform map frames and the host provide them, all at once.
    fn populate_mapped(&self, range: Range) -> Result<(), Errno> {
        {
            let mut guard = self.state.write();
            let st = &mut *guard;
            let Some(vma) = st.vmas.find(range.start).cloned() else {
                return Ok(());
            };
            let waits = st.extents.find(range.start).is_some_and(|e| {
                e.installed.is_none() && !e.is_given_up() && vma.range.covers(&e.range)
            });
            if waits {
                self.install(st, &vma, range.start)?;
            }
        }
        self.space.populate(range.start, range.len());
        Ok(())
    }
}

fn emptied_in_place(frames: &Frames) -> bool {
    frames.is_unique() && frames.decommit(0, frames.len()).is_ok()
}

fn covered(st: &State, range: Range) -> Result<(), Errno> {
    if st.vmas.covers(range) {
        Ok(())
    } else {
        Err(Errno::ENOMEM)
    }
}

fn is_known(advice: i32) -> bool {
    matches!(
        advice,
        libc::MADV_NORMAL
            | libc::MADV_RANDOM
            | libc::MADV_SEQUENTIAL
            | libc::MADV_WILLNEED
            | libc::MADV_DONTNEED
            | libc::MADV_FREE
            | libc::MADV_REMOVE
            | libc::MADV_DONTFORK
            | libc::MADV_DOFORK
            | libc::MADV_HUGEPAGE
            | libc::MADV_NOHUGEPAGE
            | libc::MADV_DONTDUMP
            | libc::MADV_DODUMP
            | libc::MADV_WIPEONFORK
            | libc::MADV_KEEPONFORK
            | libc::MADV_COLD
            | libc::MADV_PAGEOUT
            | libc::MADV_POPULATE_READ
            | libc::MADV_POPULATE_WRITE
            | libc::MADV_DONTNEED_LOCKED
    )
}
