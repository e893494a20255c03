//! What a task sets for itself: prctl(2), arch_prctl(2), personality(2).

use crate::confine;
use crate::user::Args;
use abi::Errno;
use abi::libc;
use auth::{CapSet, Capability, Creds, Securebits};
use ctx::{Ctx, SysResult, UserMemoryExt};
use task::TaskCx;

/// Of arch_prctl(2), also by ptrace(2).
pub(crate) const SET_GS: i32 = 0x1001;
pub(crate) const SET_FS: i32 = 0x1002;
pub(crate) const GET_FS: i32 = 0x1003;
pub(crate) const GET_GS: i32 = 0x1004;
/// Of personality(2): that of 32 bits.
pub(crate) const PER_LINUX32: u32 = 8;
/// Of personality(2): uname(2) tells of a release 2.6.
pub(crate) const UNAME26: u32 = 0x2_0000;
/// Of personality(2): select(2) and its kin leave timeouts as they are.
pub(crate) const STICKY_TIMEOUTS: u32 = 0x400_0000;
/// The part of a personality that says which it is.
pub(crate) const PER_MASK: u32 = 0xff;
const PR_GET_TID_ADDRESS: i32 = 40;
const PR_GET_KEEPCAPS: i32 = 7;
const PR_SET_KEEPCAPS: i32 = 8;
const PR_SET_VMA: i32 = 0x5356_4d41;

pub(crate) fn prctl(cx: &mut TaskCx, &[op, a, b, c, d, _]: &Args) -> SysResult<u64> {
    let none = |rest: &[u64]| {
        if rest.iter().all(|v| *v == 0) {
            Ok(())
        } else {
            Err(Errno::EINVAL)
        }
    };
    let told = |yes: bool| Ok(u64::from(yes));
    match op as i32 {
        libc::PR_SET_PDEATHSIG => {
            let signal = i32::try_from(a).map_err(|_| Errno::EINVAL)?;
            cx.set_parent_death_signal(signal)?;
        }
        libc::PR_GET_PDEATHSIG => cx.memory().write_obj(a, &cx.parent_death_signal())?,
        libc::PR_GET_DUMPABLE => return Ok(u64::from(cx.mm().exec_info().dumpable)),
        libc::PR_SET_DUMPABLE => {
            // 2 is the kernel's alone to set.
            if a > 1 {
                return Err(Errno::EINVAL.into());
            }
            cx.mm().update_exec_info(|info| info.dumpable = a as u8);
        }
        PR_GET_KEEPCAPS => return told(cx.creds().securebits.contains(Securebits::KEEP_CAPS)),
        PR_SET_KEEPCAPS => keep_caps(cx, a)?,
        libc::PR_SET_NAME => set_name(cx, a)?,
        libc::PR_GET_NAME => {
            let mut name = cx.task().name();
            name.resize(16, 0);
            cx.memory().write(a, &name)?;
        }
        libc::PR_GET_TIMING => return Ok(0),
        libc::PR_SET_TIMING => {
            if a != 0 {
                return Err(Errno::EINVAL.into());
            }
        }
        libc::PR_GET_SECCOMP => return Ok(u64::from(cx.task().seccomp_mode())),
        libc::PR_SET_SECCOMP => return confine::by_prctl(cx, a, b),
        libc::PR_CAPBSET_READ => {
            let cap = capability(a)?;
            return told(cx.creds().bounding.has(cap));
        }
        libc::PR_CAPBSET_DROP => {
            let creds = cx.creds();
            if !creds.has_own(Capability::Setpcap) {
                return Err(Errno::EPERM.into());
            }
            let bounding = creds.bounding.without(capability(a)?);
            cx.set_creds(Creds {
                bounding,
                ..Creds::clone(&creds)
            });
        }
        libc::PR_GET_TSC => cx.memory().write_obj(a, &libc::PR_TSC_ENABLE)?,
        libc::PR_SET_TSC if a as i32 == libc::PR_TSC_ENABLE => {}
        libc::PR_GET_SECUREBITS => return Ok(u64::from(cx.creds().securebits.bits())),
        libc::PR_SET_SECUREBITS => set_securebits(cx, a)?,
        libc::PR_SET_TIMERSLACK => cx.set_timer_slack(a),
        libc::PR_GET_TIMERSLACK => return Ok(cx.timer_slack()),
        libc::PR_SET_CHILD_SUBREAPER => cx.group().set_subreaper(a != 0),
        libc::PR_GET_CHILD_SUBREAPER => cx
            .memory()
            .write_obj(a, &i32::from(cx.group().is_subreaper()))?,
        libc::PR_SET_NO_NEW_PRIVS => {
            none(&[b, c, d])?;
            if a != 1 {
                return Err(Errno::EINVAL.into());
            }
            cx.task().set_no_new_privs();
        }
        libc::PR_GET_NO_NEW_PRIVS => {
            none(&[a, b, c, d])?;
            return told(cx.task().no_new_privs());
        }
        PR_GET_TID_ADDRESS => cx.memory().write_obj(a, &cx.clear_child_tid())?,
        libc::PR_GET_THP_DISABLE => {
            none(&[a, b, c, d])?;
            return Ok(0);
        }
        libc::PR_SET_THP_DISABLE => {
            none(&[b, c, d])?;
            // Huge pages are the host's decision: not to be turned off from inside.
            if a != 0 {
                return Err(Errno::EINVAL.into());
            }
        }
        libc::PR_CAP_AMBIENT => return ambient(cx, a, [b, c, d]),
        // A name for anonymous memory: as a kernel without CONFIG_ANON_VMA_NAME.
        PR_SET_VMA => return Err(Errno::EINVAL.into()),
        _ => return Err(Errno::EINVAL.into()),
    }
    Ok(0)
}

fn capability(number: u64) -> Result<Capability, Errno> {
    u32::try_from(number)
        .ok()
        .and_then(Capability::from_number)
        .ok_or(Errno::EINVAL)
}

fn set_name(cx: &TaskCx, addr: u64) -> Result<(), Errno> {
    // As far as 15 bytes: a longer name is cut.
    let name = match cx.memory().read_cstr(addr, 15)? {
        Some(name) => name,
        None => {
            let mut name = vec![0; 15];
            cx.memory().read(addr, &mut name)?;
            name
        }
    };
    cx.task().set_name(&name);
    Ok(())
}

fn keep_caps(cx: &mut TaskCx, value: u64) -> Result<(), Errno> {
    if value > 1 {
        return Err(Errno::EINVAL);
    }
    let creds = cx.creds();
    if creds.securebits.contains(Securebits::KEEP_CAPS_LOCKED) {
        return Err(Errno::EPERM);
    }
    let mut new = Creds::clone(&creds);
    new.securebits.set(Securebits::KEEP_CAPS, value == 1);
    cx.set_creds(new);
    Ok(())
}

/// capabilities(7), "The securebits flags".
fn set_securebits(cx: &mut TaskCx, value: u64) -> Result<(), Errno> {
    let creds = cx.creds();
    let old = creds.securebits;
    let new = u32::try_from(value)
        .ok()
        .and_then(Securebits::from_bits)
        .ok_or(Errno::EPERM)?;
    let locks = Securebits::NOROOT_LOCKED
        | Securebits::NO_SETUID_FIXUP_LOCKED
        | Securebits::KEEP_CAPS_LOCKED
        | Securebits::NO_CAP_AMBIENT_RAISE_LOCKED;
    // A lock, once set, stays, and holds the bit below it.
    let held = Securebits::from_bits_retain((old & locks).bits() >> 1);
    let changed = old ^ new;
    if changed.intersects(held) || !new.contains(old & locks) || !creds.has_own(Capability::Setpcap)
    {
        return Err(Errno::EPERM);
    }
    cx.set_creds(Creds {
        securebits: new,
        ..Creds::clone(&creds)
    });
    Ok(())
}

fn ambient(cx: &mut TaskCx, op: u64, [cap, c, d]: [u64; 3]) -> SysResult<u64> {
    if c != 0 || d != 0 {
        return Err(Errno::EINVAL.into());
    }
    let creds = cx.creds();
    let new = match op as i32 {
        libc::PR_CAP_AMBIENT_CLEAR_ALL if cap == 0 => CapSet::EMPTY,
        libc::PR_CAP_AMBIENT_IS_SET => return Ok(u64::from(creds.ambient.has(capability(cap)?))),
        libc::PR_CAP_AMBIENT_RAISE => {
            let cap = capability(cap)?;
            let allowed = creds.permitted.has(cap)
                && creds.inheritable.has(cap)
                && !creds.securebits.contains(Securebits::NO_CAP_AMBIENT_RAISE);
            if !allowed {
                return Err(Errno::EPERM.into());
            }
            creds.ambient.with(cap)
        }
        libc::PR_CAP_AMBIENT_LOWER => creds.ambient.without(capability(cap)?),
        _ => return Err(Errno::EINVAL.into()),
    };
    cx.set_creds(Creds {
        ambient: new,
        ..Creds::clone(&creds)
    });
    Ok(0)
}

pub(crate) fn arch_prctl(cx: &mut TaskCx, &[op, addr, ..]: &Args) -> SysResult<u64> {
    const GET_CPUID: i32 = 0x1011;
    const SET_CPUID: i32 = 0x1012;
    match op as i32 {
        // Not beyond user space.
        SET_FS | SET_GS if addr >= abi::page::TASK_SIZE => return Err(Errno::EPERM.into()),
        SET_FS => cx.regs_mut().fs_base = addr,
        SET_GS => cx.regs_mut().gs_base = addr,
        GET_FS => cx.memory().write_obj(addr, &cx.regs().fs_base)?,
        GET_GS => cx.memory().write_obj(addr, &cx.regs().gs_base)?,
        GET_CPUID => return Ok(1),
        // As on a CPU that cannot fault on CPUID.
        SET_CPUID => return Err(Errno::ENODEV.into()),
        _ => return Err(Errno::EINVAL.into()),
    }
    Ok(0)
}

pub(crate) fn personality(cx: &mut TaskCx, &[persona, ..]: &Args) -> SysResult<u64> {
    const ASK: u32 = 0xffff_ffff;
    let persona = persona as u32;
    let old = cx.personality();
    if persona != ASK {
        cx.set_personality(persona);
    }
    Ok(u64::from(old))
}
