//! mount(2), umount2(2), pivot_root(2).

use crate::services::{MountArgs, Services};
use crate::user::{Args, path};
use abi::Errno;
use abi::libc;
use auth::{Capability, UserNamespace};
use ctx::{Ctx, SysResult};
use task::TaskCx;
use vfs::{FsCtx, LookupFlags, Mount, MountFlags, MountSpec, Start, VfsPath};

/// Of Linux 5.10, which the C library's headers may be older than.
const MS_NOSYMFOLLOW: u64 = 1 << 8;
/// Flags that say how files below a mount are used.
const PER_MOUNT: u64 = libc::MS_RDONLY
    | libc::MS_NOSUID
    | libc::MS_NODEV
    | libc::MS_NOEXEC
    | MS_NOSYMFOLLOW
    | libc::MS_NOATIME
    | libc::MS_NODIRATIME
    | libc::MS_RELATIME
    | libc::MS_STRICTATIME;
/// Kinds of propagation: accepted, but every namespace keeps its mounts to itself.
const PROPAGATION: u64 = libc::MS_SHARED | libc::MS_PRIVATE | libc::MS_SLAVE | libc::MS_UNBINDABLE;
/// What old programs put into the upper half.
const MAGIC: u64 = 0xc0ed_0000;
const MAGIC_MASK: u64 = 0xffff_0000;

fn capable(cx: &TaskCx) -> Result<(), Errno> {
    if cx.creds().has_in(cx.mounts().owner(), Capability::SysAdmin) {
        Ok(())
    } else {
        Err(Errno::EPERM)
    }
}

/// The user namespace that a file system which is mounted anew is of: its maker's, or whose what it
/// shows is.
fn owner(cx: &TaskCx, kind: &str) -> UserNamespace {
    match kind {
        "mqueue" => cx.ipc().owner().clone(),
        // Of processes, network and control groups.
        "proc" | "sysfs" | "cgroup2" => UserNamespace::default(),
        _ => cx.creds_ref().user_ns.clone(),
    }
}

/// Of these, some may be hidden below other mounts, or be read-only for a reason.
const REVEALING: &[&str] = &["proc", "sysfs"];

fn place(cx: &TaskCx, name: &[u8]) -> SysResult<VfsPath> {
    vfs::walk::resolve(cx, Start::Cwd, name, LookupFlags::FOLLOW)
}

/// An optional string argument of at most a page.
fn string(cx: &TaskCx, addr: u64) -> Result<Option<Vec<u8>>, Errno> {
    match addr {
        0 => Ok(None),
        addr => cx
            .memory()
            .read_cstr(addr, abi::page::PAGE_SIZE as usize - 1)?
            .ok_or(Errno::EINVAL)
            .map(Some),
    }
}

pub(crate) fn mount(
    cx: &mut TaskCx,
    &[source, target, kind, flags, data, _]: &Args,
) -> SysResult<u64> {
    let flags = if flags & MAGIC_MASK == MAGIC {
        flags & !MAGIC_MASK
    } else {
        flags
    };
    let kind = string(cx, kind)?;
    let source = string(cx, source)?;
    let data = string(cx, data)?;
    let target = path(cx, target)?;
    let at = place(cx, &target)?;
    capable(cx)?;
    let mut how = MountFlags::from_bits_truncate((flags & PER_MOUNT) as u32);
    if !how.intersects(MountFlags::NOATIME | MountFlags::STRICTATIME) {
        how |= MountFlags::RELATIME;
    }
    let mounts = cx.mounts();
    let source = source.unwrap_or_default();
    if flags & libc::MS_REMOUNT != 0 {
        if data.is_some_and(|d| !d.is_empty()) && flags & libc::MS_BIND == 0 {
            tracing::debug!("options of a remount are not applied");
        }
        // What it does not say of access times stays.
        const ATIME: u64 =
            libc::MS_NOATIME | libc::MS_NODIRATIME | libc::MS_RELATIME | libc::MS_STRICTATIME;
        if flags & ATIME == 0 {
            how &= !MountFlags::from_bits_truncate(ATIME as u32);
            how |= at.mount.flags() & MountFlags::from_bits_truncate(ATIME as u32);
        }
        let whole = flags & libc::MS_BIND == 0;
        if whole
            && !cx
                .creds_ref()
                .has_in(at.mount.owner(), Capability::SysAdmin)
        {
            return Err(Errno::EPERM.into());
        }
        mounts.remount(&at, how)?;
    } else if flags & libc::MS_BIND != 0 {
        if source.is_empty() {
            return Err(Errno::EINVAL.into());
        }
        let from = place(cx, &source)?;
        mounts.bind(&from, &at, flags & libc::MS_REC != 0)?;
    } else if flags & PROPAGATION != 0 {
        let one = (flags & PROPAGATION).is_power_of_two();
        let alone = flags & !(PROPAGATION | libc::MS_REC | libc::MS_SILENT) == 0;
        if !one || !alone || !at.is_mount_root() {
            return Err(Errno::EINVAL.into());
        }
    } else if flags & libc::MS_MOVE != 0 {
        let from = place(cx, &source)?;
        mounts.move_mount(&from, &at)?;
    } else {
        let kind = kind.ok_or(Errno::EINVAL)?;
        let kind = std::str::from_utf8(&kind).map_err(|_| Errno::ENODEV)?;
        let maker = Services::of(cx)
            .filesystems
            .get(kind)
            .ok_or(Errno::ENODEV)?;
        let options = data.unwrap_or_default();
        let options = std::str::from_utf8(&options).map_err(|_| Errno::EINVAL)?;
        let spec = maker(
            cx,
            &MountArgs {
                source: &source,
                flags: how,
                options,
            },
        )?;
        let owner = owner(cx, kind);
        if !cx.creds_ref().has_in(&owner, Capability::SysAdmin) {
            return Err(Errno::EPERM.into());
        }
        let mount = Mount::detached(MountSpec { owner, ..spec });
        let free = mounts.owner().is_first() || !REVEALING.contains(&kind);
        if !free && !mounts.shows_no_more(&mount, how) {
            return Err(Errno::EPERM.into());
        }
        mounts.attach(&at, &mount)?;
    }
    Ok(0)
}

pub(crate) fn umount2(cx: &mut TaskCx, &[target, flags, ..]: &Args) -> SysResult<u64> {
    let flags = flags as i32;
    let known = libc::MNT_FORCE | libc::MNT_DETACH | libc::MNT_EXPIRE | libc::UMOUNT_NOFOLLOW;
    if flags & !known != 0 {
        return Err(Errno::EINVAL.into());
    }
    let target = path(cx, target)?;
    let mut lookup = LookupFlags::FOLLOW;
    lookup.set(LookupFlags::FOLLOW, flags & libc::UMOUNT_NOFOLLOW == 0);
    let at = vfs::walk::resolve(cx, Start::Cwd, &target, lookup)?;
    capable(cx)?;
    if !at.is_mount_root() {
        return Err(Errno::EINVAL.into());
    }
    if flags & libc::MNT_EXPIRE != 0 {
        if flags & (libc::MNT_FORCE | libc::MNT_DETACH) != 0 {
            return Err(Errno::EINVAL.into());
        }
        // The first call marks, the second unmounts: nothing is marked here.
        return Err(Errno::EAGAIN.into());
    }
    cx.mounts().umount(at, flags & libc::MNT_DETACH != 0)?;
    Ok(0)
}

/// The root is the sandbox's, whatever capabilities a task has inside.
pub(crate) fn pivot_root(_cx: &mut TaskCx, _args: &Args) -> SysResult<u64> {
    Err(Errno::EPERM.into())
}
