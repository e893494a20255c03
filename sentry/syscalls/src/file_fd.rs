//! Descriptors: close, dup, close_range, ioctl.

use crate::event_fds::insert;
use crate::fcntl;
use crate::supervise;
use crate::user::{Args, fd, file};
use abi::Errno;
use abi::libc;
use ctx::{Ctx, Resource, SysErr, SysResult, UserMemoryExt};
use task::{ListenerFile, TaskCx};
use vfs::{FsCtx, OpenFlags};

pub(crate) fn close(cx: &mut TaskCx, &[fd_arg, ..]: &Args) -> SysResult<u64> {
    match cx.fd_table().close(cx, fd(fd_arg)) {
        Ok(()) => Ok(0),
        // The descriptor is gone: the call must not be made again.
        Err(SysErr::Restart(_)) => Err(Errno::EINTR.into()),
        Err(e) => Err(e),
    }
}

pub(crate) fn close_range(cx: &mut TaskCx, &[first, last, flags, ..]: &Args) -> SysResult<u64> {
    let (first, last, flags) = (first as u32, last as u32, flags as u32);
    if flags & !(libc::CLOSE_RANGE_UNSHARE | libc::CLOSE_RANGE_CLOEXEC) != 0 || first > last {
        return Err(Errno::EINVAL.into());
    }
    if flags & libc::CLOSE_RANGE_UNSHARE != 0 {
        cx.unshare_fds();
    }
    cx.fd_table()
        .close_range(cx, first, last, flags & libc::CLOSE_RANGE_CLOEXEC != 0);
    Ok(0)
}

pub(crate) fn dup(cx: &mut TaskCx, &[old, ..]: &Args) -> SysResult<u64> {
    let fds = cx.fd_table();
    let file = fds.get_path_ok(fd(old))?;
    Ok(fds.insert(file, false, 0, cx.limit(Resource::Nofile))? as u64)
}

pub(crate) fn dup2(cx: &mut TaskCx, &[old, new, ..]: &Args) -> SysResult<u64> {
    let (old, new) = (fd(old), fd(new));
    let fds = cx.fd_table();
    if old == new {
        fds.get_path_ok(old)?;
        return Ok(new as u64);
    }
    Ok(fds.dup_to(cx, old, new, false, cx.limit(Resource::Nofile))? as u64)
}

pub(crate) fn dup3(cx: &mut TaskCx, &[old, new, flags, ..]: &Args) -> SysResult<u64> {
    let (old, new, flags) = (fd(old), fd(new), flags as u32);
    if flags & !OpenFlags::CLOEXEC.bits() != 0 || old == new {
        return Err(Errno::EINVAL.into());
    }
    Ok(cx
        .fds()
        .dup_to(cx, old, new, flags != 0, cx.limit(Resource::Nofile))? as u64)
}

// Names of old for the owner of a socket.
const FIOSETOWN: u64 = 0x8901;
const SIOCSPGRP: u64 = 0x8902;
const FIOGETOWN: u64 = 0x8903;
const SIOCGPGRP: u64 = 0x8904;

pub(crate) fn ioctl(cx: &mut TaskCx, &[fd_arg, request, arg, ..]: &Args) -> SysResult<u64> {
    let file = file(cx, fd_arg)?;
    let request = request as u32;
    let open_flags = OpenFlags::from_guest(arg as u32);
    if let Some(peer) = fs_devpts::open_peer(cx, &file, request, open_flags) {
        return insert(cx, peer?, open_flags.contains(OpenFlags::CLOEXEC));
    }
    if let Some(relative) = crate::namespaces::open_relative(cx, &file, request) {
        return insert(cx, relative?, true);
    }
    if let Some(told) = crate::namespaces::tell_number(cx, &file, request, arg) {
        return told;
    }
    match u64::from(request) {
        libc::FIOCLEX => cx.fd_table().set_cloexec(fd(fd_arg), true)?,
        libc::FIONCLEX => cx.fd_table().set_cloexec(fd(fd_arg), false)?,
        libc::FIONBIO => {
            let on: i32 = cx.memory().read_obj(arg)?;
            file.set_nonblocking(on != 0);
        }
        libc::FIOASYNC => {
            let on: i32 = cx.memory().read_obj(arg)?;
            file.set_async(cx, fd(fd_arg), on != 0)?;
        }
        FIOSETOWN | SIOCSPGRP if net::socket_of(&file).is_ok() => {
            fcntl::set_owner(cx, &file, cx.memory().read_obj(arg)?)?;
        }
        FIOGETOWN | SIOCGPGRP if net::socket_of(&file).is_ok() => {
            cx.memory().write_obj(arg, &fcntl::get_owner(cx, &file))?;
        }
        _ => {
            return match file.ops_as::<ListenerFile>() {
                Some(end) => supervise::ioctl(cx, end.listener(), request, arg),
                None => file.ioctl(cx, request, arg),
            };
        }
    }
    Ok(0)
}
