//! Contexts: a host thread's hold on a stub.
//!
//! A context keeps its stub for as long as it runs in the same space, and exchanges it when it
//! is sent to another.

use crate::admit::{self, Admission, SI_KERNEL, admit};
use crate::cpu::Seat;
use crate::engine::Shared;
use crate::error::{died, host, misuse};
use crate::fault;
use crate::handle::Handle;
use crate::inject;
use crate::space::{Core, Space};
use crate::sys::calls::SigInfo;
use crate::tracee::{Stop, Stopped, Waited};
use platform_api::{AddressSpace, Context, Exception, Exit, Interrupter, PlatformError, Registers};
use std::any::Any;
use std::cell::RefCell;
use std::rc::{Rc, Weak};
use std::sync::Arc;

const WHAT: &str = "running guest code";
/// The page at whose three entries the host runs calls by itself.
const VSYSCALL: std::ops::Range<u64> = 0xffff_ffff_ff60_0000..0xffff_ffff_ff60_1000;

thread_local! {
    /// This thread's contexts, the one that ran last at the end.
    static DRIVERS: RefCell<Vec<Weak<RefCell<Driver>>>> = const { RefCell::new(Vec::new()) };
}

/// The calling thread's context that is in `core`, if there is one.
pub(crate) fn driver_in(core: &Core) -> Option<Rc<RefCell<Driver>>> {
    DRIVERS.with_borrow(|all| {
        all.iter()
            .rev()
            .filter_map(Weak::upgrade)
            .find(|d| d.borrow().is_in(core))
    })
}

/// The calling thread's context that ran last.
pub(crate) fn last_driver() -> Option<Rc<RefCell<Driver>>> {
    DRIVERS.with_borrow(|all| all.last().and_then(Weak::upgrade))
}

/// What [`platform_api::Context`] is here. `Rc` keeps it on its thread.
pub(crate) struct PtraceContext {
    driver: Rc<RefCell<Driver>>,
    handle: Arc<Handle>,
}

/// The part that the same thread's calls on spaces use as well.
pub(crate) struct Driver {
    shared: Arc<Shared>,
    handle: Arc<Handle>,
    /// Where it ran last.
    home: Option<Arc<Core>>,
    /// Its stub there, but for while it runs.
    stopped: Option<Stopped>,
    seat: Seat,
    /// Extended state to be set before guest code runs.
    xstate: Option<Vec<u8>>,
    /// The guest thread it ran is gone.
    retired: bool,
}

impl PtraceContext {
    pub(crate) fn new(shared: Arc<Shared>) -> PtraceContext {
        let handle = Arc::new(Handle::new());
        let seat = Seat::new(handle.clone(), shared.monitor.clone());
        let driver = Rc::new(RefCell::new(Driver {
            shared,
            handle: handle.clone(),
            home: None,
            stopped: None,
            seat,
            xstate: None,
            retired: false,
        }));
        DRIVERS.with_borrow_mut(|all| {
            all.retain(|d| d.strong_count() != 0);
            all.insert(0, Rc::downgrade(&driver));
        });
        PtraceContext { driver, handle }
    }

    /// Puts this context at the end of the thread's list.
    fn ran_last(&self) {
        DRIVERS.with_borrow_mut(|all| {
            let me = Rc::as_ptr(&self.driver);
            if all.last().map(Weak::as_ptr) != Some(me)
                && let Some(at) = all.iter().position(|d| d.as_ptr() == me)
            {
                all[at..].rotate_left(1);
            }
        });
    }
}

impl Context for PtraceContext {
    fn switch(
        &mut self,
        space: &Arc<dyn AddressSpace>,
        regs: &mut Registers,
    ) -> Result<Exit, PlatformError> {
        let any: &dyn Any = &**space;
        let Some(Space(core)) = any.downcast_ref() else {
            return Err(misuse(WHAT, "the space is another platform's"));
        };
        let mut driver = self.driver.borrow_mut();
        if !driver.is_in(core) {
            driver.move_to(core)?;
            driver.retired = false;
        } else if driver.retired {
            core.kept_stub();
            driver.retired = false;
        }
        self.ran_last();
        driver.run(core, regs)
    }

    fn extended_state(&mut self, into: &mut Vec<u8>) -> Result<(), PlatformError> {
        let driver = self.driver.borrow();
        into.clear();
        let layout = driver.shared.xstate;
        match (&driver.xstate, &driver.stopped) {
            (Some(state), _) => into.extend_from_slice(state),
            (None, Some(stopped)) => {
                into.resize(layout.size(), 0);
                stopped
                    .xstate(into)
                    .map_err(|e| host("reading the extended state", e))?;
            }
            (None, None) => into.append(&mut layout.initial()),
        }
        into.truncate(layout.used());
        layout.tell_features(into);
        Ok(())
    }

    fn set_extended_state(&mut self, from: &[u8]) -> Result<(), PlatformError> {
        let mut driver = self.driver.borrow_mut();
        driver.xstate = Some(driver.shared.xstate.admit(from)?);
        Ok(())
    }

    fn interrupter(&self) -> Arc<dyn Interrupter> {
        self.handle.clone()
    }

    fn retire(&mut self) {
        self.driver.borrow_mut().retired = true;
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        self.leave();
    }
}

impl Driver {
    /// Whether its stub is one of `core`'s.
    pub(crate) fn is_in(&self, core: &Core) -> bool {
        self.home
            .as_ref()
            .is_some_and(|home| std::ptr::eq(&**home, core))
    }

    /// Lends the stub; to be given back by [`Driver::put_stopped`].
    pub(crate) fn take_stopped(&mut self) -> Option<Stopped> {
        self.stopped.take_if(|s| s.stub().alive())
    }

    /// See [`Driver::take_stopped`].
    pub(crate) fn put_stopped(&mut self, stopped: Stopped) {
        self.stopped = Some(stopped);
    }

    /// Gives up the stub.
    fn leave(&mut self) {
        self.handle.aim(None);
        if let (Some(home), Some(stopped)) = (self.home.take(), self.stopped.take()) {
            home.detach(stopped.stub());
        }
    }

    /// Exchanges the stub for one of `core`'s, with the same extended state.
    fn move_to(&mut self, core: &Arc<Core>) -> Result<(), PlatformError> {
        if self.xstate.is_none() {
            let mut state = vec![0; self.shared.xstate.size()];
            let old = self
                .stopped
                .as_ref()
                .and_then(|s| s.xstate(&mut state).ok());
            self.xstate = Some(if old.is_some() {
                state
            } else {
                self.shared.xstate.initial()
            });
        }
        self.leave();
        let stub = core.attach()?;
        self.seat.change(stub.pid());
        let stopped = self.shared.take(stub.clone())?;
        self.home = Some(core.clone());
        self.stopped = Some(stopped);
        self.handle.aim(Some(stub));
        Ok(())
    }

    fn run(&mut self, core: &Arc<Core>, regs: &mut Registers) -> Result<Exit, PlatformError> {
        let Some(mut stopped) = self.stopped.take() else {
            return Err(misuse(WHAT, "the context's stub is gone"));
        };
        loop {
            if core.dirty() {
                let (settled, failure) = core.settle(stopped)?;
                stopped = settled;
                if let Some(f) = failure {
                    self.stopped = Some(stopped);
                    return Ok(Exit::MapFailed {
                        addr: f.addr,
                        len: f.len,
                        errno: f.errno,
                    });
                }
            }
            if let Some(state) = self.xstate.take() {
                stopped
                    .set_xstate(&state)
                    .map_err(|e| host("setting the extended state", e))?;
            }
            stopped = match self.load(stopped, regs)? {
                (stopped, None) => stopped,
                (stopped, Some(exit)) => {
                    self.stopped = Some(stopped);
                    self.handle.clear();
                    return Ok(exit);
                }
            };
            self.seat.before_run(stopped.stub().pid());

            let stub = stopped.stub().clone();
            stub.set_in_guest(true);
            if self.handle.asked() || core.dirty() {
                stub.set_in_guest(false);
                core.guest_left();
                if self.handle.asked() {
                    self.handle.clear();
                    self.stopped = Some(stopped);
                    return Ok(Exit::Interrupted);
                }
                continue;
            }
            let waited = stopped
                .resume_guest()
                .and_then(|running| running.wait())
                .map_err(|e| host(WHAT, e));
            self.seat.after_run();
            stub.set_in_guest(false);
            core.guest_left();
            let stop = match waited? {
                Waited::Stopped(again, stop) => {
                    stopped = again;
                    stop
                }
                Waited::Ended(status) => return Err(died(WHAT, status)),
            };
            stopped.registers(regs).map_err(|e| host(WHAT, e))?;
            let exit = match stop {
                Stop::Syscall => Some(call(&stopped, regs)?),
                Stop::Signal(signal) => {
                    let info = stopped.siginfo().map_err(|e| host(WHAT, e))?;
                    exit_of(&stopped, regs, signal, info)
                }
                Stop::Event => None,
            };
            let exit = match exit {
                None if self.handle.asked() => Exit::Interrupted,
                // A kick that came too late, or for another reason.
                None => continue,
                Some(exit) => exit,
            };
            self.handle.clear();
            self.stopped = Some(stopped);
            return Ok(exit);
        }
    }

    /// Puts `regs` into the stub, or tells what the CPU would say to them.
    fn load(
        &self,
        stopped: Stopped,
        regs: &mut Registers,
    ) -> Result<(Stopped, Option<Exit>), PlatformError> {
        match admit(regs) {
            Admission::Plain => {
                stopped.set_registers(regs).map_err(|e| host(WHAT, e))?;
                Ok((stopped, None))
            }
            Admission::Refused(exit) => Ok((stopped, Some(exit))),
            Admission::Bases => {
                let entries = &self.shared.entries;
                let (stopped, taken) =
                    inject::set_bases(stopped, entries, regs.fs_base, regs.gs_base)?;
                if !taken {
                    return Ok((stopped, Some(admit::general_protection())));
                }
                stopped
                    .set_registers_without_bases(regs)
                    .map_err(|e| host(WHAT, e))?;
                Ok((stopped, None))
            }
        }
    }
}

/// What a stop at a call means.
fn call(stopped: &Stopped, regs: &mut Registers) -> Result<Exit, PlatformError> {
    // The host has put -ENOSYS there.
    regs.rax = regs.orig_rax;
    // `syscall` leaves these two behind. A guest that arranges for them and comes by another
    // door gets what it would have got by this one.
    let by_syscall = regs.rcx == regs.rip && regs.r11 == regs.eflags;
    if by_syscall || stopped.is_64bit_call().map_err(|e| host(WHAT, e))? {
        return Ok(Exit::Syscall);
    }
    // As on a kernel without the 32-bit doors: general protection at the instruction, two bytes
    // long (`sysenter` has lost where it was).
    regs.orig_rax = u64::MAX;
    if regs.cs == 0x33 {
        regs.rip = regs.rip.wrapping_sub(2);
    }
    Ok(admit::general_protection())
}

/// What a signal means; `None`: nothing that is the guest's.
fn exit_of(stopped: &Stopped, regs: &mut Registers, signal: i32, info: SigInfo) -> Option<Exit> {
    // Sent by somebody on the host.
    if info.code <= 0 {
        return None;
    }
    let exception = Exit::Exception(Exception {
        signal,
        code: info.code,
        addr: info.addr,
    });
    match signal {
        libc::SIGSEGV if matches!(info.code, SEGV_MAPERR | SEGV_ACCERR) => {
            let access = fault::access(stopped, regs, info.addr);
            Some(Exit::Fault {
                addr: info.addr,
                access,
                bus: false,
            })
        }
        libc::SIGBUS if info.code != SI_KERNEL && info.code != libc::BUS_ADRALN => {
            let access = fault::access(stopped, regs, info.addr);
            Some(Exit::Fault {
                addr: info.addr,
                access,
                bus: true,
            })
        }
        // The filter's word on a call to the vsyscall page, which the host has left already as
        // by its `ret`: a call like any other.
        libc::SIGSYS if VSYSCALL.contains(&info.addr) => {
            regs.orig_rax = info.syscall as u64;
            regs.rax = regs.orig_rax;
            Some(Exit::Syscall)
        }
        libc::SIGSEGV
        | libc::SIGBUS
        | libc::SIGFPE
        | libc::SIGILL
        | libc::SIGTRAP
        | libc::SIGSYS => Some(exception),
        _ => None,
    }
}

const SEGV_MAPERR: i32 = 1;
const SEGV_ACCERR: i32 = 2;
