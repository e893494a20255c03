//! Terminals: the line discipline, pseudo-terminal pairs, the devpts file system, and the
//! terminal whose other end is on the host.
//!
//! [`Tty`] is the terminal itself (termios, window, input editing, job control). What lies at its
//! other end is a back end: the master of a pair inside the sandbox, or a raw host pty
//! ([`host`]). The host side only ever sees raw bytes; line discipline and job control are ours.
#![forbid(unsafe_code)]

mod files;
mod fs;
pub mod host;
mod ioctl;
mod job;
mod line;
mod master;
mod output;
pub mod termios;
mod tty;

pub use files::{SlaveFile, open_controlling};
pub use fs::DevPts;
pub use master::open_peer;
pub use tty::Tty;
