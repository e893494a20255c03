//! Pausing all tasks of a container, and letting them go on.
//!
//! A pause is one more thing to look at before guest code runs (`Task::work`), and so costs nothing
//! where there is none. A task that sleeps in a call goes on sleeping: what wakes it holds it up
//! there, and no call is cut short by a pause. Clocks go on and timers expire, as with the host's
//! freezer; signals stay pending, and only the end of its process gets a task out.

use crate::cpu::Phase;
use crate::tree::Tree;
use crate::{Container, Task, TaskCx};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex as StdMutex, PoisonError};
use std::time::{Duration, Instant};

/// How long whoever pauses sleeps before he looks again at tasks that do not say that they sleep.
const GLANCE: Duration = Duration::from_millis(5);

/// Whether there is one.
#[derive(Default)]
pub(crate) struct Pause {
    /// Written with the tree's lock held.
    on: AtomicBool,
    /// A task has gone to sleep for it.
    calm: Condvar,
    lock: StdMutex<()>,
}

impl Container {
    /// Whether the tasks are paused, or about to be.
    pub fn is_paused(&self) -> bool {
        self.pause.on.load(Ordering::SeqCst)
    }

    /// Pauses all tasks, and waits until none runs guest code or works on a call. Where that does
    /// not come about until `deadline`, none is paused: `false`.
    pub fn pause(&self, deadline: Instant) -> bool {
        self.set_paused(true);
        let mut quiet = self
            .pause
            .lock
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        loop {
            let rests = |phase| matches!(phase, Phase::Parked | Phase::Born);
            let at_rest = |t: &std::sync::Arc<Task>| t.is_exiting() || rests(t.cpu.phase());
            if self.all_tasks().iter().all(at_rest) {
                return true;
            }
            if Instant::now() >= deadline {
                drop(quiet);
                self.resume();
                return false;
            }
            quiet = self
                .pause
                .calm
                .wait_timeout(quiet, GLANCE)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }

    /// Lets all tasks go on.
    pub fn resume(&self) {
        self.set_paused(false);
    }

    fn set_paused(&self, on: bool) {
        if let Some(kernel) = self.kernel() {
            let _tree = kernel.tree.lock();
            self.pause.on.store(on, Ordering::SeqCst);
        }
        for task in self.all_tasks() {
            // Under the lock with which `work` is taken back.
            let _group = task.group().state.lock();
            task.interrupt();
        }
    }

    /// A task that is about to join the tree is paused with the others.
    pub(crate) fn pause_new(&self, _tree: &Tree, task: &Task) {
        if self.is_paused() {
            task.work.store(true, Ordering::SeqCst);
        }
    }
}

impl TaskCx {
    /// Sleeps until the pause is over, or the task is to end.
    pub(crate) fn sleep_paused(&self) {
        let container = self.container();
        while container.is_paused() && !self.is_killed() {
            self.task.cpu.enter(Phase::Parked);
            container.pause.calm.notify_all();
            self.task.waker().park(None);
            self.task.cpu.enter(Phase::Sentry);
        }
    }
}
