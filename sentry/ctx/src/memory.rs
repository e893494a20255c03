//! Guest memory, as seen from above `mm`.

use abi::Errno;
use std::os::fd::BorrowedFd;
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// A guest's memory. Addresses are the guest's word; every access can fail with `EFAULT`, and
/// what is read is a copy: read once, then check.
pub trait UserMemory: Send + Sync {
    /// Fills `buf` from `addr`. All or `EFAULT`.
    fn read(&self, addr: u64, buf: &mut [u8]) -> Result<(), Errno> {
        if self.read_some(addr, buf)? == buf.len() {
            Ok(())
        } else {
            Err(Errno::EFAULT)
        }
    }

    /// Stores `buf` at `addr`. All or `EFAULT` (a part may have been stored).
    fn write(&self, addr: u64, buf: &[u8]) -> Result<(), Errno> {
        if self.write_some(addr, buf)? == buf.len() {
            Ok(())
        } else {
            Err(Errno::EFAULT)
        }
    }

    /// Fills as much of `buf` as can be read from `addr`; `EFAULT` only when that is nothing
    /// (and `buf` is not empty).
    fn read_some(&self, addr: u64, buf: &mut [u8]) -> Result<usize, Errno>;

    /// Stores as much of `buf` as can be written at `addr`; `EFAULT` only when that is nothing.
    fn write_some(&self, addr: u64, buf: &[u8]) -> Result<usize, Errno>;

    /// Reads up to `len` bytes from a host descriptor (at `offset`, or at its own position for
    /// `None`) straight into guest memory at `addr`. Returns the count, 0 at the end of the file.
    fn fill_from_host(
        &self,
        addr: u64,
        len: usize,
        fd: BorrowedFd<'_>,
        offset: Option<u64>,
    ) -> Result<usize, Errno>;

    /// Writes up to `len` bytes of guest memory at `addr` to a host descriptor.
    fn drain_to_host(
        &self,
        addr: u64,
        len: usize,
        fd: BorrowedFd<'_>,
        offset: Option<u64>,
    ) -> Result<usize, Errno>;

    /// Reads a NUL-terminated string of at most `max` bytes (without the NUL). `None` when there
    /// is no NUL within `max + 1` bytes.
    fn read_cstr(&self, addr: u64, max: usize) -> Result<Option<Vec<u8>>, Errno> {
        let mut out = Vec::new();
        let mut at = addr;
        // A page at a time, so that a string just before a hole can be read.
        while out.len() <= max {
            let to_page_end = (abi::page::PAGE_SIZE - at % abi::page::PAGE_SIZE) as usize;
            let want = to_page_end.min(max + 1 - out.len()).min(256);
            let start = out.len();
            out.resize(start + want, 0);
            let got = self.read_some(at, &mut out[start..])?;
            out.truncate(start + got);
            if let Some(nul) = out[start..].iter().position(|b| *b == 0) {
                out.truncate(start + nul);
                return Ok(Some(out));
            }
            if got < want {
                return Err(Errno::EFAULT);
            }
            at = at.checked_add(got as u64).ok_or(Errno::EFAULT)?;
        }
        Ok(None)
    }
}

/// Typed access.
pub trait UserMemoryExt: UserMemory {
    /// Reads a structure.
    fn read_obj<T: FromBytes + IntoBytes>(&self, addr: u64) -> Result<T, Errno> {
        let mut value = T::new_zeroed();
        self.read(addr, value.as_mut_bytes())?;
        Ok(value)
    }

    /// Stores a structure.
    fn write_obj<T: IntoBytes + Immutable>(&self, addr: u64, value: &T) -> Result<(), Errno> {
        self.write(addr, value.as_bytes())
    }
}

impl<M: UserMemory + ?Sized> UserMemoryExt for M {}

/// Memory of a context that has none: every access is `EFAULT`.
#[derive(Debug)]
pub struct NoMemory;

impl UserMemory for NoMemory {
    fn read_some(&self, _addr: u64, buf: &mut [u8]) -> Result<usize, Errno> {
        if buf.is_empty() {
            Ok(0)
        } else {
            Err(Errno::EFAULT)
        }
    }
    fn write_some(&self, _addr: u64, buf: &[u8]) -> Result<usize, Errno> {
        if buf.is_empty() {
            Ok(0)
        } else {
            Err(Errno::EFAULT)
        }
    }
    fn fill_from_host(
        &self,
        _: u64,
        _: usize,
        _: BorrowedFd<'_>,
        _: Option<u64>,
    ) -> Result<usize, Errno> {
        Err(Errno::EFAULT)
    }
    fn drain_to_host(
        &self,
        _: u64,
        _: usize,
        _: BorrowedFd<'_>,
        _: Option<u64>,
    ) -> Result<usize, Errno> {
        Err(Errno::EFAULT)
    }
}
