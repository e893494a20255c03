//! What stands behind the mapped addresses that have been used, and what of it the platform has
//! been told.

use crate::types::Prot;
use abi::page::Range;
use hostmem::Frames;
use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::sync::Arc;

/// Where an extent's bytes are.
#[derive(Clone)]
pub(crate) enum Backing {
    /// Frames as long as the extent.
    Frames(Frames),
    /// A host file from `offset` on.
    Host {
        file: Arc<OwnedFd>,
        offset: u64,
        executable: bool,
    },
    /// Nothing was ever written: the shared stretch of zeros, however often it is needed.
    Zero,
}

/// A stretch of addresses with something behind it.
#[derive(Clone)]
pub(crate) struct Extent {
    pub(crate) range: Range,
    pub(crate) backing: Backing,
    /// A store must not reach the backing as it is: it is shared with another space (fork) or a
    /// file (private mapping), reads as zero, or was translated for reading only.
    pub(crate) sealed: bool,
    /// The backing was translated from a file, rather than being the space's own copy.
    pub(crate) translated: bool,
    /// What the platform has mapped; `None` is nothing.
    pub(crate) installed: Option<Prot>,
    /// How often the platform could not map it; see [`Extent::is_given_up`].
    pub(crate) refused: u8,
    /// Frames as long as the extent, for its copies: whatever is copied of it lands at the
    /// matching place there, so that neighbouring copies become one extent again.
    pub(crate) mirror: Option<Frames>,
}

impl Extent {
    /// The space's own frames.
    pub(crate) fn own(range: Range, frames: Frames) -> Extent {
        let backing = Backing::Frames(frames);
        Extent {
            range,
            backing,
            sealed: false,
            translated: false,
            installed: None,
            refused: 0,
            mirror: None,
        }
    }

    /// A part of a file.
    pub(crate) fn of_file(range: Range, backing: Backing, sealed: bool) -> Extent {
        Extent {
            range,
            backing,
            sealed,
            translated: true,
            installed: None,
            refused: 0,
            mirror: None,
        }
    }

    /// Zeros.
    pub(crate) fn zero(range: Range) -> Extent {
        let backing = Backing::Zero;
        Extent {
            range,
            backing,
            sealed: true,
            translated: false,
            installed: None,
            refused: 0,
            mirror: None,
        }
    }

    /// What the platform may be told, given the mapping's protection. Whatever is accessible is
    /// readable, as on the CPU.
    pub(crate) fn access(&self, prot: Prot) -> Prot {
        let mut access = prot;
        if prot.is_empty() {
            return prot;
        }
        access |= Prot::READ;
        if self.sealed {
            access -= Prot::WRITE;
        }
        if let Backing::Host {
            executable: false, ..
        } = self.backing
        {
            access -= Prot::EXECUTE;
        }
        access
    }

    /// Cuts in two at `at`, strictly inside, keeping the first part.
    fn split_off(&mut self, at: u64) -> Option<Extent> {
        if at <= self.range.start || at >= self.range.end {
            return None;
        }
        let head = at - self.range.start;
        let backing = match &mut self.backing {
            Backing::Frames(frames) => Backing::Frames(frames.split_off(head)?),
            Backing::Host {
                file,
                offset,
                executable,
            } => Backing::Host {
                file: file.clone(),
                offset: *offset + head,
                executable: *executable,
            },
            Backing::Zero => Backing::Zero,
        };
        let mirror = self.mirror.as_mut().and_then(|m| m.split_off(head));
        let tail = Extent {
            range: Range::new(at, self.range.end),
            backing,
            sealed: self.sealed,
            translated: self.translated,
            installed: self.installed,
            refused: self.refused,
            mirror,
        };
        self.range.end = at;
        Some(tail)
    }

    /// Whether `next` is the same thing going on.
    fn continues(&self, next: &Extent) -> bool {
        self.range.end == next.range.start
            && self.sealed == next.sealed
            && self.translated == next.translated
            && self.installed == next.installed
            && match (&self.mirror, &next.mirror) {
                (None, None) => true,
                (Some(a), Some(b)) => a.adjoins(b),
                _ => false,
            }
            && match (&self.backing, &next.backing) {
                (Backing::Frames(a), Backing::Frames(b)) => a.adjoins(b),
                (
                    Backing::Host {
                        file: a,
                        offset: x,
                        executable: e,
                    },
                    Backing::Host {
                        file: b,
                        offset: y,
                        executable: f,
                    },
                ) => Arc::ptr_eq(a, b) && x + self.range.len() == *y && e == f,
                _ => false,
            }
    }

    /// Takes `next` in, for which [`Extent::continues`] holds.
    fn absorb(&mut self, next: Extent) {
        if let (Backing::Frames(a), Backing::Frames(b)) = (&mut self.backing, next.backing) {
            // It adjoins, as was checked; if it did not, the handle would just be dropped.
            let _ = a.join(b);
        }
        if let (Some(a), Some(b)) = (&mut self.mirror, next.mirror) {
            let _ = a.join(b);
        }
        self.range.end = next.range.end;
        self.refused = self.refused.max(next.refused);
    }

    /// Whether there is no use in telling the platform of it once more: it refused it when room
    /// had been made.
    pub(crate) fn is_given_up(&self) -> bool {
        self.refused >= 2
    }

    /// Releases the handles into `out`, to be dropped together.
    pub(crate) fn into_frames(self, out: &mut Vec<Frames>) {
        if let Backing::Frames(frames) = self.backing {
            out.push(frames);
        }
        out.extend(self.mirror);
    }
}

/// The extents of a space, by address, never overlapping.
#[derive(Default)]
pub(crate) struct ExtentMap(BTreeMap<u64, Extent>);

impl ExtentMap {
    #[inline]
    pub(crate) fn find(&self, addr: u64) -> Option<&Extent> {
        let (_, e) = self.0.range(..=addr).next_back()?;
        (addr < e.range.end).then_some(e)
    }

    #[inline]
    pub(crate) fn find_mut(&mut self, addr: u64) -> Option<&mut Extent> {
        let (_, e) = self.0.range_mut(..=addr).next_back()?;
        (addr < e.range.end).then_some(e)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Extent> {
        self.0.values()
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Extent> {
        self.0.values_mut()
    }

    /// Extents that share a byte with `range`, in order.
    pub(crate) fn overlapping(&self, range: Range) -> impl Iterator<Item = &Extent> {
        let first = self
            .find(range.start)
            .map_or(range.start, |e| e.range.start);
        self.0.range(first..range.end.max(first)).map(|(_, e)| e)
    }

    pub(crate) fn overlapping_mut(&mut self, range: Range) -> impl Iterator<Item = &mut Extent> {
        let first = self
            .find(range.start)
            .map_or(range.start, |e| e.range.start);
        self.0
            .range_mut(first..range.end.max(first))
            .map(|(_, e)| e)
    }

    /// The extent before `addr` and the one at or behind it.
    pub(crate) fn around(&self, addr: u64) -> (Option<&Extent>, Option<&Extent>) {
        let before = self.0.range(..addr).next_back().map(|(_, e)| e);
        let after = self.0.range(addr..).next().map(|(_, e)| e);
        (before, after)
    }

    /// Cuts the extent that crosses `at`.
    pub(crate) fn split(&mut self, at: u64) {
        if let Some(e) = self.find_mut(at)
            && let Some(tail) = e.split_off(at)
        {
            self.0.insert(at, tail);
        }
    }

    /// Takes everything within `range` out, cutting at its edges.
    pub(crate) fn remove(&mut self, range: Range) -> Vec<Extent> {
        if self.overlapping(range).next().is_none() {
            return Vec::new();
        }
        self.split(range.start);
        self.split(range.end);
        let starts: Vec<u64> = self
            .0
            .range(range.start..range.end)
            .map(|(s, _)| *s)
            .collect();
        starts.iter().filter_map(|s| self.0.remove(s)).collect()
    }

    /// Puts an extent where nothing is and joins it with its neighbours.
    pub(crate) fn insert(&mut self, extent: Extent) {
        debug_assert!(self.overlapping(extent.range).next().is_none());
        let range = extent.range;
        self.0.insert(range.start, extent);
        self.join(range.end);
        self.join(range.start);
    }

    /// Joins the extents that meet at `at`, if they are one.
    pub(crate) fn join(&mut self, at: u64) {
        let Some(next) = self.0.get(&at) else { return };
        let Some((&before, last)) = self.0.range(..at).next_back() else {
            return;
        };
        if !last.continues(next) {
            return;
        }
        if let Some(next) = self.0.remove(&at)
            && let Some(last) = self.0.get_mut(&before)
        {
            last.absorb(next);
        }
    }

    /// Joins wherever possible within and at the edges of `range`.
    pub(crate) fn join_all(&mut self, range: Range) {
        let starts: Vec<u64> = self
            .0
            .range(range.start..=range.end)
            .map(|(s, _)| *s)
            .collect();
        for at in starts {
            self.join(at);
        }
    }

    pub(crate) fn clear(&mut self) -> Vec<Extent> {
        std::mem::take(&mut self.0).into_values().collect()
    }
}
