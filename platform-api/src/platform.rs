//! The descriptor of a platform: what is known before anything is opened.

use crate::{Engine, HostRule};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// A way to run guest code. Stateless; does no work before `main`.
pub trait Platform: Sync {
    /// The name users give to `--platform`: lower case, unique among those linked in.
    fn name(&self) -> &'static str;

    /// One line for `ringfence platforms`.
    fn summary(&self) -> &'static str;

    /// Order among equals when the best is chosen: higher is preferred.
    fn priority(&self) -> u32;

    /// Whether it can run here, found out by really trying, without keeping anything open.
    /// `device` is what [`Platform::open_device`] would be given.
    fn probe(&self, device: Option<&Path>) -> Probe;

    /// The device the sandbox process needs, opened by the launcher and donated; `path` overrides
    /// where it is looked for. `None` for platforms without a device.
    ///
    /// # Errors
    /// A [`PlatformError`] that names the device, what the host said, and the remedy.
    fn open_device(&self, path: Option<&Path>) -> Result<Option<OwnedFd>, PlatformError>;

    /// Whether the sandbox process must stay in the launcher's PID namespace. Otherwise it gets
    /// one of its own.
    fn requires_current_pidns(&self) -> bool;

    /// The permission bits the executable needs for "others", since the sandbox process runs it
    /// as nobody.
    fn binary_permissions(&self) -> BinaryPermissions;

    /// The host system calls this platform makes inside the sandbox process after the filter is
    /// on. They are added to the sentry's own.
    fn host_rules(&self) -> Vec<HostRule>;

    /// Makes the engine, inside the sandbox process.
    ///
    /// # Preconditions
    /// The process has one thread, its final credentials, and no seccomp filter yet. `device` is
    /// what [`Platform::open_device`] gave.
    ///
    /// # Postconditions
    /// Everything that the filter will forbid (such as forking a stub that may map executable
    /// memory) has been done.
    fn boot(&self, device: Option<OwnedFd>) -> Result<Arc<dyn Engine>, PlatformError>;
}

/// What [`Platform::probe`] found.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Probe {
    /// It works.
    Ready {
        /// Measured time from guest code into the platform's host side and back.
        round_trip: Duration,
    },
    /// It does not.
    Unavailable {
        /// What was tried and what the host answered.
        reason: String,
        /// What a user can do about it.
        remedy: String,
    },
}

/// Bits "others" need on the executable's file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BinaryPermissions {
    /// `o+r`
    pub read: bool,
    /// `o+x`
    pub execute: bool,
}

/// A platform's failure on the host side.
#[derive(Debug, thiserror::Error)]
#[error("{what}: {answer}; {remedy}")]
pub struct PlatformError {
    /// What was being done, to what.
    pub what: String,
    /// What the host answered.
    pub answer: String,
    /// What to do about it.
    pub remedy: String,
    /// The host's error number, when there was one.
    pub errno: Option<i32>,
}

impl PlatformError {
    /// From the host's last word on an operation.
    pub fn host(what: impl Into<String>, err: std::io::Error, remedy: impl Into<String>) -> Self {
        let errno = err.raw_os_error();
        PlatformError {
            what: what.into(),
            answer: err.to_string(),
            remedy: remedy.into(),
            errno,
        }
    }
}
