//! System calls and single steps of a tracee.

use super::Event;
use crate::TaskCx;
use abi::{Errno, libc};
use ctx::UserMemory;
use signal::{SigInfo, Signal};

/// What `PTRACE_GETEVENTMSG` says at the two stops of a call.
pub(super) const AT_ENTRY: u64 = 1;
pub(super) const AT_EXIT: u64 = 2;
/// Beside `SIGTRAP` where the tracer wants to tell calls from other traps.
pub(super) const CALL_MARK: i32 = 0x80;

/// The flag by which the CPU traps after each instruction.
pub(crate) const TRAP_FLAG: u64 = 1 << 8;
/// Longest x86 instruction.
const LONGEST: usize = 15;

/// What becomes of a call after its stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Entered {
    Make,
    /// The registers are as the tracer has left them.
    Skip,
}

impl TaskCx {
    /// Before a call is looked at. Not called for tasks that are not traced.
    #[cold]
    pub(crate) fn trace_entry(&mut self) -> Entered {
        let (resume, mark) = self.call_stops();
        // Until it has a result.
        self.regs.rax = Errno::ENOSYS.to_return();
        if !resume.calls && !resume.emulate {
            return Entered::Make;
        }
        self.call_stop(mark, AT_ENTRY);
        if resume.emulate || self.regs.orig_rax as i32 == -1 || self.is_killed() {
            return Entered::Skip;
        }
        Entered::Make
    }

    /// Once a call has its result.
    #[cold]
    pub(crate) fn trace_return(&mut self) {
        let (resume, mark) = self.call_stops();
        if resume.step && !resume.emulate {
            self.trap.exception(Signal::TRAP, libc::TRAP_TRACE);
            let info = SigInfo::fault(Signal::TRAP, libc::TRAP_BRKPT, self.regs.rip);
            self.force(info);
        } else if resume.calls {
            self.call_stop(mark, AT_EXIT);
        }
    }

    fn call_stops(&self) -> (super::Resume, i32) {
        let t = self.task.tracee.lock();
        let marks = t.options.contains(super::TraceOptions::SYSGOOD);
        match &t.by {
            Some(_) => (t.resume, if marks { CALL_MARK } else { 0 }),
            None => (super::Resume::default(), 0),
        }
    }

    fn call_stop(&mut self, mark: i32, message: u64) {
        let signal = self.trap_with(libc::SIGTRAP | mark, message, false);
        // Only a tracer that is there says with which signal; this one is not to go on by itself.
        if self.task.is_traced()
            && let Ok(signal) = Signal::new(signal)
        {
            self.raise_info(SigInfo::kernel(signal));
        }
    }

    /// A filter leaves the call to the tracer (`SECCOMP_RET_TRACE`): whether there is one that hears
    /// of it. It may have changed the call.
    pub(crate) fn trace_filtered(&mut self, data: u16) -> bool {
        self.regs.rax = Errno::ENOSYS.to_return();
        self.trace_event(Event::Seccomp, u64::from(data))
    }

    /// Sets the trap flag for a tracer that steps, or takes it away if it was such a one's.
    pub(super) fn force_step(&mut self, on: bool) {
        let again = std::mem::replace(&mut self.steps, on);
        if !on {
            if std::mem::take(&mut self.forced_step) {
                self.regs.eflags &= !TRAP_FLAG;
            }
            return;
        }
        // As Linux: at the second step in a row it takes the flag for one that was there.
        let had = again || self.regs.eflags & TRAP_FLAG != 0;
        self.regs.eflags |= TRAP_FLAG;
        if self.sets_flags() {
            // What the program itself puts there is its own.
            self.forced_step = false;
        } else if !had {
            self.forced_step = true;
        }
    }

    /// Whether it steps; from now on no longer, until the tracer says so again.
    pub(crate) fn stop_stepping(&mut self) -> bool {
        let steps = self.task.is_traced() && {
            let mut t = self.task.tracee.lock();
            t.by.is_some() && std::mem::take(&mut t.resume.step)
        };
        self.force_step(false);
        steps
    }

    /// A step has led to the first instruction of a handler.
    pub(crate) fn trace_handler(&mut self) {
        self.trap_with(libc::SIGTRAP, 0, false);
    }

    /// A tracer that has gone leaves no flag behind.
    pub(crate) fn untraced_goes_on(&mut self) {
        if self.forced_step && !self.task.is_traced() {
            self.force_step(false);
        }
    }

    /// Whether the next instruction is one that sets the flags from the stack: `popf`, `iret`.
    fn sets_flags(&self) -> bool {
        let mut code = [0u8; LONGEST];
        let got = self.mm().read_some(self.regs.rip, &mut code).unwrap_or(0);
        for byte in code.get(..got).unwrap_or_default() {
            match byte {
                0x9d | 0xcf => return true,
                // Prefixes.
                0x66 | 0x67 | 0x26 | 0x2e | 0x36 | 0x3e | 0x64 | 0x65 | 0xf0 | 0xf2 | 0xf3 => {}
                0x40..=0x4f => {}
                _ => return false,
            }
        }
        false
    }
}
