//! Assembles a kernel from the launcher's message: memory, file tree, terminal, and the root
//! process; and answers the control server about it.

use crate::error::BootError;
use crate::mounts::{self, Builder, Parts, Trees, root};
use crate::process::DonatedFds;
use crate::program::{self, Surroundings};
use crate::streams::Streams;
use crate::{debug, exec, observe, search, server};
use control::boot::BootArgs;
use control::debug::{Logging, Stacks, Traced};
use control::message::{
    ExecSpec, Failure, FailureKind, ProcessInfo, SandboxState, Stats, WindowSize,
};
use fs_devpts::termios::Winsize;
use fs_devpts::{DevPts, Tty};
use fs_host::Reactor;
use hostmem::MemoryFile;
use parking_lot::Mutex;
use platform_api::Engine;
use signal::Signal;
use std::cell::RefCell;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};
use task::{Ended, Kernel, KernelConfig, ProcessSpec as Program, Uts};
use time::{Clocks, TimerQueue};
use vfs::{DeviceRegistry, FsCtx, KernelFsCtx, MountNamespace};

/// Wait status of a sandbox that ended for an error of ours: as if it had exited with
/// [`crate::process::EXIT_PANIC`].
const INTERNAL_STATUS: i32 = crate::process::EXIT_PANIC << 8;
/// How long the end waits for tasks that are being killed.
const DRAIN: Duration = Duration::from_secs(2);
/// How long tasks may take to stop for a pause.
const CALM: Duration = Duration::from_secs(5);
/// What a guest is shown as the machine's memory when no limit was given and the host's size is
/// not known.
const DEFAULT_MEMORY: u64 = 2 << 30;

/// The kernel of this sandbox process, as the control server sees it.
pub(crate) struct Sandbox {
    pub(crate) kernel: Arc<Kernel>,
    /// The root process, until it is started.
    init: Mutex<Option<Program>>,
    console: Option<Arc<Tty>>,
    pub(crate) reactor: Arc<Reactor>,
    /// As the container began with.
    pub(crate) mounts: Arc<MountNamespace>,
    /// Where its terminals have their names.
    pub(crate) pts: Option<Arc<DevPts>>,
}

/// Puts a kernel together. Runs with the system call filter on.
pub fn assemble(
    args: &BootArgs,
    fds: &mut DonatedFds,
    engine: Arc<dyn Engine>,
) -> Result<Arc<dyn server::Kernel>, BootError> {
    let memory = MemoryFile::new()
        .map_err(|e| BootError::Kernel(format!("cannot make the container's memory: {e}")))?;
    let clocks = Arc::new(Clocks::new());
    let host = host_memory();
    let memory_limit = args.memory_limit.map_or(host, |limit| limit.min(host));
    let parts = Parts {
        memory: memory.clone(),
        devices: DeviceRegistry::new(),
        clocks: clocks.clone(),
        memory_limit,
    };
    fs_dev::register_memory_devices(&parts.devices);
    let reactor =
        Reactor::new().map_err(|e| BootError::Kernel(format!("cannot make the reactor: {e}")))?;
    let console = console(args, fds, &reactor)?;

    let kernel = Kernel::new(KernelConfig {
        engine,
        memory,
        clocks: clocks.clone(),
        timers: TimerQueue::new(),
        calls: syscalls::CALLS,
        tracer: Some(strace::Strace::tracer()),
        uts: uts(args),
        cpus: args.cpus.max(1),
        memory_limit,
        memory_cap: args.memory_limit,
        pids_limit: args.pids_limit,
        devices: parts.devices.clone(),
    })
    .map_err(BootError::guest("make the kernel for", "/"))?;
    kernel.set_strace(args.debug.strace);
    mounts::services(&kernel, args.memory_limit).install(&kernel);

    let mounts = root(args, fds, &parts)?;
    let cx = KernelFsCtx::new(clocks, mounts.clone());
    let builder = Builder {
        parts: &parts,
        cx: &cx,
        mounts: &mounts,
        trees: Trees::new(&kernel, args.memory_limit),
        console: console.clone(),
        pts: RefCell::default(),
    };
    builder.all(args, fds)?;
    builder.devices()?;
    builder.mask(&args.masked_paths)?;
    builder.read_only(&args.readonly_paths)?;

    let streams = Streams {
        stdio: &args.stdio,
        preserved: &args.preserved,
        terminal: console.as_ref(),
    };
    let files = streams.open(fds, &cx, &reactor)?;
    let cwd = builder
        .point(&args.process.cwd, true)
        .map_err(BootError::guest(
            "enter the working directory",
            &args.process.cwd,
        ))?;
    if args.root.readonly {
        builder.seal_root();
    }
    let pts = builder.pts.into_inner();
    let init = program::program(
        &args.process,
        Surroundings {
            fds: files,
            root: cx.root(),
            cwd,
            terminal: console.clone().map(|t| t as Arc<dyn ctx::Terminal>),
            mounts: mounts.clone(),
        },
    )?;
    Ok(Arc::new(Sandbox {
        kernel,
        init: Mutex::new(Some(init)),
        console,
        reactor,
        mounts,
        pts,
    }))
}

impl server::Kernel for Sandbox {
    fn start(&self) -> Result<(), Failure> {
        let already = || Failure::new(FailureKind::State, "the container has been started already");
        let mut init = self.init.lock().take().ok_or_else(already)?;
        let name = String::from_utf8_lossy(&init.path).into_owned();
        init.init = true;
        search::in_path(&self.kernel, &mut init)
            .map_err(|errno| program::exec_failure(&name, errno))?;
        self.kernel
            .spawn(init)
            .map(drop)
            .map_err(|errno| program::exec_failure(&name, errno))
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
        let first = pid.unwrap_or(1);
        let number = Signal::new(signal).map_err(|e| failed(first, e))?;
        let sent = if all {
            self.kernel.signal_all_from_outside(number)
        } else {
            let process = self.kernel.process(first).filter(|p| !p.has_ended());
            process
                .ok_or(abi::Errno::ESRCH)
                .and_then(|p| p.send_from_outside(number))
        };
        sent.map_err(|e| failed(first, e))
    }

    fn wait(&self) -> i32 {
        let ended = self.kernel.wait_ended();
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
        match self.kernel.ended() {
            None => SandboxState::Running,
            Some(Ended::Init(status)) => SandboxState::Stopped(status.wait_status()),
            Some(Ended::Internal(_)) => SandboxState::Stopped(INTERNAL_STATUS),
        }
    }

    fn resize(&self, size: WindowSize) {
        if let Some(tty) = &self.console {
            tty.resize(winsize(size));
        }
    }

    fn dump(&self) -> String {
        let k = &self.kernel;
        let mut text = format!(
            "memory {} of {} bytes, {} killed for want of it\n",
            k.memory_used(),
            k.memory_limit(),
            k.oom_kills()
        );
        for pid in self.kernel.pids() {
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
    ) -> Result<Arc<dyn server::Process>, Failure> {
        match self.state() {
            SandboxState::Running if self.kernel.is_paused() && !spec.while_paused => {
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
        if self.kernel.pause(Instant::now() + CALM) {
            return Ok(());
        }
        let text = format!("some of the container's tasks did not stop within {CALM:?}; all go on");
        Err(Failure::new(FailureKind::Internal, text))
    }

    fn resume(&self) {
        self.kernel.resume();
    }

    fn processes(&self) -> Vec<ProcessInfo> {
        observe::processes(&self.kernel)
    }

    fn stats(&self) -> Stats {
        observe::stats(&self.kernel)
    }

    fn stacks(&self, threads: &[i32], fds: Vec<OwnedFd>) -> Result<Stacks, Failure> {
        debug::stacks(self, threads, fds)
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
}

fn console(
    args: &BootArgs,
    fds: &mut DonatedFds,
    reactor: &Arc<Reactor>,
) -> Result<Option<Arc<Tty>>, BootError> {
    let Some(fd) = fds.take_opt(args.console, "the container's terminal")? else {
        return Ok(None);
    };
    let size = args.process.console_size.map(winsize).unwrap_or_default();
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

fn uts(args: &BootArgs) -> Uts {
    let mut uts = Uts {
        nodename: args.hostname.clone().into_bytes(),
        ..Uts::default()
    };
    if !args.domainname.is_empty() {
        uts.domainname = args.domainname.clone().into_bytes();
    }
    uts
}

/// The host's memory, as the size of the machine that the guest sees.
fn host_memory() -> u64 {
    let info = nix::sys::sysinfo::sysinfo();
    info.map_or(DEFAULT_MEMORY, |i| i.ram_total())
}
