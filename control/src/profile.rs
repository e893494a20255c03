//! Profiles of a sandbox process: where its CPU time, its memory and its waiting are.
//!
//! Samples come as messages on a socket (`SOCK_SEQPACKET`) that the asker sends along, while the
//! profile is made: a [`SampleHead`], then the stack's bytes from the stack pointer up. What the
//! frames are is worked out by the asker, who has the executables. A sample that the socket has no
//! room for is lost and counted; the sandbox process never waits for the asker.

use crate::debug::Module;
use serde::{Deserialize, Serialize};

/// What a profile is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ProfileKind {
    /// CPU time: a sample for each [`CPU_PERIOD`] that a thread has run. [`SampleHead::value`] is
    /// in nanoseconds.
    Cpu,
    /// Memory: a sample for each [`HEAP_RATE`] bytes allocated, on the average.
    /// [`SampleHead::value`] is the size of an allocation. The last messages, with
    /// [`SampleHead::tid`] 0, hold the [`SampleHead::id`]s of those that were still there at the
    /// end, in the place of a stack.
    Heap,
    /// Sleeps of tasks; see [`WAIT_RATE`]. [`SampleHead::value`] is in nanoseconds.
    Block,
    /// Waiting for locks; as [`ProfileKind::Block`].
    Mutex,
}

/// CPU time between two samples of a thread, in nanoseconds.
pub const CPU_PERIOD: u64 = 10_000_000;
/// Bytes allocated between two samples of a thread, on the average. Whether an allocation of `n`
/// bytes is sampled is chance: 1 - exp(-n / rate).
pub const HEAP_RATE: u64 = 8 << 10;
/// How long a wait is, in nanoseconds, that is sampled for certain. Of a shorter one it is chance:
/// its length / rate.
pub const WAIT_RATE: u64 = 1_000_000;
/// Most bytes of a sample's stack.
pub const MAX_SAMPLE_STACK: usize = 32 << 10;
/// Most bytes of a message.
pub const MAX_SAMPLE: usize = SampleHead::BYTES + MAX_SAMPLE_STACK;

/// The words at the beginning of a sample, little-endian.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SampleHead {
    /// The thread's number in the sandbox's PID namespace.
    pub tid: u64,
    /// Instruction pointer.
    pub ip: u64,
    /// Stack pointer.
    pub sp: u64,
    /// Frame pointer.
    pub bp: u64,
    /// How much; see [`ProfileKind`].
    pub value: u64,
    /// Of an allocation: tells it from all others of this profile. Otherwise 0.
    pub id: u64,
}

impl SampleHead {
    /// Its size in a message.
    pub const BYTES: usize = 6 * 8;

    /// As it stands in a message.
    pub fn to_bytes(self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        let words = [self.tid, self.ip, self.sp, self.bp, self.value, self.id];
        for (to, word) in bytes.chunks_exact_mut(8).zip(words) {
            to.copy_from_slice(&word.to_le_bytes());
        }
        bytes
    }

    /// A message's head, and what comes after it.
    pub fn split(message: &[u8]) -> Option<(SampleHead, &[u8])> {
        let (head, rest) = message.split_at_checked(Self::BYTES)?;
        let mut words = words(head);
        let mut next = || words.next().unwrap_or(0);
        let head = SampleHead {
            tid: next(),
            ip: next(),
            sp: next(),
            bp: next(),
            value: next(),
            id: next(),
        };
        Some((head, rest))
    }
}

/// Whole little-endian words.
pub fn words(bytes: &[u8]) -> impl Iterator<Item = u64> {
    let word = |b: &[u8]| b.iter().rev().fold(0, |word, &b| word << 8 | u64::from(b));
    bytes.chunks_exact(8).map(word)
}

/// What is to be profiled.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProfileSpec {
    /// What of.
    pub kind: ProfileKind,
    /// How long, in milliseconds.
    pub duration: u64,
    /// The threads that there are, as [`SampleHead::tid`]; those that begin later are sampled too.
    pub threads: Vec<i32>,
}

/// A profile has begun.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Profiling {
    /// What is loaded.
    pub modules: Vec<Module>,
}

/// A profile has ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Profiled {
    /// Samples sent.
    pub samples: u64,
    /// Those for which there was no room.
    pub lost: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_head_of_a_sample_comes_back() {
        let head = SampleHead {
            tid: 7,
            ip: u64::MAX,
            sp: 0x7fff_1234_5678,
            bp: 1,
            value: CPU_PERIOD,
            id: 1 << 40,
        };
        let mut message = head.to_bytes().to_vec();
        message.extend(b"stack");
        assert_eq!(SampleHead::split(&message), Some((head, &b"stack"[..])));
        assert_eq!(SampleHead::split(&message[..SampleHead::BYTES - 1]), None);
        assert_eq!(words(&message).next(), Some(7));
    }
}
