//! What the host has mounted below a directory: each is a mount of its own in the sandbox, as in a
//! recursive bind mount of Linux's.

use crate::sys::{self, Found};
use control::boot::MountFlags;
use control::gofer::KERNELS;
use nix::errno::Errno;
use nix::sys::statfs::fstatfs;
use rustix::fs::{AtFlags, FileType, StatxFlags, statx};
use std::collections::HashSet;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::{fs, io};

/// A mount on the host.
#[derive(Debug)]
pub(crate) struct Submount {
    /// Where it is.
    pub(crate) path: PathBuf,
    /// The same from the directory on, beginning with a slash.
    pub(crate) below: String,
    /// The host's, which a bind mount begins with.
    pub(crate) flags: MountFlags,
    /// Its root.
    pub(crate) found: Found,
    /// Whether it is one, rather than a file.
    pub(crate) directory: bool,
}

/// One that the table has.
#[derive(Debug)]
struct Listed {
    id: u64,
    path: PathBuf,
    below: String,
    flags: MountFlags,
}

/// Those below `directory`, the outer before the inner, but for what cannot be looked at.
///
/// # Errors
/// Nothing is known of them.
pub(crate) fn below(directory: &Path) -> io::Result<Vec<Submount>> {
    let directory = directory.canonicalize()?;
    let table = fs::read("/proc/self/mountinfo")?;
    let lines = table.split(|byte| *byte == b'\n');
    let mut listed: Vec<Listed> = lines.filter_map(|l| candidate(l, &directory)).collect();
    listed.sort_by(|a, b| a.below.cmp(&b.below));
    let ids: HashSet<u64> = listed.iter().map(|mount| mount.id).collect();
    let mut sealed: Vec<PathBuf> = Vec::new();
    let mut found = Vec::new();
    for mount in listed {
        // The gofer lets nobody in there.
        if sealed.iter().any(|kernel| mount.path.starts_with(kernel)) {
            continue;
        }
        match open(&mount) {
            Ok(Opened::It {
                root,
                kernel,
                directory,
            }) => {
                if kernel {
                    sealed.push(mount.path.clone());
                }
                found.push(Submount {
                    found: root,
                    path: mount.path,
                    below: mount.below,
                    flags: mount.flags,
                    directory,
                });
            }
            // Another may be mounted over it, or over what it stands in.
            Ok(Opened::Other(id)) if ids.contains(&id) => {}
            Ok(Opened::Other(_)) => {
                let path = mount.path.display();
                tracing::warn!("{path} is left out: another mount is there, or none any more");
            }
            Err(e) => {
                let path = mount.path.display();
                tracing::warn!("{path} is left out: the mount there cannot be looked at: {e}");
            }
        }
    }
    Ok(found)
}

/// What is where a mount is said to be.
enum Opened {
    It {
        root: Found,
        kernel: bool,
        directory: bool,
    },
    Other(u64),
}

fn open(mount: &Listed) -> Result<Opened, Errno> {
    // Whoever may write to what it stands in may have put a link in its way since.
    let at = sys::open_found(&mount.path)?;
    let flags = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC;
    let there = statx(&at, c"", flags, StatxFlags::MNT_ID | StatxFlags::TYPE)
        .map_err(|e| Errno::from_raw(e.raw_os_error()))?;
    if there.stx_mask & StatxFlags::MNT_ID.bits() == 0 {
        return Err(Errno::EOPNOTSUPP);
    }
    if there.stx_mnt_id != mount.id {
        return Ok(Opened::Other(there.stx_mnt_id));
    }
    let directory = FileType::from_raw_mode(there.stx_mode.into()) == FileType::Directory;
    let kernel = fstatfs(&at).map_or(true, |s| KERNELS.contains(&s.filesystem_type().0));
    let root = Found::new(at)?;
    Ok(Opened::It {
        root,
        kernel,
        directory,
    })
}

/// What a line of mountinfo is about, where that is below `directory` and may be bound.
fn candidate(line: &[u8], directory: &Path) -> Option<Listed> {
    let mut fields = line.split(|byte| *byte == b' ');
    let id = std::str::from_utf8(fields.next()?).ok()?.parse().ok()?;
    let path = PathBuf::from(OsString::from_vec(plain(fields.nth(3)?)));
    let rest = path.strip_prefix(directory).ok()?;
    if rest.as_os_str().is_empty() {
        return None;
    }
    let Some(rest) = rest.to_str() else {
        tracing::warn!("{} is left out: its name is not UTF-8", path.display());
        return None;
    };
    let below = format!("/{rest}");
    let flags = flags(fields.next()?);
    // Tags, up to a dash.
    let mut tags = fields.take_while(|tag| *tag != b"-");
    if tags.any(|tag| tag == b"unbindable") {
        return None;
    }
    Some(Listed {
        id,
        path,
        below,
        flags,
    })
}

fn flags(options: &[u8]) -> MountFlags {
    let has = |name: &[u8]| options.split(|byte| *byte == b',').any(|o| o == name);
    MountFlags {
        readonly: has(b"ro"),
        nosuid: has(b"nosuid"),
        nodev: has(b"nodev"),
        noexec: has(b"noexec"),
        noatime: has(b"noatime"),
        nodiratime: has(b"nodiratime"),
        strictatime: !has(b"noatime") && !has(b"relatime"),
        nosymfollow: has(b"nosymfollow"),
    }
}

/// A path as it is: the table has some characters as a backslash and three octal digits.
fn plain(field: &[u8]) -> Vec<u8> {
    let mut path = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((byte, after)) = rest.split_first() {
        let digits = after.get(..3).and_then(|d| std::str::from_utf8(d).ok());
        let escaped = digits.and_then(|d| u8::from_str_radix(d, 8).ok());
        let escaped = escaped.filter(|_| *byte == b'\\');
        path.push(escaped.unwrap_or(*byte));
        rest = after
            .get(if escaped.is_some() { 3 } else { 0 }..)
            .unwrap_or_default();
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_table_are_read() {
        let line = b"36 35 98:0 /mnt1 /a/b\\040c rw,nosuid,noatime master:1 - ext3 /dev/root rw";
        let mount = candidate(line, Path::new("/a")).unwrap();
        assert_eq!(mount.id, 36);
        assert_eq!(mount.path, Path::new("/a/b c"));
        assert_eq!(mount.below, "/b c");
        assert!(mount.flags.nosuid && mount.flags.noatime && !mount.flags.strictatime);
        let mount = candidate(line, Path::new("/")).unwrap();
        assert_eq!(mount.below, "/a/b c");
        for other in ["/a/b c", "/a/b", "/x"] {
            assert!(candidate(line, Path::new(other)).is_none(), "{other}");
        }
        let unbindable = b"36 35 98:0 / /a/b rw unbindable - tmpfs none rw";
        assert!(candidate(unbindable, Path::new("/a")).is_none());
        let strict = b"36 35 98:0 / /a/b ro - tmpfs none rw";
        let mount = candidate(strict, Path::new("/a")).unwrap();
        assert!(mount.flags.strictatime && mount.flags.readonly);
        for odd in ["", "x", "1 2", "1 2 3 4 /a/b"] {
            assert!(candidate(odd.as_bytes(), Path::new("/a")).is_none());
        }
        assert_eq!(plain(b"a\\134\\9"), b"a\\\\9");
        assert_eq!(plain(b"\\777\\"), b"\\777\\");
    }

    #[test]
    fn what_stands_in_a_mounts_place_is_not_taken_for_it() {
        let dir = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("/proc", dir.path().join("link")).unwrap();
        let listed = |path: PathBuf| Listed {
            id: u64::MAX,
            path,
            below: String::new(),
            flags: MountFlags::default(),
        };
        for (name, errno) in [
            ("link", Errno::ELOOP),
            ("link/self", Errno::ELOOP),
            ("gone", Errno::ENOENT),
        ] {
            let opened = open(&listed(dir.path().join(name)));
            assert!(opened.is_err_and(|e| e == errno), "{name}");
        }
        let opened = open(&listed(PathBuf::from("/proc")));
        assert!(matches!(opened, Ok(Opened::Other(_))));
    }

    #[test]
    fn what_is_mounted_is_found() {
        let found = below(Path::new("/")).unwrap();
        let proc = found.iter().find(|m| m.below == "/proc");
        assert!(proc.is_some_and(|m| m.directory), "{found:?}");
        assert!(below(Path::new("/no/such")).is_err());
    }
}
