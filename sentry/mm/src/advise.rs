//! madvise(2).

use crate::extent::Backing;
use crate::fault::Who;
use crate::state::{Garbage, Mm, State};
use crate::types::Prot;
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
            libc::MADV_KEEPONFORK => self.flag(range, VmaFlags::WIPEONFORK, false),
            libc::MADV_WIPEONFORK => {
                let st = self.state.read();
                if st.vmas.overlapping(range).any(|v| v.file.is_some()) {
                    return Err(Errno::EINVAL);
                }
                drop(st);
                self.flag(range, VmaFlags::WIPEONFORK, true)
            }
            // Hints about speed, which change nothing one could see.
            _ => covered(&self.state.read(), range),
        }
    }

    fn flag(&self, range: Range, flag: VmaFlags, on: bool) -> Result<(), Errno> {
        let mut st = self.state.write();
        st.vmas.update(range, |v| v.flags.set(flag, on));
        covered(&st, range)
    }

    fn discard(&self, range: Range, advice: i32) -> Result<(), Errno> {
        let mut garbage = Garbage::default();
        let mut guard = self.state.write();
        let st = &mut *guard;
        let parts: Vec<Vma> = st.vmas.overlapping(range).map(|v| v.clip(range)).collect();
        for vma in &parts {
            let locked = vma.flags.contains(VmaFlags::LOCKED);
            if locked && advice == libc::MADV_DONTNEED {
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
                if !part.shared() || !part.prot.contains(Prot::WRITE) {
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

    /// Brings in all of `range`, as far as its protections go: for `MAP_POPULATE` and locking.
    pub(crate) fn populate(&self, range: Range) -> Result<(), Errno> {
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
                None => self.bring_in(at, access)?,
            };
        }
        Ok(())
    }

    fn populate_for(&self, range: Range, write: bool) -> Result<(), Errno> {
        covered(&self.state.read(), range)?;
        let access = if write { Access::Write } else { Access::Read };
        let mut at = range.start;
        while at < range.end {
            at = self.bring_in(at, access)?;
        }
        Ok(())
    }

    /// Makes the page at `at` accessible; returns where what came with it ends.
    fn bring_in(&self, at: u64, access: Access) -> Result<u64, Errno> {
        self.fault(at, access, Who::Kernel).map_err(|signal| {
            if signal.signo == libc::SIGBUS {
                Errno::EFAULT
            } else {
                Errno::ENOMEM
            }
        })?;
        let st = self.state.read();
        let extent = st.extents.find(at).map_or(at, |e| e.range.end);
        let vma = st.vmas.find(at).map_or(at, |v| v.range.end);
        Ok(extent.min(vma).max(at + abi::page::PAGE_SIZE))
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
