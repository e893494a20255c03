//! A short-lived mapping of somebody else's file, for stores and atomic words in what a guest has
//! mapped shared from the host.

use crate::window::Window;
use abi::Errno;
use std::os::fd::BorrowedFd;

/// Pages of a host file, mapped in the sentry.
pub struct HostPages(Window);

impl HostPages {
    /// Maps `offset..offset+len` (page-aligned).
    ///
    /// # Errors
    /// The host's, such as `EACCES` when the descriptor is not open for that.
    pub fn map(
        file: BorrowedFd<'_>,
        offset: u64,
        len: u64,
        write: bool,
    ) -> Result<HostPages, Errno> {
        Window::map(file, offset, len, write).map(HostPages)
    }

    /// Copies out from `offset` into the mapping; `EFAULT` past the end of the file.
    pub fn read(&self, offset: u64, into: &mut [u8]) -> Result<(), Errno> {
        self.0.read(offset, into)
    }

    /// Copies in; `EFAULT` past the end of the file.
    pub fn write(&self, offset: u64, from: &[u8]) -> Result<(), Errno> {
        self.0.write(offset, from)
    }

    /// Loads an aligned word.
    pub fn load_u32(&self, offset: u64) -> Result<u32, Errno> {
        self.0.load_u32(offset)
    }

    /// Compares and exchanges an aligned word; returns what was there.
    pub fn cmpxchg_u32(&self, offset: u64, old: u32, new: u32) -> Result<u32, Errno> {
        self.0.cmpxchg_u32(offset, old, new)
    }
}

impl std::fmt::Debug for HostPages {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("HostPages")
    }
}
