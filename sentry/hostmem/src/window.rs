//! A mapping of a file in the sentry, reached by copies alone.
// UNSAFETY: mmap, munmap, and pointers into the mapping; every access is checked against its
// length here, so that callers need no care.
#![expect(unsafe_code, reason = "mapping memory has no safe wrapper")]

use crate::copy;
use abi::Errno;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::NonNull;

/// `len` bytes of a file, mapped shared, never executable.
pub(crate) struct Window {
    base: NonNull<u8>,
    len: u64,
}

// SAFETY: a mapping belongs to the process; all access goes through copies and atomic words.
unsafe impl Send for Window {}
// SAFETY: as above.
unsafe impl Sync for Window {}

impl Window {
    /// Maps `offset..offset+len` of `file` (page-aligned).
    pub(crate) fn map(
        file: BorrowedFd<'_>,
        offset: u64,
        len: u64,
        write: bool,
    ) -> Result<Window, Errno> {
        crate::install_handlers();
        let size = usize::try_from(len).map_err(|_| Errno::ENOMEM)?;
        let offset = i64::try_from(offset).map_err(|_| Errno::EOVERFLOW)?;
        let access = libc::PROT_READ | if write { libc::PROT_WRITE } else { 0 };
        // SAFETY: a fresh mapping at an address the kernel chooses disturbs nothing.
        let at = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                size,
                access,
                libc::MAP_SHARED | libc::MAP_NORESERVE,
                file.as_raw_fd(),
                offset,
            )
        };
        if at == libc::MAP_FAILED {
            return Err(Errno::from(std::io::Error::last_os_error()));
        }
        // A core dump of the sentry must hold neither terabytes nor the guest's memory. Where the
        // host does not know how, nothing else depends on it.
        // SAFETY: the mapping just made.
        unsafe {
            libc::madvise(at, size, libc::MADV_DONTDUMP);
        }
        let base = NonNull::new(at.cast()).ok_or(Errno::ENOMEM)?;
        Ok(Window { base, len })
    }

    /// Pointer to `len` bytes at `offset`, when they lie inside.
    fn at(&self, offset: u64, len: usize) -> Option<*mut u8> {
        let end = offset.checked_add(len as u64)?;
        if end > self.len {
            return None;
        }
        // SAFETY: inside the mapping, as just checked.
        Some(unsafe { self.base.as_ptr().add(offset as usize) })
    }

    /// As an I/O vector for the host's kernel, which survives faults by itself.
    pub(crate) fn iovec(&self, offset: u64, len: usize) -> Option<libc::iovec> {
        Some(libc::iovec {
            iov_base: self.at(offset, len)?.cast(),
            iov_len: len,
        })
    }

    /// Copies out; `EFAULT` when a page is not there.
    pub(crate) fn read(&self, offset: u64, into: &mut [u8]) -> Result<(), Errno> {
        let src = self.at(offset, into.len()).ok_or(Errno::EFAULT)?;
        // SAFETY: within this mapping.
        whole(unsafe { copy::from_foreign(into, src) }, into.len())
    }

    /// Copies in; `EFAULT` when a page cannot be had.
    pub(crate) fn write(&self, offset: u64, from: &[u8]) -> Result<(), Errno> {
        let dst = self.at(offset, from.len()).ok_or(Errno::EFAULT)?;
        // SAFETY: within this mapping; a read-only one is a fault, and reported as such.
        whole(unsafe { copy::to_foreign(dst, from) }, from.len())
    }

    /// Stores zeros.
    pub(crate) fn zero(&self, offset: u64, len: usize) -> Result<(), Errno> {
        let dst = self.at(offset, len).ok_or(Errno::EFAULT)?;
        // SAFETY: as for `write`.
        whole(unsafe { copy::zero_foreign(dst, len) }, len)
    }

    /// Copies from `from` (which must not overlap) at `src`.
    pub(crate) fn copy_from(
        &self,
        dst: u64,
        from: &Window,
        src: u64,
        len: usize,
    ) -> Result<(), Errno> {
        let to = self.at(dst, len).ok_or(Errno::EFAULT)?;
        let from = from.at(src, len).ok_or(Errno::EFAULT)?;
        // SAFETY: within the two mappings.
        whole(unsafe { copy::between_foreign(to, from, len) }, len)
    }

    /// Loads an aligned word.
    pub(crate) fn load_u32(&self, offset: u64) -> Result<u32, Errno> {
        let from = self.word(offset)?;
        // SAFETY: aligned and within this mapping.
        unsafe { copy::load32(from) }.ok_or(Errno::EFAULT)
    }

    /// Compares and exchanges an aligned word; returns what was there.
    pub(crate) fn cmpxchg_u32(&self, offset: u64, old: u32, new: u32) -> Result<u32, Errno> {
        let at = self.word(offset)?;
        // SAFETY: aligned and within this mapping.
        unsafe { copy::cas32(at, old, new) }.ok_or(Errno::EFAULT)
    }

    fn word(&self, offset: u64) -> Result<*mut u32, Errno> {
        if !offset.is_multiple_of(4) {
            return Err(Errno::EINVAL);
        }
        Ok(self.at(offset, 4).ok_or(Errno::EFAULT)?.cast())
    }
}

impl Drop for Window {
    fn drop(&mut self) {
        // SAFETY: the mapping made in `map`, to which no pointer outlives a method of ours.
        unsafe {
            libc::munmap(self.base.as_ptr().cast(), self.len as usize);
        }
    }
}

fn whole(done: usize, wanted: usize) -> Result<(), Errno> {
    if done == wanted {
        Ok(())
    } else {
        Err(Errno::EFAULT)
    }
}

/// preadv(2) or, without an offset, readv(2).
pub(crate) fn read_vectors(
    fd: BorrowedFd<'_>,
    offset: Option<u64>,
    vectors: &[libc::iovec],
) -> Result<usize, Errno> {
    let count = vectors.len() as libc::c_int;
    let n = match offset {
        Some(o) => {
            let o = i64::try_from(o).map_err(|_| Errno::EINVAL)?;
            // SAFETY: the kernel writes to places within live windows (or fails with EFAULT).
            unsafe { libc::preadv(fd.as_raw_fd(), vectors.as_ptr(), count, o) }
        }
        // SAFETY: as above.
        None => unsafe { libc::readv(fd.as_raw_fd(), vectors.as_ptr(), count) },
    };
    usize::try_from(n).map_err(|_| Errno::from(std::io::Error::last_os_error()))
}

/// pwritev(2) or, without an offset, writev(2).
pub(crate) fn write_vectors(
    fd: BorrowedFd<'_>,
    offset: Option<u64>,
    vectors: &[libc::iovec],
) -> Result<usize, Errno> {
    let count = vectors.len() as libc::c_int;
    let n = match offset {
        Some(o) => {
            let o = i64::try_from(o).map_err(|_| Errno::EINVAL)?;
            // SAFETY: the kernel reads from places within live windows (or fails with EFAULT).
            unsafe { libc::pwritev(fd.as_raw_fd(), vectors.as_ptr(), count, o) }
        }
        // SAFETY: as above.
        None => unsafe { libc::writev(fd.as_raw_fd(), vectors.as_ptr(), count) },
    };
    usize::try_from(n).map_err(|_| Errno::from(std::io::Error::last_os_error()))
}
