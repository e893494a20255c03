//! What may be a name.

use control::fs::{MAX_NAME, MAX_TARGET};
use nix::errno::Errno;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

/// A single component, checked.
pub(crate) fn component(name: &[u8]) -> Result<&OsStr, Errno> {
    if name.len() > MAX_NAME {
        return Err(Errno::ENAMETOOLONG);
    }
    if name.is_empty() || name == b"." || name == b".." {
        return Err(Errno::EINVAL);
    }
    if name.contains(&b'/') || name.contains(&0) {
        return Err(Errno::EINVAL);
    }
    Ok(OsStr::from_bytes(name))
}

/// The target of a symbolic link: any path, since it is never followed here.
pub(crate) fn target(target: &[u8]) -> Result<&OsStr, Errno> {
    if target.len() > MAX_TARGET {
        return Err(Errno::ENAMETOOLONG);
    }
    if target.is_empty() {
        return Err(Errno::ENOENT);
    }
    if target.contains(&0) {
        return Err(Errno::EINVAL);
    }
    Ok(OsStr::from_bytes(target))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_single_components_pass() {
        assert!(component(b"a b").is_ok());
        assert!(component(b"...").is_ok());
        for bad in [&b""[..], b".", b"..", b"a/b", b"/", b"a\0b"] {
            assert_eq!(component(bad), Err(Errno::EINVAL), "{bad:?}");
        }
        assert_eq!(component(&[b'a'; 256]), Err(Errno::ENAMETOOLONG));
        assert!(component(&[b'a'; 255]).is_ok());
    }
}
