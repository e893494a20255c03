//! `exec`: a further process in a running container.
//!
//! It joins the mounts that the container's first process sees now, stands in a session of its own
//! and has no parent inside. Whoever asked for it holds a connection as its hand: what becomes of it
//! is told there, and it is killed when that closes.

use crate::contract::Process;
use crate::kernel::{Container, winsize};
use crate::process::DonatedFds;
use crate::program::{self, Surroundings, exec_failure};
use crate::search;
use crate::streams::Streams;
use control::message::{ExecSpec, Failure, FailureKind, WindowSize};
use ctx::Terminal;
use fs_devpts::{DevPts, Tty};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};
use signal::Signal;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};
use task::ThreadGroup;
use vfs::{FsCtx, KernelFsCtx, LookupFlags, Start};
use wait::{EntryId, Events, Listener, Queue};

/// How long the end of a process is held back for output that its terminal's other side does not
/// take.
const DRAIN: Duration = Duration::from_secs(2);

/// Starts it.
pub(crate) fn start(
    container: &Container,
    spec: &ExecSpec,
    fds: Vec<OwnedFd>,
) -> Result<Arc<dyn Process>, Failure> {
    let kernel = &container.kernel;
    let mut fds = DonatedFds::new(fds);
    let mounts = container.mounts();
    let cx = KernelFsCtx::new(kernel.clocks().clone(), mounts.clone());
    let terminal = terminal(container, &cx, spec, &mut fds)?;
    let tty = terminal.as_ref().map(|named| named.tty.clone());
    let files = Streams {
        stdio: &spec.stdio,
        preserved: &spec.preserved,
        terminal: tty.as_ref(),
    }
    .open(&mut fds, &cx, &container.reactor)?;
    let p = &spec.process;
    let name = p.args.first().cloned().unwrap_or_default();
    if p.affinity.as_ref().is_some_and(|m| !kernel.has_cpu_in(m)) {
        return Err(Failure {
            kind: FailureKind::Invalid,
            errno: Some(abi::Errno::EINVAL.code()),
            text: format!(
                "process.execCPUAffinity leaves no CPU to run on: the container has {}, numbered \
                 from 0",
                kernel.cpus()
            ),
        });
    }
    let mut program = program::program(
        p,
        Surroundings {
            container: container.own.clone(),
            fds: files,
            root: cx.root(),
            cwd: cx.root(),
            terminal: tty.clone().map(|t| t as Arc<dyn Terminal>),
            mounts: mounts.clone(),
        },
    )?;
    // As the process itself would: its user may not be allowed in.
    let creds = Arc::new(program.creds.clone());
    let own = KernelFsCtx::with_creds(kernel.clocks().clone(), mounts, creds.clone());
    let flags = LookupFlags::FOLLOW | LookupFlags::DIRECTORY;
    program.cwd = vfs::walk::resolve(&own, Start::Cwd, p.cwd.as_bytes(), flags)
        .map_err(|e| e.errno())
        .and_then(|at| vfs::access::permission(&own, &creds, &at, vfs::access::EXEC).map(|()| at))
        .map_err(|errno| Failure {
            kind: FailureKind::Invalid,
            errno: Some(errno.code()),
            text: format!(
                "cannot enter the working directory {} in the container: {errno}; give another \
                 with --cwd",
                p.cwd
            ),
        })?;
    search::in_path(kernel, &mut program).map_err(|errno| exec_failure(&name, errno))?;
    let news = Arc::new(News::new()?);
    let task = kernel
        .spawn(program)
        .map_err(|errno| exec_failure(&name, errno))?;
    let group = task.group().clone();
    let heard = hear(group.end_queue(), Events::HUP, &news);
    Ok(Arc::new(Executed {
        group,
        terminal: terminal.map(|named| {
            let heard = hear(named.tty.queue(), Events::WRITABLE, &news);
            (named, heard)
        }),
        news,
        heard,
    }))
}

/// A terminal with its name in the container, which goes with this.
struct Named {
    tty: Arc<Tty>,
    pts: Option<Arc<DevPts>>,
}

impl Drop for Named {
    fn drop(&mut self) {
        if let Some(pts) = &self.pts {
            pts.remove(self.tty.index());
        }
    }
}

fn terminal(
    container: &Container,
    cx: &KernelFsCtx,
    spec: &ExecSpec,
    fds: &mut DonatedFds,
) -> Result<Option<Named>, Failure> {
    let Some(fd) = fds.take_opt(spec.console, "the process's terminal")? else {
        return Ok(None);
    };
    let size = spec.process.console_size.map(winsize).unwrap_or_default();
    let make = |index| -> Result<Arc<Tty>, abi::Errno> {
        let fd = fd.try_clone()?;
        Ok(fs_devpts::host::open(&container.reactor, index, fd, size)?)
    };
    let tty = match &container.pts {
        Some(pts) => pts.adopt_new(cx, make),
        None => make(0),
    };
    let tty = tty.map_err(|errno| Failure {
        kind: FailureKind::Internal,
        errno: Some(errno.code()),
        text: format!("cannot use the process's terminal: {errno}"),
    })?;
    let pts = container.pts.clone();
    Ok(Some(Named { tty, pts }))
}

/// Wakes the thread that attends the process.
pub(crate) struct News(EventFd);

impl News {
    pub(crate) fn new() -> Result<News, Failure> {
        let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        EventFd::from_value_and_flags(0, flags)
            .map(News)
            .map_err(|e| {
                let text = format!("cannot make an event descriptor: {e}");
                Failure::new(FailureKind::Internal, text)
            })
    }
}

impl News {
    /// Readable when there are some.
    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }

    /// They have been heard.
    pub(crate) fn take(&self) {
        let _was_empty = self.0.read();
    }

    /// There are some.
    pub(crate) fn give(&self) {
        // It fails only when it is full, and then it is readable.
        let _full = self.0.write(1);
    }
}

impl Listener for News {
    fn notify(&self, _: Events) {
        self.give();
    }
}

pub(crate) fn hear(queue: &Queue, events: Events, news: &Arc<News>) -> EntryId {
    queue.add(events, news.clone())
}

/// Waits until what was written to `tty` was handed on, of which `news` tells; no longer than makes
/// sense.
pub(crate) fn hand_on(tty: &Tty, news: &News) {
    let until = Instant::now() + DRAIN;
    while !tty.is_drained() {
        let left = until.saturating_duration_since(Instant::now());
        let left = PollTimeout::try_from(left).unwrap_or(PollTimeout::ZERO);
        let mut fds = [PollFd::new(news.fd(), PollFlags::POLLIN)];
        if left == PollTimeout::ZERO || poll(&mut fds, left) == Ok(0) {
            break;
        }
        news.take();
    }
}

/// The process, in the hand of the one who asked for it.
struct Executed {
    group: Arc<ThreadGroup>,
    terminal: Option<(Named, EntryId)>,
    news: Arc<News>,
    heard: EntryId,
}

impl Process for Executed {
    fn pid(&self) -> Option<i32> {
        Some(self.group.tgid())
    }

    fn ended(&self) -> Option<i32> {
        self.news.take();
        let status = self.group.status()?.wait_status();
        if let Some((named, _)) = &self.terminal {
            hand_on(&named.tty, &self.news);
        }
        Some(status)
    }

    fn news(&self) -> BorrowedFd<'_> {
        self.news.fd()
    }

    fn depends_on(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    fn signal(&self, signal: i32) {
        let sent = Signal::new(signal).and_then(|s| self.group.send_from_outside(s));
        if let Err(e) = sent {
            tracing::debug!(signal, "not sent to an executed process: {e}");
        }
    }

    fn resize(&self, size: WindowSize) {
        if let Some((named, _)) = &self.terminal {
            named.tty.resize(winsize(size));
        }
    }
}

impl Drop for Executed {
    fn drop(&mut self) {
        self.group.end_queue().remove(self.heard);
        if let Some((named, heard)) = &self.terminal {
            named.tty.queue().remove(*heard);
        }
        let _ended = self.group.send_from_outside(Signal::KILL);
    }
}
