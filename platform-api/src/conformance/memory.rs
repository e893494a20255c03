//! Changes of mappings, and forks.

use super::faults::{LOAD, STORE};
use super::guest::{CODE, DATA, Guest, LEN, Memory, NOWHERE, PAGE, RO, RW, RX, map};
use crate::{Access, AddressSpace, Engine, Exit, Interrupter, Op, Registers};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

/// `mov rbx, [rdi]; mov [rsi], rbx`, for ever.
const COPY: [u8; 8] = [0x48, 0x8b, 0x1f, 0x48, 0x89, 0x1e, 0xeb, 0xf8];
/// `mov [rdi], rbx`, for ever.
const STORE_ON: [u8; 5] = [0x48, 0x89, 0x1f, 0xeb, 0xfb];

fn fault(addr: u64, access: Access) -> Exit {
    Exit::Fault {
        addr,
        access,
        bus: false,
    }
}

fn unmap(addr: u64, len: u64) -> Op {
    Op::Unmap { addr, len }
}

/// Waits until a word of the guest's data is `value`.
fn wait_for(memory: &Memory, offset: u64, value: u64) {
    let start = Instant::now();
    while memory.word(offset) != value {
        assert!(
            start.elapsed() < Duration::from_secs(20),
            "the guest does not get there"
        );
        std::thread::yield_now();
    }
}

/// What a thread with a guest of its own tells the others.
struct Told {
    space: Arc<dyn AddressSpace>,
    memory: Memory,
    interrupter: Arc<dyn Interrupter>,
}

/// Makes a guest, tells of it, and runs it until it exits, which is returned.
fn runner(engine: &Arc<dyn Engine>, code: &[u8], tell: Sender<Told>) -> Exit {
    let mut guest = Guest::new(engine, code);
    guest
        .space
        .apply(&[map(NOWHERE, PAGE, guest.memory.at(2 * LEN), RW)])
        .expect("a page");
    guest.regs.rdi = NOWHERE;
    guest.regs.rsi = DATA;
    guest.regs.rbx = 7;
    guest.memory.write(2 * LEN, &1u64.to_le_bytes());
    guest.memory.write(2 * LEN + PAGE, &2u64.to_le_bytes());
    tell.send(Told {
        space: guest.space.clone(),
        memory: guest.memory.clone(),
        interrupter: guest.context.interrupter(),
    })
    .expect("somebody listens");
    let exit = guest.run_a_while();
    guest.end();
    exit
}

/// Runs `code` in a thread while `change` works on its space; the exit of the former.
fn while_running(engine: &Arc<dyn Engine>, code: &[u8], change: impl FnOnce(Told)) -> Exit {
    std::thread::scope(|scope| {
        let (tell, told) = channel();
        let thread = scope.spawn(move || runner(engine, code, tell));
        change(told.recv().expect("a guest"));
        thread.join().expect("no panic")
    })
}

/// A second context sees what was mapped before it came and after.
pub fn maps_are_seen_by_all_contexts(engine: &Arc<dyn Engine>) {
    let mut one = Guest::new(engine, &LOAD);
    one.regs.rdi = DATA;
    one.call();
    one.space.reserve_context().expect("room for another");
    let (space, memory) = (one.space.clone(), one.memory.clone());
    let (go, wait): (Sender<u64>, Receiver<u64>) = channel();
    let (done, finished) = channel();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let mut two = Guest::within(engine, memory, space);
            for addr in wait {
                two.regs = Registers {
                    rip: CODE,
                    rdi: addr,
                    ..Registers::user()
                };
                done.send((two.run(), two.regs.rbx))
                    .expect("somebody listens");
            }
        });
        for i in 0..8 {
            let addr = NOWHERE + i * PAGE;
            one.memory
                .write(2 * LEN + i * PAGE, &(i + 100).to_le_bytes());
            let backing = one.memory.at(2 * LEN + i * PAGE);
            one.space
                .apply(&[map(addr, PAGE, backing, RO)])
                .expect("a page");
            if i % 2 == 0 {
                one.regs = Registers {
                    rip: CODE,
                    rdi: addr,
                    ..Registers::user()
                };
                one.call();
                assert_eq!(one.regs.rbx, i + 100);
            }
            go.send(addr).expect("it listens");
            let got = finished.recv().expect("an answer");
            assert_eq!(got, (Exit::Syscall, i + 100));
            one.space.apply(&[unmap(addr, PAGE)]).expect("a change");
            go.send(addr).expect("it listens");
            let (exit, _) = finished.recv().expect("an answer");
            assert_eq!(exit, fault(addr, Access::Read));
        }
        drop(go);
    });
    one.end();
}

/// Replaces a page under a running guest, then takes it away; from a thread that has a context
/// in the space.
pub fn unmaps_take_effect_while_others_run(engine: &Arc<dyn Engine>) {
    let mut one = Guest::new(engine, &LOAD);
    one.regs.rdi = DATA;
    one.call();
    one.memory.write(0, &COPY);
    one.memory.write(2 * LEN, &1u64.to_le_bytes());
    one.memory.write(2 * LEN + PAGE, &2u64.to_le_bytes());
    one.space
        .apply(&[map(NOWHERE, PAGE, one.memory.at(2 * LEN), RW)])
        .expect("a page");
    one.space.reserve_context().expect("room for another");
    let (space, memory) = (one.space.clone(), one.memory.clone());
    std::thread::scope(|scope| {
        let thread = scope.spawn(move || {
            let mut two = Guest::within(engine, memory, space);
            (two.regs.rdi, two.regs.rsi) = (NOWHERE, DATA);
            two.run_a_while()
        });
        replace_then_remove(&one.space, &one.memory);
        assert_eq!(
            thread.join().expect("no panic"),
            fault(NOWHERE, Access::Read)
        );
    });
    one.end();
}

/// As above, from a thread without one.
pub fn unmaps_from_a_stranger_take_effect_while_others_run(engine: &Arc<dyn Engine>) {
    let exit = while_running(engine, &COPY, |told| {
        replace_then_remove(&told.space, &told.memory)
    });
    assert_eq!(exit, fault(NOWHERE, Access::Read));
}

fn replace_then_remove(space: &Arc<dyn AddressSpace>, memory: &Memory) {
    let (copied, old, new) = (LEN, 2 * LEN, 2 * LEN + PAGE);
    wait_for(memory, copied, 1);
    space
        .apply(&[map(NOWHERE, PAGE, memory.at(new), RW)])
        .expect("a change");
    // Who still reads the old page from now on tells by this.
    memory.write(old, &5u64.to_le_bytes());
    wait_for(memory, copied, 2);
    for _ in 0..1000 {
        assert_eq!(memory.word(copied), 2);
    }
    space.apply(&[unmap(NOWHERE, PAGE)]).expect("a change");
    memory.write(new, &6u64.to_le_bytes());
    std::thread::sleep(Duration::from_millis(2));
    assert_eq!(memory.word(copied), 2, "the guest still reads what is gone");
}

/// Write permission goes from under a guest that writes.
pub fn protections_take_effect_while_others_run(engine: &Arc<dyn Engine>) {
    let exit = while_running(engine, &STORE_ON, |told| {
        wait_for(&told.memory, 2 * LEN, 7);
        let op = Op::Protect {
            addr: NOWHERE,
            len: PAGE,
            access: RO,
        };
        told.space.apply(&[op]).expect("a change");
        told.memory.write(2 * LEN, &9u64.to_le_bytes());
        std::thread::sleep(Duration::from_millis(2));
        assert_eq!(told.memory.word(2 * LEN), 9, "the guest still writes");
        // In case it does for ever.
        told.interrupter.interrupt();
    });
    assert!(
        exit == fault(NOWHERE, Access::Write) || exit == Exit::Interrupted,
        "{exit:?}"
    );
}

/// A thousand changes at once, each depending on those before it.
pub fn batches_keep_their_order(engine: &Arc<dyn Engine>) {
    let mut guest = Guest::new(engine, &LOAD);
    let memory = Memory::new(16 * PAGE);
    (0..16).for_each(|i| memory.write(i * PAGE, &(i + 1).to_le_bytes()));
    let mut ops = Vec::new();
    let mut want = vec![None; 64];
    for i in 0..1000u64 {
        let at = i.wrapping_mul(2_654_435_761) >> 7 & 63;
        let page = i % 16;
        let addr = NOWHERE + at * PAGE;
        if i % 5 == 4 {
            ops.push(unmap(addr, PAGE));
            want[at as usize] = None;
        } else {
            ops.push(map(addr, PAGE, memory.at(page * PAGE), RO));
            want[at as usize] = Some(page + 1);
        }
    }
    guest.space.apply(&ops).expect("a batch");
    for (at, want) in want.into_iter().enumerate() {
        let addr = NOWHERE + at as u64 * PAGE;
        guest.regs = Registers {
            rip: CODE,
            rdi: addr,
            ..Registers::user()
        };
        match want {
            None => assert_eq!(guest.run(), fault(addr, Access::Read)),
            Some(value) => {
                guest.call();
                assert_eq!(guest.regs.rbx, value);
            }
        }
    }
    guest.end();
}

/// As the contract has it, unlike the host's own call.
pub fn protecting_goes_on_behind_a_hole(engine: &Arc<dyn Engine>) {
    let mut guest = Guest::new(engine, &STORE);
    let page = |i: u64| NOWHERE + i * PAGE;
    let backing = |guest: &Guest, i: u64| guest.memory.at(2 * LEN + i * PAGE);
    guest
        .space
        .apply(&[
            map(page(0), PAGE, backing(&guest, 0), RW),
            map(page(2), PAGE, backing(&guest, 2), RW),
            Op::Protect {
                addr: page(0),
                len: 4 * PAGE,
                access: RO,
            },
        ])
        .expect("changes");
    for i in [0, 2] {
        guest.regs = Registers {
            rip: CODE,
            rdi: page(i),
            ..Registers::user()
        };
        assert_eq!(guest.run(), fault(page(i), Access::Write));
    }
    guest.end();
}

/// A writable mapping of a file that is open for reading.
pub fn a_refused_mapping_is_told(engine: &Arc<dyn Engine>) {
    let mut guest = Guest::new(engine, &LOAD);
    let file = std::fs::File::open("/proc/self/exe").expect("this program");
    let backing = crate::Backing {
        file: Arc::new(file.into()),
        offset: 0,
    };
    let first = guest.space.apply(&[
        map(NOWHERE, PAGE, backing, RW),
        map(NOWHERE + 2 * PAGE, PAGE, guest.memory.at(2 * LEN), RW),
    ]);
    guest.regs.rdi = NOWHERE + 2 * PAGE;
    if first.is_ok() {
        let exit = guest.run();
        let want = Exit::MapFailed {
            addr: NOWHERE,
            len: PAGE,
            errno: libc::EACCES,
        };
        assert_eq!(exit, want);
        assert_eq!(guest.regs.rip, CODE);
        // The rest of the batch was done.
        guest.call();
    }
    guest
        .space
        .apply(&[map(NOWHERE, PAGE, guest.memory.at(2 * LEN), RW)])
        .expect("a page");
    guest.regs = Registers {
        rip: CODE,
        rdi: NOWHERE,
        ..Registers::user()
    };
    guest.call();
    guest.end();
}

/// The child sees what the parent had, and neither sees what the other does later.
pub fn a_fork_has_the_same_mappings_and_parts_from_then_on(engine: &Arc<dyn Engine>) {
    let mut parent = Guest::new(engine, &LOAD);
    parent.regs.rdi = DATA;
    parent.memory.write(LEN, &5u64.to_le_bytes());
    parent.call();
    // Not drained when the fork comes.
    parent.memory.write(2 * LEN, &6u64.to_le_bytes());
    parent
        .space
        .apply(&[map(NOWHERE, PAGE, parent.memory.at(2 * LEN), RW)])
        .expect("a page");
    let space = parent.space.fork(&[]).expect("a child");
    let mut child = Guest::within(engine, parent.memory.clone(), space);
    for (addr, value) in [(DATA, 5), (NOWHERE, 6)] {
        child.regs = Registers {
            rip: CODE,
            rdi: addr,
            ..Registers::user()
        };
        child.call();
        assert_eq!(child.regs.rbx, value);
    }
    // They part.
    parent
        .space
        .apply(&[unmap(NOWHERE, PAGE)])
        .expect("a change");
    child.space.apply(&[unmap(DATA, LEN)]).expect("a change");
    for (guest, gone, there) in [(&mut parent, NOWHERE, DATA), (&mut child, DATA, NOWHERE)] {
        guest.regs = Registers {
            rip: CODE,
            rdi: gone,
            ..Registers::user()
        };
        assert_eq!(guest.run(), fault(gone, Access::Read));
        guest.regs.rdi = there;
        guest.call();
    }
    // A child of the child.
    let space = child.space.fork(&[]).expect("a grandchild");
    let mut grandchild = Guest::within(engine, parent.memory.clone(), space);
    child.end();
    parent.end();
    grandchild.regs.rdi = NOWHERE;
    grandchild.call();
    assert_eq!(grandchild.regs.rbx, 6);
    grandchild.end();
}

/// As copy-on-write wants it: both lose the right to write.
pub fn fork_applies_its_batch_first(engine: &Arc<dyn Engine>) {
    let mut parent = Guest::new(engine, &STORE);
    parent.regs.rdi = DATA;
    parent.call();
    let protect = Op::Protect {
        addr: DATA,
        len: LEN,
        access: RO,
    };
    let space = parent.space.fork(&[protect]).expect("a child");
    let mut child = Guest::within(engine, parent.memory.clone(), space);
    for guest in [&mut child, &mut parent] {
        guest.regs = Registers {
            rip: CODE,
            rdi: DATA,
            ..Registers::user()
        };
        assert_eq!(guest.run(), fault(DATA, Access::Write));
    }
    // The copy: the child's own page.
    child
        .space
        .apply(&[map(DATA, PAGE, child.memory.at(2 * LEN), RW)])
        .expect("a page");
    child.regs.rbx = 77;
    child.call();
    assert_eq!(
        (child.memory.word(2 * LEN), child.memory.word(LEN)),
        (77, 0)
    );
    assert_eq!(parent.run(), fault(DATA, Access::Write));
    child.end();
    parent.end();
}

/// As exec does it, over and over, the old space being destroyed each time.
pub fn a_context_moves_between_spaces(engine: &Arc<dyn Engine>) {
    let mut guest = Guest::new(engine, &LOAD);
    for i in 0..32u64 {
        let memory = Memory::new(2 * LEN);
        memory.write(0, &LOAD);
        memory.write(LEN, &i.to_le_bytes());
        let space = engine.new_space().expect("a space");
        let ops = [
            map(CODE, LEN, memory.at(0), RX),
            map(DATA, LEN, memory.at(LEN), RW),
        ];
        space.apply(&ops).expect("mappings");
        let old = std::mem::replace(&mut guest.space, space);
        if i % 2 == 0 {
            old.destroy();
        }
        guest.regs = Registers {
            rip: CODE,
            rdi: DATA,
            ..Registers::user()
        };
        guest.call();
        assert_eq!(guest.regs.rbx, i);
        old.destroy();
    }
    guest.end();
}

/// No process of ours stays behind as a zombie.
pub fn destroyed_spaces_leave_nothing(engine: &Arc<dyn Engine>) {
    for _ in 0..50 {
        let mut guest = Guest::new(engine, &LOAD);
        guest.regs.rdi = DATA;
        guest.call();
        guest.space.reserve_context().expect("room for another");
        guest.space.fork(&[]).expect("a child").destroy();
        guest.end();
    }
    // Other tests of this process end spaces at the same time: only what stays counts.
    let first = zombies();
    std::thread::sleep(Duration::from_secs(2));
    let second = zombies();
    let stayed: Vec<_> = first.iter().filter(|pid| second.contains(pid)).collect();
    assert!(stayed.is_empty(), "zombies: {stayed:?}");
}

fn zombies() -> Vec<String> {
    let me = std::process::id().to_string();
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").expect("/proc").flatten() {
        let Ok(stat) = std::fs::read_to_string(entry.path().join("stat")) else {
            continue;
        };
        let mut rest = stat.rsplit(") ").next().unwrap_or("").split(' ');
        if rest.next() == Some("Z") && rest.next() == Some(me.as_str()) {
            found.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    found
}
