//! New tasks: fork(2), vfork(2), clone(2), clone3(2).

use crate::exec::INIT;
use crate::exit::After;
use crate::group::FORKS;
use crate::limits::Limits;
use crate::pidfd;
use crate::run::Start;
use crate::task::TaskState;
use crate::tracer::{Event, TRAP_FLAG};
use crate::users::Users;
use crate::vfork::VforkDone;
use crate::{FsContext, Namespaces, PidNamespace, Task, TaskCx, ThreadGroup};
use abi::Errno;
use auth::{Capability, Creds, UserNamespace};
use ctx::{Ctx, Pid, Resource, Restart, SysResult, UserMemoryExt};
use mm::Mm;
use signal::{AltStack, SigInfo, SigSet, Signal};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use vfs::FdTable;

bitflags::bitflags! {
    /// `CLONE_*` (clone(2)).
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
    pub struct CloneFlags: u64 {
        /// `CLONE_NEWTIME`
        const NEWTIME = 0x80;
        /// `CLONE_VM`
        const VM = 0x100;
        /// `CLONE_FS`
        const FS = 0x200;
        /// `CLONE_FILES`
        const FILES = 0x400;
        /// `CLONE_SIGHAND`
        const SIGHAND = 0x800;
        /// `CLONE_PIDFD`
        const PIDFD = 0x1000;
        /// `CLONE_PTRACE`
        const PTRACE = 0x2000;
        /// `CLONE_VFORK`
        const VFORK = 0x4000;
        /// `CLONE_PARENT`
        const PARENT = 0x8000;
        /// `CLONE_THREAD`
        const THREAD = 0x1_0000;
        /// `CLONE_NEWNS`
        const NEWNS = 0x2_0000;
        /// `CLONE_SYSVSEM`
        const SYSVSEM = 0x4_0000;
        /// `CLONE_SETTLS`
        const SETTLS = 0x8_0000;
        /// `CLONE_PARENT_SETTID`
        const PARENT_SETTID = 0x10_0000;
        /// `CLONE_CHILD_CLEARTID`
        const CHILD_CLEARTID = 0x20_0000;
        /// `CLONE_DETACHED`
        const DETACHED = 0x40_0000;
        /// `CLONE_UNTRACED`
        const UNTRACED = 0x80_0000;
        /// `CLONE_CHILD_SETTID`
        const CHILD_SETTID = 0x100_0000;
        /// `CLONE_NEWCGROUP`
        const NEWCGROUP = 0x200_0000;
        /// `CLONE_NEWUTS`
        const NEWUTS = 0x400_0000;
        /// `CLONE_NEWIPC`
        const NEWIPC = 0x800_0000;
        /// `CLONE_NEWUSER`
        const NEWUSER = 0x1000_0000;
        /// `CLONE_NEWPID`
        const NEWPID = 0x2000_0000;
        /// `CLONE_NEWNET`
        const NEWNET = 0x4000_0000;
        /// `CLONE_IO`
        const IO = 0x8000_0000;
        /// `CLONE_CLEAR_SIGHAND`
        const CLEAR_SIGHAND = 0x1_0000_0000;
        /// `CLONE_INTO_CGROUP`
        const INTO_CGROUP = 0x2_0000_0000;
    }
}

impl CloneFlags {
    /// Those that ask for a namespace.
    pub const NAMESPACES: CloneFlags = CloneFlags::NEWNS
        .union(CloneFlags::NEWTIME)
        .union(CloneFlags::NEWCGROUP)
        .union(CloneFlags::NEWUTS)
        .union(CloneFlags::NEWIPC)
        .union(CloneFlags::NEWUSER)
        .union(CloneFlags::NEWPID)
        .union(CloneFlags::NEWNET);
}

/// A call of clone3(2), or of its older forms.
#[derive(Clone, Debug, Default)]
pub struct CloneArgs {
    /// What to share, and more.
    pub flags: CloneFlags,
    /// What the parent is sent at the end, 0 for nothing.
    pub exit_signal: i32,
    /// Stack pointer of the child, 0 for the parent's.
    pub stack: u64,
    /// Where `CLONE_PARENT_SETTID` stores the id.
    pub parent_tid: u64,
    /// Where `CLONE_CHILD_SETTID` and `CLONE_CHILD_CLEARTID` store it.
    pub child_tid: u64,
    /// Where `CLONE_PIDFD` stores the descriptor.
    pub pidfd: u64,
    /// Base of the child's thread-local storage.
    pub tls: u64,
    /// Ids asked for, the innermost namespace first.
    pub set_tid: Vec<i32>,
}

/// Whether new namespaces as `flags` ask for them can be had: all but those of clocks can. Who makes
/// one of users may make the others in it.
///
/// # Errors
/// `EPERM` without the capability, `EINVAL` for that kind.
pub fn may_unshare(creds: &Creds, flags: CloneFlags) -> Result<(), Errno> {
    if !flags.intersects(CloneFlags::NAMESPACES) {
        return Ok(());
    }
    if !flags.contains(CloneFlags::NEWUSER) && !creds.has_own(Capability::SysAdmin) {
        return Err(Errno::EPERM);
    }
    if flags.contains(CloneFlags::NEWTIME) {
        return Err(Errno::EINVAL);
    }
    Ok(())
}

impl TaskCx {
    /// fork(2).
    ///
    /// # Errors
    /// `EAGAIN`, `ENOMEM`.
    pub fn fork(&mut self) -> SysResult<u64> {
        self.clone_task(&CloneArgs {
            exit_signal: Signal::CHLD.number(),
            ..CloneArgs::default()
        })
    }

    /// vfork(2).
    ///
    /// # Errors
    /// `EAGAIN`, `ENOMEM`.
    pub fn vfork(&mut self) -> SysResult<u64> {
        let flags = CloneFlags::VM | CloneFlags::VFORK;
        self.clone_task(&CloneArgs {
            flags,
            exit_signal: Signal::CHLD.number(),
            ..CloneArgs::default()
        })
    }

    /// clone(2), clone3(2): the child's id.
    ///
    /// # Errors
    /// `EINVAL` for flags that contradict each other, those of [`may_unshare`] and of
    /// [`Creds::in_new_user_namespace`], `EAGAIN`, `ENOMEM`.
    pub fn clone_task(&mut self, args: &CloneArgs) -> SysResult<u64> {
        self.check(args)?;
        // Signals come first. From here on, what is sent to many processes goes to the child, too.
        let makes_process = !args.flags.contains(CloneFlags::THREAD);
        let tid = self.task.tid();
        let event = self.event_of(args);
        if makes_process {
            let mut st = self.group().state.lock();
            st.forking.push((tid, SigSet::EMPTY));
        }
        let made = if self.wanted_elsewhere() {
            // Also where another thread was chosen to take the signal.
            self.task.work.store(true, Ordering::SeqCst);
            Err(Restart::Always.into())
        } else {
            self.make_task(args, event.is_some())
        };
        if makes_process {
            let mut st = self.group().state.lock();
            st.forking.retain(|(forker, _)| *forker != tid);
        }
        let (child, vfork) = made?;
        FORKS.fetch_add(1, Ordering::Relaxed);
        if let Some(event) = event {
            self.trace_pid_event(event, &child);
        }
        if let Some(done) = vfork
            && self.park_killable(|| done.is_done())
        {
            self.trace_pid_event(Event::VforkDone, &child);
        }
        Ok(child.seen_from(self.pid_namespace().space()) as u64)
    }

    /// What its tracer wants to hear of it.
    fn event_of(&self, args: &CloneArgs) -> Option<Event> {
        let event = if args.flags.contains(CloneFlags::VFORK) {
            Event::Vfork
        } else if args.exit_signal != Signal::CHLD.number() {
            Event::Clone
        } else {
            Event::Fork
        };
        let hidden = args.flags.contains(CloneFlags::UNTRACED);
        Some(event).filter(|e| !hidden && self.traces(*e))
    }

    /// What the child is called, and what a vfork waits for. `traced` as this task is.
    fn make_task(
        &mut self,
        args: &CloneArgs,
        traced: bool,
    ) -> SysResult<(Pid, Option<Arc<VforkDone>>)> {
        let flags = args.flags;
        let limit = self.limit(Resource::Nproc);
        let creds = self.creds_ref();
        if limit != u64::MAX
            && creds.ruid != 0
            && !creds.has(Capability::SysResource)
            && !creds.has(Capability::SysAdmin)
            && self.kernel().tasks_of(creds.ruid) >= limit
        {
            return Err(Errno::EAGAIN.into());
        }

        let (child, start) = self.prepare_child(args)?;
        let vfork = if flags.contains(CloneFlags::VFORK) {
            let done = VforkDone::new(self.waker().clone());
            child.state.lock().vfork = Some(done.clone());
            Some(done)
        } else {
            None
        };
        if let Err(e) = self.publish(args, traced, &child, &start) {
            abandon(start);
            self.kernel().tree.lock().release(child.tid());
            return Err(e.into());
        }
        let ran = self.kernel().pool.run(self.kernel(), start);
        if let Err(e) = ran {
            self.unpublish(&child);
            return Err(e.into());
        }
        Ok((child.pid().clone(), vfork))
    }

    fn check(&self, args: &CloneArgs) -> Result<(), Errno> {
        let flags = args.flags;
        let has = |f: CloneFlags| flags.contains(f);
        let bad = (has(CloneFlags::SIGHAND) && !has(CloneFlags::VM))
            || (has(CloneFlags::THREAD) && !has(CloneFlags::SIGHAND))
            || (has(CloneFlags::SIGHAND) && has(CloneFlags::CLEAR_SIGHAND))
            || (has(CloneFlags::NEWNS) && has(CloneFlags::FS))
            || (has(CloneFlags::NEWUSER) && has(CloneFlags::FS))
            || (has(CloneFlags::THREAD) && flags.intersects(CloneFlags::NEWUSER | CloneFlags::NEWPID))
            // It would not be in the same PID namespace as the others.
            || (has(CloneFlags::THREAD)
                && !Arc::ptr_eq(&self.namespaces.pid_for_children, self.pid_namespace()))
            || (has(CloneFlags::PIDFD) && flags.intersects(CloneFlags::DETACHED))
            || (has(CloneFlags::PIDFD) && has(CloneFlags::PARENT_SETTID) && args.pidfd == args.parent_tid)
            // Init's siblings would have nobody to wait for them.
            || (has(CloneFlags::PARENT) && self.pid() == INIT)
            || !(0..=Signal::MAX).contains(&args.exit_signal);
        if bad {
            return Err(Errno::EINVAL);
        }
        may_unshare(self.creds_ref(), flags)?;
        // What is to be undone to semaphores cannot be shared with one that no longer sees them.
        if has(CloneFlags::NEWIPC) && has(CloneFlags::SYSVSEM) {
            return Err(Errno::EINVAL);
        }
        if has(CloneFlags::INTO_CGROUP) {
            return Err(Errno::EOPNOTSUPP);
        }
        Ok(())
    }

    /// Makes the task, not yet visible to anybody.
    fn prepare_child(&mut self, args: &CloneArgs) -> Result<(Arc<Task>, Start), Errno> {
        let flags = args.flags;
        if self.container().is_full() {
            return Err(Errno::EAGAIN);
        }
        let creds = match flags.contains(CloneFlags::NEWUSER) {
            true => Arc::new(self.creds_in_new_namespace()?),
            false => self.creds_ref().clone(),
        };
        let mounts_share = self.share_of_mounts(flags, &creds.user_ns)?;
        let namespaces = self.new_namespaces(flags, &creds.user_ns)?;
        // The platform's part first: it is the one that fails for want of resources.
        let mm = if flags.contains(CloneFlags::VM) {
            self.mm.get().space_ref().reserve_context().map_err(|e| {
                tracing::warn!("another thread: {e}");
                Errno::EAGAIN
            })?;
            self.mm.join()
        } else {
            let mm: Arc<Mm> = self.mm.get().fork()?;
            Users::new(mm)
        };
        let mut extended = Vec::new();
        if let Err(e) = self.context.extended_state(&mut extended) {
            tracing::warn!("extended state: {e}");
        }
        let fds = if flags.contains(CloneFlags::FILES) {
            self.fds.join()
        } else {
            Users::new(self.fds.get().fork())
        };
        let mut mounts = self.mounts.clone();
        let fs = if flags.contains(CloneFlags::FS) {
            self.fs.join()
        } else {
            let own = self.fs.get().fork();
            if let Some(share) = mounts_share {
                mounts = own.move_to_copy_of(&mounts, &creds.user_ns, share);
            }
            Users::new(Arc::new(own))
        };
        let space = namespaces.pid_for_children.clone();
        let mut state = self.child_state(args, creds.clone(), namespaces);
        let pid = match self.choose_pid(args, &space) {
            Ok(pid) => pid,
            Err(e) => {
                give_up(&mm, &fds, &fs);
                return Err(e);
            }
        };
        let group = if flags.contains(CloneFlags::THREAD) {
            self.group().clone()
        } else {
            self.new_group(flags, &pid, &space)
        };
        (state.mm, state.fds, state.fs) = (Some(mm.clone()), Some(fds.clone()), Some(fs.clone()));
        state.mounts = Some(mounts.clone());
        let task = Task::new(
            self.kernel().clone(),
            group,
            pid,
            self.task.blocked(),
            state,
        );
        let mut regs = self.regs;
        if self.forced_step {
            regs.eflags &= !TRAP_FLAG;
        }
        regs.rax = 0;
        if args.stack != 0 {
            regs.rsp = args.stack;
        }
        if flags.contains(CloneFlags::SETTLS) {
            regs.fs_base = args.tls;
        }
        // A thread that shares memory starts without an alternate stack, unless it is a vfork.
        let keeps = !flags.contains(CloneFlags::VM) || flags.contains(CloneFlags::VFORK);
        let altstack = if keeps {
            self.altstack
        } else {
            AltStack::DISABLED
        };
        let start = Start {
            task: task.clone(),
            regs,
            mm,
            fds,
            fs,
            mounts,
            altstack,
            extended: Some(extended),
        };
        Ok((task, start))
    }

    fn choose_pid(&self, args: &CloneArgs, space: &Arc<PidNamespace>) -> Result<Pid, Errno> {
        let creds = self.creds_ref();
        let may_want = |owner: &UserNamespace| {
            creds.has_in(owner, Capability::SysAdmin)
                || creds.has_in(owner, Capability::CheckpointRestore)
        };
        let outermost = self.kernel().pid_namespace();
        let mut tree = self.kernel().tree.lock();
        tree.allocate(outermost, space, &args.set_tid, &may_want)
    }

    fn new_group(
        &self,
        flags: CloneFlags,
        pid: &Pid,
        space: &Arc<PidNamespace>,
    ) -> Arc<ThreadGroup> {
        let parent = self.group();
        let actions = if flags.contains(CloneFlags::SIGHAND) {
            parent.actions()
        } else {
            let copy = parent.actions().fork();
            if flags.contains(CloneFlags::CLEAR_SIGHAND) {
                copy.clear_handlers();
            }
            Arc::new(copy)
        };
        let group = ThreadGroup::new(
            self.kernel(),
            self.container(),
            (pid.clone(), space),
            actions,
            Limits::new(parent.limits().all()),
        );
        let init = group.is_nested_init();
        group.unkillable.store(init, Ordering::Relaxed);
        group.inherit_oom_score(parent);
        group.set_dump_filter(parent.dump_filter());
        group.timers().cpu_limit_changed();
        group
    }

    fn child_state(
        &self,
        args: &CloneArgs,
        creds: Arc<Creds>,
        namespaces: Namespaces,
    ) -> TaskState {
        let st = self.task.state.lock();
        let reset = st.reset_on_fork;
        TaskState {
            creds,
            mm: None,
            fds: None,
            fs: None,
            mounts: None,
            namespaces: Some(namespaces),
            name: st.name,
            parent_death_signal: 0,
            clear_child_tid: if args.flags.contains(CloneFlags::CHILD_CLEARTID) {
                args.child_tid
            } else {
                0
            },
            robust_list: 0,
            vfork: None,
            personality: st.personality,
            nice: if reset { st.nice.max(0) } else { st.nice },
            policy: if reset && matches!(st.policy, 1 | 2) {
                0
            } else {
                st.policy
            },
            priority: if reset { 0 } else { st.priority },
            reset_on_fork: false,
            affinity: st.affinity.clone(),
            timer_slack: st.timer_slack,
            default_slack: st.timer_slack,
            io_priority: st.io_priority,
            filter: None,
        }
    }

    /// Puts the task into the tree, and its id where the flags ask for it.
    fn publish(
        &mut self,
        args: &CloneArgs,
        traced: bool,
        child: &Arc<Task>,
        start: &Start,
    ) -> Result<(), Errno> {
        let flags = args.flags;
        let pid = child.pid();
        let pidfd = if flags.contains(CloneFlags::PIDFD) {
            let fd = pidfd::install(self, child.group().clone(), false)?;
            if let Err(e) = self.memory().write_obj(args.pidfd, &fd) {
                let _ = self.fds.get().close(self, fd);
                return Err(e);
            }
            Some(fd)
        } else {
            None
        };
        let entered = self.enter_tree(flags, traced, args.exit_signal, child);
        if let Err(e) = entered {
            if let Some(fd) = pidfd {
                let _ = self.fds.get().close(self, fd);
            }
            return Err(e);
        }
        // As Linux, a bad address here is no error.
        if flags.contains(CloneFlags::PARENT_SETTID) {
            let number = pid.seen_from(self.pid_namespace().space());
            let _ = self.memory().write_obj(args.parent_tid, &number);
        }
        if flags.contains(CloneFlags::CHILD_SETTID) {
            let _ = start.mm.get().write_obj(args.child_tid, &pid.own());
        }
        Ok(())
    }

    fn enter_tree(
        &self,
        flags: CloneFlags,
        traced: bool,
        exit_signal: i32,
        child: &Arc<Task>,
    ) -> Result<(), Errno> {
        let mut tree = self.kernel().tree.lock();
        let me = self.group();
        let mut st = me.state.lock();
        // Others may have become as many as there may be since the id was chosen.
        let container = self.container();
        let closed = tree.closed || container.is_closed();
        if container.is_full() || closed || st.ends(&self.task) {
            return Err(Errno::EAGAIN);
        }
        let space = child.group().pid_namespace();
        if space.is_nested() && space.numbers().closed {
            return Err(Errno::ENOMEM);
        }
        child.inherit_confinement(&self.task);
        if flags.contains(CloneFlags::THREAD) {
            st.threads.push(child.clone());
            if st.stop.is_some() {
                child.work.store(true, Ordering::SeqCst);
            }
            drop(st);
        } else {
            let forking = st.forking.iter().find(|(tid, _)| *tid == self.task.tid());
            let mut sent = forking.map_or(SigSet::EMPTY, |(_, sent)| *sent);
            drop(st);
            let mut own = child.group().state.lock();
            while let Some(signal) = sent.first() {
                sent = sent.without(signal);
                let info = SigInfo::user(signal, 0, 0, 0);
                let _ = own.pending.add(signal, info, u64::MAX);
                child.work.store(true, Ordering::SeqCst);
            }
            own.threads.push(child.clone());
            drop(own);
            let pid = me.tgid();
            let Some(node) = tree.nodes.get(&pid) else {
                return Err(Errno::EAGAIN);
            };
            let (pgid, sid) = (node.pgid, node.sid);
            let (parent, parent_tid, exit_signal) = if flags.contains(CloneFlags::PARENT) {
                (node.parent, node.parent_tid, node.exit_signal)
            } else {
                (pid, self.task.tid(), exit_signal)
            };
            tree.insert(
                child.group().clone(),
                parent,
                parent_tid,
                pgid,
                sid,
                exit_signal,
            );
        }
        container.pause_new(&tree, child);
        tree.add_task(child.tid(), child);
        if traced || flags.contains(CloneFlags::PTRACE) {
            tree.link_child(child, &self.task);
        }
        let group = child.group();
        if group.is_nested_init() && child.tid() == group.tgid() {
            group.pid_namespace().numbers().init = Some(group.tgid());
        }
        Ok(())
    }

    /// Takes back a task whose thread could not be had.
    fn unpublish(&mut self, child: &Arc<Task>) {
        let mut tree = self.kernel().tree.lock();
        let (mm, fds, fs) = {
            let mut st = child.state.lock();
            (st.mm.take(), st.fds.take(), st.fs.take())
        };
        child.exiting.store(true, Ordering::SeqCst);
        child
            .group()
            .state
            .lock()
            .threads
            .retain(|t| !Arc::ptr_eq(t, child));
        let mut after = After::default();
        tree.unlink(child, &mut after);
        let task = tree.drop_task(child.tid());
        let gone = if child.tid() == child.tgid() {
            tree.remove(child.tid())
        } else {
            None
        };
        drop(tree);
        drop((gone, task, after));
        for (mm, fds, fs) in mm.into_iter().zip(fds).zip(fs).map(|((a, b), c)| (a, b, c)) {
            if mm.leave() {
                mm.get().destroy();
            }
            fds.leave();
            fs.leave();
        }
    }
}

/// A start that never came into the tree.
fn abandon(start: Start) {
    let taken = {
        let mut st = start.task.state.lock();
        (st.mm.take(), st.fds.take(), st.fs.take())
    };
    drop(taken);
    give_up(&start.mm, &start.fds, &start.fs);
}

/// Leaves what a task was to have.
fn give_up(mm: &Users<Mm>, fds: &Users<FdTable>, fs: &Users<FsContext>) {
    fds.leave();
    fs.leave();
    if mm.leave() {
        mm.get().destroy();
    }
}
