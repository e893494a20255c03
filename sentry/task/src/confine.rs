//! What a task's system calls go through before they are made (seccomp(2)).
//!
//! A task has a mode, a word that others may set ([`Mode`]), and the filter behind it, which it
//! keeps a reference of and fetches anew when the word has changed.

use crate::supervise::{self, Listener};
use crate::{ExitStatus, Task, TaskCx, ThreadGroup};
use abi::{Errno, nr};
use ctx::SysResult;
use seccomp::{Action, Call, Filter, Program, Supervisor};
use signal::{SigInfo, Signal};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// The highest error that a filter can make a call fail with.
const MAX_ERRNO: u16 = 4095;

/// What stands before a task's calls: a word, so that one look tells a task that is free. How it is
/// confined, and whether it is traced (ptrace(2)).
///
/// It changes with the group's lock held, and but for tracing never back.
#[derive(Debug, Default)]
pub(crate) struct Mode(AtomicU32);

impl Mode {
    const FREE: u32 = 0;
    const TRACED: u32 = 1 << 31;
    const STRICT: u32 = 1 << 30;
    /// The rest is the number of programs.
    const PROGRAMS: u32 = Mode::STRICT - 1;

    #[inline]
    pub(crate) fn is_free(&self) -> bool {
        self.0.load(Ordering::Relaxed) == Mode::FREE
    }

    pub(crate) fn is_traced(&self) -> bool {
        self.0.load(Ordering::SeqCst) & Mode::TRACED != 0
    }

    pub(crate) fn set_traced(&self, yes: bool) {
        match yes {
            true => self.0.fetch_or(Mode::TRACED, Ordering::SeqCst),
            false => self.0.fetch_and(!Mode::TRACED, Ordering::SeqCst),
        };
    }

    fn is_strict(&self) -> bool {
        self.0.load(Ordering::Relaxed) & Mode::STRICT != 0
    }

    /// How many programs its filter has.
    fn programs(&self) -> u32 {
        self.0.load(Ordering::Acquire) & Mode::PROGRAMS
    }

    fn is_confined(&self) -> bool {
        self.0.load(Ordering::Acquire) & !Mode::TRACED != 0
    }

    fn set(&self, word: u32) {
        let traced = self.0.load(Ordering::Relaxed) & Mode::TRACED;
        self.0.store(word | traced, Ordering::Release);
    }
}

/// Flags of an installation that matter to us.
#[derive(Clone, Copy, Debug, Default)]
pub struct FilterFlags {
    /// All threads of the process get it (`TSYNC`).
    pub all_threads: bool,
    /// `ESRCH`, rather than the number of a thread that cannot get it (`TSYNC_ESRCH`).
    pub esrch: bool,
    /// What is not allowed is logged (`LOG`).
    pub log: bool,
    /// There is somebody who decides (`NEW_LISTENER`); and if so, whether a call that was taken is
    /// interrupted only by the end of its task (`WAIT_KILLABLE_RECV`).
    pub listener: Option<bool>,
}

impl Task {
    /// `SECCOMP_MODE_*`, as /proc/PID/status has it.
    pub fn seccomp_mode(&self) -> u32 {
        match self.seccomp.programs() {
            _ if self.seccomp.is_strict() => abi::libc::SECCOMP_MODE_STRICT,
            0 => abi::libc::SECCOMP_MODE_DISABLED,
            _ => abi::libc::SECCOMP_MODE_FILTER,
        }
    }

    /// How many programs its calls go through.
    pub fn seccomp_filters(&self) -> u32 {
        self.seccomp.programs()
    }

    /// Its filter.
    pub(crate) fn filter(&self) -> Option<Arc<Filter>> {
        self.state.lock().filter.clone()
    }

    /// The caller holds the group's lock, unless nobody else knows of the task yet.
    pub(crate) fn set_filter(&self, filter: Arc<Filter>) {
        let count = filter.count();
        let old = self.state.lock().filter.replace(filter);
        self.seccomp.set(count);
        drop(old);
    }

    /// A new task is confined as its maker, whose group's lock the caller holds.
    pub(crate) fn inherit_confinement(&self, parent: &Task) {
        if parent.no_new_privs() {
            self.set_no_new_privs();
        }
        match parent.filter() {
            Some(filter) => self.set_filter(filter),
            None if parent.seccomp.is_strict() => self.seccomp.set(Mode::STRICT),
            None => {}
        }
    }
}

/// What becomes of a call that the task is not free to make.
pub(crate) enum Ruling {
    /// It is made.
    Make,
    /// It is not; this is its result.
    Answer(u64),
    /// It is not, and its result is where a tracer has put it.
    Skip,
    /// It is not, and registers are as they were before it.
    Undo,
    /// A signal came before somebody decided.
    Interrupted,
}

/// Asks the tracer, and then the filter, or what strict mode allows. Not called for tasks that are
/// free.
#[cold]
pub(crate) fn rule(cx: &mut TaskCx) -> Ruling {
    if cx.task.is_traced() && cx.task.tracee.lock().suspends_seccomp() {
        return Ruling::Make;
    }
    match cx.task.seccomp.is_confined() {
        true => judge(cx, false),
        false => Ruling::Make,
    }
}

/// `traced`: it has been shown to the tracer already.
fn judge(cx: &mut TaskCx, traced: bool) -> Ruling {
    let nr = cx.regs.orig_rax as u32;
    let args = cx.regs.args();
    if cx.task.seccomp.is_strict() {
        const ALLOWED: [usize; 4] = [nr::read, nr::write, nr::exit, nr::rt_sigreturn];
        if ALLOWED.contains(&(nr as usize)) {
            return Ruling::Make;
        }
        cx.exit = Some(ExitStatus::Killed {
            signal: Signal::KILL,
        });
        return Ruling::Undo;
    }
    let count = cx.task.seccomp.programs();
    if cx.filter.as_ref().is_none_or(|f| f.count() != count) {
        cx.filter = cx.task.filter();
    }
    let Some(filter) = &cx.filter else {
        return Ruling::Make;
    };
    let call = Call {
        nr,
        ip: cx.regs.rip,
        args,
    };
    let (verdict, by) = filter.judge(&call);
    let action = verdict.action();
    if action == Action::Allow {
        return Ruling::Make;
    }
    if filter.logs() || action == Action::Log {
        tracing::debug!(tid = cx.task.tid(), nr, "seccomp: {action:?}");
    }
    match action {
        Action::Allow | Action::Log => Ruling::Make,
        Action::Errno => {
            let errno = i64::from(verdict.data().min(MAX_ERRNO));
            Ruling::Answer((-errno) as u64)
        }
        Action::Notify => match by.supervisor().cloned() {
            Some(supervisor) => supervise::ask(cx, &supervisor, call),
            None => Ruling::Answer(Errno::ENOSYS.to_return()),
        },
        Action::Trace if traced => Ruling::Make,
        Action::Trace => {
            let data = verdict.data();
            // Of what it made of the call the filter says again what it thinks.
            match cx.trace_filtered(data) {
                false => Ruling::Answer(Errno::ENOSYS.to_return()),
                true if cx.is_killed() || cx.regs.orig_rax as i32 == -1 => Ruling::Skip,
                true => judge(cx, true),
            }
        }
        Action::Trap => {
            let arch = seccomp::ARCH;
            let data = i32::from(verdict.data());
            cx.force(SigInfo::forbidden_call(call.ip, nr, arch, data));
            Ruling::Undo
        }
        Action::KillThread if !is_alone(cx.task.group()) => {
            cx.exit = Some(ExitStatus::Killed {
                signal: Signal::SYS,
            });
            Ruling::Undo
        }
        Action::KillThread | Action::KillProcess => {
            let (arch, data) = (seccomp::ARCH, i32::from(verdict.data()));
            let info = SigInfo::forbidden_call(call.ip, nr, arch, data);
            // What the file tells of is the call, not a result.
            cx.regs.rax = cx.regs.orig_rax;
            cx.die_and_dump(Signal::SYS, &info);
            Ruling::Undo
        }
    }
}

fn is_alone(group: &ThreadGroup) -> bool {
    group.state.lock().threads.len() == 1
}

impl TaskCx {
    /// Puts `program` on top of the task's filters, or of those of all threads.
    ///
    /// # Errors
    /// `EINVAL` in strict mode, `ENOMEM` for too many instructions, `ESRCH` as the flags say,
    /// `EBUSY` where somebody listens already. The number of a thread that has filters of its own
    /// is a success, and so is the descriptor of a listener.
    pub fn install_filter(&mut self, program: Program, flags: FilterFlags) -> SysResult<u64> {
        let Some(killable) = flags.listener else {
            return self.put_filter(program, flags, None);
        };
        let listener = Listener::new(killable);
        let (file, fd) = self.open_listener(&listener)?;
        let put = self.put_filter(program, flags, Some(listener));
        match put {
            Ok(_) => Ok(fd as u64),
            Err(e) => {
                if self.fd_table().holds(fd, &file) {
                    let _it_is_there = self.fd_table().close(self, fd);
                }
                Err(e)
            }
        }
    }

    fn put_filter(
        &mut self,
        program: Program,
        flags: FilterFlags,
        listener: Option<Arc<Listener>>,
    ) -> SysResult<u64> {
        let me = self.task().clone();
        let st = me.group().state.lock();
        if me.seccomp.is_strict() {
            return Err(Errno::EINVAL.into());
        }
        let old = me.filter();
        if listener.is_some() && old.as_ref().is_some_and(|f| f.is_supervised()) {
            return Err(Errno::EBUSY.into());
        }
        let others = || {
            let all = st.threads.iter().filter(|_| flags.all_threads);
            all.filter(|t| !Arc::ptr_eq(t, &me) && !t.is_exiting())
        };
        let apart = |t: &&Arc<Task>| {
            t.seccomp.is_strict() || !Filter::is_on_top_of(old.as_ref(), t.filter().as_ref())
        };
        if let Some(thread) = others().find(apart) {
            return match flags.esrch {
                true => Err(Errno::ESRCH.into()),
                false => Ok(thread.pid().own() as u64),
            };
        }
        let listener = listener.map(|l| l as Arc<dyn Supervisor>);
        let filter = Filter::new(program, old, flags.log, listener)?;
        for thread in others() {
            if me.no_new_privs() {
                thread.set_no_new_privs();
            }
            thread.set_filter(filter.clone());
        }
        me.set_filter(filter);
        Ok(0)
    }

    /// From now on it reads, writes and exits.
    ///
    /// # Errors
    /// `EINVAL` with filters in place.
    pub fn enter_strict_mode(&mut self) -> Result<(), Errno> {
        let me = self.task();
        let _st = me.group().state.lock();
        if me.seccomp.programs() != 0 {
            return Err(Errno::EINVAL);
        }
        me.seccomp.set(Mode::STRICT);
        Ok(())
    }
}

/// Whether the execve(2) that starts a container's program passes `filter`; the error if not.
pub(crate) fn may_start(filter: &Filter) -> Result<(), Errno> {
    let (verdict, _) = filter.judge(&seccomp::first_exec());
    match verdict.action() {
        Action::Allow | Action::Log => Ok(()),
        Action::Errno => Err(Errno::from_host(i32::from(verdict.data()))),
        Action::Notify | Action::Trace => Err(Errno::ENOSYS),
        Action::Trap | Action::KillThread | Action::KillProcess => Err(Errno::EPERM),
    }
}
