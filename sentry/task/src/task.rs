//! A task: one guest thread, as others see it.

use crate::confine::Mode;
use crate::cpu::{CpuClock, CpuTime, Phase};
use crate::tracer::Tracee;
use crate::users::Users;
use crate::vfork::VforkDone;
use crate::{FsContext, IoAccount, Kernel, Namespaces, ThreadGroup};
use auth::Creds;
use ctx::Pid;
use mm::Mm;
use platform_api::Interrupter;
use signal::{Pending, SigSet, Signal};
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Instant;
use sync::census::{Counted, Kind};
use sync::{Mutex, ranks};
use vfs::{FdTable, MountNamespace};
use wait::Waker;

/// A guest thread. What only it itself needs lies in [`crate::TaskCx`].
///
/// Lock order: task tree -> thread group -> task -> tracee -> pending signals.
pub struct Task {
    pub(crate) state: Mutex<TaskState, ranks::Task>,
    pub(crate) pending: Mutex<Pending, ranks::Signals>,
    pub(crate) tracee: Mutex<Tracee, ranks::Tracee>,
    /// Changed only by an exec that takes over the leader's place.
    pub(crate) tid: AtomicI32,
    /// What it was called at its beginning.
    first_pid: Pid,
    _counted: Counted,
    group: Arc<ThreadGroup>,
    kernel: Arc<Kernel>,
    waker: Arc<Waker>,
    pub(crate) futex: Arc<futex::Waiter>,
    interrupter: OnceLock<Arc<dyn Interrupter>>,
    /// There is something to look at before guest code runs: set with the group's lock held.
    pub(crate) work: AtomicBool,
    /// Written by the task itself, with the group's lock held.
    pub(crate) blocked: AtomicU64,
    /// What is blocked but for a sigtimedwait(2) that goes on.
    pub(crate) real_blocked: AtomicU64,
    /// Sleeps in the group's present stop.
    pub(crate) stopped: AtomicBool,
    /// Has taken part in the group's present stop; a tracee may go on all the same.
    pub(crate) joined_stop: AtomicBool,
    /// Has stopped for its tracer.
    pub(crate) trapped: AtomicBool,
    pub(crate) exiting: AtomicBool,
    /// Execs gain nothing. Never unset.
    no_new_privs: AtomicBool,
    pub(crate) seccomp: Mode,
    pub(crate) cpu: CpuClock,
    io: IoAccount,
    /// `CLOCK_BOOTTIME` at its start, in nanoseconds.
    started: i64,
    /// The host thread that runs it, as numbered in the sandbox's PID namespace.
    thread: AtomicI32,
    /// The call under way; [`NO_CALL`] outside.
    call: AtomicU32,
}

const NO_CALL: u32 = u32::MAX;

/// What a task shares and what it is called.
pub(crate) struct TaskState {
    pub(crate) creds: Arc<Creds>,
    pub(crate) mm: Option<Arc<Users<Mm>>>,
    pub(crate) fds: Option<Arc<Users<FdTable>>>,
    pub(crate) fs: Option<Arc<Users<FsContext>>>,
    pub(crate) mounts: Option<Arc<MountNamespace>>,
    /// Until it ends.
    pub(crate) namespaces: Option<Namespaces>,
    pub(crate) name: [u8; 16],
    pub(crate) parent_death_signal: i32,
    pub(crate) clear_child_tid: u64,
    pub(crate) robust_list: u64,
    pub(crate) vfork: Option<Arc<VforkDone>>,
    pub(crate) personality: u32,
    pub(crate) nice: i32,
    pub(crate) policy: i32,
    pub(crate) priority: i32,
    pub(crate) reset_on_fork: bool,
    /// Virtual CPUs it may run on, as bits.
    pub(crate) affinity: Vec<u8>,
    pub(crate) timer_slack: u64,
    /// What a slack of 0 sets it to: what its maker had.
    pub(crate) default_slack: u64,
    pub(crate) io_priority: i32,
    pub(crate) filter: Option<Arc<seccomp::Filter>>,
}

impl std::fmt::Debug for Task {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Task({})", self.tid())
    }
}

impl Task {
    pub(crate) fn new(
        kernel: Arc<Kernel>,
        group: Arc<ThreadGroup>,
        pid: Pid,
        blocked: SigSet,
        state: TaskState,
    ) -> Arc<Task> {
        let waker = Waker::new();
        Arc::new(Task {
            state: Mutex::new(state),
            pending: Mutex::new(Pending::new()),
            tracee: Mutex::new(Tracee::default()),
            tid: AtomicI32::new(pid.id()),
            first_pid: pid,
            _counted: Counted::new(Kind::Task),
            futex: futex::Waiter::new(waker.clone()),
            waker,
            interrupter: OnceLock::new(),
            work: AtomicBool::new(false),
            blocked: AtomicU64::new(blocked.bits()),
            real_blocked: AtomicU64::new(0),
            stopped: AtomicBool::new(false),
            joined_stop: AtomicBool::new(false),
            trapped: AtomicBool::new(false),
            exiting: AtomicBool::new(false),
            no_new_privs: AtomicBool::new(false),
            seccomp: Mode::default(),
            cpu: CpuClock::new(kernel.epoch()),
            io: IoAccount::default(),
            started: kernel.clocks().now(time::ClockId::Boottime),
            thread: AtomicI32::new(0),
            call: AtomicU32::new(NO_CALL),
            group,
            kernel,
        })
    }

    /// Its thread id, as the kernel has it.
    pub fn tid(&self) -> i32 {
        self.tid.load(Ordering::SeqCst)
    }

    /// What it is called in each PID namespace that it is in.
    pub fn pid(&self) -> &Pid {
        match self.tid() == self.first_pid.id() {
            true => &self.first_pid,
            // It has taken the leader's place.
            false => self.group.pid(),
        }
    }

    /// The process it belongs to.
    pub fn group(&self) -> &Arc<ThreadGroup> {
        &self.group
    }

    /// Its process id, as the kernel has it.
    pub fn tgid(&self) -> i32 {
        self.group.tgid()
    }

    /// The sandbox's kernel.
    pub fn kernel(&self) -> &Arc<Kernel> {
        &self.kernel
    }

    pub(crate) fn waker(&self) -> &Arc<Waker> {
        &self.waker
    }

    pub(crate) fn set_interrupter(&self, interrupter: Arc<dyn Interrupter>) {
        let _ = self.interrupter.set(interrupter);
    }

    pub(crate) fn runs_on(&self, thread: i32) {
        self.thread.store(thread, Ordering::Relaxed);
    }

    /// The host thread that runs it, as numbered in the sandbox's PID namespace; 0 before it first
    /// ran.
    pub fn thread(&self) -> i32 {
        self.thread.load(Ordering::Relaxed)
    }

    /// Since when it sleeps, if it does.
    pub fn sleeps_since(&self) -> Option<Instant> {
        self.cpu.parked_since()
    }

    #[inline]
    pub(crate) fn begin_call(&self, nr: u64) {
        self.call.store(nr as u32, Ordering::Relaxed);
    }

    #[inline]
    pub(crate) fn end_call(&self) {
        self.call.store(NO_CALL, Ordering::Relaxed);
    }

    /// The number of the system call under way.
    pub fn call(&self) -> Option<u64> {
        let nr = self.call.load(Ordering::Relaxed);
        (nr != NO_CALL).then_some(u64::from(nr))
    }

    /// Whether it runs guest code.
    pub fn is_in_guest(&self) -> bool {
        self.cpu.phase() == Phase::Guest
    }

    /// Its credentials.
    pub fn creds(&self) -> Arc<Creds> {
        self.state.lock().creds.clone()
    }

    /// Its memory; `None` once it has exited.
    pub fn mm(&self) -> Option<Arc<Mm>> {
        self.state.lock().mm.as_ref().map(|m| m.get().clone())
    }

    /// Its descriptors; `None` once it has exited.
    pub fn fds(&self) -> Option<Arc<FdTable>> {
        self.state.lock().fds.as_ref().map(|f| f.get().clone())
    }

    /// Its view of the file tree; `None` once it has exited.
    pub fn fs(&self) -> Option<Arc<FsContext>> {
        self.state.lock().fs.as_ref().map(|f| f.get().clone())
    }

    /// The mounts it sees; `None` once it has exited.
    pub fn mounts(&self) -> Option<Arc<MountNamespace>> {
        self.state.lock().mounts.clone()
    }

    /// `comm`: at most 15 bytes.
    pub fn name(&self) -> Vec<u8> {
        let name = self.state.lock().name;
        name.split(|b| *b == 0).next().unwrap_or_default().to_vec()
    }

    /// Changes `comm` (prctl(PR_SET_NAME), /proc/PID/comm).
    pub fn set_name(&self, name: &[u8]) {
        let mut short = [0; 16];
        let len = name
            .iter()
            .position(|b| *b == 0)
            .unwrap_or(name.len())
            .min(15);
        short[..len].copy_from_slice(&name[..len]);
        self.state.lock().name = short;
    }

    /// The signals it blocks.
    pub fn blocked(&self) -> SigSet {
        SigSet::from_bits(self.blocked.load(Ordering::SeqCst))
    }

    /// Whether it blocks `signal` apart from waiting for it.
    pub(crate) fn really_blocked(&self, signal: Signal) -> bool {
        SigSet::from_bits(self.real_blocked.load(Ordering::SeqCst)).has(signal)
    }

    /// How many signals are queued for it and for its process.
    pub fn queued_signals(&self) -> usize {
        // Lock order: group -> task.
        let group = self.group.state.lock();
        group.pending.len() + self.pending.lock().len()
    }

    /// The signals pending for this thread alone.
    pub fn pending(&self) -> SigSet {
        self.pending.lock().set()
    }

    /// What it has read and written.
    pub fn io(&self) -> &IoAccount {
        &self.io
    }

    /// CPU time it has used.
    pub fn cpu_time(&self) -> CpuTime {
        self.cpu.time()
    }

    /// `CLOCK_BOOTTIME` when it began, in nanoseconds.
    pub fn start_time(&self) -> i64 {
        self.started
    }

    /// Whether execs gain nothing (prctl(PR_GET_NO_NEW_PRIVS)).
    pub fn no_new_privs(&self) -> bool {
        self.no_new_privs.load(Ordering::SeqCst)
    }

    /// prctl(PR_SET_NO_NEW_PRIVS)
    pub fn set_no_new_privs(&self) {
        self.no_new_privs.store(true, Ordering::SeqCst);
    }

    /// Whether it has begun to exit.
    pub fn is_exiting(&self) -> bool {
        self.exiting.load(Ordering::SeqCst)
    }

    /// Whether it is stopped by job control.
    pub fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::SeqCst)
    }

    /// The letter of /proc/PID/stat: `R`, `S`, `T`, `t`, `Z`.
    pub fn state_letter(&self) -> u8 {
        if self.is_exiting() {
            b'Z'
        } else if self.is_trapped() {
            b't'
        } else if self.is_stopped() {
            b'T'
        } else if self.cpu.phase() == Phase::Parked {
            b'S'
        } else {
            b'R'
        }
    }

    /// Makes it look at what there is to do: ends its switch or its sleep.
    pub(crate) fn interrupt(&self) {
        self.work.store(true, Ordering::SeqCst);
        self.waker.wake();
        // It looks at `work` after it has entered the guest phase and before it switches.
        if self.cpu.phase() == Phase::Guest
            && let Some(i) = self.interrupter.get()
        {
            i.interrupt();
        }
    }
}
