//! The frame a handler finds on its stack (`struct rt_sigframe` of x86-64).

use crate::{AltStack, SigInfo, SigSet};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// `uc_flags`: the extended state is in XSAVE format.
pub const UC_FP_XSTATE: u64 = 1;
/// `uc_flags`: `ss` is saved.
pub const UC_SIGCONTEXT_SS: u64 = 2;
/// `uc_flags`: `ss` is restored as saved.
pub const UC_STRICT_RESTORE_SS: u64 = 4;

/// `struct sigcontext` (64-bit).
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
#[expect(missing_docs, reason = "the fields are the CPU's own names")]
pub struct SigContext {
    pub r8: u64,
    pub r9: u64,
    pub r10: u64,
    pub r11: u64,
    pub r12: u64,
    pub r13: u64,
    pub r14: u64,
    pub r15: u64,
    pub rdi: u64,
    pub rsi: u64,
    pub rbp: u64,
    pub rbx: u64,
    pub rdx: u64,
    pub rax: u64,
    pub rcx: u64,
    pub rsp: u64,
    pub rip: u64,
    pub eflags: u64,
    pub cs: u16,
    pub gs: u16,
    pub fs: u16,
    pub ss: u16,
    pub err: u64,
    pub trapno: u64,
    pub oldmask: u64,
    pub cr2: u64,
    /// Address of the extended state, 0 for none.
    pub fpstate: u64,
    pub reserved: [u64; 8],
}

/// `struct ucontext`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct UContext {
    /// `UC_*`
    pub flags: u64,
    /// `uc_link`, unused by the kernel.
    pub link: u64,
    /// The alternate stack in force.
    pub stack: AltStack,
    /// The registers.
    pub mcontext: SigContext,
    /// What was blocked.
    pub sigmask: SigSet,
}

/// `struct rt_sigframe`. The extended state lies above it, at `mcontext.fpstate`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct RtSigFrame {
    /// The return address: the restorer.
    pub pretcode: u64,
    /// The interrupted state.
    pub uc: UContext,
    /// What happened.
    pub info: SigInfo,
}

const _: () = assert!(size_of::<SigContext>() == 256);
const _: () = assert!(size_of::<UContext>() == 304);
const _: () = assert!(size_of::<RtSigFrame>() == 440);

/// The words that mark extended state in XSAVE format within a frame
/// (`struct _fpx_sw_bytes`, at byte 464 of the state).
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct SwBytes {
    /// [`MAGIC1`]
    pub magic1: u32,
    /// Bytes of the state and of the trailing magic.
    pub extended_size: u32,
    /// The features the state can hold.
    pub xfeatures: u64,
    /// Bytes of the state.
    pub xstate_size: u32,
    /// Zero.
    pub padding: [u32; 7],
}

/// Where [`SwBytes`] stands in the state.
pub const SW_BYTES_OFFSET: usize = 464;
/// Bytes of the legacy (FXSAVE) part.
pub const LEGACY_SIZE: usize = 512;
/// Bytes of the legacy part and the XSAVE header.
pub const XSAVE_MIN: usize = 576;
/// `FP_XSTATE_MAGIC1`
pub const MAGIC1: u32 = 0x4650_5853;
/// `FP_XSTATE_MAGIC2`, behind the state.
pub const MAGIC2: u32 = 0x4650_5845;

/// Where the parts of a frame go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placement {
    /// Address of the [`RtSigFrame`]; the stack pointer of the handler.
    pub frame: u64,
    /// Address of the extended state.
    pub fpstate: u64,
}

/// Lays out a frame below `top`, with `xstate` bytes of extended state (0 for none). `None` when
/// the addresses leave the lower half.
pub fn place(top: u64, xstate: u64) -> Option<Placement> {
    let fpstate = if xstate == 0 {
        top
    } else {
        top.checked_sub(xstate.checked_add(4)?)? & !63
    };
    let frame = fpstate.checked_sub(size_of::<RtSigFrame>() as u64)? & !15;
    Some(Placement {
        frame: frame.checked_sub(8)?,
        fpstate,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_aligned_as_a_call_leaves_them() {
        let p = place(0x7fff_ffff_e123, 2696).unwrap();
        assert_eq!(p.frame % 16, 8);
        assert_eq!(p.fpstate % 64, 0);
        assert!(p.frame + size_of::<RtSigFrame>() as u64 <= p.fpstate);
        assert!(p.fpstate + 2700 <= 0x7fff_ffff_e123);
        assert!(place(100, 2696).is_none());
    }
}
