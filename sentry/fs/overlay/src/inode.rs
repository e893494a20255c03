//! The inode's side of a node.

use crate::file::LowerFile;
use crate::fs::PRIVATE;
use crate::listing::OpenDirectory;
use crate::names::make_opaque;
use crate::node::{Layers, Node};
use abi::Errno;
use abi::stat::Statfs;
use ctx::{Ctx, SysErr};
use std::any::Any;
use std::sync::Arc;
use vfs::{Attr, FileOps, FileType, Inode, Link, NewFile, NewKind, OpenFlags, SetAttr, VfsPath};

/// `OVERLAYFS_SUPER_MAGIC`
const MAGIC: i64 = 0x794c_7630;

impl Node {
    fn this(&self) -> Result<Arc<Node>, Errno> {
        self.me.upgrade().ok_or(Errno::ESTALE)
    }

    fn directory(&self) -> Result<Arc<Node>, Errno> {
        if self.is_dir() {
            self.this()
        } else {
            Err(Errno::ENOTDIR)
        }
    }

    /// `inode` as a node of the same overlay; `EXDEV` where it is none.
    fn sibling(&self, inode: &Arc<dyn Inode>) -> Result<Arc<Node>, Errno> {
        let node = inode
            .as_any()
            .downcast_ref::<Node>()
            .and_then(|n| n.me.upgrade());
        node.filter(|n| Arc::ptr_eq(&n.fs, &self.fs))
            .ok_or(Errno::EXDEV)
    }

    /// The node of something that was just made in the upper tree.
    fn adopt(
        self: &Arc<Self>,
        cx: &dyn Ctx,
        upper: Arc<dyn Inode>,
        name: Option<&[u8]>,
    ) -> Result<Arc<Node>, Errno> {
        let identity = self.fs.above(cx, &upper)?;
        let kind = upper.kind();
        let place = name.map(|name| (self.clone(), name.into()));
        let layers = Layers {
            lower: None,
            upper: Some(upper),
        };
        Ok(self.fs.intern(identity, kind, layers, place))
    }
}

impl Inode for Node {
    fn attr(&self, cx: &dyn Ctx) -> Result<Attr, Errno> {
        let Layers { lower, upper } = self.layers();
        let real = upper.as_ref().or(lower.as_ref()).ok_or(Errno::ESTALE)?;
        let mut attr = real.attr(cx)?;
        attr.dev = self.identity.dev;
        attr.ino = self.identity.ino;
        if self.is_dir() {
            if self.links() < 0 {
                attr.nlink = 0;
            } else if lower.is_some() && upper.is_some() {
                // As Linux says of a directory that is in both.
                attr.nlink = 1;
            }
        } else if let Some(lower) = &lower {
            // The upper file counts the names above alone. Each level asks the next just once.
            let below = match upper {
                Some(_) => lower.attr(cx)?.nlink,
                None => attr.nlink,
            };
            attr.nlink = below.saturating_add_signed(self.links());
        }
        Ok(attr)
    }

    fn kind(&self) -> FileType {
        self.kind
    }

    fn set_attr(&self, cx: &dyn Ctx, set: &SetAttr) -> Result<(), Errno> {
        // What is cut off need not be copied.
        let upper = self.copy_up(cx, set.size.unwrap_or(u64::MAX))?;
        upper.set_attr(cx, set)
    }

    fn lookup(&self, cx: &dyn Ctx, name: &[u8]) -> Result<Arc<dyn Inode>, Errno> {
        Ok(self.directory()?.find(cx, name)?.ok_or(Errno::ENOENT)?)
    }

    fn create(
        &self,
        cx: &dyn Ctx,
        name: &[u8],
        kind: NewKind,
        new: &NewFile,
    ) -> Result<Arc<dyn Inode>, Errno> {
        if let NewKind::Device(FileType::CharDevice, 0) = kind {
            // It would hide a name below.
            return Err(Errno::EPERM);
        }
        let me = self.directory()?;
        let dir = self.copy_up(cx, 0)?;
        let upper = self.in_place(cx, &dir, name, |hides| {
            let made = dir.create(cx, name, kind, new)?;
            if hides && made.kind() == FileType::Directory {
                make_opaque(cx, &made).inspect_err(|_| {
                    let _undone = dir.rmdir(cx, name);
                })?;
            }
            Ok(made)
        })?;
        Ok(me.adopt(cx, upper, Some(name))?)
    }

    fn create_unnamed(&self, cx: &dyn Ctx, new: &NewFile) -> Result<Arc<dyn Inode>, Errno> {
        let me = self.directory()?;
        let upper = self.copy_up(cx, 0)?.create_unnamed(cx, new)?;
        Ok(me.adopt(cx, upper, None)?)
    }

    fn link(&self, cx: &dyn Ctx, name: &[u8], target: &Arc<dyn Inode>) -> Result<(), Errno> {
        let me = self.directory()?;
        let target = self.sibling(target)?;
        let upper = target.copy_up(cx, u64::MAX)?;
        let dir = self.copy_up(cx, 0)?;
        self.in_place(cx, &dir, name, |_| dir.link(cx, name, &upper))?;
        target.add_links(1);
        if target.place().is_none() {
            target.set_place(Some((me, name.into())));
        }
        if target.lower().is_some() {
            // Its other names below must find it.
            self.fs.keep(&target);
        }
        Ok(())
    }

    fn unlink(&self, cx: &dyn Ctx, name: &[u8]) -> Result<(), Errno> {
        let me = self.directory()?;
        let child = me.find(cx, name)?.ok_or(Errno::ENOENT)?;
        if child.is_dir() {
            return Err(Errno::EISDIR);
        }
        me.remove(cx, name, &child)
    }

    fn rmdir(&self, cx: &dyn Ctx, name: &[u8]) -> Result<(), Errno> {
        let me = self.directory()?;
        let child = me.find(cx, name)?.ok_or(Errno::ENOENT)?;
        if !child.is_dir() {
            return Err(Errno::ENOTDIR);
        }
        if !child.is_empty(cx)? {
            return Err(Errno::ENOTEMPTY);
        }
        me.remove(cx, name, &child)
    }

    fn rename(
        &self,
        cx: &dyn Ctx,
        name: &[u8],
        new_dir: &Arc<dyn Inode>,
        new_name: &[u8],
        flags: u32,
    ) -> Result<(), Errno> {
        let to = self.sibling(new_dir)?;
        self.directory()?
            .move_name(cx, name, &to.directory()?, new_name, flags)
    }

    fn readlink(&self, cx: &dyn Ctx) -> Result<Link, Errno> {
        self.real()?.readlink(cx)
    }

    fn open(
        self: Arc<Self>,
        cx: &dyn Ctx,
        at: &VfsPath,
        flags: OpenFlags,
    ) -> Result<Arc<dyn FileOps>, SysErr> {
        match self.kind {
            FileType::Directory => {
                let lower = match self.lower() {
                    Some(lower) if !self.is_copied() => Some(lower.open(cx, at, flags)?),
                    _ => None,
                };
                Ok(Arc::new(OpenDirectory::new(self, lower)))
            }
            FileType::Regular if flags.writable() => {
                self.copy_up(cx, u64::MAX)?.open(cx, at, flags)
            }
            FileType::Regular if !self.is_copied() => {
                let lower = self.lower().ok_or(Errno::ESTALE)?.open(cx, at, flags)?;
                Ok(Arc::new(LowerFile::new(self, lower)))
            }
            // Those who have it open already are there.
            FileType::Fifo if self.lower().is_some() => {
                self.lower().ok_or(Errno::ESTALE)?.open(cx, at, flags)
            }
            _ => self.real()?.open(cx, at, flags),
        }
    }

    fn statfs(&self, cx: &dyn Ctx) -> Result<Statfs, Errno> {
        // What is free is free above.
        let of = self.fs.root_upper().map_or_else(|| self.real(), Ok)?;
        Ok(Statfs {
            kind: MAGIC,
            fsid: [self.fs.dev() as i32, 0],
            ..of.statfs(cx)?
        })
    }

    fn get_xattr(&self, cx: &dyn Ctx, name: &[u8]) -> Result<Vec<u8>, Errno> {
        if name.starts_with(PRIVATE) {
            return Err(Errno::ENODATA);
        }
        self.real()?.get_xattr(cx, name)
    }

    fn set_xattr(&self, cx: &dyn Ctx, name: &[u8], value: &[u8], flags: i32) -> Result<(), Errno> {
        if name.starts_with(PRIVATE) {
            return Err(Errno::EPERM);
        }
        self.copy_up(cx, u64::MAX)?
            .set_xattr(cx, name, value, flags)
    }

    fn remove_xattr(&self, cx: &dyn Ctx, name: &[u8]) -> Result<(), Errno> {
        if name.starts_with(PRIVATE) {
            return Err(Errno::EPERM);
        }
        // Nothing is copied for an attribute that is not there.
        self.real()?.get_xattr(cx, name)?;
        self.copy_up(cx, u64::MAX)?.remove_xattr(cx, name)
    }

    fn list_xattr(&self, cx: &dyn Ctx) -> Result<Vec<Vec<u8>>, Errno> {
        let mut names = self.real()?.list_xattr(cx)?;
        names.retain(|n| !n.starts_with(PRIVATE));
        Ok(names)
    }

    fn socket(&self) -> Option<Arc<dyn Any + Send + Sync>> {
        self.real().ok()?.socket()
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
