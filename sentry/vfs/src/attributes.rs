//! chmod(2), chown(2), utimensat(2), truncate(2).

use crate::access::{self, WRITE, owner_or_capable};
use crate::leases::break_leases;
use crate::notify::{self, Happened};
use crate::{Attr, File, FileType, FsCtx, OpenFlags, SetAttr, VfsPath};
use abi::Errno;
use abi::time::Timespec;
use auth::{Capability, Creds, NO_ID};
use ctx::{Ctx, Resource, SysErr};

const SETUID: u32 = 0o4000;
const SETGID: u32 = 0o2000;
const GROUP_EXEC: u32 = 0o010;

/// A time of utimensat(2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetTime {
    /// `UTIME_OMIT`
    Omit,
    /// `UTIME_NOW`
    Now,
    /// This one.
    At(Timespec),
}

/// Adds the loss of set-id bits to a change of the file's content (`file_remove_privs`).
pub(crate) fn strip_privileges(creds: &Creds, attr: &Attr, set: &mut SetAttr) {
    let mut lost = attr.perm & SETUID;
    if attr.perm & (SETGID | GROUP_EXEC) == SETGID | GROUP_EXEC {
        lost |= SETGID;
    }
    if lost != 0 && attr.kind == FileType::Regular && !creds.has(Capability::Fsetid) {
        set.perm = Some(set.perm.unwrap_or(attr.perm) & !lost);
    }
}

/// The permission bits that a file with `attr` has after a write by `creds`, where they change:
/// for file systems, whose `write` must see to it.
pub fn perm_after_write(creds: &Creds, attr: &Attr) -> Option<u32> {
    let mut set = SetAttr::default();
    strip_privileges(creds, attr, &mut set);
    set.perm
}

/// Whether `creds` may have a file with `attr` run as its group.
fn in_group_or_capable(creds: &Creds, attr: &Attr) -> bool {
    creds.in_group(attr.gid) || creds.has_over(attr.uid, attr.gid, Capability::Fsetid)
}

/// chmod(2) of what is at `at`.
///
/// # Errors
/// `EROFS`, `EPERM`, `EOPNOTSUPP` for symbolic links.
pub fn chmod(cx: &dyn Ctx, at: &VfsPath, mode: u32) -> Result<(), Errno> {
    access::mount_writable(at)?;
    if at.kind() == FileType::Symlink {
        return Err(Errno::EOPNOTSUPP);
    }
    let creds = cx.creds();
    let attr = at.attr(cx)?;
    owner_or_capable(&creds, &attr)?;
    let mut perm = mode & 0o7777;
    if !in_group_or_capable(&creds, &attr) {
        perm &= !SETGID;
    }
    let set = SetAttr {
        perm: Some(perm),
        ctime: Some(cx.clocks().wall()),
        ..SetAttr::default()
    };
    at.inode().set_attr(cx, &set)?;
    notify::place(at, Happened::ATTRIB);
    Ok(())
}

/// chown(2) of what is at `at`, with ids as the caller calls them; [`NO_ID`] leaves an id as it is.
///
/// # Errors
/// `EROFS`, `EPERM`; `EINVAL` where nobody is called so.
pub fn chown(cx: &dyn Ctx, at: &VfsPath, uid: u32, gid: u32) -> Result<(), Errno> {
    access::mount_writable(at)?;
    let creds = cx.creds();
    let (uid, gid) = creds.user_ns.ids(uid, gid)?;
    let attr = at.attr(cx)?;
    let capable = creds.has_over(attr.uid, attr.gid, Capability::Chown);
    let owner = creds.fsuid == attr.uid;
    if uid != NO_ID && !capable && !(owner && uid == attr.uid) {
        return Err(Errno::EPERM);
    }
    if gid != NO_ID && !capable && !(owner && (gid == attr.gid || creds.in_group(gid))) {
        return Err(Errno::EPERM);
    }
    let mut set = SetAttr {
        uid: (uid != NO_ID).then_some(uid),
        gid: (gid != NO_ID).then_some(gid),
        ctime: Some(cx.clocks().wall()),
        ..SetAttr::default()
    };
    if attr.kind != FileType::Directory {
        let mut perm = attr.perm & !SETUID;
        let in_group = in_group_or_capable(&creds, &attr);
        if attr.perm & GROUP_EXEC != 0 || !in_group {
            perm &= !SETGID;
        }
        set.perm = (perm != attr.perm).then_some(perm);
    }
    at.inode().set_attr(cx, &set)?;
    // A call that changes nothing at all still changes the time of the change; that is no event.
    if uid != NO_ID || gid != NO_ID || set.perm.is_some() {
        notify::place(at, Happened::ATTRIB);
    }
    Ok(())
}

/// utimensat(2) of what is at `at`.
///
/// # Errors
/// `EROFS`; `EACCES` where both are `Now` and the file is neither owned nor writable; `EPERM`
/// where it is not owned otherwise; `EINVAL` for nanoseconds out of range.
pub fn utimens(cx: &dyn Ctx, at: &VfsPath, atime: SetTime, mtime: SetTime) -> Result<(), Errno> {
    for t in [atime, mtime] {
        if let SetTime::At(t) = t
            && !(0..1_000_000_000).contains(&t.nsec)
        {
            return Err(Errno::EINVAL);
        }
    }
    if (atime, mtime) == (SetTime::Omit, SetTime::Omit) {
        return Ok(());
    }
    access::mount_writable(at)?;
    let creds = cx.creds();
    let attr = at.attr(cx)?;
    if (atime, mtime) == (SetTime::Now, SetTime::Now) {
        if owner_or_capable(&creds, &attr).is_err() {
            access::permission_of(cx, &creds, at, &attr, WRITE)?;
        }
    } else {
        owner_or_capable(&creds, &attr)?;
    }
    let now = cx.clocks().wall();
    let time = |t| match t {
        SetTime::Omit => None,
        SetTime::Now => Some(now),
        SetTime::At(t) => Some(t),
    };
    let set = SetAttr {
        atime: time(atime),
        mtime: time(mtime),
        ctime: Some(now),
        ..SetAttr::default()
    };
    at.inode().set_attr(cx, &set)?;
    // One time alone looks as if the file had been read or written.
    let what = match (set.atime, set.mtime) {
        (Some(_), Some(_)) => Happened::ATTRIB,
        (Some(_), None) => Happened::ACCESS,
        _ => Happened::MODIFY,
    };
    notify::place(at, what);
    Ok(())
}

/// truncate(2) of what is at `at`.
///
/// # Errors
/// `EISDIR`, `EINVAL` for what is no regular file or a negative length, `EACCES`, `EROFS`,
/// `ETXTBSY`, `EFBIG`; a restart when interrupted while a lease stands against it.
pub fn truncate(cx: &dyn FsCtx, at: &VfsPath, len: i64) -> Result<(), SysErr> {
    let len = u64::try_from(len).map_err(|_| Errno::EINVAL)?;
    match at.kind() {
        FileType::Regular => {}
        FileType::Directory => return Err(Errno::EISDIR.into()),
        _ => return Err(Errno::EINVAL.into()),
    }
    access::mount_writable(at)?;
    access::permission(cx, &cx.creds(), at, WRITE)?;
    at.dentry.add_writer()?;
    let result = break_leases(cx, at, true, false)
        .and_then(|()| set_size(cx, at, len).map_err(SysErr::from));
    at.dentry.drop_writer();
    result
}

/// ftruncate(2).
///
/// # Errors
/// `EINVAL` unless it is a regular file opened for writing and `len` not negative; `EFBIG`.
pub fn ftruncate(cx: &dyn Ctx, file: &File, len: i64) -> Result<(), Errno> {
    let len = u64::try_from(len).map_err(|_| Errno::EINVAL)?;
    match file.path() {
        Some(at) if at.kind() == FileType::Regular && file.flags().writable() => {
            set_size(cx, at, len)
        }
        _ => Err(Errno::EINVAL),
    }
}

fn set_size(cx: &dyn Ctx, at: &VfsPath, len: u64) -> Result<(), Errno> {
    let attr = at.attr(cx)?;
    if len > attr.size && len > cx.limit(Resource::Fsize) {
        const SIGXFSZ: i32 = 25;
        cx.raise(SIGXFSZ);
        return Err(Errno::EFBIG);
    }
    let now = cx.clocks().wall();
    let mut set = SetAttr {
        size: Some(len),
        mtime: Some(now),
        ctime: Some(now),
        ..SetAttr::default()
    };
    strip_privileges(&cx.creds(), &attr, &mut set);
    at.inode().set_attr(cx, &set)?;
    let mut what = Happened::MODIFY;
    what.set(Happened::ATTRIB, set.perm.is_some());
    notify::place(at, what);
    Ok(())
}

/// Whether a read through `flags` at `at` must set the access time of a file with `attr`: for
/// file systems that keep it themselves.
pub fn wants_atime(at: &VfsPath, flags: OpenFlags, attr: &Attr, now: Timespec) -> bool {
    !flags.contains(OpenFlags::NOATIME)
        && at
            .mount
            .wants_atime(attr.kind, attr.atime, attr.mtime, attr.ctime, now)
}
