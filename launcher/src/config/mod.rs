//! What is to run: an OCI bundle's `config.json`, checked and reduced to what the sandbox needs,
//! or the same made up for a bare command.
//!
//! The spec's own types stay in here.

mod block_io;
mod command;
mod devices;
mod mounts;
mod pods;
mod process;
mod resources;
mod scheduling;
mod seccomp;
mod spec;

pub use block_io::{BlockIo, Device, Rate};
pub use command::Command;
pub(crate) use mounts::apply as apply_mount_option;
pub use mounts::mount_options;
pub use pods::Joins;
pub use process::{add_capability, capability_names};
pub use resources::Resources;
pub(crate) use resources::possible_cpus;
pub use seccomp::{ACTIONS, ARCHITECTURES, FLAGS, OPERATORS};
pub use spec::{example, load, load_process};

use crate::hooks::Hook;
use crate::identity::IdMaps;
use control::boot::{DeviceSpec, MountFlags, ProcessSpec, Propagate};
use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;

/// One container, as the launcher needs it.
#[derive(Clone, Debug)]
pub struct Config {
    /// Absolute path of the bundle.
    pub bundle: PathBuf,
    /// The root process.
    pub process: ProcessSpec,
    /// Absolute host path of the root file system.
    pub root: PathBuf,
    /// Whether the container may write to it.
    pub root_readonly: bool,
    /// How the root takes part in propagation, where it is not private.
    pub root_propagation: Option<Propagate>,
    /// Whether a rootless gofer maps the caller to himself rather than to 0.
    pub as_caller: bool,
    /// Further mounts in order.
    pub mounts: Vec<Mount>,
    /// Of the UTS namespace.
    pub hostname: String,
    /// NIS domain.
    pub domainname: String,
    /// Device nodes beside those that every container has.
    pub devices: Vec<DeviceSpec>,
    /// Paths to hide.
    pub masked_paths: Vec<String>,
    /// Paths to make read-only.
    pub readonly_paths: Vec<String>,
    /// Kernel parameters.
    pub sysctls: Vec<(String, String)>,
    /// The spec's.
    pub annotations: BTreeMap<String, String>,
    /// The sandbox it joins; without one it starts its own.
    pub joins: Option<Joins>,
    /// Programs to run on the way.
    pub hooks: Hooks,
    /// The spec's user namespace.
    pub id_maps: Option<IdMaps>,
    /// Its limits, and its control group.
    pub resources: Resources,
}

/// The hooks that are run.
#[derive(Clone, Debug, Default)]
pub struct Hooks {
    /// Once the sandbox is up.
    pub prestart: Vec<Hook>,
    /// After those.
    pub create_runtime: Vec<Hook>,
    /// After those.
    pub create_container: Vec<Hook>,
    /// Inside, before the program.
    pub start_container: Vec<Hook>,
    /// After start.
    pub poststart: Vec<Hook>,
    /// After delete.
    pub poststop: Vec<Hook>,
}

impl Hooks {
    /// Whether something is to be done between the sandbox's coming up and the program's start.
    pub fn before_start(&self) -> bool {
        let all = [
            &self.prestart,
            &self.create_runtime,
            &self.create_container,
            &self.start_container,
        ];
        all.iter().any(|hooks| !hooks.is_empty())
    }
}

/// One mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// Absolute path inside.
    pub destination: String,
    /// What.
    pub source: Source,
    /// How.
    pub flags: MountFlags,
    /// The options among those that are also for what is mounted below, in order.
    pub recursive: Vec<&'static str>,
    /// How it takes part in propagation, one after the other.
    pub propagation: Vec<Propagate>,
    /// Options of the file system itself.
    pub data: String,
}

/// What is mounted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// One of the sentry's own file systems.
    Kernel {
        /// Type.
        fstype: String,
        /// First field in `/proc/mounts`.
        device: String,
    },
    /// Host files.
    Bind {
        /// Where they are.
        path: PathBuf,
        /// Whether with what is mounted below.
        recursive: bool,
    },
}

/// A bundle that cannot be run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// There is no such directory.
    #[error(
        "cannot open bundle {path}: {source}; name a directory that holds config.json with --bundle"
    )]
    Bundle {
        /// As given.
        path: PathBuf,
        /// The host's answer.
        source: io::Error,
    },
    /// It holds no `config.json`.
    #[error("cannot read {path}: {source}; `ringfence spec` writes an example of config.json")]
    File {
        /// Of the file.
        path: PathBuf,
        /// The host's answer.
        source: io::Error,
    },
    /// It is larger than any sane one.
    #[error("{path} is larger than {limit} bytes, which no config.json needs to be")]
    TooLarge {
        /// Of the file.
        path: PathBuf,
        /// The limit.
        limit: u64,
    },
    /// It is no JSON, or not of the spec's shape. The message ends with line and column.
    #[error("{path} is not what the runtime spec describes: {source}")]
    Json {
        /// Of the file.
        path: PathBuf,
        /// With line and column.
        source: serde_json::Error,
    },
    /// Of another major version.
    #[error("{path} has ociVersion `{version}`; ringfence speaks 1.x")]
    Version {
        /// Of the file.
        path: PathBuf,
        /// As found.
        version: String,
    },
    /// The root file system is not there.
    #[error(
        "the bundle's root file system {path} cannot be used: {source}; set root.path in config.json to a directory"
    )]
    Root {
        /// Of the directory.
        path: PathBuf,
        /// The host's answer.
        source: io::Error,
    },
    /// The tree a bare command is to run on is not there.
    #[error("the tree {path} cannot be used: {source}; name a directory with --root")]
    Tree {
        /// Of the directory.
        path: PathBuf,
        /// The host's answer.
        source: io::Error,
    },
    /// A bind mount's source is not there.
    #[error("cannot mount {path} on {destination}: {source}")]
    BindSource {
        /// Of the source.
        path: PathBuf,
        /// Inside.
        destination: String,
        /// The host's answer.
        source: io::Error,
    },
    /// A field has a value that makes no sense or that we cannot honour.
    #[error("config.json: {field}: {problem}")]
    Field {
        /// Path of the field.
        field: &'static str,
        /// What is wrong and what would be right.
        problem: String,
    },
}

pub(crate) fn field(field: &'static str, problem: impl Into<String>) -> ConfigError {
    ConfigError::Field {
        field,
        problem: problem.into(),
    }
}
