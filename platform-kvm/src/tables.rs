//! A space's page tables: four levels, of which the guest's half is edited here.
//!
//! Accessed and dirty bits are set from the start, so that the CPU writes to no table. A mapping
//! without any access stays in its table as an entry that is not present, with its address
//! inverted, as Linux does it, so that no CPU speculates on it.

use crate::arena::{Arena, Page};
use crate::layout::{ENTRIES, KERNEL_ENTRY, PAGE};
use platform_api::Protection;
use std::io;
use std::sync::atomic::Ordering;

pub(crate) const PRESENT: u64 = 1;
pub(crate) const WRITE: u64 = 1 << 1;
pub(crate) const USER: u64 = 1 << 2;
pub(crate) const ACCESSED: u64 = 1 << 5;
pub(crate) const DIRTY: u64 = 1 << 6;
pub(crate) const LARGE: u64 = 1 << 7;
pub(crate) const NO_EXECUTE: u64 = 1 << 63;
/// Ours, in entries that are not present: there is a mapping.
const PARKED: u64 = 1 << 9;
/// Ours, in parked ones: the rest of the entry is as it was, but there is nothing behind it.
const DEAD: u64 = 1 << 10;
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;

/// Bytes that a table of leaves maps.
const LEAF_SPAN: u64 = PAGE * ENTRIES;
/// Entries of the root for the guest's half.
const GUEST_ENTRIES: u64 = ENTRIES / 2;

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
    fn lessens(self, new: Entry) -> bool {
        self.0 & PRESENT != 0
            && (new.0 & PRESENT == 0
                || (self.0 ^ new.0) & ADDRESS != 0
                || self.0 & !new.0 & WRITE != 0
                || new.0 & !self.0 & NO_EXECUTE != 0)
    }
}

/// Something that the guest's own code has to store to, so that a host which keeps copies of
/// tables looks at it again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Touch {
    /// All of a table.
    Table(Page),
    /// One entry.
    Entry(Page, u64),
}

impl Touch {
    /// The table.
    pub(crate) fn table(self) -> Page {
        match self {
            Touch::Table(page) | Touch::Entry(page, _) => page,
        }
    }

    /// The address of the byte to store to. KVM takes a write of one byte that is not the first
    /// of an entry for a sign that the page is no table any more, and drops its whole copy.
    pub(crate) fn addr(self) -> u64 {
        match self {
            Touch::Table(page) => page.virt() + 1,
            Touch::Entry(page, index) => page.virt() + index * 8,
        }
    }
}

/// Up to so many entries of a table are touched one by one.
const SINGLE_MOST: usize = 4;

/// What an edit leaves to be done.
#[derive(Default)]
pub(crate) struct Changes {
    /// Where something was taken.
    pub(crate) touched: Vec<Touch>,
    /// Tables that nothing leads to any more.
    pub(crate) unlinked: Vec<Page>,
    /// Physical pages that are mapped once less: first address and count.
    pub(crate) released: Vec<(u64, u64)>,
}

impl Changes {
    /// Notes that an entry is gone.
    #[inline]
    pub(crate) fn release(&mut self, old: Entry) {
        let Some(phys) = old.phys() else { return };
        match self.released.last_mut() {
            Some((first, count)) if *first + *count * PAGE == phys => *count += 1,
            _ => self.released.push((phys, 1)),
        }
    }
}

/// Index of `addr` in a table of a level; leaves are level 0.
#[inline]
fn index(addr: u64, level: u32) -> u64 {
    addr >> (12 + 9 * level) & (ENTRIES - 1)
}

/// The tables of one space.
pub(crate) struct Tables {
    root: Page,
}

impl Tables {
    /// With nothing in the guest's half; `kernel` is the table of our own entry.
    pub(crate) fn new(arena: &Arena, kernel: Page) -> io::Result<Tables> {
        let root = arena.allocate()?;
        let entry = kernel.phys() | PRESENT | WRITE | USER | ACCESSED;
        arena
            .word(root, KERNEL_ENTRY)
            .store(entry, Ordering::Release);
        Ok(Tables { root })
    }

    /// The root.
    pub(crate) fn root(&self) -> Page {
        self.root
    }

    /// The table of leaves for `addr`, or how many levels up there is none.
    fn leaves(&self, arena: &Arena, addr: u64) -> Result<Page, u32> {
        let mut table = self.root;
        for level in (1..4).rev() {
            let entry = arena
                .word(table, index(addr, level))
                .load(Ordering::Relaxed);
            if entry & PRESENT == 0 {
                return Err(level);
            }
            table = Page::at(entry & ADDRESS);
        }
        Ok(table)
    }

    fn make_leaves(&self, arena: &Arena, addr: u64) -> io::Result<Page> {
        let mut table = self.root;
        for level in (1..4).rev() {
            table = child(arena, table, index(addr, level))?;
        }
        Ok(table)
    }

    /// The entry for `addr`.
    pub(crate) fn entry(&self, arena: &Arena, addr: u64) -> Entry {
        match self.leaves(arena, addr) {
            Ok(table) => Entry(arena.word(table, index(addr, 0)).load(Ordering::Relaxed)),
            Err(_) => Entry(0),
        }
    }

    /// Sets the entries of `start..end`, all of them, to what `new` makes of address and old one.
    pub(crate) fn fill(
        &self,
        arena: &Arena,
        start: u64,
        end: u64,
        changes: &mut Changes,
        mut new: impl FnMut(u64, Entry, &mut Changes) -> Entry,
    ) -> io::Result<()> {
        let mut at = start;
        while at < end {
            let stop = (at | (LEAF_SPAN - 1)).wrapping_add(1).min(end);
            let table = self.make_leaves(arena, at)?;
            edit(arena, table, at, stop, changes, &mut new);
            at = stop;
        }
        Ok(())
    }

    /// As [`Tables::fill`], but only those entries in which there is something.
    pub(crate) fn update(
        &self,
        arena: &Arena,
        start: u64,
        end: u64,
        changes: &mut Changes,
        mut new: impl FnMut(u64, Entry, &mut Changes) -> Entry,
    ) {
        let mut at = start;
        while at < end {
            match self.leaves(arena, at) {
                Err(level) => at = (at | ((LEAF_SPAN << (9 * (level - 1))) - 1)) + 1,
                Ok(table) => {
                    let stop = ((at | (LEAF_SPAN - 1)) + 1).min(end);
                    edit(arena, table, at, stop, changes, |addr, old, changes| {
                        if old.0 == 0 {
                            old
                        } else {
                            new(addr, old, changes)
                        }
                    });
                    at = stop;
                }
            }
        }
    }

    /// Removes what is in `start..end`, with the tables that are of no more use.
    pub(crate) fn clear(&self, arena: &Arena, start: u64, end: u64, changes: &mut Changes) {
        self.update(arena, start, end, changes, |_, old, changes| {
            changes.release(old);
            Entry(0)
        });
        let mut at = start.next_multiple_of(LEAF_SPAN);
        while at + LEAF_SPAN <= end {
            match self.leaves(arena, at) {
                Err(level) => at = (at | ((LEAF_SPAN << (9 * (level - 1))) - 1)) + 1,
                Ok(leaves) => {
                    self.unlink(arena, at, leaves, changes);
                    at += LEAF_SPAN;
                }
            }
        }
    }

    fn unlink(&self, arena: &Arena, addr: u64, leaves: Page, changes: &mut Changes) {
        let mut table = self.root;
        for level in [3, 2] {
            let entry = arena
                .word(table, index(addr, level))
                .load(Ordering::Relaxed);
            table = Page::at(entry & ADDRESS);
        }
        arena
            .word(table, index(addr, 1))
            .store(0, Ordering::Release);
        changes.touched.push(Touch::Entry(table, index(addr, 1)));
        changes.unlinked.push(leaves);
    }

    /// A copy of the guest's half for another space. Each page that is mapped is handed to
    /// `mapped`, in runs.
    pub(crate) fn copy_to(
        &self,
        arena: &Arena,
        to: &Tables,
        mapped: &mut impl FnMut(u64, u64),
    ) -> io::Result<()> {
        copy(arena, self.root, to.root, 3, mapped)
    }

    /// Removes the guest's half, tables and all.
    pub(crate) fn destroy(&self, arena: &Arena, changes: &mut Changes) {
        destroy(arena, self.root, 3, changes);
    }
}

/// The table behind an entry, made if there is none.
fn child(arena: &Arena, table: Page, index: u64) -> io::Result<Page> {
    let word = arena.word(table, index);
    let entry = word.load(Ordering::Relaxed);
    if entry & PRESENT != 0 {
        return Ok(Page::at(entry & ADDRESS));
    }
    let page = arena.allocate()?;
    let entry = page.phys() | PRESENT | WRITE | USER | ACCESSED;
    word.store(entry, Ordering::Release);
    Ok(page)
}

fn edit(
    arena: &Arena,
    table: Page,
    start: u64,
    end: u64,
    changes: &mut Changes,
    mut new: impl FnMut(u64, Entry, &mut Changes) -> Entry,
) {
    let before = changes.touched.len();
    let mut whole = false;
    for addr in (start..end).step_by(PAGE as usize) {
        let index = index(addr, 0);
        let word = arena.word(table, index);
        let old = Entry(word.load(Ordering::Relaxed));
        let now = new(addr, old, changes);
        if now != old {
            word.store(now.0, Ordering::Release);
            if !whole && old.lessens(now) {
                changes.touched.push(Touch::Entry(table, index));
                whole = changes.touched.len() - before > SINGLE_MOST;
            }
        }
    }
    if whole {
        changes.touched.truncate(before);
        changes.touched.push(Touch::Table(table));
    }
}

/// Entries of a table that are the guest's.
fn guest_entries(level: u32) -> u64 {
    if level == 3 { GUEST_ENTRIES } else { ENTRIES }
}

fn copy(
    arena: &Arena,
    from: Page,
    to: Page,
    level: u32,
    mapped: &mut impl FnMut(u64, u64),
) -> io::Result<()> {
    let mut run = (0, 0);
    for i in 0..guest_entries(level) {
        let entry = arena.word(from, i).load(Ordering::Relaxed);
        if entry == 0 {
            continue;
        }
        if level > 0 {
            let below = child(arena, to, i)?;
            copy(arena, Page::at(entry & ADDRESS), below, level - 1, mapped)?;
            continue;
        }
        arena.word(to, i).store(entry, Ordering::Release);
        if let Some(phys) = Entry(entry).phys() {
            if run.0 + run.1 * PAGE != phys {
                mapped(run.0, run.1);
                run = (phys, 0);
            }
            run.1 += 1;
        }
    }
    mapped(run.0, run.1);
    Ok(())
}

fn destroy(arena: &Arena, table: Page, level: u32, changes: &mut Changes) {
    for i in 0..guest_entries(level) {
        let word = arena.word(table, i);
        let entry = word.load(Ordering::Relaxed);
        if entry == 0 {
            continue;
        }
        word.store(0, Ordering::Relaxed);
        if level == 0 {
            changes.release(Entry(entry));
        } else {
            let below = Page::at(entry & ADDRESS);
            destroy(arena, below, level - 1, changes);
            changes.unlinked.push(below);
        }
    }
    changes.touched.push(Touch::Table(table));
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
