//! What a file system implements: inodes.
//!
//! The dentry layer above ([`crate::dentry`]) has done permission checks, name checks and the
//! locking of directories (a directory's operations come one at a time; rename holds both) before
//! it calls; an inode does the work and nothing else.

use crate::{FileOps, OpenFlags, VfsPath};
use abi::Errno;
use abi::stat::Statfs;
use abi::time::Timespec;
use ctx::{Ctx, SysErr};
use std::any::Any;
use std::sync::Arc;

/// The type of a file (`S_IFMT`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
#[expect(missing_docs, reason = "inode(7) says what each is")]
pub enum FileType {
    /// What lies behind a descriptor and in no tree: an eventfd, an epoll (`S_IFMT` bits of 0).
    Anonymous = 0,
    Fifo = 0o010000,
    CharDevice = 0o020000,
    Directory = 0o040000,
    BlockDevice = 0o060000,
    Regular = 0o100000,
    Symlink = 0o120000,
    Socket = 0o140000,
}

impl FileType {
    /// From a mode's `S_IFMT` bits.
    pub fn from_mode(mode: u32) -> Option<FileType> {
        Some(match mode & 0o170000 {
            0o010000 => FileType::Fifo,
            0o020000 => FileType::CharDevice,
            0o040000 => FileType::Directory,
            0o060000 => FileType::BlockDevice,
            0o100000 => FileType::Regular,
            0o120000 => FileType::Symlink,
            0o140000 => FileType::Socket,
            _ => return None,
        })
    }

    /// The `d_type` of getdents64(2).
    pub fn dirent_type(self) -> u8 {
        (self as u32 >> 12) as u8
    }
}

/// Attributes of an inode (inode(7)).
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "inode(7) says what each is")]
pub struct Attr {
    pub dev: u64,
    pub ino: u64,
    pub kind: FileType,
    /// Permission bits with set-id and sticky bits: `0o7777`.
    pub perm: u32,
    pub nlink: u64,
    pub uid: u32,
    pub gid: u32,
    pub rdev: u64,
    pub size: u64,
    pub blksize: u32,
    /// In units of 512 bytes.
    pub blocks: u64,
    pub atime: Timespec,
    pub mtime: Timespec,
    pub ctime: Timespec,
    /// Birth, where the file system knows it.
    pub btime: Option<Timespec>,
}

impl Attr {
    /// Type and permission bits as `st_mode` has them.
    pub fn mode(&self) -> u32 {
        self.kind as u32 | self.perm
    }
}

/// A change of attributes; `None` leaves one as it is. The caller has checked permissions and
/// stripped set-id bits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SetAttr {
    /// Permission bits (`0o7777`).
    pub perm: Option<u32>,
    /// Owner.
    pub uid: Option<u32>,
    /// Group.
    pub gid: Option<u32>,
    /// Length: truncates or extends.
    pub size: Option<u64>,
    /// Last access.
    pub atime: Option<Timespec>,
    /// Last modification.
    pub mtime: Option<Timespec>,
    /// Last change of status; set to now by the caller with every change.
    pub ctime: Option<Timespec>,
}

impl Attr {
    /// Changes what `set` names, but for the length.
    pub fn change(&mut self, set: &SetAttr) {
        self.perm = set.perm.unwrap_or(self.perm);
        self.uid = set.uid.unwrap_or(self.uid);
        self.gid = set.gid.unwrap_or(self.gid);
        self.atime = set.atime.unwrap_or(self.atime);
        self.mtime = set.mtime.unwrap_or(self.mtime);
        self.ctime = set.ctime.unwrap_or(self.ctime);
    }
}

/// What a new file starts with. Uid and gid are final (set-gid directories considered), `perm`
/// has the umask applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewFile {
    /// Permission bits.
    pub perm: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

/// What mknod(2), mkdir(2), open(O_CREAT) and symlink(2) make.
#[derive(Clone)]
pub enum NewKind {
    /// A regular file.
    Regular,
    /// A directory.
    Directory,
    /// A symbolic link to this target.
    Symlink(Vec<u8>),
    /// A FIFO.
    Fifo,
    /// A device node with this number.
    Device(FileType, u64),
    /// The name of a bound Unix socket, with the endpoint behind it.
    Socket(Arc<dyn Any + Send + Sync>),
}

/// What a symbolic link leads to.
pub enum Link {
    /// A path to walk.
    Path(Vec<u8>),
    /// A place, whatever its name (`/proc/PID/fd/N`, `/proc/PID/cwd`).
    Place(VfsPath),
    /// An open file without a place, to be opened as it is (`/proc/PID/fd/N` of a pipe).
    File(Arc<crate::File>),
}

/// Whether the dentry layer may keep what a file system told it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Caching {
    /// Names change only through us: dentries, negative ones too, are kept.
    Exclusive,
    /// Names may change under us: each walk calls [`Inode::revalidate`].
    Revalidate,
    /// Names are made up at each look-up (procfs): never kept.
    Never,
}

/// One file of a file system.
///
/// Methods that make no sense for a file's type keep their default, which is Linux's errno.
/// Names are single components, never `.` or `..`, never empty, at most 255 bytes.
pub trait Inode: Send + Sync + Any {
    /// Its attributes now.
    fn attr(&self, cx: &dyn Ctx) -> Result<Attr, Errno>;

    /// Its type; never changes.
    fn kind(&self) -> FileType;

    /// Changes attributes.
    fn set_attr(&self, _cx: &dyn Ctx, _set: &SetAttr) -> Result<(), Errno> {
        Err(Errno::EPERM)
    }

    /// Finds `name` in this directory; `ENOENT` where there is none.
    fn lookup(&self, _cx: &dyn Ctx, _name: &[u8]) -> Result<Arc<dyn Inode>, Errno> {
        Err(Errno::ENOTDIR)
    }

    /// Makes `name` in this directory; `EEXIST` where it is there.
    fn create(
        &self,
        _cx: &dyn Ctx,
        _name: &[u8],
        _kind: NewKind,
        _new: &NewFile,
    ) -> Result<Arc<dyn Inode>, Errno> {
        Err(Errno::EPERM)
    }

    /// Makes a regular file without a name (`O_TMPFILE`).
    fn create_unnamed(&self, _cx: &dyn Ctx, _new: &NewFile) -> Result<Arc<dyn Inode>, Errno> {
        Err(Errno::EOPNOTSUPP)
    }

    /// Gives `target`, of this file system, another name in this directory.
    fn link(&self, _cx: &dyn Ctx, _name: &[u8], _target: &Arc<dyn Inode>) -> Result<(), Errno> {
        Err(Errno::EPERM)
    }

    /// Removes the name of something that is not a directory.
    fn unlink(&self, _cx: &dyn Ctx, _name: &[u8]) -> Result<(), Errno> {
        Err(Errno::EPERM)
    }

    /// Removes an empty directory; `ENOTEMPTY` otherwise.
    fn rmdir(&self, _cx: &dyn Ctx, _name: &[u8]) -> Result<(), Errno> {
        Err(Errno::EPERM)
    }

    /// Moves `name` of this directory to `new_name` of `new_dir`, of this file system. `flags`
    /// are renameat2(2)'s `RENAME_*`. The caller has refused loops.
    fn rename(
        &self,
        _cx: &dyn Ctx,
        _name: &[u8],
        _new_dir: &Arc<dyn Inode>,
        _new_name: &[u8],
        _flags: u32,
    ) -> Result<(), Errno> {
        Err(Errno::EPERM)
    }

    /// Where this symbolic link leads.
    fn readlink(&self, _cx: &dyn Ctx) -> Result<Link, Errno> {
        Err(Errno::EINVAL)
    }

    /// What readlink(2) prints, where that differs from walking (magic links).
    fn readlink_text(&self, cx: &dyn Ctx) -> Result<Vec<u8>, Errno> {
        match self.readlink(cx)? {
            Link::Path(p) => Ok(p),
            Link::Place(_) | Link::File(_) => Err(Errno::EINVAL),
        }
    }

    /// Opens it. `at` is its place in the tree. `O_CREAT`, `O_EXCL`, `O_TRUNC` and permission
    /// checks are done already. Can block (FIFOs, terminals).
    fn open(
        self: Arc<Self>,
        cx: &dyn Ctx,
        at: &VfsPath,
        flags: OpenFlags,
    ) -> Result<Arc<dyn FileOps>, SysErr>;

    /// The file system's statistics.
    fn statfs(&self, cx: &dyn Ctx) -> Result<Statfs, Errno>;

    /// Reads an extended attribute.
    fn get_xattr(&self, _cx: &dyn Ctx, _name: &[u8]) -> Result<Vec<u8>, Errno> {
        Err(Errno::EOPNOTSUPP)
    }

    /// Sets an extended attribute; `flags` are `XATTR_CREATE` and `XATTR_REPLACE`.
    fn set_xattr(
        &self,
        _cx: &dyn Ctx,
        _name: &[u8],
        _value: &[u8],
        _flags: i32,
    ) -> Result<(), Errno> {
        Err(Errno::EOPNOTSUPP)
    }

    /// Removes an extended attribute.
    fn remove_xattr(&self, _cx: &dyn Ctx, _name: &[u8]) -> Result<(), Errno> {
        Err(Errno::EOPNOTSUPP)
    }

    /// The names of the extended attributes.
    fn list_xattr(&self, _cx: &dyn Ctx) -> Result<Vec<Vec<u8>>, Errno> {
        Err(Errno::EOPNOTSUPP)
    }

    /// Checks access beyond the mode bits (read-only file systems, procfs rules). `mask` is made
    /// of `R_OK`, `W_OK`, `X_OK`. The dentry layer checks mode bits itself.
    fn permission(&self, _cx: &dyn Ctx, _mask: u32) -> Result<(), Errno> {
        Ok(())
    }

    /// Whether `cx` may do what the mode bits alone would refuse (procfs).
    fn grants(&self, _cx: &dyn Ctx) -> bool {
        false
    }

    /// Whether looking for a name that is not here fails with `ENOENT` even where it is to be
    /// made, so that nobody asks whether it can be (/proc).
    fn refuses_new_names(&self) -> bool {
        false
    }

    /// How names below this directory may be cached.
    fn caching(&self) -> Caching {
        Caching::Exclusive
    }

    /// Whether `name` still leads to `child` ([`Caching::Revalidate`] alone).
    fn revalidate(
        &self,
        _cx: &dyn Ctx,
        _name: &[u8],
        _child: &Arc<dyn Inode>,
    ) -> Result<bool, Errno> {
        Ok(true)
    }

    /// Whether something can be mounted on it: not on what is made up at each look-up.
    fn takes_mounts(&self) -> bool {
        true
    }

    /// Whether it can be bound to a place though it is in no tree (a namespace's file).
    fn can_be_bound(&self) -> bool {
        false
    }

    /// The endpoint of a bound socket, where this is one's name.
    fn socket(&self) -> Option<Arc<dyn Any + Send + Sync>> {
        None
    }

    /// For code that knows the concrete type (the same file system, magic links).
    fn as_any(&self) -> &dyn Any;
}
