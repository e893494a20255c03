//! Time as structures (`linux/time_types.h`).

use crate::Errno;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Nanoseconds in a second.
pub const NSEC_PER_SEC: u64 = 1_000_000_000;

/// `struct timespec`.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    FromBytes,
    IntoBytes,
    Immutable,
    KnownLayout,
)]
#[repr(C)]
pub struct Timespec {
    /// Whole seconds.
    pub sec: i64,
    /// Nanoseconds, 0 to 999,999,999 where valid.
    pub nsec: i64,
}

impl Timespec {
    /// From nanoseconds since the epoch of whatever clock is meant.
    pub fn from_nanos(ns: i64) -> Timespec {
        Timespec {
            sec: ns.div_euclid(NSEC_PER_SEC as i64),
            nsec: ns.rem_euclid(NSEC_PER_SEC as i64),
        }
    }

    /// Nanoseconds, saturating.
    pub fn to_nanos(self) -> i64 {
        self.sec
            .saturating_mul(NSEC_PER_SEC as i64)
            .saturating_add(self.nsec)
    }

    /// As a non-negative duration in nanoseconds: `EINVAL` for a negative second or a nanosecond
    /// out of range, as every sleeping call has it.
    pub fn to_duration(self) -> Result<u64, Errno> {
        if self.sec < 0 || !(0..NSEC_PER_SEC as i64).contains(&self.nsec) {
            return Err(Errno::EINVAL);
        }
        Ok((self.sec as u64)
            .saturating_mul(NSEC_PER_SEC)
            .saturating_add(self.nsec as u64))
    }
}

/// `struct timeval`.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Timeval {
    /// Whole seconds.
    pub sec: i64,
    /// Microseconds, 0 to 999,999 where valid.
    pub usec: i64,
}

/// `struct itimerspec`.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Itimerspec {
    /// Period; zero for one shot.
    pub interval: Timespec,
    /// Time to the first expiry; zero disarms.
    pub value: Timespec,
}

/// `struct itimerval`.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Itimerval {
    /// Period; zero for one shot.
    pub interval: Timeval,
    /// Time to the first expiry; zero disarms.
    pub value: Timeval,
}
