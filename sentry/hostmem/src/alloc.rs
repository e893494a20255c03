//! Who holds which part of a memory file: reference counts and free space, by offset.
//!
//! Plain data, no host calls. Offsets cost nothing, only touched pages do, so that offsets are
//! spent freely: what may grow gets room behind it.

use crate::Placement;
use crate::account::Account;
use abi::page::Range;
use std::collections::{BTreeMap, BTreeSet};

/// How much room a growing mapping gets behind its first frames.
const ROOM: u64 = 64 << 20;

struct Segment {
    end: u64,
    refs: u32,
    /// Counted against the limit: its pages can come into being without us.
    charged: bool,
}

/// Free stretches of one part of the file.
#[derive(Default)]
struct Arena {
    by_start: BTreeMap<u64, u64>,
    by_len: BTreeSet<(u64, u64)>,
}

impl Arena {
    fn insert(&mut self, mut range: Range) {
        if let Some((&start, &end)) = self.by_start.range(..range.start).next_back()
            && end == range.start
        {
            self.take_whole(start, end);
            range.start = start;
        }
        if let Some(&end) = self.by_start.get(&range.end) {
            self.take_whole(range.end, end);
            range.end = end;
        }
        self.by_start.insert(range.start, range.end);
        self.by_len.insert((range.len(), range.start));
    }

    fn take_whole(&mut self, start: u64, end: u64) {
        self.by_start.remove(&start);
        self.by_len.remove(&(end - start, start));
    }

    /// The smallest stretch of at least `len` bytes.
    fn fit(&self, len: u64) -> Option<u64> {
        self.by_len
            .range((len, 0)..)
            .next()
            .map(|&(_, start)| start)
    }

    /// Takes `at..at+len` if all of it is free.
    fn take(&mut self, at: u64, len: u64) -> bool {
        let Some(wanted_end) = at.checked_add(len) else {
            return false;
        };
        let Some((&start, &end)) = self.by_start.range(..=at).next_back() else {
            return false;
        };
        if end < wanted_end {
            return false;
        }
        self.take_whole(start, end);
        if start < at {
            self.by_start.insert(start, at);
            self.by_len.insert((at - start, start));
        }
        if wanted_end < end {
            self.by_start.insert(wanted_end, end);
            self.by_len.insert((end - wanted_end, wanted_end));
        }
        true
    }
}

/// The book-keeping of a memory file.
pub(crate) struct Allocator {
    used: BTreeMap<u64, Segment>,
    /// Where small things lie close together.
    dense: Arena,
    /// Where things that grow lie far apart.
    roomy: Arena,
    boundary: u64,
    pub(crate) account: Account,
}

impl Allocator {
    /// All of `0..len` free.
    pub(crate) fn new(len: u64) -> Allocator {
        let boundary = len / 4 / ROOM * ROOM;
        let mut a = Allocator {
            used: BTreeMap::new(),
            dense: Arena::default(),
            roomy: Arena::default(),
            boundary,
            account: Account::default(),
        };
        if boundary > 0 {
            a.dense.insert(Range::new(0, boundary));
        }
        if boundary < len {
            a.roomy.insert(Range::new(boundary, len));
        }
        a
    }

    /// Finds `len` bytes, with one reference. `None` when there is no stretch as long as that.
    pub(crate) fn allocate(&mut self, len: u64, place: Placement) -> Option<u64> {
        if len == 0 {
            return None;
        }
        let start = match place {
            Placement::Behind(at) if self.arena(at).take(at, len) => at,
            Placement::Like { at: Some(at), .. } if self.arena(at).take(at, len) => at,
            Placement::Like { addr, .. } => self.like_fit(len, addr)?,
            Placement::Behind(_) | Placement::Roomy => self.roomy_fit(len)?,
            Placement::Anywhere => match self.dense.fit(len) {
                Some(at) => at,
                None => self.roomy_fit(len)?,
            },
        };
        // `Behind` and `Like` have taken it already; then this finds nothing to take.
        self.arena(start).take(start, len);
        let end = start + len;
        self.used.insert(
            start,
            Segment {
                end,
                refs: 1,
                charged: false,
            },
        );
        self.join(Range::new(start, end));
        Some(start)
    }

    fn roomy_fit(&self, len: u64) -> Option<u64> {
        let room = len.saturating_add(ROOM);
        self.roomy
            .fit(room)
            .map(|at| {
                // Inside the last, huge stretch keep a distance from what grew before it.
                let spaced = at.next_multiple_of(ROOM);
                if spaced - at < ROOM && self.fits(spaced, len) {
                    spaced
                } else {
                    at
                }
            })
            .or_else(|| self.roomy.fit(len))
            .or_else(|| self.dense.fit(len))
    }

    fn like_fit(&self, len: u64, addr: u64) -> Option<u64> {
        let around = len.saturating_add(2 * ROOM);
        self.roomy
            .fit(around)
            .map(|at| at.next_multiple_of(ROOM) + addr % ROOM)
            .filter(|at| self.fits(*at, len))
            .or_else(|| self.roomy_fit(len))
    }

    fn fits(&self, at: u64, len: u64) -> bool {
        let Some(end) = at.checked_add(len) else {
            return false;
        };
        self.roomy
            .by_start
            .range(..=at)
            .next_back()
            .is_some_and(|(_, &e)| e >= end)
    }

    fn arena(&mut self, at: u64) -> &mut Arena {
        if at < self.boundary {
            &mut self.dense
        } else {
            &mut self.roomy
        }
    }

    /// Gives back what [`Allocator::release`] said was free, once its pages are gone.
    pub(crate) fn free(&mut self, range: Range) {
        if range.start < self.boundary && range.end > self.boundary {
            self.dense.insert(Range::new(range.start, self.boundary));
            self.roomy.insert(Range::new(self.boundary, range.end));
        } else {
            self.arena(range.start).insert(range);
        }
    }

    /// One more reference to each page of `range`.
    pub(crate) fn hold(&mut self, range: Range) {
        self.adjust(range, 1, &mut Vec::new());
    }

    /// One reference less; what nobody holds any more is appended to `freed` and stays out of
    /// reach until [`Allocator::free`].
    pub(crate) fn release(&mut self, range: Range, freed: &mut Vec<Range>) {
        self.adjust(range, -1, freed);
    }

    fn adjust(&mut self, range: Range, by: i32, freed: &mut Vec<Range>) {
        self.split(range.start);
        self.split(range.end);
        let mut gone = Vec::new();
        for (&start, segment) in self.used.range_mut(range.start..range.end) {
            // A count that saturates is never freed: leaking beats handing out twice.
            segment.refs = match (segment.refs, by) {
                (u32::MAX, _) => u32::MAX,
                (n, 1) => n + 1,
                (n, _) => n - 1,
            };
            if segment.refs == 0 {
                gone.push(Range::new(start, segment.end));
                if segment.charged {
                    self.account.uncharge(segment.end - start);
                }
            }
        }
        for range in gone {
            self.used.remove(&range.start);
            match freed.last_mut() {
                Some(last) if last.end == range.start => last.end = range.end,
                _ => freed.push(range),
            }
        }
        self.join(range);
    }

    fn split(&mut self, at: u64) {
        let Some((&start, segment)) = self.used.range_mut(..at).next_back() else {
            return;
        };
        if start < at && at < segment.end {
            let right = Segment {
                end: segment.end,
                ..*segment
            };
            segment.end = at;
            self.used.insert(at, right);
        }
    }

    /// Joins neighbours with equal counts in and around `range`.
    fn join(&mut self, range: Range) {
        let mut at = match self.used.range(..range.start).next_back() {
            Some((&start, _)) => start,
            None => range.start,
        };
        while at <= range.end {
            let Some((&start, segment)) = self.used.range(at..).next() else {
                return;
            };
            let (end, refs, charged) = (segment.end, segment.refs, segment.charged);
            match self.used.get(&end) {
                Some(next) if next.refs == refs && next.charged == charged => {
                    let next_end = next.end;
                    self.used.remove(&end);
                    if let Some(segment) = self.used.get_mut(&start) {
                        segment.end = next_end;
                    }
                    at = start;
                }
                _ => at = end,
            }
        }
    }

    /// The longest part of `within` around `at` that has a single holder; `None` when `at` has
    /// more.
    pub(crate) fn unique_around(&self, within: Range, at: u64) -> Option<Range> {
        let (&start, segment) = self.used.range(..=at).next_back()?;
        if segment.end <= at || segment.refs != 1 {
            return None;
        }
        // Neighbours with equal counts are joined, so that one segment is the answer (or a part
        // of it, where only some of it is charged).
        Some(Range::new(start, segment.end).intersect(&within))
    }

    /// Whether every page of `range` has a single holder.
    pub(crate) fn is_unique(&self, range: Range) -> bool {
        let mut at = range.start;
        while at < range.end {
            match self.unique_around(range, at) {
                Some(part) => at = part.end,
                None => return false,
            }
        }
        true
    }

    /// Counts all that is handed out against the limit, whether or not there is room: it was handed
    /// out without one.
    pub(crate) fn charge_all(&mut self) {
        if !self.account.is_limited() {
            return;
        }
        for (start, segment) in &mut self.used {
            if !segment.charged {
                segment.charged = true;
                self.account.charge_anyway(segment.end - start);
            }
        }
        self.join(Range::new(0, u64::MAX));
    }

    /// Counts the pages of `range` against the limit, unless they are already; whether there was
    /// room for that.
    pub(crate) fn charge(&mut self, range: Range) -> bool {
        if !self.account.is_limited() {
            return true;
        }
        self.split(range.start);
        self.split(range.end);
        let new = self
            .used
            .range(range.start..range.end)
            .filter(|(_, segment)| !segment.charged)
            .map(|(start, segment)| segment.end - start)
            .sum();
        let fits = self.account.charge(new);
        if fits {
            for (_, segment) in self.used.range_mut(range.start..range.end) {
                segment.charged = true;
            }
        }
        self.join(range);
        fits
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const P: u64 = 4096;

    #[test]
    fn counts_split_and_join() {
        let mut a = Allocator::new(1 << 40);
        let at = a.allocate(16 * P, Placement::Anywhere).unwrap();
        let all = Range::new(at, at + 16 * P);
        let mid = Range::new(at + 4 * P, at + 8 * P);
        assert!(a.is_unique(all));
        a.hold(mid);
        assert!(!a.is_unique(all));
        assert_eq!(a.unique_around(all, at), Some(Range::new(at, mid.start)));
        assert_eq!(a.unique_around(all, mid.start), None);
        let mut freed = Vec::new();
        a.release(all, &mut freed);
        assert_eq!(
            freed,
            [Range::new(at, mid.start), Range::new(mid.end, all.end)]
        );
        a.release(mid, &mut freed);
        assert_eq!(freed.len(), 3);
        for range in freed {
            a.free(range);
        }
        assert!(a.used.is_empty());
        assert_eq!(a.allocate(16 * P, Placement::Anywhere), Some(at));
    }

    #[test]
    fn what_is_released_stays_out_of_reach_until_freed() {
        let mut a = Allocator::new(4 * ROOM);
        let at = a.allocate(P, Placement::Anywhere).unwrap();
        let mut freed = Vec::new();
        a.release(Range::new(at, at + P), &mut freed);
        assert_ne!(a.allocate(P, Placement::Anywhere), Some(at));
    }

    #[test]
    fn growth_is_contiguous_though_others_allocate_between() {
        let mut a = Allocator::new(1 << 40);
        let mut x = a.allocate(1 << 20, Placement::Roomy).unwrap() + (1 << 20);
        let mut y = a.allocate(1 << 20, Placement::Roomy).unwrap() + (1 << 20);
        for _ in 0..16 {
            a.allocate(P, Placement::Anywhere).unwrap();
            assert_eq!(a.allocate(1 << 20, Placement::Behind(x)), Some(x));
            x += 1 << 20;
            assert_eq!(a.allocate(1 << 20, Placement::Behind(y)), Some(y));
            y += 1 << 20;
        }
    }

    #[test]
    fn pieces_of_a_mapping_lie_as_their_addresses_do() {
        let mut a = Allocator::new(1 << 40);
        let addr = 0x7f12_3456_7000;
        let like = |addr, at| Placement::Like { addr, at };
        let first = a.allocate(64 * P, like(addr, None)).unwrap();
        assert_eq!(first % ROOM, addr % ROOM);
        // Before and behind it, at a distance.
        for distance in [-200i64, -64, 64, 300, 128] {
            let by = |at: u64| at.wrapping_add_signed(distance * P as i64);
            let at = a.allocate(64 * P, like(by(addr), Some(by(first))));
            assert_eq!(at, Some(by(first)));
        }
        // What is in use is not had again.
        let again = a.allocate(64 * P, like(addr, Some(first))).unwrap();
        assert_ne!(again, first);
        assert_eq!(again % ROOM, addr % ROOM);
        // Without so much room, anywhere.
        let mut a = Allocator::new(4 * ROOM);
        for _ in 0..12 {
            assert!(
                a.allocate(ROOM / 4, like(addr, Some(u64::MAX - P)))
                    .is_some()
            );
        }
    }

    #[test]
    fn a_full_file_says_so() {
        let mut a = Allocator::new(ROOM * 4);
        assert!(a.allocate(ROOM * 5, Placement::Roomy).is_none());
        let mut total = 0;
        while a.allocate(ROOM / 4, Placement::Anywhere).is_some() {
            total += ROOM / 4;
        }
        assert_eq!(total, ROOM * 4);
    }
}
