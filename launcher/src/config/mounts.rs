//! The spec's mounts and their options.

use super::{ConfigError, Mount, Source, field, process::text};
use control::boot::{MountFlags, Propagate, Propagation};
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
        propagation,
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
        propagation,
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

/// What a mount becomes; with an `r` before it, also what is mounted below.
const KINDS: &[(&str, Propagation)] = &[
    ("shared", Propagation::Shared),
    ("slave", Propagation::Slave),
    ("private", Propagation::Private),
    ("unbindable", Propagation::Unbindable),
];

/// What has no effect.
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
    "tmpcopyup",
    "acl",
    "noacl",
];

/// The options that have an effect, but for those that are a file system's own.
pub fn mount_options() -> Vec<String> {
    let flags = EFFECTIVE
        .iter()
        .map(|(name, _)| *name)
        .chain(KINDS.iter().map(|(name, _)| *name))
        .flat_map(|name| [name.to_owned(), format!("r{name}")]);
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
    propagation: Vec<Propagate>,
    /// Of the file system itself.
    data: String,
    /// Whether it is a bind mount, and if so whether of what is mounted below, too.
    bind: Option<bool>,
}

fn parse_options(options: &[String]) -> Options {
    let mut flags = MountFlags::default();
    let (mut recursive, mut propagation, mut data) = (Vec::new(), Vec::new(), Vec::new());
    let mut bind = None;
    for option in options.iter().map(String::as_str) {
        let flag = |name: &str| EFFECTIVE.iter().find(|(n, _)| *n == name);
        if let Some((_, set)) = flag(option) {
            set(&mut flags);
        } else if let Some((name, set)) = option.strip_prefix('r').and_then(flag) {
            set(&mut flags);
            recursive.push(*name);
        } else if let Some(change) = propagate(option) {
            propagation.push(change);
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
        propagation,
        data: data.join(","),
        bind,
    }
}

fn propagate(word: &str) -> Option<Propagate> {
    let change = |name: &str, recursive| {
        let (_, kind) = *KINDS.iter().find(|(known, _)| *known == name)?;
        Some(Propagate { kind, recursive })
    };
    change(word, false).or_else(|| change(word.strip_prefix('r')?, true))
}

/// `linux.rootfsPropagation`.
pub(super) fn root_propagation(word: Option<&str>) -> Result<Option<Propagate>, ConfigError> {
    let Some(word) = word.filter(|word| !word.is_empty()) else {
        return Ok(None);
    };
    let change = propagate(word).ok_or_else(|| {
        let names: Vec<&str> = KINDS.iter().map(|(name, _)| *name).collect();
        let problem = format!(
            "{word:?} is none; {} are possible, each with an r before it for what is mounted below",
            names.join(", ")
        );
        field("linux.rootfsPropagation", problem)
    })?;
    // The root begins private, and has no peers outside that it could receive from. What mounts'
    // own options share stays so, as with runc.
    let changes = |p: &Propagate| matches!(p.kind, Propagation::Shared | Propagation::Unbindable);
    Ok(Some(change).filter(changes))
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
    fn words_of_propagation() {
        let shared = |recursive| {
            Some(Propagate {
                kind: Propagation::Shared,
                recursive,
            })
        };
        for (word, meant) in [
            (None, None),
            (Some(""), None),
            (Some("shared"), shared(false)),
            (Some("rshared"), shared(true)),
            (Some("slave"), None),
            (Some("rprivate"), None),
        ] {
            assert_eq!(root_propagation(word).unwrap(), meant, "{word:?}");
        }
        for word in ["Shared", "rrshared", "r", "rw", "shared,slave"] {
            let text = root_propagation(Some(word)).unwrap_err().to_string();
            for part in ["linux.rootfsPropagation", word, "unbindable"] {
                assert!(text.contains(part), "{text}");
            }
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
        let kind = Propagation::Private;
        let recursive = true;
        assert_eq!(parsed.propagation, [Propagate { kind, recursive }]);
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
