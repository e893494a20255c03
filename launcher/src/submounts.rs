//! What the host has mounted below a directory: each is a mount of its own in the sandbox, as in a
//! recursive bind mount of Linux's.

use control::boot::MountFlags;
use rustix::fs::{AtFlags, CWD, FileType, StatxFlags, statx};
use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

/// A mount on the host.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Submount {
    /// Where it is.
    pub(crate) path: PathBuf,
    /// The same from the directory on, beginning with a slash.
    pub(crate) below: String,
    /// The host's, which a bind mount begins with.
    pub(crate) flags: MountFlags,
    /// Whether it is one, rather than a file.
    pub(crate) directory: bool,
}

/// Those below `directory`, the outer before the inner.
pub(crate) fn below(directory: &Path) -> Vec<Submount> {
    let Ok(directory) = directory.canonicalize() else {
        return Vec::new();
    };
    let table = fs::read("/proc/self/mountinfo").unwrap_or_default();
    let lines = table.split(|byte| *byte == b'\n');
    let found = lines.filter_map(|line| candidate(line, &directory));
    let mut found: Vec<Submount> = found
        .filter_map(|(id, mut mount)| {
            // Another may be mounted over it, or over what it stands in.
            let flags =
                AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT | AtFlags::STATX_DONT_SYNC;
            let wanted = StatxFlags::MNT_ID | StatxFlags::TYPE;
            let there = statx(CWD, &mount.path, flags, wanted).ok()?;
            let kind = FileType::from_raw_mode(there.stx_mode.into());
            mount.directory = kind == FileType::Directory;
            (there.stx_mnt_id == id).then_some(mount)
        })
        .collect();
    found.sort_by(|a, b| a.below.cmp(&b.below));
    found
}

/// Number and description of what a line of mountinfo is about, where that is below `directory` and
/// may be bound.
fn candidate(line: &[u8], directory: &Path) -> Option<(u64, Submount)> {
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
    let directory = true;
    Some((
        id,
        Submount {
            path,
            below,
            flags,
            directory,
        },
    ))
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
        let (id, mount) = candidate(line, Path::new("/a")).unwrap();
        assert_eq!(id, 36);
        assert_eq!(mount.path, Path::new("/a/b c"));
        assert_eq!(mount.below, "/b c");
        assert!(mount.flags.nosuid && mount.flags.noatime && !mount.flags.strictatime);
        let (_, mount) = candidate(line, Path::new("/")).unwrap();
        assert_eq!(mount.below, "/a/b c");
        for other in ["/a/b c", "/a/b", "/x"] {
            assert!(candidate(line, Path::new(other)).is_none(), "{other}");
        }
        let unbindable = b"36 35 98:0 / /a/b rw unbindable - tmpfs none rw";
        assert!(candidate(unbindable, Path::new("/a")).is_none());
        let strict = b"36 35 98:0 / /a/b ro - tmpfs none rw";
        let (_, mount) = candidate(strict, Path::new("/a")).unwrap();
        assert!(mount.flags.strictatime && mount.flags.readonly);
        for odd in ["", "x", "1 2", "1 2 3 4 /a/b"] {
            assert!(candidate(odd.as_bytes(), Path::new("/a")).is_none());
        }
        assert_eq!(plain(b"a\\134\\9"), b"a\\\\9");
        assert_eq!(plain(b"\\777\\"), b"\\777\\");
    }

    #[test]
    fn what_is_mounted_is_found() {
        let found = below(Path::new("/"));
        let proc = found.iter().find(|m| m.below == "/proc");
        assert!(proc.is_some_and(|m| m.directory), "{found:?}");
        assert!(below(Path::new("/no/such")).is_empty());
    }
}
