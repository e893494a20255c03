//! fcntl(2) and flock(2).

use crate::user::{Args, fd, file};
use abi::Errno;
use abi::file::{Flock, OwnerEx};
use abi::libc;
use ctx::{Ctx, Resource, SysErr, SysResult, UserMemoryExt};
use std::sync::Arc;
use task::TaskCx;
use vfs::sigio::OwnerKind;
use vfs::{File, FsCtx, LeaseKind, LockOwner, OpenFlags, Pipe};

const F_SETSIG: i32 = 10;
const F_GETSIG: i32 = 11;
const F_SETOWN_EX: i32 = 15;
const F_GETOWN_EX: i32 = 16;
const F_GETOWNER_UIDS: i32 = 17;
const LOCK_MAND: i32 = 32;
const F_OWNER_TID: i32 = 0;
const F_OWNER_PID: i32 = 1;
const F_OWNER_PGRP: i32 = 2;

pub(crate) fn fcntl(cx: &mut TaskCx, &[fd_arg, op, arg, ..]: &Args) -> SysResult<u64> {
    let fds = cx.fd_table();
    let (fd, op) = (fd(fd_arg), op as i32);
    let file = fds.get_path_ok(fd)?;
    let limit = cx.limit(Resource::Nofile);
    // These work on O_PATH descriptors also.
    match op {
        libc::F_DUPFD | libc::F_DUPFD_CLOEXEC => {
            let min = u32::try_from(arg as i32).map_err(|_| Errno::EINVAL)?;
            if u64::from(min) >= limit {
                return Err(Errno::EINVAL.into());
            }
            return Ok(fds.insert(file, op == libc::F_DUPFD_CLOEXEC, min as i32, limit)? as u64);
        }
        libc::F_GETFD => return Ok(u64::from(fds.cloexec(fd)?)),
        libc::F_SETFD => {
            fds.set_cloexec(fd, arg as i32 & libc::FD_CLOEXEC != 0)?;
            return Ok(0);
        }
        libc::F_GETFL => return Ok(u64::from(file.flags().bits())),
        _ if file.is_path_only() => return Err(Errno::EBADF.into()),
        _ => {}
    }
    match op {
        libc::F_SETFL => file.set_flags(cx, fd, OpenFlags::from_guest(arg as u32))?,
        libc::F_GETLK => get_lock(cx, &file, arg, posix(cx))?,
        libc::F_SETLK | libc::F_SETLKW => {
            let taken = set_lock(cx, &file, arg, posix(cx), op == libc::F_SETLKW)?;
            // Another thread may have closed the descriptor meanwhile; the lock that came after that
            // would be nobody's to give back.
            if let Some((start, last)) = taken
                && !fds.holds(fd, &file)
            {
                vfs::unlock_range(&file, posix(cx), start, last);
                return Err(Errno::EBADF.into());
            }
        }
        libc::F_OFD_GETLK => get_lock(cx, &file, arg, LockOwner::Description)?,
        libc::F_OFD_SETLK | libc::F_OFD_SETLKW => {
            let wait = op == libc::F_OFD_SETLKW;
            set_lock(cx, &file, arg, LockOwner::Description, wait)?;
        }
        libc::F_GETOWN => return Ok(get_owner(cx, &file) as u64),
        libc::F_SETOWN => set_owner(cx, &file, arg as i32)?,
        F_GETOWN_EX => cx.memory().write_obj(arg, &owner_ex(cx, &file))?,
        F_SETOWN_EX => set_owner_ex(cx, &file, cx.memory().read_obj(arg)?)?,
        F_GETOWNER_UIDS => cx.memory().write_obj(arg, &owner_users(cx, &file))?,
        F_GETSIG => return Ok(file.recipient().signal() as u64),
        F_SETSIG => match arg as i32 {
            n @ 0..=64 => file.recipient().set_signal(n),
            _ => return Err(Errno::EINVAL.into()),
        },
        libc::F_GETPIPE_SZ => return Ok(Pipe::of(&file).ok_or(Errno::EBADF)?.capacity() as u64),
        libc::F_SETPIPE_SZ => {
            let pipe = Pipe::of(&file).ok_or(Errno::EBADF)?;
            return Ok(pipe.set_capacity(cx, u64::from(arg as u32))? as u64);
        }
        libc::F_ADD_SEALS => file.ops().add_seals(&file, arg as u32)?,
        libc::F_GET_SEALS => return Ok(u64::from(file.ops().seals()?)),
        libc::F_NOTIFY => vfs::dnotify::watch(cx, &file, fd, arg as u32)?,
        libc::F_SETLEASE => set_lease(cx, &file, fd, arg as i32)?,
        libc::F_GETLEASE => {
            return Ok(match vfs::lease(&file) {
                Some(LeaseKind::Read) => libc::F_RDLCK,
                Some(LeaseKind::Write) => libc::F_WRLCK,
                None => libc::F_UNLCK,
            } as u64);
        }
        _ => return Err(Errno::EINVAL.into()),
    }
    Ok(0)
}

fn set_lease(cx: &TaskCx, file: &File, fd: i32, kind: i32) -> Result<(), Errno> {
    let kind = match kind {
        libc::F_RDLCK => Some(LeaseKind::Read),
        libc::F_WRLCK => Some(LeaseKind::Write),
        libc::F_UNLCK => None,
        _ => return Err(Errno::EINVAL),
    };
    vfs::set_lease(cx, file, fd, kind)
}

fn posix(cx: &TaskCx) -> LockOwner {
    LockOwner::Process {
        table: cx.fd_table().id(),
        pid: cx.process_id(),
    }
}

/// First and last byte of what `l` describes.
fn range(cx: &TaskCx, file: &File, l: &Flock) -> Result<(u64, u64), Errno> {
    let base: i64 = match i32::from(l.whence) {
        libc::SEEK_SET => 0,
        libc::SEEK_CUR => file.position() as i64,
        libc::SEEK_END => i64::try_from(file.attr(cx)?.size).map_err(|_| Errno::EOVERFLOW)?,
        _ => return Err(Errno::EINVAL),
    };
    let start = base.checked_add(l.start).ok_or(Errno::EOVERFLOW)?;
    if start < 0 {
        return Err(Errno::EINVAL);
    }
    let (start, last) = if l.len > 0 {
        (start, start.checked_add(l.len - 1).ok_or(Errno::EOVERFLOW)?)
    } else if l.len < 0 {
        // A negative length is what lies before the start.
        let first = start
            .checked_add(l.len)
            .filter(|f| *f >= 0)
            .ok_or(Errno::EINVAL)?;
        (first, start - 1)
    } else {
        (start, i64::MAX)
    };
    Ok((start as u64, last as u64))
}

fn get_lock(cx: &TaskCx, file: &File, addr: u64, owner: LockOwner) -> Result<(), Errno> {
    let mut l: Flock = cx.memory().read_obj(addr)?;
    let kind = i32::from(l.kind);
    if owner != LockOwner::Description && !matches!(kind, libc::F_RDLCK | libc::F_WRLCK) {
        return Err(Errno::EINVAL);
    }
    let (start, last) = range(cx, file, &l)?;
    if !matches!(kind, libc::F_RDLCK | libc::F_WRLCK | libc::F_UNLCK)
        || (owner == LockOwner::Description && l.pid != 0)
    {
        return Err(Errno::EINVAL);
    }
    let found = match kind {
        // Since Linux 6.5, this asks a description for its own locks.
        libc::F_UNLCK => vfs::own_lock(file, owner, start, last),
        kind => vfs::conflicting_lock(file, owner, kind == libc::F_WRLCK, start, last),
    };
    match found {
        None => l.kind = libc::F_UNLCK as i16,
        Some(other) => {
            l.kind = if other.write {
                libc::F_WRLCK
            } else {
                libc::F_RDLCK
            } as i16;
            l.whence = libc::SEEK_SET as i16;
            l.start = other.start as i64;
            l.len = if other.last == i64::MAX as u64 {
                0
            } else {
                (other.last - other.start + 1) as i64
            };
            let space = cx.pid_namespace().space();
            l.pid = other.pid.map_or(-1, |pid| pid.seen_from(space));
        }
    }
    cx.memory().write_obj(addr, &l)
}

/// Returns the range that was locked.
fn set_lock(
    cx: &TaskCx,
    file: &Arc<File>,
    addr: u64,
    owner: LockOwner,
    wait: bool,
) -> Result<Option<(u64, u64)>, SysErr> {
    let l: Flock = cx.memory().read_obj(addr)?;
    let (start, last) = range(cx, file, &l)?;
    let write = match i32::from(l.kind) {
        libc::F_UNLCK => None,
        libc::F_RDLCK if !file.flags().readable() => return Err(Errno::EBADF.into()),
        libc::F_RDLCK => Some(false),
        libc::F_WRLCK if !file.flags().writable() => return Err(Errno::EBADF.into()),
        libc::F_WRLCK => Some(true),
        _ => return Err(Errno::EINVAL.into()),
    };
    if owner == LockOwner::Description && l.pid != 0 {
        return Err(Errno::EINVAL.into());
    }
    let Some(write) = write else {
        vfs::unlock_range(file, owner, start, last);
        return Ok(None);
    };
    vfs::lock_range(cx, file, owner, write, (start, last), wait)?;
    Ok(Some((start, last)))
}

/// The owner of a file (F_GETOWN, `FIOGETOWN`): the id of a group is negative.
pub(crate) fn get_owner(cx: &TaskCx, file: &File) -> i32 {
    match owner(cx, file) {
        (OwnerKind::Group, id) => -id,
        (_, id) => id,
    }
}

fn owner(cx: &TaskCx, file: &File) -> (OwnerKind, i32) {
    let (kind, owner) = file.recipient().owner();
    (kind, owner.map_or(0, |owner| cx.file_owner_id(&*owner)))
}

fn owner_users(cx: &TaskCx, file: &File) -> [u32; 2] {
    let owner = file.recipient().owner().1;
    let (real, effective) = owner.map_or((0, 0), |owner| cx.file_owner_users(&*owner));
    let told = |id| cx.creds_ref().user_ns.uid_name(id).unwrap_or(auth::NO_ID);
    [told(real), told(effective)]
}

/// Sets the owner of a file (F_SETOWN, `FIOSETOWN`).
///
/// # Errors
/// `ESRCH`; `EINVAL` for the number that has no negative.
pub(crate) fn set_owner(cx: &TaskCx, file: &File, who: i32) -> Result<(), Errno> {
    if who < 0 {
        let group = who.checked_neg().ok_or(Errno::EINVAL)?;
        return own(cx, file, OwnerKind::Group, group);
    }
    own(cx, file, OwnerKind::Process, who)
}

fn own(cx: &TaskCx, file: &File, kind: OwnerKind, id: i32) -> Result<(), Errno> {
    let owner = match id {
        0 => None,
        id => Some(cx.file_owner(kind, id).ok_or(Errno::ESRCH)?),
    };
    file.recipient().set_owner(kind, owner);
    Ok(())
}

fn owner_ex(cx: &TaskCx, file: &File) -> OwnerEx {
    let (kind, pid) = owner(cx, file);
    let kind = match kind {
        OwnerKind::Thread => F_OWNER_TID,
        OwnerKind::Process => F_OWNER_PID,
        OwnerKind::Group => F_OWNER_PGRP,
    };
    OwnerEx { kind, pid }
}

fn set_owner_ex(cx: &TaskCx, file: &File, to: OwnerEx) -> Result<(), Errno> {
    let kind = match to.kind {
        F_OWNER_TID => OwnerKind::Thread,
        F_OWNER_PID => OwnerKind::Process,
        F_OWNER_PGRP => OwnerKind::Group,
        _ => return Err(Errno::EINVAL),
    };
    own(cx, file, kind, to.pid)
}

pub(crate) fn flock(cx: &mut TaskCx, &[fd, op, ..]: &Args) -> SysResult<u64> {
    let op = op as i32;
    // Mandatory locks are gone; who asks for one is told that all is well.
    if op & LOCK_MAND != 0 {
        return Ok(0);
    }
    let lock = match op & !libc::LOCK_NB {
        libc::LOCK_SH => Some(false),
        libc::LOCK_EX => Some(true),
        libc::LOCK_UN => None,
        _ => return Err(Errno::EINVAL.into()),
    };
    let file = file(cx, fd)?;
    vfs::flock(cx, &file, lock, op & libc::LOCK_NB != 0)?;
    Ok(0)
}
