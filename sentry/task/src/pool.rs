//! Host threads, each with a platform context, kept for the next task.

use crate::TaskCx;
use crate::kernel::Kernel;
use crate::run::Start;
use abi::Errno;
use platform_api::Context;
use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, SendError, Sender, channel};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Instant;
use sync::observe::Working;

/// Idle threads kept. Each costs a stack's touched pages, and what the platform keeps with it.
const KEEP: usize = 16;
/// Handlers are plain code of bounded depth.
const STACK: usize = if cfg!(debug_assertions) {
    2 << 20
} else {
    512 << 10
};

#[derive(Default)]
struct State {
    /// Idle threads, by the id of the address space they last ran; the most recent last.
    idle: Vec<(u64, Sender<Option<Job>>)>,
    running: usize,
}

struct Job {
    kernel: Arc<Kernel>,
    start: Start,
}

/// The pool. Its lock is innermost.
#[derive(Default)]
pub(crate) struct Pool {
    state: Mutex<State>,
    changed: Condvar,
}

impl Pool {
    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs a task on an idle thread, rather one that knows its address space, or on a new one.
    ///
    /// # Errors
    /// `EAGAIN` where the host gives no thread or the platform no context; the task has not
    /// begun.
    pub(crate) fn run(&self, kernel: &Arc<Kernel>, start: Start) -> Result<(), Errno> {
        let mm = start.mm_id();
        let container = start.task.group().container().clone();
        container.begin_work();
        let ran = self.give(kernel, mm, start);
        if ran.is_err() {
            container.end_work();
        }
        ran
    }

    fn give(&self, kernel: &Arc<Kernel>, mm: u64, start: Start) -> Result<(), Errno> {
        let mut job = Job {
            kernel: kernel.clone(),
            start,
        };
        loop {
            let mut state = self.lock();
            let at = state.idle.iter().rposition(|(id, _)| *id == mm);
            let at = at.or_else(|| state.idle.len().checked_sub(1));
            let Some(at) = at else {
                state.running += 1;
                break;
            };
            let (_, worker) = state.idle.remove(at);
            state.running += 1;
            drop(state);
            match worker.send(Some(job)) {
                Ok(()) => return Ok(()),
                Err(SendError(lost)) => {
                    self.lock().running -= 1;
                    job = lost.ok_or(Errno::EAGAIN)?;
                }
            }
        }
        let (jobs, inbox) = channel();
        let (ready, made) = channel();
        let to_self = jobs.clone();
        let owner = kernel.clone();
        let spawned = std::thread::Builder::new()
            .name("task".into())
            .stack_size(STACK)
            .spawn(move || worker(&owner, &to_self, &inbox, &ready));
        let good = spawned.is_ok() && made.recv().unwrap_or(false);
        if !good {
            self.lock().running -= 1;
            return Err(Errno::EAGAIN);
        }
        jobs.send(Some(job)).map_err(|_| Errno::EAGAIN)
    }

    /// A task has ended; whether its thread should wait for another.
    fn put_back(&self, mm: u64, worker: &Sender<Option<Job>>) -> bool {
        let mut state = self.lock();
        state.running -= 1;
        if state.running == 0 {
            self.changed.notify_all();
        }
        let keep = state.idle.len() < KEEP;
        if keep {
            state.idle.push((mm, worker.clone()));
        }
        keep
    }

    /// Waits until no task runs, at most until `deadline`; lets the idle threads go.
    pub(crate) fn drain(&self, deadline: Instant) -> bool {
        let mut state = self.lock();
        while state.running > 0 {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            state = self
                .changed
                .wait_timeout(state, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
        // Each holds a sender of its own, and would wait for ever.
        for (_, worker) in state.idle.drain(..) {
            let _gone = worker.send(None);
        }
        true
    }
}

fn worker(
    owner: &Arc<Kernel>,
    to_self: &Sender<Option<Job>>,
    inbox: &Receiver<Option<Job>>,
    ready: &Sender<bool>,
) {
    let mut context: Box<dyn Context> = match owner.engine().new_context() {
        Ok(context) => context,
        Err(e) => {
            tracing::warn!("no context for a task: {e}");
            let _ = ready.send(false);
            return;
        }
    };
    let _ = ready.send(true);
    let _working = Working::begin();
    let thread = nix::unistd::gettid().as_raw();
    // A thread that waits to be used again keeps the kernel alive until the pool is drained.
    while let Ok(Some(Job { kernel, start })) = inbox.recv() {
        let mut mm = start.mm_id();
        start.task.runs_on(thread);
        let container = start.task.group().container().clone();
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            let mut cx = TaskCx::new(start, context);
            crate::run::run(&mut cx);
            cx.finish()
        }));
        match outcome {
            Ok((returned, last_mm)) => {
                context = returned;
                mm = last_mm.unwrap_or(mm);
            }
            Err(panic) => {
                kernel.fail(format!("a task panicked: {}", text_of(&*panic)));
                kernel.pool.lock().running -= 1;
                container.end_work();
                return;
            }
        }
        context.retire();
        let kept = kernel.pool.put_back(mm, to_self);
        container.end_work();
        if !kept {
            return;
        }
    }
}

fn text_of(panic: &(dyn Any + Send)) -> &str {
    match (panic.downcast_ref::<&str>(), panic.downcast_ref::<String>()) {
        (Some(s), _) => s,
        (_, Some(s)) => s,
        _ => "no message",
    }
}
