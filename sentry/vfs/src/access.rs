//! Who may do what: the checks of path_resolution(7) and inode permissions.

use crate::{Attr, FileType, FsCtx, LookupFlags, VfsPath};
use abi::Errno;
use auth::{CapSet, Capability, Creds, Securebits};
use ctx::{Ctx, SysErr};
use std::sync::Arc;

/// `X_OK`: execute, or search a directory.
pub const EXEC: u32 = 1;
/// `W_OK`
pub const WRITE: u32 = 2;
/// `R_OK`
pub const READ: u32 = 4;

/// Checks `mask` against mode bits and capabilities.
///
/// # Errors
/// `EACCES`.
pub fn check_mode(creds: &Creds, attr: &Attr, mask: u32) -> Result<(), Errno> {
    let bits = if creds.fsuid == attr.uid {
        attr.perm >> 6
    } else if creds.in_group(attr.gid) {
        attr.perm >> 3
    } else {
        attr.perm
    };
    if mask & !(bits & 7) == 0 || capable(creds, attr, mask) {
        return Ok(());
    }
    Err(Errno::EACCES)
}

/// Whether a capability stands in for the mode bits.
fn capable(creds: &Creds, attr: &Attr, mask: u32) -> bool {
    let search = creds.has_over(attr.uid, attr.gid, Capability::DacReadSearch);
    let all = creds.has_over(attr.uid, attr.gid, Capability::DacOverride);
    if attr.kind == FileType::Directory {
        return all || (search && mask & WRITE == 0);
    }
    (all && (mask & EXEC == 0 || attr.perm & 0o111 != 0)) || (search && mask == READ)
}

/// Checks `mask` for the file at `path`, by the file system's own rules and by mode bits.
///
/// # Errors
/// `EACCES`, `EROFS`, and what the file system says.
pub fn permission(cx: &dyn Ctx, creds: &Creds, path: &VfsPath, mask: u32) -> Result<(), Errno> {
    permission_of(cx, creds, path, &path.attr(cx)?, mask)
}

/// As [`permission`], for attributes already at hand.
pub(crate) fn permission_of(
    cx: &dyn Ctx,
    creds: &Creds,
    path: &VfsPath,
    attr: &Attr,
    mask: u32,
) -> Result<(), Errno> {
    path.inode().permission(cx, mask)?;
    check_mode(creds, attr, mask).or_else(|e| granted(cx, path, e))
}

/// Checks that the directory at `path` may be searched. What most tasks in a container are, with
/// capabilities, costs no look at the attributes.
#[inline]
pub(crate) fn may_search(cx: &dyn Ctx, creds: &Creds, path: &VfsPath) -> Result<(), Errno> {
    path.inode().permission(cx, EXEC)?;
    if creds.has(Capability::DacOverride) || creds.has(Capability::DacReadSearch) {
        return Ok(());
    }
    check_mode(creds, &path.attr(cx)?, EXEC).or_else(|e| granted(cx, path, e))
}

/// What the mode bits refuse with `e`, the file system may grant all the same.
fn granted(cx: &dyn Ctx, path: &VfsPath, e: Errno) -> Result<(), Errno> {
    match path.inode().grants(cx) {
        true => Ok(()),
        false => Err(e),
    }
}

/// `EROFS` where the mount is read-only.
#[inline]
pub(crate) fn mount_writable(path: &VfsPath) -> Result<(), Errno> {
    if path.mount.is_read_only() {
        Err(Errno::EROFS)
    } else {
        Ok(())
    }
}

/// `EPERM` unless the caller owns the file or has `CAP_FOWNER`.
pub fn owner_or_capable(creds: &Creds, attr: &Attr) -> Result<(), Errno> {
    let named = || creds.user_ns.uid_name(attr.uid).is_some();
    if creds.fsuid == attr.uid || (creds.has_own(Capability::Fowner) && named()) {
        Ok(())
    } else {
        Err(Errno::EPERM)
    }
}

/// Checks that a name may be made in the directory at `dir`.
pub(crate) fn may_create(cx: &dyn Ctx, creds: &Creds, dir: &VfsPath) -> Result<(), Errno> {
    if dir.dentry.is_deleted() {
        return Err(Errno::ENOENT);
    }
    // The file system could not tell whose it is.
    if !dir.mount.owner().names(creds.fsuid, creds.fsgid) {
        return Err(Errno::EOVERFLOW);
    }
    permission(cx, creds, dir, WRITE | EXEC)
}

/// Checks that the name of `victim` may be taken from the directory at `dir`; `as_dir` says
/// whether by rmdir(2) or the like.
///
/// # Errors
/// `EACCES`, `EPERM` (sticky), `ENOTDIR`, `EISDIR`.
pub(crate) fn may_remove(
    cx: &dyn Ctx,
    creds: &Creds,
    dir: &VfsPath,
    victim: &VfsPath,
    as_dir: bool,
) -> Result<(), Errno> {
    let dir_attr = dir.attr(cx)?;
    permission_of(cx, creds, dir, &dir_attr, WRITE | EXEC)?;
    const STICKY: u32 = 0o1000;
    if dir_attr.perm & STICKY != 0 && creds.fsuid != dir_attr.uid && !creds.has(Capability::Fowner)
    {
        let attr = victim.attr(cx)?;
        if creds.fsuid != attr.uid && !creds.has_over(attr.uid, attr.gid, Capability::Fowner) {
            return Err(Errno::EPERM);
        }
    }
    match (as_dir, victim.is_dir()) {
        (true, false) => Err(Errno::ENOTDIR),
        (false, true) => Err(Errno::EISDIR),
        _ => Ok(()),
    }
}

/// access(2), faccessat2(2): checks `mask` (0 is existence) with real ids, or with effective ones
/// (`AT_EACCESS`).
///
/// # Errors
/// `EACCES`, `EROFS`, and those of walking.
pub fn access(
    cx: &dyn FsCtx,
    start: crate::walk::Start,
    path: &[u8],
    mask: u32,
    effective: bool,
    flags: LookupFlags,
) -> Result<(), SysErr> {
    if mask & !7 != 0 {
        return Err(Errno::EINVAL.into());
    }
    let creds = if effective {
        cx.creds()
    } else {
        real_ids(&cx.creds())
    };
    let at = crate::walk::resolve_as(cx, &creds, start, path, flags)?;
    if mask == 0 {
        return Ok(());
    }
    if mask & EXEC != 0
        && at.kind() == FileType::Regular
        && at.mount.flags().contains(crate::MountFlags::NOEXEC)
    {
        return Err(Errno::EACCES.into());
    }
    permission(cx, &creds, &at, mask)?;
    // A read-only mount speaks last, and not of devices and the like.
    if mask & WRITE != 0
        && matches!(
            at.kind(),
            FileType::Regular | FileType::Directory | FileType::Symlink
        )
    {
        mount_writable(&at)?;
    }
    Ok(())
}

/// The credentials that access(2) checks with: real ids; capabilities only for real uid 0.
fn real_ids(creds: &Arc<Creds>) -> Arc<Creds> {
    let keeps = creds.securebits.contains(Securebits::NO_SETUID_FIXUP);
    let effective = match creds.ruid {
        _ if keeps => creds.effective,
        uid if creds.is_root(uid) => creds.permitted,
        _ => CapSet::EMPTY,
    };
    let ids = (creds.fsuid, creds.fsgid) == (creds.ruid, creds.rgid);
    if ids && effective == creds.effective {
        return creds.clone();
    }
    let real = Creds {
        fsuid: creds.ruid,
        fsgid: creds.rgid,
        effective,
        ..Creds::clone(creds)
    };
    Arc::new(real)
}
