//! What the processes of one container have in common, and those of others do not.
//!
//! A [`Kernel`] is a PID namespace with all that are nested in it. Most have one container; where a further one shares its
//! processes' numbers, both are in one tree, and are told apart by this. Memory with its limit and
//! killer, the limit of tasks and the pause are a container's own; host name, IPC objects and what
//! the system call layer keeps may be shared with others, as boot was told.

use crate::exit::After;
use crate::load::Load;
use crate::oom::Killer;
use crate::pause::Pause;
use crate::uts::UtsNamespace;
use crate::{CpuTime, ExitStatus, Kernel, NetNamespace, PidNamespace, Task, ThreadGroup};
use hostmem::MemoryFile;
use signal::Signal;
use std::any::Any;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex as StdMutex, OnceLock, PoisonError, Weak};
use std::time::{Duration, Instant};
use sync::{Mutex, ranks};
use vfs::DeviceRegistry;

/// What a container is made of.
pub struct ContainerConfig {
    /// Where its memory comes from.
    pub memory: Arc<MemoryFile>,
    /// Memory it sees as the machine's, in bytes.
    pub memory_limit: u64,
    /// Memory it may use, in bytes; without a limit as much as the host gives.
    pub memory_cap: Option<u64>,
    /// Tasks it may have at once, zombies included.
    pub pids_limit: Option<u64>,
    /// What uname(2) says.
    pub uts: Arc<UtsNamespace>,
    /// System V IPC and POSIX message queues.
    pub ipc: Arc<ipc::Ipc>,
    /// The network that its processes begin in.
    pub network: Arc<NetNamespace>,
    /// Openers of device nodes.
    pub devices: Arc<DeviceRegistry>,
}

/// A container.
pub struct Container {
    kernel: Weak<Kernel>,
    pid_namespace: Arc<PidNamespace>,
    memory: Arc<MemoryFile>,
    memory_limit: AtomicU64,
    pids_limit: AtomicU64,
    uts: Arc<UtsNamespace>,
    ipc: Arc<ipc::Ipc>,
    network: Arc<NetNamespace>,
    devices: Arc<DeviceRegistry>,
    services: OnceLock<Arc<dyn Any + Send + Sync>>,
    pub(crate) killer: Killer,
    pub(crate) pause: Pause,
    /// What its processes that have ended have used. Written with the tree's lock held.
    finished: Mutex<CpuTime, ranks::Leaf>,
    load: Mutex<Load, ranks::Leaf>,
    /// How many of the tree's tasks are its. Written with the tree's lock held.
    pub(crate) tasks: AtomicUsize,
    /// No process can be made any more. Written with the tree's lock held.
    closed: AtomicBool,
    /// How many host threads run its tasks.
    working: StdMutex<usize>,
    rested: Condvar,
}

impl std::fmt::Debug for Container {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Container")
    }
}

impl Container {
    /// One without processes, whose numbers will be `kernel`'s.
    pub fn new(kernel: &Arc<Kernel>, config: ContainerConfig) -> Arc<Container> {
        let memory = config.memory.clone();
        let container = Arc::new(Container {
            kernel: Arc::downgrade(kernel),
            pid_namespace: kernel.pid_namespace().clone(),
            memory: config.memory,
            memory_limit: AtomicU64::new(config.memory_limit),
            pids_limit: AtomicU64::new(config.pids_limit.unwrap_or(u64::MAX)),
            uts: config.uts,
            ipc: config.ipc,
            network: config.network,
            devices: config.devices,
            services: OnceLock::new(),
            killer: Killer::default(),
            pause: Pause::default(),
            finished: Mutex::new(CpuTime::default()),
            load: Mutex::new(Load::default()),
            tasks: AtomicUsize::new(0),
            closed: AtomicBool::new(false),
            working: StdMutex::new(0),
            rested: Condvar::new(),
        });
        let relief: Weak<Container> = Arc::downgrade(&container);
        memory.set_limit(config.memory_cap, relief);
        container
    }

    /// The kernel that its processes are in; `None` once that is gone.
    pub fn kernel(&self) -> Option<Arc<Kernel>> {
        self.kernel.upgrade()
    }

    /// The PID namespace that its processes begin in.
    pub fn pid_namespace(&self) -> &Arc<PidNamespace> {
        &self.pid_namespace
    }

    /// Where its memory comes from.
    pub fn memory(&self) -> &Arc<MemoryFile> {
        &self.memory
    }

    /// Memory it sees as the machine's, in bytes.
    pub fn memory_limit(&self) -> u64 {
        self.memory_limit.load(Ordering::Relaxed)
    }

    /// Changes how much memory it may use, and how much it sees as the machine's.
    ///
    /// # Errors
    /// How many bytes it uses, where that is more than it may.
    pub fn set_memory_limit(&self, cap: Option<u64>, seen: u64) -> Result<(), u64> {
        self.memory.change_limit(cap)?;
        self.memory_limit.store(seen, Ordering::Relaxed);
        Ok(())
    }

    /// Bytes of its memory that exist on the host.
    pub fn memory_used(&self) -> u64 {
        self.memory.usage()
    }

    /// What uname(2) says.
    pub fn uts(&self) -> &Arc<UtsNamespace> {
        &self.uts
    }

    /// System V IPC and POSIX message queues.
    pub fn ipc(&self) -> &Arc<ipc::Ipc> {
        &self.ipc
    }

    /// The network that its processes begin in.
    pub fn network(&self) -> &Arc<NetNamespace> {
        &self.network
    }

    /// Openers of device nodes.
    pub fn devices(&self) -> &Arc<DeviceRegistry> {
        &self.devices
    }

    /// Hands it what the system call layer keeps for it, once.
    pub fn set_services(&self, services: Arc<dyn Any + Send + Sync>) {
        let _ = self.services.set(services);
    }

    /// What [`Container::set_services`] was given.
    pub fn services(&self) -> Option<&Arc<dyn Any + Send + Sync>> {
        self.services.get()
    }

    /// How many tasks it has, zombies included.
    pub fn task_count(&self) -> usize {
        self.tasks.load(Ordering::Relaxed)
    }

    /// Changes how many tasks it may have at once. Those that are there stay.
    pub fn set_pids_limit(&self, most: Option<u64>) {
        let most = most.unwrap_or(u64::MAX);
        self.pids_limit.store(most, Ordering::Relaxed);
    }

    /// Whether it has as many tasks as it may have.
    pub(crate) fn is_full(&self) -> bool {
        self.task_count() as u64 >= self.pids_limit.load(Ordering::Relaxed)
    }

    /// Whether no process can be made in it any more. To be asked with the tree's lock held by who
    /// makes one.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }

    /// Its processes, zombies included, in the order of their numbers.
    pub fn processes(&self) -> Vec<Arc<ThreadGroup>> {
        let Some(kernel) = self.kernel() else {
            return Vec::new();
        };
        let tree = kernel.tree.lock();
        let groups = tree.nodes.values().map(|n| &n.group);
        groups.filter(|g| self.owns(g)).cloned().collect()
    }

    /// CPU time of all its processes, living and gone.
    pub fn cpu_time(&self) -> CpuTime {
        let Some(kernel) = self.kernel() else {
            return *self.finished.lock();
        };
        let tree = kernel.tree.lock();
        let groups = tree.nodes.values().map(|n| &n.group);
        let living = groups.filter(|g| self.owns(g) && !g.has_ended());
        // Not locked while the processes are asked.
        let finished = *self.finished.lock();
        living.fold(finished, |sum, g| sum + g.cpu_time())
    }

    pub(crate) fn add_finished(&self, time: CpuTime) {
        let mut finished = self.finished.lock();
        *finished = *finished + time;
    }

    /// How many of its tasks run or could run.
    pub fn runnable(&self) -> usize {
        let all = self.all_tasks().into_iter();
        all.filter(|t| t.state_letter() == b'R').count()
    }

    /// How busy it has been over the last minute, five and fifteen minutes, in CPUs
    /// (/proc/loadavg, sysinfo(2)).
    pub fn load(&self) -> [f64; 3] {
        let Some(kernel) = self.kernel() else {
            return [0.0; 3];
        };
        let (now, spent) = (kernel.epoch().elapsed(), self.cpu_time().total());
        self.load.lock().at(now, Duration::from_nanos(spent))
    }

    /// Its tasks, exited leaders included.
    pub(crate) fn all_tasks(&self) -> Vec<Arc<Task>> {
        let Some(kernel) = self.kernel() else {
            return Vec::new();
        };
        let tree = kernel.tree.lock();
        let tasks = tree.tasks.values();
        tasks.filter(|t| self.owns(t.group())).cloned().collect()
    }

    /// Whether `group` is one of its processes.
    pub fn owns(&self, group: &ThreadGroup) -> bool {
        std::ptr::eq(self, &**group.container())
    }

    /// Kills all its processes; no further one can be made.
    pub fn kill_all(&self) {
        if let Some(kernel) = self.kernel() {
            let _tree = kernel.tree.lock();
            self.closed.store(true, Ordering::Relaxed);
        }
        for group in self.processes() {
            group.kill(ExitStatus::Killed {
                signal: Signal::KILL,
            });
        }
    }

    /// Takes its processes that have ended and that nobody waited for out of the tree.
    pub fn forget_zombies(&self) {
        let Some(kernel) = self.kernel() else {
            return;
        };
        let mut tree = kernel.tree.lock();
        let ended = |n: &crate::tree::Node| n.zombie.is_some() && self.owns(&n.group);
        let nodes = tree.nodes.iter().filter(|(_, n)| ended(n));
        let pids: Vec<i32> = nodes.map(|(pid, _)| *pid).collect();
        let gone: Vec<_> = pids.into_iter().map(|pid| tree.remove(pid)).collect();
        // Who traces them has nothing to wait for any more, be it the leader or another thread.
        let mut after = After::default();
        let traces = tree.traces.values().map(|t| &t.tracee);
        let of_them = traces.filter(|t| self.owns(t.group()) && t.group().has_ended());
        for tracee in of_them.cloned().collect::<Vec<_>>() {
            let tracer = tracee.tracer();
            after.parents.extend(tracer.map(|t| t.group().clone()));
            tree.unlink(&tracee, &mut after);
        }
        drop(tree);
        drop(gone);
        after.settle(&kernel);
    }

    /// A host thread begins to run a task of its.
    pub(crate) fn begin_work(&self) {
        *self.working.lock().unwrap_or_else(PoisonError::into_inner) += 1;
    }

    /// A host thread has ended with a task of its.
    pub(crate) fn end_work(&self) {
        let mut working = self.working.lock().unwrap_or_else(PoisonError::into_inner);
        *working -= 1;
        if *working == 0 {
            self.rested.notify_all();
        }
    }

    /// Waits until none of its tasks runs, at most until `deadline`; whether that came about.
    pub fn drain(&self, deadline: Instant) -> bool {
        let mut working = self.working.lock().unwrap_or_else(PoisonError::into_inner);
        while *working > 0 {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            let waited = self.rested.wait_timeout(working, left);
            working = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }
}
