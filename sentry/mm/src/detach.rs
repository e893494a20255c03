//! shmdt(2): unmapping a whole object, wherever its parts are.

use crate::state::{Garbage, Mm};
use abi::Errno;
use abi::page::Range;

impl Mm {
    /// Unmaps what was mapped with its first byte at `addr`, where `size_of` knows the object (by
    /// the address of its `Mappable`): all parts of it that are still at their places. Returns the
    /// object's number.
    ///
    /// # Errors
    /// `EINVAL` where there is no such mapping.
    pub fn unmap_object(
        &self,
        addr: u64,
        size_of: impl Fn(u64) -> Option<u64>,
    ) -> Result<u64, Errno> {
        // Objects are looked up without the lock.
        let candidates: Vec<(u64, Range)> = {
            let st = self.state.read();
            let rest = Range {
                start: addr,
                end: abi::page::TASK_SIZE.max(addr),
            };
            st.vmas
                .overlapping(rest)
                .filter_map(|vma| {
                    let file = vma.file.as_ref()?;
                    let in_place = vma.range.start.checked_sub(addr) == Some(file.offset);
                    in_place.then(|| (file.object(), vma.range))
                })
                .collect()
        };
        let (object, end) = candidates
            .iter()
            .find_map(|(object, _)| Some((*object, addr.checked_add(size_of(*object)?)?)))
            .ok_or(Errno::EINVAL)?;
        let mut garbage = Garbage::default();
        let mut st = self.state.write();
        for (_, range) in candidates
            .iter()
            .filter(|(o, range)| *o == object && range.start < end)
        {
            let still = st.vmas.find(range.start).is_some_and(|vma| {
                vma.range == *range && vma.file.as_ref().is_some_and(|f| f.object() == object)
            });
            if still {
                self.unmap_locked(&mut st, *range, &mut garbage)?;
            }
        }
        drop(st);
        Ok(object)
    }
}
