//! The clocks of clock_gettime(2).

use abi::Errno;
use abi::time::Timespec;
use nix::time::{ClockId as HostClock, clock_gettime};
use std::time::{Duration, Instant};

/// A system-wide clock by its Linux number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(i32)]
#[expect(missing_docs, reason = "clock_gettime(2) says what each is")]
pub enum ClockId {
    Realtime = 0,
    Monotonic = 1,
    MonotonicRaw = 4,
    RealtimeCoarse = 5,
    MonotonicCoarse = 6,
    Boottime = 7,
    RealtimeAlarm = 8,
    BoottimeAlarm = 9,
    Tai = 11,
}

impl ClockId {
    /// The clock with Linux number `n`; `EINVAL` for numbers that are no system-wide clock.
    pub fn from_number(n: i32) -> Result<ClockId, Errno> {
        Ok(match n {
            0 => ClockId::Realtime,
            1 => ClockId::Monotonic,
            4 => ClockId::MonotonicRaw,
            5 => ClockId::RealtimeCoarse,
            6 => ClockId::MonotonicCoarse,
            7 => ClockId::Boottime,
            8 => ClockId::RealtimeAlarm,
            9 => ClockId::BoottimeAlarm,
            11 => ClockId::Tai,
            _ => return Err(Errno::EINVAL),
        })
    }

    /// Whether it is set by people and NTP, so that an absolute time on it is not a delay.
    pub fn is_wall(self) -> bool {
        matches!(
            self,
            ClockId::Realtime | ClockId::RealtimeCoarse | ClockId::RealtimeAlarm | ClockId::Tai
        )
    }
}

/// The sandbox's clocks: the host's, read through its vDSO.
#[derive(Debug)]
pub struct Clocks {
    started: Instant,
    boot_monotonic: i64,
}

impl Default for Clocks {
    fn default() -> Self {
        Self::new()
    }
}

impl Clocks {
    /// Clocks of a sandbox that starts now.
    pub fn new() -> Clocks {
        Clocks {
            started: Instant::now(),
            boot_monotonic: host(HostClock::CLOCK_MONOTONIC),
        }
    }

    /// The time on `clock` in nanoseconds since that clock's epoch.
    pub fn now(&self, clock: ClockId) -> i64 {
        host(match clock {
            ClockId::Realtime | ClockId::RealtimeAlarm => HostClock::CLOCK_REALTIME,
            ClockId::Monotonic => HostClock::CLOCK_MONOTONIC,
            ClockId::MonotonicRaw => HostClock::CLOCK_MONOTONIC_RAW,
            ClockId::RealtimeCoarse => HostClock::CLOCK_REALTIME_COARSE,
            ClockId::MonotonicCoarse => HostClock::CLOCK_MONOTONIC_COARSE,
            ClockId::Boottime | ClockId::BoottimeAlarm => HostClock::CLOCK_BOOTTIME,
            ClockId::Tai => HostClock::CLOCK_TAI,
        })
    }

    /// The resolution of `clock` in nanoseconds.
    pub fn resolution(&self, clock: ClockId) -> i64 {
        match clock {
            ClockId::RealtimeCoarse | ClockId::MonotonicCoarse => {
                nix::time::clock_getres(HostClock::CLOCK_MONOTONIC_COARSE)
                    .map_or(4_000_000, |t| t.tv_sec() * 1_000_000_000 + t.tv_nsec())
            }
            _ => 1,
        }
    }

    /// Wall-clock time, for file times.
    pub fn wall(&self) -> Timespec {
        Timespec::from_nanos(self.now(ClockId::Realtime))
    }

    /// How long the sandbox has been up.
    pub fn uptime(&self) -> Duration {
        self.started.elapsed()
    }

    /// `CLOCK_MONOTONIC` when the sandbox started, in nanoseconds.
    pub fn boot_monotonic(&self) -> i64 {
        self.boot_monotonic
    }

    /// The host instant at which `clock` will show `at` nanoseconds, if it is not set meanwhile;
    /// now, if it already does; `None` where that is further away than the host can express.
    pub fn instant(&self, clock: ClockId, at: i64) -> Option<Instant> {
        let left = at.saturating_sub(self.now(clock)).max(0);
        Instant::now().checked_add(Duration::from_nanos(left as u64))
    }
}

fn host(clock: HostClock) -> i64 {
    // The vDSO answers these; the ids are ones that every supported host has.
    clock_gettime(clock).map_or(0, |t| {
        t.tv_sec()
            .saturating_mul(1_000_000_000)
            .saturating_add(t.tv_nsec())
    })
}
