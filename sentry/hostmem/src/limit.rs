//! The memory limit, and what happens at it and when the host has no memory left.

use crate::{Frames, MemoryFile};
use abi::Errno;
use abi::page::PAGE_SIZE;
use std::sync::atomic::Ordering;
use std::sync::{PoisonError, Weak};
use std::time::Duration;

/// The largest stretch handed out at once is this part of what is left.
const SHARE: u64 = 8;
/// Less than this is handed out page by page.
const SMALL: u64 = 64 << 10;
/// What was handed out and never touched is taken back in so many pieces at most, as each can be
/// one mapping of the host's more.
const PIECES: u64 = 16 << 10;
/// How long one waits for memory of somebody who has been told to go, before one looks again.
const PATIENCE: Duration = Duration::from_millis(100);
/// Rounds after which it is given up: somebody goes in each, or is waited for.
const ROUNDS: u32 = 100;

/// Who goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Victim {
    /// Who asked: the process this thread works for.
    Asker,
    /// Somebody else, whose memory comes free soon.
    Other,
    /// There is nobody who may be made to go.
    Nobody,
}

/// Who can make memory free: the kernel above.
pub trait Relief: Send + Sync {
    /// Takes back what was handed out and never touched, in pieces of at least `smallest` bytes.
    fn trim(&self, smallest: u64);

    /// Makes somebody go, or names who is on the way already.
    fn make_go(&self) -> Victim;
}

impl MemoryFile {
    /// Sets the limit, before anything is handed out, and who makes room at it.
    pub fn set_limit(&self, bytes: Option<u64>, relief: Weak<dyn Relief>) {
        let _ = self.relief.set(relief);
        if let Some(limit) = bytes {
            self.allocator.lock().account.set_limit(limit);
            self.limit.store(limit, Ordering::Relaxed);
            self.share_out(limit);
        }
    }

    /// Changes the limit of memory that is in use. Call it without locks.
    ///
    /// # Errors
    /// How many bytes are in use, where that is more.
    pub fn change_limit(&self, bytes: Option<u64>) -> Result<(), u64> {
        let limit = bytes.unwrap_or(u64::MAX);
        let used = self.usage();
        if used > limit {
            return Err(used);
        }
        // In this order: who still sees no limit got his frames before they are counted here.
        self.limit.store(limit, Ordering::SeqCst);
        {
            let mut allocator = self.allocator.lock();
            let counted = allocator.account.is_limited();
            allocator.account.set_limit(limit);
            if !counted {
                allocator.charge_all();
            }
        }
        self.untrimmed.store(0, Ordering::Relaxed);
        let (_, slack) = self.measure();
        self.take_back(slack);
        Ok(())
    }

    /// The limit, in bytes; `u64::MAX` is none.
    pub fn limit(&self) -> u64 {
        self.limit.load(Ordering::Relaxed)
    }

    /// The longest stretch that should be handed out at once: all there is far from the limit,
    /// little near it.
    #[inline]
    pub fn largest_grant(&self) -> u64 {
        self.largest.load(Ordering::Relaxed)
    }

    fn share_out(&self, room: u64) {
        let share = (room / SHARE) & !(SMALL - 1);
        self.largest.store(share.max(PAGE_SIZE), Ordering::Relaxed);
    }

    /// Measures what exists; how much room that leaves, and how much is handed out and unused.
    fn measure(&self) -> (u64, u64) {
        let usage = self.usage();
        let (room, slack) = {
            let mut allocator = self.allocator.lock();
            allocator.account.measured(usage);
            (allocator.account.room(), allocator.account.slack())
        };
        self.share_out(room);
        (room, slack)
    }

    /// Takes back what was handed out and never touched, where that is much: it could come into
    /// being at any time, and we would not be asked. How much room there is then.
    fn take_back(&self, slack: u64) -> Option<u64> {
        let limit = self.limit();
        if slack
            <= self
                .untrimmed
                .load(Ordering::Relaxed)
                .saturating_add(limit / SHARE)
        {
            return None;
        }
        let relief = self.relief.get().and_then(Weak::upgrade)?;
        relief.trim((limit / PIECES).max(SMALL) & !(PAGE_SIZE - 1));
        let (room, slack) = self.measure();
        self.untrimmed.store(slack, Ordering::Relaxed);
        Some(room)
    }

    /// Makes room for `bytes` after [`Frames::charge`] had none: by measuring, then by taking
    /// back what was never touched, then by making somebody go. Call it without locks.
    ///
    /// # Errors
    /// `ENOMEM` when it is the asker who must go, or nobody can.
    pub fn make_room(&self, bytes: u64) -> Result<(), Errno> {
        let (room, slack) = self.measure();
        let room = self.take_back(slack).unwrap_or(room);
        if room >= bytes {
            return Ok(());
        }
        let relief = self.relief.get().and_then(Weak::upgrade);
        let relief = relief.ok_or(Errno::ENOMEM)?;
        for _ in 0..ROUNDS {
            match relief.make_go() {
                Victim::Other => self.wait_for_release(),
                Victim::Asker | Victim::Nobody => return Err(Errno::ENOMEM),
            }
            if self.measure().0 >= bytes {
                return Ok(());
            }
        }
        Err(Errno::ENOMEM)
    }

    /// The host had no page for us. Makes somebody go; when this comes back well, one may try
    /// again. Call it without locks.
    ///
    /// # Errors
    /// `ENOMEM` when it is the asker who must go, or nobody can.
    pub fn host_exhausted(&self) -> Result<(), Errno> {
        let relief = self.relief.get().and_then(Weak::upgrade);
        match relief.map_or(Victim::Nobody, |r| r.make_go()) {
            Victim::Other => {
                self.wait_for_release();
                Ok(())
            }
            Victim::Asker | Victim::Nobody => Err(Errno::ENOMEM),
        }
    }

    fn wait_for_release(&self) {
        let (count, changed) = &self.starving;
        let mut waiting = count.lock().unwrap_or_else(PoisonError::into_inner);
        *waiting += 1;
        self.any_starving.store(true, Ordering::SeqCst);
        let (mut waiting, _) = changed
            .wait_timeout(waiting, PATIENCE)
            .unwrap_or_else(PoisonError::into_inner);
        *waiting -= 1;
        self.any_starving.store(*waiting > 0, Ordering::SeqCst);
    }

    /// Pages have gone back to the host.
    pub(crate) fn released(&self) {
        if self.any_starving.load(Ordering::SeqCst) {
            let (count, changed) = &self.starving;
            drop(count.lock().unwrap_or_else(PoisonError::into_inner));
            changed.notify_all();
        }
    }
}

impl Frames {
    /// Counts a part against the memory limit, before it is touched or mapped where it can be;
    /// what is counted already is not counted twice. It is no more once the frames are gone.
    ///
    /// # Errors
    /// `ENOMEM` when the limit leaves no room: see [`MemoryFile::make_room`].
    pub fn charge(&self, offset: u64, len: u64) -> Result<(), Errno> {
        let memory = self.memory();
        if memory.limit() == u64::MAX {
            return Ok(());
        }
        let range = self.sub(offset, len)?;
        match memory.allocator.lock().charge(range) {
            true => Ok(()),
            false => Err(Errno::ENOMEM),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Placement;
    use std::sync::atomic::AtomicU32;
    use std::sync::{Arc, Mutex};

    const P: u64 = PAGE_SIZE;

    /// Has frames to let go of, and then nothing more.
    #[derive(Default)]
    struct Holder {
        frames: Mutex<Option<Frames>>,
        trims: AtomicU32,
    }

    impl Relief for Holder {
        fn trim(&self, _smallest: u64) {
            self.trims.fetch_add(1, Ordering::Relaxed);
        }
        fn make_go(&self) -> Victim {
            match self.frames.lock().unwrap().take() {
                Some(_gone) => Victim::Other,
                None => Victim::Nobody,
            }
        }
    }

    fn limited(pages: u64) -> (Arc<MemoryFile>, Arc<Holder>) {
        let memory = MemoryFile::new().unwrap();
        let holder = Arc::new(Holder::default());
        let relief: Weak<Holder> = Arc::downgrade(&holder);
        memory.set_limit(Some(pages * P), relief);
        (memory, holder)
    }

    #[test]
    fn charges_are_counted_once_and_go_with_the_frames() {
        let (memory, _holder) = limited(100);
        let f = memory.allocate(64 * P, Placement::Anywhere).unwrap();
        f.charge(0, 64 * P).unwrap();
        f.charge(10 * P, 20 * P).unwrap();
        let g = memory.allocate(64 * P, Placement::Anywhere).unwrap();
        assert_eq!(g.charge(0, 64 * P), Err(Errno::ENOMEM));
        g.charge(0, 36 * P).unwrap();
        assert_eq!(g.charge(36 * P, P), Err(Errno::ENOMEM));
        let other = f.clone();
        drop(f);
        assert_eq!(g.charge(36 * P, P), Err(Errno::ENOMEM));
        drop(other);
        g.charge(0, 64 * P).unwrap();
    }

    #[test]
    fn what_was_never_touched_can_be_handed_out_again() {
        let (memory, holder) = limited(100);
        let f = memory.allocate(100 * P, Placement::Anywhere).unwrap();
        f.charge(0, 100 * P).unwrap();
        f.write(0, &[1; 30 * 4096]).unwrap();
        let g = memory.allocate(80 * P, Placement::Anywhere).unwrap();
        assert_eq!(g.charge(0, 50 * P), Err(Errno::ENOMEM));
        memory.make_room(50 * P).unwrap();
        assert_eq!(holder.trims.load(Ordering::Relaxed), 1);
        g.charge(0, 70 * P).unwrap();
        assert!(memory.make_room(81 * P).is_err());
    }

    #[test]
    fn somebody_goes_when_all_is_used() {
        let (memory, holder) = limited(64);
        let f = memory.allocate(64 * P, Placement::Anywhere).unwrap();
        f.charge(0, 64 * P).unwrap();
        f.write(0, &[1; 64 * 4096]).unwrap();
        *holder.frames.lock().unwrap() = Some(f);
        let g = memory.allocate(64 * P, Placement::Anywhere).unwrap();
        assert!(g.charge(0, P).is_err());
        memory.make_room(64 * P).unwrap();
        g.charge(0, 64 * P).unwrap();
        g.write(0, &[1; 64 * 4096]).unwrap();
        assert_eq!(memory.make_room(P), Err(Errno::ENOMEM));
    }

    #[test]
    fn a_limit_comes_later_and_counts_what_was_handed_out_before() {
        let memory = MemoryFile::new().unwrap();
        let holder = Arc::new(Holder::default());
        let relief: Weak<Holder> = Arc::downgrade(&holder);
        memory.set_limit(None, relief);
        let f = memory.allocate(100 * P, Placement::Anywhere).unwrap();
        f.charge(0, 100 * P).unwrap();
        f.write(0, &[1; 30 * 4096]).unwrap();
        assert_eq!(memory.change_limit(Some(20 * P)), Err(30 * P));
        assert_eq!(memory.limit(), u64::MAX);
        memory.change_limit(Some(40 * P)).unwrap();
        // What it has and never touched could come into being, and is to be given back.
        assert_eq!(holder.trims.load(Ordering::Relaxed), 1);
        let g = memory.allocate(64 * P, Placement::Anywhere).unwrap();
        g.charge(0, 10 * P).unwrap();
        assert_eq!(g.charge(10 * P, P), Err(Errno::ENOMEM));
        // Else it would be measured as not there.
        g.write(0, &[1; 10 * 4096]).unwrap();
        memory.change_limit(Some(50 * P)).unwrap();
        g.charge(10 * P, 10 * P).unwrap();
        assert_eq!(g.charge(20 * P, P), Err(Errno::ENOMEM));
        memory.change_limit(None).unwrap();
        assert!(memory.largest_grant() > 1 << 40);
        g.charge(0, 64 * P).unwrap();
        drop(f);
        memory.change_limit(Some(64 * P)).unwrap();
        g.charge(0, 64 * P).unwrap();
    }

    #[test]
    fn stretches_become_short_near_the_limit() {
        let (memory, _holder) = limited(1 << 16);
        assert_eq!(memory.largest_grant(), (1 << 16) * P / SHARE);
        let f = memory.allocate((1 << 16) * P, Placement::Roomy).unwrap();
        f.charge(0, f.len()).unwrap();
        for page in (0..1 << 16).step_by(1) {
            f.write(page * P, &[1]).unwrap();
        }
        let _ = memory.make_room(P);
        assert_eq!(memory.largest_grant(), P);
    }
}
