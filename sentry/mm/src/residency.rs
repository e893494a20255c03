//! msync(2) and mincore(2).

use crate::extent::Backing;
use crate::state::Mm;
use crate::vma::VmaFlags;
use abi::page::{PAGE_SIZE, Range, is_page_aligned, page_up};
use abi::{Errno, libc};
use auth::Creds;
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

    /// A byte for each page, 1 where it is in memory, or where `by` may not know.
    ///
    /// # Errors
    /// `EINVAL` for an address that is not aligned, `ENOMEM` where something is not mapped.
    pub fn mincore(&self, addr: u64, len: u64, by: &Creds) -> Result<Vec<u8>, Errno> {
        if !is_page_aligned(addr) {
            return Err(Errno::EINVAL);
        }
        let len = page_up(len).ok_or(Errno::ENOMEM)?;
        let range = Range::sized(addr, len).map_err(|_| Errno::ENOMEM)?;
        let mut out: Vec<u8> = Vec::new();
        let files = {
            let st = self.state.read();
            if !st.vmas.covers(range) {
                return Err(Errno::ENOMEM);
            }
            // All of it is mapped, and yet it may be a reservation of terabytes.
            let count = usize::try_from(len / PAGE_SIZE).map_err(|_| Errno::ENOMEM)?;
            out.try_reserve_exact(count).map_err(|_| Errno::ENOMEM)?;
            out.resize(count, 0);
            for extent in st.extents.overlapping(range) {
                let part = extent.range.intersect(&range);
                match &extent.backing {
                    Backing::Frames(frames) => {
                        let offset = part.start - extent.range.start;
                        mark(pages(&mut out, range.start, part), offset, |at| {
                            frames.next_resident(at)
                        });
                    }
                    Backing::Host { .. } => pages(&mut out, range.start, part).fill(1),
                    Backing::Zero => {}
                }
            }
            let parts = st.vmas.overlapping(range).map(|vma| vma.clip(range));
            parts
                .filter_map(|vma| Some((vma.range, vma.file?)))
                .collect::<Vec<_>>()
        };
        // Pages of a file count that are there without having been touched here.
        for (part, file) in files {
            let pages = pages(&mut out, range.start, part);
            if file.mappable.may_be_watched(by) {
                mark(pages, file.offset, |at| file.mappable.next_resident(at));
            } else {
                pages.fill(1);
            }
        }
        Ok(out)
    }
}

/// What tells of the pages of `part` in `out`, whose first byte is for the page at `from`.
fn pages(out: &mut [u8], from: u64, part: Range) -> &mut [u8] {
    let first = ((part.start - from) / PAGE_SIZE) as usize;
    let last = ((part.end - from) / PAGE_SIZE) as usize;
    out.get_mut(first..last).unwrap_or_default()
}

/// Marks those of `pages`, the first of which is at `offset`, that `next` finds from an offset on.
fn mark(pages: &mut [u8], offset: u64, next: impl Fn(u64) -> Option<Range>) {
    let end = offset.saturating_add(pages.len() as u64 * PAGE_SIZE);
    let mut at = offset;
    while at < end
        && let Some(found) = next(at)
    {
        let first = (found.start.max(at) - offset) / PAGE_SIZE;
        let last = (found.end.min(end).max(at) - offset) / PAGE_SIZE;
        if let Some(there) = pages.get_mut(first as usize..last as usize) {
            there.fill(1);
        }
        at = found.end.max(at + PAGE_SIZE);
    }
}
