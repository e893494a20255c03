//! Why a command on containers failed.

use crate::cgroup::CgroupError;
use crate::client::ClientError;
use crate::config::ConfigError;
use crate::console::ConsoleError;
use crate::hooks::HookError;
use crate::id::IdError;
use crate::seccomp::FilterError;
use crate::spawn::SpawnError;
use crate::state::StateError;
use control::ChannelError;
use control::message::{Failure, FailureKind};
use platform_api::PlatformError;
use platform_api::registry::RegistryError;
use std::io;
use std::path::PathBuf;

/// Exit status for a failure of ours, as opposed to the container's.
pub const EXIT_FAILURE: i32 = 128;
/// Exit status when the program to run is not there.
pub const EXIT_NOT_FOUND: i32 = 127;
/// Exit status when the program to run cannot be executed.
pub const EXIT_NOT_EXECUTABLE: i32 = 126;

/// A failed command.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "the variants wrap documented errors")]
pub enum LaunchError {
    #[error(transparent)]
    Id(#[from] IdError),
    #[error(transparent)]
    State(#[from] StateError),
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Spawn(#[from] SpawnError),
    #[error(transparent)]
    Console(#[from] ConsoleError),
    #[error(transparent)]
    Registry(#[from] RegistryError),
    #[error(transparent)]
    Platform(#[from] PlatformError),
    #[error(transparent)]
    Filter(#[from] FilterError),
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error(transparent)]
    Hook(#[from] HookError),
    #[error(transparent)]
    Cgroup(#[from] CgroupError),
    /// The sandbox said no, and why.
    #[error("{0}")]
    Refused(Failure),
    /// A process ended before it was of use.
    #[error("the {who} ended before the container was up: {how}")]
    Ended {
        /// Which.
        who: &'static str,
        /// Status and last words.
        how: String,
    },
    /// The sandbox process reported a fault of its own.
    #[error("the sandbox failed (status {status}): {words}")]
    Crashed {
        /// Its exit status.
        status: i32,
        /// What it said.
        words: String,
    },
    /// Somebody did not want to wait for it.
    #[error("interrupted by {signal} before the container was up")]
    Interrupted {
        /// By what.
        signal: nix::sys::signal::Signal,
    },
    /// A process could not be talked to.
    #[error("cannot talk to the {who}: {source}")]
    Talk {
        /// Which.
        who: &'static str,
        /// How it failed.
        source: ChannelError,
    },
    /// No platform works here.
    #[error("no platform works on this machine: {0}")]
    NoPlatform(String),
    /// A descriptor to hand on is not open.
    #[error("descriptor {number} is to be preserved (--preserve-fds) but is not open")]
    PreservedFd {
        /// Its number.
        number: u32,
    },
    /// More descriptors than can be handed on.
    #[error("--preserve-fds {asked} is more than can be handed on; at most {most} can")]
    ManyPreserved {
        /// As given.
        asked: u32,
        /// The limit.
        most: u32,
    },
    /// `--overlay self` has no place.
    #[error("cannot make a file in {path} for --overlay self: {source}; use --overlay memory")]
    OverlayFile {
        /// The bundle.
        path: PathBuf,
        /// The host's answer.
        source: io::Error,
    },
    /// No log.
    #[error("cannot write {path}: {source}; choose another directory with --debug-log")]
    DebugLog {
        /// The file.
        path: PathBuf,
        /// The host's answer.
        source: io::Error,
    },
    /// The host does not show us a sandbox process.
    #[error("cannot {what}: {source}")]
    Look {
        /// The step.
        what: &'static str,
        /// The host's answer.
        source: io::Error,
    },
    /// A file the caller wants written.
    #[error("cannot write {path}: {source}")]
    Write {
        /// The file.
        path: PathBuf,
        /// The host's answer.
        source: io::Error,
    },
    /// The sandbox that it is to join is of no use.
    #[error("container `{id}` cannot join sandbox `{sandbox}`: {problem}")]
    Join {
        /// The container.
        id: String,
        /// The sandbox, as the annotations name it.
        sandbox: String,
        /// Why, and what to do.
        problem: String,
    },
    /// Not in this state.
    #[error("cannot {what} container `{id}`: it is {status}{hint}")]
    Status {
        /// The command.
        what: &'static str,
        /// The container.
        id: String,
        /// OCI's word.
        status: &'static str,
        /// What to do.
        hint: &'static str,
    },
}

impl LaunchError {
    /// Whether the program to run was at fault.
    pub(crate) fn is_of_program(&self) -> bool {
        matches!(self.exit_code(), EXIT_NOT_FOUND | EXIT_NOT_EXECUTABLE)
    }

    /// What the command line tool exits with.
    pub fn exit_code(&self) -> i32 {
        let failure = match self {
            LaunchError::Refused(failure) => failure,
            LaunchError::Client(ClientError::Refused(failure)) => failure,
            LaunchError::Crashed { status, .. } => return *status,
            LaunchError::Interrupted { signal } => return 128 + *signal as i32,
            _ => return EXIT_FAILURE,
        };
        match failure.kind {
            FailureKind::ProgramMissing => EXIT_NOT_FOUND,
            FailureKind::ProgramNotExecutable => EXIT_NOT_EXECUTABLE,
            _ => EXIT_FAILURE,
        }
    }
}
