//! Process ids, process groups, sessions.

use crate::user::Args;
use abi::Errno;
use ctx::{Ctx, SysResult};
use task::TaskCx;

pub(crate) fn getpid(cx: &mut TaskCx, _args: &Args) -> SysResult<u64> {
    Ok(cx.pid() as u64)
}

pub(crate) fn gettid(cx: &mut TaskCx, _args: &Args) -> SysResult<u64> {
    Ok(cx.tid() as u64)
}

pub(crate) fn getppid(cx: &mut TaskCx, _args: &Args) -> SysResult<u64> {
    Ok(cx.parent() as u64)
}

pub(crate) fn setpgid(cx: &mut TaskCx, &[pid, pgid, ..]: &Args) -> SysResult<u64> {
    cx.set_process_group(pid as i32, pgid as i32)?;
    Ok(0)
}

/// The id of the process that `pid` means: 0 is the caller's.
fn process(cx: &TaskCx, pid: u64) -> Result<i32, Errno> {
    match pid as i32 {
        0 => Ok(cx.task().tgid()),
        pid if pid < 0 => Err(Errno::ESRCH),
        // The number of a thread will do for its process.
        pid => Ok(cx.task_called(pid).ok_or(Errno::ESRCH)?.tgid()),
    }
}

pub(crate) fn getpgid(cx: &mut TaskCx, &[pid, ..]: &Args) -> SysResult<u64> {
    let group = cx.kernel().process_group(process(cx, pid)?)?;
    Ok(cx.number_of(group) as u64)
}

pub(crate) fn getpgrp(cx: &mut TaskCx, _args: &Args) -> SysResult<u64> {
    let group = cx.kernel().process_group(cx.task().tgid())?;
    Ok(cx.number_of(group) as u64)
}

pub(crate) fn getsid(cx: &mut TaskCx, &[pid, ..]: &Args) -> SysResult<u64> {
    let session = cx.kernel().session(process(cx, pid)?)?;
    Ok(cx.number_of(session) as u64)
}

pub(crate) fn setsid(cx: &mut TaskCx, _args: &Args) -> SysResult<u64> {
    Ok(cx.set_session()? as u64)
}

pub(crate) fn set_tid_address(cx: &mut TaskCx, &[addr, ..]: &Args) -> SysResult<u64> {
    cx.set_clear_child_tid(addr);
    Ok(cx.tid() as u64)
}
