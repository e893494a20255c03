//! The page that the vDSO's code reads.

/// Where the number of CPUs stands.
pub(crate) const CPUS_OFFSET: u64 = 104;

/// A line from the time stamp counter to the time. Nothing in it is secret.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Params {
    /// The line holds from this count on
    pub tsc_base: u64,
    /// and up to this one.
    pub tsc_last: u64,
    /// Nanoseconds a count, times 2^32.
    pub mult: u64,
    /// `CLOCK_MONOTONIC` at `tsc_base`, in nanoseconds.
    pub monotonic: u64,
    /// `CLOCK_REALTIME` minus `CLOCK_MONOTONIC`.
    pub realtime_offset: u64,
    /// `CLOCK_BOOTTIME` minus `CLOCK_MONOTONIC`.
    pub boottime_offset: u64,
    /// Virtual CPUs for `getcpu`, 0 to make it a system call.
    pub cpus: u32,
}

impl Params {
    /// `CLOCK_MONOTONIC` at count `tsc`, where the line holds.
    pub fn monotonic_at(&self, tsc: u64) -> Option<u64> {
        (self.tsc_base..=self.tsc_last)
            .contains(&tsc)
            .then(|| self.extended_to(tsc))
    }

    /// The line, wherever.
    pub(crate) fn extended_to(&self, tsc: u64) -> u64 {
        let delta = (u128::from(tsc.saturating_sub(self.tsc_base)) * u128::from(self.mult)) >> 32;
        self.monotonic
            .saturating_add(u64::try_from(delta).unwrap_or(u64::MAX))
    }

    /// The page's bytes with sequence number `seq` (even: valid; odd: being changed). `seq` and
    /// the flag that follows it must be stored first when changing to odd, and last to even.
    pub fn bytes(&self, seq: u32) -> [u8; 112] {
        let mut out = [0; 112];
        let mut put = |at: usize, v: u64| out[at..at + 8].copy_from_slice(&v.to_le_bytes());
        put(0, u64::from(seq) | u64::from(self.mult != 0) << 32);
        put(8, self.tsc_base);
        put(16, self.tsc_last);
        put(24, self.mult);
        put(32, self.monotonic);
        // Added to the monotonic time, by clock number.
        put(40, self.realtime_offset);
        put(40 + 5 * 8, self.realtime_offset);
        put(40 + 7 * 8, self.boottime_offset);
        put(CPUS_OFFSET as usize, u64::from(self.cpus));
        out
    }
}
