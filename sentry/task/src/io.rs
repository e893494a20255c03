//! How much a task has read and written by system calls (`/proc/PID/io`, proc_pid_io(5)).

use std::ops::Add;
use std::sync::atomic::{AtomicU64, Ordering};

/// The counts of one task. Its own thread alone adds to them.
#[derive(Debug, Default)]
pub struct IoAccount {
    read: AtomicU64,
    written: AtomicU64,
    reads: AtomicU64,
    writes: AtomicU64,
}

/// The counts at a moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IoCounts {
    /// Bytes read.
    pub read: u64,
    /// Bytes written.
    pub written: u64,
    /// Calls that read.
    pub reads: u64,
    /// Calls that wrote.
    pub writes: u64,
}

impl IoAccount {
    /// A call that read, and what came of it.
    pub fn count_read<E>(&self, result: &Result<usize, E>) {
        count(&self.reads, 1);
        count(&self.read, *result.as_ref().unwrap_or(&0) as u64);
    }

    /// A call that wrote, and what came of it.
    pub fn count_write<E>(&self, result: &Result<usize, E>) {
        count(&self.writes, 1);
        count(&self.written, *result.as_ref().unwrap_or(&0) as u64);
    }

    /// What it comes to now.
    pub fn counts(&self) -> IoCounts {
        IoCounts {
            read: self.read.load(Ordering::Relaxed),
            written: self.written.load(Ordering::Relaxed),
            reads: self.reads.load(Ordering::Relaxed),
            writes: self.writes.load(Ordering::Relaxed),
        }
    }
}

/// Without the price of an atomic addition: there is one who writes.
fn count(counter: &AtomicU64, n: u64) {
    let sum = counter.load(Ordering::Relaxed).wrapping_add(n);
    counter.store(sum, Ordering::Relaxed);
}

impl Add for IoCounts {
    type Output = IoCounts;

    fn add(self, other: IoCounts) -> IoCounts {
        IoCounts {
            read: self.read.wrapping_add(other.read),
            written: self.written.wrapping_add(other.written),
            reads: self.reads.wrapping_add(other.reads),
            writes: self.writes.wrapping_add(other.writes),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_calls_without_bytes() {
        let io = IoAccount::default();
        io.count_read(&Ok::<_, ()>(7));
        io.count_read(&Err(()));
        io.count_write(&Ok::<_, ()>(5));
        let want = IoCounts {
            read: 7,
            written: 5,
            reads: 2,
            writes: 1,
        };
        assert_eq!(io.counts(), want);
        assert_eq!((io.counts() + want).reads, 4);
    }
}
