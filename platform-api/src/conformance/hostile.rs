//! Guests that mean harm.

use super::guest::{CODE, DATA, Guest, LEN, PAGE, Random, SYSCALL};
use super::inside::with_watchdog;
use crate::{Engine, Exit, Registers};
use std::sync::Arc;

/// `inc rbx; syscall; jmp`, in another space: works at any time and counts exactly.
struct Neighbour {
    guest: Guest,
    calls: u64,
}

impl Neighbour {
    fn new(engine: &Arc<dyn Engine>) -> Neighbour {
        let guest = Guest::new(engine, &[0x48, 0xff, 0xc3, 0x0f, 0x05, 0xeb, 0xf9]);
        guest.memory.write(LEN, &[0x5a; 4096]);
        Neighbour { guest, calls: 0 }
    }

    fn check(&mut self) {
        self.guest.call();
        self.calls += 1;
        assert_eq!(self.guest.regs.rbx, self.calls);
        assert_eq!(self.guest.memory.read(LEN, 4096), [0x5a; 4096]);
    }
}

/// Values that matter to a CPU.
fn odd(random: &mut Random) -> u64 {
    const ODD: [u64; 16] = [
        0,
        1,
        7,
        0x10,
        0x23,
        0x2b,
        0x33,
        0xffff,
        CODE,
        DATA,
        0x7fff_ffff_ffff,
        0x8000_0000_0000,
        0xffff_7fff_ffff_ffff,
        0xffff_8000_0000_0000,
        0xffff_ffff_ff60_0000,
        u64::MAX,
    ];
    match random.word() % 3 {
        0 => random.word(),
        _ => ODD[random.word() as usize % ODD.len()],
    }
}

/// What a debugger or a signal frame may ask for.
pub fn registers_of_any_value_harm_nobody(engine: &Arc<dyn Engine>) {
    let mut guest = Guest::new(engine, &[SYSCALL[0], SYSCALL[1], 0xeb, 0xfc]);
    let mut neighbour = Neighbour::new(engine);
    let mut random = Random::new(23);
    with_watchdog(guest.context.interrupter(), || {
        for round in 0..20_000 {
            let mut r = || odd(&mut random);
            let mut regs = Registers {
                r15: r(),
                r14: r(),
                r13: r(),
                r12: r(),
                rbp: r(),
                rbx: r(),
                r11: r(),
                r10: r(),
                r9: r(),
                r8: r(),
                rax: r(),
                rcx: r(),
                rdx: r(),
                rsi: r(),
                rdi: r(),
                orig_rax: r(),
                rip: r(),
                cs: r(),
                eflags: r(),
                rsp: r(),
                ss: r(),
                fs_base: r(),
                gs_base: r(),
                ds: r(),
                es: r(),
                fs: r(),
                gs: r(),
            };
            // Else most end at the code segment.
            match round % 4 {
                0 => {}
                1 => regs.cs = 0x33,
                2 => (regs.cs, regs.rip) = (0x33, CODE),
                _ => (regs.cs, regs.rip) = (0x23, CODE),
            }
            guest.regs = regs;
            guest.run();
            if round % 100 == 0 {
                neighbour.check();
            }
        }
    });
    guest.regs = Registers {
        rip: CODE,
        ..Registers::user()
    };
    while guest.run() == Exit::Interrupted {}
    guest.call();
    neighbour.check();
    neighbour.guest.end();
    guest.end();
}

/// Where the CPU lets user code do so, also to addresses that no call of Linux accepts.
pub fn segment_bases_set_by_the_guest_are_kept(engine: &Arc<dyn Engine>) {
    // wrfsbase rax; wrgsbase rbx; syscall; rdfsbase rdx; syscall
    let mut code = vec![0xf3, 0x48, 0x0f, 0xae, 0xd0, 0xf3, 0x48, 0x0f, 0xae, 0xdb];
    code.extend(SYSCALL);
    code.extend([0xf3, 0x48, 0x0f, 0xae, 0xc2]);
    code.extend(SYSCALL);
    let mut guest = Guest::new(engine, &code);
    for base in [DATA, 0x7fff_ffff_f000, 0xffff_8000_0000_0000, !7] {
        guest.regs = Registers {
            rip: CODE,
            rax: base,
            rbx: base,
            ..Registers::user()
        };
        match guest.run() {
            Exit::Syscall => {}
            Exit::Exception(e) if e.signal == libc::SIGILL => {
                super::skip("user code may not set segment bases here");
                break;
            }
            other => panic!("{other:?}"),
        }
        assert_eq!((guest.regs.fs_base, guest.regs.gs_base), (base, base));
        guest.call();
        assert_eq!((guest.regs.rdx, guest.regs.fs_base), (base, base));
    }
    guest.regs = Registers {
        rip: CODE,
        rax: DATA,
        rbx: DATA,
        ..Registers::user()
    };
    guest.run();
    guest.end();
}

/// Stores to every page it can name, the platform's own among them.
pub fn a_scribbling_guest_harms_nobody(engine: &Arc<dyn Engine>) {
    // mov byte [rdi], 0xf4; syscall
    let mut guest = Guest::new(engine, &[0xc6, 0x07, 0xf4, SYSCALL[0], SYSCALL[1]]);
    let mut neighbour = Neighbour::new(engine);
    let limits = engine.limits();
    let mut pages: Vec<u64> = (0..32).map(|i| i * PAGE).collect();
    for (start, end) in limits
        .holes
        .iter()
        .chain([&(limits.highest, 0x7fff_ffff_f000)])
    {
        let count = ((end - start) / PAGE).min(4096);
        pages.extend((0..count).map(|i| start + i * PAGE));
        pages.extend((0..count).map(|i| end - PAGE - i * PAGE));
    }
    pages.extend((0..64).map(|i| 1u64 << i & !(PAGE - 1)));
    pages.extend((0..16).map(|i| 0xffff_ffff_ff60_0000 + i * PAGE));
    pages.extend((CODE..CODE + LEN).step_by(PAGE as usize));
    pages.extend((DATA..DATA + LEN).step_by(PAGE as usize));
    let mut stored = 0;
    for page in pages {
        for addr in [page, page + PAGE - 1] {
            guest.regs = Registers {
                rip: CODE,
                rdi: addr,
                ..Registers::user()
            };
            if guest.run() == Exit::Syscall {
                stored += 1;
                let own = (DATA..DATA + LEN).contains(&addr);
                assert!(own, "a store to {addr:#x} went through");
            }
        }
    }
    assert_eq!(stored, 2 * LEN / PAGE);
    neighbour.check();
    // Changes of mappings, which use what the platform keeps there, still work.
    let op = super::guest::map(DATA, LEN, guest.memory.at(2 * LEN), super::guest::RW);
    guest.space.apply(&[op]).expect("a change");
    guest.regs = Registers {
        rip: CODE,
        rdi: DATA,
        ..Registers::user()
    };
    guest.call();
    assert_eq!(guest.memory.read(2 * LEN, 1), [0xf4]);
    neighbour.guest.end();
    guest.end();
}
