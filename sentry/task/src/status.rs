//! How a process ended, and what wait(2) says of a child.

use signal::Signal;

/// How a task or a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExitStatus {
    /// By exit(2), with the low byte of its argument.
    Exited(u8),
    /// By a signal.
    Killed {
        /// Which.
        signal: Signal,
    },
    /// By a signal, and left a core file.
    Dumped {
        /// Which.
        signal: Signal,
    },
}

impl ExitStatus {
    /// The status word of wait(2).
    pub fn wait_status(self) -> i32 {
        match self {
            ExitStatus::Exited(code) => i32::from(code) << 8,
            ExitStatus::Killed { signal } => signal.number(),
            ExitStatus::Dumped { signal } => signal.number() | 0x80,
        }
    }

    /// What a shell makes of it: the code, or 128 and the signal's number.
    pub fn shell_code(self) -> i32 {
        match self {
            ExitStatus::Exited(code) => i32::from(code),
            ExitStatus::Killed { signal } | ExitStatus::Dumped { signal } => 128 + signal.number(),
        }
    }
}

/// What has become of a child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChildEvent {
    /// It ended.
    Ended(ExitStatus),
    /// It was stopped by a signal.
    Stopped(Signal),
    /// It goes on.
    Continued,
    /// A tracee has stopped for its tracer: the signal, and the event above it.
    Trapped(i32),
}

impl ChildEvent {
    /// The status word of wait(2).
    pub fn wait_status(self) -> i32 {
        match self {
            ChildEvent::Ended(s) => s.wait_status(),
            ChildEvent::Stopped(s) => s.number() << 8 | 0x7f,
            ChildEvent::Continued => 0xffff,
            ChildEvent::Trapped(code) => code << 8 | 0x7f,
        }
    }

    /// `si_code` and `si_status` of waitid(2) and `SIGCHLD`.
    pub fn child_info(self) -> (i32, i32) {
        use abi::libc::{CLD_CONTINUED, CLD_DUMPED, CLD_EXITED, CLD_KILLED, CLD_STOPPED};
        use abi::libc::{CLD_TRAPPED, SIGCONT};
        match self {
            ChildEvent::Ended(ExitStatus::Exited(code)) => (CLD_EXITED, i32::from(code)),
            ChildEvent::Ended(ExitStatus::Killed { signal }) => (CLD_KILLED, signal.number()),
            ChildEvent::Ended(ExitStatus::Dumped { signal }) => (CLD_DUMPED, signal.number()),
            ChildEvent::Stopped(s) => (CLD_STOPPED, s.number()),
            ChildEvent::Continued => (CLD_CONTINUED, SIGCONT),
            ChildEvent::Trapped(code) => (CLD_TRAPPED, code),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_words_are_those_of_wait() {
        let killed = |signal| ExitStatus::Killed { signal };
        assert_eq!(ExitStatus::Exited(3).wait_status(), 0x300);
        assert_eq!(killed(Signal::SEGV).wait_status(), 0x0b);
        assert_eq!(killed(Signal::TERM).shell_code(), 143);
        let dumped = ExitStatus::Dumped {
            signal: Signal::ABRT,
        };
        assert_eq!((dumped.wait_status(), dumped.shell_code()), (0x86, 134));
        assert_eq!(ChildEvent::Stopped(Signal::TSTP).wait_status(), 0x147f);
        assert_eq!(ChildEvent::Continued.wait_status(), 0xffff);
    }
}
