//! Assembles a kernel from the launcher's message: memory, file tree, terminal, and the root
//! process; and answers the control server about it.

use crate::error::BootError;
use crate::mounts::{self, Builder, Parts, Trees, root};
use crate::process::DonatedFds;
use crate::{observe, search, server};
use auth::{CapSet, Creds};
use control::boot::{BootArgs, ProcessSpec};
use control::message::{Failure, FailureKind, ProcessInfo, SandboxState, Stats, WindowSize};
use fs_devpts::termios::Winsize;
use fs_devpts::{SlaveFile, Tty};
use fs_host::{HostFile, Reactor};
use hostmem::MemoryFile;
use parking_lot::Mutex;
use platform_api::Engine;
use signal::{SigSet, Signal};
use std::sync::Arc;
use std::time::{Duration, Instant};
use task::{Ended, Kernel, KernelConfig, Limits, ProcessSpec as Program, RESOURCES, Rlimit, Uts};
use time::{Clocks, TimerQueue};
use vfs::{DeviceRegistry, FdTable, File, FileOps, FsCtx, KernelFsCtx, OpenFlags};

/// Wait status of a sandbox that ended for an error of ours: as if it had exited with
/// [`crate::process::EXIT_PANIC`].
const INTERNAL_STATUS: i32 = crate::process::EXIT_PANIC << 8;
/// How long the end waits for tasks that are being killed.
const DRAIN: Duration = Duration::from_secs(2);
/// What a guest is shown as the machine's memory when no limit was given and the host's size is
/// not known.
const DEFAULT_MEMORY: u64 = 2 << 30;

/// The kernel of this sandbox process, as the control server sees it.
struct Sandbox {
    kernel: Arc<Kernel>,
    /// The root process, until it is started.
    init: Mutex<Option<Program>>,
    console: Option<Arc<Tty>>,
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
        tracer: args.debug.strace.then(strace::Strace::tracer),
        uts: uts(args),
        cpus: args.cpus.max(1),
        memory_limit,
        memory_cap: args.memory_limit,
        pids_limit: args.pids_limit,
        devices: parts.devices.clone(),
    })
    .map_err(BootError::guest("make the kernel for", "/"))?;
    mounts::services(&kernel, args.memory_limit).install(&kernel);

    let mounts = root(args, fds, &parts)?;
    let cx = KernelFsCtx::new(clocks, mounts.clone());
    let builder = Builder {
        parts: &parts,
        cx: &cx,
        mounts: &mounts,
        trees: Trees::new(&kernel, args.memory_limit),
        console: console.clone(),
    };
    builder.all(args, fds)?;
    builder.devices()?;
    builder.mask(&args.masked_paths)?;
    builder.read_only(&args.readonly_paths)?;

    let files = stdio(args, fds, &cx, &reactor, console.as_ref())?;
    let cwd = builder
        .point(&args.process.cwd, true)
        .map_err(BootError::guest(
            "enter the working directory",
            &args.process.cwd,
        ))?;
    if args.root.readonly {
        builder.seal_root();
    }
    let p = &args.process;
    let init = Program {
        path: p
            .args
            .first()
            .map(|a| a.clone().into_bytes())
            .unwrap_or_default(),
        argv: p.args.iter().map(|a| a.clone().into_bytes()).collect(),
        envp: p.env.iter().map(|e| e.clone().into_bytes()).collect(),
        creds: creds(p),
        fds: files,
        mounts,
        root: cx.root(),
        cwd,
        umask: p.umask.unwrap_or(0o022),
        limits: rlimits(p),
        oom_score_adj: p.oom_score_adj.unwrap_or(0),
        mortal: p.mortal,
        terminal: console.clone().map(|t| t as Arc<dyn ctx::Terminal>),
        blocked: SigSet::default(),
    };
    Ok(Arc::new(Sandbox {
        kernel,
        init: Mutex::new(Some(init)),
        console,
    }))
}

impl server::Kernel for Sandbox {
    fn start(&self) -> Result<(), Failure> {
        let already = || Failure::new(FailureKind::State, "the container has been started already");
        let mut init = self.init.lock().take().ok_or_else(already)?;
        let name = String::from_utf8_lossy(&init.path).into_owned();
        search::in_path(&self.kernel, &mut init).map_err(|errno| exec_failure(&name, errno))?;
        if let Some(tty) = &self.console {
            tty.belong_to(1, self.kernel.signaller());
        }
        self.kernel
            .spawn(init)
            .map(drop)
            .map_err(|errno| exec_failure(&name, errno))
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
        let pids = if all { self.kernel.pids() } else { vec![first] };
        for pid in pids {
            let process = self.kernel.process(pid).filter(|p| !p.has_ended());
            match process {
                Some(p) => p.send_from_outside(number).map_err(|e| failed(pid, e))?,
                None if all => {}
                None => return Err(failed(pid, abi::Errno::ESRCH)),
            }
        }
        Ok(())
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

    fn processes(&self) -> Vec<ProcessInfo> {
        observe::processes(&self.kernel)
    }

    fn stats(&self) -> Stats {
        observe::stats(&self.kernel)
    }
}

/// Why the root process could not be executed, with the kind by which the caller chooses between
/// 127 and 126.
fn exec_failure(program: &str, errno: abi::Errno) -> Failure {
    let missing = matches!(errno, abi::Errno::ENOENT | abi::Errno::ENOTDIR);
    let (kind, advice) = if missing {
        (
            FailureKind::ProgramMissing,
            "check its name, and PATH in the container's environment",
        )
    } else {
        (
            FailureKind::ProgramNotExecutable,
            "check that it is an executable file for x86-64 Linux",
        )
    };
    Failure {
        kind,
        errno: Some(errno.code()),
        text: format!("cannot execute `{program}` in the container: {errno}; {advice}"),
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

/// Descriptors 0, 1 and 2, and the preserved ones after them.
fn stdio(
    args: &BootArgs,
    fds: &mut DonatedFds,
    cx: &KernelFsCtx,
    reactor: &Arc<Reactor>,
    console: Option<&Arc<Tty>>,
) -> Result<Arc<FdTable>, BootError> {
    let table = FdTable::new();
    let put = |n: i32, file: Arc<File>| {
        table
            .replace(n, file, false, u64::MAX)
            .map(drop)
            .map_err(BootError::guest("open the standard streams of", "/"))
    };
    if let Some(tty) = console {
        let file = terminal_file(cx, tty)
            .map_err(|e| BootError::guest("open the terminal", "/dev/pts/0")(e.errno()))?;
        for n in 0..3 {
            put(n, file.clone())?;
        }
    }
    let named = (0..3)
        .map(|n| args.stdio[n as usize])
        .chain(args.preserved.iter().map(|f| Some(*f)));
    // What is one description outside is one inside: the launcher names it by one index.
    let mut files: Vec<(_, Arc<File>)> = Vec::new();
    for (n, index) in (0..).zip(named) {
        let same = index.and_then(|i| files.iter().find(|(known, _)| *known == i));
        if let Some((_, file)) = same {
            put(n, file.clone())?;
            continue;
        }
        let (Some(index), Some(fd)) = (index, fds.take_opt(index, "a stream of the container")?)
        else {
            continue;
        };
        let host = HostFile::new(reactor, fd).map_err(|e| {
            BootError::Kernel(format!("cannot use the container's descriptor {n}: {e}"))
        })?;
        let flags = OpenFlags::from_guest(host.host_flags() as u32) - OpenFlags::NONBLOCK;
        let file = File::anonymous(cx, host, flags);
        files.push((index, file.clone()));
        put(n, file)?;
    }
    Ok(table)
}

/// The terminal by its name in the container, so that ttyname(3) finds it; without a name where
/// the container has no devpts.
fn terminal_file(cx: &KernelFsCtx, tty: &Arc<Tty>) -> Result<Arc<File>, ctx::SysErr> {
    let flags = OpenFlags::RDWR | OpenFlags::NOCTTY;
    let name = format!("/dev/pts/{}", tty.index());
    match vfs::open(
        cx,
        vfs::Start::Cwd,
        name.as_bytes(),
        flags,
        0,
        vfs::LookupFlags::empty(),
    ) {
        Ok(file) => Ok(file),
        Err(_) => {
            let opened = SlaveFile::open(cx, tty, flags)?;
            Ok(File::anonymous(cx, opened as Arc<dyn FileOps>, flags))
        }
    }
}

fn winsize(size: WindowSize) -> Winsize {
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

fn creds(p: &ProcessSpec) -> Creds {
    let c = p.capabilities;
    Creds {
        groups: p.groups.clone(),
        bounding: CapSet::from_bits(c.bounding),
        effective: CapSet::from_bits(c.effective),
        inheritable: CapSet::from_bits(c.inheritable),
        permitted: CapSet::from_bits(c.permitted),
        ambient: CapSet::from_bits(c.ambient),
        no_new_privs: p.no_new_privs,
        ..Creds::user(p.uid, p.gid)
    }
}

fn rlimits(p: &ProcessSpec) -> [Rlimit; RESOURCES] {
    let mut all = Limits::default().all();
    for l in &p.rlimits {
        if let Some(slot) = all.get_mut(l.resource as usize) {
            *slot = Rlimit {
                soft: l.soft.min(l.hard),
                hard: l.hard,
            };
        }
    }
    all
}

/// The host's memory, as the size of the machine that the guest sees.
fn host_memory() -> u64 {
    let info = nix::sys::sysinfo::sysinfo();
    info.map_or(DEFAULT_MEMORY, |i| i.ram_total())
}
