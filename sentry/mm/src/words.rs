//! Atomic words in guest memory, for futexes and what the kernel keeps there.

use crate::access::Found;
use crate::fault::Who;
use crate::state::Mm;
use abi::Errno;
use abi::page::{PAGE_SIZE, page_down};
use hostmem::HostPages;
use platform_api::Access;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

/// What one attempt came to.
enum Attempt {
    Done(u32),
    Host(Arc<OwnedFd>, u64),
    Fault,
}

impl Mm {
    /// Loads an aligned word.
    ///
    /// # Errors
    /// `EFAULT`; `EINVAL` when `addr` is not aligned.
    pub fn load_u32(&self, addr: u64) -> Result<u32, Errno> {
        self.word(addr, Access::Read, None)
    }

    /// As [`Mm::load_u32`], but `None` where a page would have to be brought in first: for use
    /// under a lock. Call [`Mm::load_u32`] without it then, and try again.
    pub fn try_load_u32(&self, addr: u64) -> Result<Option<u32>, Errno> {
        match self.attempt(addr, Access::Read, None)? {
            Attempt::Done(value) => Ok(Some(value)),
            Attempt::Host(..) | Attempt::Fault => Ok(None),
        }
    }

    /// Stores `new` if `old` is there; returns what was there.
    ///
    /// # Errors
    /// As [`Mm::load_u32`].
    pub fn cmpxchg_u32(&self, addr: u64, old: u32, new: u32) -> Result<u32, Errno> {
        self.word(addr, Access::Write, Some((old, new)))
    }

    /// As [`Mm::cmpxchg_u32`], but `None` where a page would have to be brought in first.
    pub fn try_cmpxchg_u32(&self, addr: u64, old: u32, new: u32) -> Result<Option<u32>, Errno> {
        match self.attempt(addr, Access::Write, Some((old, new)))? {
            Attempt::Done(value) => Ok(Some(value)),
            Attempt::Host(..) | Attempt::Fault => Ok(None),
        }
    }

    /// Replaces a word by what `f` makes of it, atomically; returns what was there. `f` may be
    /// called more than once.
    ///
    /// # Errors
    /// As [`Mm::load_u32`].
    pub fn update_u32(&self, addr: u64, mut f: impl FnMut(u32) -> u32) -> Result<u32, Errno> {
        let mut old = self.load_u32(addr)?;
        loop {
            let seen = self.cmpxchg_u32(addr, old, f(old))?;
            if seen == old {
                return Ok(old);
            }
            old = seen;
        }
    }

    /// Stores an aligned word.
    ///
    /// # Errors
    /// As [`Mm::load_u32`].
    pub fn store_u32(&self, addr: u64, value: u32) -> Result<(), Errno> {
        self.update_u32(addr, |_| value).map(drop)
    }

    fn word(&self, addr: u64, access: Access, exchange: Option<(u32, u32)>) -> Result<u32, Errno> {
        loop {
            match self.attempt(addr, access, exchange)? {
                Attempt::Done(value) => return Ok(value),
                Attempt::Fault => {
                    self.fault(addr, access, Who::Kernel)
                        .map_err(|_| Errno::EFAULT)?;
                }
                Attempt::Host(file, offset) => {
                    let page = page_down(offset);
                    let write = exchange.is_some();
                    let pages = HostPages::map(file.as_fd(), page, PAGE_SIZE, write)
                        .map_err(|_| Errno::EFAULT)?;
                    return match exchange {
                        None => pages.load_u32(offset - page),
                        Some((old, new)) => pages.cmpxchg_u32(offset - page, old, new),
                    };
                }
            }
        }
    }

    fn attempt(
        &self,
        addr: u64,
        access: Access,
        exchange: Option<(u32, u32)>,
    ) -> Result<Attempt, Errno> {
        if !addr.is_multiple_of(4) {
            return Err(Errno::EINVAL);
        }
        let st = self.state.read();
        Ok(match st.locate(addr, access, Who::Kernel) {
            Found::Frames(frames, at, _) => Attempt::Done(match exchange {
                None => frames.load_u32(at)?,
                Some((old, new)) => frames.cmpxchg_u32(at, old, new)?,
            }),
            Found::Host(file, offset, _) => Attempt::Host(file.clone(), offset),
            Found::Zero(_) => Attempt::Done(0),
            Found::Missing => Attempt::Fault,
        })
    }
}
