//! What can go wrong before the kernel stands.

use control::ChannelError;
use control::boot::FdIndex;
use control::message::{Failure, FailureKind};
use nix::errno::Errno;
use platform_api::PlatformError;
use platform_api::registry::RegistryError;

/// Why a sandbox did not come up.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BootError {
    /// The launcher's message is unusable.
    #[error("cannot read the boot message: {0}")]
    Message(#[from] ChannelError),
    /// A descriptor is named that did not come, or came once and is named twice.
    #[error("the boot message names descriptor {} for {what}, which is not there", index.0)]
    Descriptor {
        /// Its purpose.
        what: &'static str,
        /// As named.
        index: FdIndex,
    },
    /// The platform is not in this binary.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// The platform cannot run here.
    #[error(transparent)]
    Platform(#[from] PlatformError),
    /// The host refused a step.
    #[error("cannot {what}: {answer}")]
    Host {
        /// The step.
        what: &'static str,
        /// The host's answer.
        answer: Errno,
    },
    /// The filter was not accepted.
    #[error("cannot install the sandbox process's system call filter: {0}")]
    Filter(String),
    /// The kernel could not be put together from what was asked.
    #[error("{0}")]
    Kernel(String),
    /// As [`BootError::Kernel`], with kind and error number for the launcher.
    #[error(transparent)]
    Failed(#[from] Failure),
}

impl BootError {
    pub(crate) fn host(what: &'static str) -> impl FnOnce(Errno) -> BootError {
        move |answer| BootError::Host { what, answer }
    }
}

impl BootError {
    /// A step of building the container's kernel or its files, refused by our own code.
    pub(crate) fn guest(what: &str, path: &str) -> impl FnOnce(abi::Errno) -> BootError {
        let text = format!("cannot {what} {path} in the container");
        move |errno| {
            BootError::Failed(Failure {
                kind: FailureKind::Internal,
                errno: Some(errno.code()),
                text: format!("{text}: {errno}"),
            })
        }
    }

    /// As [`BootError::guest`], with what to do about it.
    pub(crate) fn advised(
        what: &str,
        path: &str,
        advice: &str,
    ) -> impl FnOnce(abi::Errno) -> BootError {
        let failed = BootError::guest(what, path);
        move |errno| {
            let mut failure = Failure::from(failed(errno));
            failure.text = format!("{}; {advice}", failure.text);
            BootError::Failed(failure)
        }
    }
}

impl From<BootError> for Failure {
    fn from(error: BootError) -> Failure {
        match error {
            BootError::Failed(failure) => failure,
            other => Failure::new(FailureKind::Internal, other.to_string()),
        }
    }
}
