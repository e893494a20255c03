//! Exceptions other than page faults, as Linux tells them.

use super::guest::{CODE, DATA, Guest, LEN, Random, SYSCALL};
use super::skip;
use crate::{Engine, Exception, Exit, Registers};
use std::sync::Arc;

pub(super) const SI_KERNEL: i32 = 0x80;

pub(super) fn exception(signal: i32, code: i32, addr: u64) -> Exit {
    Exit::Exception(Exception { signal, code, addr })
}

fn start(guest: &mut Guest, code: &[u8]) -> Exit {
    guest.load(code);
    guest.regs = Registers {
        rip: CODE,
        rsp: DATA + LEN,
        rdi: DATA,
        ..Registers::user()
    };
    guest.run()
}

/// The three that every debugger knows.
pub fn divide_undefined_breakpoint(engine: &Arc<dyn Engine>) {
    let mut guest = Guest::new(engine, &[]);
    // div ecx
    assert_eq!(
        start(&mut guest, &[0xf7, 0xf1]),
        exception(libc::SIGFPE, 1, CODE)
    );
    assert_eq!(guest.regs.rip, CODE);
    // ud2
    assert_eq!(
        start(&mut guest, &[0x0f, 0x0b]),
        exception(libc::SIGILL, 2, CODE)
    );
    assert_eq!(guest.regs.rip, CODE);
    // int3: behind it
    assert_eq!(
        start(&mut guest, &[0xcc]),
        exception(libc::SIGTRAP, SI_KERNEL, 0)
    );
    assert_eq!(guest.regs.rip, CODE + 1);
    guest.end();
}

/// Those that flags ask for.
pub fn alignment_and_single_step(engine: &Arc<dyn Engine>) {
    let mut guest = Guest::new(engine, &super::faults::LOAD);
    guest.regs.rdi = DATA + 1;
    guest.regs.eflags = 0x202 | 1 << 18;
    match guest.run() {
        Exit::Exception(e) => assert_eq!((e.signal, e.code), (libc::SIGBUS, 1)),
        Exit::Syscall => skip("this CPU does not check alignment for guests"),
        other => panic!("{other:?}"),
    }
    // nop; nop; syscall, with the trap flag
    guest.load(&[0x90, 0x90, SYSCALL[0], SYSCALL[1]]);
    guest.regs = Registers {
        rip: CODE,
        eflags: 0x302,
        ..Registers::user()
    };
    assert_eq!(guest.run(), exception(libc::SIGTRAP, 2, CODE + 1));
    assert_eq!(guest.regs.rip, CODE + 1);
    assert_eq!(guest.run(), exception(libc::SIGTRAP, 2, CODE + 2));
    guest.regs.eflags = 0x202;
    guest.call();
    guest.end();
}

/// A step over a call leaves the flag as it was, and traps after the next instruction; one over an
/// instruction that changes the flag itself traps by what it was before.
pub fn steps_over_calls_and_flags(engine: &Arc<dyn Engine>) {
    const TRACE: i32 = 2;
    const FLAG: u64 = 1 << 8;
    let traced = |at: u64| exception(libc::SIGTRAP, TRACE, at);
    let mut guest = Guest::new(engine, &[]);
    let user = Registers {
        rip: CODE,
        rsp: DATA + LEN,
        eflags: 0x202 | FLAG,
        ..Registers::user()
    };
    // nop; syscall; nop
    guest.load(&[0x90, SYSCALL[0], SYSCALL[1], 0x90]);
    guest.regs = user;
    assert_eq!(guest.run(), traced(CODE + 1));
    guest.call();
    assert_eq!(guest.regs.rip, CODE + 3);
    assert_eq!(guest.regs.eflags & FLAG, FLAG);
    assert_eq!(guest.run(), traced(CODE + 4));
    // pushf; and qword [rsp], ~0x100; popf; nop; syscall
    let off = [
        0x9c, 0x48, 0x81, 0x24, 0x24, 0xff, 0xfe, 0xff, 0xff, 0x9d, 0x90,
    ];
    guest.load(&[&off[..], &SYSCALL].concat());
    guest.regs = user;
    assert_eq!(guest.run(), traced(CODE + 1));
    assert_eq!(guest.run(), traced(CODE + 9));
    assert_eq!(guest.run(), traced(CODE + 10));
    assert_eq!(guest.regs.eflags & FLAG, 0);
    guest.call();
    // pushf; or qword [rsp], 0x100; popf; nop; nop
    guest.load(&[0x9c, 0x48, 0x81, 0x0c, 0x24, 0, 1, 0, 0, 0x9d, 0x90, 0x90]);
    guest.regs = Registers {
        eflags: 0x202,
        ..user
    };
    assert_eq!(guest.run(), traced(CODE + 11));
    assert_eq!(guest.regs.eflags & FLAG, FLAG);
    // A fault comes before the step that it stopped: mov al, [rdi]
    guest.load(&super::faults::LOAD);
    guest.regs = Registers { rdi: 8, ..user };
    assert!(matches!(guest.run(), Exit::Fault { addr: 8, .. }));
    assert_eq!(guest.regs.rip, CODE);
    assert_eq!(guest.regs.eflags & FLAG, FLAG);
    guest.end();
}

/// General protection.
pub fn privileged_instructions_and_bad_addresses(engine: &Arc<dyn Engine>) {
    let mut guest = Guest::new(engine, &[]);
    let protection = exception(libc::SIGSEGV, SI_KERNEL, 0);
    // hlt; in al, 0x80; out 0x80, al; rdmsr; mov rax, cr3; int 0x42
    let privileged: [&[u8]; 6] = [
        &[0xf4],
        &[0xe4, 0x80],
        &[0xe6, 0x80],
        &[0x0f, 0x32],
        &[0x0f, 0x20, 0xd8],
        &[0xcd, 0x42],
    ];
    for code in privileged {
        assert_eq!(start(&mut guest, code), protection, "{code:x?}");
        assert_eq!(guest.regs.rip, CODE);
    }
    // An address that is none.
    guest.load(&super::faults::LOAD);
    guest.regs.rdi = 1 << 62;
    assert_eq!(guest.run(), protection);
    // A jump to one: at the jump or at its target.
    let target = 1 << 62;
    guest.load(&[0xff, 0xe7]);
    guest.regs.rdi = target;
    assert_eq!(guest.run(), protection);
    assert!(
        [CODE, target].contains(&guest.regs.rip),
        "{:x?}",
        guest.regs
    );
    guest.end();
}

/// `int 0x80` and `sysenter` are no calls, with whatever registers.
pub fn thirty_two_bit_doors_are_shut(engine: &Arc<dyn Engine>) {
    let mut guest = Guest::new(engine, &[]);
    let protection = exception(libc::SIGSEGV, SI_KERNEL, 0);
    assert_eq!(start(&mut guest, &[0xcd, 0x80]), protection);
    assert_eq!(guest.regs.rip, CODE);
    // What lies behind `sysenter` is the host's business; that it's no call of ours is not.
    let mut random = Random::new(17);
    for round in 0..64 {
        guest.load(&[0x0f, 0x34]);
        guest.regs = Registers {
            rip: CODE,
            rsp: DATA + LEN - 64,
            ..Registers::user()
        };
        guest.regs.rax = random.word() % 512;
        guest.regs.rbp = if round % 2 == 0 { DATA } else { random.word() };
        let exit = guest.run();
        assert_ne!(exit, Exit::Syscall, "{:x?}", guest.regs);
    }
    assert_eq!(start(&mut guest, &SYSCALL), Exit::Syscall);
    guest.end();
}
