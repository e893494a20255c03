//! The list of descriptors that a process is given with its message.

use crate::sys;
use control::boot::FdIndex;
use std::io;
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

    /// Adds a stream of the caller's. Those that are one description (`2>&1`) are given once, so
    /// that they are one inside, too, with one position.
    pub(crate) fn share(&mut self, what: &str, fd: BorrowedFd<'_>) -> io::Result<FdIndex> {
        let mut given = (0..).map(FdIndex).zip(&self.fds);
        match given.find(|(_, known)| sys::same_description(known.as_fd(), fd)) {
            Some((index, _)) => Ok(index),
            None => Ok(self.give(what, fd.try_clone_to_owned()?)),
        }
    }

    /// Adds our standard streams. One that the caller had closed is /dev/null by now: it was opened
    /// when this process started.
    pub(crate) fn stdio(&mut self) -> io::Result<[Option<FdIndex>; 3]> {
        let mut all = [None; 3];
        for (number, slot) in all.iter_mut().enumerate() {
            if let Ok(fd) = sys::borrow(number as i32) {
                *slot = Some(self.share("stdio", fd)?);
            }
        }
        Ok(all)
    }

    pub(crate) fn borrow(&self) -> Vec<BorrowedFd<'_>> {
        self.fds.iter().map(AsFd::as_fd).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_description_is_given_once() {
        let file = tempfile::tempfile().unwrap();
        let again = file.try_clone().unwrap();
        let null = std::fs::File::open("/dev/null").unwrap();
        let mut donations = Donations::new("test");
        let mut share = |f: &std::fs::File| donations.share("stream", f.as_fd()).unwrap().0;
        assert_eq!([share(&file), share(&null), share(&again)], [0, 1, 0]);
        assert_eq!(donations.borrow().len(), 2);
    }
}
