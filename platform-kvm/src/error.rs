//! Failures on the host side, with what to do about them.

use platform_api::PlatformError;
use std::io;

/// The host refused something.
pub(crate) fn host(what: &str, error: io::Error) -> PlatformError {
    let remedy = match error.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => {
            "the user who starts the sandbox needs to read and write /dev/kvm (often: the group kvm)"
        }
        Some(libc::ENOMEM) => "give the sandbox more memory",
        Some(libc::EMFILE) => "raise the limit of open files (ulimit -n)",
        _ => "run `ringfence platforms` to see what this host offers, or take another platform",
    };
    PlatformError::host(format!("kvm platform: {what}"), error, remedy)
}

/// KVM refused something.
pub(crate) fn kvm(what: &'static str) -> impl Fn(kvm_ioctls::Error) -> PlatformError {
    move |e| host(what, io::Error::from_raw_os_error(e.errno()))
}

/// Something is not as it must be for us.
pub(crate) fn unfit(what: &str, answer: impl Into<String>) -> PlatformError {
    PlatformError {
        what: format!("kvm platform: {what}"),
        answer: answer.into(),
        remedy: "take another platform".to_owned(),
        errno: None,
    }
}

/// The caller broke the contract.
pub(crate) fn misuse(what: &str, answer: &str) -> PlatformError {
    PlatformError {
        what: format!("kvm platform: {what}"),
        answer: answer.to_owned(),
        remedy: "this is an error of the sentry; please report it".to_owned(),
        errno: Some(libc::EINVAL),
    }
}
