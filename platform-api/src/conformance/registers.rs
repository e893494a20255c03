//! General registers.

use super::guest::{CODE, DATA, Guest, LEN, Random, SYSCALL};
use crate::{Engine, Registers};
use std::sync::Arc;

/// `lea r, [r + 1]` for all but rcx and r11, which `syscall` takes, then `syscall` and back.
fn count_in_all() -> Vec<u8> {
    let mut code = Vec::new();
    for r in [0u8, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 13, 14, 15] {
        let (low, high) = (r & 7, r >> 3);
        code.extend([0x48 | high << 2 | high, 0x8d, 0x40 | low << 3 | low]);
        if low == 4 {
            code.push(0x24);
        }
        code.push(1);
    }
    code.extend(SYSCALL);
    let back = -(code.len() as i64 + 2);
    code.extend([0xeb, back as u8]);
    code
}

fn each(regs: &mut Registers) -> [&mut u64; 14] {
    [
        &mut regs.rax,
        &mut regs.rbx,
        &mut regs.rdx,
        &mut regs.rsi,
        &mut regs.rdi,
        &mut regs.rbp,
        &mut regs.rsp,
        &mut regs.r8,
        &mut regs.r9,
        &mut regs.r10,
        &mut regs.r12,
        &mut regs.r13,
        &mut regs.r14,
        &mut regs.r15,
    ]
}

/// All values get in, are seen by guest code, and come out.
pub fn general_registers_survive_ten_thousand_switches(engine: &Arc<dyn Engine>) {
    let code = count_in_all();
    let mut guest = Guest::new(engine, &code);
    let mut random = Random::new(7);
    let mut regs = guest.regs;
    each(&mut regs).into_iter().for_each(|r| *r = random.word());
    guest.regs = regs;
    let after = CODE + code.len() as u64 - 2;
    for round in 0..10_000 {
        let mut want = guest.regs;
        each(&mut want)
            .into_iter()
            .for_each(|r| *r = r.wrapping_add(1));
        want.orig_rax = want.rax;
        (want.rip, want.rcx, want.r11) = (after, after, want.eflags);
        guest.call();
        assert_eq!(guest.regs, want, "round {round}");
        if round % 64 == 0 {
            let mut regs = guest.regs;
            each(&mut regs).into_iter().for_each(|r| *r = random.word());
            (regs.rcx, regs.r11) = (random.word(), random.word());
            guest.regs = regs;
        }
    }
    guest.end();
}

/// The status flags and the direction flag come out as they went in.
pub fn flags_survive(engine: &Arc<dyn Engine>) {
    let mut guest = Guest::new(engine, &[SYSCALL[0], SYSCALL[1], 0xeb, 0xfc]);
    for bits in 0..128u64 {
        let one = |bit: u32, flag: u32| (bits >> bit & 1) << flag;
        // carry, parity, adjust, zero, sign, direction, overflow
        let status = one(0, 0) | one(1, 2) | one(2, 4) | one(3, 6) | one(4, 7);
        let flags = 0x202 | status | one(5, 10) | one(6, 11);
        guest.regs.eflags = flags;
        guest.call();
        assert_eq!(guest.regs.eflags, flags);
    }
    guest.end();
}

/// Memory is reached through fs and gs, at the bases that were set.
pub fn segment_bases_reach_the_guest(engine: &Arc<dyn Engine>) {
    // mov rbx, fs:[0]; mov rdx, gs:[0]; syscall
    let mut code = vec![0x64, 0x48, 0x8b, 0x1c, 0x25, 0, 0, 0, 0];
    code.extend([0x65, 0x48, 0x8b, 0x14, 0x25, 0, 0, 0, 0]);
    code.extend(SYSCALL);
    let mut guest = Guest::new(engine, &code);
    for i in 0..100u64 {
        guest.memory.write(LEN + i * 16, &(i + 1).to_le_bytes());
        guest
            .memory
            .write(LEN + i * 16 + 8, &(i + 1000).to_le_bytes());
        guest.regs.rip = CODE;
        guest.regs.fs_base = DATA + i * 16;
        guest.regs.gs_base = DATA + i * 16 + 8;
        guest.call();
        assert_eq!((guest.regs.rbx, guest.regs.rdx), (i + 1, i + 1000));
        assert_eq!(guest.regs.fs_base, DATA + i * 16);
    }
    guest.end();
}
