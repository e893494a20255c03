//! The vDSO: a shared object of ours that the guest's C library calls for the time, without a
//! trap.
//!
//! [`image`] is the object, built at first use from the machine code in `code`. One page below
//! it lie the [`Params`], which [`Timekeeper`] makes: a line through the host's time stamp
//! counter, good until a certain count. Code that finds the line too old makes the system call,
//! and the sentry draws a new one then; nothing ticks. Both sides compute time by the same line,
//! so that it never goes backwards between them.

mod code;
mod elf;
mod keeper;
mod params;

pub use elf::{IMAGE_PAGES, image};
pub use keeper::{HostTime, Timekeeper};
pub use params::Params;

/// The page of parameters lies this far below the image.
pub const PARAMS_BELOW: u64 = 4096;

/// The name a program header of type `PT_DYNAMIC` gives it.
pub const SONAME: &str = "linux-vdso.so.1";

/// The host's time stamp counter, where it counts at one rate in every state of every CPU.
pub fn time_stamp() -> Option<u64> {
    code::invariant().then(code::read_tsc)
}
