//! Which addresses of a space are mapped on the host, or will be once the queue is drained.
//!
//! Needed because `mprotect` stops at the first hole, where the contract goes on behind it, and
//! to tell a mapping that replaces another (rights may go) from one that adds.

use std::collections::BTreeMap;

/// A set of half-open ranges, merged.
#[derive(Clone, Debug, Default)]
pub(crate) struct Coverage {
    ranges: BTreeMap<u64, u64>,
}

impl Coverage {
    /// Adds `start..end`.
    pub(crate) fn add(&mut self, mut start: u64, mut end: u64) {
        // The one before may reach into it; those inside are swallowed.
        if let Some((&s, &e)) = self.ranges.range(..=start).next_back()
            && e >= start
        {
            start = s;
            end = end.max(e);
        }
        while let Some((&s, &e)) = self.ranges.range(start..=end).next() {
            end = end.max(e);
            self.ranges.remove(&s);
        }
        self.ranges.insert(start, end);
    }

    /// Removes `start..end`.
    pub(crate) fn remove(&mut self, start: u64, end: u64) {
        let touched: Vec<(u64, u64)> = self.pieces_raw(start, end).collect();
        for (s, e) in touched {
            self.ranges.remove(&s);
            if s < start {
                self.ranges.insert(s, start);
            }
            if e > end {
                self.ranges.insert(end, e);
            }
        }
    }

    /// Whether any of `start..end` is mapped.
    pub(crate) fn touches(&self, start: u64, end: u64) -> bool {
        self.pieces_raw(start, end).next().is_some()
    }

    /// The mapped parts of `start..end`.
    pub(crate) fn pieces(&self, start: u64, end: u64) -> impl Iterator<Item = (u64, u64)> {
        self.pieces_raw(start, end)
            .map(move |(s, e)| (s.max(start), e.min(end)))
    }

    /// The ranges that have a part in `start..end`, whole.
    fn pieces_raw(&self, start: u64, end: u64) -> impl Iterator<Item = (u64, u64)> {
        let before = self
            .ranges
            .range(..start)
            .next_back()
            .filter(move |(_, e)| **e > start);
        before
            .into_iter()
            .chain(self.ranges.range(start..end))
            .map(|(s, e)| (*s, *e))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(c: &Coverage) -> Vec<(u64, u64)> {
        c.ranges.iter().map(|(s, e)| (*s, *e)).collect()
    }

    #[test]
    fn neighbours_merge_and_overlaps_are_swallowed() {
        let mut c = Coverage::default();
        c.add(10, 20);
        c.add(30, 40);
        c.add(20, 30);
        assert_eq!(all(&c), [(10, 40)]);
        c.add(50, 60);
        c.add(5, 70);
        assert_eq!(all(&c), [(5, 70)]);
        c.add(6, 7);
        assert_eq!(all(&c), [(5, 70)]);
    }

    #[test]
    fn removing_splits() {
        let mut c = Coverage::default();
        c.add(10, 40);
        c.add(50, 60);
        c.remove(20, 30);
        assert_eq!(all(&c), [(10, 20), (30, 40), (50, 60)]);
        c.remove(35, 55);
        assert_eq!(all(&c), [(10, 20), (30, 35), (55, 60)]);
        assert!(c.touches(0, 11) && c.touches(19, 25) && !c.touches(20, 30));
        assert_eq!(
            c.pieces(15, 57).collect::<Vec<_>>(),
            [(15, 20), (30, 35), (55, 57)]
        );
        c.remove(0, 100);
        assert!(all(&c).is_empty());
    }
}
