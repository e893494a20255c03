//! The descriptor.

use crate::engine::PtraceEngine;
use crate::{probe, rules};
use platform_api::{BinaryPermissions, Engine, HostRule, Platform, PlatformError, Probe};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;

/// The ptrace platform.
#[derive(Debug)]
pub struct Ptrace;

platform_api::register!(&Ptrace);

impl Platform for Ptrace {
    fn name(&self) -> &'static str {
        "ptrace"
    }

    fn summary(&self) -> &'static str {
        "traced processes; works wherever ptrace does"
    }

    fn priority(&self) -> u32 {
        10
    }

    fn probe(&self, _device: Option<&Path>) -> Probe {
        probe::probe()
    }

    fn open_device(&self, _device: Option<&Path>) -> Result<Option<OwnedFd>, PlatformError> {
        Ok(None)
    }

    fn requires_current_pidns(&self) -> bool {
        false
    }

    fn binary_permissions(&self) -> BinaryPermissions {
        // A process whose file it may not read can't be traced, nor can what it forks.
        BinaryPermissions {
            read: true,
            execute: true,
        }
    }

    fn host_rules(&self) -> Vec<HostRule> {
        rules::rules()
    }

    fn boot(&self, _device: Option<OwnedFd>) -> Result<Arc<dyn Engine>, PlatformError> {
        Ok(Arc::new(PtraceEngine::boot()?))
    }
}
