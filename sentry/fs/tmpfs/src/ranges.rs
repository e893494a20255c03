//! A set of byte ranges.

use abi::page::Range;
use std::collections::BTreeMap;

/// Ranges that neither overlap nor touch, by their starts.
#[derive(Debug, Default)]
pub(crate) struct RangeSet(BTreeMap<u64, u64>);

impl RangeSet {
    /// The range around `at`.
    pub(crate) fn around(&self, at: u64) -> Option<Range> {
        let (&start, &end) = self.0.range(..=at).next_back()?;
        (at < end).then(|| Range::new(start, end))
    }

    /// The first range that begins behind `at`.
    pub(crate) fn next(&self, at: u64) -> Option<Range> {
        self.0
            .range(at.checked_add(1)?..)
            .next()
            .map(|(&s, &e)| Range::new(s, e))
    }

    /// Bytes of `r` that are in the set.
    pub(crate) fn overlap(&self, r: Range) -> u64 {
        let first = self.around(r.start).map_or(0, |o| o.intersect(&r).len());
        let rest = self
            .0
            .range(r.start.saturating_add(1)..r.end.max(r.start.saturating_add(1)));
        rest.fold(first, |sum, (&s, &e)| {
            sum + Range::new(s, e).intersect(&r).len()
        })
    }

    /// Puts `r` in.
    pub(crate) fn add(&mut self, r: Range) {
        if r.is_empty() {
            return;
        }
        let (mut start, mut end) = (r.start, r.end);
        if let Some((&s, &e)) = self.0.range(..=start).next_back()
            && e >= start
        {
            start = s;
            end = end.max(e);
        }
        while let Some((&s, &e)) = self.0.range(start..=end).next() {
            self.0.remove(&s);
            end = end.max(e);
        }
        self.0.insert(start, end);
    }

    /// Takes `r` out; how many bytes were in.
    pub(crate) fn remove(&mut self, r: Range) -> u64 {
        let mut removed = 0;
        if let Some(o) = self.around(r.start) {
            self.0.remove(&o.start);
            removed += o.intersect(&r).len();
            if o.start < r.start {
                self.0.insert(o.start, r.start);
            }
            if o.end > r.end {
                self.0.insert(r.end, o.end);
                return removed;
            }
        }
        while let Some((&s, &e)) = self.0.range(r.start..r.end.max(r.start)).next() {
            self.0.remove(&s);
            removed += e.min(r.end) - s;
            if e > r.end {
                self.0.insert(r.end, e);
            }
        }
        removed
    }

    /// Bytes in all.
    pub(crate) fn len(&self) -> u64 {
        self.0.iter().map(|(s, e)| e - s).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn r(s: u64, e: u64) -> Range {
        Range::new(s, e)
    }

    #[test]
    fn ranges_merge_and_split() {
        let mut set = RangeSet::default();
        set.add(r(10, 20));
        set.add(r(30, 40));
        set.add(r(20, 25));
        assert_eq!(set.around(24), Some(r(10, 25)));
        assert_eq!(set.next(25), Some(r(30, 40)));
        assert_eq!(set.overlap(r(0, 100)), 25);
        assert_eq!(set.overlap(r(15, 32)), 12);
        set.add(r(22, 35));
        assert_eq!(set.around(10), Some(r(10, 40)));
        assert_eq!(set.remove(r(15, 20)), 5);
        assert_eq!(
            (set.around(14), set.around(20)),
            (Some(r(10, 15)), Some(r(20, 40)))
        );
        assert_eq!(set.remove(r(0, 30)), 15);
        assert_eq!(set.len(), 10);
        assert_eq!(set.remove(r(30, 40)), 10);
        assert_eq!(set.len(), 0);
    }
}
