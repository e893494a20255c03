//! A bare command, run without an image: on a tree of the host's, below a throw-away overlay.

use super::{Config, ConfigError, Hooks, Mount, Resources, Source, spec};
use control::boot::{Capabilities, MountFlags, ProcessSpec};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// What `ringfence do` was asked for.
#[derive(Clone, Debug)]
pub struct Command {
    /// Argument vector.
    pub args: Vec<String>,
    /// Root of its tree.
    pub root: PathBuf,
    /// Where it starts, if that is there; else `/`.
    pub cwd: Option<PathBuf>,
    /// Its environment, `NAME=value`.
    pub env: Vec<String>,
    /// Whether it gets a terminal.
    pub terminal: bool,
    /// User and group; the caller's as a rule.
    pub ids: (u32, u32),
    /// Supplementary groups.
    pub groups: Vec<u32>,
    /// Bytes of memory it may use.
    pub memory_limit: Option<u64>,
}

impl Command {
    /// As the configuration of a container.
    pub fn config(self) -> Result<Config, ConfigError> {
        let root = self
            .root
            .canonicalize()
            .and_then(|p| std::fs::read_dir(&p).map(|_| p))
            .map_err(|source| ConfigError::Tree {
                path: self.root.clone(),
                source,
            })?;
        let cwd = match self.cwd.as_deref().and_then(|p| p.to_str()) {
            Some(dir)
                if dir.starts_with('/') && root.join(dir.trim_start_matches('/')).is_dir() =>
            {
                dir.to_owned()
            }
            _ => "/".to_owned(),
        };
        // What root's programs have on the host; an ordinary user has none.
        let all = (1u64 << 41) - 1;
        let held = if self.ids.0 == 0 { all } else { 0 };
        let capabilities = Capabilities {
            bounding: all,
            effective: held,
            permitted: held,
            ..Capabilities::default()
        };
        Ok(Config {
            bundle: root.clone(),
            process: ProcessSpec {
                args: self.args,
                env: self.env,
                cwd,
                uid: self.ids.0,
                gid: self.ids.1,
                groups: self.groups,
                capabilities,
                nice: super::process::own_nice(),
                // A person who presses Ctrl-C means it.
                mortal: true,
                terminal: self.terminal,
                ..ProcessSpec::default()
            },
            root,
            root_readonly: false,
            root_propagation: None,
            as_caller: true,
            mounts: vec![
                kernel("/proc", "proc", "", true),
                kernel("/dev", "devtmpfs", "mode=755", false),
                kernel(
                    "/dev/pts",
                    "devpts",
                    "newinstance,ptmxmode=0666,mode=0620",
                    false,
                ),
                kernel("/dev/shm", "tmpfs", "mode=1777", true),
                kernel("/sys", "sysfs", "", true),
                kernel("/run", "tmpfs", "mode=755", true),
            ],
            hostname: spec::host_name(),
            domainname: String::new(),
            devices: Vec::new(),
            masked_paths: Vec::new(),
            readonly_paths: Vec::new(),
            sysctls: Vec::new(),
            annotations: BTreeMap::new(),
            joins: None,
            hooks: Hooks::default(),
            id_maps: None,
            resources: Resources {
                memory: self.memory_limit.and_then(|n| i64::try_from(n).ok()),
                ..Resources::default()
            },
        })
    }
}

fn kernel(destination: &str, fstype: &str, data: &str, nodev: bool) -> Mount {
    Mount {
        destination: destination.to_owned(),
        source: Source::Kernel {
            fstype: fstype.to_owned(),
            device: fstype.to_owned(),
        },
        flags: MountFlags {
            nosuid: true,
            nodev,
            noexec: nodev,
            ..MountFlags::default()
        },
        recursive: Vec::new(),
        propagation: Vec::new(),
        data: data.to_owned(),
    }
}
