//! What a tracer asks of a tracee that has stopped.

use super::calls::{AT_ENTRY, AT_EXIT, CALL_MARK};
use super::registers::WORDS;
use super::{Event, Resume, Stop, TraceOptions, Tracee, Xstate};
use crate::send::Reach;
use crate::{Task, TaskCx};
use abi::{Errno, libc};
use auth::{Capability, Creds};
use mm::Mm;
use signal::{SigInfo, SigSet, Signal};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Bytes of the extended state that `PTRACE_GETFPREGS` tells, and where what is not of the CPU lies
/// in them.
const FXSAVE: usize = 512;
const SOFTWARE: std::ops::Range<usize> = 464..512;
const MXCSR: std::ops::Range<usize> = 24..28;
const MXCSR_BITS: u32 = 0xffff;
/// The header behind them: features, compaction, what is reserved.
const FEATURES: std::ops::Range<usize> = 512..520;
const HEADER_REST: std::ops::Range<usize> = 520..576;

/// A set of registers (`NT_*`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Regset {
    /// `NT_PRSTATUS`
    General,
    /// `NT_PRFPREG`
    Float,
    /// `NT_X86_XSTATE`
    Extended,
}

/// Where in a system call a tracee has stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallStop {
    /// At none.
    None,
    /// Before it.
    Entry,
    /// After it.
    Exit,
    /// At a filter, with what that says.
    Filter(u32),
}

/// `PTRACE_GET_SYSCALL_INFO`
#[derive(Clone, Copy, Debug)]
pub struct CallInfo {
    /// Where.
    pub at: CallStop,
    /// `rip`
    pub instruction: u64,
    /// `rsp`
    pub stack: u64,
    /// Its number.
    pub nr: i32,
    /// Its arguments.
    pub args: [u64; 6],
    /// Its result.
    pub result: i64,
}

/// Signals that are pending, in order, from one on.
#[derive(Clone, Copy, Debug)]
pub struct QueuedSignals {
    /// Of the process rather than the thread.
    pub shared: bool,
    /// How many are passed over.
    pub skip: u64,
    /// How many are wanted.
    pub count: usize,
}

/// The signal to go on with; `EIO` for a number that is none.
pub(super) fn valid_signal(signal: u64) -> Result<i32, Errno> {
    match signal {
        0..=64 => Ok(signal as i32),
        _ => Err(Errno::EIO),
    }
}

fn le64(bytes: &[u8]) -> u64 {
    bytes.try_into().map_or(0, u64::from_le_bytes)
}

/// A tracee that has stopped, as one request has found it. All that is asked of it finds it locked,
/// still the caller's and still in its stop; where it is not, the answer is `ESRCH`.
pub struct Held<'a> {
    pub(super) cx: &'a TaskCx,
    pub(super) task: Arc<Task>,
}

impl TaskCx {
    /// A tracee of the caller's that has stopped.
    ///
    /// # Errors
    /// `ESRCH` for others.
    pub fn held(&self, task: Arc<Task>) -> Result<Held<'_>, Errno> {
        let held = Held { cx: self, task };
        held.at_stop(|_| Ok(()))?;
        Ok(held)
    }

    /// `PTRACE_KILL`
    ///
    /// # Errors
    /// `ESRCH`
    pub fn kill_tracee(&self, task: &Arc<Task>) -> Result<(), Errno> {
        task.tracee.lock().of(self.task())?;
        let info = self.own_info(task.group(), Signal::KILL, 0);
        self.send_as_self(task.group(), Reach::Thread(task), Signal::KILL, info)
    }

    /// `PTRACE_INTERRUPT`
    ///
    /// # Errors
    /// `ESRCH`; `EIO` for one that was not seized.
    pub fn interrupt_tracee(&self, task: &Task) -> Result<(), Errno> {
        let _st = task.group().state.lock();
        let mut t = task.tracee.lock();
        t.of(self.task())?;
        if !t.seized {
            return Err(Errno::EIO);
        }
        t.trap = true;
        drop(t);
        task.interrupt();
        Ok(())
    }

    /// Whether the caller's own filters are suspended: it cannot suspend another's then.
    pub fn has_seccomp_suspended(&self) -> bool {
        self.task().tracee.lock().suspends_seccomp()
    }
}

impl Held<'_> {
    /// Works on it.
    pub(super) fn with<T>(
        &self,
        work: impl FnOnce(&mut Tracee) -> Result<T, Errno>,
    ) -> Result<T, Errno> {
        let mut t = self.task.tracee.lock();
        t.of(self.cx.task())?;
        t.stopped()?;
        work(&mut t)
    }

    /// Works on its stop.
    fn at_stop<T>(&self, work: impl FnOnce(&mut Stop) -> Result<T, Errno>) -> Result<T, Errno> {
        self.with(|t| work(t.stopped()?))
    }

    /// Its memory.
    ///
    /// # Errors
    /// `ESRCH`; `EIO` where it has none, or one of a program that is not dumpable, which who began
    /// to trace it could not see.
    pub fn memory(&self) -> Result<Arc<Mm>, Errno> {
        let by = self.with(|t| Ok(t.by.as_ref().map(|by| by.creds.clone())))?;
        let mm = self.task.mm().ok_or(Errno::EIO)?;
        let info = mm.exec_info();
        let capable = |c: Arc<Creds>| c.has_in(&info.user_ns, Capability::SysPtrace);
        match info.dumpable == 1 || by.is_some_and(capable) {
            true => Ok(mm),
            false => Err(Errno::EIO),
        }
    }

    /// `PTRACE_CONT` and its like.
    ///
    /// # Errors
    /// `ESRCH`, `EIO` for a signal that is none.
    pub fn resume(&self, how: Resume, signal: u64) -> Result<(), Errno> {
        self.with(|t| {
            t.stopped()?.over = Some(valid_signal(signal)?);
            t.resume = how;
            self.task.trapped.store(false, Ordering::SeqCst);
            Ok(())
        })?;
        self.task.waker().wake();
        Ok(())
    }

    /// `PTRACE_LISTEN`
    ///
    /// # Errors
    /// `ESRCH`; `EIO` for one that was not seized, or is in another kind of stop.
    pub fn listen(&self) -> Result<(), Errno> {
        self.with(|t| {
            let of_group = |i: SigInfo| i.code >> 8 == Event::Stop as i32;
            if !t.seized || !t.stopped()?.info.is_some_and(of_group) {
                return Err(Errno::EIO);
            }
            t.listening = true;
            Ok(())
        })?;
        // What came since it stopped is told at once.
        self.task.waker().wake();
        Ok(())
    }

    /// `PTRACE_SETOPTIONS`
    ///
    /// # Errors
    /// `ESRCH`
    pub fn set_options(&self, options: TraceOptions) -> Result<(), Errno> {
        self.with(|t| {
            t.options = options;
            Ok(())
        })
    }

    /// `PTRACE_GETEVENTMSG`
    ///
    /// # Errors
    /// `ESRCH`
    pub fn message(&self) -> Result<u64, Errno> {
        self.with(|t| Ok(t.message))
    }

    /// `PTRACE_PEEKUSER`
    ///
    /// # Errors
    /// `ESRCH`, `EIO`
    pub fn peek_user(&self, at: u64) -> Result<u64, Errno> {
        self.at_stop(|s| s.peek(at))
    }

    /// `PTRACE_POKEUSER`
    ///
    /// # Errors
    /// `ESRCH`, `EIO`; `ENOSPC` for debug registers.
    pub fn poke_user(&self, at: u64, value: u64) -> Result<(), Errno> {
        self.at_stop(|s| {
            s.poke(at, value)?;
            s.settle();
            Ok(())
        })
    }

    /// A set of registers, as bytes.
    ///
    /// # Errors
    /// `ESRCH`
    pub fn registers(&self, set: Regset) -> Result<Vec<u8>, Errno> {
        if set == Regset::General {
            let words = self.at_stop(|s| Ok(s.words()))?;
            return Ok(words.iter().flat_map(|w| w.to_le_bytes()).collect());
        }
        let mut state = self.xstate()?;
        if set == Regset::Float {
            state.resize(FXSAVE, 0);
            state[SOFTWARE].fill(0);
        }
        Ok(state)
    }

    /// Sets one, or for general registers as many as there are bytes for.
    ///
    /// # Errors
    /// `ESRCH`; `EIO`, `EINVAL`, `EFAULT` for what cannot be there.
    pub fn set_registers(&self, set: Regset, bytes: &[u8]) -> Result<(), Errno> {
        if set == Regset::General {
            let words: Vec<u64> = bytes.chunks_exact(8).map(le64).take(WORDS).collect();
            return self.at_stop(|s| {
                let done = s.set_words(&words);
                s.settle();
                done
            });
        }
        let mut state = self.xstate()?;
        let mxcsr = bytes.get(MXCSR).and_then(|b| b.try_into().ok());
        let mxcsr = mxcsr.map(u32::from_le_bytes);
        match set {
            Regset::Float => {
                let len = bytes.len().min(SOFTWARE.start);
                if mxcsr.is_some_and(|m| m & !MXCSR_BITS != 0) {
                    return Err(Errno::EINVAL);
                }
                state[..len].copy_from_slice(&bytes[..len]);
                let features = le64(&state[FEATURES]) | 3;
                state[FEATURES].copy_from_slice(&features.to_le_bytes());
            }
            _ => {
                if bytes.len() != state.len() || state.len() < HEADER_REST.end {
                    return Err(Errno::EFAULT);
                }
                let there = le64(&state[SOFTWARE.start..SOFTWARE.start + 8]);
                let odd = le64(&bytes[FEATURES]) & !there != 0
                    || bytes[HEADER_REST].iter().any(|b| *b != 0)
                    || mxcsr.is_some_and(|m| m & !MXCSR_BITS != 0);
                if odd {
                    return Err(Errno::EINVAL);
                }
                state.copy_from_slice(bytes);
                state[SOFTWARE].fill(0);
                state[SOFTWARE.start..SOFTWARE.start + 8].copy_from_slice(&there.to_le_bytes());
            }
        }
        self.at_stop(|s| {
            s.xstate = Xstate::Changed(state);
            Ok(())
        })
    }

    /// The extended state, which the tracee itself fetches.
    fn xstate(&self) -> Result<Vec<u8>, Errno> {
        let look = |s: &mut Stop| match &s.xstate {
            Xstate::Here(state) | Xstate::Changed(state) => Some(state.clone()),
            Xstate::Away | Xstate::Wanted => {
                s.xstate = Xstate::Wanted;
                None
            }
        };
        let mut found = Err(Errno::ESRCH);
        self.cx.park_killable(|| {
            found = self.at_stop(|s| Ok(look(s)));
            let there = !matches!(found, Ok(None));
            if !there {
                self.task.waker().wake();
            }
            there
        });
        found?
            .filter(|state| state.len() >= HEADER_REST.end)
            .ok_or(Errno::EIO)
    }

    /// `PTRACE_GETSIGINFO`
    ///
    /// # Errors
    /// `ESRCH`; `EINVAL` where it has stopped with its process.
    pub fn info(&self) -> Result<SigInfo, Errno> {
        self.at_stop(|s| s.info.ok_or(Errno::EINVAL))
    }

    /// `PTRACE_SETSIGINFO`
    ///
    /// # Errors
    /// As [`Held::info`].
    pub fn set_info(&self, info: SigInfo) -> Result<(), Errno> {
        self.at_stop(|s| {
            *s.info.as_mut().ok_or(Errno::EINVAL)? = info;
            Ok(())
        })
    }

    /// `PTRACE_GETSIGMASK`
    ///
    /// # Errors
    /// `ESRCH`
    pub fn mask(&self) -> Result<SigSet, Errno> {
        self.at_stop(|s| Ok(s.saved_mask.unwrap_or_else(|| self.task.blocked())))
    }

    /// `PTRACE_SETSIGMASK`
    ///
    /// # Errors
    /// `ESRCH`
    pub fn set_mask(&self, mask: SigSet) -> Result<(), Errno> {
        let _st = self.task.group().state.lock();
        self.at_stop(|s| {
            s.saved_mask = None;
            let mask = mask.blockable().bits();
            self.task.blocked.store(mask, Ordering::SeqCst);
            Ok(())
        })
    }

    /// `PTRACE_PEEKSIGINFO`
    ///
    /// # Errors
    /// `ESRCH`
    pub fn signals(&self, which: QueuedSignals) -> Result<Vec<SigInfo>, Errno> {
        let skip = usize::try_from(which.skip).unwrap_or(usize::MAX);
        let st = self.task.group().state.lock();
        self.with(|_| Ok(()))?;
        let own = self.task.pending.lock();
        let queue = if which.shared { &st.pending } else { &*own };
        let copies = queue.infos().skip(skip).take(which.count);
        // What setting of a timer it is of is no one's business but the timer's.
        Ok(copies
            .map(|mut info| {
                info.take_setting();
                info
            })
            .collect())
    }

    /// `PTRACE_GET_SYSCALL_INFO`
    ///
    /// # Errors
    /// `ESRCH`
    pub fn call(&self) -> Result<CallInfo, Errno> {
        self.with(|t| {
            let message = t.message;
            let stop = t.stopped()?;
            const CALL: i32 = libc::SIGTRAP | CALL_MARK;
            const FILTER: i32 = libc::SIGTRAP | (Event::Seccomp as i32) << 8;
            let at = match (stop.info.map(|i| i.code), message) {
                (Some(CALL), AT_ENTRY) => CallStop::Entry,
                (Some(CALL), AT_EXIT) => CallStop::Exit,
                (Some(FILTER), data) => CallStop::Filter(data as u32),
                _ => CallStop::None,
            };
            let r = &stop.regs;
            Ok(CallInfo {
                at,
                instruction: r.rip,
                stack: r.rsp,
                nr: r.orig_rax as i32,
                args: r.args(),
                result: r.rax as i64,
            })
        })
    }

    /// `PTRACE_SET_SYSCALL_INFO`: number and arguments before a call, the result after it.
    ///
    /// # Errors
    /// `ESRCH`
    pub fn set_call(&self, call: &CallInfo) -> Result<(), Errno> {
        self.at_stop(|s| {
            let r = &mut s.regs;
            if call.at == CallStop::Exit {
                r.rax = call.result as u64;
                return Ok(());
            }
            r.orig_rax = i64::from(call.nr) as u64;
            if call.nr != -1 {
                let [a, b, c, d, e, f] = call.args;
                (r.rdi, r.rsi, r.rdx) = (a, b, c);
                (r.r10, r.r8, r.r9) = (d, e, f);
            }
            Ok(())
        })
    }

    /// The program of a filter of a tracee's, the oldest being number 0.
    ///
    /// # Errors
    /// `ESRCH`; `EINVAL` for one without filters, `ENOENT` for too high a number.
    pub fn filter(&self, index: u64) -> Result<Vec<seccomp::Instruction>, Errno> {
        self.of_filter(index, |f| f.program().instructions().to_vec())
    }

    /// Whether that filter asked for a log.
    ///
    /// # Errors
    /// As [`Held::filter`].
    pub fn filter_logs(&self, index: u64) -> Result<bool, Errno> {
        self.of_filter(index, seccomp::Filter::logs)
    }

    fn of_filter<T>(&self, index: u64, see: fn(&seccomp::Filter) -> T) -> Result<T, Errno> {
        self.with(|_| Ok(()))?;
        let filter = self.task.filter().ok_or(Errno::EINVAL)?;
        filter.number(index).map(see).ok_or(Errno::ENOENT)
    }
}
