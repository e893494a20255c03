//! Signal numbers and what they do by default (signal(7)).

use crate::SigSet;
use abi::{Errno, libc};

/// A valid signal number: 1 to 64.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Signal(u8);

/// What a signal without a handler does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Default {
    /// Ends the process.
    Terminate,
    /// Ends the process, and says that it dumped core (no file is written).
    Core,
    /// Nothing.
    Ignore,
    /// Stops the process.
    Stop,
    /// Continues the process; the continuing itself happens when the signal is sent.
    Continue,
}

macro_rules! signals {
    ($($name:ident = $libc:ident,)*) => {
        #[expect(missing_docs, reason = "signal(7) says what each is")]
        impl Signal {
            $(pub const $name: Signal = Signal(libc::$libc as u8);)*

            /// `SIGINT` and so on; `SIGRTn` counted from `SIGRTMIN` (32).
            pub fn name(self) -> String {
                match self {
                    $(Signal::$name => stringify!($libc).to_owned(),)*
                    Signal(n) => format!("SIGRT_{}", n.saturating_sub(32)),
                }
            }
        }
    };
}

signals! {
    HUP = SIGHUP, INT = SIGINT, QUIT = SIGQUIT, ILL = SIGILL, TRAP = SIGTRAP, ABRT = SIGABRT,
    BUS = SIGBUS, FPE = SIGFPE, KILL = SIGKILL, USR1 = SIGUSR1, SEGV = SIGSEGV, USR2 = SIGUSR2,
    PIPE = SIGPIPE, ALRM = SIGALRM, TERM = SIGTERM, STKFLT = SIGSTKFLT, CHLD = SIGCHLD,
    CONT = SIGCONT, STOP = SIGSTOP, TSTP = SIGTSTP, TTIN = SIGTTIN, TTOU = SIGTTOU, URG = SIGURG,
    XCPU = SIGXCPU, XFSZ = SIGXFSZ, VTALRM = SIGVTALRM, PROF = SIGPROF, WINCH = SIGWINCH,
    IO = SIGIO, PWR = SIGPWR, SYS = SIGSYS,
}

impl Signal {
    /// The highest number.
    pub const MAX: i32 = 64;
    /// The first real-time signal of the kernel (`SIGRTMIN` before the C library takes some).
    pub const FIRST_REALTIME: Signal = Signal(32);

    /// The signal with number `n`; `EINVAL` for 0 and what lies outside 1 to 64.
    pub fn new(n: i32) -> Result<Signal, Errno> {
        match u8::try_from(n) {
            Ok(b @ 1..=64) => Ok(Signal(b)),
            _ => Err(Errno::EINVAL),
        }
    }

    /// Its number.
    pub const fn number(self) -> i32 {
        self.0 as i32
    }

    /// Its bit in a [`SigSet`].
    pub const fn bit(self) -> u64 {
        1 << (self.0 - 1)
    }

    /// Whether several of it can be pending.
    pub fn is_realtime(self) -> bool {
        self >= Signal::FIRST_REALTIME
    }

    /// Whether the positive codes of `siginfo_t` have a meaning with it that they have with no
    /// other.
    pub fn has_codes_of_its_own(self) -> bool {
        matches!(
            self,
            Signal::ILL
                | Signal::FPE
                | Signal::SEGV
                | Signal::BUS
                | Signal::TRAP
                | Signal::CHLD
                | Signal::IO
                | Signal::SYS
        )
    }

    /// `SIGKILL` and `SIGSTOP`, which can be neither caught, ignored nor blocked.
    pub fn is_unblockable(self) -> bool {
        self == Signal::KILL || self == Signal::STOP
    }

    /// What it does without a handler.
    pub fn default_action(self) -> Default {
        match self {
            Signal::CHLD | Signal::URG | Signal::WINCH => Default::Ignore,
            Signal::CONT => Default::Continue,
            Signal::STOP | Signal::TSTP | Signal::TTIN | Signal::TTOU => Default::Stop,
            Signal::QUIT
            | Signal::ILL
            | Signal::TRAP
            | Signal::ABRT
            | Signal::BUS
            | Signal::FPE
            | Signal::SEGV
            | Signal::XCPU
            | Signal::XFSZ
            | Signal::SYS => Default::Core,
            _ => Default::Terminate,
        }
    }

    /// The signals that stop a process by default.
    pub const STOPS: SigSet = SigSet::from_bits(
        Signal::STOP.bit() | Signal::TSTP.bit() | Signal::TTIN.bit() | Signal::TTOU.bit(),
    );

    /// The signals a fault raises, which are delivered before others.
    pub const SYNCHRONOUS: SigSet = SigSet::from_bits(
        Signal::SEGV.bit()
            | Signal::BUS.bit()
            | Signal::ILL.bit()
            | Signal::TRAP.bit()
            | Signal::FPE.bit()
            | Signal::SYS.bit(),
    );
}

impl std::fmt::Debug for Signal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.name())
    }
}
