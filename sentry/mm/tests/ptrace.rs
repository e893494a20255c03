//! Address spaces under a real platform: machine code touches what the tables say is there.

use ctx::UserMemory;
use hostmem::MemoryFile;
use platform_api::{Context, Engine, Exit, Platform, Registers};
use sentry_mm::{FaultSignal, MapFlags, MapRequest, Mm, MmLimits, Prot, SEGV_ACCERR, SEGV_MAPERR};
use std::sync::Arc;

const P: u64 = 4096;
const RW: Prot = Prot::READ.union(Prot::WRITE);
const CODE: u64 = 0x40_0000;

/// For rcx pages from rdi on: stores cl; then a system call.
const STORE: &[u8] = &[
    0x88, 0x0f, 0x48, 0x81, 0xc7, 0x00, 0x10, 0x00, 0x00, 0x48, 0xff, 0xc9, 0x75, 0xf2, 0x0f, 0x05,
];
/// For rcx pages from rdi on: adds the first byte to rbx; then a system call.
const SUM: &[u8] = &[
    0x0f, 0xb6, 0x07, 0x48, 0x01, 0xc3, 0x48, 0x81, 0xc7, 0x00, 0x10, 0x00, 0x00, 0x48, 0xff, 0xc9,
    0x75, 0xee, 0x0f, 0x05,
];
const SUM_AT: u64 = CODE + 0x100;

/// One for each test: stubs end with the thread that booted.
fn engine() -> Arc<dyn Engine> {
    platform_ptrace::Ptrace.boot(None).unwrap()
}

fn limits() -> MmLimits {
    MmLimits::default()
}

/// A thread that runs the guest's code.
struct Cpu {
    context: Box<dyn Context>,
    faults: u64,
}

impl Cpu {
    fn new(engine: &Arc<dyn Engine>) -> Cpu {
        Cpu {
            context: engine.new_context().unwrap(),
            faults: 0,
        }
    }

    /// Runs from `rip` to the next system call; rbx then.
    fn run(&mut self, mm: &Mm, rip: u64, rdi: u64, pages: u64) -> Result<u64, FaultSignal> {
        let mut regs = Registers {
            rip,
            rdi,
            rcx: pages,
            rbx: 0,
            ..Registers::user()
        };
        loop {
            match self.context.switch(mm.space_ref(), &mut regs).unwrap() {
                Exit::Syscall => return Ok(regs.rbx),
                Exit::Fault { addr, access, bus } => {
                    self.faults += 1;
                    mm.handle_fault(addr, access, bus)?;
                }
                Exit::Interrupted => {}
                other => panic!("{other:?} at {:#x}", regs.rip),
            }
        }
    }

    fn store(&mut self, mm: &Mm, at: u64, pages: u64) -> Result<(), FaultSignal> {
        self.run(mm, CODE, at, pages).map(drop)
    }

    fn sum(&mut self, mm: &Mm, at: u64, pages: u64) -> Result<u64, FaultSignal> {
        self.run(mm, SUM_AT, at, pages)
    }
}

fn process(engine: &Arc<dyn Engine>, memory: &Arc<MemoryFile>) -> Arc<Mm> {
    let mm = Mm::new(engine, memory).unwrap();
    mm.mmap(MapRequest::anonymous(P, RW).fixed(CODE), &limits())
        .unwrap();
    mm.write(CODE, STORE).unwrap();
    mm.write(SUM_AT, SUM).unwrap();
    mm.mprotect(CODE, P, Prot::READ | Prot::EXECUTE, false, &limits())
        .unwrap();
    mm
}

fn expected(pages: u64) -> u64 {
    (1..=pages).map(|n| n & 0xff).sum()
}

#[test]
fn use_in_order_takes_few_faults_and_both_sides_see_the_same() {
    let engine = engine();
    let mut cpu = Cpu::new(&engine);
    let memory = MemoryFile::new().unwrap();
    let mm = process(&engine, &memory);
    let at = mm
        .mmap(MapRequest::anonymous(4096 * P, RW), &limits())
        .unwrap();
    cpu.store(&mm, at, 4096).unwrap();
    assert!(cpu.faults <= 8, "{} faults", cpu.faults);
    assert_eq!(cpu.sum(&mm, at, 4096), Ok(expected(4096)));
    let mut byte = [0];
    mm.read(at + P, &mut byte).unwrap();
    assert_eq!(byte, [0xff]);
    mm.write(at, &[7]).unwrap();
    assert_eq!(cpu.sum(&mm, at, 1), Ok(7));
    assert_eq!(memory.usage(), 4097 * P);
    mm.munmap(at, 4096 * P).unwrap();
    assert_eq!(memory.usage(), P);
    assert_eq!(cpu.sum(&mm, at, 1).unwrap_err().code, SEGV_MAPERR);
}

#[test]
fn protections_are_the_cpus() {
    let engine = engine();
    let mut cpu = Cpu::new(&engine);
    let mm = process(&engine, &MemoryFile::new().unwrap());
    let at = mm
        .mmap(MapRequest::anonymous(4 * P, RW), &limits())
        .unwrap();
    cpu.store(&mm, at, 4).unwrap();
    mm.mprotect(at + P, P, Prot::READ, false, &limits())
        .unwrap();
    let s = cpu.store(&mm, at, 4).unwrap_err();
    assert_eq!((s.code, s.addr), (SEGV_ACCERR, at + P));
    assert_eq!(cpu.sum(&mm, at + P, 1), Ok(3));
    mm.mprotect(at + P, P, Prot::empty(), false, &limits())
        .unwrap();
    assert_eq!(cpu.sum(&mm, at, 4).unwrap_err().addr, at + P);
    let s = cpu.run(&mm, at, 0, 0).unwrap_err();
    assert_eq!((s.code, s.addr), (SEGV_ACCERR, at));
}

#[test]
fn forked_memory_is_copied_when_written() {
    let engine = engine();
    let mut cpu = Cpu::new(&engine);
    let memory = MemoryFile::new().unwrap();
    let mm = process(&engine, &memory);
    let at = mm
        .mmap(MapRequest::anonymous(512 * P, RW), &limits())
        .unwrap();
    let mut req = MapRequest::anonymous(P, RW);
    req.flags |= MapFlags::SHARED;
    let shared = mm.mmap(req, &limits()).unwrap();
    cpu.store(&mm, at, 512).unwrap();
    let child = mm.fork().unwrap();
    let mut second = Cpu::new(&engine);
    second.store(&child, at + 10 * P, 1).unwrap();
    second.store(&child, shared, 1).unwrap();
    assert_eq!(second.sum(&child, at + 10 * P, 1), Ok(1));
    assert_eq!(cpu.sum(&mm, at, 512), Ok(expected(512)));
    assert_eq!(cpu.sum(&mm, shared, 1), Ok(1));
    mm.write(at, &[200]).unwrap();
    assert_eq!(cpu.sum(&mm, at, 1), Ok(200));
    assert_eq!(second.sum(&child, at, 1), Ok(512 & 0xff));
    child.destroy();
    drop(child);
    let before = cpu.faults;
    cpu.store(&mm, at, 512).unwrap();
    assert!(cpu.faults - before <= 3, "{} faults", cpu.faults - before);
    assert_eq!(cpu.sum(&mm, at, 512), Ok(expected(512)));
}

#[test]
fn moved_memory_is_where_it_was_moved_to() {
    let engine = engine();
    let mut cpu = Cpu::new(&engine);
    let mm = process(&engine, &MemoryFile::new().unwrap());
    let at = mm
        .mmap(MapRequest::anonymous(64 * P, RW), &limits())
        .unwrap();
    cpu.store(&mm, at, 64).unwrap();
    let guard = MapRequest::anonymous(P, Prot::empty()).fixed(at + 64 * P);
    mm.mmap(guard, &limits()).unwrap();
    let to = mm
        .mremap(
            at,
            64 * P,
            128 * P,
            sentry_mm::RemapFlags::MAYMOVE,
            0,
            &limits(),
        )
        .unwrap();
    assert_ne!(to, at);
    assert_eq!(cpu.sum(&mm, to, 128), Ok(expected(64)));
    assert_eq!(cpu.sum(&mm, at, 1).unwrap_err().code, SEGV_MAPERR);
    mm.madvise(to, 32 * P, abi::libc::MADV_DONTNEED).unwrap();
    assert_eq!(cpu.sum(&mm, to, 32), Ok(0));
}

#[test]
fn threads_of_one_space_fault_side_by_side() {
    let engine = engine();
    let memory = MemoryFile::new().unwrap();
    let mm = process(&engine, &memory);
    let at = mm
        .mmap(MapRequest::anonymous(4096 * P, RW), &limits())
        .unwrap();
    // The first context is free; each further one is announced by a thread that runs there.
    let mut cpu = Cpu::new(&engine);
    cpu.store(&mm, at, 1).unwrap();
    for _ in 0..3 {
        mm.space().reserve_context().unwrap();
    }
    std::thread::scope(|scope| {
        for i in 0..3 {
            let (mm, engine) = (&mm, &engine);
            scope.spawn(move || {
                let mut cpu = Cpu::new(engine);
                for round in 0..20 {
                    let part = at + (i * 1024 + round) * P;
                    cpu.store(mm, part, 900).unwrap();
                    assert_eq!(cpu.sum(mm, part, 900), Ok(expected(900)));
                    mm.madvise(part, 450 * P, abi::libc::MADV_DONTNEED).unwrap();
                    mm.mprotect(part, 900 * P, Prot::READ, false, &limits())
                        .unwrap();
                    assert_eq!(cpu.sum(mm, part, 450), Ok(0));
                    mm.mprotect(part, 900 * P, RW, false, &limits()).unwrap();
                }
            });
        }
    });
}
