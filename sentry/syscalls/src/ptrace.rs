//! ptrace(2): what a tracer asks. Sets of registers and other structures are in
//! [`crate::ptrace_sets`].

use crate::control::{GET_FS, GET_GS, SET_FS, SET_GS};
use crate::ptrace_sets as sets;
use crate::user::Args;
use abi::{Errno, libc};
use auth::Capability;
use ctx::{Ctx, SysResult, UserMemoryExt};
use signal::{SigInfo, SigSet};
use task::{FS_BASE, GS_BASE, Held, Regset, Resume, TaskCx, TraceOptions};

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
    if op == Ok(libc::PTRACE_TRACEME) {
        cx.trace_me()?;
        return Ok(0);
    }
    let task = cx.task_called(pid as i32).ok_or(Errno::ESRCH)?;
    match op {
        Ok(libc::PTRACE_ATTACH) => cx.trace(&task, None)?,
        Ok(libc::PTRACE_SEIZE) => {
            let known = u32::try_from(data).ok().and_then(TraceOptions::from_bits);
            if addr != 0 || known.is_none() {
                return Err(Errno::EIO.into());
            }
            let options = options(cx, data)?;
            cx.trace(&task, Some(options))?;
        }
        Ok(libc::PTRACE_KILL) => cx.kill_tracee(&task)?,
        Ok(libc::PTRACE_INTERRUPT) => cx.interrupt_tracee(&task)?,
        op => {
            let held = cx.held(task)?;
            return of_stopped(cx, op?, held, addr, data);
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

fn of_stopped(cx: &TaskCx, op: u32, held: Held<'_>, addr: u64, data: u64) -> SysResult<u64> {
    let go_on = |calls, emulate, step| Resume {
        calls,
        emulate,
        step,
    };
    match op {
        libc::PTRACE_PEEKTEXT | libc::PTRACE_PEEKDATA => {
            let mut word = [0; 8];
            match held.memory()?.read_forced(addr, &mut word) {
                Ok(8) => cx.memory().write(data, &word)?,
                _ => return Err(Errno::EIO.into()),
            }
        }
        libc::PTRACE_POKETEXT | libc::PTRACE_POKEDATA => {
            let memory = held.memory()?;
            match memory.write_forced(addr, &data.to_le_bytes()) {
                Ok(8) => {}
                _ => return Err(Errno::EIO.into()),
            }
        }
        libc::PTRACE_PEEKUSER => {
            let word = held.peek_user(addr)?;
            cx.memory().write_obj(data, &word)?;
        }
        libc::PTRACE_POKEUSER => held.poke_user(addr, data)?,
        libc::PTRACE_CONT => held.resume(go_on(false, false, false), data)?,
        libc::PTRACE_SYSCALL => held.resume(go_on(true, false, false), data)?,
        libc::PTRACE_SINGLESTEP => held.resume(go_on(false, false, true), data)?,
        SYSEMU => held.resume(go_on(false, true, false), data)?,
        SYSEMU_SINGLESTEP => held.resume(go_on(false, true, true), data)?,
        libc::PTRACE_DETACH => held.release(data)?,
        libc::PTRACE_LISTEN => held.listen()?,
        libc::PTRACE_SETOPTIONS | OLD_SETOPTIONS => {
            let options = options(cx, data)?;
            held.set_options(options)?;
        }
        libc::PTRACE_GETEVENTMSG => {
            let message = held.message()?;
            cx.memory().write_obj(data, &message)?;
        }
        libc::PTRACE_GETREGS => sets::get(cx, &held, Regset::General, data)?,
        libc::PTRACE_SETREGS => sets::set(cx, &held, Regset::General, data)?,
        libc::PTRACE_GETFPREGS => sets::get(cx, &held, Regset::Float, data)?,
        libc::PTRACE_SETFPREGS => sets::set(cx, &held, Regset::Float, data)?,
        libc::PTRACE_GETREGSET => sets::get_part(cx, &held, addr, data)?,
        libc::PTRACE_SETREGSET => sets::set_part(cx, &held, addr, data)?,
        libc::PTRACE_GETSIGINFO => {
            let info = held.info()?;
            cx.memory().write_obj(data, &info)?;
        }
        libc::PTRACE_SETSIGINFO => {
            let info: SigInfo = cx.memory().read_obj(data)?;
            held.set_info(info)?;
        }
        libc::PTRACE_GETSIGMASK | libc::PTRACE_SETSIGMASK if addr != 8 => {
            return Err(Errno::EINVAL.into());
        }
        libc::PTRACE_GETSIGMASK => {
            let mask = held.mask()?;
            cx.memory().write_obj(data, &mask)?;
        }
        libc::PTRACE_SETSIGMASK => {
            let mask: u64 = cx.memory().read_obj(data)?;
            held.set_mask(SigSet::from_bits(mask))?;
        }
        libc::PTRACE_PEEKSIGINFO => return sets::signals(cx, &held, addr, data),
        GET_SYSCALL_INFO => return sets::call_info(cx, &held, addr, data),
        SET_SYSCALL_INFO => sets::set_call_info(cx, &held, addr, data)?,
        ARCH_PRCTL => arch_prctl(cx, &held, data as i32, addr)?,
        SECCOMP_GET_FILTER => return sets::filter(cx, &held, addr, data),
        SECCOMP_GET_METADATA => return sets::filter_flags(cx, &held, addr, data),
        GET_DISPATCH => sets::dispatch(cx, addr, data)?,
        SET_DISPATCH => sets::set_dispatch(cx, addr, data)?,
        _ => return Err(Errno::EIO.into()),
    }
    Ok(0)
}

fn arch_prctl(cx: &TaskCx, held: &Held<'_>, op: i32, addr: u64) -> SysResult<()> {
    let at = 8 * match op {
        SET_GS | GET_GS => GS_BASE,
        _ => FS_BASE,
    } as u64;
    match op {
        SET_FS | SET_GS => match held.poke_user(at, addr) {
            Err(Errno::EIO) => Err(Errno::EPERM.into()),
            other => Ok(other?),
        },
        GET_FS | GET_GS => {
            let base = held.peek_user(at)?;
            Ok(cx.memory().write_obj(addr, &base)?)
        }
        _ => Err(Errno::EINVAL.into()),
    }
}
