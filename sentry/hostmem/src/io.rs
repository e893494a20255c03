//! Host I/O straight into and out of frames: the host's kernel does the copy and survives faults.

use crate::Frames;
use crate::window;
use abi::Errno;
use std::os::fd::BorrowedFd;

/// A stretch of frames as one element of a vectored call.
#[derive(Clone, Debug)]
pub struct Slice<'a> {
    /// The frames.
    pub frames: &'a Frames,
    /// First byte, counted from the start of the frames.
    pub offset: u64,
    /// Bytes.
    pub len: usize,
}

/// The most vectors a call takes (`UIO_MAXIOV`).
pub const MAX_SLICES: usize = 1024;

/// Reads from a host descriptor, at `offset` or at its own position, into the slices. Returns
/// the count, 0 at the end of the file.
///
/// # Errors
/// `EFAULT` when a slice lies outside its frames, others as the host gives them.
pub fn read(fd: BorrowedFd<'_>, offset: Option<u64>, into: &[Slice<'_>]) -> Result<usize, Errno> {
    window::read_vectors(fd, offset, &vectors(into)?)
}

/// Writes the slices to a host descriptor.
///
/// # Errors
/// As for [`read`].
pub fn write(fd: BorrowedFd<'_>, offset: Option<u64>, from: &[Slice<'_>]) -> Result<usize, Errno> {
    window::write_vectors(fd, offset, &vectors(from)?)
}

fn vectors(slices: &[Slice<'_>]) -> Result<Vec<libc::iovec>, Errno> {
    slices
        .iter()
        .take(MAX_SLICES)
        .map(|s| s.frames.iovec(s.offset, s.len).ok_or(Errno::EFAULT))
        .collect()
}
