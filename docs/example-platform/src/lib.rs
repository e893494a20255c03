//! A platform out of tree, as an example: guest code runs as under `ptrace`, and every exit is
//! counted by kind. `docs/platforms.md` goes through it.
#![forbid(unsafe_code)]

use platform_api::{
    AddressSpace, BinaryPermissions, Context, Engine, Exit, HostRule, Interrupter, Limits,
    Platform, PlatformError, Probe, Registers,
};
use platform_ptrace::Ptrace;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The descriptor: no state, no work before `main`.
#[derive(Debug)]
pub struct Counted;

// Submitted at link time. Whoever links this crate and names it has the platform.
platform_api::register!(&Counted);

impl Platform for Counted {
    fn name(&self) -> &'static str {
        "counted"
    }

    fn summary(&self) -> &'static str {
        "ptrace with its exits counted; an example"
    }

    // Below the one it is made of: `auto` is not to choose an example.
    fn priority(&self) -> u32 {
        Ptrace.priority().saturating_sub(1)
    }

    fn probe(&self) -> Probe {
        Ptrace.probe()
    }

    fn open_device(&self, path: Option<&Path>) -> Result<Option<OwnedFd>, PlatformError> {
        Ptrace.open_device(path)
    }

    fn requires_current_pidns(&self) -> bool {
        Ptrace.requires_current_pidns()
    }

    fn binary_permissions(&self) -> BinaryPermissions {
        Ptrace.binary_permissions()
    }

    // Counting makes no host calls.
    fn host_rules(&self) -> Vec<HostRule> {
        Ptrace.host_rules()
    }

    fn boot(&self, device: Option<OwnedFd>) -> Result<Arc<dyn Engine>, PlatformError> {
        Ok(Arc::new(CountedEngine {
            inner: Ptrace.boot(device)?,
            tally: Arc::default(),
        }))
    }
}

/// Exits so far, of all contexts of an engine.
#[derive(Debug, Default)]
struct Tally {
    calls: AtomicU64,
    faults: AtomicU64,
    others: AtomicU64,
}

impl Tally {
    fn count(&self, exit: &Exit) {
        let counter = match exit {
            Exit::Syscall => &self.calls,
            Exit::Fault { .. } => &self.faults,
            _ => &self.others,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

struct CountedEngine {
    inner: Arc<dyn Engine>,
    tally: Arc<Tally>,
}

impl Drop for CountedEngine {
    fn drop(&mut self) {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let Tally {
            calls,
            faults,
            others,
        } = &*self.tally;
        eprintln!(
            "{} system calls, {} faults, {} other exits",
            of(calls),
            of(faults),
            of(others)
        );
    }
}

impl Engine for CountedEngine {
    fn limits(&self) -> Limits {
        self.inner.limits()
    }

    // Spaces are those of the platform below: its contexts know them by their type.
    fn new_space(&self) -> Result<Arc<dyn AddressSpace>, PlatformError> {
        self.inner.new_space()
    }

    fn new_context(&self) -> Result<Box<dyn Context>, PlatformError> {
        Ok(Box::new(CountedContext {
            inner: self.inner.new_context()?,
            tally: self.tally.clone(),
        }))
    }
}

struct CountedContext {
    inner: Box<dyn Context>,
    tally: Arc<Tally>,
}

impl Context for CountedContext {
    fn switch(
        &mut self,
        space: &Arc<dyn AddressSpace>,
        regs: &mut Registers,
    ) -> Result<Exit, PlatformError> {
        let exit = self.inner.switch(space, regs)?;
        self.tally.count(&exit);
        Ok(exit)
    }

    fn extended_state(&mut self, into: &mut Vec<u8>) -> Result<(), PlatformError> {
        self.inner.extended_state(into)
    }

    fn set_extended_state(&mut self, from: &[u8]) -> Result<(), PlatformError> {
        self.inner.set_extended_state(from)
    }

    fn retire(&mut self) {
        self.inner.retire();
    }

    fn interrupter(&self) -> Arc<dyn Interrupter> {
        self.inner.interrupter()
    }
}
