//! What boot makes: the VM and what is known of the host.

use crate::arena::Arena;
use crate::context::KvmContext;
use crate::cpu::Cpu;
use crate::entry::{self, Kernel, Way};
use crate::error::{host, kvm, unfit};
use crate::layout::{ARENA_CHUNKS, HOST_TSS, LOWEST, USER_END};
use crate::memory::Memory;
use crate::pool::Pool;
use crate::space::{Core, Space};
use crate::sys::{kick, vm};
use crate::tables::{Tables, Touch};
use crate::vcpu::{self, End, Vcpu};
use kvm_ioctls::{Kvm, VmFd};
use platform_api::xstate::Layout;
use platform_api::{AddressSpace, Context, Engine, Limits, PlatformError, Registers};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Most vCPUs: beyond, contexts take turns with those that sleep.
const VCPUS_MOST: u32 = 256;
/// The bits of MXCSR on CPUs that don't tell: all but "denormals are zeros".
const MXCSR_LEAST: u32 = 0xffbf;
const MXCSR_ALL: u32 = 0xffff;

/// The engine.
pub(crate) struct KvmEngine(Arc<Shared>);

/// What spaces and contexts need of it.
pub(crate) struct Shared {
    pub(crate) pool: Pool,
    pub(crate) memory: Memory,
    pub(crate) arena: Arena,
    pub(crate) kernel: Kernel,
    pub(crate) cpu: Cpu,
    pub(crate) layout: Layout,
    vm: Arc<VmFd>,
    /// Whether `syscall` leaves the privilege level as it is, so that the port it ends in must be
    /// open.
    flat: bool,
    spaces: AtomicU64,
}

impl Shared {
    /// An identity for a space.
    pub(crate) fn next_space(&self) -> u64 {
        self.spaces.fetch_add(1, Ordering::Relaxed)
    }

    /// One more vCPU.
    pub(crate) fn new_vcpu(&self, number: u32) -> Result<Vcpu, PlatformError> {
        Vcpu::new(
            &self.vm,
            number,
            &self.cpu,
            &self.arena,
            &self.kernel,
            self.flat,
        )
    }
}

/// A VM with one vCPU, on which `syscall` has been tried.
pub(crate) struct Machine {
    vm: Arc<VmFd>,
    cpu: Cpu,
    arena: Arena,
    kernel: Kernel,
    vcpu: Vcpu,
    tables: Tables,
    flat: bool,
}

impl Machine {
    /// Makes it.
    pub(crate) fn new(device: Kvm) -> Result<Machine, PlatformError> {
        let cpu = Cpu::of(&device)?;
        let vm = Arc::new(device.create_vm().map_err(kvm("making a VM"))?);
        // Only some CPUs need it; those that do say so when a vCPU is run.
        let _ = vm.set_tss_address(HOST_TSS);
        let memory = |e| host("giving memory to a VM", e);
        let arena = Arena::new(&vm).map_err(memory)?;
        let kernel = Kernel::new(&arena).map_err(memory)?;
        let vcpu = Vcpu::new(&vm, 0, &cpu, &arena, &kernel, false)?;
        let tables = Tables::new(&arena, kernel.table).map_err(memory)?;
        let mut machine = Machine {
            vm,
            cpu,
            arena,
            kernel,
            vcpu,
            tables,
            flat: false,
        };
        machine.flat = machine.is_flat()?;
        if machine.flat {
            machine.vcpu.open_port(&machine.arena);
        }
        machine.call()?;
        let root = machine.tables.root();
        machine
            .vcpu
            .touch(&machine.arena, root.phys(), &[Touch::Table(root)])
            .map(|()| machine)
    }

    fn try_call(&mut self) -> Result<(End, Registers), PlatformError> {
        let mut regs = Registers {
            rip: entry::TRIAL_AT,
            ..Registers::user()
        };
        self.vcpu.load(&regs, self.tables.root().phys());
        let end = vcpu::run_out(self.vcpu.arm().vcpu)?;
        self.vcpu.store(&mut regs);
        if let End::Way(Way::Vector(_)) = end {
            self.vcpu.trap(&self.arena, &mut regs);
        }
        Ok((end, regs))
    }

    /// Whether the port write that `syscall` comes to is general protection while the port is
    /// shut.
    fn is_flat(&mut self) -> Result<bool, PlatformError> {
        match self.try_call()? {
            (End::Way(Way::Call), _) => Ok(false),
            (End::Way(Way::Vector(13)), regs) if regs.rip == entry::MSR_CALL => Ok(true),
            (end, regs) => Err(unfit(
                "trying `syscall` in a VM",
                format!("it ended with {end:?} at {:#x}", regs.rip),
            )),
        }
    }

    /// Makes a call as a guest does.
    fn call(&mut self) -> Result<(), PlatformError> {
        match self.try_call()? {
            (End::Way(Way::Call), _) => Ok(()),
            (end, regs) => Err(unfit(
                "making a system call in a VM",
                format!("it ended with {end:?} at {:#x}", regs.rip),
            )),
        }
    }

    /// The best time of some calls.
    pub(crate) fn round_trip(&mut self, rounds: u32) -> Result<Duration, PlatformError> {
        let mut best = Duration::MAX;
        for _ in 0..rounds {
            let start = Instant::now();
            self.call()?;
            best = best.min(start.elapsed());
        }
        Ok(best)
    }

    /// Bits of MXCSR that this host takes, and the layout of the extended state.
    fn layout(&self) -> Result<Layout, PlatformError> {
        let mut state = Vec::new();
        self.vcpu.xsave(&mut state)?;
        let features = self.cpu.components.to_ne_bytes();
        state[464..472].copy_from_slice(&features);
        let taken = |trial: &[u8]| self.vcpu.set_xsave(trial).is_ok();
        let mut trial = state.clone();
        trial[24..28].copy_from_slice(&MXCSR_ALL.to_ne_bytes());
        trial[512..520].copy_from_slice(&3u64.to_ne_bytes());
        let mxcsr = if taken(&trial) {
            MXCSR_ALL
        } else {
            MXCSR_LEAST
        };
        let end = |number| self.cpu.component_end(number);
        Ok(Layout::of(&state, mxcsr, end, taken))
    }
}

impl KvmEngine {
    /// Makes the VM.
    pub(crate) fn boot(device: OwnedFd) -> Result<KvmEngine, PlatformError> {
        KvmEngine::with_limits(device, VCPUS_MOST, u32::MAX)
    }

    /// With at most so many vCPUs, and slots for the guests' memory.
    pub(crate) fn with_limits(
        device: OwnedFd,
        vcpus: u32,
        slots: u32,
    ) -> Result<KvmEngine, PlatformError> {
        kick::install().map_err(|e| host("handling the signal that ends runs", e))?;
        let machine = Machine::new(vm::adopt(device))?;
        let layout = machine.layout()?;
        let first = ARENA_CHUNKS as u32;
        let slots = first..machine.cpu.slots.min(first.saturating_add(slots));
        let memory = Memory::new(&machine.vm, slots, machine.cpu.phys_bits)
            .map_err(|e| host("keeping account of memory", e))?;
        let most = vcpus.min(machine.cpu.vcpus);
        Ok(KvmEngine(Arc::new(Shared {
            pool: Pool::new(machine.vcpu, most),
            memory,
            arena: machine.arena,
            kernel: machine.kernel,
            cpu: machine.cpu,
            layout,
            vm: machine.vm,
            flat: machine.flat,
            spaces: AtomicU64::new(1),
        })))
    }
}

impl Engine for KvmEngine {
    fn limits(&self) -> Limits {
        Limits {
            lowest: LOWEST,
            highest: USER_END,
            holes: Vec::new(),
            populates: true,
        }
    }

    fn new_space(&self) -> Result<Arc<dyn AddressSpace>, PlatformError> {
        Ok(Arc::new(Space(Arc::new(Core::new(&self.0)?))))
    }

    fn new_context(&self) -> Result<Box<dyn Context>, PlatformError> {
        Ok(Box::new(KvmContext::new(self.0.clone())))
    }

    fn cpuid(&self, leaf: u32, index: u32) -> [u32; 4] {
        self.0
            .cpu
            .leaf(leaf, index)
            .unwrap_or_else(|| platform_api::host_cpuid(leaf, index))
    }
}
