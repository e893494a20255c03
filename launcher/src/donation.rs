//! The list of descriptors that a process is given with its message.

use control::boot::FdIndex;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

/// Descriptors in the order in which they are sent; each is logged with its purpose.
pub(crate) struct Donations {
    to: &'static str,
    fds: Vec<OwnedFd>,
}

impl Donations {
    pub(crate) fn new(to: &'static str) -> Donations {
        Donations {
            to,
            fds: Vec::new(),
        }
    }

    /// Adds one; the index goes into the message.
    pub(crate) fn give(&mut self, what: &str, fd: OwnedFd) -> FdIndex {
        let index = u32::try_from(self.fds.len()).unwrap_or(u32::MAX);
        tracing::debug!(
            to = self.to,
            index,
            number = fd.as_raw_fd(),
            "donate {what}"
        );
        self.fds.push(fd);
        FdIndex(index)
    }

    pub(crate) fn borrow(&self) -> Vec<BorrowedFd<'_>> {
        self.fds.iter().map(AsFd::as_fd).collect()
    }
}
