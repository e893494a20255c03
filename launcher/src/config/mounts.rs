//! The spec's mounts and their options.

use super::{ConfigError, Mount, Source, field, process::text};
use control::boot::MountFlags;
use oci_spec::runtime as oci;
use std::path::Path;

/// Types that the sentry has.
const KERNEL_TYPES: &[&str] = &[
    "proc", "sysfs", "tmpfs", "devpts", "devtmpfs", "mqueue", "cgroup", "cgroup2", "ramfs",
];

/// Checks and converts; bind sources are relative to `bundle`.
pub(super) fn convert(mount: &oci::Mount, bundle: &Path) -> Result<Mount, ConfigError> {
    let destination = text("mounts.destination", mount.destination())?;
    let destination = clean(&destination);
    let options = mount.options().clone().unwrap_or_default();
    let fstype = mount.typ().clone().unwrap_or_default();
    let (flags, data, bind) = parse_options(&options);
    let bind = bind || matches!(fstype.as_str(), "bind" | "rbind");
    let source = if bind {
        let Some(path) = mount.source() else {
            return Err(field(
                "mounts",
                format!("the bind mount on {destination} has no source"),
            ));
        };
        let path = bundle.join(path);
        std::fs::metadata(&path).map_err(|source| ConfigError::BindSource {
            path: path.clone(),
            destination: destination.clone(),
            source,
        })?;
        Source::Bind(path)
    } else if KERNEL_TYPES.contains(&fstype.as_str()) {
        let device = match mount.source() {
            Some(path) => text("mounts.source", path)?,
            None => fstype.clone(),
        };
        Source::Kernel { fstype, device }
    } else {
        let have = KERNEL_TYPES.join(", ");
        let problem = format!(
            "{destination} has type `{fstype}`, which the sandbox does not have; it has bind, {have}"
        );
        return Err(field("mounts.type", problem));
    };
    Ok(Mount {
        destination,
        source,
        flags,
        data,
    })
}

/// A destination as runc understands it: from the root, even where it does not say so, with `.`
/// and `..` resolved in the text alone.
fn clean(destination: &str) -> String {
    let mut names = Vec::new();
    for name in destination.split('/') {
        match name {
            "" | "." => {}
            ".." => drop(names.pop()),
            name => names.push(name),
        }
    }
    format!("/{}", names.join("/"))
}

/// Flags, file system options, and whether it is a bind mount. Propagation is between mount
/// namespaces, and the container's has no peer: such words have no effect.
fn parse_options(options: &[String]) -> (MountFlags, String, bool) {
    let mut flags = MountFlags::default();
    let mut data = Vec::new();
    let mut bind = false;
    for option in options {
        match option.as_str() {
            "ro" | "rro" => flags.readonly = true,
            "rw" | "rrw" => flags.readonly = false,
            "nosuid" | "rnosuid" => flags.nosuid = true,
            "suid" | "rsuid" => flags.nosuid = false,
            "nodev" | "rnodev" => flags.nodev = true,
            "dev" | "rdev" => flags.nodev = false,
            "noexec" | "rnoexec" => flags.noexec = true,
            "exec" | "rexec" => flags.noexec = false,
            "noatime" | "rnoatime" => flags.noatime = true,
            "atime" | "ratime" => flags.noatime = false,
            "nosymfollow" | "rnosymfollow" => flags.nosymfollow = true,
            "symfollow" | "rsymfollow" => flags.nosymfollow = false,
            "bind" | "rbind" => bind = true,
            "defaults" | "sync" | "async" | "dirsync" | "mand" | "nomand" | "remount"
            | "relatime" | "norelatime" | "rrelatime" | "strictatime" | "nostrictatime"
            | "rstrictatime" | "lazytime" | "nolazytime" | "diratime" | "nodiratime"
            | "rdiratime" | "rnodiratime" | "silent" | "loud" | "iversion" | "noiversion"
            | "shared" | "rshared" | "slave" | "rslave" | "private" | "rprivate" | "unbindable"
            | "runbindable" | "tmpcopyup" | "acl" | "noacl" => {}
            other => data.push(other),
        }
    }
    (flags, data.join(","), bind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn destinations_are_plain_paths() {
        for (given, meant) in [
            ("/proc", "/proc"),
            ("dev//pts/", "/dev/pts"),
            ("/x/../y/./z//", "/y/z"),
            ("/../../etc", "/etc"),
            ("", "/"),
            ("..", "/"),
        ] {
            assert_eq!(clean(given), meant, "{given}");
        }
    }

    #[test]
    fn options_are_flags_or_data() {
        let options = [
            "nosuid", "noexec", "mode=755", "ro", "size=64m", "rprivate", "rw",
        ];
        let (flags, data, bind) = parse_options(&options.map(String::from));
        assert_eq!(
            flags,
            MountFlags {
                nosuid: true,
                noexec: true,
                ..MountFlags::default()
            }
        );
        assert_eq!(data, "mode=755,size=64m");
        assert!(!bind);
        assert!(parse_options(&["rbind".to_owned()]).2);
    }
}
