//! The least virtual machine in which a program makes system calls: what a platform on KVM cannot
//! beat.
//!
//! One page of user code calls for ever; a call ends in a port write, and so in `KVM_RUN`
//! returning. Addresses are physical ones, by one large page that user code may use.
// UNSAFETY: giving a machine its memory is a promise about addresses.
#![expect(unsafe_code, reason = "a machine is given memory by its address")]

use crate::sys::Mapping;
use kvm_bindings::{
    KVM_MAX_CPUID_ENTRIES, KVM_SYNC_X86_REGS, KVM_SYNC_X86_SREGS, Msrs, kvm_msr_entry, kvm_regs,
    kvm_segment, kvm_userspace_memory_region,
};
use kvm_ioctls::{Kvm, SyncReg, VcpuExit, VcpuFd, VmFd};

/// Bytes of memory.
const LEN: usize = 0x8000;
/// Where its tables, its task segment and its code are.
const ROOT: u64 = 0x1000;
const MIDDLE: u64 = 0x2000;
const LARGE: u64 = 0x3000;
const TASK: u64 = 0x4000;
const CALLER: u64 = 0x5000;
const ENTRY: u64 = 0x6000;
/// Out of the way, for CPUs that need it.
const HOST_TSS: usize = 0xfffb_d000;

/// The port that a call ends in.
const PORT: u8 = 0xc0;
/// Task segment up to the bitmap of ports, and that up to ours: all open, since some hosts don't
/// raise the privilege level for `syscall`.
const TASK_LIMIT: u32 = 0x68 + PORT as u32 / 8 + 1;

/// Present, writable, for user code, accessed, dirty.
const SHOWN: u64 = 0x67;
const HUGE: u64 = 0x80;
/// As for 64-bit code with SSE.
const CR0: u64 = 0x8005_0033;
const CR4: u64 = 0x620;
const EFER: u64 = 0x501;
/// Selectors as Linux has them.
const USER_CS: u16 = 0x33;
const USER_DS: u16 = 0x2b;
const KERNEL_CS: u64 = 0x10;

const STAR: u32 = 0xc000_0081;
const LSTAR: u32 = 0xc000_0082;
const SFMASK: u32 = 0xc000_0084;

/// Whether this process can make one.
pub(crate) fn is_there() -> bool {
    Kvm::new().is_ok()
}

/// See the module. Parts go in this order.
pub(crate) struct Machine {
    cpu: VcpuFd,
    _vm: VmFd,
    _memory: Mapping,
}

impl Machine {
    pub(crate) fn new() -> Machine {
        let kvm = Kvm::new().expect("the device");
        let vm = kvm.create_vm().expect("a machine");
        // Only some CPUs need it.
        let _ = vm.set_tss_address(HOST_TSS);
        let memory = Mapping::anonymous(LEN);
        memory.fill(&image());
        let region = kvm_userspace_memory_region {
            memory_size: LEN as u64,
            userspace_addr: memory.address(),
            ..kvm_userspace_memory_region::default()
        };
        // SAFETY: the memory holds no object of this program, and outlives the machine, which is
        // dropped first.
        unsafe { vm.set_user_memory_region(region) }.expect("memory");
        let mut cpu = vm.create_vcpu(0).expect("a virtual CPU");
        let features = kvm.get_supported_cpuid(KVM_MAX_CPUID_ENTRIES);
        cpu.set_cpuid2(&features.expect("features"))
            .expect("features");
        let msr = |index, data| kvm_msr_entry {
            index,
            data,
            ..kvm_msr_entry::default()
        };
        let msrs = [
            msr(STAR, 0x23 << 48 | KERNEL_CS << 32),
            msr(LSTAR, ENTRY),
            msr(SFMASK, 0),
        ];
        let msrs = Msrs::from_entries(&msrs).expect("three of them");
        assert_eq!(cpu.set_msrs(&msrs), Ok(3), "registers of `syscall`");
        let mut system = cpu.get_sregs().expect("registers");
        (system.cr0, system.cr3, system.cr4, system.efer) = (CR0, ROOT, CR4, EFER);
        (system.cs, system.ss) = (code(), data(USER_DS));
        for segment in [
            &mut system.ds,
            &mut system.es,
            &mut system.fs,
            &mut system.gs,
        ] {
            *segment = data(0);
        }
        system.tr = kvm_segment {
            base: TASK,
            limit: TASK_LIMIT,
            selector: 0x40,
            type_: 11,
            present: 1,
            ..kvm_segment::default()
        };
        cpu.set_sregs(&system).expect("registers");
        let regs = kvm_regs {
            rip: CALLER,
            rflags: 0x202,
            ..kvm_regs::default()
        };
        cpu.set_regs(&regs).expect("registers");
        cpu.set_sync_valid_reg(SyncReg::Register);
        cpu.set_sync_valid_reg(SyncReg::SystemRegister);
        Machine {
            cpu,
            _vm: vm,
            _memory: memory,
        }
    }

    /// Lets it run up to its next call, whose answer is put into its registers.
    pub(crate) fn round_trip(&mut self) {
        match self.cpu.run() {
            Ok(VcpuExit::IoOut(port, _)) if port == u16::from(PORT) => {}
            other => panic!("a call ended with {other:?}"),
        }
        let sync = self.cpu.sync_regs_mut();
        assert_eq!(sync.regs.rcx, CALLER + 2, "where the call was made");
        let mut dirty = KVM_SYNC_X86_REGS;
        sync.regs.rax = 1;
        (sync.regs.rip, sync.regs.rflags) = (sync.regs.rcx, sync.regs.r11);
        if sync.sregs.cs.dpl != 3 {
            (sync.sregs.cs, sync.sregs.ss) = (code(), data(USER_DS));
            dirty |= KVM_SYNC_X86_SREGS;
        }
        self.cpu.get_kvm_run().kvm_dirty_regs = u64::from(dirty);
    }
}

/// What is in its memory.
fn image() -> Vec<u8> {
    let mut bytes = vec![0; LEN];
    let mut put = |at: u64, what: &[u8]| {
        let at = at as usize;
        bytes[at..at + what.len()].copy_from_slice(what);
    };
    put(ROOT, &(MIDDLE | SHOWN).to_le_bytes());
    put(MIDDLE, &(LARGE | SHOWN).to_le_bytes());
    put(LARGE, &(HUGE | SHOWN).to_le_bytes());
    // The bitmap follows at once.
    put(TASK + 0x66, &0x68u16.to_le_bytes());
    // syscall; jmp
    put(CALLER, &[0x0f, 0x05, 0xeb, 0xfc]);
    // out PORT, al; jmp
    put(ENTRY, &[0xe6, PORT, 0xeb, 0xfc]);
    bytes
}

fn code() -> kvm_segment {
    kvm_segment {
        type_: 11,
        l: 1,
        db: 0,
        ..data(USER_CS)
    }
}

fn data(selector: u16) -> kvm_segment {
    kvm_segment {
        limit: u32::MAX,
        selector,
        type_: 3,
        present: 1,
        dpl: 3,
        db: 1,
        s: 1,
        g: 1,
        ..kvm_segment::default()
    }
}
