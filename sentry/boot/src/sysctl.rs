//! The kernel parameters that the configuration names (`linux.sysctl`).

use crate::error::BootError;
use abi::Errno;
use control::message::{Failure, FailureKind};
use task::Container;

/// Sets them for `container`, by name and value. One that has `joined` others sets what is its own,
/// not what is the sandbox's.
pub(crate) fn set(
    container: &Container,
    wanted: &[(String, String)],
    joined: bool,
) -> Result<(), BootError> {
    for (name, value) in wanted {
        let failed = |errno: Errno, why: &str| {
            BootError::Failed(Failure {
                kind: FailureKind::Invalid,
                errno: Some(errno.code()),
                text: format!(
                    "cannot set linux.sysctl {name} to {value:?} in the container: {why}"
                ),
            })
        };
        // sysctl(8) takes both.
        let dotted = name.replace('/', ".");
        let is_of = |families: &[&str]| families.iter().any(|f| dotted.starts_with(f));
        if joined && !is_of(OWN) && !is_of(INTERNET) {
            let why = "it is the whole sandbox's; set it for the root container";
            return Err(failed(Errno::EPERM, why));
        }
        let errno = match fs_proc::set_sysctl(container, name, value) {
            Ok(()) => continue,
            Err(errno) => errno,
        };
        if is_of(INTERNET) {
            tracing::warn!("sysctl {name} is left out: there is no network inside");
            continue;
        }
        let why = match errno {
            Errno::ENOENT => "its kernel has no such value; leave it out",
            Errno::EACCES => "its kernel does not let that be changed; leave it out",
            _ => "it cannot be that; proc(5) says what it can be",
        };
        return Err(failed(errno, why));
    }
    Ok(())
}

/// What belongs to a container's own IPC and UTS namespaces.
const OWN: &[&str] = &[
    "kernel.sem",
    "kernel.shm",
    "kernel.msg",
    "kernel.hostname",
    "kernel.domainname",
    "fs.mqueue.",
];

/// What there is no network for. Engines set some of these for every container.
const INTERNET: &[&str] = &["net.ipv4.", "net.ipv6."];
