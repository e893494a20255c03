//! Looking into a running sandbox: stacks, tasks, the log, traces.
//!
//! A thread's stack goes into a file that the asker sends along, a [`SLOT`] for each thread: a
//! [`SlotHead`], then the stack's bytes from the stack pointer up. What the frames are is worked
//! out by the asker, who has the executables; the sandbox's root is empty.

use serde::{Deserialize, Serialize};

/// The host signal by which a thread of the sandbox process is asked: real-time, and nobody else's,
/// neither the C library's (32 to 34) nor a platform's.
pub const STACK_SIGNAL: i32 = 40;
/// Bytes of the file for one thread.
pub const SLOT: u64 = 128 << 10;
/// Most bytes of one stack.
pub const MAX_STACK: u64 = SLOT - SlotHead::BYTES as u64;
/// Most threads of one request.
pub const MAX_THREADS: usize = 16 << 10;

/// The words at the beginning of a slot, little-endian.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SlotHead {
    /// The thread's number in the sandbox's PID namespace; 0 where nothing was written.
    pub tid: u64,
    /// Instruction pointer.
    pub ip: u64,
    /// Stack pointer.
    pub sp: u64,
    /// Frame pointer.
    pub bp: u64,
    /// Bytes of stack that follow.
    pub len: u64,
}

impl SlotHead {
    /// Its size in the file.
    pub const BYTES: usize = 5 * 8;

    /// As it stands in the file.
    pub fn to_bytes(self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        let words = [self.tid, self.ip, self.sp, self.bp, self.len];
        for (to, word) in bytes.chunks_exact_mut(8).zip(words) {
            to.copy_from_slice(&word.to_le_bytes());
        }
        bytes
    }

    /// From what stands in the file.
    pub fn from_bytes(bytes: [u8; Self::BYTES]) -> SlotHead {
        let mut words = bytes
            .chunks_exact(8)
            .map(|b| b.iter().rev().fold(0, |word, &b| word << 8 | u64::from(b)));
        let mut next = || words.next().unwrap_or(0);
        SlotHead {
            tid: next(),
            ip: next(),
            sp: next(),
            bp: next(),
            len: next(),
        }
    }
}

/// An executable or library in the sandbox process's memory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Module {
    /// What the dynamic linker calls it; empty for the executable itself.
    pub name: String,
    /// What is added to the file's addresses.
    pub base: u64,
    /// Where its first segment begins in memory.
    pub start: u64,
    /// Where its last one ends.
    pub end: u64,
    /// The linker's build id; empty when it has none.
    pub build_id: Vec<u8>,
}

/// A task of the container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskInfo {
    /// Its process.
    pub pid: i32,
    /// Its own number inside.
    pub tid: i32,
    /// The sentry's thread that runs it, as [`SlotHead::tid`]; 0 before it first ran.
    pub thread: i32,
    /// `R`, `S`, `T` or `Z`, as in ps(1).
    pub state: char,
    /// Whether guest code runs; otherwise the sentry works for it, or it sleeps there.
    pub in_guest: bool,
    /// The system call under way.
    pub call: Option<String>,
    /// Its name.
    pub command: String,
}

/// To [`crate::message::Request::Stacks`], beside what is in the file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stacks {
    /// What is loaded.
    pub modules: Vec<Module>,
    /// All tasks, by number.
    pub tasks: Vec<TaskInfo>,
}

/// How much there is of what a sandbox keeps, in all its containers: what grows without its
/// programs' doing is a leak.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    /// Tasks, also those that nothing but a leftover reference keeps.
    pub tasks: u64,
    /// The same of processes.
    pub processes: u64,
    /// The same of address spaces.
    pub address_spaces: u64,
    /// The same of open file descriptions.
    pub open_files: u64,
    /// The same of names of file systems.
    pub dentries: u64,
    /// Those that are only kept because they may be wanted again.
    pub cached_dentries: u64,
    /// Unix sockets, also those that nothing but a leftover reference keeps.
    pub sockets: u64,
    /// Descriptors of the container's processes.
    pub descriptors: u64,
    /// Mappings of the container's processes.
    pub mappings: u64,
    /// Stretches of memory behind them.
    pub extents: u64,
    /// Bytes of the container's memory that exist on the host.
    pub memory: u64,
    /// Tasks that wait for a futex.
    pub futex_waiters: u64,
    /// Armed timers.
    pub timers: u64,
}

/// What is to be logged from now on. A log file may come along.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Logging {
    /// `off`, `error`, `warn`, `info` or `debug`, for whatever `filter` does not name.
    pub level: Option<String>,
    /// `TARGET=LEVEL,…`
    pub filter: Option<String>,
    /// Whether each system call is.
    pub strace: Option<bool>,
    /// Lines as JSON; for a sandbox that had no log so far.
    pub json: bool,
}

/// To [`crate::message::Request::Trace`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Traced {
    /// Events in the file.
    pub events: u64,
    /// Those that could not be written.
    pub lost: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_head_of_a_slot_comes_back() {
        let head = SlotHead {
            tid: 7,
            ip: u64::MAX,
            sp: 0x7fff_1234_5678,
            bp: 1,
            len: MAX_STACK,
        };
        assert_eq!(SlotHead::from_bytes(head.to_bytes()), head);
        assert_eq!(head.to_bytes()[0], 7);
    }
}
