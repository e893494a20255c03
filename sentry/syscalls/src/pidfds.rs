//! Descriptors of processes.

use crate::user::{Args, fd};
use abi::Errno;
use abi::libc;
use ctx::{Ctx, Resource, SysResult};
use signal::SigInfo;
use std::sync::Arc;
use task::{Ids, PidFd, Task, TaskCx, ThreadGroup};

/// Whom a signal sent through a descriptor is for, where it is not said by its kind (Linux 6.9).
const TO_THREAD: u32 = 1;
const TO_PROCESS: u32 = 2;
const TO_GROUP: u32 = 4;

pub(crate) fn pidfd_open(cx: &mut TaskCx, &[pid, flags, ..]: &Args) -> SysResult<u64> {
    let flags = flags as u32;
    if flags & !libc::PIDFD_NONBLOCK != 0 {
        return Err(Errno::EINVAL.into());
    }
    Ok(cx.pidfd_open(pid as i32, flags != 0)? as u64)
}

/// The process behind a descriptor, and whether waiting through it must not block.
pub(crate) fn process(cx: &TaskCx, fd: i32) -> Result<(i32, bool), Errno> {
    let file = cx.fd_table().get(fd)?;
    let group = file.ops_as::<PidFd>().ok_or(Errno::EBADF)?.group();
    // Its number may be another's by now.
    let now = cx.kernel().process(group.tgid());
    if !cx.sees(group) || !now.is_some_and(|now| Arc::ptr_eq(&now, group)) {
        return Err(Errno::ECHILD);
    }
    Ok((group.tgid(), file.nonblocking()))
}

/// The process whose directory in a procfs is open as `fd`: that will do for one of its own.
fn process_directory(cx: &TaskCx, fd: i32) -> Result<Arc<ThreadGroup>, Errno> {
    let file = cx.fd_table().get(fd)?;
    let inode = file.path().map(|p| p.inode()).ok_or(Errno::EBADF)?;
    let task = inode.as_any().downcast_ref::<Arc<Task>>();
    task.map(|t| t.group().clone()).ok_or(Errno::EBADF)
}

pub(crate) fn pidfd_send_signal(
    cx: &mut TaskCx,
    &[pidfd, signal, info, flags, ..]: &Args,
) -> SysResult<u64> {
    // One of the three at most.
    let flags = flags as u32;
    if flags & !(TO_THREAD | TO_PROCESS | TO_GROUP) != 0 || flags.count_ones() > 1 {
        return Err(Errno::EINVAL.into());
    }
    let group = match cx.pidfd_group(fd(pidfd)) {
        Ok(group) => group,
        Err(_) => process_directory(cx, fd(pidfd))?,
    };
    if !cx.sees(&group) {
        return Err(Errno::EINVAL.into());
    }
    let signal = signal as i32;
    let info: Option<SigInfo> = match info {
        0 => None,
        addr => {
            let info = crate::signals::read_info(cx, addr, None)?;
            if info.signo != signal {
                return Err(Errno::EINVAL.into());
            }
            Some(info)
        }
    };
    let id = group.tgid();
    // Its number may be another's by now.
    if group.has_ended() && cx.ended_status(id).is_none() {
        return Err(Errno::ESRCH.into());
    }
    let leader = || cx.kernel().task(id).ok_or(Errno::ESRCH);
    match (info, flags) {
        (None, TO_THREAD) => cx.kill_task(&leader()?, signal)?,
        (None, TO_GROUP) => cx.kill_group(id, signal)?,
        (None, _) => cx.kill_process(&group, signal)?,
        (Some(info), _) => {
            cx.may_pretend(&info, id == cx.task().tgid())?;
            if flags == TO_GROUP {
                send_info_to_group(cx, id, signal, info)?;
            } else {
                cx.queue_info_to(&leader()?, flags == TO_THREAD, signal, info)?;
            }
        }
    }
    Ok(0)
}

fn send_info_to_group(cx: &TaskCx, id: i32, signal: i32, info: SigInfo) -> Result<(), Errno> {
    let members = cx.kernel().group_members(id);
    let leaders = members.iter().filter_map(|m| cx.kernel().task(m.tgid()));
    let sent = leaders.map(|leader| cx.queue_info_to(&leader, false, signal, info));
    // It was sent where anybody got it.
    sent.reduce(Result::or).unwrap_or(Err(Errno::ESRCH))
}

pub(crate) fn pidfd_getfd(cx: &mut TaskCx, &[pidfd, target, flags, ..]: &Args) -> SysResult<u64> {
    if flags as u32 != 0 {
        return Err(Errno::EINVAL.into());
    }
    let group = cx.pidfd_group(fd(pidfd))?;
    let task = group.any_thread().ok_or(Errno::ESRCH)?;
    let file = || task.fds().ok_or(Errno::ESRCH)?.get_path_ok(fd(target));
    let file = task.look(cx, Ids::Real, file).ok_or(Errno::EPERM)??;
    Ok(cx
        .fd_table()
        .insert(file, true, 0, cx.limit(Resource::Nofile))? as u64)
}
