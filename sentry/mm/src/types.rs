//! What callers say and get: requests, limits, fault signals, reports.

use abi::page::Range;
use abi::{Errno, libc};
use auth::UserNamespace;
use memmap::{Identity, Mappable};
use std::any::Any;
use std::sync::Arc;

/// Protection of a mapping, as the guest asked for it.
pub use platform_api::Protection as Prot;

/// From `PROT_READ`, `PROT_WRITE`, `PROT_EXEC`; other bits are ignored, as mmap(2) does.
pub fn prot_from_bits(bits: u64) -> Prot {
    let mut prot = Prot::empty();
    prot.set(Prot::READ, bits & libc::PROT_READ as u64 != 0);
    prot.set(Prot::WRITE, bits & libc::PROT_WRITE as u64 != 0);
    prot.set(Prot::EXECUTE, bits & libc::PROT_EXEC as u64 != 0);
    prot
}

bitflags::bitflags! {
    /// How to map (mmap(2)).
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct MapFlags: u32 {
        /// `MAP_SHARED`; private otherwise.
        const SHARED = 1;
        /// `MAP_FIXED`: at that address, in place of what is there.
        const FIXED = 1 << 1;
        /// `MAP_FIXED_NOREPLACE`: at that address, or `EEXIST`.
        const FIXED_NOREPLACE = 1 << 2;
        /// `MAP_GROWSDOWN`: grows when the page below is touched.
        const GROWSDOWN = 1 << 3;
        /// `MAP_POPULATE`: make the pages be there.
        const POPULATE = 1 << 4;
        /// `MAP_NORESERVE`: not counted against memory.
        const NORESERVE = 1 << 5;
        /// `MAP_LOCKED`.
        const LOCKED = 1 << 6;
        /// `MAP_32BIT`: in the first 2 GiB.
        const LOW = 1 << 7;
        /// The main stack: counted as such, named `[stack]`.
        const STACK = 1 << 8;
        /// The heap of brk(2), named `[heap]`.
        const HEAP = 1 << 9;
        /// Not to be merged with, grown, or unmapped by accident: vDSO and its parameters.
        const SPECIAL = 1 << 10;
        /// Memory without a file that mprotect(2) never makes writable.
        const READ_ONLY = 1 << 11;
    }
}

/// A file to map.
#[derive(Clone)]
pub struct MapFile {
    /// What gives its bytes.
    pub mappable: Arc<dyn Mappable>,
    /// Page-aligned offset into it.
    pub offset: u64,
    /// The most that mprotect(2) may ever give (a shared mapping of a file that is open for
    /// reading alone never becomes writable).
    pub max_prot: Prot,
}

/// A call of mmap(2), decoded.
#[derive(Clone)]
pub struct MapRequest {
    /// A hint, or the place for the fixed kinds.
    pub addr: u64,
    /// Bytes.
    pub len: u64,
    /// Access.
    pub prot: Prot,
    /// How.
    pub flags: MapFlags,
    /// What; anonymous memory for `None`.
    pub file: Option<MapFile>,
    /// Name in /proc/PID/maps, such as `[vdso]`.
    pub name: Option<&'static str>,
}

impl MapRequest {
    /// Private anonymous memory anywhere.
    pub fn anonymous(len: u64, prot: Prot) -> MapRequest {
        MapRequest {
            addr: 0,
            len,
            prot,
            flags: MapFlags::empty(),
            file: None,
            name: None,
        }
    }

    /// At this address, in place of what is there.
    pub fn fixed(mut self, addr: u64) -> MapRequest {
        self.addr = addr;
        self.flags |= MapFlags::FIXED;
        self
    }
}

/// Resource limits that concern memory, in bytes; `u64::MAX` is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MmLimits {
    /// `RLIMIT_AS`
    pub address_space: u64,
    /// `RLIMIT_DATA`
    pub data: u64,
    /// `RLIMIT_STACK`
    pub stack: u64,
    /// `RLIMIT_MEMLOCK`
    pub memlock: u64,
}

impl Default for MmLimits {
    /// What Linux starts init with.
    fn default() -> MmLimits {
        MmLimits {
            address_space: u64::MAX,
            data: u64::MAX,
            stack: 8 << 20,
            memlock: 8 << 20,
        }
    }
}

/// The signal for a fault that cannot be served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FaultSignal {
    /// `SIGSEGV`, `SIGBUS`, or `SIGKILL` where there is no memory.
    pub signo: i32,
    /// `si_code`: `SEGV_MAPERR`, `SEGV_ACCERR`, `BUS_ADRERR`.
    pub code: i32,
    /// `si_addr`
    pub addr: u64,
}

/// `SEGV_MAPERR`
pub const SEGV_MAPERR: i32 = 1;
/// `SEGV_ACCERR`
pub const SEGV_ACCERR: i32 = 2;
/// `BUS_ADRERR`
pub const BUS_ADRERR: i32 = 2;

impl FaultSignal {
    pub(crate) fn unmapped(addr: u64) -> FaultSignal {
        FaultSignal {
            signo: libc::SIGSEGV,
            code: SEGV_MAPERR,
            addr,
        }
    }
    pub(crate) fn denied(addr: u64) -> FaultSignal {
        FaultSignal {
            signo: libc::SIGSEGV,
            code: SEGV_ACCERR,
            addr,
        }
    }
    pub(crate) fn bus(addr: u64) -> FaultSignal {
        FaultSignal {
            signo: libc::SIGBUS,
            code: BUS_ADRERR,
            addr,
        }
    }
    /// There is no memory, and it is this process that has to go.
    pub(crate) fn starved(addr: u64) -> FaultSignal {
        FaultSignal {
            signo: libc::SIGKILL,
            code: 0,
            addr,
        }
    }
    /// What a failure of the host's, or of a file, comes to.
    pub(crate) fn from_errno(errno: Errno, addr: u64) -> FaultSignal {
        match errno {
            Errno::ENOMEM => FaultSignal::starved(addr),
            _ => FaultSignal::bus(addr),
        }
    }
}

/// What a futex word is, wherever it is mapped (futex(2)).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum FutexKey {
    /// A word of one address space.
    Private {
        /// [`crate::Mm::id`]
        mm: u64,
        /// Its address.
        addr: u64,
    },
    /// A word of something shared.
    Shared {
        /// The mappable.
        object: u64,
        /// Offset into it.
        offset: u64,
    },
}

/// Sizes in bytes, for /proc/PID/{status,stat,statm} and getrusage(2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "proc(5) says what each is")]
pub struct MmUsage {
    pub virtual_: u64,
    pub peak_virtual: u64,
    pub resident: u64,
    pub peak_resident: u64,
    /// The part of `resident` that is of files or shared.
    pub shared: u64,
    pub text: u64,
    pub data: u64,
    pub stack: u64,
    pub locked: u64,
}

/// One line of /proc/PID/maps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MapsEntry {
    /// Addresses.
    pub range: Range,
    /// Access.
    pub prot: Prot,
    /// `s` or `p`.
    pub shared: bool,
    /// Offset into the file.
    pub offset: u64,
    /// The file.
    pub identity: Option<Identity>,
    /// `[heap]`, `[stack]`, `[vdso]`, …
    pub name: Option<&'static str>,
    /// Bytes that are there, where `maps` was asked to find out (smaps).
    pub resident: u64,
    /// Those of them that are of a file or shared.
    pub resident_shared: u64,
    /// Whether it grows down.
    pub grows_down: bool,
    /// Whether it is locked.
    pub locked: bool,
    /// Whether core files leave it out (`MADV_DONTDUMP`).
    pub not_dumped: bool,
}

/// What execve(2) leaves behind for /proc and prctl(PR_SET_MM).
#[derive(Clone, Default)]
#[expect(missing_docs, reason = "prctl(2), PR_SET_MM, says what each is")]
pub struct ExecInfo {
    pub code_start: u64,
    pub code_end: u64,
    pub data_start: u64,
    pub data_end: u64,
    pub stack_start: u64,
    pub arg_start: u64,
    pub arg_end: u64,
    pub env_start: u64,
    pub env_end: u64,
    /// As on the stack: pairs of native words.
    pub auxv: Vec<u8>,
    /// The executable, for /proc/PID/exe: whatever the file layer keeps for it.
    pub exe: Option<Arc<dyn Any + Send + Sync>>,
    /// prctl(PR_SET_DUMPABLE): 0, 1 or 2.
    pub dumpable: u8,
    /// The user namespace that it was executed in, or the one that may read the executable.
    pub user_ns: UserNamespace,
    /// Where the vDSO lies, 0 for nowhere.
    pub vdso: u64,
    /// What membarrier(2) was asked to register, as its command bits.
    pub barriers: u32,
}

impl std::fmt::Debug for ExecInfo {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "ExecInfo(args {:#x}-{:#x})",
            self.arg_start, self.arg_end
        )
    }
}

/// A platform's failure as the guest sees it.
pub(crate) fn platform_errno(e: platform_api::PlatformError) -> Errno {
    tracing::warn!("platform: {e}");
    match e.errno {
        Some(n) => Errno::from_host(n),
        None => Errno::ENOMEM,
    }
}
