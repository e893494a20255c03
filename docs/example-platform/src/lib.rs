//! A platform out of tree, as an example: guest code runs as under `ptrace`, and each thread's exits
//! are counted by kind; the log has the counts when it ends. `docs/platforms.md` goes through it.
#![forbid(unsafe_code)]

use platform_api::{
    AddressSpace, BinaryPermissions, Context, Engine, Exit, HostRule, Interrupter, Limits,
    Platform, PlatformError, Probe, Registers,
};
use platform_ptrace::Ptrace;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;

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

    fn probe(&self, device: Option<&Path>) -> Probe {
        Ptrace.probe(device)
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

    // Counting makes no host calls; what the log makes is on the sentry's own list.
    fn host_rules(&self) -> Vec<HostRule> {
        Ptrace.host_rules()
    }

    fn boot(&self, device: Option<OwnedFd>) -> Result<Arc<dyn Engine>, PlatformError> {
        Ok(Arc::new(CountedEngine(Ptrace.boot(device)?)))
    }
}

struct CountedEngine(Arc<dyn Engine>);

impl Engine for CountedEngine {
    fn limits(&self) -> Limits {
        self.0.limits()
    }

    // Spaces are those of the platform below: its contexts know them by their type.
    fn new_space(&self) -> Result<Arc<dyn AddressSpace>, PlatformError> {
        self.0.new_space()
    }

    fn cpuid(&self, leaf: u32, index: u32) -> [u32; 4] {
        self.0.cpuid(leaf, index)
    }

    fn new_context(&self) -> Result<Box<dyn Context>, PlatformError> {
        Ok(Box::new(CountedContext {
            inner: self.0.new_context()?,
            tally: Tally::default(),
        }))
    }
}

/// Exits of one guest thread.
#[derive(Debug, Default)]
struct Tally {
    calls: u64,
    faults: u64,
    others: u64,
}

impl Tally {
    fn count(&mut self, exit: &Exit) {
        let counter = match exit {
            Exit::Syscall => &mut self.calls,
            Exit::Fault { .. } => &mut self.faults,
            _ => &mut self.others,
        };
        *counter += 1;
    }
}

struct CountedContext {
    inner: Box<dyn Context>,
    tally: Tally,
}

impl Context for CountedContext {
    // The hot path: no lock, no allocation, nothing shared with other threads.
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

    // The context may be another guest thread's next, which is counted from zero.
    fn retire(&mut self) {
        let Tally {
            calls,
            faults,
            others,
        } = std::mem::take(&mut self.tally);
        tracing::debug!(calls, faults, others, "exits of a thread");
        self.inner.retire();
    }

    fn interrupter(&self) -> Arc<dyn Interrupter> {
        self.inner.interrupter()
    }
}
