//! ptrace(2): what a tracer asks. Sets of registers and other structures are in
//! [`crate::ptrace_sets`].

use crate::control::{GET_FS, GET_GS, SET_FS, SET_GS};
use crate::ptrace_sets as sets;
use crate::user::Args;
use abi::{Errno, libc};
use auth::Capability;
use ctx::{Ctx, SysResult, UserMemoryExt};
use signal::{SigInfo, SigSet};
use task::{FS_BASE, GS_BASE, Regset, Resume, TaskCx, TraceOptions};

const SYSEMU: u32 = 31;
const SYSEMU_SINGLESTEP: u32 = 32;
const ARCH_PRCTL: u32 = 30;
const OLD_SETOPTIONS: u32 = 21;
const GET_SYSCALL_INFO: u32 = 0x420e;
const SET_SYSCALL_INFO: u32 = 0x4212;
const SECCOMP_GET_FILTER: u32 = 0x420c;
const SECCOMP_GET_METADATA: u32 = 0x420d;
const SET_DISPATCH: u32 = 0x4210;
const GET_DISPATCH: u32 = 0x4211;

pub(crate) fn ptrace(cx: &mut TaskCx, &[op, pid, addr, data, ..]: &Args) -> SysResult<u64> {
    // Linux has it as a long, of which no request uses more.
    let op = u32::try_from(op).map_err(|_| Errno::EIO);
    let tid = cx.id_of(pid as i32);
    match op {
        Ok(libc::PTRACE_TRACEME) => {
            cx.trace_me()?;
            return Ok(0);
        }
        _ if cx.kernel().task(tid).is_none() => return Err(Errno::ESRCH.into()),
        Ok(libc::PTRACE_ATTACH) => cx.trace(tid, None)?,
        Ok(libc::PTRACE_SEIZE) => {
            let known = u32::try_from(data).ok().and_then(TraceOptions::from_bits);
            if addr != 0 || known.is_none() {
                return Err(Errno::EIO.into());
            }
            let options = options(cx, data)?;
            cx.trace(tid, Some(options))?;
        }
        Ok(libc::PTRACE_KILL) => cx.kill_tracee(tid)?,
        Ok(libc::PTRACE_INTERRUPT) => cx.interrupt_tracee(tid)?,
        op => {
            cx.check_tracee(tid)?;
            return of_stopped(cx, op?, tid, addr, data);
        }
    }
    Ok(0)
}

/// Options as Linux takes them.
fn options(cx: &TaskCx, data: u64) -> Result<TraceOptions, Errno> {
    let bits = u32::try_from(data).map_err(|_| Errno::EINVAL)?;
    let options = TraceOptions::from_bits(bits).ok_or(Errno::EINVAL)?;
    if options.contains(TraceOptions::SUSPEND_SECCOMP) {
        let confined = cx.task().seccomp_mode() != libc::SECCOMP_MODE_DISABLED;
        let able = cx.creds().has(Capability::SysAdmin);
        if !able || confined || cx.has_seccomp_suspended() {
            return Err(Errno::EPERM);
        }
    }
    Ok(options)
}

fn of_stopped(cx: &mut TaskCx, op: u32, tid: i32, addr: u64, data: u64) -> SysResult<u64> {
    let go_on = |calls, emulate, step| Resume {
        calls,
        emulate,
        step,
    };
    match op {
        libc::PTRACE_PEEKTEXT | libc::PTRACE_PEEKDATA => {
            let mut word = [0; 8];
            match cx.tracee_memory(tid)?.read_forced(addr, &mut word) {
                Ok(8) => cx.memory().write(data, &word)?,
                _ => return Err(Errno::EIO.into()),
            }
        }
        libc::PTRACE_POKETEXT | libc::PTRACE_POKEDATA => {
            let memory = cx.tracee_memory(tid)?;
            match memory.write_forced(addr, &data.to_le_bytes()) {
                Ok(8) => {}
                _ => return Err(Errno::EIO.into()),
            }
        }
        libc::PTRACE_PEEKUSER => {
            let word = cx.peek_tracee_user(tid, addr)?;
            cx.memory().write_obj(data, &word)?;
        }
        libc::PTRACE_POKEUSER => cx.poke_tracee_user(tid, addr, data)?,
        libc::PTRACE_CONT => cx.resume_tracee(tid, go_on(false, false, false), data)?,
        libc::PTRACE_SYSCALL => cx.resume_tracee(tid, go_on(true, false, false), data)?,
        libc::PTRACE_SINGLESTEP => cx.resume_tracee(tid, go_on(false, false, true), data)?,
        SYSEMU => cx.resume_tracee(tid, go_on(false, true, false), data)?,
        SYSEMU_SINGLESTEP => cx.resume_tracee(tid, go_on(false, true, true), data)?,
        libc::PTRACE_DETACH => cx.untrace(tid, data)?,
        libc::PTRACE_LISTEN => cx.listen_to_tracee(tid)?,
        libc::PTRACE_SETOPTIONS | OLD_SETOPTIONS => {
            let options = options(cx, data)?;
            cx.set_trace_options(tid, options)?;
        }
        libc::PTRACE_GETEVENTMSG => {
            let message = cx.tracee_message(tid)?;
            cx.memory().write_obj(data, &message)?;
        }
        libc::PTRACE_GETREGS => sets::get(cx, tid, Regset::General, data)?,
        libc::PTRACE_SETREGS => sets::set(cx, tid, Regset::General, data)?,
        libc::PTRACE_GETFPREGS => sets::get(cx, tid, Regset::Float, data)?,
        libc::PTRACE_SETFPREGS => sets::set(cx, tid, Regset::Float, data)?,
        libc::PTRACE_GETREGSET => sets::get_part(cx, tid, addr, data)?,
        libc::PTRACE_SETREGSET => sets::set_part(cx, tid, addr, data)?,
        libc::PTRACE_GETSIGINFO => {
            let info = cx.tracee_info(tid)?;
            cx.memory().write_obj(data, &info)?;
        }
        libc::PTRACE_SETSIGINFO => {
            let info: SigInfo = cx.memory().read_obj(data)?;
            cx.set_tracee_info(tid, info)?;
        }
        libc::PTRACE_GETSIGMASK | libc::PTRACE_SETSIGMASK if addr != 8 => {
            return Err(Errno::EINVAL.into());
        }
        libc::PTRACE_GETSIGMASK => {
            let mask = cx.tracee_mask(tid)?;
            cx.memory().write_obj(data, &mask)?;
        }
        libc::PTRACE_SETSIGMASK => {
            let mask: u64 = cx.memory().read_obj(data)?;
            cx.set_tracee_mask(tid, SigSet::from_bits(mask))?;
        }
        libc::PTRACE_PEEKSIGINFO => return sets::signals(cx, tid, addr, data),
        GET_SYSCALL_INFO => return sets::call_info(cx, tid, addr, data),
        SET_SYSCALL_INFO => sets::set_call_info(cx, tid, addr, data)?,
        ARCH_PRCTL => arch_prctl(cx, tid, data as i32, addr)?,
        SECCOMP_GET_FILTER => return sets::filter(cx, tid, addr, data),
        SECCOMP_GET_METADATA => return sets::filter_flags(cx, tid, addr, data),
        GET_DISPATCH => sets::dispatch(cx, addr, data)?,
        SET_DISPATCH => sets::set_dispatch(cx, addr, data)?,
        _ => return Err(Errno::EIO.into()),
    }
    Ok(0)
}

fn arch_prctl(cx: &TaskCx, tid: i32, op: i32, addr: u64) -> SysResult<()> {
    let at = 8 * match op {
        SET_GS | GET_GS => GS_BASE,
        _ => FS_BASE,
    } as u64;
    match op {
        SET_FS | SET_GS => match cx.poke_tracee_user(tid, at, addr) {
            Err(Errno::EIO) => Err(Errno::EPERM.into()),
            other => Ok(other?),
        },
        GET_FS | GET_GS => {
            let base = cx.peek_tracee_user(tid, at)?;
            Ok(cx.memory().write_obj(addr, &base)?)
        }
        _ => Err(Errno::EINVAL.into()),
    }
}
