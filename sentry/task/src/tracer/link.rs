//! Who traces whom: how it begins, and how it ends.

use super::requests::valid_signal;
use super::{Held, Resume, TraceOptions, Tracer};
use crate::exit::{After, notify_parent_of};
use crate::send::Reach;
use crate::tree::Tree;
use crate::{ExitStatus, Ids, Task, TaskCx, ThreadGroup};
use abi::Errno;
use auth::{Capability, Creds};
use ctx::SysResult;
use signal::{SigInfo, Signal};
use std::cmp::Reverse;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// One task that is traced by another.
pub(crate) struct Trace {
    pub(crate) tracee: Arc<Task>,
    pub(crate) tracer: Arc<Task>,
}

/// Where a trace is listed: with the serial number of the tracer's process, the newest first.
pub(crate) type Place = (u64, Reverse<u64>);

/// A thread that has ended, until its tracer has waited for it.
pub(crate) struct Remains {
    pub(crate) status: ExitStatus,
    pub(crate) uid: u32,
}

impl TaskCx {
    /// `PTRACE_TRACEME`.
    ///
    /// # Errors
    /// `EPERM` where it is traced, or has no parent that could.
    pub fn trace_me(&self) -> Result<(), Errno> {
        let me = self.task();
        let mut tree = self.kernel().tree.lock();
        let node = tree.nodes.get(&me.tgid()).ok_or(Errno::EPERM)?;
        let parent = tree.tasks.get(&node.parent_tid).cloned();
        let parent = parent.ok_or(Errno::EPERM)?;
        if me.is_traced() || !may_trace(&parent.creds(), self.creds_ref()) {
            return Err(Errno::EPERM);
        }
        if !parent.is_exiting() {
            let options = TraceOptions::empty();
            tree.link(me, &parent, false, options, self.creds_ref().clone());
        }
        Ok(())
    }

    /// `PTRACE_ATTACH`; `PTRACE_SEIZE` with its options.
    ///
    /// # Errors
    /// `ESRCH`; `EPERM` where it may not, or somebody traces it.
    pub fn trace(&self, task: &Arc<Task>, seize: Option<TraceOptions>) -> SysResult<()> {
        if Arc::ptr_eq(task.group(), self.group()) || !task.lets_look(self, Ids::Real) {
            return Err(Errno::EPERM.into());
        }
        let stopped = {
            let mut tree = self.kernel().tree.lock();
            let there = tree.tasks.get(&task.tid());
            if !there.is_some_and(|t| Arc::ptr_eq(t, task)) {
                return Err(Errno::ESRCH.into());
            }
            // It may have become another program since: now an exec finds its tracer.
            if task.is_exiting() || task.is_traced() || !task.lets_look(self, Ids::Real) {
                return Err(Errno::EPERM.into());
            }
            let options = seize.unwrap_or_default();
            let creds = self.creds_ref().clone();
            tree.link(task, self.task(), seize.is_some(), options, creds);
            if seize.is_none() {
                let info = SigInfo::kernel(Signal::STOP);
                let reach = Reach::Thread(task);
                let _ = task.group().queue(reach, Signal::STOP, info, false);
            }
            let _st = task.group().state.lock();
            let stopped = task.is_stopped();
            if stopped {
                task.tracee.lock().trap = true;
                task.interrupt();
            }
            stopped
        };
        if stopped {
            // From one stop into the other: nobody sees it run in between.
            self.park_killable(|| {
                let t = task.tracee.lock();
                !t.trap || t.by.is_none() || t.stop.is_some() || task.is_exiting()
            });
        }
        Ok(())
    }
}

impl Held<'_> {
    /// `PTRACE_DETACH`, with the signal to go on with.
    ///
    /// # Errors
    /// `ESRCH`, `EIO`.
    pub fn release(self, signal: u64) -> Result<(), Errno> {
        let mut after = After::default();
        let mut tree = self.cx.kernel().tree.lock();
        self.with(|t| {
            t.stopped()?.over = Some(valid_signal(signal)?);
            Ok(())
        })?;
        tree.unlink(&self.task, &mut after);
        drop(tree);
        after.settle(self.cx.kernel());
        Ok(())
    }
}

/// Whether one with `tracer`'s credentials may have traced one with `tracee`'s.
fn may_trace(tracer: &Creds, tracee: &Creds) -> bool {
    (tracer.user_ns == tracee.user_ns && tracer.permitted.contains(tracee.permitted))
        || tracer.has_in(&tracee.user_ns, Capability::SysPtrace)
}

impl Tree {
    /// Begins it. The tracee is traced by nobody.
    pub(crate) fn link(
        &mut self,
        tracee: &Arc<Task>,
        tracer: &Arc<Task>,
        seized: bool,
        options: TraceOptions,
        creds: Arc<Creds>,
    ) {
        let trace = Trace {
            tracee: tracee.clone(),
            tracer: tracer.clone(),
        };
        self.traced += 1;
        let place = (tracer.group().serial(), Reverse(self.traced));
        self.traces.insert(place, trace);
        let _st = tracee.group().state.lock();
        let mut t = tracee.tracee.lock();
        t.by = Some(Tracer {
            task: tracer.clone(),
            place,
            creds,
        });
        t.seized = seized;
        t.options = options;
        t.resume = Resume::default();
        (t.trap, t.notify, t.listening) = (false, false, false);
        tracee.seccomp.set_traced(true);
    }

    /// A new task is traced as its maker, which says so; the caller holds no group's lock.
    pub(crate) fn link_child(&mut self, child: &Arc<Task>, parent: &Task) {
        let (tracer, seized, options, creds) = {
            let t = parent.tracee.lock();
            let Some(by) = &t.by else { return };
            (by.task.clone(), t.seized, t.options, by.creds.clone())
        };
        self.link(child, &tracer, seized, options, creds);
        let _st = child.group().state.lock();
        if seized {
            child.tracee.lock().trap = true;
        } else {
            let info = SigInfo::user(Signal::STOP, 0, 0, 0);
            let _ = child.pending.lock().add(Signal::STOP, info, u64::MAX);
        }
        child.work.store(true, Ordering::SeqCst);
    }

    /// What the threads of a process trace.
    pub(crate) fn traced_by(&self, group: &ThreadGroup) -> impl Iterator<Item = &Trace> {
        let of = |count| (group.serial(), Reverse(count));
        self.traces.range(of(u64::MAX)..=of(0)).map(|(_, t)| t)
    }

    /// Ends it: the tracee goes on, and what has ended already is its parent's.
    pub(crate) fn unlink(&mut self, tracee: &Arc<Task>, after: &mut After) {
        let by;
        {
            let _st = tracee.group().state.lock();
            let mut t = tracee.tracee.lock();
            by = match t.by.take() {
                Some(by) => by,
                None => return,
            };
            t.seized = false;
            t.options = TraceOptions::empty();
            t.resume = Resume::default();
            (t.trap, t.notify, t.listening) = (false, false, false);
            if let Some(stop) = t.stop.as_deref_mut() {
                // A signal nobody has looked at is delivered.
                let signal = if stop.is_signal { stop.code } else { 0 };
                stop.over.get_or_insert(signal);
            }
            tracee.trapped.store(false, Ordering::SeqCst);
            tracee.seccomp.set_traced(false);
            drop(t);
            tracee.interrupt();
        }
        let gone = self.traces.remove(&by.place);
        after.garbage.extend(gone.map(|g| Box::new(g) as _));
        let pid = tracee.tgid();
        if self.bury(tracee, after) || tracee.tid() == pid {
            let to_us = |node: &crate::tree::Node| node.parent == by.task.tgid();
            // Its parent has heard of the end if it was the tracer.
            let node = self.nodes.get(&pid);
            let told = tracee.tid() == pid && node.is_some_and(to_us);
            if !told {
                self.tell_of_end(pid, after);
            }
        }
        after.garbage.push(Box::new(by));
    }

    /// Takes away what is left of a thread that has ended; whether there was anything.
    pub(crate) fn bury(&mut self, thread: &Arc<Task>, after: &mut After) -> bool {
        if self
            .remains
            .remove(&(thread.tgid(), thread.tid()))
            .is_none()
        {
            return false;
        }
        let task = self.drop_task(thread.tid());
        after.garbage.extend(task.map(|t| Box::new(t) as _));
        true
    }

    /// Whether threads of a process have ended and wait for a tracer to hear of it.
    pub(crate) fn has_remains(&self, pid: i32) -> bool {
        let mut of_it = self.remains.range((pid, i32::MIN)..=(pid, i32::MAX));
        of_it.next().is_some()
    }

    /// Tells of the end of process `pid`, if it has ended altogether: its tracer, or else its
    /// parent.
    pub(crate) fn tell_of_end(&mut self, pid: i32, after: &mut After) {
        let Some(zombie) = self.nodes.get(&pid).and_then(|n| n.zombie) else {
            return;
        };
        if self.has_remains(pid) {
            return;
        }
        let Some(node) = self.nodes.get(&pid) else {
            return;
        };
        let own = Signal::new(node.exit_signal).ok();
        let name = node.group.pid().clone();
        let parent = self.nodes.get(&node.parent).map(|n| n.group.clone());
        let leader = self.tasks.get(&pid).cloned();
        let tracer = leader.as_ref().and_then(|l| l.tracer());
        if let (Some(tracer), Some(leader)) = (tracer, leader) {
            let is_parent = parent
                .as_ref()
                .is_some_and(|p| Arc::ptr_eq(p, tracer.group()));
            let signal = if is_parent { own } else { Some(Signal::CHLD) };
            let told = (zombie.status, zombie.uid, zombie.time);
            let unwanted = notify_parent_of(tracer.group(), &name, signal, told);
            after.parents.push(tracer.group().clone());
            if unwanted {
                self.unlink(&leader, after);
                if is_parent {
                    let gone = self.remove(pid);
                    after.garbage.extend(gone.map(|g| Box::new(g) as _));
                }
            }
            return;
        }
        let unwanted = match &parent {
            Some(p) => notify_parent_of(p, &name, own, (zombie.status, zombie.uid, zombie.time)),
            None => true,
        };
        if unwanted {
            let gone = self.remove(pid);
            after.garbage.extend(gone.map(|g| Box::new(g) as _));
        }
        after.parents.extend(parent);
    }

    /// A tracer has ended: those it traced are free, or are killed if it wanted that.
    pub(crate) fn tracer_ends(&mut self, tracer: &Arc<Task>, after: &mut After) {
        let all = self.traced_by(tracer.group());
        let of_it = all.filter(|t| Arc::ptr_eq(&t.tracer, tracer));
        let of_it: Vec<_> = of_it.map(|t| t.tracee.clone()).collect();
        for tracee in of_it {
            let kill = {
                let t = tracee.tracee.lock();
                t.options.contains(TraceOptions::EXITKILL)
            };
            if kill {
                let info = SigInfo::kernel(Signal::KILL);
                let group = tracee.group();
                let _ = group.queue(Reach::Process, Signal::KILL, info, true);
            }
            self.unlink(&tracee, after);
            after.garbage.push(Box::new(tracee));
        }
    }

    /// A thread that is traced has ended: its tracer is to wait for it. Whether it stays until then.
    pub(crate) fn leave_remains(
        &mut self,
        task: &Arc<Task>,
        status: ExitStatus,
        uid: u32,
        after: &mut After,
    ) -> bool {
        let Some(tracer) = task.tracer() else {
            return false;
        };
        let told = (status, uid, task.cpu_time());
        let unwanted = notify_parent_of(tracer.group(), task.pid(), Some(Signal::CHLD), told);
        after.parents.push(tracer.group().clone());
        if unwanted {
            self.unlink(task, after);
            return false;
        }
        let remains = Remains { status, uid };
        self.remains.insert((task.tgid(), task.tid()), remains);
        true
    }
}
