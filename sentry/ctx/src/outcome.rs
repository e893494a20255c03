//! How a system call ends.

use abi::Errno;

/// What becomes of a call that a signal interrupted (signal(7), "Interruption of system calls").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Restart {
    /// Restarted unless the handler was installed without `SA_RESTART`; then `EINTR`.
    /// (`ERESTARTSYS`: read, write, wait4, futex, …)
    Sys,
    /// Restarted only when no handler ran; `EINTR` otherwise. (`ERESTARTNOHAND`: pause,
    /// sigsuspend, poll, select, …)
    NoHandler,
    /// Always restarted. (`ERESTARTNOINTR`: fork, …)
    Always,
    /// Goes on by restart_syscall(2), from what the task has stored, unless a handler ran; then
    /// `EINTR`. (`ERESTART_RESTARTBLOCK`: nanosleep, poll with a timeout, futex wait with one.)
    Block,
}

/// Why a system call has no plain value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SysErr {
    /// It failed.
    Errno(Errno),
    /// A signal came first.
    Restart(Restart),
}

/// The outcome of a system call, or of anything below it that can block.
pub type SysResult<T = usize> = Result<T, SysErr>;

impl SysErr {
    /// The error number where there is one; `EINTR` for what was interrupted.
    pub fn errno(self) -> Errno {
        match self {
            SysErr::Errno(e) => e,
            SysErr::Restart(_) => Errno::EINTR,
        }
    }
}

impl From<Errno> for SysErr {
    fn from(e: Errno) -> SysErr {
        SysErr::Errno(e)
    }
}

impl From<Restart> for SysErr {
    fn from(r: Restart) -> SysErr {
        SysErr::Restart(r)
    }
}
