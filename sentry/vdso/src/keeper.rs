//! Draws the lines.

use crate::Params;

/// The host's clocks at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostTime {
    /// Time stamp counter.
    pub tsc: u64,
    /// `CLOCK_MONOTONIC`, in nanoseconds.
    pub monotonic: u64,
    /// `CLOCK_REALTIME`, in nanoseconds.
    pub realtime: u64,
    /// `CLOCK_BOOTTIME`, in nanoseconds.
    pub boottime: u64,
}

/// How long a line holds: what a step of the host's wall clock can go unseen.
const HOLDS_NS: u64 = 100_000_000;
/// Two samples this far apart give a rate.
const MIN_SPAN_NS: u64 = 2_000_000;

/// Fits lines to samples so that the time they give never goes backwards.
#[derive(Clone, Copy, Debug, Default)]
pub struct Timekeeper {
    first: Option<HostTime>,
    line: Params,
    cpus: u32,
}

impl Timekeeper {
    /// Nothing known yet. `cpus` is what `getcpu` counts by, 0 to make it a system call.
    pub fn new(cpus: u32) -> Timekeeper {
        Timekeeper {
            cpus,
            ..Timekeeper::default()
        }
    }

    /// The line in force (with `mult` 0: none).
    pub fn params(&self) -> &Params {
        &self.line
    }

    /// Changes what `getcpu` counts by.
    pub fn set_cpus(&mut self, cpus: u32) {
        self.cpus = cpus;
        self.line.cpus = cpus;
    }

    /// Takes a sample, and draws a new line where two are far enough apart.
    pub fn sample(&mut self, now: HostTime) -> &Params {
        let Some(first) = self.first else {
            self.first = Some(now);
            self.line = Params {
                cpus: self.cpus,
                ..Params::default()
            };
            return &self.line;
        };
        let (ticks, span) = (
            now.tsc.checked_sub(first.tsc),
            now.monotonic.checked_sub(first.monotonic),
        );
        let (Some(ticks), Some(span)) = (ticks, span) else {
            // The counter went backwards: the machine was moved. Begin again.
            *self = Timekeeper {
                first: Some(now),
                ..Timekeeper::new(self.cpus)
            };
            return &self.line;
        };
        if span < MIN_SPAN_NS || ticks == 0 {
            return &self.line;
        }
        let rate = (u128::from(span) << 32) / u128::from(ticks);
        let had = if self.line.mult != 0 {
            self.line.extended_to(now.tsc)
        } else {
            0
        };
        let ahead = had.saturating_sub(now.monotonic);
        // What the former line ran ahead is made good by going slower, never by going back.
        let wanted = HOLDS_NS.saturating_sub(ahead.min(HOLDS_NS / 2));
        let mult = rate * u128::from(wanted) / u128::from(HOLDS_NS);
        let holds = u128::from(HOLDS_NS) * u128::from(ticks) / u128::from(span);
        let (Ok(mult), Ok(holds)) = (u64::try_from(mult), u64::try_from(holds)) else {
            return &self.line;
        };
        self.line = Params {
            tsc_base: now.tsc,
            tsc_last: now.tsc.saturating_add(holds),
            mult,
            monotonic: now.monotonic.max(had),
            realtime_offset: steady(
                self.line.realtime_offset,
                now.realtime.wrapping_sub(now.monotonic),
            ),
            boottime_offset: steady(
                self.line.boottime_offset,
                now.boottime.wrapping_sub(now.monotonic),
            ),
            cpus: self.cpus,
        };
        if span > 60_000_000_000 {
            // The host's rate drifts; measure it over the last minutes.
            self.first = Some(now);
        }
        &self.line
    }
}

/// Offsets change when a clock is set; less than this is the noise of reading two clocks.
const NOISE_NS: u64 = 20_000;

fn steady(old: u64, new: u64) -> u64 {
    let distance = old.wrapping_sub(new);
    if distance < NOISE_NS || distance.wrapping_neg() < NOISE_NS {
        old
    } else {
        new
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(tsc: u64, ns: u64) -> HostTime {
        HostTime {
            tsc,
            monotonic: ns,
            realtime: ns + 1000,
            boottime: ns + 5,
        }
    }

    #[test]
    fn time_never_goes_back_when_the_host_slows_down() {
        let mut k = Timekeeper::new(1);
        k.sample(at(0, 0));
        // Two counts a nanosecond.
        let line = *k.sample(at(20_000_000, 10_000_000));
        assert_eq!(line.monotonic_at(20_000_002), Some(10_000_001));
        let end = line.tsc_last;
        let before = line.monotonic_at(end).unwrap();
        // The host shows a little less than the line says.
        let line = *k.sample(at(end + 1, before - 3_000));
        assert!(line.monotonic_at(end + 1).unwrap() >= before);
        // It is made good by the end of the next line.
        let later = line.monotonic_at(line.tsc_last).unwrap();
        assert!(later <= before - 3_000 + 100_010_000, "{later}");
        assert_eq!(line.monotonic_at(line.tsc_last + 1), None);
    }
}
