//! User and group ids (credentials(7)).

use crate::user::Args;
use abi::Errno;
use auth::Creds;
use ctx::{Ctx, SysResult, UserMemoryExt};
use task::TaskCx;

/// Groups of a task, at most (`NGROUPS_MAX`).
const NGROUPS_MAX: i32 = 65536;

/// Puts new credentials in place.
fn install(cx: &mut TaskCx, new: Result<Creds, Errno>) -> SysResult<u64> {
    cx.set_creds(new?);
    Ok(0)
}

pub(crate) fn getuid(cx: &mut TaskCx, _args: &Args) -> SysResult<u64> {
    Ok(u64::from(cx.creds_ref().ruid))
}

pub(crate) fn geteuid(cx: &mut TaskCx, _args: &Args) -> SysResult<u64> {
    Ok(u64::from(cx.creds_ref().euid))
}

pub(crate) fn getgid(cx: &mut TaskCx, _args: &Args) -> SysResult<u64> {
    Ok(u64::from(cx.creds_ref().rgid))
}

pub(crate) fn getegid(cx: &mut TaskCx, _args: &Args) -> SysResult<u64> {
    Ok(u64::from(cx.creds_ref().egid))
}

pub(crate) fn setuid(cx: &mut TaskCx, &[uid, ..]: &Args) -> SysResult<u64> {
    let new = cx.creds().setuid(uid as u32);
    install(cx, new)
}

pub(crate) fn setgid(cx: &mut TaskCx, &[gid, ..]: &Args) -> SysResult<u64> {
    let new = cx.creds().setgid(gid as u32);
    install(cx, new)
}

pub(crate) fn setreuid(cx: &mut TaskCx, &[r, e, ..]: &Args) -> SysResult<u64> {
    let new = cx.creds().setreuid(r as u32, e as u32);
    install(cx, new)
}

pub(crate) fn setregid(cx: &mut TaskCx, &[r, e, ..]: &Args) -> SysResult<u64> {
    let new = cx.creds().setregid(r as u32, e as u32);
    install(cx, new)
}

pub(crate) fn setresuid(cx: &mut TaskCx, &[r, e, s, ..]: &Args) -> SysResult<u64> {
    let new = cx.creds().setresuid(r as u32, e as u32, s as u32);
    install(cx, new)
}

pub(crate) fn setresgid(cx: &mut TaskCx, &[r, e, s, ..]: &Args) -> SysResult<u64> {
    let new = cx.creds().setresgid(r as u32, e as u32, s as u32);
    install(cx, new)
}

pub(crate) fn getresuid(cx: &mut TaskCx, &[r, e, s, ..]: &Args) -> SysResult<u64> {
    let c = cx.creds();
    store_three(cx, [(r, c.ruid), (e, c.euid), (s, c.suid)])
}

pub(crate) fn getresgid(cx: &mut TaskCx, &[r, e, s, ..]: &Args) -> SysResult<u64> {
    let c = cx.creds();
    store_three(cx, [(r, c.rgid), (e, c.egid), (s, c.sgid)])
}

fn store_three(cx: &TaskCx, ids: [(u64, u32); 3]) -> SysResult<u64> {
    for (addr, id) in ids {
        cx.memory().write_obj(addr, &id)?;
    }
    Ok(0)
}

pub(crate) fn setfsuid(cx: &mut TaskCx, &[uid, ..]: &Args) -> SysResult<u64> {
    let old = cx.creds();
    cx.set_creds(old.setfsuid(uid as u32));
    Ok(u64::from(old.fsuid))
}

pub(crate) fn setfsgid(cx: &mut TaskCx, &[gid, ..]: &Args) -> SysResult<u64> {
    let old = cx.creds();
    cx.set_creds(old.setfsgid(gid as u32));
    Ok(u64::from(old.fsgid))
}

pub(crate) fn getgroups(cx: &mut TaskCx, &[size, list, ..]: &Args) -> SysResult<u64> {
    let size = usize::try_from(size as i32).map_err(|_| Errno::EINVAL)?;
    let creds = cx.creds();
    let groups = &creds.groups;
    if size != 0 {
        if groups.len() > size {
            return Err(Errno::EINVAL.into());
        }
        cx.memory()
            .write(list, zerocopy::IntoBytes::as_bytes(groups.as_slice()))?;
    }
    Ok(groups.len() as u64)
}

pub(crate) fn setgroups(cx: &mut TaskCx, &[size, list, ..]: &Args) -> SysResult<u64> {
    if !cx.creds().has(auth::Capability::Setgid) {
        return Err(Errno::EPERM.into());
    }
    let size = size as i32;
    if !(0..=NGROUPS_MAX).contains(&size) {
        return Err(Errno::EINVAL.into());
    }
    let mut groups = vec![0u32; size as usize];
    cx.memory().read(
        list,
        zerocopy::IntoBytes::as_mut_bytes(groups.as_mut_slice()),
    )?;
    groups.sort_unstable();
    let new = cx.creds().setgroups(groups);
    install(cx, new)
}
