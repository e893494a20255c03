//! Alternate signal stacks (sigaltstack(2)).

use abi::Errno;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// `SS_ONSTACK`
pub const SS_ONSTACK: u32 = 1;
/// `SS_DISABLE`
pub const SS_DISABLE: u32 = 2;
/// `SS_AUTODISARM`
pub const SS_AUTODISARM: u32 = 1 << 31;
/// `MINSIGSTKSZ`
pub const MINSIGSTKSZ: u64 = 2048;

/// `stack_t`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct AltStack {
    /// Lowest address.
    pub sp: u64,
    /// `SS_*`
    pub flags: u32,
    pad: u32,
    /// Bytes.
    pub size: u64,
}

impl Default for AltStack {
    fn default() -> Self {
        AltStack::DISABLED
    }
}

impl AltStack {
    /// With other flags.
    #[must_use]
    pub fn with_flags(self, flags: u32) -> AltStack {
        AltStack { flags, ..self }
    }

    /// None.
    pub const DISABLED: AltStack = AltStack {
        sp: 0,
        flags: SS_DISABLE,
        pad: 0,
        size: 0,
    };

    /// Whether there is one.
    pub fn is_enabled(&self) -> bool {
        self.flags & SS_DISABLE == 0 && self.size != 0
    }

    /// Whether a stack pointer lies on it.
    pub fn holds(&self, sp: u64) -> bool {
        // With autodisarm, being on it cannot be told from its address alone, as in Linux.
        self.flags & SS_AUTODISARM == 0
            && self.is_enabled()
            && sp > self.sp
            && sp - self.sp <= self.size
    }

    /// As sigaltstack(2) reports it, with the stack pointer at `sp`.
    pub fn reported(&self, sp: u64) -> AltStack {
        let state = match () {
            () if !self.is_enabled() => SS_DISABLE,
            () if self.holds(sp) => SS_ONSTACK,
            () => 0,
        };
        AltStack {
            flags: state | (self.flags & SS_AUTODISARM),
            ..*self
        }
    }

    /// What `new` asks for, where the present stack is this one and the stack pointer at `sp`.
    ///
    /// # Errors
    /// `EPERM` on the stack itself, `EINVAL` for unknown flags, `ENOMEM` when too small.
    pub fn changed(&self, new: AltStack, sp: u64, minimum: u64) -> Result<AltStack, Errno> {
        if self.holds(sp) {
            return Err(Errno::EPERM);
        }
        let mode = new.flags & !SS_AUTODISARM;
        if mode != 0 && mode != SS_DISABLE && mode != SS_ONSTACK {
            return Err(Errno::EINVAL);
        }
        if mode == SS_DISABLE {
            return Ok(AltStack {
                flags: new.flags,
                ..AltStack::DISABLED
            });
        }
        if new.size < minimum {
            return Err(Errno::ENOMEM);
        }
        Ok(AltStack {
            sp: new.sp,
            flags: new.flags,
            pad: 0,
            size: new.size,
        })
    }
}
