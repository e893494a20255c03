//! The virtual file system: names, mounts, open files, descriptors.
//!
//! From the bottom: an [`Inode`] is what a file system implements, [`FileOps`] what an open file
//! can do. A [`Dentry`] is a name that leads to an inode, a [`Mount`] a tree of them,
//! [`VfsPath`] a place in the mounted tree; [`walk`] gets from a path to a place. The modules
//! `open`, `create`, `remove`, `rename`, `attributes`, `status` and `xattr` hold the operations
//! of system calls, with all checks, in the order of Linux. [`File`] is an open file
//! description, [`FdTable`] a table of descriptors.
//!
//! Neighbours: file systems stand above (`fs/*`), `task` implements [`FsCtx`], `mm` maps what
//! [`FileOps::mappable`] gives.
#![forbid(unsafe_code)]

pub mod ctx;
pub mod fileops;
pub mod flags;
pub mod inode;

pub mod anon;
mod cache;
mod dentry;
mod device;
mod mount;
mod mount_locks;
mod mounting;
mod namespace;
mod path;
mod propagation;
mod rootfs;
mod superblock;
mod tree;

mod dirents;
pub mod dnotify;
mod epoll;
mod fdtable;
mod file;
mod file_io;
mod filecaps;
mod leases;
mod locks;
pub mod notify;
pub mod nsfs;
mod pipe;
mod poll;
pub mod sigio;
pub mod splice;

pub mod access;
pub mod walk;

pub mod attributes;
pub mod create;
pub mod open;
pub mod place;
pub mod remove;
pub mod rename;
pub mod status;
pub mod xattr;

mod kernel;

pub use crate::ctx::FsCtx;
pub use access::access;
pub use attributes::{SetTime, chmod, chown, ftruncate, truncate, utimens};
pub use cache::cached_dentries;
pub use create::{bind_socket, link, mkdir, mknod, symlink};
pub use dentry::Dentry;
pub use device::{Device, DeviceRegistry};
pub use dirents::DirentFormat;
pub use epoll::{Epoll, EpollEvent, EpollOp};
pub use fdtable::FdTable;
pub use file::File;
pub use file_io::Whence;
pub use fileops::{CURRENT, DirSink, FileOps, Position, Written, list_entries, would_block};
pub use flags::{LookupFlags, MountFlags, OpenFlags};
pub use inode::{Attr, Caching, FileType, Inode, Link, NewFile, NewKind, SetAttr};
pub use kernel::KernelFsCtx;
pub use leases::{LeaseKind, lease, set_lease};
pub use locks::{
    LockLine, LockOwner, RangeLock, all_locks, conflicting_lock, flock, lock_range, locks_of,
    own_lock, unlock_range,
};
pub use mount::{Mount, MountSpec};
pub use mounting::AttributeChange;
pub use namespace::MountNamespace;
pub use open::{DenyWrite, open, open_at, open_exec};
pub use path::VfsPath;
pub use pipe::{Fifo, PIPE_BUF, Pipe};
pub use place::{chdir, check_chdir, chroot};
pub use poll::{PollItem, Polled, poll_wait};
pub use propagation::Propagation;
pub use remove::{rmdir, unlink};
pub use rename::rename;
pub use status::{fstat, fstatfs, readlink, stat, statfs, statx, to_stat, to_statx};
pub use superblock::{FileSystem, FixedOptions, SuperBlock, SuperFlags};
pub use walk::{Last, Parent, Start};
pub use xattr::{get_xattr, list_xattr, remove_xattr, set_xattr};
