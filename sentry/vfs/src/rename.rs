//! renameat2(2).

use crate::access::{self, WRITE};
use crate::{Dentry, FsCtx, Last, LookupFlags, Parent, Start, VfsPath, notify, tree, walk};
use abi::Errno;
use auth::Creds;
use ctx::SysErr;
use std::sync::Arc;
use sync::{Mutex, MutexGuard, ranks};

/// `RENAME_NOREPLACE`
pub const NOREPLACE: u32 = 1;
/// `RENAME_EXCHANGE`
pub const EXCHANGE: u32 = 2;
/// `RENAME_WHITEOUT`
pub const WHITEOUT: u32 = 4;

/// Held while directories change their parents, so that ancestry stands still.
static TOPOLOGY: Mutex<(), ranks::Rename> = Mutex::new(());

/// renameat2(2).
///
/// # Errors
/// Those of renameat2(2).
pub fn rename(
    cx: &dyn FsCtx,
    (old_start, old_path): (Start, &[u8]),
    (new_start, new_path): (Start, &[u8]),
    flags: u32,
) -> Result<(), SysErr> {
    if flags & !(NOREPLACE | EXCHANGE | WHITEOUT) != 0
        || (flags & EXCHANGE != 0 && flags & (NOREPLACE | WHITEOUT) != 0)
    {
        return Err(Errno::EINVAL.into());
    }
    let creds = cx.creds();
    let from = walk::resolve_parent(cx, old_start, old_path, LookupFlags::empty())?;
    let to = walk::resolve_parent(cx, new_start, new_path, LookupFlags::empty())?;
    if !Arc::ptr_eq(&from.dir.mount, &to.dir.mount) {
        return Err(Errno::EXDEV.into());
    }
    let Last::Name(old_name) = &from.last else {
        return Err(Errno::EBUSY.into());
    };
    let Last::Name(new_name) = &to.last else {
        return Err(if flags & NOREPLACE != 0 {
            Errno::EEXIST
        } else {
            Errno::EBUSY
        }
        .into());
    };
    access::mount_writable(&from.dir)?;
    let locks = lock_both(&from.dir.dentry, &to.dir.dentry);
    let result = rename_locked(cx, &creds, (&from, old_name), (&to, new_name), flags);
    drop(locks);
    // What was replaced may end with its dentry: not under the locks.
    let Some(Renamed {
        source,
        target,
        removal,
    }) = result?
    else {
        return Ok(());
    };
    if let Some(replaced) = target.as_ref().filter(|_| flags & EXCHANGE == 0) {
        tree::place_gone(&replaced.dentry);
    }
    let exchanged = target.filter(|_| flags & EXCHANGE != 0);
    let (old, new) = ((&from.dir, &old_name[..]), (&to.dir, &new_name[..]));
    notify::moved(&source, old, new, removal);
    if let Some(target) = exchanged {
        notify::moved(&target, new, old, None);
    }
    Ok(())
}

/// What a rename has done.
struct Renamed {
    source: VfsPath,
    /// What was at the new name.
    target: Option<VfsPath>,
    /// What has to be told of it, where it was replaced.
    removal: Option<notify::Removal>,
}

type Locks<'a> = (
    Option<MutexGuard<'a, ()>>,
    MutexGuard<'a, ()>,
    Option<MutexGuard<'a, ()>>,
);

/// Locks two directories: ancestors first, else by address.
fn lock_both<'a>(a: &'a Arc<Dentry>, b: &'a Arc<Dentry>) -> Locks<'a> {
    if Arc::ptr_eq(a, b) {
        return (None, a.lock(), None);
    }
    let topology = TOPOLOGY.lock();
    let b_first = if b.is_ancestor_of(a) {
        true
    } else if a.is_ancestor_of(b) {
        false
    } else {
        Arc::as_ptr(b).addr() < Arc::as_ptr(a).addr()
    };
    let (first, second) = if b_first { (b, a) } else { (a, b) };
    (Some(topology), first.lock(), Some(second.lock_nested()))
}

fn rename_locked(
    cx: &dyn FsCtx,
    creds: &Creds,
    (from, old_name): (&Parent, &[u8]),
    (to, new_name): (&Parent, &[u8]),
    flags: u32,
) -> Result<Option<Renamed>, SysErr> {
    let (old_dir, new_dir) = (&from.dir, &to.dir);
    let at = |dentry| VfsPath {
        mount: old_dir.mount.clone(),
        dentry,
    };
    let source = at(old_dir
        .dentry
        .lookup_locked(cx, old_name)?
        .ok_or(Errno::ENOENT)?);
    let target = new_dir.dentry.lookup_locked(cx, new_name)?.map(at);
    let exchange = flags & EXCHANGE != 0;
    match &target {
        Some(_) if flags & NOREPLACE != 0 => return Err(Errno::EEXIST.into()),
        None if exchange => return Err(Errno::ENOENT.into()),
        Some(t) if exchange && to.slash && !t.is_dir() => return Err(Errno::ENOTDIR.into()),
        _ => {}
    }
    if !source.is_dir() && (from.slash || (!exchange && to.slash)) {
        return Err(Errno::ENOTDIR.into());
    }
    if source.dentry.is_ancestor_of(&new_dir.dentry) {
        return Err(Errno::EINVAL.into());
    }
    if let Some(t) = &target
        && t.dentry.is_ancestor_of(&old_dir.dentry)
    {
        return Err(if exchange {
            Errno::EINVAL
        } else {
            Errno::ENOTEMPTY
        }
        .into());
    }
    if target
        .as_ref()
        .is_some_and(|t| Arc::ptr_eq(t.inode(), source.inode()))
    {
        return Ok(None);
    }
    access::may_remove(cx, creds, old_dir, &source, source.is_dir())?;
    match &target {
        None => access::may_create(cx, creds, new_dir)?,
        Some(t) if exchange => access::may_remove(cx, creds, new_dir, t, t.is_dir())?,
        Some(t) => access::may_remove(cx, creds, new_dir, t, source.is_dir())?,
    }
    if !Arc::ptr_eq(&old_dir.dentry, &new_dir.dentry) {
        // A directory that changes its parent is written to: its `..`.
        for moved in [Some(&source), target.as_ref().filter(|_| exchange)]
            .into_iter()
            .flatten()
        {
            if moved.is_dir() {
                access::permission(cx, creds, moved, WRITE)?;
            }
        }
    }
    let mounts = cx.mounts();
    if mounts.has_on(&source.dentry) || target.as_ref().is_some_and(|t| mounts.has_on(&t.dentry)) {
        return Err(Errno::EBUSY.into());
    }
    // Nothing may be made in a directory that is about to be replaced.
    let target_locked = match &target {
        Some(t) if t.is_dir() && !exchange => Some(t.dentry.lock_nested()),
        _ => None,
    };
    let replaced = target.as_ref().filter(|_| !exchange);
    let removal = replaced.and_then(|t| notify::removing(cx, t));
    old_dir
        .inode()
        .rename(cx, old_name, new_dir.inode(), new_name, flags)?;
    match &target {
        Some(t) if exchange => Dentry::exchanged(
            (&old_dir.dentry, &source.dentry, old_name),
            (&new_dir.dentry, &t.dentry, new_name),
        ),
        _ => {
            new_dir
                .dentry
                .moved_here(&source.dentry, &old_dir.dentry, old_name, new_name);
            if let Some(t) = &target {
                t.dentry.gone();
            }
            if flags & WHITEOUT != 0 {
                old_dir.dentry.forget_name(old_name);
            }
        }
    }
    drop(target_locked);
    Ok(Some(Renamed {
        source,
        target,
        removal,
    }))
}
