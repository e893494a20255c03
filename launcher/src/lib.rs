//! Containers from the host's side: the bundle, the state on disk, the sandbox process and the
//! gofer with their namespaces, ids and descriptors, terminals, and the OCI life cycle.
//!
//! [`container`] is what the command line calls; [`sandbox`] brings the processes up; [`confine`]
//! is what those do first. The kernel inside is reached through [`client`] alone.
//!
//! A process that uses [`container::create`], [`container::run`] or [`Container::exec`] must have one thread: new
//! processes start as copies of it.

pub mod attach;
pub mod cgroup;
pub mod client;
pub mod config;
pub mod confine;
pub mod console;
pub mod container;
pub mod debug;
mod donation;
mod error;
pub mod exec;
pub mod hooks;
pub mod id;
pub mod identity;
pub mod platform;
mod pod;
mod prepare;
pub mod process_id;
pub mod profile;
pub mod sandbox;
mod seccomp;
pub mod spawn;
pub mod state;
mod step;
mod submounts;
mod sys;
mod words;

pub use container::{Container, OCI_VERSION};
pub use control::boot::ProcessSpec;
pub use control::debug::{Counters, Logging, Module, SlotHead, TaskInfo, Traced};
pub use control::message::{ProcessInfo, Stats};
pub use control::profile::{CPU_PERIOD, HEAP_RATE, ProfileKind, Profiled, SampleHead, WAIT_RATE};
pub use error::{EXIT_FAILURE, EXIT_NOT_EXECUTABLE, EXIT_NOT_FOUND, LaunchError};
pub use id::ContainerId;
pub use identity::Identity;
pub use state::StateRoot;
