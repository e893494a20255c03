//! Waiting for tracees: wait4(2) and waitid(2) of a tracer.

use crate::children::{Waited, Which};
use crate::exit::After;
use crate::tree::Tree;
use crate::{ChildEvent, Task, TaskCx, WaitFlags};
use ctx::PidSpace;
use std::sync::Arc;

impl TaskCx {
    /// One of the caller's process's tracees of which there is something to tell, and whether there
    /// are any to wait for.
    pub(crate) fn find_tracee(
        &self,
        tree: &mut Tree,
        which: Which,
        flags: WaitFlags,
        after: &mut After,
    ) -> (bool, Option<Waited>) {
        let (any, found) = self.look_for_tracee(tree, which, flags);
        let Some((task, waited)) = found else {
            return (any, None);
        };
        let ended = matches!(waited.event, ChildEvent::Ended(_));
        if ended && !flags.contains(WaitFlags::NOWAIT) {
            self.take_ended(tree, &task, &waited, after);
        }
        after.garbage.push(Box::new(task));
        (any, Some(waited))
    }

    fn look_for_tracee(
        &self,
        tree: &Tree,
        which: Which,
        flags: WaitFlags,
    ) -> (bool, Option<(Arc<Task>, Waited)>) {
        let own = |tracer: &Arc<Task>| {
            Arc::ptr_eq(tracer.group(), self.group())
                && (!flags.contains(WaitFlags::NOTHREAD) || Arc::ptr_eq(tracer, self.task()))
        };
        let group_of = |pid: i32| tree.nodes.get(&pid).map_or(0, |n| n.pgid);
        let own_group = group_of(self.group().tgid());
        let (mut any, mut found) = (false, None);
        let mut look = |task: &Arc<Task>| {
            let (there, news) = self.news_of(tree, task, flags);
            any |= there;
            found = news.map(|n| (task.clone(), n));
            found.is_some()
        };
        let mut mine = tree.traced_by(self.group()).filter(|t| own(&t.tracer));
        match which {
            Which::Process(tid) => {
                let task = tree.tasks.get(&tid);
                task.filter(|t| t.tracer().is_some_and(|by| own(&by)))
                    .is_some_and(look)
            }
            Which::Any => mine.any(|t| look(&t.tracee)),
            Which::Group(wanted) => {
                mine.any(|t| group_of(t.tracee.tgid()) == wanted && look(&t.tracee))
            }
            Which::OwnGroup => {
                mine.any(|t| group_of(t.tracee.tgid()) == own_group && look(&t.tracee))
            }
        };
        (any, found)
    }

    /// Whether there is anything to wait for in a tracee, and what there is to tell of it.
    fn news_of(&self, tree: &Tree, task: &Arc<Task>, flags: WaitFlags) -> (bool, Option<Waited>) {
        if !task.is_exiting() {
            let space = self.pid_namespace().space();
            return (true, stopped_tracee(task, flags, space));
        }
        let exited = flags.contains(WaitFlags::EXITED);
        let ended = exited.then(|| self.ended_tracee(tree, task)).flatten();
        // A leader whose other threads are still there is told of when they are gone.
        let there = ended.is_some() || exited || flags.contains(WaitFlags::CONTINUED);
        (there, ended)
    }

    fn ended_tracee(&self, tree: &Tree, task: &Arc<Task>) -> Option<Waited> {
        let number = task.pid().seen_from(self.pid_namespace().space());
        let pid = task.tgid();
        if let Some(r) = tree.remains.get(&(pid, task.tid())) {
            // Once its process has an end, that is how each of its threads has ended.
            let whole = task.group().state.lock().exit;
            let status = whole.or(task.group().status()).unwrap_or(r.status);
            return Some(Waited {
                pid: number,
                uid: r.uid,
                event: ChildEvent::Ended(status),
                time: task.cpu_time(),
                peak_resident: 0,
            });
        }
        if task.tid() != pid || tree.has_remains(pid) {
            return None;
        }
        let node = tree.nodes.get(&pid)?;
        // Its number may be another's by now.
        if !Arc::ptr_eq(&node.group, task.group()) {
            return None;
        }
        let z = node.zombie?;
        Some(Waited {
            pid: number,
            uid: z.uid,
            event: ChildEvent::Ended(z.status),
            time: z.total,
            peak_resident: z.peak_resident,
        })
    }

    /// What has ended and has been told of: from now on a process is its parent's to wait for.
    fn take_ended(&self, tree: &mut Tree, task: &Arc<Task>, waited: &Waited, after: &mut After) {
        let pid = task.tgid();
        let node = tree.nodes.get(&pid).filter(|_| task.tid() == pid);
        let by_parent = node.is_some_and(|n| n.parent == self.group().tgid());
        tree.unlink(task, after);
        if by_parent {
            self.account_for(tree, pid, waited);
            let gone = tree.remove(pid);
            after.garbage.extend(gone.map(|g| Box::new(g) as _));
        }
    }
}

/// The stop that has not been told of yet.
fn stopped_tracee(task: &Arc<Task>, flags: WaitFlags, space: PidSpace) -> Option<Waited> {
    let code = {
        let mut t = task.tracee.lock();
        let stop = t.stopped().ok().filter(|s| s.code != 0)?;
        let code = stop.code;
        if !flags.contains(WaitFlags::NOWAIT) {
            stop.code = 0;
        }
        code
    };
    Some(Waited {
        pid: task.pid().seen_from(space),
        uid: task.creds().ruid,
        event: ChildEvent::Trapped(code),
        time: task.group().cpu_time(),
        peak_resident: 0,
    })
}
