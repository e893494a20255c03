//! execve(2): a new program in an old process; and the first process of all.

use crate::attributes::Scheduling;
use crate::exit::After;
use crate::limits::{Limits, RESOURCES, Rlimit};
use crate::run::Start;
use crate::task::TaskState;
use crate::users::Users;
use crate::{Container, FsContext, Kernel, Namespaces, Task, TaskCx, ThreadGroup};
use abi::Errno;
use auth::{CapSet, Capability, Creds, Securebits, UserNamespace};
use ctx::{Pid, SysErr, SysResult, Terminal};
use loader::{ByDescriptor, LoadOptions, Loaded, Program};
use mm::{Mm, MmLimits};
use platform_api::Registers;
use signal::{Actions, AltStack, SigSet, Signal};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use vfs::{FdTable, FsCtx, KernelFsCtx, LookupFlags, MountNamespace, Start as Where, VfsPath};

/// personality(2)'s `ADDR_NO_RANDOMIZE`.
const ADDR_NO_RANDOMIZE: u32 = 0x0004_0000;
/// What a set-id program does not inherit of a personality.
const PER_CLEAR_ON_SETID: u32 = ADDR_NO_RANDOMIZE | 0x0010_0000 | 0x0040_0000 | 0x0020_0000;

/// The number of the container's first process, kept for it from the beginning.
pub(crate) const INIT: i32 = 1;

/// A program, loaded into a fresh address space.
struct Prepared {
    mm: Arc<Mm>,
    regs: Registers,
    creds: Arc<Creds>,
    secure: bool,
    /// It can do more than it could, or is another user or group.
    gains: bool,
    /// What was so when that was decided.
    by: Unsafe,
    name: Vec<u8>,
}

/// What makes it unsafe that a program gains anything by its file (`LSM_UNSAFE_*`).
#[derive(Clone, Default)]
struct Unsafe {
    no_new_privs: bool,
    /// Another process could change its root and working directory.
    shared: bool,
    tracer: Option<Arc<Creds>>,
}

/// The credentials that `program` runs with, and whether it gained anything by its file.
fn exec_creds(cx: &dyn FsCtx, program: &Program, by: &Unsafe) -> Result<(Creds, bool), Errno> {
    let old = cx.creds();
    let mut new = Creds::clone(&old);
    let attr = program.file().attr(cx)?;
    let honoured = program
        .file()
        .path()
        .is_none_or(|p| p.mount.honours_set_id(&old.user_ns) && p.mount.is_in(&cx.mounts()));
    // A user or group without a name here is none that the program could be run as.
    if honoured && !by.no_new_privs && old.user_ns.names(attr.uid, attr.gid) {
        if attr.perm & 0o4000 != 0 {
            new.euid = attr.uid;
        }
        // Set-gid without group execution is the mark of mandatory locking.
        if attr.perm & 0o2010 == 0o2010 {
            new.egid = attr.gid;
        }
    }
    let set_id = new.euid != old.euid || !old.in_group(new.egid);
    (new.suid, new.fsuid) = (new.euid, new.euid);
    (new.sgid, new.fsgid) = (new.egid, new.egid);
    // capabilities(7), "Transformation of capabilities during execve()". No file carries
    // capabilities of its own here; root is as if all did.
    if set_id {
        new.ambient = CapSet::EMPTY;
    }
    let root = |uid: u32| new.is_root(uid);
    let is_root =
        !new.securebits.contains(Securebits::NOROOT) && (root(new.euid) || root(new.ruid));
    let as_root = is_root && root(new.euid);
    if is_root {
        new.permitted = old.inheritable | old.bounding;
        new.effective = match as_root {
            true => new.permitted,
            false => CapSet::EMPTY,
        };
        new.ambient = if new.ambient == CapSet::EMPTY {
            CapSet::EMPTY
        } else {
            new.ambient
        };
    } else {
        new.permitted = new.ambient;
        new.effective = new.ambient;
    }
    // What a tracer could not have, its tracee does not get; nor does who asked not to.
    let gains = set_id || !old.permitted.contains(new.permitted);
    let traced = |t: &Arc<Creds>| !t.has_in(&new.user_ns, Capability::SysPtrace);
    if gains && (by.no_new_privs || by.shared || by.tracer.as_ref().is_some_and(traced)) {
        if by.no_new_privs || !old.has_own(Capability::Setuid) {
            (new.euid, new.egid) = (new.ruid, new.rgid);
            (new.suid, new.fsuid) = (new.euid, new.euid);
            (new.sgid, new.fsgid) = (new.egid, new.egid);
        }
        new.permitted = new.permitted & old.permitted;
        new.effective = new.effective & new.permitted;
    }
    new.securebits -= Securebits::KEEP_CAPS;
    let secure = set_id
        || new.ruid != new.euid
        || new.rgid != new.egid
        || (!new.is_root(new.ruid) && (as_root || !new.ambient.contains(new.permitted)));
    Ok((new, secure))
}

/// The innermost user namespace around the caller that knows both ids of the program's file: there,
/// one may be capable of reading it.
fn may_be_read_in(cx: &dyn FsCtx, program: &Program) -> Result<UserNamespace, Errno> {
    let mut ns = cx.creds().user_ns.clone();
    if !ns.is_first() {
        let attr = program.file().attr(cx)?;
        while !ns.names(attr.uid, attr.gid)
            && let Some(parent) = ns.parent()
        {
            ns = parent.clone();
        }
    }
    Ok(ns)
}

/// Why there is no new program.
enum Refusal {
    /// execve(2) fails with this.
    Call(SysErr),
    /// Found only when Linux has given the old program up already: it kills the process.
    TooLate(SysErr),
}

impl From<Errno> for Refusal {
    fn from(e: Errno) -> Refusal {
        Refusal::Call(e.into())
    }
}

fn prepare(
    cx: &dyn FsCtx,
    (kernel, container): (&Kernel, &Container),
    program: Program,
    limits: &MmLimits,
    personality: u32,
    by: Unsafe,
) -> Result<Prepared, Refusal> {
    let (creds, secure) = exec_creds(cx, &program, &by)?;
    let old = cx.creds();
    let set_id = creds.euid != old.euid || creds.egid != old.egid;
    let reader = may_be_read_in(cx, &program)?;
    let gains = set_id || !old.permitted.contains(creds.permitted);
    let mm = Mm::new(kernel.engine(), container.memory())?;
    let name = program.name().to_vec();
    let options = LoadOptions {
        limits: *limits,
        randomize: personality & ADDR_NO_RANDOMIZE == 0 || secure,
        ids: [
            creds.user_ns.shown_uid(creds.ruid),
            creds.user_ns.shown_uid(creds.euid),
            creds.user_ns.shown_gid(creds.rgid),
            creds.user_ns.shown_gid(creds.egid),
        ],
        secure,
        vdso: Some((kernel.vdso().params(), kernel.vdso().image())),
    };
    match loader::load(cx, &mm, program, &options) {
        Ok(Loaded { entry, stack }) => {
            let regs = Registers {
                rip: entry,
                rsp: stack,
                ..Registers::user()
            };
            mm.update_exec_info(|i| {
                i.user_ns = match i.dumpable {
                    0 => reader,
                    _ => creds.user_ns.clone(),
                };
                if secure {
                    i.dumpable = 0;
                }
            });
            Ok(Prepared {
                mm,
                regs,
                creds: Arc::new(creds),
                secure,
                gains,
                by,
                name,
            })
        }
        Err(e) => {
            mm.destroy();
            Err(Refusal::TooLate(e))
        }
    }
}

impl TaskCx {
    /// execve(2), execveat(2): `path` from `start`, called as `by` says.
    ///
    /// # Errors
    /// Those of execve(2). A success returns into the new program.
    pub fn exec(
        &mut self,
        start: Where,
        path: &[u8],
        lookup: LookupFlags,
        by: Option<&ByDescriptor>,
        argv: Vec<Vec<u8>>,
        envp: Vec<Vec<u8>>,
    ) -> SysResult<u64> {
        let limits = self.mm_limits();
        let personality = self.personality();
        let program = Program::open(self, start, path, lookup, by, argv, envp)?;
        let kernel = self.kernel().clone();
        let by = Unsafe {
            no_new_privs: self.task.no_new_privs(),
            shared: self.shares_fs_with_others(),
            tracer: self.task.tracer_creds(),
        };
        let own = self.container().clone();
        let prepared = prepare(self, (&kernel, &own), program, &limits, personality, by);
        match prepared {
            Ok(prepared) => {
                let old = self.task.pid().clone();
                if !self.be_alone() {
                    prepared.mm.destroy();
                    // It is being killed: what it returns does not matter.
                    return Err(Errno::EINTR.into());
                }
                let by = &prepared.by;
                let late = (self.task.no_new_privs() && !by.no_new_privs)
                    || (self.shares_fs() && !by.shared);
                if prepared.gains && late {
                    // Another thread gave its filters to all (seccomp(2), `TSYNC`), and this
                    // with them, or its directories to another process, after the credentials had
                    // been decided on.
                    prepared.mm.destroy();
                    self.die(Signal::KILL);
                    return Err(Errno::EPERM.into());
                }
                self.become_program(prepared);
                self.trace_exec(&old);
                Ok(0)
            }
            Err(Refusal::Call(e)) => Err(e),
            Err(Refusal::TooLate(e)) => {
                self.die(Signal::SEGV);
                Err(e)
            }
        }
    }

    /// Ends all other threads, and takes the leader's place; `false` where it is to end itself.
    fn be_alone(&mut self) -> bool {
        let me = self.task.clone();
        let group = me.group().clone();
        {
            let mut st = group.state.lock();
            if st.ends(&me) {
                return false;
            }
            st.exec = Some(me.tid());
            st.stop = None;
            for t in &st.threads {
                if !Arc::ptr_eq(t, &me) {
                    t.interrupt();
                }
            }
        }
        let alone = self.park_killable(|| group.state.lock().threads.len() == 1);
        let mut tree = self.kernel().tree.lock();
        let mut st = group.state.lock();
        st.exec = None;
        if !alone {
            return false;
        }
        let old = me.tid();
        let mut after = After::default();
        if old != group.tgid() {
            // Its tracer hears no more of the leader that there was, and may sleep for that.
            let leader = tree.tasks.get(&group.tgid()).cloned();
            if let Some(leader) = leader {
                drop(st);
                let tracer = leader.tracer();
                after.parents.extend(tracer.map(|t| t.group().clone()));
                tree.unlink(&leader, &mut after);
                after.garbage.push(Box::new(leader));
                st = group.state.lock();
            }
            let renamed = tree.drop_task(old);
            me.tid.store(group.tgid(), Ordering::SeqCst);
            let leader = tree.add_task(group.tgid(), &me);
            for n in tree.nodes.values_mut() {
                if n.parent_tid == old {
                    n.parent_tid = group.tgid();
                }
            }
            drop(st);
            drop(tree);
            drop((leader, renamed));
            after.settle(self.kernel());
        }
        true
    }

    /// The point of no return.
    fn become_program(&mut self, new: Prepared) {
        self.release_memory_words();
        self.unshare_fds();
        let mm = Users::new(new.mm);
        self.leave_memory(Some(mm));
        let fds = self.fds.get().clone();
        fds.close_on_exec(self);

        let group = self.group().clone();
        {
            let mut st = group.state.lock();
            // CLONE_SIGHAND may have shared them with another process.
            let own = Arc::new(st.actions.fork());
            own.reset_for_exec();
            st.actions = own;
        }
        group.timers().exec();
        if let Some(n) = self.kernel().tree.lock().nodes.get_mut(&group.tgid()) {
            n.has_execed = true;
            n.exit_signal = Signal::CHLD.number();
        }
        self.altstack = AltStack::DISABLED;
        self.saved_mask = None;
        self.restart = None;
        {
            let mut st = self.task.state.lock();
            st.clear_child_tid = 0;
            st.robust_list = 0;
            if new.secure {
                st.personality &= !PER_CLEAR_ON_SETID;
                st.parent_death_signal = 0;
            }
        }
        self.task.set_name(&new.name);
        let late = {
            // Who began to trace it meanwhile knew it as it was.
            let kernel = self.kernel().clone();
            let _tree = kernel.tree.lock();
            let late = new.gains && self.task.was_traced_since(&new.by.tracer);
            if !late {
                self.replace_creds(new.creds);
            }
            late
        };
        if late {
            self.die(Signal::KILL);
        }
        self.regs = Registers {
            // What a tracer knows the call by, which has no result yet.
            orig_rax: self.regs.orig_rax,
            rax: Errno::ENOSYS.to_return(),
            ..new.regs
        };
        self.forced_step = false;
        if let Err(e) = self.context.set_extended_state(&[]) {
            tracing::warn!("extended state: {e}");
        }
    }
}

/// A process made from outside: the first one, or one that `exec` puts beside it.
pub struct ProcessSpec {
    /// The container it is in.
    pub container: Arc<Container>,
    /// The program, as in execve(2): not looked for in `PATH`.
    pub path: Vec<u8>,
    /// Arguments, the zeroth included.
    pub argv: Vec<Vec<u8>>,
    /// Environment.
    pub envp: Vec<Vec<u8>>,
    /// Credentials.
    pub creds: Creds,
    /// Mounts it sees.
    pub mounts: Arc<MountNamespace>,
    /// Its root directory.
    pub root: VfsPath,
    /// Where it begins.
    pub cwd: VfsPath,
    /// File mode creation mask.
    pub umask: u32,
    /// Its descriptors.
    pub fds: Arc<FdTable>,
    /// Resource limits.
    pub limits: [Rlimit; RESOURCES],
    /// Its controlling terminal.
    pub terminal: Option<Arc<dyn Terminal>>,
    /// Signals it starts with blocked.
    pub blocked: SigSet,
    /// /proc/PID/oom_score_adj
    pub oom_score_adj: i32,
    /// Its nice value.
    pub nice: i32,
    /// How it is scheduled.
    pub scheduling: Scheduling,
    /// ioprio_get(2)
    pub io_priority: i32,
    /// personality(2)
    pub personality: u32,
    /// Virtual CPUs it may run on, as bits; all where absent.
    pub affinity: Option<Vec<u8>>,
    /// Whether it is process 1, of which there is one.
    pub init: bool,
    /// Whether, as process 1, it can be ended by signals all the same.
    pub mortal: bool,
    /// Whether execs gain it nothing.
    pub no_new_privs: bool,
    /// What its system calls go through, the execve(2) that it starts with included.
    pub filter: Option<Arc<seccomp::Filter>>,
}

impl Kernel {
    /// Starts a process in a session of its own. With init, process 1, the sandbox ends.
    ///
    /// # Errors
    /// Those of execve(2), `EAGAIN` and `ENOMEM` for want of resources.
    pub fn spawn(self: &Arc<Self>, spec: ProcessSpec) -> Result<Arc<Task>, Errno> {
        let limits = Limits::new(spec.limits);
        let mut cx = KernelFsCtx::with_creds(
            self.clocks().clone(),
            spec.mounts.clone(),
            Arc::new(spec.creds),
        );
        cx.set_root(spec.root.clone());
        cx.set_cwd(spec.cwd.clone());
        cx.set_umask(spec.umask);
        let errno = |e: SysErr| e.errno();
        let program = Program::open(
            &cx,
            Where::Cwd,
            &spec.path,
            LookupFlags::FOLLOW,
            None,
            spec.argv,
            spec.envp,
        )
        .map_err(errno)?;
        if let Some(filter) = &spec.filter {
            crate::confine::may_start(filter)?;
        }
        let no_new_privs = spec.no_new_privs;
        let by = Unsafe {
            no_new_privs,
            ..Unsafe::default()
        };
        let container = spec.container;
        let memory = limits.memory();
        let new = prepare(&cx, (self, &container), program, &memory, 0, by);
        let new = new.map_err(|r| match r {
            Refusal::Call(e) | Refusal::TooLate(e) => e.errno(),
        })?;

        let space = self.pid_namespace();
        let pid = match spec.init {
            true => Pid::new(space.space(), INIT),
            false => self.tree.lock().allocate(space, space, &[], &|_| false)?,
        };
        let tid = pid.id();
        let (named, actions) = ((pid.clone(), space), Arc::new(Actions::default()));
        let group = ThreadGroup::new(self, &container, named, actions, limits);
        group
            .unkillable
            .store(spec.init && !spec.mortal, Ordering::Relaxed);
        group.set_oom_score_adj(spec.oom_score_adj, true)?;
        group.timers().cpu_limit_changed();
        let (mm, fds) = (Users::new(new.mm), Users::new(spec.fds));
        let fs = Users::new(Arc::new(FsContext::new(spec.cwd, spec.root, spec.umask)));
        let state = TaskState {
            creds: new.creds,
            mm: Some(mm.clone()),
            fds: Some(fds.clone()),
            fs: Some(fs.clone()),
            mounts: Some(spec.mounts.clone()),
            namespaces: Some(Namespaces::of(&container)),
            name: [0; 16],
            parent_death_signal: 0,
            clear_child_tid: 0,
            robust_list: 0,
            vfork: None,
            personality: spec.personality,
            nice: spec.nice.clamp(-20, 19),
            policy: spec.scheduling.policy,
            priority: spec.scheduling.priority,
            reset_on_fork: spec.scheduling.reset_on_fork,
            affinity: all_cpus(self.possible_cpus()),
            timer_slack: 50_000,
            default_slack: 50_000,
            io_priority: spec.io_priority,
            filter: None,
        };
        let task = Task::new(
            self.clone(),
            group.clone(),
            pid,
            spec.blocked.blockable(),
            state,
        );
        task.set_name(&new.name);
        if let Some(mask) = &spec.affinity {
            task.set_affinity(mask)?;
        }
        if no_new_privs {
            task.set_no_new_privs();
        }
        if let Some(filter) = spec.filter {
            task.set_filter(filter);
        }
        {
            let mut tree = self.tree.lock();
            if tree.closed || container.is_closed() {
                drop(tree);
                mm.get().destroy();
                return Err(Errno::ENOMEM);
            }
            group.state.lock().threads.push(task.clone());
            tree.insert(group.clone(), 0, 0, tid, tid, Signal::CHLD.number());
            container.pause_new(&tree, &task);
            tree.add_task(tid, &task);
            if let Some(s) = tree.sessions.get_mut(&tid) {
                s.terminal = spec.terminal.clone();
            }
        }
        if let Some(terminal) = &spec.terminal {
            terminal.belong_to(self.session_id(tid), self.signaller());
        }
        let start = Start {
            task: task.clone(),
            regs: new.regs,
            mm: mm.clone(),
            fds,
            fs,
            mounts: spec.mounts,
            altstack: AltStack::DISABLED,
            extended: None,
        };
        if let Err(e) = self.pool.run(self, start) {
            let gone = self.tree.lock().remove(tid);
            drop(gone);
            mm.get().destroy();
            return Err(e);
        }
        Ok(task)
    }
}

/// A mask of CPUs with all of them, in whole words.
pub(crate) fn all_cpus(cpus: u32) -> Vec<u8> {
    let mut mask = vec![0u8; (cpus as usize).div_ceil(64) * 8];
    for cpu in 0..cpus as usize {
        mask[cpu / 8] |= 1 << (cpu % 8);
    }
    mask
}
