//! Sending signals (kill(2), tgkill(2), and the kernel's own).

use crate::group::GroupState;
use crate::tracer::notify_seized;
use crate::tree::Tree;
use crate::{ChildEvent, Container, ExitStatus, Kernel, Task, TaskCx, ThreadGroup};
use abi::Errno;
use auth::{Capability, Creds};
use ctx::{Ctx, Resource};
use signal::{DefaultAction, Handler, SigInfo, SigSet, Signal};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use wait::Events;

/// Whom a signal is sent to.
#[derive(Clone, Copy)]
pub(crate) enum Reach<'a> {
    Thread(&'a Arc<Task>),
    Process,
    /// This process among others: with the tree's lock held, so that no child of any of them is
    /// missed.
    Many,
}

impl ThreadGroup {
    /// What a program in its user namespace is told user `uid` is.
    pub(crate) fn shown_uid(&self, uid: u32) -> u32 {
        match self.any_thread() {
            Some(task) => task.creds().user_ns.shown_uid(uid),
            None => uid,
        }
    }

    /// Sends a signal to the process as a whole.
    ///
    /// # Errors
    /// `EAGAIN` where a real-time signal with details finds no room (RLIMIT_SIGPENDING).
    pub fn send(&self, signal: Signal, info: SigInfo) -> Result<(), Errno> {
        self.send_any(Reach::Process, signal, info, false)
    }

    /// Sends a signal to one of its threads.
    ///
    /// # Errors
    /// As [`ThreadGroup::send`].
    pub fn send_to(&self, task: &Arc<Task>, signal: Signal, info: SigInfo) -> Result<(), Errno> {
        self.send_any(Reach::Thread(task), signal, info, false)
    }

    /// Sends a signal from outside the sandbox: init, too, dies of `SIGKILL`.
    ///
    /// # Errors
    /// As [`ThreadGroup::send`].
    pub fn send_from_outside(&self, signal: Signal) -> Result<(), Errno> {
        self.send_any(Reach::Process, signal, SigInfo::user(signal, 0, 0, 0), true)
    }

    /// Sends a signal to the process as a whole; from `outside`, init dies of `SIGKILL`, too.
    pub(crate) fn send_for(
        &self,
        signal: Signal,
        info: SigInfo,
        outside: bool,
    ) -> Result<(), Errno> {
        self.send_any(Reach::Process, signal, info, outside)
    }

    fn send_any(
        &self,
        reach: Reach<'_>,
        signal: Signal,
        info: SigInfo,
        outside: bool,
    ) -> Result<(), Errno> {
        let (continued, sent) = self.queue(reach, signal, info, outside);
        // Lock order: the tree is above the group, so the parent hears of it only now.
        if continued && let Some(kernel) = self.kernel() {
            kernel.report_child(self, ChildEvent::Continued);
        }
        sent
    }

    /// The part of sending that needs the group's lock alone. Also says whether the process goes
    /// on after a stop; that cannot be for signals other than `SIGCONT`.
    pub(crate) fn queue(
        &self,
        reach: Reach<'_>,
        signal: Signal,
        info: SigInfo,
        outside: bool,
    ) -> (bool, Result<(), Errno>) {
        let task = match reach {
            Reach::Thread(task) => Some(task),
            Reach::Process | Reach::Many => None,
        };
        let mut guard = self.state.lock();
        let st = &mut *guard;
        let continued = self.prepare(st, signal);
        let Some(leader) = st.threads.first() else {
            return (continued, Ok(()));
        };
        let subject = task.unwrap_or(leader);
        if self.is_ignored(st, subject, signal, outside) {
            return (continued, Ok(()));
        }
        let merges = !signal.is_realtime() && st.pending.set().has(signal);
        if matches!(reach, Reach::Many) && !merges {
            for (_, sent) in &mut st.forking {
                *sent = sent.minus(opposite(signal)).with(signal);
            }
        }
        let limit = self.limits().get(Resource::Sigpending).soft;
        let room = |len: usize| limit.saturating_sub(len as u64);
        let added = match task {
            Some(t) => {
                let mut pending = t.pending.lock();
                let room = room(pending.len());
                pending.add(signal, info, room)
            }
            None => {
                let room = room(st.pending.len());
                st.pending.add(signal, info, room)
            }
        };
        if added.is_err() {
            return (continued, Err(Errno::EAGAIN));
        }
        self.choose(st, task, signal);
        drop(guard);
        self.signals.notify_all(Events::READABLE);
        (continued, Ok(()))
    }

    /// What stop signals and `SIGCONT` do to each other when they are sent.
    fn prepare(&self, st: &mut GroupState, signal: Signal) -> bool {
        let gone = opposite(signal);
        if !gone.is_empty() {
            st.pending.discard(gone);
            for t in &st.threads {
                t.pending.lock().discard(gone);
            }
        }
        if signal == Signal::CONT {
            st.stop_dequeued = false;
            if let Some(stop) = st.stop.take() {
                for t in &st.threads {
                    notify_seized(t);
                    t.interrupt();
                }
                return stop.reported;
            }
        }
        false
    }

    fn is_ignored(&self, st: &GroupState, subject: &Task, signal: Signal, outside: bool) -> bool {
        // What is blocked stays pending: the action may change before it is unblocked.
        if subject.blocked().has(signal) || subject.really_blocked(signal) {
            return false;
        }
        // A tracer hears of all but what cannot be shown to it.
        if subject.is_traced() && signal != Signal::KILL {
            return false;
        }
        let action = st.actions.get(signal);
        if self.unkillable.load(Ordering::Relaxed)
            && action.handler() == Handler::Default
            && !(outside && signal.is_unblockable())
        {
            return true;
        }
        action.ignores(signal)
    }

    /// Finds the thread that is to take the signal, and wakes it; a fatal one ends the process.
    fn choose(&self, st: &mut GroupState, task: Option<&Arc<Task>>, signal: Signal) {
        let wants = |t: &Arc<Task>| {
            !t.blocked().has(signal)
                && !t.is_exiting()
                && (signal == Signal::KILL || !(t.is_stopped() || t.is_trapped()))
        };
        let chosen = match task {
            Some(t) => Some(t.clone()).filter(wants),
            None => st.threads.iter().find(|t| wants(t)).cloned(),
        };
        let Some(chosen) = chosen else { return };
        let fatal = st.actions.get(signal).handler() == Handler::Default
            && signal.default_action() == DefaultAction::Terminate;
        let shown = chosen.is_traced() && signal != Signal::KILL;
        if fatal && !shown && !chosen.really_blocked(signal) && st.exit.is_none() {
            begin_exit(st, ExitStatus::Killed { signal });
            return;
        }
        chosen.interrupt();
    }

    /// Ends the process with `status`, unless it is ending.
    pub(crate) fn kill(&self, status: ExitStatus) {
        let mut st = self.state.lock();
        if st.exit.is_none() {
            begin_exit(&mut st, status);
        } else {
            // One that a tracer holds at its end looks whether all is over.
            st.threads.iter().for_each(|t| t.interrupt());
        }
        if let Some(dump) = &mut st.dump {
            dump.stopped = true;
        }
    }
}

/// What cannot be pending beside `signal`.
fn opposite(signal: Signal) -> SigSet {
    if signal == Signal::CONT {
        Signal::STOPS
    } else if Signal::STOPS.has(signal) {
        SigSet::only(Signal::CONT)
    } else {
        SigSet::EMPTY
    }
}

/// All threads are to exit.
pub(crate) fn begin_exit(st: &mut GroupState, status: ExitStatus) {
    st.exit = Some(status);
    st.stop = None;
    for t in &st.threads {
        t.interrupt();
    }
}

/// Whether `creds` may send `signal` to `target` (kill(2)). `same_session` is asked for `SIGCONT`.
fn may_signal(
    creds: &Creds,
    target: &Creds,
    signal: Option<Signal>,
    same_session: impl FnOnce() -> bool,
) -> bool {
    creds.euid == target.suid
        || creds.euid == target.ruid
        || creds.ruid == target.suid
        || creds.ruid == target.ruid
        || creds.has_in(&target.user_ns, Capability::Kill)
        || (signal == Some(Signal::CONT) && same_session())
}

/// Whether what users (real and effective) asked for may be sent to `target`, as the kernel sends
/// it for them (`sigio_perm`).
pub(crate) fn may_signal_by_ids((real, effective): (u32, u32), target: &Creds) -> bool {
    effective == 0
        || effective == target.suid
        || effective == target.ruid
        || real == target.suid
        || real == target.ruid
}

/// The signal that a call asks to send; 0 only looks whether one could.
fn wanted(number: i32) -> Result<Option<Signal>, Errno> {
    match number {
        0 => Ok(None),
        number => Signal::new(number).map(Some),
    }
}

impl TaskCx {
    /// Checks that it may send `signal` (`None`: signal 0) to a process.
    ///
    /// # Errors
    /// `EPERM`.
    pub fn may_signal(&self, group: &ThreadGroup, signal: Option<Signal>) -> Result<(), Errno> {
        self.may_signal_in(&self.kernel().tree.lock(), group, signal)
    }

    fn may_signal_in(
        &self,
        tree: &Tree,
        group: &ThreadGroup,
        signal: Option<Signal>,
    ) -> Result<(), Errno> {
        let Some(target) = tree.tasks.get(&group.tgid()) else {
            return Ok(());
        };
        let session = |pid: i32| tree.nodes.get(&pid).map(|n| n.sid);
        let same = || session(group.tgid()) == session(self.task().tgid());
        // Lock order: tree -> task.
        if group.tgid() == self.task().tgid()
            || may_signal(self.creds_ref(), &target.creds(), signal, same)
        {
            Ok(())
        } else {
            Err(Errno::EPERM)
        }
    }

    /// What `group` is told of a signal of this task's.
    pub(crate) fn own_info(&self, group: &ThreadGroup, signal: Signal, code: i32) -> SigInfo {
        let uid = group.shown_uid(self.creds_ref().ruid);
        SigInfo::user(signal, code, self.pid(), uid)
    }

    /// Whether it is outside the PID namespace of `group`, so that it has no number there.
    fn is_outside(&self, group: &ThreadGroup) -> bool {
        let space = group.pid_namespace();
        !Arc::ptr_eq(space, self.pid_namespace())
            && self.group().pid().seen_from(space.space()) == 0
    }

    /// Sends a signal of its own, which says so where the receiver can see it.
    pub(crate) fn send_as_self(
        &self,
        group: &ThreadGroup,
        reach: Reach<'_>,
        signal: Signal,
        mut info: SigInfo,
    ) -> Result<(), Errno> {
        let outside = self.is_outside(group);
        if outside {
            info.hide_sender();
        }
        group.send_any(reach, signal, info, outside)
    }

    /// kill(2) of a process.
    ///
    /// # Errors
    /// `EINVAL`, `EPERM`, `EAGAIN`.
    pub fn kill_process(&self, group: &ThreadGroup, signal: i32) -> Result<(), Errno> {
        let signal = wanted(signal)?;
        self.may_signal(group, signal)?;
        match signal {
            Some(s) => self.send_as_self(group, Reach::Process, s, self.own_info(group, s, 0)),
            None => Ok(()),
        }
    }

    /// kill(2). `signal` is the number, 0 to only check.
    ///
    /// # Errors
    /// `EINVAL`, `ESRCH`, `EPERM`.
    pub fn kill(&self, pid: i32, signal: i32) -> Result<(), Errno> {
        let checked = wanted(signal)?;
        let me = self.task().tgid();
        match pid {
            1.. => {
                let group = self.process_or_thread(pid).ok_or(Errno::ESRCH)?;
                self.kill_process(&group, signal)
            }
            -1 => self.kill_many(checked, true, |tree| {
                let space = self.pid_namespace().space();
                let others = tree.nodes.range(2..).filter(|(pid, _)| **pid != me);
                let others = others.map(|(_, n)| &n.group);
                // All but its init.
                let seen = others.filter(|g| g.pid().seen_from(space) > 1);
                seen.cloned().collect()
            }),
            i32::MIN => Err(Errno::ESRCH),
            0 => self.kill_many(checked, false, |tree| {
                tree.members(tree.nodes.get(&me).map_or(0, |n| n.pgid))
            }),
            _ => self.kill_many(checked, false, |tree| {
                tree.members(tree.id_in(self.pid_namespace(), -pid))
            }),
        }
    }

    /// As kill(2) with the negative number of a process group, by the group's id.
    ///
    /// # Errors
    /// `EINVAL`, `ESRCH`, `EPERM`, `EAGAIN`.
    pub fn kill_group(&self, pgid: i32, signal: i32) -> Result<(), Errno> {
        self.kill_many(wanted(signal)?, false, |tree| tree.members(pgid))
    }

    /// kill(2) takes the id of any thread for that of its process.
    fn process_or_thread(&self, pid: i32) -> Option<Arc<ThreadGroup>> {
        self.process_called(pid)
            .or_else(|| self.task_called(pid).map(|t| t.group().clone()))
    }

    fn kill_many(
        &self,
        signal: Option<Signal>,
        all: bool,
        targets: impl FnOnce(&Tree) -> Vec<Arc<ThreadGroup>>,
    ) -> Result<(), Errno> {
        let mut result = Err(Errno::ESRCH);
        let mut continued = Vec::new();
        let tree = self.kernel().tree.lock();
        for g in targets(&tree) {
            let mut sent = self.may_signal_in(&tree, &g, signal);
            if let (Ok(()), Some(s)) = (sent, signal) {
                let goes_on;
                let outside = self.is_outside(&g);
                let mut info = self.own_info(&g, s, 0);
                if outside {
                    info.hide_sender();
                }
                (goes_on, sent) = g.queue(Reach::Many, s, info, outside);
                if goes_on {
                    continued.push(g);
                }
            }
            match (sent, all) {
                (Ok(()), _) => result = Ok(()),
                // kill(-1) does not count those it may not signal.
                (Err(Errno::EPERM), true) => {}
                (Err(e), _) if result.is_err() => result = Err(e),
                _ => {}
            }
        }
        drop(tree);
        self.kernel().report_continued(&continued);
        result
    }

    /// tgkill(2), and tkill(2) for `tgid` `None`.
    ///
    /// # Errors
    /// `EINVAL`, `ESRCH`, `EPERM`, `EAGAIN`.
    pub fn kill_thread(&self, tgid: Option<i32>, tid: i32, signal: i32) -> Result<(), Errno> {
        if tid <= 0 || tgid.is_some_and(|t| t <= 0) {
            return Err(Errno::EINVAL);
        }
        let task = self.task_called(tid).ok_or(Errno::ESRCH)?;
        if tgid.is_some_and(|t| self.id_of(t) != task.tgid()) {
            return Err(Errno::ESRCH);
        }
        self.kill_task(&task, signal)
    }

    /// tkill(2) of a thread.
    ///
    /// # Errors
    /// `EINVAL`, `EPERM`, `EAGAIN`.
    pub fn kill_task(&self, task: &Arc<Task>, signal: i32) -> Result<(), Errno> {
        let signal = wanted(signal)?;
        self.may_signal(task.group(), signal)?;
        let Some(s) = signal else { return Ok(()) };
        let info = self.own_info(task.group(), s, abi::libc::SI_TKILL);
        self.send_as_self(task.group(), Reach::Thread(task), s, info)
    }

    /// rt_sigqueueinfo(2), and rt_tgsigqueueinfo(2) with `thread` set: `info` is the guest's.
    ///
    /// # Errors
    /// `EPERM` where it pretends to come from the kernel or from kill(2) and goes to another
    /// process, `ESRCH`, `EINVAL`, `EAGAIN`.
    pub fn queue_info(
        &self,
        pid: i32,
        thread: Option<i32>,
        signal: i32,
        info: SigInfo,
    ) -> Result<(), Errno> {
        self.may_pretend(&info, pid == self.pid())?;
        let task = self
            .task_called(thread.unwrap_or(pid))
            .ok_or(Errno::ESRCH)?;
        if thread.is_some() && task.tgid() != self.id_of(pid) {
            return Err(Errno::ESRCH);
        }
        self.queue_info_to(&task, thread.is_some(), signal, info)
    }

    /// Whether a signal may be said to come from where `info` says, which goes to the caller
    /// itself or to another.
    ///
    /// # Errors
    /// `EPERM`.
    pub fn may_pretend(&self, info: &SigInfo, to_self: bool) -> Result<(), Errno> {
        match (info.code >= 0 || info.code == abi::libc::SI_TKILL) && !to_self {
            true => Err(Errno::EPERM),
            false => Ok(()),
        }
    }

    /// Sends what the guest says to a thread, or to its process.
    ///
    /// # Errors
    /// `EINVAL`, `EPERM`, `EAGAIN`.
    pub fn queue_info_to(
        &self,
        task: &Arc<Task>,
        thread: bool,
        signal: i32,
        mut info: SigInfo,
    ) -> Result<(), Errno> {
        info.signo = signal;
        let signal = wanted(signal)?;
        self.may_signal(task.group(), signal)?;
        let Some(signal) = signal else { return Ok(()) };
        let own = &self.creds_ref().user_ns;
        if info.says_who() && task.creds().user_ns != *own {
            let uid = own.uid(info.uid()).unwrap_or(auth::NO_ID);
            info.set_uid(task.group().shown_uid(uid));
        }
        let reach = match thread {
            true => Reach::Thread(task),
            false => Reach::Process,
        };
        self.send_as_self(task.group(), reach, signal, info)
    }
}

impl Tree {
    /// Sends `signal`, as the kernel, to every member of `pgid`. Of those returned, the parents are
    /// to be told without the lock ([`Kernel::report_continued`]).
    #[must_use]
    pub(crate) fn signal_group(&self, pgid: i32, signal: Signal) -> Vec<Arc<ThreadGroup>> {
        let mut members = self.members(pgid);
        members.retain(|g| {
            let (continued, _sent) = g.queue(Reach::Many, signal, SigInfo::kernel(signal), false);
            continued
        });
        members
    }
}

impl Kernel {
    /// Sends `signal` from outside the sandbox to every process of `container`: init, too, dies of
    /// `SIGKILL`.
    ///
    /// # Errors
    /// As [`ThreadGroup::send`].
    pub fn signal_all_from_outside(
        &self,
        container: &Container,
        signal: Signal,
    ) -> Result<(), Errno> {
        let mut result = Ok(());
        let mut continued = Vec::new();
        let tree = self.tree.lock();
        for node in tree.nodes.values().filter(|n| container.owns(&n.group)) {
            let info = SigInfo::user(signal, 0, 0, 0);
            let (goes_on, sent) = node.group.queue(Reach::Many, signal, info, true);
            if goes_on {
                continued.push(node.group.clone());
            }
            result = result.and(sent);
        }
        drop(tree);
        self.report_continued(&continued);
        result
    }

    pub(crate) fn report_continued(&self, groups: &[Arc<ThreadGroup>]) {
        for g in groups {
            self.report_child(g, ChildEvent::Continued);
        }
    }

    /// Tells the parent that `group` stopped or continued: `SIGCHLD`, and its waits.
    pub(crate) fn report_child(&self, group: &ThreadGroup, event: ChildEvent) {
        let time = group.cpu_time();
        let mut tree = self.tree.lock();
        let Some(node) = tree.nodes.get_mut(&group.tgid()) else {
            return;
        };
        if node.zombie.is_some() {
            return;
        }
        // A stop that SIGCONT has ended meanwhile is no news any more, and must not hide that the
        // process goes on.
        let over = || group.state.lock().stop.is_none_or(|stop| !stop.reported);
        if matches!(event, ChildEvent::Stopped(_)) && over() {
            return;
        }
        node.event = Some(event);
        let parent = node.parent;
        let Some(parent) = tree.nodes.get(&parent).map(|n| n.group.clone()) else {
            return;
        };
        let uid = tree.tasks.get(&group.tgid()).map_or(0, |t| t.creds().ruid);
        let action = parent.actions().get(Signal::CHLD);
        if action.handler() != Handler::Ignore
            && !action.flags().contains(signal::ActionFlags::NOCLDSTOP)
        {
            let (code, status) = event.child_info();
            let info = SigInfo::child(
                Signal::CHLD,
                code,
                group.pid().seen_from(parent.pid_namespace().space()),
                parent.shown_uid(uid),
                status,
                ticks(time.user),
                ticks(time.system),
            );
            let _ = parent.queue(Reach::Process, Signal::CHLD, info, false);
        }
        drop(tree);
        parent.children.notify_all(Events::READABLE);
    }
}

/// Nanoseconds in units of `USER_HZ` (100 a second).
pub(crate) fn ticks(ns: u64) -> i64 {
    (ns / 10_000_000) as i64
}
