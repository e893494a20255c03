//! ptrace(2): one task holds another, looks into it and has it go on.
//!
//! Who traces whom is a list in the task tree ([`link`]). A task that is traced has a [`Tracee`], and
//! one bit of the word that it looks at before each system call ([`crate::confine::Mode`]): that is
//! all an untraced task pays. It stops by itself ([`stops`], [`calls`]): it puts what a tracer may
//! see, its registers among it, into a [`Stop`] and sleeps. Its tracer works on that and on the
//! memory ([`requests`], [`registers`]), and hears of it by wait4(2) ([`wait`]).
//!
//! Lock order: tree -> group -> tracee.

mod calls;
mod link;
mod registers;
mod requests;
mod stops;
mod wait;

use crate::Task;
use abi::Errno;
use auth::{Capability, Creds};
use platform_api::Registers;
use signal::{SigInfo, SigSet};
use std::sync::Arc;

pub(crate) use calls::{Entered, TRAP_FLAG};
pub(crate) use link::{Place, Remains, Trace};
pub use registers::{FS_BASE, GS_BASE};
pub use requests::{CallInfo, CallStop, Held, QueuedSignals, Regset};
pub(crate) use stops::{notify_seized, stop_completed, trap_wanted};

bitflags::bitflags! {
    /// `PTRACE_O_*`
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
    pub struct TraceOptions: u32 {
        /// `PTRACE_O_TRACESYSGOOD`
        const SYSGOOD = 1;
        /// `PTRACE_O_TRACEFORK`
        const FORK = 1 << 1;
        /// `PTRACE_O_TRACEVFORK`
        const VFORK = 1 << 2;
        /// `PTRACE_O_TRACECLONE`
        const CLONE = 1 << 3;
        /// `PTRACE_O_TRACEEXEC`
        const EXEC = 1 << 4;
        /// `PTRACE_O_TRACEVFORKDONE`
        const VFORK_DONE = 1 << 5;
        /// `PTRACE_O_TRACEEXIT`
        const EXIT = 1 << 6;
        /// `PTRACE_O_TRACESECCOMP`
        const SECCOMP = 1 << 7;
        /// `PTRACE_O_EXITKILL`
        const EXITKILL = 1 << 20;
        /// `PTRACE_O_SUSPEND_SECCOMP`
        const SUSPEND_SECCOMP = 1 << 21;
    }
}

/// `PTRACE_EVENT_*`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    Fork = 1,
    Vfork,
    Clone,
    Exec,
    VforkDone,
    Exit,
    Seccomp,
    Stop = 128,
}

impl Event {
    /// What asks for it; nothing for stops of a seized task, which are not asked for.
    fn option(self) -> TraceOptions {
        match self {
            Event::Stop => TraceOptions::empty(),
            other => TraceOptions::from_bits_truncate(1 << other as u32),
        }
    }
}

/// How a tracee was told to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Resume {
    /// Until the next system call begins or ends (`PTRACE_SYSCALL`).
    pub calls: bool,
    /// Until the next one begins, which is not made (`PTRACE_SYSEMU`).
    pub emulate: bool,
    /// For one instruction (`PTRACE_SINGLESTEP`).
    pub step: bool,
}

/// What is kept of a task because it is, or may be, traced.
#[derive(Default)]
pub(crate) struct Tracee {
    pub(crate) by: Option<Tracer>,
    /// By `PTRACE_SEIZE`.
    pub(crate) seized: bool,
    pub(crate) options: TraceOptions,
    /// `PTRACE_GETEVENTMSG`
    message: u64,
    resume: Resume,
    /// It is to stop as soon as it can (`PTRACE_INTERRUPT`).
    trap: bool,
    /// What became of the stop of its process is news to who seized it.
    notify: bool,
    /// It stays in its stop, and tells of what comes (`PTRACE_LISTEN`).
    listening: bool,
    stop: Option<Box<Stop>>,
}

/// Who traces.
pub(crate) struct Tracer {
    pub(crate) task: Arc<Task>,
    /// Where the tree lists it.
    place: Place,
    /// Those it had when it began to.
    pub(crate) creds: Arc<Creds>,
}

/// A task that has stopped for its tracer.
struct Stop {
    /// What wait4(2) says, above the lowest byte; 0 once it has been said.
    code: i32,
    info: Option<SigInfo>,
    is_signal: bool,
    regs: Registers,
    /// The trap flag among its flags is the tracer's, not its own.
    forced_step: bool,
    /// A mask that a call has replaced for a while.
    saved_mask: Option<SigSet>,
    xstate: Xstate,
    /// The signal with which it is to go on, once it is.
    over: Option<i32>,
}

/// The extended state is with the platform, and fetched when somebody asks.
enum Xstate {
    Away,
    Wanted,
    Here(Vec<u8>),
    Changed(Vec<u8>),
}

impl Tracee {
    /// The stop it is in, as far as a tracer is concerned; `ESRCH` where it is in none.
    fn stopped(&mut self) -> Result<&mut Stop, Errno> {
        let told = !self.listening;
        let stop = self.stop.as_deref_mut();
        stop.filter(|s| told && s.over.is_none())
            .ok_or(Errno::ESRCH)
    }

    /// `ESRCH` unless it is `tracer`'s.
    fn of(&self, tracer: &Arc<Task>) -> Result<(), Errno> {
        match &self.by {
            Some(by) if Arc::ptr_eq(&by.task, tracer) => Ok(()),
            _ => Err(Errno::ESRCH),
        }
    }

    /// It ends: no stop comes any more, and who waits for one is to see that.
    pub(crate) fn give_up(&mut self) {
        self.trap = false;
        if let Some(by) = &self.by {
            by.task.waker().wake();
        }
    }

    fn enabled(&self, event: Event) -> bool {
        self.by.is_some() && self.options.contains(event.option())
    }

    /// Whether calls are to be made without looking at filters.
    pub(crate) fn suspends_seccomp(&self) -> bool {
        self.by.is_some() && self.options.contains(TraceOptions::SUSPEND_SECCOMP)
    }
}

impl Task {
    /// Who traces it.
    pub fn tracer(&self) -> Option<Arc<Task>> {
        if !self.is_traced() {
            return None;
        }
        self.tracee.lock().by.as_ref().map(|by| by.task.clone())
    }

    /// Whether it is traced.
    pub fn is_traced(&self) -> bool {
        self.seccomp.is_traced()
    }

    /// Whether it has stopped for its tracer.
    pub fn is_trapped(&self) -> bool {
        self.trapped.load(std::sync::atomic::Ordering::SeqCst)
    }

    /// Whether one that could not have what it gains has begun to trace it since `before`.
    pub(crate) fn was_traced_since(&self, before: &Option<Arc<Creds>>) -> bool {
        let Some(now) = self.tracer_creds() else {
            return false;
        };
        let same = before.as_ref().is_some_and(|b| Arc::ptr_eq(b, &now));
        !same && !now.has_in(&self.creds().user_ns, Capability::SysPtrace)
    }

    /// What a program gains by its file, it gains under a tracer only if that could have it, too.
    pub(crate) fn tracer_creds(&self) -> Option<Arc<Creds>> {
        if !self.is_traced() {
            return None;
        }
        self.tracee.lock().by.as_ref().map(|by| by.creds.clone())
    }
}
