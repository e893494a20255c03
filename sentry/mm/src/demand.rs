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
/// A large page.
const LARGE: u64 = 2 << 20;
/// What of memory that is made ahead is left to be touched.
const PROBE: u64 = 64 << 10;
/// Frames are put into line with others that are no further away.
const NEAR: u64 = 64 << 20;
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
            let ahead = if self.bounds.populates {
                ahead(&st.extents, vma, page, hole)
            } else {
                None
            };
            let planned = match &ahead {
                Some(ahead) => ahead.range,
                None => plan(&st.extents, vma, page, hole),
            };
            let range = within(planned, page, most);
            let frames = self
                .memory
                .allocate(range.len(), placement(&st.extents, vma, range))?;
            if frames.charge(0, range.len()).is_err() {
                garbage.0.push(frames);
                // A page is enough: with less room than was asked for, less is asked for again.
                return Ok(Next::Starved(PAGE_SIZE));
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
            if let Some(ahead) = ahead.filter(|a| a.range == range) {
                self.space.populate(range.start, ahead.populated);
            }
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
        return Range::new(page, up_to(page, size)).intersect(&hole);
    }
    if page == vma.range.start {
        let end = page.saturating_add(FIRST);
        let whole = end.checked_next_multiple_of(LARGE).unwrap_or(end);
        return Range::new(page, whole).intersect(&hole);
    }
    if let Some(e) = above {
        // Going downwards.
        let size = e.range.len().saturating_mul(2).clamp(CHUNK, LARGEST);
        let start = hole.end.saturating_sub(size);
        let whole = start.next_multiple_of(LARGE);
        let start = if whole < hole.end { whole } else { start };
        return Range::new(start.min(page), hole.end).intersect(&hole);
    }
    aligned(page, CHUNK).intersect(&hole)
}

/// About `size` bytes behind `page`, where a large page ends if it is more than one.
fn up_to(page: u64, size: u64) -> u64 {
    let end = page.saturating_add(size);
    if size < LARGE {
        end
    } else {
        end / LARGE * LARGE
    }
}

/// Where frames are going to be used as a whole.
struct Ahead {
    range: Range,
    /// So many bytes from its start should exist at once.
    populated: u64,
}

/// Whether the touch of `page` is a reason to have the host's pages for what follows it as well: in
/// a mapping for which large pages were asked, or when all has been used in order so far. Then the
/// last pages are left out, so that the next touch tells whether that goes on.
fn ahead(extents: &ExtentMap, vma: &Vma, page: u64, hole: Range) -> Option<Ahead> {
    if vma.flags.contains(VmaFlags::NO_HUGE) {
        return None;
    }
    let large = aligned(page, LARGE);
    if vma.flags.contains(VmaFlags::HUGE) && hole.covers(&large) {
        return Some(Ahead {
            range: large,
            populated: LARGE,
        });
    }
    let before = extents.around(page).0?;
    if page != hole.start || before.range.end != page || !vma.range.contains(page - PAGE_SIZE) {
        return None;
    }
    let Backing::Frames(frames) = &before.backing else {
        return None;
    };
    let proof = frames.len().checked_sub(LARGE)?;
    let used = frames.next_resident(proof)?;
    if used != Range::new(proof, frames.len()) {
        return None;
    }
    let end = aligned(page + LARGE, LARGE).start.max(page + SMALL);
    let range = Range::new(page, end).intersect(&hole);
    let populated = range.len().checked_sub(PROBE).filter(|len| *len > 0)?;
    Some(Ahead { range, populated })
}

/// Where the frames of `range` lie: so that they go on from those of a neighbour, and large pages
/// can be made of them.
fn placement(extents: &ExtentMap, vma: &Vma, range: Range) -> Placement {
    if vma.range.len() < LARGE {
        return match extents.around(range.start).0 {
            Some(before) if before.range.end == range.start => {
                own_frames(before).map_or(Placement::Anywhere, |f| Placement::Behind(f.end()))
            }
            _ => Placement::Anywhere,
        };
    }
    let (before, after) = extents.around(range.start);
    let near = [before, after].into_iter().flatten().find_map(|e| {
        let from = own_frames(e)?.start();
        let distance = range.start.wrapping_sub(e.range.start).cast_signed();
        let apart = distance.unsigned_abs() < NEAR.max(e.range.len() + NEAR);
        from.checked_add_signed(distance).filter(|_| apart)
    });
    Placement::Like {
        addr: range.start,
        at: near,
    }
}

/// The frames of an extent that no one else has.
fn own_frames(extent: &Extent) -> Option<&hostmem::Frames> {
    match &extent.backing {
        Backing::Frames(frames) if !extent.sealed && !extent.translated => Some(frames),
        _ => None,
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
