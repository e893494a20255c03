//! The guest's view of Linux on x86-64: error numbers, system call numbers, constants and the
//! `repr(C)` structures that cross the boundary.
//!
//! Plain data only. Constants whose value is the same on the host come from `libc`; structures
//! are our own so that they can be read from and written to guest memory as bytes (`zerocopy`)
//! with their padding spelled out. One file a family.
#![forbid(unsafe_code)]

pub mod aio;
pub mod errno;
pub mod file;
pub mod nr;
pub mod page;
pub mod process;
pub mod socket;
pub mod stat;
pub mod system;
pub mod time;

pub use errno::Errno;
pub use libc;

/// A system call's plain result.
pub type Result<T, E = Errno> = std::result::Result<T, E>;
