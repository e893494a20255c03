//! Descriptors of the host that the launcher donated: the container's standard streams.
//!
//! Their open file descriptions are shared with whoever called us, so `O_NONBLOCK` is never set
//! on them and they are never read blindly: [`Reactor`], one thread that sleeps while nothing
//! happens, says when they are ready, and the reads and writes then made cannot block
//! (`RWF_NOWAIT`), or are made by a helper thread where the host has no such thing (terminals).
#![forbid(unsafe_code)]

mod file;
mod helper;
mod reactor;

pub use file::HostFile;
pub use reactor::{Interest, Reactor, Token};
