//! Extended state.

use super::guest::{CODE, Guest, LEN, Random, SYSCALL};
use super::skip;
use crate::Engine;
use std::sync::Arc;

/// Offset of xmm0 in an extended state.
const XMM: usize = 160;
const HEADER: usize = 512;
/// Offset of the upper halves of ymm0 and on, where the CPU has them.
const YMM_HIGH: usize = 576;

/// A state with all xmm (and ymm) registers filled.
fn pattern(fresh: &[u8], seed: u64, wide: bool) -> Vec<u8> {
    let mut random = Random::new(seed);
    let mut state = fresh.to_vec();
    let mut fill = |from: usize| {
        for at in (from..from + 256).step_by(8) {
            state[at..at + 8].copy_from_slice(&random.word().to_le_bytes());
        }
    };
    fill(XMM);
    if wide {
        fill(YMM_HIGH);
    }
    let features: u64 = if wide { 7 } else { 3 };
    state[HEADER..HEADER + 8].copy_from_slice(&features.to_le_bytes());
    state
}

fn lane(state: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(state[at..at + 4].try_into().expect("four bytes"))
}

fn state_of(guest: &mut Guest) -> Vec<u8> {
    let mut state = Vec::new();
    guest.context.extended_state(&mut state).expect("a state");
    state
}

fn has_avx2() -> bool {
    let has = std::arch::is_x86_feature_detected!("avx2");
    if !has {
        skip("the CPU has no AVX2; ymm registers are not tested");
    }
    has
}

/// `paddd xmm0, xmm1` (and `vpaddd ymm2, ymm2, ymm3`) before each call.
fn adder(wide: bool) -> Vec<u8> {
    let mut code = vec![0x66, 0x0f, 0xfe, 0xc1];
    if wide {
        code.extend([0xc5, 0xed, 0xfe, 0xd3]);
    }
    code.extend(SYSCALL);
    let back = -(code.len() as i64 + 2);
    code.extend([0xeb, back as u8]);
    code
}

/// Puts ones into the registers that [`adder`] adds, zero into those it adds to.
fn prepare(guest: &mut Guest, seed: u64, wide: bool) -> Vec<u8> {
    let mut state = pattern(&state_of(guest), seed, wide);
    let ones: Vec<u8> = (0..4).flat_map(|_| 1u32.to_le_bytes()).collect();
    state[XMM..XMM + 16].fill(0);
    state[XMM + 16..XMM + 32].copy_from_slice(&ones);
    if wide {
        state[XMM + 32..XMM + 48].fill(0);
        state[XMM + 48..XMM + 64].copy_from_slice(&ones);
        state[YMM_HIGH + 32..YMM_HIGH + 48].fill(0);
        state[YMM_HIGH + 48..YMM_HIGH + 64].copy_from_slice(&ones);
    }
    guest
        .context
        .set_extended_state(&state)
        .expect("a good state");
    state
}

/// Checks what is there after `rounds` of [`adder`].
fn check(guest: &mut Guest, before: &[u8], rounds: u32, wide: bool) {
    let after = state_of(guest);
    assert_eq!(lane(&after, XMM), rounds);
    assert_eq!(after[XMM + 64..XMM + 256], before[XMM + 64..XMM + 256]);
    if wide {
        assert_eq!(lane(&after, XMM + 32), rounds);
        assert_eq!(lane(&after, YMM_HIGH + 32), rounds);
        let rest = YMM_HIGH + 64..YMM_HIGH + 256;
        assert_eq!(after[rest.clone()], before[rest]);
    }
}

/// Vector registers count calls, and the others stay.
pub fn extended_state_survives_ten_thousand_switches(engine: &Arc<dyn Engine>) {
    let wide = has_avx2();
    let mut guest = Guest::new(engine, &adder(wide));
    let before = prepare(&mut guest, 3, wide);
    (0..10_000).for_each(|_| guest.call());
    check(&mut guest, &before, 10_000, wide);
    guest.end();
}

/// Two contexts of one thread, in turn.
pub fn two_contexts_keep_their_own_state(engine: &Arc<dyn Engine>) {
    let wide = has_avx2();
    let mut one = Guest::new(engine, &adder(wide));
    let mut two = Guest::new(engine, &adder(wide));
    let before = [prepare(&mut one, 5, wide), prepare(&mut two, 6, wide)];
    for round in 0..1000 {
        one.call();
        if round % 2 == 0 {
            two.call();
        }
    }
    check(&mut one, &before[0], 1000, wide);
    check(&mut two, &before[1], 500, wide);
    one.end();
    two.end();
}

/// The empty slice stands for it.
pub fn a_fresh_state_is_that_of_a_fresh_program(engine: &Arc<dyn Engine>) {
    // fnstcw [rdi]; stmxcsr [rdi + 8]; movups [rdi + 16], xmm7; syscall
    let code = [
        0xd9, 0x3f, 0x0f, 0xae, 0x5f, 0x08, 0x0f, 0x11, 0x7f, 0x10, SYSCALL[0], SYSCALL[1],
    ];
    let mut guest = Guest::new(engine, &code);
    for round in 0..3 {
        let dirty = pattern(&state_of(&mut guest), 9 + round, false);
        guest
            .context
            .set_extended_state(&dirty)
            .expect("a good state");
        guest.regs.rip = CODE;
        guest.regs.rdi = super::guest::DATA;
        guest.call();
        assert_ne!(guest.memory.word(LEN + 16), 0);
        guest
            .context
            .set_extended_state(&[])
            .expect("a fresh state");
        guest.regs.rip = CODE;
        guest.call();
        assert_eq!(guest.memory.read(LEN, 2), 0x37fu16.to_le_bytes());
        assert_eq!(guest.memory.read(LEN + 8, 4), 0x1f80u32.to_le_bytes());
        assert_eq!(guest.memory.read(LEN + 16, 16), [0; 16]);
    }
    guest.end();
}

/// Whatever lies in a signal frame the guest wrote.
pub fn hostile_states_are_refused_or_harmless(engine: &Arc<dyn Engine>) {
    let mut guest = Guest::new(engine, &[SYSCALL[0], SYSCALL[1], 0xeb, 0xfc]);
    guest.call();
    let good = state_of(&mut guest);
    let mut random = Random::new(11);
    let mut refused = 0;
    for round in 0..500 {
        let len = match round % 4 {
            0 => good.len(),
            1 => random.word() as usize % (2 * good.len()) + 1,
            _ => good.len(),
        };
        let mut state: Vec<u8> = (0..len).map(|_| random.word() as u8).collect();
        if round % 2 == 0 && state.len() >= 28 {
            // Past the check of mxcsr, so that the rest is looked at.
            state[24..28].copy_from_slice(&0x1f80u32.to_le_bytes());
        }
        refused += u32::from(guest.context.set_extended_state(&state).is_err());
        guest.call();
    }
    assert!(refused > 0, "reserved bits of mxcsr are refused");
    guest
        .context
        .set_extended_state(&good)
        .expect("a good state");
    guest.call();
    guest.end();
}
