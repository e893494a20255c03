//! CPU time, taken where a task passes between guest, sentry and sleep.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Where a task is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Phase {
    /// Runs code of the sentry.
    Sentry = 0,
    /// Runs guest code.
    Guest = 1,
    /// Sleeps.
    Parked = 2,
    /// Has been made, and waits for a thread to run on.
    Born = 3,
}

/// User and system time of a task.
#[derive(Debug)]
pub struct CpuClock {
    epoch: Instant,
    phase: AtomicU8,
    /// When the present phase began, in nanoseconds since the epoch.
    since: AtomicU64,
    user: AtomicU64,
    system: AtomicU64,
    switches: AtomicU64,
    faults: AtomicU64,
}

/// CPU time in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CpuTime {
    /// In guest code.
    pub user: u64,
    /// In the sentry.
    pub system: u64,
    /// Times it went to sleep.
    pub switches: u64,
    /// Page faults that the sentry mended.
    pub faults: u64,
}

impl std::ops::Add for CpuTime {
    type Output = CpuTime;
    fn add(self, o: CpuTime) -> CpuTime {
        CpuTime {
            user: self.user.saturating_add(o.user),
            system: self.system.saturating_add(o.system),
            switches: self.switches.saturating_add(o.switches),
            faults: self.faults.saturating_add(o.faults),
        }
    }
}

impl CpuTime {
    /// Both together.
    pub fn total(self) -> u64 {
        self.user.saturating_add(self.system)
    }
}

impl CpuClock {
    pub(crate) fn new(epoch: Instant) -> CpuClock {
        let clock = CpuClock {
            epoch,
            phase: AtomicU8::new(Phase::Born as u8),
            since: AtomicU64::new(0),
            user: AtomicU64::new(0),
            system: AtomicU64::new(0),
            switches: AtomicU64::new(0),
            faults: AtomicU64::new(0),
        };
        clock.since.store(clock.now(), Ordering::Relaxed);
        clock
    }

    /// Nanoseconds since the kernel's epoch.
    pub(crate) fn now(&self) -> u64 {
        u64::try_from(self.epoch.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// Passes to `next`. Called by the task itself.
    #[inline]
    pub(crate) fn enter(&self, next: Phase) {
        let now = self.now();
        let spent = now.saturating_sub(self.since.load(Ordering::Relaxed));
        // Only the task itself writes these: no read-modify-write is needed.
        let sum = match self.phase.load(Ordering::Relaxed) {
            0 => Some(&self.system),
            1 => Some(&self.user),
            _ => None,
        };
        if let Some(sum) = sum {
            sum.store(sum.load(Ordering::Relaxed) + spent, Ordering::Relaxed);
        }
        if next == Phase::Parked {
            self.switches
                .store(self.switches.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        }
        self.since.store(now, Ordering::Relaxed);
        self.phase.store(next as u8, Ordering::SeqCst);
    }

    /// Counts a page fault. Called by the task itself.
    #[inline]
    pub(crate) fn count_fault(&self) {
        self.faults
            .store(self.faults.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    }

    /// Where the task is.
    #[inline]
    pub fn phase(&self) -> Phase {
        match self.phase.load(Ordering::SeqCst) {
            0 => Phase::Sentry,
            1 => Phase::Guest,
            2 => Phase::Parked,
            _ => Phase::Born,
        }
    }

    /// When the present phase began, in nanoseconds since the kernel's epoch. Exact for the task
    /// itself.
    pub(crate) fn since(&self) -> u64 {
        self.since.load(Ordering::Relaxed)
    }

    /// The same if it is this one; for others, who may look while it changes.
    pub(crate) fn in_phase(&self, phase: Phase) -> Option<u64> {
        let since = self.since.load(Ordering::SeqCst);
        (self.phase() == phase).then_some(since)
    }

    /// Since when the task sleeps, if it does.
    pub(crate) fn parked_since(&self) -> Option<Instant> {
        let since = self.in_phase(Phase::Parked)?;
        self.epoch.checked_add(Duration::from_nanos(since))
    }

    /// What tells its present stay in guest code from any other; `None` outside.
    pub(crate) fn stay(&self) -> Option<u64> {
        self.in_phase(Phase::Guest)
    }

    /// CPU time so far, the present phase included.
    pub fn time(&self) -> CpuTime {
        let spent = self
            .now()
            .saturating_sub(self.since.load(Ordering::Relaxed));
        let mut t = CpuTime {
            user: self.user.load(Ordering::Relaxed),
            system: self.system.load(Ordering::Relaxed),
            switches: self.switches.load(Ordering::Relaxed),
            faults: self.faults.load(Ordering::Relaxed),
        };
        match self.phase() {
            Phase::Guest => t.user = t.user.saturating_add(spent),
            Phase::Sentry => t.system = t.system.saturating_add(spent),
            Phase::Parked | Phase::Born => {}
        }
        t
    }
}
