//! Setting file times.

use crate::file_stat::lookup;
use crate::user::{Args, fd, path_at};
use abi::Errno;
use abi::libc;
use abi::time::{Timespec, Timeval};
use ctx::{Ctx, SysResult, UserMemoryExt};
use task::TaskCx;
use vfs::{LookupFlags, SetTime};

/// `AT_FDCWD` as an argument register has it.
const CWD: u64 = libc::AT_FDCWD as u64;

/// The times as they are set: one that is none is told when the file has been found.
fn both(times: Option<[Timespec; 2]>) -> Result<[SetTime; 2], Errno> {
    match times {
        None => Ok([SetTime::Now, SetTime::Now]),
        Some([a, m]) => Ok([set_time(a)?, set_time(m)?]),
    }
}

fn set_time(t: Timespec) -> Result<SetTime, Errno> {
    match t.nsec {
        libc::UTIME_NOW => Ok(SetTime::Now),
        libc::UTIME_OMIT => Ok(SetTime::Omit),
        0..1_000_000_000 => Ok(SetTime::At(t)),
        _ => Err(Errno::EINVAL),
    }
}

fn from_timeval(t: Timeval) -> Result<SetTime, Errno> {
    if !(0..1_000_000).contains(&t.usec) {
        return Err(Errno::EINVAL);
    }
    Ok(SetTime::At(Timespec {
        sec: t.sec,
        nsec: t.usec * 1000,
    }))
}

fn apply(cx: &TaskCx, dirfd: u64, name: u64, times: [SetTime; 2]) -> SysResult<u64> {
    let [atime, mtime] = times;
    let (start, name) = path_at(cx, dirfd, name)?;
    let at = vfs::walk::resolve(cx, start, &name, LookupFlags::FOLLOW)?;
    vfs::utimens(cx, &at, atime, mtime)?;
    Ok(0)
}

pub(crate) fn utimensat(
    cx: &mut TaskCx,
    &[dirfd, name, times, flags, ..]: &Args,
) -> SysResult<u64> {
    let times = match times {
        0 => None,
        addr => {
            let [a, m]: [Timespec; 2] = cx.memory().read_obj(addr)?;
            // Nothing is to be done, and nothing is looked at.
            if a.nsec == libc::UTIME_OMIT && m.nsec == libc::UTIME_OMIT {
                return Ok(0);
            }
            Some([a, m])
        }
    };
    let flags = flags as i32;
    if name == 0 && fd(dirfd) != libc::AT_FDCWD {
        // futimens(): the descriptor itself.
        if flags != 0 {
            return Err(Errno::EINVAL.into());
        }
        let file = cx.fd_table().get(fd(dirfd))?;
        let [atime, mtime] = both(times)?;
        vfs::utimens(cx, &file.place(), atime, mtime)?;
        return Ok(0);
    }
    if flags & !(libc::AT_SYMLINK_NOFOLLOW | libc::AT_EMPTY_PATH) != 0 {
        return Err(Errno::EINVAL.into());
    }
    let (start, name) = path_at(cx, dirfd, name)?;
    let at = vfs::walk::resolve(cx, start, &name, lookup(flags))?;
    let [atime, mtime] = both(times)?;
    vfs::utimens(cx, &at, atime, mtime)?;
    Ok(0)
}

pub(crate) fn futimesat(cx: &mut TaskCx, &[dirfd, name, times, ..]: &Args) -> SysResult<u64> {
    let times = match times {
        0 => [SetTime::Now, SetTime::Now],
        addr => {
            let [a, m]: [Timeval; 2] = cx.memory().read_obj(addr)?;
            [from_timeval(a)?, from_timeval(m)?]
        }
    };
    if name == 0 && fd(dirfd) != libc::AT_FDCWD {
        let [atime, mtime] = times;
        let file = cx.fd_table().get(fd(dirfd))?;
        vfs::utimens(cx, &file.place(), atime, mtime)?;
        return Ok(0);
    }
    apply(cx, dirfd, name, times)
}

pub(crate) fn utimes(cx: &mut TaskCx, &[name, times, ..]: &Args) -> SysResult<u64> {
    futimesat(cx, &[CWD, name, times, 0, 0, 0])
}

pub(crate) fn utime(cx: &mut TaskCx, &[name, times, ..]: &Args) -> SysResult<u64> {
    let times = match times {
        0 => [SetTime::Now, SetTime::Now],
        addr => {
            let [a, m]: [i64; 2] = cx.memory().read_obj(addr)?;
            [a, m].map(|sec| SetTime::At(Timespec { sec, nsec: 0 }))
        }
    };
    apply(cx, CWD, name, times)
}
