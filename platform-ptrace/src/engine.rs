//! What boot makes: the template and what is known of the host.

use crate::context::{self, PtraceContext};
use crate::cpu::Monitor;
use crate::error::{died, host};
use crate::filter;
use crate::inject::{self, Child};
use crate::layout::{LOWEST, STUB_BASE};
use crate::space::{Core, Space};
use crate::stub::Stub;
use crate::sys::blob::{self, Entries};
use crate::sys::calls::{self, Cpus, Pid};
use crate::sys::share::{Share, Slot};
use crate::sys::template::{self, Seed};
use crate::tracee::Stopped;
use parking_lot::Mutex;
use platform_api::xstate::Layout;
use platform_api::{AddressSpace, Context, Engine, Limits, PlatformError};
use std::io;
use std::sync::Arc;

/// The engine.
pub(crate) struct PtraceEngine {
    shared: Arc<Shared>,
    /// The first stub, empty but for its own region. Locked while a thread has it.
    template: Mutex<Template>,
}

struct Template {
    stub: Arc<Stub>,
    _slot: Slot,
}

/// What spaces and contexts need of it.
pub(crate) struct Shared {
    pub(crate) entries: Entries,
    pub(crate) xstate: Layout,
    /// This process.
    pub(crate) parent: Pid,
    pub(crate) monitor: Arc<Monitor>,
    share: Arc<Share>,
}

/// Larger than any extended state.
const XSTATE_MOST: usize = 64 * 1024;

impl PtraceEngine {
    /// Forks the template and looks at it.
    pub(crate) fn boot() -> Result<PtraceEngine, PlatformError> {
        calls::ignore_child_stops().map_err(|e| host("setting up SIGCHLD", e))?;
        let share = Share::new().map_err(|e| host("making the batch pages", e))?;
        let slot = share.slot().ok_or_else(too_many)?;
        let parent = calls::own_pid();
        let filter = filter::program();
        let seed = Seed {
            parent,
            batch_fd: share.fd(),
            batch_offset: slot.offset(),
            filter: &filter,
        };
        let pid = template::fork(&seed).map_err(|e| host("forking the first stub", e))?;
        let stub = Arc::new(Stub::new(pid));
        let entries = blob::entries();
        let stopped = take_template(&stub, &entries)?;
        let mut state = vec![0; XSTATE_MOST];
        let len = stopped
            .xstate(&mut state)
            .map_err(|e| host("reading extended state", e))?;
        state.truncate(len);
        let xstate = Layout::of(&state, calls::mxcsr_mask(), calls::component_end, |trial| {
            stopped.set_xstate(trial).is_ok()
        });
        inject::release(stopped, &entries)?;
        let monitor = Monitor::new().map_err(|e| host("asking for the allowed CPUs", e))?;
        let shared = Arc::new(Shared {
            entries,
            xstate,
            parent,
            monitor,
            share,
        });
        Ok(PtraceEngine {
            shared,
            template: Mutex::new(Template { stub, _slot: slot }),
        })
    }
}

/// Takes the template for the first time, and tells what went wrong with it.
pub(crate) fn take_template(stub: &Arc<Stub>, entries: &Entries) -> Result<Stopped, PlatformError> {
    near(stub);
    inject::take(stub.clone(), entries).map_err(|error| {
        // It may have ended by itself, with a status that says why.
        match stub.end_status() {
            Some(status) if libc::WIFEXITED(status) => {
                let why = template::explain(libc::WEXITSTATUS(status));
                PlatformError {
                    answer: why.to_owned(),
                    ..died("starting the first stub", status)
                }
            }
            _ => error,
        }
    })
}

/// Moves a stub to the calling thread's CPU, since they are about to hand over several times.
fn near(stub: &Stub) {
    let _ = Cpus::one(calls::current_cpu()).bind(stub.pid());
}

fn too_many() -> PlatformError {
    host("making a space", io::Error::from_raw_os_error(libc::EAGAIN))
}

impl Shared {
    /// Makes the calling thread the tracer of a parking stub.
    pub(crate) fn take(&self, stub: Arc<Stub>) -> Result<Stopped, PlatformError> {
        near(&stub);
        inject::take(stub, &self.entries)
    }

    /// Batch pages for a space.
    pub(crate) fn slot(&self) -> Result<Slot, PlatformError> {
        self.share.slot().ok_or_else(too_many)
    }
}

impl Drop for PtraceEngine {
    fn drop(&mut self) {
        self.shared.monitor.stop();
    }
}

impl Engine for PtraceEngine {
    fn limits(&self) -> Limits {
        Limits {
            lowest: LOWEST,
            highest: STUB_BASE,
            holes: Vec::new(),
            populates: false,
        }
    }

    fn new_space(&self) -> Result<Arc<dyn AddressSpace>, PlatformError> {
        let shared = &self.shared;
        let slot = shared.slot()?;
        // The stub that the thread has at hand is nearer than the template.
        let near = context::last_driver();
        let near = near.as_ref().and_then(|driver| {
            let mut driver = driver.borrow_mut();
            driver.take_stopped().map(|stopped| (driver, stopped))
        });
        let stub = match near {
            Some((mut driver, stopped)) => {
                let child = Child::NewSpace {
                    slot: &slot,
                    empty: true,
                };
                let (stopped, made) =
                    inject::spawn(stopped, &shared.entries, shared.parent, &child)?;
                driver.put_stopped(stopped);
                made?
            }
            None => {
                let template = self.template.lock();
                let stopped = shared.take(template.stub.clone())?;
                let child = Child::NewSpace {
                    slot: &slot,
                    empty: false,
                };
                let (stopped, made) =
                    inject::spawn(stopped, &shared.entries, shared.parent, &child)?;
                inject::release(stopped, &shared.entries)?;
                made?
            }
        };
        Ok(Arc::new(Space(Arc::new(Core::new(
            shared.clone(),
            slot,
            stub,
        )))))
    }

    fn new_context(&self) -> Result<Box<dyn Context>, PlatformError> {
        Ok(Box::new(PtraceContext::new(self.shared.clone())))
    }
}
