//! Why a switch came back.

/// How guest code touched memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Access {
    /// A load.
    Read,
    /// A store, or a read-modify-write.
    Write,
    /// An instruction fetch.
    Execute,
}

/// A CPU exception that is not a page fault, as Linux would tell it to the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exception {
    /// `SIGFPE`, `SIGILL`, `SIGTRAP`, `SIGBUS` or `SIGSEGV` by number.
    pub signal: i32,
    /// `si_code`
    pub code: i32,
    /// `si_addr`
    pub addr: u64,
}

/// The reason why [`crate::Context::switch`] returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// The guest executed `syscall`. (32-bit entries are refused: they are exceptions.)
    Syscall,
    /// The guest touched memory that is not mapped for it.
    Fault {
        /// The address, byte-exact where the CPU tells it.
        addr: u64,
        /// How it was touched.
        access: Access,
        /// Whether the mapping is there but its backing is not (past the end of a file, host out
        /// of memory): `SIGBUS` rather than `SIGSEGV`.
        bus: bool,
    },
    /// Another exception of the CPU.
    Exception(Exception),
    /// An interrupter asked for it.
    Interrupted,
    /// A change of mappings that had been postponed failed on the host: `addr..addr+len` is in
    /// an unknown state until it is unmapped or mapped anew.
    MapFailed {
        /// First address.
        addr: u64,
        /// Bytes.
        len: u64,
        /// The host's error number (`ENOMEM` as a rule).
        errno: i32,
    },
}
