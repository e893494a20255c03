//! The sandbox process: bring-up, the assembling of a kernel, and the control server.
//!
//! [`process::main`] is the whole life of a sandbox process; [`seccomp`] tells the launcher which
//! host calls the sentry makes; [`server`] answers the launcher while the container runs.

mod error;
mod log;
pub mod process;
pub mod seccomp;
pub mod server;
mod sys;
mod winch;

pub use error::BootError;
pub use process::DonatedFds;
