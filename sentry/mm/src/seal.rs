//! Breaking seals: a private store to what must stay as it is.

use crate::batch::Batch;
use crate::extent::{Backing, Extent, ExtentMap};
use crate::fault::Next;
use crate::state::{Garbage, Mm, State};
use crate::types::{FaultSignal, Prot};
use crate::vma::Vma;
use abi::Errno;
use abi::page::{Range, page_down};
use hostmem::{Frames, MemoryFile, Placement};
use platform_api::Access;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

/// What one copy takes: most of what is resident around a written page is written too.
const CHUNK: u64 = 64 << 10;
/// Extents up to this long are copied whole.
const SMALL: u64 = 128 << 10;
/// The longest mirror: a large heap forked often must not use up the file's offsets.
const LARGEST_MIRROR: u64 = 256 << 20;
/// So many extents are looked at when a fork turns out to be over.
const SWEEP: usize = 512;

fn chunk_around(page: u64, extent: Range) -> Range {
    if extent.len() <= SMALL {
        return extent;
    }
    let start = page / CHUNK * CHUNK;
    Range::new(start, start.saturating_add(CHUNK)).intersect(&extent)
}

/// Gives the extent at `page` frames for its copies, unless it has them. A very long extent is
/// cut first. Where offsets run out, the chunk alone is cut and provided for.
fn provide_mirror(
    extents: &mut ExtentMap,
    memory: &Arc<MemoryFile>,
    page: u64,
) -> Result<(), Errno> {
    let start = page / LARGEST_MIRROR * LARGEST_MIRROR;
    for part in [
        Range::new(start, start.saturating_add(LARGEST_MIRROR)),
        Range::new(
            page / CHUNK * CHUNK,
            (page / CHUNK * CHUNK).saturating_add(CHUNK),
        ),
    ] {
        let Some(extent) = extents.find(page) else {
            return Ok(());
        };
        if extent.mirror.is_some() {
            return Ok(());
        }
        if extent.range.len() > part.len() {
            extents.split(part.start);
            extents.split(part.end);
        }
        let Some(extent) = extents.find_mut(page) else {
            return Ok(());
        };
        let len = extent.range.len();
        let place = if len > SMALL {
            Placement::Like {
                addr: extent.range.start,
                at: None,
            }
        } else {
            Placement::Anywhere
        };
        if let Ok(mirror) = memory.allocate(len, place) {
            extent.mirror = Some(mirror);
            return Ok(());
        }
    }
    Err(Errno::ENOMEM)
}

impl Mm {
    /// Makes the sealed extent at `page`, of a private mapping, writable there: in place when
    /// nobody else holds its frames, else by a copy.
    pub(crate) fn break_seal(
        &self,
        st: &mut State,
        vma: &Vma,
        page: u64,
        garbage: &mut Garbage,
    ) -> Result<Next, Errno> {
        let Some(extent) = st.extents.find_mut(page) else {
            return Ok(Next::Again);
        };
        let range = extent.range;
        let frames = match &extent.backing {
            Backing::Zero => return self.demand(st, vma, page, Access::Write, garbage),
            Backing::Host { .. } => return Ok(Next::CopyHost),
            Backing::Frames(frames) => frames,
        };
        if let Some(run) = frames.unique_around(page - range.start) {
            let run = Range::new(range.start + run.start, range.start + run.end);
            self.unseal(st, vma, run, garbage)?;
            return Ok(Next::Done);
        }
        provide_mirror(&mut st.extents, &self.memory, page)?;
        let Some(extent) = st.extents.find(page) else {
            return Ok(Next::Again);
        };
        let chunk = chunk_around(page, extent.range);
        st.extents.split(chunk.start);
        st.extents.split(chunk.end);
        let Some(extent) = st.extents.find_mut(page) else {
            return Ok(Next::Again);
        };
        let (Backing::Frames(from), Some(to)) = (&extent.backing, extent.mirror.take()) else {
            return Ok(Next::Again);
        };
        if to.charge(0, chunk.len()).is_err() {
            extent.mirror = Some(to);
            return Ok(Next::Starved(chunk.len()));
        }
        // When this fails, what was copied goes with that part of the mirror.
        to.copy_resident(0, from, 0, chunk.len())
            .map_err(|_| Errno::ENOMEM)?;
        self.replace(st, vma, Extent::own(chunk, to), garbage)?;
        Ok(Next::Done)
    }

    /// Puts `extent` in place of what is there, on the platform first.
    fn replace(
        &self,
        st: &mut State,
        vma: &Vma,
        mut extent: Extent,
        garbage: &mut Garbage,
    ) -> Result<(), Errno> {
        let mut batch = Batch::default();
        let access = extent.access(vma.prot);
        batch.install(&mut extent, access, &self.memory);
        self.commit(batch)?;
        let range = extent.range;
        st.handed_out += range.len();
        // The copy is there; without this the guest's touch of each page would have it found.
        if self.bounds.populates
            && let Backing::Frames(frames) = &extent.backing
            && frames.next_resident(0) == Some(Range::new(0, range.len()))
        {
            self.space.populate(range.start, range.len());
        }
        garbage.add(st.extents.remove(range));
        st.extents.insert(extent);
        Ok(())
    }

    /// Lifts the seal from `run`, whose frames nobody else holds.
    fn unseal(
        &self,
        st: &mut State,
        vma: &Vma,
        run: Range,
        garbage: &mut Garbage,
    ) -> Result<(), Errno> {
        let mut runs = vec![(run.intersect(&vma.range), vma.prot)];
        if std::mem::take(&mut st.sweep) {
            // The first after a fork: as a rule the other side has gone (exec, exit), and each
            // further extent would cost a fault of its own.
            let mine = runs[0].0;
            let gone = st
                .extents
                .iter()
                .filter(|e| e.sealed && !e.translated && !e.range.overlaps(&mine))
                .take(SWEEP);
            for extent in gone {
                let Some(vma) = st.vmas.find(extent.range.start) else {
                    continue;
                };
                let whole = vma.range.covers(&extent.range) && vma.prot.contains(Prot::WRITE);
                if let Backing::Frames(frames) = &extent.backing
                    && whole
                    && frames.is_unique()
                {
                    runs.push((extent.range, vma.prot));
                }
            }
            runs.sort_unstable_by_key(|(r, _)| r.start);
        }
        let mut batch = Batch::default();
        for (range, prot) in &runs {
            st.extents.split(range.start);
            st.extents.split(range.end);
            for extent in st.extents.overlapping_mut(*range) {
                extent.sealed = false;
                extent.translated = false;
                garbage.0.extend(extent.mirror.take());
                let access = extent.access(*prot);
                match extent.installed {
                    Some(now) if now != access => {
                        batch.protect(extent.range, access);
                        extent.installed = Some(access);
                    }
                    Some(_) => {}
                    None => batch.install(extent, access, &self.memory),
                }
            }
        }
        let told = self.commit(batch);
        if told.is_err() {
            // Unknown what the platform has; as it is told nothing is there, it is mapped anew.
            for (range, _) in &runs {
                for extent in st.extents.overlapping_mut(*range) {
                    extent.installed = None;
                }
            }
        }
        for (range, _) in &runs {
            st.extents.join_all(*range);
        }
        told
    }

    /// Copies the chunk around `addr` of a private mapping of a host file into frames. The file
    /// is read without the tables' lock.
    pub(crate) fn copy_from_host(
        &self,
        addr: u64,
        garbage: &mut Garbage,
    ) -> Result<(), FaultSignal> {
        let page = page_down(addr);
        // Lock order: copying -> state. One copier at a time: two would fill the same frames.
        let one = self.copying.lock();
        let Some((chunk, file, offset, to)) = self
            .chunk_to_copy(page)
            .map_err(|e| FaultSignal::from_errno(e, addr))?
        else {
            return Ok(());
        };
        if to.charge(0, chunk.len()).is_err() {
            drop(one);
            return self
                .memory
                .make_room(chunk.len())
                .map_err(|_| FaultSignal::starved(addr));
        }
        let read = read_whole(&file, offset, &to, chunk.len());
        let mut guard = self.state.write();
        let st = &mut *guard;
        let unchanged = st.extents.find(page).is_some_and(|e| {
            e.range == chunk
                && matches!(&e.backing, Backing::Host { file: f, offset: o, .. }
                    if Arc::ptr_eq(f, &file) && *o == offset)
                && e.mirror.as_ref().is_some_and(|m| m.start() == to.start())
        });
        let vma = st.vmas.find(page).filter(|v| !v.shared()).cloned();
        let (Some(vma), true) = (vma, unchanged) else {
            // Whatever was read must not be found there by the next copy.
            let _ = to.decommit(0, to.len());
            return Ok(());
        };
        let enough = match read {
            Ok(n) => n > page - chunk.start,
            Err(e) => {
                tracing::debug!("reading a mapped file: {e}");
                false
            }
        };
        let done = enough
            && vma.range.covers(&chunk)
            && self
                .replace(st, &vma, Extent::own(chunk, to.clone()), garbage)
                .is_ok();
        if !done {
            let _ = to.decommit(0, to.len());
            return Err(FaultSignal::bus(addr));
        }
        Ok(())
    }

    /// Cuts the chunk out of its extent and gives it frames to be copied to; `None` when there is
    /// nothing to copy any more.
    #[expect(clippy::type_complexity, reason = "used once, just above")]
    fn chunk_to_copy(
        &self,
        page: u64,
    ) -> Result<Option<(Range, Arc<OwnedFd>, u64, Frames)>, Errno> {
        let mut guard = self.state.write();
        let st = &mut *guard;
        let Some(vma) = st.vmas.find(page).filter(|v| !v.shared()) else {
            return Ok(None);
        };
        let bounds = vma.range;
        st.extents.split(bounds.start);
        st.extents.split(bounds.end);
        let Some(extent) = st.extents.find_mut(page) else {
            return Ok(None);
        };
        if !matches!(extent.backing, Backing::Host { .. }) {
            return Ok(None);
        }
        provide_mirror(&mut st.extents, &self.memory, page)?;
        let Some(extent) = st.extents.find(page) else {
            return Ok(None);
        };
        let chunk = chunk_around(page, extent.range);
        st.extents.split(chunk.start);
        st.extents.split(chunk.end);
        Ok(st
            .extents
            .find(page)
            .and_then(|e| match (&e.backing, &e.mirror) {
                (Backing::Host { file, offset, .. }, Some(to)) => {
                    Some((e.range, file.clone(), *offset, to.clone()))
                }
                _ => None,
            }))
    }
}

/// Reads until the end of `to` or of the file; returns the count.
fn read_whole(file: &OwnedFd, offset: u64, to: &Frames, len: u64) -> Result<u64, Errno> {
    let mut done = 0;
    while done < len {
        let left = usize::try_from(len - done).unwrap_or(usize::MAX);
        let from = offset.saturating_add(done);
        match to.fill_from_host(done, left, file.as_fd(), Some(from)) {
            Ok(0) => break,
            Ok(n) => done += n as u64,
            Err(Errno::EINTR) => {}
            Err(e) => return Err(e),
        }
    }
    Ok(done)
}
