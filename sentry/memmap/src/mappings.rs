//! Who maps a file, kept by the file.

use crate::{Mapping, Space};
use abi::page::Range;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Weak;
use sync::{Mutex, ranks};

/// The mappings of one file: what [`crate::Mappable::attach`] and `detach` keep, and whom to tell
/// when bytes go away.
#[derive(Default)]
pub struct Mappings {
    // By space and address; stretches of one space never overlap.
    list: Mutex<BTreeMap<(usize, u64), Mapping>, ranks::Mappings>,
}

impl std::fmt::Debug for Mappings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Mappings({})", self.list.lock().len())
    }
}

fn key(space: &Weak<dyn Space>) -> usize {
    space.as_ptr().cast::<()>() as usize
}

impl Mappings {
    /// Nobody maps it.
    pub const fn new() -> Mappings {
        Mappings {
            list: Mutex::new(BTreeMap::new()),
        }
    }

    /// Takes note of a mapping.
    pub fn attach(&self, mapping: Mapping) {
        self.list
            .lock()
            .insert((key(&mapping.space), mapping.addr), mapping);
    }

    /// Forgets `range` at `addr`, or that part of what was noted.
    pub fn detach(&self, space: &Weak<dyn Space>, addr: u64, range: Range) {
        let space = key(space);
        let end = addr.saturating_add(range.len());
        let mut list = self.list.lock();
        let from = match list.range((space, 0)..=(space, addr)).next_back() {
            Some((k, m)) if k.1.saturating_add(m.range.len()) > addr => *k,
            _ => (space, addr),
        };
        let cut: Vec<_> = list.range(from..(space, end)).map(|(k, _)| *k).collect();
        for k in cut {
            let Some(old) = list.remove(&k) else { continue };
            let old_end = old.addr.saturating_add(old.range.len());
            if old.addr < addr {
                let keep = addr - old.addr;
                let range = Range::new(old.range.start, old.range.start + keep);
                list.insert(
                    k,
                    Mapping {
                        range,
                        ..old.clone()
                    },
                );
            }
            if old_end > end {
                let gone = end - old.addr;
                let range = Range::new(old.range.start + gone, old.range.end);
                list.insert(
                    (space, end),
                    Mapping {
                        addr: end,
                        range,
                        ..old
                    },
                );
            }
        }
    }

    /// How many mappings of it there are.
    pub fn count(&self) -> usize {
        self.list.lock().len()
    }

    /// Whether nobody maps it.
    pub fn is_empty(&self) -> bool {
        self.list.lock().is_empty()
    }

    /// Whether somebody maps it shared and may write (write seals, `MAP_SHARED` rules).
    pub fn any_shared_write(&self) -> bool {
        self.list.lock().values().any(|m| m.shared_write)
    }

    /// Tells every space that maps a part of `range` of the file that its bytes are gone or stand
    /// elsewhere now. Takes the spaces' locks (`ranks::Mm`), so call it with none of that rank or
    /// later held.
    pub fn invalidate(&self, range: Range, drop_private: bool) {
        // A space that is just being forked takes what it has translated along and attaches the
        // copy meanwhile; so look again until nobody new is there.
        let mut told = BTreeSet::new();
        loop {
            let tell: Vec<_> = self
                .list
                .lock()
                .iter()
                .filter(|(key, m)| m.range.overlaps(&range) && !told.contains(*key))
                .map(|(key, m)| {
                    let part = m.range.intersect(&range);
                    let start = m.addr.saturating_add(part.start - m.range.start);
                    let addresses = Range::new(start, start.saturating_add(part.len()));
                    (*key, m.space.clone(), addresses)
                })
                .collect();
            if tell.is_empty() {
                return;
            }
            for (key, space, addresses) in tell {
                told.insert(key);
                if let Some(space) = space.upgrade() {
                    space.invalidate(addresses, drop_private);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[derive(Default)]
    struct Told(Mutex<Vec<Range>, ranks::Mm>);
    impl Space for Told {
        fn invalidate(&self, range: Range, _drop_private: bool) {
            self.0.lock().push(range);
        }
    }

    #[test]
    fn parts_are_forgotten_and_the_rest_is_told() {
        let space: Arc<Told> = Arc::default();
        let weak: Weak<dyn Space> = Arc::downgrade(&(space.clone() as Arc<dyn Space>));
        let list = Mappings::new();
        list.attach(Mapping {
            space: weak.clone(),
            addr: 0x10000,
            range: Range::new(0x2000, 0x6000),
            shared_write: true,
        });
        list.detach(&weak, 0x11000, Range::new(0x3000, 0x4000));
        assert!(list.any_shared_write());
        list.invalidate(Range::new(0, u64::MAX), false);
        assert_eq!(
            *space.0.lock(),
            [Range::new(0x10000, 0x11000), Range::new(0x12000, 0x14000)]
        );
        list.detach(&weak, 0, Range::new(0, 1 << 40));
        assert!(list.is_empty());
    }
}
