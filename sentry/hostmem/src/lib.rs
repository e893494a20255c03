//! Memory of the sandbox's application: frames of a file, and copies that survive faults.
//!
//! [`MemoryFile`] is a sparse memfd (or a donated file) that is mapped once, whole, into the
//! sentry: the *window*. [`Frames`] is a counted handle to a page-aligned stretch of it. Pages
//! come into being when somebody first touches them and go away when the last handle does.
//!
//! What stands in frames belongs to the guest, which may change it at any moment, and a page may
//! turn out not to be there (the host out of memory, a donated file cut short). So nothing here
//! ever gives out a reference into the window: there are copies, which report a fault
//! ([`Frames::read`], [`Frames::write`]), single atomic words, and host I/O straight into or out
//! of frames, where the host's kernel does the copy.
//!
//! The container's memory limit is kept here too ([`MemoryFile::set_limit`]): frames are charged
//! when they are handed out, and what happens where there is no room is `limit`'s.
//!
//! Unsafe code of the kernel proper lives in this crate, in `copy`, `handlers` and `window`.
//!
//! Lock order: the allocator's lock (`ranks::Frames`) is the last of all; no host call is made
//! under it.

mod account;
mod alloc;
mod copy;
mod file;
mod frames;
mod handlers;
mod hostpages;
pub mod io;
mod limit;
mod window;

pub use file::{MemoryError, MemoryFile};
pub use frames::Frames;
pub use handlers::install as install_handlers;
pub use hostpages::HostPages;
pub use limit::{Relief, Victim};

/// How new frames relate to what was handed out before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placement {
    /// Anywhere; small things lie close together.
    Anywhere,
    /// Directly behind this offset if that is free, so that the host sees one mapping where a
    /// guest's mapping grows; otherwise as [`Placement::Roomy`].
    Behind(u64),
    /// With free space behind it, for what is expected to grow.
    Roomy,
    /// For what is mapped at the address `addr`, among much else as a rule: at the offset `at` if
    /// that is free (where it continues a neighbour), otherwise with free space around, where the
    /// offset lies within 64 MiB as the address does. So pieces that come one by one are one
    /// mapping in the end, which large pages can serve.
    Like {
        /// Where it is mapped.
        addr: u64,
        /// The offset it would like.
        at: Option<u64>,
    },
}
