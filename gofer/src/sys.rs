//! The few calls that nix does not offer.
// UNSAFETY: thin wrappers of system calls; every pointer is to memory that lives through the call.
#![expect(
    unsafe_code,
    reason = "statx, getdents64, xattrs and open_tree have no safe wrapper"
)]

use control::fs::{Attr, Time};
use nix::errno::Errno;
use std::ffi::CStr;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// Takes a descriptor over that this process was started with.
pub(crate) fn adopt(number: RawFd) -> Result<OwnedFd, Errno> {
    // SAFETY: fcntl on any number is harmless.
    Errno::result(unsafe { libc::fcntl(number, libc::F_GETFD) })?;
    // SAFETY: open, as just seen, and nobody else in this process knows of it.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// A detached clone of the mount at `path`, as an `O_PATH` descriptor.
pub(crate) fn open_tree(path: &CStr) -> Result<OwnedFd, Errno> {
    let flags = libc::OPEN_TREE_CLONE | libc::OPEN_TREE_CLOEXEC;
    // SAFETY: a NUL-terminated path and plain flags.
    let fd = unsafe { libc::syscall(libc::SYS_open_tree, libc::AT_FDCWD, path.as_ptr(), flags) };
    let fd = Errno::result(fd)?;
    // SAFETY: a new descriptor of ours.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

/// Attributes of what `name` in `dir` is, without following it; with an empty name, of `dir`.
pub(crate) fn statx(dir: BorrowedFd<'_>, name: &CStr) -> Result<Attr, Errno> {
    let mut out = MaybeUninit::<libc::statx>::zeroed();
    let flags = libc::AT_SYMLINK_NOFOLLOW | libc::AT_NO_AUTOMOUNT | libc::AT_EMPTY_PATH;
    let mask = libc::STATX_BASIC_STATS | libc::STATX_BTIME;
    // SAFETY: `out` is as large as the kernel expects and lives through the call.
    let done = unsafe {
        libc::statx(
            dir.as_raw_fd(),
            name.as_ptr(),
            flags,
            mask,
            out.as_mut_ptr(),
        )
    };
    Errno::result(done)?;
    // SAFETY: zeroed before, filled now; every bit pattern is a valid statx.
    let s = unsafe { out.assume_init() };
    let time = |t: libc::statx_timestamp| Time {
        sec: t.tv_sec,
        nsec: t.tv_nsec,
    };
    Ok(Attr {
        dev: libc::makedev(s.stx_dev_major, s.stx_dev_minor),
        ino: s.stx_ino,
        mode: s.stx_mode.into(),
        nlink: s.stx_nlink.into(),
        uid: s.stx_uid,
        gid: s.stx_gid,
        rdev: libc::makedev(s.stx_rdev_major, s.stx_rdev_minor),
        size: s.stx_size,
        blksize: s.stx_blksize,
        blocks: s.stx_blocks,
        atime: time(s.stx_atime),
        mtime: time(s.stx_mtime),
        ctime: time(s.stx_ctime),
        btime: (s.stx_mask & libc::STATX_BTIME != 0).then(|| time(s.stx_btime)),
    })
}

/// One entry as getdents64(2) gives it.
pub(crate) struct Dirent {
    pub(crate) name: Vec<u8>,
    pub(crate) ino: u64,
    pub(crate) kind: u8,
    /// The cookie to go on from.
    pub(crate) next: u64,
}

/// The next entries of an open directory, as many as fit `buf`; none at its end.
pub(crate) fn getdents(dir: BorrowedFd<'_>, buf: &mut [u8]) -> Result<Vec<Dirent>, Errno> {
    // SAFETY: the buffer and its length belong together.
    let n = unsafe {
        libc::syscall(
            libc::SYS_getdents64,
            dir.as_raw_fd(),
            buf.as_mut_ptr(),
            buf.len(),
        )
    };
    let n = Errno::result(n)? as usize;
    let mut rest = buf.get(..n).unwrap_or_default();
    let mut list = Vec::new();
    // struct linux_dirent64: ino, off, reclen, type, name up to a NUL.
    while let Some((head, _)) = rest.split_at_checked(19) {
        let word = |at: usize| {
            let bytes = head.get(at..at + 8).and_then(|b| b.try_into().ok());
            u64::from_ne_bytes(bytes.unwrap_or_default())
        };
        let len = usize::from(u16::from_ne_bytes([head[16], head[17]]));
        let Some((record, after)) = rest.split_at_checked(len.max(19)) else {
            break;
        };
        let name = record.get(19..).unwrap_or_default();
        let name = name.split(|b| *b == 0).next().unwrap_or_default();
        list.push(Dirent {
            name: name.to_vec(),
            ino: word(0),
            kind: head[18],
            next: word(8),
        });
        rest = after;
    }
    Ok(list)
}

fn sized(
    mut call: impl FnMut(*mut libc::c_void, usize) -> libc::ssize_t,
    limit: usize,
) -> Result<Vec<u8>, Errno> {
    let mut buf = vec![0u8; 1024];
    loop {
        match Errno::result(call(buf.as_mut_ptr().cast(), buf.len())) {
            Ok(n) => {
                buf.truncate(n as usize);
                return Ok(buf);
            }
            Err(Errno::ERANGE) if buf.len() < limit => buf.resize(limit, 0),
            Err(e) => return Err(e),
        }
    }
}

/// getxattr(2)
pub(crate) fn getxattr(path: &CStr, name: &CStr) -> Result<Vec<u8>, Errno> {
    // SAFETY: strings end in NUL; the buffer and its length belong together.
    sized(
        |buf, len| unsafe { libc::getxattr(path.as_ptr(), name.as_ptr(), buf, len) },
        control::fs::MAX_XATTR,
    )
}

/// listxattr(2): names, each with its NUL.
pub(crate) fn listxattr(path: &CStr) -> Result<Vec<u8>, Errno> {
    // SAFETY: the path ends in NUL; the buffer and its length belong together.
    sized(
        |buf, len| unsafe { libc::listxattr(path.as_ptr(), buf.cast(), len) },
        control::fs::MAX_XATTR,
    )
}

/// setxattr(2)
pub(crate) fn setxattr(path: &CStr, name: &CStr, value: &[u8], flags: i32) -> Result<(), Errno> {
    // SAFETY: strings end in NUL; the value and its length belong together.
    let done = unsafe {
        libc::setxattr(
            path.as_ptr(),
            name.as_ptr(),
            value.as_ptr().cast(),
            value.len(),
            flags,
        )
    };
    Errno::result(done).map(drop)
}

/// removexattr(2)
pub(crate) fn removexattr(path: &CStr, name: &CStr) -> Result<(), Errno> {
    // SAFETY: strings end in NUL.
    Errno::result(unsafe { libc::removexattr(path.as_ptr(), name.as_ptr()) }).map(drop)
}
