//! `security.capability`: the capabilities of a file, which count in the user namespaces of one root
//! (capabilities(7), "File capability extended attribute versioning").
//!
//! They are kept as the first user namespace has them: without a root where they count everywhere
//! (version 2), with one otherwise (version 3). Nobody inside can make any that count outside.

use crate::VfsPath;
use abi::Errno;
use auth::{Capability, Creds, UserNamespace};

/// The attribute.
pub(crate) const NAME: &[u8] = b"security.capability";

const REVISION: u32 = 0xff00_0000;
const VERSION_2: u32 = 0x0200_0000;
const VERSION_3: u32 = 0x0300_0000;
/// Revision and flags, and two sets of two words.
const SIZE_2: usize = 20;
/// That, and the root.
const SIZE_3: usize = 24;

/// A value, taken apart.
struct Value<'a> {
    flags: u32,
    sets: &'a [u8],
    root: Option<u32>,
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    let word = bytes.get(at..at + 4)?;
    Some(u32::from_le_bytes(word.try_into().ok()?))
}

fn decode(value: &[u8]) -> Option<Value<'_>> {
    let head = word(value, 0)?;
    let root = match (head & REVISION, value.len()) {
        (VERSION_2, SIZE_2) => None,
        (VERSION_3, SIZE_3) => Some(word(value, SIZE_2)?),
        _ => return None,
    };
    Some(Value {
        flags: head & !REVISION,
        sets: value.get(4..SIZE_2)?,
        root,
    })
}

impl Value<'_> {
    fn encode(&self, root: Option<u32>) -> Vec<u8> {
        let version = match root {
            Some(_) => VERSION_3,
            None => VERSION_2,
        };
        let mut value = (version | self.flags).to_le_bytes().to_vec();
        value.extend_from_slice(self.sets);
        value.extend(root.iter().flat_map(|root| root.to_le_bytes()));
        value
    }
}

/// What is kept of a `value` that `creds` sets on the file at `at` (`cap_convert_nscap`).
///
/// # Errors
/// `EINVAL` for what is none, or is of a root that nobody is.
pub(crate) fn to_keep(creds: &Creds, at: &VfsPath, value: &[u8]) -> Result<Vec<u8>, Errno> {
    let new = decode(value).ok_or(Errno::EINVAL)?;
    if new.root.is_none() && creds.has_in(at.mount.owner(), Capability::Setfcap) {
        return Ok(value.to_vec());
    }
    let root = creds.user_ns.uid(new.root.unwrap_or(0));
    Ok(new.encode(Some(root.ok_or(Errno::EINVAL)?)))
}

/// What a program in `ns` is told of a `value` that is kept (`cap_inode_getsecurity`).
///
/// # Errors
/// `EINVAL` for what is none, `EOVERFLOW` for what does not count in `ns`.
pub(crate) fn to_show(ns: &UserNamespace, value: &[u8]) -> Result<Vec<u8>, Errno> {
    let kept = decode(value).ok_or(Errno::EINVAL)?;
    let root = kept.root.unwrap_or(0);
    if let Some(root) = ns.uid_name(root).filter(|root| *root != 0) {
        return Ok(kept.encode(Some(root)));
    }
    let mut at = Some(ns);
    while let Some(ns) = at {
        if ns.uid_name(root) == Some(0) {
            return Ok(kept.encode(None));
        }
        at = ns.parent();
    }
    Err(Errno::EOVERFLOW)
}

#[cfg(test)]
mod tests {
    use super::*;
    use auth::IdKind;

    fn version_2() -> Vec<u8> {
        let mut value = (VERSION_2 | 1).to_le_bytes().to_vec();
        value.extend([7; 16]);
        value
    }

    #[test]
    fn what_is_none_is_refused() {
        for bad in [0, 4, 19, 21, 24] {
            let mut value = version_2();
            value.resize(bad, 0);
            assert!(decode(&value).is_none(), "{bad}");
        }
    }

    #[test]
    fn what_is_set_inside_counts_for_that_root_alone() {
        let user = Creds::user(1000, 1000);
        let inside = user.in_new_user_namespace(1, false).unwrap();
        let ns = &inside.user_ns;
        let by = (&inside, &inside);
        ns.write_map(IdKind::User, by, 0, b"0 1000 1").unwrap();
        let kept = decode(&version_2()).unwrap().encode(ns.uid(0));
        assert_eq!(decode(&kept).unwrap().root, Some(1000));
        assert_eq!(to_show(ns, &kept), Ok(version_2()));
        assert_eq!(to_show(&UserNamespace::default(), &kept), Ok(kept.clone()));
        let other = Creds::user(7, 7).in_new_user_namespace(2, false).unwrap();
        assert_eq!(to_show(&other.user_ns, &kept), Err(Errno::EOVERFLOW));
        // What counts everywhere is told as it is.
        assert_eq!(to_show(ns, &version_2()), Ok(version_2()));
    }
}
