//! The batch pages: written here, read by stubs.
//!
//! One memfd holds the pages of all spaces; a space has a slot of it, which its stubs map
//! read-only. So the guest can read what was last asked of its stub and change nothing of it.

use crate::layout::{BATCH_LEN, BATCH_OPS, OP_WORDS};
use parking_lot::Mutex;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::Arc;

/// How many spaces can be at once.
const SLOTS: usize = 16384;

/// All batch pages.
pub(crate) struct Share {
    memfd: OwnedFd,
    /// The whole of the memfd, read and write.
    base: *mut u64,
    free: Mutex<Free>,
}

struct Free {
    returned: Vec<usize>,
    /// Slots from here on have never been used.
    unused: usize,
}

// SAFETY: `base` points to a mapping that lives as long as the value; each slot is written by
// its one owner only (`Slot::write` takes `&mut`).
unsafe impl Send for Share {}
// SAFETY: as above.
unsafe impl Sync for Share {}

impl Share {
    /// Makes the memfd and maps it. Costs address space, and memory only as slots are used.
    pub(crate) fn new() -> io::Result<Arc<Share>> {
        let len = SLOTS * BATCH_LEN as usize;
        // SAFETY: a constant name.
        let fd = unsafe { libc::memfd_create(c"ringfence-batch".as_ptr(), libc::MFD_CLOEXEC) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: just made, owned by nobody else.
        let memfd = unsafe { OwnedFd::from_raw_fd(fd) };
        // SAFETY: numbers only.
        if unsafe { libc::ftruncate(memfd.as_raw_fd(), len as i64) } < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: a new mapping at an address of the host's choice.
        let base = unsafe {
            libc::mmap(
                core::ptr::null_mut(),
                len,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED | libc::MAP_NORESERVE,
                memfd.as_raw_fd(),
                0,
            )
        };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let free = Mutex::new(Free {
            returned: Vec::new(),
            unused: 0,
        });
        Ok(Arc::new(Share {
            memfd,
            base: base.cast(),
            free,
        }))
    }

    /// A slot nobody has; `None` when there are too many spaces.
    pub(crate) fn slot(self: &Arc<Share>) -> Option<Slot> {
        let mut free = self.free.lock();
        let index = match free.returned.pop() {
            Some(index) => index,
            None if free.unused < SLOTS => {
                free.unused += 1;
                free.unused - 1
            }
            None => return None,
        };
        Some(Slot {
            share: self.clone(),
            index,
        })
    }

    /// The descriptor's number, the same in stubs, which share the table.
    pub(crate) fn fd(&self) -> i32 {
        self.memfd.as_raw_fd()
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        // SAFETY: the mapping made in `new`; no slot is left, since each holds the share.
        unsafe { libc::munmap(self.base.cast(), SLOTS * BATCH_LEN as usize) };
    }
}

/// One space's batch pages.
pub(crate) struct Slot {
    share: Arc<Share>,
    index: usize,
}

impl Slot {
    /// Offset in the memfd.
    pub(crate) fn offset(&self) -> u64 {
        self.index as u64 * BATCH_LEN
    }

    /// The memfd's number.
    pub(crate) fn fd(&self) -> i32 {
        self.share.fd()
    }

    /// Writes operations from the start on, as many as fit.
    pub(crate) fn write<'a>(&mut self, ops: impl IntoIterator<Item = &'a [u64; OP_WORDS]>) {
        for (i, op) in ops.into_iter().take(BATCH_OPS).enumerate() {
            let word = self.offset() as usize / 8 + i * OP_WORDS;
            // SAFETY: inside the slot, hence inside the mapping; aligned; readers in other
            // processes are stopped while their slot is written.
            unsafe {
                core::ptr::copy_nonoverlapping(op.as_ptr(), self.share.base.add(word), OP_WORDS)
            };
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.share.free.lock().returned.push(self.index);
    }
}
