//! General registers on their way to the CPU: whatever the guest, or who restores its state, put
//! into them.

use crate::exits::general_protection;
use platform_api::{Exit, Registers};

/// 64-bit user code.
pub(crate) const USER_CS: u64 = 0x33;
/// 32-bit user code.
pub(crate) const USER32_CS: u64 = 0x23;
/// User data.
pub(crate) const USER_DS: u64 = 0x2b;

/// Flags that user code may set: carry, parity, adjust, zero, sign, trap, direction, overflow,
/// nested task, resume, alignment check, identification.
const USER_FLAGS: u64 = 0x25_4dd5;
/// Interrupts on, and the bit that is always set.
const FIXED_FLAGS: u64 = 0x202;

/// Whether an address's upper bits are all alike, as four-level paging wants them.
fn canonical(addr: u64) -> bool {
    let upper = addr >> 47;
    upper == 0 || upper == (1 << 17) - 1
}

/// The flags with which user code runs.
pub(crate) fn flags(eflags: u64) -> u64 {
    eflags & USER_FLAGS | FIXED_FLAGS
}

/// Mends in `regs` what Linux would mend too; `Some` for what the CPU would fault at on the way
/// in.
pub(crate) fn admit(regs: &mut Registers) -> Option<Exit> {
    regs.orig_rax = u64::MAX;
    let narrow = regs.cs == USER32_CS && regs.rip >> 32 != 0;
    let code = matches!(regs.cs, USER_CS | USER32_CS) && canonical(regs.rip) && !narrow;
    if !code || !canonical(regs.fs_base) || !canonical(regs.gs_base) {
        return Some(general_protection());
    }
    regs.ss = USER_DS;
    for selector in [&mut regs.ds, &mut regs.es, &mut regs.fs, &mut regs.gs] {
        if *selector != USER_DS {
            *selector = 0;
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_registers_are_mended_or_refused() {
        let user = Registers::user();
        let refused = |regs: Registers| admit(&mut { regs }).is_some();
        assert!(!refused(user));
        assert!(!refused(Registers {
            gs_base: !0,
            ..user
        }));
        assert!(refused(Registers {
            rip: 1 << 47,
            ..user
        }));
        assert!(refused(Registers { cs: 0x10, ..user }));
        assert!(refused(Registers { cs: 0, ..user }));
        assert!(refused(Registers {
            cs: 0x23,
            rip: 1 << 32,
            ..user
        }));
        assert!(refused(Registers {
            fs_base: 1 << 62,
            ..user
        }));
        let mut all = Registers {
            ss: 7,
            ds: 0xffff,
            fs: 0x10,
            ..user
        };
        assert_eq!(admit(&mut all), None);
        assert_eq!((all.ss, all.ds, all.fs), (USER_DS, 0, 0));
    }

    #[test]
    fn no_flag_of_a_kernel_gets_in() {
        // I/O privilege, virtual-8086 mode, virtual interrupts; interrupts can't be turned off.
        assert_eq!(flags(u64::MAX) & 0x1a_3000, 0);
        assert_eq!(flags(0), 0x202);
        assert_eq!(flags(0x302), 0x302);
    }
}
