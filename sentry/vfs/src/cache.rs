//! Which unused dentries are kept: a fixed number, by the clock algorithm.
//!
//! A hit costs one relaxed load (`Dentry::used`); the lock is taken when a dentry comes or goes.

use crate::Dentry;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use sync::{Mutex, ranks};

/// Dentries kept, at most.
const CAPACITY: usize = 16 * 1024;
/// Steps of the hand that look for an unused one before the next is taken anyway.
const STEPS: usize = 64;
/// `Dentry::slot` of a dentry that is not kept.
pub(crate) const NO_SLOT: u32 = u32::MAX;

struct Clock {
    slots: Vec<Option<Arc<Dentry>>>,
    free: Vec<u32>,
    hand: usize,
}

static CLOCK: Mutex<Clock, ranks::DentryCache> = Mutex::new(Clock {
    slots: Vec::new(),
    free: Vec::new(),
    hand: 0,
});

/// Keeps `dentry` for a while, in the place of one that was not used lately.
pub(crate) fn keep(dentry: &Arc<Dentry>) {
    let evicted = CLOCK.lock().insert(dentry.clone());
    if let Some(old) = evicted {
        let (parent, name) = old.parent_and_name();
        drop(old);
        if let Some(parent) = parent {
            parent.sweep_name(&name);
        }
    }
}

/// How many are kept.
pub fn cached_dentries() -> usize {
    let clock = CLOCK.lock();
    clock.slots.len() - clock.free.len()
}

/// Keeps `dentry` no longer.
pub(crate) fn forget(dentry: &Arc<Dentry>) {
    let mut clock = CLOCK.lock();
    let slot = dentry.slot.swap(NO_SLOT, Ordering::Relaxed);
    let gone = clock.slots.get_mut(slot as usize).and_then(Option::take);
    if gone.is_some() {
        clock.free.push(slot);
    }
    drop(clock);
    drop(gone);
}

/// Keeps nothing of the file system with this root any more.
pub(crate) fn forget_tree(tree: u64) {
    let mut gone = Vec::new();
    let mut clock = CLOCK.lock();
    let Clock { slots, free, .. } = &mut *clock;
    for (slot, place) in slots.iter_mut().enumerate() {
        if let Some(d) = place.take_if(|d| d.tree() == tree) {
            d.slot.store(NO_SLOT, Ordering::Relaxed);
            free.push(slot as u32);
            gone.push(d);
        }
    }
    drop(clock);
    drop(gone);
}

impl Clock {
    fn insert(&mut self, dentry: Arc<Dentry>) -> Option<Arc<Dentry>> {
        if let Some(slot) = self.free.pop() {
            dentry.slot.store(slot, Ordering::Relaxed);
            if let Some(place) = self.slots.get_mut(slot as usize) {
                *place = Some(dentry);
            }
            return None;
        }
        if self.slots.len() < CAPACITY {
            dentry
                .slot
                .store(self.slots.len() as u32, Ordering::Relaxed);
            self.slots.push(Some(dentry));
            return None;
        }
        for _ in 0..STEPS {
            self.hand = (self.hand + 1) % CAPACITY;
            let used = self.slots[self.hand]
                .as_ref()
                .is_some_and(|d| d.used.swap(false, Ordering::Relaxed));
            if !used {
                break;
            }
        }
        dentry.slot.store(self.hand as u32, Ordering::Relaxed);
        let old = self.slots[self.hand].replace(dentry);
        if let Some(old) = &old {
            old.slot.store(NO_SLOT, Ordering::Relaxed);
        }
        old
    }
}
