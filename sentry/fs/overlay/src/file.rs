//! A regular file of the lower tree, open for reading.

use crate::node::Node;
use abi::Errno;
use ctx::{Ctx, Dst, SysErr, SysResult};
use memmap::Mappable;
use std::any::Any;
use std::sync::{Arc, OnceLock};
use vfs::{File, FileOps, Inode, OpenFlags};

/// Reads below until the file was copied up, and above from then on.
pub(crate) struct LowerFile {
    node: Arc<Node>,
    lower: Arc<dyn FileOps>,
    upper: OnceLock<Arc<dyn FileOps>>,
}

impl LowerFile {
    pub(crate) fn new(node: Arc<Node>, lower: Arc<dyn FileOps>) -> LowerFile {
        LowerFile {
            node,
            lower,
            upper: OnceLock::new(),
        }
    }

    fn now(&self, cx: &dyn Ctx, file: Option<&File>) -> Result<&Arc<dyn FileOps>, SysErr> {
        if !self.node.is_copied() {
            return Ok(&self.lower);
        }
        if let Some(upper) = self.upper.get() {
            return Ok(upper);
        }
        let inode = self.node.upper().ok_or(Errno::ESTALE)?;
        let ops = match file.and_then(File::path) {
            Some(at) => inode.open(cx, at, OpenFlags::RDONLY)?,
            None => self.node.fs.open(cx, &inode, OpenFlags::RDONLY)?.0,
        };
        Ok(self.upper.get_or_init(|| ops))
    }
}

impl FileOps for LowerFile {
    fn read(&self, cx: &dyn Ctx, file: &File, offset: u64, dst: &mut Dst<'_>) -> SysResult {
        self.now(cx, Some(file))?.read(cx, file, offset, dst)
    }

    fn size(&self, cx: &dyn Ctx) -> Result<u64, Errno> {
        Ok(self.node.attr(cx)?.size)
    }

    fn seek_data(&self, cx: &dyn Ctx, offset: u64, hole: bool) -> Result<u64, Errno> {
        self.now(cx, None)
            .map_err(SysErr::errno)?
            .seek_data(cx, offset, hole)
    }

    fn mappable(&self, cx: &dyn Ctx, file: &File) -> Result<Arc<dyn Mappable>, Errno> {
        self.now(cx, Some(file))
            .map_err(SysErr::errno)?
            .mappable(cx, file)
    }

    fn sync(&self, _cx: &dyn Ctx, _data_only: bool) -> Result<(), Errno> {
        // What changes is memory, and what is below does not change.
        Ok(())
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
