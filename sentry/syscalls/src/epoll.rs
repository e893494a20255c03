//! epoll(7).

use crate::user::{Args, fd, file, sigset};
use abi::Errno;
use abi::file::EpollEvent as Raw;
use abi::libc;
use abi::time::Timespec;
use ctx::{Ctx, Resource, SysResult, UserMemoryExt};
use std::time::{Duration, Instant};
use task::TaskCx;
use vfs::{Epoll, EpollEvent, EpollOp, File, FsCtx, OpenFlags};

pub(crate) fn epoll_create(cx: &mut TaskCx, &[size, ..]: &Args) -> SysResult<u64> {
    if size as i32 <= 0 {
        return Err(Errno::EINVAL.into());
    }
    create(cx, false)
}

pub(crate) fn epoll_create1(cx: &mut TaskCx, &[flags, ..]: &Args) -> SysResult<u64> {
    match flags as i32 {
        0 => create(cx, false),
        libc::EPOLL_CLOEXEC => create(cx, true),
        _ => Err(Errno::EINVAL.into()),
    }
}

fn create(cx: &TaskCx, cloexec: bool) -> SysResult<u64> {
    let access = OpenFlags::from_guest(libc::O_RDWR as u32);
    let file = File::anonymous(cx, Epoll::new(), access);
    Ok(cx
        .fds()
        .insert(file, cloexec, 0, cx.limit(Resource::Nofile))? as u64)
}

pub(crate) fn epoll_ctl(cx: &mut TaskCx, &[epfd, op, target, event, ..]: &Args) -> SysResult<u64> {
    let op = op as i32;
    // The event is read first, whatever is wrong with the rest.
    let wanted = match op {
        libc::EPOLL_CTL_DEL => EpollEvent::default(),
        _ => unpack(cx.memory().read_obj(event)?),
    };
    let holder = file(cx, epfd)?;
    let file = file(cx, target)?;
    if file.queue().is_none() {
        return Err(Errno::EPERM.into());
    }
    let epoll = holder.ops_as::<Epoll>().ok_or(Errno::EINVAL)?;
    let op = match op {
        libc::EPOLL_CTL_ADD => EpollOp::Add(wanted),
        libc::EPOLL_CTL_MOD => EpollOp::Modify(wanted),
        libc::EPOLL_CTL_DEL => EpollOp::Delete,
        _ => return Err(Errno::EINVAL.into()),
    };
    epoll.ctl(op, fd(target), &file)?;
    Ok(0)
}

fn unpack(raw: Raw) -> EpollEvent {
    let [low, high] = raw.data;
    EpollEvent {
        events: raw.events,
        data: u64::from(low) | u64::from(high) << 32,
    }
}

fn pack(event: EpollEvent) -> Raw {
    Raw {
        events: event.events,
        data: [event.data as u32, (event.data >> 32) as u32],
    }
}

pub(crate) fn epoll_wait(
    cx: &mut TaskCx,
    &[epfd, events, max, timeout, ..]: &Args,
) -> SysResult<u64> {
    wait(cx, epfd, events, max, milliseconds(timeout))
}

pub(crate) fn epoll_pwait(
    cx: &mut TaskCx,
    &[epfd, events, max, timeout, mask, size]: &Args,
) -> SysResult<u64> {
    if let Some(mask) = sigset(cx, mask, size)? {
        cx.set_temporary_mask(mask);
    }
    wait(cx, epfd, events, max, milliseconds(timeout))
}

pub(crate) fn epoll_pwait2(
    cx: &mut TaskCx,
    &[epfd, events, max, timeout, mask, size]: &Args,
) -> SysResult<u64> {
    let timeout = match timeout {
        0 => None,
        addr => {
            let t: Timespec = cx.memory().read_obj(addr)?;
            Some(Duration::from_nanos(t.to_duration()?))
        }
    };
    if let Some(mask) = sigset(cx, mask, size)? {
        cx.set_temporary_mask(mask);
    }
    wait(cx, epfd, events, max, timeout)
}

fn milliseconds(timeout: u64) -> Option<Duration> {
    u64::try_from(timeout as i32)
        .ok()
        .map(Duration::from_millis)
}

fn wait(cx: &TaskCx, epfd: u64, addr: u64, max: u64, timeout: Option<Duration>) -> SysResult<u64> {
    const LARGEST: i32 = i32::MAX / size_of::<Raw>() as i32;
    let holder = file(cx, epfd)?;
    let max = max as i32;
    if max <= 0 || max > LARGEST {
        return Err(Errno::EINVAL.into());
    }
    crate::user::user_range(addr, max as u64 * size_of::<Raw>() as u64)?;
    let epoll = holder.ops_as::<Epoll>().ok_or(Errno::EINVAL)?;
    // A timeout that no clock reaches is none.
    let deadline = timeout.and_then(|t| Instant::now().checked_add(t));
    let got = epoll.wait(cx, max as usize, deadline)?;
    let memory = cx.memory();
    for (i, event) in got.iter().enumerate() {
        memory.write_obj(addr + (i * size_of::<Raw>()) as u64, &pack(*event))?;
    }
    Ok(got.len() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_data_keeps_both_halves() {
        let event = EpollEvent {
            events: 1,
            data: 0x0123_4567_89ab_cdef,
        };
        assert_eq!(unpack(pack(event)), event);
    }
}
