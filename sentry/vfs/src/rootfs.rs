//! The empty file system at the bottom of each mount namespace.

use crate::anon::plain_attr;
use crate::{Attr, DirSink, File, FileOps, FileType, Inode, OpenFlags, VfsPath, list_entries};
use abi::Errno;
use abi::stat::{Statfs, makedev};
use ctx::{Ctx, SysErr};
use std::any::Any;
use std::sync::Arc;

/// Linux's number for it.
const DEVICE: u64 = makedev(0, 2);
const INO: u64 = 1;
/// `RAMFS_MAGIC`
const MAGIC: i64 = 0x8584_58f6;

/// Its one directory.
pub(crate) struct Empty;

impl Empty {
    pub(crate) fn root() -> Arc<dyn Inode> {
        Arc::new(Empty)
    }
}

impl Inode for Empty {
    fn attr(&self, cx: &dyn Ctx) -> Result<Attr, Errno> {
        Ok(Attr {
            dev: DEVICE,
            nlink: 2,
            ..plain_attr(FileType::Directory, 0o755, INO, cx.clocks().wall())
        })
    }

    fn kind(&self) -> FileType {
        FileType::Directory
    }

    fn lookup(&self, _cx: &dyn Ctx, _name: &[u8]) -> Result<Arc<dyn Inode>, Errno> {
        Err(Errno::ENOENT)
    }

    fn open(
        self: Arc<Self>,
        _cx: &dyn Ctx,
        _at: &VfsPath,
        _flags: OpenFlags,
    ) -> Result<Arc<dyn FileOps>, SysErr> {
        Ok(self)
    }

    fn statfs(&self, _cx: &dyn Ctx) -> Result<Statfs, Errno> {
        Ok(Statfs::simple(MAGIC))
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl FileOps for Empty {
    fn readdir(
        &self,
        _cx: &dyn Ctx,
        _file: &File,
        from: u64,
        sink: &mut dyn DirSink,
    ) -> Result<u64, Errno> {
        let dots = [".", ".."].map(|name| (name, INO, FileType::Directory));
        Ok(list_entries(dots, from, sink))
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
