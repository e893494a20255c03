//! New names: mkdir(2), mknod(2), symlink(2), link(2), bind(2) of Unix sockets.

use crate::access;
use crate::{
    FileType, FsCtx, Inode, Last, LookupFlags, NewFile, NewKind, Start, VfsPath, notify, walk,
};
use abi::Errno;
use auth::{Capability, Creds};
use ctx::{Ctx, SysErr};
use std::any::Any;
use std::sync::Arc;

const SETGID: u32 = 0o2000;
const GROUP_EXEC: u32 = 0o010;

/// What a file made in `dir` starts with: umask, and the rules of set-gid directories.
pub(crate) fn new_file(
    cx: &dyn FsCtx,
    creds: &Creds,
    dir: &VfsPath,
    mode: u32,
    is_dir: bool,
) -> Result<NewFile, Errno> {
    new_with_perm(cx, creds, dir, mode & !cx.umask(), is_dir)
}

fn new_with_perm(
    cx: &dyn Ctx,
    creds: &Creds,
    dir: &VfsPath,
    mut perm: u32,
    is_dir: bool,
) -> Result<NewFile, Errno> {
    let dir_attr = dir.attr(cx)?;
    let mut gid = creds.fsgid;
    if dir_attr.perm & SETGID != 0 {
        gid = dir_attr.gid;
        if is_dir {
            perm |= SETGID;
        }
    }
    let both = SETGID | GROUP_EXEC;
    let fsetid = creds.has_over(dir_attr.uid, dir_attr.gid, Capability::Fsetid);
    if !is_dir && perm & both == both && !creds.in_group(gid) && !fsetid {
        perm &= !SETGID;
    }
    Ok(NewFile {
        perm,
        uid: creds.fsuid,
        gid,
    })
}

/// Walks to where a new name is to be, checks that it may be made, and has `make` make it, with
/// the directory locked.
fn with_new_name<T>(
    cx: &dyn FsCtx,
    start: Start,
    path: &[u8],
    is_dir: bool,
    make: impl FnOnce(&VfsPath, &[u8], &Creds) -> Result<T, Errno>,
) -> Result<T, SysErr> {
    let parent = walk::resolve_parent(cx, start, path, LookupFlags::empty())?;
    let Last::Name(name) = &parent.last else {
        return Err(Errno::EEXIST.into());
    };
    let dir = &parent.dir;
    let creds = cx.creds();
    let _locked = dir.dentry.lock();
    if dir.dentry.lookup_locked(cx, name)?.is_some() {
        return Err(Errno::EEXIST.into());
    }
    if parent.slash && !is_dir {
        return Err(Errno::ENOENT.into());
    }
    access::mount_writable(dir)?;
    Ok(make(dir, name, &creds)?)
}

fn create(
    cx: &dyn FsCtx,
    creds: &Creds,
    dir: &VfsPath,
    name: &[u8],
    kind: NewKind,
    mode: u32,
) -> Result<VfsPath, Errno> {
    access::may_create(cx, creds, dir)?;
    let new = match kind {
        NewKind::Symlink(_) => new_with_perm(cx, creds, dir, 0o777, false)?,
        _ => new_file(cx, creds, dir, mode, matches!(kind, NewKind::Directory))?,
    };
    let inode = dir.inode().create(cx, name, kind, &new)?;
    let made = VfsPath {
        mount: dir.mount.clone(),
        dentry: dir.dentry.adopt(inode, name),
    };
    notify::created(dir, name, made.kind());
    Ok(made)
}

/// mkdir(2).
///
/// # Errors
/// Those of mkdir(2).
pub fn mkdir(cx: &dyn FsCtx, start: Start, path: &[u8], mode: u32) -> Result<(), SysErr> {
    with_new_name(cx, start, path, true, |dir, name, creds| {
        create(cx, creds, dir, name, NewKind::Directory, mode & 0o1777)
    })?;
    Ok(())
}

/// mknod(2): `mode` with its type bits (none is a regular file), `rdev` for devices.
///
/// # Errors
/// Those of mknod(2); `EPERM` for devices without `CAP_MKNOD`.
pub fn mknod(
    cx: &dyn FsCtx,
    start: Start,
    path: &[u8],
    mode: u32,
    rdev: u64,
) -> Result<(), SysErr> {
    let kind = match mode & 0o170000 {
        0 => FileType::Regular,
        0o040000 => return Err(Errno::EPERM.into()),
        other => FileType::from_mode(other)
            .filter(|k| *k != FileType::Symlink)
            .ok_or(Errno::EINVAL)?,
    };
    let new = match kind {
        FileType::CharDevice | FileType::BlockDevice => NewKind::Device(kind, rdev),
        FileType::Fifo => NewKind::Fifo,
        FileType::Socket => NewKind::Socket(Arc::new(())),
        _ => NewKind::Regular,
    };
    with_new_name(cx, start, path, false, |dir, name, creds| {
        // Overlay's whiteouts (0:0) are free to all.
        let whiteout = kind == FileType::CharDevice && rdev == 0;
        if matches!(new, NewKind::Device(..)) && !whiteout && !creds.has(Capability::Mknod) {
            access::may_create(cx, creds, dir)?;
            return Err(Errno::EPERM);
        }
        create(cx, creds, dir, name, new, mode & 0o7777)
    })?;
    Ok(())
}

/// symlink(2).
///
/// # Errors
/// Those of symlink(2).
pub fn symlink(cx: &dyn FsCtx, target: &[u8], start: Start, path: &[u8]) -> Result<(), SysErr> {
    if target.is_empty() {
        return Err(Errno::ENOENT.into());
    }
    if target.len() >= walk::PATH_MAX {
        return Err(Errno::ENAMETOOLONG.into());
    }
    with_new_name(cx, start, path, false, |dir, name, creds| {
        create(cx, creds, dir, name, NewKind::Symlink(target.to_vec()), 0)
    })?;
    Ok(())
}

/// Makes the name of a Unix socket that is being bound; `mode` before the umask.
///
/// # Errors
/// `EADDRINUSE` where the name is taken, and those of mknod(2).
pub fn bind_socket(
    cx: &dyn FsCtx,
    start: Start,
    path: &[u8],
    mode: u32,
    endpoint: Arc<dyn Any + Send + Sync>,
) -> Result<VfsPath, SysErr> {
    let made = with_new_name(cx, start, path, false, |dir, name, creds| {
        create(
            cx,
            creds,
            dir,
            name,
            NewKind::Socket(endpoint),
            mode & 0o7777,
        )
    });
    match made {
        Err(SysErr::Errno(Errno::EEXIST)) => Err(Errno::EADDRINUSE.into()),
        other => other,
    }
}

/// link(2), linkat(2): gives `old` another name. `old_flags` holds `FOLLOW` and `EMPTY`.
///
/// # Errors
/// Those of linkat(2).
pub fn link(
    cx: &dyn FsCtx,
    (old_start, old_path, old_flags): (Start, &[u8], LookupFlags),
    start: Start,
    path: &[u8],
) -> Result<(), SysErr> {
    if old_path.is_empty() && !cx.creds().has(Capability::DacReadSearch) {
        // `AT_EMPTY_PATH` would be a way around the search permissions of the path.
        return Err(Errno::ENOENT.into());
    }
    let old = walk::resolve(cx, old_start, old_path, old_flags)?;
    let parent = walk::resolve_parent(cx, start, path, LookupFlags::empty())?;
    let Last::Name(name) = &parent.last else {
        return Err(Errno::EEXIST.into());
    };
    let dir = &parent.dir;
    let creds = cx.creds();
    let _locked = dir.dentry.lock();
    if dir.dentry.lookup_locked(cx, name)?.is_some() {
        return Err(Errno::EEXIST.into());
    }
    if parent.slash {
        return Err(Errno::ENOENT.into());
    }
    access::mount_writable(dir)?;
    if !Arc::ptr_eq(&old.mount, &dir.mount) {
        return Err(Errno::EXDEV.into());
    }
    may_link(cx, &creds, &old)?;
    access::may_create(cx, &creds, dir)?;
    if old.is_dir() {
        return Err(Errno::EPERM.into());
    }
    if old.dentry.is_deleted() && !old.dentry.linkable() && old.attr(cx)?.nlink == 0 {
        return Err(Errno::ENOENT.into());
    }
    dir.inode().link(cx, name, old.inode())?;
    old.dentry.set_linkable(false);
    let inode: Arc<dyn Inode> = old.inode().clone();
    dir.dentry.adopt(inode, name);
    notify::linked(&old, dir, name);
    Ok(())
}

/// `fs.protected_hardlinks`: others' files may be linked only where they could be read and
/// written, and never set-id programs.
fn may_link(cx: &dyn FsCtx, creds: &Creds, old: &VfsPath) -> Result<(), Errno> {
    let attr = old.attr(cx)?;
    if !sysctl::PROTECTED_HARDLINKS.is_on() || access::owner_or_capable(creds, &attr).is_ok() {
        return Ok(());
    }
    let set_id =
        attr.perm & 0o4000 != 0 || attr.perm & (SETGID | GROUP_EXEC) == SETGID | GROUP_EXEC;
    let safe = attr.kind == FileType::Regular
        && !set_id
        && access::permission_of(cx, creds, old, &attr, access::READ | access::WRITE).is_ok();
    if safe { Ok(()) } else { Err(Errno::EPERM) }
}
