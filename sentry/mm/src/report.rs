//! What /proc tells.

use crate::extent::Backing;
use crate::state::Mm;
use crate::types::{MapsEntry, MmUsage};
use crate::vma::{Vma, VmaFlags};
use abi::page::Range;
use hostmem::Frames;

/// See [`Mm::note_peak`].
const LOOK: u64 = 1 << 20;

impl Mm {
    /// The mappings in order, as /proc/PID/maps shows them.
    pub fn maps(&self) -> Vec<MapsEntry> {
        // Files are asked for their names without the lock.
        let vmas: Vec<Vma> = self.state.read().vmas.iter().cloned().collect();
        vmas.into_iter().map(|vma| entry(vma, (0, 0))).collect()
    }

    /// As [`Mm::maps`], with what is resident of each (smaps).
    pub fn maps_with_residency(&self) -> Vec<MapsEntry> {
        let vmas: Vec<Vma> = self.state.read().vmas.iter().cloned().collect();
        vmas.into_iter()
            .map(|vma| {
                let resident = self.resident(vma.range);
                entry(vma, resident)
            })
            .collect()
    }

    /// Whether some of `range` has memory of its own, which is of no file (Linux's `anon_vma`).
    pub fn has_own_memory(&self, range: Range) -> bool {
        let st = self.state.read();
        st.extents
            .overlapping(range)
            .any(|e| matches!(e.backing, Backing::Frames(_)) && !e.translated)
    }

    /// The mapping that holds `addr`.
    pub fn mapping_at(&self, addr: u64) -> Option<MapsEntry> {
        let vma = self.state.read().vmas.find(addr).cloned()?;
        Some(entry(vma, (0, 0)))
    }

    /// Sizes. Residency is found out from the host, so that this is not for hot paths.
    pub fn usage(&self) -> MmUsage {
        let (resident, shared) = self.resident(Range::new(0, u64::MAX));
        let mut st = self.state.write();
        st.peak_resident = st.peak_resident.max(resident);
        st.handed_out = 0;
        let totals = st.vmas.totals();
        MmUsage {
            virtual_: totals.all,
            peak_virtual: st.peak_virtual.max(totals.all),
            resident,
            peak_resident: st.peak_resident,
            shared,
            text: totals.text,
            data: totals.data,
            stack: totals.stack,
            locked: totals.locked,
        }
    }

    /// How many mappings there are, and how many stretches of memory behind them.
    pub fn pieces(&self) -> (usize, usize) {
        let st = self.state.read();
        (st.vmas.iter().count(), st.extents.iter().count())
    }

    /// `len` bytes are about to go: notes how much there was, where that may be more than ever.
    /// Looking costs some calls of the host's, so that it is done at most once for each
    /// [`LOOK`] bytes, or eighth of the peak, that were handed out.
    pub(crate) fn note_peak(&self, len: u64) {
        let worth_it = len >= LOOK / 8 && {
            let st = self.state.read();
            st.handed_out >= LOOK.max(st.peak_resident / 8)
        };
        if worth_it {
            self.usage();
        }
    }

    /// Bytes mapped, without asking for residency.
    pub fn virtual_size(&self) -> u64 {
        self.state.read().vmas.totals().all
    }

    /// Bytes in memory within `range`, and the part of them that is shared or of a file.
    fn resident(&self, range: Range) -> (u64, u64) {
        // The frames are held and asked without the lock: a large heap takes many calls.
        let mut frames: Vec<(Frames, bool)> = Vec::new();
        let mut host = 0;
        {
            let st = self.state.read();
            for extent in st.extents.overlapping(range) {
                let part = extent.range.intersect(&range);
                match &extent.backing {
                    Backing::Frames(all) => {
                        let skip = part.start - extent.range.start;
                        if let Ok(slice) = all.slice(skip, part.len()) {
                            frames.push((slice, extent.translated));
                        }
                    }
                    Backing::Host { .. } => host += part.len(),
                    Backing::Zero => {}
                }
            }
        }
        let (mut all, mut shared) = (host, host);
        for (frames, of_file) in &frames {
            let bytes = frames.resident_bytes();
            all += bytes;
            shared += if *of_file { bytes } else { 0 };
        }
        Frames::release_all(frames.into_iter().map(|(f, _)| f).collect());
        (all, shared)
    }
}

fn entry(vma: Vma, (resident, resident_shared): (u64, u64)) -> MapsEntry {
    MapsEntry {
        range: vma.range,
        prot: vma.prot,
        shared: vma.shared(),
        offset: vma.file.as_ref().map_or(0, |f| f.offset),
        identity: vma.file.as_ref().map(|f| f.mappable.identity()),
        name: vma.name,
        resident,
        resident_shared,
        grows_down: vma.flags.contains(VmaFlags::GROWSDOWN),
        locked: vma.flags.contains(VmaFlags::LOCKED),
        not_dumped: vma.flags.contains(VmaFlags::DONTDUMP),
    }
}
