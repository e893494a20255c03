//! Frames for anonymous memory, at its first touch.

use crate::extent::{Backing, Extent, ExtentMap};
use crate::fault::Next;
use crate::state::{Garbage, Mm, State};
use crate::types::Prot;
use crate::vma::{Vma, VmaFlags};
use abi::Errno;
use abi::page::{PAGE_SIZE, Range};
use hostmem::Placement;
use platform_api::Access;

/// Holes up to this long are filled at once.
const SMALL: u64 = 128 << 10;
/// What a touch somewhere in the middle gets.
const CHUNK: u64 = 256 << 10;
/// What a touch of the very beginning gets: memory that is used in order, as a rule.
const FIRST: u64 = 2 << 20;
/// The most that use in order comes to.
const LARGEST: u64 = 32 << 20;
/// The most that a stack gets at once.
const STACK_LARGEST: u64 = 1 << 20;
/// Reads of untouched memory in mappings at least this long get zeros first: reading must not
/// make pages of what is mostly a reservation.
const SPARSE: u64 = 64 << 20;

impl Mm {
    /// Gives the anonymous mapping frames (or zeros) around `page`, and tells the platform.
    pub(crate) fn demand(
        &self,
        st: &mut State,
        vma: &Vma,
        page: u64,
        access: Access,
        garbage: &mut Garbage,
    ) -> Result<Next, Errno> {
        let sparse = vma.range.len() >= SPARSE || vma.flags.contains(VmaFlags::NORESERVE);
        let read_only = !vma.prot.contains(Prot::WRITE);
        if access != Access::Write && (read_only || sparse) {
            let hole = hole_around(&st.extents, vma, page, false);
            let run = if read_only { FIRST } else { CHUNK };
            st.extents
                .insert(Extent::zero(aligned(page, run).intersect(&hole)));
        } else {
            // Zeros in the way are as good as nothing.
            let hole = hole_around(&st.extents, vma, page, true);
            let most = self.memory.largest_grant();
            let range = within(plan(&st.extents, vma, page, hole), page, most);
            let frames = self
                .memory
                .allocate(range.len(), placement(&st.extents, vma, range))?;
            if frames.charge(0, range.len()).is_err() {
                garbage.0.push(frames);
                return Ok(Next::Starved(range.len().min(most)));
            }
            let mut extent = Extent::own(range, frames);
            let access = extent.access(vma.prot);
            let mut batch = crate::batch::Batch::default();
            // Told first: what fails leaves no trace. Where zeros were, this replaces them.
            batch.install(&mut extent, access, &self.memory);
            self.commit(batch)?;
            garbage.add(st.extents.remove(range));
            st.extents.insert(extent);
            st.handed_out += range.len();
            return Ok(Next::Done);
        }
        self.install(st, vma, page)?;
        Ok(Next::Done)
    }
}

/// The part of `range` around `page` that is at most `most` bytes long, as near the memory limit
/// only little is handed out at once.
pub(crate) fn within(range: Range, page: u64, most: u64) -> Range {
    if range.len() <= most {
        return range;
    }
    if page.saturating_add(most) <= range.end {
        return Range::new(page, page + most);
    }
    Range::new(range.end - most, range.end)
}

fn aligned(page: u64, size: u64) -> Range {
    let start = page / size * size;
    Range::new(start, start.saturating_add(size))
}

/// The part of the mapping around `page` behind which nothing stands; with `over_zeros`, nothing
/// but zeros.
fn hole_around(extents: &ExtentMap, vma: &Vma, page: u64, over_zeros: bool) -> Range {
    let blocks = |e: &Extent| !(over_zeros && matches!(e.backing, Backing::Zero));
    let mut hole = vma.range;
    // A few steps each way: beyond many runs of zeros it does not matter any more.
    let mut at = page;
    let mut steps = 0..16;
    hole.start = loop {
        match extents.around(at).0 {
            Some(e) if e.range.end <= hole.start => break hole.start,
            Some(e) if blocks(e) => break hole.start.max(e.range.end.min(page)),
            Some(e) if e.range.start > hole.start => at = e.range.start,
            _ => break hole.start,
        }
        if steps.next().is_none() {
            break at;
        }
    };
    let mut at = page;
    let mut steps = 0..16;
    hole.end = loop {
        match extents.around(at).1 {
            Some(e) if e.range.start >= hole.end => break hole.end,
            Some(e) if blocks(e) => break hole.end.min(e.range.start.max(page + PAGE_SIZE)),
            Some(e) if e.range.end < hole.end => at = e.range.end,
            _ => break hole.end,
        }
        if steps.next().is_none() {
            break at;
        }
    };
    hole
}

/// How much to hand out for a touch of `page`, within `hole`.
fn plan(extents: &ExtentMap, vma: &Vma, page: u64, hole: Range) -> Range {
    if hole.len() <= SMALL {
        return hole;
    }
    let (before, after) = extents.around(page);
    let end_of_hole = hole.end;
    let below = before.filter(|e| e.range.end == hole.start && page == hole.start);
    let above = after.filter(|e| e.range.start == end_of_hole && hole.end - page <= CHUNK);
    if vma.flags.intersects(VmaFlags::GROWSDOWN | VmaFlags::STACK) {
        let size = above
            .map_or(SMALL, |e| e.range.len())
            .clamp(SMALL, STACK_LARGEST);
        return aligned(page, size).intersect(&hole);
    }
    if let Some(e) = below {
        // Going upwards: twice what there is.
        let size = e.range.len().saturating_mul(2).clamp(CHUNK, LARGEST);
        return Range::new(page, page.saturating_add(size)).intersect(&hole);
    }
    if page == vma.range.start {
        return Range::new(page, page.saturating_add(FIRST)).intersect(&hole);
    }
    if let Some(e) = above {
        // Going downwards.
        let size = e.range.len().saturating_mul(2).clamp(CHUNK, LARGEST);
        return Range::new(hole.end.saturating_sub(size).min(page), hole.end).intersect(&hole);
    }
    aligned(page, CHUNK).intersect(&hole)
}

/// Behind the frames of the extent below, so that the two are one.
fn placement(extents: &ExtentMap, vma: &Vma, range: Range) -> Placement {
    if let Some(before) = extents.around(range.start).0
        && before.range.end == range.start
        && !before.sealed
        && !before.translated
        && let Backing::Frames(frames) = &before.backing
    {
        return Placement::Behind(frames.end());
    }
    if vma.range.len() > FIRST {
        Placement::Roomy
    } else {
        Placement::Anywhere
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vma(start: u64, end: u64) -> Vma {
        Vma {
            range: Range::new(start, end),
            prot: Prot::READ | Prot::WRITE,
            max_prot: Prot::all(),
            flags: VmaFlags::empty(),
            file: None,
            name: None,
        }
    }

    #[test]
    fn use_in_order_gets_more_and_more() {
        let v = vma(1 << 30, 2 << 30);
        let mut extents = ExtentMap::default();
        let memory = hostmem::MemoryFile::new().unwrap();
        let mut at = v.range.start;
        let mut touches = 0;
        while at < v.range.end {
            let hole = hole_around(&extents, &v, at, true);
            let range = plan(&extents, &v, at, hole);
            assert!(range.contains(at));
            let place = placement(&extents, &v, range);
            let frames = memory.allocate(range.len(), place).unwrap();
            extents.insert(Extent::own(range, frames));
            at = range.end;
            touches += 1;
        }
        assert!(touches < 40, "{touches} touches for a GiB");
        assert_eq!(extents.iter().count(), 1);
    }

    #[test]
    fn a_touch_in_the_middle_gets_a_chunk() {
        let v = vma(1 << 30, 2 << 30);
        let extents = ExtentMap::default();
        let page = (1 << 30) + (77 << 20);
        let hole = hole_around(&extents, &v, page, true);
        assert_eq!(plan(&extents, &v, page, hole).len(), CHUNK);
        let small = vma(1 << 30, (1 << 30) + 0x8000);
        let hole = hole_around(&extents, &small, small.range.start + 0x3000, true);
        assert_eq!(
            plan(&extents, &small, small.range.start + 0x3000, hole),
            small.range
        );
    }

    #[test]
    fn zeros_are_no_obstacle_to_writes() {
        let v = vma(0x10_0000, 0x20_0000);
        let mut extents = ExtentMap::default();
        extents.insert(Extent::zero(Range::new(0x12_0000, 0x14_0000)));
        let page = 0x13_0000;
        assert_eq!(hole_around(&extents, &v, page, true), v.range);
        let memory = hostmem::MemoryFile::new().unwrap();
        let frames = memory.allocate(0x1000, Placement::Anywhere).unwrap();
        extents.insert(Extent::own(Range::new(0x14_0000, 0x14_1000), frames));
        assert_eq!(
            hole_around(&extents, &v, page, true),
            Range::new(0x10_0000, 0x14_0000)
        );
    }
}
