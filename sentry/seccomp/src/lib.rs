//! System call filters (seccomp(2)): classic BPF programs that say what becomes of a call.
//!
//! A [`Program`] is what [`check`](Program::check) made of instructions that a guest gave: from
//! then on it can only jump forward and look at the call. A [`Filter`] is a program on top of
//! those that were there before it; a task has at most one, shared and never changed. What it
//! answers is a [`Verdict`]. [`compile`] makes a program from a list of rules, as container
//! configurations have them.
//!
//! Neighbours: `task` keeps filters and does what verdicts say; `syscalls` decodes seccomp(2) and
//! prctl(2); `boot` compiles the container's rules.
#![forbid(unsafe_code)]

mod check;
mod compile;
mod filter;
mod program;
mod verdict;

pub use compile::{Unfit, compile, first_exec};
pub use filter::{Filter, Supervisor, is_available};
pub use program::{Instruction, MAX_INSTRUCTIONS, Program};
pub use verdict::{Action, Verdict};

/// `AUDIT_ARCH_X86_64`: the only architecture there is inside.
pub const ARCH: u32 = 0xc000_003e;

/// What a filter looks at: `struct seccomp_data`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Call {
    /// The number, as the guest gave it.
    pub nr: u32,
    /// The address after the instruction that made the call.
    pub ip: u64,
    /// The arguments.
    pub args: [u64; 6],
}

/// Size of `struct seccomp_data`, in bytes.
const DATA_SIZE: u32 = 64;

impl Call {
    /// The word at byte `4 * index` of `struct seccomp_data`.
    fn word(&self, index: usize) -> u32 {
        let half = |v: u64| if index.is_multiple_of(2) { v } else { v >> 32 } as u32;
        match index {
            0 => self.nr,
            1 => ARCH,
            2 | 3 => half(self.ip),
            _ => half(self.args.get(index / 2 - 2).copied().unwrap_or(0)),
        }
    }
}
