//! What of KVM is unsafe: memory slots, a donated device, the extended state.

use crate::sys::map::Memory;
use kvm_bindings::{KVM_MEM_READONLY, kvm_userspace_memory_region, kvm_xsave};
use kvm_ioctls::{Kvm, VcpuFd, VmFd};
use std::io;
use std::os::fd::{FromRawFd, IntoRawFd, OwnedFd};
use std::sync::Arc;

/// KVM behind a descriptor that was donated.
pub(crate) fn adopt(device: OwnedFd) -> Kvm {
    // SAFETY: the descriptor is owned and handed over. If it is no KVM device, its calls fail.
    unsafe { Kvm::from_raw_fd(device.into_raw_fd()) }
}

/// Memory that the guest has at a physical address; it loses it before the memory goes.
pub(crate) struct Slot<M: Memory> {
    vm: Arc<VmFd>,
    number: u32,
    phys: u64,
    memory: M,
}

impl<M: Memory> Slot<M> {
    /// Gives `memory` to the guest. `number` is not in use and no other slot reaches into it.
    pub(crate) fn new(
        vm: &Arc<VmFd>,
        number: u32,
        phys: u64,
        memory: M,
        write: bool,
    ) -> io::Result<Slot<M>> {
        let slot = Slot {
            vm: vm.clone(),
            number,
            phys,
            memory,
        };
        let flags = if write { 0 } else { KVM_MEM_READONLY };
        slot.set(slot.memory.len(), flags)?;
        Ok(slot)
    }

    /// What stands behind it.
    pub(crate) fn memory(&self) -> &M {
        &self.memory
    }

    /// Its number.
    pub(crate) fn number(&self) -> u32 {
        self.number
    }

    fn set(&self, len: u64, flags: u32) -> io::Result<()> {
        let region = kvm_userspace_memory_region {
            slot: self.number,
            flags,
            guest_phys_addr: self.phys,
            memory_size: len,
            userspace_addr: self.memory.address(),
        };
        // SAFETY: the memory is ours, holds no object of this program but atomic words, and stays
        // mapped until `drop` has taken the slot away.
        unsafe { self.vm.set_user_memory_region(region) }
            .map_err(|e| io::Error::from_raw_os_error(e.errno()))
    }
}

impl<M: Memory> Drop for Slot<M> {
    fn drop(&mut self) {
        // Taking away a slot that was never given is an error that does not matter.
        let _ = self.set(0, 0);
    }
}

/// Sets a vCPU's extended state, which is as large as the structure on all hosts that were
/// admitted (see `cpu`).
pub(crate) fn set_xsave(vcpu: &VcpuFd, state: &kvm_xsave) -> io::Result<()> {
    // SAFETY: the host reads no more than the structure, since no state beyond its size was
    // enabled.
    unsafe { vcpu.set_xsave(state) }.map_err(|e| io::Error::from_raw_os_error(e.errno()))
}
