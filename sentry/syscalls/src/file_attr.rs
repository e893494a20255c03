//! Modes, owners, access checks, lengths, the umask.

use crate::file_stat::lookup;
use crate::user::{Args, fd, file, path_at};
use abi::Errno;
use abi::libc;
use ctx::SysResult;
use task::TaskCx;
use vfs::{LookupFlags, VfsPath};

/// `AT_FDCWD` as an argument register has it.
const CWD: u64 = libc::AT_FDCWD as u64;

fn place(cx: &TaskCx, dirfd: u64, name: u64, flags: i32) -> SysResult<VfsPath> {
    let (start, name) = path_at(cx, dirfd, name)?;
    vfs::walk::resolve(cx, start, &name, lookup(flags))
}

pub(crate) fn chmod(cx: &mut TaskCx, &[name, mode, ..]: &Args) -> SysResult<u64> {
    fchmodat(cx, &[CWD, name, mode, 0, 0, 0])
}

pub(crate) fn fchmodat(cx: &mut TaskCx, &[dirfd, name, mode, ..]: &Args) -> SysResult<u64> {
    fchmodat2(cx, &[dirfd, name, mode, 0, 0, 0])
}

pub(crate) fn fchmodat2(cx: &mut TaskCx, &[dirfd, name, mode, flags, ..]: &Args) -> SysResult<u64> {
    let flags = flags as i32;
    if flags & !(libc::AT_SYMLINK_NOFOLLOW | libc::AT_EMPTY_PATH) != 0 {
        return Err(Errno::EINVAL.into());
    }
    let at = place(cx, dirfd, name, flags)?;
    vfs::chmod(cx, &at, mode as u32)?;
    Ok(0)
}

pub(crate) fn fchmod(cx: &mut TaskCx, &[fd, mode, ..]: &Args) -> SysResult<u64> {
    let file = file(cx, fd)?;
    vfs::chmod(cx, &file.place(), mode as u32)?;
    Ok(0)
}

pub(crate) fn chown(cx: &mut TaskCx, &[name, uid, gid, ..]: &Args) -> SysResult<u64> {
    fchownat(cx, &[CWD, name, uid, gid, 0, 0])
}

pub(crate) fn lchown(cx: &mut TaskCx, &[name, uid, gid, ..]: &Args) -> SysResult<u64> {
    fchownat(
        cx,
        &[CWD, name, uid, gid, libc::AT_SYMLINK_NOFOLLOW as u64, 0],
    )
}

pub(crate) fn fchownat(
    cx: &mut TaskCx,
    &[dirfd, name, uid, gid, flags, _]: &Args,
) -> SysResult<u64> {
    let flags = flags as i32;
    if flags & !(libc::AT_SYMLINK_NOFOLLOW | libc::AT_EMPTY_PATH) != 0 {
        return Err(Errno::EINVAL.into());
    }
    let at = place(cx, dirfd, name, flags)?;
    vfs::chown(cx, &at, uid as u32, gid as u32)?;
    Ok(0)
}

pub(crate) fn fchown(cx: &mut TaskCx, &[fd, uid, gid, ..]: &Args) -> SysResult<u64> {
    let file = file(cx, fd)?;
    vfs::chown(cx, &file.place(), uid as u32, gid as u32)?;
    Ok(0)
}

pub(crate) fn access(cx: &mut TaskCx, &[name, mode, ..]: &Args) -> SysResult<u64> {
    faccessat2(cx, &[CWD, name, mode, 0, 0, 0])
}

pub(crate) fn faccessat(cx: &mut TaskCx, &[dirfd, name, mode, ..]: &Args) -> SysResult<u64> {
    faccessat2(cx, &[dirfd, name, mode, 0, 0, 0])
}

pub(crate) fn faccessat2(
    cx: &mut TaskCx,
    &[dirfd, name, mode, flags, ..]: &Args,
) -> SysResult<u64> {
    let (mode, flags) = (mode as u32, flags as i32);
    if mode & !7 != 0 {
        return Err(Errno::EINVAL.into());
    }
    if flags & !(libc::AT_EACCESS | libc::AT_SYMLINK_NOFOLLOW | libc::AT_EMPTY_PATH) != 0 {
        return Err(Errno::EINVAL.into());
    }
    let (start, name) = path_at(cx, dirfd, name)?;
    vfs::access(
        cx,
        start,
        &name,
        mode,
        flags & libc::AT_EACCESS != 0,
        lookup(flags),
    )?;
    Ok(0)
}

pub(crate) fn truncate(cx: &mut TaskCx, &[name, len, ..]: &Args) -> SysResult<u64> {
    if (len as i64) < 0 {
        return Err(Errno::EINVAL.into());
    }
    let (start, name) = path_at(cx, CWD, name)?;
    let at = vfs::walk::resolve(cx, start, &name, LookupFlags::FOLLOW)?;
    vfs::truncate(cx, &at, len as i64)?;
    Ok(0)
}

pub(crate) fn ftruncate(cx: &mut TaskCx, &[fd_arg, len, ..]: &Args) -> SysResult<u64> {
    if (len as i64) < 0 {
        return Err(Errno::EINVAL.into());
    }
    let file = cx.fd_table().get(fd(fd_arg))?;
    vfs::ftruncate(cx, &file, len as i64)?;
    Ok(0)
}

pub(crate) fn umask(cx: &mut TaskCx, &[mask, ..]: &Args) -> SysResult<u64> {
    Ok(u64::from(cx.set_umask(mask as u32 & 0o777)))
}
