//! Capabilities: capget(2) and capset(2).

use crate::user::Args;
use abi::Errno;
use abi::process::{CapData, CapHeader};
use auth::{CapSet, Capability, Creds};
use ctx::{Ctx, SysResult, UserMemoryExt};
use std::sync::Arc;
use task::TaskCx;

const VERSION_1: u32 = 0x1998_0330;
const VERSION_2: u32 = 0x2007_1026;
const VERSION_3: u32 = 0x2008_0522;

/// How many words of 32 capabilities the version in a header has; an unknown one is answered
/// with the newest.
fn words(cx: &TaskCx, addr: u64) -> Result<(CapHeader, usize), Errno> {
    // The version alone at first: what follows it may not be there.
    let words = match cx.memory().read_obj::<u32>(addr)? {
        VERSION_1 => 1,
        VERSION_2 | VERSION_3 => 2,
        _ => {
            cx.memory().write_obj(addr, &VERSION_3)?;
            return Err(Errno::EINVAL);
        }
    };
    Ok((cx.memory().read_obj(addr)?, words))
}

fn creds_of(cx: &TaskCx, pid: i32) -> Result<Arc<Creds>, Errno> {
    if pid < 0 {
        return Err(Errno::EINVAL);
    }
    if pid == 0 || pid == cx.tid() {
        return Ok(cx.creds());
    }
    Ok(cx.task_called(pid).ok_or(Errno::ESRCH)?.creds())
}

pub(crate) fn capget(cx: &mut TaskCx, &[header, data, ..]: &Args) -> SysResult<u64> {
    let (hdr, words) = match words(cx, header) {
        Ok(found) => found,
        // A probe for the version.
        Err(Errno::EINVAL) if data == 0 => return Ok(0),
        Err(e) => return Err(e.into()),
    };
    let creds = creds_of(cx, hdr.pid)?;
    if data == 0 {
        return Ok(0);
    }
    for i in 0..words {
        let word = |set: CapSet| (set.bits() >> (32 * i)) as u32;
        let part = CapData {
            effective: word(creds.effective),
            permitted: word(creds.permitted),
            inheritable: word(creds.inheritable),
        };
        cx.memory()
            .write_obj(data.wrapping_add((i * size_of::<CapData>()) as u64), &part)?;
    }
    Ok(0)
}

pub(crate) fn capset(cx: &mut TaskCx, &[header, data, ..]: &Args) -> SysResult<u64> {
    let (hdr, words) = words(cx, header)?;
    if hdr.pid != 0 && hdr.pid != cx.tid() {
        return Err(Errno::EPERM.into());
    }
    let (mut effective, mut permitted, mut inheritable) = (0u64, 0u64, 0u64);
    for i in 0..words {
        let part: CapData = cx
            .memory()
            .read_obj(data.wrapping_add((i * size_of::<CapData>()) as u64))?;
        effective |= u64::from(part.effective) << (32 * i);
        permitted |= u64::from(part.permitted) << (32 * i);
        inheritable |= u64::from(part.inheritable) << (32 * i);
    }
    let old = cx.creds();
    let new = changed(
        &old,
        CapSet::from_bits(effective),
        CapSet::from_bits(permitted),
        CapSet::from_bits(inheritable),
    )?;
    cx.set_creds(new);
    Ok(0)
}

/// capabilities(7), "Programmatically adjusting capability sets".
fn changed(
    old: &Creds,
    effective: CapSet,
    permitted: CapSet,
    inheritable: CapSet,
) -> Result<Creds, Errno> {
    let may_inherit = old.inheritable | old.permitted;
    if !old.has_own(Capability::Setpcap) && !may_inherit.contains(inheritable) {
        return Err(Errno::EPERM);
    }
    if !(old.inheritable | old.bounding).contains(inheritable) {
        return Err(Errno::EPERM);
    }
    if !old.permitted.contains(permitted) || !permitted.contains(effective) {
        return Err(Errno::EPERM);
    }
    let ambient = old.ambient & permitted & inheritable;
    Ok(Creds {
        effective,
        permitted,
        inheritable,
        ambient,
        ..old.clone()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permitted_only_shrinks_and_bounds_effective() {
        let root = Creds::root();
        let one = CapSet::EMPTY.with(Capability::Chown);
        let small = changed(&root, one, one, CapSet::EMPTY).unwrap();
        assert_eq!(
            changed(&small, CapSet::ALL, CapSet::ALL, CapSet::EMPTY),
            Err(Errno::EPERM)
        );
        assert_eq!(
            changed(&small, one, CapSet::EMPTY, CapSet::EMPTY),
            Err(Errno::EPERM)
        );
    }
}
