//! Extended attributes (xattr(7)).

use crate::access::{self, READ, WRITE, owner_or_capable};
use crate::filecaps;
use crate::notify::{self, Happened};
use crate::{FileType, VfsPath};
use abi::Errno;
use auth::Capability;
use ctx::Ctx;

/// Bytes in a value, at most.
const SIZE_MAX: usize = 65536;
/// Bytes in a name, at most.
const NAME_MAX: usize = 255;

/// Checks access to attribute `name` by the rules of its namespace.
fn check(cx: &dyn Ctx, at: &VfsPath, name: &[u8], write: bool) -> Result<(), Errno> {
    if name.is_empty() || name.len() > NAME_MAX {
        return Err(Errno::ERANGE);
    }
    let creds = cx.creds();
    if write {
        access::mount_writable(at)?;
    }
    let denied = if write { Errno::EPERM } else { Errno::ENODATA };
    if name.starts_with(b"trusted.") {
        return if creds.has(Capability::SysAdmin) {
            Ok(())
        } else {
            Err(denied)
        };
    }
    if name.starts_with(b"security.") {
        let may = || -> Result<bool, Errno> {
            if name != filecaps::NAME {
                return Ok(creds.has_in(at.mount.owner(), Capability::SysAdmin));
            }
            let attr = at.attr(cx)?;
            Ok(creds.has_over(attr.uid, attr.gid, Capability::Setfcap))
        };
        return if !write || may()? {
            Ok(())
        } else {
            Err(Errno::EPERM)
        };
    }
    if name.starts_with(b"system.") {
        return Err(Errno::EOPNOTSUPP);
    }
    if !name.starts_with(b"user.") {
        return Err(Errno::EOPNOTSUPP);
    }
    let attr = at.attr(cx)?;
    match attr.kind {
        FileType::Regular => {}
        // In sticky directories only the owner may set them.
        FileType::Directory => {
            if write && attr.perm & 0o1000 != 0 {
                owner_or_capable(&creds, &attr)?;
            }
        }
        _ => return Err(denied),
    }
    access::permission_of(cx, &creds, at, &attr, if write { WRITE } else { READ })
}

/// getxattr(2): the value.
///
/// # Errors
/// Those of getxattr(2) but for `ERANGE` of a short buffer, which the caller sees.
pub fn get_xattr(cx: &dyn Ctx, at: &VfsPath, name: &[u8]) -> Result<Vec<u8>, Errno> {
    check(cx, at, name, false)?;
    let value = at.inode().get_xattr(cx, name)?;
    if name == filecaps::NAME {
        return filecaps::to_show(&cx.creds().user_ns, &value);
    }
    Ok(value)
}

/// setxattr(2).
///
/// # Errors
/// Those of setxattr(2).
pub fn set_xattr(
    cx: &dyn Ctx,
    at: &VfsPath,
    name: &[u8],
    value: &[u8],
    flags: i32,
) -> Result<(), Errno> {
    if flags & !3 != 0 {
        return Err(Errno::EINVAL);
    }
    if value.len() > SIZE_MAX {
        return Err(Errno::E2BIG);
    }
    check(cx, at, name, true)?;
    let kept;
    let value = match name {
        filecaps::NAME => {
            kept = filecaps::to_keep(&cx.creds(), at, value)?;
            &kept
        }
        _ => value,
    };
    at.inode().set_xattr(cx, name, value, flags)?;
    notify::place(at, Happened::ATTRIB);
    Ok(())
}

/// removexattr(2).
///
/// # Errors
/// Those of removexattr(2).
pub fn remove_xattr(cx: &dyn Ctx, at: &VfsPath, name: &[u8]) -> Result<(), Errno> {
    check(cx, at, name, true)?;
    at.inode().remove_xattr(cx, name)?;
    notify::place(at, Happened::ATTRIB);
    Ok(())
}

/// listxattr(2): the names, without those that the caller may not see.
pub fn list_xattr(cx: &dyn Ctx, at: &VfsPath) -> Result<Vec<Vec<u8>>, Errno> {
    let mut names = match at.inode().list_xattr(cx) {
        // A file system without attributes lists none.
        Err(Errno::EOPNOTSUPP) => Vec::new(),
        other => other?,
    };
    if !cx.creds().has(Capability::SysAdmin) {
        names.retain(|n| !n.starts_with(b"trusted."));
    }
    Ok(names)
}
