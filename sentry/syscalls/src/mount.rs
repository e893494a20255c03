//! mount(2), umount2(2), pivot_root(2).

use crate::fs_setup::{Setup, check_revealing};
use crate::mount_trees::kind_of_propagation;
use crate::services::Services;
use crate::user::{Args, path};
use abi::Errno;
use abi::libc;
use auth::{Capability, UserNamespace};
use ctx::{Ctx, SysResult};
use task::TaskCx;
use vfs::{FsCtx, LookupFlags, MountFlags, Start, SuperFlags, VfsPath};

/// Of Linux 5.10, which the C library's headers may be older than.
const MS_NOSYMFOLLOW: u64 = 1 << 8;
/// `MS_NOUSER`: the kernel's own.
const MS_NOUSER: u64 = 1 << 31;
/// Flags that say how files below a mount are used.
const PER_MOUNT: u64 = libc::MS_RDONLY
    | libc::MS_NOSUID
    | libc::MS_NODEV
    | libc::MS_NOEXEC
    | MS_NOSYMFOLLOW
    | libc::MS_NOATIME
    | libc::MS_NODIRATIME;
/// Flags that say how access times are kept.
const ACCESS_TIMES: u64 =
    libc::MS_NOATIME | libc::MS_NODIRATIME | libc::MS_RELATIME | libc::MS_STRICTATIME;
const PROPAGATION: u64 = libc::MS_SHARED | libc::MS_PRIVATE | libc::MS_SLAVE | libc::MS_UNBINDABLE;
/// What old programs put into the upper half.
const MAGIC: u64 = 0xc0ed_0000;
const MAGIC_MASK: u64 = 0xffff_0000;

/// Whether a task may change what is mounted: `EPERM`.
pub(crate) fn may_mount(cx: &TaskCx) -> Result<(), Errno> {
    administers(cx, cx.mounts().owner())
}

/// Whether a task may change what `owner` owns: `EPERM`.
pub(crate) fn administers(cx: &TaskCx, owner: &UserNamespace) -> Result<(), Errno> {
    match cx.creds_ref().has_in(owner, Capability::SysAdmin) {
        true => Ok(()),
        false => Err(Errno::EPERM),
    }
}

fn place(cx: &TaskCx, name: &[u8], more: LookupFlags) -> SysResult<VfsPath> {
    vfs::walk::resolve(cx, Start::Cwd, name, LookupFlags::FOLLOW | more)
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

/// The data argument: a string, of which what is beyond a page is cut off.
fn data(cx: &TaskCx, addr: u64) -> Result<Vec<u8>, Errno> {
    if addr == 0 {
        return Ok(Vec::new());
    }
    let mut page = vec![0; abi::page::PAGE_SIZE as usize - 1];
    let got = cx.memory().read_some(addr, &mut page)?;
    page.truncate(got);
    if let Some(nul) = page.iter().position(|b| *b == 0) {
        page.truncate(nul);
    }
    Ok(page)
}

/// The flags of a mount; with `old` for one that has these and is told nothing of access times.
fn mount_flags(flags: u64, old: Option<MountFlags>) -> MountFlags {
    const TIMES: MountFlags = MountFlags::NOATIME
        .union(MountFlags::NODIRATIME)
        .union(MountFlags::RELATIME)
        .union(MountFlags::STRICTATIME);
    let mut how = MountFlags::from_bits_truncate((flags & PER_MOUNT) as u32);
    if flags & libc::MS_STRICTATIME != 0 {
        how -= MountFlags::NOATIME;
        how |= MountFlags::STRICTATIME;
    } else if flags & libc::MS_NOATIME == 0 {
        how |= MountFlags::RELATIME;
    }
    match old {
        Some(old) if flags & ACCESS_TIMES == 0 => (how - TIMES) | (old & TIMES),
        _ => how,
    }
}

pub(crate) fn mount(
    cx: &mut TaskCx,
    &[source, target, kind, flags, options, _]: &Args,
) -> SysResult<u64> {
    let kind = string(cx, kind)?;
    let source = string(cx, source)?;
    let options = data(cx, options)?;
    let target = path(cx, target)?;
    let at = place(cx, &target, LookupFlags::empty())?;
    let flags = match flags & MAGIC_MASK == MAGIC {
        true => flags & !MAGIC_MASK,
        false => flags,
    };
    if flags & MS_NOUSER != 0 {
        return Err(Errno::EINVAL.into());
    }
    may_mount(cx)?;
    let has = |f| flags & f != 0;
    let remount = has(libc::MS_REMOUNT);
    let how = mount_flags(flags, remount.then(|| at.mount.flags()));
    let super_flags = SuperFlags::from_bits_truncate(flags as u32);
    let mounts = cx.mounts();
    if remount && has(libc::MS_BIND) {
        mounts.remount(&at, how)?;
    } else if remount {
        mounts.check_root(&at)?;
        if !at.mount.may_become(how) {
            return Err(Errno::EPERM.into());
        }
        let superblock = at.mount.superblock();
        let kind = Services::of(cx).filesystem(superblock.fstype().as_bytes());
        let mut setup = Setup::new(cx, superblock.fstype(), kind, super_flags);
        setup.set_all(&options)?;
        setup.change(cx, superblock, SuperFlags::REMOUNT)?;
        at.mount.set_flags(how);
        mounts.changed();
    } else if has(libc::MS_BIND) {
        let from = from(cx, source)?;
        mounts.bind(&from, &at, has(libc::MS_REC))?;
    } else if has(PROPAGATION) {
        let kind = kind_of_propagation(flags & !(libc::MS_REC | libc::MS_SILENT));
        let kind = kind.filter(|_| at.is_mount_root()).ok_or(Errno::EINVAL)?;
        mounts.set_propagation(cx.creds_ref(), &at, kind, has(libc::MS_REC))?;
    } else if has(libc::MS_MOVE) {
        let from = from(cx, source)?;
        mounts.move_mount(&from, &at, false, &cx.root())?;
    } else {
        let kind = kind.ok_or(Errno::EINVAL)?;
        let found = Services::of(cx).filesystem(&kind).ok_or(Errno::ENODEV)?;
        let name = String::from_utf8_lossy(&kind);
        let mut setup = Setup::new(cx, &name, Some(found), super_flags);
        if let Some(source) = source {
            setup.set_source(source);
        }
        setup.set_all(&options)?;
        let made = setup.mount(cx, how)?;
        check_revealing(cx, &made, how)?;
        mounts.mount_made(&at, made)?;
    }
    Ok(0)
}

/// What is to be bound or moved.
fn from(cx: &TaskCx, source: Option<Vec<u8>>) -> SysResult<VfsPath> {
    match source.filter(|s| !s.is_empty()) {
        Some(source) => place(cx, &source, LookupFlags::empty()),
        None => Err(Errno::EINVAL.into()),
    }
}

pub(crate) fn umount2(cx: &mut TaskCx, &[target, flags, ..]: &Args) -> SysResult<u64> {
    let flags = flags as i32;
    let known = libc::MNT_FORCE | libc::MNT_DETACH | libc::MNT_EXPIRE | libc::UMOUNT_NOFOLLOW;
    if flags & !known != 0 {
        return Err(Errno::EINVAL.into());
    }
    let target = path(cx, target)?;
    let mut lookup = LookupFlags::NO_USE;
    lookup.set(LookupFlags::FOLLOW, flags & libc::UMOUNT_NOFOLLOW == 0);
    // Also what is mounted upon the working directory itself.
    let at = vfs::walk::resolve(cx, Start::Cwd, &target, lookup)?.topmost();
    may_mount(cx)?;
    let mounts = cx.mounts();
    mounts.check_umount(&at)?;
    let detach = flags & libc::MNT_DETACH != 0;
    let is_root = std::ptr::eq(&*at.mount, &*cx.root().mount);
    if flags & libc::MNT_EXPIRE != 0 {
        if is_root || detach || flags & libc::MNT_FORCE != 0 {
            return Err(Errno::EINVAL.into());
        }
        mounts.expire(&at)?;
    }
    if is_root && !detach {
        // The root cannot be left like that: it is made read-only, as for a shutdown.
        let (flags, superblock) = (SuperFlags::RDONLY, at.mount.superblock());
        administers(cx, superblock.owner())?;
        superblock.reconfigure(cx, flags, flags, None)?;
        return Ok(0);
    }
    mounts.umount(at, detach)?;
    Ok(0)
}

pub(crate) fn pivot_root(cx: &mut TaskCx, &[new, old, ..]: &Args) -> SysResult<u64> {
    may_mount(cx)?;
    let new = path(cx, new)?;
    let new = place(cx, &new, LookupFlags::DIRECTORY)?;
    let old = path(cx, old)?;
    let old = place(cx, &old, LookupFlags::DIRECTORY)?;
    let root = cx.root();
    cx.mounts().pivot(&root, &new, &old)?;
    cx.move_roots(&root, &new);
    Ok(0)
}
