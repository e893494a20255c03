//! Failures on the host side, with what to do about them.

use platform_api::PlatformError;
use std::io;

/// The host refused something.
pub(crate) fn host(what: &str, error: io::Error) -> PlatformError {
    let remedy = match error.raw_os_error() {
        Some(libc::EPERM) => {
            "ptrace may be restricted: see kernel.yama.ptrace_scope (0 or 1 is needed) and any \
             seccomp filter around this process"
        }
        Some(libc::EAGAIN) => "raise the limit of processes (ulimit -u, pids cgroup)",
        Some(libc::ENOMEM) => "give the sandbox more memory",
        Some(libc::ESRCH) => "a stub was killed from outside; look for the host's OOM killer",
        _ => "run `ringfence platforms` to see what this host offers",
    };
    PlatformError::host(format!("ptrace platform: {what}"), error, remedy)
}

/// A stub ended while it was needed.
pub(crate) fn died(what: &str, status: i32) -> PlatformError {
    PlatformError {
        what: format!("ptrace platform: {what}"),
        answer: format!("the stub process ended (wait status {status:#x})"),
        remedy: "it was killed from outside; look for the host's OOM killer".to_owned(),
        errno: None,
    }
}

/// The caller broke the contract.
pub(crate) fn misuse(what: &str, answer: &str) -> PlatformError {
    PlatformError {
        what: format!("ptrace platform: {what}"),
        answer: answer.to_owned(),
        remedy: "this is an error of the sentry; please report it".to_owned(),
        errno: Some(libc::EINVAL),
    }
}
