//! Attributes, as the wire and as vfs have them.

use abi::time::Timespec;
use control::fs;
use vfs::{Attr, FileType, NewFile};

pub(crate) fn timespec(t: fs::Time) -> Timespec {
    Timespec {
        sec: t.sec,
        nsec: t.nsec.into(),
    }
}

pub(crate) fn time(t: Timespec) -> fs::Time {
    fs::Time {
        sec: t.sec,
        nsec: u32::try_from(t.nsec).unwrap_or(0),
    }
}

/// What a file's mode says it is; the host knows no other types.
pub(crate) fn kind(mode: u32) -> FileType {
    FileType::from_mode(mode).unwrap_or(FileType::Regular)
}

/// With `dev` in the place of the host's device number.
pub(crate) fn attr(a: &fs::Attr, dev: u64) -> Attr {
    Attr {
        dev,
        ino: a.ino,
        kind: kind(a.mode),
        perm: a.mode & 0o7777,
        nlink: a.nlink,
        uid: a.uid,
        gid: a.gid,
        rdev: a.rdev,
        size: a.size,
        blksize: a.blksize,
        blocks: a.blocks,
        atime: timespec(a.atime),
        mtime: timespec(a.mtime),
        ctime: timespec(a.ctime),
        btime: a.btime.map(timespec),
    }
}

pub(crate) fn owner(new: &NewFile) -> fs::Owner {
    fs::Owner {
        perm: new.perm,
        uid: new.uid,
        gid: new.gid,
    }
}
