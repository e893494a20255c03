//! Instructions by which user code reaches for what is not its own: each ends as on Linux.

use super::exceptions::{SI_KERNEL, exception};
use super::guest::{CODE, DATA, Guest, LEN, SYSCALL};
use super::skip;
use crate::{Engine, Exit, Registers};
use std::sync::Arc;

const PROTECTION: (i32, i32) = (libc::SIGSEGV, SI_KERNEL);
const UNDEFINED: (i32, i32) = (libc::SIGILL, 2);
const TRAP_BRKPT: i32 = 1;
/// An address that is none.
const NOWHERE: u64 = 1 << 62;

/// Where a guest goes on after it has jumped.
const TARGET: u64 = CODE + 0x100;

fn start(guest: &mut Guest, code: &[u8], regs: Registers) -> Exit {
    guest.load(code);
    guest.regs = Registers {
        rip: CODE,
        rsp: DATA + LEN / 2,
        ..regs
    };
    guest.run()
}

/// An exit as signal and code.
fn signal(exit: Exit) -> Option<(i32, i32)> {
    match exit {
        Exit::Exception(e) => Some((e.signal, e.code)),
        _ => None,
    }
}

/// Registers that only a kernel's code may name: control, debug and model-specific ones, the
/// descriptor tables, the task register, ports, and what flushes or stops the CPU.
pub fn a_kernels_registers_are_out_of_reach(engine: &Arc<dyn Engine>) {
    let mut guest = Guest::new(engine, &[]);
    let refused: [(&str, &[u8]); 24] = [
        ("mov rax, cr0", &[0x0f, 0x20, 0xc0]),
        ("mov cr0, rax", &[0x0f, 0x22, 0xc0]),
        ("mov cr3, rax", &[0x0f, 0x22, 0xd8]),
        ("mov cr4, rax", &[0x0f, 0x22, 0xe0]),
        ("mov rax, dr0", &[0x0f, 0x21, 0xc0]),
        ("mov dr0, rax", &[0x0f, 0x23, 0xc0]),
        ("mov rax, dr7", &[0x0f, 0x21, 0xf8]),
        ("mov dr7, rax", &[0x0f, 0x23, 0xf8]),
        ("rdmsr", &[0x0f, 0x32]),
        ("wrmsr", &[0x0f, 0x30]),
        ("lgdt [rdi]", &[0x0f, 0x01, 0x17]),
        ("lidt [rdi]", &[0x0f, 0x01, 0x1f]),
        ("lldt ax", &[0x0f, 0x00, 0xd0]),
        ("ltr ax", &[0x0f, 0x00, 0xd8]),
        ("lmsw ax", &[0x0f, 0x01, 0xf0]),
        ("clts", &[0x0f, 0x06]),
        ("swapgs", &[0x0f, 0x01, 0xf8]),
        ("sysret", &[0x48, 0x0f, 0x07]),
        ("invlpg [rdi]", &[0x0f, 0x01, 0x3f]),
        ("wbinvd", &[0x0f, 0x09]),
        ("hlt", &[0xf4]),
        ("cli", &[0xfa]),
        ("in eax, dx", &[0xed]),
        ("out dx, eax", &[0xef]),
    ];
    for (name, code) in refused {
        // The index of `syscall`'s target register, and of ports that platforms use.
        for rcx in [0xc000_0082, 0x10, 0] {
            let regs = Registers {
                rcx,
                rdx: 0xc0,
                rdi: DATA,
                rax: 0,
                ..Registers::user()
            };
            let exit = start(&mut guest, code, regs);
            assert_eq!(exit, exception(libc::SIGSEGV, SI_KERNEL, 0), "{name}");
            assert_eq!(guest.regs.rip, CODE, "{name}");
        }
    }
    // Extended control registers: a bad value of a good one, a good value of user code.
    let regs = Registers {
        rcx: 0,
        rax: 7,
        ..Registers::user()
    };
    let exit = start(&mut guest, &[0x0f, 0x01, 0xd1], regs);
    let xsetbv = signal(exit).unwrap_or_else(|| panic!("xsetbv: {exit:?}"));
    assert!(
        [PROTECTION, UNDEFINED].contains(&xsetbv),
        "xsetbv: {exit:?}"
    );
    assert_eq!(
        start(&mut guest, &SYSCALL, Registers::user()),
        Exit::Syscall
    );
    guest.end();
}

/// Performance counters are the host's to give; no more comes of it than a number.
pub fn performance_counters_are_not_read(engine: &Arc<dyn Engine>) {
    // rdpmc; syscall
    let code = [0x0f, 0x33, SYSCALL[0], SYSCALL[1]];
    let mut guest = Guest::new(engine, &[]);
    for rcx in [0, 1, 1 << 30, 1 << 31, u64::MAX] {
        let regs = Registers {
            rcx,
            ..Registers::user()
        };
        match start(&mut guest, &code, regs) {
            Exit::Syscall => skip("this host lets user code read performance counters"),
            exit => assert_eq!(signal(exit), Some(PROTECTION), "{exit:?}"),
        }
    }
    guest.end();
}

/// They are undefined instructions, as long as there is no hypervisor that answers user code
/// itself; then they change one register.
pub fn hypercalls_come_to_nothing(engine: &Arc<dyn Engine>) {
    let mut guest = Guest::new(engine, &[]);
    for code in [[0x0f, 0x01, 0xc1], [0x0f, 0x01, 0xd9]] {
        let code = [&code[..], &SYSCALL].concat();
        // Numbers that KVM knows, among them the one that wakes another virtual CPU.
        for rax in [0, 1, 5, 9, 10, 11, 12, u64::MAX] {
            let regs = Registers {
                rax,
                rbx: 1,
                rsi: DATA,
                rdi: DATA,
                ..Registers::user()
            };
            let exit = start(&mut guest, &code, regs);
            let r = guest.regs;
            match exit {
                Exit::Syscall => {
                    assert!(rax == r.rax || (r.rax as i64) < 0, "{r:x?}");
                    assert_eq!((r.rbx, r.rsi, r.rdi, r.rip), (1, DATA, DATA, CODE + 5));
                }
                exit => {
                    let gone = signal(exit);
                    assert!(
                        [Some(UNDEFINED), Some(PROTECTION)].contains(&gone),
                        "{exit:?}"
                    );
                    assert_eq!((r.rip, r.rax, r.rbx), (CODE, rax, 1));
                }
            }
            assert_eq!(guest.memory.read(LEN, 64), [0; 64]);
        }
    }
    guest.end();
}

/// The instructions of virtualisation itself.
pub fn virtual_machines_are_not_made_inside(engine: &Arc<dyn Engine>) {
    let mut guest = Guest::new(engine, &[]);
    // vmrun, vmload, vmsave, stgi, clgi, skinit, invlpga; vmxoff, vmlaunch, vmresume, vmptrld [rdi]
    let codes: [&[u8]; 11] = [
        &[0x0f, 0x01, 0xd8],
        &[0x0f, 0x01, 0xda],
        &[0x0f, 0x01, 0xdb],
        &[0x0f, 0x01, 0xdc],
        &[0x0f, 0x01, 0xdd],
        &[0x0f, 0x01, 0xde],
        &[0x0f, 0x01, 0xdf],
        &[0x0f, 0x01, 0xc4],
        &[0x0f, 0x01, 0xc2],
        &[0x0f, 0x01, 0xc3],
        &[0x0f, 0xc7, 0x37],
    ];
    for code in codes {
        let regs = Registers {
            rax: DATA,
            rdi: DATA,
            ..Registers::user()
        };
        let exit = start(&mut guest, code, regs);
        let gone = signal(exit);
        assert!(
            [Some(UNDEFINED), Some(PROTECTION)].contains(&gone),
            "{code:x?}: {exit:?}"
        );
        assert_eq!(guest.regs.rip, CODE, "{code:x?}");
    }
    guest.end();
}

/// Writes what a far return finds on the stack.
fn frame(guest: &Guest, words: &[u64]) {
    let bytes: Vec<u8> = words.iter().flat_map(|w| w.to_le_bytes()).collect();
    guest.memory.write(LEN + LEN / 2, &bytes);
}

const IRETQ: [u8; 2] = [0x48, 0xcf];
const RETFQ: [u8; 2] = [0x48, 0xcb];
const STACK: u64 = DATA + LEN / 4;

/// User code may return to user code by them, and to nowhere else.
pub fn far_returns_lead_to_user_code_alone(engine: &Arc<dyn Engine>) {
    let mut guest = Guest::new(engine, &[]);
    guest.memory.write(0x100, &SYSCALL);
    let user = Registers::user();
    // What may be: with flags that are a kernel's to change.
    for flags in [0x2u64, 0x202, 0x3202, 0x17_7202 & !0x100] {
        frame(&guest, &[TARGET, 0x33, flags, STACK, 0x2b]);
        assert_eq!(start(&mut guest, &IRETQ, user), Exit::Syscall, "{flags:x}");
        assert_eq!((guest.regs.rip, guest.regs.rsp), (TARGET + 2, STACK));
        // Interrupts on, no port given, no other mode entered.
        assert_eq!(guest.regs.eflags & 0x1a_3200, 0x200, "{flags:x}");
    }
    frame(&guest, &[TARGET, 0x33]);
    assert_eq!(start(&mut guest, &RETFQ, user), Exit::Syscall);
    assert_eq!(guest.regs.rip, TARGET + 2);
    // What may not be: null, a kernel's code and data, beyond the table, the local table.
    let protection = Some(PROTECTION);
    for cs in [
        0, 3, 0x10, 0x13, 0x18, 0x1b, 0x2b, 0x40, 0x43, 0xfff8, 0xfffb,
    ] {
        frame(&guest, &[TARGET, cs, 0x202, STACK, 0x2b]);
        for code in [IRETQ, RETFQ] {
            let exit = start(&mut guest, &code, user);
            assert_eq!(signal(exit), protection, "{code:x?} to {cs:#x}: {exit:?}");
            // Hosts that interpret it may go there, and find `syscall` in what is no 64-bit code.
            assert!([CODE, TARGET].contains(&guest.regs.rip), "{cs:#x}");
            assert!([0x33, 0x23].contains(&guest.regs.cs), "{cs:#x}");
        }
    }
    for ss in [0, 3, 0x10, 0x18, 0x1b, 0x33, 0x40, 0xfff8] {
        frame(&guest, &[TARGET, 0x33, 0x202, STACK, ss]);
        let exit = start(&mut guest, &IRETQ, user);
        // A host that interprets it may take user code's segment for a stack's.
        let taken = ss == 0x33 && exit == Exit::Syscall;
        assert!(
            taken || signal(exit) == protection,
            "stack {ss:#x}: {exit:?}"
        );
    }
    // To an address that is none: told where the jump was or where it went.
    frame(&guest, &[NOWHERE, 0x33, 0x202, STACK, 0x2b]);
    let exit = start(&mut guest, &IRETQ, user);
    assert_eq!(signal(exit), protection, "{exit:?}");
    assert!(
        [CODE, NOWHERE].contains(&guest.regs.rip),
        "{:x?}",
        guest.regs
    );
    assert_eq!(start(&mut guest, &SYSCALL, user), Exit::Syscall);
    guest.end();
}

/// Of 32-bit code, which can be entered but finds no door.
pub fn a_far_return_to_32_bit_code_finds_no_call(engine: &Arc<dyn Engine>) {
    let mut guest = Guest::new(engine, &[]);
    for door in [[0x0f, 0x05], [0xcd, 0x80], [0x0f, 0x34]] {
        guest.memory.write(0x100, &door);
        frame(&guest, &[TARGET, 0x23, 0x202, STACK, 0x2b]);
        let exit = start(&mut guest, &IRETQ, Registers::user());
        assert_ne!(exit, Exit::Syscall, "{door:x?}");
        assert!(!matches!(exit, Exit::MapFailed { .. }), "{exit:?}");
    }
    assert_eq!(
        start(&mut guest, &SYSCALL, Registers::user()),
        Exit::Syscall
    );
    guest.end();
}

/// Selectors of a kernel's segments can't be loaded, nor far jumps made to them.
pub fn a_kernels_segments_are_not_loaded(engine: &Arc<dyn Engine>) {
    let mut guest = Guest::new(engine, &[]);
    // mov ds, ax; mov es, ax; mov fs, ax; mov gs, ax; mov ss, ax
    for load in [0xd8, 0xc0, 0xe0, 0xe8, 0xd0] {
        for rax in [0x10, 0x18, 0x1b, 0x40, 0xfff8] {
            let regs = Registers {
                rax,
                ..Registers::user()
            };
            let exit = start(&mut guest, &[0x8e, load], regs);
            assert_eq!(signal(exit), Some(PROTECTION), "{load:x} {rax:x}: {exit:?}");
            assert_eq!(guest.regs.rip, CODE);
        }
    }
    // jmp far [rdi], of 32 bits
    for selector in [0u16, 0x10, 0x40, 0xfff8] {
        let target = [&(TARGET as u32).to_le_bytes()[..], &selector.to_le_bytes()].concat();
        guest.memory.write(LEN, &target);
        let regs = Registers {
            rdi: DATA,
            ..Registers::user()
        };
        let exit = start(&mut guest, &[0xff, 0x2f], regs);
        let gone = signal(exit);
        // A host that interprets it may not know how to switch tasks.
        let task = selector == 0x40 && gone == Some(UNDEFINED);
        assert!(task || gone == Some(PROTECTION), "{selector:x}: {exit:?}");
        assert_eq!(guest.regs.rip, CODE);
    }
    guest.end();
}

/// Beside a load's: a store's, a stack's, a base's.
pub fn addresses_that_are_none(engine: &Arc<dyn Engine>) {
    let mut guest = Guest::new(engine, &[]);
    for addr in [(1 << 47) + 0x1000, NOWHERE, 0xffff_7fff_ffff_ffff, 1 << 63] {
        let regs = Registers {
            rdi: addr,
            ..Registers::user()
        };
        // mov [rdi], rbx; lock inc [rdi]; movups [rdi], xmm0; call [rdi]
        let codes: [&[u8]; 4] = [
            &[0x48, 0x89, 0x1f],
            &[0xf0, 0x48, 0xff, 0x07],
            &[0x0f, 0x11, 0x07],
            &[0xff, 0x17],
        ];
        for code in codes {
            let exit = start(&mut guest, code, regs);
            assert_eq!(signal(exit), Some(PROTECTION), "{code:x?} {addr:x}");
            assert_eq!(guest.regs.rip, CODE);
        }
        // xchg rsp, rdi; push rax: told apart, of the stack.
        let exit = start(&mut guest, &[0x48, 0x87, 0xfc, 0x50], regs);
        assert_eq!(exit, exception(libc::SIGBUS, SI_KERNEL, 0), "{addr:x}");
        assert_eq!((guest.regs.rip, guest.regs.rsp), (CODE + 3, addr));
        // wrfsbase rdi
        let exit = start(&mut guest, &[0xf3, 0x48, 0x0f, 0xae, 0xd7], regs);
        let gone = signal(exit);
        assert!(
            [Some(UNDEFINED), Some(PROTECTION)].contains(&gone),
            "{exit:?}"
        );
    }
    guest.end();
}

/// `int1` is a breakpoint to Linux, `int3` by number is too, other numbers are refused.
pub fn software_interrupts(engine: &Arc<dyn Engine>) {
    let mut guest = Guest::new(engine, &[]);
    let user = Registers::user();
    assert_eq!(
        start(&mut guest, &[0xf1], user),
        exception(libc::SIGTRAP, TRAP_BRKPT, CODE + 1)
    );
    assert_eq!(guest.regs.rip, CODE + 1);
    for vector in (0..=255u8).filter(|v| !matches!(v, 3 | 4)) {
        let exit = start(&mut guest, &[0xcd, vector], user);
        // No CPU has a use for these. Hosts were seen on which they stand for `cpuid` and others.
        if (0x17..0x1c).contains(&vector) && guest.regs.rip != CODE {
            assert_ne!(exit, Exit::Syscall, "int {vector:#x}");
            continue;
        }
        assert_eq!(signal(exit), Some(PROTECTION), "int {vector:#x}: {exit:?}");
        assert_eq!(guest.regs.rip, CODE, "int {vector:#x}");
    }
    guest.end();
}
