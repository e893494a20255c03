//! Where the numbers that guests use become ids, and ids numbers: each as one PID namespace has
//! them.

use crate::tree::Tree;
use crate::{Kernel, PidNamespace, Task, TaskCx, ThreadGroup};
use ctx::Pid;
use std::sync::Arc;

impl Tree {
    /// The id of what is called `number` in `space`; 0 where nothing is.
    pub(crate) fn id_in(&self, space: &PidNamespace, number: i32) -> i32 {
        match space.is_nested() {
            // Lock order: tree -> numbers.
            true => space.numbers().id(number),
            false => number,
        }
    }

    /// What `id` is called wherever it is seen.
    pub(crate) fn pid(&self, outermost: &PidNamespace, id: i32) -> Pid {
        let nested = self.nested.get(&id).map(|(pid, _)| pid.clone());
        nested.unwrap_or_else(|| Pid::new(outermost.space(), id))
    }

    /// What `id` is called in `space`; 0 where it is not there.
    pub(crate) fn number_in(&self, space: &PidNamespace, id: i32) -> i32 {
        match space.is_nested() {
            true => self
                .nested
                .get(&id)
                .map_or(0, |(pid, _)| pid.seen_from(space.space())),
            false => id,
        }
    }
}

impl Kernel {
    /// The task that is called `number` in `space`, exited leaders included.
    pub fn task_in(&self, space: &PidNamespace, number: i32) -> Option<Arc<Task>> {
        let tree = self.tree.lock();
        tree.tasks.get(&tree.id_in(space, number)).cloned()
    }

    /// The numbers of the processes in `space`, in order, zombies included.
    pub fn pids_in(&self, space: &PidNamespace) -> Vec<i32> {
        let tree = self.tree.lock();
        let ids = tree.nodes.keys().copied();
        if !space.is_nested() {
            return ids.collect();
        }
        let numbers = ids.map(|id| tree.number_in(space, id));
        let mut numbers: Vec<i32> = numbers.filter(|n| *n != 0).collect();
        numbers.sort_unstable();
        numbers
    }

    /// What `id`, that of a process, a group or a session, is called in `space`; 0 where it is not
    /// there.
    pub fn number_in(&self, space: &PidNamespace, id: i32) -> i32 {
        match space.is_nested() {
            true => self.tree.lock().number_in(space, id),
            false => id,
        }
    }

    /// What `id`, that of a process, a group or a session, is called wherever it is seen.
    pub fn pid(&self, id: i32) -> Pid {
        self.tree.lock().pid(self.pid_namespace(), id)
    }

    /// The number given out last in `space` (/proc/loadavg).
    pub fn last_pid(&self, space: &PidNamespace) -> i32 {
        let tree = self.tree.lock();
        match space.is_nested() {
            true => space.numbers().last(),
            false => tree.last_pid(),
        }
    }
}

impl TaskCx {
    /// The PID namespace that it is in, for all its life.
    pub fn pid_namespace(&self) -> &Arc<PidNamespace> {
        self.group().pid_namespace()
    }

    /// The id of what it calls `number`; 0 where that is nothing.
    pub fn id_of(&self, number: i32) -> i32 {
        match self.pid_namespace().is_nested() {
            true => {
                let tree = self.kernel().tree.lock();
                tree.id_in(self.pid_namespace(), number)
            }
            false => number,
        }
    }

    /// What it calls `id`; 0 for what is outside its PID namespace.
    pub fn number_of(&self, id: i32) -> i32 {
        self.kernel().number_in(self.pid_namespace(), id)
    }

    /// The task that it calls `number`, exited leaders included.
    pub fn task_called(&self, number: i32) -> Option<Arc<Task>> {
        self.kernel().task_in(self.pid_namespace(), number)
    }

    /// The process that it calls `number`, zombies included.
    pub fn process_called(&self, number: i32) -> Option<Arc<ThreadGroup>> {
        let tree = self.kernel().tree.lock();
        let id = tree.id_in(self.pid_namespace(), number);
        tree.nodes.get(&id).map(|n| n.group.clone())
    }

    /// What it calls `number`, be that a task, a group or a session, for who is told of it later.
    pub fn pid_called(&self, number: i32) -> Option<Pid> {
        let tree = self.kernel().tree.lock();
        let id = tree.id_in(self.pid_namespace(), number);
        tree.is_used(id)
            .then(|| tree.pid(self.kernel().pid_namespace(), id))
    }

    /// Whether a process is in its PID namespace, or in one below.
    pub fn sees(&self, group: &ThreadGroup) -> bool {
        group.pid().seen_from(self.pid_namespace().space()) != 0
    }
}
