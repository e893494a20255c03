//! The values under /proc/sys that root may change, and that something acts upon (proc(5)).
//!
//! Those here are the whole sandbox's, as they are a whole machine's in Linux. Those of an IPC
//! namespace are in `ipc`, which makes them of the same [`Knob`]; names of the host are in `task`.
#![forbid(unsafe_code)]

use std::sync::atomic::{AtomicI64, Ordering};

/// A number, and the bounds of what it may be set to.
#[derive(Debug)]
pub struct Knob {
    value: AtomicI64,
    least: i64,
    most: i64,
}

/// What a [`Knob`] was to be set to is out of its bounds (`EINVAL`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutOfBounds;

impl Knob {
    /// One that is `value`, and can be `least` to `most`.
    pub const fn new(value: i64, least: i64, most: i64) -> Knob {
        Knob {
            value: AtomicI64::new(value),
            least,
            most,
        }
    }

    /// One that is on, and may be turned off.
    const fn on() -> Knob {
        Knob::new(1, 0, 1)
    }

    /// What it is.
    #[inline]
    pub fn get(&self) -> i64 {
        self.value.load(Ordering::Relaxed)
    }

    /// What it is, of those that are counts or sizes.
    #[inline]
    pub fn size(&self) -> usize {
        self.get().max(0) as usize
    }

    /// Whether it is on, of those that are switches.
    #[inline]
    pub fn is_on(&self) -> bool {
        self.get() != 0
    }

    /// Whether it could be `value`.
    ///
    /// # Errors
    /// If not.
    pub fn check(&self, value: i64) -> Result<(), OutOfBounds> {
        if (self.least..=self.most).contains(&value) {
            Ok(())
        } else {
            Err(OutOfBounds)
        }
    }

    /// Makes it -1, which is none, of those that are a choice for once.
    pub fn clear(&self) {
        self.value.store(-1, Ordering::Relaxed);
    }

    /// Sets it.
    ///
    /// # Errors
    /// As of [`Knob::check`]; then it stays as it is.
    pub fn set(&self, value: i64) -> Result<(), OutOfBounds> {
        self.check(value)?;
        self.value.store(value, Ordering::Relaxed);
        Ok(())
    }
}

const INT: i64 = i32::MAX as i64;

/// `fs.aio-max-nr`: requests that all contexts together may have under way.
pub static AIO_MAX: Knob = Knob::new(0x10000, 0, i64::MAX);
/// `fs.inotify.max_queued_events`: events that wait to be read of an instance.
pub static INOTIFY_EVENTS: Knob = Knob::new(16384, 0, INT);
/// `fs.inotify.max_user_instances`
pub static INOTIFY_INSTANCES: Knob = Knob::new(128, 0, INT);
/// `fs.inotify.max_user_watches`
pub static INOTIFY_WATCHES: Knob = Knob::new(65536, 0, INT);
/// `fs.lease-break-time`: seconds that who holds a lease has to give it up; 0 is without end.
pub static LEASE_BREAK_TIME: Knob = Knob::new(45, 0, INT);
/// `fs.leases-enable`: whether there are new ones.
pub static LEASES_ENABLE: Knob = Knob::on();
/// `fs.nr_open`: how many descriptors a process can have, whatever its limit. It can be lowered
/// alone: a table has a place for each.
pub static NR_OPEN: Knob = Knob::new(1 << 20, 64, 1 << 20);
/// `fs.pipe-max-size`: bytes that a pipe can hold, unless capable.
pub static PIPE_MAX_SIZE: Knob = Knob::new(1 << 20, 4096, 1 << 31);
/// `fs.protected_hardlinks`: others' files may be linked only where they could be read and
/// written, and never set-id programs.
pub static PROTECTED_HARDLINKS: Knob = Knob::on();
/// `fs.protected_symlinks`: in a sticky directory that all can write to, links are followed only
/// for their owner, or where they belong to the directory's owner.
pub static PROTECTED_SYMLINKS: Knob = Knob::on();
/// `net.core.rmem_max` and `net.core.wmem_max`: the most that SO_RCVBUF and SO_SNDBUF ask for.
pub static RMEM_MAX: Knob = Knob::new(212_992, 2304, INT);
/// See [`RMEM_MAX`].
pub static WMEM_MAX: Knob = Knob::new(212_992, 4608, INT);
/// `net.core.rmem_default` and `net.core.wmem_default`: what a new socket has of them.
pub static RMEM_DEFAULT: Knob = Knob::new(212_992, 2304, INT);
/// See [`RMEM_DEFAULT`].
pub static WMEM_DEFAULT: Knob = Knob::new(212_992, 4608, INT);
/// `net.core.somaxconn`: the longest queue of a listening socket.
pub static SOMAXCONN: Knob = Knob::new(4096, 0, INT);
/// `kernel.overflowuid` and `fs.overflowuid`: what a user without a name is told as.
pub static OVERFLOW_UID: Knob = Knob::new(65534, 0, 65535);
/// `kernel.overflowgid` and `fs.overflowgid`
pub static OVERFLOW_GID: Knob = Knob::new(65534, 0, 65535);
/// `vm.max_map_count`: mappings that an address space may have.
pub static MAX_MAP_COUNT: Knob = Knob::new(65530, 0, INT);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_out_of_bounds_changes_nothing() {
        let knob = Knob::new(5, 1, 10);
        assert_eq!(knob.set(0), Err(OutOfBounds));
        assert_eq!(knob.set(11), Err(OutOfBounds));
        assert_eq!(knob.get(), 5);
        assert_eq!(knob.set(10), Ok(()));
        assert_eq!(knob.size(), 10);
    }
}
