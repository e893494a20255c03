//! What the ids of a user namespace are outside it (user_namespaces(7)).

use abi::Errno;

/// Extents of a map, at most.
const EXTENTS: usize = 340;
/// Up to here a map is looked through as it was written; a longer one is sorted.
const SHORT: usize = 5;

/// A stretch of ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Extent {
    /// First of them inside.
    pub(crate) inner: u32,
    /// First of them outside.
    pub(crate) outer: u32,
    pub(crate) count: u32,
}

/// A map of ids, never empty.
#[derive(Debug)]
pub(crate) struct IdMap {
    /// As it is shown, and sorted by `inner` where it is long.
    extents: Box<[Extent]>,
    /// Sorted by `outer`; empty where it is short.
    by_outer: Box<[Extent]>,
}

/// What `id` is in extents of which `first` gives the side that is looked at.
fn find(extents: &[Extent], id: u32, first: fn(&Extent) -> u32) -> Option<(&Extent, u32)> {
    let at = match extents.len() {
        ..=SHORT => extents
            .iter()
            .find(|e| id.checked_sub(first(e)).is_some_and(|d| d < e.count))?,
        _ => extents.get(extents.partition_point(|e| first(e) <= id).checked_sub(1)?)?,
    };
    let offset = id.checked_sub(first(at))?;
    (offset < at.count).then_some((at, offset))
}

impl IdMap {
    pub(crate) fn new(mut extents: Vec<Extent>) -> IdMap {
        let mut by_outer = Vec::new();
        if extents.len() > SHORT {
            extents.sort_unstable_by_key(|e| e.inner);
            by_outer.clone_from(&extents);
            by_outer.sort_unstable_by_key(|e| e.outer);
        }
        IdMap {
            extents: extents.into(),
            by_outer: by_outer.into(),
        }
    }

    pub(crate) fn extents(&self) -> &[Extent] {
        &self.extents
    }

    /// What is outside for the stretch of `count` ids from `id` on, if it lies in one extent.
    pub(crate) fn outside(&self, id: u32, count: u32) -> Option<u32> {
        let (e, offset) = find(&self.extents, id, |e| e.inner)?;
        (count <= e.count - offset).then(|| e.outer + offset)
    }

    /// What is inside for `id`.
    pub(crate) fn inside(&self, id: u32) -> Option<u32> {
        let list = match self.by_outer.is_empty() {
            true => &self.extents,
            false => &self.by_outer,
        };
        let (e, offset) = find(list, id, |e| e.outer)?;
        Some(e.inner + offset)
    }
}

/// Reads the text of a map, whose outer ids are its writer's.
///
/// # Errors
/// `EINVAL`.
pub(crate) fn parse(text: &[u8]) -> Result<Vec<Extent>, Errno> {
    let text = text.split(|b| *b == 0).next().unwrap_or_default();
    let text = text.strip_suffix(b"\n").unwrap_or(text);
    let mut extents: Vec<Extent> = Vec::new();
    for line in text.split(|b| *b == b'\n') {
        let extent = parse_line(line).ok_or(Errno::EINVAL)?;
        let overlaps = |e: &Extent| {
            let meet = |a: u32, b: u32| a <= b + (e.count - 1) && b <= a + (extent.count - 1);
            meet(extent.inner, e.inner) || meet(extent.outer, e.outer)
        };
        if extents.len() == EXTENTS || extents.iter().any(overlaps) {
            return Err(Errno::EINVAL);
        }
        extents.push(extent);
    }
    Ok(extents)
}

fn parse_line(line: &[u8]) -> Option<Extent> {
    let mut rest = line;
    let mut numbers = [0u32; 3];
    for (nth, number) in numbers.iter_mut().enumerate() {
        rest = skip_spaces(rest);
        let digits = rest.iter().take_while(|b| b.is_ascii_digit()).count();
        let (word, after) = rest.split_at(digits);
        // Too long a number loses its upper bits, as in Linux.
        *number = word.iter().fold(0u64, |n, b| {
            n.wrapping_mul(10).wrapping_add(u64::from(b - b'0'))
        }) as u32;
        rest = after;
        match rest.first() {
            Some(b) if is_space(*b) => {}
            None if nth == 2 => {}
            _ => return None,
        }
    }
    let [inner, outer, count] = numbers;
    let whole = |first: u32| first != u32::MAX && first.checked_add(count).is_some();
    let good = skip_spaces(rest).is_empty() && count > 0 && whole(inner) && whole(outer);
    good.then_some(Extent {
        inner,
        outer,
        count,
    })
}

fn is_space(b: u8) -> bool {
    b == b' ' || (0x09..=0x0d).contains(&b) || b == 0xa0
}

fn skip_spaces(text: &[u8]) -> &[u8] {
    let n = text.iter().take_while(|b| is_space(**b)).count();
    text.get(n..).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_map_is_refused() {
        for bad in [
            "",
            "\n",
            "0",
            "0 0",
            "0 0 ",
            "0 0 0",
            "0 0 1 1",
            "a 0 1",
            "0 0 1x",
            "-1 0 1",
            "4294967295 0 1",
            "0 4294967295 1",
            "4294967294 0 2",
            "0 0 1\n\n",
            "0 0 1\n\n1 1 1",
            "0 0 2\n1 5 1",
            "0 5 2\n7 6 1",
        ] {
            assert_eq!(parse(bad.as_bytes()), Err(Errno::EINVAL), "{bad:?}");
        }
        let many = |n: u32| -> String { (0..n).map(|i| format!("{i} {i} 1\n")).collect() };
        assert!(parse(many(340).as_bytes()).is_ok());
        assert_eq!(parse(many(341).as_bytes()), Err(Errno::EINVAL));
    }

    #[test]
    fn what_is_a_map_is_read() {
        let one = |inner, outer, count| Extent {
            inner,
            outer,
            count,
        };
        let good: [(&[u8], Extent); 5] = [
            (b"0 1000 1", one(0, 1000, 1)),
            (b"  0\t1000   1 \n", one(0, 1000, 1)),
            (b"0 0 4294967295", one(0, 0, u32::MAX)),
            (b"0 0 1\0rubbish", one(0, 0, 1)),
            (b"4294967296 5 1\n", one(0, 5, 1)),
        ];
        for (text, extent) in good {
            assert_eq!(parse(text), Ok(vec![extent]));
        }
    }

    #[test]
    fn ids_go_out_and_come_back() {
        for n in [1u32, 5, 6, 340] {
            // Every second stretch of ten, in reverse outside.
            let extents = (0..n).rev().map(|i| Extent {
                inner: i * 20,
                outer: (n - i) * 100,
                count: 10,
            });
            let map = IdMap::new(extents.collect());
            for i in 0..n {
                for k in 0..10 {
                    let outer = (n - i) * 100 + k;
                    assert_eq!(map.outside(i * 20 + k, 1), Some(outer));
                    assert_eq!(map.inside(outer), Some(i * 20 + k));
                    assert_eq!(map.outside(i * 20 + k, 10 - k), Some(outer));
                    assert_eq!(map.outside(i * 20 + k, 11 - k), None);
                }
                assert_eq!(map.outside(i * 20 + 10, 1), None);
                assert_eq!(map.inside((n - i) * 100 + 10), None);
            }
            assert_eq!(map.inside(99), None);
            assert_eq!(map.inside(u32::MAX), None);
        }
    }
}
