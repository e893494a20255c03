//! Where things go in a fresh address space.

use crate::types::MmLimits;
use crate::vma::VmaSet;
use abi::page::{PAGE_SHIFT, PAGE_SIZE, Range, page_down, page_up};
use platform_api::Limits;
use std::hash::{BuildHasher, Hasher, RandomState};

/// Linux keeps this much free below a stack (`stack_guard_gap`).
pub(crate) const STACK_GUARD: u64 = 256 * PAGE_SIZE;
/// Lowest address handed out or accepted (`vm.mmap_min_addr`).
pub(crate) const MIN_ADDR: u64 = 0x10000;

/// Bits of randomness in pages, as on x86-64 (`mmap_rnd_bits`, stack).
const MMAP_BITS: u32 = 28;
const STACK_BITS: u32 = 22;

/// The random parts of an address space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// mmap(2) looks for room from here downwards.
    pub mmap_base: u64,
    /// One past the highest address of the stack.
    pub stack_top: u64,
    /// Where a position-independent program goes.
    pub pie_base: u64,
    /// How far behind the program its heap begins.
    pub brk_gap: u64,
}

fn random() -> u64 {
    // Seeded by the host once a thread, different at each call.
    RandomState::new().build_hasher().finish()
}

impl Layout {
    /// Chooses; without `randomize` (personality(2), `ADDR_NO_RANDOMIZE`) always the same.
    pub(crate) fn choose(limits: &Limits, rlimits: &MmLimits, randomize: bool) -> Layout {
        let rnd = |bits: u32| {
            if randomize {
                (random() & ((1 << bits) - 1)) << PAGE_SHIFT
            } else {
                0
            }
        };
        let top = limits.highest.min(abi::page::TASK_SIZE);
        // A platform with little room gets less randomness rather than a broken layout.
        let scale = |value: u64| if top < 1 << 46 { value >> 8 } else { value };
        let stack_rnd = if randomize {
            1u64 << (STACK_BITS + PAGE_SHIFT)
        } else {
            0
        };
        let gap = page_down(rlimits.stack.max(128 << 20).min(top / 6 * 5))
            .saturating_add(scale(stack_rnd))
            .saturating_add(STACK_GUARD);
        Layout {
            mmap_base: page_down(
                top.saturating_sub(gap)
                    .saturating_sub(scale(rnd(MMAP_BITS))),
            ),
            stack_top: page_down(top.saturating_sub(scale(rnd(STACK_BITS)))),
            pie_base: page_down(top / 3 * 2).saturating_add(scale(rnd(MMAP_BITS))),
            brk_gap: rnd(13),
        }
    }
}

/// What the search for room remembers: below `from` nothing has been searched, and no gap above
/// it is longer than `longest`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SearchHint {
    from: u64,
    longest: u64,
}

impl SearchHint {
    pub(crate) const fn none() -> SearchHint {
        SearchHint {
            from: u64::MAX,
            longest: 0,
        }
    }

    /// A range became free.
    pub(crate) fn freed(&mut self, range: Range) {
        if range.end > self.from {
            *self = SearchHint::none();
        }
    }
}

/// Whether the platform lets a guest use all of `range`.
pub(crate) fn usable(limits: &Limits, range: Range) -> bool {
    range.start >= limits.lowest
        && range.end <= limits.highest.min(abi::page::TASK_SIZE)
        && !limits
            .holes
            .iter()
            .any(|&(s, e)| range.start < e && s < range.end)
}

/// Room for `len` bytes within `bounds`, the highest there is.
pub(crate) fn find_below(
    vmas: &VmaSet,
    limits: &Limits,
    bounds: Range,
    len: u64,
    hint: &mut SearchHint,
) -> Option<u64> {
    if len > hint.longest && hint.from <= bounds.end && hint.from > bounds.start {
        let below = Range::new(bounds.start, hint.from);
        if let Some(at) = search(vmas, limits, below, len, &mut hint.longest) {
            hint.from = at;
            return Some(at);
        }
    }
    let mut longest = 0;
    let at = search(vmas, limits, bounds, len, &mut longest)?;
    *hint = SearchHint { from: at, longest };
    Some(at)
}

fn search(
    vmas: &VmaSet,
    limits: &Limits,
    bounds: Range,
    len: u64,
    longest: &mut u64,
) -> Option<u64> {
    let mut end = bounds.end;
    loop {
        // The highest thing in use below `end`: a mapping (with its guard gap) or a hole.
        let vma = vmas.below(end).map(|v| {
            let guard = if v.flags.contains(crate::vma::VmaFlags::GROWSDOWN) {
                STACK_GUARD
            } else {
                0
            };
            (v.range.start.saturating_sub(guard), v.range.end)
        });
        let hole = limits.holes.iter().rev().copied().find(|&(s, _)| s < end);
        let used = match (vma, hole) {
            (Some(a), Some(b)) => Some(if a.1 >= b.1 { a } else { b }),
            (a, b) => a.or(b),
        };
        let (used_start, used_end) = used.unwrap_or((bounds.start, bounds.start));
        let floor = used_end.max(bounds.start);
        if end.saturating_sub(floor) >= len {
            return Some(end - len);
        }
        *longest = (*longest).max(end.saturating_sub(floor));
        if used_start <= bounds.start || used_start >= end {
            return None;
        }
        end = used_start;
    }
}

/// Room for `len` bytes within `bounds`, the lowest there is: for `MAP_32BIT`, and when there is
/// none left below the usual base.
pub(crate) fn find_above(vmas: &VmaSet, limits: &Limits, bounds: Range, len: u64) -> Option<u64> {
    let mut at = bounds.start;
    loop {
        let end = at.checked_add(len)?;
        if end > bounds.end {
            return None;
        }
        let want = Range::new(at, end);
        if let Some(&(_, hole_end)) = limits.holes.iter().find(|&&(s, e)| at < e && s < end) {
            at = page_up(hole_end)?;
        } else if let Some(vma) = blocking(vmas, want) {
            at = vma;
        } else {
            return Some(at);
        }
    }
}

/// The end of a mapping that is in the way of `range`, guard gap of a stack above included.
pub(crate) fn blocking(vmas: &VmaSet, range: Range) -> Option<u64> {
    let vma = vmas.at_or_above(range.start)?;
    let guard = if vma.flags.contains(crate::vma::VmaFlags::GROWSDOWN) {
        STACK_GUARD
    } else {
        0
    };
    (vma.range.start.saturating_sub(guard) < range.end).then_some(vma.range.end)
}
