//! The structures that ptrace(2) reads and writes.

use abi::{Errno, libc};
use auth::Capability;
use ctx::{Ctx, Iovec, SysResult, UserMemoryExt};
use task::{CallInfo, CallStop, Held, QueuedSignals, Regset, TaskCx};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout};

/// Bytes of `struct user_regs_struct`.
const GENERAL: usize = 27 * 8;
/// Bytes of `struct user_fpregs_struct`.
const FLOAT: usize = 512;
/// Most bytes of extended state that are read from a tracer.
const MOST: u64 = 64 * 1024;

/// `PTRACE_GETREGS` and so on: a whole set.
pub(crate) fn get(cx: &TaskCx, held: &Held<'_>, set: Regset, to: u64) -> SysResult<()> {
    let bytes = held.registers(set)?;
    Ok(cx.memory().write(to, &bytes)?)
}

/// `PTRACE_SETREGS` and so on.
pub(crate) fn set(cx: &TaskCx, held: &Held<'_>, set: Regset, from: u64) -> SysResult<()> {
    let mut bytes = match set {
        Regset::General => vec![0; GENERAL],
        Regset::Float | Regset::Extended => vec![0; FLOAT],
    };
    cx.memory().read(from, &mut bytes)?;
    Ok(held.set_registers(set, &bytes)?)
}

fn regset(kind: u64) -> Result<Regset, Errno> {
    const PRSTATUS: u32 = 1;
    const PRFPREG: u32 = 2;
    const X86_XSTATE: u32 = 0x202;
    match kind as u32 {
        PRSTATUS => Ok(Regset::General),
        PRFPREG => Ok(Regset::Float),
        X86_XSTATE => Ok(Regset::Extended),
        _ => Err(Errno::EINVAL),
    }
}

/// `PTRACE_GETREGSET`: as much of a set as there is room for.
pub(crate) fn get_part(cx: &TaskCx, held: &Held<'_>, kind: u64, at: u64) -> SysResult<()> {
    let mut room: Iovec = cx.memory().read_obj(at)?;
    let set = regset(kind)?;
    if !room.len.is_multiple_of(8) {
        return Err(Errno::EINVAL.into());
    }
    let bytes = held.registers(set)?;
    room.len = room.len.min(bytes.len() as u64);
    let part = bytes.get(..room.len as usize).unwrap_or_default();
    cx.memory().write(room.base, part)?;
    Ok(cx.memory().write_obj(at + 8, &room.len)?)
}

/// `PTRACE_SETREGSET`
pub(crate) fn set_part(cx: &TaskCx, held: &Held<'_>, kind: u64, at: u64) -> SysResult<()> {
    let mut part: Iovec = cx.memory().read_obj(at)?;
    let set = regset(kind)?;
    if !part.len.is_multiple_of(8) {
        return Err(Errno::EINVAL.into());
    }
    let most = match set {
        Regset::General => GENERAL as u64,
        Regset::Float => FLOAT as u64,
        Regset::Extended => held.registers(set)?.len().min(MOST as usize) as u64,
    };
    part.len = part.len.min(most);
    let mut bytes = vec![0; part.len as usize];
    if set != Regset::Extended || part.len == most {
        cx.memory().read(part.base, &mut bytes)?;
    }
    held.set_registers(set, &bytes)?;
    Ok(cx.memory().write_obj(at + 8, &part.len)?)
}

/// `struct ptrace_peeksiginfo_args`
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct PeekSignals {
    off: u64,
    flags: u32,
    nr: i32,
}

/// `PTRACE_PEEKSIGINFO`: how many there were.
pub(crate) fn signals(cx: &TaskCx, held: &Held<'_>, at: u64, to: u64) -> SysResult<u64> {
    const SHARED: u32 = 1;
    let args: PeekSignals = cx.memory().read_obj(at)?;
    if args.flags & !SHARED != 0 || args.nr < 0 {
        return Err(Errno::EINVAL.into());
    }
    let which = QueuedSignals {
        shared: args.flags & SHARED != 0,
        skip: args.off,
        count: args.nr as usize,
    };
    let infos = held.signals(which)?;
    for (i, info) in (0u64..).zip(&infos) {
        let to = to.wrapping_add(i * size_of_val(info) as u64);
        if let Err(e) = cx.memory().write_obj(to, info) {
            return if i > 0 { Ok(i) } else { Err(e.into()) };
        }
    }
    Ok(infos.len() as u64)
}

/// `struct ptrace_syscall_info`, the part of filters being the longest.
#[derive(Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct RawCall {
    op: u8,
    reserved: u8,
    flags: u16,
    arch: u32,
    instruction_pointer: u64,
    stack_pointer: u64,
    /// The number, or the result.
    nr: u64,
    /// The arguments; the first begins with whether the result is an error.
    args: [u64; 6],
    ret_data: u32,
    reserved2: u32,
}

const NONE: u8 = 0;
const ENTRY: u8 = 1;
const EXIT: u8 = 2;
const FILTER: u8 = 3;
/// Errors are above this.
const MAX_ERRNO: i64 = 4095;

fn raw(call: &CallInfo) -> (RawCall, usize) {
    let mut raw = RawCall {
        arch: seccomp::ARCH,
        instruction_pointer: call.instruction,
        stack_pointer: call.stack,
        nr: i64::from(call.nr) as u64,
        args: call.args,
        ..RawCall::default()
    };
    let len;
    (raw.op, len) = match call.at {
        CallStop::None => (NONE, 24),
        CallStop::Entry => (ENTRY, 80),
        CallStop::Exit => {
            raw.nr = call.result as u64;
            raw.args = [
                u64::from((-MAX_ERRNO..0).contains(&call.result)),
                0,
                0,
                0,
                0,
                0,
            ];
            (EXIT, 33)
        }
        CallStop::Filter(data) => {
            raw.ret_data = data;
            (FILTER, 84)
        }
    };
    (raw, len)
}

/// `PTRACE_GET_SYSCALL_INFO`: how much there is to tell.
pub(crate) fn call_info(cx: &TaskCx, held: &Held<'_>, room: u64, to: u64) -> SysResult<u64> {
    let (raw, len) = raw(&held.call()?);
    let told = usize::try_from(room).unwrap_or(len).min(len);
    let bytes = raw.as_bytes().get(..told).unwrap_or_default();
    cx.memory().write(to, bytes)?;
    Ok(len as u64)
}

/// `PTRACE_SET_SYSCALL_INFO`
pub(crate) fn set_call_info(cx: &TaskCx, held: &Held<'_>, size: u64, from: u64) -> SysResult<()> {
    if size < size_of::<RawCall>() as u64 {
        return Err(Errno::EINVAL.into());
    }
    let new: RawCall = cx.memory().read_obj(from)?;
    let mut call = held.call()?;
    let (old, _) = raw(&call);
    let odd = new.flags != 0 || new.reserved != 0 || new.op != old.op;
    if odd || (new.op == FILTER && new.reserved2 != 0) {
        return Err(Errno::EINVAL.into());
    }
    match call.at {
        CallStop::None => return Err(Errno::EINVAL.into()),
        CallStop::Exit => call.result = new.nr as i64,
        CallStop::Entry | CallStop::Filter(_) => {
            call.nr = i32::try_from(new.nr as i64).map_err(|_| Errno::ERANGE)?;
            call.args = new.args;
        }
    }
    Ok(held.set_call(&call)?)
}

/// Who may look at filters: the capable, who have none themselves.
fn may_see_filters(cx: &TaskCx) -> Result<(), Errno> {
    let confined = cx.task().seccomp_mode() != libc::SECCOMP_MODE_DISABLED;
    match confined || !cx.creds().has(Capability::SysAdmin) {
        true => Err(Errno::EACCES),
        false => Ok(()),
    }
}

/// `PTRACE_SECCOMP_GET_FILTER`: how many instructions it has.
pub(crate) fn filter(cx: &TaskCx, held: &Held<'_>, index: u64, to: u64) -> SysResult<u64> {
    may_see_filters(cx)?;
    let program = held.filter(index)?;
    if to != 0 {
        cx.memory().write(to, program.as_bytes())?;
    }
    Ok(program.len() as u64)
}

/// `struct seccomp_metadata`
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Metadata {
    filter: u64,
    flags: u64,
}

/// `PTRACE_SECCOMP_GET_METADATA`: how much was told.
pub(crate) fn filter_flags(cx: &TaskCx, held: &Held<'_>, size: u64, at: u64) -> SysResult<u64> {
    may_see_filters(cx)?;
    let size = size.min(size_of::<Metadata>() as u64);
    if size < 8 {
        return Err(Errno::EINVAL.into());
    }
    let filter: u64 = cx.memory().read_obj(at)?;
    let logs = held.filter_logs(filter)?;
    let flags = if logs {
        libc::SECCOMP_FILTER_FLAG_LOG
    } else {
        0
    };
    let told = Metadata { filter, flags };
    let bytes = told.as_bytes().get(..size as usize).unwrap_or_default();
    cx.memory().write(at, bytes)?;
    Ok(size)
}

/// `struct ptrace_sud_config`
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Dispatch {
    mode: u64,
    selector: u64,
    offset: u64,
    len: u64,
}

/// `PTRACE_GET_SYSCALL_USER_DISPATCH_CONFIG`: it is off.
pub(crate) fn dispatch(cx: &TaskCx, size: u64, to: u64) -> SysResult<()> {
    if size != size_of::<Dispatch>() as u64 {
        return Err(Errno::EINVAL.into());
    }
    Ok(cx.memory().write_obj(to, &Dispatch::new_zeroed())?)
}

/// `PTRACE_SET_SYSCALL_USER_DISPATCH_CONFIG`: it stays off.
pub(crate) fn set_dispatch(cx: &TaskCx, size: u64, from: u64) -> SysResult<()> {
    if size != size_of::<Dispatch>() as u64 {
        return Err(Errno::EINVAL.into());
    }
    let wanted: Dispatch = cx.memory().read_obj(from)?;
    match (wanted.mode, wanted.selector, wanted.offset, wanted.len) {
        (0, 0, 0, 0) => Ok(()),
        _ => Err(Errno::EINVAL.into()),
    }
}
