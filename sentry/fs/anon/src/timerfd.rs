//! timerfd_create(2).

use crate::eventfd::put_u64;
use abi::Errno;
use abi::time::{Itimerspec, Timespec};
use ctx::{Ctx, Dst, Restart, SysResult, wait_for};
use std::any::Any;
use std::sync::{Arc, Weak};
use sync::{Mutex, ranks};
use time::{ClockId, Clocks, TimerId, TimerListener, TimerQueue};
use vfs::{File, FileOps, OpenFlags, would_block};
use wait::{Events, Queue};

/// A timer that is read.
pub struct TimerFd {
    me: Weak<TimerFd>,
    clock: ClockId,
    clocks: Arc<Clocks>,
    timers: Arc<TimerQueue>,
    state: Mutex<State, ranks::Leaf>,
    queue: Queue,
}

/// When it expires. What has expired is counted when somebody looks, so that a timer with a short
/// period that nobody reads wakes the sandbox once and no more.
#[derive(Default)]
struct State {
    /// The next expiry on the clock, in nanoseconds; `None` is disarmed.
    at: Option<i64>,
    /// Nanoseconds; 0 is one shot.
    interval: i64,
    /// Expiries counted and not read.
    expired: u64,
    armed: Option<TimerId>,
    /// Which setting an expiry belongs to.
    generation: u64,
}

impl State {
    /// Counts what has expired by `now`.
    fn advance(&mut self, now: i64) {
        let Some(at) = self.at.filter(|at| *at <= now) else {
            return;
        };
        if self.interval == 0 {
            self.expired += 1;
            self.at = None;
            return;
        }
        let times = 1 + now.saturating_sub(at) / self.interval;
        self.expired = self.expired.saturating_add(times as u64);
        self.at = Some(at.saturating_add(times.saturating_mul(self.interval)));
    }

    fn setting(&self, now: i64) -> Itimerspec {
        Itimerspec {
            interval: Timespec::from_nanos(self.interval),
            // Zero would say that it is disarmed.
            value: self.at.map_or(Timespec::default(), |at| {
                Timespec::from_nanos((at - now).max(1))
            }),
        }
    }
}

impl TimerFd {
    /// timerfd_create(2) on `clock`, by its Linux number. `flags` may hold `NONBLOCK`.
    ///
    /// # Errors
    /// `EINVAL` for clocks that cannot be used.
    pub fn open(
        cx: &dyn Ctx,
        clock: i32,
        clocks: &Arc<Clocks>,
        timers: &Arc<TimerQueue>,
        flags: OpenFlags,
    ) -> Result<Arc<File>, Errno> {
        let clock = ClockId::from_number(clock)?;
        match clock {
            ClockId::Realtime | ClockId::Monotonic | ClockId::Boottime => {}
            ClockId::RealtimeAlarm | ClockId::BoottimeAlarm => {
                if !cx.creds().has(auth::Capability::WakeAlarm) {
                    return Err(Errno::EPERM);
                }
            }
            _ => return Err(Errno::EINVAL),
        }
        let timer = Arc::new_cyclic(|me| TimerFd {
            me: me.clone(),
            clock,
            clocks: clocks.clone(),
            timers: timers.clone(),
            state: Mutex::default(),
            queue: Queue::new(),
        });
        Ok(File::anonymous(
            cx,
            timer,
            (flags & OpenFlags::NONBLOCK) | OpenFlags::RDWR,
        ))
    }

    /// timerfd_settime(2); returns what was set before. `absolute` is `TFD_TIMER_ABSTIME`.
    ///
    /// # Errors
    /// `EINVAL` for times out of range.
    pub fn set(&self, new: &Itimerspec, absolute: bool) -> Result<Itimerspec, Errno> {
        let value = i64::try_from(new.value.to_duration()?).unwrap_or(i64::MAX);
        let interval = i64::try_from(new.interval.to_duration()?).unwrap_or(i64::MAX);
        let now = self.clocks.now(self.clock);
        let mut state = self.state.lock();
        state.advance(now);
        let old = state.setting(now);
        state.expired = 0;
        state.generation += 1;
        state.interval = interval;
        state.at = match value {
            0 => None,
            v if absolute => Some(v),
            v => Some(now.saturating_add(v)),
        };
        let cancelled = state.armed.take();
        self.arm(&mut state);
        drop(state);
        if let Some(id) = cancelled {
            self.timers.cancel(id);
        }
        Ok(old)
    }

    /// timerfd_gettime(2).
    pub fn get(&self) -> Itimerspec {
        let now = self.clocks.now(self.clock);
        let mut state = self.state.lock();
        state.advance(now);
        state.setting(now)
    }

    fn arm(&self, state: &mut State) {
        if state.armed.is_some() || state.expired > 0 {
            return;
        }
        if let Some(at) = state.at.and_then(|at| self.clocks.instant(self.clock, at)) {
            let me: Weak<dyn TimerListener> = self.me.clone();
            state.armed = Some(self.timers.arm(at, me, state.generation));
        }
    }
}

impl TimerListener for TimerFd {
    fn expired(&self, generation: u64) {
        let now = self.clocks.now(self.clock);
        let mut state = self.state.lock();
        if state.generation != generation {
            return;
        }
        state.armed = None;
        state.advance(now);
        // Too early (the clock was set meanwhile): once more.
        self.arm(&mut state);
        let expired = state.expired > 0;
        drop(state);
        if expired {
            self.queue.notify(Events::READABLE);
        }
    }
}

impl Drop for TimerFd {
    fn drop(&mut self) {
        if let Some(id) = self.state.get_mut().armed.take() {
            self.timers.cancel(id);
        }
    }
}

impl FileOps for TimerFd {
    fn seekable(&self) -> bool {
        false
    }

    fn takes_writes(&self) -> bool {
        false
    }

    fn stays_at_start(&self) -> bool {
        true
    }

    fn read(&self, cx: &dyn Ctx, file: &File, _offset: u64, dst: &mut Dst<'_>) -> SysResult {
        if dst.remaining() < 8 {
            return Err(Errno::EINVAL.into());
        }
        let attempt = || {
            let mut state = self.state.lock();
            state.advance(self.clocks.now(self.clock));
            let expired = std::mem::take(&mut state.expired);
            if expired == 0 {
                return if file.nonblocking() {
                    would_block()
                } else {
                    Ok(None)
                };
            }
            self.arm(&mut state);
            Ok(Some(expired))
        };
        let expired = wait_for(
            cx,
            &self.queue,
            Events::READABLE,
            None,
            Restart::Sys,
            attempt,
        )?;
        put_u64(dst, expired.unwrap_or(0))
    }

    fn ready(&self, _file: &File) -> Events {
        let mut state = self.state.lock();
        state.advance(self.clocks.now(self.clock));
        if state.expired > 0 {
            Events::IN
        } else {
            Events::empty()
        }
    }

    fn queue(&self) -> Option<&Queue> {
        Some(&self.queue)
    }

    fn anonymous_name(&self) -> Option<Vec<u8>> {
        Some(b"anon_inode:[timerfd]".to_vec())
    }

    fn fdinfo(&self) -> String {
        let now = self.clocks.now(self.clock);
        let mut state = self.state.lock();
        state.advance(now);
        let s = state.setting(now);
        format!(
            "clockid: {}\nticks: {}\nsettime flags: 00\nit_value: ({}, {})\nit_interval: ({}, {})\n",
            self.clock as i32,
            state.expired,
            s.value.sec,
            s.value.nsec,
            s.interval.sec,
            s.interval.nsec
        )
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ctx::KernelCtx;
    use std::time::Duration;

    fn spec(value_ms: i64, interval_ms: i64) -> Itimerspec {
        Itimerspec {
            interval: Timespec::from_nanos(interval_ms * 1_000_000),
            value: Timespec::from_nanos(value_ms * 1_000_000),
        }
    }

    #[test]
    fn expiries_are_counted_and_waited_for() {
        let clocks = Arc::new(Clocks::new());
        let timers = TimerQueue::new();
        let cx = KernelCtx::new(clocks.clone());
        let file = TimerFd::open(&cx, 1, &clocks, &timers, OpenFlags::empty()).unwrap();
        let timer = file.ops_as::<TimerFd>().unwrap();
        assert_eq!(
            timer.set(&spec(5, 5), false).unwrap(),
            Itimerspec::default()
        );
        let mut buf = [0; 8];
        assert_eq!(file.read(&cx, &mut Dst::ours(&mut buf)).unwrap(), 8);
        assert!(u64::from_ne_bytes(buf) >= 1);
        std::thread::sleep(Duration::from_millis(22));
        file.read(&cx, &mut Dst::ours(&mut buf)).unwrap();
        assert!(u64::from_ne_bytes(buf) >= 3, "{buf:?}");
        assert_eq!(
            timer.set(&spec(0, 0), false).unwrap().interval.nsec,
            5_000_000
        );
        assert_eq!(timer.get(), Itimerspec::default());
        assert!(file.ready().is_empty());
        assert!(timer.set(&spec(-1, 0), false).is_err());
        timers.stop();
    }
}
