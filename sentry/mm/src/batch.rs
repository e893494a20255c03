//! Changes for the platform, put together so that few operations say them: each can cost a trap.

use crate::extent::{Backing, Extent};
use crate::types::{Prot, platform_errno};
use abi::Errno;
use abi::page::Range;
use hostmem::MemoryFile;
use platform_api::{AddressSpace, Op};
use std::os::fd::OwnedFd;
use std::sync::Arc;

/// A list of changes, in order.
#[derive(Default)]
pub(crate) struct Batch {
    ops: Vec<Op>,
}

impl Batch {
    pub(crate) fn ops(&self) -> &[Op] {
        &self.ops
    }

    /// Maps an extent with `access`, and notes that in it.
    pub(crate) fn install(&mut self, extent: &mut Extent, access: Prot, memory: &MemoryFile) {
        extent.installed = Some(access);
        let range = extent.range;
        match &extent.backing {
            Backing::Frames(frames) => self.map(range, frames.fd(), frames.start(), access),
            Backing::Host { file, offset, .. } => self.map(range, file, *offset, access),
            Backing::Zero => {
                let zero = memory.zero_range();
                let mut at = range.start;
                while at < range.end {
                    let end = at.saturating_add(zero.len()).min(range.end);
                    self.map(Range::new(at, end), memory.fd(), zero.start, access);
                    at = end;
                }
            }
        }
    }

    fn map(&mut self, range: Range, file: &Arc<OwnedFd>, offset: u64, access: Prot) {
        if let Some(Op::Map {
            addr,
            len,
            backing,
            access: last,
        }) = self.ops.last_mut()
            && *addr + *len == range.start
            && *last == access
            && Arc::ptr_eq(&backing.file, file)
            && backing.offset + *len == offset
        {
            *len += range.len();
            return;
        }
        let backing = platform_api::Backing {
            file: file.clone(),
            offset,
        };
        self.ops.push(Op::Map {
            addr: range.start,
            len: range.len(),
            backing,
            access,
        });
    }

    pub(crate) fn unmap(&mut self, range: Range) {
        if let Some(Op::Unmap { addr, len }) = self.ops.last_mut()
            && *addr + *len == range.start
        {
            *len += range.len();
            return;
        }
        self.ops.push(Op::Unmap {
            addr: range.start,
            len: range.len(),
        });
    }

    pub(crate) fn protect(&mut self, range: Range, access: Prot) {
        if let Some(Op::Protect {
            addr,
            len,
            access: last,
        }) = self.ops.last_mut()
            && *addr + *len == range.start
            && *last == access
        {
            *len += range.len();
            return;
        }
        self.ops.push(Op::Protect {
            addr: range.start,
            len: range.len(),
            access,
        });
    }

    /// Tells the platform, if there is anything to tell.
    pub(crate) fn apply(self, space: &Arc<dyn AddressSpace>) -> Result<(), Errno> {
        if self.ops.is_empty() {
            return Ok(());
        }
        space.apply(&self.ops).map_err(platform_errno)
    }
}
