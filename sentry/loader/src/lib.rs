//! From a file to a program that is ready to run: what execve(2) does to memory.
//!
//! Two steps, because Linux has two. [`Program::open`] goes from the file through `#!` lines to
//! an ELF file and its interpreter; it fails with the call's error and changes nothing. Then the
//! task computes its new credentials from [`Program::file`], and [`load`] fills an empty
//! [`mm::Mm`]: segments, vDSO, stack with arguments and auxiliary vector. That lies behind the
//! point of no return: when it fails, the process ends by `SIGSEGV`.
//!
//! `elf`, `script` and `stack` are plain functions over bytes. All that they read is the guest's
//! word.
#![forbid(unsafe_code)]

mod elf;
mod hardware;
mod load;
mod program;
mod script;
mod segments;
mod stack;
mod strings;

pub use load::{LoadOptions, Loaded, VdsoParts, load};
pub use program::{ByDescriptor, Executable, Program};
