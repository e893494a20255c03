//! Interrupts from other threads.

use super::guest::{CODE, DATA, Guest, LEN, PATIENCE, RO, SPIN, SYSCALL};
use super::skip;
use crate::{Engine, Exception, Exit, Interrupter, Op};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// Sent as fast as they can be.
const STORM: u32 = 100_000;
/// Sent one by one, each when the one before has been answered.
const ANSWERED: u32 = 20_000;

/// It waits for the next switch if there is none now.
pub fn one_before_a_switch_ends_it(engine: &Arc<dyn Engine>) {
    let mut guest = Guest::new(engine, &SPIN);
    let interrupter = guest.context.interrupter();
    for _ in 0..1000 {
        let before = guest.regs;
        interrupter.interrupt();
        interrupter.interrupt();
        assert_eq!(guest.run(), Exit::Interrupted);
        assert_eq!((guest.regs.rip, guest.regs.rsp), (before.rip, before.rsp));
    }
    // Used up: the next switch runs.
    guest.load(&SYSCALL);
    guest.call();
    guest.end();
}

/// A switch that was over before it began does not count: the next one runs with all of its
/// registers, and with no other rights.
pub fn what_did_not_begin_begins_later(engine: &Arc<dyn Engine>) {
    // mov rbx, fs:[0]; syscall
    let mut code = vec![0x64, 0x48, 0x8b, 0x1c, 0x25, 0, 0, 0, 0];
    code.extend(SYSCALL);
    let mut guest = Guest::new(engine, &code);
    let interrupter = guest.context.interrupter();
    for i in 0..100u64 {
        guest.memory.write(LEN + i * 8, &(i + 1).to_le_bytes());
        (guest.regs.rip, guest.regs.fs_base) = (CODE, DATA + i * 8);
        interrupter.interrupt();
        assert_eq!(guest.run(), Exit::Interrupted);
        guest.call();
        assert_eq!((guest.regs.rbx, guest.regs.fs_base), (i + 1, DATA + i * 8));
    }
    // mov rax, cr3; syscall
    let mut code = vec![0x0f, 0x20, 0xd8];
    code.extend(SYSCALL);
    for i in 0..16 {
        guest.load(&code);
        // The platform may have something of its own to do first.
        let taken = Op::Protect {
            addr: DATA + i * 0x1000,
            len: 0x1000,
            access: RO,
        };
        guest.space.apply(&[taken]).expect("a change");
        interrupter.interrupt();
        assert_eq!(guest.run(), Exit::Interrupted);
        let refused = Exit::Exception(Exception {
            signal: libc::SIGSEGV,
            code: 0x80, // SI_KERNEL
            addr: 0,
        });
        assert_eq!((guest.run(), guest.regs.rip), (refused, CODE));
    }
    guest.end();
}

/// Each ends a switch of a guest that does nothing else.
pub fn none_is_lost(engine: &Arc<dyn Engine>) {
    let ended = AtomicU32::new(0);
    let over = AtomicBool::new(false);
    let (tell, told) = std::sync::mpsc::channel::<Arc<dyn Interrupter>>();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut guest = Guest::new(engine, &SPIN);
            tell.send(guest.context.interrupter())
                .expect("somebody listens");
            while !over.load(Ordering::SeqCst) {
                assert_eq!(guest.run(), Exit::Interrupted);
                ended.fetch_add(1, Ordering::SeqCst);
            }
            guest.end();
        });
        let interrupter = told.recv().expect("an interrupter");
        let start = Instant::now();
        for i in 0..ANSWERED {
            // The last one is to find that it is the last.
            let last = i + 1 == ANSWERED || start.elapsed() > PATIENCE;
            over.store(last, Ordering::SeqCst);
            interrupter.interrupt();
            let (mut spins, sent) = (0u64, Instant::now());
            while ended.load(Ordering::SeqCst) == i {
                spins += 1;
                if spins > 200 {
                    std::thread::yield_now();
                    if sent.elapsed() > PATIENCE {
                        // So that the thread ends, and the test with it.
                        over.store(true, Ordering::SeqCst);
                        interrupter.interrupt();
                        panic!("interrupt {i} was lost");
                    }
                }
            }
            if last {
                if i + 1 < ANSWERED {
                    skip(&format!(
                        "this host is busy: only {i} interrupts were answered"
                    ));
                }
                break;
            }
        }
    });
}

/// As fast as they can be sent, while the guest makes calls; afterwards all works.
pub fn a_storm_is_survived(engine: &Arc<dyn Engine>) {
    let over = AtomicBool::new(false);
    let gone = AtomicBool::new(false);
    let (tell, told) = std::sync::mpsc::channel::<Arc<dyn Interrupter>>();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // inc rbx; syscall; jmp
            let code = [0x48, 0xff, 0xc3, SYSCALL[0], SYSCALL[1], 0xeb, 0xf9];
            let mut guest = Guest::new(engine, &code);
            tell.send(guest.context.interrupter())
                .expect("somebody listens");
            let mut calls = 0;
            while !over.load(Ordering::SeqCst) {
                match guest.run() {
                    Exit::Syscall => calls += 1,
                    Exit::Interrupted => {}
                    other => panic!("{other:?}"),
                }
            }
            // Not one instruction was done twice or left out. An interrupt may have come between
            // the two of them.
            let between = u64::from(guest.regs.rip == CODE + 3);
            assert_eq!(guest.regs.rbx, calls + between);
            guest.load(&SPIN);
            assert_eq!(guest.run(), Exit::Interrupted);
            gone.store(true, Ordering::SeqCst);
            guest.end();
        });
        let interrupter = told.recv().expect("an interrupter");
        (0..STORM).for_each(|_| interrupter.interrupt());
        over.store(true, Ordering::SeqCst);
        while !gone.load(Ordering::SeqCst) {
            interrupter.interrupt();
            std::thread::sleep(Duration::from_millis(1));
        }
    });
}
