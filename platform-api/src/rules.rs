//! Host system calls a platform needs, as data for the seccomp filter.

/// A check of one argument. All checks of a rule must hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ArgCheck {
    /// Argument `arg` equals `value` in its low 32 bits (as ints, ioctl requests, ptrace requests).
    Dword {
        /// 0 to 5
        arg: u8,
        /// What it must be.
        value: u32,
    },
    /// Argument `arg` equals `value`.
    Qword {
        /// 0 to 5
        arg: u8,
        /// What it must be.
        value: u64,
    },
    /// Argument `arg` has none of the bits outside `mask`.
    Within {
        /// 0 to 5
        arg: u8,
        /// The bits that may be set.
        mask: u64,
    },
}

/// One allowed form of one host system call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostRule {
    /// The call's number (`libc::SYS_…`).
    pub call: i64,
    /// What must hold of its arguments; empty allows any.
    pub checks: Vec<ArgCheck>,
}

impl HostRule {
    /// Any arguments.
    pub fn any(call: i64) -> HostRule {
        HostRule {
            call,
            checks: Vec::new(),
        }
    }

    /// With checks.
    pub fn with(call: i64, checks: &[ArgCheck]) -> HostRule {
        HostRule {
            call,
            checks: checks.to_vec(),
        }
    }
}
