//! Memory that is not there.

use super::guest::{CODE, DATA, Guest, LEN, Memory, NOWHERE, PAGE, RO, RW, RX, SYSCALL, map};
use crate::{Access, Engine, Exit, Op, Registers};
use std::sync::Arc;

/// `mov rbx, [rdi]; syscall`
pub(super) const LOAD: [u8; 5] = [0x48, 0x8b, 0x1f, 0x0f, 0x05];
/// `mov [rdi], rbx; syscall`
pub(super) const STORE: [u8; 5] = [0x48, 0x89, 0x1f, 0x0f, 0x05];

fn fault(addr: u64, access: Access) -> Exit {
    Exit::Fault {
        addr,
        access,
        bus: false,
    }
}

/// One of each, of several instructions.
pub fn loads_stores_and_fetches_tell_address_and_access(engine: &Arc<dyn Engine>) {
    let mut guest = Guest::new(engine, &[]);
    guest
        .space
        .apply(&[map(NOWHERE + PAGE, PAGE, guest.memory.at(2 * LEN), RO)])
        .expect("a page");
    let read_only = NOWHERE + PAGE;
    let mut cases: Vec<(&[u8], u64, Exit)> = vec![
        (&LOAD, NOWHERE, fault(NOWHERE, Access::Read)),
        (&STORE, NOWHERE + 8, fault(NOWHERE + 8, Access::Write)),
        (&STORE, read_only, fault(read_only, Access::Write)),
        (&LOAD, read_only - 4, fault(read_only - 4, Access::Read)),
        // across the end of what is mapped
        (
            &LOAD,
            read_only + PAGE - 4,
            fault(read_only + PAGE, Access::Read),
        ),
        (&LOAD, 0, fault(0, Access::Read)),
        (
            &LOAD,
            0xffff_8000_0000_0000,
            fault(0xffff_8000_0000_0000, Access::Read),
        ),
        // lock add [rdi], rbx; rep stosb; movups [rdi], xmm0; movups xmm0, [rdi]
        (
            &[0xf0, 0x48, 0x01, 0x1f],
            NOWHERE,
            fault(NOWHERE, Access::Write),
        ),
        (&[0xf3, 0xaa], NOWHERE, fault(NOWHERE, Access::Write)),
        (&[0x0f, 0x11, 0x07], NOWHERE, fault(NOWHERE, Access::Write)),
        (&[0x0f, 0x10, 0x07], NOWHERE, fault(NOWHERE, Access::Read)),
        // jmp rdi
        (&[0xff, 0xe7], NOWHERE, fault(NOWHERE, Access::Execute)),
        (&[0xff, 0xe7], DATA, fault(DATA, Access::Execute)),
        // xchg rsp, rdi; push rax
        (
            &[0x48, 0x87, 0xfc, 0x50],
            NOWHERE + 8,
            fault(NOWHERE, Access::Write),
        ),
        // xchg rsp, rdi; ret
        (
            &[0x48, 0x87, 0xfc, 0xc3],
            NOWHERE,
            fault(NOWHERE, Access::Read),
        ),
    ];
    if std::arch::is_x86_feature_detected!("avx2") {
        // vmovdqu [rdi], ymm0
        cases.push((
            &[0xc5, 0xfe, 0x7f, 0x07],
            NOWHERE,
            fault(NOWHERE, Access::Write),
        ));
    }
    for (code, rdi, want) in cases {
        guest.load(code);
        guest.regs = Registers {
            rdi,
            rcx: 8,
            rip: CODE,
            rsp: DATA + LEN,
            ..Registers::user()
        };
        assert_eq!(guest.run(), want, "{code:x?} with rdi {rdi:#x}");
    }
    // An instruction whose second half lies on a page that is not there.
    let last = CODE + LEN - 2;
    guest.memory.write(LEN - 2, &LOAD[..2]);
    guest.regs = Registers {
        rip: last,
        rdi: DATA,
        ..Registers::user()
    };
    assert_eq!(guest.run(), fault(CODE + LEN, Access::Execute));
    assert_eq!(guest.regs.rip, last);
    guest.end();
}

/// The way a page comes in on demand.
pub fn a_fault_can_be_mended_and_resumed(engine: &Arc<dyn Engine>) {
    let mut guest = Guest::new(engine, &STORE);
    for i in 0..16 {
        let page = NOWHERE + i * PAGE;
        guest.regs = Registers {
            rip: CODE,
            rdi: page,
            rbx: i + 1,
            ..Registers::user()
        };
        assert_eq!(guest.run(), fault(page, Access::Write));
        assert_eq!(guest.regs.rip, CODE);
        let backing = guest.memory.at(2 * LEN + i * PAGE);
        guest
            .space
            .apply(&[map(page, PAGE, backing.clone(), RO)])
            .expect("a page");
        assert_eq!(guest.run(), fault(page, Access::Write));
        let op = Op::Protect {
            addr: page,
            len: PAGE,
            access: RW,
        };
        guest.space.apply(&[op]).expect("a change");
        guest.call();
        assert_eq!(guest.memory.word(2 * LEN + i * PAGE), i + 1);
    }
    // Code that was not executable becomes so.
    guest.memory.write(LEN, &SYSCALL);
    guest.regs = Registers {
        rip: DATA,
        ..Registers::user()
    };
    assert_eq!(guest.run(), fault(DATA, Access::Execute));
    let op = Op::Protect {
        addr: DATA,
        len: LEN,
        access: RX,
    };
    guest.space.apply(&[op]).expect("a change");
    guest.call();
    guest.end();
}

/// Past the end of a file that was cut.
pub fn a_page_without_backing_is_a_bus_fault(engine: &Arc<dyn Engine>) {
    let mut guest = Guest::new(engine, &LOAD);
    let short = Memory::new(4 * PAGE);
    guest
        .space
        .apply(&[map(NOWHERE, 4 * PAGE, short.at(0), RW)])
        .expect("a mapping");
    guest.regs.rdi = NOWHERE + 3 * PAGE;
    guest.call();
    short.truncate(PAGE);
    for (code, access) in [(&LOAD, Access::Read), (&STORE, Access::Write)] {
        guest.load(code);
        guest.regs.rdi = NOWHERE + 2 * PAGE;
        assert_eq!(
            guest.run(),
            Exit::Fault {
                addr: NOWHERE + 2 * PAGE,
                access,
                bus: true
            }
        );
        guest.regs.rip = CODE;
        guest.regs.rdi = NOWHERE;
        guest.call();
    }
    guest.end();
}
