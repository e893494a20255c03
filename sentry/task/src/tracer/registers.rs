//! What a tracer sees of a tracee's registers: `struct user`, and what it may put there.

use super::Stop;
use super::calls::TRAP_FLAG;
use abi::Errno;
use abi::page::TASK_SIZE;
use platform_api::Registers;

/// Words of `struct user_regs_struct`.
pub(super) const WORDS: usize = 27;
/// Bytes of `struct user`, and where its debug registers lie.
const USER_SIZE: u64 = 928;
const DEBUG: std::ops::Range<u64> = 848..912;
/// The one that tells what trapped, when nothing has.
const DR6: u64 = DEBUG.start + 6 * 8;
const DR6_NOTHING: u64 = 0xffff_0ff0;
/// Flags that are a program's own.
const FLAGS: u64 = 0x0005_4dd5;

/// Places in `struct user_regs_struct`.
const CS: usize = 17;
const EFLAGS: usize = 18;
const SS: usize = 20;
/// Of the base of FS.
pub const FS_BASE: usize = 21;
/// Of the base of GS.
pub const GS_BASE: usize = 22;
const DS: usize = 23;
const GS: usize = 26;

/// The field at each place.
fn field(r: &mut Registers, at: usize) -> Option<&mut u64> {
    let fields: [&mut u64; WORDS] = [
        &mut r.r15,
        &mut r.r14,
        &mut r.r13,
        &mut r.r12,
        &mut r.rbp,
        &mut r.rbx,
        &mut r.r11,
        &mut r.r10,
        &mut r.r9,
        &mut r.r8,
        &mut r.rax,
        &mut r.rcx,
        &mut r.rdx,
        &mut r.rsi,
        &mut r.rdi,
        &mut r.orig_rax,
        &mut r.rip,
        &mut r.cs,
        &mut r.eflags,
        &mut r.rsp,
        &mut r.ss,
        &mut r.fs_base,
        &mut r.gs_base,
        &mut r.ds,
        &mut r.es,
        &mut r.fs,
        &mut r.gs,
    ];
    fields.into_iter().nth(at)
}

impl Stop {
    fn word(&self, at: usize) -> u64 {
        let mut regs = self.regs;
        let word = field(&mut regs, at).map_or(0, |w| *w);
        match at {
            EFLAGS if self.forced_step => word & !TRAP_FLAG,
            _ => word,
        }
    }

    /// `PTRACE_GETREGS`
    pub(super) fn words(&self) -> [u64; WORDS] {
        std::array::from_fn(|at| self.word(at))
    }

    /// Sets registers from the first one on, up to one that cannot be so.
    pub(super) fn set_words(&mut self, words: &[u64]) -> Result<(), Errno> {
        let mut all = words.iter().enumerate();
        all.try_for_each(|(at, value)| self.set_word(at, *value))
    }

    fn set_word(&mut self, at: usize, value: u64) -> Result<(), Errno> {
        let value = match at {
            CS | SS | DS..=GS => {
                let selector = value & 0xffff;
                let missing = selector == 0 && matches!(at, CS | SS);
                if missing || (selector != 0 && selector & 3 != 3) {
                    return Err(Errno::EIO);
                }
                selector
            }
            FS_BASE | GS_BASE if value >= TASK_SIZE => return Err(Errno::EIO),
            EFLAGS => {
                let mut value = value;
                if value & TRAP_FLAG != 0 {
                    self.forced_step = false;
                } else if self.forced_step {
                    value |= TRAP_FLAG;
                }
                self.regs.eflags & !FLAGS | value & FLAGS
            }
            _ => value,
        };
        if let Some(to) = field(&mut self.regs, at) {
            *to = value;
        }
        Ok(())
    }

    /// `PTRACE_PEEKUSER`
    pub(super) fn peek(&self, at: u64) -> Result<u64, Errno> {
        if !at.is_multiple_of(8) || at >= USER_SIZE {
            return Err(Errno::EIO);
        }
        Ok(match at {
            DR6 => DR6_NOTHING,
            at => match (at / 8) as usize {
                word @ ..WORDS => self.word(word),
                _ => 0,
            },
        })
    }

    /// `PTRACE_POKEUSER`. Debug registers can be cleared: there is none that could be had.
    pub(super) fn poke(&mut self, at: u64, value: u64) -> Result<(), Errno> {
        if !at.is_multiple_of(8) || at >= USER_SIZE {
            return Err(Errno::EIO);
        }
        let word = (at / 8) as usize;
        if word < WORDS {
            return self.set_word(word, value);
        }
        if !DEBUG.contains(&at) {
            return Err(Errno::EIO);
        }
        match (at - DEBUG.start) / 8 {
            4 | 5 => Err(Errno::EIO),
            6 => Ok(()),
            // As where all are taken.
            _ if value != 0 => Err(Errno::ENOSPC),
            _ => Ok(()),
        }
    }

    /// Keeps a guest from standing where its platform could not put it: as after such a jump.
    pub(super) fn settle(&mut self) {
        if self.regs.rip >= 1 << 47 {
            self.regs.rip = TASK_SIZE;
        }
    }
}
