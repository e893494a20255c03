//! Whether it works here, by doing it; and when it does not, what a user can do about it.

use crate::cpu::Cpu;
use crate::engine::Machine;
use crate::error::{host, kvm, misuse};
use crate::platform::Kvm;
use crate::sys::vm;
use platform_api::{Platform, PlatformError, Probe};
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

/// Round trips timed.
const ROUNDS: u32 = 32;

/// Where a trial stops: the same answer of the host means something else at each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// Opening the device.
    Open,
    /// Asking what it offers.
    Look,
    /// Making a VM.
    Machine,
    /// Making a virtual CPU.
    Cpu,
    /// Running guest code.
    Run,
}

/// Makes a VM and a vCPU, and times how long a call of its takes to us and back.
pub(crate) fn probe(platform: &Kvm, device: Option<&Path>) -> Probe {
    match platform.open_device(device).and_then(try_out) {
        Ok(round_trip) => Probe::Ready { round_trip },
        Err(e) => Probe::Unavailable {
            reason: format!("{}: {}", e.what, e.answer),
            remedy: e.remedy,
        },
    }
}

fn try_out(device: Option<OwnedFd>) -> Result<Duration, PlatformError> {
    let device = vm::adopt(device.ok_or_else(|| misuse("probing", "no device"))?);
    let advised = |step| move |e| advise(step, e);
    Cpu::of(&device).map_err(advised(Step::Look))?;
    // By themselves first, which tells the steps apart.
    let machine = device.create_vm().map_err(kvm("making a VM"));
    let machine = machine.map_err(advised(Step::Machine))?;
    let cpu = machine.create_vcpu(0).map_err(kvm("making a virtual CPU"));
    drop((cpu.map_err(advised(Step::Cpu))?, machine));
    Machine::new(device)
        .and_then(|mut machine| machine.round_trip(ROUNDS))
        .map_err(advised(Step::Run))
}

/// What it means that the device can't be opened.
pub(crate) fn explain(path: &Path, error: io::Error) -> PlatformError {
    let what = format!("kvm platform: opening {}", path.display());
    advise(Step::Open, PlatformError::host(what, error, ""))
}

/// Whether what was opened is KVM's device.
pub(crate) fn is_kvm(path: &Path, opened: &File) -> Result<(), PlatformError> {
    let what = format!("looking at {}", path.display());
    let duplicate = opened.try_clone().map_err(|e| host(&what, e))?;
    Cpu::check_interface(&vm::adopt(duplicate.into()), &what).map_err(|e| advise(Step::Look, e))
}

fn advise(step: Step, error: PlatformError) -> PlatformError {
    PlatformError {
        remedy: remedy(step, error.errno, virtual_machine()),
        ..error
    }
}

/// What to do when the host answers `errno` at `step`; without one, what it offers is too little.
fn remedy(step: Step, errno: Option<i32>, virtual_machine: bool) -> String {
    let advice = match (step, errno) {
        (Step::Open, Some(libc::ENOENT | libc::ENXIO | libc::ENODEV)) if virtual_machine => {
            "this is a virtual machine: turn on nested virtualisation for it on its host, then \
             load kvm_intel or kvm_amd here"
        }
        (Step::Open, Some(libc::ENOENT | libc::ENXIO | libc::ENODEV)) => {
            "turn on virtualisation (VT-x, AMD-V) in the firmware and load kvm_intel or kvm_amd; \
             in a container, hand in the device"
        }
        (Step::Open, Some(libc::EACCES)) => {
            "become a member of the group that owns the device (often: kvm), or let another user \
             start the sandbox"
        }
        (_, Some(libc::EPERM | libc::EACCES)) => {
            "a container around this one, or a security module, forbids the use of KVM: permit \
             the device and its ioctls there"
        }
        (_, Some(libc::EMFILE | libc::ENFILE)) => "raise the limit of open files (ulimit -n)",
        (_, Some(libc::ENOMEM)) => "free memory on the host, or raise the limits of this session",
        (Step::Look, _) => {
            "KVM as of Linux 5.15 is needed: boot a newer kernel; if --platform-device was given, \
             see whether it names KVM's device"
        }
        (Step::Machine, Some(libc::EBUSY)) => {
            "another hypervisor (VirtualBox, VMware) holds the CPUs' virtualisation: stop its \
             machines and unload its modules"
        }
        (Step::Machine, _) if virtual_machine => {
            "the kernel log (dmesg, lines of kvm) tells why; this is a virtual machine: see \
             whether its host really offers nested virtualisation"
        }
        (Step::Machine, _) => {
            "the kernel log (dmesg, lines of kvm) tells why; see whether the firmware has \
             virtualisation locked or turned off"
        }
        (Step::Cpu, Some(libc::EBUSY)) => {
            "the host has no room for another virtual CPU just now: stop other virtual machines"
        }
        (Step::Cpu | Step::Run, _) if virtual_machine => {
            "this is a virtual machine whose nested virtualisation is not complete: update its \
             hypervisor"
        }
        (Step::Cpu | Step::Run, _) => {
            "the kernel log (dmesg, lines of kvm) tells why; update the kernel and the CPU's \
             microcode"
        }
        (Step::Open, _) => "see whether it is KVM's device",
    };
    format!("{advice}; or take another platform")
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
    use platform_api::conformance::skip;
    use seccompiler::{
        BpfProgram, SeccompAction, SeccompCmpArgLen::Dword, SeccompCmpOp, SeccompCondition,
        SeccompFilter, SeccompRule,
    };
    use std::collections::BTreeMap;

    const CHECK_EXTENSION: u64 = 0xae03;
    const GET_API_VERSION: u64 = 0xae00;
    const CREATE_VM: u64 = 0xae01;
    const CREATE_VCPU: u64 = 0xae41;
    const RUN: u64 = 0xae80;

    #[test]
    fn a_device_that_is_none_is_told() {
        let open = |path: &str| Kvm.open_device(Some(Path::new(path)));
        let missing = open("/nonexistent/kvm").err().unwrap().to_string();
        assert!(missing.contains("/nonexistent/kvm"), "{missing}");
        let error = open("/dev/null").err().unwrap().to_string();
        assert!(error.contains("looking at /dev/null: it is no KVM device"));
        assert!(error.contains("--platform-device"), "{error}");
        // Nor does a sandbox process take one that the launcher did not look at.
        let other = File::open("/dev/null").unwrap();
        let error = Kvm.boot(Some(other.into())).err().unwrap().to_string();
        assert!(error.contains("no KVM device"), "{error}");
        let Probe::Unavailable { reason, .. } = Kvm.probe(Some(Path::new("/dev/null"))) else {
            panic!("a probe of /dev/null succeeded");
        };
        assert!(reason.contains("no KVM device"), "{reason}");
    }

    #[test]
    fn what_cannot_be_opened_is_explained() {
        let explained = |errno| {
            let error = io::Error::from_raw_os_error(errno);
            explain(Path::new("/dev/kvm"), error).to_string()
        };
        let refused = explained(libc::EACCES);
        assert!(refused.contains("opening /dev/kvm: Permission denied"));
        assert!(refused.contains("member of the group"), "{refused}");
        assert!(explained(libc::EPERM).contains("a container around this one"));
        assert!(explained(libc::EMFILE).contains("ulimit -n"));
        for errno in [libc::ENOENT, libc::ENXIO, libc::ENODEV] {
            assert!(remedy(Step::Open, Some(errno), true).contains("nested virtualisation"));
            assert!(remedy(Step::Open, Some(errno), false).contains("firmware"));
        }
    }

    #[test]
    fn a_cpu_that_refuses_its_state_is_explained() {
        let refused = crate::error::unfit("running guest code", "the CPU refused its state");
        let nested = remedy(Step::Run, refused.errno, true);
        assert!(nested.contains("nested virtualisation is not complete"));
        assert!(remedy(Step::Run, refused.errno, false).contains("microcode"));
        assert!(remedy(Step::Machine, Some(libc::EIO), true).contains("really offers"));
        assert!(remedy(Step::Machine, Some(libc::EIO), false).contains("locked"));
    }

    /// What the probe tells when the host answers `errno` to each KVM call `request`. The thread
    /// that asks is one of its own, since nothing takes the filter away again.
    fn told(request: u64, errno: i32) -> Option<(String, String)> {
        if let Probe::Unavailable { reason, .. } = Kvm.probe(None) {
            skip(&reason);
            return None;
        }
        let is = SeccompCondition::new(1, Dword, SeccompCmpOp::Eq, request).unwrap();
        let rule = SeccompRule::new(vec![is]).unwrap();
        let filter = SeccompFilter::new(
            BTreeMap::from([(libc::SYS_ioctl, vec![rule])]),
            SeccompAction::Allow,
            SeccompAction::Errno(errno as u32),
            std::env::consts::ARCH.try_into().unwrap(),
        );
        let program: BpfProgram = filter.unwrap().try_into().unwrap();
        let asked = std::thread::spawn(move || {
            seccompiler::apply_filter(&program).unwrap();
            Kvm.probe(None)
        });
        match asked.join().unwrap() {
            Probe::Unavailable { reason, remedy } => Some((reason, remedy)),
            ready => panic!("{ready:?}"),
        }
    }

    fn tells(request: u64, errno: i32, why: &str, what_to_do: &str) {
        let Some((reason, remedy)) = told(request, errno) else {
            return;
        };
        assert!(reason.contains(why), "{reason}");
        assert!(remedy.contains(what_to_do), "{remedy}");
        assert!(remedy.ends_with("or take another platform"), "{remedy}");
    }

    #[test]
    fn a_kvm_that_is_too_old_is_told() {
        tells(CHECK_EXTENSION, libc::EINVAL, "too old", "newer kernel");
        tells(
            GET_API_VERSION,
            libc::EINVAL,
            "no KVM device",
            "newer kernel",
        );
    }

    #[test]
    fn another_hypervisor_is_told() {
        tells(CREATE_VM, libc::EBUSY, "making a VM", "VirtualBox");
    }

    #[test]
    fn what_may_not_be_used_is_told() {
        let forbidden = "permit the device and its ioctls";
        tells(CREATE_VM, libc::EPERM, "making a VM", forbidden);
    }

    #[test]
    fn a_host_that_runs_short_is_told() {
        tells(CREATE_VM, libc::ENOMEM, "making a VM", "free memory");
        tells(
            CREATE_VCPU,
            libc::EMFILE,
            "making a virtual CPU",
            "ulimit -n",
        );
    }

    #[test]
    fn a_refused_virtual_cpu_is_told() {
        let step = "making a virtual CPU";
        tells(
            CREATE_VCPU,
            libc::EBUSY,
            step,
            "stop other virtual machines",
        );
        let general = remedy(Step::Cpu, Some(libc::EINVAL), virtual_machine());
        tells(CREATE_VCPU, libc::EINVAL, step, &general);
    }

    #[test]
    fn a_virtual_cpu_that_does_not_run_is_told() {
        let general = remedy(Step::Run, Some(libc::EIO), virtual_machine());
        tells(RUN, libc::EIO, "running guest code: ", &general);
    }
}
