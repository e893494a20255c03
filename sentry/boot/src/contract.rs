//! What the control server asks of those it speaks for: the kernel of a container, a process, a
//! profile; and how it hears of their end.

use control::boot::Limits;
use control::debug::{Counters, Logging, Stacks, Traced};
use control::message::{ExecSpec, Failure, JoinSpec, ProcessInfo, SandboxState, Stats, WindowSize};
use control::profile::{ProfileSpec, Profiled, Profiling};
use nix::errno::Errno;
use nix::sys::eventfd::{EfdFlags, EventFd};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, OnceLock};

/// What the control server can ask of the kernel. All calls come from its threads, several at
/// once.
pub trait Kernel: Send + Sync {
    /// Runs the root process; once.
    fn start(&self) -> Result<(), Failure>;
    /// Whether what [`Kernel::start`] will run is there.
    fn check(&self) -> Result<(), Failure>;
    /// Sends `signal` to a process by its number inside (none: the first), or to all.
    fn signal(&self, pid: Option<i32>, signal: i32, all: bool) -> Result<(), Failure>;
    /// Blocks until the root process ended and all others are gone; its wait status. Called once,
    /// by the process's first thread.
    fn wait(&self) -> i32;
    /// Where the root process stands.
    fn state(&self) -> SandboxState;
    /// Sets the size of the container's terminal, if it has one.
    fn resize(&self, size: WindowSize);
    /// A report for a person who looks for a fault.
    fn dump(&self) -> String;
    /// The container's processes, by number.
    fn processes(&self) -> Vec<ProcessInfo>;
    /// What it uses.
    fn stats(&self) -> Stats;
    /// Runs a further process, with descriptors that came along.
    fn exec(&self, spec: &ExecSpec, fds: Vec<OwnedFd>) -> Result<Arc<dyn Process>, Failure>;
    /// Pauses all tasks; once it comes back none runs.
    fn pause(&self) -> Result<(), Failure>;
    /// Lets them go on.
    fn resume(&self);
    /// Changes what the container may use.
    fn update(&self, wanted: &Limits) -> Result<(), Failure>;
    /// Has these threads write their stacks into the file that came along.
    fn stacks(&self, threads: &[i32], fds: Vec<OwnedFd>) -> Result<Stacks, Failure>;
    /// How much there is of what is kept.
    fn counters(&self) -> Counters;
    /// Changes what is logged; a log file may have come along.
    fn logging(&self, wanted: &Logging, fds: Vec<OwnedFd>) -> Result<(), Failure>;
    /// Begins a trace into the file that came along.
    fn begin_trace(&self, fds: Vec<OwnedFd>) -> Result<(), Failure>;
    /// Ends it.
    fn end_trace(&self) -> Traced;
    /// Begins a profile into the socket that came along.
    fn profile(&self, spec: &ProfileSpec, fds: Vec<OwnedFd>) -> Result<Box<dyn Profile>, Failure>;
    /// Brings a further container up, with descriptors that came along. When what is returned is
    /// dropped, the container is ended, and all that it had is freed.
    fn join(&self, spec: &JoinSpec, fds: Vec<OwnedFd>) -> Result<Arc<dyn Process>, Failure>;
    /// The container with this id among those that joined.
    fn joined(&self, id: &str) -> Option<Target>;
    /// Ends it, if it is there, and waits until all that it had is freed.
    fn destroy(&self, id: &str) -> Result<(), Failure>;
}

/// A container, and its end.
#[derive(Clone)]
pub struct Target {
    /// What can be asked of it.
    pub kernel: Arc<dyn Kernel>,
    /// Tells those who wait for it.
    pub end: Arc<End>,
}

/// The end of a container, for those who wait for it.
#[derive(Debug)]
pub struct End {
    /// Readable from then on.
    event: EventFd,
    status: OnceLock<i32>,
}

impl End {
    pub(crate) fn new() -> Result<End, Errno> {
        let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        Ok(End {
            event: EventFd::from_value_and_flags(0, flags)?,
            status: OnceLock::new(),
        })
    }

    /// It ended with this wait status, unless it had before.
    pub(crate) fn announce(&self, wait_status: i32) {
        if self.status.set(wait_status).is_ok()
            && let Err(e) = self.event.write(1)
        {
            tracing::warn!("cannot announce the end: {e}");
        }
    }

    /// Readable from the end on.
    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.event.as_fd()
    }

    /// With which wait status it ended.
    pub(crate) fn status(&self) -> Option<i32> {
        self.status.get().copied()
    }
}

/// A process that [`Kernel::exec`] started, or the first one of a container that joined. When
/// dropped, it is killed.
pub trait Process: Send + Sync {
    /// Its number inside; none for one that is still to be started.
    fn pid(&self) -> Option<i32>;
    /// Its wait status, once it ended and what it wrote to its terminal was handed on.
    fn ended(&self) -> Option<i32>;
    /// Readable when [`Process::ended`] may have changed; emptied by it.
    fn news(&self) -> BorrowedFd<'_>;
    /// The end of somebody without whom it ends, too: its hang-up is news.
    fn depends_on(&self) -> Option<BorrowedFd<'_>>;
    /// Sends a signal to it.
    fn signal(&self, signal: i32);
    /// Sets the size of its terminal, if it has one.
    fn resize(&self, size: WindowSize);
}

/// A profile in the making. When dropped, it is over.
pub trait Profile {
    /// What the asker has to know at the beginning.
    fn begun(&self) -> &Profiling;
    /// Its time is over.
    fn end(self: Box<Self>) -> Profiled;
}
