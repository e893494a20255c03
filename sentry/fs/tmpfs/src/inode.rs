//! One file: what a file system implements.

use crate::node::{Body, Meta, Node};
use abi::Errno;
use abi::stat::Statfs;
use ctx::{Ctx, SysErr};
use std::any::Any;
use std::sync::Arc;
use vfs::rename::{EXCHANGE, NOREPLACE, WHITEOUT};
use vfs::{Attr, FileOps, FileType, Inode, Link, NewFile, NewKind, OpenFlags, SetAttr, VfsPath};

/// Bytes of extended attributes of one file, at most.
const XATTRS_MAX: usize = 256 << 10;

impl Node {
    pub(crate) fn attributes(&self) -> Attr {
        let (size, blocks) = self.size_and_blocks();
        let meta = self.meta.lock();
        Attr {
            dev: self.fs.dev(),
            ino: self.ino,
            kind: self.kind,
            perm: meta.perm,
            nlink: meta.nlink,
            uid: meta.uid,
            gid: meta.gid,
            rdev: if let Body::Device(rdev) = self.body {
                rdev
            } else {
                0
            },
            size,
            blksize: 4096,
            blocks,
            atime: meta.atime,
            mtime: meta.mtime,
            ctime: meta.ctime,
            btime: Some(meta.btime),
        }
    }
}

impl Inode for Node {
    fn attr(&self, _cx: &dyn Ctx) -> Result<Attr, Errno> {
        Ok(self.attributes())
    }

    fn kind(&self) -> FileType {
        self.kind
    }

    fn set_attr(&self, _cx: &dyn Ctx, set: &SetAttr) -> Result<(), Errno> {
        if let Some(size) = set.size {
            self.resize(size)?;
        }
        let mut meta = self.meta.lock();
        let Meta {
            perm,
            uid,
            gid,
            atime,
            mtime,
            ctime,
            ..
        } = &mut *meta;
        for (place, new) in [(perm, set.perm), (uid, set.uid), (gid, set.gid)] {
            *place = new.unwrap_or(*place);
        }
        for (place, new) in [(atime, set.atime), (mtime, set.mtime), (ctime, set.ctime)] {
            *place = new.unwrap_or(*place);
        }
        Ok(())
    }

    fn lookup(&self, _cx: &dyn Ctx, name: &[u8]) -> Result<Arc<dyn Inode>, Errno> {
        match self.directory()?.read().get(name) {
            Some(node) => Ok(node.clone()),
            None => Err(Errno::ENOENT),
        }
    }

    fn create(
        &self,
        cx: &dyn Ctx,
        name: &[u8],
        kind: NewKind,
        new: &NewFile,
    ) -> Result<Arc<dyn Inode>, Errno> {
        let directory = self.directory()?;
        if self.meta.lock().nlink == 0 {
            return Err(Errno::ENOENT);
        }
        if directory.read().get(name).is_some() {
            return Err(Errno::EEXIST);
        }
        let node = Node::make(&self.fs, cx, kind, new)?;
        directory.write().insert(name, node.clone());
        let now = cx.clocks().wall();
        self.modified(now);
        if node.is_dir() {
            self.links(now, 1);
        }
        Ok(node)
    }

    fn create_unnamed(&self, cx: &dyn Ctx, new: &NewFile) -> Result<Arc<dyn Inode>, Errno> {
        let node = Node::make(&self.fs, cx, NewKind::Regular, new)?;
        node.meta.lock().nlink = 0;
        Ok(node)
    }

    fn link(&self, cx: &dyn Ctx, name: &[u8], target: &Arc<dyn Inode>) -> Result<(), Errno> {
        let node = self.sibling(target)?;
        let directory = self.directory()?;
        if directory.read().get(name).is_some() {
            return Err(Errno::EEXIST);
        }
        let now = cx.clocks().wall();
        node.links(now, 1);
        directory.write().insert(name, node);
        self.modified(now);
        Ok(())
    }

    fn unlink(&self, cx: &dyn Ctx, name: &[u8]) -> Result<(), Errno> {
        if self
            .directory()?
            .read()
            .get(name)
            .is_some_and(|n| n.is_dir())
        {
            return Err(Errno::EISDIR);
        }
        self.remove(cx, name)
    }

    fn rmdir(&self, cx: &dyn Ctx, name: &[u8]) -> Result<(), Errno> {
        let victim = self
            .directory()?
            .read()
            .get(name)
            .cloned()
            .ok_or(Errno::ENOENT)?;
        if !victim.directory()?.read().is_empty() {
            return Err(Errno::ENOTEMPTY);
        }
        self.remove(cx, name)
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
        let now = cx.clocks().wall();
        self.modified(now);
        to.modified(now);
        if flags & EXCHANGE != 0 {
            return self.exchange(now, name, &to, new_name);
        }
        let node = self
            .directory()?
            .read()
            .get(name)
            .cloned()
            .ok_or(Errno::ENOENT)?;
        let replaced = to.directory()?.read().get(new_name).cloned();
        if let Some(old) = &replaced {
            if flags & NOREPLACE != 0 {
                return Err(Errno::EEXIST);
            }
            if old.is_dir() && !old.directory()?.read().is_empty() {
                return Err(Errno::ENOTEMPTY);
            }
        }
        let whiteout = if flags & WHITEOUT != 0 {
            let new = NewFile {
                perm: 0,
                uid: 0,
                gid: 0,
            };
            Some(Node::make(
                &self.fs,
                cx,
                NewKind::Device(FileType::CharDevice, 0),
                &new,
            )?)
        } else {
            None
        };
        // The new name first: the file is never without one.
        to.directory()?.write().insert(new_name, node.clone());
        match whiteout {
            Some(w) => self.directory()?.write().insert(name, w),
            None => self.directory()?.write().remove(name),
        };
        if let Some(old) = &replaced {
            old.unlinked(now);
            if old.is_dir() {
                to.links(now, -1);
            }
        }
        if node.is_dir() && !std::ptr::eq(self, &*to) {
            self.links(now, -1);
            to.links(now, 1);
        }
        node.links(now, 0);
        Ok(())
    }

    fn readlink(&self, _cx: &dyn Ctx) -> Result<Link, Errno> {
        match &self.body {
            Body::Symlink(target) => Ok(Link::Path(target.clone())),
            _ => Err(Errno::EINVAL),
        }
    }

    fn open(
        self: Arc<Self>,
        cx: &dyn Ctx,
        at: &VfsPath,
        flags: OpenFlags,
    ) -> Result<Arc<dyn FileOps>, SysErr> {
        match &self.body {
            Body::Regular(_) | Body::Directory(_) => Ok(self),
            Body::Fifo(fifo) => fifo.open(cx, flags),
            Body::Device(rdev) => self.fs.devices().open(cx, self.kind, *rdev, at, flags),
            Body::Socket(_) => Err(Errno::ENXIO.into()),
            Body::Symlink(_) => Err(Errno::ELOOP.into()),
        }
    }

    fn statfs(&self, _cx: &dyn Ctx) -> Result<Statfs, Errno> {
        Ok(self.fs.statfs())
    }

    fn get_xattr(&self, _cx: &dyn Ctx, name: &[u8]) -> Result<Vec<u8>, Errno> {
        self.xattrs.lock().get(name).cloned().ok_or(Errno::ENODATA)
    }

    fn set_xattr(&self, cx: &dyn Ctx, name: &[u8], value: &[u8], flags: i32) -> Result<(), Errno> {
        const CREATE: i32 = 1;
        const REPLACE: i32 = 2;
        let mut xattrs = self.xattrs.lock();
        let old = xattrs.get(name).map(Vec::len);
        if old.is_some() && flags & CREATE != 0 {
            return Err(Errno::EEXIST);
        }
        if old.is_none() && flags & REPLACE != 0 {
            return Err(Errno::ENODATA);
        }
        let taken: usize = xattrs.iter().map(|(k, v)| k.len() + v.len()).sum();
        if taken - old.unwrap_or(0) + name.len() + value.len() > XATTRS_MAX {
            return Err(Errno::ENOSPC);
        }
        xattrs.insert(name.to_vec(), value.to_vec());
        drop(xattrs);
        self.meta.lock().ctime = cx.clocks().wall();
        Ok(())
    }

    fn remove_xattr(&self, cx: &dyn Ctx, name: &[u8]) -> Result<(), Errno> {
        self.xattrs.lock().remove(name).ok_or(Errno::ENODATA)?;
        self.meta.lock().ctime = cx.clocks().wall();
        Ok(())
    }

    fn list_xattr(&self, _cx: &dyn Ctx) -> Result<Vec<Vec<u8>>, Errno> {
        Ok(self.xattrs.lock().keys().cloned().collect())
    }

    fn socket(&self) -> Option<Arc<dyn Any + Send + Sync>> {
        match &self.body {
            Body::Socket(endpoint) => Some(endpoint.clone()),
            _ => None,
        }
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
