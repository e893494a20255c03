//! More mapped files than a machine has room for, on KVM with few slots.

use abi::Errno;
use ctx::UserMemory;
use hostmem::MemoryFile;
use memmap::{Identity, Mappable, Mapping, Source, Space, Translation};
use platform_api::{Context, Engine, Exit, Registers};
use sentry_mm::{FaultSignal, MapFile, MapFlags, MapRequest, Mm, MmLimits, Prot};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Weak};

const P: u64 = 4096;
const CODE: u64 = 0x40_0000;
/// `movzx ebx, byte [rdi]; syscall`
const LOAD: &[u8] = &[0x0f, 0xb6, 0x1f, 0x0f, 0x05];
/// `mov [rdi], bl; syscall`
const STORE: &[u8] = &[0x88, 0x1f, 0x0f, 0x05];
const STORE_AT: u64 = CODE + 0x100;
const SLOTS: u64 = 24;

/// A page of the host, with a byte in it.
struct OnHost(Arc<OwnedFd>);

impl OnHost {
    fn new(byte: u8) -> Arc<OnHost> {
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(&[byte; P as usize], 0).unwrap();
        Arc::new(OnHost(Arc::new(file.into())))
    }
}

impl Mappable for OnHost {
    fn identity(&self) -> Identity {
        Identity::default()
    }
    fn translate(&self, offset: u64, len: u64, _write: bool) -> Result<Translation, Errno> {
        let source = Source::Host {
            file: self.0.clone(),
            offset,
            executable: true,
        };
        let len = len.min(P);
        Ok(Translation { source, len })
    }
    fn size(&self) -> Result<u64, Errno> {
        Ok(P)
    }
    fn attach(&self, _mapping: Mapping) -> Result<(), Errno> {
        Ok(())
    }
    fn detach(&self, _space: &Weak<dyn Space>, _addr: u64, _range: abi::page::Range) {}
}

struct Process {
    mm: Arc<Mm>,
    context: Box<dyn Context>,
    refused: u64,
}

impl Process {
    fn new(engine: &Arc<dyn Engine>, memory: &Arc<MemoryFile>) -> Process {
        let mm = Mm::new(engine, memory).unwrap();
        let rwx = Prot::all();
        mm.mmap(
            MapRequest::anonymous(P, rwx).fixed(CODE),
            &MmLimits::default(),
        )
        .unwrap();
        mm.write(CODE, LOAD).unwrap();
        mm.write(STORE_AT, STORE).unwrap();
        Process {
            mm,
            context: engine.new_context().unwrap(),
            refused: 0,
        }
    }

    fn map(&self, file: &Arc<OnHost>, shared: bool) -> u64 {
        let mut request = MapRequest::anonymous(P, Prot::READ | Prot::WRITE);
        request.flags.set(MapFlags::SHARED, shared);
        request.file = Some(MapFile {
            mappable: file.clone(),
            offset: 0,
            max_prot: Prot::all(),
        });
        self.mm.mmap(request, &MmLimits::default()).unwrap()
    }

    fn run(&mut self, rip: u64, rdi: u64, rbx: u64) -> Result<u64, FaultSignal> {
        let mut regs = Registers {
            rip,
            rdi,
            rbx,
            ..Registers::user()
        };
        loop {
            match self.context.switch(self.mm.space_ref(), &mut regs).unwrap() {
                Exit::Syscall => return Ok(regs.rbx),
                Exit::Fault { addr, access, bus } => self.mm.handle_fault(addr, access, bus)?,
                Exit::MapFailed { addr, len, errno } => {
                    self.refused += 1;
                    self.mm.map_failed(addr, len, errno).unwrap();
                }
                Exit::Interrupted => {}
                other => panic!("{other:?} at {:#x}", regs.rip),
            }
        }
    }

    fn load(&mut self, addr: u64) -> Result<u64, FaultSignal> {
        self.run(CODE, addr, 0)
    }

    fn store(&mut self, addr: u64, byte: u64) -> Result<u64, FaultSignal> {
        self.run(STORE_AT, addr, byte)
    }
}

#[test]
fn files_come_and_go_when_there_are_more_than_slots() {
    let Some(engine) = platform_kvm::testing::engine_with_slots(SLOTS as u32).unwrap() else {
        return;
    };
    let memory = MemoryFile::new().unwrap();
    let mut one = Process::new(&engine, &memory);
    let files: Vec<_> = (1..=3 * SLOTS).map(|i| OnHost::new(i as u8)).collect();
    for shared in [false, true] {
        let at: Vec<_> = files.iter().map(|file| one.map(file, shared)).collect();
        for _ in 0..2 {
            for (i, at) in (1..).zip(&at) {
                assert_eq!(one.load(*at), Ok(i), "shared: {shared}");
            }
        }
        assert!(one.refused > 0);
        for at in at {
            one.mm.munmap(at, P).unwrap();
        }
        one.refused = 0;
    }
    one.mm.destroy();
}

#[test]
fn without_a_slot_private_pages_are_copied_and_shared_ones_are_bus_errors() {
    let Some(engine) = platform_kvm::testing::engine_with_slots(SLOTS as u32).unwrap() else {
        return;
    };
    let memory = MemoryFile::new().unwrap();
    // One has them all, but for what the memory of both takes.
    let mut one = Process::new(&engine, &memory);
    let mut two = Process::new(&engine, &memory);
    let files: Vec<_> = (1..SLOTS).map(|i| OnHost::new(i as u8)).collect();
    let at: Vec<_> = files.iter().map(|file| one.map(file, false)).collect();
    assert_eq!(two.load(CODE), Ok(u64::from(LOAD[0])));
    for (i, at) in (1..).zip(&at) {
        assert_eq!(one.load(*at), Ok(i));
    }
    assert_eq!(one.refused, 0);
    let file = OnHost::new(200);
    let private = two.map(&file, false);
    assert_eq!(two.load(private), Ok(200));
    assert_eq!(two.refused, 2);
    assert_eq!(two.store(private, 201), Ok(201));
    assert_eq!(two.load(private), Ok(201));
    let shared = two.map(&file, true);
    let signal = two.load(shared).unwrap_err();
    assert_eq!((signal.signo, signal.addr), (abi::libc::SIGBUS, shared));
    // It is the same for the one, whose own files stay.
    for (i, at) in (1..).zip(&at) {
        assert_eq!(one.load(*at), Ok(i));
    }
    // Room again.
    one.mm.munmap(at[0], P).unwrap();
    let later = two.map(&file, true);
    assert_eq!(two.load(later), Ok(200));
    assert_eq!(two.store(later, 9), Ok(9));
    let mut byte = [0];
    std::fs::File::from(file.0.try_clone().unwrap())
        .read_exact_at(&mut byte, 0)
        .unwrap();
    assert_eq!(byte, [9]);
}
