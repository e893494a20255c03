//! What vCPUs of this host are like.

use crate::error::{kvm, unfit};
use kvm_bindings::{
    CpuId, KVM_CPUID_FLAG_SIGNIFCANT_INDEX, KVM_MAX_CPUID_ENTRIES, kvm_cpuid_entry2,
};
use kvm_ioctls::{Cap, Kvm};
use platform_api::PlatformError;

/// Bits of CR4, and where CPUID tells of what they turn on: leaf, register, bit.
const FSGSBASE: u64 = 1 << 16;
const OSXSAVE: u64 = 1 << 18;
const PKE: u64 = 1 << 22;
const UMIP: u64 = 1 << 11;
/// Physical address extension, and what SSE needs.
const CR4: u64 = 1 << 5 | 1 << 9 | 1 << 10;

/// The extended state that `KVM_GET_XSAVE` has room for.
pub(crate) const XSAVE_LEN: usize = 4096;
/// x87 and SSE.
const LEGACY: u64 = 3;

/// Leaves in which hypervisors describe themselves.
const HYPERVISOR: std::ops::Range<u32> = 0x4000_0000..0x4001_0000;

/// See the module.
pub(crate) struct Cpu {
    /// What guests are told.
    pub(crate) cpuid: CpuId,
    pub(crate) cr4: u64,
    /// Components of the extended state that guests have and this host can save.
    pub(crate) components: u64,
    /// Whether the register that turns them on can be set.
    pub(crate) has_xcr0: bool,
    /// Where each component ends, by its number.
    ends: Vec<usize>,
    /// Bits of a physical address.
    pub(crate) phys_bits: u32,
    pub(crate) vcpus: u32,
    pub(crate) slots: u32,
}

/// What must be there, with what it is for.
const NEEDED: [(Cap, &str); 6] = [
    (Cap::UserMemory, "memory of one's own"),
    (Cap::SyncRegs, "registers in the shared page"),
    (Cap::ImmediateExit, "runs that can be ended"),
    (Cap::ReadonlyMem, "read-only memory"),
    (Cap::Xsave, "extended state"),
    (Cap::Xcrs, "extended control registers"),
];
/// Slots without which it is of no use.
const SLOTS_LEAST: u32 = 1024;

impl Cpu {
    /// Whether it is KVM's device, of the version that there is; `what` is told on failure.
    pub(crate) fn check_interface(device: &Kvm, what: &str) -> Result<(), PlatformError> {
        match device.get_api_version() {
            12 => Ok(()),
            -1 => Err(unfit(what, "it is no KVM device")),
            other => Err(unfit(
                what,
                format!("it has version {other} of KVM's interface, 12 is needed"),
            )),
        }
    }

    /// Asks.
    pub(crate) fn of(device: &Kvm) -> Result<Cpu, PlatformError> {
        Cpu::check_interface(device, "looking at the device")?;
        for (cap, what) in NEEDED {
            if !device.check_extension(cap) {
                return Err(unfit("looking at KVM", format!("it is too old: no {what}")));
            }
        }
        let slots = device.get_nr_memslots() as u32;
        if slots < SLOTS_LEAST {
            return Err(unfit(
                "looking at KVM",
                format!("it is too old: only {slots} memory slots"),
            ));
        }
        let mut cpuid = device
            .get_supported_cpuid(KVM_MAX_CPUID_ENTRIES)
            .map_err(kvm("asking for the CPU's features"))?;
        cpuid.retain(|e| !HYPERVISOR.contains(&e.function));
        let entries = cpuid.as_slice().to_vec();
        let leaf = |function: u32, index: u32| {
            let found = entries
                .iter()
                .find(|e| e.function == function && e.index == index);
            found.copied().unwrap_or_default()
        };
        let (basic, seven, state) = (leaf(1, 0), leaf(7, 0), leaf(0xd, 0));
        let mut components = LEGACY;
        let offered = u64::from(state.edx) << 32 | u64::from(state.eax);
        let mut ends = vec![0; 63];
        for number in (2..63u32).filter(|n| offered >> n & 1 == 1) {
            let part = leaf(0xd, number);
            let end = part.ebx as usize + part.eax as usize;
            ends[number as usize] = end;
            if end <= XSAVE_LEN {
                components |= 1 << number;
            }
        }
        for entry in cpuid.as_mut_slice() {
            if (entry.function, entry.index) == (0xd, 0) {
                entry.eax &= components as u32;
                entry.edx &= (components >> 32) as u32;
            }
        }
        let has_xcr0 = basic.ecx >> 26 & 1 == 1;
        let mut cr4 = CR4;
        for (there, bit) in [
            (has_xcr0, OSXSAVE),
            (seven.ebx & 1 == 1, FSGSBASE),
            (seven.ecx >> 2 & 1 == 1, UMIP),
            (seven.ecx >> 3 & 1 == 1, PKE),
        ] {
            cr4 |= if there { bit } else { 0 };
        }
        let phys_bits = match leaf(0x8000_0008, 0).eax & 0xff {
            0 => 36,
            bits => bits,
        };
        Ok(Cpu {
            cpuid,
            cr4,
            components,
            has_xcr0,
            ends,
            phys_bits,
            vcpus: device.get_max_vcpus() as u32,
            slots,
        })
    }

    /// What guests are told of a leaf; `None` where KVM does not even know the CPU's name: there,
    /// the instruction is not trapped and tells of the host's.
    pub(crate) fn leaf(&self, leaf: u32, index: u32) -> Option<[u32; 4]> {
        /// The first leaf of the name.
        const NAME: u32 = 0x8000_0002;
        let by_index = |e: &kvm_cpuid_entry2| e.flags & KVM_CPUID_FLAG_SIGNIFCANT_INDEX != 0;
        let find = |leaf: u32| {
            let entries = self.cpuid.as_slice().iter();
            entries
                .filter(|e| e.function == leaf)
                .find(|e| !by_index(e) || e.index == index)
                .map(|e| [e.eax, e.ebx, e.ecx, e.edx])
        };
        find(NAME)
            .filter(|name| *name != [0; 4])
            .map(|_| find(leaf).unwrap_or_default())
    }

    /// Where a component of the extended state ends.
    pub(crate) fn component_end(&self, number: u32) -> usize {
        self.ends.get(number as usize).copied().unwrap_or(0)
    }
}
