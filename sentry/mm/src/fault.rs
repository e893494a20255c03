//! Making an access possible: the guest's faults, and the kernel's own accesses.

use crate::batch::Batch;
use crate::extent::{Backing, Extent};
use crate::layout::{STACK_GUARD, usable};
use crate::state::{Garbage, Mm, State};
use crate::types::{FaultSignal, Prot};
use crate::vma::{FileRef, Vma, VmaFlags};
use abi::Errno;
use abi::page::{PAGE_SIZE, Range, page_down};
use memmap::Source;
use platform_api::Access;

/// A stack grows by at least this much where it may: the next pages down come next.
const STACK_STEP: u64 = 128 << 10;
/// A file mapping up to this long is translated at once; longer ones by aligned windows.
const FILE_WHOLE: u64 = 32 << 20;
const FILE_WINDOW: u64 = 8 << 20;
/// Rounds after which a fault that always finds things changed is given up.
const MAX_ROUNDS: u32 = 1000;
/// So many faults at one page that find nothing to do mean that the platform has lost it.
const MAX_SPURIOUS: u32 = 4;

/// On whose behalf memory is touched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Who {
    /// Guest code.
    Guest,
    /// The kernel, for the guest: obeys its protections.
    Kernel,
    /// The kernel, for a debugger: writes to private memory that is not writable, too.
    Force,
}

/// Whether a mapping allows an access. What is accessible at all is readable, as on the CPU.
#[inline]
pub(crate) fn permits(vma: &Vma, access: Access, who: Who) -> bool {
    let prot = match who {
        // Linux's FOLL_FORCE: reads what could be made readable, writes only private copies.
        Who::Force if !vma.shared() => vma.prot | vma.max_prot,
        Who::Force => vma.prot | (vma.max_prot & Prot::READ),
        Who::Guest | Who::Kernel => vma.prot,
    };
    match access {
        Access::Read => !prot.is_empty(),
        Access::Write => prot.contains(Prot::WRITE),
        Access::Execute => prot.contains(Prot::EXECUTE),
    }
}

/// What a round of fault handling left to do.
pub(crate) enum Next {
    Done,
    /// Something was put in place; look again.
    Again,
    /// A file must be asked, without the lock.
    Translate(Ask),
    /// A chunk of a host file must be copied, without the lock.
    CopyHost,
    /// The memory limit leaves no room for so many bytes: room must be made, without the lock.
    Starved(u64),
}

/// A question to a file.
pub(crate) struct Ask {
    file: FileRef,
    /// Offset of the page that is wanted.
    offset: u64,
    /// Addresses worth translating together, the page among them.
    window: Range,
    write: bool,
    shared: bool,
    epoch: u64,
}

impl Mm {
    /// Makes the guest's access at `addr` possible, or says which signal it gets. `bus` is what
    /// the platform said: the mapping is there, but its backing is not.
    pub fn handle_fault(&self, addr: u64, access: Access, bus: bool) -> Result<(), FaultSignal> {
        if bus {
            let st = self.state.read();
            let in_place = st.extents.find(addr).filter(|e| {
                e.installed.is_some_and(|p| !p.is_empty()) && !(access == Access::Write && e.sealed)
            });
            let of_ours = in_place.map(|e| !matches!(e.backing, Backing::Host { .. }));
            if st.vmas.find(addr).is_some() {
                match of_ours {
                    // Frames of ours have no end: the host has no page for them.
                    Some(true) => {
                        drop(st);
                        return self
                            .host_exhausted()
                            .map_err(|_| FaultSignal::starved(addr));
                    }
                    Some(false) => return Err(FaultSignal::bus(addr)),
                    None => {}
                }
            }
        }
        self.fault(addr, access, Who::Guest)
    }

    /// The host had no page for frames of ours. Once this comes back well, one may try again.
    pub(crate) fn host_exhausted(&self) -> Result<(), Errno> {
        self.memory.host_exhausted()
    }

    /// A postponed change failed on the platform. Makes the range consistent again (nothing of it
    /// is mapped there), so that the next touch starts anew. The platform may have run out of
    /// something that each mapped file takes: so all files go from it, to come back when they are
    /// touched. What is refused nevertheless is not tried again (see [`Mm::handle_fault`]).
    ///
    /// # Errors
    /// When not even that works, in which case the process must not run on.
    pub fn map_failed(&self, addr: u64, len: u64, errno: i32) -> Result<(), Errno> {
        tracing::warn!("the platform could not map {len:#x} bytes at {addr:#x}: errno {errno}");
        let mut guard = self.state.write();
        let st = &mut *guard;
        let start = page_down(addr);
        let end = abi::page::page_up(addr.saturating_add(len)).ok_or(Errno::EINVAL)?;
        let range = Range {
            start,
            end: end.max(start),
        };
        if range.is_empty() {
            return Ok(());
        }
        let mut batch = Batch::default();
        batch.unmap(range);
        st.extents.split(range.start);
        st.extents.split(range.end);
        for extent in st.extents.overlapping_mut(range) {
            extent.installed = None;
            extent.refused = extent.refused.saturating_add(1);
        }
        for extent in st.extents.iter_mut() {
            if extent.installed.is_some() && matches!(extent.backing, Backing::Host { .. }) {
                batch.unmap(extent.range);
                extent.installed = None;
            }
        }
        self.commit(batch)
    }

    pub(crate) fn fault(&self, addr: u64, access: Access, who: Who) -> Result<(), FaultSignal> {
        let mut garbage = Garbage::default();
        for _ in 0..MAX_ROUNDS {
            let next = {
                let mut st = self.state.write();
                self.step(&mut st, addr, access, who, &mut garbage)?
            };
            match next {
                Next::Done => return Ok(()),
                Next::Again => {}
                Next::Translate(ask) => self.translate(&ask, addr, access, &mut garbage)?,
                Next::CopyHost => self.copy_from_host(addr, &mut garbage)?,
                Next::Starved(bytes) => {
                    // What was replaced meanwhile need not wait.
                    drop(std::mem::take(&mut garbage));
                    self.memory
                        .make_room(bytes)
                        .map_err(|_| FaultSignal::starved(addr))?;
                }
            }
        }
        Err(FaultSignal::bus(addr))
    }

    fn step(
        &self,
        st: &mut State,
        addr: u64,
        access: Access,
        who: Who,
        garbage: &mut Garbage,
    ) -> Result<Next, FaultSignal> {
        let page = page_down(addr);
        if st.vmas.find(page).is_none() && !self.grow_stack(st, page) {
            return Err(FaultSignal::unmapped(addr));
        }
        let vma = st
            .vmas
            .find(page)
            .cloned()
            .ok_or(FaultSignal::unmapped(addr))?;
        if !permits(&vma, access, who) {
            return Err(FaultSignal::denied(addr));
        }
        let Some(extent) = st.extents.find(page) else {
            return match &vma.file {
                Some(_) => ask(st, &vma, page, false).ok_or(FaultSignal::bus(addr)),
                None => self
                    .demand(st, &vma, page, access, garbage)
                    .map_err(|e| FaultSignal::from_errno(e, addr)),
            };
        };
        // An extent may go on beyond its mapping, where the next has other rights.
        let crosses = !vma.range.covers(&extent.range);
        let (sealed, host_only, given_up) = (
            extent.sealed,
            matches!(extent.backing, Backing::Host { .. }),
            extent.is_given_up(),
        );
        let no_exec = matches!(
            extent.backing,
            Backing::Host {
                executable: false,
                ..
            }
        );
        if crosses {
            st.extents.split(vma.range.start);
            st.extents.split(vma.range.end);
        }
        if access == Access::Write && sealed {
            if vma.shared() {
                return ask(st, &vma, page, true).ok_or(FaultSignal::bus(addr));
            }
            if host_only {
                return Ok(Next::CopyHost);
            }
            return self
                .break_seal(st, &vma, page, garbage)
                .map_err(|e| FaultSignal::from_errno(e, addr));
        }
        if access == Access::Execute && no_exec {
            return if vma.shared() {
                Err(FaultSignal::denied(addr))
            } else {
                Ok(Next::CopyHost)
            };
        }
        if who == Who::Guest && given_up {
            return match host_only {
                true if !vma.shared() => Ok(Next::CopyHost),
                true => Err(FaultSignal::bus(addr)),
                false => Err(FaultSignal::starved(addr)),
            };
        }
        if who == Who::Guest {
            self.install(st, &vma, page)
                .map_err(|e| FaultSignal::from_errno(e, addr))?;
        }
        Ok(Next::Done)
    }

    /// Tells the platform of the extent at `page` with all the rights it can have.
    pub(crate) fn install(&self, st: &mut State, vma: &Vma, page: u64) -> Result<(), Errno> {
        let Some(extent) = st.extents.find_mut(page) else {
            return Ok(());
        };
        let access = extent.access(vma.prot);
        let mut batch = Batch::default();
        let before = extent.installed;
        match before {
            Some(now) if now == access => {
                // Another thread was here first, as a rule.
                let (last, count) = st.spurious;
                st.spurious = if last == page {
                    (page, count + 1)
                } else {
                    (page, 1)
                };
                if st.spurious.1 < MAX_SPURIOUS {
                    return Ok(());
                }
                st.spurious = (0, 0);
                batch.install(extent, access, &self.memory);
            }
            Some(_) => {
                batch.protect(extent.range, access);
                extent.installed = Some(access);
            }
            None => batch.install(extent, access, &self.memory),
        }
        let range = extent.range;
        let told = self.commit(batch);
        if told.is_err() {
            if let Some(extent) = st.extents.find_mut(page) {
                extent.installed = before;
            }
            return told;
        }
        st.extents.join(range.end);
        st.extents.join(range.start);
        Ok(())
    }

    /// Lets the stack above `page` grow down to it, if there is one that may.
    fn grow_stack(&self, st: &mut State, page: u64) -> bool {
        let Some(vma) = st.vmas.at_or_above(page) else {
            return false;
        };
        if !vma.flags.contains(VmaFlags::GROWSDOWN) || vma.range.start <= page {
            return false;
        }
        let range = vma.range;
        // The mapping below keeps its distance, unless it is one that nobody can touch.
        let floor = match st.vmas.below(range.start) {
            Some(prev) if prev.prot.is_empty() || prev.flags.contains(VmaFlags::GROWSDOWN) => {
                prev.range.end
            }
            Some(prev) => prev.range.end.saturating_add(STACK_GUARD),
            None => crate::layout::MIN_ADDR,
        };
        let all = st.vmas.totals().all;
        let allowed = |start: u64| {
            start >= floor
                && range.end - start <= st.limits.stack
                && all.saturating_add(range.start - start) <= st.limits.address_space
                && usable(&self.bounds, Range::new(start, range.start))
        };
        if !allowed(page) {
            return false;
        }
        let generous = page.min(range.start.saturating_sub(STACK_STEP));
        let start = if allowed(generous) { generous } else { page };
        st.vmas.grow_down(range.start, start);
        st.peak_virtual = st.peak_virtual.max(st.vmas.totals().all);
        true
    }

    /// Asks the file and enters what it says. Afterwards one looks again.
    fn translate(
        &self,
        ask: &Ask,
        addr: u64,
        access: Access,
        garbage: &mut Garbage,
    ) -> Result<(), FaultSignal> {
        let page = page_down(addr);
        let (start, translation, write) = match self.ask_file(ask, page, ask.write) {
            Ok((start, t)) => (start, t, ask.write),
            // A read of something that could be written but not now (no space, read-only).
            Err(_) if ask.write && access != Access::Write => self
                .ask_file(ask, page, false)
                .map(|(start, t)| (start, t, false))
                .map_err(|e| FaultSignal::from_errno(e, addr))?,
            Err(Errno::EACCES | Errno::EPERM) => return Err(FaultSignal::denied(addr)),
            Err(e) => return Err(FaultSignal::from_errno(e, addr)),
        };
        let mut guard = self.state.write();
        let st = &mut *guard;
        if st.epoch != ask.epoch {
            return Ok(());
        }
        let Some(vma) = st.vmas.find(page) else {
            return Ok(());
        };
        let same = vma.file.as_ref().is_some_and(|f| f.same_file(&ask.file))
            && vma.file_offset(page) == Some(ask.offset)
            && vma.shared() == ask.shared;
        if !same {
            return Ok(());
        }
        let end = start.saturating_add(translation.len);
        let mut range = Range::new(start, end).intersect(&vma.range);
        if let Source::Frames(_) = translation.source {
            range = crate::demand::within(range, page, self.memory.largest_grant());
        }
        let sealed = !(ask.shared && write);
        match st.extents.find(page) {
            // Somebody else was quicker, or this is to take the place of what may only be read.
            Some(now) if now.sealed && ask.shared && !sealed => {
                range = range.intersect(&now.range);
                self.drop_extents(st, range, garbage)
                    .map_err(|e| FaultSignal::from_errno(e, addr))?;
            }
            Some(_) => return Ok(()),
            None => {
                let (before, after) = st.extents.around(page);
                let low = before.map_or(0, |e| e.range.end);
                let high = after.map_or(u64::MAX, |e| e.range.start);
                range = range.intersect(&Range {
                    start: low,
                    end: high,
                });
            }
        }
        if !range.contains(page) {
            return Ok(());
        }
        let skip = range.start - start;
        if let Source::Frames(frames) = &translation.source
            && frames.charge(skip, range.len()).is_err()
        {
            // Without the lock, which goes first.
            drop(guard);
            return self
                .memory
                .make_room(range.len())
                .map_err(|_| FaultSignal::starved(addr));
        }
        let backing = match translation.source {
            Source::Frames(frames) => match frames.slice(skip, range.len()) {
                Ok(part) => Backing::Frames(part),
                Err(_) => return Err(FaultSignal::bus(addr)),
            },
            Source::Host {
                file,
                offset,
                executable,
            } => Backing::Host {
                file,
                offset: offset.saturating_add(skip),
                executable,
            },
        };
        st.extents.insert(Extent::of_file(range, backing, sealed));
        Ok(())
    }

    /// The translation of the whole window if it reaches the page, else from the page on, or of
    /// the page alone; with the address it begins at.
    fn ask_file(
        &self,
        ask: &Ask,
        page: u64,
        write: bool,
    ) -> Result<(u64, memmap::Translation), Errno> {
        let ahead = page.saturating_sub(ask.window.start);
        if ahead > 0
            && ahead <= ask.offset
            && let Ok(t) = ask
                .file
                .mappable
                .translate(ask.offset - ahead, ask.window.len(), write)
            && t.len > ahead
        {
            return Ok((ask.window.start, t));
        }
        let rest = ask.window.end.saturating_sub(page);
        let translate = |len| ask.file.mappable.translate(ask.offset, len, write);
        let t = match translate(rest) {
            // The file system has no room for all of that.
            Err(Errno::ENOSPC) => translate(PAGE_SIZE)?,
            t => t?,
        };
        if t.len == 0 || !abi::page::is_page_aligned(t.len) {
            tracing::error!("a file translated {:#x} bytes", t.len);
            return Err(Errno::EIO);
        }
        Ok((page, t))
    }
}

/// What to ask for the page: everything around it that stands empty, within reason.
fn ask(st: &State, vma: &Vma, page: u64, replace: bool) -> Option<Next> {
    let mut window = vma.range;
    if replace {
        if let Some(extent) = st.extents.find(page) {
            window = window.intersect(&extent.range);
        }
    } else {
        let (before, after) = st.extents.around(page);
        let low = before.map_or(0, |e| e.range.end);
        let high = after.map_or(u64::MAX, |e| e.range.start);
        window = window.intersect(&Range {
            start: low,
            end: high,
        });
    }
    if window.len() > FILE_WHOLE {
        let start = page / FILE_WINDOW * FILE_WINDOW;
        window = window.intersect(&Range::new(start, start.saturating_add(FILE_WINDOW)));
    }
    let file = vma.file.clone()?;
    let offset = vma.file_offset(page)?;
    let write = vma.shared() && vma.prot.contains(Prot::WRITE);
    let (shared, epoch) = (vma.shared(), st.epoch);
    Some(Next::Translate(Ask {
        file,
        offset,
        window,
        write,
        shared,
        epoch,
    }))
}
