//! wait4(2) and waitid(2).

use crate::cpu::CpuTime;
use crate::exit::After;
use crate::tree::{Node, Tree};
use crate::{ChildEvent, ExitStatus, TaskCx};
use abi::Errno;
use ctx::{Restart, SysResult, wait_for};
use signal::Signal;
use std::sync::Arc;
use wait::Events;

/// Which children.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// Any.
    Any,
    /// This process, by its id.
    Process(i32),
    /// Those in this process group, by its id.
    Group(i32),
    /// Those in the caller's process group.
    OwnGroup,
}

bitflags::bitflags! {
    /// What to wait for, and how (wait(2)).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct WaitFlags: u32 {
        /// `WNOHANG`
        const NOHANG = 1;
        /// `WUNTRACED`, `WSTOPPED`
        const STOPPED = 2;
        /// `WEXITED`
        const EXITED = 4;
        /// `WCONTINUED`
        const CONTINUED = 8;
        /// `WNOWAIT`: leave it to be waited for again.
        const NOWAIT = 0x0100_0000;
        /// `__WNOTHREAD`: children of the calling thread alone.
        const NOTHREAD = 0x2000_0000;
        /// `__WALL`
        const ALL = 0x4000_0000;
        /// `__WCLONE`: those that do not send `SIGCHLD`.
        const CLONE = 0x8000_0000;
    }
}

/// A child that was waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waited {
    /// The number of its process, to the caller.
    pub pid: i32,
    /// Its user.
    pub uid: u32,
    /// What became of it.
    pub event: ChildEvent,
    /// CPU time of it and of its own children (getrusage(2) of it).
    pub time: CpuTime,
    /// Most memory it had, in bytes.
    pub peak_resident: u64,
}

impl TaskCx {
    /// Waits for a child; `None` where `WNOHANG` found none ready.
    ///
    /// # Errors
    /// `ECHILD` where there is none to wait for, a restart where a signal came first.
    pub fn wait_child(&mut self, which: Which, flags: WaitFlags) -> SysResult<Option<Waited>> {
        let group = self.group().clone();
        let found = wait_for(
            self,
            &group.children,
            Events::READABLE,
            None,
            Restart::Sys,
            || match self.find_child(which, flags) {
                Ok(None) if flags.contains(WaitFlags::NOHANG) => Ok(Some(None)),
                Ok(None) => Ok(None),
                Ok(some) => Ok(Some(some)),
                Err(e) => Err(e.into()),
            },
        )?;
        Ok(found.flatten())
    }

    fn find_child(&self, which: Which, flags: WaitFlags) -> Result<Option<Waited>, Errno> {
        let me = self.group().tgid();
        let space = self.pid_namespace().space();
        let mut tree = self.kernel().tree.lock();
        let own_group = tree.nodes.get(&me).map_or(0, |n| n.pgid);
        let matches = |pid: i32, n: &Node| {
            let wanted = match which {
                Which::Any => true,
                Which::Process(p) => p == pid,
                Which::Group(g) => n.pgid == g,
                Which::OwnGroup => n.pgid == own_group,
            };
            let is_clone = n.exit_signal != Signal::CHLD.number();
            wanted
                && (flags.contains(WaitFlags::ALL) || is_clone == flags.contains(WaitFlags::CLONE))
                && (!flags.contains(WaitFlags::NOTHREAD) || n.parent_tid == self.task.tid())
        };
        let children: Vec<i32> = match (which, tree.nodes.get(&me)) {
            (Which::Process(p), Some(n)) => n.children.get(&p).copied().into_iter().collect(),
            (_, Some(n)) => n.children.iter().copied().collect(),
            (_, None) => return Err(Errno::ECHILD),
        };
        let mut after = After::default();
        let (mut any, traced) = self.find_tracee(&mut tree, which, flags, &mut after);
        if traced.is_some() {
            drop(tree);
            after.settle(self.kernel());
            return Ok(traced);
        }
        for pid in children {
            let Some(n) = tree.nodes.get(&pid) else {
                continue;
            };
            if !matches(pid, n) {
                continue;
            }
            // What its own process traces has been looked at.
            let leader = tree.tasks.get(&pid);
            let tracer = leader.and_then(|l| l.tracer());
            if tracer
                .as_ref()
                .is_some_and(|t| Arc::ptr_eq(t.group(), self.group()))
            {
                continue;
            }
            any = true;
            let n = match tree.nodes.get(&pid) {
                // Somebody else is to hear of its end first.
                Some(n) if n.zombie.is_some() && (tracer.is_some() || tree.has_remains(pid)) => {
                    continue;
                }
                Some(n) => n,
                None => continue,
            };
            if let Some(z) = n.zombie {
                if !flags.contains(WaitFlags::EXITED) {
                    continue;
                }
                let waited = Waited {
                    pid: n.group.pid().seen_from(space),
                    uid: z.uid,
                    event: ChildEvent::Ended(z.status),
                    time: z.total,
                    peak_resident: z.peak_resident,
                };
                if !flags.contains(WaitFlags::NOWAIT) {
                    self.reap(tree, pid, &waited);
                }
                return Ok(Some(waited));
            }
            if let Some(event) = n.event {
                let wanted = match event {
                    ChildEvent::Stopped(_) => flags.contains(WaitFlags::STOPPED),
                    ChildEvent::Continued => flags.contains(WaitFlags::CONTINUED),
                    ChildEvent::Ended(_) | ChildEvent::Trapped(_) => false,
                };
                if !wanted {
                    continue;
                }
                let group = n.group.clone();
                let uid = tree.tasks.get(&pid).map_or(0, |t| t.creds().ruid);
                if !flags.contains(WaitFlags::NOWAIT)
                    && let Some(n) = tree.nodes.get_mut(&pid)
                {
                    n.event = None;
                }
                let time = group.cpu_time();
                return Ok(Some(Waited {
                    pid: group.pid().seen_from(space),
                    uid,
                    event,
                    time,
                    peak_resident: 0,
                }));
            }
        }
        if any { Ok(None) } else { Err(Errno::ECHILD) }
    }

    fn reap(&self, mut tree: sync::MutexGuard<'_, Tree>, pid: i32, waited: &Waited) {
        self.account_for(&tree, pid, waited);
        let gone = tree.remove(pid);
        drop(tree);
        drop(gone);
    }

    /// What a child has used is its parent's.
    pub(crate) fn account_for(&self, tree: &Tree, pid: i32, waited: &Waited) {
        let io = tree.nodes.get(&pid).map(|child| child.group.io());
        let mut st = self.group().state.lock();
        st.children_time = st.children_time + waited.time;
        st.children_peak = st.children_peak.max(waited.peak_resident);
        // Of this there is no count apart for children.
        st.dead_io = st.dead_io + io.unwrap_or_default();
    }

    /// How a process ended, for those who hold a pidfd; `None` while it lives.
    pub fn ended_status(&self, pid: i32) -> Option<ExitStatus> {
        self.kernel()
            .tree
            .lock()
            .nodes
            .get(&pid)
            .and_then(|n| n.zombie)
            .map(|z| z.status)
    }
}
