//! A guest: a space with some code and data, and a context to run it.

use crate::ops::Protection;
use crate::{AddressSpace, Backing, Context, Engine, Exit, Op, Registers};
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::mpsc::RecvTimeoutError;
use std::time::Duration;

/// Where a guest's code lies.
pub const CODE: u64 = 0x40_0000;
/// Where a guest's data lies.
pub const DATA: u64 = 0x50_0000;
/// Bytes of either.
pub const LEN: u64 = 0x1_0000;
/// An address with nothing near it.
pub const NOWHERE: u64 = 0x1234_5000;
/// One page.
pub const PAGE: u64 = 0x1000;

/// How long a test waits for what should come at once.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// `syscall`
pub const SYSCALL: [u8; 2] = [0x0f, 0x05];
/// `jmp` to itself
pub const SPIN: [u8; 2] = [0xeb, 0xfe];

/// What stands behind guests' memory.
#[derive(Clone)]
pub struct Memory {
    file: Arc<OwnedFd>,
}

impl Memory {
    /// Of `len` bytes, zero.
    pub fn new(len: u64) -> Memory {
        let fd =
            nix::sys::memfd::memfd_create(c"conformance", nix::sys::memfd::MFdFlags::MFD_CLOEXEC)
                .expect("a memfd");
        let file = File::from(fd);
        file.set_len(len).expect("a length");
        Memory {
            file: Arc::new(file.into()),
        }
    }

    /// The part at `offset`, to be mapped.
    pub fn at(&self, offset: u64) -> Backing {
        Backing {
            file: self.file.clone(),
            offset,
        }
    }

    fn file(&self) -> File {
        self.file.try_clone().expect("a descriptor").into()
    }

    /// Writes as the sentry would.
    pub fn write(&self, offset: u64, bytes: &[u8]) {
        self.file().write_all_at(bytes, offset).expect("memory");
    }

    /// Reads as the sentry would.
    pub fn read(&self, offset: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.file()
            .read_exact_at(&mut bytes, offset)
            .expect("memory");
        bytes
    }

    /// Reads a word.
    pub fn word(&self, offset: u64) -> u64 {
        u64::from_le_bytes(self.read(offset, 8).try_into().expect("eight bytes"))
    }

    /// Cuts it.
    pub fn truncate(&self, len: u64) {
        self.file().set_len(len).expect("a length");
    }
}

/// Read and write.
pub const RW: Protection = Protection::READ.union(Protection::WRITE);
/// Read and execute.
pub const RX: Protection = Protection::READ.union(Protection::EXECUTE);
/// Read.
pub const RO: Protection = Protection::READ;

/// Shorthand for a mapping.
pub fn map(addr: u64, len: u64, backing: Backing, access: Protection) -> Op {
    Op::Map {
        addr,
        len,
        backing,
        access,
    }
}

/// A guest thread.
pub struct Guest {
    /// Its memory: code at 0, data at [`LEN`], as much again at twice that, unused.
    pub memory: Memory,
    /// Its space.
    pub space: Arc<dyn AddressSpace>,
    /// Its context, of the thread that made the guest.
    pub context: Box<dyn Context>,
    /// Its registers.
    pub regs: Registers,
}

impl Guest {
    /// A guest in a space of its own, about to run `code`.
    pub fn new(engine: &Arc<dyn Engine>, code: &[u8]) -> Guest {
        let memory = Memory::new(3 * LEN);
        memory.write(0, code);
        let space = engine.new_space().expect("a space");
        space
            .apply(&[
                map(CODE, LEN, memory.at(0), RX),
                map(DATA, LEN, memory.at(LEN), RW),
            ])
            .expect("mappings");
        Guest::within(engine, memory, space)
    }

    /// A guest in a space that has been made ready for it.
    pub fn within(engine: &Arc<dyn Engine>, memory: Memory, space: Arc<dyn AddressSpace>) -> Guest {
        let mut context = engine.new_context().expect("a context");
        context.set_extended_state(&[]).expect("a fresh state");
        let regs = Registers {
            rip: CODE,
            rsp: DATA + LEN,
            ..Registers::user()
        };
        Guest {
            memory,
            space,
            context,
            regs,
        }
    }

    /// Replaces its code and starts it over.
    pub fn load(&mut self, code: &[u8]) {
        self.memory.write(0, code);
        self.regs.rip = CODE;
    }

    /// Runs it to its next exit.
    pub fn run(&mut self) -> Exit {
        self.context
            .switch(&self.space, &mut self.regs)
            .expect("the platform keeps working")
    }

    /// As [`Guest::run`], but interrupted when that takes too long, so that a test which has
    /// failed ends.
    pub fn run_a_while(&mut self) -> Exit {
        let interrupter = self.context.interrupter();
        let (done, over) = std::sync::mpsc::channel::<()>();
        let rescue = std::thread::spawn(move || {
            if over.recv_timeout(PATIENCE) == Err(RecvTimeoutError::Timeout) {
                interrupter.interrupt();
            }
        });
        let exit = self.run();
        drop(done);
        rescue.join().expect("no panic");
        exit
    }

    /// Runs it to its next exit, which is a call.
    pub fn call(&mut self) {
        let exit = self.run();
        assert_eq!(exit, Exit::Syscall, "{:x?}", self.regs);
    }

    /// Ends it.
    pub fn end(self) {
        self.space.destroy();
    }
}

/// Pseudo-random numbers, the same on each run.
pub struct Random(u64);

impl Random {
    /// From a seed that is not zero.
    pub fn new(seed: u64) -> Random {
        Random(seed)
    }

    /// The next one.
    pub fn word(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}
