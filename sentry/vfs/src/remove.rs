//! Removed names: unlink(2) and rmdir(2).

use crate::access;
use crate::{FileType, FsCtx, Last, LookupFlags, Start, VfsPath, notify, tree, walk};
use abi::Errno;
use ctx::SysErr;

/// unlink(2).
///
/// # Errors
/// Those of unlink(2).
pub fn unlink(cx: &dyn FsCtx, start: Start, path: &[u8]) -> Result<(), SysErr> {
    let parent = walk::resolve_parent(cx, start, path, LookupFlags::empty())?;
    let Last::Name(name) = &parent.last else {
        return Err(Errno::EISDIR.into());
    };
    let dir = &parent.dir;
    access::mount_writable(dir)?;
    let (gone, removal);
    {
        let _locked = dir.dentry.lock();
        let child = dir.dentry.lookup_locked(cx, name)?.ok_or(Errno::ENOENT)?;
        if parent.slash {
            return Err(if child.is_dir() {
                Errno::EISDIR
            } else {
                Errno::ENOTDIR
            }
            .into());
        }
        let victim = VfsPath {
            mount: dir.mount.clone(),
            dentry: child,
        };
        access::may_remove(cx, &cx.creds(), dir, &victim, false)?;
        if victim.dentry.is_mountpoint() && cx.mounts().has_on(&victim.dentry) {
            return Err(Errno::EBUSY.into());
        }
        removal = notify::removing(cx, &victim);
        dir.inode().unlink(cx, name)?;
        dir.dentry.removed(&victim.dentry, name);
        gone = victim;
    }
    // The file may end here, and that may take time.
    let kind = gone.kind();
    tree::place_gone(&gone.dentry);
    drop(gone);
    if let Some(removal) = removal {
        removal.done();
    }
    notify::removed(dir, name, kind);
    Ok(())
}

/// rmdir(2).
///
/// # Errors
/// Those of rmdir(2).
pub fn rmdir(cx: &dyn FsCtx, start: Start, path: &[u8]) -> Result<(), SysErr> {
    let parent = walk::resolve_parent(cx, start, path, LookupFlags::empty())?;
    let name = match &parent.last {
        Last::Name(name) => name,
        Last::DotDot => return Err(Errno::ENOTEMPTY.into()),
        Last::Dot => return Err(Errno::EINVAL.into()),
        Last::Root => return Err(Errno::EBUSY.into()),
    };
    let dir = &parent.dir;
    access::mount_writable(dir)?;
    // Lock order: directory -> its child.
    let locked = dir.dentry.lock();
    let child = dir.dentry.lookup_locked(cx, name)?.ok_or(Errno::ENOENT)?;
    let victim = VfsPath {
        mount: dir.mount.clone(),
        dentry: child,
    };
    access::may_remove(cx, &cx.creds(), dir, &victim, true)?;
    if victim.dentry.is_mountpoint() && cx.mounts().has_on(&victim.dentry) {
        return Err(Errno::EBUSY.into());
    }
    let removal = notify::removing(cx, &victim);
    {
        let _victim_locked = victim.dentry.lock_nested();
        dir.inode().rmdir(cx, name)?;
        dir.dentry.removed(&victim.dentry, name);
    }
    drop(locked);
    tree::place_gone(&victim.dentry);
    drop(victim);
    if let Some(removal) = removal {
        removal.done();
    }
    notify::removed(dir, name, FileType::Directory);
    Ok(())
}
