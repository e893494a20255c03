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
        let mut any = false;
        let own = |t: &Arc<Task>| {
            Arc::ptr_eq(t.group(), self.group())
                && (!flags.contains(WaitFlags::NOTHREAD) || Arc::ptr_eq(t, self.task()))
        };
        let mine: Vec<Arc<Task>> = tree
            .traces
            .iter()
            .filter(|t| own(&t.tracer))
            .map(|t| t.tracee.clone())
            .collect();
        let own_group = tree.nodes.get(&self.group().tgid()).map_or(0, |n| n.pgid);
        let mut found = None;
        for task in &mine {
            let pgid = tree.nodes.get(&task.tgid()).map_or(0, |n| n.pgid);
            let wanted = match which {
                Which::Any => true,
                Which::Process(p) => p == task.tid(),
                Which::Group(g) => g == pgid,
                Which::OwnGroup => pgid == own_group,
            };
            if !wanted {
                continue;
            }
            if task.is_exiting() {
                found = self.ended_tracee(tree, task, flags, after);
                // A leader whose other threads are still there is told of when they are gone.
                any |=
                    found.is_some() || flags.intersects(WaitFlags::EXITED | WaitFlags::CONTINUED);
            } else {
                any = true;
                found = stopped_tracee(task, flags, self.pid_namespace().space());
            }
            if found.is_some() {
                break;
            }
        }
        after.garbage.push(Box::new(mine));
        (any, found)
    }

    fn ended_tracee(
        &self,
        tree: &mut Tree,
        task: &Arc<Task>,
        flags: WaitFlags,
        after: &mut After,
    ) -> Option<Waited> {
        if !flags.contains(WaitFlags::EXITED) {
            return None;
        }
        let keep = flags.contains(WaitFlags::NOWAIT);
        let pid = task.tgid();
        if let Some(r) = tree.remains.iter().find(|r| Arc::ptr_eq(&r.task, task)) {
            let waited = Waited {
                pid: task.pid().seen_from(self.pid_namespace().space()),
                uid: r.uid,
                event: ChildEvent::Ended(r.status),
                time: task.cpu_time(),
                peak_resident: 0,
            };
            if !keep {
                tree.unlink(task, after);
            }
            return Some(waited);
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
        let by_parent = node.parent == self.group().tgid();
        let waited = Waited {
            pid: task.pid().seen_from(self.pid_namespace().space()),
            uid: z.uid,
            event: ChildEvent::Ended(z.status),
            time: z.total,
            peak_resident: z.peak_resident,
        };
        if !keep {
            // From now on it is its parent's to wait for.
            tree.unlink(task, after);
            if by_parent {
                self.account_for(tree, pid, &waited);
                let gone = tree.remove(pid);
                after.garbage.extend(gone.map(|g| Box::new(g) as _));
            }
        }
        Some(waited)
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
