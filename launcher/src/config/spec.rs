//! Reading `config.json`.

use super::{
    Config, ConfigError, Hooks, devices, field, mounts, pods, process, resources, scheduling,
    seccomp,
};
use crate::hooks::Hook;
use crate::identity::{Extent, IdMaps, MapWriter};
use control::boot::ProcessSpec;
use oci_spec::runtime::{self as oci, Spec};
use serde::de::DeserializeOwned;
use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// No config.json needs more.
const MAX_SIZE: u64 = 8 << 20;

/// Reads and checks the bundle in `bundle`.
pub fn load(bundle: &Path) -> Result<Config, ConfigError> {
    let bundle = bundle
        .canonicalize()
        .and_then(|path| match path.is_dir() {
            true => Ok(path),
            false => Err(io::ErrorKind::NotADirectory.into()),
        })
        .map_err(|source| ConfigError::Bundle {
            path: bundle.to_owned(),
            source,
        })?;
    let path = bundle.join("config.json");
    let spec = parse(&path)?;
    convert(&spec, bundle, path)
}

/// Reads and checks a `process.json`: the spec's `process` alone.
pub fn load_process(path: &Path) -> Result<ProcessSpec, ConfigError> {
    process::convert(&parse(path)?)
}

fn parse<T: DeserializeOwned>(path: &Path) -> Result<T, ConfigError> {
    let path = path.to_owned();
    let bytes = match read(&path) {
        Ok(bytes) => bytes,
        Err(source) => return Err(ConfigError::File { path, source }),
    };
    if bytes.len() as u64 > MAX_SIZE {
        return Err(ConfigError::TooLarge {
            path,
            limit: MAX_SIZE,
        });
    }
    serde_json::from_slice(&bytes).map_err(|source| ConfigError::Json { path, source })
}

/// The file, up to one byte more than there may be. A pipe or device is not waited for.
fn read(path: &Path) -> io::Result<Vec<u8>> {
    let file = fs::File::options()
        .read(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
        .open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    let mut bytes = Vec::new();
    file.take(MAX_SIZE + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn convert(spec: &Spec, bundle: PathBuf, path: PathBuf) -> Result<Config, ConfigError> {
    let major = spec.version().split('.').next();
    if major != Some("1") {
        return Err(ConfigError::Version {
            path,
            version: spec.version().clone(),
        });
    }
    let Some(process) = spec.process() else {
        return Err(field("process", "it is missing; say what to run"));
    };
    let Some(root) = spec.root() else {
        return Err(field(
            "root",
            "it is missing; say which directory is the root file system",
        ));
    };
    let root_path = bundle.join(root.path());
    let root_path = root_path
        .canonicalize()
        .and_then(|p| fs::read_dir(&p).map(|_| p))
        .map_err(|source| ConfigError::Root {
            path: root_path,
            source,
        })?;
    let linux = spec.linux().clone().unwrap_or_default_linux();
    let hooks = spec
        .hooks()
        .as_ref()
        .map(hooks)
        .transpose()?
        .unwrap_or_default();
    let mounts = spec.mounts().iter().flatten();
    let mut sysctls: Vec<(String, String)> = linux
        .sysctl()
        .iter()
        .flatten()
        .map(|(k, v)| (k.clone(), v.clone()))
        .collect();
    sysctls.sort();
    let mut process = process::convert(process)?;
    process.seccomp = match linux.seccomp() {
        Some(profile) => seccomp::convert(profile)?,
        None => None,
    };
    process.personality = linux.personality().as_ref().map(scheduling::personality);
    if let Some(policy) = linux.memory_policy() {
        scheduling::memory_policy(policy)?;
    }
    if linux.net_devices().iter().flatten().next().is_some() {
        let problem = "the sandbox has no network that a device could be moved to; leave them out";
        return Err(field("linux.netDevices", problem));
    }
    let annotations = spec.annotations().iter().flatten();
    let annotations = annotations.map(|(k, v)| (k.clone(), v.clone())).collect();
    Ok(Config {
        process,
        root: root_path,
        root_readonly: root.readonly().unwrap_or(false),
        root_propagation: mounts::root_propagation(linux.rootfs_propagation().as_deref())?,
        as_caller: false,
        mounts: mounts
            .map(|m| mounts::convert(m, &bundle))
            .collect::<Result<_, _>>()?,
        hostname: match spec.hostname() {
            Some(name) => uts_name("hostname", name)?,
            None => host_name(),
        },
        domainname: match spec.domainname() {
            Some(name) => uts_name("domainname", name)?,
            None => String::new(),
        },
        devices: devices::convert(&linux)?,
        masked_paths: linux.masked_paths().clone().unwrap_or_default(),
        readonly_paths: linux.readonly_paths().clone().unwrap_or_default(),
        sysctls,
        joins: pods::joins(&annotations, &linux)?,
        annotations,
        hooks,
        id_maps: id_maps(&linux),
        resources: resources::convert(&linux)?,
        bundle,
    })
}

/// `Linux` without the defaults that oci-spec's own `Default` brings.
trait OrEmpty {
    fn unwrap_or_default_linux(self) -> oci::Linux;
}

impl OrEmpty for Option<oci::Linux> {
    fn unwrap_or_default_linux(self) -> oci::Linux {
        self.unwrap_or_else(|| {
            let mut linux = oci::Linux::default();
            linux
                .set_masked_paths(None)
                .set_readonly_paths(None)
                .set_resources(None);
            linux
        })
    }
}

/// What uname(2) has room for.
fn uts_name(what: &'static str, name: &str) -> Result<String, ConfigError> {
    const MAX: usize = 64;
    if name.len() > MAX || name.contains('\0') {
        let problem = format!(
            "{name:?} cannot be one: it has {} bytes or a NUL; at most {MAX} are possible",
            name.len()
        );
        return Err(field(what, problem));
    }
    Ok(name.to_owned())
}

pub(super) fn host_name() -> String {
    nix::unistd::gethostname()
        .ok()
        .and_then(|name| name.into_string().ok())
        .unwrap_or_else(|| "localhost".to_owned())
}

fn id_maps(linux: &oci::Linux) -> Option<IdMaps> {
    let user = |n: &oci::LinuxNamespace| n.typ() == oci::LinuxNamespaceType::User;
    linux.namespaces().iter().flatten().find(|n| user(n))?;
    let extents = |mappings: &Option<Vec<oci::LinuxIdMapping>>| -> Vec<Extent> {
        let extent = |m: &oci::LinuxIdMapping| Extent {
            inside: m.container_id(),
            outside: m.host_id(),
            count: m.size(),
        };
        mappings.iter().flatten().map(extent).collect()
    };
    let (users, groups) = (extents(linux.uid_mappings()), extents(linux.gid_mappings()));
    (!users.is_empty() && !groups.is_empty()).then_some(IdMaps {
        users,
        groups,
        by: MapWriter::Privileged,
    })
}

fn hooks(hooks: &oci::Hooks) -> Result<Hooks, ConfigError> {
    Ok(Hooks {
        prestart: list(hooks.prestart())?,
        create_runtime: list(hooks.create_runtime())?,
        create_container: list(hooks.create_container())?,
        start_container: list(hooks.start_container())?,
        poststart: list(hooks.poststart())?,
        poststop: list(hooks.poststop())?,
    })
}

fn list(hooks: &Option<Vec<oci::Hook>>) -> Result<Vec<Hook>, ConfigError> {
    let convert = |hook: &oci::Hook| {
        if !hook.path().is_absolute() {
            return Err(field(
                "hooks.path",
                format!("{} is not absolute", hook.path().display()),
            ));
        }
        Ok(Hook {
            path: hook.path().clone(),
            args: hook.args().clone().unwrap_or_default(),
            env: hook.env().clone(),
            timeout: hook.timeout().and_then(|t| u64::try_from(t).ok()),
        })
    };
    hooks.iter().flatten().map(convert).collect()
}

/// The `config.json` that `ringfence spec` writes: a shell at a terminal in `rootfs`.
pub fn example(rootless: bool) -> Result<String, serde_json::Error> {
    let mut spec = match rootless {
        true => Spec::rootless(
            nix::unistd::geteuid().as_raw(),
            nix::unistd::getegid().as_raw(),
        ),
        false => Spec::default(),
    };
    spec.set_hostname(Some("ringfence".to_owned()));
    if let Some(process) = spec.process_mut() {
        process.set_terminal(Some(true));
    }
    serde_json::to_string_pretty(&spec)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bundle(config: &str) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("rootfs")).unwrap();
        fs::write(dir.path().join("config.json"), config).unwrap();
        dir
    }

    fn error(config: &str) -> String {
        load(bundle(config).path()).unwrap_err().to_string()
    }

    const GOOD: &str = r#"{"ociVersion":"1.0.2","root":{"path":"rootfs"},
        "process":{"user":{"uid":0,"gid":0},"args":["sh"],"cwd":"/"}}"#;

    #[test]
    fn a_small_bundle_loads() {
        let dir = bundle(GOOD);
        let config = load(dir.path()).unwrap();
        assert_eq!(config.process.args, ["sh"]);
        assert_eq!(
            config.root,
            dir.path().canonicalize().unwrap().join("rootfs")
        );
        assert!(config.masked_paths.is_empty());
        assert!(config.resources.shown().cpus >= 1);
        assert!(!config.resources.group);
    }

    #[test]
    fn the_example_loads() {
        for rootless in [false, true] {
            let dir = bundle(&example(rootless).unwrap());
            let config = load(dir.path()).unwrap();
            assert!(config.process.terminal);
            assert!(config.mounts.iter().any(|m| m.destination == "/proc"));
        }
    }

    #[test]
    fn what_is_missing_is_named() {
        let missing = load(Path::new("/nonexistent-bundle"))
            .unwrap_err()
            .to_string();
        assert!(
            missing.contains("/nonexistent-bundle") && missing.contains("--bundle"),
            "{missing}"
        );
        let empty = tempfile::tempdir().unwrap();
        let text = load(empty.path()).unwrap_err().to_string();
        assert!(
            text.contains("config.json") && text.contains("ringfence spec"),
            "{text}"
        );
        let dir = bundle(GOOD);
        fs::remove_dir(dir.path().join("rootfs")).unwrap();
        let text = load(dir.path()).unwrap_err().to_string();
        assert!(
            text.contains("rootfs") && text.contains("root.path"),
            "{text}"
        );
    }

    #[test]
    fn only_a_file_of_sane_size_is_read() {
        let dir = bundle(GOOD);
        let path = dir.path().join("config.json");
        let text = || load(dir.path()).unwrap_err().to_string();
        fs::write(&path, vec![b' '; MAX_SIZE as usize + 1]).unwrap();
        assert!(text().contains("larger than"), "{}", text());
        fs::remove_file(&path).unwrap();
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(text().contains("regular file"), "{}", text());
        for place in ["/dev/zero", "/"] {
            fs::remove_file(&path).unwrap();
            std::os::unix::fs::symlink(place, &path).unwrap();
            assert!(text().contains("regular file"), "{}", text());
        }
    }

    #[test]
    fn bad_json_has_line_and_column() {
        let text = error("{\n  \"ociVersion\": \"1.0.2\",\n  oops\n}");
        assert!(text.contains("line 3 column 3"), "{text}");
    }

    #[test]
    fn other_versions_are_refused() {
        for version in ["2.0.0", "0.9", "", "eins"] {
            let text = error(&GOOD.replace("1.0.2", version));
            assert!(text.contains("1.x"), "{text}");
        }
    }

    #[test]
    fn senseless_fields_are_named() {
        let cases = [
            (GOOD.replace("[\"sh\"]", "[]"), "process.args"),
            (
                GOOD.replace("\"cwd\":\"/\"", "\"cwd\":\"tmp\""),
                "process.cwd",
            ),
            (GOOD.replace("\"root\":{\"path\":\"rootfs\"},", ""), "root"),
            (GOOD.replace("\"sh\"", "\"a\\u0000b\""), "NUL"),
            (
                GOOD.replacen('{', r#"{"mounts":[{"destination":"/x","type":"ext9"}],"#, 1),
                "ext9",
            ),
            (
                GOOD.replacen(
                    '{',
                    r#"{"mounts":[{"destination":"/x","type":"bind","source":"/no-such-file"}],"#,
                    1,
                ),
                "/no-such-file",
            ),
        ];
        for (config, expected) in cases {
            let text = error(&config);
            assert!(text.contains(expected), "{text} should name {expected}");
        }
    }
}
