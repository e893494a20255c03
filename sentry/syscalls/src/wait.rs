//! Waiting for children: wait4(2) and waitid(2).

use crate::limits::rusage;
use crate::user::{Args, put};
use abi::Errno;
use abi::libc;
use ctx::{Ctx, SysErr, SysResult, UserMemoryExt};
use signal::{SigInfo, Signal};
use task::{TaskCx, WaitFlags, Which};

const OPTIONS: u32 = WaitFlags::NOTHREAD.bits() | WaitFlags::ALL.bits() | WaitFlags::CLONE.bits();

pub(crate) fn wait4(cx: &mut TaskCx, &[pid, status, options, usage, ..]: &Args) -> SysResult<u64> {
    let known = OPTIONS | (libc::WNOHANG | libc::WUNTRACED | libc::WCONTINUED) as u32;
    let options = options as u32;
    if options & !known != 0 {
        return Err(Errno::EINVAL.into());
    }
    let which = match pid as i32 {
        -1 => Which::Any,
        0 => Which::OwnGroup,
        i32::MIN => return Err(Errno::ESRCH.into()),
        group if group < 0 => Which::Group(cx.id_of(-group)),
        pid => Which::Process(cx.id_of(pid)),
    };
    let flags = WaitFlags::from_bits_truncate(options) | WaitFlags::EXITED;
    let Some(waited) = cx.wait_child(which, flags)? else {
        return Ok(0);
    };
    // The child is gone whatever becomes of what is stored, but the fault is told.
    put(cx, usage, &rusage(waited.time, waited.peak_resident))?;
    put(cx, status, &waited.event.wait_status())?;
    Ok(waited.pid as u64)
}

pub(crate) fn waitid(cx: &mut TaskCx, args: &Args) -> SysResult<u64> {
    let [.., info, _, _, _] = args;
    find(cx, args).or_else(|e| {
        // Whatever went wrong, what would be told of a child is wiped.
        match e {
            SysErr::Errno(_) if *info != 0 => tell(cx, None, *info, 0).and(Err(e)),
            e => Err(e),
        }
    })
}

fn find(cx: &mut TaskCx, &[kind, id, info, options, usage, _]: &Args) -> SysResult<u64> {
    let states = (libc::WEXITED | libc::WSTOPPED | libc::WCONTINUED) as u32;
    let known = OPTIONS | states | (libc::WNOHANG | libc::WNOWAIT) as u32;
    let options = options as u32;
    if options & !known != 0 || options & states == 0 {
        return Err(Errno::EINVAL.into());
    }
    let mut flags = WaitFlags::from_bits_truncate(options);
    let id = id as i32;
    let which = match kind as u32 {
        libc::P_ALL => Which::Any,
        libc::P_PID if id <= 0 => return Err(Errno::EINVAL.into()),
        libc::P_PID => Which::Process(cx.id_of(id)),
        libc::P_PGID if id < 0 => return Err(Errno::EINVAL.into()),
        libc::P_PGID if id == 0 => Which::OwnGroup,
        libc::P_PGID => Which::Group(cx.id_of(id)),
        libc::P_PIDFD if id < 0 => return Err(Errno::EINVAL.into()),
        libc::P_PIDFD => {
            let (pid, nonblocking) = crate::pidfds::process(cx, id)?;
            if nonblocking {
                flags |= WaitFlags::NOHANG;
            }
            match cx.wait_child(Which::Process(pid), flags)? {
                None if nonblocking && options & libc::WNOHANG as u32 == 0 => {
                    return Err(Errno::EAGAIN.into());
                }
                waited => return tell(cx, waited, info, usage),
            }
        }
        _ => return Err(Errno::EINVAL.into()),
    };
    let waited = cx.wait_child(which, flags)?;
    tell(cx, waited, info, usage)
}

fn tell(cx: &TaskCx, waited: Option<task::Waited>, info: u64, usage: u64) -> SysResult<u64> {
    if let Some(w) = &waited {
        put(cx, usage, &rusage(w.time, w.peak_resident))?;
    }
    if info == 0 {
        return Ok(0);
    }
    // Only these fields are stored: number, error, code; pid, uid, status.
    let (head, tail) = match waited {
        Some(w) => {
            let (code, status) = w.event.child_info();
            let uid = cx.creds_ref().user_ns.shown_uid(w.uid);
            let full = SigInfo::child(Signal::CHLD, code, w.pid, uid, status, 0, 0);
            ([full.signo, 0, code], [w.pid, uid as i32, status])
        }
        None => ([0; 3], [0; 3]),
    };
    cx.memory().write_obj(info, &head)?;
    cx.memory().write(
        info.wrapping_add(16),
        zerocopy::IntoBytes::as_bytes(tail.as_slice()),
    )?;
    Ok(0)
}
