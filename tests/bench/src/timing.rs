//! Batches, and the best of them.

use std::sync::Barrier;
use std::time::{Duration, Instant};

/// A batch is at least this long, so that the clock's own cost is nothing beside it.
const BATCH: Duration = Duration::from_millis(4);
/// With several threads, long enough for the scheduler to have its say, and short enough for some
/// batch to have the CPUs to itself on a machine that is busy.
const SHARED_BATCH: Duration = Duration::from_millis(12);
const SHARED_BATCHES: u32 = 8;

/// How often `one` runs in about `length`.
fn fitting(length: Duration, one: &mut impl FnMut()) -> u32 {
    let mut count = 1u32;
    loop {
        let took = run(count, one);
        if took >= length / 2 || count >= 1 << 24 {
            let per = took.as_nanos().max(1) / u128::from(count);
            return u32::try_from(length.as_nanos() / per.max(1))
                .unwrap_or(count)
                .max(1);
        }
        count *= 2;
    }
}

fn run(count: u32, one: &mut impl FnMut()) -> Duration {
    let start = Instant::now();
    for _ in 0..count {
        one();
    }
    start.elapsed()
}

fn nanoseconds(took: Duration, count: u32) -> f64 {
    took.as_secs_f64() * 1e9 / f64::from(count)
}

/// Nanoseconds of one call of `one`, in the best batch within `budget`.
pub(crate) fn best(budget: Duration, mut one: impl FnMut()) -> f64 {
    let count = fitting(BATCH.min(budget), &mut one);
    let end = Instant::now() + budget;
    let mut best = f64::MAX;
    loop {
        best = best.min(nanoseconds(run(count, &mut one), count));
        if Instant::now() >= end {
            return best;
        }
    }
}

/// As [`best`] with `threads` at once, each with a function of its own that `make` makes for it:
/// the mean over the threads, in the best batch.
pub(crate) fn best_shared<F: FnMut()>(threads: usize, make: impl Fn(usize) -> F + Sync) -> f64 {
    let barrier = Barrier::new(threads);
    let batches: Vec<Vec<f64>> = std::thread::scope(|scope| {
        let all: Vec<_> = (0..threads)
            .map(|index| {
                let (make, barrier) = (&make, &barrier);
                scope.spawn(move || {
                    let mut one = make(index);
                    let count = fitting(SHARED_BATCH, &mut one);
                    let mut times = Vec::new();
                    for _ in 0..SHARED_BATCHES {
                        barrier.wait();
                        times.push(nanoseconds(run(count, &mut one), count));
                    }
                    times
                })
            })
            .collect();
        all.into_iter().filter_map(|t| t.join().ok()).collect()
    });
    best_mean(&batches)
}

/// The least mean over the threads of any one batch; `times` has a list for each thread.
pub(crate) fn best_mean(times: &[Vec<f64>]) -> f64 {
    let batches = times.iter().map(Vec::len).min().unwrap_or(0);
    (0..batches)
        .map(|b| times.iter().map(|t| t[b]).sum::<f64>() / times.len() as f64)
        .fold(f64::MAX, f64::min)
}

/// The same for something that times itself, in nanoseconds, and is big enough for a batch.
pub(crate) fn best_of_own<F: FnMut() -> f64>(
    threads: usize,
    batches: u32,
    make: impl Fn(usize) -> F + Sync,
) -> f64 {
    let barrier = Barrier::new(threads);
    let times: Vec<Vec<f64>> = std::thread::scope(|scope| {
        let all: Vec<_> = (0..threads)
            .map(|index| {
                let (make, barrier) = (&make, &barrier);
                scope.spawn(move || {
                    let mut one = make(index);
                    let batch = |_| {
                        barrier.wait();
                        one()
                    };
                    (0..batches).map(batch).collect()
                })
            })
            .collect();
        all.into_iter().filter_map(|t| t.join().ok()).collect()
    });
    best_mean(&times)
}
