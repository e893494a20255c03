//! Process groups, sessions, and what a terminal asks of them.

use crate::{Kernel, TaskCx, ThreadGroup};
use abi::Errno;
use ctx::{GroupSignaller, JobControl, SessionId, Terminal};
use signal::{SigInfo, Signal};
use std::sync::{Arc, Weak};

impl Kernel {
    /// The process group of the process with id `pid`; `ESRCH` where there is no such process.
    pub fn process_group(&self, pid: i32) -> Result<i32, Errno> {
        self.tree
            .lock()
            .nodes
            .get(&pid)
            .map(|n| n.pgid)
            .ok_or(Errno::ESRCH)
    }

    /// The session of the process with id `pid`; `ESRCH` where there is no such process.
    pub fn session(&self, pid: i32) -> Result<i32, Errno> {
        self.tree
            .lock()
            .nodes
            .get(&pid)
            .map(|n| n.sid)
            .ok_or(Errno::ESRCH)
    }

    /// Session `number` of this kernel.
    pub(crate) fn session_id(&self, number: i32) -> SessionId {
        SessionId {
            space: self.pid_namespace().space(),
            number,
        }
    }

    /// The parent of the process with id `pid`, 0 for none.
    pub fn parent(&self, pid: i32) -> i32 {
        self.tree.lock().nodes.get(&pid).map_or(0, |n| n.parent)
    }

    /// The children of the process with id `pid`.
    pub fn children(&self, pid: i32) -> Vec<i32> {
        let tree = self.tree.lock();
        tree.nodes
            .get(&pid)
            .map(|n| n.children.iter().copied().collect())
            .unwrap_or_default()
    }

    /// The controlling terminal of session `sid`.
    pub fn terminal_of(&self, sid: i32) -> Option<Arc<dyn Terminal>> {
        self.tree
            .lock()
            .sessions
            .get(&sid)
            .and_then(|s| s.terminal.clone())
    }

    /// `foreground` is the group to be told when the leader of a session that lost its terminal
    /// ends, 0 for none.
    pub(crate) fn set_terminal_of(
        &self,
        sid: i32,
        terminal: Option<Arc<dyn Terminal>>,
        foreground: i32,
    ) {
        let old = match self.tree.lock().sessions.get_mut(&sid) {
            Some(s) => {
                s.lost_foreground = foreground;
                std::mem::replace(&mut s.terminal, terminal)
            }
            None => terminal,
        };
        drop(old);
    }

    /// Process `pid` ends: where it leads a session, the session's terminal is given up; where that
    /// has been lost before, those who were in its foreground hear of it now.
    pub(crate) fn leader_ends(&self, pid: i32) {
        let mut tree = self.tree.lock();
        let Some(session) = tree.sessions.get_mut(&pid) else {
            return;
        };
        let terminal = session.terminal.take();
        let foreground = std::mem::take(&mut session.lost_foreground);
        drop(tree);
        if let Some(terminal) = terminal {
            terminal.disassociate(true);
        } else if foreground != 0 {
            self.signal_group(foreground, Signal::HUP);
            self.signal_group(foreground, Signal::CONT);
        }
    }

    /// The members of process group `pgid`.
    pub fn group_members(&self, pgid: i32) -> Vec<Arc<ThreadGroup>> {
        self.tree.lock().members(pgid)
    }

    /// Sends `signal`, as the kernel, to every member of `pgid`.
    pub fn signal_group(&self, pgid: i32, signal: Signal) {
        let continued = self.tree.lock().signal_group(pgid, signal);
        self.report_continued(&continued);
    }

    /// For terminals.
    pub fn signaller(self: &Arc<Self>) -> Arc<dyn GroupSignaller> {
        Arc::new(Signaller(Arc::downgrade(self)))
    }
}

impl TaskCx {
    /// setpgid(2).
    ///
    /// # Errors
    /// `EINVAL`, `ESRCH`, `EACCES`, `EPERM` as there.
    pub fn set_process_group(&self, pid: i32, pgid: i32) -> Result<(), Errno> {
        // A group that is 0 is called as the process.
        if (if pgid == 0 { pid } else { pgid }) < 0 {
            return Err(Errno::EINVAL);
        }
        let (me, space) = (self.task().tgid(), self.pid_namespace());
        let mut tree = self.kernel().tree.lock();
        let pid = if pid == 0 { me } else { tree.id_in(space, pid) };
        let pgid = if pgid == 0 {
            pid
        } else {
            tree.id_in(space, pgid)
        };
        let mine = tree.nodes.get(&me).ok_or(Errno::ESRCH)?.sid;
        let node = tree.nodes.get(&pid).ok_or(Errno::ESRCH)?;
        if node.parent == me {
            if node.sid != mine {
                return Err(Errno::EPERM);
            }
            if node.has_execed {
                return Err(Errno::EACCES);
            }
        } else if pid != me {
            return Err(Errno::ESRCH);
        }
        if node.sid == pid {
            return Err(Errno::EPERM);
        }
        if pgid != pid && tree.groups.get(&pgid).is_none_or(|g| g.sid != mine) {
            return Err(Errno::EPERM);
        }
        tree.set_group(pid, pgid);
        Ok(())
    }

    /// setsid(2): what the caller calls the new session.
    ///
    /// # Errors
    /// `EPERM` for the leader of a process group.
    pub fn set_session(&self) -> Result<i32, Errno> {
        let me = self.task().tgid();
        let mut tree = self.kernel().tree.lock();
        if tree.groups.contains_key(&me) || tree.sessions.contains_key(&me) {
            return Err(Errno::EPERM);
        }
        let gone = tree.new_session(me);
        drop(tree);
        drop(gone);
        Ok(ctx::Ctx::pid(self))
    }

    /// What the caller calls its parent; 0 for one outside its PID namespace.
    pub fn parent(&self) -> i32 {
        let tree = self.kernel().tree.lock();
        let parent = tree.nodes.get(&self.task().tgid()).map_or(0, |n| n.parent);
        tree.number_in(self.pid_namespace(), parent)
    }
}

impl JobControl for TaskCx {
    fn named(&self, number: i32) -> i32 {
        self.id_of(number)
    }

    fn shown(&self, id: i32) -> i32 {
        self.number_of(id)
    }

    fn session(&self) -> SessionId {
        let kernel = self.kernel();
        kernel.session_id(kernel.session(self.task().tgid()).unwrap_or(0))
    }

    fn group(&self) -> i32 {
        self.kernel().process_group(self.task().tgid()).unwrap_or(0)
    }

    fn leads_session(&self) -> bool {
        self.session().number == self.task().tgid()
    }

    fn orphaned(&self) -> bool {
        let tree = self.kernel().tree.lock();
        let pgid = tree.nodes.get(&self.task().tgid()).map_or(0, |n| n.pgid);
        tree.is_orphaned(pgid, 0)
    }

    fn ignores(&self, signal: i32) -> bool {
        let Ok(signal) = Signal::new(signal) else {
            return false;
        };
        self.task().blocked().has(signal)
            || self.task().group().actions().get(signal).handler() == signal::Handler::Ignore
    }

    fn session_of_group(&self, group: i32) -> Option<SessionId> {
        let sid = self.kernel().tree.lock().groups.get(&group).map(|g| g.sid);
        sid.map(|sid| self.kernel().session_id(sid))
    }

    fn controlling_terminal(&self) -> Option<Arc<dyn Terminal>> {
        self.kernel().terminal_of(self.session().number)
    }

    fn set_controlling_terminal(&self, terminal: Option<Arc<dyn Terminal>>) {
        let session = self.session().number;
        self.kernel().set_terminal_of(session, terminal, 0);
    }

    fn signaller(&self) -> Arc<dyn GroupSignaller> {
        self.kernel().signaller()
    }
}

/// Weak, since terminals may live as long as the kernel.
struct Signaller(Weak<Kernel>);

impl GroupSignaller for Signaller {
    fn signal_group(&self, group: i32, signal: i32) {
        if let (Some(k), Ok(s)) = (self.0.upgrade(), Signal::new(signal)) {
            k.signal_group(group, s);
        }
    }

    fn signal_session_leader(&self, session: i32, signal: i32) {
        if let (Some(k), Ok(s)) = (self.0.upgrade(), Signal::new(signal))
            && let Some(g) = k.process(session)
        {
            let _ = g.send(s, SigInfo::kernel(s));
        }
    }

    fn drop_terminal(&self, session: i32, foreground: i32) {
        if let Some(k) = self.0.upgrade() {
            k.set_terminal_of(session, None, foreground);
        }
    }
}
