//! A file of which there is only a descriptor, as a path.
//!
//! An `O_PATH` descriptor cannot be read, nor can extended attributes be asked of it. Its magic
//! link in /proc/self/fd leads to exactly that file, whatever has become of its name, so there is
//! no race with anybody who moves names about.

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use std::ffi::CString;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

/// How descriptors are named.
#[derive(Debug)]
pub struct Magic {
    prefix: &'static str,
}

impl Magic {
    /// Through /proc, as this process sees it.
    pub fn unconfined() -> Magic {
        Magic {
            prefix: "/proc/self/fd/",
        }
    }

    /// Makes `dir`, made by [`Magic::open`] before the root was changed, the working directory,
    /// and names descriptors relative to that.
    pub fn confined(dir: OwnedFd) -> Result<Magic, Errno> {
        nix::unistd::fchdir(&dir)?;
        Ok(Magic { prefix: "" })
    }

    /// The directory of this process's descriptors, on a mount of its own where the host allows
    /// that, so that nothing above it can be reached.
    pub fn open() -> Result<OwnedFd, Errno> {
        let path = c"/proc/self/fd";
        crate::sys::open_tree(path).or_else(|_| {
            open(
                path,
                OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC,
                Mode::empty(),
            )
        })
    }

    /// The path of `fd`.
    pub(crate) fn path(&self, fd: BorrowedFd<'_>) -> CString {
        // Digits and a constant hold no NUL.
        CString::new(format!("{}{}", self.prefix, fd.as_raw_fd())).unwrap_or_default()
    }

    /// Opens the file behind `fd` once more.
    pub(crate) fn reopen(&self, fd: BorrowedFd<'_>, flags: OFlag) -> Result<OwnedFd, Errno> {
        open(
            self.path(fd).as_c_str(),
            flags | OFlag::O_CLOEXEC | OFlag::O_NOCTTY,
            Mode::empty(),
        )
    }
}
