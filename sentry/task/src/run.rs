//! The loop of a task: guest code, what it wants, signals, again.

use crate::confine::{self, Ruling};
use crate::cpu::Phase;
use crate::frame::Trap;
use crate::tracer::Entered;
use crate::users::Users;
use crate::{FsContext, Task, TaskCx};
use abi::Errno;
use ctx::{Restart, SysErr};
use mm::Mm;
use platform_api::{Exit, Registers};
use signal::{AltStack, SigInfo, Signal};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use vfs::{FdTable, MountNamespace};

/// All that a new task starts with.
pub(crate) struct Start {
    pub(crate) task: Arc<Task>,
    pub(crate) regs: Registers,
    pub(crate) mm: Arc<Users<Mm>>,
    pub(crate) fds: Arc<Users<FdTable>>,
    pub(crate) fs: Arc<Users<FsContext>>,
    pub(crate) mounts: Arc<MountNamespace>,
    pub(crate) altstack: AltStack,
    pub(crate) extended: Option<Vec<u8>>,
}

impl Start {
    pub(crate) fn mm_id(&self) -> u64 {
        self.mm.get().id()
    }
}

/// A system call that ended with a restart, until signals have been looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pending {
    None,
    Restart(Restart),
}

pub(crate) fn run(cx: &mut TaskCx) {
    cx.set_interrupter();
    crate::oom::work_for(cx.group());
    cx.task.cpu.enter(Phase::Sentry);
    let state = cx.extended.take();
    if let Err(e) = cx
        .context
        .set_extended_state(state.as_deref().unwrap_or(&[]))
    {
        tracing::warn!("extended state of a new task: {e}");
    }
    loop {
        if cx.task.work.load(Ordering::SeqCst)
            || cx.pending != Pending::None
            || cx.saved_mask.is_some()
        {
            // `work` may be unset with a restart still to be decided.
            cx.do_work();
        }
        if cx.exit.is_some() {
            break;
        }
        step(cx);
    }
    cx.trace_exit();
    cx.exit_task();
}

/// `si_code` of an access that the mapping forbids.
const SEGV_ACCERR: i32 = 2;

/// Once into guest code and what comes of it.
fn step(cx: &mut TaskCx) {
    cx.task.cpu.enter(Phase::Guest);
    // The other half of `Task::interrupt`.
    if cx.task.work.load(Ordering::SeqCst) {
        cx.task.cpu.enter(Phase::Sentry);
        return;
    }
    let exit = cx.context.switch(cx.mm.get().space_ref(), &mut cx.regs);
    cx.task.cpu.enter(Phase::Sentry);
    cx.group_timers_woken();
    match exit {
        Ok(Exit::Syscall) => system_call(cx),
        Ok(Exit::Fault { addr, access, bus }) => {
            let start = cx.task.cpu.since();
            let handled = cx.mm().handle_fault(addr, access, bus);
            cx.task.cpu.count_fault();
            if cx.kernel().watch.get().trace() {
                cx.trace_fault(addr, start, handled.is_ok());
            }
            if let Err(f) = handled {
                if f.signo == abi::libc::SIGKILL {
                    cx.starved();
                    return;
                }
                let signal = Signal::new(f.signo).unwrap_or(Signal::SEGV);
                // What is mapped and may not be touched like this was present, as a rule.
                let present = f.code == SEGV_ACCERR
                    && cx.mm().mapping_at(addr).is_some_and(|m| !m.prot.is_empty());
                cx.trap = Trap::page_fault(addr, access, signal == Signal::SEGV && present);
                cx.force(SigInfo::fault(signal, f.code, f.addr));
            }
        }
        Ok(Exit::Exception(e)) => {
            let signal = Signal::new(e.signal).unwrap_or(Signal::SEGV);
            cx.trap.exception(signal, e.code);
            cx.force(SigInfo::fault(signal, e.code, e.addr));
        }
        Ok(Exit::Interrupted) => {}
        Ok(Exit::MapFailed { addr, len, errno }) => {
            if cx.mm().map_failed(addr, len, errno).is_err() {
                cx.starved();
            }
        }
        Err(e) => {
            // The platform lost this thread's guest: the process cannot go on, others can.
            tracing::error!(tid = cx.task.tid(), "guest code cannot be run: {e}");
            cx.group().kill(crate::ExitStatus::Killed {
                signal: Signal::KILL,
            });
        }
    }
}

/// In debug builds alone, a call by which tests see what becomes of a panic.
#[cfg(debug_assertions)]
const PANIC_CALL: u64 = 0x7069_6e67;

fn system_call(cx: &mut TaskCx) {
    let free = cx.task.seccomp.is_free();
    if !free && cx.task.is_traced() && cx.trace_entry() == Entered::Skip {
        return cx.trace_return();
    }
    // As Linux, which looks at the lower half alone.
    let mut nr = u64::from(cx.regs.orig_rax as u32);
    let mut args = cx.regs.args();
    let watched = cx.kernel().watch.get();
    let tracer = match watched.strace() {
        true => cx.kernel().tracer().cloned(),
        false => None,
    };
    if let Some(t) = &tracer {
        t.enter(cx, nr, &args);
    }
    let start = cx.task.cpu.since();
    cx.task.begin_call(nr);
    let mut ruling = Ruling::Make;
    if !free {
        ruling = confine::rule(cx);
        // A tracer may have made another call of it.
        (nr, args) = (u64::from(cx.regs.orig_rax as u32), cx.regs.args());
    }
    let handler = cx.kernel().handler(nr);
    let result = match (ruling, handler) {
        (Ruling::Answer(value), _) => Ok(value),
        (Ruling::Skip, _) => Ok(cx.regs.rax),
        // What the handler of a signal finds there.
        (Ruling::Undo, _) => Ok(cx.regs.orig_rax),
        (Ruling::Interrupted, _) => Err(Restart::Sys.into()),
        (Ruling::Make, Some(handler)) => handler(cx, &args),
        (Ruling::Make, None) => {
            #[cfg(debug_assertions)]
            assert!(nr != PANIC_CALL, "a guest asked for it");
            cx.kernel().missing(&cx.task, nr);
            Err(SysErr::Errno(Errno::ENOSYS))
        }
    };
    cx.task.end_call();
    if let Some(t) = &tracer {
        t.exit(cx, nr, &args, &result);
    }
    if watched.trace() {
        cx.trace_call(nr, start, &result);
    }
    // A temporary mask is for the wait: what comes after it meets the old one.
    let interrupted = matches!(
        result,
        Err(SysErr::Restart(_)) | Err(SysErr::Errno(Errno::EINTR))
    );
    if cx.saved_mask.is_some()
        && !std::mem::take(&mut cx.mask_stays)
        && !interrupted
        && let Some(mask) = cx.saved_mask.take()
    {
        cx.set_blocked(mask);
    }
    match result {
        Ok(value) => cx.regs.rax = value,
        Err(SysErr::Errno(e)) => cx.regs.rax = e.to_return(),
        Err(SysErr::Restart(r)) => {
            cx.regs.rax = Errno::EINTR.to_return();
            cx.pending = Pending::Restart(r);
        }
    }
    if !free && cx.task.is_traced() {
        cx.trace_return();
    }
}
