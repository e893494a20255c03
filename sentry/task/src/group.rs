//! A thread group: a process.

use crate::coredump::{Dump, DumpFilter};
use crate::cpu::CpuTime;
use crate::exec::INIT;
use crate::itimer::ProcessTimers;
use crate::limits::Limits;
use crate::{Container, ExitStatus, IoCounts, Kernel, PidNamespace, Task};
use abi::Errno;
use ctx::Pid;
use signal::{Actions, Pending, SigSet, Signal};
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use sync::census::{Counted, Kind};
use sync::{Mutex, ranks};
use wait::Queue;

/// A process. Its place among others (parent, group, session) lies in the task tree.
pub struct ThreadGroup {
    pub(crate) state: Mutex<GroupState, ranks::ThreadGroup>,
    _counted: Counted,
    pid: Pid,
    /// Its own PID namespace.
    pid_namespace: Arc<PidNamespace>,
    /// Tells it from all others of the sandbox, those of other PID namespaces among them.
    serial: u64,
    kernel: Weak<Kernel>,
    container: Arc<Container>,
    limits: Limits,
    /// Hears of children that change state.
    pub(crate) children: Queue,
    /// Hears of new pending signals (signalfd).
    pub(crate) signals: Queue,
    /// Hears of the end (pidfd).
    pub(crate) ended: Queue,
    pub(crate) timers: ProcessTimers,
    pub(crate) has_ended: AtomicBool,
    pub(crate) status: OnceLock<ExitStatus>,
    /// prctl(PR_SET_CHILD_SUBREAPER)
    pub(crate) subreaper: AtomicBool,
    /// Not killed by signals it has no handler for: init.
    pub(crate) unkillable: AtomicBool,
    /// Its PID namespace ends with it: it waits for nothing that is told of children.
    pub(crate) reaps_all: AtomicBool,
    /// Its threads may be in different IPC namespaces.
    pub(crate) mixed_ipc: AtomicBool,
    pub(crate) dump_filter: AtomicU32,
    oom_score_adj: AtomicI32,
    /// What it cannot be set below without privilege.
    oom_score_floor: AtomicI32,
}

/// What the lock guards.
pub(crate) struct GroupState {
    pub(crate) actions: Arc<Actions>,
    pub(crate) pending: Pending,
    /// Those that have not exited; the leader first while it lives.
    pub(crate) threads: Vec<Arc<Task>>,
    /// The whole process is ending with this.
    pub(crate) exit: Option<ExitStatus>,
    /// What a thread that writes a core file learns of the others.
    pub(crate) dump: Option<Dump>,
    /// The thread that execs and waits for the others to go.
    pub(crate) exec: Option<i32>,
    pub(crate) stop: Option<Stop>,
    /// A stop signal has been dequeued and no `SIGCONT` came since.
    pub(crate) stop_dequeued: bool,
    /// Its threads that are making a process, and what was sent to many processes since they began
    /// to: the new one was meant, too.
    pub(crate) forking: Vec<(i32, SigSet)>,
    /// CPU time of threads that are gone.
    pub(crate) dead_time: CpuTime,
    /// What those and children that were waited for have read and written.
    pub(crate) dead_io: IoCounts,
    /// CPU time of children that were waited for.
    pub(crate) children_time: CpuTime,
    pub(crate) peak_resident: u64,
    pub(crate) children_peak: u64,
}

/// A group stop.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stop {
    pub(crate) signal: Signal,
    /// The parent has been told.
    pub(crate) reported: bool,
}

impl GroupState {
    /// Whether `task`, which is of the process, is to end: with it, or for another thread's
    /// execve(2).
    pub(crate) fn ends(&self, task: &Task) -> bool {
        self.exit.is_some() || self.exec.is_some_and(|tid| tid != task.tid())
    }
}

impl std::fmt::Debug for ThreadGroup {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ThreadGroup({})", self.tgid())
    }
}

impl ThreadGroup {
    pub(crate) fn new(
        kernel: &Arc<Kernel>,
        container: &Arc<Container>,
        (pid, pid_namespace): (Pid, &Arc<PidNamespace>),
        actions: Arc<Actions>,
        limits: Limits,
    ) -> Arc<ThreadGroup> {
        Arc::new_cyclic(|this| ThreadGroup {
            state: Mutex::new(GroupState {
                actions,
                pending: Pending::new(),
                threads: Vec::new(),
                exit: None,
                dump: None,
                exec: None,
                stop: None,
                stop_dequeued: false,
                forking: Vec::new(),
                dead_time: CpuTime::default(),
                dead_io: IoCounts::default(),
                children_time: CpuTime::default(),
                peak_resident: 0,
                children_peak: 0,
            }),
            _counted: Counted::new(Kind::ThreadGroup),
            pid,
            pid_namespace: pid_namespace.clone(),
            serial: SERIAL.fetch_add(1, Ordering::Relaxed),
            kernel: Arc::downgrade(kernel),
            container: container.clone(),
            limits,
            children: Queue::new(),
            signals: Queue::new(),
            ended: Queue::new(),
            timers: ProcessTimers::new(this.clone(), kernel.timers().clone()),
            has_ended: AtomicBool::new(false),
            status: OnceLock::new(),
            subreaper: AtomicBool::new(false),
            unkillable: AtomicBool::new(false),
            reaps_all: AtomicBool::new(false),
            mixed_ipc: AtomicBool::new(false),
            dump_filter: AtomicU32::new(DumpFilter::FIRST),
            oom_score_adj: AtomicI32::new(0),
            oom_score_floor: AtomicI32::new(0),
        })
    }

    /// The process id, as the kernel has it.
    pub fn tgid(&self) -> i32 {
        self.pid.id()
    }

    /// What it is called in each PID namespace that it is in.
    pub fn pid(&self) -> &Pid {
        &self.pid
    }

    /// The PID namespace that it is in, and whose numbers it knows.
    pub fn pid_namespace(&self) -> &Arc<PidNamespace> {
        &self.pid_namespace
    }

    /// Whether it is the first process of a nested PID namespace, which ends with it.
    pub(crate) fn is_nested_init(&self) -> bool {
        self.pid_namespace.is_nested() && self.pid.own() == INIT
    }

    /// A number that no other process of the sandbox has or had, in whatever PID namespace.
    pub fn serial(&self) -> u64 {
        self.serial
    }

    /// The container it belongs to.
    pub fn container(&self) -> &Arc<Container> {
        &self.container
    }

    pub(crate) fn kernel(&self) -> Option<Arc<Kernel>> {
        self.kernel.upgrade()
    }

    /// Resource limits.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Signal actions.
    pub fn actions(&self) -> Arc<Actions> {
        self.state.lock().actions.clone()
    }

    /// Its living threads.
    pub fn threads(&self) -> Vec<Arc<Task>> {
        self.state.lock().threads.clone()
    }

    /// The thread that speaks for the process: the leader, or another while the leader is gone.
    pub fn any_thread(&self) -> Option<Arc<Task>> {
        self.state.lock().threads.first().cloned()
    }

    /// What is pending for the process as a whole.
    pub fn pending(&self) -> SigSet {
        self.state.lock().pending.set()
    }

    /// CPU time of all its threads, living and gone.
    pub fn cpu_time(&self) -> CpuTime {
        let st = self.state.lock();
        st.threads
            .iter()
            .fold(st.dead_time, |sum, t| sum + t.cpu_time())
    }

    /// What all its threads, living and gone, have read and written.
    pub fn io(&self) -> IoCounts {
        let st = self.state.lock();
        st.threads
            .iter()
            .fold(st.dead_io, |sum, t| sum + t.io().counts())
    }

    /// CPU time of its children that were waited for, and theirs.
    pub fn children_time(&self) -> CpuTime {
        self.state.lock().children_time
    }

    /// Most memory it had, and most that a child waited for had, in bytes.
    pub fn peak_resident(&self) -> (u64, u64) {
        let (peak, children, task) = {
            let st = self.state.lock();
            (
                st.peak_resident,
                st.children_peak,
                st.threads.first().cloned(),
            )
        };
        let now = task
            .and_then(|t| t.mm())
            .map_or(0, |mm| mm.usage().peak_resident);
        (peak.max(now), children)
    }

    /// Whether it has been told to end, or has.
    pub(crate) fn is_ending(&self) -> bool {
        self.has_ended() || self.state.lock().exit.is_some()
    }

    /// Whether all its threads are gone.
    pub fn has_ended(&self) -> bool {
        self.has_ended.load(Ordering::SeqCst)
    }

    /// How it ended, once it has; also when nobody waits for it ([`ThreadGroup::end_queue`]).
    pub fn status(&self) -> Option<ExitStatus> {
        self.status.get().copied()
    }

    /// prctl(PR_SET_CHILD_SUBREAPER)
    pub fn set_subreaper(&self, yes: bool) {
        self.subreaper.store(yes, Ordering::SeqCst);
    }

    /// prctl(PR_GET_CHILD_SUBREAPER)
    pub fn is_subreaper(&self) -> bool {
        self.subreaper.load(Ordering::SeqCst)
    }

    /// /proc/PID/oom_score_adj
    pub fn oom_score_adj(&self) -> i32 {
        self.oom_score_adj.load(Ordering::Relaxed)
    }

    /// Sets /proc/PID/oom_score_adj; who is `privileged` also sets what others cannot go below.
    ///
    /// # Errors
    /// `EACCES` for a value that only privilege allows.
    pub fn set_oom_score_adj(&self, value: i32, privileged: bool) -> Result<(), Errno> {
        if privileged {
            self.oom_score_floor.store(value, Ordering::Relaxed);
        } else if value < self.oom_score_floor.load(Ordering::Relaxed) {
            return Err(Errno::EACCES);
        }
        self.oom_score_adj.store(value, Ordering::Relaxed);
        Ok(())
    }

    /// A new process has what its parent has.
    pub(crate) fn inherit_oom_score(&self, parent: &ThreadGroup) {
        for (to, from) in [
            (&self.oom_score_adj, &parent.oom_score_adj),
            (&self.oom_score_floor, &parent.oom_score_floor),
        ] {
            to.store(from.load(Ordering::Relaxed), Ordering::Relaxed);
        }
    }

    /// The interval timers and POSIX timers.
    pub fn timers(&self) -> &ProcessTimers {
        &self.timers
    }

    /// The queue that hears of the end (pidfd).
    pub fn end_queue(&self) -> &Queue {
        &self.ended
    }

    /// The queue that hears of signals for the process or one of its threads (signalfd).
    pub fn signal_queue(&self) -> &Queue {
        &self.signals
    }
}

/// Counts for /proc/stat.
pub(crate) static FORKS: AtomicU64 = AtomicU64::new(0);

static SERIAL: AtomicU64 = AtomicU64::new(1);
