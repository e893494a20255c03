//! What lies in every guest's reach though it is not its own.

use super::guest::{CODE, DATA, Guest, LEN, PAGE, SYSCALL};
use super::skip;
use crate::{Engine, Exit, Interrupter, Registers};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Interrupts every now and then, so that no loop of the guest's is endless.
pub(super) fn with_watchdog(interrupter: Arc<dyn Interrupter>, work: impl FnOnce()) {
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::SeqCst) {
                std::thread::sleep(Duration::from_millis(20));
                interrupter.interrupt();
            }
        });
        // Also when `work` panics.
        let _end = Defer(&over);
        work();
    });
}

struct Defer<'a>(&'a AtomicBool);

impl Drop for Defer<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Its three entries come out as calls, or are not there.
pub fn a_call_to_the_vsyscall_page_stays_inside(engine: &Arc<dyn Engine>) {
    let mut guest = Guest::new(engine, &[]);
    let entries = [libc::SYS_gettimeofday, libc::SYS_time, libc::SYS_getcpu];
    for (i, call) in entries.into_iter().enumerate() {
        let entry = 0xffff_ffff_ff60_0000 + i as u64 * 0x400;
        // call rax
        guest.load(&[0xff, 0xd0]);
        guest.regs = Registers {
            rip: CODE,
            rsp: DATA + LEN,
            rax: entry,
            ..Registers::user()
        };
        guest.regs.rdi = DATA;
        match guest.run() {
            Exit::Syscall => {
                assert_eq!(guest.regs.orig_rax, call as u64);
                assert_eq!((guest.regs.rip, guest.regs.rsp), (CODE + 2, DATA + LEN));
            }
            Exit::Fault { addr, .. } => {
                skip("this host has no vsyscall page");
                assert_eq!((addr, guest.regs.rip), (entry, entry));
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(guest.memory.read(LEN, 16), [0; 16], "the host has answered");
    }
    guest.load(&SYSCALL);
    guest.call();
    guest.end();
}

/// The pages that guest code can read outside of its limits.
fn foreign_pages(engine: &Arc<dyn Engine>, guest: &mut Guest) -> Vec<u64> {
    let limits = engine.limits();
    let mut ranges = limits.holes;
    // Below the lowest and above the highest, up to the end of user space.
    ranges.push((0, limits.lowest));
    ranges.push((limits.highest, 0x7fff_ffff_f000));
    let mut found = Vec::new();
    for (start, end) in ranges {
        // A hole of gigabytes can't be walked page by page; its ends are.
        let pages = (end - start) / PAGE;
        let walked = (0..pages).filter(|i| *i < 4096 || *i + 4096 >= pages);
        for page in walked.map(|i| start + i * PAGE) {
            guest.regs = Registers {
                rip: CODE,
                rdi: page,
                ..Registers::user()
            };
            if guest.run() == Exit::Syscall {
                found.push(page);
            }
        }
    }
    found
}

/// Jumps to every byte of it, with registers that would do harm if the host acted on them.
pub fn a_jump_to_any_byte_of_the_platforms_own_stays_inside(engine: &Arc<dyn Engine>) {
    let mut guest = Guest::new(engine, &super::faults::LOAD);
    let pages = foreign_pages(engine, &mut guest);
    if pages.is_empty() {
        skip("this platform keeps nothing in the guest's reach");
    }
    let interrupter = guest.context.interrupter();
    with_watchdog(interrupter, || {
        for page in pages {
            (0..PAGE).for_each(|i| jump(&mut guest, page + i));
        }
    });
    guest.regs = Registers {
        rip: CODE,
        rdi: DATA,
        ..Registers::user()
    };
    // The last interrupt may still be on its way.
    while guest.run() == Exit::Interrupted {}
    assert_eq!(guest.regs.orig_rax, 0);
    guest.memory.write(0, &SYSCALL);
    guest.regs.rip = CODE;
    guest.call();
    guest.end();
}

fn jump(guest: &mut Guest, target: u64) {
    let base = Registers {
        rip: target,
        rsp: DATA + LEN / 2,
        ..Registers::user()
    };
    let attempts = [
        // End the process; unmap the code; clone; signal everybody.
        Registers {
            rax: libc::SYS_exit_group as u64,
            ..base
        },
        Registers {
            rax: libc::SYS_munmap as u64,
            rdi: CODE,
            rsi: LEN,
            ..base
        },
        Registers {
            rax: libc::SYS_clone as u64,
            rdi: libc::CLONE_FILES as u64,
            ..base
        },
        Registers {
            rax: libc::SYS_kill as u64,
            rdi: u64::MAX,
            rsi: 9,
            ..base
        },
    ];
    for regs in attempts {
        // As arguments of whatever code is there: counts and pointers that it could go by.
        guest.regs = Registers {
            rbx: DATA,
            r12: 3,
            r13: 0,
            r14: u64::MAX,
            r15: 1,
            ..regs
        };
        let exit = guest.run();
        assert!(!matches!(exit, Exit::MapFailed { .. }), "{exit:?}");
    }
}
