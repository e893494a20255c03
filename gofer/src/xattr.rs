//! Which extended attributes cross the boundary.

use nix::errno::Errno;
use std::ffi::CString;

/// Checks a name that is read.
pub(crate) fn readable(name: &[u8]) -> Result<CString, Errno> {
    if name == b"security.capability" {
        checked(name)
    } else {
        writable(name)
    }
}

/// Checks a name that is set or removed: the user's own alone. `trusted.` and `security.` speak
/// to the host's kernel.
pub(crate) fn writable(name: &[u8]) -> Result<CString, Errno> {
    match name.strip_prefix(b"user.") {
        Some(rest) if !rest.is_empty() => checked(name),
        _ => Err(Errno::EOPNOTSUPP),
    }
}

fn checked(name: &[u8]) -> Result<CString, Errno> {
    if name.len() > control::fs::MAX_NAME {
        return Err(Errno::ERANGE);
    }
    CString::new(name).map_err(|_| Errno::EINVAL)
}

/// The names of a listxattr(2) answer that may be seen.
pub(crate) fn visible(list: &[u8]) -> Vec<Vec<u8>> {
    let names = list.split(|b| *b == 0).filter(|n| !n.is_empty());
    names
        .filter(|n| readable(n).is_ok())
        .map(<[u8]>::to_vec)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_users_own_names_are_written() {
        assert!(writable(b"user.a").is_ok());
        for bad in [
            &b"user."[..],
            b"trusted.overlay.opaque",
            b"security.capability",
            b"user",
        ] {
            assert_eq!(writable(bad), Err(Errno::EOPNOTSUPP));
        }
        assert!(readable(b"security.capability").is_ok());
        assert_eq!(visible(b"user.a\0trusted.b\0"), [b"user.a".to_vec()]);
    }
}
