//! A guest process's memory: the stubs that share it, and the changes still to be made to it.
//!
//! Changes are queued and made by the next stub that enters guest code, many in one round trip.
//! Only when rights go while guest code runs is the caller made to wait for it.
//!
//! Lock order: a driver's `RefCell` (its own thread's) -> `Inner` -> a stub's `life`.

use crate::context;
use crate::coverage::Coverage;
use crate::engine::Shared;
use crate::error::{host, misuse};
use crate::inject::{self, Child};
use crate::queue::{self, Queue};
use crate::stub::Stub;
use crate::sys::share::Slot;
use crate::tracee::Stopped;
use parking_lot::{Condvar, Mutex, MutexGuard};
use platform_api::{AddressSpace, Op, PlatformError};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// What the contract calls a space; the rest holds its [`Core`].
pub(crate) struct Space(pub(crate) Arc<Core>);

/// The space itself.
pub(crate) struct Core {
    pub(crate) shared: Arc<Shared>,
    /// Whether there is anything to do before guest code may run: changes, or failures to tell.
    dirty: AtomicBool,
    /// How many threads wait for guest code to stop running.
    waiters: AtomicUsize,
    inner: Mutex<Inner>,
    /// Some stub left guest code.
    left: Condvar,
}

/// What the lock guards.
pub(crate) struct Inner {
    slot: Slot,
    queue: Queue,
    coverage: Coverage,
    failed: Vec<Failure>,
    /// Stubs that park, for contexts to come.
    ready: Vec<Arc<Stub>>,
    /// How many of `ready` nobody was promised.
    spare: usize,
    /// Stubs that contexts have.
    attached: Vec<Arc<Stub>>,
    destroyed: bool,
}

/// A change the host refused.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Failure {
    pub(crate) addr: u64,
    pub(crate) len: u64,
    pub(crate) errno: i32,
}

impl Core {
    /// A space whose one stub is ready.
    pub(crate) fn new(shared: Arc<Shared>, slot: Slot, stub: Arc<Stub>) -> Core {
        Core::with_coverage(shared, slot, stub, Coverage::default())
    }

    fn with_coverage(shared: Arc<Shared>, slot: Slot, stub: Arc<Stub>, coverage: Coverage) -> Core {
        let inner = Inner {
            slot,
            queue: Queue::default(),
            coverage,
            failed: Vec::new(),
            ready: vec![stub],
            spare: 0,
            attached: Vec::new(),
            destroyed: false,
        };
        Core {
            shared,
            dirty: AtomicBool::new(false),
            waiters: AtomicUsize::new(0),
            inner: Mutex::new(inner),
            left: Condvar::new(),
        }
    }

    /// Whether [`Core::settle`] has something to do. Looked at after the stub was marked as in
    /// guest code, which those who queue look at after they have set it.
    pub(crate) fn dirty(&self) -> bool {
        self.dirty.load(Ordering::SeqCst)
    }

    /// Makes the queued changes with `stopped`; a failure there was, once.
    pub(crate) fn settle(
        &self,
        stopped: Stopped,
    ) -> Result<(Stopped, Option<Failure>), PlatformError> {
        let mut inner = self.inner.lock();
        let stopped = inner.drain(&self.shared, stopped)?;
        let failure = inner.failed.pop();
        self.dirty.store(!inner.failed.is_empty(), Ordering::SeqCst);
        Ok((stopped, failure))
    }

    /// Wakes those who wait for guest code to stop; called after the stub was marked as out.
    pub(crate) fn guest_left(&self) {
        if self.waiters.load(Ordering::SeqCst) != 0 {
            let _inner = self.inner.lock();
            self.left.notify_all();
        }
    }

    /// A stub for a context that comes to this space.
    pub(crate) fn attach(&self) -> Result<Arc<Stub>, PlatformError> {
        let mut inner = self.inner.lock();
        let Some(stub) = inner.ready.pop() else {
            return Err(misuse("entering a space", "no context was reserved in it"));
        };
        inner.attached.push(stub.clone());
        Ok(stub)
    }

    /// A context goes elsewhere; its stub is of no more use.
    pub(crate) fn detach(&self, stub: &Arc<Stub>) {
        self.inner.lock().attached.retain(|s| !Arc::ptr_eq(s, stub));
        stub.end();
    }

    /// A context of this space, kept with its stub, has begun to run another guest thread, for
    /// which a stub had been reserved.
    pub(crate) fn kept_stub(&self) {
        let mut inner = self.inner.lock();
        inner.spare = (inner.spare + 1).min(inner.ready.len());
    }

    /// Runs `f` with a stopped stub of this space: the calling thread's, else one that is ready.
    fn with_stub<R>(
        &self,
        inner: &mut Inner,
        f: impl FnOnce(&mut Inner, Stopped) -> Result<(Stopped, R), PlatformError>,
    ) -> Result<R, PlatformError> {
        if let Some(driver) = context::driver_in(self) {
            let mut driver = driver.borrow_mut();
            if let Some(stopped) = driver.take_stopped() {
                let (stopped, result) = f(inner, stopped)?;
                driver.put_stopped(stopped);
                return Ok(result);
            }
        }
        let Some(stub) = inner.ready.last().cloned() else {
            return Err(misuse(
                "using a space",
                "this thread's context did not run in it",
            ));
        };
        let entries = &self.shared.entries;
        let stopped = self.shared.take(stub)?;
        let (stopped, result) = f(inner, stopped)?;
        inject::release(stopped, entries)?;
        Ok(result)
    }

    /// Waits until guest code runs nowhere without the queued changes.
    fn take_effect(&self, mut inner: MutexGuard<'_, Inner>) -> Result<(), PlatformError> {
        if !inner.guest_runs() {
            return Ok(());
        }
        if context::driver_in(self).is_some() {
            return self.with_stub(&mut inner, |inner, stopped| {
                Ok((inner.drain(&self.shared, stopped)?, ()))
            });
        }
        self.waiters.fetch_add(1, Ordering::SeqCst);
        while !inner.queue.is_empty() && inner.guest_runs() {
            inner
                .attached
                .iter()
                .filter(|s| s.in_guest())
                .for_each(|s| s.kick());
            self.left.wait(&mut inner);
        }
        self.waiters.fetch_sub(1, Ordering::SeqCst);
        Ok(())
    }

    /// Queues; whether rights go.
    fn enqueue(&self, inner: &mut Inner, ops: &[Op]) -> bool {
        let mut removes = false;
        for op in ops {
            removes |= inner.queue.push(op, &mut inner.coverage);
        }
        if !inner.queue.is_empty() {
            self.dirty.store(true, Ordering::SeqCst);
        }
        removes
    }
}

impl Inner {
    fn guest_runs(&self) -> bool {
        self.attached.iter().any(|s| s.in_guest())
    }

    fn drain(&mut self, shared: &Shared, stopped: Stopped) -> Result<Stopped, PlatformError> {
        if self.queue.is_empty() {
            return Ok(stopped);
        }
        let calls = self.queue.take();
        let words: Vec<_> = calls.iter().map(|c| c.words).collect();
        let (failed, coverage) = (&mut self.failed, &mut self.coverage);
        inject::batch(
            stopped,
            &shared.entries,
            &mut self.slot,
            &words,
            |index, errno| {
                let Some((addr, len)) = calls.get(index).map(|c| c.range()) else {
                    return;
                };
                // Whatever is there now, protecting it would fail again.
                coverage.remove(addr, addr + len);
                failed.push(Failure { addr, len, errno });
            },
        )
    }
}

impl AddressSpace for Space {
    fn apply(&self, ops: &[Op]) -> Result<(), PlatformError> {
        ops.iter().try_for_each(queue::check)?;
        let core = &self.0;
        let mut inner = core.inner.lock();
        if inner.destroyed {
            return Ok(());
        }
        if core.enqueue(&mut inner, ops) {
            core.take_effect(inner)
        } else {
            Ok(())
        }
    }

    fn fork(&self, before: &[Op]) -> Result<Arc<dyn AddressSpace>, PlatformError> {
        before.iter().try_for_each(queue::check)?;
        let core = &self.0;
        let shared = &core.shared;
        let slot = shared.slot()?;
        let mut inner = core.inner.lock();
        core.enqueue(&mut inner, before);
        let stub = core.with_stub(&mut inner, |inner, stopped| {
            let stopped = inner.drain(shared, stopped)?;
            if let Some(failure) = inner.failed.last() {
                // The guest's next switch tells it; the caller knows that there is no child.
                let errno = std::io::Error::from_raw_os_error(failure.errno);
                return Ok((stopped, Err(host("changing mappings before a fork", errno))));
            }
            let child = Child::NewSpace {
                slot: &slot,
                empty: false,
            };
            inject::spawn(stopped, &shared.entries, shared.parent, &child)
        })??;
        let child = Core::with_coverage(shared.clone(), slot, stub, inner.coverage.clone());
        Ok(Arc::new(Space(Arc::new(child))))
    }

    fn reserve_context(&self) -> Result<(), PlatformError> {
        let core = &self.0;
        let shared = &core.shared;
        let mut inner = core.inner.lock();
        if inner.spare > 0 {
            inner.spare -= 1;
            return Ok(());
        }
        let stub = core.with_stub(&mut inner, |_, stopped| {
            inject::spawn(stopped, &shared.entries, shared.parent, &Child::SameSpace)
        })??;
        inner.ready.push(stub);
        Ok(())
    }

    fn destroy(&self) {
        let stubs: Vec<_> = {
            let mut inner = self.0.inner.lock();
            inner.destroyed = true;
            inner.queue.take();
            let attached = std::mem::take(&mut inner.attached);
            std::mem::take(&mut inner.ready)
                .into_iter()
                .chain(attached)
                .collect()
        };
        // Together first, so that they end at the same time.
        stubs.iter().for_each(|s| s.kill());
        stubs.iter().for_each(|s| s.end());
    }
}

impl Drop for Space {
    fn drop(&mut self) {
        self.destroy();
    }
}
