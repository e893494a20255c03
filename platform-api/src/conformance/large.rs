//! Mappings of megabytes, which a platform may keep in larger pieces than pages: each page of them
//! is still one by itself.

use super::faults::{LOAD, STORE};
use super::guest::{CODE, Guest, Memory, NOWHERE, PAGE, PATIENCE, RO, RW, Random, map};
use crate::{Access, Engine, Exit, Op, Protection, Registers};
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Instant;

/// `mov [rdi], rbx`, for ever.
const STORE_ON: [u8; 5] = [0x48, 0x89, 0x1f, 0xeb, 0xfb];
const LARGE: u64 = 2 << 20;
/// Where the mappings lie; [`NOWHERE`] is within the second part.
const AT: u64 = NOWHERE / LARGE * LARGE - LARGE;
const SIZE: u64 = 4 * LARGE;

fn fault(addr: u64, access: Access, bus: bool) -> Exit {
    Exit::Fault { addr, access, bus }
}

fn run(guest: &mut Guest, code: &[u8], addr: u64, value: u64) -> Exit {
    guest.load(code);
    guest.regs = Registers {
        rip: CODE,
        rdi: addr,
        rbx: value,
        ..Registers::user()
    };
    guest.run()
}

/// Maps, protects and unmaps parts of all sizes, aligned alike and otherwise, and looks at pages.
pub fn parts_of_large_mappings_change_by_themselves(engine: &Arc<dyn Engine>) {
    let mut guest = Guest::new(engine, &LOAD);
    let memory = Memory::new(SIZE + LARGE);
    let mut random = Random::new(0x51ed_270b_7f1d_9c3b);
    // What each page has behind it, and what may be done.
    let mut pages: Vec<Option<(u64, Protection)>> = vec![None; (SIZE / PAGE) as usize];
    for round in 0..120u64 {
        let mut below = |n: u64| random.word() % n;
        let unit = [PAGE, 16 * PAGE, LARGE, LARGE][below(4) as usize];
        let first = below(SIZE / unit);
        let (start, len) = (first * unit, (1 + below(SIZE / unit - first)) * unit);
        let access = [RW, RW, RO, Protection::empty()][below(4) as usize];
        let shift = [0, 0, 0, PAGE][below(4) as usize];
        let addr = AT + start;
        let range = (start / PAGE) as usize..((start + len) / PAGE) as usize;
        let op = match below(5) {
            0..=2 => {
                for (i, page) in (start / PAGE..).zip(&mut pages[range]) {
                    *page = Some((i * PAGE + shift, access));
                }
                map(addr, len, memory.at(start + shift), access)
            }
            3 => {
                pages[range].fill(None);
                Op::Unmap { addr, len }
            }
            _ => {
                for page in pages[range].iter_mut().flatten() {
                    page.1 = access;
                }
                Op::Protect { addr, len, access }
            }
        };
        guest.space.apply(&[op]).expect("a change");
        // At the edges of what changed, and anywhere.
        let edges = [start, start + len].map(|at| at / PAGE);
        let around = edges.iter().flat_map(|at| [at.wrapping_sub(1), *at]);
        let some: Vec<u64> = around.chain((0..4).map(|_| below(SIZE / PAGE))).collect();
        for page in some.into_iter().filter(|page| *page < SIZE / PAGE) {
            let at = AT + page * PAGE;
            let value = round << 32 | page;
            let exit = run(&mut guest, &STORE, at, value);
            match pages[page as usize] {
                Some((offset, access)) if access.contains(Protection::WRITE) => {
                    assert_eq!(exit, Exit::Syscall, "{at:x}");
                    assert_eq!(memory.word(offset), value);
                    memory.write(offset, &(value + 1).to_le_bytes());
                }
                _ => assert_eq!(exit, fault(at, Access::Write, false)),
            }
            let exit = run(&mut guest, &LOAD, at, 0);
            match pages[page as usize] {
                Some((offset, access)) if !access.is_empty() => {
                    assert_eq!(exit, Exit::Syscall, "{at:x}");
                    assert_eq!(memory.word(offset), guest.regs.rbx);
                }
                _ => assert_eq!(exit, fault(at, Access::Read, false)),
            }
        }
    }
    guest.end();
}

/// One page of it is protected while a thread stores to it; another one was taken before.
pub fn a_page_of_a_large_mapping_goes_while_others_run(engine: &Arc<dyn Engine>) {
    let memory = Memory::new(SIZE);
    let big = |offset: u64| memory.at(offset);
    let offset = NOWHERE - AT;
    let wait = |value| {
        let start = Instant::now();
        while memory.word(offset) != value {
            assert!(start.elapsed() < PATIENCE, "the guest does not get there");
            std::thread::yield_now();
        }
    };
    std::thread::scope(|scope| {
        let (tell, told) = channel();
        let thread = scope.spawn(move || {
            let mut guest = Guest::new(engine, &STORE_ON);
            let op = map(AT, SIZE, big(0), RW);
            guest.space.apply(&[op]).expect("a mapping");
            (guest.regs.rdi, guest.regs.rbx) = (NOWHERE, 7);
            tell.send(guest.space.clone()).expect("somebody listens");
            let exit = guest.run_a_while();
            for (addr, want) in [
                (NOWHERE + PAGE, fault(NOWHERE + PAGE, Access::Write, false)),
                (NOWHERE + 2 * PAGE, Exit::Syscall),
                (AT, Exit::Syscall),
            ] {
                assert_eq!(run(&mut guest, &STORE, addr, 1), want);
            }
            guest.end();
            exit
        });
        let space = told.recv().expect("a guest");
        wait(7);
        let gone = Op::Unmap {
            addr: NOWHERE + PAGE,
            len: PAGE,
        };
        space.apply(&[gone]).expect("a change");
        memory.write(offset, &9u64.to_le_bytes());
        wait(7);
        let shut = Op::Protect {
            addr: NOWHERE,
            len: PAGE,
            access: RO,
        };
        space.apply(&[shut]).expect("a change");
        memory.write(offset, &9u64.to_le_bytes());
        let exit = thread.join().expect("no panic");
        assert_eq!(exit, fault(NOWHERE, Access::Write, false));
        assert_eq!(memory.word(offset), 9, "the guest still wrote");
    });
}

/// The pages behind the new end are bus faults, those before it and those that come back are not.
pub fn a_large_mapping_of_a_file_that_is_cut(engine: &Arc<dyn Engine>) {
    let mut guest = Guest::new(engine, &STORE);
    let memory = Memory::new(SIZE);
    let op = map(AT, SIZE, memory.at(0), RW);
    guest.space.apply(&[op]).expect("a mapping");
    for at in (0..SIZE).step_by(LARGE as usize) {
        assert_eq!(run(&mut guest, &STORE, AT + at, 1), Exit::Syscall);
    }
    for len in [2 * LARGE + 3 * PAGE, LARGE, PAGE, 3 * LARGE] {
        memory.truncate(len);
        for at in [
            0,
            PAGE,
            LARGE - PAGE,
            LARGE,
            2 * LARGE + 2 * PAGE,
            SIZE - PAGE,
        ] {
            let want = if at < len {
                Exit::Syscall
            } else {
                fault(AT + at, Access::Write, true)
            };
            let exit = run(&mut guest, &STORE, AT + at, at + len);
            assert_eq!(exit, want, "{at:x} of {len:x}");
        }
        for at in [0, len - PAGE] {
            assert_eq!(run(&mut guest, &STORE, AT + at, 5), Exit::Syscall);
        }
    }
    guest.end();
}

/// As copy-on-write does it with one page, in the child and then in the parent.
pub fn forks_of_a_large_mapping_part_page_by_page(engine: &Arc<dyn Engine>) {
    let mut parent = Guest::new(engine, &STORE);
    let (memory, copies) = (Memory::new(SIZE), Memory::new(SIZE));
    let op = map(AT, SIZE, memory.at(0), RW);
    parent.space.apply(&[op]).expect("a mapping");
    assert_eq!(run(&mut parent, &STORE, NOWHERE, 5), Exit::Syscall);
    let protect = Op::Protect {
        addr: AT,
        len: SIZE,
        access: RO,
    };
    let space = parent.space.fork(&[protect]).expect("a child");
    let mut child = Guest::within(engine, parent.memory.clone(), space);
    let offset = NOWHERE - AT;
    for (guest, place) in [(&mut child, 0), (&mut parent, LARGE)] {
        assert_eq!(
            run(guest, &STORE, NOWHERE, 6),
            fault(NOWHERE, Access::Write, false)
        );
        let op = map(NOWHERE, PAGE, copies.at(place), RW);
        guest.space.apply(&[op]).expect("a page");
        assert_eq!(run(guest, &STORE, NOWHERE, 6 + place), Exit::Syscall);
        assert_eq!((copies.word(place), memory.word(offset)), (6 + place, 5));
        let next = NOWHERE + PAGE;
        assert_eq!(
            run(guest, &STORE, next, 6),
            fault(next, Access::Write, false)
        );
        assert_eq!(run(guest, &LOAD, AT, 6), Exit::Syscall);
        assert_eq!(guest.regs.rbx, memory.word(0));
    }
    child.end();
    assert_eq!(run(&mut parent, &LOAD, NOWHERE, 0), Exit::Syscall);
    assert_eq!(parent.regs.rbx, 6 + LARGE);
    parent.end();
}
