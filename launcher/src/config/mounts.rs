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
    let Options {
        flags,
        recursive,
        data,
        bind,
    } = parse_options(&options);
    let bind = match fstype.as_str() {
        "rbind" => Some(true),
        // Which of both, an option says.
        "bind" => bind.or(Some(false)),
        _ => bind,
    };
    let source = if let Some(below) = bind {
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
        Source::Bind {
            path,
            recursive: below,
        }
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
        recursive,
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

/// What sets or clears a flag; with an `r` before it, also for what is mounted below.
const EFFECTIVE: &[(&str, Effect)] = &[
    ("ro", |f| f.readonly = true),
    ("rw", |f| f.readonly = false),
    ("nosuid", |f| f.nosuid = true),
    ("suid", |f| f.nosuid = false),
    ("nodev", |f| f.nodev = true),
    ("dev", |f| f.nodev = false),
    ("noexec", |f| f.noexec = true),
    ("exec", |f| f.noexec = false),
    ("noatime", |f| {
        (f.noatime, f.strictatime) = (true, false);
    }),
    ("atime", |f| f.noatime = false),
    ("relatime", |f| {
        (f.noatime, f.strictatime) = (false, false);
    }),
    ("strictatime", |f| {
        (f.noatime, f.strictatime) = (false, true);
    }),
    ("nostrictatime", |f| f.strictatime = false),
    ("nodiratime", |f| f.nodiratime = true),
    ("diratime", |f| f.nodiratime = false),
    ("nosymfollow", |f| f.nosymfollow = true),
    ("symfollow", |f| f.nosymfollow = false),
];

/// What asks for what there is anyway.
const USUAL: &[&str] = &["async", "defaults"];

/// What has no effect. Propagation is between mount namespaces, and the container's has no peer.
const WITHOUT_EFFECT: &[&str] = &[
    "sync",
    "dirsync",
    "mand",
    "nomand",
    "remount",
    "norelatime",
    "rnorelatime",
    "lazytime",
    "nolazytime",
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

/// What a mount's options say.
struct Options {
    flags: MountFlags,
    recursive: Vec<&'static str>,
    /// Of the file system itself.
    data: String,
    /// Whether it is a bind mount, and if so whether of what is mounted below, too.
    bind: Option<bool>,
}

fn parse_options(options: &[String]) -> Options {
    let mut flags = MountFlags::default();
    let (mut recursive, mut data) = (Vec::new(), Vec::new());
    let mut bind = None;
    for option in options.iter().map(String::as_str) {
        let flag = |name: &str| EFFECTIVE.iter().find(|(n, _)| *n == name);
        if let Some((_, set)) = flag(option) {
            set(&mut flags);
        } else if let Some((name, set)) = option.strip_prefix('r').and_then(flag) {
            set(&mut flags);
            recursive.push(*name);
        } else {
            match option {
                "bind" => bind = bind.or(Some(false)),
                "rbind" => bind = Some(true),
                other if USUAL.contains(&other) || WITHOUT_EFFECT.contains(&other) => {}
                other => data.push(other),
            }
        }
    }
    Options {
        flags,
        recursive,
        data: data.join(","),
        bind,
    }
}

/// Sets or clears a flag of what is mounted below, by an option of [`Mount::recursive`].
pub(crate) fn apply(flags: &mut MountFlags, option: &str) {
    if let Some((_, set)) = EFFECTIVE.iter().find(|(name, _)| *name == option) {
        set(flags);
    }
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
        let parsed = parse_options(&options.map(String::from));
        assert_eq!(
            parsed.flags,
            MountFlags {
                nosuid: true,
                noexec: true,
                ..MountFlags::default()
            }
        );
        assert_eq!(parsed.data, "mode=755,size=64m");
        assert_eq!(parsed.bind, None);
        for (options, expected) in [
            (&["bind"] as &[&str], false),
            (&["rbind"], true),
            (&["bind", "rbind"], true),
            (&["rbind", "bind"], true),
        ] {
            let options: Vec<String> = options.iter().map(ToString::to_string).collect();
            assert_eq!(parse_options(&options).bind, Some(expected));
        }
        let options = ["rro", "rnosuid", "relatime", "noexec"].map(String::from);
        let parsed = parse_options(&options);
        let flags = parsed.flags;
        assert!(flags.readonly && flags.nosuid && flags.noexec);
        assert!(parsed.data.is_empty(), "{}", parsed.data);
        assert_eq!(parsed.recursive, ["ro", "nosuid"]);
        let mut below = MountFlags {
            nodev: true,
            ..MountFlags::default()
        };
        parsed.recursive.iter().for_each(|o| apply(&mut below, o));
        assert!(below.readonly && below.nosuid && below.nodev && !below.noexec);
        for option in mount_options() {
            assert!(
                parse_options(std::slice::from_ref(&option)).data.is_empty(),
                "{option}"
            );
        }
    }
}
