//! Leaf entries of page tables: what a page, small or large, is to the guest.
//!
//! Accessed and dirty bits are set from the start, so that the CPU writes to no table. A mapping
//! without any access stays in its table as an entry that is not present, with its address
//! inverted, as Linux does it, so that no CPU speculates on it.

use crate::layout::{ENTRIES, PAGE};
use platform_api::Protection;

pub(crate) const PRESENT: u64 = 1;
pub(crate) const WRITE: u64 = 1 << 1;
pub(crate) const USER: u64 = 1 << 2;
pub(crate) const ACCESSED: u64 = 1 << 5;
pub(crate) const DIRTY: u64 = 1 << 6;
/// In an entry one level above the lowest: of a large page, present or not.
pub(crate) const LARGE: u64 = 1 << 7;
pub(crate) const NO_EXECUTE: u64 = 1 << 63;
/// Ours, in entries that are not present: there is a mapping.
const PARKED: u64 = 1 << 9;
/// Ours, in parked ones: the rest of the entry is as it was, but there is nothing behind it.
const DEAD: u64 = 1 << 10;
pub(crate) const ADDRESS: u64 = 0x000f_ffff_ffff_f000;

/// A leaf entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry(pub(crate) u64);

impl Entry {
    /// For a page with what the guest may do.
    pub(crate) fn new(phys: u64, access: Protection) -> Entry {
        if access.is_empty() {
            return Entry(!phys & ADDRESS | PARKED);
        }
        let mut bits = phys | PRESENT | USER | ACCESSED | DIRTY;
        if access.contains(Protection::WRITE) {
            bits |= WRITE;
        }
        if !access.contains(Protection::EXECUTE) {
            bits |= NO_EXECUTE;
        }
        Entry(bits)
    }

    /// For a large page.
    pub(crate) fn large(phys: u64, access: Protection) -> Entry {
        Entry(Entry::new(phys, access).0 | LARGE)
    }

    /// Whether it is one of a large page.
    #[inline]
    pub(crate) fn is_large(self) -> bool {
        self.0 & LARGE != 0
    }

    /// Whether the guest can store to it.
    pub(crate) fn is_writable(self) -> bool {
        self.0 & (PRESENT | WRITE) == PRESENT | WRITE
    }

    /// How many small pages it is.
    #[inline]
    pub(crate) fn pages(self) -> u64 {
        if self.is_large() { ENTRIES } else { 1 }
    }

    /// The same page with other access.
    pub(crate) fn with(self, access: Protection) -> Entry {
        match self.phys() {
            Some(phys) => Entry(Entry::new(phys, access).0 | self.0 & LARGE),
            None => self,
        }
    }

    /// A small page of a large one; of a small one, itself.
    pub(crate) fn part(self, index: u64) -> Entry {
        let Some(phys) = self.phys().filter(|_| self.is_large()) else {
            return self;
        };
        let phys = phys + index * PAGE;
        let at = if self.0 & PRESENT == 0 { !phys } else { phys };
        Entry(self.0 & !(ADDRESS | LARGE) | at & ADDRESS)
    }

    /// The physical page that is mapped, accessible or not.
    #[inline]
    pub(crate) fn phys(self) -> Option<u64> {
        match self.0 & (PRESENT | PARKED) {
            0 => None,
            PARKED => Some(!self.0 & ADDRESS),
            _ => Some(self.0 & ADDRESS),
        }
    }

    /// Nothing is behind it any more.
    pub(crate) fn dead(self) -> Entry {
        if self.0 & PRESENT == 0 {
            return self;
        }
        Entry(self.0 & !(PRESENT | ADDRESS) | !self.0 & ADDRESS | PARKED | DEAD)
    }

    /// As it was before [`Entry::dead`].
    pub(crate) fn revived(self) -> Option<Entry> {
        let whole = self.0 & !(PARKED | DEAD | ADDRESS) | !self.0 & ADDRESS | PRESENT;
        (self.0 & DEAD != 0).then_some(Entry(whole))
    }

    /// Whether something that the guest could do with it before it can't do as of `new`.
    pub(crate) fn lessens(self, new: Entry) -> bool {
        self.0 & PRESENT != 0
            && (new.0 & PRESENT == 0
                || (self.0 ^ new.0) & ADDRESS != 0
                || self.0 & !new.0 & WRITE != 0
                || new.0 & !self.0 & NO_EXECUTE != 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_keep_their_page_whatever_the_access() {
        for access in 0..8 {
            let access = Protection::from_bits_retain(access);
            let entry = Entry::new(0x1234_5000, access);
            assert_eq!(entry.phys(), Some(0x1234_5000));
            assert_eq!(entry.0 & PRESENT == 0, access.is_empty());
            if access.is_empty() {
                assert_eq!(entry.dead(), entry);
                continue;
            }
            let dead = entry.dead();
            assert_eq!((dead.phys(), dead.0 & PRESENT), (Some(0x1234_5000), 0));
            assert_eq!((dead.revived(), entry.revived()), (Some(entry), None));
        }
        assert_eq!(Entry(0).phys(), None);
    }

    #[test]
    fn a_large_page_is_its_small_ones() {
        let phys = 0x1_2340_0000;
        for access in 0..8 {
            let access = Protection::from_bits_retain(access);
            let whole = Entry::large(phys, access);
            assert!(whole.is_large());
            assert_eq!((whole.phys(), whole.pages()), (Some(phys), ENTRIES));
            for index in [0, 1, 255, 511] {
                let small = Entry::new(phys + index * PAGE, access);
                assert_eq!(whole.part(index), small);
                assert_eq!(whole.dead().part(index), small.dead());
                assert_eq!((small.part(index), small.pages()), (small, 1));
            }
            for other in 0..8 {
                let other = Protection::from_bits_retain(other);
                assert_eq!(whole.with(other), Entry::large(phys, other));
                assert_eq!(whole.part(7).with(other), whole.with(other).part(7));
            }
        }
    }

    #[test]
    fn what_takes_rights_is_known() {
        let page = |phys, access| Entry::new(phys, access);
        let (r, rw) = (Protection::READ, Protection::READ | Protection::WRITE);
        let rx = Protection::READ | Protection::EXECUTE;
        for (old, new, takes) in [
            (page(0x1000, r), page(0x1000, rw), false),
            (page(0x1000, rw), page(0x1000, r), true),
            (page(0x1000, rx), page(0x1000, r), true),
            (page(0x1000, r), page(0x1000, rx), false),
            (page(0x1000, r), page(0x2000, r), true),
            (page(0x1000, r), Entry(0), true),
            (page(0x1000, r), page(0x1000, Protection::empty()), true),
            (page(0x1000, Protection::empty()), page(0x1000, r), false),
            (Entry(0), page(0x1000, rw), false),
        ] {
            assert_eq!(old.lessens(new), takes, "{old:x?} {new:x?}");
        }
    }
}
