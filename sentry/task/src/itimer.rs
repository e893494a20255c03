//! Timers of a process: setitimer(2), timer_create(2), RLIMIT_CPU.
//!
//! Timers on system clocks lie in the sandbox's queue. Those that count CPU time lie there too,
//! for the earliest moment at which they can be due; one that finds that the process has not run
//! at all goes dormant until it does, so that a sleeping process causes no wake-ups.

use crate::{ExitStatus, Kernel, Task, TaskCx, ThreadGroup};
use abi::Errno;
use ctx::{Ctx, Resource, Wake};
use signal::{SigInfo, Signal};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::{Duration, Instant};
use sync::{Mutex, ranks};
use time::{ClockId, TimerId, TimerListener, TimerQueue};
use wait::Waker;

/// What a timer counts.
#[derive(Clone)]
pub enum TimerClock {
    /// A system-wide clock.
    System(ClockId),
    /// CPU time of the process.
    Process,
    /// The part of it in user mode.
    ProcessUser,
    /// CPU time of a thread.
    Thread(Weak<Task>),
}

/// What a timer does when it is due.
#[derive(Clone)]
pub enum Notify {
    /// Nothing: it can be asked.
    None,
    /// Sends the process a signal.
    Process(Signal, u64),
    /// Sends a thread a signal.
    Thread(Weak<Task>, Signal, u64),
    /// As setitimer(2): without details.
    Interval(Signal),
    /// RLIMIT_CPU.
    CpuLimit,
    /// Wakes a task that sleeps on the clock.
    Wake(Arc<Waker>),
}

/// setitimer(2)'s three.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum Interval {
    /// `ITIMER_REAL`
    Real = 0,
    /// `ITIMER_VIRTUAL`
    Virtual = 1,
    /// `ITIMER_PROF`
    Prof = 2,
}

/// Period and time left, in nanoseconds; 0 left is disarmed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Setting {
    /// 0 for one shot.
    pub interval: u64,
    /// To the next expiry.
    pub value: u64,
}

struct Timer {
    clock: TimerClock,
    notify: Notify,
    interval: u64,
    /// On its clock; 0 is disarmed.
    next: u64,
    armed: Option<TimerId>,
    /// What its clock showed when it was last armed.
    seen: u64,
    dormant: bool,
    /// Tells this setting of it from others and from other timers.
    setting: u32,
    /// How many times running it was due while its signal was still queued from the time before.
    late: u32,
    /// It has been due since it was set.
    runs: bool,
    /// `si_overrun` of the signal that was delivered last.
    last_overrun: i32,
}

/// An expiry.
struct Due {
    /// Of which setting.
    setting: u32,
    /// How many further periods went by before it was seen.
    missed: u64,
}

const CPU_LIMIT: u64 = 3;
const FIRST_POSIX: u64 = 16;
/// A period shorter than this is caught up with in batches; so is one whose signal stays queued,
/// in ever greater ones.
const SHORTEST: Duration = Duration::from_micros(50);
/// From here on, those of tasks that sleep.
const FIRST_SLEEPER: u64 = 1 << 32;
/// How many POSIX timers a process may have.
const MOST: usize = 4096;

/// The timers of a process.
pub struct ProcessTimers {
    group: Weak<ThreadGroup>,
    queue: Arc<TimerQueue>,
    /// Made with the first timer: most processes have none.
    table: OnceLock<Arc<Table>>,
}

struct Table {
    timers: Mutex<BTreeMap<u64, Timer>, ranks::Leaf>,
    group: Weak<ThreadGroup>,
    queue: Arc<TimerQueue>,
    this: Weak<Table>,
    any_dormant: AtomicBool,
    settings: AtomicU32,
}

impl TimerClock {
    fn now(&self, kernel: &Kernel, group: &ThreadGroup) -> u64 {
        match self {
            TimerClock::System(c) => kernel.now(*c).max(1) as u64,
            TimerClock::Process => group.cpu_time().total().max(1),
            TimerClock::ProcessUser => group.cpu_time().user.max(1),
            TimerClock::Thread(t) => t.upgrade().map_or(1, |t| t.cpu_time().total().max(1)),
        }
    }
}

impl ProcessTimers {
    pub(crate) fn new(group: Weak<ThreadGroup>, queue: Arc<TimerQueue>) -> ProcessTimers {
        ProcessTimers {
            group,
            queue,
            table: OnceLock::new(),
        }
    }

    fn table(&self) -> &Arc<Table> {
        self.table.get_or_init(|| {
            Arc::new_cyclic(|this| Table {
                timers: Mutex::new(BTreeMap::new()),
                group: self.group.clone(),
                queue: self.queue.clone(),
                this: this.clone(),
                any_dormant: AtomicBool::new(false),
                settings: AtomicU32::new(0),
            })
        })
    }

    /// getitimer(2).
    pub fn interval(&self, which: Interval) -> Setting {
        self.table.get().map_or(Setting::default(), |t| {
            t.get(which as u64).unwrap_or_default()
        })
    }

    /// setitimer(2), alarm(2): the former setting.
    pub fn set_interval(&self, which: Interval, new: Setting) -> Setting {
        if new.value == 0 && self.table.get().is_none() {
            return Setting::default();
        }
        let table = self.table();
        let old = table.get(which as u64).unwrap_or_default();
        let (clock, signal) = match which {
            Interval::Real => (TimerClock::System(ClockId::Monotonic), Signal::ALRM),
            Interval::Virtual => (TimerClock::ProcessUser, Signal::VTALRM),
            Interval::Prof => (TimerClock::Process, Signal::PROF),
        };
        table.set(
            which as u64,
            Some((clock, Notify::Interval(signal))),
            new,
            false,
        );
        old
    }

    /// Watches RLIMIT_CPU, which has changed.
    pub fn cpu_limit_changed(&self) {
        let Some(group) = self.group.upgrade() else {
            return;
        };
        let soft = group.limits().get(Resource::Cpu).soft;
        if soft == u64::MAX && self.table.get().is_none() {
            return;
        }
        let value = if soft == u64::MAX {
            0
        } else {
            soft.saturating_mul(1_000_000_000).max(1)
        };
        let new = Setting { interval: 0, value };
        self.table().set(
            CPU_LIMIT,
            Some((TimerClock::Process, Notify::CpuLimit)),
            new,
            true,
        );
    }

    /// Wakes a task when the process has used so much CPU time, in nanoseconds, for as long as what
    /// is returned is there.
    pub(crate) fn wake_at(&self, at: u64, waker: Arc<Waker>) -> Alarm {
        let table = self.table().clone();
        let notify = Notify::Wake(waker);
        let mut timers = table.timers.lock();
        let last = timers.range(FIRST_SLEEPER..).next_back();
        let key = last.map_or(FIRST_SLEEPER, |(key, _)| key + 1);
        timers.insert(key, Timer::new(TimerClock::Process, notify));
        drop(timers);
        let new = Setting {
            interval: 0,
            value: at.max(1),
        };
        table.set(key, None, new, true);
        Alarm { table, key }
    }

    /// timer_create(2): its id.
    ///
    /// # Errors
    /// `EAGAIN` where there are too many.
    pub fn create(
        &self,
        clock: TimerClock,
        notify: impl FnOnce(i32) -> Notify,
    ) -> Result<i32, Errno> {
        let mut timers = self.table().timers.lock();
        if timers.range(..FIRST_SLEEPER).count() >= MOST {
            return Err(Errno::EAGAIN);
        }
        let key = (FIRST_POSIX..)
            .find(|k| !timers.contains_key(k))
            .ok_or(Errno::EAGAIN)?;
        let id = (key - FIRST_POSIX) as i32;
        timers.insert(key, Timer::new(clock, notify(id)));
        Ok(id)
    }

    fn posix(&self, id: i32) -> Result<(&Arc<Table>, u64), Errno> {
        let table = self.table.get().ok_or(Errno::EINVAL)?;
        let key = u64::try_from(id)
            .map_err(|_| Errno::EINVAL)?
            .saturating_add(FIRST_POSIX);
        if table.timers.lock().contains_key(&key) {
            Ok((table, key))
        } else {
            Err(Errno::EINVAL)
        }
    }

    /// timer_settime(2): the former setting. `value` is an absolute time where `absolute`.
    ///
    /// # Errors
    /// `EINVAL` where there is no such timer.
    pub fn set(&self, id: i32, new: Setting, absolute: bool) -> Result<Setting, Errno> {
        let (table, key) = self.posix(id)?;
        let old = table.get(key).unwrap_or_default();
        table.set(key, None, new, absolute);
        Ok(old)
    }

    /// timer_gettime(2).
    ///
    /// # Errors
    /// `EINVAL` where there is no such timer.
    pub fn get(&self, id: i32) -> Result<Setting, Errno> {
        let (table, key) = self.posix(id)?;
        table.get(key).ok_or(Errno::EINVAL)
    }

    /// timer_getoverrun(2).
    ///
    /// # Errors
    /// `EINVAL` where there is no such timer.
    pub fn overrun(&self, id: i32) -> Result<i32, Errno> {
        let (table, key) = self.posix(id)?;
        let timers = table.timers.lock();
        timers
            .get(&key)
            .map(|t| t.last_overrun)
            .ok_or(Errno::EINVAL)
    }

    /// timer_delete(2).
    ///
    /// # Errors
    /// `EINVAL` where there is no such timer.
    pub fn delete(&self, id: i32) -> Result<(), Errno> {
        let (table, key) = self.posix(id)?;
        let gone = table.timers.lock().remove(&key);
        if let Some(id) = gone.and_then(|t| t.armed) {
            self.queue.cancel(id);
        }
        Ok(())
    }

    /// A signal is being delivered: a timer whose it is notes how often it was overrun.
    /// `None` where the timer has been set anew or deleted since: that one is not delivered.
    pub(crate) fn delivering(&self, mut info: SigInfo) -> Option<SigInfo> {
        let setting = match info.take_setting() {
            0 => return Some(info),
            setting => setting,
        };
        let key = FIRST_POSIX + u64::try_from(info.pid()).ok()?;
        let table = self.table.get()?;
        let late = table.timers.lock().get(&key)?.late > 0;
        // The clock is asked without the lock.
        let now = if late { table.now(key) } else { None };
        let mut timers = table.timers.lock();
        let timer = timers.get_mut(&key)?;
        if timer.setting != setting {
            return None;
        }
        if let Some((now, threads)) = now {
            // It was looked after ever more rarely meanwhile.
            let more = timer.catch_up(now);
            info.set_overrun(info.overrun().saturating_add(clamp(more)));
            timer.late = 0;
            if let Some(id) = timer.armed.take() {
                table.queue.cancel(id);
                table.arm(key, timer, now, threads);
            }
        }
        timer.last_overrun = info.overrun();
        Some(info)
    }

    /// execve(2) deletes POSIX timers.
    pub(crate) fn exec(&self) {
        if let Some(table) = self.table.get() {
            table.clear(FIRST_POSIX);
        }
    }

    /// The process has ended.
    pub(crate) fn stop(&self) {
        if let Some(table) = self.table.get() {
            table.clear(0);
        }
    }
}

/// A timer for one who sleeps.
pub(crate) struct Alarm {
    table: Arc<Table>,
    key: u64,
}

impl Drop for Alarm {
    fn drop(&mut self) {
        let gone = self.table.timers.lock().remove(&self.key);
        if let Some(id) = gone.and_then(|t| t.armed) {
            self.table.queue.cancel(id);
        }
    }
}

impl TaskCx {
    /// Sleeps until a process has used so much CPU time, in nanoseconds; whether that came before
    /// a signal did.
    pub fn sleep_on_cpu_time(&self, group: &ThreadGroup, until: u64) -> bool {
        let _alarm = group.timers().wake_at(until, self.waker().clone());
        while group.cpu_time().total() < until {
            if self.park(None) == Wake::Interrupted {
                return false;
            }
        }
        true
    }

    /// The process has run: CPU timers that had gone dormant go on.
    #[inline]
    pub(crate) fn group_timers_woken(&self) {
        if let Some(table) = self.group().timers().table.get()
            && table.any_dormant.load(Ordering::Relaxed)
        {
            table.wake_dormant();
        }
    }
}

fn clamp(n: u64) -> i32 {
    i32::try_from(n).unwrap_or(i32::MAX)
}

impl Timer {
    fn new(clock: TimerClock, notify: Notify) -> Timer {
        Timer {
            clock,
            notify,
            interval: 0,
            next: 0,
            armed: None,
            seen: 0,
            dormant: false,
            setting: 0,
            late: 0,
            runs: false,
            last_overrun: 0,
        }
    }

    /// Goes on to the first moment behind `now` at which it is due; how many were passed. For one
    /// with a period.
    fn catch_up(&mut self, now: u64) -> u64 {
        let Some(behind) = now.checked_sub(self.next) else {
            return 0;
        };
        let passed = behind.checked_div(self.interval).map_or(0, |n| n + 1);
        let step = self.interval.saturating_mul(passed);
        self.next = self.next.saturating_add(step);
        passed
    }

    /// How long it is not looked after at least: one that is due all the time would keep the
    /// thread of timers busy, and while its signal is queued all that is to be done is to count.
    fn rest(&self) -> Duration {
        let short = self.runs && u128::from(self.interval) < SHORTEST.as_nanos();
        match self.late {
            0 if short => SHORTEST,
            0 => Duration::ZERO,
            late => SHORTEST * (1 << late.min(8)),
        }
    }
}

impl Table {
    /// The time on a timer's clock, found without the lock (it may need others).
    fn now(&self, key: u64) -> Option<(u64, usize)> {
        let clock = self.timers.lock().get(&key)?.clock.clone();
        let group = self.group.upgrade()?;
        let kernel = group.kernel()?;
        let threads = match clock {
            TimerClock::Process | TimerClock::ProcessUser => {
                group.threads().len().min(kernel.cpus() as usize)
            }
            _ => 1,
        };
        Some((clock.now(&kernel, &group), threads.max(1)))
    }

    fn get(&self, key: u64) -> Option<Setting> {
        let (now, _) = self.now(key)?;
        let timers = self.timers.lock();
        let t = timers.get(&key)?;
        let value = if t.next == 0 {
            0
        } else if t.next > now {
            t.next - now
        } else if t.interval > 0 {
            t.interval - (now - t.next) % t.interval
        } else if matches!(t.notify, Notify::None) {
            0
        } else {
            1
        };
        Some(Setting {
            interval: t.interval,
            value,
        })
    }

    fn set(&self, key: u64, make: Option<(TimerClock, Notify)>, new: Setting, absolute: bool) {
        if let Some((clock, notify)) = make {
            self.timers
                .lock()
                .entry(key)
                .or_insert_with(|| Timer::new(clock, notify));
        }
        let Some((now, threads)) = self.now(key) else {
            return;
        };
        let mut timers = self.timers.lock();
        let Some(t) = timers.get_mut(&key) else {
            return;
        };
        if let Some(id) = t.armed.take() {
            self.queue.cancel(id);
        }
        t.interval = new.interval;
        t.late = 0;
        t.setting = self.next_setting();
        t.runs = false;
        t.dormant = false;
        t.next = match (new.value, absolute) {
            // One that does nothing when it is due is never armed, and so, on Linux, not
            // disarmed either: the time it was last set to can still be asked for.
            (0, _) if matches!(t.notify, Notify::None) => t.next,
            (0, _) => 0,
            (v, true) => v,
            (v, false) => now.saturating_add(v),
        };
        self.arm(key, t, now, threads);
    }

    /// A number that no queued signal has; never 0.
    fn next_setting(&self) -> u32 {
        loop {
            let last = self.settings.fetch_add(1, Ordering::Relaxed);
            if last != u32::MAX {
                return last + 1;
            }
        }
    }

    /// Puts a timer into the queue for the earliest moment at which it can be due.
    fn arm(&self, key: u64, t: &mut Timer, now: u64, threads: usize) {
        if t.next == 0 || matches!(t.notify, Notify::None) {
            return;
        }
        let wait = Duration::from_nanos(t.next.saturating_sub(now) / threads as u64);
        let Some(at) = Instant::now().checked_add(wait.max(t.rest())) else {
            return;
        };
        let listener: Weak<dyn TimerListener> = self.this.clone();
        t.seen = now;
        t.armed = Some(self.queue.arm(at, listener, key));
    }

    fn wake_dormant(&self) {
        if !self.any_dormant.swap(false, Ordering::Relaxed) {
            return;
        }
        let keys: Vec<u64> = {
            let timers = self.timers.lock();
            timers
                .iter()
                .filter(|(_, t)| t.dormant)
                .map(|(k, _)| *k)
                .collect()
        };
        for key in keys {
            let Some((now, threads)) = self.now(key) else {
                return;
            };
            if let Some(t) = self.timers.lock().get_mut(&key)
                && std::mem::take(&mut t.dormant)
            {
                self.arm(key, t, now, threads);
            }
        }
    }

    fn clear(&self, from: u64) {
        let mut timers = self.timers.lock();
        let gone = timers.split_off(&from);
        for id in gone.values().filter_map(|t| t.armed) {
            self.queue.cancel(id);
        }
        drop(timers);
    }
}

impl TimerListener for Table {
    fn expired(&self, key: u64) {
        let Some((now, threads)) = self.now(key) else {
            return;
        };
        let due = {
            let mut timers = self.timers.lock();
            let Some(t) = timers.get_mut(&key) else {
                return;
            };
            t.armed = None;
            if t.next == 0 {
                return;
            }
            if now < t.next {
                let is_cpu = !matches!(t.clock, TimerClock::System(_));
                if is_cpu && now == t.seen {
                    t.dormant = true;
                    self.any_dormant.store(true, Ordering::Relaxed);
                } else {
                    self.arm(key, t, now, threads);
                }
                return;
            }
            let mut missed = 0;
            if t.interval > 0 {
                missed = t.catch_up(now).saturating_sub(1);
                t.runs = true;
                self.arm(key, t, now, threads);
            } else {
                t.next = 0;
            }
            let due = Due {
                setting: t.setting,
                missed,
            };
            (t.notify.clone(), due)
        };
        self.fire(key, due.0, due.1);
    }
}

impl Table {
    fn fire(&self, key: u64, notify: Notify, Due { setting, missed }: Due) {
        let Some(group) = self.group.upgrade() else {
            return;
        };
        let id = key.saturating_sub(FIRST_POSIX) as i32;
        let (signal, thread, value) = match notify {
            Notify::None => return,
            Notify::Interval(s) => {
                let _ = group.send(s, SigInfo::kernel(s));
                return;
            }
            Notify::CpuLimit => return self.cpu_limit(&group),
            Notify::Wake(waker) => return waker.wake(),
            Notify::Process(s, value) => (s, None, value),
            Notify::Thread(t, s, value) => match t.upgrade() {
                Some(t) => (s, Some(t), value),
                None => return,
            },
        };
        let info = SigInfo::timer(signal, id, setting, clamp(missed), value);
        // One that is still queued takes it up; it may be taken at any moment.
        let again = |i: &mut SigInfo| i.expired_again(&info);
        let still = match &thread {
            Some(t) => t.pending.lock().update(signal, again),
            None => group.state.lock().pending.update(signal, again),
        };
        if let Some(t) = self.timers.lock().get_mut(&key) {
            t.late = if still { t.late.saturating_add(1) } else { 0 };
        }
        if still {
            return;
        }
        let _ = match thread {
            Some(t) => group.send_to(&t, signal, info),
            None => group.send(signal, info),
        };
    }

    /// Past the soft limit: SIGXCPU each second; at the hard one: the end.
    fn cpu_limit(&self, group: &Arc<ThreadGroup>) {
        let limit = group.limits().get(Resource::Cpu);
        let used = group.cpu_time().total() / 1_000_000_000;
        if limit.hard != u64::MAX && used >= limit.hard {
            group.kill(ExitStatus::Killed {
                signal: Signal::KILL,
            });
            return;
        }
        let _ = group.send(Signal::XCPU, SigInfo::kernel(Signal::XCPU));
        let new = Setting {
            interval: 0,
            value: (used + 1).saturating_mul(1_000_000_000),
        };
        self.set(CPU_LIMIT, None, new, true);
    }
}
