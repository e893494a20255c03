//! The end of tasks and processes (exit(2), _exit(2), and what signals do).

use crate::cpu::CpuTime;
use crate::futexes::exit_robust_list;
use crate::send::{Reach, ticks};
use crate::tracer::stop_completed;
use crate::tree::{Tree, Zombie};
use crate::{ChildEvent, Ended, ExitStatus, Kernel, Task, TaskCx, ThreadGroup};
use ctx::Pid;
use signal::{ActionFlags, Handler, SigInfo, Signal};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use wait::Events;

/// What must be done once the tree's lock is gone.
#[derive(Default)]
pub(crate) struct After {
    /// Whom their parents' end is told, and whether that is outside their PID namespace.
    signals: Vec<(Arc<ThreadGroup>, Signal, SigInfo, bool)>,
    /// Their parents hear that they go on.
    continued: Vec<Arc<ThreadGroup>>,
    /// Their `children` queues are notified.
    pub(crate) parents: Vec<Arc<ThreadGroup>>,
    /// Zombies nobody waits for.
    pub(crate) garbage: Vec<Box<dyn std::any::Any>>,
}

impl After {
    pub(crate) fn settle(self, kernel: &Kernel) {
        for (g, signal, info, outside) in self.signals {
            let _ = g.send_for(signal, info, outside);
        }
        kernel.report_continued(&self.continued);
        for p in self.parents {
            p.children.notify_all(Events::READABLE);
        }
    }
}

impl TaskCx {
    /// Ends the task. Its registers and context are of no use afterwards.
    pub(crate) fn exit_task(&mut self) {
        let me = self.task.clone();
        let status = self.exit.unwrap_or(ExitStatus::Exited(0));
        if let Some(tracer) = self.kernel().tracer() {
            tracer.ended(&me, status);
        }
        if self.kernel().watch.get().trace() {
            self.trace_end();
        }
        self.tell_dump();
        self.release_memory_words();
        self.leave_memory(None);
        // Before anybody can learn of the end. Of threads that end at the same moment none may be
        // the last here; then it is done below.
        self.leave_ipc();
        if me.group().state.lock().threads.len() == 1 {
            self.kernel().leader_ends(me.tgid());
        }
        if self.fds.leave() {
            let fds = self.fds.get().clone();
            fds.close_all(self);
        }
        self.fs.leave();
        {
            let mut st = me.state.lock();
            let (fds, fs, mounts) = (st.fds.take(), st.fs.take(), st.mounts.take());
            let (namespaces, filter) = (st.namespaces.take(), st.filter.take());
            drop(st);
            // Who listens to a filter learns that it was the last to have it.
            drop((fds, fs, mounts, namespaces, filter, self.filter.take()));
        }
        self.leave_group(status);
    }

    /// What the kernel does to the guest's memory at the end of a task: robust futexes, and the
    /// word of `CLONE_CHILD_CLEARTID`.
    pub(crate) fn release_memory_words(&mut self) {
        let (robust, clear) = {
            let mut st = self.task.state.lock();
            (
                std::mem::take(&mut st.robust_list),
                std::mem::take(&mut st.clear_child_tid),
            )
        };
        if robust != 0 {
            exit_robust_list(self, robust);
        }
        self.kernel()
            .futexes_pi()
            .owner_gone(self.task.tid() as u32);
        // As Linux: only where somebody else may still look at the word.
        if clear != 0 && self.mm.is_shared() && self.mm().store_u32(clear, 0).is_ok() {
            let _ = self.futex_wake(clear, true, 1, futex::BITSET_ANY);
            let _ = self.futex_wake(clear, false, 1, futex::BITSET_ANY);
        }
    }

    /// Lets go of the address space, for `next` (exec) or for good.
    pub(crate) fn leave_memory(&mut self, next: Option<Arc<crate::users::Users<mm::Mm>>>) {
        let vfork = {
            let mut st = self.task.state.lock();
            let old = std::mem::replace(&mut st.mm, next.clone());
            let vfork = st.vfork.take();
            drop(st);
            drop(old);
            vfork
        };
        // Of threads that end at the same moment none may be the last here, but then one of them is
        // the last to leave.
        let alone = next.is_some() || self.group().state.lock().threads.len() == 1;
        let old = match next {
            Some(next) => std::mem::replace(&mut self.mm, next),
            None => self.mm.clone(),
        };
        if let Some(v) = vfork {
            v.complete();
        }
        let last = old.leave();
        if alone || last {
            // It walks the whole space: nothing that each of many threads should do.
            let peak = old.get().usage().peak_resident;
            let mut st = self.group().state.lock();
            st.peak_resident = st.peak_resident.max(peak);
        }
        if last {
            old.get().destroy();
        }
    }

    /// Whether the PID namespace of its process ends with this thread. Called with the tree locked,
    /// so that of threads that end at the same moment one is the last.
    fn ends_namespace(&self, status: ExitStatus) -> bool {
        self.group().is_nested_init() && self.ends_process(status)
    }

    /// Whether the process ends with this thread, which is the last one. Then nothing that is sent
    /// from now on changes how it ended.
    pub(crate) fn ends_process(&self, status: ExitStatus) -> bool {
        let mut st = self.group().state.lock();
        let last = st.threads.len() == 1;
        if last {
            st.exit.get_or_insert(status);
            st.stop = None;
        }
        last
    }

    /// The first process of a PID namespace ends: all others in it and below are killed, and it
    /// goes when they are gone, those included that somebody outside has to wait for.
    fn end_namespace(&self) {
        let (group, space) = (self.group(), self.group().pid_namespace());
        let mut tree = self.kernel().tree.lock();
        group.reaps_all.store(true, Ordering::Relaxed);
        let ids = {
            let mut numbers = space.numbers();
            numbers.closed = true;
            numbers.waits = Some(self.task.waker().clone());
            numbers.ids()
        };
        let others = ids.into_iter().filter(|id| *id != group.tgid());
        let mut garbage = Vec::new();
        for id in others {
            let Some(node) = tree.nodes.get(&id) else {
                continue;
            };
            let signal = Signal::KILL;
            node.group.kill(ExitStatus::Killed { signal });
            // A tracer that is there waits for it first.
            let traced = tree.tasks.get(&id).is_some_and(|l| l.is_traced());
            let kept = traced || tree.has_remains(id);
            if node.zombie.is_some() && node.parent == group.tgid() && !kept {
                garbage.extend(tree.remove(id));
            }
        }
        drop(tree);
        drop(garbage);
        let own = [group.tgid(), self.task.tid()];
        loop {
            {
                let _tree = self.kernel().tree.lock();
                let mut numbers = space.numbers();
                if numbers.ids().iter().all(|id| own.contains(id)) {
                    numbers.waits = None;
                    return;
                }
            }
            self.sleep(None);
        }
    }

    fn leave_group(&mut self, status: ExitStatus) {
        let me = self.task.clone();
        let group = me.group().clone();
        let kernel = self.kernel().clone();
        let mut after = After::default();
        let mut tree = kernel.tree.lock();
        if self.ends_namespace(status) {
            // What it traces does not wait for it at its end.
            let mut freed = After::default();
            tree.tracer_ends(&me, &mut freed);
            drop(tree);
            freed.settle(&kernel);
            self.end_namespace();
            tree = kernel.tree.lock();
        }
        let (last, completed) = {
            // Lock order: tree -> group.
            let mut st = group.state.lock();
            me.exiting.store(true, Ordering::SeqCst);
            me.tracee.lock().give_up();
            me.cpu.enter(crate::cpu::Phase::Parked);
            st.threads.retain(|t| !Arc::ptr_eq(t, &me));
            st.dead_time = st.dead_time + me.cpu_time();
            st.dead_io = st.dead_io + me.io().counts();
            if let Some(dump) = &st.dump
                && let Some(t) = st.threads.iter().find(|t| t.tid() == dump.writer)
            {
                t.waker().wake();
            }
            if let Some(exec) = st.exec
                && let Some(t) = st.threads.iter().find(|t| t.tid() == exec)
            {
                t.waker().wake();
            }
            // What the process has pending and this thread would have taken is for others.
            if !st.pending.is_empty() {
                for t in &st.threads {
                    t.interrupt();
                }
            }
            let last = st.threads.is_empty();
            // A stop may have waited for this thread alone; the others may be a tracer's by then.
            let completed = match last {
                true => None,
                false => stop_completed(&mut st),
            };
            (last, completed)
        };
        tree.tracer_ends(&me, &mut after);
        let uid = self.creds_ref().ruid;
        if me.tid() != group.tgid() && !tree.leave_remains(&me, status, uid, &mut after) {
            after
                .garbage
                .extend(tree.drop_task(me.tid()).map(|t| Box::new(t) as _));
        }
        let tied = if last {
            tied_groups(&tree, group.tgid())
        } else {
            Vec::new()
        };
        hand_over_children(&mut tree, &group, &me, last, &mut after);
        if last {
            self.end_process(&mut tree, &group, status, &mut after);
        }
        // Stopped groups that lost their last tie to their session: nobody is left to continue
        // them.
        for pgid in tied {
            if tree.is_orphaned(pgid, 0) && tree.has_stopped(pgid) {
                for signal in [Signal::HUP, Signal::CONT] {
                    after.continued.extend(tree.signal_group(pgid, signal));
                }
            }
        }
        drop(tree);
        // Once more: until it was said to be exiting, somebody may have begun to wait for it.
        kernel.futexes_pi().owner_gone(me.tid() as u32);
        after.settle(&kernel);
        if let Some(signal) = completed {
            kernel.report_child(&group, ChildEvent::Stopped(signal));
        }
        if last {
            self.undo_semaphores();
            kernel.leader_ends(group.tgid());
            group.timers().stop();
            group.ended.notify_all(Events::READABLE | Events::HUP);
            if group.tgid() == 1 {
                let status = group.state.lock().exit.unwrap_or(status);
                kernel.end(Ended::Init(status));
                kernel.kill_all();
            }
        }
    }

    fn end_process(
        &self,
        tree: &mut Tree,
        group: &Arc<ThreadGroup>,
        status: ExitStatus,
        after: &mut After,
    ) {
        let pid = group.tgid();
        let (status, time, children, peak) = {
            let st = group.state.lock();
            // Unless the process was ended as a whole, the last thread's status is its.
            let status = st.exit.unwrap_or(status);
            (
                status,
                st.dead_time,
                st.children_time,
                st.peak_resident.max(st.children_peak),
            )
        };
        let _ = group.status.set(status);
        group.has_ended.store(true, Ordering::SeqCst);
        group.container().add_finished(time);
        let uid = self.creds_ref().ruid;
        let zombie = Zombie {
            status,
            uid,
            time,
            total: time + children,
            peak_resident: peak,
        };
        let Some(node) = tree.nodes.get_mut(&pid) else {
            return;
        };
        node.zombie = Some(zombie);
        node.event = None;
        tree.tell_of_end(pid, after);
    }
}

/// The process groups of a process and of its children that are not orphaned now.
fn tied_groups(tree: &Tree, pid: i32) -> Vec<i32> {
    let Some(node) = tree.nodes.get(&pid) else {
        return Vec::new();
    };
    let children = node.children.iter().filter_map(|c| tree.nodes.get(c));
    let mut groups: Vec<i32> = children.map(|c| c.pgid).chain([node.pgid]).collect();
    groups.sort_unstable();
    groups.dedup();
    groups.retain(|g| !tree.is_orphaned(*g, 0));
    groups
}

/// Tells the parent, or a tracer, of the end; whether nobody is going to wait.
pub(crate) fn notify_parent_of(
    parent: &ThreadGroup,
    pid: &Pid,
    signal: Option<Signal>,
    (status, uid, time): (ExitStatus, u32, CpuTime),
) -> bool {
    if parent.reaps_all.load(Ordering::Relaxed) {
        return true;
    }
    let Some(signal) = signal else { return false };
    let action = parent.actions().get(signal);
    let (mut send, mut reap) = (true, false);
    if signal == Signal::CHLD {
        let ignored = action.handler() == Handler::Ignore;
        reap = ignored || action.flags().contains(ActionFlags::NOCLDWAIT);
        send = !ignored;
    }
    if send {
        let (code, status) = ChildEvent::Ended(status).child_info();
        let info = SigInfo::child(
            signal,
            code,
            pid.seen_from(parent.pid_namespace().space()),
            parent.shown_uid(uid),
            status,
            ticks(time.user),
            ticks(time.system),
        );
        // Not SIGCONT by any sensible program; were it, the parent would merely not be told that
        // it continued.
        let _ = parent.queue(Reach::Process, signal, info, false);
    }
    reap
}

/// The children of a thread that ends go to another thread, those of a process to the reaper.
fn hand_over_children(
    tree: &mut Tree,
    group: &Arc<ThreadGroup>,
    me: &Arc<Task>,
    last: bool,
    after: &mut After,
) {
    let pid = group.tgid();
    let Some(node) = tree.nodes.get_mut(&pid) else {
        return;
    };
    let children: Vec<i32> = node.children.iter().copied().collect();
    if children.is_empty() {
        return;
    }
    let sibling = group.state.lock().threads.first().map(|t| t.tid());
    let heir = if last { tree.reaper(pid) } else { pid };
    let heir_alive = heir != pid && tree.nodes.get(&heir).is_some_and(|n| n.zombie.is_none());
    for child in children {
        let Some(c) = tree.nodes.get_mut(&child) else {
            continue;
        };
        if c.parent_tid == me.tid() {
            let wanted = c
                .group
                .any_thread()
                .map_or(0, |t| t.state.lock().parent_death_signal);
            if let Ok(signal) = Signal::new(wanted) {
                let number = group.pid().seen_from(c.group.pid_namespace().space());
                let uid = c.group.shown_uid(me.creds().ruid);
                let info = SigInfo::user(signal, 0, number, uid);
                after
                    .signals
                    .push((c.group.clone(), signal, info, number == 0));
            }
        }
        if !last {
            if c.parent_tid == me.tid() {
                c.parent_tid = sibling.unwrap_or(pid);
            }
            continue;
        }
        c.parent = if heir_alive { heir } else { 0 };
        c.parent_tid = c.parent;
        c.exit_signal = Signal::CHLD.number();
        let zombie = c.zombie;
        if let Some(n) = tree.nodes.get_mut(&pid) {
            n.children.remove(&child);
        }
        if heir_alive && let Some(h) = tree.nodes.get_mut(&heir) {
            h.children.insert(child);
        }
        // A tracer that is there hears of it before the new parent does.
        let leader = tree.tasks.get(&child);
        if zombie.is_some() && leader.is_none_or(|l| !l.is_traced()) {
            tree.tell_of_end(child, after);
        }
    }
}
