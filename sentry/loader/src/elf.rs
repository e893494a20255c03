//! ELF headers: reading and checking. Nothing here knows of files or memory.

use abi::Errno;
use abi::page::{PAGE_SIZE, TASK_SIZE, page_down};

/// Bytes in the file header.
pub(crate) const HEADER_LEN: usize = 64;
/// Bytes in a program header.
pub(crate) const SEGMENT_LEN: usize = 56;
/// Program headers take this much at most.
const TABLE_MAX: u64 = 65536;
/// Bytes in the path of an interpreter, with its NUL.
const PATH_MAX: u64 = 4096;

const TYPE_EXEC: u16 = 2;
const TYPE_DYN: u16 = 3;
const MACHINE_X86_64: u16 = 62;

const SEGMENT_LOAD: u32 = 1;
const SEGMENT_INTERP: u32 = 3;
const SEGMENT_STACK: u32 = 0x6474_e551;

/// Little-endian fields out of a slice that may be too short.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn bytes<const N: usize>(&self, at: usize) -> Option<[u8; N]> {
        self.0.get(at..)?.first_chunk().copied()
    }
    fn u16(&self, at: usize) -> Option<u16> {
        self.bytes(at).map(u16::from_le_bytes)
    }
    fn u32(&self, at: usize) -> Option<u32> {
        self.bytes(at).map(u32::from_le_bytes)
    }
    fn u64(&self, at: usize) -> Option<u64> {
        self.bytes(at).map(u64::from_le_bytes)
    }
}

/// What matters of a file header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    /// Whether it may be loaded anywhere (`ET_DYN`).
    pub(crate) relocatable: bool,
    /// `e_entry`
    pub(crate) entry: u64,
    /// `e_phoff`
    pub(crate) table_offset: u64,
    /// `e_phnum`
    pub(crate) segments: u16,
    /// `e_phentsize`, not checked yet.
    segment_len: u16,
}

impl Header {
    /// Reads the first bytes of a file; `None` when they are not those of a program for this
    /// machine. Linux looks at the magic number, machine and type alone: class, byte order and
    /// version are not checked. `any_type` leaves out the type (an interpreter's comes later).
    pub(crate) fn parse(head: &[u8], any_type: bool) -> Option<Header> {
        let f = Fields(head.get(..HEADER_LEN)?);
        let kind = f.u16(16)?;
        let fits = f.bytes(0)? == *b"\x7fELF" && f.u16(18)? == MACHINE_X86_64;
        if !fits || !(any_type || kind == TYPE_EXEC || kind == TYPE_DYN) {
            return None;
        }
        Some(Header {
            relocatable: kind == TYPE_DYN,
            entry: f.u64(24)?,
            table_offset: f.u64(32)?,
            segment_len: f.u16(54)?,
            segments: f.u16(56)?,
        })
    }

    /// Bytes in the table of program headers; `None` for sizes that Linux refuses.
    pub(crate) fn table_len(&self) -> Option<usize> {
        let len = u64::from(self.segments) * SEGMENT_LEN as u64;
        let good = usize::from(self.segment_len) == SEGMENT_LEN && (1..=TABLE_MAX).contains(&len);
        good.then_some(len as usize)
    }
}

/// A part of the file that is to be in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Load {
    pub(crate) flags: SegmentFlags,
    pub(crate) offset: u64,
    pub(crate) vaddr: u64,
    pub(crate) file_size: u64,
    pub(crate) memory_size: u64,
    pub(crate) align: u64,
}

/// `p_flags`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SegmentFlags {
    pub(crate) read: bool,
    pub(crate) write: bool,
    pub(crate) execute: bool,
}

impl Load {
    /// How far its first byte lies behind a page boundary.
    pub(crate) fn skew(&self) -> u64 {
        self.vaddr % PAGE_SIZE
    }

    /// The same, checked and moved by `bias`.
    ///
    /// # Errors
    /// `EINVAL` for what does not fit the address space, or has more in the file than in memory.
    pub(crate) fn placed(&self, bias: u64) -> Result<Load, Errno> {
        let vaddr = self.vaddr.wrapping_add(bias);
        let fits = vaddr < TASK_SIZE
            && self.file_size <= self.memory_size
            && self.memory_size <= TASK_SIZE
            && TASK_SIZE - self.memory_size >= vaddr;
        if fits {
            Ok(Load { vaddr, ..*self })
        } else {
            Err(Errno::EINVAL)
        }
    }
}

/// The program headers, as far as they matter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Segments {
    /// In the order of the file.
    pub(crate) loads: Vec<Load>,
    /// Offset and length of the interpreter's path.
    interpreter: Option<(u64, u64)>,
    /// Whether the stack is to be executable.
    pub(crate) executable_stack: bool,
}

impl Segments {
    /// Reads the table.
    pub(crate) fn parse(table: &[u8]) -> Segments {
        let mut out = Segments::default();
        for entry in table.chunks_exact(SEGMENT_LEN) {
            // A chunk is as long as all fields together.
            let _ = out.take(&Fields(entry));
        }
        out
    }

    fn take(&mut self, f: &Fields<'_>) -> Option<()> {
        let bits = f.u32(4)?;
        let flags = SegmentFlags {
            read: bits & 4 != 0,
            write: bits & 2 != 0,
            execute: bits & 1 != 0,
        };
        match f.u32(0)? {
            SEGMENT_LOAD => self.loads.push(Load {
                flags,
                offset: f.u64(8)?,
                vaddr: f.u64(16)?,
                file_size: f.u64(32)?,
                memory_size: f.u64(40)?,
                align: f.u64(48)?,
            }),
            SEGMENT_INTERP if self.interpreter.is_none() => {
                self.interpreter = Some((f.u64(8)?, f.u64(32)?));
            }
            SEGMENT_STACK => self.executable_stack = flags.execute,
            _ => {}
        }
        Some(())
    }

    /// Offset and length of the interpreter's path, where there is one.
    ///
    /// # Errors
    /// `ENOEXEC` for a length no path has.
    pub(crate) fn interpreter(&self) -> Result<Option<(u64, usize)>, Errno> {
        match self.interpreter {
            None => Ok(None),
            Some((offset, len)) if (2..=PATH_MAX).contains(&len) => {
                Ok(Some((offset, len as usize)))
            }
            Some(_) => Err(Errno::ENOEXEC),
        }
    }

    /// The addresses all segments lie in, without bias: the first, rounded down to a page, and
    /// the length.
    ///
    /// # Errors
    /// `EINVAL` when there is nothing to load, or no address space is as large.
    pub(crate) fn span(&self) -> Result<(u64, u64), Errno> {
        let low = self.loads.iter().map(|l| page_down(l.vaddr)).min();
        let high = self
            .loads
            .iter()
            .map(|l| l.vaddr.saturating_add(l.memory_size))
            .max();
        match (low, high) {
            (Some(low), Some(high)) if high > low && high - low <= TASK_SIZE => {
                Ok((low, high - low))
            }
            _ => Err(Errno::EINVAL),
        }
    }

    /// The largest alignment asked for, a page at least. What is no power of two does not count,
    /// nor what is larger than the address space.
    pub(crate) fn alignment(&self) -> u64 {
        let sane = |a: &u64| a.is_power_of_two() && *a < TASK_SIZE;
        self.loads
            .iter()
            .map(|l| l.align)
            .filter(sane)
            .fold(PAGE_SIZE, u64::max)
    }

    /// Where the program headers themselves appear in memory, without bias; 0 for nowhere.
    pub(crate) fn table_address(&self, header: &Header) -> u64 {
        let holds = |l: &&Load| {
            header
                .table_offset
                .checked_sub(l.offset)
                .is_some_and(|into| into < l.file_size)
        };
        self.loads.iter().find(holds).map_or(0, |l| {
            l.vaddr
                .wrapping_add(header.table_offset.wrapping_sub(l.offset))
        })
    }
}

#[cfg(test)]
#[path = "elf_tests.rs"]
mod tests;
