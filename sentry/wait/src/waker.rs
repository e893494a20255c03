//! The waker of a host thread that runs a task.

use crate::{Events, Listener};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::Thread;
use std::time::{Duration, Instant};

/// How many want to know when somebody was woken.
static NOTED: AtomicUsize = AtomicUsize::new(0);
/// What the times of wakes count from.
static EPOCH: OnceLock<Instant> = OnceLock::new();

/// Whether wakers keep the time of a wake from now on; calls with `true` and `false` are paired.
pub fn note_wakes(on: bool) {
    EPOCH.get_or_init(Instant::now);
    match on {
        true => NOTED.fetch_add(1, Ordering::Relaxed),
        false => NOTED.fetch_sub(1, Ordering::Relaxed),
    };
}

/// Wakes one parked host thread. A wake that comes before the park is not lost.
///
/// Made before its thread exists, so that a new task can be signalled before it first runs;
/// [`Waker::bind`] ties it to the thread that will park.
#[derive(Debug, Default)]
pub struct Waker {
    notified: AtomicBool,
    thread: OnceLock<Thread>,
    /// When it was woken last, in nanoseconds since [`EPOCH`]; 0 for never.
    woken: AtomicU64,
}

impl Waker {
    /// A waker not yet bound.
    pub fn new() -> Arc<Waker> {
        Arc::new(Waker::default())
    }

    /// Ties it to the calling thread, once.
    pub fn bind(&self) {
        let _ = self.thread.set(std::thread::current());
    }

    /// Makes the current or next [`Waker::park`] return. Cheap when the thread is not parked.
    #[inline]
    pub fn wake(&self) {
        if !self.notified.swap(true, Ordering::SeqCst)
            && let Some(t) = self.thread.get()
        {
            if NOTED.load(Ordering::Relaxed) != 0 {
                self.note();
            }
            t.unpark();
        }
    }

    #[cold]
    fn note(&self) {
        let since = EPOCH.get().map_or(Duration::ZERO, Instant::elapsed);
        let since = u64::try_from(since.as_nanos()).unwrap_or(u64::MAX);
        self.woken.store(since, Ordering::Relaxed);
    }

    /// When it was woken last, of the wakes while [`note_wakes`] holds.
    pub fn woken_at(&self) -> Option<Instant> {
        let since = Some(self.woken.load(Ordering::Relaxed)).filter(|t| *t > 0)?;
        EPOCH.get()?.checked_add(Duration::from_nanos(since))
    }

    /// Sleeps until woken or until `deadline`; returns whether it was woken. Only the bound
    /// thread may call this.
    pub fn park(&self, deadline: Option<Instant>) -> bool {
        self.bind();
        loop {
            if self.notified.swap(false, Ordering::SeqCst) {
                return true;
            }
            match deadline {
                None => std::thread::park(),
                Some(d) => {
                    let left = d.saturating_duration_since(Instant::now());
                    if left == Duration::ZERO {
                        return self.notified.swap(false, Ordering::SeqCst);
                    }
                    std::thread::park_timeout(left);
                }
            }
        }
    }

    /// Whether there is a wake that no park has consumed.
    #[inline]
    pub fn is_woken(&self) -> bool {
        self.notified.load(Ordering::SeqCst)
    }

    /// Forgets a wake that has not been consumed.
    pub fn clear(&self) {
        self.notified.store(false, Ordering::SeqCst);
    }
}

impl Listener for Waker {
    fn notify(&self, _events: Events) {
        self.wake();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wake_before_the_park_is_kept() {
        let w = Waker::new();
        w.wake();
        assert!(w.park(None));
        assert!(!w.park(Some(Instant::now() + Duration::from_millis(1))));
    }

    #[test]
    fn another_thread_wakes() {
        let w = Waker::new();
        w.bind();
        let other = w.clone();
        let t = std::thread::spawn(move || other.wake());
        assert!(w.park(None));
        t.join().unwrap();
    }
}
