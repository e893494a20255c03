//! Address spaces.
//!
//! An [`Mm`] is what the threads of a process share: mappings as the guest asked for them
//! (`vma`), what stands behind the addresses that have been used (`extent`), and the platform's
//! space, which is told of extents in batches. Mapping reserves addresses and tells the platform
//! nothing; the first touch hands out an *extent*, up to many MiB, by one operation, after which
//! the host fills pages without us. Unmapping what was never touched costs nothing either.
//!
//! Private pages that must not be written in place (after fork, of a file, zeros) are *sealed*
//! extents: the platform has them read-only at most and the first store copies a chunk, or just
//! unseals where nobody else holds the frames any more.
//!
//! The kernel's own accesses ([`ctx::UserMemory`], atomics) go through the same tables: they obey
//! the guest's protections page by page, make extents and break seals as the guest's would, and
//! never trap.
//!
//! Neighbours: `hostmem` gives frames, `memmap` is the seam to files, `platform_api` is told,
//! `task` calls.
//!
//! Lock order: `MmCopy` (copying of file pages) -> `Mm` (all tables) -> `Mappings` (a file's list
//! of spaces) -> `Frames`. A platform's `apply` is called with `Mm` held; files' `translate` is
//! not.
#![forbid(unsafe_code)]

mod access;
mod advise;
mod batch;
mod brk;
mod copy;
mod demand;
mod detach;
mod extent;
mod fault;
mod fork;
mod invalidate;
mod layout;
mod lock;
mod map;
mod protect;
mod remap;
mod report;
mod residency;
mod seal;
mod shared;
mod state;
mod trim;
mod types;
mod unmap;
mod vma;
mod words;

pub use layout::Layout;
pub use remap::RemapFlags;
pub use state::Mm;
pub use types::{
    BUS_ADRERR, ExecInfo, FaultSignal, FutexKey, MapFile, MapFlags, MapRequest, MapsEntry,
    MmLimits, MmUsage, Prot, SEGV_ACCERR, SEGV_MAPERR, prot_from_bits,
};

#[cfg(test)]
mod fake;
#[cfg(test)]
mod huge_tests;
#[cfg(test)]
mod limit_tests;
#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;
