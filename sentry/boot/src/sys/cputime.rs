//! CPU time of the sentry's threads: a timer for each, on its own CPU clock, whose signal makes it
//! take a sample. A thread that sleeps is never disturbed.
// UNSAFETY: a signal handler, and timers that signal one thread.
#![expect(
    unsafe_code,
    reason = "timers that signal one thread have no safe wrapper"
)]

use super::sampler::{Registers, sample};
use control::profile::CPU_PERIOD;
use nix::errno::Errno;
use std::ptr::null_mut;
use std::sync::{Mutex, PoisonError};

/// Nobody else's here, neither the C library's nor a platform's.
const SIGNAL: i32 = libc::SIGPROF;
/// Most threads with a timer: the host counts timers against the user's pending signals.
const MAX_TIMERS: usize = 4096;

/// The timer of a thread.
#[derive(Debug)]
struct Timer {
    thread: i32,
    /// The host's number for it.
    number: i32,
}

/// Those that there are; none between profiles.
static TIMERS: Mutex<Option<Vec<Timer>>> = Mutex::new(None);

/// Begins, with those threads that are there already.
pub(crate) fn begin() -> Result<(), Errno> {
    // SAFETY: the handler allocates nothing, takes no lock, and makes only async-signal-safe calls.
    unsafe { super::handle(SIGNAL, on_signal)? };
    *TIMERS.lock().unwrap_or_else(PoisonError::into_inner) = Some(Vec::new());
    Ok(())
}

/// Ends.
pub(crate) fn end() {
    let timers = TIMERS.lock().unwrap_or_else(PoisonError::into_inner).take();
    drop(timers);
}

/// A thread is there.
pub(crate) fn add(thread: i32) -> Result<(), Errno> {
    let mut timers = TIMERS.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(timers) = &mut *timers else {
        return Ok(());
    };
    let known = timers.iter().any(|t| t.thread == thread);
    if !known && timers.len() < MAX_TIMERS {
        timers.push(Timer::new(thread)?);
    }
    Ok(())
}

/// The calling thread is there.
pub(crate) fn add_own() -> Result<(), Errno> {
    add(nix::unistd::gettid().as_raw())
}

/// The calling thread is about to end.
pub(crate) fn remove_own() {
    let own = nix::unistd::gettid().as_raw();
    let mut timers = TIMERS.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(timers) = &mut *timers {
        timers.retain(|t| t.thread != own);
    }
}

impl Timer {
    fn new(thread: i32) -> Result<Timer, Errno> {
        // As linux/posix-timers_types.h makes a thread's clock of its number: CPUCLOCK_SCHED and
        // CPUCLOCK_PERTHREAD_MASK.
        let clock = !thread << 3 | 2 | 4;
        // SAFETY: all zeros is a valid sigevent.
        let mut event: libc::sigevent = unsafe { std::mem::zeroed() };
        event.sigev_notify = libc::SIGEV_THREAD_ID;
        event.sigev_signo = SIGNAL;
        event.sigev_notify_thread_id = thread;
        let mut number = 0i32;
        // SAFETY: both live through the call. The C library's own wrapper only adds a table of its
        // threads' functions.
        let made = unsafe {
            libc::syscall(
                libc::SYS_timer_create,
                clock,
                &raw mut event,
                &raw mut number,
            )
        };
        Errno::result(made)?;
        let timer = Timer { thread, number };
        let period = libc::timespec {
            tv_sec: 0,
            tv_nsec: CPU_PERIOD.cast_signed(),
        };
        let setting = libc::itimerspec {
            it_interval: period,
            it_value: period,
        };
        // SAFETY: the setting lives through the call; the number is the timer's.
        let set = unsafe {
            libc::syscall(
                libc::SYS_timer_settime,
                number,
                0,
                &raw const setting,
                null_mut::<libc::itimerspec>(),
            )
        };
        Errno::result(set).map(|_| timer)
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        // SAFETY: the number is this timer's until now.
        unsafe { libc::syscall(libc::SYS_timer_delete, self.number) };
    }
}

extern "C" fn on_signal(_: i32, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // `si_overrun` stands behind `si_tid`, at byte 20 of siginfo: how often the time was over again
    // before the signal came.
    // SAFETY: the kernel hands a whole siginfo_t to a SA_SIGINFO handler.
    let missed = unsafe { info.cast::<u8>().add(20).cast::<i32>().read_unaligned() };
    let periods = 1 + u64::try_from(missed).unwrap_or(0);
    // SAFETY: and a whole ucontext_t.
    let registers = unsafe { &(*context.cast::<libc::ucontext_t>()).uc_mcontext.gregs };
    let word = |n: i32| registers[n as usize].cast_unsigned();
    let at = Registers {
        ip: word(libc::REG_RIP),
        sp: word(libc::REG_RSP),
        bp: word(libc::REG_RBP),
    };
    sample(at, periods.saturating_mul(CPU_PERIOD), 0);
}
