//! Whether it works here, by doing it.

use crate::engine::Machine;
use crate::platform::Kvm;
use crate::sys::vm;
use platform_api::{Platform, PlatformError, Probe};
use std::io;
use std::path::Path;

/// Round trips timed.
const ROUNDS: u32 = 32;

/// Makes a VM and a vCPU, and times how long a call of its takes to us and back.
pub(crate) fn probe(platform: &Kvm) -> Probe {
    let tried = platform.open_device(None).and_then(|device| {
        let device = device.ok_or_else(|| crate::error::misuse("probing", "no device"))?;
        Machine::new(vm::adopt(device))?.round_trip(ROUNDS)
    });
    match tried {
        Ok(round_trip) => Probe::Ready { round_trip },
        Err(e) => Probe::Unavailable {
            reason: format!("{}: {}", e.what, e.answer),
            remedy: e.remedy,
        },
    }
}

/// What it means that the device can't be opened.
pub(crate) fn explain(path: &Path, error: io::Error) -> PlatformError {
    let remedy = match error.raw_os_error() {
        Some(libc::ENOENT | libc::ENXIO | libc::ENODEV) if virtual_machine() => {
            "this is a virtual machine: turn on nested virtualisation for it on its host, then \
             load kvm_intel or kvm_amd here; or take another platform"
        }
        Some(libc::ENOENT | libc::ENXIO | libc::ENODEV) => {
            "turn on virtualisation (VT-x, AMD-V) in the firmware and load kvm_intel or kvm_amd; \
             in a container, hand in the device; or take another platform"
        }
        Some(libc::EACCES | libc::EPERM) => {
            "become a member of the group that owns the device (often: kvm), or let another user \
             start the sandbox"
        }
        _ => "take another platform",
    };
    PlatformError::host(
        format!("kvm platform: opening {}", path.display()),
        error,
        remedy,
    )
}

/// Whether the CPU tells of a hypervisor under us.
fn virtual_machine() -> bool {
    std::fs::read_to_string("/proc/cpuinfo").is_ok_and(|text| {
        text.lines()
            .any(|l| l.starts_with("flags") && l.contains(" hypervisor"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_that_is_none_is_told() {
        let open = |path: &str| Kvm.open_device(Some(Path::new(path)));
        let missing = open("/nonexistent/kvm").err().unwrap().to_string();
        assert!(missing.contains("/nonexistent/kvm"), "{missing}");
        let other = open("/dev/null").unwrap().unwrap();
        let error = Kvm.boot(Some(other)).err().unwrap().to_string();
        assert!(error.contains("no KVM device"), "{error}");
    }
}
