//! stat(2), statx(2), statfs(2), readlink(2).

use crate::{
    Attr, File, FileType, FsCtx, LookupFlags, MountFlags, Start, SuperFlags, VfsPath, walk,
};
use abi::stat::{Stat, Statfs, Statx, StatxTimestamp};
use abi::time::Timespec;
use abi::{Errno, libc};
use auth::UserNamespace;
use ctx::{Ctx, SysErr};
use std::sync::Arc;

/// As `struct stat`, for a program in `ns`.
pub fn to_stat(a: &Attr, ns: &UserNamespace) -> Stat {
    Stat {
        dev: a.dev,
        ino: a.ino,
        nlink: a.nlink,
        mode: a.mode(),
        uid: ns.shown_uid(a.uid),
        gid: ns.shown_gid(a.gid),
        rdev: a.rdev,
        size: a.size as i64,
        blksize: i64::from(a.blksize),
        blocks: a.blocks as i64,
        atime: a.atime,
        mtime: a.mtime,
        ctime: a.ctime,
        ..Stat::default()
    }
}

/// `STATX_BASIC_STATS`
const BASIC: u32 = 0x7ff;
const BTIME: u32 = 0x800;
const MNT_ID: u32 = 0x1000;
const MNT_ID_UNIQUE: u32 = 0x4000;
const ATTR_MOUNT_ROOT: u64 = 0x2000;

/// As `struct statx`, for the file at `at` and a program in `ns`; `wanted` is the caller's
/// `STATX_*`.
pub fn to_statx(a: &Attr, at: &VfsPath, wanted: u32, ns: &UserNamespace) -> Statx {
    let time = |t: Timespec| StatxTimestamp {
        sec: t.sec,
        nsec: t.nsec as u32,
        reserved: 0,
    };
    let unique = wanted & MNT_ID_UNIQUE != 0;
    let id = if unique { MNT_ID_UNIQUE } else { MNT_ID };
    Statx {
        mask: BASIC | id | if a.btime.is_some() { BTIME } else { 0 },
        blksize: a.blksize,
        attributes: if at.is_mount_root() {
            ATTR_MOUNT_ROOT
        } else {
            0
        },
        nlink: u32::try_from(a.nlink).unwrap_or(u32::MAX),
        uid: ns.shown_uid(a.uid),
        gid: ns.shown_gid(a.gid),
        mode: a.mode() as u16,
        pad0: 0,
        ino: a.ino,
        size: a.size,
        blocks: a.blocks,
        attributes_mask: ATTR_MOUNT_ROOT,
        atime: time(a.atime),
        btime: time(a.btime.unwrap_or_default()),
        ctime: time(a.ctime),
        mtime: time(a.mtime),
        rdev_major: libc::major(a.rdev),
        rdev_minor: libc::minor(a.rdev),
        dev_major: libc::major(a.dev),
        dev_minor: libc::minor(a.dev),
        mnt_id: if unique {
            at.mount.unique_id()
        } else {
            at.mount.id()
        },
        dio_mem_align: 0,
        dio_offset_align: 0,
        spare: [0; 12],
    }
}

/// stat(2), lstat(2), fstatat(2).
///
/// # Errors
/// Those of walking.
pub fn stat(cx: &dyn FsCtx, start: Start, path: &[u8], flags: LookupFlags) -> Result<Stat, SysErr> {
    let at = walk::resolve(cx, start, path, flags)?;
    Ok(to_stat(&at.attr(cx)?, &cx.creds().user_ns))
}

/// statx(2).
///
/// # Errors
/// Those of walking.
pub fn statx(
    cx: &dyn FsCtx,
    start: Start,
    path: &[u8],
    flags: LookupFlags,
    wanted: u32,
) -> Result<Statx, SysErr> {
    let at = walk::resolve(cx, start, path, flags)?;
    Ok(to_statx(&at.attr(cx)?, &at, wanted, &cx.creds().user_ns))
}

/// fstat(2).
pub fn fstat(cx: &dyn Ctx, file: &File) -> Result<Stat, Errno> {
    Ok(to_stat(&file.attr(cx)?, &cx.creds().user_ns))
}

/// statfs(2) of what is at `at`.
pub fn statfs(cx: &dyn Ctx, at: &VfsPath) -> Result<Statfs, Errno> {
    let mut s = at.inode().statfs(cx)?;
    const VALID: i64 = 0x20;
    let mut flags = at.mount.flags();
    flags.set(MountFlags::RDONLY, at.mount.is_read_only());
    // The first four are the mount flags' own bits.
    s.flags |= VALID | i64::from(flags.bits() & 0xf);
    for (flag, bit) in [
        (MountFlags::NOATIME, 0x400),
        (MountFlags::NODIRATIME, 0x800),
        (MountFlags::NOSYMFOLLOW, 0x2000),
    ] {
        if flags.contains(flag) {
            s.flags |= bit;
        }
    }
    if !flags.intersects(MountFlags::NOATIME | MountFlags::STRICTATIME) {
        s.flags |= 0x1000;
    }
    let shown = SuperFlags::SYNCHRONOUS | SuperFlags::MANDLOCK;
    s.flags |= i64::from((at.mount.superblock().flags() & shown).bits());
    Ok(s)
}

/// fstatfs(2).
pub fn fstatfs(cx: &dyn Ctx, file: &Arc<File>) -> Result<Statfs, Errno> {
    statfs(cx, &file.place())
}

/// readlinkat(2): the link's text. An empty path means `start` itself.
///
/// # Errors
/// `EINVAL` for what is no symbolic link (`ENOENT` with an empty path), and those of walking.
pub fn readlink(cx: &dyn FsCtx, start: Start, path: &[u8]) -> Result<Vec<u8>, SysErr> {
    // Without a descriptor there is nothing that an empty path could mean.
    let flags = match &start {
        Start::At(_) | Start::Fd(_) => LookupFlags::EMPTY,
        Start::Cwd => LookupFlags::empty(),
    };
    let at = walk::resolve(cx, start, path, flags)?;
    if at.kind() != FileType::Symlink {
        return Err(if path.is_empty() {
            Errno::ENOENT
        } else {
            Errno::EINVAL
        }
        .into());
    }
    Ok(at.inode().readlink_text(cx)?)
}
