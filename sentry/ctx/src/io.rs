//! Where a read puts its bytes and where a write takes them: guest memory or a buffer of ours.

use crate::UserMemory;
use abi::Errno;
use std::os::fd::BorrowedFd;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// `struct iovec`.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Iovec {
    /// First address.
    pub base: u64,
    /// Bytes.
    pub len: u64,
}

/// The destination of a read. Keeps its place between calls.
pub struct Dst<'a>(Place<'a, &'a mut [u8]>);

/// The source of a write. Keeps its place between calls.
pub struct Src<'a>(Place<'a, &'a [u8]>);

enum Place<'a, B> {
    Ours {
        buf: B,
        pos: usize,
    },
    Guest {
        memory: &'a dyn UserMemory,
        iovs: Iovs<'a>,
        done: usize,
    },
}

/// The vectors still to be served. A single one needs no allocation.
enum Iovs<'a> {
    One(Iovec),
    Many(&'a [Iovec], u64),
}

impl Iovs<'_> {
    fn front(&mut self) -> Option<(u64, u64)> {
        match self {
            Iovs::One(v) => (v.len > 0).then_some((v.base, v.len)),
            Iovs::Many(list, skip) => {
                while let [first, rest @ ..] = *list {
                    if *skip < first.len {
                        return Some((first.base.wrapping_add(*skip), first.len - *skip));
                    }
                    *list = rest;
                    *skip = 0;
                }
                None
            }
        }
    }

    fn advance(&mut self, n: u64) {
        match self {
            Iovs::One(v) => {
                v.base = v.base.wrapping_add(n);
                v.len -= n.min(v.len);
            }
            Iovs::Many(_, skip) => *skip += n,
        }
    }

    fn left(&self) -> u64 {
        match self {
            Iovs::One(v) => v.len,
            Iovs::Many(list, skip) => list
                .iter()
                .fold(0u64, |sum, v| sum.saturating_add(v.len))
                .saturating_sub(*skip),
        }
    }
}

impl<B> Place<'_, B> {
    /// Serves vector after vector with `step(memory, addr, len, done so far)`, which says how
    /// much it moved; ends at a short step. An error after some progress is a short count.
    fn each(
        &mut self,
        max: usize,
        mut step: impl FnMut(&dyn UserMemory, u64, usize, usize) -> Result<usize, Errno>,
    ) -> Result<usize, Errno> {
        let Place::Guest { memory, iovs, done } = self else {
            return Ok(0);
        };
        let mut moved = 0;
        while moved < max {
            let Some((addr, len)) = iovs.front() else {
                break;
            };
            let len = usize::try_from(len).unwrap_or(usize::MAX).min(max - moved);
            match step(*memory, addr, len, moved) {
                Ok(n) => {
                    let n = n.min(len);
                    iovs.advance(n as u64);
                    moved += n;
                    *done += n;
                    if n < len {
                        break;
                    }
                }
                Err(e) if moved == 0 => return Err(e),
                Err(_) => break,
            }
        }
        Ok(moved)
    }
}

impl<'a> Dst<'a> {
    /// Into a buffer of ours.
    pub fn ours(buf: &'a mut [u8]) -> Dst<'a> {
        Dst(Place::Ours { buf, pos: 0 })
    }

    /// Into guest memory.
    pub fn guest(memory: &'a dyn UserMemory, addr: u64, len: u64) -> Dst<'a> {
        Dst(Place::Guest {
            memory,
            iovs: Iovs::One(Iovec { base: addr, len }),
            done: 0,
        })
    }

    /// Into several places of guest memory, one after the other.
    pub fn vectors(memory: &'a dyn UserMemory, iovs: &'a [Iovec]) -> Dst<'a> {
        Dst(Place::Guest {
            memory,
            iovs: Iovs::Many(iovs, 0),
            done: 0,
        })
    }

    /// Bytes that still fit.
    pub fn remaining(&self) -> usize {
        match &self.0 {
            Place::Ours { buf, pos } => buf.len() - pos,
            Place::Guest { iovs, .. } => usize::try_from(iovs.left()).unwrap_or(usize::MAX),
        }
    }

    /// Bytes put so far.
    pub fn done(&self) -> usize {
        match &self.0 {
            Place::Ours { pos, .. } => *pos,
            Place::Guest { done, .. } => *done,
        }
    }

    /// Puts as much of `data` as fits; `EFAULT` when the guest's memory refuses the first byte.
    pub fn put(&mut self, data: &[u8]) -> Result<usize, Errno> {
        if let Place::Ours { buf, pos } = &mut self.0 {
            let n = data.len().min(buf.len() - *pos);
            buf[*pos..*pos + n].copy_from_slice(&data[..n]);
            *pos += n;
            return Ok(n);
        }
        self.0.each(data.len(), |m, addr, len, at| {
            m.write_some(addr, &data[at..at + len])
        })
    }

    /// Puts what `text` has from `offset` on, as much as fits: a read of a file that is a text.
    /// `EFAULT` as [`Dst::put`].
    pub fn put_from(&mut self, text: &[u8], offset: u64) -> Result<usize, Errno> {
        let from = usize::try_from(offset).unwrap_or(usize::MAX);
        self.put(text.get(from..).unwrap_or_default())
    }

    /// Puts `len` zero bytes, as far as they fit.
    pub fn put_zeros(&mut self, len: usize) -> Result<usize, Errno> {
        const ZEROS: [u8; 4096] = [0; 4096];
        let mut moved = 0;
        while moved < len {
            let want = (len - moved).min(ZEROS.len());
            match self.put(&ZEROS[..want]) {
                Ok(n) => {
                    moved += n;
                    if n < want {
                        break;
                    }
                }
                Err(e) if moved == 0 => return Err(e),
                Err(_) => break,
            }
        }
        Ok(moved)
    }

    /// Puts up to `max` bytes read from a host descriptor: at `offset`, or at the descriptor's
    /// own position for `None`. Returns the count, 0 at the end of the file.
    pub fn put_from_host(
        &mut self,
        fd: BorrowedFd<'_>,
        offset: Option<u64>,
        max: usize,
    ) -> Result<usize, Errno> {
        if let Place::Ours { buf, pos } = &mut self.0 {
            let end = pos.saturating_add(max).min(buf.len());
            let n = host::read(fd, offset, &mut buf[*pos..end])?;
            *pos += n;
            return Ok(n);
        }
        self.0.each(max, |m, addr, len, at| {
            m.fill_from_host(addr, len, fd, offset.map(|o| o.saturating_add(at as u64)))
        })
    }
}

impl<'a> Src<'a> {
    /// From a buffer of ours.
    pub fn ours(buf: &'a [u8]) -> Src<'a> {
        Src(Place::Ours { buf, pos: 0 })
    }

    /// From guest memory.
    pub fn guest(memory: &'a dyn UserMemory, addr: u64, len: u64) -> Src<'a> {
        Src(Place::Guest {
            memory,
            iovs: Iovs::One(Iovec { base: addr, len }),
            done: 0,
        })
    }

    /// From several places of guest memory, one after the other.
    pub fn vectors(memory: &'a dyn UserMemory, iovs: &'a [Iovec]) -> Src<'a> {
        Src(Place::Guest {
            memory,
            iovs: Iovs::Many(iovs, 0),
            done: 0,
        })
    }

    /// Bytes still there.
    pub fn remaining(&self) -> usize {
        match &self.0 {
            Place::Ours { buf, pos } => buf.len() - pos,
            Place::Guest { iovs, .. } => usize::try_from(iovs.left()).unwrap_or(usize::MAX),
        }
    }

    /// Bytes taken so far.
    pub fn done(&self) -> usize {
        match &self.0 {
            Place::Ours { pos, .. } => *pos,
            Place::Guest { done, .. } => *done,
        }
    }

    /// Takes bytes into `into`; a short count at the end, `EFAULT` when the guest's memory
    /// refuses the first byte.
    pub fn take(&mut self, into: &mut [u8]) -> Result<usize, Errno> {
        if let Place::Ours { buf, pos } = &mut self.0 {
            let n = into.len().min(buf.len() - *pos);
            into[..n].copy_from_slice(&buf[*pos..*pos + n]);
            *pos += n;
            return Ok(n);
        }
        let max = into.len();
        self.0.each(max, |m, addr, len, at| {
            m.read_some(addr, &mut into[at..at + len])
        })
    }

    /// Writes up to `max` bytes to a host descriptor, at `offset` or at its own position.
    pub fn take_to_host(
        &mut self,
        fd: BorrowedFd<'_>,
        offset: Option<u64>,
        max: usize,
    ) -> Result<usize, Errno> {
        if let Place::Ours { buf, pos } = &mut self.0 {
            let end = pos.saturating_add(max).min(buf.len());
            let n = host::write(fd, offset, &buf[*pos..end])?;
            *pos += n;
            return Ok(n);
        }
        self.0.each(max, |m, addr, len, at| {
            m.drain_to_host(addr, len, fd, offset.map(|o| o.saturating_add(at as u64)))
        })
    }
}

/// Plain reads and writes of host descriptors.
mod host {
    use abi::Errno;
    use nix::sys::uio::{pread, pwrite};
    use std::os::fd::BorrowedFd;

    pub(super) fn read(
        fd: BorrowedFd<'_>,
        offset: Option<u64>,
        buf: &mut [u8],
    ) -> Result<usize, Errno> {
        let r = match offset {
            Some(o) => pread(fd, buf, i64::try_from(o).map_err(|_| Errno::EINVAL)?),
            None => nix::unistd::read(fd, buf),
        };
        r.map_err(|e| Errno::from_host(e as i32))
    }

    pub(super) fn write(
        fd: BorrowedFd<'_>,
        offset: Option<u64>,
        buf: &[u8],
    ) -> Result<usize, Errno> {
        let r = match offset {
            Some(o) => pwrite(fd, buf, i64::try_from(o).map_err(|_| Errno::EINVAL)?),
            None => nix::unistd::write(fd, buf),
        };
        r.map_err(|e| Errno::from_host(e as i32))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_of_ours_keeps_its_place() {
        let mut buf = [0u8; 5];
        let mut dst = Dst::ours(&mut buf);
        assert_eq!(dst.put(b"abc").unwrap(), 3);
        assert_eq!(dst.put(b"defg").unwrap(), 2);
        assert_eq!((dst.remaining(), dst.done()), (0, 5));
        assert_eq!(&buf, b"abcde");

        let mut src = Src::ours(b"hello");
        let mut part = [0u8; 2];
        assert_eq!(src.take(&mut part).unwrap(), 2);
        assert_eq!(src.remaining(), 3);
    }

    #[test]
    fn no_memory_is_a_fault() {
        let mut dst = Dst::guest(&crate::NoMemory, 0x1000, 4);
        assert_eq!(dst.put(b"x"), Err(Errno::EFAULT));
        assert_eq!(Dst::guest(&crate::NoMemory, 0, 0).put(b"x"), Ok(0));
    }
}
