//! What a handler works with: the running task and all that only it may touch.

use crate::cpu::Phase;
use crate::frame::Trap;
use crate::run::{Pending, Start};
use crate::users::Users;
use crate::{Container, ExitStatus, FsContext, Kernel, Namespaces, Task, ThreadGroup};
use abi::Errno;
use auth::{Creds, Share};
use ctx::{Ctx, JobControl, Pid, PidSpace, Resource, Restart, SysResult, UserMemory, Wake};
use mm::{Mm, MmLimits};
use platform_api::{Context, Registers};
use signal::{AltStack, SigInfo, SigSet, Signal};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use sync::observe::{self, Interest};
use time::Clocks;
use vfs::sigio::{Owner, OwnerKind};
use vfs::{FdTable, FsCtx, MountNamespace, VfsPath};
use wait::Waker;

/// How a call goes on after restart_syscall(2).
pub type RestartFn = Box<dyn FnOnce(&mut TaskCx) -> SysResult<u64> + Send>;

/// The running task. Lives on its host thread and nowhere else.
pub struct TaskCx {
    pub(crate) task: Arc<Task>,
    kernel: Arc<Kernel>,
    pub(crate) context: Box<dyn Context>,
    pub(crate) regs: Registers,
    pub(crate) mm: Arc<Users<Mm>>,
    pub(crate) fds: Arc<Users<FdTable>>,
    pub(crate) fs: Arc<Users<FsContext>>,
    creds: Arc<Creds>,
    pub(crate) mounts: Arc<MountNamespace>,
    pub(crate) namespaces: Namespaces,
    pub(crate) altstack: AltStack,
    /// What the last exception left for signal frames.
    pub(crate) trap: Trap,
    /// The mask to go back to once a signal has been delivered, or has turned out not to be.
    pub(crate) saved_mask: Option<SigSet>,
    /// The call's result stands, and signals come in by the temporary mask all the same.
    pub(crate) mask_stays: bool,
    pub(crate) restart: Option<RestartFn>,
    /// What becomes of the system call that has just ended.
    pub(crate) pending: Pending,
    /// The extended state a new task starts with.
    pub(crate) extended: Option<Vec<u8>>,
    pub(crate) exit: Option<ExitStatus>,
    /// The task's filter when it was last looked at.
    pub(crate) filter: Option<Arc<seccomp::Filter>>,
    /// The trap flag among its flags is its tracer's, not its own.
    pub(crate) forced_step: bool,
    /// It was told to step when it last went on.
    pub(crate) steps: bool,
}

impl TaskCx {
    pub(crate) fn new(start: Start, context: Box<dyn Context>) -> TaskCx {
        let Start {
            task,
            regs,
            mm,
            fds,
            fs,
            mounts,
            altstack,
            extended,
        } = start;
        let creds = task.creds();
        let namespaces = task.namespaces();
        let namespaces = namespaces.unwrap_or_else(|| Namespaces::of(task.group().container()));
        TaskCx {
            kernel: task.kernel().clone(),
            task,
            context,
            regs,
            mm,
            fds,
            fs,
            creds,
            mounts,
            namespaces,
            altstack,
            trap: Trap::default(),
            saved_mask: None,
            mask_stays: false,
            restart: None,
            pending: Pending::None,
            extended,
            exit: None,
            filter: None,
            forced_step: false,
            steps: false,
        }
    }

    /// Gives the context back, and the id of the address space it ran last.
    pub(crate) fn finish(self) -> (Box<dyn Context>, Option<u64>) {
        (self.context, Some(self.mm.get().id()))
    }

    /// The task.
    pub fn task(&self) -> &Arc<Task> {
        &self.task
    }

    /// Its process.
    pub fn group(&self) -> &Arc<ThreadGroup> {
        self.task.group()
    }

    /// The sandbox's kernel.
    pub fn kernel(&self) -> &Arc<Kernel> {
        &self.kernel
    }

    /// The container it belongs to.
    pub fn container(&self) -> &Arc<Container> {
        self.group().container()
    }

    /// Its memory.
    pub fn mm(&self) -> &Arc<Mm> {
        self.mm.get()
    }

    /// The registers.
    pub fn regs(&self) -> &Registers {
        &self.regs
    }

    /// The registers, to change.
    pub fn regs_mut(&mut self) -> &mut Registers {
        &mut self.regs
    }

    /// The descriptor table, without a reference count.
    pub fn fd_table(&self) -> &Arc<FdTable> {
        self.fds.get()
    }

    /// Working directory, root and umask.
    pub fn fs(&self) -> &Arc<FsContext> {
        self.fs.get()
    }

    /// Resource limits that concern memory.
    pub fn mm_limits(&self) -> MmLimits {
        self.group().limits().memory()
    }

    /// There is no memory for it to go on with: its process is killed, unless it has been.
    pub(crate) fn starved(&self) {
        let group = self.group();
        if !group.is_ending() {
            tracing::warn!(
                pid = group.tgid(),
                "no memory can be had for a process of the container; it is killed"
            );
        }
        group.kill(ExitStatus::Killed {
            signal: Signal::KILL,
        });
    }

    /// Its credentials, borrowed.
    pub fn creds_ref(&self) -> &Arc<Creds> {
        &self.creds
    }

    /// Changes its credentials (setuid(2) and so on).
    pub fn set_creds(&mut self, creds: Creds) {
        let creds = Arc::new(creds);
        let ids_changed = self.creds.euid != creds.euid
            || self.creds.egid != creds.egid
            || self.creds.fsuid != creds.fsuid
            || self.creds.fsgid != creds.fsgid
            || !self.creds.covers(&creds);
        if ids_changed {
            // First, so that nobody sees the new ids of a program that still can be looked into.
            self.mm().update_exec_info(|i| i.dumpable = 0);
        }
        {
            let mut st = self.task.state.lock();
            st.creds = creds.clone();
            if ids_changed {
                st.parent_death_signal = 0;
            }
        }
        self.creds = creds;
    }

    /// For an exec, which has its own rules.
    pub(crate) fn replace_creds(&mut self, creds: Arc<Creds>) {
        self.task.state.lock().creds = creds.clone();
        self.creds = creds;
    }

    /// Changes the working directory.
    pub fn set_cwd(&mut self, cwd: VfsPath) {
        self.fs.get().set_cwd(cwd);
    }

    /// Changes the root directory.
    pub fn set_root(&mut self, root: VfsPath) {
        self.fs.get().set_root(root);
    }

    /// Changes the umask; returns the former one.
    pub fn set_umask(&mut self, umask: u32) -> u32 {
        self.fs.get().set_umask(umask)
    }

    /// Makes the descriptor table its own (`CLONE_FILES` of unshare(2), close_range(2), exec).
    pub fn unshare_fds(&mut self) {
        if self.fds.is_shared() {
            let own = Users::new(self.fds.get().fork());
            let old = std::mem::replace(&mut self.fds, own.clone());
            self.task.state.lock().fds = Some(own);
            if old.leave() {
                old.get().close_all(self);
            }
        }
    }

    /// Makes working directory, root and umask its own (`CLONE_FS` of unshare(2)).
    pub fn unshare_fs(&mut self) {
        if self.fs.is_shared() {
            let own = Users::new(Arc::new(self.fs.get().fork()));
            let old = std::mem::replace(&mut self.fs, own.clone());
            self.task.state.lock().fs = Some(own);
            old.leave();
        }
    }

    /// Whether another task has the same working directory, root and umask (`CLONE_FS`).
    pub fn shares_fs(&self) -> bool {
        self.fs.is_shared()
    }

    /// Whether a task of another process has the same working directory, root and umask.
    pub(crate) fn shares_fs_with_others(&self) -> bool {
        if !self.fs.is_shared() {
            return false;
        }
        let all = self.fs.users();
        let threads = self.group().threads();
        let same = |t: &&Arc<Task>| {
            let fs = &t.state.lock().fs;
            fs.as_ref().is_some_and(|fs| Arc::ptr_eq(fs, &self.fs))
        };
        all > threads.iter().filter(same).count()
    }

    /// Makes the mounts it sees its own, counted as `share` (`CLONE_NEWNS` of unshare(2)).
    pub fn unshare_mounts(&mut self, share: Share) {
        self.unshare_fs();
        self.mounts = self
            .fs
            .get()
            .move_to_copy_of(&self.mounts, &self.creds.user_ns, share);
        let old = self.task.state.lock().mounts.replace(self.mounts.clone());
        drop(old);
    }

    /// Ends the call so that it goes on by restart_syscall(2) with `with`, unless a handler runs.
    ///
    /// # Errors
    /// Always: [`Restart::Block`], for the caller to return.
    pub fn restart_with<T>(&mut self, with: RestartFn) -> SysResult<T> {
        self.restart = Some(with);
        Err(Restart::Block.into())
    }

    /// restart_syscall(2).
    ///
    /// # Errors
    /// `EINTR` where there is nothing to go on with; those of the call that goes on.
    pub fn restart_syscall(&mut self) -> SysResult<u64> {
        match self.restart.take() {
            Some(f) => f(self),
            None => Err(Errno::EINTR.into()),
        }
    }

    /// Ends the thread (exit(2)), once the handler returns.
    pub fn exit_thread(&mut self, code: i32) {
        self.exit = Some(ExitStatus::Exited(code as u8));
    }

    /// Ends the process (exit_group(2)), once the handler returns.
    pub fn exit_group(&mut self, code: i32) {
        let status = ExitStatus::Exited(code as u8);
        self.group().kill(status);
        self.exit = Some(status);
    }

    /// Sends itself a signal with details.
    pub fn raise_info(&self, info: SigInfo) {
        if let Ok(signal) = Signal::new(info.signo) {
            let _ = self.group().send_to(&self.task, signal, info);
        }
    }

    pub(crate) fn set_interrupter(&self) {
        self.task.waker().bind();
        self.task.set_interrupter(self.context.interrupter());
    }
}

impl Ctx for TaskCx {
    fn creds(&self) -> Arc<Creds> {
        self.creds.clone()
    }

    fn memory(&self) -> &dyn UserMemory {
        &**self.mm.get()
    }

    fn clocks(&self) -> &Clocks {
        self.kernel.clocks()
    }

    fn waker(&self) -> &Arc<Waker> {
        self.task.waker()
    }

    fn park(&self, deadline: Option<Instant>) -> Wake {
        if self.interrupted() {
            return Wake::Interrupted;
        }
        let woken = self.sleep(deadline);
        if self.task.work.load(Ordering::SeqCst) {
            if self.wanted_elsewhere() {
                return Wake::Interrupted;
            }
            if self.container().is_paused() {
                self.sleep_paused();
                // What it waits for may have come meanwhile: it is to look again.
                return match self.interrupted() {
                    true => Wake::Interrupted,
                    false => Wake::Notified,
                };
            }
        }
        if woken {
            Wake::Notified
        } else {
            Wake::TimedOut
        }
    }

    fn interrupted(&self) -> bool {
        self.task.work.load(Ordering::SeqCst) && self.wanted_elsewhere()
    }

    fn raise(&self, signal: i32) {
        if let Ok(signal) = Signal::new(signal) {
            // As if it had sent it to itself.
            let info = SigInfo::user(
                signal,
                0,
                self.pid(),
                self.creds.user_ns.shown_uid(self.creds.ruid),
            );
            let _ = self.group().send_to(&self.task, signal, info);
        }
    }

    fn limit(&self, resource: Resource) -> u64 {
        self.group().limits().get(resource).soft
    }

    #[inline]
    fn pid(&self) -> i32 {
        self.group().pid().own()
    }

    #[inline]
    fn tid(&self) -> i32 {
        self.task.pid().own()
    }

    fn pid_space(&self) -> PidSpace {
        self.pid_namespace().space()
    }

    fn process_id(&self) -> Pid {
        self.group().pid().clone()
    }

    fn thread_id(&self) -> Pid {
        self.task.pid().clone()
    }

    fn process(&self) -> u64 {
        self.group().serial()
    }

    fn job(&self) -> Option<&dyn JobControl> {
        Some(self)
    }
}

impl FsCtx for TaskCx {
    fn cwd(&self) -> VfsPath {
        self.fs.get().cwd()
    }

    fn root(&self) -> VfsPath {
        self.fs.get().root()
    }

    fn umask(&self) -> u32 {
        self.fs.get().umask()
    }

    fn fds(&self) -> Arc<FdTable> {
        self.fds.get().clone()
    }

    fn mounts(&self) -> Arc<MountNamespace> {
        self.mounts.clone()
    }

    fn file_owner(&self, kind: OwnerKind, id: i32) -> Option<Arc<dyn Owner>> {
        self.make_file_owner(kind, id)
    }
}

impl TaskCx {
    /// Until woken, or until `deadline`; whether it was woken.
    pub(crate) fn sleep(&self, deadline: Option<Instant>) -> bool {
        self.task.cpu.enter(Phase::Parked);
        let start = self.task.cpu.since();
        let woken = self.task.waker().park(deadline);
        self.task.cpu.enter(Phase::Sentry);
        if self.kernel.watch.get().trace() {
            self.trace_sleep(start, woken);
        }
        if observe::wanted(Interest::Sleeps) {
            observe::waited(self.kernel.epoch() + Duration::from_nanos(start));
        }
        woken
    }

    /// Parks until `done` says so; only the end of the task ends it early (`false`).
    pub(crate) fn park_killable(&self, mut done: impl FnMut() -> bool) -> bool {
        loop {
            if done() {
                return true;
            }
            if self.is_killed() {
                return false;
            }
            self.sleep(None);
        }
    }

    /// Whether its process or it alone is being killed.
    pub fn is_killed(&self) -> bool {
        self.group().state.lock().ends(&self.task)
    }
}

impl std::fmt::Debug for TaskCx {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "TaskCx({})", self.task.tid())
    }
}
