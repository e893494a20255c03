//! What stands in /dev (runtime-spec, "Default Devices" and "Dev symbolic links").

use abi::Errno;
use abi::stat::makedev;
use ctx::Ctx;
use std::sync::Arc;
use vfs::{FileType, Inode, NewFile, NewKind};

/// Name, major, minor, permissions.
const DEVICES: &[(&str, u32, u32, u32)] = &[
    ("null", 1, 3, 0o666),
    ("zero", 1, 5, 0o666),
    ("full", 1, 7, 0o666),
    ("random", 1, 8, 0o666),
    ("urandom", 1, 9, 0o666),
    ("tty", 5, 0, 0o666),
];

const LINKS: &[(&str, &str)] = &[
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("ptmx", "pts/ptmx"),
];

/// Fills `dev`, the root directory of a new tmpfs, with what every container finds there.
/// `console` says whether the container has a terminal of its own.
pub fn populate(cx: &dyn Ctx, dev: &Arc<dyn Inode>, console: bool) -> Result<(), Errno> {
    let owner = |perm| NewFile {
        perm,
        uid: 0,
        gid: 0,
    };
    let make = |name: &str, kind: NewKind, perm: u32| match dev.create(
        cx,
        name.as_bytes(),
        kind,
        &owner(perm),
    ) {
        Ok(_) | Err(Errno::EEXIST) => Ok(()),
        Err(e) => Err(e),
    };
    for (name, major, minor, perm) in DEVICES {
        make(
            name,
            NewKind::Device(FileType::CharDevice, makedev(*major, *minor)),
            *perm,
        )?;
    }
    if console {
        make(
            "console",
            NewKind::Device(FileType::CharDevice, makedev(5, 1)),
            0o600,
        )?;
    }
    for (name, target) in LINKS {
        make(name, NewKind::Symlink(target.as_bytes().to_vec()), 0o777)?;
    }
    for (name, perm) in [("pts", 0o755), ("shm", 0o1777), ("mqueue", 0o1777)] {
        make(name, NewKind::Directory, perm)?;
    }
    Ok(())
}
