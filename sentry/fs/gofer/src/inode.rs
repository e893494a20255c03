//! The inode's side of a node.

use crate::client::{Answer, nonsense};
use crate::convert;
use crate::file::OpenFile;
use crate::listing::OpenDirectory;
use crate::node::Node;
use abi::Errno;
use abi::page::{Range, page_up};
use abi::stat::Statfs;
use control::fs::{self as wire, Access, Reply, Request, Special};
use ctx::{Ctx, SysErr};
use nix::unistd::ftruncate;
use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use vfs::{
    Attr, Caching, FileOps, FileType, Inode, Link, NewFile, NewKind, OpenFlags, SetAttr, VfsPath,
};

/// Permission bits with set-id ones among them, as they were before a write.
pub(crate) struct KeptBits {
    perm: u32,
    changes: u64,
}

impl Node {
    fn ask(&self, request: Request) -> Result<Answer, Errno> {
        self.fs.client.ask(request)
    }

    fn writable(&self) -> Result<(), Errno> {
        if self.fs.options.readonly {
            Err(Errno::EROFS)
        } else {
            Ok(())
        }
    }

    /// `inode` as a node of the same tree; `EXDEV` where it is none.
    fn sibling(&self, inode: &Arc<dyn Inode>) -> Result<Arc<Node>, Errno> {
        let node = inode
            .as_any()
            .downcast_ref::<Node>()
            .and_then(|n| n.me.upgrade());
        node.filter(|n| Arc::ptr_eq(&n.fs, &self.fs))
            .ok_or(Errno::EXDEV)
    }

    /// Asks for something new in this directory.
    fn make(&self, name: Option<&[u8]>, request: Request) -> Result<Arc<Node>, Errno> {
        self.writable()?;
        let answer = self.ask(request)?;
        let Reply::Entry { entry, dir, opened } = answer.reply else {
            return nonsense();
        };
        let child = self.fs.intern(&entry, answer.at);
        if let (Some(opened), Some(fd)) = (opened, answer.fd) {
            child.keep(Access::ReadWrite, opened, fd);
        }
        if let Some(dir) = dir {
            self.learn(&dir, answer.at);
        }
        if let Some(name) = name {
            self.name_added(name, &child);
        }
        Ok(child)
    }

    fn remove(&self, name: &[u8], directory: bool) -> Result<(), Errno> {
        self.writable()?;
        let child = self.child(name);
        let answer = self.ask(Request::Unlink {
            dir: self.id,
            name: name.to_vec(),
            node: child.as_ref().map(|c| c.id),
            directory,
        })?;
        let Reply::Changed { dir, .. } = answer.reply else {
            return nonsense();
        };
        self.learn(&dir, answer.at);
        self.name_removed(name);
        if let Some(child) = child {
            self.fs.unbind(&child);
            child.outdated();
        }
        Ok(())
    }

    /// Sets the length through a descriptor, which an open is likely to need next.
    pub(crate) fn resize(&self, size: u64) -> Result<(), Errno> {
        if self.kind != FileType::Regular {
            return Err(if self.is_dir() {
                Errno::EISDIR
            } else {
                Errno::EINVAL
            });
        }
        let old = self.length()?;
        let handle = self.handle(Access::ReadWrite)?;
        let len = i64::try_from(size).map_err(|_| Errno::EFBIG)?;
        ftruncate(&*handle.fd, len).map_err(|e| Errno::from_host(e as i32))?;
        self.touched();
        if size < old {
            let from = page_up(size).unwrap_or(u64::MAX);
            self.mappings.invalidate(Range::new(from, u64::MAX), true);
        }
        Ok(())
    }

    /// The set-id bits that a write by the caller leaves alone; to be asked before it.
    pub(crate) fn set_id(&self, cx: &dyn Ctx) -> Option<KeptBits> {
        let perm = self.known_perm();
        let keeps = perm & 0o6000 != 0 && cx.creds().has(auth::Capability::Fsetid);
        keeps.then(|| KeptBits {
            perm,
            changes: self.changes.load(Ordering::Acquire),
        })
    }

    /// After a write: the host, to which nobody wrote, has taken the set-id bits away. They are
    /// given back unless somebody has changed mode or owner meanwhile; and where that cannot be,
    /// they are lost, which is safe.
    pub(crate) fn keep_set_id(&self, kept: Option<KeptBits>) {
        let Some(KeptBits { perm, changes }) = kept else {
            return;
        };
        let _alone = self.append.lock();
        if self.changes.load(Ordering::Acquire) != changes {
            return;
        }
        let set = wire::SetAttr {
            perm: Some(perm),
            ..wire::SetAttr::default()
        };
        match self.change(set) {
            Ok(()) => {}
            Err(e) => tracing::warn!("set-id bits are lost by a write: {e}"),
        }
    }

    fn change(&self, set: wire::SetAttr) -> Result<(), Errno> {
        let answer = self.ask(Request::SetAttr { node: self.id, set })?;
        let Reply::Attr(attr) = answer.reply else {
            return nonsense();
        };
        self.learn(&attr, answer.at);
        Ok(())
    }

    fn done(&self, request: Request) -> Result<(), Errno> {
        match self.ask(request)?.reply {
            Reply::Done => Ok(()),
            _ => nonsense(),
        }
    }
}

impl Inode for Node {
    fn attr(&self, _cx: &dyn Ctx) -> Result<Attr, Errno> {
        self.attributes()
    }

    fn kind(&self) -> FileType {
        self.kind
    }

    fn set_attr(&self, cx: &dyn Ctx, set: &SetAttr) -> Result<(), Errno> {
        self.writable()?;
        let mut wanted = wire::SetAttr {
            perm: set.perm,
            uid: set.uid,
            gid: set.gid,
            size: None,
            atime: set.atime.map(convert::time),
            mtime: set.mtime.map(convert::time),
        };
        if let Some(size) = set.size {
            let kept = self.set_id(cx);
            self.resize(size)?;
            self.keep_set_id(kept.filter(|_| set.perm.is_none()));
            // The host has set the times.
            wanted.mtime = None;
        }
        if wanted == wire::SetAttr::default() {
            return Ok(());
        }
        let _alone = (wanted.perm, wanted.uid, wanted.gid)
            .ne(&(None, None, None))
            .then(|| {
                let alone = self.append.lock();
                self.changes.fetch_add(1, Ordering::AcqRel);
                alone
            });
        self.change(wanted)
    }

    fn lookup(&self, _cx: &dyn Ctx, name: &[u8]) -> Result<Arc<dyn Inode>, Errno> {
        if !self.is_dir() {
            return Err(Errno::ENOTDIR);
        }
        Ok(self.find(name)?)
    }

    fn create(
        &self,
        _cx: &dyn Ctx,
        name: &[u8],
        kind: NewKind,
        new: &NewFile,
    ) -> Result<Arc<dyn Inode>, Errno> {
        let (dir, owner) = (self.id, convert::owner(new));
        let own_name = name.to_vec();
        let request = match kind {
            NewKind::Regular => Request::Create {
                dir,
                name: own_name,
                owner,
            },
            NewKind::Directory => Request::Mkdir {
                dir,
                name: own_name,
                owner,
            },
            NewKind::Symlink(target) => Request::Symlink {
                dir,
                name: own_name,
                target,
                owner,
            },
            NewKind::Fifo => Request::Mknod {
                dir,
                name: own_name,
                special: Special::Fifo,
                owner,
            },
            NewKind::Device(..) => return Err(Errno::EPERM),
            NewKind::Socket(endpoint) => {
                let special = Special::Socket;
                let request = Request::Mknod {
                    dir,
                    name: own_name,
                    special,
                    owner,
                };
                let child = self.make(Some(name), request)?;
                // A fresh inode has no endpoint yet.
                let _first = child.endpoint.set(endpoint);
                self.fs.bind(&child);
                return Ok(child);
            }
        };
        Ok(self.make(Some(name), request)?)
    }

    fn create_unnamed(&self, _cx: &dyn Ctx, new: &NewFile) -> Result<Arc<dyn Inode>, Errno> {
        let request = Request::Tmpfile {
            dir: self.id,
            owner: convert::owner(new),
        };
        Ok(self.make(None, request)?)
    }

    fn link(&self, _cx: &dyn Ctx, name: &[u8], target: &Arc<dyn Inode>) -> Result<(), Errno> {
        let target = self.sibling(target)?;
        let request = Request::Link {
            dir: self.id,
            name: name.to_vec(),
            node: target.id,
        };
        self.make(Some(name), request).map(drop)
    }

    fn unlink(&self, _cx: &dyn Ctx, name: &[u8]) -> Result<(), Errno> {
        self.remove(name, false)
    }

    fn rmdir(&self, _cx: &dyn Ctx, name: &[u8]) -> Result<(), Errno> {
        self.remove(name, true)
    }

    fn rename(
        &self,
        _cx: &dyn Ctx,
        name: &[u8],
        new_dir: &Arc<dyn Inode>,
        new_name: &[u8],
        flags: u32,
    ) -> Result<(), Errno> {
        self.writable()?;
        let to = self.sibling(new_dir)?;
        let moved = self.find(name)?;
        let exchange = flags & vfs::rename::EXCHANGE != 0;
        let replaced = if exchange {
            Some(to.find(new_name)?)
        } else {
            to.child(new_name)
        };
        let answer = self.ask(Request::Rename {
            dir: self.id,
            name: name.to_vec(),
            moved: Some(moved.id),
            new_dir: to.id,
            new_name: new_name.to_vec(),
            replaced: replaced.as_ref().map(|r| r.id),
            flags,
        })?;
        let Reply::Changed { dir, new_dir } = answer.reply else {
            return nonsense();
        };
        self.learn(&dir, answer.at);
        if let Some(attr) = new_dir {
            to.learn(&attr, answer.at);
        }
        moved.outdated();
        if let Some(replaced) = &replaced {
            replaced.outdated();
            if Arc::ptr_eq(replaced, &moved) {
                // Two names of one file: both stay.
                return Ok(());
            }
        }
        match &replaced {
            Some(other) if exchange => self.name_added(name, other),
            Some(other) => {
                self.fs.unbind(other);
                self.name_removed(name);
            }
            None => drop(self.name_removed(name)),
        }
        to.name_added(new_name, &moved);
        Ok(())
    }

    fn readlink(&self, _cx: &dyn Ctx) -> Result<Link, Errno> {
        if self.kind != FileType::Symlink {
            return Err(Errno::EINVAL);
        }
        if let Some(target) = self.target.get() {
            return Ok(Link::Path(target.clone()));
        }
        let Reply::Bytes(target) = self.ask(Request::ReadLink { node: self.id })?.reply else {
            return nonsense();
        };
        Ok(Link::Path(self.target.get_or_init(|| target).clone()))
    }

    fn open(
        self: Arc<Self>,
        cx: &dyn Ctx,
        at: &VfsPath,
        flags: OpenFlags,
    ) -> Result<Arc<dyn FileOps>, SysErr> {
        match self.kind {
            FileType::Regular => Ok(Arc::new(OpenFile::new(self, flags)?)),
            FileType::Directory => Ok(Arc::new(OpenDirectory::new(self))),
            FileType::Fifo => self.fifo.as_ref().ok_or(Errno::ENXIO)?.open(cx, flags),
            FileType::CharDevice | FileType::BlockDevice => {
                let rdev = self.attributes()?.rdev;
                self.fs.options.devices.open(cx, self.kind, rdev, at, flags)
            }
            FileType::Socket | FileType::Anonymous => Err(Errno::ENXIO.into()),
            FileType::Symlink => Err(Errno::ELOOP.into()),
        }
    }

    fn statfs(&self, _cx: &dyn Ctx) -> Result<Statfs, Errno> {
        let Reply::Statfs(s) = self.ask(Request::StatFs { node: self.id })?.reply else {
            return nonsense();
        };
        Ok(Statfs {
            kind: s.kind,
            bsize: s.bsize,
            blocks: s.blocks,
            bfree: s.bfree,
            bavail: s.bavail,
            files: s.files,
            ffree: s.ffree,
            namelen: s.namelen,
            frsize: s.frsize,
            ..Statfs::default()
        })
    }

    fn get_xattr(&self, _cx: &dyn Ctx, name: &[u8]) -> Result<Vec<u8>, Errno> {
        const CAPABILITY: &[u8] = b"security.capability";
        // The gofer knows no others.
        if name.starts_with(b"trusted.") || (name.starts_with(b"security.") && name != CAPABILITY) {
            return Err(Errno::ENODATA);
        }
        if !name.starts_with(b"user.") && name != CAPABILITY {
            return Err(Errno::EOPNOTSUPP);
        }
        if name == CAPABILITY && self.no_capability.load(Ordering::Relaxed) {
            return Err(Errno::ENODATA);
        }
        let request = Request::GetXattr {
            node: self.id,
            name: name.to_vec(),
        };
        match self.ask(request).map(|answer| answer.reply) {
            Ok(Reply::Bytes(value)) => Ok(value),
            Ok(_) => nonsense(),
            Err(e) => {
                if name == CAPABILITY && self.fs.options.exclusive {
                    self.no_capability.store(true, Ordering::Relaxed);
                }
                Err(e)
            }
        }
    }

    fn set_xattr(&self, _cx: &dyn Ctx, name: &[u8], value: &[u8], flags: i32) -> Result<(), Errno> {
        self.writable()?;
        let (name, value) = (name.to_vec(), value.to_vec());
        self.done(Request::SetXattr {
            node: self.id,
            name,
            value,
            flags,
        })?;
        self.outdated();
        Ok(())
    }

    fn remove_xattr(&self, _cx: &dyn Ctx, name: &[u8]) -> Result<(), Errno> {
        self.writable()?;
        self.done(Request::RemoveXattr {
            node: self.id,
            name: name.to_vec(),
        })?;
        self.outdated();
        Ok(())
    }

    fn list_xattr(&self, _cx: &dyn Ctx) -> Result<Vec<Vec<u8>>, Errno> {
        match self.ask(Request::ListXattr { node: self.id })?.reply {
            Reply::Names(names) => Ok(names),
            _ => nonsense(),
        }
    }

    fn permission(&self, _cx: &dyn Ctx, mask: u32) -> Result<(), Errno> {
        const WRITE: u32 = 2;
        let data = matches!(
            self.kind,
            FileType::Regular | FileType::Directory | FileType::Symlink
        );
        if data && mask & WRITE != 0 {
            self.writable()
        } else {
            Ok(())
        }
    }

    fn caching(&self) -> Caching {
        if self.fs.options.exclusive {
            Caching::Exclusive
        } else {
            Caching::Revalidate
        }
    }

    fn revalidate(
        &self,
        _cx: &dyn Ctx,
        name: &[u8],
        child: &Arc<dyn Inode>,
    ) -> Result<bool, Errno> {
        let child = self.sibling(child)?;
        match self.find(name) {
            Ok(now) => Ok(Arc::ptr_eq(&now, &child)),
            Err(Errno::ENOENT | Errno::ESTALE) => Ok(false),
            Err(e) => Err(e),
        }
    }

    fn socket(&self) -> Option<Arc<dyn Any + Send + Sync>> {
        self.endpoint.get().cloned()
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
