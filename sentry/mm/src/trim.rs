//! Taking back what was handed out and never touched, when the memory limit is near.

use crate::batch::Batch;
use crate::extent::{Backing, Extent};
use crate::state::{Garbage, Mm};
use abi::Errno;
use abi::page::Range;

impl Mm {
    /// Takes untouched stretches of at least `smallest` bytes out of the space's own memory: the
    /// next touch of them traps, and is charged anew.
    ///
    /// # Errors
    /// What the platform answers; nothing is lost then.
    pub fn trim(&self, smallest: u64) -> Result<(), Errno> {
        let mut garbage = Garbage::default();
        let mut guard = self.state.write();
        let st = &mut *guard;
        let holes: Vec<Range> = st
            .extents
            .iter()
            .filter(|e| e.range.len() >= smallest && !e.sealed && !e.translated)
            .flat_map(|e| holes(e, smallest))
            .collect();
        if holes.is_empty() {
            return Ok(());
        }
        // First nobody can reach them any more; what was touched until then stays.
        let mut batch = Batch::default();
        for hole in &holes {
            st.extents.split(hole.start);
            st.extents.split(hole.end);
            for extent in st.extents.overlapping_mut(*hole) {
                if extent.installed.take().is_some() {
                    batch.unmap(extent.range);
                }
            }
        }
        self.commit(batch)?;
        for hole in &holes {
            let untouched = st.extents.overlapping(*hole).all(is_untouched);
            if untouched {
                garbage.add(st.extents.remove(*hole));
            }
        }
        drop(guard);
        Ok(())
    }
}

/// Stretches of an extent's frames that do not exist. None where somebody else holds them, be it
/// a read of the host's that is under way.
fn holes(extent: &Extent, smallest: u64) -> Vec<Range> {
    let mut found = Vec::new();
    let Backing::Frames(frames) = &extent.backing else {
        return found;
    };
    if !frames.is_unique() {
        return found;
    }
    let mut at = 0;
    while at < frames.len() {
        let data = frames
            .next_resident(at)
            .unwrap_or(Range::new(frames.len(), frames.len()));
        if data.start - at >= smallest {
            let base = extent.range.start;
            found.push(Range::new(base + at, base + data.start));
        }
        at = data.end;
    }
    found
}

fn is_untouched(extent: &Extent) -> bool {
    match &extent.backing {
        Backing::Frames(frames) => frames.next_resident(0).is_none(),
        Backing::Host { .. } | Backing::Zero => false,
    }
}
