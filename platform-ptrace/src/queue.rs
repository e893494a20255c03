//! Changes of mappings on their way to the host, as the calls a stub will make.

use crate::coverage::Coverage;
use crate::layout::{LOWEST, OP_WORDS, STUB_BASE};
use platform_api::ops::Protection;
use platform_api::{Op, PlatformError};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;

/// One call, and what it needs kept open.
#[derive(Debug)]
pub(crate) struct Call {
    /// The call's number and arguments.
    pub(crate) words: [u64; OP_WORDS],
    /// Kept open until the call was made.
    _file: Option<Arc<OwnedFd>>,
}

impl Call {
    /// The range it changes.
    pub(crate) fn range(&self) -> (u64, u64) {
        (self.words[1], self.words[2])
    }
}

/// Calls in order.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    calls: Vec<Call>,
}

impl Queue {
    /// Whether there is nothing to do.
    pub(crate) fn is_empty(&self) -> bool {
        self.calls.is_empty()
    }

    /// Takes all.
    pub(crate) fn take(&mut self) -> Vec<Call> {
        std::mem::take(&mut self.calls)
    }

    /// Adds what `op`, already checked, comes to. Whether it takes rights away that a guest may
    /// be using.
    pub(crate) fn push(&mut self, op: &Op, coverage: &mut Coverage) -> bool {
        match op {
            Op::Map {
                addr,
                len,
                backing,
                access,
            } => {
                let end = addr + len;
                let replaces = coverage.touches(*addr, end);
                coverage.add(*addr, end);
                let words = [
                    libc::SYS_mmap as u64,
                    *addr,
                    *len,
                    host_protection(*access),
                    (libc::MAP_SHARED | libc::MAP_FIXED) as u64,
                    backing.file.as_raw_fd() as u64,
                    backing.offset,
                    0,
                ];
                if !self.extend(&words) {
                    self.calls.push(Call {
                        words,
                        _file: Some(backing.file.clone()),
                    });
                }
                replaces
            }
            Op::Unmap { addr, len } => {
                let end = addr + len;
                if !coverage.touches(*addr, end) {
                    return false;
                }
                coverage.remove(*addr, end);
                let words = [libc::SYS_munmap as u64, *addr, *len, 0, 0, 0, 0, 0];
                self.calls.push(Call { words, _file: None });
                true
            }
            Op::Protect { addr, len, access } => {
                let before = self.calls.len();
                for (start, end) in coverage.pieces(*addr, addr + len) {
                    let prot = host_protection(*access);
                    let words = [
                        libc::SYS_mprotect as u64,
                        start,
                        end - start,
                        prot,
                        0,
                        0,
                        0,
                        0,
                    ];
                    self.calls.push(Call { words, _file: None });
                }
                self.calls.len() != before && !access.contains(Protection::all())
            }
        }
    }

    /// Makes the last call larger when `words` maps what comes right behind it, in memory and in
    /// the file.
    fn extend(&mut self, words: &[u64; OP_WORDS]) -> bool {
        let Some(last) = self.calls.last_mut().map(|c| &mut c.words) else {
            return false;
        };
        let follows = last[0] == words[0]
            && last[1] + last[2] == words[1]
            && last[3..6] == words[3..6]
            && last[6].checked_add(last[2]) == Some(words[6]);
        if follows {
            last[2] += words[2];
        }
        follows
    }
}

/// Checks that `op` keeps to the guest's addresses.
pub(crate) fn check(op: &Op) -> Result<(), PlatformError> {
    let (addr, len) = match op {
        Op::Map { addr, len, .. } | Op::Unmap { addr, len } | Op::Protect { addr, len, .. } => {
            (*addr, *len)
        }
    };
    let aligned = (addr | len) % 4096 == 0;
    let inside = addr >= LOWEST && addr.checked_add(len).is_some_and(|end| end <= STUB_BASE);
    if aligned && inside && len != 0 {
        return Ok(());
    }
    Err(crate::error::misuse(
        "changing a space's mappings",
        &format!("{len:#x} bytes at {addr:#x} are not whole pages of the guest's"),
    ))
}

fn host_protection(access: Protection) -> u64 {
    let pairs = [
        (Protection::READ, libc::PROT_READ),
        (Protection::WRITE, libc::PROT_WRITE),
        (Protection::EXECUTE, libc::PROT_EXEC),
    ];
    pairs
        .iter()
        .filter(|(p, _)| access.contains(*p))
        .fold(0, |bits, (_, b)| bits | *b as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use platform_api::Backing;

    fn map(file: &Arc<OwnedFd>, addr: u64, len: u64, offset: u64) -> Op {
        let backing = Backing {
            file: file.clone(),
            offset,
        };
        Op::Map {
            addr,
            len,
            backing,
            access: Protection::READ,
        }
    }

    #[test]
    fn neighbouring_maps_become_one_call() {
        let file = Arc::new(OwnedFd::from(std::fs::File::open("/dev/null").unwrap()));
        let (mut queue, mut coverage) = (Queue::default(), Coverage::default());
        assert!(!queue.push(&map(&file, 0x10000, 0x1000, 0), &mut coverage));
        assert!(!queue.push(&map(&file, 0x11000, 0x2000, 0x1000), &mut coverage));
        assert!(!queue.push(&map(&file, 0x13000, 0x1000, 0x9000), &mut coverage));
        let calls = queue.take();
        assert_eq!(calls.len(), 2);
        assert_eq!(calls[0].range(), (0x10000, 0x3000));
        assert!(calls.iter().all(|c| c._file.is_some()));
    }

    #[test]
    fn protect_skips_holes_and_removals_are_told() {
        let file = Arc::new(OwnedFd::from(std::fs::File::open("/dev/null").unwrap()));
        let (mut queue, mut coverage) = (Queue::default(), Coverage::default());
        queue.push(&map(&file, 0x10000, 0x1000, 0), &mut coverage);
        queue.push(&map(&file, 0x12000, 0x1000, 0), &mut coverage);
        queue.take();
        let none = Protection::empty();
        let op = Op::Protect {
            addr: 0x10000,
            len: 0x4000,
            access: none,
        };
        assert!(queue.push(&op, &mut coverage));
        let ranges: Vec<_> = queue.take().iter().map(Call::range).collect();
        assert_eq!(ranges, [(0x10000, 0x1000), (0x12000, 0x1000)]);
        assert!(!queue.push(
            &Op::Unmap {
                addr: 0x20000,
                len: 0x1000
            },
            &mut coverage
        ));
        assert!(queue.is_empty());
        assert!(queue.push(&map(&file, 0x10000, 0x1000, 0), &mut coverage));
    }

    #[test]
    fn addresses_beyond_the_guests_are_refused() {
        let at = |addr, len| check(&Op::Unmap { addr, len });
        assert!(at(0x10000, 0x1000).is_ok());
        assert!(at(STUB_BASE - 0x1000, 0x1000).is_ok());
        assert!(at(STUB_BASE - 0x1000, 0x2000).is_err());
        assert!(at(0, 0x1000).is_err());
        assert!(at(0x10001, 0x1000).is_err());
        assert!(at(0x10000, 0).is_err());
        assert!(at(!0xfff, 0x2000).is_err());
    }
}
