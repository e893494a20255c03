//! The kernel of a sandbox: what all its tasks have in common.

use crate::pages::{VdsoPages, VdsoSpec};
use crate::pool::Pool;
use crate::trace::{Trace, Watch};
use crate::tree::Tree;
use crate::{ExitStatus, PidNamespace, Task, TaskCx, ThreadGroup};
use abi::Errno;
use ctx::{SysErr, SysResult};
use hostmem::MemoryFile;
use mm::FutexKey;
use platform_api::Engine;
use signal::Signal;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex as StdMutex, PoisonError};
use std::time::Instant;
use sync::{Mutex, ranks};
use time::{ClockId, Clocks, TimerQueue};

/// A handler of a system call.
pub type Handler = fn(&mut TaskCx, &[u64; 6]) -> SysResult<u64>;

/// The system calls, as boot hands them to the kernel.
#[derive(Clone, Copy)]
pub struct CallTable {
    /// By number.
    pub handlers: &'static [Option<Handler>],
    /// What a number is called, for the log.
    pub name: fn(u64) -> &'static str,
}

impl CallTable {
    /// No calls at all.
    pub const EMPTY: CallTable = CallTable {
        handlers: &[],
        name: |_| "?",
    };
}

/// Watches system calls (`--strace`).
pub trait Tracer: Send + Sync {
    /// A call begins.
    fn enter(&self, cx: &TaskCx, nr: u64, args: &[u64; 6]);
    /// A call has ended.
    fn exit(&self, cx: &TaskCx, nr: u64, args: &[u64; 6], result: &Result<u64, SysErr>);
    /// A signal is delivered to the task.
    fn signal(&self, _cx: &TaskCx, _info: &signal::SigInfo) {}
    /// A task has ended.
    fn ended(&self, _task: &Task, _status: ExitStatus) {}
}

/// What a kernel is made of.
pub struct KernelConfig {
    /// The platform.
    pub engine: Arc<dyn Engine>,
    /// Where the vDSO's pages lie.
    pub memory: Arc<MemoryFile>,
    /// Futex waiters, which kernels whose processes may share memory have in common.
    pub futexes: Arc<futex::Table<FutexKey>>,
    /// The clocks.
    pub clocks: Arc<Clocks>,
    /// The timers.
    pub timers: Arc<TimerQueue>,
    /// The system calls.
    pub calls: CallTable,
    /// Watches them while [`Kernel::set_strace`] says so.
    pub tracer: Option<Arc<dyn Tracer>>,
    /// Virtual CPUs, at least 1.
    pub cpus: u32,
    /// How many there can be later on; no fewer.
    pub possible_cpus: u32,
}

/// Why a sandbox ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Its init did.
    Init(ExitStatus),
    /// An error of ours: the report is in the log.
    Internal(String),
}

/// The kernel.
pub struct Kernel {
    pid_namespace: Arc<PidNamespace>,
    pub(crate) tree: Mutex<Tree, ranks::TaskTree>,
    engine: Arc<dyn Engine>,
    clocks: Arc<Clocks>,
    timers: Arc<TimerQueue>,
    futexes: Arc<futex::Table<FutexKey>>,
    futexes_pi: futex::PiTable<FutexKey>,
    calls: CallTable,
    tracer: Option<Arc<dyn Tracer>>,
    pub(crate) watch: Watch,
    pub(crate) trace: Trace,
    cpus: AtomicU32,
    possible_cpus: u32,
    pub(crate) pool: Pool,
    vdso: VdsoPages,
    epoch: Instant,
    /// A bit for each call that has been reported as missing.
    missing: [AtomicU64; 16],
    ended: StdMutex<Option<Ended>>,
    ended_changed: Condvar,
    dying: AtomicBool,
}

impl std::fmt::Debug for Kernel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Kernel")
    }
}

impl Kernel {
    /// A kernel without tasks.
    ///
    /// # Errors
    /// `ENOMEM` where the vDSO's pages cannot be made.
    pub fn new(config: KernelConfig) -> Result<Arc<Kernel>, Errno> {
        let cpus = config.cpus.max(1);
        let vdso = VdsoPages::new(&config.memory, &VdsoSpec { cpus })?;
        Ok(Arc::new(Kernel {
            pid_namespace: PidNamespace::outermost(),
            tree: Mutex::new(Tree::default()),
            engine: config.engine,
            clocks: config.clocks,
            timers: config.timers,
            futexes: config.futexes,
            futexes_pi: futex::PiTable::new(),
            calls: config.calls,
            tracer: config.tracer,
            watch: Watch::default(),
            trace: Trace::default(),
            cpus: AtomicU32::new(cpus),
            possible_cpus: config.possible_cpus.max(cpus),
            pool: Pool::default(),
            vdso,
            epoch: Instant::now(),
            missing: [const { AtomicU64::new(0) }; 16],
            ended: StdMutex::new(None),
            ended_changed: Condvar::new(),
            dying: AtomicBool::new(false),
        }))
    }

    /// The PID namespace whose numbers are its own; those nested in it are its, too.
    pub fn pid_namespace(&self) -> &Arc<PidNamespace> {
        &self.pid_namespace
    }

    /// The platform.
    pub fn engine(&self) -> &Arc<dyn Engine> {
        &self.engine
    }

    /// The clocks.
    pub fn clocks(&self) -> &Arc<Clocks> {
        &self.clocks
    }

    /// The timers.
    pub fn timers(&self) -> &Arc<TimerQueue> {
        &self.timers
    }

    /// The time on `clock` as the vDSO tells it, in nanoseconds: what clock_gettime(2) answers,
    /// so that the two never contradict each other. Renews the vDSO's parameters when they are
    /// old.
    pub fn now(&self, clock: ClockId) -> i64 {
        self.vdso.now(&self.clocks, clock)
    }

    /// All futex waiters.
    pub fn futexes(&self) -> &Arc<futex::Table<FutexKey>> {
        &self.futexes
    }

    /// All futexes with owners that somebody waits for.
    pub fn futexes_pi(&self) -> &futex::PiTable<FutexKey> {
        &self.futexes_pi
    }

    /// Who watches system calls, if they are watched now.
    pub fn tracer(&self) -> Option<&Arc<dyn Tracer>> {
        self.tracer.as_ref().filter(|_| self.watch.get().strace())
    }

    /// Whether the tracer watches system calls from now on. A call under way is not in it.
    pub fn set_strace(&self, on: bool) {
        self.watch.set_strace(on);
    }

    /// Virtual CPUs that are there (*online*, as Linux calls it): from number 0 on.
    pub fn cpus(&self) -> u32 {
        self.cpus.load(Ordering::Relaxed)
    }

    /// How many there can be.
    pub fn possible_cpus(&self) -> u32 {
        self.possible_cpus
    }

    /// Changes how many virtual CPUs are there: one at least, and no more than there can be.
    pub fn set_cpus(&self, cpus: u32) {
        let cpus = cpus.clamp(1, self.possible_cpus);
        if self.cpus.swap(cpus, Ordering::Relaxed) != cpus {
            self.vdso.forget_cpus();
        }
    }

    /// The vDSO and its parameters.
    pub fn vdso(&self) -> &VdsoPages {
        &self.vdso
    }

    pub(crate) fn epoch(&self) -> Instant {
        self.epoch
    }

    #[inline]
    pub(crate) fn handler(&self, nr: u64) -> Option<Handler> {
        self.calls
            .handlers
            .get(usize::try_from(nr).ok()?)
            .copied()
            .flatten()
    }

    /// The name of a call.
    pub fn call_name(&self, nr: u64) -> &'static str {
        (self.calls.name)(nr)
    }

    /// A call that is not there: logged once each.
    pub(crate) fn missing(&self, task: &Task, nr: u64) {
        let Some(word) = self.missing.get((nr / 64) as usize) else {
            return;
        };
        let bit = 1 << (nr % 64);
        if word.fetch_or(bit, Ordering::Relaxed) & bit == 0 {
            let name = String::from_utf8_lossy(&task.name()).into_owned();
            tracing::info!(
                nr,
                call = self.call_name(nr),
                program = name,
                "system call not supported"
            );
        }
    }

    /// The task with id `tid`, exited leaders included.
    pub fn task(&self, tid: i32) -> Option<Arc<Task>> {
        self.tree.lock().tasks.get(&tid).cloned()
    }

    /// All tasks, exited leaders included.
    pub fn tasks(&self) -> Vec<Arc<Task>> {
        self.tree.lock().tasks.values().cloned().collect()
    }

    /// The process with id `pid`, zombies included.
    pub fn process(&self, pid: i32) -> Option<Arc<ThreadGroup>> {
        self.tree.lock().nodes.get(&pid).map(|n| n.group.clone())
    }

    /// Ids of all processes in order, zombies included.
    pub fn pids(&self) -> Vec<i32> {
        self.tree.lock().nodes.keys().copied().collect()
    }

    /// How many tasks there are (/proc/loadavg, sysinfo(2)).
    pub fn task_count(&self) -> usize {
        self.tree.lock().tasks.len()
    }

    /// How many tasks belong to a user (`RLIMIT_NPROC`).
    pub(crate) fn tasks_of(&self, uid: u32) -> u64 {
        // Lock order: tree -> task.
        let tree = self.tree.lock();
        let of_user = tree.tasks.values().filter(|t| t.creds().ruid == uid);
        of_user.count() as u64
    }

    /// Waits until the sandbox has ended.
    pub fn wait_ended(&self) -> Ended {
        let mut ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(e) = &*ended {
                return e.clone();
            }
            ended = self
                .ended_changed
                .wait(ended)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Why the sandbox ended, if it has.
    pub fn ended(&self) -> Option<Ended> {
        self.ended
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Ends the sandbox, unless it has ended.
    pub(crate) fn end(&self, why: Ended) {
        let mut ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        ended.get_or_insert(why);
        self.ended_changed.notify_all();
    }

    /// Ends the sandbox for an error of ours: the report goes to the log, and to whoever waits.
    pub fn fail(&self, report: String) {
        tracing::error!("internal error: {report}");
        self.end(Ended::Internal(report));
        self.kill_all();
    }

    /// Kills every process, init included; no further one can be made.
    pub fn kill_all(&self) {
        self.dying.store(true, Ordering::SeqCst);
        let groups: Vec<_> = {
            let mut tree = self.tree.lock();
            tree.closed = true;
            tree.nodes.values().map(|n| n.group.clone()).collect()
        };
        for g in groups {
            g.kill(ExitStatus::Killed {
                signal: Signal::KILL,
            });
        }
    }

    /// Whether all are being killed.
    pub(crate) fn is_dying(&self) -> bool {
        self.dying.load(Ordering::SeqCst)
    }

    /// Waits until no task is left, at most until `deadline`; whether that came about.
    pub fn drain(&self, deadline: Instant) -> bool {
        self.pool.drain(deadline)
    }
}
