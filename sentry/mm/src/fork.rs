//! fork(2): the same memory twice, copied when written.

use crate::batch::Batch;
use crate::extent::Extent;
use crate::state::{Mm, State};
use crate::types::{ExecInfo, Prot, platform_errno};
use crate::vma::{Vma, VmaFlags, VmaSet};
use abi::Errno;
use abi::page::Range;
use memmap::Mapping;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// How long a fork waits for host reads into the memory it is about to seal. They take
/// microseconds, but for a file on a host that does not answer.
const PATIENCE: Duration = Duration::from_millis(100);

impl Mm {
    /// A space with the same contents. Private memory is sealed on both sides.
    ///
    /// Called on a thread whose context last ran in this space.
    ///
    /// # Errors
    /// `ENOMEM` and what else the platform answers; this space is as before then.
    pub fn fork(&self) -> Result<Arc<Mm>, Errno> {
        let mut guard = self.state.write();
        let st = &mut *guard;
        if st.destroyed {
            return Err(Errno::ENOMEM);
        }
        self.wait_for_fills();
        let before = seal(st);
        let space = match self.space.fork(before.ops()) {
            Ok(space) => space,
            Err(e) => {
                // Sealed extents whose frames nobody shares are unsealed at the next store.
                return Err(platform_errno(e));
            }
        };
        let info = ExecInfo::clone(&self.info.lock());
        let mut after = Batch::default();
        let (vmas, extents) = inherited(st, &mut after);
        let child = Mm::with(
            self.memory.clone(),
            space,
            self.bounds.clone(),
            info,
            |this| {
                let mut child = State::fresh(st.layout);
                for vma in vmas.iter() {
                    attach(vma, this.clone());
                }
                child.peak_virtual = vmas.totals().all;
                child.vmas = vmas;
                for extent in extents {
                    child.extents.insert(extent);
                }
                child.limits = st.limits;
                child.heap = st.heap;
                child.sweep = true;
                child
            },
        );
        child.commit(after)?;
        Ok(child)
    }

    /// A read straight into frames that are then sealed and copied would be lost on one side.
    fn wait_for_fills(&self) {
        let start = Instant::now();
        while self.fills.load(Ordering::Acquire) > 0 && start.elapsed() < PATIENCE {
            std::thread::sleep(Duration::from_micros(20));
        }
    }
}

/// Seals all private memory; returns what takes the right to store away on the platform.
fn seal(st: &mut State) -> Batch {
    let mut batch = Batch::default();
    for extent in st.extents.iter_mut() {
        // What is unsealed and of a file belongs to a shared mapping.
        if extent.sealed || extent.translated {
            continue;
        }
        extent.sealed = true;
        if let Some(now) = extent.installed
            && now.contains(Prot::WRITE)
        {
            batch.protect(extent.range, now - Prot::WRITE);
            extent.installed = Some(now - Prot::WRITE);
        }
    }
    st.sweep = true;
    st.forks += 1;
    batch
}

/// What the child gets. `after` is told to its platform space: what it does not get after all.
fn inherited(st: &mut State, after: &mut Batch) -> (VmaSet, Vec<Extent>) {
    let mut vmas = VmaSet::default();
    let mut dropped: Vec<Range> = Vec::new();
    for vma in st.vmas.iter() {
        if vma.flags.contains(VmaFlags::DONTFORK) {
            dropped.push(vma.range);
            continue;
        }
        if vma.flags.contains(VmaFlags::WIPEONFORK) {
            dropped.push(vma.range);
        }
        let mut vma = vma.clone();
        // Locks are not inherited.
        vma.flags -= VmaFlags::LOCKED;
        vmas.insert(vma);
    }
    // Extents go on from one mapping to the next.
    for range in &dropped {
        st.extents.split(range.start);
        st.extents.split(range.end);
    }
    let keep = |e: &&Extent| !dropped.iter().any(|d| d.overlaps(&e.range));
    let extents = st.extents.iter().filter(keep).map(child_extent).collect();
    for range in &dropped {
        if st
            .extents
            .overlapping(*range)
            .any(|e| e.installed.is_some())
        {
            after.unmap(*range);
        }
        st.extents.join_all(*range);
    }
    (vmas, extents)
}

fn child_extent(extent: &Extent) -> Extent {
    Extent {
        range: extent.range,
        backing: extent.backing.clone(),
        sealed: extent.sealed,
        translated: extent.translated,
        installed: extent.installed,
        refused: 0,
        // Each side copies to a place of its own.
        mirror: None,
    }
}

fn attach(vma: &Vma, space: std::sync::Weak<Mm>) {
    let Some(file) = &vma.file else { return };
    let range = Range {
        start: file.offset,
        end: file.offset.saturating_add(vma.range.len()),
    };
    let mapping = Mapping {
        space,
        addr: vma.range.start,
        range,
        shared_write: vma.shared() && vma.max_prot.contains(Prot::WRITE),
    };
    // The same mapping was allowed once.
    if let Err(e) = file.mappable.attach(mapping) {
        tracing::debug!("a forked mapping was refused: {e}");
    }
}
