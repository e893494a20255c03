//! A program on top of those before it.

use crate::program::Allowed;
use crate::{Call, Program, Verdict};
use abi::{Errno, libc};
use std::any::Any;
use std::sync::Arc;

/// Instructions in all programs of a task, at most (`MAX_INSNS_PER_PATH`).
const MAX_IN_ALL: usize = (1 << 18) / 8;
/// What each program before counts beside its own length.
const PENALTY: usize = 4;

/// Who decides about calls that a program hands over (`SECCOMP_RET_USER_NOTIF`).
pub trait Supervisor: std::fmt::Debug + Send + Sync + Any {
    /// No task has the filter any more.
    fn orphaned(&self);

    /// Nobody is there any more who could decide.
    fn is_gone(&self) -> bool;

    /// For who knows the concrete type.
    fn as_any(&self) -> &dyn Any;
}

/// What a task's calls go through: the newest program, and the filter it was put on. Never
/// changed, and shared by all that inherit it.
#[derive(Debug)]
pub struct Filter {
    program: Program,
    supervisor: Option<Arc<dyn Supervisor>>,
    previous: Option<Arc<Filter>>,
    /// Whether what is not allowed is to be logged.
    log: bool,
    /// How many programs there are.
    count: u32,
    /// Of all programs, with the penalty for each but the newest left out.
    weight: usize,
    /// What all programs allow without a look at arguments.
    allowed: Allowed,
}

impl Filter {
    /// Puts `program` on top of `previous`.
    ///
    /// # Errors
    /// `ENOMEM` when there would be too many instructions.
    pub fn new(
        program: Program,
        previous: Option<Arc<Filter>>,
        log: bool,
        supervisor: Option<Arc<dyn Supervisor>>,
    ) -> Result<Arc<Filter>, Errno> {
        let below = previous.as_ref().map_or(0, |p| p.weight + PENALTY);
        let weight = program.weight() + below;
        if weight > MAX_IN_ALL {
            return Err(Errno::ENOMEM);
        }
        let mut allowed = *program.allowed();
        if let Some(p) = &previous {
            for (mine, theirs) in allowed.iter_mut().zip(&p.allowed) {
                *mine &= theirs;
            }
        }
        Ok(Arc::new(Filter {
            count: previous.as_ref().map_or(0, |p| p.count) + 1,
            program,
            supervisor,
            previous,
            log,
            weight,
            allowed,
        }))
    }

    /// How many programs there are: more than in any filter it was put on.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Its newest program.
    pub fn program(&self) -> &Program {
        &self.program
    }

    /// It, or one that it was put on, the first of all being number 0.
    pub fn number(&self, index: u64) -> Option<&Filter> {
        let mut at = Some(self);
        while let Some(filter) = at {
            if u64::from(filter.count) == index.checked_add(1)? {
                return Some(filter);
            }
            at = filter.previous.as_deref();
        }
        None
    }

    /// Who decides about what the newest program hands over.
    pub fn supervisor(&self) -> Option<&Arc<dyn Supervisor>> {
        self.supervisor.as_ref()
    }

    /// Whether there is somebody who decides, for any of its programs.
    pub fn is_supervised(&self) -> bool {
        let mut at = Some(self);
        while let Some(filter) = at {
            if filter.supervisor.as_ref().is_some_and(|s| !s.is_gone()) {
                return true;
            }
            at = filter.previous.as_deref();
        }
        false
    }

    /// What is to become of `call`, and the filter whose newest program says so.
    pub fn judge(&self, call: &Call) -> (Verdict, &Filter) {
        let nr = call.nr as usize;
        let always = self.allowed.get(nr / 64).copied().unwrap_or(0);
        if always & 1 << (nr % 64) != 0 {
            return (Verdict::ALLOW, self);
        }
        // Of programs that weigh the same, the newest speaks.
        let mut verdict = Verdict::new(self.program.run(call));
        let mut speaks = self;
        let mut below = &self.previous;
        while let Some(filter) = below {
            let other = Verdict::new(filter.program.run(call));
            if other.outweighs(verdict) {
                verdict = other;
                speaks = filter;
            }
            below = &filter.previous;
        }
        (verdict, speaks)
    }

    /// Whether the newest program asked for a log of what it does not allow
    /// (`SECCOMP_FILTER_FLAG_LOG`).
    pub fn logs(&self) -> bool {
        self.log
    }

    /// Whether a task with the filter `ancestor` has nothing that this one does not have.
    pub fn is_on_top_of(this: Option<&Arc<Filter>>, ancestor: Option<&Arc<Filter>>) -> bool {
        let Some(ancestor) = ancestor else {
            return true;
        };
        let mut at = this;
        while let Some(filter) = at {
            if Arc::ptr_eq(filter, ancestor) {
                return true;
            }
            at = filter.previous.as_ref();
        }
        false
    }
}

impl Drop for Filter {
    /// One at a time: there may be thousands in a row.
    fn drop(&mut self) {
        if let Some(supervisor) = &self.supervisor {
            supervisor.orphaned();
        }
        let mut next = self.previous.take();
        while let Some(filter) = next {
            next = Arc::into_inner(filter).and_then(|mut f| f.previous.take());
        }
    }
}

/// Whether the kernel knows a filter's return value (`SECCOMP_GET_ACTION_AVAIL`).
pub fn is_available(action: u32) -> bool {
    matches!(
        action,
        libc::SECCOMP_RET_KILL_PROCESS
            | libc::SECCOMP_RET_KILL_THREAD
            | libc::SECCOMP_RET_TRAP
            | libc::SECCOMP_RET_ERRNO
            | libc::SECCOMP_RET_USER_NOTIF
            | libc::SECCOMP_RET_TRACE
            | libc::SECCOMP_RET_LOG
            | libc::SECCOMP_RET_ALLOW
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Action, Instruction};
    use std::sync::atomic::{AtomicBool, Ordering};

    #[derive(Debug, Default)]
    struct Somebody {
        orphaned: AtomicBool,
        gone: AtomicBool,
    }

    impl Supervisor for Somebody {
        fn orphaned(&self) {
            self.orphaned.store(true, Ordering::SeqCst);
        }
        fn is_gone(&self) -> bool {
            self.gone.load(Ordering::SeqCst)
        }
        fn as_any(&self) -> &dyn Any {
            self
        }
    }

    fn always(what: u32) -> Program {
        let code = (libc::BPF_RET | libc::BPF_K) as u16;
        let (jt, jf) = (0, 0);
        Program::check(&[Instruction {
            code,
            jt,
            jf,
            k: what,
        }])
        .unwrap()
    }

    #[test]
    fn who_speaks_is_found_and_the_supervisor_learns_of_the_end() {
        let who = Arc::new(Somebody::default());
        let asks = always(libc::SECCOMP_RET_USER_NOTIF);
        let below = Filter::new(asks, None, false, Some(who.clone())).unwrap();
        let allows = always(libc::SECCOMP_RET_ALLOW);
        let top = Filter::new(allows, Some(below), false, None).unwrap();
        let call = Call {
            nr: 1,
            ip: 0,
            args: [0; 6],
        };
        let (verdict, by) = top.judge(&call);
        assert_eq!(verdict.action(), Action::Notify);
        assert!(by.supervisor().is_some() && top.supervisor().is_none());
        assert!(top.is_supervised());
        who.gone.store(true, Ordering::SeqCst);
        assert!(!top.is_supervised());
        assert!(!who.orphaned.load(Ordering::SeqCst));
        drop(top);
        assert!(who.orphaned.load(Ordering::SeqCst));
    }
}
