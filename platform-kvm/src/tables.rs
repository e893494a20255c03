//! A space's page tables: four levels, of which the guest's half is edited here.
//!
//! Where two megabytes of addresses have one piece of physical memory behind them, aligned alike, a
//! large page maps them. It is taken apart when something of it becomes different from the rest,
//! and not put together again by itself: hosts that keep copies of tables would lose all they know
//! of it.

use crate::arena::{Arena, Page};
use crate::layout::{ENTRIES, KERNEL_ENTRY, PAGE};
use crate::leaf::{ACCESSED, ADDRESS, Entry, PRESENT, USER, WRITE};
use platform_api::Protection;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes that a table of leaves maps, or a large page.
pub(crate) const LEAF_SPAN: u64 = PAGE * ENTRIES;
/// Entries of the root for the guest's half.
const GUEST_ENTRIES: u64 = ENTRIES / 2;

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
    /// Where a large page had to go as a whole, for want of a table for its parts.
    pub(crate) lost: Vec<u64>,
}

impl Changes {
    /// Notes that an entry is gone.
    #[inline]
    pub(crate) fn release(&mut self, old: Entry) {
        note(&mut self.released, old);
    }
}

/// Appends a page to runs of pages: first address and count.
#[inline]
pub(crate) fn note(runs: &mut Vec<(u64, u64)>, entry: Entry) {
    let Some(phys) = entry.phys() else { return };
    let pages = entry.pages();
    match runs.last_mut() {
        Some((first, count)) if *first + *count * PAGE == phys => *count += pages,
        _ => runs.push((phys, pages)),
    }
}

/// Index of `addr` in a table of a level; leaves are level 0, large pages level 1.
#[inline]
fn index(addr: u64, level: u32) -> u64 {
    addr >> (12 + 9 * level) & (ENTRIES - 1)
}

/// The end of what a large page that holds `addr` maps.
#[inline]
fn span_end(addr: u64) -> u64 {
    (addr | (LEAF_SPAN - 1)) + 1
}

/// An entry that leads to a table.
fn pointer(table: Page) -> u64 {
    table.phys() | PRESENT | WRITE | USER | ACCESSED
}

/// Where an entry of level 1 is: one that leads to a table of leaves, or of a large page.
#[derive(Clone, Copy)]
struct Place {
    table: Page,
    index: u64,
}

/// What an entry of level 1 is.
enum Middle {
    Nothing,
    Large(Entry),
    Leaves(Page),
}

impl Place {
    #[inline]
    fn word(self, arena: &Arena) -> &AtomicU64 {
        arena.word(self.table, self.index)
    }

    #[inline]
    fn load(self, arena: &Arena) -> Middle {
        match Entry(self.word(arena).load(Ordering::Relaxed)) {
            Entry(0) => Middle::Nothing,
            large if large.is_large() => Middle::Large(large),
            Entry(table) => Middle::Leaves(Page::at(table & ADDRESS)),
        }
    }

    /// Stores an entry of a large page, or none, where one of a large page, or none, was.
    fn set(self, arena: &Arena, old: Entry, new: Entry, changes: &mut Changes) {
        self.word(arena).store(new.0, Ordering::Release);
        if old.lessens(new) {
            changes.touched.push(Touch::Entry(self.table, self.index));
        }
    }

    /// Puts `new` where a table of leaves was, all of which goes.
    fn unlink(self, arena: &Arena, leaves: Page, new: Entry, changes: &mut Changes) {
        self.word(arena).store(new.0, Ordering::Release);
        for i in 0..ENTRIES {
            let word = arena.word(leaves, i);
            changes.release(Entry(word.load(Ordering::Relaxed)));
            word.store(0, Ordering::Relaxed);
        }
        changes.touched.push(Touch::Entry(self.table, self.index));
        changes.unlinked.push(leaves);
    }

    /// Takes a large page apart; the table of its parts.
    fn split(self, arena: &Arena, old: Entry, changes: &mut Changes) -> io::Result<Page> {
        let leaves = arena.allocate()?;
        for i in 0..ENTRIES {
            let part = old.part(i);
            arena.word(leaves, i).store(part.0, Ordering::Relaxed);
        }
        self.word(arena).store(pointer(leaves), Ordering::Release);
        // The same for the guest, but what is taken of a part later is nothing to a copy of this.
        if old.0 & PRESENT != 0 {
            changes.touched.push(Touch::Entry(self.table, self.index));
        }
        Ok(leaves)
    }
}

/// The tables of one space.
pub(crate) struct Tables {
    root: Page,
}

impl Tables {
    /// With nothing in the guest's half; `kernel` is the table of our own entry.
    pub(crate) fn new(arena: &Arena, kernel: Page) -> io::Result<Tables> {
        let root = arena.allocate()?;
        arena
            .word(root, KERNEL_ENTRY)
            .store(pointer(kernel), Ordering::Release);
        Ok(Tables { root })
    }

    /// The root.
    pub(crate) fn root(&self) -> Page {
        self.root
    }

    /// The entry of level 1 for `addr`; without a table that would hold it, the next address that one
    /// may have an entry for.
    fn place(&self, arena: &Arena, addr: u64) -> Result<Place, u64> {
        let mut table = self.root;
        for level in [3, 2] {
            let entry = arena
                .word(table, index(addr, level))
                .load(Ordering::Relaxed);
            if entry & PRESENT == 0 {
                return Err((addr | ((LEAF_SPAN << (9 * (level - 1))) - 1)) + 1);
            }
            table = Page::at(entry & ADDRESS);
        }
        let index = index(addr, 1);
        Ok(Place { table, index })
    }

    fn make_place(&self, arena: &Arena, addr: u64) -> io::Result<Place> {
        let mut table = self.root;
        for level in [3, 2] {
            table = child(arena, table, index(addr, level))?;
        }
        let index = index(addr, 1);
        Ok(Place { table, index })
    }

    /// The entry for the page at `addr`; within a large page, what it would be by itself.
    pub(crate) fn entry(&self, arena: &Arena, addr: u64) -> Entry {
        let Ok(place) = self.place(arena, addr) else {
            return Entry(0);
        };
        match place.load(arena) {
            Middle::Nothing => Entry(0),
            Middle::Large(entry) => entry.part(index(addr, 0)),
            Middle::Leaves(table) => {
                Entry(arena.word(table, index(addr, 0)).load(Ordering::Relaxed))
            }
        }
    }

    /// Goes through what there is in `start..end`.
    pub(crate) fn each(&self, arena: &Arena, start: u64, end: u64, mut f: impl FnMut(Entry)) {
        let mut at = start;
        while at < end {
            let place = match self.place(arena, at) {
                Ok(place) => place,
                Err(next) => {
                    at = next;
                    continue;
                }
            };
            let stop = span_end(at).min(end);
            match place.load(arena) {
                Middle::Nothing => {}
                Middle::Large(whole) if stop - at == LEAF_SPAN => f(whole),
                _ => (at..stop)
                    .step_by(PAGE as usize)
                    .map(|addr| self.entry(arena, addr))
                    .filter(|entry| *entry != Entry(0))
                    .for_each(&mut f),
            }
            at = stop;
        }
    }

    /// Maps `start..end` to physical memory from `phys` on, in place of what was there.
    ///
    /// # Errors
    /// `ENOMEM` without room for tables. A part may then be mapped; the memory of the rest is
    /// released.
    pub(crate) fn map(
        &self,
        arena: &Arena,
        (start, end): (u64, u64),
        phys: u64,
        access: Protection,
        changes: &mut Changes,
    ) -> io::Result<()> {
        let mut at = start;
        while at < end {
            let stop = span_end(at).min(end);
            let from = phys + (at - start);
            if let Err(e) = self.map_span(arena, (at, stop), from, access, changes) {
                changes.released.push((from, (end - at) / PAGE));
                return Err(e);
            }
            at = stop;
        }
        Ok(())
    }

    /// The part of [`Tables::map`] within one entry of level 1.
    fn map_span(
        &self,
        arena: &Arena,
        (start, end): (u64, u64),
        phys: u64,
        access: Protection,
        changes: &mut Changes,
    ) -> io::Result<()> {
        let place = self.make_place(arena, start)?;
        let there = place.load(arena);
        if end - start == LEAF_SPAN && phys.is_multiple_of(LEAF_SPAN) {
            let new = Entry::large(phys, access);
            match there {
                Middle::Nothing => place.set(arena, Entry(0), new, changes),
                Middle::Large(old) => {
                    changes.release(old);
                    place.set(arena, old, new, changes);
                }
                Middle::Leaves(table) => place.unlink(arena, table, new, changes),
            }
            return Ok(());
        }
        let table = match there {
            Middle::Nothing => child(arena, place.table, place.index)?,
            Middle::Large(old) => place.split(arena, old, changes)?,
            Middle::Leaves(table) => table,
        };
        edit(arena, table, start, end, changes, |addr, old, changes| {
            changes.release(old);
            Entry::new(phys + (addr - start), access)
        });
        Ok(())
    }

    /// Changes the entries in `start..end` in which there is something to what `new` makes of
    /// address and old one. `None` leaves a small page as it is, and has the parts of a large one
    /// looked at instead.
    pub(crate) fn update(
        &self,
        arena: &Arena,
        start: u64,
        end: u64,
        changes: &mut Changes,
        mut new: impl FnMut(u64, Entry, &mut Changes) -> Option<Entry>,
    ) {
        let mut at = start;
        while at < end {
            let place = match self.place(arena, at) {
                Ok(place) => place,
                Err(next) => {
                    at = next;
                    continue;
                }
            };
            let stop = span_end(at).min(end);
            let table = match place.load(arena) {
                Middle::Nothing => None,
                Middle::Leaves(table) => Some(table),
                Middle::Large(old) => {
                    let whole = stop - at == LEAF_SPAN;
                    match whole.then(|| new(at, old, changes)).flatten() {
                        Some(now) => {
                            place.set(arena, old, now, changes);
                            None
                        }
                        None => take_apart(arena, place, at, old, changes),
                    }
                }
            };
            if let Some(table) = table {
                edit(arena, table, at, stop, changes, |addr, old, changes| {
                    let now = (old != Entry(0)).then(|| new(addr, old, changes));
                    now.flatten().unwrap_or(old)
                });
            }
            at = stop;
        }
    }

    /// Removes what is in `start..end`, with the tables that are of no more use.
    pub(crate) fn clear(&self, arena: &Arena, start: u64, end: u64, changes: &mut Changes) {
        let mut at = start.next_multiple_of(LEAF_SPAN);
        while at + LEAF_SPAN <= end {
            match self.place(arena, at) {
                Err(next) => at = next,
                Ok(place) => {
                    if let Middle::Leaves(leaves) = place.load(arena) {
                        place.unlink(arena, leaves, Entry(0), changes);
                    }
                    at += LEAF_SPAN;
                }
            }
        }
        // Large ones, and what is at the edges.
        self.update(arena, start, end, changes, |_, old, changes| {
            changes.release(old);
            Some(Entry(0))
        });
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
    word.store(pointer(page), Ordering::Release);
    Ok(page)
}

/// As [`Place::split`] of the page at `addr`; without room for the table, the page goes instead.
fn take_apart(
    arena: &Arena,
    place: Place,
    addr: u64,
    old: Entry,
    changes: &mut Changes,
) -> Option<Page> {
    let parts = place.split(arena, old, changes).ok();
    if parts.is_none() {
        changes.release(old);
        changes.lost.push(addr & !(LEAF_SPAN - 1));
        place.set(arena, old, Entry(0), changes);
    }
    parts
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

/// Whether an entry of a table of a level is a leaf.
fn is_leaf(level: u32, entry: u64) -> bool {
    level == 0 || Entry(entry).is_large()
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
        if !is_leaf(level, entry) {
            mapped(run.0, run.1);
            run = (0, 0);
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
            run.1 += Entry(entry).pages();
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
        if is_leaf(level, entry) {
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
    use crate::layout::USER_END;
    use kvm_ioctls::Kvm;
    use platform_api::conformance::guest::Random;
    use platform_api::conformance::skip;
    use std::collections::{BTreeMap, HashMap};
    use std::sync::Arc;

    const SPAN: u64 = 8 * LEAF_SPAN;
    const BASE: u64 = 0x7f12_3400_0000;
    const PHYS: u64 = 0x2_0000_0000;
    const R: Protection = Protection::READ;
    const RW: Protection = Protection::READ.union(Protection::WRITE);

    fn arena() -> Option<Arena> {
        let vm = Kvm::new().and_then(|kvm| kvm.create_vm());
        match vm {
            Ok(vm) => Some(Arena::new(&Arc::new(vm)).unwrap()),
            Err(e) => {
                skip(&format!("a machine: {e}"));
                None
            }
        }
    }

    /// A host that keeps what it once read of tables until it is told otherwise.
    #[derive(Default)]
    struct Copies(HashMap<u64, (Entry, Place, Option<Page>)>);

    impl Copies {
        fn read(&mut self, tables: &Tables, arena: &Arena, addr: u64) {
            let Ok(place) = tables.place(arena, addr) else {
                return;
            };
            let leaves = match place.load(arena) {
                Middle::Leaves(table) => Some(table),
                _ => None,
            };
            let entry = tables.entry(arena, addr);
            if entry.0 & PRESENT != 0 {
                self.0.entry(addr).or_insert((entry, place, leaves));
            }
        }

        fn told(&mut self, touch: Touch) {
            self.0.retain(|addr, (_, place, leaves)| match touch {
                Touch::Table(table) => table != place.table && Some(table) != *leaves,
                Touch::Entry(table, at) => {
                    (table, at) != (place.table, place.index)
                        && (Some(table), at) != (*leaves, index(*addr, 0))
                }
            });
        }
    }

    /// Tables beside a map of single pages, and the counts of what is mapped.
    struct Model {
        arena: Arena,
        tables: Tables,
        pages: BTreeMap<u64, Entry>,
        copies: Copies,
        unlinked: usize,
    }

    impl Model {
        fn new(arena: Arena) -> Model {
            let kernel = arena.allocate().unwrap();
            let tables = Tables::new(&arena, kernel).unwrap();
            Model {
                arena,
                tables,
                pages: BTreeMap::new(),
                copies: Copies::default(),
                unlinked: 0,
            }
        }

        fn map(&mut self, addr: u64, len: u64, phys: u64, access: Protection) {
            let mut changes = Changes::default();
            self.tables
                .map(&self.arena, (addr, addr + len), phys, access, &mut changes)
                .unwrap();
            let mut gone = Vec::new();
            for at in (addr..addr + len).step_by(PAGE as usize) {
                let new = Entry::new(phys + at - addr, access);
                gone.extend(self.pages.insert(at, new));
            }
            self.settle(changes, gone);
        }

        fn unmap(&mut self, addr: u64, len: u64) {
            let mut changes = Changes::default();
            self.tables
                .clear(&self.arena, addr, addr + len, &mut changes);
            let rest = self.pages.split_off(&(addr + len));
            let gone = self.pages.split_off(&addr).into_values().collect();
            self.pages.extend(rest);
            self.settle(changes, gone);
        }

        fn protect(&mut self, addr: u64, len: u64, access: Protection) {
            let mut changes = Changes::default();
            let with = |_, old: Entry, _: &mut Changes| Some(old.with(access));
            self.tables
                .update(&self.arena, addr, addr + len, &mut changes, with);
            for (_, entry) in self.pages.range_mut(addr..addr + len) {
                *entry = entry.with(access);
            }
            self.settle(changes, Vec::new());
        }

        /// Holds what was told against what should have been, and the tables against the pages.
        fn settle(&mut self, changes: Changes, gone: Vec<Entry>) {
            let mut released: Vec<u64> = changes
                .released
                .iter()
                .flat_map(|(first, count)| (0..*count).map(move |i| first + i * PAGE))
                .collect();
            let mut expected: Vec<u64> = gone.iter().filter_map(|e| e.phys()).collect();
            released.sort_unstable();
            expected.sort_unstable();
            assert_eq!(released, expected);
            assert_eq!(changes.lost, []);
            let touched = changes.touched.iter().copied();
            let retired = changes.unlinked.iter().map(|page| Touch::Table(*page));
            for touch in touched.chain(retired) {
                self.copies.told(touch);
            }
            self.unlinked += changes.unlinked.len();
            for (addr, (had, ..)) in &self.copies.0 {
                let now = self.tables.entry(&self.arena, *addr);
                assert!(!had.lessens(now), "{addr:x}: {had:x?}, {now:x?}");
            }
            for addr in (BASE..BASE + SPAN).step_by(PAGE as usize) {
                let is = self.tables.entry(&self.arena, addr);
                let should = self.pages.get(&addr).copied().unwrap_or(Entry(0));
                assert_eq!(is, should, "{addr:x}");
            }
        }

        fn is_large(&self, addr: u64) -> bool {
            let place = self.tables.place(&self.arena, addr).unwrap();
            matches!(place.load(&self.arena), Middle::Large(_))
        }
    }

    #[test]
    fn large_pages_are_used_where_everything_is_aligned() {
        let Some(arena) = arena() else { return };
        let mut model = Model::new(arena);
        // From the middle of one span to that of the last.
        model.map(BASE + 0x10_0000, 3 * LEAF_SPAN, PHYS + 0x10_0000, RW);
        let large = |model: &Model| [0, 1, 2, 3].map(|i| model.is_large(BASE + i * LEAF_SPAN));
        assert_eq!(large(&model), [false, true, true, false]);
        model.protect(BASE, SPAN, R);
        assert_eq!(large(&model), [false, true, true, false]);
        model.protect(BASE, SPAN, Protection::empty());
        model.protect(BASE, SPAN, RW);
        assert_eq!(large(&model), [false, true, true, false]);
        // A page of the first goes, the second is replaced, the last gets a large one for a table.
        model.unmap(BASE + LEAF_SPAN + 5 * PAGE, PAGE);
        model.map(BASE + 2 * LEAF_SPAN, LEAF_SPAN, PHYS + 6 * LEAF_SPAN, R);
        model.map(BASE + 3 * LEAF_SPAN, LEAF_SPAN, PHYS, RW);
        assert_eq!(large(&model), [false, false, true, true]);
        assert_eq!(model.unlinked, 1);
        // Physical memory that lies otherwise.
        model.map(BASE, LEAF_SPAN, PHYS + PAGE, RW);
        assert!(!model.is_large(BASE));
        // Tables go with what they map, large pages have none.
        model.unmap(BASE, SPAN);
        assert_eq!(model.unlinked, 3);
    }

    #[test]
    fn large_and_small_pages_come_to_the_same() {
        let Some(arena) = arena() else { return };
        let mut model = Model::new(arena);
        let mut random = Random::new(0x9e37_79b9_7f4a_7c15);
        let mut seen_large = 0;
        for _ in 0..600 {
            let mut number = |below: u64| random.word() % below;
            let unit = [PAGE, PAGE, 64 * PAGE, LEAF_SPAN, LEAF_SPAN][number(5) as usize];
            let first = number(SPAN / unit);
            let count = 1 + number((SPAN / unit - first).min(600));
            let (addr, len) = (BASE + first * unit, count * unit);
            let access = Protection::from_bits_retain(number(8) as u8);
            let shift = [0, 0, 0, 5 * PAGE][number(4) as usize];
            match number(6) {
                0..3 => model.map(addr, len, PHYS + (addr - BASE) + shift, access),
                3 => model.unmap(addr, len),
                _ => model.protect(addr, len, access),
            }
            for _ in 0..64 {
                let page = BASE + random.word() % (SPAN / PAGE) * PAGE;
                model.copies.read(&model.tables, &model.arena, page);
            }
            let spans = (BASE..BASE + SPAN).step_by(LEAF_SPAN as usize);
            seen_large += spans
                .filter(|at| model.tables.place(&model.arena, *at).is_ok())
                .filter(|at| model.is_large(*at))
                .count();
        }
        assert!(seen_large > 100, "{seen_large}");
        // A second space has the same, and the end of both releases each page.
        let kernel = model.arena.allocate().unwrap();
        let child = Tables::new(&model.arena, kernel).unwrap();
        let mut held = 0;
        model
            .tables
            .copy_to(&model.arena, &child, &mut |_, pages| held += pages)
            .unwrap();
        assert_eq!(held, model.pages.len() as u64);
        for addr in model.pages.keys() {
            let entries = [&child, &model.tables].map(|t| t.entry(&model.arena, *addr));
            assert_eq!(entries[0], entries[1]);
        }
        for tables in [&child, &model.tables] {
            let mut changes = Changes::default();
            tables.destroy(&model.arena, &mut changes);
            let released: u64 = changes.released.iter().map(|(_, count)| count).sum();
            assert_eq!(released, held);
            let left = model
                .pages
                .keys()
                .filter(|addr| tables.place(&model.arena, **addr).is_ok() && **addr < USER_END);
            assert_eq!(left.count(), 0);
        }
    }
}
