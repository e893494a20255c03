//! The kernel parameters that the configuration names (`linux.sysctl`).

use crate::error::BootError;
use abi::Errno;
use control::message::{Failure, FailureKind};
use task::Container;

/// Sets them for `container`, by name and value.
pub(crate) fn set(container: &Container, wanted: &[(String, String)]) -> Result<(), BootError> {
    for (name, value) in wanted {
        let errno = match fs_proc::set_sysctl(container, name, value) {
            Ok(()) => continue,
            Err(errno) => errno,
        };
        // Engines set some of these for every container.
        if ["net.ipv4.", "net.ipv6.", "net/ipv4/", "net/ipv6/"]
            .iter()
            .any(|family| name.starts_with(family))
        {
            tracing::warn!("sysctl {name} is left out: there is no network inside");
            continue;
        }
        let why = match errno {
            Errno::ENOENT => "its kernel has no such value; leave it out",
            Errno::EACCES => "its kernel does not let that be changed; leave it out",
            _ => "it cannot be that; proc(5) says what it can be",
        };
        return Err(BootError::Failed(Failure {
            kind: FailureKind::Invalid,
            errno: Some(errno.code()),
            text: format!("cannot set linux.sysctl {name} to {value:?} in the container: {why}"),
        }));
    }
    Ok(())
}
