//! A stub: one host process that carries one context's guest code.

use crate::layout::KICK;
use crate::sys::calls::{self, Pid};
use parking_lot::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

#[derive(Debug)]
enum Life {
    Alive,
    /// With its raw wait status, when we got it.
    Ended(Option<i32>),
}

/// A stub, whoever traces it.
#[derive(Debug)]
pub(crate) struct Stub {
    pid: Pid,
    /// Whether guest code runs, or is about to, in it. Read by those who change mappings.
    in_guest: AtomicBool,
    /// Whether `pid` still names it. Held while `pid` is used by other threads than its tracer.
    life: Mutex<Life>,
}

impl Stub {
    /// For a process that was just made.
    pub(crate) fn new(pid: Pid) -> Stub {
        Stub {
            pid,
            in_guest: AtomicBool::new(false),
            life: Mutex::new(Life::Alive),
        }
    }

    /// Its host process.
    pub(crate) fn pid(&self) -> Pid {
        self.pid
    }

    /// See the field. Sequentially consistent, as is every flag that is set before another is
    /// looked at.
    pub(crate) fn in_guest(&self) -> bool {
        self.in_guest.load(Ordering::SeqCst)
    }

    /// Only its tracer says so.
    pub(crate) fn set_in_guest(&self, is: bool) {
        self.in_guest.store(is, Ordering::SeqCst);
    }

    /// Whether it can still be used.
    pub(crate) fn alive(&self) -> bool {
        matches!(*self.life.lock(), Life::Alive)
    }

    /// Brings it out of guest code.
    pub(crate) fn kick(&self) {
        let life = self.life.lock();
        if matches!(*life, Life::Alive) {
            calls::kill(self.pid, KICK);
        }
    }

    /// Kills it without waiting.
    pub(crate) fn kill(&self) {
        let life = self.life.lock();
        if matches!(*life, Life::Alive) {
            calls::kill(self.pid, libc::SIGKILL);
        }
    }

    /// Its tracer has seen it end.
    pub(crate) fn has_ended(&self, status: i32) {
        *self.life.lock() = Life::Ended(Some(status));
    }

    /// Kills it and waits until it is gone. Any thread may; twice is fine.
    pub(crate) fn end(&self) {
        self.end_status();
    }

    /// As [`Stub::end`]; its raw wait status, which tells of its own end if that came first.
    pub(crate) fn end_status(&self) -> Option<i32> {
        let mut life = self.life.lock();
        if let Life::Ended(status) = *life {
            return status;
        }
        calls::kill(self.pid, libc::SIGKILL);
        let mut ended = None;
        // A stop that nobody had waited for may be reported first.
        while let Ok(status) = calls::wait(self.pid) {
            if status.stop().is_none() {
                ended = Some(status.0);
                break;
            }
        }
        *life = Life::Ended(ended);
        ended
    }
}

impl Drop for Stub {
    fn drop(&mut self) {
        self.end();
    }
}
