//! Directories: listing them, the working directory, the root.

use crate::user::{Args, file, path};
use abi::Errno;
use ctx::{Ctx, Dst, SysResult};
use task::TaskCx;
use vfs::{DirentFormat, FsCtx};

pub(crate) fn getdents64(cx: &mut TaskCx, args: &Args) -> SysResult<u64> {
    list(cx, args, DirentFormat::New)
}

pub(crate) fn getdents(cx: &mut TaskCx, args: &Args) -> SysResult<u64> {
    list(cx, args, DirentFormat::Old)
}

fn list(cx: &TaskCx, &[fd, buf, count, ..]: &Args, format: DirentFormat) -> SysResult<u64> {
    let file = file(cx, fd)?;
    // Linux counts with a sign: more than it has is no room at all.
    let room = u64::try_from(count as i32).unwrap_or(0);
    let mut dst = Dst::guest(cx.memory(), buf, room);
    Ok(file.getdents(cx, format, &mut dst)? as u64)
}

pub(crate) fn getcwd(cx: &mut TaskCx, &[buf, size, ..]: &Args) -> SysResult<u64> {
    let cwd = cx.cwd();
    if cwd.dentry.is_deleted() {
        return Err(Errno::ENOENT.into());
    }
    let mut text = cwd.path_from(&cx.root());
    text.push(0);
    if text.len() as u64 > size {
        return Err(Errno::ERANGE.into());
    }
    cx.memory().write(buf, &text)?;
    Ok(text.len() as u64)
}

pub(crate) fn chdir(cx: &mut TaskCx, &[name, ..]: &Args) -> SysResult<u64> {
    let name = path(cx, name)?;
    let to = vfs::chdir(cx, &name)?;
    cx.set_cwd(to);
    Ok(0)
}

pub(crate) fn fchdir(cx: &mut TaskCx, &[fd, ..]: &Args) -> SysResult<u64> {
    let file = cx.fd_table().get_path_ok(fd as i32)?;
    let to = file.place();
    vfs::check_chdir(cx, &to)?;
    cx.set_cwd(to);
    Ok(0)
}

pub(crate) fn chroot(cx: &mut TaskCx, &[name, ..]: &Args) -> SysResult<u64> {
    let name = path(cx, name)?;
    let to = vfs::chroot(cx, &name)?;
    cx.set_root(to);
    Ok(0)
}
