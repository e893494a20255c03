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

/// What an option does.
type Effect = fn(&mut MountFlags);

/// What sets or clears a flag; with an `r` before it, also for what is mounted below, of which the
/// sandbox's mounts have nothing that is not theirs.
const EFFECTIVE: &[(&str, Effect)] = &[
    ("ro", |f| f.readonly = true),
    ("rw", |f| f.readonly = false),
    ("nosuid", |f| f.nosuid = true),
    ("suid", |f| f.nosuid = false),
    ("nodev", |f| f.nodev = true),
    ("dev", |f| f.nodev = false),
    ("noexec", |f| f.noexec = true),
    ("exec", |f| f.noexec = false),
    ("noatime", |f| f.noatime = true),
    ("atime", |f| f.noatime = false),
    ("nosymfollow", |f| f.nosymfollow = true),
    ("symfollow", |f| f.nosymfollow = false),
];

/// What asks for what there is anyway.
const USUAL: &[&str] = &["async", "defaults", "relatime", "rrelatime"];

/// What has no effect. Propagation is between mount namespaces, and the container's has no peer.
const WITHOUT_EFFECT: &[&str] = &[
    "sync",
    "dirsync",
    "mand",
    "nomand",
    "remount",
    "norelatime",
    "strictatime",
    "nostrictatime",
    "rstrictatime",
    "lazytime",
    "nolazytime",
    "diratime",
    "nodiratime",
    "rdiratime",
    "rnodiratime",
    "silent",
    "loud",
    "iversion",
    "noiversion",
    "shared",
    "rshared",
    "slave",
    "rslave",
    "private",
    "rprivate",
    "unbindable",
    "runbindable",
    "tmpcopyup",
    "acl",
    "noacl",
];

/// The options that have an effect, but for those that are a file system's own.
pub fn mount_options() -> Vec<String> {
    let flags = EFFECTIVE
        .iter()
        .flat_map(|(name, _)| [(*name).to_owned(), format!("r{name}")]);
    let others = ["bind", "rbind"]
        .iter()
        .chain(USUAL)
        .map(|name| (*name).to_owned());
    let mut all: Vec<String> = flags.chain(others).collect();
    all.sort();
    all
}

/// Flags, file system options, and whether it is a bind mount.
fn parse_options(options: &[String]) -> (MountFlags, String, bool) {
    let mut flags = MountFlags::default();
    let mut data = Vec::new();
    let mut bind = false;
    for option in options.iter().map(String::as_str) {
        let flag = |name: &str| EFFECTIVE.iter().find(|(n, _)| *n == name);
        let set = flag(option).or_else(|| flag(option.strip_prefix('r')?));
        match (set, option) {
            (Some((_, set)), _) => set(&mut flags),
            (None, "bind" | "rbind") => bind = true,
            (None, other) if USUAL.contains(&other) || WITHOUT_EFFECT.contains(&other) => {}
            (None, other) => data.push(other),
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
        let (flags, data, _) = parse_options(&["rro", "rnosuid", "relatime"].map(String::from));
        assert!(flags.readonly && flags.nosuid && data.is_empty(), "{data}");
        for option in mount_options() {
            assert!(
                parse_options(std::slice::from_ref(&option)).1.is_empty(),
                "{option}"
            );
        }
    }
}
