//! rt_sigprocmask(2), rt_sigaction(2), rt_sigsuspend(2), rt_sigtimedwait(2), sigaltstack(2).

use crate::{Task, TaskCx};
use abi::Errno;
use ctx::{Ctx, Restart, SysErr, SysResult, Wake};
use signal::{ActionFlags, AltStack, SigAction, SigInfo, SigSet, Signal};
use std::sync::atomic::Ordering;
use std::time::Instant;

impl Task {
    /// Takes one of its own or its process's pending signals that are in `set`.
    pub(crate) fn take_pending(&self, set: SigSet) -> Option<SigInfo> {
        loop {
            let mut st = self.group().state.lock();
            let own = self.pending.lock().take(set);
            let (_, info) = own.or_else(|| st.pending.take(set))?;
            drop(st);
            let info = self.group().timers().delivering(info);
            if info.is_some() {
                return info;
            }
        }
    }
}

impl TaskCx {
    /// rt_sigprocmask(2) with `how` as the guest gives it; the former mask.
    ///
    /// # Errors
    /// `EINVAL` for another `how`.
    pub fn change_mask(&mut self, how: i32, set: SigSet) -> Result<SigSet, Errno> {
        let old = self.task().blocked();
        let new = match how {
            abi::libc::SIG_BLOCK => old | set,
            abi::libc::SIG_UNBLOCK => old.minus(set),
            abi::libc::SIG_SETMASK => set,
            _ => return Err(Errno::EINVAL),
        };
        self.set_blocked(new);
        Ok(old)
    }

    /// Blocks `mask` until the call has ended and, where a signal ended it, a handler has run
    /// (ppoll(2), pselect6(2), epoll_pwait(2), rt_sigsuspend(2)).
    pub fn set_temporary_mask(&mut self, mask: SigSet) {
        if self.saved_mask.is_none() {
            self.saved_mask = Some(self.task().blocked());
        }
        self.set_blocked(mask);
    }

    /// The call ends with what it has, and what the temporary mask lets in is delivered before
    /// that mask ends (io_pgetevents(2)).
    pub fn keep_temporary_mask(&mut self) {
        self.mask_stays = true;
    }

    /// What is pending and blocked (rt_sigpending(2)).
    pub fn pending_signals(&self) -> SigSet {
        let me = self.task();
        let st = me.group().state.lock();
        let all = me.pending.lock().set() | st.pending.set();
        all & me.blocked()
    }

    /// rt_sigaction(2): the former action.
    ///
    /// # Errors
    /// `EINVAL` for `SIGKILL` and `SIGSTOP` where there is a new one.
    pub fn set_action(
        &mut self,
        signal: Signal,
        new: Option<SigAction>,
    ) -> Result<SigAction, Errno> {
        let group = self.group();
        let Some(mut new) = new else {
            return Ok(group.actions().get(signal));
        };
        if signal.is_unblockable() {
            return Err(Errno::EINVAL);
        }
        new.mask = new.mask.blockable();
        // Linux forgets what it does not know, so that programs can ask.
        new.flags &= ActionFlags::KNOWN.bits();
        let mut st = group.state.lock();
        let old = st.actions.set(signal, new);
        if new.ignores(signal) {
            // What is pending and now ignored is discarded.
            let which = SigSet::only(signal);
            st.pending.discard(which);
            for t in &st.threads {
                t.pending.lock().discard(which);
            }
        }
        Ok(old)
    }

    /// rt_sigsuspend(2). Returns only once interrupted.
    ///
    /// # Errors
    /// Always: `EINTR` in the end.
    pub fn suspend(&mut self, mask: SigSet) -> SysResult<u64> {
        self.set_temporary_mask(mask);
        self.pause()
    }

    /// pause(2).
    ///
    /// # Errors
    /// Always: `EINTR` in the end.
    pub fn pause(&mut self) -> SysResult<u64> {
        while self.park(None) != Wake::Interrupted {}
        Err(Restart::NoHandler.into())
    }

    /// Takes one pending signal that is in `set`, whether blocked or not (signalfd(2)).
    pub fn take_signal(&self, set: SigSet) -> Option<SigInfo> {
        self.task().take_pending(set.blockable())
    }

    /// rt_sigtimedwait(2).
    ///
    /// # Errors
    /// `EAGAIN` when the deadline passes, `EINTR` for another signal.
    pub fn wait_signal(&mut self, set: SigSet, deadline: Option<Instant>) -> SysResult<SigInfo> {
        let set = set.blockable();
        if let Some(info) = self.take_signal(set) {
            return Ok(info);
        }
        let me = self.task().clone();
        // As Linux: while it waits the signals are open, so that senders choose this thread, and
        // it takes them itself. One that was blocked before ends nobody.
        let saved = me.blocked();
        me.real_blocked.store(saved.bits(), Ordering::SeqCst);
        self.set_blocked(saved.minus(set));
        let result = loop {
            if let Some(info) = self.take_signal(set) {
                break Ok(info);
            }
            match self.park(deadline) {
                Wake::Notified => {}
                Wake::TimedOut => break self.take_signal(set).ok_or(Errno::EAGAIN.into()),
                Wake::Interrupted => {
                    break self.take_signal(set).ok_or(SysErr::Errno(Errno::EINTR));
                }
            }
        };
        // In this order: at no time may a signal of `saved` look as if it were open.
        self.set_blocked(saved);
        me.real_blocked.store(0, Ordering::SeqCst);
        result
    }

    /// sigaltstack(2): the present one, as reported.
    pub fn alt_stack(&self) -> AltStack {
        self.altstack.reported(self.regs.rsp)
    }

    /// sigaltstack(2): sets another.
    ///
    /// # Errors
    /// `EPERM`, `EINVAL`, `ENOMEM` as there.
    pub fn set_alt_stack(&mut self, new: AltStack) -> Result<(), Errno> {
        self.altstack = self
            .altstack
            .changed(new, self.regs.rsp, signal::stack::MINSIGSTKSZ)?;
        Ok(())
    }
}
