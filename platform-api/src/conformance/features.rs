//! What the CPU says that it can, and whether that holds: a guest goes by it.

use super::guest::{CODE, DATA, Guest, LEN, Random, SYSCALL};
use super::skip;
use crate::{Engine, Exit, Registers};
use std::sync::Arc;

/// Where components of the extended state are told in it: those there are, those in use.
const THERE: usize = 464;
const IN_USE: usize = 512;
/// Protection keys: key 0 is that of all of a guest's memory.
const PKRU: u32 = 9;
/// Components that hold any bits: AVX, the three of AVX-512, and protection keys but for key 0's.
const FREE: [u32; 5] = [2, 5, 6, 7, PKRU];
const AVX: u64 = 7;
const AVX512: u64 = 0xe7;

fn start(guest: &mut Guest, code: &[u8], regs: Registers) -> Exit {
    guest.load(code);
    guest.regs = Registers {
        rip: CODE,
        rsp: DATA + LEN / 2,
        rdi: DATA,
        ..regs
    };
    guest.run()
}

/// eax, ebx, ecx and edx as guest code gets them.
fn cpuid(guest: &mut Guest, leaf: u64, index: u64) -> [u32; 4] {
    // cpuid; mov r8, rcx; syscall
    let code = [0x0f, 0xa2, 0x49, 0x89, 0xc8, SYSCALL[0], SYSCALL[1]];
    let regs = Registers {
        rax: leaf,
        rcx: index,
        ..Registers::user()
    };
    assert_eq!(start(guest, &code, regs), Exit::Syscall);
    let r = guest.regs;
    [r.rax as u32, r.rbx as u32, r.r8 as u32, r.rdx as u32]
}

/// The components that are turned on, as guest code reads them; none where it can't.
fn components(guest: &mut Guest) -> u64 {
    if cpuid(guest, 1, 0)[2] >> 27 & 1 == 0 {
        return 0;
    }
    // xgetbv; syscall
    let code = [0x0f, 0x01, 0xd0, SYSCALL[0], SYSCALL[1]];
    assert_eq!(start(guest, &code, Registers::user()), Exit::Syscall);
    guest.regs.rdx << 32 | guest.regs.rax & 0xffff_ffff
}

/// All contexts are told the same, whichever CPU they come to, but for what counts CPUs.
pub fn cpuid_is_the_same_for_all(engine: &Arc<dyn Engine>) {
    let mut one = Guest::new(engine, &[]);
    let mut two = Guest::new(engine, &[]);
    let told = |guest: &mut Guest| {
        let mut all = Vec::new();
        for leaf in [0, 1, 7, 0xd, 0x8000_0000, 0x8000_0001, 0x8000_0008] {
            let mut words = cpuid(guest, leaf, 0);
            if leaf == 1 {
                // The CPU's number.
                words[1] &= 0x00ff_ffff;
            }
            all.push(words);
        }
        all
    };
    let first = told(&mut one);
    for _ in 0..20 {
        assert_eq!(told(&mut two), first);
        assert_eq!(told(&mut one), first);
    }
    one.end();
    two.end();
}

/// Leaf, register and bit.
type Bit = (u64, usize, u32);

/// Features by name and bit, what of the extended state they need, and an instruction.
const SHOWN: [(&str, Bit, u64, &[u8]); 16] = [
    ("sse4.2", (1, 2, 20), 0, &[0x66, 0x0f, 0x38, 0x37, 0xc1]),
    ("popcnt", (1, 2, 23), 0, &[0xf3, 0x0f, 0xb8, 0xc1]),
    ("aes", (1, 2, 25), 0, &[0x66, 0x0f, 0x38, 0xdc, 0xc1]),
    ("xsave", (1, 2, 27), 0, &[0x0f, 0xae, 0x27]),
    ("avx", (1, 2, 28), AVX, &[0xc5, 0xfc, 0x58, 0xc1]),
    ("rdrand", (1, 2, 30), 0, &[0x0f, 0xc7, 0xf0]),
    ("fsgsbase", (7, 1, 0), 0, &[0xf3, 0x48, 0x0f, 0xae, 0xc0]),
    ("bmi1", (7, 1, 3), 0, &[0xc4, 0xe2, 0x70, 0xf2, 0xc2]),
    ("avx2", (7, 1, 5), AVX, &[0xc5, 0xfd, 0xfe, 0xc1]),
    (
        "avx512f",
        (7, 1, 16),
        AVX512,
        &[0x62, 0xf1, 0x7d, 0x48, 0xfe, 0xc1],
    ),
    ("adx", (7, 1, 19), 0, &[0x66, 0x0f, 0x38, 0xf6, 0xc1]),
    ("sha", (7, 1, 29), 0, &[0x0f, 0x38, 0xc8, 0xc1]),
    ("rdpkru", (7, 2, 4), 0, &[0x31, 0xc9, 0x0f, 0x01, 0xee]),
    ("rdpid", (7, 2, 22), 0, &[0xf3, 0x0f, 0xc7, 0xf8]),
    ("rdtscp", (0x8000_0001, 3, 27), 0, &[0x0f, 0x01, 0xf9]),
    ("lzcnt", (0x8000_0001, 2, 5), 0, &[0xf3, 0x0f, 0xbd, 0xc1]),
];

/// Each feature that is shown, and whose state is turned on, works.
pub fn what_is_shown_works(engine: &Arc<dyn Engine>) {
    let mut guest = Guest::new(engine, &[]);
    let on = components(&mut guest);
    for (name, (leaf, register, bit), needs, code) in SHOWN {
        let shown = cpuid(&mut guest, leaf, 0)[register] >> bit & 1 == 1;
        if !shown || on & needs != needs {
            continue;
        }
        let code = [code, &SYSCALL].concat();
        let exit = start(&mut guest, &code, Registers::user());
        assert_eq!(exit, Exit::Syscall, "{name} is shown");
    }
    guest.end();
}

/// The components of the extended state that a guest has turned on are those that its context
/// gives out and takes: each keeps what is in it while another guest has something else there.
pub fn each_component_that_is_on_is_kept(engine: &Arc<dyn Engine>) {
    // inc rbx; syscall; jmp
    let code = [0x48, 0xff, 0xc3, SYSCALL[0], SYSCALL[1], 0xeb, 0xf9];
    let mut guests = [Guest::new(engine, &code), Guest::new(engine, &code)];
    let on = components(&mut guests[0]);
    if on == 0 {
        skip("user code is not told of its extended state here");
    }
    let mut places = Vec::new();
    for number in FREE.into_iter().filter(|n| on >> n & 1 == 1) {
        let [len, at, ..] = cpuid(&mut guests[0], 0xd, u64::from(number));
        places.push((number, at as usize, len as usize));
    }
    let mut want = Vec::new();
    for (guest, seed) in guests.iter_mut().zip([41, 43]) {
        let mut random = Random::new(seed);
        guest.load(&code);
        guest.call();
        let mut state = Vec::new();
        guest.context.extended_state(&mut state).expect("a state");
        let there = u64::from_le_bytes(state[THERE..THERE + 8].try_into().expect("eight bytes"));
        assert_eq!(there, on, "what is on is what is given out");
        let mut used =
            u64::from_le_bytes(state[IN_USE..IN_USE + 8].try_into().expect("eight bytes"));
        for (number, at, len) in &places {
            used |= 1 << number;
            if *number == PKRU {
                let keys = random.word() as u32 & !3;
                state[*at..at + 4].copy_from_slice(&keys.to_le_bytes());
            } else {
                state[*at..at + len].fill_with(|| random.word() as u8);
            }
        }
        state[IN_USE..IN_USE + 8].copy_from_slice(&used.to_le_bytes());
        guest
            .context
            .set_extended_state(&state)
            .expect("a good state");
        guest.load(&code);
        want.push(state);
    }
    for _ in 0..200 {
        guests.iter_mut().for_each(Guest::call);
    }
    for (guest, want) in guests.iter_mut().zip(&want) {
        let mut state = Vec::new();
        guest.context.extended_state(&mut state).expect("a state");
        for (number, at, len) in &places {
            // The rest of the keys' component is not there.
            let len = if *number == PKRU { 4 } else { *len };
            let range = *at..at + len;
            assert_eq!(state[range.clone()], want[range], "component {number}");
        }
    }
    if let Some((_, at, _)) = places.iter().find(|(number, ..)| *number == PKRU) {
        // xor ecx, ecx; rdpkru; syscall: it is what rules, not only what is kept.
        let code = [0x31, 0xc9, 0x0f, 0x01, 0xee, SYSCALL[0], SYSCALL[1]];
        for (guest, want) in guests.iter_mut().zip(&want) {
            let exit = start(guest, &code, Registers::user());
            assert_eq!(exit, Exit::Syscall);
            let keys = u32::from_le_bytes(want[*at..at + 4].try_into().expect("four bytes"));
            assert_eq!(guest.regs.rax as u32, keys);
        }
    }
    guests.into_iter().for_each(Guest::end);
}

/// The clock of the CPU runs, forwards.
pub fn the_time_stamp_goes_forwards(engine: &Arc<dyn Engine>) {
    let mut guest = Guest::new(engine, &[]);
    let rdtscp = cpuid(&mut guest, 0x8000_0001, 0)[3] >> 27 & 1 == 1;
    let read: [&[u8]; 2] = [&[0x0f, 0x31], &[0x0f, 0x01, 0xf9]];
    let mut last = 0;
    for round in 0..200 {
        let code = [read[usize::from(rdtscp && round % 2 == 1)], &SYSCALL].concat();
        assert_eq!(start(&mut guest, &code, Registers::user()), Exit::Syscall);
        let now = guest.regs.rdx << 32 | guest.regs.rax & 0xffff_ffff;
        assert!(now > last, "{now} after {last}");
        last = now;
    }
    guest.end();
}
