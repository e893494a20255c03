//! The handler's frame: pushed on delivery, popped by rt_sigreturn(2).

use crate::TaskCx;
use abi::Errno;
use abi::libc;
use abi::page::TASK_SIZE;
use ctx::{Ctx, SysResult, UserMemoryExt};
use platform_api::{Access, Registers};
use signal::frame::{
    LEGACY_SIZE, MAGIC1, MAGIC2, RtSigFrame, SW_BYTES_OFFSET, SigContext, SwBytes, UC_FP_XSTATE,
    UC_SIGCONTEXT_SS, UC_STRICT_RESTORE_SS, UContext, XSAVE_MIN, place,
};
use signal::stack::SS_AUTODISARM;
use signal::{ActionFlags, AltStack, Handler, SigAction, SigInfo, SigSet, Signal};
use zerocopy::{FromBytes, IntoBytes};

/// Below the stack pointer, code may keep what no handler must overwrite.
const RED_ZONE: u64 = 128;
/// Flags a handler does not start with: direction, resume, trap.
const EFLAGS_CLEARED: u64 = 1 << 10 | 1 << 16 | 1 << 8;
/// Flags rt_sigreturn(2) takes from the frame.
const EFLAGS_RESTORED: u64 = 0x0005_0dd5;
/// The most extended state that a frame may hold.
const MAX_XSTATE: u32 = 64 * 1024;

impl TaskCx {
    /// Puts the frame on the stack and the task at the handler's first instruction.
    ///
    /// # Errors
    /// `EFAULT` where it does not fit.
    pub(crate) fn push_frame(
        &mut self,
        signal: Signal,
        info: &SigInfo,
        action: &SigAction,
        mask: SigSet,
    ) -> Result<(), Errno> {
        let Handler::Address(handler) = action.handler() else {
            return Err(Errno::EFAULT);
        };
        let flags = action.flags();
        if !flags.contains(ActionFlags::RESTORER) {
            return Err(Errno::EFAULT);
        }
        let mut xstate = Vec::new();
        self.context.extended_state(&mut xstate).map_err(|e| {
            tracing::warn!("extended state: {e}");
            Errno::EFAULT
        })?;
        let on_alt = self.altstack.holds(self.regs.rsp);
        let switch = flags.contains(ActionFlags::ONSTACK) && self.altstack.is_enabled() && !on_alt;
        let top = if switch {
            self.altstack
                .sp
                .checked_add(self.altstack.size)
                .ok_or(Errno::EFAULT)?
        } else {
            self.regs.rsp.checked_sub(RED_ZONE).ok_or(Errno::EFAULT)?
        };
        let at = place(top, xstate.len() as u64).ok_or(Errno::EFAULT)?;
        // Where the alternate stack overflows, Linux does not deliver.
        if (on_alt || switch)
            && self.altstack.flags & SS_AUTODISARM == 0
            && !self.altstack.holds(at.frame)
        {
            return Err(Errno::EFAULT);
        }
        self.write_xstate(at.fpstate, &mut xstate)?;
        let frame = RtSigFrame {
            pretcode: action.restorer,
            uc: UContext {
                flags: UC_SIGCONTEXT_SS
                    | UC_STRICT_RESTORE_SS
                    | if xstate.len() >= XSAVE_MIN {
                        UC_FP_XSTATE
                    } else {
                        0
                    },
                link: 0,
                stack: self
                    .altstack
                    .reported(self.regs.rsp)
                    .with_flags(self.altstack.flags),
                mcontext: save(
                    &self.regs,
                    if xstate.is_empty() { 0 } else { at.fpstate },
                    self.trap,
                ),
                sigmask: mask,
            },
            info: *info,
        };
        self.memory().write_obj(at.frame, &frame)?;
        if self.altstack.flags & SS_AUTODISARM != 0 {
            self.altstack = AltStack::DISABLED;
        }
        let r = &mut self.regs;
        r.rip = handler;
        r.rsp = at.frame;
        r.rdi = signal.number() as u64;
        r.rsi = at.frame + std::mem::offset_of!(RtSigFrame, info) as u64;
        r.rdx = at.frame + std::mem::offset_of!(RtSigFrame, uc) as u64;
        r.rax = 0;
        r.orig_rax = u64::MAX;
        r.cs = 0x33;
        r.ss = 0x2b;
        r.eflags &= !EFLAGS_CLEARED;
        // A handler starts with the state of a fresh program.
        let _ = self.context.set_extended_state(&[]);
        Ok(())
    }

    fn write_xstate(&self, at: u64, xstate: &mut [u8]) -> Result<(), Errno> {
        if xstate.is_empty() {
            return Ok(());
        }
        let size = xstate.len() as u32;
        if xstate.len() >= XSAVE_MIN
            && let Some(area) = xstate.get_mut(SW_BYTES_OFFSET..LEGACY_SIZE)
        {
            // ptrace's layout has the features at the head of these bytes.
            let features = u64::read_from_prefix(area).map_or(3, |(v, _)| v);
            let sw = SwBytes {
                magic1: MAGIC1,
                extended_size: size + 4,
                xfeatures: features,
                xstate_size: size,
                padding: [0; 7],
            };
            area.copy_from_slice(sw.as_bytes());
            self.memory()
                .write(at + u64::from(size), &MAGIC2.to_le_bytes())?;
        }
        self.memory().write(at, xstate)
    }

    /// rt_sigreturn(2).
    ///
    /// # Errors
    /// None that the guest sees: a bad frame is `SIGSEGV`.
    pub fn sigreturn(&mut self) -> SysResult<u64> {
        // The restorer was returned to: the return address has been popped.
        let at = self.regs.rsp.wrapping_sub(8);
        if self.pop_frame(at).is_err() {
            self.force(SigInfo::kernel(Signal::SEGV));
        }
        Ok(self.regs.rax)
    }

    fn pop_frame(&mut self, at: u64) -> Result<(), Errno> {
        let uc_at = at.checked_add(8).ok_or(Errno::EFAULT)?;
        let uc: UContext = self.memory().read_obj(uc_at)?;
        self.set_blocked(uc.sigmask);
        self.restore_xstate(uc.mcontext.fpstate)?;
        restore(&mut self.regs, &uc);
        // Whatever is wrong with the stack in the frame is ignored, as Linux does.
        let wanted = uc
            .stack
            .with_flags(uc.stack.flags & !signal::stack::SS_ONSTACK);
        if let Ok(stack) = self
            .altstack
            .changed(wanted, self.regs.rsp, signal::stack::MINSIGSTKSZ)
        {
            self.altstack = stack;
        }
        self.restart = None;
        Ok(())
    }

    fn restore_xstate(&mut self, at: u64) -> Result<(), Errno> {
        if at == 0 {
            let _ = self.context.set_extended_state(&[]);
            return Ok(());
        }
        let mut legacy = [0u8; LEGACY_SIZE];
        self.memory().read(at, &mut legacy)?;
        let sw = SwBytes::read_from_prefix(&legacy[SW_BYTES_OFFSET..])
            .map(|(s, _)| s)
            .unwrap_or_default();
        let mut state = legacy.to_vec();
        let mut extended = false;
        if sw.magic1 == MAGIC1
            && sw.xstate_size as usize >= XSAVE_MIN
            && sw.xstate_size <= MAX_XSTATE
            && sw.extended_size >= sw.xstate_size
        {
            let end = at
                .checked_add(u64::from(sw.xstate_size))
                .ok_or(Errno::EFAULT)?;
            let magic2: u32 = self.memory().read_obj(end)?;
            if magic2 == MAGIC2 {
                state.resize(sw.xstate_size as usize, 0);
                self.memory().read(at, &mut state)?;
                extended = true;
            }
        }
        if !extended {
            // The legacy part alone, all else as in a fresh program.
            state.resize(XSAVE_MIN, 0);
            state[LEGACY_SIZE] = 3;
        }
        // Put the words of the header where ptrace's layout has them.
        state[SW_BYTES_OFFSET..LEGACY_SIZE].fill(0);
        state[SW_BYTES_OFFSET..SW_BYTES_OFFSET + 8].copy_from_slice(&sw.xfeatures.to_le_bytes());
        self.context
            .set_extended_state(&state)
            .map_err(|_| Errno::EFAULT)
    }
}

/// `si_code` of a division by zero.
const FPE_INTDIV: i32 = 1;

/// The words of a signal frame that tell of an exception of the CPU: the last one of the thread,
/// whatever the signal, as on Linux.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Trap {
    number: u64,
    error: u64,
    cr2: u64,
}

impl Trap {
    /// A page fault at `addr`; `present` where a page was there that forbade the access.
    pub(crate) fn page_fault(addr: u64, access: Access, present: bool) -> Trap {
        // Bits of the error code: protection, write, user, fetch.
        let error = u64::from(present)
            | match access {
                Access::Read => 0,
                Access::Write => 2,
                Access::Execute => 16,
            }
            | 4;
        Trap {
            number: 14,
            error,
            cr2: addr,
        }
    }

    /// Another exception, which became `signal` with `code`.
    pub(crate) fn exception(&mut self, signal: Signal, code: i32) {
        self.error = 0;
        self.number = match signal {
            Signal::FPE if code == FPE_INTDIV => 0,
            Signal::FPE => 19,
            Signal::ILL => 6,
            Signal::TRAP if code == libc::TRAP_TRACE => 1,
            Signal::TRAP => 3,
            Signal::BUS => 17,
            _ => 13,
        };
    }
}

fn save(r: &Registers, fpstate: u64, trap: Trap) -> SigContext {
    SigContext {
        r8: r.r8,
        r9: r.r9,
        r10: r.r10,
        r11: r.r11,
        r12: r.r12,
        r13: r.r13,
        r14: r.r14,
        r15: r.r15,
        rdi: r.rdi,
        rsi: r.rsi,
        rbp: r.rbp,
        rbx: r.rbx,
        rdx: r.rdx,
        rax: r.rax,
        rcx: r.rcx,
        rsp: r.rsp,
        rip: r.rip,
        eflags: r.eflags,
        cs: r.cs as u16,
        gs: 0,
        fs: 0,
        ss: r.ss as u16,
        err: trap.error,
        trapno: trap.number,
        oldmask: 0,
        cr2: trap.cr2,
        fpstate,
        reserved: [0; 8],
    }
}

fn restore(r: &mut Registers, uc: &UContext) {
    let c = &uc.mcontext;
    r.r8 = c.r8;
    r.r9 = c.r9;
    r.r10 = c.r10;
    r.r11 = c.r11;
    r.r12 = c.r12;
    r.r13 = c.r13;
    r.r14 = c.r14;
    r.r15 = c.r15;
    r.rdi = c.rdi;
    r.rsi = c.rsi;
    r.rbp = c.rbp;
    r.rbx = c.rbx;
    r.rdx = c.rdx;
    r.rax = c.rax;
    r.rcx = c.rcx;
    r.rsp = c.rsp;
    // Addresses outside the lower half would fault in the host's kernel rather than the guest.
    r.rip = if c.rip < 1 << 47 { c.rip } else { TASK_SIZE };
    r.eflags = r.eflags & !EFLAGS_RESTORED | c.eflags & EFLAGS_RESTORED;
    r.cs = 0x33;
    r.ss = 0x2b;
    r.orig_rax = u64::MAX;
}
