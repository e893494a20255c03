//! The host calls this platform makes after the sentry's filter is on.

use crate::sys::kick::SIGNAL;
use platform_api::{ArgCheck, HostRule};

/// `_IO…` numbers of KVM, as `linux/kvm.h` has them: direction, size and number.
const fn request(direction: u32, size: usize, number: u32) -> u32 {
    direction << 30 | (size as u32) << 16 | 0xae << 8 | number
}

const NONE: u32 = 0;
const WRITE: u32 = 1;
const READ: u32 = 2;

/// Requests on the device, the VM and its vCPUs.
const REQUESTS: [u32; 11] = [
    request(NONE, 0, 0x80), // KVM_RUN
    request(NONE, 0, 0x41), // KVM_CREATE_VCPU
    request(
        WRITE,
        size_of::<kvm_bindings::kvm_userspace_memory_region>(),
        0x46,
    ), // KVM_SET_USER_MEMORY_REGION
    request(READ, size_of::<kvm_bindings::kvm_sregs>(), 0x83), // KVM_GET_SREGS
    request(WRITE, size_of::<kvm_bindings::kvm_msrs>(), 0x89), // KVM_SET_MSRS
    request(WRITE, size_of::<kvm_bindings::kvm_cpuid2>(), 0x90), // KVM_SET_CPUID2
    request(READ, size_of::<kvm_bindings::kvm_vcpu_events>(), 0x9f), // KVM_GET_VCPU_EVENTS
    request(WRITE, size_of::<kvm_bindings::kvm_vcpu_events>(), 0xa0), // KVM_SET_VCPU_EVENTS
    request(READ, size_of::<kvm_bindings::kvm_xsave>(), 0xa4), // KVM_GET_XSAVE
    request(WRITE, size_of::<kvm_bindings::kvm_xsave>(), 0xa5), // KVM_SET_XSAVE
    request(WRITE, size_of::<kvm_bindings::kvm_xcrs>(), 0xa7), // KVM_SET_XCRS
];

/// See [`platform_api::Platform::host_rules`].
pub(crate) fn rules() -> Vec<HostRule> {
    let dword = |arg, value| ArgCheck::Dword { arg, value };
    let mut rules: Vec<_> = REQUESTS
        .iter()
        .map(|r| HostRule::with(libc::SYS_ioctl, &[dword(1, *r)]))
        .collect();
    rules.push(HostRule::with(libc::SYS_tgkill, &[dword(2, SIGNAL as u32)]));
    rules.push(HostRule::with(
        libc::SYS_fcntl,
        &[dword(1, libc::F_GETFL as u32)],
    ));
    // Mappings of backing files and of the vCPUs' pages: never executable.
    let data = ArgCheck::Within {
        arg: 2,
        mask: (libc::PROT_READ | libc::PROT_WRITE) as u64,
    };
    rules.push(HostRule::with(libc::SYS_mmap, &[data]));
    let plain = [
        libc::SYS_munmap,
        libc::SYS_madvise,
        libc::SYS_fstat,
        libc::SYS_pread64,
        libc::SYS_pwrite64,
        libc::SYS_close,
        libc::SYS_getpid,
        libc::SYS_gettid,
        libc::SYS_rt_sigreturn,
        // Locks.
        libc::SYS_futex,
        libc::SYS_sched_yield,
    ];
    rules.extend(plain.map(HostRule::any));
    rules
}

#[cfg(test)]
mod tests {
    use super::REQUESTS;

    #[test]
    fn requests_are_those_of_the_kernels_header() {
        let known = [
            0xae80,
            0xae41,
            0x4020_ae46,
            0x8138_ae83,
            0x4008_ae89,
            0x4008_ae90,
            0x8040_ae9f,
            0x4040_aea0,
            0x9000_aea4,
            0x5000_aea5,
            0x4188_aea7,
        ];
        assert_eq!(REQUESTS, known);
    }
}
