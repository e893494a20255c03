//! For tests of what stands above a platform.

use crate::Kvm;
use crate::engine::KvmEngine;
use platform_api::{Engine, Platform, PlatformError, Probe};
use std::sync::Arc;

/// An engine whose machine has so few slots for memory that they can run out.
///
/// # Errors
/// What making it met with; `Ok(None)` where KVM does not work, which is said.
pub fn engine_with_slots(slots: u32) -> Result<Option<Arc<dyn Engine>>, PlatformError> {
    if let Probe::Unavailable { reason, .. } = Kvm.probe(None) {
        eprintln!("SKIPPED: {reason}");
        return Ok(None);
    }
    let Some(device) = Kvm.open_device(None)? else {
        return Ok(None);
    };
    let engine = KvmEngine::with_limits(device, 4, slots)?;
    Ok(Some(Arc::new(engine)))
}
