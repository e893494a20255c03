//! What files tell: bytes are gone or stand elsewhere.

use crate::state::{Garbage, Mm};
use abi::page::Range;
use memmap::Space;

impl Space for Mm {
    fn invalidate(&self, range: Range, drop_private: bool) {
        let mut garbage = Garbage::default();
        let mut guard = self.state.write();
        let st = &mut *guard;
        st.epoch += 1;
        let of_files: Vec<Range> = st
            .vmas
            .overlapping(range)
            .filter(|v| v.file.is_some())
            .map(|v| v.range.intersect(&range))
            .collect();
        for part in of_files {
            let stale: Vec<Range> = st
                .extents
                .overlapping(part)
                .filter(|e| e.translated || drop_private)
                .map(|e| e.range.intersect(&part))
                .collect();
            for range in stale {
                if let Err(e) = self.drop_extents(st, range, &mut garbage) {
                    // The guest keeps seeing the old bytes, which stay allocated as long.
                    tracing::warn!("cannot take {range:?} from a space: {e}");
                }
            }
        }
        drop(guard);
    }
}
