//! Taking signals: what a task does before it goes back to guest code.

use crate::cpu::Phase;
use crate::group::{GroupState, Stop};
use crate::run::Pending;
use crate::send::begin_exit;
use crate::tracer::{notify_seized, stop_completed, trap_wanted};
use crate::{ChildEvent, ExitStatus, TaskCx};
use abi::Errno;
use ctx::Restart;
use signal::{ActionFlags, DefaultAction, Handler, SigAction, SigInfo, SigSet, Signal};
use std::sync::atomic::Ordering;

/// What one look at the group's state came to.
enum Next {
    Nothing,
    Exit(ExitStatus),
    Stopped,
    /// For its tracer.
    Trap,
    Paused,
    Signal(Signal, SigInfo),
}

impl TaskCx {
    /// Whether [`TaskCx::do_work`] would find anything to do.
    pub(crate) fn wanted_elsewhere(&self) -> bool {
        let me = self.task();
        let st = self.group().state.lock();
        let found = st.ends(me)
            || self.stop_wanted(&st)
            || !((me.pending.lock().set() | st.pending.set()).minus(me.blocked())).is_empty();
        // What is paused is to look there before guest code runs again.
        if !found && !self.container().is_paused() {
            // Under the lock with which it is set.
            me.work.store(false, Ordering::SeqCst);
        }
        found
    }

    /// Whether the stop of its process, or its tracer, wants it to stop.
    fn stop_wanted(&self, st: &GroupState) -> bool {
        match self.task().is_traced() {
            true => trap_wanted(st, self.task()),
            false => st.stop.is_some(),
        }
    }

    /// Does what there is to do: delivers signals, stops, or finds that the task must end.
    pub(crate) fn do_work(&mut self) {
        self.untraced_goes_on();
        while self.exit.is_none() && self.task.work.load(Ordering::SeqCst) {
            match self.next_work() {
                Next::Nothing => break,
                Next::Exit(status) => self.exit = Some(status),
                Next::Stopped => self.sleep_stopped(),
                Next::Trap => self.job_trap(),
                Next::Paused => self.sleep_paused(),
                Next::Signal(signal, info) => {
                    if self.take(signal, info) {
                        return;
                    }
                }
            }
        }
        if self.exit.is_none() {
            self.no_handler_ran();
        }
    }

    /// An interrupted call is made again, and a temporary mask ends, where no handler ran.
    fn no_handler_ran(&mut self) {
        match std::mem::replace(&mut self.pending, Pending::None) {
            Pending::Restart(r) => self.make_again(r),
            Pending::None => {}
        }
        if let Some(mask) = self.saved_mask.take() {
            self.set_blocked(mask);
        }
    }

    fn make_again(&mut self, restart: Restart) {
        self.regs.rax = match restart {
            Restart::Block => abi::libc::SYS_restart_syscall as u64,
            _ => self.regs.orig_rax,
        };
        self.regs.rip = self.regs.rip.wrapping_sub(2);
    }

    fn next_work(&mut self) -> Next {
        let me = self.task.clone();
        let mut guard = me.group().state.lock();
        let st = &mut *guard;
        if st.ends(&me) {
            return Next::Exit(st.exit.unwrap_or(ExitStatus::Exited(0)));
        }
        if self.container().is_paused() {
            return Next::Paused;
        }
        if self.stop_wanted(st) {
            if me.is_traced() {
                return Next::Trap;
            }
            me.stopped.store(true, Ordering::SeqCst);
            me.joined_stop.store(true, Ordering::SeqCst);
            return Next::Stopped;
        }
        let open = !me.blocked();
        let mut own = me.pending.lock();
        let taken = own
            .take(open & Signal::SYNCHRONOUS)
            .or_else(|| own.take(open));
        drop(own);
        match taken.or_else(|| st.pending.take(open)) {
            Some((signal, info)) => {
                if Signal::STOPS.has(signal) {
                    st.stop_dequeued = true;
                }
                Next::Signal(signal, info)
            }
            None => {
                me.work.store(false, Ordering::SeqCst);
                Next::Nothing
            }
        }
    }

    /// Sleeps until the stop is over. The last thread to stop tells the parent.
    fn sleep_stopped(&mut self) {
        let me = self.task.clone();
        loop {
            let report = {
                let mut guard = me.group().state.lock();
                let st = &mut *guard;
                if st.ends(&me) || st.stop.is_none() || (me.is_traced() && trap_wanted(st, &me)) {
                    break;
                }
                stop_completed(st)
            };
            if let Some(signal) = report {
                self.kernel()
                    .report_child(me.group(), ChildEvent::Stopped(signal));
                continue;
            }
            me.cpu.enter(Phase::Parked);
            me.waker().park(None);
            me.cpu.enter(Phase::Sentry);
        }
        me.stopped.store(false, Ordering::SeqCst);
        self.look_at_result();
    }

    /// Delivers one signal; whether a handler has been set up (one at a time: the next is taken
    /// with that handler's first instruction as the interrupted one).
    fn take(&mut self, signal: Signal, info: SigInfo) -> bool {
        if let Some(tracer) = self.kernel().tracer() {
            tracer.signal(self, &info);
        }
        let Some(info) = self.group().timers().delivering(info) else {
            return false;
        };
        let shown = self.trace_signal(signal, info);
        self.look_at_result();
        let Some((signal, info)) = shown else {
            return false;
        };
        let action = self.group().actions().take_for_delivery(signal);
        match action.handler() {
            Handler::Ignore => false,
            Handler::Address(_) => {
                self.deliver(signal, info, action);
                // Others may be pending: they nest, as on Linux.
                false
            }
            Handler::Default => {
                self.default_action(signal, &info);
                false
            }
        }
    }

    fn default_action(&mut self, signal: Signal, info: &SigInfo) {
        let action = signal.default_action();
        if self.group().unkillable.load(Ordering::Relaxed) && !signal.is_unblockable() {
            return;
        }
        match action {
            DefaultAction::Ignore | DefaultAction::Continue => {}
            DefaultAction::Stop => self.begin_stop(signal),
            DefaultAction::Terminate => self.die(signal),
            DefaultAction::Core => self.die_and_dump(signal, info),
        }
    }

    pub(crate) fn die(&mut self, signal: Signal) {
        let status = ExitStatus::Killed { signal };
        let mut st = self.task.group().state.lock();
        if st.exit.is_none() {
            begin_exit(&mut st, status);
        }
        let status = st.exit;
        drop(st);
        self.exit = status;
    }

    fn begin_stop(&mut self, signal: Signal) {
        // The parent of an orphaned group could not continue it.
        if signal != Signal::STOP && ctx::JobControl::orphaned(self) {
            return;
        }
        let me = self.task.clone();
        let mut st = me.group().state.lock();
        if !st.stop_dequeued || st.exit.is_some() {
            // SIGCONT came meanwhile.
            return;
        }
        st.stop_dequeued = false;
        // Tracees may have gone on while their process is stopped: that is no news to the parent.
        let (signal, reported) = match st.stop {
            Some(stop) if stop.reported => (stop.signal, true),
            _ => (signal, false),
        };
        st.stop = Some(Stop { signal, reported });
        for t in &st.threads {
            t.joined_stop.store(false, Ordering::SeqCst);
            notify_seized(t);
            t.interrupt();
        }
    }

    /// Sets up the handler.
    fn deliver(&mut self, signal: Signal, info: SigInfo, action: SigAction) {
        match std::mem::replace(&mut self.pending, Pending::None) {
            Pending::Restart(Restart::Always) => self.make_again(Restart::Always),
            Pending::Restart(Restart::Sys) if action.flags().contains(ActionFlags::RESTART) => {
                self.make_again(Restart::Sys);
            }
            Pending::Restart(_) => {
                self.restart = None;
                self.regs.rax = Errno::EINTR.to_return();
            }
            Pending::None => {}
        }
        let mask = self
            .saved_mask
            .take()
            .unwrap_or_else(|| self.task.blocked());
        let steps = self.stop_stepping();
        if self.push_frame(signal, &info, &action, mask).is_err() {
            // No room on the stack: as Linux, SIGSEGV; where that is what could not be
            // delivered, the end.
            if signal == Signal::SEGV {
                self.group()
                    .actions()
                    .set(Signal::SEGV, SigAction::default());
            }
            self.force(SigInfo::kernel(Signal::SEGV));
            return;
        }
        let mut blocked = self.task.blocked() | action.mask;
        if !action.flags().contains(ActionFlags::NODEFER) {
            blocked = blocked.with(signal);
        }
        self.set_blocked(blocked);
        if steps {
            self.trace_handler();
        }
    }

    /// Sends itself a signal that it cannot escape, as a fault does: where it is blocked or
    /// ignored, it kills.
    pub(crate) fn force(&self, info: SigInfo) {
        let Ok(signal) = Signal::new(info.signo) else {
            return;
        };
        let me = self.task();
        let st = me.group().state.lock();
        let action = st.actions.get(signal);
        if me.blocked().has(signal) || action.handler() == Handler::Ignore {
            st.actions.set(signal, SigAction::default());
            let open = me.blocked().without(signal);
            me.blocked.store(open.bits(), Ordering::SeqCst);
        }
        if st.actions.get(signal).handler() == Handler::Default && !me.is_traced() {
            me.group().unkillable.store(false, Ordering::Relaxed);
        }
        let _ = me.pending.lock().add(signal, info, u64::MAX);
        me.work.store(true, Ordering::SeqCst);
        drop(st);
    }

    /// Changes what is blocked. What the whole process has pending and this thread no longer
    /// takes is offered to others.
    pub fn set_blocked(&self, new: SigSet) {
        let me = self.task();
        let new = new.blockable();
        let old = me.blocked();
        if new == old {
            return;
        }
        let st = me.group().state.lock();
        me.blocked.store(new.bits(), Ordering::SeqCst);
        let newly = new.minus(old);
        let orphaned = st.pending.set() & newly;
        if !orphaned.is_empty() {
            for t in &st.threads {
                if t.tid() != me.tid() && !(orphaned.minus(t.blocked())).is_empty() {
                    t.interrupt();
                }
            }
        }
        if !((me.pending.lock().set() | st.pending.set()).minus(new)).is_empty() {
            me.work.store(true, Ordering::SeqCst);
        }
    }
}
