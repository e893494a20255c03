//! What the tests that start real processes share: finding and building the
//! programs, root file systems, OCI bundles, running natively in a chroot and
//! in a sandbox, terminals, and a count of what passed, failed or was skipped.
//!
//! Nothing here is used by the runtime itself.

pub mod build;
pub mod bundle;
pub mod leftovers;
pub mod native;
pub mod report;
pub mod rootfs;
pub mod run;
mod sys;
pub mod terminal;

use std::path::PathBuf;

/// The root of the workspace.
pub fn workspace() -> PathBuf {
    let mut here = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    here.pop();
    here.pop();
    here
}

/// Where cargo builds, and prepared root file systems are kept.
pub fn target_dir() -> PathBuf {
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(dir) => workspace().join(dir),
        None => workspace().join("target"),
    }
}

/// Puts back what a caller's background job or nohup(1) have set: programs natively inherit which
/// signals are ignored, and are compared.
///
/// # Panics
/// When a signal that exists cannot be set, which does not happen.
pub fn as_from_a_shell() {
    use nix::sys::signal::Signal;
    for which in [Signal::SIGHUP, Signal::SIGINT, Signal::SIGQUIT] {
        if let Err(error) = sys::default_signal(which) {
            panic!("{which} has no default: {error}");
        }
    }
}

/// Whether this process is root.
pub fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// The first directory of the PATH (and of those where tools for root are kept)
/// that holds the program `name`.
pub fn which(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/sbin".into()])
        .map(|dir| dir.join(name))
        .find(|file| file.is_file())
}
