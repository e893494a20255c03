//! An open regular file: everything goes through donated descriptors.

use crate::descriptors::Handle;
use crate::node::Node;
use abi::Errno;
use abi::page::Range;
use control::fs::Access;
use ctx::{Ctx, Dst, Src, SysResult};
use memmap::Mappable;
use nix::fcntl::{FallocateFlags, fallocate};
use nix::unistd::{Whence, fdatasync, fsync, lseek};
use std::any::Any;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use vfs::{File, FileOps, OpenFlags, Written};

/// A regular file as one description has it.
pub(crate) struct OpenFile {
    node: Arc<Node>,
    /// They are held for as long as it is open, so that they stay what the cache gives out.
    reader: Option<Handle>,
    writer: Option<Handle>,
    /// The host was told to note an access already: relatime has it once.
    accessed: AtomicBool,
}

impl OpenFile {
    pub(crate) fn new(node: Arc<Node>, flags: OpenFlags) -> Result<OpenFile, Errno> {
        // The writer first: it mostly reads as well.
        let writer = flags
            .writable()
            .then(|| node.handle(Access::ReadWrite))
            .transpose()?;
        let reader = flags
            .readable()
            .then(|| node.handle(Access::Read))
            .transpose()?;
        Ok(OpenFile {
            node,
            reader,
            writer,
            accessed: AtomicBool::new(false),
        })
    }

    fn any(&self) -> Result<&Handle, Errno> {
        self.reader
            .as_ref()
            .or(self.writer.as_ref())
            .ok_or(Errno::EBADF)
    }

    /// Puts bytes behind the last one; returns where they end.
    fn append(&self, src: &mut Src<'_>) -> Result<Written, Errno> {
        // A description of its own, whose position follows: nobody else moves it.
        let handle = self.node.handle(Access::Append)?;
        let _alone = self.node.append.lock();
        let count = src.take_to_host(handle.fd.as_fd(), None, src.remaining())?;
        let end = lseek(&*handle.fd, 0, Whence::SeekCur).map_err(host)?;
        Ok(Written {
            count,
            end: u64::try_from(end).unwrap_or(0),
        })
    }
}

fn host(e: nix::errno::Errno) -> Errno {
    Errno::from_host(e as i32)
}

impl FileOps for OpenFile {
    fn read(&self, _cx: &dyn Ctx, _file: &File, offset: u64, dst: &mut Dst<'_>) -> SysResult {
        let reader = self.reader.as_ref().ok_or(Errno::EBADF)?;
        let n = dst.put_from_host(reader.fd.as_fd(), Some(offset), dst.remaining())?;
        if !self.accessed.load(Ordering::Relaxed) {
            self.accessed.store(true, Ordering::Relaxed);
            self.node.touched();
        }
        Ok(n)
    }

    fn write(
        &self,
        cx: &dyn Ctx,
        file: &File,
        offset: u64,
        append: bool,
        src: &mut Src<'_>,
    ) -> SysResult<Written> {
        let writer = self.writer.as_ref().ok_or(Errno::EBADF)?;
        let kept = self.node.set_id(cx);
        let written = if append {
            self.append(src)
        } else {
            let count = src.take_to_host(writer.fd.as_fd(), Some(offset), src.remaining());
            count.map(|count| Written {
                count,
                end: offset.saturating_add(count as u64),
            })
        };
        self.node.touched();
        let written = written?;
        self.node.keep_set_id(kept);
        if file.flags().contains(OpenFlags::DSYNC) {
            self.sync(cx, !file.flags().contains(OpenFlags::SYNC))?;
        }
        Ok(written)
    }

    fn size(&self, _cx: &dyn Ctx) -> Result<u64, Errno> {
        self.node.length()
    }

    fn seek_data(&self, _cx: &dyn Ctx, offset: u64, hole: bool) -> Result<u64, Errno> {
        let whence = if hole {
            Whence::SeekHole
        } else {
            Whence::SeekData
        };
        let offset = i64::try_from(offset).map_err(|_| Errno::ENXIO)?;
        // The position of a shared descriptor means nothing: reads and writes name theirs.
        let found = lseek(&*self.any()?.fd, offset, whence).map_err(host)?;
        u64::try_from(found).map_err(|_| Errno::EIO)
    }

    fn check_offset(&self, offset: u64) -> Result<(), Errno> {
        // Every file system of the host takes these.
        const SURE: u64 = i32::MAX as u64;
        if offset <= SURE {
            return Ok(());
        }
        // The position of a shared descriptor means nothing, so that it may be tried.
        let offset = i64::try_from(offset).map_err(|_| Errno::EINVAL)?;
        lseek(&*self.any()?.fd, offset, Whence::SeekSet)
            .map(drop)
            .map_err(host)
    }

    fn mappable(&self, _cx: &dyn Ctx, file: &File) -> Result<Arc<dyn Mappable>, Errno> {
        let old = std::mem::replace(&mut *self.node.mapped_at.lock(), file.path().cloned());
        drop(old);
        Ok(self.node.clone())
    }

    fn sync(&self, _cx: &dyn Ctx, data_only: bool) -> Result<(), Errno> {
        let fd = &*self.any()?.fd;
        if data_only { fdatasync(fd) } else { fsync(fd) }.map_err(host)
    }

    fn allocate(&self, cx: &dyn Ctx, mode: u32, offset: u64, len: u64) -> Result<(), Errno> {
        let writer = self.writer.as_ref().ok_or(Errno::EBADF)?;
        let flags = i32::try_from(mode).ok().and_then(FallocateFlags::from_bits);
        let flags = flags.ok_or(Errno::EOPNOTSUPP)?;
        let range = Range::sized(offset, len)?;
        let whole = |n: u64| i64::try_from(n).map_err(|_| Errno::EFBIG);
        let kept = self.node.set_id(cx);
        fallocate(&*writer.fd, flags, whole(offset)?, whole(len)?).map_err(host)?;
        self.node.touched();
        self.node.keep_set_id(kept);
        let moves =
            FallocateFlags::FALLOC_FL_COLLAPSE_RANGE | FallocateFlags::FALLOC_FL_INSERT_RANGE;
        if flags.intersects(moves) {
            self.node
                .mappings
                .invalidate(Range::new(range.start, u64::MAX), true);
        }
        Ok(())
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
