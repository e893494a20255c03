//! open(2), creat(2), openat(2), openat2(2).

use crate::user::{Args, extensible};
use abi::Errno;
use abi::file::OpenHow;
use abi::libc;
use ctx::{Ctx, Resource, SysResult};
use task::TaskCx;
use vfs::{FsCtx, LookupFlags, OpenFlags};

pub(crate) fn open(cx: &mut TaskCx, &[path, flags, mode, ..]: &Args) -> SysResult<u64> {
    openat(cx, &[libc::AT_FDCWD as u64, path, flags, mode, 0, 0])
}

pub(crate) fn creat(cx: &mut TaskCx, &[path, mode, ..]: &Args) -> SysResult<u64> {
    let flags = libc::O_CREAT | libc::O_WRONLY | libc::O_TRUNC;
    openat(cx, &[libc::AT_FDCWD as u64, path, flags as u64, mode, 0, 0])
}

pub(crate) fn openat(cx: &mut TaskCx, &[dirfd, path, flags, mode, ..]: &Args) -> SysResult<u64> {
    let mut flags = OpenFlags::from_guest(flags as u32);
    // O_PATH ignores all but these, and open(2) without O_CREAT or O_TMPFILE ignores the mode.
    if flags.contains(OpenFlags::PATH) {
        flags &= OpenFlags::PATH | OpenFlags::CLOEXEC | OpenFlags::DIRECTORY | OpenFlags::NOFOLLOW;
    }
    do_open(
        cx,
        dirfd,
        path,
        flags,
        mode as u32 & 0o7777,
        LookupFlags::empty(),
    )
}

pub(crate) fn openat2(cx: &mut TaskCx, &[dirfd, path, how, size, ..]: &Args) -> SysResult<u64> {
    let how: OpenHow = extensible(cx, how, size, size_of::<OpenHow>() as u64)?;
    let word = u32::try_from(how.flags).map_err(|_| Errno::EINVAL)?;
    let flags = OpenFlags::from_bits(word).ok_or(Errno::EINVAL)?;
    let makes = flags.contains(OpenFlags::CREAT) || flags.contains(OpenFlags::TMPFILE);
    if how.mode & !0o7777 != 0 || (how.mode != 0 && !makes) {
        return Err(Errno::EINVAL.into());
    }
    let path_allows =
        OpenFlags::PATH | OpenFlags::CLOEXEC | OpenFlags::DIRECTORY | OpenFlags::NOFOLLOW;
    if flags.contains(OpenFlags::PATH) && !path_allows.contains(flags) {
        return Err(Errno::EINVAL.into());
    }
    let lookup = LookupFlags::from_resolve(how.resolve)?;
    do_open(cx, dirfd, path, flags, how.mode as u32, lookup)
}

fn do_open(
    cx: &mut TaskCx,
    dirfd: u64,
    addr: u64,
    flags: OpenFlags,
    mode: u32,
    lookup: LookupFlags,
) -> SysResult<u64> {
    // What cannot be is told before the path is looked at.
    if flags.bits() & OpenFlags::TMPFILE.bits() & !OpenFlags::DIRECTORY.bits() != 0
        && (!flags.contains(OpenFlags::TMPFILE)
            || !flags.writable()
            || flags.contains(OpenFlags::CREAT))
    {
        return Err(Errno::EINVAL.into());
    }
    if flags.contains(OpenFlags::CREAT | OpenFlags::DIRECTORY) {
        return Err(Errno::EINVAL.into());
    }
    let path = crate::user::path(cx, addr)?;
    let start = if lookup.intersects(LookupFlags::BENEATH | LookupFlags::IN_ROOT) {
        // An absolute path does not free these from their descriptor.
        vfs::Start::from_fd(crate::user::fd(dirfd), b"")
    } else {
        vfs::Start::from_fd(crate::user::fd(dirfd), &path)
    };
    let file = vfs::open(cx, start, &path, flags, mode, lookup)?;
    let limit = cx.limit(Resource::Nofile);
    let fd = cx
        .fds()
        .insert(file, flags.contains(OpenFlags::CLOEXEC), 0, limit)?;
    Ok(fd as u64)
}
