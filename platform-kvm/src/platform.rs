//! The descriptor.

use crate::engine::KvmEngine;
use crate::error::misuse;
use crate::{probe, rules};
use platform_api::{BinaryPermissions, Engine, HostRule, Platform, PlatformError, Probe};
use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;

/// The device, where nothing else is said.
const DEVICE: &str = "/dev/kvm";

/// The KVM platform.
#[derive(Debug)]
pub struct Kvm;

platform_api::register!(&Kvm);

impl Platform for Kvm {
    fn name(&self) -> &'static str {
        "kvm"
    }

    fn summary(&self) -> &'static str {
        "hardware virtualisation; fastest where it is not itself virtualised"
    }

    fn priority(&self) -> u32 {
        20
    }

    fn probe(&self, device: Option<&Path>) -> Probe {
        probe::probe(self, device)
    }

    fn open_device(&self, path: Option<&Path>) -> Result<Option<OwnedFd>, PlatformError> {
        let path = path.unwrap_or(Path::new(DEVICE));
        let opened = File::options().read(true).write(true).open(path);
        let opened = opened.map_err(|e| probe::explain(path, e))?;
        // Asked here, where the path is known and what to do about it can be said.
        probe::is_kvm(path, &opened)?;
        Ok(Some(opened.into()))
    }

    fn requires_current_pidns(&self) -> bool {
        false
    }

    fn binary_permissions(&self) -> BinaryPermissions {
        BinaryPermissions {
            read: false,
            execute: true,
        }
    }

    fn host_rules(&self) -> Vec<HostRule> {
        rules::rules()
    }

    fn boot(&self, device: Option<OwnedFd>) -> Result<Arc<dyn Engine>, PlatformError> {
        let device = device.ok_or_else(|| misuse("booting", "the device was not donated"))?;
        Ok(Arc::new(KvmEngine::boot(device)?))
    }
}
