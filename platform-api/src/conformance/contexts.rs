//! Many contexts.

use super::guest::{CODE, DATA, Guest, SYSCALL};
use super::skip;
use crate::{Engine, Exit, Registers};
use std::sync::Arc;
use std::sync::mpsc::channel;

/// `inc rbx; syscall; jmp`
const COUNT: [u8; 7] = [0x48, 0xff, 0xc3, 0x0f, 0x05, 0xeb, 0xf9];

/// In one space, each with its own registers.
pub fn a_thousand_side_by_side(engine: &Arc<dyn Engine>) {
    let mut first = Guest::new(engine, &COUNT);
    first.call();
    let mut guests = vec![first];
    while guests.len() < 1000 {
        let (space, memory) = (guests[0].space.clone(), guests[0].memory.clone());
        if let Err(e) = space.reserve_context() {
            assert_eq!(e.errno, Some(libc::EAGAIN), "{e}");
            skip(&format!(
                "only {} contexts fit on this host: {e}",
                guests.len()
            ));
            break;
        }
        let mut guest = Guest::within(engine, memory, space);
        guest.regs.rbx = guests.len() as u64 * 1_000_000;
        guest.call();
        guests.push(guest);
    }
    for _ in 0..3 {
        guests.iter_mut().for_each(Guest::call);
    }
    for (i, guest) in guests.iter().enumerate() {
        assert_eq!(guest.regs.rbx, i as u64 * 1_000_000 + 4);
    }
    guests[0].space.destroy();
}

/// Two that wait for each other in guest code.
pub fn threads_run_at_the_same_time(engine: &Arc<dyn Engine>) {
    // mov qword [rdi], 1; 1: cmp qword [rdi + 8], 1; jne 1b; syscall
    let mut code = vec![
        0x48, 0xc7, 0x07, 1, 0, 0, 0, 0x48, 0x83, 0x7f, 8, 1, 0x75, 0xf9,
    ];
    code.extend(SYSCALL);
    let mut guest = Guest::new(engine, &SYSCALL);
    guest.call();
    guest.load(&code);
    // The same with the words exchanged.
    code[10] = 0xf8;
    guest.memory.write(0x100, &code);
    guest.space.reserve_context().expect("room for another");
    let (space, memory) = (guest.space.clone(), guest.memory.clone());
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let mut other = Guest::within(engine, memory, space);
            (other.regs.rip, other.regs.rdi) = (CODE + 0x100, DATA + 8);
            other.call();
        });
        guest.regs.rdi = DATA;
        guest.call();
    });
    guest.end();
}

/// As pooled host threads use theirs: for one guest thread after the other.
pub fn retired_contexts_are_used_again(engine: &Arc<dyn Engine>) {
    let mut guest = Guest::new(engine, &COUNT);
    guest.call();
    let (space, memory) = (guest.space.clone(), guest.memory.clone());
    let (go, wait) = channel::<u64>();
    let (done, finished) = channel();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let mut pooled = Guest::within(engine, memory, space);
            for start in wait {
                pooled
                    .context
                    .set_extended_state(&[])
                    .expect("a fresh state");
                pooled.regs = Registers {
                    rip: CODE,
                    rbx: start,
                    ..Registers::user()
                };
                let exits = (pooled.run(), pooled.run());
                done.send((exits, pooled.regs.rbx))
                    .expect("somebody listens");
                pooled.context.retire();
            }
        });
        for i in 0..200 {
            guest.space.reserve_context().expect("room for another");
            go.send(i * 10).expect("it listens");
            let got = finished.recv().expect("an answer");
            assert_eq!(got, ((Exit::Syscall, Exit::Syscall), i * 10 + 2));
            guest.call();
        }
        drop(go);
    });
    guest.end();
}
