//! membarrier(2): making every other thread pass through the kernel.

use crate::cpu::Phase;
use crate::{Task, TaskCx};
use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};

impl TaskCx {
    /// Returns once every thread of the process's memory (or, `everywhere`, of the sandbox) that
    /// was running guest code has left it, or was not running any: each has then passed a full
    /// barrier, and its instruction stream has been synchronised by the host's own return to it.
    pub fn barrier(&self, everywhere: bool) {
        fence(Ordering::SeqCst);
        let concerned = |t: &Arc<Task>| {
            let same = || t.mm().is_some_and(|mm| Arc::ptr_eq(&mm, self.mm()));
            !Arc::ptr_eq(t, self.task()) && (everywhere || same())
        };
        let all: Vec<Arc<Task>> = self.kernel().tasks();
        let mut awaited = Vec::new();
        for task in all.into_iter().filter(concerned) {
            if let Some(stay) = task.cpu.stay() {
                task.interrupt();
                awaited.push((task, stay));
            }
        }
        for (task, stay) in awaited {
            while task.cpu.stay() == Some(stay) && task.cpu.phase() == Phase::Guest {
                std::thread::yield_now();
            }
        }
        fence(Ordering::SeqCst);
    }
}
