//! Keeps a stub and its tracer on one CPU while they hand over often.
//!
//! Waking another CPU costs several times what handing over on the same one does, and the host's
//! scheduler does just that whenever it finds one idle: each of the two is woken by the other,
//! which is still running. So both are bound to the CPU that the tracer is on.
//!
//! That must not stack busy contexts on one CPU while another idles. Hence the binding lasts
//! [`TERM`] only; then both are free for one round, in which the scheduler moves the tracer to an
//! idle CPU if there is one, and are bound where they came to be. A context that computes and
//! makes no calls can't do that for itself: the [`Monitor`] frees it. It sleeps while nothing
//! is bound.
//!
//! On a machine that is busy with other things as well no CPU is idle, and the scheduler moves
//! nobody. So at the end of its term a context that shares its CPU with other busy ones of ours
//! goes to a CPU with fewer of them by itself. Busy is who spent the term in guest code: two that
//! take turns, waiting for each other, are best off on one CPU.

use crate::handle::Handle;
use crate::sys::calls::{self, Cpus};
use parking_lot::{Condvar, Mutex};
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

/// How long a binding lasts, in milliseconds.
const TERM: u64 = 16;
/// How long guest code runs without a break, at least, before it is freed.
const TICK: Duration = Duration::from_millis(10);

/// A context's part: whether to bind, free, or leave.
pub(crate) struct Seat {
    handle: Arc<Handle>,
    monitor: Arc<Monitor>,
    /// When guest code was entered last.
    entered: Instant,
    /// Time spent in it since the term began.
    inside: Duration,
    /// When the term began.
    began: Instant,
}

impl Seat {
    pub(crate) fn new(handle: Arc<Handle>, monitor: Arc<Monitor>) -> Seat {
        monitor.watch(&handle);
        // A new thread has its maker's binding, which was not meant for it.
        let _ = monitor.allowed.bind(0);
        let now = Instant::now();
        Seat {
            handle,
            monitor,
            entered: now,
            inside: Duration::ZERO,
            began: now,
        }
    }

    /// This thread gets another stub. When it is not in the middle of something it first comes to
    /// sit where there is room, by waiting for its stub unbound.
    pub(crate) fn change(&mut self, stub: calls::Pid) {
        let now = calls::coarse_milliseconds();
        if self.handle.bound.load(Ordering::Relaxed) && !self.is_over(now) {
            self.bind(calls::current_cpu(), stub, now);
        } else {
            self.monitor.free(&self.handle, stub);
        }
    }

    /// Whether the binding has lasted its term.
    fn is_over(&self, now: u64) -> bool {
        now.wrapping_sub(self.handle.bound_at.load(Ordering::Relaxed)) >= TERM
    }

    /// Before guest code runs in `stub`.
    pub(crate) fn before_run(&mut self, stub: calls::Pid) {
        self.handle.runs.fetch_add(1, Ordering::Relaxed);
        let now = calls::coarse_milliseconds();
        if !self.handle.bound.load(Ordering::Relaxed) {
            self.bind(calls::current_cpu(), stub, now);
        } else if self.is_over(now) {
            let busy = self.inside * 4 > self.began.elapsed() * 3;
            self.handle.busy.store(busy, Ordering::Relaxed);
            // It looks at all contexts: nothing for a thousand that wake up once.
            let roomier = busy.then(|| self.monitor.roomier(&self.handle, now));
            match roomier.flatten() {
                Some(cpu) => self.bind(cpu, stub, now),
                None => self.monitor.free(&self.handle, stub),
            }
        }
        self.entered = Instant::now();
    }

    /// After it has stopped.
    pub(crate) fn after_run(&mut self) {
        self.inside += self.entered.elapsed();
    }

    /// Binds this thread and `stub` to `cpu`, and begins a term.
    fn bind(&mut self, cpu: usize, stub: calls::Pid, now: u64) {
        let handle = &*self.handle;
        let there = Cpus::one(cpu);
        // Refused when the allowed CPUs have changed: slower, not wrong.
        let _ = there.bind(0);
        let _ = there.bind(stub);
        handle.cpu.store(cpu, Ordering::Relaxed);
        handle.bound_at.store(now, Ordering::Relaxed);
        handle.bound.store(true, Ordering::Relaxed);
        self.monitor.wake();
        self.inside = Duration::ZERO;
        self.began = Instant::now();
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.handle.bound.store(false, Ordering::Relaxed);
        // The thread may go on to do something else.
        let _ = self.monitor.allowed.bind(0);
    }
}

/// Frees contexts whose guest code goes on and on.
pub(crate) struct Monitor {
    /// What threads and stubs may use when they are not bound.
    allowed: Cpus,
    asleep: AtomicBool,
    state: Mutex<Watched>,
    change: Condvar,
}

#[derive(Default)]
struct Watched {
    /// Each with the count of runs it had at the last tick.
    seats: Vec<(Weak<Handle>, u32)>,
    started: bool,
    woken: bool,
    over: bool,
}

impl Monitor {
    /// Not running yet: its thread starts with the first context.
    pub(crate) fn new() -> io::Result<Arc<Monitor>> {
        Ok(Arc::new(Monitor {
            allowed: Cpus::allowed()?,
            asleep: AtomicBool::new(false),
            state: Mutex::new(Watched::default()),
            change: Condvar::new(),
        }))
    }

    /// Ends its thread.
    pub(crate) fn stop(&self) {
        self.state.lock().over = true;
        self.change.notify_all();
    }

    /// Lets a context's thread and stub run anywhere.
    fn free(&self, handle: &Handle, stub: calls::Pid) {
        handle.bound.store(false, Ordering::Relaxed);
        let _ = self.allowed.bind(handle.thread);
        let _ = self.allowed.bind(stub);
    }

    /// A CPU on which fewer of the other busy contexts sit than on that of `handle`, even once it
    /// has gone there.
    fn roomier(&self, handle: &Handle, now: u64) -> Option<usize> {
        let mut others = vec![0u32; self.allowed.end()];
        for (seat, _) in &self.state.lock().seats {
            let Some(other) = seat.upgrade().filter(|o| !std::ptr::eq(&**o, handle)) else {
                continue;
            };
            let age = now.wrapping_sub(other.bound_at.load(Ordering::Relaxed));
            let sits = other.bound.load(Ordering::Relaxed) && age <= 2 * TERM;
            if sits
                && other.busy.load(Ordering::Relaxed)
                && let Some(count) = others.get_mut(other.cpu.load(Ordering::Relaxed))
            {
                *count += 1;
            }
        }
        let here = *others.get(handle.cpu.load(Ordering::Relaxed))?;
        let there = (0..others.len())
            .filter(|&cpu| self.allowed.has(cpu))
            .min_by_key(|&cpu| others[cpu])?;
        (others[there] < here).then_some(there)
    }

    fn watch(self: &Arc<Monitor>, handle: &Arc<Handle>) {
        let mut state = self.state.lock();
        state.seats.push((Arc::downgrade(handle), 0));
        if !state.started {
            let me = self.clone();
            let thread = std::thread::Builder::new()
                .name("ptrace-monitor".to_owned())
                .stack_size(64 * 1024)
                .spawn(move || me.run());
            // Without it contexts that only compute stay where they are.
            state.started = thread.is_ok();
        }
    }

    /// Something was bound.
    fn wake(&self) {
        if self.asleep.load(Ordering::SeqCst) {
            self.state.lock().woken = true;
            self.change.notify_all();
        }
    }

    fn run(&self) {
        let mut state = self.state.lock();
        loop {
            state.woken = false;
            // Told before the look around, so that what is bound after it is not missed.
            self.asleep.store(true, Ordering::SeqCst);
            if self.tick(&mut state) {
                self.asleep.store(false, Ordering::SeqCst);
                self.change.wait_for(&mut state, TICK);
            } else {
                while !state.woken && !state.over {
                    self.change.wait(&mut state);
                }
            }
            if state.over {
                return;
            }
        }
    }

    /// Frees who has run since the last tick without a break. Whether there is more to come: a
    /// context that was bound not long ago may enter guest code without telling us.
    fn tick(&self, state: &mut Watched) -> bool {
        let now = calls::coarse_milliseconds();
        let mut busy = false;
        state.seats.retain_mut(|(seat, seen)| {
            let Some(handle) = seat.upgrade() else {
                return false;
            };
            if !handle.bound.load(Ordering::Relaxed) {
                return true;
            }
            let runs = handle.runs.load(Ordering::Relaxed);
            match handle.stub_in_guest() {
                Some(stub) if runs == *seen => self.free(&handle, stub.pid()),
                Some(_) => busy = true,
                None => {
                    let age = now.wrapping_sub(handle.bound_at.load(Ordering::Relaxed));
                    busy |= age <= 2 * TERM;
                }
            }
            *seen = runs;
            true
        });
        busy
    }
}
