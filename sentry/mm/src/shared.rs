//! Shared memory without a file: `MAP_SHARED | MAP_ANONYMOUS`.

use abi::Errno;
use abi::page::Range;
use hostmem::{Frames, MemoryFile, Placement};
use memmap::{Identity, Mappable, Translation};
use std::sync::Arc;

/// Frames that parent and children share. They cost nothing before they are touched, so that all
/// of them are there from the start.
pub(crate) struct SharedAnon {
    frames: Frames,
}

impl SharedAnon {
    pub(crate) fn new(memory: &Arc<MemoryFile>, len: u64) -> Result<SharedAnon, Errno> {
        Ok(SharedAnon {
            frames: memory.allocate(len, Placement::Roomy)?,
        })
    }
}

impl Mappable for SharedAnon {
    fn identity(&self) -> Identity {
        // Linux shows its internal tmpfs file; the number tells objects apart.
        let ino = self.frames.start() >> abi::page::PAGE_SHIFT;
        Identity {
            dev: 1,
            ino,
            path: b"/dev/zero (deleted)".to_vec(),
        }
    }

    fn translate(&self, offset: u64, len: u64, _write: bool) -> Result<Translation, Errno> {
        Translation::of_frames(&self.frames, offset, len)
    }

    fn size(&self) -> Result<u64, Errno> {
        Ok(self.frames.len())
    }

    fn next_resident(&self, offset: u64) -> Option<Range> {
        self.frames.next_resident(offset)
    }

    fn punch(&self, range: Range) -> Result<(), Errno> {
        let range = range.intersect(&Range::new(0, self.frames.len()));
        self.frames.decommit(range.start, range.len())
    }
}
