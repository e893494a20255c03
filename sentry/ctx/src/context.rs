//! The context of a call.

use crate::{JobControl, NoMemory, Pid, PidSpace, UserMemory, Wake};
use auth::Creds;
use std::sync::Arc;
use std::time::Instant;
use time::Clocks;
use wait::Waker;

/// Resource limits by their Linux numbers (getrlimit(2)).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(usize)]
#[expect(missing_docs, reason = "getrlimit(2) says what each is")]
pub enum Resource {
    Cpu = 0,
    Fsize = 1,
    Data = 2,
    Stack = 3,
    Core = 4,
    Rss = 5,
    Nproc = 6,
    Nofile = 7,
    Memlock = 8,
    As = 9,
    Locks = 10,
    Sigpending = 11,
    Msgqueue = 12,
    Nice = 13,
    Rtprio = 14,
    Rttime = 15,
}

/// What any code below tasks may ask of the task it works for.
pub trait Ctx {
    /// Its credentials.
    fn creds(&self) -> Arc<Creds>;

    /// Its memory.
    fn memory(&self) -> &dyn UserMemory;

    /// The sandbox's clocks.
    fn clocks(&self) -> &Clocks;

    /// The waker that [`Ctx::park`] sleeps on; register it with what is being waited for.
    fn waker(&self) -> &Arc<Waker>;

    /// Sleeps until the waker is woken, the deadline passes, or the task is wanted elsewhere.
    /// Spurious returns of [`Wake::Notified`] happen.
    fn park(&self, deadline: Option<Instant>) -> Wake;

    /// Whether a signal, kill or stop is waiting, so that long work should come to an end.
    fn interrupted(&self) -> bool;

    /// Sends `signal` to the task itself, as the kernel does (`SIGPIPE`, `SIGXFSZ`).
    fn raise(&self, signal: i32);

    /// The soft limit of `resource`; `u64::MAX` is none.
    fn limit(&self, resource: Resource) -> u64;

    /// Thread group id, in the task's own PID namespace; the kernel itself has none.
    fn pid(&self) -> i32;

    /// Thread id, in the task's own PID namespace.
    fn tid(&self) -> i32 {
        self.pid()
    }

    /// The PID namespace whose numbers it knows, and is told.
    fn pid_space(&self) -> PidSpace {
        PidSpace::default()
    }

    /// What its process is called wherever that is seen: for owners of locks, credentials, and
    /// whatever else tells others of it.
    fn process_id(&self) -> Pid {
        Pid::new(self.pid_space(), self.pid())
    }

    /// As [`Ctx::process_id`], of the thread.
    fn thread_id(&self) -> Pid {
        Pid::new(self.pid_space(), self.tid())
    }

    /// A number that tells its process from all others, those of other PID namespaces too.
    fn process(&self) -> u64 {
        u64::from(self.pid().unsigned_abs())
    }

    /// Its session and process group; the kernel itself has none.
    fn job(&self) -> Option<&dyn JobControl> {
        None
    }
}

/// The context of the kernel itself: uid 0, no guest memory, nothing interrupts it.
#[derive(Debug)]
pub struct KernelCtx {
    creds: Arc<Creds>,
    clocks: Arc<Clocks>,
    waker: Arc<Waker>,
}

impl KernelCtx {
    /// For the calling thread alone (its waker parks that thread).
    pub fn new(clocks: Arc<Clocks>) -> KernelCtx {
        KernelCtx::with_creds(clocks, Arc::new(Creds::root()))
    }

    /// As [`KernelCtx::new`], acting with `creds`.
    pub fn with_creds(clocks: Arc<Clocks>, creds: Arc<Creds>) -> KernelCtx {
        KernelCtx {
            creds,
            clocks,
            waker: Waker::new(),
        }
    }
}

impl Ctx for KernelCtx {
    fn creds(&self) -> Arc<Creds> {
        self.creds.clone()
    }
    fn memory(&self) -> &dyn UserMemory {
        &NoMemory
    }
    fn clocks(&self) -> &Clocks {
        &self.clocks
    }
    fn waker(&self) -> &Arc<Waker> {
        &self.waker
    }
    fn park(&self, deadline: Option<Instant>) -> Wake {
        if self.waker.park(deadline) {
            Wake::Notified
        } else {
            Wake::TimedOut
        }
    }
    fn interrupted(&self) -> bool {
        false
    }
    fn raise(&self, _signal: i32) {}
    fn limit(&self, _resource: Resource) -> u64 {
        u64::MAX
    }
    fn pid(&self) -> i32 {
        0
    }
}
