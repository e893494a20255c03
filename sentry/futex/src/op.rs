//! The operation encoded in `FUTEX_WAKE_OP`'s last argument.

use abi::Errno;

/// Changes a word and then compares what it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WakeOp {
    op: u32,
    cmp: u32,
    oparg: i32,
    cmparg: i32,
}

impl WakeOp {
    /// From the encoding; `ENOSYS` for operations and comparisons that do not exist.
    pub fn decode(encoded: u32) -> Result<WakeOp, Errno> {
        let shift = encoded >> 31 != 0;
        let op = encoded >> 28 & 7;
        let cmp = encoded >> 24 & 15;
        // Twelve bits each, signed.
        let oparg = (encoded << 8) as i32 >> 20;
        let cmparg = (encoded << 20) as i32 >> 20;
        if op > 4 || cmp > 5 {
            return Err(Errno::ENOSYS);
        }
        let oparg = if shift {
            1i32.wrapping_shl(oparg as u32 & 31)
        } else {
            oparg
        };
        Ok(WakeOp {
            op,
            cmp,
            oparg,
            cmparg,
        })
    }

    /// The word's new value.
    pub fn apply(self, old: u32) -> u32 {
        let arg = self.oparg as u32;
        match self.op {
            0 => arg,
            1 => old.wrapping_add(arg),
            2 => old | arg,
            3 => old & !arg,
            _ => old ^ arg,
        }
    }

    /// Whether the second word's waiters are woken, by the value before.
    pub fn compare(self, old: u32) -> bool {
        let (old, arg) = (old as i32, self.cmparg);
        match self.cmp {
            0 => old == arg,
            1 => old != arg,
            2 => old < arg,
            3 => old <= arg,
            4 => old > arg,
            _ => old >= arg,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_encoding_is_signed() {
        // FUTEX_OP(FUTEX_OP_ADD, -1, FUTEX_OP_CMP_LT, -2)
        let enc = 1u32 << 28 | 2 << 24 | (0xfff << 12) | 0xffe;
        let op = WakeOp::decode(enc).unwrap();
        assert_eq!(op.apply(5), 4);
        assert!(op.compare(-3i32 as u32));
        assert!(!op.compare(0));
        assert_eq!(WakeOp::decode(7 << 28), Err(Errno::ENOSYS));
    }
}
