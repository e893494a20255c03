//! Copies and single words that survive a fault.
//!
//! Each routine touches foreign memory with one labelled instruction. When that instruction
//! faults, the signal handler (`handlers`) finds its label in `fixup` and goes on at the
//! routine's way out, which reports how far it came.
// UNSAFETY: assembly routines over raw pointers into mappings that others can change or truncate.
#![expect(
    unsafe_code,
    reason = "memory that others can change is reached by assembly alone"
)]

use std::arch::global_asm;

// System V: rdi, rsi, rdx are the arguments, rax the result. The symbols are global since another
// codegen unit refers to them, and hidden so that they stay inside the binary.
global_asm!(
    r#"
    .pushsection .text.ringfence_copy,"ax",@progbits
    .globl __ringfence_copy, __ringfence_copy_at, __ringfence_copy_out
    .hidden __ringfence_copy, __ringfence_copy_at, __ringfence_copy_out
    .globl __ringfence_zero, __ringfence_zero_at
    .hidden __ringfence_zero, __ringfence_zero_at
    .globl __ringfence_load32, __ringfence_load32_at, __ringfence_word_fault
    .hidden __ringfence_load32, __ringfence_load32_at, __ringfence_word_fault
    .globl __ringfence_cas32, __ringfence_cas32_at
    .hidden __ringfence_cas32, __ringfence_cas32_at

    .p2align 4
    .type __ringfence_copy,@function
__ringfence_copy:
    mov rcx, rdx
__ringfence_copy_at:
    rep movsb
__ringfence_copy_out:
    mov rax, rcx
    ret
    .size __ringfence_copy, . - __ringfence_copy

    .p2align 4
    .type __ringfence_zero,@function
__ringfence_zero:
    mov rcx, rsi
    xor eax, eax
__ringfence_zero_at:
    rep stosb
    mov rax, rcx
    ret
    .size __ringfence_zero, . - __ringfence_zero

    .p2align 4
    .type __ringfence_load32,@function
__ringfence_load32:
__ringfence_load32_at:
    mov eax, dword ptr [rdi]
    ret
__ringfence_word_fault:
    mov rax, -1
    ret
    .size __ringfence_load32, . - __ringfence_load32

    .p2align 4
    .type __ringfence_cas32,@function
__ringfence_cas32:
    mov eax, esi
__ringfence_cas32_at:
    lock cmpxchg dword ptr [rdi], edx
    mov eax, eax
    ret
    .size __ringfence_cas32, . - __ringfence_cas32
    .popsection
"#
);

unsafe extern "C" {
    /// Copies `len` bytes; returns how many were not copied.
    fn __ringfence_copy(dst: *mut u8, src: *const u8, len: usize) -> usize;
    /// Stores `len` zero bytes; returns how many were not stored.
    fn __ringfence_zero(dst: *mut u8, len: usize) -> usize;
    /// Loads a word; `u64::MAX` after a fault.
    fn __ringfence_load32(from: *const u32) -> u64;
    /// Compare and exchange; returns what was there, `u64::MAX` after a fault.
    fn __ringfence_cas32(at: *mut u32, old: u32, new: u32) -> u64;

    static __ringfence_copy_at: u8;
    static __ringfence_copy_out: u8;
    static __ringfence_zero_at: u8;
    static __ringfence_load32_at: u8;
    static __ringfence_cas32_at: u8;
    static __ringfence_word_fault: u8;
}

/// Where to go on after a fault of the instruction at `rip`; `None` when that is none of ours.
pub(crate) fn fixup(rip: usize) -> Option<usize> {
    let copy_at = &raw const __ringfence_copy_at as usize;
    let zero_at = &raw const __ringfence_zero_at as usize;
    let load_at = &raw const __ringfence_load32_at as usize;
    let cas_at = &raw const __ringfence_cas32_at as usize;
    if rip == copy_at || rip == zero_at {
        // Both leave what remains in rcx.
        Some(&raw const __ringfence_copy_out as usize)
    } else if rip == load_at || rip == cas_at {
        Some(&raw const __ringfence_word_fault as usize)
    } else {
        None
    }
}

/// Copies from foreign memory; returns how many bytes were copied.
///
/// # Safety
/// `src..src+dst.len()` lies within a live mapping of the window kind: nothing of Rust's own
/// lives there, though pages may be missing and others may write.
pub(crate) unsafe fn from_foreign(dst: &mut [u8], src: *const u8) -> usize {
    // SAFETY: dst is ours and as long as said; a fault on src is caught (handlers are installed
    // before the first window is made).
    dst.len() - unsafe { __ringfence_copy(dst.as_mut_ptr(), src, dst.len()) }
}

/// Copies into foreign memory; returns how many bytes were copied.
///
/// # Safety
/// As for [`from_foreign`], of `dst..dst+src.len()`, mapped writable.
pub(crate) unsafe fn to_foreign(dst: *mut u8, src: &[u8]) -> usize {
    // SAFETY: src is ours and as long as said; a fault on dst is caught.
    src.len() - unsafe { __ringfence_copy(dst, src.as_ptr(), src.len()) }
}

/// Copies between foreign places that do not overlap; returns how many bytes were copied.
///
/// # Safety
/// As for [`from_foreign`] and [`to_foreign`].
pub(crate) unsafe fn between_foreign(dst: *mut u8, src: *const u8, len: usize) -> usize {
    // SAFETY: a fault on either side is caught.
    len - unsafe { __ringfence_copy(dst, src, len) }
}

/// Zeroes foreign memory; returns how many bytes were zeroed.
///
/// # Safety
/// As for [`to_foreign`].
pub(crate) unsafe fn zero_foreign(dst: *mut u8, len: usize) -> usize {
    // SAFETY: a fault is caught.
    len - unsafe { __ringfence_zero(dst, len) }
}

/// Loads a word atomically; `None` after a fault.
///
/// # Safety
/// As for [`from_foreign`]; `from` is aligned.
pub(crate) unsafe fn load32(from: *const u32) -> Option<u32> {
    // SAFETY: a fault is caught; an aligned 32-bit load is atomic on x86-64.
    u32::try_from(unsafe { __ringfence_load32(from) }).ok()
}

/// Compares and exchanges a word atomically; what was there before, `None` after a fault.
///
/// # Safety
/// As for [`to_foreign`]; `at` is aligned.
pub(crate) unsafe fn cas32(at: *mut u32, old: u32, new: u32) -> Option<u32> {
    // SAFETY: a fault is caught.
    u32::try_from(unsafe { __ringfence_cas32(at, old, new) }).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_copies_and_words() {
        crate::install_handlers();
        let src = [7u8; 100];
        let mut dst = [0u8; 100];
        // SAFETY: both are ours.
        unsafe {
            assert_eq!(from_foreign(&mut dst, src.as_ptr()), 100);
            assert_eq!(dst, src);
            assert_eq!(zero_foreign(dst.as_mut_ptr(), 50), 50);
            let mut word = 5u32;
            assert_eq!(load32(&raw const word), Some(5));
            assert_eq!(cas32(&raw mut word, 5, u32::MAX), Some(5));
            assert_eq!(cas32(&raw mut word, 5, 1), Some(u32::MAX));
        }
        assert_eq!(dst[49..51], [0, 7]);
    }

    #[test]
    fn a_fault_is_a_short_count() {
        crate::install_handlers();
        let mut buf = [0u8; 64];
        // SAFETY: address 16 is never mapped; that is the point.
        unsafe {
            assert_eq!(from_foreign(&mut buf, 16 as *const u8), 0);
            assert_eq!(to_foreign(16 as *mut u8, &buf), 0);
            assert_eq!(load32(16 as *const u32), None);
            assert_eq!(cas32(16 as *mut u32, 0, 1), None);
        }
    }
}
