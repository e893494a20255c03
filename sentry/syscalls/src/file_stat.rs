//! stat(2) and its kin, statx(2), statfs(2).

use crate::user::{Args, fd, path, path_at, path_at_or_null};
use abi::Errno;
use abi::libc;
use abi::stat::Stat;
use ctx::{Ctx, SysResult, UserMemoryExt};
use task::TaskCx;
use vfs::{LookupFlags, Start};

/// How fresh what is told must be; all of it is.
const SYNC_TYPE: i32 = libc::AT_STATX_FORCE_SYNC | libc::AT_STATX_DONT_SYNC;

fn store(cx: &TaskCx, addr: u64, stat: &Stat) -> SysResult<u64> {
    cx.memory().write_obj(addr, stat)?;
    Ok(0)
}

pub(crate) fn stat(cx: &mut TaskCx, &[name, buf, ..]: &Args) -> SysResult<u64> {
    let name = path(cx, name)?;
    let stat = vfs::stat(cx, Start::Cwd, &name, LookupFlags::FOLLOW)?;
    store(cx, buf, &stat)
}

pub(crate) fn lstat(cx: &mut TaskCx, &[name, buf, ..]: &Args) -> SysResult<u64> {
    let name = path(cx, name)?;
    let stat = vfs::stat(cx, Start::Cwd, &name, LookupFlags::empty())?;
    store(cx, buf, &stat)
}

pub(crate) fn fstat(cx: &mut TaskCx, &[file, buf, ..]: &Args) -> SysResult<u64> {
    let file = cx.fd_table().get_path_ok(fd(file))?;
    let stat = vfs::fstat(cx, &file)?;
    store(cx, buf, &stat)
}

/// `AT_SYMLINK_NOFOLLOW` and `AT_EMPTY_PATH`, as a walk has them.
pub(crate) fn lookup(flags: i32) -> LookupFlags {
    let mut lookup = LookupFlags::FOLLOW;
    lookup.set(LookupFlags::FOLLOW, flags & libc::AT_SYMLINK_NOFOLLOW == 0);
    lookup.set(LookupFlags::EMPTY, flags & libc::AT_EMPTY_PATH != 0);
    lookup
}

pub(crate) fn newfstatat(cx: &mut TaskCx, &[dirfd, name, buf, flags, ..]: &Args) -> SysResult<u64> {
    let flags = flags as i32;
    let known = libc::AT_SYMLINK_NOFOLLOW | libc::AT_NO_AUTOMOUNT | libc::AT_EMPTY_PATH | SYNC_TYPE;
    let known = match flags & !known {
        0 => Ok(()),
        _ => Err(Errno::EINVAL),
    };
    let (start, name) = path_at_or_null(cx, dirfd, name, flags & libc::AT_EMPTY_PATH != 0)
        .map_err(|e| known.err().unwrap_or(e))?;
    // Whatever the other flags are.
    if name.is_empty() && flags & libc::AT_EMPTY_PATH != 0 && fd(dirfd) != libc::AT_FDCWD {
        // The C library's fstat(): an open pipe or socket has no place to be walked to.
        let file = cx.fd_table().get_path_ok(fd(dirfd))?;
        let stat = vfs::fstat(cx, &file)?;
        return store(cx, buf, &stat);
    }
    known?;
    let stat = vfs::stat(cx, start, &name, lookup(flags))?;
    store(cx, buf, &stat)
}

pub(crate) fn statx(
    cx: &mut TaskCx,
    &[dirfd, name, flags, mask, buf, ..]: &Args,
) -> SysResult<u64> {
    const RESERVED: u32 = 1 << 31;
    let (flags, mask) = (flags as i32, mask as u32);
    if mask & RESERVED != 0 || flags & SYNC_TYPE == SYNC_TYPE {
        return Err(Errno::EINVAL.into());
    }
    if flags
        & !(libc::AT_SYMLINK_NOFOLLOW | libc::AT_NO_AUTOMOUNT | libc::AT_EMPTY_PATH | SYNC_TYPE)
        != 0
    {
        return Err(Errno::EINVAL.into());
    }
    let (start, name) = path_at_or_null(cx, dirfd, name, flags & libc::AT_EMPTY_PATH != 0)?;
    let statx = vfs::statx(cx, start, &name, lookup(flags), mask)?;
    cx.memory().write_obj(buf, &statx)?;
    Ok(0)
}

pub(crate) fn statfs(cx: &mut TaskCx, &[name, buf, ..]: &Args) -> SysResult<u64> {
    let (start, name) = path_at(cx, libc::AT_FDCWD as u64, name)?;
    let at = vfs::walk::resolve(cx, start, &name, LookupFlags::FOLLOW)?;
    let statfs = vfs::statfs(cx, &at)?;
    cx.memory().write_obj(buf, &statfs)?;
    Ok(0)
}

pub(crate) fn fstatfs(cx: &mut TaskCx, &[fd, buf, ..]: &Args) -> SysResult<u64> {
    // O_PATH descriptors will do.
    let file = cx.fd_table().get_path_ok(fd as i32)?;
    let statfs = vfs::fstatfs(cx, &file)?;
    cx.memory().write_obj(buf, &statfs)?;
    Ok(0)
}
