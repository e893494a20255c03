//! The file behind the frames.

use crate::alloc::Allocator;
use crate::window::Window;
use crate::{Frames, Placement, Relief};
use abi::Errno;
use abi::page::{PAGE_SIZE, Range, page_up};
use nix::fcntl::{FallocateFlags, fallocate};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::unistd::{Whence, ftruncate, lseek};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Condvar, Mutex as StdMutex, OnceLock, Weak};
use sync::{Mutex, ranks};

/// Sizes to try for the file and its window, largest first: a host with little address space for
/// us still gets a smaller one.
const SIZES: [u64; 4] = [4 << 40, 1 << 40, 256 << 30, 64 << 30];
/// Length of the stretch that is never written ([`MemoryFile::zero_range`]).
const ZERO_LEN: u64 = 2 << 20;

/// Why there is no memory file.
#[derive(Debug, thiserror::Error)]
#[error("cannot {what} the memory file: {errno}")]
#[non_exhaustive]
pub struct MemoryError {
    /// Create, size or map.
    pub what: &'static str,
    /// The host's answer.
    pub errno: Errno,
}

/// A sparse file of frames, mapped whole into the sentry.
pub struct MemoryFile {
    pub(crate) allocator: Mutex<Allocator, ranks::Frames>,
    window: Window,
    file: Arc<OwnedFd>,
    zero: Range,
    len: u64,
    /// Of the account, for who only looks.
    pub(crate) limit: AtomicU64,
    /// What should be handed out at once, at most.
    pub(crate) largest: AtomicU64,
    /// What the last trimming left unused.
    pub(crate) untrimmed: AtomicU64,
    pub(crate) relief: OnceLock<Weak<dyn Relief>>,
    /// How many wait for somebody's memory to come free.
    pub(crate) starving: (StdMutex<u32>, Condvar),
    pub(crate) any_starving: AtomicBool,
}

impl std::fmt::Debug for MemoryFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "MemoryFile({:#x} bytes)", self.len)
    }
}

impl MemoryFile {
    /// A new memfd.
    pub fn new() -> Result<Arc<MemoryFile>, MemoryError> {
        MemoryFile::of_at_most(u64::MAX)
    }

    /// As [`MemoryFile::new`], with frames for so many bytes at most: address space is shared by
    /// all files of a process.
    pub fn of_at_most(most: u64) -> Result<Arc<MemoryFile>, MemoryError> {
        let name = c"ringfence-memory";
        // Guests execute from it; kernels before 6.3 do not know how to say so.
        let exec = MFdFlags::MFD_CLOEXEC | MFdFlags::from_bits_retain(0x10);
        let file = memfd_create(name, exec)
            .or_else(|_| memfd_create(name, MFdFlags::MFD_CLOEXEC))
            .map_err(failed("create"))?;
        MemoryFile::sized(file, most)
    }

    /// Over a file that was donated, empty, open for reading and writing.
    pub fn from_file(file: OwnedFd) -> Result<Arc<MemoryFile>, MemoryError> {
        MemoryFile::sized(file, u64::MAX)
    }

    fn sized(file: OwnedFd, most: u64) -> Result<Arc<MemoryFile>, MemoryError> {
        let mut last = failed("size")(nix::errno::Errno::EFBIG);
        for len in SIZES.into_iter().filter(|len| *len <= most) {
            match ftruncate(&file, len as i64) {
                Ok(()) => {}
                Err(e) => {
                    last = failed("size")(e);
                    continue;
                }
            }
            match Window::map(file.as_fd(), 0, len, true) {
                Ok(window) => return Ok(MemoryFile::over(file, window, len)),
                Err(errno) => last = MemoryError { what: "map", errno },
            }
        }
        Err(last)
    }

    fn over(file: OwnedFd, window: Window, len: u64) -> Arc<MemoryFile> {
        let mut allocator = Allocator::new(len);
        let at = allocator
            .allocate(ZERO_LEN, Placement::Anywhere)
            .unwrap_or(0);
        Arc::new(MemoryFile {
            allocator: Mutex::new(allocator),
            window,
            file: Arc::new(file),
            zero: Range::new(at, at + ZERO_LEN),
            len,
            limit: AtomicU64::new(u64::MAX),
            largest: AtomicU64::new(u64::MAX),
            untrimmed: AtomicU64::new(0),
            relief: OnceLock::new(),
            starving: Default::default(),
            any_starving: AtomicBool::new(false),
        })
    }

    /// `len` bytes (a multiple of the page size) that read as zero.
    ///
    /// # Errors
    /// `EINVAL` for a length that is zero or not aligned, `ENOMEM` when there are no offsets left.
    pub fn allocate(self: &Arc<Self>, len: u64, place: Placement) -> Result<Frames, Errno> {
        if len == 0 || !len.is_multiple_of(PAGE_SIZE) {
            return Err(Errno::EINVAL);
        }
        let start = self
            .allocator
            .lock()
            .allocate(len, place)
            .ok_or(Errno::ENOMEM)?;
        Ok(Frames::adopt(self.clone(), Range::new(start, start + len)))
    }

    /// The file itself, for the platform.
    pub fn fd(&self) -> &Arc<OwnedFd> {
        &self.file
    }

    /// A stretch that reads as zero and must only ever be mapped read-only. Pages of it that are
    /// read do exist on the host, so that it is short.
    pub fn zero_range(&self) -> Range {
        self.zero
    }

    /// Bytes that exist on the host now.
    pub fn usage(&self) -> u64 {
        nix::sys::stat::fstat(&*self.file)
            .map(|s| u64::try_from(s.st_blocks).unwrap_or(0).saturating_mul(512))
            .unwrap_or(0)
    }

    /// Gives pages back to the host: they read as zero again, wherever they are mapped.
    ///
    /// # Errors
    /// The host's, when not even zeros could be stored.
    pub(crate) fn decommit(&self, range: Range) -> Result<(), Errno> {
        let hole = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
        let (start, len) = (range.start as i64, range.len() as i64);
        loop {
            match fallocate(&*self.file, hole, start, len) {
                Ok(()) => return Ok(()),
                Err(nix::errno::Errno::EINTR) => continue,
                // A file system that cannot: the pages stay, but not what was in them.
                Err(_) => return self.zero_resident(range),
            }
        }
    }

    /// Makes the host provide pages now, by reading them. (What fallocate(2) provides is a hole
    /// to those who ask what is resident, until it is touched.)
    ///
    /// # Errors
    /// `ENOMEM` where the host has none.
    pub(crate) fn commit(&self, range: Range) -> Result<(), Errno> {
        for page in (range.start..range.end).step_by(PAGE_SIZE as usize) {
            let touched = self.window.read(page, &mut [0]);
            touched.map_err(|_| Errno::ENOMEM)?;
        }
        Ok(())
    }

    fn zero_resident(&self, range: Range) -> Result<(), Errno> {
        let mut at = range.start;
        while let Some(data) = self.next_resident(Range::new(at, range.end)) {
            self.window.zero(data.start, data.len() as usize)?;
            at = data.end;
        }
        Ok(())
    }

    /// The first stretch of pages in `range` that exist on the host (or are swapped out).
    pub(crate) fn next_resident(&self, range: Range) -> Option<Range> {
        if range.is_empty() {
            return None;
        }
        let fd = self.file.as_raw_fd();
        let seek = |at: u64, whence| {
            lseek(&*self.file, at as i64, whence).map(|o| u64::try_from(o).unwrap_or(0))
        };
        let start = match seek(range.start, Whence::SeekData) {
            Ok(at) => at.max(range.start),
            Err(nix::errno::Errno::ENXIO) => return None,
            // Cannot tell: everything may be there.
            Err(e) => {
                tracing::debug!(fd, "SEEK_DATA: {e}");
                return Some(range);
            }
        };
        if start >= range.end {
            return None;
        }
        let end = seek(start, Whence::SeekHole)
            .unwrap_or(range.end)
            .min(range.end);
        let start = abi::page::page_down(start);
        let end = page_up(end).unwrap_or(range.end).min(range.end);
        (start < end).then(|| Range::new(start, end))
    }

    pub(crate) fn window(&self) -> &Window {
        &self.window
    }

    pub(crate) fn hold(&self, range: Range) {
        self.allocator.lock().hold(range);
    }

    /// Takes references back; what nobody holds any more goes back to the host, then to the
    /// allocator, in this order, so that new frames are always empty.
    pub(crate) fn release(&self, ranges: impl IntoIterator<Item = Range>) {
        let mut freed = Vec::new();
        {
            let mut allocator = self.allocator.lock();
            for range in ranges {
                allocator.release(range, &mut freed);
            }
        }
        if freed.is_empty() {
            return;
        }
        if freed.len() > 1 {
            freed.sort_unstable();
            freed.dedup_by(|next, last| {
                let adjoins = last.end == next.start;
                if adjoins {
                    last.end = next.end;
                }
                adjoins
            });
        }
        // What could not be emptied is lost rather than handed out with its contents.
        freed.retain(|range| match self.decommit(*range) {
            Ok(()) => true,
            Err(e) => {
                tracing::warn!("frames {range:?} cannot be emptied: {e}");
                false
            }
        });
        {
            let mut allocator = self.allocator.lock();
            for range in freed {
                allocator.free(range);
            }
        }
        self.released();
    }

    pub(crate) fn unique_around(&self, within: Range, at: u64) -> Option<Range> {
        self.allocator.lock().unique_around(within, at)
    }

    pub(crate) fn is_unique(&self, range: Range) -> bool {
        self.allocator.lock().is_unique(range)
    }
}

fn failed(what: &'static str) -> impl Fn(nix::errno::Errno) -> MemoryError {
    move |e| MemoryError {
        what,
        errno: Errno::from_host(e as i32),
    }
}
