//! Prints what the larger operations of the platform cost: faults, changes of mappings, forks,
//! threads, spaces. For tuning; no ratios.

use platform_api::conformance::guest::{
    CODE, DATA, Guest, LEN, NOWHERE, PAGE, RW, RX, SYSCALL, map,
};
use platform_api::{Engine, Exit, Op, Platform, Registers};
use platform_ptrace::Ptrace;
use std::sync::Arc;
use std::time::Instant;

const ROUNDS: u32 = 500;

fn time(name: &str, rounds: u32, mut one: impl FnMut(u32)) {
    let start = Instant::now();
    (0..rounds).for_each(&mut one);
    println!("{name:<40} {:>10.2?}", start.elapsed() / rounds);
}

/// `mov [rdi], rbx; syscall`
const STORE: [u8; 5] = [0x48, 0x89, 0x1f, 0x0f, 0x05];

fn main() {
    let engine = Ptrace.boot(None).expect("the platform boots");
    time("boot (a second engine)", 20, |_| drop(Ptrace.boot(None)));
    time("probe", 20, |_| drop(Ptrace.probe(None)));
    let mut guest = Guest::new(&engine, &STORE);
    guest.regs.rdi = DATA;
    guest.call();
    time("call", 20_000, |_| {
        guest.regs.rip = CODE;
        guest.call();
    });
    time("fault", ROUNDS, |_| {
        guest.regs = Registers {
            rip: CODE,
            rdi: NOWHERE,
            ..Registers::user()
        };
        assert!(matches!(guest.run(), Exit::Fault { .. }));
    });
    time("fault, map, resume, call", 16, |i| {
        let page = NOWHERE + u64::from(i) * 2 * PAGE;
        guest.regs = Registers {
            rip: CODE,
            rdi: page,
            ..Registers::user()
        };
        assert!(matches!(guest.run(), Exit::Fault { .. }));
        guest
            .space
            .apply(&[map(page, PAGE, guest.memory.at(2 * LEN), RW)])
            .expect("a page");
        guest.call();
    });
    time("64 changes, call", ROUNDS, |_| {
        let ops: Vec<Op> = (0..64)
            .map(|i| map(NOWHERE + i * 2 * PAGE, PAGE, guest.memory.at(2 * LEN), RW))
            .collect();
        guest.space.apply(&ops).expect("a batch");
        guest.regs = Registers {
            rip: CODE,
            rdi: DATA,
            ..Registers::user()
        };
        guest.call();
    });
    time("fork, destroy", ROUNDS, |_| {
        guest.space.fork(&[]).expect("a child").destroy()
    });
    time("fork, run on a kept thread, destroy", ROUNDS, |_| {
        let space = guest.space.fork(&[]).expect("a child");
        let mut child = Guest::within(&engine, guest.memory.clone(), space);
        child.regs.rdi = DATA;
        child.call();
        child.end();
    });
    time("fork, run on a new thread, destroy", ROUNDS, |_| {
        fork_on_thread(&engine, &guest)
    });
    time("new space, run, destroy", ROUNDS, |_| {
        Guest::new(&engine, &SYSCALL).end()
    });
    let mut exec = Guest::new(&engine, &SYSCALL);
    exec.call();
    time("exec: new space, move, destroy the old", ROUNDS, |_| {
        let space = engine.new_space().expect("a space");
        space
            .apply(&[map(CODE, LEN, exec.memory.at(0), RX)])
            .expect("a mapping");
        let old = std::mem::replace(&mut exec.space, space);
        exec.regs.rip = CODE;
        exec.call();
        old.destroy();
    });
    time("reserve a context, run it, end it", ROUNDS, |_| {
        guest.space.reserve_context().expect("room");
        let mut other = Guest::within(&engine, guest.memory.clone(), guest.space.clone());
        other.regs.rdi = DATA;
        other.call();
    });
}

fn fork_on_thread(engine: &Arc<dyn Engine>, guest: &Guest) {
    let space = guest.space.fork(&[]).expect("a child");
    let memory = guest.memory.clone();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let mut child = Guest::within(engine, memory, space);
            child.regs.rdi = DATA;
            child.call();
            child.end();
        });
    });
}
