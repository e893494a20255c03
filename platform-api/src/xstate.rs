//! The extended state: its size and features on this host, and what a guest may hand in. For
//! platforms whose host calls take and give it as ptrace does.
//!
//! The layout is that of `NT_X86_XSTATE`: 512 bytes as of FXSAVE, of which the bytes from 464 on
//! hold the features there are; a header of 64 bytes; then the components.

use crate::PlatformError;

const FCW: usize = 0;
const MXCSR: usize = 24;
const FEATURES_THERE: usize = 464;
const HEADER: usize = 512;
const HEADER_END: usize = 576;
/// x87 and SSE, which the first 512 bytes hold.
const LEGACY: u64 = 3;

/// What the host's extended state is like.
#[derive(Clone, Copy, Debug)]
pub struct Layout {
    /// Bytes the host's calls want.
    size: usize,
    /// Bytes of them up to the end of the last feature that a guest can have.
    used: usize,
    features: u64,
    /// The host's word of the features there are.
    there: u64,
    mxcsr_mask: u32,
}

fn word32(bytes: &[u8], at: usize) -> u32 {
    bytes
        .get(at..at + 4)
        .and_then(|b| b.try_into().ok())
        .map_or(0, u32::from_le_bytes)
}

fn word64(bytes: &[u8], at: usize) -> u64 {
    bytes
        .get(at..at + 8)
        .and_then(|b| b.try_into().ok())
        .map_or(0, u64::from_le_bytes)
}

impl Layout {
    /// From a state as the host gave it, the mask as FXSAVE tells it, the end of each feature's
    /// component, and whether the host takes a state that has a given feature: some need a
    /// permission that guests don't get, and make states several times larger.
    pub fn of(
        state: &[u8],
        mxcsr_mask: u32,
        component_end: impl Fn(u32) -> usize,
        mut taken: impl FnMut(&[u8]) -> bool,
    ) -> Layout {
        let mut layout = Layout {
            size: state.len(),
            used: HEADER_END,
            features: LEGACY,
            there: word64(state, FEATURES_THERE),
            mxcsr_mask,
        };
        if mxcsr_mask == 0 {
            // As the CPU's manual says.
            layout.mxcsr_mask = 0xffbf;
        }
        for feature in (2..63).filter(|f| layout.there >> f & 1 == 1) {
            let end = component_end(feature);
            let mut trial = layout.initial();
            trial[HEADER..HEADER + 8].copy_from_slice(&(LEGACY | 1 << feature).to_le_bytes());
            if end <= state.len() && taken(&trial) {
                layout.features |= 1 << feature;
                layout.used = layout.used.max(end);
            }
        }
        layout
    }

    /// Bytes the host's calls want.
    pub fn size(&self) -> usize {
        self.size
    }

    /// Bytes of them that hold something a guest can have.
    pub fn used(&self) -> usize {
        self.used.min(self.size)
    }

    /// Has a state say which features there are, as ptrace does: one that was handed in does not.
    pub fn tell_features(&self, state: &mut [u8]) {
        if let Some(word) = state.get_mut(FEATURES_THERE..FEATURES_THERE + 8) {
            word.copy_from_slice(&self.there.to_le_bytes());
        }
    }

    /// What a program starts with.
    pub fn initial(&self) -> Vec<u8> {
        let mut state = vec![0; self.size.max(HEADER_END)];
        state[FCW..FCW + 2].copy_from_slice(&0x37fu16.to_le_bytes());
        state[MXCSR..MXCSR + 4].copy_from_slice(&0x1f80u32.to_le_bytes());
        // Both are in, so that the host takes the words above rather than its idea of them.
        state[HEADER..HEADER + 8].copy_from_slice(&LEGACY.to_le_bytes());
        state
    }

    /// A state the host will take, from what may be a guest's: cut or filled up to the size, with
    /// features that are not there and the header's reserved words dropped.
    pub fn admit(&self, from: &[u8]) -> Result<Vec<u8>, PlatformError> {
        if from.is_empty() {
            return Ok(self.initial());
        }
        let refuse = |why: &str| {
            Err(PlatformError {
                what: "setting the extended state".to_owned(),
                answer: why.to_owned(),
                remedy: "this is what a guest handed in; the sentry tells it".to_owned(),
                errno: Some(libc::EINVAL),
            })
        };
        if from.len() < HEADER {
            return refuse("shorter than the 512 bytes of FXSAVE");
        }
        if word32(from, MXCSR) & !self.mxcsr_mask != 0 {
            return refuse("reserved bits of MXCSR are set");
        }
        let mut state = self.initial();
        let len = from.len().min(state.len());
        state[..len].copy_from_slice(&from[..len]);
        let features = if from.len() < HEADER_END {
            LEGACY
        } else {
            word64(from, HEADER)
        };
        state[HEADER..HEADER_END].fill(0);
        state[HEADER..HEADER + 8].copy_from_slice(&(features & self.features).to_le_bytes());
        Ok(state)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout() -> Layout {
        let mut state = vec![0; 1024];
        state[FEATURES_THERE] = 15;
        // The last feature needs a permission.
        let end = |feature| if feature == 2 { 832 } else { 1024 };
        Layout::of(&state, 0xffff, end, |trial| word64(trial, HEADER) & 8 == 0)
    }

    #[test]
    fn hostile_headers_are_cleaned() {
        let admitted = layout().admit(&vec![0xff; 1024]);
        assert!(admitted.is_err(), "reserved bits of MXCSR");
        let mut state = vec![0xff; 5000];
        state[MXCSR..MXCSR + 4].copy_from_slice(&0x1f80u32.to_le_bytes());
        let admitted = layout().admit(&state).unwrap();
        assert_eq!(admitted.len(), 1024);
        assert_eq!(word64(&admitted, HEADER), 7);
        assert!(admitted[HEADER + 8..HEADER_END].iter().all(|b| *b == 0));
    }

    #[test]
    fn features_that_need_a_permission_are_left_out() {
        assert_eq!(
            (layout().features, layout().used(), layout().size()),
            (7, 832, 1024)
        );
    }

    #[test]
    fn short_states_are_filled_up() {
        let mut state = vec![0; 512];
        state[MXCSR..MXCSR + 4].copy_from_slice(&0x1f80u32.to_le_bytes());
        let admitted = layout().admit(&state).unwrap();
        assert_eq!((admitted.len(), word64(&admitted, HEADER)), (1024, LEGACY));
        assert!(layout().admit(&state[..511]).is_err());
        assert_eq!(layout().admit(&[]).unwrap(), layout().initial());
    }

    #[test]
    fn a_state_that_was_handed_in_tells_the_features_as_any_other() {
        let mut state = layout().admit(&[]).unwrap();
        layout().tell_features(&mut state);
        assert_eq!(word64(&state, FEATURES_THERE), 15);
    }
}
