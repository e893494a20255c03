//! mmap(2).

use crate::layout::{MIN_ADDR, find_above, find_below, usable};
use crate::shared::SharedAnon;
use crate::state::{Garbage, Mm, State};
use crate::types::{MapFile, MapFlags, MapRequest, MmLimits, Prot};
use crate::vma::{FileRef, Vma, VmaFlags};
use abi::Errno;
use abi::page::{PAGE_SIZE, Range, is_page_aligned, page_down, page_up};
use memmap::Mapping;
use std::sync::Arc;

impl Mm {
    /// Maps; returns the address.
    ///
    /// # Errors
    /// As mmap(2): `EINVAL`, `ENOMEM`, `EEXIST`, `EACCES`, `EPERM`, `EAGAIN`, `EOVERFLOW`, and
    /// what the file answers.
    pub fn mmap(&self, req: MapRequest, limits: &MmLimits) -> Result<u64, Errno> {
        let (range, populate) = {
            let req = check(req)?;
            let file = self.file_for(&req)?;
            let mut garbage = Garbage::default();
            let mut st = self.state.write();
            let range = self.map_locked(&mut st, &req, file, limits, &mut garbage)?;
            let locked =
                req.flags.contains(MapFlags::LOCKED) || (st.lock_future && !st.lock_on_fault);
            // Shared garbage goes after the lock.
            drop(st);
            (range, req.flags.contains(MapFlags::POPULATE) || locked)
        };
        if populate {
            // mmap succeeds even where pages cannot be had.
            let _ = self.populate(range, false);
        }
        Ok(range.start)
    }

    /// Shared memory without a file gets an object of its own, so that it is shared with children
    /// and keyed for futexes as a file is.
    fn file_for(&self, req: &MapRequest) -> Result<Option<MapFile>, Errno> {
        match &req.file {
            Some(file) => Ok(Some(file.clone())),
            None if req.flags.contains(MapFlags::SHARED) => Ok(Some(MapFile {
                mappable: Arc::new(SharedAnon::new(&self.memory, req.len)?),
                offset: 0,
                max_prot: Prot::all(),
            })),
            None => Ok(None),
        }
    }

    fn map_locked(
        &self,
        st: &mut State,
        req: &MapRequest,
        file: Option<MapFile>,
        limits: &MmLimits,
        garbage: &mut Garbage,
    ) -> Result<Range, Errno> {
        if st.destroyed {
            return Err(Errno::ENOMEM);
        }
        st.limits = *limits;
        if req.flags.contains(MapFlags::LOCKED) && limits.memlock == 0 {
            return Err(Errno::EPERM);
        }
        let addr = self.place(st, req)?;
        let range = Range::new(addr, addr + req.len);
        let mut flags = vma_flags(req.flags);
        flags.set(
            VmaFlags::LOCKED,
            req.flags.contains(MapFlags::LOCKED) || st.lock_future,
        );
        let mut max_prot = file.as_ref().map_or(Prot::all(), |f| f.max_prot);
        if req.flags.contains(MapFlags::READ_ONLY) {
            max_prot -= Prot::WRITE;
        }
        let vma = Vma {
            range,
            prot: req.prot,
            max_prot,
            flags,
            file: file.map(|f| FileRef {
                mappable: f.mappable,
                offset: f.offset,
            }),
            name: req.name.or(if flags.contains(VmaFlags::STACK) {
                Some("[stack]")
            } else if flags.contains(VmaFlags::HEAP) {
                Some("[heap]")
            } else {
                None
            }),
        };
        let replaced: u64 = st
            .vmas
            .overlapping(range)
            .map(|v| v.range.intersect(&range).len())
            .sum();
        self.admit(st, &vma, replaced, limits)?;
        if replaced > 0 {
            self.unmap_locked(st, range, garbage)?;
        }
        self.attach_and_insert(st, vma)?;
        Ok(range)
    }

    /// Tells the file, then enters the mapping.
    pub(crate) fn attach_and_insert(&self, st: &mut State, vma: Vma) -> Result<(), Errno> {
        if let Some(file) = &vma.file {
            let end = file
                .offset
                .checked_add(vma.range.len())
                .ok_or(Errno::EOVERFLOW)?;
            file.mappable.attach(Mapping {
                space: self.weak(),
                addr: vma.range.start,
                range: Range::new(file.offset, end),
                shared_write: vma.shared() && vma.max_prot.contains(Prot::WRITE),
            })?;
        }
        st.vmas.insert(vma);
        st.peak_virtual = st.peak_virtual.max(st.vmas.totals().all);
        Ok(())
    }

    /// The limits a new mapping must keep; `replaced` bytes of old ones go.
    pub(crate) fn admit(
        &self,
        st: &State,
        vma: &Vma,
        replaced: u64,
        limits: &MmLimits,
    ) -> Result<(), Errno> {
        let totals = st.vmas.totals();
        let len = vma.range.len();
        if st.vmas.count() >= sysctl::MAX_MAP_COUNT.size() {
            return Err(Errno::ENOMEM);
        }
        let over = |used: u64, limit: u64| used.saturating_add(len) > limit;
        if over(totals.all.saturating_sub(replaced), limits.address_space) {
            return Err(Errno::ENOMEM);
        }
        if vma.is_data() && over(totals.data, limits.data) {
            return Err(Errno::ENOMEM);
        }
        if vma.flags.contains(VmaFlags::LOCKED) && over(totals.locked, limits.memlock) {
            return Err(Errno::EAGAIN);
        }
        // Heuristic overcommit: only what could never be had is refused.
        let counted = vma.is_data() && !vma.flags.contains(VmaFlags::NORESERVE);
        if counted && len > host_memory() {
            return Err(Errno::ENOMEM);
        }
        Ok(())
    }

    fn place(&self, st: &mut State, req: &MapRequest) -> Result<u64, Errno> {
        let fixed = req
            .flags
            .intersects(MapFlags::FIXED | MapFlags::FIXED_NOREPLACE);
        if fixed {
            let range = Range::sized(req.addr, req.len).map_err(|_| Errno::ENOMEM)?;
            if range.end > abi::page::TASK_SIZE {
                return Err(Errno::ENOMEM);
            }
            if range.start < MIN_ADDR {
                return Err(Errno::EPERM);
            }
            if !usable(&self.bounds, range) {
                return Err(Errno::ENOMEM);
            }
            if req.flags.contains(MapFlags::FIXED_NOREPLACE)
                && st.vmas.overlapping(range).next().is_some()
            {
                return Err(Errno::EEXIST);
            }
            return Ok(req.addr);
        }
        self.find_room(st, req.addr, req.len, req.flags.contains(MapFlags::LOW))
    }

    /// Room for `len` bytes, at `hint` if that is free.
    pub(crate) fn find_room(
        &self,
        st: &mut State,
        hint: u64,
        len: u64,
        low: bool,
    ) -> Result<u64, Errno> {
        let hint = if hint == 0 {
            0
        } else {
            page_down(hint).max(MIN_ADDR)
        };
        let lowest = self.bounds.lowest.max(MIN_ADDR);
        let top = self.bounds.highest.min(abi::page::TASK_SIZE);
        let ceiling = if low { top.min(1 << 31) } else { top };
        if hint != 0
            && let Ok(range) = Range::sized(hint, len)
            && range.end <= ceiling
            && usable(&self.bounds, range)
            && crate::layout::blocking(&st.vmas, range).is_none()
        {
            return Ok(hint);
        }
        if low {
            let bounds = Range {
                start: (1 << 30).max(lowest),
                end: ceiling,
            };
            return find_above(&st.vmas, &self.bounds, bounds, len)
                .or_else(|| {
                    find_above(
                        &st.vmas,
                        &self.bounds,
                        Range {
                            start: lowest,
                            ..bounds
                        },
                        len,
                    )
                })
                .ok_or(Errno::ENOMEM);
        }
        let bounds = Range {
            start: lowest,
            end: st.layout.mmap_base,
        };
        let State { vmas, hint, .. } = st;
        find_below(vmas, &self.bounds, bounds, len, hint)
            .or_else(|| {
                let above = Range {
                    start: bounds.end,
                    end: top,
                };
                find_above(vmas, &self.bounds, above, len)
            })
            .ok_or(Errno::ENOMEM)
    }

    /// A free stretch of `len` bytes as mmap(2) would choose it, without mapping anything.
    pub fn find_free(&self, len: u64) -> Result<u64, Errno> {
        let len = page_up(len).ok_or(Errno::ENOMEM)?;
        self.find_room(&mut self.state.write(), 0, len, false)
    }
}

/// What can be said without looking at the space.
fn check(mut req: MapRequest) -> Result<MapRequest, Errno> {
    if req.len == 0 {
        return Err(Errno::EINVAL);
    }
    req.len = page_up(req.len).filter(|l| *l > 0).ok_or(Errno::ENOMEM)?;
    if req.len > abi::page::TASK_SIZE {
        return Err(Errno::ENOMEM);
    }
    let fixed = req
        .flags
        .intersects(MapFlags::FIXED | MapFlags::FIXED_NOREPLACE);
    if fixed && !is_page_aligned(req.addr) {
        return Err(Errno::EINVAL);
    }
    if let Some(file) = &req.file {
        if !is_page_aligned(file.offset) {
            return Err(Errno::EINVAL);
        }
        let end = file.offset.checked_add(req.len).ok_or(Errno::EOVERFLOW)?;
        if end > i64::MAX as u64 - PAGE_SIZE {
            return Err(Errno::EOVERFLOW);
        }
        if !file.max_prot.contains(req.prot) {
            return Err(Errno::EACCES);
        }
    }
    Ok(req)
}

fn vma_flags(flags: MapFlags) -> VmaFlags {
    let mut out = VmaFlags::empty();
    for (from, to) in [
        (MapFlags::SHARED, VmaFlags::SHARED),
        (MapFlags::GROWSDOWN, VmaFlags::GROWSDOWN),
        (MapFlags::NORESERVE, VmaFlags::NORESERVE),
        (MapFlags::STACK, VmaFlags::STACK),
        (MapFlags::HEAP, VmaFlags::HEAP),
        (MapFlags::SPECIAL, VmaFlags::SPECIAL),
    ] {
        out.set(to, flags.contains(from));
    }
    out
}

/// Memory and swap of the host, in bytes.
pub(crate) fn host_memory() -> u64 {
    use std::sync::OnceLock;
    static TOTAL: OnceLock<u64> = OnceLock::new();
    *TOTAL.get_or_init(|| {
        nix::sys::sysinfo::sysinfo()
            .map(|i| i.ram_total().saturating_add(i.swap_total()))
            .unwrap_or(u64::MAX)
    })
}
