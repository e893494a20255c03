//! The ring of a context: a header and events, in frames that user space has mapped too.
//!
//! Whatever is read from it is the guest's word.

use abi::Errno;
use abi::aio::{IoEvent, RING_MAGIC, RingHeader};
use abi::page::PAGE_SIZE;
use abi::stat::makedev;
use hostmem::{Frames, MemoryFile, Placement};
use memmap::{Identity, Mappable, Translation};
use std::sync::Arc;
use zerocopy::IntoBytes;

const HEADER: u64 = size_of::<RingHeader>() as u64;
const EVENT: u64 = size_of::<IoEvent>() as u64;
/// Offsets in the header.
const ID: u64 = 0;
const HEAD: u64 = 8;
const TAIL: u64 = 12;
/// Device number of what rings are files of.
const DEV: u64 = makedev(0, 19);

/// A ring.
pub(super) struct Ring {
    frames: Frames,
    ino: u64,
    nr: u32,
}

impl Ring {
    /// One with room for `nr` events at least: pages are used to their end.
    pub(super) fn new(memory: &Arc<MemoryFile>, nr: u32) -> Result<Ring, Errno> {
        // Room between tail and head, as Linux has it.
        let bytes = HEADER + EVENT * (u64::from(nr) + 2);
        let bytes = bytes.next_multiple_of(PAGE_SIZE);
        let frames = memory.allocate(bytes, Placement::Anywhere)?;
        let nr = ((bytes - HEADER) / EVENT) as u32;
        let header = RingHeader {
            id: u32::MAX,
            nr,
            magic: RING_MAGIC,
            compat_features: 1,
            header_length: HEADER as u32,
            ..RingHeader::default()
        };
        frames.write(0, header.as_bytes())?;
        Ok(Ring {
            frames,
            ino: vfs::anon::next_ino(),
            nr,
        })
    }

    /// Events that fit.
    pub(super) fn nr(&self) -> u32 {
        self.nr
    }

    pub(super) fn set_id(&self, id: u32) {
        self.set(ID, id);
    }

    /// The first event that was not taken, as user space says.
    pub(super) fn head(&self) -> u32 {
        self.frames.load_u32(HEAD).unwrap_or(0) % self.nr
    }

    pub(super) fn set_head(&self, head: u32) {
        self.set(HEAD, head);
    }

    pub(super) fn set_tail(&self, tail: u32) {
        self.set(TAIL, tail);
    }

    /// Stores a word whole: user space reads it at any time.
    fn set(&self, at: u64, value: u32) {
        let mut old = self.frames.load_u32(at).unwrap_or(0);
        // Only a program that scribbles over it makes this need a second try, and none is owed
        // more than a few.
        for _ in 0..4 {
            match self.frames.cmpxchg_u32(at, old, value) {
                Ok(found) if found != old => old = found,
                _ => break,
            }
        }
    }

    pub(super) fn put(&self, at: u32, event: &IoEvent) {
        // The frames are there: nothing but an index beyond them can fail.
        let _ = self
            .frames
            .write(HEADER + EVENT * u64::from(at), event.as_bytes());
    }

    /// Copies events out, from number `at` on.
    pub(super) fn read(&self, at: u32, into: &mut [IoEvent]) -> Result<(), Errno> {
        let offset = HEADER + EVENT * u64::from(at);
        self.frames.read(offset, into.as_mut_bytes())
    }
}

impl Mappable for Ring {
    fn identity(&self) -> Identity {
        Identity {
            dev: DEV,
            ino: self.ino,
            path: b"/[aio] (deleted)".to_vec(),
        }
    }

    fn translate(&self, offset: u64, len: u64, _write: bool) -> Result<Translation, Errno> {
        Translation::of_frames(&self.frames, offset, len)
    }

    fn size(&self) -> Result<u64, Errno> {
        Ok(self.frames.len())
    }
}
