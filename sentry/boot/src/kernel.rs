//! Assembles a kernel and containers from the launcher's messages: memory, file tree, terminal, and
//! the first process; and answers the control server about a container.

use crate::error::BootError;
use crate::exec::{self, News};
use crate::mounts::{self, Builder, Parts, Trees, root};
use crate::pod::Pod;
use crate::process::DonatedFds;
use crate::program::{self, Surroundings};
use crate::streams::Streams;
use crate::update::{self, Current};
use crate::{contract, debug, observe, profile, search, sysctl};
use auth::UserNamespace;
use control::boot::{BootArgs, ContainerSpec, Limits};
use control::debug::{Counters, Logging, Stacks, Traced};
use control::message::{
    ExecSpec, Failure, FailureKind, JoinSpec, ProcessInfo, SandboxState, Stats, WindowSize,
};
use control::profile::ProfileSpec;
use fs_devpts::termios::Winsize;
use fs_devpts::{DevPts, Tty};
use fs_host::Reactor;
use hostmem::MemoryFile;
use parking_lot::Mutex;
use platform_api::Engine;
use signal::Signal;
use std::cell::RefCell;
use std::os::fd::OwnedFd;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};
use task::{
    ContainerConfig, Ended, Kernel, KernelConfig, NetNamespace, ProcessSpec as Program,
    ThreadGroup, Tracer, Uts, UtsNamespace,
};
use time::{Clocks, TimerQueue};
use vfs::nsfs::NamespaceId;
use vfs::{DeviceRegistry, FsCtx, KernelFsCtx, MountNamespace};
use wait::Events;

/// Wait status of a sandbox that ended for an error of ours: as if it had exited with
/// [`crate::process::EXIT_PANIC`].
const INTERNAL_STATUS: i32 = crate::process::EXIT_PANIC << 8;
/// How long the end waits for tasks that are being killed.
pub(crate) const DRAIN: Duration = Duration::from_secs(2);
/// How long tasks may take to stop for a pause.
const CALM: Duration = Duration::from_secs(5);

/// What all containers of this sandbox process share.
pub(crate) struct Machine {
    engine: Arc<dyn Engine>,
    clocks: Arc<Clocks>,
    timers: Arc<TimerQueue>,
    futexes: Arc<futex::Table<mm::FutexKey>>,
    pub(crate) reactor: Arc<Reactor>,
    tracer: Arc<dyn Tracer>,
    /// Whether it watches from the beginning.
    strace: bool,
    /// Whether the filter lets profiles be made.
    profiles: bool,
}

impl Machine {
    /// A further PID namespace; its vDSO lies in `memory`.
    pub(crate) fn kernel(
        &self,
        memory: &Arc<MemoryFile>,
        spec: &ContainerSpec,
    ) -> Result<Arc<Kernel>, BootError> {
        let kernel = Kernel::new(KernelConfig {
            engine: self.engine.clone(),
            memory: memory.clone(),
            futexes: self.futexes.clone(),
            clocks: self.clocks.clone(),
            timers: self.timers.clone(),
            calls: syscalls::CALLS,
            tracer: Some(self.tracer.clone()),
            cpus: spec.limits.cpus,
            possible_cpus: spec.possible_cpus,
        })
        .map_err(BootError::guest("make the kernel for", "/"))?;
        kernel.set_strace(self.strace);
        Ok(kernel)
    }

    /// Without objects; segments will be made of `memory`.
    pub(crate) fn ipc(&self, memory: &Arc<MemoryFile>) -> Arc<ipc::Ipc> {
        Arc::new(ipc::Ipc::new(
            memory,
            &self.clocks,
            NamespaceId::new(),
            UserNamespace::default(),
        ))
    }
}

/// What a container may have in common with others.
pub(crate) struct Namespaces {
    pub(crate) kernel: Arc<Kernel>,
    /// Whether that is the container's alone: then its first process is process 1.
    pub(crate) own_pids: bool,
    /// Whether others were in the sandbox before.
    pub(crate) joined: bool,
    pub(crate) uts: Arc<UtsNamespace>,
    pub(crate) ipc: Arc<ipc::Ipc>,
    pub(crate) network: Arc<NetNamespace>,
}

/// A container, as the control server sees it.
pub(crate) struct Container {
    pub(crate) kernel: Arc<Kernel>,
    /// What its processes have in common.
    pub(crate) own: Arc<task::Container>,
    /// Whether the kernel is its alone.
    pub(crate) own_pids: bool,
    /// What it may use now.
    pub(crate) limits: Current,
    /// The first process, until it is started.
    init: Mutex<Option<Program>>,
    /// And from then on.
    first: OnceLock<Arc<ThreadGroup>>,
    pub(crate) console: Option<Arc<Tty>>,
    pub(crate) reactor: Arc<Reactor>,
    /// As it began with.
    mounts: Arc<MountNamespace>,
    /// Where its terminals have their names.
    pub(crate) pts: Option<Arc<DevPts>>,
    /// Who hears of the end of its first process, when it joined the sandbox.
    pub(crate) news: Option<Arc<News>>,
    /// Whether profiles of the sandbox may be made.
    pub(crate) profiles: bool,
    /// Those that joined, when it is the sandbox's root container.
    pod: Option<Arc<Pod>>,
}

/// Puts a kernel together, with the root container. Runs with the system call filter on.
pub fn assemble(
    args: &BootArgs,
    fds: &mut DonatedFds,
    engine: Arc<dyn Engine>,
) -> Result<Arc<dyn contract::Kernel>, BootError> {
    let spec = &args.container;
    let memory = memory(u64::MAX)?;
    let reactor =
        Reactor::new().map_err(|e| BootError::Kernel(format!("cannot make the reactor: {e}")))?;
    let machine = Machine {
        engine,
        clocks: Arc::new(Clocks::new()),
        timers: TimerQueue::new(),
        futexes: Arc::new(futex::Table::new()),
        reactor,
        tracer: strace::Strace::tracer(),
        strace: args.debug.strace,
        profiles: args.debug.profile,
    };
    let namespaces = Namespaces {
        kernel: machine.kernel(&memory, spec)?,
        own_pids: true,
        joined: false,
        uts: uts(spec),
        ipc: machine.ipc(&memory),
        network: NetNamespace::new(NamespaceId::new(), UserNamespace::default()),
    };
    let mut root = furnish(&machine, spec, namespaces, memory, fds)?;
    root.pod = Some(Pod::new(machine));
    Ok(Arc::new(root))
}

/// Where a container's memory comes from, of at most so many bytes.
pub(crate) fn memory(most: u64) -> Result<Arc<MemoryFile>, BootError> {
    MemoryFile::of_at_most(most)
        .map_err(|e| BootError::Kernel(format!("cannot make the container's memory: {e}")))
}

/// Makes a container: its files, and its first process up to the start.
pub(crate) fn furnish(
    machine: &Machine,
    spec: &ContainerSpec,
    namespaces: Namespaces,
    memory: Arc<MemoryFile>,
    fds: &mut DonatedFds,
) -> Result<Container, BootError> {
    let Namespaces {
        kernel,
        own_pids,
        joined,
        uts,
        ipc,
        network,
    } = namespaces;
    let clocks = machine.clocks.clone();
    let memory_limit = update::memory_seen(&spec.limits);
    let limits: Current = Arc::new(Mutex::new(spec.limits));
    let parts = Parts {
        memory: memory.clone(),
        devices: DeviceRegistry::new(),
        clocks: clocks.clone(),
        memory_limit,
    };
    fs_dev::register_memory_devices(&parts.devices);
    let console = console(spec, fds, &machine.reactor)?;
    let config = ContainerConfig {
        memory,
        memory_limit,
        memory_cap: spec.limits.memory,
        pids_limit: spec.limits.pids,
        uts,
        ipc,
        network,
        devices: parts.devices.clone(),
    };
    let own = task::Container::new(&kernel, config);
    mounts::services(&own, &clocks, &limits).install(&own);
    sysctl::set(&own, &spec.sysctls, joined)?;

    let mounts = root(spec, fds, &parts)?;
    let cx = KernelFsCtx::new(clocks, mounts.clone());
    let builder = Builder {
        parts: &parts,
        cx: &cx,
        mounts: &mounts,
        trees: Trees::new(&kernel, &own, &limits),
        console: console.clone(),
        pts: RefCell::default(),
    };
    builder.all(spec, fds)?;

    let streams = Streams {
        stdio: &spec.stdio,
        preserved: &spec.preserved,
        terminal: console.as_ref(),
    };
    let files = streams.open(fds, &cx, &machine.reactor)?;
    let cwd = builder
        .point(&spec.process.cwd, true)
        .map_err(BootError::guest(
            "enter the working directory",
            &spec.process.cwd,
        ))?;
    if spec.root.readonly {
        builder.seal_root();
    }
    let pts = builder.pts.into_inner();
    let mut init = program::program(
        &spec.process,
        Surroundings {
            container: own.clone(),
            fds: files,
            root: cx.root(),
            cwd,
            terminal: console.clone().map(|t| t as Arc<dyn ctx::Terminal>),
            mounts: mounts.clone(),
        },
    )?;
    init.init = own_pids;
    Ok(Container {
        kernel,
        own,
        own_pids,
        limits,
        init: Mutex::new(Some(init)),
        first: OnceLock::new(),
        console,
        reactor: machine.reactor.clone(),
        mounts,
        pts,
        news: None,
        profiles: machine.profiles,
        pod: None,
    })
}

impl Container {
    /// The mounts that its first process sees now.
    pub(crate) fn mounts(&self) -> Arc<MountNamespace> {
        let init = self.first.get().and_then(|first| first.any_thread());
        let mounts = init.and_then(|init| init.mounts());
        mounts.unwrap_or_else(|| self.mounts.clone())
    }

    /// The wait status of its first process, once that ended.
    pub(crate) fn status(&self) -> Option<i32> {
        if let Some(Ended::Internal(_)) = self.kernel.ended() {
            return Some(INTERNAL_STATUS);
        }
        Some(self.first.get()?.status()?.wait_status())
    }

    /// Kills what is left of it, and waits until none of its tasks runs.
    pub(crate) fn finish(&self) {
        self.own.kill_all();
        if !self.own.drain(Instant::now() + DRAIN) {
            tracing::warn!("tasks of a container are left that do not end");
        }
        self.own.forget_zombies();
    }

    fn pod(&self) -> Result<&Arc<Pod>, Failure> {
        let only_root = || {
            let text = "containers join the root container's sandbox";
            Failure::new(FailureKind::Invalid, text)
        };
        self.pod.as_ref().ok_or_else(only_root)
    }
}

impl contract::Kernel for Container {
    fn start(&self) -> Result<(), Failure> {
        let already = || Failure::new(FailureKind::State, "the container has been started already");
        let mut init = self.init.lock().take().ok_or_else(already)?;
        let name = String::from_utf8_lossy(&init.path).into_owned();
        search::in_path(&self.kernel, &mut init)
            .map_err(|errno| program::exec_failure(&name, errno))?;
        let task = self.kernel.spawn(init);
        let task = task.map_err(|errno| program::exec_failure(&name, errno))?;
        let first = self.first.get_or_init(|| task.group().clone());
        if let Some(news) = &self.news {
            exec::hear(first.end_queue(), Events::HUP, news);
            // It may have ended before.
            news.give();
        }
        Ok(())
    }

    fn check(&self) -> Result<(), Failure> {
        match &*self.init.lock() {
            Some(init) => search::check(&self.kernel, init).map_err(|errno| {
                program::exec_failure(&String::from_utf8_lossy(&init.path), errno)
            }),
            None => Ok(()),
        }
    }

    fn signal(&self, pid: Option<i32>, signal: i32, all: bool) -> Result<(), Failure> {
        let failed = |pid: i32, errno: abi::Errno| Failure {
            kind: if errno == abi::Errno::ESRCH {
                FailureKind::NoProcess
            } else {
                FailureKind::Invalid
            },
            errno: Some(errno.code()),
            text: format!("cannot send signal {signal} to process {pid} of the container: {errno}"),
        };
        let first = self.first.get().map_or(1, |first| first.tgid());
        let pid = pid.unwrap_or(first);
        let number = Signal::new(signal).map_err(|e| failed(pid, e))?;
        if all {
            let sent = self.kernel.signal_all_from_outside(&self.own, number);
            return sent.map_err(|e| failed(first, e));
        }
        let process = self.kernel.process(pid);
        let process = process.filter(|p| !p.has_ended() && self.own.owns(p));
        match process {
            Some(p) => p.send_from_outside(number).map_err(|e| failed(pid, e)),
            None => Err(failed(pid, abi::Errno::ESRCH)),
        }
    }

    fn wait(&self) -> i32 {
        let ended = self.kernel.wait_ended();
        if let Some(pod) = &self.pod {
            pod.end();
        }
        self.kernel.kill_all();
        if !self.kernel.drain(Instant::now() + DRAIN) {
            tracing::warn!("tasks are left that do not end; the process takes them along");
        }
        match ended {
            Ended::Init(status) => status.wait_status(),
            Ended::Internal(_) => INTERNAL_STATUS,
        }
    }

    fn state(&self) -> SandboxState {
        if self.init.lock().is_some() {
            return SandboxState::Created;
        }
        match self.status() {
            None => SandboxState::Running,
            Some(status) => SandboxState::Stopped(status),
        }
    }

    fn resize(&self, size: WindowSize) {
        if let Some(tty) = &self.console {
            tty.resize(winsize(size));
        }
    }

    fn dump(&self) -> String {
        let k = &self.own;
        let mut text = format!(
            "memory {} of {} bytes, {} killed for want of it\n",
            k.memory_used(),
            k.memory_limit(),
            k.oom_kills()
        );
        for process in self.own.processes() {
            let pid = process.tgid();
            let Some(task) = self.kernel.task(pid) else {
                continue;
            };
            let name = String::from_utf8_lossy(&task.name()).into_owned();
            let state = char::from(task.state_letter());
            text.push_str(&format!("{pid} {state} {name}\n"));
        }
        text
    }

    fn exec(
        &self,
        spec: &ExecSpec,
        fds: Vec<OwnedFd>,
    ) -> Result<Arc<dyn contract::Process>, Failure> {
        match self.state() {
            SandboxState::Running if self.own.is_paused() && !spec.while_paused => {
                Err(Failure::new(FailureKind::State, "the container is paused"))
            }
            SandboxState::Running => exec::start(self, spec, fds),
            SandboxState::Created if spec.before_start => exec::start(self, spec, fds),
            SandboxState::Created => Err(Failure::new(
                FailureKind::State,
                "the container's program has not been started; start it first",
            )),
            SandboxState::Stopped(_) => Err(Failure::new(
                FailureKind::State,
                "the container's program has ended, and with it the container",
            )),
        }
    }

    fn pause(&self) -> Result<(), Failure> {
        if self.state() != SandboxState::Running {
            let text = "only a running container can be paused";
            return Err(Failure::new(FailureKind::State, text));
        }
        if self.own.pause(Instant::now() + CALM) {
            return Ok(());
        }
        let text = format!("some of the container's tasks did not stop within {CALM:?}; all go on");
        Err(Failure::new(FailureKind::Internal, text))
    }

    fn resume(&self) {
        self.own.resume();
    }

    fn update(&self, wanted: &Limits) -> Result<(), Failure> {
        update::update(self, wanted)
    }

    fn processes(&self) -> Vec<ProcessInfo> {
        observe::processes(&self.kernel, &self.own)
    }

    fn stats(&self) -> Stats {
        observe::stats(&self.own)
    }

    fn join(
        &self,
        spec: &JoinSpec,
        fds: Vec<OwnedFd>,
    ) -> Result<Arc<dyn contract::Process>, Failure> {
        let pod = self.pod()?;
        match self.state() {
            SandboxState::Running => pod.join(self, spec, fds),
            SandboxState::Created => Err(Failure::new(
                FailureKind::State,
                "its own container has not been started; start it first",
            )),
            SandboxState::Stopped(_) => Err(Failure::new(
                FailureKind::State,
                "its own container has ended, and with it the sandbox",
            )),
        }
    }

    fn joined(&self, id: &str) -> Option<contract::Target> {
        self.pod.as_ref()?.find(id)
    }

    fn destroy(&self, id: &str) -> Result<(), Failure> {
        self.pod()?.destroy(id)
    }

    fn stacks(&self, threads: &[i32], fds: Vec<OwnedFd>) -> Result<Stacks, Failure> {
        debug::stacks(self, threads, fds)
    }

    fn counters(&self) -> Counters {
        debug::counters(self)
    }

    fn logging(&self, wanted: &Logging, fds: Vec<OwnedFd>) -> Result<(), Failure> {
        debug::logging(self, wanted, fds)
    }

    fn begin_trace(&self, fds: Vec<OwnedFd>) -> Result<(), Failure> {
        debug::begin_trace(self, fds)
    }

    fn end_trace(&self) -> Traced {
        debug::end_trace(self)
    }

    fn profile(
        &self,
        spec: &ProfileSpec,
        fds: Vec<OwnedFd>,
    ) -> Result<Box<dyn contract::Profile>, Failure> {
        Ok(Box::new(profile::begin(self, spec, fds)?))
    }
}

fn console(
    spec: &ContainerSpec,
    fds: &mut DonatedFds,
    reactor: &Arc<Reactor>,
) -> Result<Option<Arc<Tty>>, BootError> {
    let Some(fd) = fds.take_opt(spec.console, "the container's terminal")? else {
        return Ok(None);
    };
    let size = spec.process.console_size.map(winsize).unwrap_or_default();
    let tty = fs_devpts::host::open(reactor, 0, fd, size)
        .map_err(|e| BootError::Kernel(format!("cannot use the container's terminal: {e}")))?;
    Ok(Some(tty))
}

pub(crate) fn winsize(size: WindowSize) -> Winsize {
    Winsize {
        rows: size.rows,
        cols: size.columns,
        ..Winsize::default()
    }
}

pub(crate) fn uts(spec: &ContainerSpec) -> Arc<UtsNamespace> {
    let mut uts = Uts {
        nodename: spec.hostname.clone().into_bytes(),
        ..Uts::default()
    };
    if !spec.domainname.is_empty() {
        uts.domainname = spec.domainname.clone().into_bytes();
    }
    Arc::new(UtsNamespace::new(
        uts,
        NamespaceId::new(),
        UserNamespace::default(),
    ))
}
