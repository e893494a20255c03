//! What is mapped where, as the guest asked for it: no frames, no platform.

use crate::types::Prot;
use abi::page::Range;
use memmap::Mappable;
use std::collections::BTreeMap;
use std::sync::Arc;

bitflags::bitflags! {
    /// Properties of a mapping beside its protection.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub(crate) struct VmaFlags: u32 {
        const SHARED = 1;
        const GROWSDOWN = 1 << 1;
        const NORESERVE = 1 << 2;
        const DONTFORK = 1 << 3;
        const WIPEONFORK = 1 << 4;
        const DONTDUMP = 1 << 5;
        const LOCKED = 1 << 6;
        const STACK = 1 << 7;
        const HEAP = 1 << 8;
        const SPECIAL = 1 << 9;
        /// Wanted in large pages, or not at all.
        const HUGE = 1 << 10;
        const NO_HUGE = 1 << 11;
    }
}

/// The file part of a mapping.
#[derive(Clone)]
pub(crate) struct FileRef {
    pub(crate) mappable: Arc<dyn Mappable>,
    /// Offset of the mapping's first byte.
    pub(crate) offset: u64,
}

impl FileRef {
    pub(crate) fn same_file(&self, other: &FileRef) -> bool {
        self.object() == other.object()
    }

    /// Tells files apart; stable while mapped.
    pub(crate) fn object(&self) -> u64 {
        Arc::as_ptr(&self.mappable).cast::<()>() as u64
    }
}

/// One mapping.
#[derive(Clone)]
pub(crate) struct Vma {
    pub(crate) range: Range,
    pub(crate) prot: Prot,
    pub(crate) max_prot: Prot,
    pub(crate) flags: VmaFlags,
    pub(crate) file: Option<FileRef>,
    pub(crate) name: Option<&'static str>,
}

impl Vma {
    pub(crate) fn shared(&self) -> bool {
        self.flags.contains(VmaFlags::SHARED)
    }

    /// Private memory without a file.
    pub(crate) fn anonymous(&self) -> bool {
        self.file.is_none()
    }

    /// Counted as data (`RLIMIT_DATA`): private and writable, and no stack.
    pub(crate) fn is_data(&self) -> bool {
        self.prot.contains(Prot::WRITE) && !self.shared() && !self.flags.contains(VmaFlags::STACK)
    }

    /// Offset into the file of `addr`, which lies inside.
    pub(crate) fn file_offset(&self, addr: u64) -> Option<u64> {
        let file = self.file.as_ref()?;
        file.offset.checked_add(addr.checked_sub(self.range.start)?)
    }

    /// The part of it within `range`.
    pub(crate) fn clip(&self, range: Range) -> Vma {
        let mut part = self.clone();
        part.range = self.range.intersect(&range);
        if let Some(file) = &mut part.file {
            file.offset = file
                .offset
                .wrapping_add(part.range.start - self.range.start);
        }
        part
    }

    fn continues(&self, next: &Vma) -> bool {
        self.range.end == next.range.start
            && self.prot == next.prot
            && self.max_prot == next.max_prot
            && self.flags == next.flags
            && self.name == next.name
            && !self
                .flags
                .intersects(VmaFlags::SPECIAL | VmaFlags::GROWSDOWN)
            && match (&self.file, &next.file) {
                (None, None) => true,
                (Some(a), Some(b)) => {
                    a.same_file(b) && a.offset.checked_add(self.range.len()) == Some(b.offset)
                }
                _ => false,
            }
    }
}

/// Sums over all mappings, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    pub(crate) all: u64,
    pub(crate) data: u64,
    pub(crate) stack: u64,
    pub(crate) text: u64,
    pub(crate) locked: u64,
}

impl Totals {
    fn each(vma: &Vma) -> Totals {
        let len = vma.range.len();
        let when = |yes: bool| if yes { len } else { 0 };
        Totals {
            all: len,
            data: when(vma.is_data()),
            stack: when(vma.flags.contains(VmaFlags::STACK)),
            text: when(vma.prot.contains(Prot::EXECUTE) && !vma.prot.contains(Prot::WRITE)),
            locked: when(vma.flags.contains(VmaFlags::LOCKED)),
        }
    }

    fn add(&mut self, vma: &Vma) {
        let t = Totals::each(vma);
        self.all += t.all;
        self.data += t.data;
        self.stack += t.stack;
        self.text += t.text;
        self.locked += t.locked;
    }

    fn sub(&mut self, vma: &Vma) {
        let t = Totals::each(vma);
        self.all -= t.all;
        self.data -= t.data;
        self.stack -= t.stack;
        self.text -= t.text;
        self.locked -= t.locked;
    }
}

/// The mappings of a space, by address, never overlapping.
#[derive(Clone, Default)]
pub(crate) struct VmaSet {
    map: BTreeMap<u64, Vma>,
    totals: Totals,
}

impl VmaSet {
    pub(crate) fn totals(&self) -> Totals {
        self.totals
    }

    pub(crate) fn count(&self) -> usize {
        self.map.len()
    }

    /// The mapping that holds `addr`.
    #[inline]
    pub(crate) fn find(&self, addr: u64) -> Option<&Vma> {
        let (_, vma) = self.map.range(..=addr).next_back()?;
        (addr < vma.range.end).then_some(vma)
    }

    /// The first mapping that ends above `addr`.
    pub(crate) fn at_or_above(&self, addr: u64) -> Option<&Vma> {
        self.find(addr)
            .or_else(|| self.map.range(addr..).next().map(|(_, v)| v))
    }

    /// The last mapping that starts below `addr`.
    pub(crate) fn below(&self, addr: u64) -> Option<&Vma> {
        self.map.range(..addr).next_back().map(|(_, v)| v)
    }

    pub(crate) fn iter(&self) -> impl DoubleEndedIterator<Item = &Vma> {
        self.map.values()
    }

    /// Mappings that share a byte with `range`, in order.
    pub(crate) fn overlapping(&self, range: Range) -> impl Iterator<Item = &Vma> {
        let first = self
            .find(range.start)
            .map_or(range.start, |v| v.range.start);
        self.map.range(first..range.end.max(first)).map(|(_, v)| v)
    }

    /// Whether every byte of `range` is mapped.
    pub(crate) fn covers(&self, range: Range) -> bool {
        let mut at = range.start;
        for vma in self.overlapping(range) {
            if vma.range.start > at {
                return false;
            }
            at = vma.range.end;
        }
        at >= range.end
    }

    /// Takes everything within `range` out, cutting at its edges.
    pub(crate) fn remove(&mut self, range: Range) -> Vec<Vma> {
        if range.is_empty() {
            return Vec::new();
        }
        let starts: Vec<u64> = self.overlapping(range).map(|v| v.range.start).collect();
        let mut out = Vec::with_capacity(starts.len());
        for start in starts {
            let Some(vma) = self.map.remove(&start) else {
                continue;
            };
            self.totals.sub(&vma);
            let left = Range {
                start: vma.range.start,
                end: range.start.max(vma.range.start),
            };
            if !left.is_empty() {
                self.put(vma.clip(left));
            }
            let right = Range {
                start: range.end.min(vma.range.end),
                end: vma.range.end,
            };
            if !right.is_empty() {
                self.put(vma.clip(right));
            }
            out.push(vma.clip(range));
        }
        out
    }

    fn put(&mut self, vma: Vma) {
        self.totals.add(&vma);
        self.map.insert(vma.range.start, vma);
    }

    /// Puts a mapping where nothing is, joined with its neighbours where Linux would.
    pub(crate) fn insert(&mut self, mut vma: Vma) {
        debug_assert!(self.overlapping(vma.range).next().is_none());
        self.totals.add(&vma);
        if let Some(next) = self.map.get(&vma.range.end)
            && vma.continues(next)
        {
            let end = next.range.end;
            self.map.remove(&vma.range.end);
            vma.range.end = end;
        }
        if let Some((_, last)) = self.map.range_mut(..vma.range.start).next_back()
            && last.continues(&vma)
        {
            last.range.end = vma.range.end;
            return;
        }
        self.map.insert(vma.range.start, vma);
    }

    /// Changes all mappings within `range`, cutting at its edges and joining again.
    pub(crate) fn update(&mut self, range: Range, mut change: impl FnMut(&mut Vma)) {
        if range.is_empty() {
            return;
        }
        for mut vma in self.remove(range) {
            change(&mut vma);
            self.insert(vma);
        }
        // What follows the range may continue what is its last mapping now.
        if let Some(next) = self.map.remove(&range.end) {
            self.totals.sub(&next);
            self.insert(next);
        }
    }

    /// Moves the start of the mapping at `start` down to `to`, for a stack that grows.
    pub(crate) fn grow_down(&mut self, start: u64, to: u64) {
        if let Some(mut vma) = self.map.remove(&start) {
            self.totals.sub(&vma);
            vma.range.start = to.min(start);
            self.put(vma);
        }
    }
}
