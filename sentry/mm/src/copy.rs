//! Copies between guest memory and the kernel, and host I/O straight into or out of it.

use crate::access::Found;
use crate::fault::Who;
use crate::state::Mm;
use abi::Errno;
use abi::page::{PAGE_SIZE, Range, page_down, page_up};
use ctx::UserMemory;
use hostmem::{Frames, HostPages, io};
use platform_api::Access;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Host reads and writes up to this long go through a buffer: pinning frames would cost more.
const BOUNCE: usize = 16 << 10;
/// A longer piece of what cannot be pinned.
const BOUNCE_LARGE: usize = 128 << 10;
/// The most stretches of frames in one host call.
const SLICES: usize = 256;

enum Step {
    Did(usize),
    Host(Arc<OwnedFd>, u64, usize),
    Fault,
    /// The host has no page for it.
    Exhausted,
}

impl UserMemory for Mm {
    fn read_some(&self, addr: u64, buf: &mut [u8]) -> Result<usize, Errno> {
        self.copy_out(addr, buf, Who::Kernel)
    }

    fn write_some(&self, addr: u64, buf: &[u8]) -> Result<usize, Errno> {
        self.copy_in(addr, buf, Who::Kernel)
    }

    fn fill_from_host(
        &self,
        addr: u64,
        len: usize,
        fd: BorrowedFd<'_>,
        offset: Option<u64>,
    ) -> Result<usize, Errno> {
        if len <= BOUNCE {
            return self.fill_by_buffer(addr, len, fd, offset);
        }
        let (pinned, _filling) = loop {
            let forks = self.state.read().forks;
            let pinned = match self.pin(addr, len, Access::Write) {
                // At the end of the file nobody looks at the address.
                Err(Errno::EFAULT) if offset.is_some_and(|at| at_end(fd, at)) => return Ok(0),
                pinned => pinned?,
            };
            if pinned.is_empty() {
                return self.fill_by_buffer(addr, len.min(BOUNCE_LARGE), fd, offset);
            }
            // What was sealed meanwhile must not be written in place; from here on forks wait.
            let st = self.state.read();
            if st.forks == forks {
                break (pinned, Filling::begin(self));
            }
        };
        let slices: Vec<_> = pinned.iter().map(Pinned::slice).collect();
        io::read(fd, offset, &slices)
    }

    fn drain_to_host(
        &self,
        addr: u64,
        len: usize,
        fd: BorrowedFd<'_>,
        offset: Option<u64>,
    ) -> Result<usize, Errno> {
        if len <= BOUNCE {
            return self.drain_by_buffer(addr, len, fd, offset);
        }
        let pinned = self.pin(addr, len, Access::Read)?;
        if pinned.is_empty() {
            return self.drain_by_buffer(addr, len.min(BOUNCE_LARGE), fd, offset);
        }
        let slices: Vec<_> = pinned.iter().map(Pinned::slice).collect();
        io::write(fd, offset, &slices)
    }
}

impl Mm {
    /// Reads as a debugger does (ptrace, /proc/PID/mem): private mappings without read
    /// permission too.
    pub fn read_forced(&self, addr: u64, buf: &mut [u8]) -> Result<usize, Errno> {
        self.copy_out(addr, buf, Who::Force)
    }

    /// Writes as a debugger does: private copies of what is not writable.
    pub fn write_forced(&self, addr: u64, buf: &[u8]) -> Result<usize, Errno> {
        self.copy_in(addr, buf, Who::Force)
    }

    fn copy_out(&self, addr: u64, buf: &mut [u8], who: Who) -> Result<usize, Errno> {
        let mut done = 0;
        while done < buf.len() {
            let Some(at) = addr.checked_add(done as u64) else {
                break;
            };
            let step = {
                let st = self.state.read();
                let rest = &mut buf[done..];
                match st.locate(at, Access::Read, who) {
                    Found::Frames(frames, offset, len) => {
                        let n = clamp(len, rest.len());
                        match frames.read(offset, &mut rest[..n]) {
                            Ok(()) => Step::Did(n),
                            Err(_) => Step::Exhausted,
                        }
                    }
                    Found::Zero(len) => {
                        let n = clamp(len, rest.len());
                        rest[..n].fill(0);
                        Step::Did(n)
                    }
                    Found::Host(file, offset, len) => {
                        Step::Host(file.clone(), offset, clamp(len, rest.len()))
                    }
                    Found::Missing => Step::Fault,
                }
            };
            match step {
                Step::Did(n) => done += n,
                Step::Host(file, offset, n) => {
                    let n = read_host(&file, offset, &mut buf[done..done + n]);
                    if n == 0 {
                        break;
                    }
                    done += n;
                }
                Step::Fault if self.fault(at, Access::Read, who).is_ok() => {}
                Step::Exhausted if self.host_exhausted().is_ok() => {}
                Step::Fault | Step::Exhausted => break,
            }
        }
        outcome(done, buf.len())
    }

    fn copy_in(&self, addr: u64, buf: &[u8], who: Who) -> Result<usize, Errno> {
        let mut done = 0;
        while done < buf.len() {
            let Some(at) = addr.checked_add(done as u64) else {
                break;
            };
            let rest = &buf[done..];
            let step = {
                let st = self.state.read();
                match st.locate(at, Access::Write, who) {
                    Found::Frames(frames, offset, len) => {
                        let n = clamp(len, rest.len());
                        match frames.write(offset, &rest[..n]) {
                            Ok(()) => Step::Did(n),
                            Err(_) => Step::Exhausted,
                        }
                    }
                    Found::Host(file, offset, len) => {
                        Step::Host(file.clone(), offset, clamp(len, rest.len()))
                    }
                    Found::Zero(_) | Found::Missing => Step::Fault,
                }
            };
            match step {
                Step::Did(n) => done += n,
                Step::Host(file, offset, n) => match write_host(&file, offset, &rest[..n]) {
                    Ok(()) => done += n,
                    Err(_) => break,
                },
                Step::Fault if self.fault(at, Access::Write, who).is_ok() => {}
                Step::Exhausted if self.host_exhausted().is_ok() => {}
                Step::Fault | Step::Exhausted => break,
            }
        }
        outcome(done, buf.len())
    }

    /// Makes sure that the first byte can be accessed, before something is taken from a stream
    /// that could not be put back.
    fn probe(&self, addr: u64, access: Access) -> Result<(), Errno> {
        let missing = matches!(
            self.state.read().locate(addr, access, Who::Kernel),
            Found::Missing
        );
        if missing {
            self.fault(addr, access, Who::Kernel)
                .map_err(|_| Errno::EFAULT)?;
        }
        Ok(())
    }

    fn fill_by_buffer(
        &self,
        addr: u64,
        len: usize,
        fd: BorrowedFd<'_>,
        offset: Option<u64>,
    ) -> Result<usize, Errno> {
        // What is taken from a stream could not be put back; a place of a file can be read again.
        if len > 0 && offset.is_none() {
            self.probe(addr, Access::Write)?;
        }
        with_buffer(len, |buf| {
            let n = host_read(fd, offset, buf)?;
            self.write_some(addr, buf.get(..n).unwrap_or_default())
        })
    }

    fn drain_by_buffer(
        &self,
        addr: u64,
        len: usize,
        fd: BorrowedFd<'_>,
        offset: Option<u64>,
    ) -> Result<usize, Errno> {
        with_buffer(len, |buf| {
            let n = self.read_some(addr, buf)?;
            host_write(fd, offset, buf.get(..n).unwrap_or_default())
        })
    }

    /// The frames behind `addr..addr+len`, brought in and held, as far as they go without a gap.
    /// Empty when the first byte is there but not in frames; `EFAULT` when it is not there.
    fn pin(&self, addr: u64, len: usize, access: Access) -> Result<Vec<Pinned>, Errno> {
        let mut pinned: Vec<Pinned> = Vec::new();
        let mut done = 0;
        while done < len && pinned.len() < SLICES {
            let Some(at) = addr.checked_add(done as u64) else {
                break;
            };
            let found = match self.state.read().locate(at, access, Who::Kernel) {
                Found::Frames(frames, offset, left) => {
                    let n = clamp(left, len - done);
                    Some(Pinned::new(frames, offset, n)?)
                }
                Found::Host(..) | Found::Zero(_) => return Ok(pinned),
                Found::Missing => None,
            };
            match found {
                Some(p) => {
                    done += p.len;
                    pinned.push(p);
                }
                None if self.fault(at, access, Who::Kernel).is_ok() => {}
                None if done == 0 => return Err(Errno::EFAULT),
                None => break,
            }
        }
        Ok(pinned)
    }
}

/// A stretch of frames that is held while the host reads or writes it.
struct Pinned {
    frames: Frames,
    offset: u64,
    len: usize,
}

impl Pinned {
    fn new(frames: &Frames, offset: u64, len: usize) -> Result<Pinned, Errno> {
        let start = page_down(offset);
        let end = page_up(offset.saturating_add(len as u64)).ok_or(Errno::EFAULT)?;
        let range = Range::new(start, end.min(frames.len()));
        let frames = frames.slice(range.start, range.len())?;
        Ok(Pinned {
            frames,
            offset: offset - start,
            len,
        })
    }

    fn slice(&self) -> io::Slice<'_> {
        io::Slice {
            frames: &self.frames,
            offset: self.offset,
            len: self.len,
        }
    }
}

/// A note that the host may be writing into frames of the space.
struct Filling<'a>(&'a Mm);

impl<'a> Filling<'a> {
    fn begin(mm: &'a Mm) -> Filling<'a> {
        mm.fills.fetch_add(1, Ordering::AcqRel);
        Filling(mm)
    }
}

impl Drop for Filling<'_> {
    fn drop(&mut self) {
        self.0.fills.fetch_sub(1, Ordering::AcqRel);
    }
}

fn clamp(len: u64, most: usize) -> usize {
    usize::try_from(len).unwrap_or(usize::MAX).min(most)
}

fn outcome(done: usize, wanted: usize) -> Result<usize, Errno> {
    if done == 0 && wanted > 0 {
        Err(Errno::EFAULT)
    } else {
        Ok(done)
    }
}

fn with_buffer<T>(len: usize, f: impl FnOnce(&mut [u8]) -> T) -> T {
    const ON_STACK: usize = 4096;
    if len <= ON_STACK {
        let mut buf = [0u8; ON_STACK];
        f(&mut buf[..len])
    } else {
        f(&mut vec![0; len])
    }
}

/// What a shared or read-only mapping of a host file holds; short at the end of the file.
fn read_host(file: &OwnedFd, offset: u64, buf: &mut [u8]) -> usize {
    // The last page of a file goes on with zeros behind its end.
    let mut done = 0;
    while done < buf.len() {
        let at = offset.saturating_add(done as u64);
        match host_read(file.as_fd(), Some(at), &mut buf[done..]) {
            Ok(0) => {
                let in_last_page = end_of(file).is_some_and(|end| {
                    !end.is_multiple_of(PAGE_SIZE) && page_down(end) == page_down(at)
                });
                if !in_last_page {
                    break;
                }
                let rest = (PAGE_SIZE - at % PAGE_SIZE) as usize;
                let n = rest.min(buf.len() - done);
                buf[done..done + n].fill(0);
                done += n;
            }
            Ok(n) => done += n,
            Err(Errno::EINTR) => {}
            Err(_) => break,
        }
    }
    done
}

/// Whether a file holds nothing at `offset` or behind it.
fn at_end(file: BorrowedFd<'_>, offset: u64) -> bool {
    matches!(host_read(file, Some(offset), &mut [0]), Ok(0))
}

fn end_of(file: &OwnedFd) -> Option<u64> {
    nix::sys::stat::fstat(file)
        .ok()
        .and_then(|s| u64::try_from(s.st_size).ok())
}

fn write_host(file: &OwnedFd, offset: u64, buf: &[u8]) -> Result<(), Errno> {
    let start = page_down(offset);
    let end = page_up(offset.saturating_add(buf.len() as u64)).ok_or(Errno::EFAULT)?;
    // By a mapping and not by pwrite, which would make the file longer.
    let pages = HostPages::map(file.as_fd(), start, end - start, true)?;
    pages.write(offset - start, buf)
}

fn host_read(fd: BorrowedFd<'_>, offset: Option<u64>, buf: &mut [u8]) -> Result<usize, Errno> {
    let r = match offset {
        Some(o) => nix::sys::uio::pread(fd, buf, i64::try_from(o).map_err(|_| Errno::EINVAL)?),
        None => nix::unistd::read(fd, buf),
    };
    r.map_err(|e| Errno::from_host(e as i32))
}

fn host_write(fd: BorrowedFd<'_>, offset: Option<u64>, buf: &[u8]) -> Result<usize, Errno> {
    let r = match offset {
        Some(o) => nix::sys::uio::pwrite(fd, buf, i64::try_from(o).map_err(|_| Errno::EINVAL)?),
        None => nix::unistd::write(fd, buf),
    };
    r.map_err(|e| Errno::from_host(e as i32))
}
