//! The sandbox process: bring-up, the assembling of a kernel, and the control server.
//!
//! [`process::main`] is the whole life of a sandbox process; [`seccomp`] tells the launcher which
//! host calls the sentry makes; [`server`] answers the launcher while the container runs.

pub mod contract;
mod debug;
mod error;
mod exec;
mod filesystems;
pub mod kernel;
mod log;
mod mounts;
mod observe;
mod pod;
pub mod process;
mod profile;
mod program;
mod search;
pub mod seccomp;
mod server;
mod streams;
mod sys;
mod sysctl;
mod update;
mod winch;

pub use error::BootError;
pub use process::DonatedFds;

/// The table of system calls, for `ringfence help syscalls`.
pub fn syscalls_help() -> String {
    syscalls::table::help_text()
}
