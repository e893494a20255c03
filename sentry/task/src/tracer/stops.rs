//! The stops of a tracee, as it makes them itself.

use super::{Event, Stop, Xstate};
use crate::cpu::Phase;
use crate::group::GroupState;
use crate::run::Pending;
use crate::send::{Reach, ticks};
use crate::{ChildEvent, ExitStatus, Task, TaskCx};
use abi::{Errno, libc};
use ctx::{Pid, Restart};
use signal::{ActionFlags, Handler, SigInfo, Signal};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use wait::Events;

/// A stop to be made.
pub(super) struct Halt {
    /// See [`Stop::code`].
    pub(super) code: i32,
    pub(super) info: Option<SigInfo>,
    pub(super) message: u64,
    /// A signal is about to be delivered.
    pub(super) is_signal: bool,
    /// It is the tracee's part in a stop of its process (`CLD_STOPPED`).
    pub(super) of_group: bool,
    /// The end of the process does not end it.
    pub(super) at_exit: bool,
}

/// Whether a traced task is to stop before it goes on.
pub(crate) fn trap_wanted(st: &GroupState, task: &Task) -> bool {
    let t = task.tracee.lock();
    t.by.is_some()
        && (t.trap || t.notify || (st.stop.is_some() && !task.joined_stop.load(Ordering::SeqCst)))
}

/// A process that stops, or goes on, is news to who seized threads of it.
pub(crate) fn notify_seized(task: &Task) {
    if !task.is_traced() {
        return;
    }
    let mut t = task.tracee.lock();
    if t.by.is_some() && t.seized {
        t.notify = true;
    }
}

/// Whether all threads take part in the stop and nobody has been told yet: the signal to tell of.
pub(crate) fn stop_completed(st: &mut GroupState) -> Option<Signal> {
    let all = st
        .threads
        .iter()
        .all(|t| t.joined_stop.load(Ordering::SeqCst));
    let stop = st.stop.as_mut()?;
    if !all || stop.reported {
        return None;
    }
    stop.reported = true;
    Some(stop.signal)
}

/// What the kernel leaves in `rax` of a call that may be made again.
fn restart_code(restart: Restart) -> u64 {
    let code: i64 = match restart {
        Restart::Sys => 512,
        Restart::Always => 513,
        Restart::NoHandler => 514,
        Restart::Block => 516,
    };
    (-code) as u64
}

fn restart_of(rax: u64) -> Option<Restart> {
    let all = [
        Restart::Sys,
        Restart::Always,
        Restart::NoHandler,
        Restart::Block,
    ];
    all.into_iter().find(|r| restart_code(*r) == rax)
}

impl TaskCx {
    /// Stops for the tracer, if there is one, until that has it go on: the signal it is to go on
    /// with, 0 for none, and what is to be told of it.
    pub(super) fn halt(&mut self, halt: Halt) -> (i32, Option<SigInfo>) {
        let me = self.task.clone();
        let before = self.pending;
        if let Pending::Restart(r) = before {
            self.regs.rax = restart_code(r);
        }
        let (completed, ended);
        {
            let mut st = me.group().state.lock();
            let ends = st.ends(&me);
            ended = ends;
            let mut t = me.tracee.lock();
            if t.by.is_none() || (ends && !halt.at_exit) || self.is_closing() {
                t.give_up();
                drop(t);
                drop(st);
                self.take_back(before);
                return (halt.code & 0x7f, halt.info);
            }
            t.trap = false;
            if halt.code >> 8 == Event::Stop as i32 {
                t.notify = false;
            }
            t.message = halt.message;
            t.listening = false;
            t.stop = Some(Box::new(Stop {
                code: halt.code,
                info: halt.info,
                is_signal: halt.is_signal,
                regs: self.regs,
                forced_step: self.forced_step,
                saved_mask: self.saved_mask,
                xstate: Xstate::Away,
                over: None,
            }));
            me.trapped.store(true, Ordering::SeqCst);
            drop(t);
            completed = match halt.of_group {
                true if st.stop.is_some() => {
                    me.joined_stop.store(true, Ordering::SeqCst);
                    stop_completed(&mut st)
                }
                _ => None,
            };
        }
        let why = match halt.of_group {
            true => libc::CLD_STOPPED,
            false => libc::CLD_TRAPPED,
        };
        self.tell_tracer(why, halt.code & 0x7f);
        if let Some(signal) = completed
            && !self.is_traced_by_parent()
        {
            self.kernel()
                .report_child(me.group(), ChildEvent::Stopped(signal));
        }
        let stop = self.sleep_trapped(&me, ended);
        self.resumed(&me, stop, before)
    }

    /// Whether all that there is in its container ends: then nothing waits for a tracer.
    fn is_closing(&self) -> bool {
        self.kernel().is_dying() || self.container().is_closed()
    }

    /// Sleeps until the stop is over, which is then taken away. One that had to end when the stop
    /// began, as `ended` says, is not ended by that again.
    fn sleep_trapped(&mut self, me: &Arc<Task>, ended: bool) -> Option<Box<Stop>> {
        loop {
            let mut fetch = false;
            {
                let st = me.group().state.lock();
                let ends = (st.ends(me) && !ended) || self.is_closing();
                let mut t = me.tracee.lock();
                if ends {
                    t.give_up();
                }
                let again = t.listening && (t.notify || t.trap);
                let over = t.stop.as_ref().is_none_or(|s| s.over.is_some());
                if ends || again || over || t.by.is_none() {
                    t.listening = false;
                    me.trapped.store(false, Ordering::SeqCst);
                    me.work.store(true, Ordering::SeqCst);
                    return t.stop.take();
                }
                if let Some(s) = &t.stop {
                    fetch = matches!(s.xstate, Xstate::Wanted);
                }
            }
            if fetch {
                self.fetch_xstate(me);
                continue;
            }
            me.cpu.enter(Phase::Parked);
            me.waker().park(None);
            me.cpu.enter(Phase::Sentry);
        }
    }

    /// Puts the extended state where the tracer that asked for it finds it.
    fn fetch_xstate(&mut self, me: &Task) {
        let mut state = Vec::new();
        if let Err(e) = self.context.extended_state(&mut state) {
            tracing::warn!("extended state: {e}");
        }
        let mut t = me.tracee.lock();
        if let Some(s) = t.stop.as_deref_mut()
            && matches!(s.xstate, Xstate::Wanted)
        {
            s.xstate = Xstate::Here(state);
        }
        let tracer = t.by.as_ref().map(|by| by.task.clone());
        drop(t);
        if let Some(tracer) = tracer {
            tracer.waker().wake();
        }
    }

    /// Takes over what the tracer has changed.
    fn resumed(
        &mut self,
        me: &Arc<Task>,
        stop: Option<Box<Stop>>,
        before: Pending,
    ) -> (i32, Option<SigInfo>) {
        let (mut signal, mut info) = (0, None);
        if let Some(stop) = stop {
            signal = stop.over.unwrap_or(0);
            info = stop.info;
            self.forced_step = stop.forced_step;
            self.regs = stop.regs;
            self.saved_mask = stop.saved_mask;
            if let Xstate::Changed(state) = stop.xstate
                && let Err(e) = self.context.set_extended_state(&state)
            {
                tracing::warn!("extended state: {e}");
            }
        }
        let step = {
            let t = me.tracee.lock();
            t.by.is_some() && t.resume.step
        };
        self.force_step(step);
        self.take_back(before);
        (signal, info)
    }

    /// Decides anew about a call that was to be made again: its tracer may have changed that.
    fn take_back(&mut self, before: Pending) {
        if before != Pending::None {
            self.pending = Pending::None;
            self.look_at_result();
        }
    }

    /// Where signals are looked at, the registers say whether the call that ended is to be made
    /// again. A tracer may have put that there; at the stops of calls it alone has no effect.
    pub(crate) fn look_at_result(&mut self) {
        if self.regs.orig_rax as i32 != -1
            && let Some(restart) = restart_of(self.regs.rax)
        {
            self.pending = Pending::Restart(restart);
            self.regs.rax = Errno::EINTR.to_return();
        }
    }

    fn is_traced_by_parent(&self) -> bool {
        let Some(tracer) = self.task.tracer() else {
            return false;
        };
        self.kernel().parent(self.task.tgid()) == tracer.tgid()
    }

    /// `SIGCHLD` to the tracer, and its waits.
    fn tell_tracer(&self, why: i32, status: i32) {
        let me = self.task();
        let Some(tracer) = me.tracer() else { return };
        let time = me.cpu_time();
        let info = SigInfo::child(
            Signal::CHLD,
            why,
            me.pid().seen_from(tracer.group().pid_namespace().space()),
            tracer.group().shown_uid(self.creds_ref().ruid),
            status,
            ticks(time.user),
            ticks(time.system),
        );
        let action = tracer.group().actions().get(Signal::CHLD);
        if action.handler() != Handler::Ignore && !action.flags().contains(ActionFlags::NOCLDSTOP) {
            let _ = tracer
                .group()
                .queue(Reach::Process, Signal::CHLD, info, false);
        }
        tracer.group().children.notify_all(Events::READABLE);
        // It may wait for this very stop to come about.
        tracer.waker().wake();
    }

    fn own_trap(&self, signal: i32, code: i32) -> SigInfo {
        let signal = Signal::new(signal).unwrap_or(Signal::TRAP);
        SigInfo::user(signal, code, self.task.pid().own(), self.own_uid())
    }

    /// What it is told its own user is.
    fn own_uid(&self) -> u32 {
        let creds = self.creds_ref();
        creds.user_ns.shown_uid(creds.ruid)
    }

    /// Linux' ptrace_notify: `SIGTRAP`, with what more `code` says.
    pub(super) fn trap_with(&mut self, code: i32, message: u64, at_exit: bool) -> i32 {
        self.halt(Halt {
            code,
            info: Some(self.own_trap(libc::SIGTRAP, code)),
            message,
            is_signal: false,
            of_group: false,
            at_exit,
        })
        .0
    }

    /// Stops for an event that the tracer asked to hear of; whether it did.
    pub(crate) fn trace_event(&mut self, event: Event, message: u64) -> bool {
        if !self.task.is_traced() || !self.task.tracee.lock().enabled(event) {
            return false;
        }
        let code = (event as i32) << 8 | libc::SIGTRAP;
        self.trap_with(code, message, event == Event::Exit);
        true
    }

    /// As [`TaskCx::trace_event`], with what the tracer calls `pid`.
    pub(crate) fn trace_pid_event(&mut self, event: Event, pid: &Pid) -> bool {
        let Some(tracer) = self.task.tracer() else {
            return false;
        };
        let space = tracer.group().pid_namespace().space();
        drop(tracer);
        self.trace_event(event, pid.seen_from(space) as u64)
    }

    /// Whether its tracer hears of `event`.
    pub(crate) fn traces(&self, event: Event) -> bool {
        self.task.is_traced() && self.task.tracee.lock().enabled(event)
    }

    /// A new program: an event, or `SIGTRAP` where nobody asked.
    pub(crate) fn trace_exec(&mut self, old: &Pid) {
        if self.trace_pid_event(Event::Exec, old) || !self.task.is_traced() {
            return;
        }
        let seized = {
            let t = self.task.tracee.lock();
            t.by.is_none() || t.seized
        };
        if !seized {
            let info = SigInfo::user(Signal::TRAP, 0, self.task.pid().own(), self.own_uid());
            self.raise_info(info);
        }
    }

    /// The last chance to look at a task.
    pub(crate) fn trace_exit(&mut self) {
        if !self.task.is_traced() {
            return;
        }
        let status = self.exit.unwrap_or(ExitStatus::Exited(0));
        // With its last thread the process ends: what kills it now comes too late.
        self.ends_process(status);
        let _heard = self.trace_event(Event::Exit, status.wait_status() as u64);
    }

    /// The stop that `trap_wanted` wants.
    pub(crate) fn job_trap(&mut self) {
        let (seized, signal) = {
            let st = self.group().state.lock();
            let t = self.task.tracee.lock();
            (t.seized, st.stop.map(|s| s.signal.number()))
        };
        let halt = match seized {
            true => {
                let signal = signal.unwrap_or(libc::SIGTRAP);
                let code = signal | (Event::Stop as i32) << 8;
                Halt {
                    code,
                    info: Some(self.own_trap(signal, code)),
                    message: 0,
                    is_signal: false,
                    of_group: true,
                    at_exit: false,
                }
            }
            false => Halt {
                code: signal.unwrap_or(libc::SIGSTOP),
                info: None,
                message: 0,
                is_signal: false,
                of_group: true,
                at_exit: false,
            },
        };
        let _what_a_group_goes_on_with = self.halt(halt);
        self.look_at_result();
    }

    /// Shows a signal to the tracer before it is delivered; what is to be delivered instead.
    pub(crate) fn trace_signal(
        &mut self,
        signal: Signal,
        info: SigInfo,
    ) -> Option<(Signal, SigInfo)> {
        if signal == Signal::KILL || !self.task.is_traced() {
            return Some((signal, info));
        }
        self.task.group().state.lock().stop_dequeued = true;
        let kept = self.task.clone();
        let (number, told) = self.halt(Halt {
            code: signal.number(),
            info: Some(info),
            message: 0,
            is_signal: true,
            of_group: false,
            at_exit: false,
        });
        let chosen = Signal::new(number).ok()?;
        let mut info = told.unwrap_or(info);
        if info.signo != chosen.number() {
            let tracer = kept.tracer();
            let uid = tracer.as_ref().map_or(0, |t| t.creds().ruid);
            let own = self.pid_namespace().space();
            let pid = tracer.map_or(0, |t| t.pid().seen_from(own));
            info = SigInfo::user(chosen, 0, pid, self.group().shown_uid(uid));
        }
        if self.task.blocked().has(chosen) || self.is_killed() {
            let _ = self.group().send_to(&kept, chosen, info);
            return None;
        }
        Some((chosen, info))
    }
}
