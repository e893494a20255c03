//! Mappings in this process that are the guest's physical memory.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

const PAGE: usize = 4096;
/// Bytes of a large page.
const LARGE: usize = 2 << 20;

/// A mapping of ours, unmapped when dropped. Nobody holds a reference into it but for as long as
/// it lives.
struct Mapping {
    base: NonNull<u8>,
    len: usize,
}

// SAFETY: a mapping belongs to the process, not to a thread.
unsafe impl Send for Mapping {}
// SAFETY: what is reached through a shared reference are atomic words and the host's own calls.
unsafe impl Sync for Mapping {}

impl Mapping {
    fn new(
        len: usize,
        access: i32,
        flags: i32,
        file: Option<BorrowedFd<'_>>,
        offset: u64,
    ) -> io::Result<Mapping> {
        let offset = i64::try_from(offset).map_err(|_| errno(libc::EOVERFLOW))?;
        let fd = file.map_or(-1, |f| f.as_raw_fd());
        // SAFETY: a fresh mapping at an address the kernel chooses disturbs nothing.
        let at = unsafe { libc::mmap(std::ptr::null_mut(), len, access, flags, fd, offset) };
        if at == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let base = NonNull::new(at.cast()).ok_or_else(|| errno(libc::ENOMEM))?;
        // A core dump should not hold the guest's memory; a host that can't leaves it in.
        // SAFETY: the mapping just made; no contents change.
        unsafe { libc::madvise(at, len, libc::MADV_DONTDUMP) };
        Ok(Mapping { base, len })
    }
}

impl Mapping {
    /// A part of it, at a multiple of [`LARGE`], becomes a mapping of a file; the rest goes.
    fn replaced(
        self,
        len: usize,
        access: i32,
        flags: i32,
        file: BorrowedFd<'_>,
        offset: u64,
    ) -> io::Result<Mapping> {
        let base = self.base.as_ptr();
        let head = base.align_offset(LARGE);
        let offset = i64::try_from(offset).map_err(|_| errno(libc::EOVERFLOW))?;
        if head.checked_add(len).is_none_or(|end| end > self.len) {
            return Err(errno(libc::ENOMEM));
        }
        // SAFETY: inside this mapping, to which there are no references.
        let at = unsafe { base.add(head) };
        let fixed = flags | libc::MAP_FIXED;
        // SAFETY: as above, only pages of this mapping are replaced.
        let done = unsafe { libc::mmap(at.cast(), len, access, fixed, file.as_raw_fd(), offset) };
        if done == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let whole = std::mem::ManuallyDrop::new(self);
        let tail = whole.len - head - len;
        // SAFETY: what of the mapping is not the new one; nobody unmaps it again.
        unsafe {
            if head > 0 {
                libc::munmap(base.cast(), head);
            }
            if tail > 0 {
                libc::munmap(at.add(len).cast(), tail);
            }
            // As in `new`.
            libc::madvise(at.cast(), len, libc::MADV_DONTDUMP);
        }
        let base = NonNull::new(at).ok_or_else(|| errno(libc::ENOMEM))?;
        Ok(Mapping { base, len })
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the mapping made above; references into it borrow `self`.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.len) };
    }
}

fn errno(number: i32) -> io::Error {
    io::Error::from_raw_os_error(number)
}

/// Memory of our own, zero at first.
pub(crate) struct Words(Mapping);

impl Words {
    /// `len` bytes.
    pub(crate) fn new(len: usize) -> io::Result<Words> {
        let access = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        Mapping::new(len, access, flags, None, 0).map(Words)
    }

    /// The word at `index`. The guest's CPUs read and write it too, as other threads would.
    #[inline]
    pub(crate) fn word(&self, index: usize) -> &AtomicU64 {
        assert!(index < self.0.len / 8, "outside the mapping");
        // SAFETY: inside the mapping, aligned to eight, readable and writable for as long as
        // `self` lives, and only ever used as an atomic word.
        unsafe { &*self.0.base.as_ptr().cast::<AtomicU64>().add(index) }
    }
}

/// A part of a file, mapped shared.
pub(crate) struct Region(Mapping);

impl Region {
    /// `len` bytes (of whole pages) at `offset`. The file may end before, or come to.
    pub(crate) fn new(
        file: BorrowedFd<'_>,
        offset: u64,
        len: u64,
        write: bool,
    ) -> io::Result<Region> {
        let access = libc::PROT_READ | if write { libc::PROT_WRITE } else { 0 };
        let len = usize::try_from(len).map_err(|_| errno(libc::ENOMEM))?;
        let flags = libc::MAP_SHARED | libc::MAP_NORESERVE;
        if len < LARGE {
            return Mapping::new(len, access, flags, Some(file), offset).map(Region);
        }
        // Where the host has large pages for the file, it can give them to the guest only if they
        // begin at the same addresses for both.
        let room = Mapping::new(
            len + LARGE,
            libc::PROT_NONE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
            None,
            0,
        )?;
        room.replaced(len, access, flags, file, offset).map(Region)
    }

    /// Whether the page at `offset` can be had: not behind the file's end, and the host has
    /// memory for it.
    pub(crate) fn alive(&self, offset: u64) -> bool {
        let Some(at) = self.at(offset) else {
            return false;
        };
        // SAFETY: a page of this mapping; reading it in changes nothing that anybody holds.
        let done = unsafe { libc::madvise(at.cast(), PAGE, libc::MADV_POPULATE_READ) };
        done == 0
    }

    /// Makes the pages of a part exist, in one go, and large where the host has such: a touch by
    /// guest code costs many times as much. Failure does not matter.
    pub(crate) fn populate(&self, offset: u64, len: u64) {
        let Some((at, len)) = self.at(offset).zip(usize::try_from(len).ok()) else {
            return;
        };
        if len > self.0.len - offset as usize {
            return;
        }
        let head = at.align_offset(LARGE);
        let large = len.saturating_sub(head) / LARGE * LARGE;
        // SAFETY: parts of this mapping; nothing that anybody holds changes by it.
        unsafe {
            if large > 0 {
                libc::madvise(at.add(head).cast(), large, libc::MADV_HUGEPAGE);
            }
            libc::madvise(at.cast(), len, libc::MADV_POPULATE_WRITE);
        }
    }

    /// How many pages from the start on can be had.
    pub(crate) fn alive_pages(&self) -> u64 {
        let pages = (self.0.len / PAGE) as u64;
        if self.alive((pages - 1) * PAGE as u64) {
            return pages;
        }
        let (mut low, mut high) = (0, pages - 1);
        while low < high {
            let middle = low.midpoint(high);
            if self.alive(middle * PAGE as u64) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low
    }

    /// Copies bytes out of one page by way of `through`, since the host's own copying survives a
    /// page that is not there.
    pub(crate) fn read(
        &self,
        offset: u64,
        into: &mut [u8],
        through: BorrowedFd<'_>,
    ) -> io::Result<()> {
        let len = into.len();
        let at = self.at(offset).ok_or_else(|| errno(libc::EFAULT))?;
        if len > PAGE - offset as usize % PAGE {
            return Err(errno(libc::EFAULT));
        }
        // SAFETY: `len` bytes from `at` on lie on one page of this mapping; the kernel reads them.
        let put = unsafe { libc::pwrite(through.as_raw_fd(), at.cast(), len, 0) };
        // SAFETY: `into` is valid for `len` bytes.
        let got = unsafe { libc::pread(through.as_raw_fd(), into.as_mut_ptr().cast(), len, 0) };
        match put.min(got) {
            n if n == len as isize => Ok(()),
            _ => Err(errno(libc::EFAULT)),
        }
    }

    fn at(&self, offset: u64) -> Option<*mut u8> {
        let offset = usize::try_from(offset).ok()?;
        // SAFETY: inside the mapping.
        (offset < self.0.len).then(|| unsafe { self.0.base.as_ptr().add(offset) })
    }
}

/// What can stand behind a slot.
pub(crate) trait Memory {
    /// Address in this process.
    fn address(&self) -> u64;
    /// Bytes.
    fn len(&self) -> u64;
}

impl Memory for Words {
    fn address(&self) -> u64 {
        self.0.base.as_ptr() as u64
    }
    fn len(&self) -> u64 {
        self.0.len as u64
    }
}

impl Memory for Region {
    fn address(&self) -> u64 {
        self.0.base.as_ptr() as u64
    }
    fn len(&self) -> u64 {
        self.0.len as u64
    }
}

impl<M: Memory> Memory for Arc<M> {
    fn address(&self) -> u64 {
        M::address(self)
    }
    fn len(&self) -> u64 {
        M::len(self)
    }
}

/// How a descriptor was opened.
pub(crate) fn open_flags(file: BorrowedFd<'_>) -> io::Result<i32> {
    // SAFETY: asks for flags, nothing else.
    match unsafe { libc::fcntl(file.as_raw_fd(), libc::F_GETFL) } {
        -1 => Err(io::Error::last_os_error()),
        flags => Ok(flags),
    }
}

/// A file's length.
pub(crate) fn length(file: BorrowedFd<'_>) -> io::Result<u64> {
    // SAFETY: all zeros is a valid value of a structure of numbers.
    let mut stat: libc::stat = unsafe { core::mem::zeroed() };
    // SAFETY: `stat` is valid for the host to write.
    match unsafe { libc::fstat(file.as_raw_fd(), &raw mut stat) } {
        0 => Ok(u64::try_from(stat.st_size).unwrap_or(0)),
        _ => Err(io::Error::last_os_error()),
    }
}

/// A file to copy by, see [`Region::read`].
pub(crate) fn scratch() -> io::Result<std::os::fd::OwnedFd> {
    // SAFETY: a constant name; the descriptor is new and ours.
    unsafe {
        let fd = libc::memfd_create(c"ringfence-kvm".as_ptr(), libc::MFD_CLOEXEC);
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(std::os::fd::FromRawFd::from_raw_fd(fd))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn regions_that_can_hold_large_pages_begin_like_one() {
        let file = std::fs::File::from(scratch().unwrap());
        file.set_len(3 * LARGE as u64).unwrap();
        for len in [LARGE, 2 * LARGE, 2 * LARGE] {
            let region = Region::new(file.as_fd(), LARGE as u64, len as u64, true).unwrap();
            assert!(region.address().is_multiple_of(LARGE as u64));
            assert_eq!(region.len(), len as u64);
            assert_eq!(region.alive_pages(), (len / PAGE) as u64);
        }
    }

    #[test]
    fn populated_pages_exist_and_no_others() {
        let file = std::fs::File::from(scratch().unwrap());
        file.set_len(4 * LARGE as u64).unwrap();
        let pages = || {
            let stat = std::os::unix::fs::MetadataExt::blocks(&file.metadata().unwrap());
            stat * 512 / PAGE as u64
        };
        let region = Region::new(file.as_fd(), 0, 4 * LARGE as u64, true).unwrap();
        region.populate(3 * PAGE as u64, 5 * PAGE as u64);
        assert_eq!(pages(), 5);
        region.populate(0, 8 * PAGE as u64);
        assert_eq!(pages(), 8);
        // Outside: nothing.
        region.populate(4 * LARGE as u64, PAGE as u64);
        region.populate(3 * LARGE as u64, 2 * LARGE as u64);
        assert_eq!(pages(), 8);
        region.populate(LARGE as u64, LARGE as u64);
        assert_eq!(pages(), 8 + (LARGE / PAGE) as u64);
    }

    #[test]
    fn the_living_part_of_a_region_is_found_and_read() {
        let file = std::fs::File::from(scratch().unwrap());
        let through = scratch().unwrap();
        let region = Region::new(file.as_fd(), 0, 64 * PAGE as u64, true).unwrap();
        for pages in [0u64, 1, 2, 31, 63, 64, 100] {
            file.set_len(pages * PAGE as u64).unwrap();
            assert_eq!(region.alive_pages(), pages.min(64));
        }
        std::os::unix::fs::FileExt::write_all_at(&file, b"abc", 5).unwrap();
        let mut bytes = [0; 3];
        region.read(5, &mut bytes, through.as_fd()).unwrap();
        assert_eq!(&bytes, b"abc");
        file.set_len(0).unwrap();
        assert!(region.read(5, &mut bytes, through.as_fd()).is_err());
        assert!(
            region
                .read(64 * PAGE as u64, &mut bytes, through.as_fd())
                .is_err()
        );
        assert!(
            region
                .read(PAGE as u64 - 2, &mut bytes, through.as_fd())
                .is_err()
        );
    }
}
