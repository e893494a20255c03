//! Who is whose child, in which process group, in which session; all pids.

use crate::cpu::CpuTime;
use crate::exec::INIT;
use crate::pid_namespace::{self, PID_MAX, PidNamespace};
use crate::tracer::{Place, Remains, Trace};
use crate::{ChildEvent, ExitStatus, Task, ThreadGroup};
use abi::Errno;
use auth::UserNamespace;
use ctx::{Pid, Terminal};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// The one table of tasks. What stands for a task, a process, a group or a session in it is the
/// number that it has in the kernel's own PID namespace.
#[derive(Default)]
pub(crate) struct Tree {
    last_pid: i32,
    /// By thread id; a leader stays until its process has been waited for.
    pub(crate) tasks: HashMap<i32, Arc<Task>>,
    /// By process id, zombies included.
    pub(crate) nodes: BTreeMap<i32, Node>,
    pub(crate) groups: HashMap<i32, GroupNode>,
    pub(crate) sessions: HashMap<i32, SessionNode>,
    /// Who traces whom (ptrace(2)), by the tracer's process.
    pub(crate) traces: BTreeMap<Place, Trace>,
    /// How many there have been.
    pub(crate) traced: u64,
    /// Threads that have ended and that their tracers have not waited for, by process and thread.
    pub(crate) remains: BTreeMap<(i32, i32), Remains>,
    /// What those are called that are in nested PID namespaces, and the innermost one of each.
    pub(crate) nested: HashMap<i32, (Pid, Arc<PidNamespace>)>,
    /// No process can be made any more: the sandbox ends.
    pub(crate) closed: bool,
}

/// A process in the tree.
pub(crate) struct Node {
    pub(crate) group: Arc<ThreadGroup>,
    /// Process id of the parent, 0 for none.
    pub(crate) parent: i32,
    /// The parent's thread that made it, or that inherited it.
    pub(crate) parent_tid: i32,
    pub(crate) children: BTreeSet<i32>,
    pub(crate) pgid: i32,
    pub(crate) sid: i32,
    /// What the parent is sent at the end; 0 for nothing.
    pub(crate) exit_signal: i32,
    pub(crate) zombie: Option<Zombie>,
    /// Stopped or continued, and not yet waited for.
    pub(crate) event: Option<ChildEvent>,
    /// It has called execve(2): setpgid(2) of the parent comes too late.
    pub(crate) has_execed: bool,
}

/// What is left of a process until it is waited for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Zombie {
    pub(crate) status: ExitStatus,
    pub(crate) uid: u32,
    pub(crate) time: CpuTime,
    /// `time` and that of its own children.
    pub(crate) total: CpuTime,
    pub(crate) peak_resident: u64,
}

/// What is left of a process that has been waited for.
pub(crate) struct Gone {
    _node: Node,
    _task: Option<Arc<Task>>,
    _terminal: Option<Arc<dyn Terminal>>,
}

#[derive(Default)]
pub(crate) struct GroupNode {
    pub(crate) sid: i32,
    pub(crate) members: BTreeSet<i32>,
}

#[derive(Default)]
pub(crate) struct SessionNode {
    pub(crate) members: usize,
    pub(crate) terminal: Option<Arc<dyn Terminal>>,
    /// The foreground group of a terminal that was lost, 0 for none.
    pub(crate) lost_foreground: i32,
}

impl Tree {
    /// A free id, never that of init.
    fn free_id(&mut self) -> Result<i32, Errno> {
        for _ in 0..PID_MAX {
            self.last_pid = pid_namespace::next(self.last_pid());
            if !self.is_used(self.last_pid) {
                return Ok(self.last_pid);
            }
        }
        Err(Errno::EAGAIN)
    }

    /// Whether anything has an id.
    pub(crate) fn is_used(&self, id: i32) -> bool {
        self.tasks.contains_key(&id)
            || self.nodes.contains_key(&id)
            || self.groups.contains_key(&id)
            || self.sessions.contains_key(&id)
            || self.nested.contains_key(&id)
    }

    /// What a new task of a process in `space`, below `outermost`, is called: as `wanted`, its own
    /// number first, or as it comes. Numbers of nested namespaces are taken from then on.
    ///
    /// # Errors
    /// `ENOMEM` where no process can be made any more, `EAGAIN` where no number is left, and those
    /// of [`PidNamespace::choose`].
    pub(crate) fn allocate(
        &mut self,
        outermost: &PidNamespace,
        space: &Arc<PidNamespace>,
        wanted: &[i32],
        may_want: &dyn Fn(&UserNamespace) -> bool,
    ) -> Result<Pid, Errno> {
        if self.closed {
            return Err(Errno::ENOMEM);
        }
        let depth = space.nested_chain().count();
        if wanted.len() > depth + 1 {
            return Err(Errno::EINVAL);
        }
        let chosen = space.choose(wanted, may_want)?;
        let id = match wanted.get(depth) {
            None => self.free_id()?,
            Some(id) => {
                pid_namespace::check_wanted(*id, true, may_want(outermost.owner()))?;
                if self.is_used(*id) {
                    return Err(Errno::EEXIST);
                }
                *id
            }
        };
        let pid = Pid::new(outermost.space(), id);
        if depth == 0 {
            return Ok(pid);
        }
        if space.numbers().closed {
            return Err(Errno::ENOMEM);
        }
        let spaces = space.nested_chain().map(|ns| ns.space());
        let mut numbers: Vec<_> = spaces.zip(chosen).collect();
        numbers.reverse();
        let pid = pid.with_nested(&numbers);
        space.take(&pid);
        self.nested.insert(id, (pid.clone(), space.clone()));
        Ok(pid)
    }

    /// Gives back what `id` was called in nested namespaces, once nothing has it any more.
    pub(crate) fn release(&mut self, id: i32) {
        if self.nested.is_empty()
            || self.tasks.contains_key(&id)
            || self.nodes.contains_key(&id)
            || self.groups.contains_key(&id)
            || self.sessions.contains_key(&id)
        {
            return;
        }
        if let Some((pid, space)) = self.nested.remove(&id) {
            space.give_back(&pid);
        }
    }

    /// The pid given out last (/proc/loadavg).
    pub(crate) fn last_pid(&self) -> i32 {
        self.last_pid.max(INIT)
    }

    /// Adds a task, in the place of another one of its process perhaps; that one is to be dropped
    /// without the lock.
    pub(crate) fn add_task(&mut self, tid: i32, task: &Arc<Task>) -> Option<Arc<Task>> {
        let before = self.tasks.insert(tid, task.clone());
        if before.is_none() {
            let count = &task.group().container().tasks;
            count.fetch_add(1, Ordering::Relaxed);
        }
        before
    }

    /// Takes a task out. It is to be dropped without the lock.
    pub(crate) fn drop_task(&mut self, tid: i32) -> Option<Arc<Task>> {
        let task = self.tasks.remove(&tid)?;
        let count = &task.group().container().tasks;
        count.fetch_sub(1, Ordering::Relaxed);
        self.release(tid);
        Some(task)
    }

    /// Adds a process.
    pub(crate) fn insert(
        &mut self,
        group: Arc<ThreadGroup>,
        parent: i32,
        parent_tid: i32,
        pgid: i32,
        sid: i32,
        exit_signal: i32,
    ) {
        let pid = group.tgid();
        self.nodes.insert(
            pid,
            Node {
                group,
                parent,
                parent_tid,
                children: BTreeSet::new(),
                pgid,
                sid,
                exit_signal,
                zombie: None,
                event: None,
                has_execed: false,
            },
        );
        if let Some(p) = self.nodes.get_mut(&parent) {
            p.children.insert(pid);
        }
        self.join_group(pid, pgid, sid);
        self.sessions.entry(sid).or_default().members += 1;
    }

    fn join_group(&mut self, pid: i32, pgid: i32, sid: i32) {
        let g = self.groups.entry(pgid).or_default();
        g.sid = sid;
        g.members.insert(pid);
    }

    fn leave_group(&mut self, pid: i32, pgid: i32) {
        if let Some(g) = self.groups.get_mut(&pgid) {
            g.members.remove(&pid);
            if g.members.is_empty() {
                self.groups.remove(&pgid);
                self.release(pgid);
            }
        }
    }

    fn leave_session(&mut self, sid: i32) -> Option<Arc<dyn Terminal>> {
        let s = self.sessions.get_mut(&sid)?;
        s.members = s.members.saturating_sub(1);
        if s.members > 0 {
            return None;
        }
        let session = self.sessions.remove(&sid);
        self.release(sid);
        session.and_then(|s| s.terminal)
    }

    /// Moves a process to another process group of its session.
    pub(crate) fn set_group(&mut self, pid: i32, pgid: i32) {
        let Some(n) = self.nodes.get_mut(&pid) else {
            return;
        };
        let (old, sid) = (n.pgid, n.sid);
        if old == pgid {
            return;
        }
        n.pgid = pgid;
        self.leave_group(pid, old);
        self.join_group(pid, pgid, sid);
    }

    /// Makes a process the leader of a new session and process group. What is returned is to be
    /// dropped without the lock.
    #[must_use]
    pub(crate) fn new_session(&mut self, pid: i32) -> Option<Arc<dyn Terminal>> {
        let n = self.nodes.get_mut(&pid)?;
        let (pgid, sid) = (n.pgid, n.sid);
        (n.pgid, n.sid) = (pid, pid);
        self.leave_group(pid, pgid);
        let terminal = self.leave_session(sid);
        self.join_group(pid, pid, pid);
        self.sessions.entry(pid).or_default().members += 1;
        terminal
    }

    /// Removes a process that has been waited for. What is returned is to be dropped without the
    /// lock.
    #[must_use]
    pub(crate) fn remove(&mut self, pid: i32) -> Option<Gone> {
        let node = self.nodes.remove(&pid)?;
        if let Some(p) = self.nodes.get_mut(&node.parent) {
            p.children.remove(&pid);
        }
        self.leave_group(pid, node.pgid);
        let terminal = self.leave_session(node.sid);
        let task = self.drop_task(pid);
        self.release(pid);
        Some(Gone {
            _node: node,
            _task: task,
            _terminal: terminal,
        })
    }

    /// Whether process group `pgid` is orphaned: no member has a parent in another group of the
    /// same session. `without` is left out of account (it is exiting).
    pub(crate) fn is_orphaned(&self, pgid: i32, without: i32) -> bool {
        let Some(g) = self.groups.get(&pgid) else {
            return true;
        };
        !g.members.iter().any(|pid| {
            let Some(n) = self.nodes.get(pid) else {
                return false;
            };
            if *pid == without || n.zombie.is_some() {
                return false;
            }
            self.nodes
                .get(&n.parent)
                .is_some_and(|p| p.pgid != pgid && p.sid == n.sid)
        })
    }

    /// Whether any member of `pgid` is stopped.
    pub(crate) fn has_stopped(&self, pgid: i32) -> bool {
        let Some(g) = self.groups.get(&pgid) else {
            return false;
        };
        let mut members = g.members.iter().filter_map(|pid| self.nodes.get(pid));
        // Lock order: tree -> group.
        members.any(|n| n.group.state.lock().stop.is_some())
    }

    /// The members of a process group.
    pub(crate) fn members(&self, pgid: i32) -> Vec<Arc<ThreadGroup>> {
        let Some(g) = self.groups.get(&pgid) else {
            return Vec::new();
        };
        g.members
            .iter()
            .filter_map(|pid| self.nodes.get(pid))
            .map(|n| n.group.clone())
            .collect()
    }

    /// Who inherits the children of `pid`: the nearest living subreaper above that is in its PID
    /// namespace, or that one's init.
    pub(crate) fn reaper(&self, pid: i32) -> i32 {
        let Some(node) = self.nodes.get(&pid) else {
            return INIT;
        };
        let space = node.group.pid_namespace();
        let mut at = node.parent;
        while let Some(n) = self.nodes.get(&at)
            && Arc::ptr_eq(n.group.pid_namespace(), space)
        {
            if n.group.is_subreaper() && n.zombie.is_none() {
                return at;
            }
            at = n.parent;
        }
        match space.is_nested() {
            true => space.numbers().init.unwrap_or(0),
            false => INIT,
        }
    }
}

#[cfg(test)]
#[path = "tree_tests.rs"]
mod tests;
