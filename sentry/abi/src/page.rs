//! Pages and addresses of the guest.

use crate::Errno;

/// Bytes in a page.
pub const PAGE_SIZE: u64 = 4096;
/// log2 of [`PAGE_SIZE`].
pub const PAGE_SHIFT: u32 = 12;
/// One past the highest user address Linux gives out with four-level paging
/// (`TASK_SIZE_MAX`).
pub const TASK_SIZE: u64 = (1 << 47) - PAGE_SIZE;

/// `addr` rounded down to a page.
pub const fn page_down(addr: u64) -> u64 {
    addr & !(PAGE_SIZE - 1)
}

/// `addr` rounded up to a page, `None` on overflow.
pub const fn page_up(addr: u64) -> Option<u64> {
    match addr.checked_add(PAGE_SIZE - 1) {
        Some(a) => Some(page_down(a)),
        None => None,
    }
}

/// Whether `addr` is a multiple of the page size.
pub const fn is_page_aligned(addr: u64) -> bool {
    addr & (PAGE_SIZE - 1) == 0
}

/// A half-open range of addresses or offsets, `start <= end`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Range {
    /// First byte.
    pub start: u64,
    /// One past the last byte.
    pub end: u64,
}

impl Range {
    /// `start..end`; `end` must not lie below `start`.
    pub const fn new(start: u64, end: u64) -> Range {
        debug_assert!(start <= end);
        Range { start, end }
    }

    /// `start..start+len`, or `EINVAL` when that overflows.
    pub fn sized(start: u64, len: u64) -> Result<Range, Errno> {
        let end = start.checked_add(len).ok_or(Errno::EINVAL)?;
        Ok(Range { start, end })
    }

    /// Length in bytes.
    pub const fn len(&self) -> u64 {
        self.end - self.start
    }

    /// Whether there is nothing in it.
    pub const fn is_empty(&self) -> bool {
        self.start >= self.end
    }

    /// Whether `addr` lies inside.
    pub const fn contains(&self, addr: u64) -> bool {
        self.start <= addr && addr < self.end
    }

    /// Whether all of `other` lies inside.
    pub const fn covers(&self, other: &Range) -> bool {
        self.start <= other.start && other.end <= self.end
    }

    /// Whether the two share a byte.
    pub const fn overlaps(&self, other: &Range) -> bool {
        self.start < other.end && other.start < self.end
    }

    /// What the two share; empty where they do not touch.
    pub fn intersect(&self, other: &Range) -> Range {
        let start = self.start.max(other.start);
        Range {
            start,
            end: self.end.min(other.end).max(start),
        }
    }
}

impl std::fmt::Debug for Range {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:#x}-{:#x}", self.start, self.end)
    }
}
