//! General registers on their way to the CPU: whatever the guest, or who restores its state, put
//! into them.

use crate::layout::USER_END;
use platform_api::{Exception, Exit, Registers};

/// 64-bit and 32-bit user code, user data.
const USER_CS: u64 = 0x33;
const USER32_CS: u64 = 0x23;
const USER_DS: u64 = 0x2b;

/// `si_code` of signals that the kernel makes up.
pub(crate) const SI_KERNEL: i32 = 0x80;

/// What to do with registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Admission {
    /// The host's call takes them.
    Plain,
    /// A segment base lies in the upper half: guest code may have put it there, the host's call
    /// refuses it.
    Bases,
    /// The CPU would fault on the way in.
    Refused(Exit),
}

/// General protection, as Linux tells it.
pub(crate) fn general_protection() -> Exit {
    Exit::Exception(Exception {
        signal: libc::SIGSEGV,
        code: SI_KERNEL,
        addr: 0,
    })
}

/// Whether an address's upper bits are all alike, as four-level paging wants them.
fn canonical(addr: u64) -> bool {
    let upper = addr >> 47;
    upper == 0 || upper == (1 << 17) - 1
}

/// Judges `regs` and mends what Linux would mend too.
pub(crate) fn admit(regs: &mut Registers) -> Admission {
    // No restart of a call by the host.
    regs.orig_rax = u64::MAX;
    if !matches!(regs.cs, USER_CS | USER32_CS) || !canonical(regs.rip) {
        return Admission::Refused(general_protection());
    }
    regs.ss = USER_DS;
    for selector in [&mut regs.ds, &mut regs.es, &mut regs.fs, &mut regs.gs] {
        if *selector != USER_DS {
            *selector = 0;
        }
    }
    if regs.fs_base >= USER_END || regs.gs_base >= USER_END {
        return Admission::Bases;
    }
    Admission::Plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_registers_are_mended_or_refused() {
        let user = Registers::user();
        let verdict = |regs: Registers| admit(&mut { regs });
        assert_eq!(verdict(user), Admission::Plain);
        let refused = Admission::Refused(general_protection());
        assert_eq!(
            verdict(Registers {
                rip: 1 << 47,
                ..user
            }),
            refused
        );
        assert_eq!(verdict(Registers { cs: 0x10, ..user }), refused);
        assert_eq!(verdict(Registers { cs: 0, ..user }), refused);
        assert_eq!(
            verdict(Registers {
                fs_base: u64::MAX,
                ..user
            }),
            Admission::Bases
        );
        let mut all = Registers {
            ss: 7,
            ds: 0xffff,
            fs: 0x10,
            orig_rax: 60,
            ..user
        };
        assert_eq!(admit(&mut all), Admission::Plain);
        assert_eq!(
            (all.ss, all.ds, all.fs, all.orig_rax),
            (USER_DS, 0, 0, u64::MAX)
        );
    }
}
