//! Where a byte is: the look-up behind all of the kernel's own accesses.

use crate::extent::Backing;
use crate::fault::{Who, permits};
use crate::state::{Mm, State};
use crate::types::FutexKey;
use abi::Errno;
use abi::page::Range;
use hostmem::Frames;
use platform_api::Access;
use std::os::fd::OwnedFd;
use std::sync::Arc;

/// What stands at an address, as far as it goes on.
pub(crate) enum Found<'a> {
    /// Frames, from this offset on, for this many bytes.
    Frames(&'a Frames, u64, u64),
    /// A host file, from this offset on.
    Host(&'a Arc<OwnedFd>, u64, u64),
    /// Zeros, for reading.
    Zero(u64),
    /// Nothing that could be used as it is: a fault must be handled first.
    Missing,
}

impl State {
    /// Looks `addr` up for `access`.
    #[inline]
    pub(crate) fn locate(&self, addr: u64, access: Access, who: Who) -> Found<'_> {
        let Some(vma) = self.vmas.find(addr) else {
            return Found::Missing;
        };
        if !permits(vma, access, who) {
            return Found::Missing;
        }
        let Some(extent) = self.extents.find(addr) else {
            return Found::Missing;
        };
        if access == Access::Write && extent.sealed {
            return Found::Missing;
        }
        let len = vma.range.end.min(extent.range.end) - addr;
        let skip = addr - extent.range.start;
        match &extent.backing {
            Backing::Frames(frames) => Found::Frames(frames, skip, len),
            Backing::Host { file, offset, .. } => Found::Host(file, offset + skip, len),
            Backing::Zero => Found::Zero(len),
        }
    }
}

impl Mm {
    /// Whether all of `addr..addr+len` is mapped with at least this access, without touching it
    /// (access_ok and more; what a later copy finds may differ).
    pub fn is_accessible(&self, addr: u64, len: u64, write: bool) -> bool {
        let Ok(range) = Range::sized(addr, len) else {
            return false;
        };
        let access = if write { Access::Write } else { Access::Read };
        let st = self.state.read();
        st.vmas.covers(range)
            && st
                .vmas
                .overlapping(range)
                .all(|v| permits(v, access, Who::Kernel))
    }

    /// Which futex the word at `addr` is. `shared` is the absence of `FUTEX_PRIVATE_FLAG`: then a
    /// word in something shared is known by that, wherever else it is mapped.
    ///
    /// # Errors
    /// `EINVAL` for an address that is not aligned, `EFAULT` where nothing is mapped (asked for
    /// shared words only, as on Linux).
    pub fn futex_key(&self, addr: u64, shared: bool) -> Result<FutexKey, Errno> {
        let private = FutexKey::Private { mm: self.id, addr };
        if !addr.is_multiple_of(4) {
            return Err(Errno::EINVAL);
        }
        if addr >= abi::page::TASK_SIZE {
            return Err(Errno::EFAULT);
        }
        if !shared {
            return Ok(private);
        }
        let st = self.state.read();
        let vma = st.vmas.find(addr).ok_or(Errno::EFAULT)?;
        match (&vma.file, vma.file_offset(addr)) {
            (Some(file), Some(offset)) if vma.shared() => Ok(FutexKey::Shared {
                object: file.object(),
                offset,
            }),
            // Asked for with and without the flag, a word of one's own is two futexes to Linux.
            _ => Ok(FutexKey::Private {
                mm: self.id,
                addr: addr | 1,
            }),
        }
    }
}
