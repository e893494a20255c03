//! One file: what it is made of.

use crate::Tmpfs;
use crate::data::Data;
use crate::directory::Directory;
use abi::Errno;
use abi::time::Timespec;
use ctx::Ctx;
use memmap::Mappings;
use std::any::Any;
use std::collections::BTreeMap;
use std::sync::atomic::AtomicU32;
use std::sync::{Arc, Weak};
use sync::{Mutex, RwLock, ranks};
use vfs::{Fifo, FileType, Inode, NewFile, NewKind, VfsPath};

/// What an entry adds to a directory's size.
const ENTRY_SIZE: u64 = 20;

/// A file of a tmpfs.
pub(crate) struct Node {
    pub(crate) fs: Arc<Tmpfs>,
    pub(crate) me: Weak<Node>,
    pub(crate) ino: u64,
    pub(crate) kind: FileType,
    pub(crate) meta: Mutex<Meta, ranks::Leaf>,
    pub(crate) xattrs: Mutex<BTreeMap<Vec<u8>, Vec<u8>>, ranks::Leaf>,
    pub(crate) body: Body,
}

/// What every file has.
pub(crate) struct Meta {
    pub(crate) perm: u32,
    pub(crate) nlink: u64,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) atime: Timespec,
    pub(crate) mtime: Timespec,
    pub(crate) ctime: Timespec,
    pub(crate) btime: Timespec,
}

/// What depends on the type.
pub(crate) enum Body {
    Regular(Regular),
    Directory(RwLock<Directory, ranks::Inode>),
    Symlink(Vec<u8>),
    Fifo(Fifo),
    Device(u64),
    Socket(Arc<dyn Any + Send + Sync>),
}

/// A regular file.
pub(crate) struct Regular {
    pub(crate) data: RwLock<Data, ranks::Inode>,
    pub(crate) mappings: Mappings,
    /// `F_SEAL_*`
    pub(crate) seals: AtomicU32,
    /// The place it was last mapped from, while it is mapped: for /proc/PID/maps.
    pub(crate) mapped_at: Mutex<Option<VfsPath>, ranks::Leaf>,
}

impl Node {
    /// A node whose inode is charged already.
    pub(crate) fn build(fs: &Arc<Tmpfs>, kind: NewKind, new: &NewFile, now: Timespec) -> Arc<Node> {
        let (kind, body) = match kind {
            NewKind::Regular => (FileType::Regular, Body::Regular(Regular::new())),
            NewKind::Directory => (FileType::Directory, Body::Directory(RwLock::default())),
            NewKind::Symlink(target) => (FileType::Symlink, Body::Symlink(target)),
            NewKind::Fifo => (FileType::Fifo, Body::Fifo(Fifo::new())),
            NewKind::Device(kind, rdev) => (kind, Body::Device(rdev)),
            NewKind::Socket(endpoint) => (FileType::Socket, Body::Socket(endpoint)),
        };
        let meta = Meta {
            perm: new.perm,
            nlink: if kind == FileType::Directory { 2 } else { 1 },
            uid: new.uid,
            gid: new.gid,
            atime: now,
            mtime: now,
            ctime: now,
            btime: now,
        };
        Arc::new_cyclic(|me| Node {
            fs: fs.clone(),
            me: me.clone(),
            ino: fs.next_ino(),
            kind,
            meta: Mutex::new(meta),
            xattrs: Mutex::default(),
            body,
        })
    }

    /// A new node for a guest; `ENOSPC` where there are too many.
    pub(crate) fn make(
        fs: &Arc<Tmpfs>,
        cx: &dyn Ctx,
        kind: NewKind,
        new: &NewFile,
    ) -> Result<Arc<Node>, Errno> {
        fs.charge_inode()?;
        Ok(Node::build(fs, kind, new, cx.clocks().wall()))
    }

    pub(crate) fn directory(&self) -> Result<&RwLock<Directory, ranks::Inode>, Errno> {
        match &self.body {
            Body::Directory(d) => Ok(d),
            _ => Err(Errno::ENOTDIR),
        }
    }

    pub(crate) fn regular(&self) -> Result<&Regular, Errno> {
        match &self.body {
            Body::Regular(r) => Ok(r),
            Body::Directory(_) => Err(Errno::EISDIR),
            _ => Err(Errno::EINVAL),
        }
    }

    /// `inode` as a node of the same file system; `EXDEV` where it is none.
    pub(crate) fn sibling(&self, inode: &Arc<dyn Inode>) -> Result<Arc<Node>, Errno> {
        let node = inode
            .as_any()
            .downcast_ref::<Node>()
            .and_then(|n| n.me.upgrade());
        node.filter(|n| Arc::ptr_eq(&n.fs, &self.fs))
            .ok_or(Errno::EXDEV)
    }

    /// The content has changed.
    pub(crate) fn modified(&self, now: Timespec) {
        let mut meta = self.meta.lock();
        meta.mtime = now;
        meta.ctime = now;
    }

    pub(crate) fn links(&self, now: Timespec, change: i64) {
        let mut meta = self.meta.lock();
        meta.nlink = meta.nlink.saturating_add_signed(change);
        meta.ctime = now;
    }

    pub(crate) fn size_and_blocks(&self) -> (u64, u64) {
        match &self.body {
            Body::Regular(r) => {
                let data = r.data.read();
                (data.size, data.charged() / 512)
            }
            Body::Directory(d) => (d.read().len() as u64 * ENTRY_SIZE + 2 * ENTRY_SIZE, 0),
            Body::Symlink(target) => (target.len() as u64, 0),
            _ => (0, 0),
        }
    }

    /// A name of it was removed.
    pub(crate) fn unlinked(&self, now: Timespec) {
        // A directory loses its own `.` with its name.
        self.links(
            now,
            if self.kind == FileType::Directory {
                -2
            } else {
                -1
            },
        );
    }

    pub(crate) fn is_dir(&self) -> bool {
        self.kind == FileType::Directory
    }

    pub(crate) fn remove(&self, cx: &dyn Ctx, name: &[u8]) -> Result<(), Errno> {
        let node = self
            .directory()?
            .write()
            .remove(name)
            .ok_or(Errno::ENOENT)?;
        let now = cx.clocks().wall();
        node.unlinked(now);
        self.modified(now);
        if node.is_dir() {
            self.links(now, -1);
        }
        Ok(())
    }

    pub(crate) fn exchange(
        &self,
        now: Timespec,
        name: &[u8],
        to: &Node,
        new_name: &[u8],
    ) -> Result<(), Errno> {
        let a = self
            .directory()?
            .read()
            .get(name)
            .cloned()
            .ok_or(Errno::ENOENT)?;
        let b = to
            .directory()?
            .read()
            .get(new_name)
            .cloned()
            .ok_or(Errno::ENOENT)?;
        to.directory()?.write().insert(new_name, a.clone());
        self.directory()?.write().insert(name, b.clone());
        let moved = i64::from(b.is_dir()) - i64::from(a.is_dir());
        if moved != 0 && !std::ptr::eq(self, to) {
            self.links(now, moved);
            to.links(now, -moved);
        }
        a.links(now, 0);
        b.links(now, 0);
        Ok(())
    }
}

impl Regular {
    fn new() -> Regular {
        Regular {
            data: RwLock::default(),
            mappings: Mappings::new(),
            // Files with a name cannot be sealed.
            seals: AtomicU32::new(crate::memfd::SEAL_SEAL),
            mapped_at: Mutex::default(),
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.fs.uncharge_inode();
        match &mut self.body {
            Body::Regular(r) => self.fs.uncharge(r.data.get_mut().charged()),
            Body::Directory(d) => drop_tree(std::mem::take(d.get_mut())),
            _ => {}
        }
    }
}

/// Drops what is left in a directory (its file system was unmounted), not by recursion: a guest
/// can build trees deeper than our stack.
fn drop_tree(directory: Directory) {
    let mut left = directory.into_nodes();
    while let Some(node) = left.pop() {
        if let Some(mut node) = Arc::into_inner(node)
            && let Body::Directory(d) = &mut node.body
        {
            left.extend(std::mem::take(d.get_mut()).into_nodes());
        }
    }
}
