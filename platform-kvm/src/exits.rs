//! What exceptions of the CPU mean to a program, as Linux tells them.

use crate::vcpu::Trap;
use platform_api::{Access, Exception, Exit, Registers};

/// `si_code` of signals that the kernel makes up.
const SI_KERNEL: i32 = 0x80;
const SEGV_PKUERR: i32 = 4;
const TRAP_BRKPT: i32 = 1;
const TRAP_TRACE: i32 = 2;
const FPE_INTDIV: i32 = 1;
const ILL_ILLOPN: i32 = 2;
const BUS_ADRALN: i32 = 1;

/// The flag that asks for a trap after each instruction.
const TRAP_FLAG: u64 = 1 << 8;

/// Bits of a page fault's error code.
const BY_WRITE: u64 = 1 << 1;
const BY_FETCH: u64 = 1 << 4;
const BY_KEY: u64 = 1 << 5;

pub(crate) const PAGE_FAULT: u8 = 14;
pub(crate) const UNDEFINED: u8 = 6;
const GENERAL_PROTECTION: u8 = 13;
const BREAKPOINT: u8 = 3;
const DEBUG: u8 = 1;
/// The instruction that raises it by itself.
const INT1: u8 = 0xf1;

/// General protection, as Linux tells it.
pub(crate) fn general_protection() -> Exit {
    signal(libc::SIGSEGV, SI_KERNEL, 0)
}

fn signal(signal: i32, code: i32, addr: u64) -> Exit {
    Exit::Exception(Exception { signal, code, addr })
}

/// How memory was touched that is not there.
pub(crate) fn access(trap: Trap) -> Access {
    if trap.error & BY_FETCH != 0 {
        Access::Execute
    } else if trap.error & BY_WRITE != 0 {
        Access::Write
    } else {
        Access::Read
    }
}

/// Whether a page fault is about a protection key rather than the mapping.
pub(crate) fn by_key(trap: Trap) -> Option<Exit> {
    (trap.error & BY_KEY != 0).then(|| signal(libc::SIGSEGV, SEGV_PKUERR, trap.addr))
}

/// An exception other than a page fault; `before` is the byte before where the guest stands, and
/// `state` fetches the extended state.
pub(crate) fn exception(
    vector: u8,
    regs: &Registers,
    before: impl FnOnce() -> Option<u8>,
    state: impl FnOnce() -> Option<Vec<u8>>,
) -> Exit {
    match vector {
        0 => signal(libc::SIGFPE, FPE_INTDIV, regs.rip),
        // The last instruction that is traced may be one that takes the flag away.
        DEBUG if regs.eflags & TRAP_FLAG == 0 && before() == Some(INT1) => {
            signal(libc::SIGTRAP, TRAP_BRKPT, regs.rip)
        }
        DEBUG => signal(libc::SIGTRAP, TRAP_TRACE, regs.rip),
        BREAKPOINT => signal(libc::SIGTRAP, SI_KERNEL, 0),
        UNDEFINED => signal(libc::SIGILL, ILL_ILLOPN, regs.rip),
        11 | 12 => signal(libc::SIGBUS, SI_KERNEL, 0),
        16 => signal(libc::SIGFPE, x87_code(state()), regs.rip),
        17 => signal(libc::SIGBUS, BUS_ADRALN, 0),
        19 => signal(libc::SIGFPE, sse_code(state()), regs.rip),
        GENERAL_PROTECTION => general_protection(),
        // Overflow and bounds (of 32-bit code), and what user code can't cause.
        _ => general_protection(),
    }
}

fn word(state: &Option<Vec<u8>>, at: usize) -> u32 {
    let bytes = state.as_ref().and_then(|s| s.get(at..at + 4));
    bytes
        .and_then(|b| b.try_into().ok())
        .map_or(0, u32::from_le_bytes)
}

/// From the control and status words.
fn x87_code(state: Option<Vec<u8>>) -> i32 {
    let words = word(&state, 0);
    fpe_code(words >> 16 & !words)
}

/// From MXCSR: flags, and masks seven bits above them.
fn sse_code(state: Option<Vec<u8>>) -> i32 {
    let mxcsr = word(&state, 24);
    fpe_code(mxcsr & !(mxcsr >> 7))
}

/// `si_code` for the first unmasked of the six floating point exceptions, in Linux' order.
fn fpe_code(raised: u32) -> i32 {
    match raised {
        r if r & 0x01 != 0 => 7, // FPE_FLTINV
        r if r & 0x04 != 0 => 3, // FPE_FLTDIV
        r if r & 0x08 != 0 => 4, // FPE_FLTOVF
        r if r & 0x12 != 0 => 5, // FPE_FLTUND
        r if r & 0x20 != 0 => 6, // FPE_FLTRES
        _ => 0,
    }
}

/// The call behind an entry of the vsyscall page.
pub(crate) fn vsyscall(offset: u64) -> Option<u64> {
    match offset {
        0 => Some(libc::SYS_gettimeofday as u64),
        0x400 => Some(libc::SYS_time as u64),
        0x800 => Some(libc::SYS_getcpu as u64),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floating_point_exceptions_tell_what_was_unmasked() {
        let state = |at: usize, value: u32| {
            let mut state = vec![0; 512];
            state[at..at + 4].copy_from_slice(&value.to_le_bytes());
            Some(state)
        };
        // Division by zero and inexact raised; the former unmasked, then the latter.
        assert_eq!(sse_code(state(24, 0x1d80 | 0x24)), 3);
        assert_eq!(sse_code(state(24, 0x0f80 | 0x24)), 6);
        assert_eq!(x87_code(state(0, 0x04 << 16 | 0x37b)), 3);
        assert_eq!(x87_code(None), 0);
    }
}
