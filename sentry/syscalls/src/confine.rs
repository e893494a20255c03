//! Confining oneself: seccomp(2), and prctl(2)'s part of it.

use crate::supervise;
use crate::user::Args;
use abi::Errno;
use abi::libc;
use auth::Capability;
use ctx::{Ctx, SysResult, UserMemoryExt};
use seccomp::{Instruction, MAX_INSTRUCTIONS, Program};
use task::{FilterFlags, TaskCx};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout};

/// `struct sock_fprog`
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct RawProgram {
    len: u16,
    pad: [u16; 3],
    filter: u64,
}

const TSYNC: u64 = libc::SECCOMP_FILTER_FLAG_TSYNC;
const LOG: u64 = libc::SECCOMP_FILTER_FLAG_LOG;
/// Speculation is the host's to mitigate: nothing changes by it.
const SPEC_ALLOW: u64 = libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW;
const TSYNC_ESRCH: u64 = libc::SECCOMP_FILTER_FLAG_TSYNC_ESRCH;
const NEW_LISTENER: u64 = libc::SECCOMP_FILTER_FLAG_NEW_LISTENER;
const WAIT_KILLABLE: u64 = libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV;

pub(crate) fn seccomp(cx: &mut TaskCx, &[op, flags, args, ..]: &Args) -> SysResult<u64> {
    // Both are 32 bits.
    let flags = u64::from(flags as u32);
    match op as u32 {
        libc::SECCOMP_SET_MODE_STRICT if flags == 0 && args == 0 => {
            cx.enter_strict_mode()?;
            Ok(0)
        }
        libc::SECCOMP_SET_MODE_FILTER => install(cx, flags, args),
        libc::SECCOMP_GET_ACTION_AVAIL if flags == 0 => {
            let action: u32 = cx.memory().read_obj(args)?;
            match seccomp::is_available(action) {
                true => Ok(0),
                false => Err(Errno::EOPNOTSUPP.into()),
            }
        }
        libc::SECCOMP_GET_NOTIF_SIZES if flags == 0 => {
            supervise::put_sizes(cx, args)?;
            Ok(0)
        }
        _ => Err(Errno::EINVAL.into()),
    }
}

/// prctl(PR_SET_SECCOMP)
pub(crate) fn by_prctl(cx: &mut TaskCx, mode: u64, program: u64) -> SysResult<u64> {
    const STRICT: u64 = libc::SECCOMP_MODE_STRICT as u64;
    const FILTER: u64 = libc::SECCOMP_MODE_FILTER as u64;
    match mode {
        STRICT => {
            cx.enter_strict_mode()?;
            Ok(0)
        }
        FILTER => install(cx, 0, program),
        _ => Err(Errno::EINVAL.into()),
    }
}

fn install(cx: &mut TaskCx, flags: u64, addr: u64) -> SysResult<u64> {
    let known = TSYNC | LOG | SPEC_ALLOW | TSYNC_ESRCH | NEW_LISTENER | WAIT_KILLABLE;
    let has = |flag| flags & flag != 0;
    if flags & !known != 0
        // What comes back can be a descriptor or a thread, not both.
        || (has(TSYNC) && has(NEW_LISTENER) && !has(TSYNC_ESRCH))
        || (has(WAIT_KILLABLE) && !has(NEW_LISTENER))
    {
        return Err(Errno::EINVAL.into());
    }
    let program = read(cx, addr)?;
    let flags = FilterFlags {
        all_threads: has(TSYNC),
        esrch: has(TSYNC_ESRCH),
        log: has(LOG),
        listener: has(NEW_LISTENER).then_some(has(WAIT_KILLABLE)),
    };
    cx.install_filter(program, flags)
}

/// Reads and checks a program, in Linux's order.
fn read(cx: &TaskCx, addr: u64) -> Result<Program, Errno> {
    let raw: RawProgram = cx.memory().read_obj(addr)?;
    let len = usize::from(raw.len);
    if len == 0 || len > MAX_INSTRUCTIONS {
        return Err(Errno::EINVAL);
    }
    if !cx.task().no_new_privs() && !cx.creds_ref().has_own(Capability::SysAdmin) {
        return Err(Errno::EACCES);
    }
    if raw.filter == 0 {
        return Err(Errno::EINVAL);
    }
    let mut code = vec![Instruction::new_zeroed(); len];
    cx.memory()
        .read(raw.filter, code.as_mut_slice().as_mut_bytes())?;
    Program::check(&code)
}
