//! User and group ids (credentials(7)).

use crate::user::Args;
use abi::Errno;
use auth::{Creds, NO_ID};
use ctx::{Ctx, SysResult, UserMemoryExt};
use task::TaskCx;

/// Groups of a task, at most (`NGROUPS_MAX`).
const NGROUPS_MAX: i32 = 65536;

/// Puts new credentials in place.
fn install(cx: &mut TaskCx, new: Result<Creds, Errno>) -> SysResult<u64> {
    cx.set_creds(new?);
    Ok(0)
}

/// What the caller is told a user is.
fn uid(cx: &TaskCx, id: u32) -> u32 {
    cx.creds_ref().user_ns.shown_uid(id)
}

/// What the caller is told a group is.
fn gid(cx: &TaskCx, id: u32) -> u32 {
    cx.creds_ref().user_ns.shown_gid(id)
}

/// The users that the caller calls so; `EINVAL` where one is nobody, and not left as it is.
fn users<const N: usize>(cx: &TaskCx, ids: [u64; N]) -> Result<[u32; N], Errno> {
    let mut found = ids.map(|id| id as u32);
    for id in &mut found {
        (*id, _) = cx.creds_ref().user_ns.ids(*id, NO_ID)?;
    }
    Ok(found)
}

/// The groups that the caller calls so, likewise.
fn groups<const N: usize>(cx: &TaskCx, ids: [u64; N]) -> Result<[u32; N], Errno> {
    let mut found = ids.map(|id| id as u32);
    for id in &mut found {
        (_, *id) = cx.creds_ref().user_ns.ids(NO_ID, *id)?;
    }
    Ok(found)
}

pub(crate) fn getuid(cx: &mut TaskCx, _args: &Args) -> SysResult<u64> {
    Ok(u64::from(uid(cx, cx.creds_ref().ruid)))
}

pub(crate) fn geteuid(cx: &mut TaskCx, _args: &Args) -> SysResult<u64> {
    Ok(u64::from(uid(cx, cx.creds_ref().euid)))
}

pub(crate) fn getgid(cx: &mut TaskCx, _args: &Args) -> SysResult<u64> {
    Ok(u64::from(gid(cx, cx.creds_ref().rgid)))
}

pub(crate) fn getegid(cx: &mut TaskCx, _args: &Args) -> SysResult<u64> {
    Ok(u64::from(gid(cx, cx.creds_ref().egid)))
}

pub(crate) fn setuid(cx: &mut TaskCx, &[uid, ..]: &Args) -> SysResult<u64> {
    let [uid] = users(cx, [uid])?;
    let new = cx.creds().setuid(uid);
    install(cx, new)
}

pub(crate) fn setgid(cx: &mut TaskCx, &[gid, ..]: &Args) -> SysResult<u64> {
    let [gid] = groups(cx, [gid])?;
    let new = cx.creds().setgid(gid);
    install(cx, new)
}

pub(crate) fn setreuid(cx: &mut TaskCx, &[r, e, ..]: &Args) -> SysResult<u64> {
    let [r, e] = users(cx, [r, e])?;
    let new = cx.creds().setreuid(r, e);
    install(cx, new)
}

pub(crate) fn setregid(cx: &mut TaskCx, &[r, e, ..]: &Args) -> SysResult<u64> {
    let [r, e] = groups(cx, [r, e])?;
    let new = cx.creds().setregid(r, e);
    install(cx, new)
}

pub(crate) fn setresuid(cx: &mut TaskCx, &[r, e, s, ..]: &Args) -> SysResult<u64> {
    let [r, e, s] = users(cx, [r, e, s])?;
    let new = cx.creds().setresuid(r, e, s);
    install(cx, new)
}

pub(crate) fn setresgid(cx: &mut TaskCx, &[r, e, s, ..]: &Args) -> SysResult<u64> {
    let [r, e, s] = groups(cx, [r, e, s])?;
    let new = cx.creds().setresgid(r, e, s);
    install(cx, new)
}

pub(crate) fn getresuid(cx: &mut TaskCx, &[r, e, s, ..]: &Args) -> SysResult<u64> {
    let c = cx.creds();
    let told = [c.ruid, c.euid, c.suid].map(|id| uid(cx, id));
    store_three(cx, [r, e, s], told)
}

pub(crate) fn getresgid(cx: &mut TaskCx, &[r, e, s, ..]: &Args) -> SysResult<u64> {
    let c = cx.creds();
    let told = [c.rgid, c.egid, c.sgid].map(|id| gid(cx, id));
    store_three(cx, [r, e, s], told)
}

fn store_three(cx: &TaskCx, places: [u64; 3], ids: [u32; 3]) -> SysResult<u64> {
    for (addr, id) in places.into_iter().zip(ids) {
        cx.memory().write_obj(addr, &id)?;
    }
    Ok(0)
}

pub(crate) fn setfsuid(cx: &mut TaskCx, &[uid, ..]: &Args) -> SysResult<u64> {
    let old = cx.creds();
    // Nobody by that name is no error.
    let new = old.user_ns.uid(uid as u32).unwrap_or(NO_ID);
    cx.set_creds(old.setfsuid(new));
    Ok(u64::from(old.user_ns.shown_uid(old.fsuid)))
}

pub(crate) fn setfsgid(cx: &mut TaskCx, &[gid, ..]: &Args) -> SysResult<u64> {
    let old = cx.creds();
    // Nobody by that name is no error.
    let new = old.user_ns.gid(gid as u32).unwrap_or(NO_ID);
    cx.set_creds(old.setfsgid(new));
    Ok(u64::from(old.user_ns.shown_gid(old.fsgid)))
}

pub(crate) fn getgroups(cx: &mut TaskCx, &[size, list, ..]: &Args) -> SysResult<u64> {
    let size = usize::try_from(size as i32).map_err(|_| Errno::EINVAL)?;
    let creds = cx.creds();
    let told = creds.groups.iter().map(|id| gid(cx, *id));
    let groups: Vec<u32> = told.collect();
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
    if !cx.creds().may_setgroups() {
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
    for id in &mut groups {
        *id = cx.creds_ref().user_ns.gid(*id).ok_or(Errno::EINVAL)?;
    }
    groups.sort_unstable();
    let new = cx.creds().setgroups(groups);
    install(cx, new)
}
