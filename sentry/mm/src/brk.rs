//! brk(2).

use crate::fault::Who;
use crate::layout::{blocking, usable};
use crate::state::{Garbage, Mm, State};
use crate::types::{MmLimits, Prot};
use crate::vma::{Vma, VmaFlags};
use abi::page::{PAGE_SIZE, Range, page_up};
use platform_api::Access;

/// Growth up to this long is given its frames at once when the heap is in use up to its end: a
/// touch would follow, and cost a trap.
const EAGER: u64 = 1 << 20;

impl Mm {
    /// Says where the heap begins; it is empty then. The loader does.
    pub fn set_brk(&self, start: u64) {
        self.state.write().heap = Range::new(start, start);
    }

    /// Where the heap begins and ends.
    pub fn heap(&self) -> Range {
        self.state.read().heap
    }

    /// Moves the end of the heap if that is possible; returns where it is.
    pub fn brk(&self, new: u64, limits: &MmLimits) -> u64 {
        let heap = self.heap();
        self.note_peak(heap.end.saturating_sub(new.max(heap.start)));
        let mut garbage = Garbage::default();
        let mut st = self.state.write();
        let heap = st.heap;
        let (Some(old_end), Some(new_end)) = (page_up(heap.end), page_up(new)) else {
            return heap.end;
        };
        if new < heap.start {
            return heap.end;
        }
        if new_end < old_end {
            let gone = Range::new(new_end, old_end);
            if self.unmap_locked(&mut st, gone, &mut garbage).is_err() {
                return heap.end;
            }
        }
        if new > heap.end && new.saturating_sub(heap.start) > limits.data {
            return heap.end;
        }
        if new_end > old_end && !self.extend(&mut st, Range::new(old_end, new_end), limits) {
            return heap.end;
        }
        st.heap.end = new;
        let grown = new_end.saturating_sub(old_end);
        let in_use = old_end > heap.start
            && old_end
                .checked_sub(PAGE_SIZE)
                .is_some_and(|last| st.extents.find(last).is_some());
        let locked = st.lock_future && !st.lock_on_fault;
        drop(st);
        if grown > 0 && locked {
            let _ = self.populate(Range::new(old_end, new_end), false);
        } else if grown > 0 && grown <= EAGER && in_use {
            // When it fails, the touch will say so.
            let _ = self.fault(old_end, Access::Write, Who::Kernel);
        }
        new
    }

    fn extend(&self, st: &mut State, range: Range, limits: &MmLimits) -> bool {
        if !usable(&self.bounds, range) || blocking(&st.vmas, range).is_some() {
            return false;
        }
        let mut flags = VmaFlags::HEAP;
        flags.set(VmaFlags::LOCKED, st.lock_future);
        let vma = Vma {
            range,
            prot: Prot::READ | Prot::WRITE,
            max_prot: Prot::all(),
            flags,
            file: None,
            name: Some("[heap]"),
        };
        if self.admit(st, &vma, 0, limits).is_err() {
            return false;
        }
        self.attach_and_insert(st, vma).is_ok()
    }
}
