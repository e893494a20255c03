//! Signals: actions, masks, sending, waiting.

use crate::user::{Args, put};
use abi::Errno;
use abi::time::Timespec;
use ctx::{Ctx, SysResult, UserMemoryExt};
use signal::{AltStack, SigAction, SigInfo, SigSet, Signal};
use std::time::{Duration, Instant};
use task::TaskCx;
use zerocopy::FromBytes;

/// Bytes of a signal set.
const SET: u64 = 8;

fn set_size(size: u64) -> Result<(), Errno> {
    if size == SET {
        Ok(())
    } else {
        Err(Errno::EINVAL)
    }
}

fn read_set(cx: &TaskCx, addr: u64) -> Result<SigSet, Errno> {
    Ok(SigSet::from_bits(cx.memory().read_obj(addr)?))
}

pub(crate) fn rt_sigaction(
    cx: &mut TaskCx,
    &[number, new, old, size, ..]: &Args,
) -> SysResult<u64> {
    set_size(size)?;
    let action: Option<SigAction> = match new {
        0 => None,
        addr => Some(cx.memory().read_obj(addr)?),
    };
    let signal = Signal::new(number as i32)?;
    let before = cx.set_action(signal, action)?;
    put(cx, old, &before)?;
    Ok(0)
}

pub(crate) fn rt_sigprocmask(cx: &mut TaskCx, &[how, set, old, size, ..]: &Args) -> SysResult<u64> {
    set_size(size)?;
    let before = match set {
        0 => cx.task().blocked(),
        addr => {
            let set = read_set(cx, addr)?.blockable();
            cx.change_mask(how as i32, set)?
        }
    };
    put(cx, old, &before.bits())?;
    Ok(0)
}

pub(crate) fn rt_sigpending(cx: &mut TaskCx, &[set, size, ..]: &Args) -> SysResult<u64> {
    if size > SET {
        return Err(Errno::EINVAL.into());
    }
    let pending = cx.pending_signals().bits().to_ne_bytes();
    ctx::UserMemory::write(cx.memory(), set, &pending[..size as usize])?;
    Ok(0)
}

pub(crate) fn rt_sigsuspend(cx: &mut TaskCx, &[mask, size, ..]: &Args) -> SysResult<u64> {
    set_size(size)?;
    let mask = read_set(cx, mask)?.blockable();
    cx.suspend(mask)
}

pub(crate) fn pause(cx: &mut TaskCx, _args: &Args) -> SysResult<u64> {
    cx.pause()
}

pub(crate) fn rt_sigtimedwait(
    cx: &mut TaskCx,
    &[set, info, timeout, size, ..]: &Args,
) -> SysResult<u64> {
    set_size(size)?;
    let set = read_set(cx, set)?;
    let deadline = match timeout {
        0 => None,
        addr => {
            let t: Timespec = cx.memory().read_obj(addr)?;
            Instant::now().checked_add(Duration::from_nanos(t.to_duration()?))
        }
    };
    let got = cx.wait_signal(set, deadline)?;
    put(cx, info, &got)?;
    Ok(got.signo as u64)
}

pub(crate) fn rt_sigreturn(cx: &mut TaskCx, _args: &Args) -> SysResult<u64> {
    cx.sigreturn()
}

pub(crate) fn restart_syscall(cx: &mut TaskCx, _args: &Args) -> SysResult<u64> {
    cx.restart_syscall()
}

pub(crate) fn sigaltstack(cx: &mut TaskCx, &[new, old, ..]: &Args) -> SysResult<u64> {
    let new: Option<AltStack> = match new {
        0 => None,
        addr => Some(cx.memory().read_obj(addr)?),
    };
    let before = cx.alt_stack();
    if let Some(new) = new {
        cx.set_alt_stack(new)?;
    }
    put(cx, old, &before)?;
    Ok(0)
}

pub(crate) fn kill(cx: &mut TaskCx, &[pid, signal, ..]: &Args) -> SysResult<u64> {
    if is_none(signal) {
        // Told only of somebody who could have got it.
        return match cx.kill(pid as i32, 0) {
            Err(Errno::ESRCH) => Err(Errno::ESRCH.into()),
            _ => Err(Errno::EINVAL.into()),
        };
    }
    cx.kill(pid as i32, signal as i32)?;
    Ok(0)
}

/// Whether a number is that of no signal, nor 0.
fn is_none(signal: u64) -> bool {
    !(0..=64).contains(&(signal as i32))
}

/// Information that a guest gives for `signal` (by itself: for the one that it names).
///
/// # Errors
/// `EFAULT`; `E2BIG` for a code that Linux does not know with something behind what it reads.
pub(crate) fn read_info(cx: &TaskCx, addr: u64, signal: Option<i32>) -> Result<SigInfo, Errno> {
    /// Bytes that a kernel keeps of it.
    const KEPT: usize = 48;
    let raw: [u8; 128] = cx.memory().read_obj(addr)?;
    let mut info = SigInfo::read_from_bytes(&raw).map_err(|_| Errno::EFAULT)?;
    // Where the kernel keeps something of its own.
    info.take_setting();
    let signal = signal.unwrap_or(info.signo);
    if !is_known(signal, info.code) && raw[KEPT..].iter().any(|b| *b != 0) {
        return Err(Errno::E2BIG);
    }
    Ok(info)
}

/// Whether Linux knows what a code of a signal comes with.
fn is_known(signal: i32, code: i32) -> bool {
    const SI_KERNEL: i32 = 0x80;
    const SI_ASYNCNL: i32 = -60;
    const SI_DETHREAD: i32 = -7;
    const POLL_CODES: i32 = 6;
    let codes = match Signal::new(signal) {
        Ok(Signal::ILL) => 11,
        Ok(Signal::FPE) => 15,
        Ok(Signal::SEGV) => 10,
        Ok(Signal::BUS) => 5,
        Ok(Signal::TRAP) => 6,
        Ok(Signal::CHLD) => 6,
        Ok(Signal::SYS) => 2,
        _ => POLL_CODES,
    };
    match code {
        SI_KERNEL | SI_ASYNCNL => true,
        1.. => code <= codes,
        _ => code >= SI_DETHREAD,
    }
}

pub(crate) fn tkill(cx: &mut TaskCx, &[tid, signal, ..]: &Args) -> SysResult<u64> {
    cx.kill_thread(None, tid as i32, signal as i32)?;
    Ok(0)
}

pub(crate) fn tgkill(cx: &mut TaskCx, &[tgid, tid, signal, ..]: &Args) -> SysResult<u64> {
    cx.kill_thread(Some(tgid as i32), tid as i32, signal as i32)?;
    Ok(0)
}

pub(crate) fn rt_sigqueueinfo(cx: &mut TaskCx, &[pid, signal, info, ..]: &Args) -> SysResult<u64> {
    let info = read_info(cx, info, Some(signal as i32))?;
    if is_none(signal) {
        cx.queue_info(pid as i32, None, 0, info)?;
        return Err(Errno::EINVAL.into());
    }
    cx.queue_info(pid as i32, None, signal as i32, info)?;
    Ok(0)
}

pub(crate) fn rt_tgsigqueueinfo(
    cx: &mut TaskCx,
    &[tgid, tid, signal, info, ..]: &Args,
) -> SysResult<u64> {
    let (tgid, tid) = (tgid as i32, tid as i32);
    if tgid <= 0 || tid <= 0 {
        return Err(Errno::EINVAL.into());
    }
    let info = read_info(cx, info, Some(signal as i32))?;
    cx.queue_info(tgid, Some(tid), signal as i32, info)?;
    Ok(0)
}
