//! What a filter answers.

use abi::libc;

/// What is to become of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// The process ends with `SIGSYS`.
    KillProcess,
    /// The thread does.
    KillThread,
    /// The thread gets `SIGSYS`.
    Trap,
    /// It fails with an error of the filter's choice.
    Errno,
    /// A supervisor decides; where there is none, it fails with `ENOSYS`.
    Notify,
    /// A tracer decides. There are none: it fails with `ENOSYS`.
    Trace,
    /// It is logged and made.
    Log,
    /// It is made.
    Allow,
}

/// A filter's return value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict(u32);

impl Verdict {
    /// Makes the call.
    pub const ALLOW: Verdict = Verdict(libc::SECCOMP_RET_ALLOW);

    pub(crate) fn new(value: u32) -> Verdict {
        Verdict(value)
    }

    /// The upper half; what Linux has no action for kills the process.
    pub fn action(self) -> Action {
        match self.0 & libc::SECCOMP_RET_ACTION_FULL {
            libc::SECCOMP_RET_KILL_THREAD => Action::KillThread,
            libc::SECCOMP_RET_TRAP => Action::Trap,
            libc::SECCOMP_RET_ERRNO => Action::Errno,
            libc::SECCOMP_RET_USER_NOTIF => Action::Notify,
            libc::SECCOMP_RET_TRACE => Action::Trace,
            libc::SECCOMP_RET_LOG => Action::Log,
            libc::SECCOMP_RET_ALLOW => Action::Allow,
            _ => Action::KillProcess,
        }
    }

    /// The lower half: an error number, or what `SIGSYS` carries.
    pub fn data(self) -> u16 {
        (self.0 & libc::SECCOMP_RET_DATA) as u16
    }

    /// Of several filters' verdicts the one that weighs most counts: a signed comparison of the
    /// upper halves, in which `KILL_PROCESS` is the lowest.
    pub(crate) fn outweighs(self, other: Verdict) -> bool {
        let weight = |v: Verdict| (v.0 & libc::SECCOMP_RET_ACTION_FULL) as i32;
        weight(self) < weight(other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kill_process_outweighs_all_and_unknown_actions_are_as_it() {
        let process = Verdict::new(libc::SECCOMP_RET_KILL_PROCESS);
        let order = [
            libc::SECCOMP_RET_KILL_PROCESS,
            libc::SECCOMP_RET_KILL_THREAD,
            libc::SECCOMP_RET_TRAP,
            libc::SECCOMP_RET_ERRNO,
            libc::SECCOMP_RET_TRACE,
            libc::SECCOMP_RET_LOG,
            libc::SECCOMP_RET_ALLOW,
        ]
        .map(Verdict::new);
        assert!(order.windows(2).all(|w| w[0].outweighs(w[1])));
        assert!(!process.outweighs(process));
        assert_eq!(Verdict::new(0x1234_0000).action(), Action::KillProcess);
    }
}
