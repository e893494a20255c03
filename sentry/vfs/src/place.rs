//! chdir(2), chroot(2): places a task may stand at.

use crate::{FsCtx, LookupFlags, Start, VfsPath, access, walk};
use abi::Errno;
use auth::Capability;
use ctx::SysErr;

/// Where chdir(2) leads.
///
/// # Errors
/// `ENOTDIR`, `EACCES`, and those of walking.
pub fn chdir(cx: &dyn FsCtx, path: &[u8]) -> Result<VfsPath, SysErr> {
    let flags = LookupFlags::FOLLOW | LookupFlags::DIRECTORY;
    let at = walk::resolve(cx, Start::Cwd, path, flags)?;
    access::permission(cx, &cx.creds(), &at, access::EXEC)?;
    Ok(at)
}

/// Checks that `at` can become the working directory (fchdir(2)).
///
/// # Errors
/// `ENOTDIR`, `EACCES`.
pub fn check_chdir(cx: &dyn FsCtx, at: &VfsPath) -> Result<(), Errno> {
    if !at.is_dir() {
        return Err(Errno::ENOTDIR);
    }
    access::permission(cx, &cx.creds(), at, access::EXEC)
}

/// Where chroot(2) leads.
///
/// # Errors
/// As [`chdir`]; `EPERM` without `CAP_SYS_CHROOT`.
pub fn chroot(cx: &dyn FsCtx, path: &[u8]) -> Result<VfsPath, SysErr> {
    let at = chdir(cx, path)?;
    if cx.creds().has_own(Capability::SysChroot) {
        Ok(at)
    } else {
        Err(Errno::EPERM.into())
    }
}
