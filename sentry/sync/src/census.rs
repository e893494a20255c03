//! How many objects of a kind there are, so that what is never freed shows.
//!
//! An object that others may keep alive for ever carries a [`Counted`]. It is not for what is made
//! on a hot path: each costs two additions to a word that all threads share.

use std::sync::atomic::{AtomicUsize, Ordering};

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Tasks.
    Task,
    /// Thread groups.
    ThreadGroup,
    /// Address spaces.
    AddressSpace,
    /// Open file descriptions.
    OpenFile,
    /// Names that are known of file systems.
    Dentry,
    /// Sockets.
    Socket,
}

const KINDS: usize = Kind::Socket as usize + 1;

static ALIVE: [AtomicUsize; KINDS] = [const { AtomicUsize::new(0) }; KINDS];

/// How many there are in this process.
pub fn alive(kind: Kind) -> usize {
    ALIVE
        .get(kind as usize)
        .map_or(0, |n| n.load(Ordering::Relaxed))
}

/// Counts what it is part of while that is there.
#[derive(Debug)]
pub struct Counted(Kind);

impl Counted {
    /// One more.
    pub fn new(kind: Kind) -> Counted {
        if let Some(n) = ALIVE.get(kind as usize) {
            n.fetch_add(1, Ordering::Relaxed);
        }
        Counted(kind)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        if let Some(n) = ALIVE.get(self.0 as usize) {
            n.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_there_is_counted() {
        let some: Vec<_> = (0..3).map(|_| Counted::new(Kind::Socket)).collect();
        assert_eq!((alive(Kind::Socket), alive(Kind::Dentry)), (3, 0));
        drop(some);
        assert_eq!(alive(Kind::Socket), 0);
    }
}
