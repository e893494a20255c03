//! msync(2) and mincore(2).

use crate::extent::Backing;
use crate::state::Mm;
use crate::vma::VmaFlags;
use abi::page::{PAGE_SIZE, Range, is_page_aligned, page_up};
use abi::{Errno, libc};
use memmap::Mappable;
use std::sync::Arc;

impl Mm {
    /// Brings what was written through shared mappings to their files.
    ///
    /// # Errors
    /// As msync(2): `EINVAL`, `ENOMEM` where something is not mapped, `EBUSY` for
    /// `MS_INVALIDATE` of locked memory, and the file's own.
    pub fn msync(&self, addr: u64, len: u64, flags: i32) -> Result<(), Errno> {
        let known = libc::MS_ASYNC | libc::MS_INVALIDATE | libc::MS_SYNC;
        let both = libc::MS_ASYNC | libc::MS_SYNC;
        if !is_page_aligned(addr) || flags & !known != 0 || flags & both == both {
            return Err(Errno::EINVAL);
        }
        let len = page_up(len).ok_or(Errno::ENOMEM)?;
        let range = Range::sized(addr, len).map_err(|_| Errno::ENOMEM)?;
        if range.is_empty() {
            return Ok(());
        }
        let mut files: Vec<(Arc<dyn Mappable>, Range)> = Vec::new();
        let covered = {
            let st = self.state.read();
            for vma in st.vmas.overlapping(range) {
                if flags & libc::MS_INVALIDATE != 0 && vma.flags.contains(VmaFlags::LOCKED) {
                    return Err(Errno::EBUSY);
                }
                let part = vma.clip(range);
                if let Some(file) = part.file.filter(|_| vma.shared()) {
                    let end = file.offset.saturating_add(part.range.len());
                    files.push((file.mappable, Range::new(file.offset, end)));
                }
            }
            st.vmas.covers(range)
        };
        if flags & libc::MS_SYNC != 0 {
            for (file, range) in files {
                file.sync(range)?;
            }
        }
        if covered { Ok(()) } else { Err(Errno::ENOMEM) }
    }

    /// A byte for each page, 1 where it is in memory.
    ///
    /// # Errors
    /// `EINVAL` for an address that is not aligned, `ENOMEM` where something is not mapped.
    pub fn mincore(&self, addr: u64, len: u64) -> Result<Vec<u8>, Errno> {
        if !is_page_aligned(addr) {
            return Err(Errno::EINVAL);
        }
        let len = page_up(len).ok_or(Errno::ENOMEM)?;
        let range = Range::sized(addr, len).map_err(|_| Errno::ENOMEM)?;
        let st = self.state.read();
        if !st.vmas.covers(range) {
            return Err(Errno::ENOMEM);
        }
        // All of it is mapped, and yet it may be a reservation of terabytes.
        let count = usize::try_from(len / PAGE_SIZE).map_err(|_| Errno::ENOMEM)?;
        let mut out = Vec::new();
        out.try_reserve_exact(count).map_err(|_| Errno::ENOMEM)?;
        out.resize(count, 0);
        let mut mark = |part: Range| {
            let first = ((part.start - range.start) / PAGE_SIZE) as usize;
            let last = (part.end - range.start).div_ceil(PAGE_SIZE) as usize;
            if let Some(pages) = out.get_mut(first..last) {
                pages.fill(1);
            }
        };
        for extent in st.extents.overlapping(range) {
            let part = extent.range.intersect(&range);
            match &extent.backing {
                Backing::Frames(frames) => {
                    let base = extent.range.start;
                    let mut at = part.start - base;
                    while let Some(data) = frames.next_resident(at) {
                        let here = Range::new(base + data.start, base + data.end).intersect(&part);
                        if here.is_empty() {
                            break;
                        }
                        mark(here);
                        at = data.end;
                    }
                }
                Backing::Host { .. } => mark(part),
                Backing::Zero => {}
            }
        }
        Ok(out)
    }
}
