//! Choices that are the same in every run: a generator with a fixed seed.

/// A seed and where it has got to.
pub struct Dice(u64);

impl Dice {
    /// From a case's own seed. `PROBES_SEED` in the environment makes it another, to search further
    /// than the cases do.
    pub fn new(seed: u64) -> Self {
        let more = std::env::var("PROBES_SEED").ok();
        let more: u64 = more.and_then(|s| s.parse().ok()).unwrap_or(0);
        let seed = seed.wrapping_add(more.wrapping_mul(1_000_003));
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// A number below `below`.
    pub fn roll(&mut self, below: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % below
    }

    /// One of them.
    pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.roll(from.len())]
    }

    /// Some of the bits that are given, three at most; now and then all.
    pub fn bits(&mut self, from: &[i32]) -> i32 {
        if self.roll(24) == 0 {
            return from.iter().fold(0, |all, b| all | b);
        }
        let n = self.roll(4);
        (0..n).fold(0, |all, _| all | self.pick(from))
    }
}
