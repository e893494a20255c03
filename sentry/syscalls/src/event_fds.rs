//! Descriptors that are objects of the kernel: pipes, eventfds, timerfds, signalfds, memfds.

use crate::Services;
use crate::user::{Args, file};
use abi::Errno;
use abi::libc;
use abi::time::Itimerspec;
use ctx::{Ctx, Resource, SysResult, UserMemoryExt};
use fs_anon::{EventFd, TimerFd};
use fs_tmpfs::MemfdFlags;
use signal::SigSet;
use std::sync::Arc;
use task::{SignalFd, TaskCx};
use vfs::{File, FsCtx, OpenFlags, Pipe};

/// Gives `file` a descriptor.
pub(crate) fn insert(cx: &TaskCx, file: Arc<File>, cloexec: bool) -> SysResult<u64> {
    Ok(cx
        .fds()
        .insert(file, cloexec, 0, cx.limit(Resource::Nofile))? as u64)
}

/// Gives two files their descriptors and stores them at `addr`, all or nothing.
pub(crate) fn insert_pair(
    cx: &TaskCx,
    files: [Arc<File>; 2],
    cloexec: bool,
    addr: u64,
) -> SysResult<u64> {
    let fds = cx.fd_table();
    let pair = fds.insert_two(files, cloexec, cx.limit(Resource::Nofile))?;
    if let Err(e) = cx.memory().write_obj(addr, &pair) {
        for fd in pair {
            let _ = fds.close(cx, fd);
        }
        return Err(e.into());
    }
    Ok(0)
}

/// `O_CLOEXEC` and those of `allowed`, as all these calls take them.
fn flags(word: u64, allowed: OpenFlags) -> Result<(OpenFlags, bool), Errno> {
    let allowed = allowed | OpenFlags::CLOEXEC;
    let flags = OpenFlags::from_bits(word as u32)
        .filter(|f| allowed.contains(*f))
        .ok_or(Errno::EINVAL)?;
    Ok((
        flags - OpenFlags::CLOEXEC,
        flags.contains(OpenFlags::CLOEXEC),
    ))
}

pub(crate) fn pipe(cx: &mut TaskCx, &[addr, ..]: &Args) -> SysResult<u64> {
    pipe2(cx, &[addr, 0, 0, 0, 0, 0])
}

pub(crate) fn pipe2(cx: &mut TaskCx, &[addr, word, ..]: &Args) -> SysResult<u64> {
    let (flags, cloexec) = flags(word, OpenFlags::NONBLOCK | OpenFlags::DIRECT)?;
    insert_pair(cx, Pipe::pair(cx, flags), cloexec, addr)
}

pub(crate) fn eventfd(cx: &mut TaskCx, &[count, ..]: &Args) -> SysResult<u64> {
    eventfd2(cx, &[count, 0, 0, 0, 0, 0])
}

pub(crate) fn eventfd2(cx: &mut TaskCx, &[count, word, ..]: &Args) -> SysResult<u64> {
    let semaphore = word & libc::EFD_SEMAPHORE as u64 != 0;
    let (flags, cloexec) = flags(word & !(libc::EFD_SEMAPHORE as u64), OpenFlags::NONBLOCK)?;
    insert(
        cx,
        EventFd::open(cx, count as u32, semaphore, flags),
        cloexec,
    )
}

pub(crate) fn timerfd_create(cx: &mut TaskCx, &[clock, word, ..]: &Args) -> SysResult<u64> {
    let (flags, cloexec) = flags(word, OpenFlags::NONBLOCK)?;
    let kernel = cx.kernel();
    let file = TimerFd::open(cx, clock as i32, kernel.clocks(), kernel.timers(), flags)?;
    insert(cx, file, cloexec)
}

pub(crate) fn timerfd_settime(cx: &mut TaskCx, &[fd, word, new, old, ..]: &Args) -> SysResult<u64> {
    const CANCEL_ON_SET: u32 = 2;
    let word = word as u32;
    let setting: Itimerspec = cx.memory().read_obj(new)?;
    if word & !(libc::TFD_TIMER_ABSTIME as u32 | CANCEL_ON_SET) != 0 {
        return Err(Errno::EINVAL.into());
    }
    setting.value.to_duration()?;
    setting.interval.to_duration()?;
    let file = file(cx, fd)?;
    let timer = file.ops_as::<TimerFd>().ok_or(Errno::EINVAL)?;
    let before = timer.set(&setting, word & libc::TFD_TIMER_ABSTIME as u32 != 0)?;
    crate::user::put(cx, old, &before)?;
    Ok(0)
}

pub(crate) fn timerfd_gettime(cx: &mut TaskCx, &[fd, now, ..]: &Args) -> SysResult<u64> {
    let file = file(cx, fd)?;
    let timer = file.ops_as::<TimerFd>().ok_or(Errno::EINVAL)?;
    cx.memory().write_obj(now, &timer.get())?;
    Ok(0)
}

pub(crate) fn signalfd(cx: &mut TaskCx, &[fd, mask, size, ..]: &Args) -> SysResult<u64> {
    signalfd4(cx, &[fd, mask, size, 0, 0, 0])
}

pub(crate) fn signalfd4(cx: &mut TaskCx, &[fd, mask, size, word, ..]: &Args) -> SysResult<u64> {
    if size != 8 {
        return Err(Errno::EINVAL.into());
    }
    let mask = SigSet::from_bits(cx.memory().read_obj(mask)?).blockable();
    let (flags, cloexec) = flags(word, OpenFlags::NONBLOCK)?;
    if fd as i32 == -1 {
        return Ok(cx.signalfd(mask, cloexec, flags.contains(OpenFlags::NONBLOCK))? as u64);
    }
    let file = file(cx, fd)?;
    file.ops_as::<SignalFd>()
        .ok_or(Errno::EINVAL)?
        .set_mask(mask);
    Ok(fd)
}

pub(crate) fn memfd_create(cx: &mut TaskCx, &[name, word, ..]: &Args) -> SysResult<u64> {
    let flags = MemfdFlags::from_guest(word as u32)?;
    let name = cx.memory().read_cstr(name, 249)?.ok_or(Errno::EINVAL)?;
    let file = Services::of(cx).memfds.create(cx, &name, flags)?;
    insert(cx, file, flags.cloexec())
}
