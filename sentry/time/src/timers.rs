//! One thread for every timer of the sandbox.

use parking_lot::{Condvar, Mutex};
use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::Instant;

/// Hears of an expiry. Called on the timer thread, without any lock: it must not block.
pub trait TimerListener: Send + Sync {
    /// The timer armed with `tag` has expired.
    fn expired(&self, tag: u64);
}

/// Names one armed timer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TimerId {
    at: Instant,
    serial: u64,
}

#[derive(Default)]
struct State {
    serial: u64,
    armed: BTreeMap<TimerId, (Weak<dyn TimerListener>, u64)>,
    stopped: bool,
    running: bool,
}

/// The queue of armed timers.
///
/// Its lock is not ranked: it is innermost, and nothing is called under it.
#[derive(Default)]
pub struct TimerQueue {
    state: Mutex<State>,
    changed: Condvar,
}

impl std::fmt::Debug for TimerQueue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "TimerQueue({} armed)", self.state.lock().armed.len())
    }
}

impl TimerQueue {
    /// An empty queue. Its thread is started with the first timer.
    pub fn new() -> Arc<TimerQueue> {
        Arc::new(TimerQueue::default())
    }

    /// How many are armed.
    pub fn armed(&self) -> usize {
        self.state.lock().armed.len()
    }

    /// Calls `listener.expired(tag)` once `at` has come, unless cancelled. The thread that does
    /// it is started by the first call.
    pub fn arm(
        self: &Arc<Self>,
        at: Instant,
        listener: Weak<dyn TimerListener>,
        tag: u64,
    ) -> TimerId {
        let mut s = self.state.lock();
        s.serial += 1;
        let id = TimerId {
            at,
            serial: s.serial,
        };
        s.armed.insert(id, (listener, tag));
        if !s.running && !s.stopped {
            s.running = true;
            let me = self.clone();
            let spawned = std::thread::Builder::new()
                .name("timers".into())
                .spawn(move || me.run());
            s.running = spawned.is_ok();
        }
        let first = s
            .armed
            .first_key_value()
            .is_some_and(|(first, _)| *first == id);
        drop(s);
        if first {
            self.changed.notify_one();
        }
        id
    }

    /// Disarms a timer; `false` when it had expired (its listener may be running right now).
    pub fn cancel(&self, id: TimerId) -> bool {
        self.state.lock().armed.remove(&id).is_some()
    }

    /// Ends the thread, for tests and for the end of a sandbox.
    pub fn stop(&self) {
        self.state.lock().stopped = true;
        self.changed.notify_one();
    }

    fn run(&self) {
        let mut s = self.state.lock();
        while !s.stopped {
            let Some((&id, _)) = s.armed.first_key_value() else {
                self.changed.wait(&mut s);
                continue;
            };
            if id.at > Instant::now() {
                self.changed.wait_until(&mut s, id.at);
                continue;
            }
            if let Some((listener, tag)) = s.armed.remove(&id) {
                parking_lot::MutexGuard::unlocked(&mut s, || {
                    if let Some(l) = listener.upgrade() {
                        l.expired(tag);
                    }
                });
            }
        }
        s.running = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;
    use std::time::Duration;

    struct Tell(Mutex<mpsc::Sender<u64>>);
    impl TimerListener for Tell {
        fn expired(&self, tag: u64) {
            self.0.lock().send(tag).unwrap();
        }
    }

    #[test]
    fn timers_expire_in_order_and_cancelled_ones_do_not() {
        let q = TimerQueue::new();
        let (tx, rx) = mpsc::channel();
        let l: Arc<dyn TimerListener> = Arc::new(Tell(Mutex::new(tx)));
        let now = Instant::now();
        q.arm(now + Duration::from_millis(20), Arc::downgrade(&l), 2);
        let gone = q.arm(now + Duration::from_millis(10), Arc::downgrade(&l), 9);
        q.arm(now + Duration::from_millis(5), Arc::downgrade(&l), 1);
        assert!(q.cancel(gone));
        assert_eq!(rx.recv().unwrap(), 1);
        assert_eq!(rx.recv().unwrap(), 2);
        assert!(!q.cancel(gone));
        q.stop();
    }
}
