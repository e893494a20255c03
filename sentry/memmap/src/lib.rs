//! What can be mapped, and who has mapped it: the seam between files and address spaces.
//!
//! A file that can be mapped implements [`Mappable`]; `mm` stores it as `Arc<dyn Mappable>` and
//! asks it to translate offsets into something the platform can map. An address space implements
//! [`Space`]; a mappable keeps it weakly and tells it when bytes go away (truncation, a hole).
//! Neither crate knows the other. [`Mappings`] is the list that a mappable keeps of its spaces.
#![forbid(unsafe_code)]

mod mappings;

pub use mappings::Mappings;

use abi::Errno;
use abi::page::Range;
use auth::Creds;
use hostmem::Frames;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Weak};

/// Something whose bytes can appear in an address space.
///
/// One object for one file: futexes in shared memory are told apart by the address of the
/// `Mappable`, so that all openings of a file must give the same `Arc`.
///
/// Locks: [`Mappable::attach`] and [`Mappable::detach`] are called with the space's lock held, so
/// that they may take `ranks::Mappings` and later ranks only. All others are called without it
/// and may do host I/O.
pub trait Mappable: Send + Sync {
    /// What /proc/PID/maps says of it.
    fn identity(&self) -> Identity;

    /// What stands behind file offsets from `offset` on (page-aligned), for at most `len` bytes:
    /// at least one page, fewer than asked where it is not contiguous. `write` asks for something
    /// that can be mapped shared and writable (and makes holes real).
    ///
    /// # Errors
    /// `EFAULT` past the end of the file: the access becomes `SIGBUS`. `EACCES` where it cannot
    /// be written, others as the host or the file system gives them.
    ///
    /// What is given out stays true until the spaces attached at that range have been told
    /// otherwise ([`Space::invalidate`]): a truncation changes the file first, then tells.
    fn translate(&self, offset: u64, len: u64, write: bool) -> Result<Translation, Errno>;

    /// Length in bytes now. Pages wholly beyond are `SIGBUS`.
    fn size(&self) -> Result<u64, Errno>;

    /// Notes that `space` maps `range` of it at `addr`. `shared_write` where the mapping may
    /// ever become shared and writable (for seals and `ETXTBSY`-like rules).
    ///
    /// # Errors
    /// `EPERM` where a seal forbids it, `ENODEV` where it cannot be mapped.
    ///
    /// As it stands here, for what never moves, so that nobody need be told, and is never short
    /// of what was mapped: nothing is noted.
    fn attach(&self, _mapping: Mapping) -> Result<(), Errno> {
        Ok(())
    }

    /// Takes one such note back (or a part of it, where a mapping was cut): `range` of the file,
    /// which appeared at `addr`.
    fn detach(&self, _space: &Weak<dyn Space>, _addr: u64, _range: Range) {}

    /// madvise(MADV_REMOVE): `range` reads as zero from now on. The caller forgets its own
    /// translations; the mappable tells the other spaces.
    ///
    /// # Errors
    /// `EOPNOTSUPP` where there cannot be holes.
    fn punch(&self, _range: Range) -> Result<(), Errno> {
        Err(Errno::EOPNOTSUPP)
    }

    /// The first stretch of pages at or behind `offset` that are in memory, whoever brought them
    /// there (mincore(2)).
    ///
    /// As it stands here, for what keeps none of its own.
    fn next_resident(&self, _offset: u64) -> Option<Range> {
        None
    }

    /// Whether `creds` may know that: what others do with a file is for who owns it or may write
    /// to it.
    fn may_be_watched(&self, _creds: &Creds) -> bool {
        true
    }

    /// msync(2): brings what was written through mappings to the file.
    fn sync(&self, _range: Range) -> Result<(), Errno> {
        Ok(())
    }
}

/// A mapping of a mappable, from its side.
#[derive(Clone)]
pub struct Mapping {
    /// Who maps.
    pub space: Weak<dyn Space>,
    /// Where the first byte of `range` appears.
    pub addr: u64,
    /// Which offsets.
    pub range: Range,
    /// Whether it is shared and may be written.
    pub shared_write: bool,
}

/// A stretch of something the platform can map.
#[derive(Clone)]
pub struct Translation {
    /// What it is.
    pub source: Source,
    /// Bytes, a multiple of the page size, not zero.
    pub len: u64,
}

impl Translation {
    /// What `frames` hold from `offset` on, `len` bytes of it at most.
    ///
    /// # Errors
    /// `EFAULT` behind their end.
    pub fn of_frames(frames: &Frames, offset: u64, len: u64) -> Result<Translation, Errno> {
        let len = len.min(frames.len().saturating_sub(offset));
        if len == 0 {
            return Err(Errno::EFAULT);
        }
        Ok(Translation {
            source: Source::Frames(frames.slice(offset, len)?),
            len,
        })
    }
}

/// What stands behind a page.
#[derive(Clone)]
pub enum Source {
    /// Frames of the sandbox's own memory.
    Frames(Frames),
    /// A host file, from `offset` on. `executable` is false on a noexec host mount: bytes that
    /// are to be executed are copied then.
    Host {
        /// Open for reading, and for writing where the translation asked for that.
        file: Arc<OwnedFd>,
        /// Page-aligned.
        offset: u64,
        /// Whether the host lets it be mapped for execution.
        executable: bool,
    },
}

/// How a mapped file shows in /proc/PID/maps.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Identity {
    /// `st_dev`
    pub dev: u64,
    /// `st_ino`
    pub ino: u64,
    /// Path as seen at the time of asking, or a name such as `/memfd:x (deleted)`.
    pub path: Vec<u8>,
}

/// An address space, from a mappable's side.
pub trait Space: Send + Sync {
    /// The bytes mapped at the addresses `range` are gone or stand elsewhere now: forget what was
    /// translated. Takes `ranks::Mm`.
    /// `drop_private` also discards private copies (truncation does, punching a hole does too).
    fn invalidate(&self, range: Range, drop_private: bool);
}
