//! Load averages.
//!
//! Linux counts those who run or could run every five seconds. Here nothing ticks: when somebody
//! asks, the CPU time that was used since the last time stands for it. So one who waits for a CPU
//! is not in it.

use std::time::Duration;

/// Seconds over which the three averages decay.
const PERIODS: [f64; 3] = [60.0, 300.0, 900.0];

/// The averages, as of when they were asked for last.
#[derive(Debug, Default)]
pub(crate) struct Load {
    at: Duration,
    spent: Duration,
    averages: [f64; 3],
}

impl Load {
    /// The averages `now`, when so much CPU time has been `spent` in all.
    pub(crate) fn at(&mut self, now: Duration, spent: Duration) -> [f64; 3] {
        let passed = now.saturating_sub(self.at).as_secs_f64();
        // Within so short a time no rate can be told.
        if passed >= 0.1 {
            let rate = spent.saturating_sub(self.spent).as_secs_f64() / passed;
            for (average, period) in self.averages.iter_mut().zip(PERIODS) {
                let kept = (-passed / period).exp();
                *average = *average * kept + rate * (1.0 - kept);
            }
            (self.at, self.spent) = (now, spent);
        }
        self.averages
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_rate_becomes_the_average_and_fades() {
        let seconds = Duration::from_secs;
        let mut load = Load::default();
        let [one, five, fifteen] = load.at(seconds(60), seconds(120));
        assert!((1.2..1.3).contains(&one), "{one}");
        assert!(one > five && five > fifteen && fifteen > 0.1);
        let [one, ..] = load.at(seconds(100_000), seconds(120));
        assert!(one < 0.01, "{one}");
        let before = load.averages;
        assert_eq!(load.at(seconds(100_000), seconds(121)), before);
    }
}
