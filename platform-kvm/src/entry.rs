//! The guest's kernel half: the few instructions that end each run, and what makes the CPU come
//! to them.
//!
//! `syscall` goes to a port write at the start of the entry page. Exceptions go through gates to
//! ring 0, on a stack of the arena that guest code can't reach, to a port write of their own:
//! where it is tells the vector. Some hosts don't raise the privilege level for `syscall`; there,
//! and only there, the one port of that entry is open to user code, which gains by it what the
//! instruction itself gives.

use crate::arena::{Arena, Page};
use crate::layout::{ENTRY, PAGE};
use crate::leaf::{ACCESSED, DIRTY, PRESENT, USER, WRITE};
use std::io;
use std::sync::atomic::Ordering;

/// The port that `syscall` ends in.
pub(crate) const PORT_CALL: u8 = 0xc0;
/// The port that all other ways end in, never open to user code.
pub(crate) const PORT_TRAP: u8 = 0xc1;

/// Where `syscall` goes, from 64-bit and from 32-bit code.
const CALL: u64 = 0;
const COMPAT: u64 = 0x40;
/// See [`touch`].
const TOUCH: u64 = 0x80;
/// A `syscall`, to be run as user code by `Engine`'s boot.
const TRIAL: u64 = 0xe0;
/// The exceptions' ways, eight bytes each.
const VECTORS: u64 = 0x100;
const VECTOR_COUNT: u64 = 256;

/// What `syscall` finds in its registers.
pub(crate) const MSR_CALL: u64 = ENTRY + CALL;
pub(crate) const MSR_COMPAT: u64 = ENTRY + COMPAT;
pub(crate) const TOUCH_AT: u64 = ENTRY + TOUCH;
pub(crate) const TRIAL_AT: u64 = ENTRY + TRIAL;

/// Selectors as Linux has them.
pub(crate) const KERNEL_CS: u16 = 0x10;
pub(crate) const KERNEL_DS: u16 = 0x18;
pub(crate) const TASK: u16 = 0x40;

/// Where guest code stood when it ended a run by a port write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// `syscall`.
    Call,
    /// `syscall` in 32-bit code.
    Compat,
    /// An exception or `int`.
    Vector(u8),
    /// The end of [`touch`].
    Touched,
    /// Not in the entry page: a port write of the guest's own.
    Foreign,
}

/// From the port and where `rip` is, at the port write or behind it.
pub(crate) fn way(port: u16, rip: u64) -> Way {
    let at = rip.wrapping_sub(ENTRY);
    match (u8::try_from(port), at) {
        (Ok(PORT_CALL), CALL..COMPAT) => Way::Call,
        (Ok(PORT_CALL), COMPAT..TOUCH) => Way::Compat,
        (Ok(PORT_TRAP), TOUCH..TRIAL) => Way::Touched,
        (Ok(PORT_TRAP), VECTORS..PAGE) => Way::Vector(((at - VECTORS) / 8) as u8),
        _ => Way::Foreign,
    }
}

/// `out port, al`, and again should anybody let it go on.
fn end(port: u8) -> [u8; 4] {
    [0xe6, port, 0xeb, 0xfc]
}

/// Ring 0 code: stores to each of `rcx` addresses listed at `rsi` what is there already, then
/// flushes the translations of this CPU, and ends the run. It stores single bytes, see
/// [`crate::tables::Touch`]; nobody else writes there at the time.
fn touch() -> Vec<u8> {
    let mut code = vec![0x48, 0x85, 0xc9, 0x74, 0x0b]; // test rcx, rcx; jz 2f
    code.extend([0x48, 0xad]); // 1: lodsq
    code.extend([0x8a, 0x10, 0x88, 0x10]); // mov dl, [rax]; mov [rax], dl
    code.extend([0x48, 0xff, 0xc9, 0x75, 0xf5]); // dec rcx; jnz 1b
    code.extend([0x0f, 0x20, 0xd8, 0x0f, 0x22, 0xd8]); // 2: mov rax, cr3; mov cr3, rax
    code.extend(end(PORT_TRAP));
    code
}

/// Bytes of the entry page.
fn code() -> Vec<u8> {
    let mut code = vec![0xcc; PAGE as usize];
    let mut put = |at: u64, bytes: &[u8]| {
        let at = at as usize;
        code[at..at + bytes.len()].copy_from_slice(bytes);
    };
    put(CALL, &end(PORT_CALL));
    put(COMPAT, &end(PORT_CALL));
    put(TOUCH, &touch());
    put(TRIAL, &[0x0f, 0x05]);
    (0..VECTOR_COUNT).for_each(|v| put(VECTORS + v * 8, &end(PORT_TRAP)));
    code
}

/// The parts that all vCPUs and spaces share.
pub(crate) struct Kernel {
    /// The table behind our entry of each root.
    pub(crate) table: Page,
    /// The gates.
    pub(crate) gates: Page,
}

impl Kernel {
    /// Writes it into the arena.
    pub(crate) fn new(arena: &Arena) -> io::Result<Kernel> {
        let [table, middle, leaves, entry, gates] = {
            let mut pages = [arena.directory(); 5];
            for page in &mut pages {
                *page = arena.allocate()?;
            }
            pages
        };
        let set = |page, index, entry: u64| {
            arena.word(page, index).store(entry, Ordering::Release);
        };
        let shown = PRESENT | USER | ACCESSED;
        set(table, 0, middle.phys() | shown | WRITE);
        set(middle, 0, leaves.phys() | shown | WRITE);
        set(leaves, 0, entry.phys() | shown | DIRTY);
        set(
            table,
            1,
            arena.directory().phys() | PRESENT | WRITE | ACCESSED,
        );
        arena.write(entry, 0, &code());
        for vector in 0..VECTOR_COUNT {
            let [low, high] = gate(vector);
            set(gates, vector * 2, low);
            set(gates, vector * 2 + 1, high);
        }
        Ok(Kernel { table, gates })
    }
}

/// An interrupt gate on the first stack of the task segment. `int3` and `into` may be used by
/// user code; other `int`s are general protection.
fn gate(vector: u64) -> [u64; 2] {
    let to = ENTRY + VECTORS + vector * 8;
    let level = if matches!(vector, 3 | 4) { 3 } else { 0 };
    let kind: u64 = 0x8e | level << 5;
    let low = to & 0xffff | u64::from(KERNEL_CS) << 16 | 1 << 32 | kind << 40;
    [low | (to >> 16 & 0xffff) << 48, to >> 32]
}

/// Where things are in a vCPU's own page, and their lengths less one.
pub(crate) const GDT_LIMIT: u16 = 0x4f;
const TSS: u64 = 0x100;
const TSS_FIXED: u64 = 0x68;
/// Bytes of the port bitmap, up to the ports of ours.
const TSS_PORTS: u64 = PORT_CALL as u64 / 8 + 1;
pub(crate) const TSS_LIMIT: u32 = (TSS_FIXED + TSS_PORTS) as u32;

/// Address of the task segment in a vCPU's page.
pub(crate) fn task_segment(page: Page) -> u64 {
    page.virt() + TSS
}

/// Fills a vCPU's page: descriptors and task segment, with the stack of exceptions ending at
/// `stack`.
pub(crate) fn descriptors(arena: &Arena, page: Page, stack: u64) {
    let base = task_segment(page);
    let limit = u64::from(TSS_LIMIT);
    let task = limit & 0xffff | (base & 0xff_ffff) << 16 | 0x8b << 40 | (base >> 24 & 0xff) << 56;
    let descriptors: [u64; 10] = [
        0,
        0,
        0x00af_9b00_0000_ffff, // 0x10 kernel code
        0x00cf_9300_0000_ffff, // 0x18 kernel data
        0x00cf_fb00_0000_ffff, // 0x23 user code, 32 bits
        0x00cf_f300_0000_ffff, // 0x2b user data
        0x00af_fb00_0000_ffff, // 0x33 user code
        0,
        task, // 0x40
        base >> 32,
    ];
    for (i, descriptor) in (0..).zip(descriptors) {
        arena.word(page, i).store(descriptor, Ordering::Relaxed);
    }
    let mut segment = vec![0; TSS_FIXED as usize];
    segment[0x24..0x2c].copy_from_slice(&stack.to_le_bytes());
    segment[0x66..].copy_from_slice(&(TSS_FIXED as u16).to_le_bytes());
    // All ports shut, and the byte that ends the map.
    segment.resize((TSS_FIXED + TSS_PORTS + 1) as usize, 0xff);
    arena.write(page, TSS, &segment);
}

/// Opens [`PORT_CALL`] to user code.
pub(crate) fn open_port(arena: &Arena, page: Page) {
    let at = TSS + TSS_FIXED + u64::from(PORT_CALL / 8);
    arena.write(page, at, &[!(1 << (PORT_CALL % 8))]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ways_are_told_by_port_and_place() {
        assert_eq!(way(0xc0, ENTRY), Way::Call);
        assert_eq!(way(0xc0, ENTRY + 2), Way::Call);
        assert_eq!(way(0xc0, ENTRY + COMPAT + 2), Way::Compat);
        assert_eq!(way(0xc1, ENTRY + VECTORS + 14 * 8 + 2), Way::Vector(14));
        assert_eq!(way(0xc1, ENTRY + VECTORS + 255 * 8), Way::Vector(255));
        let touched = TOUCH_AT + touch().len() as u64 - 2;
        assert_eq!(way(0xc1, touched), Way::Touched);
        // User code that was given the port of calls gets nothing else by it.
        for at in [VECTORS, VECTORS + 14 * 8, TOUCH, TRIAL, PAGE] {
            assert_eq!(way(0xc0, ENTRY + at), Way::Foreign);
        }
        assert_eq!(way(0xc0, 0x40_0002), Way::Foreign);
        assert!(TOUCH + touch().len() as u64 <= TRIAL);
    }
}
