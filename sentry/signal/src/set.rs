//! `sigset_t`.

use crate::Signal;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// A set of signals; the kernel's eight bytes.
#[derive(
    Clone, Copy, PartialEq, Eq, Default, Hash, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(transparent)]
pub struct SigSet(u64);

impl SigSet {
    /// None.
    pub const EMPTY: SigSet = SigSet(0);
    /// All 64.
    pub const ALL: SigSet = SigSet(u64::MAX);

    /// From the kernel's bits: signal `n` is bit `n - 1`.
    pub const fn from_bits(bits: u64) -> SigSet {
        SigSet(bits)
    }

    /// The kernel's bits.
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// Just `signal`.
    pub const fn only(signal: Signal) -> SigSet {
        SigSet(signal.bit())
    }

    /// Whether `signal` is in it.
    pub const fn has(self, signal: Signal) -> bool {
        self.0 & signal.bit() != 0
    }

    /// Whether there is nothing in it.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// With `signal`.
    #[must_use]
    pub const fn with(self, signal: Signal) -> SigSet {
        SigSet(self.0 | signal.bit())
    }

    /// Without `signal`.
    #[must_use]
    pub const fn without(self, signal: Signal) -> SigSet {
        SigSet(self.0 & !signal.bit())
    }

    /// What is here and not in `other`.
    #[must_use]
    pub const fn minus(self, other: SigSet) -> SigSet {
        SigSet(self.0 & !other.0)
    }

    /// What may be blocked: all but `SIGKILL` and `SIGSTOP`.
    #[must_use]
    pub const fn blockable(self) -> SigSet {
        self.without(Signal::KILL).without(Signal::STOP)
    }

    /// The lowest signal in it.
    pub fn first(self) -> Option<Signal> {
        if self.0 == 0 {
            None
        } else {
            Signal::new(self.0.trailing_zeros() as i32 + 1).ok()
        }
    }
}

impl std::ops::BitOr for SigSet {
    type Output = SigSet;
    fn bitor(self, o: SigSet) -> SigSet {
        SigSet(self.0 | o.0)
    }
}

impl std::ops::BitAnd for SigSet {
    type Output = SigSet;
    fn bitand(self, o: SigSet) -> SigSet {
        SigSet(self.0 & o.0)
    }
}

impl std::ops::Not for SigSet {
    type Output = SigSet;
    fn not(self) -> SigSet {
        SigSet(!self.0)
    }
}

impl FromIterator<Signal> for SigSet {
    fn from_iter<I: IntoIterator<Item = Signal>>(iter: I) -> SigSet {
        iter.into_iter().fold(SigSet::EMPTY, SigSet::with)
    }
}

impl std::fmt::Debug for SigSet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}
