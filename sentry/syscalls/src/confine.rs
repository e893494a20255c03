//! Confining oneself: seccomp(2), and prctl(2)'s part of it.

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
        // SECCOMP_GET_NOTIF_SIZES, too, as before there was user notification.
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
    if flags & !(TSYNC | LOG | SPEC_ALLOW | TSYNC_ESRCH) != 0 {
        return Err(Errno::EINVAL.into());
    }
    let program = read(cx, addr)?;
    let flags = FilterFlags {
        all_threads: flags & TSYNC != 0,
        esrch: flags & TSYNC_ESRCH != 0,
        log: flags & LOG != 0,
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
    if !cx.task().no_new_privs() && !cx.creds_ref().has(Capability::SysAdmin) {
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
