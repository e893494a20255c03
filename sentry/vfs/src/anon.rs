//! Files without a name in any tree: pipes, sockets, eventfds and the like.
//!
//! Where one must be treated as a place (`stat /proc/self/fd/3`), it gets a dentry of its own on
//! a mount that nobody can reach.

use crate::nsfs::NamespaceFile;
use crate::{
    Attr, Dentry, File, FileOps, FileType, Inode, Mount, MountSpec, OpenFlags, SetAttr, VfsPath,
};
use abi::Errno;
use abi::stat::{Statfs, makedev};
use abi::time::Timespec;
use ctx::{Ctx, SysErr};
use std::any::Any;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

static NEXT_INO: AtomicU64 = AtomicU64::new(1);
static NEXT_MINOR: AtomicU32 = AtomicU32::new(20);

/// A new inode number among files without a name.
pub fn next_ino() -> u64 {
    NEXT_INO.fetch_add(1, Ordering::Relaxed)
}

/// A new device number for a file system without a device (major 0).
pub fn next_dev() -> u64 {
    makedev(0, NEXT_MINOR.fetch_add(1, Ordering::Relaxed))
}

/// Device number of files without a name.
const ANON_DEV: u64 = makedev(0, 15);

/// Attributes of a file without a name: `kind` with `perm`, made now by the caller.
pub fn anonymous_attr(cx: &dyn Ctx, kind: FileType, perm: u32, ino: u64) -> Attr {
    let creds = cx.creds();
    let now = cx.clocks().wall();
    Attr {
        uid: creds.fsuid,
        gid: creds.fsgid,
        ..plain_attr(kind, perm, ino, now)
    }
}

/// As [`anonymous_attr`], of the kernel's own (uid 0), with all times `at`.
pub fn plain_attr(kind: FileType, perm: u32, ino: u64, at: Timespec) -> Attr {
    Attr {
        dev: ANON_DEV,
        ino,
        kind,
        perm,
        nlink: 1,
        uid: 0,
        gid: 0,
        rdev: 0,
        size: 0,
        blksize: 4096,
        blocks: 0,
        atime: at,
        mtime: at,
        ctime: at,
        btime: None,
    }
}

/// The inode of an open file that has none.
struct AnonInode(Arc<File>);

/// A place for an open file, whether it has one or not.
pub(crate) fn place_of(file: &Arc<File>) -> VfsPath {
    if let Some(path) = file.path() {
        return path.clone();
    }
    static MOUNT: OnceLock<Arc<Mount>> = OnceLock::new();
    static NAMESPACES: OnceLock<Arc<Mount>> = OnceLock::new();
    let made = |kind| move || Mount::detached(MountSpec::new(Arc::new(Top), kind));
    let mount = match file.ops_as::<NamespaceFile>() {
        Some(_) => NAMESPACES.get_or_init(made("nsfs")),
        None => MOUNT.get_or_init(made("anon")),
    };
    let inode: Arc<dyn Inode> = Arc::new(AnonInode(file.clone()));
    VfsPath {
        mount: mount.clone(),
        dentry: Dentry::root(inode),
    }
}

/// The open file behind an inode made by [`place_of`].
pub(crate) fn file_of(inode: &Arc<dyn Inode>) -> Option<&Arc<File>> {
    inode.as_any().downcast_ref().map(|a: &AnonInode| &a.0)
}

/// The name of an inode made by [`place_of`].
pub(crate) fn name_of(inode: &Arc<dyn Inode>) -> Option<Vec<u8>> {
    inode
        .as_any()
        .downcast_ref::<AnonInode>()
        .and_then(|a| a.0.ops().anonymous_name())
}

impl Inode for AnonInode {
    fn attr(&self, cx: &dyn Ctx) -> Result<Attr, Errno> {
        self.0.attr(cx)
    }

    fn set_attr(&self, _cx: &dyn Ctx, set: &SetAttr) -> Result<(), Errno> {
        self.0.ops().set_anonymous_attr(set)
    }

    fn kind(&self) -> FileType {
        // Asked without a context, at the making of a dentry.
        match self.0.ops().anonymous_name() {
            Some(n) if n.starts_with(b"pipe:") => FileType::Fifo,
            Some(n) if n.starts_with(b"socket:") => FileType::Socket,
            _ => FileType::Anonymous,
        }
    }

    fn open(
        self: Arc<Self>,
        cx: &dyn Ctx,
        _at: &VfsPath,
        flags: OpenFlags,
    ) -> Result<Arc<dyn FileOps>, SysErr> {
        self.0.ops().reopen(cx, flags)
    }

    fn statfs(&self, _cx: &dyn Ctx) -> Result<Statfs, Errno> {
        let kind = match self.kind() {
            FileType::Fifo => 0x5049_5045,
            FileType::Socket => 0x534f_434b,
            _ => 0x0904_1934,
        };
        Ok(Statfs::simple(kind))
    }

    fn takes_mounts(&self) -> bool {
        self.can_be_bound()
    }

    fn can_be_bound(&self) -> bool {
        self.0.ops_as::<NamespaceFile>().is_some()
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// The root of the mount that nobody can reach.
struct Top;

impl Inode for Top {
    fn attr(&self, cx: &dyn Ctx) -> Result<Attr, Errno> {
        Ok(plain_attr(FileType::Directory, 0, 1, cx.clocks().wall()))
    }
    fn kind(&self) -> FileType {
        FileType::Directory
    }
    fn open(
        self: Arc<Self>,
        _cx: &dyn Ctx,
        _at: &VfsPath,
        _flags: OpenFlags,
    ) -> Result<Arc<dyn FileOps>, SysErr> {
        Err(Errno::ENXIO.into())
    }
    fn statfs(&self, _cx: &dyn Ctx) -> Result<Statfs, Errno> {
        Err(Errno::ENOSYS)
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
}
