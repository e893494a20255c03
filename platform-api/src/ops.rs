//! Changes of mappings, as plain data.

use std::os::fd::OwnedFd;
use std::sync::Arc;

bitflags::bitflags! {
    /// What the guest may do with a mapping.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
    pub struct Protection: u8 {
        /// Load.
        const READ = 1;
        /// Store.
        const WRITE = 2;
        /// Execute.
        const EXECUTE = 4;
    }
}

/// What stands behind a mapping. Always mapped shared: the sentry and the other spaces see what
/// the guest writes.
#[derive(Clone, Debug)]
pub struct Backing {
    /// The host file.
    pub file: Arc<OwnedFd>,
    /// Page-aligned offset into it.
    pub offset: u64,
}

/// One change.
#[derive(Clone, Debug)]
pub enum Op {
    /// Maps `len` bytes of `backing` at `addr`, replacing whatever was there.
    Map {
        /// First address.
        addr: u64,
        /// Bytes.
        len: u64,
        /// What stands behind it.
        backing: Backing,
        /// What the guest may do.
        access: Protection,
    },
    /// Removes what is mapped in the range; holes are fine.
    Unmap {
        /// First address.
        addr: u64,
        /// Bytes.
        len: u64,
    },
    /// Changes the protection of what is mapped in the range; holes are left as they are.
    Protect {
        /// First address.
        addr: u64,
        /// Bytes.
        len: u64,
        /// What the guest may do.
        access: Protection,
    },
}
