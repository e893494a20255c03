//! A virtual CPU: registers in, a run, registers out.

use crate::admit::{self, USER_CS, USER_DS, USER32_CS};
use crate::arena::{Arena, Page};
use crate::cpu::{Cpu, XSAVE_LEN};
use crate::entry::{self, KERNEL_CS, KERNEL_DS, Kernel, TASK, TOUCH_AT, Way};
use crate::error::{host, kvm, unfit};
use crate::layout::{ENTRIES, PAGE};
use crate::sys::kick::Armed;
use crate::sys::vm;
use crate::tables::Touch;
use kvm_bindings::{KVM_SYNC_X86_REGS, KVM_SYNC_X86_SREGS, kvm_xsave};
use kvm_bindings::{Msrs, kvm_msr_entry, kvm_regs, kvm_segment, kvm_sregs, kvm_xcr, kvm_xcrs};
use kvm_ioctls::{SyncReg, VcpuExit, VcpuFd, VmFd};
use platform_api::{PlatformError, Registers};
use std::io;
use std::sync::atomic::Ordering;

/// Protected mode with paging, write protection also for ring 0, alignment checks, native
/// floating point errors.
const CR0: u64 = 0x8005_0033;
/// `syscall`, long mode, no-execute.
const EFER: u64 = 0xd01;
/// Flags that `syscall` clears: trap, interrupt, direction, privilege, nested, alignment.
const CALL_MASK: u64 = 0x4_7700;

const STAR: u32 = 0xc000_0081;
const LSTAR: u32 = 0xc000_0082;
const CSTAR: u32 = 0xc000_0083;
const SFMASK: u32 = 0xc000_0084;
const SYSENTER_CS: u32 = 0x174;

/// Words of a frame that the CPU stored, counted from the start of the stack's page.
const ERROR: u64 = ENTRIES - 6;
const RIP: u64 = ENTRIES - 5;
const CS: u64 = ENTRIES - 4;
const RFLAGS: u64 = ENTRIES - 3;
const RSP: u64 = ENTRIES - 2;

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// By a port write of ours.
    Way(Way),
    /// By a signal.
    Kicked,
    /// The host could not get at memory that the guest touched.
    NoMemory,
    /// The guest did what the host does not run.
    Refused,
}

/// What the CPU told of an exception.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Trap {
    pub(crate) error: u64,
    /// The address of a page fault.
    pub(crate) addr: u64,
}

/// See the module.
pub(crate) struct Vcpu {
    fd: VcpuFd,
    /// System registers as user code has them, but for what changes from switch to switch.
    user: kvm_sregs,
    descriptors: Page,
    stack: Page,
    list: Page,
    /// The space and generation as of which its translations are.
    pub(crate) seen: (u64, u64),
}

fn code(selector: u64, level: u8, long: bool) -> kvm_segment {
    kvm_segment {
        selector: selector as u16,
        type_: 11,
        dpl: level,
        l: u8::from(long),
        db: u8::from(!long),
        ..data(0, level)
    }
}

fn data(selector: u64, level: u8) -> kvm_segment {
    kvm_segment {
        limit: u32::MAX,
        selector: selector as u16,
        type_: 3,
        present: 1,
        dpl: level,
        db: 1,
        s: 1,
        g: 1,
        ..kvm_segment::default()
    }
}

impl Vcpu {
    /// Number `number` of a VM.
    pub(crate) fn new(
        vm: &VmFd,
        number: u32,
        cpu: &Cpu,
        arena: &Arena,
        kernel: &Kernel,
        open_port: bool,
    ) -> Result<Vcpu, PlatformError> {
        let mut fd = vm
            .create_vcpu(u64::from(number))
            .map_err(kvm("making a virtual CPU"))?;
        let page = || {
            arena
                .allocate()
                .map_err(|e| host("making a virtual CPU", e))
        };
        let (descriptors, stack, list) = (page()?, page()?, page()?);
        entry::descriptors(arena, descriptors, stack.virt() + PAGE);
        if open_port {
            entry::open_port(arena, descriptors);
        }
        let setting = kvm("setting up a virtual CPU");
        fd.set_cpuid2(&cpu.cpuid).map_err(&setting)?;
        let mut user = fd.get_sregs().map_err(&setting)?;
        (user.cr0, user.cr4, user.efer) = (CR0, cpu.cr4, EFER);
        (user.cs, user.ss) = (code(USER_CS, 3, true), data(USER_DS, 3));
        (user.ds, user.es) = (data(0, 3), data(0, 3));
        (user.fs, user.gs) = (data(0, 3), data(0, 3));
        user.gdt.base = descriptors.virt();
        user.gdt.limit = entry::GDT_LIMIT;
        user.idt.base = kernel.gates.virt();
        user.idt.limit = (PAGE - 1) as u16;
        user.tr = kvm_segment {
            base: entry::task_segment(descriptors),
            limit: entry::TSS_LIMIT,
            selector: TASK,
            type_: 11,
            present: 1,
            ..kvm_segment::default()
        };
        let msr = |index, data| kvm_msr_entry {
            index,
            data,
            ..kvm_msr_entry::default()
        };
        let msrs = [
            msr(STAR, 0x23 << 48 | u64::from(KERNEL_CS) << 32),
            msr(LSTAR, entry::MSR_CALL),
            msr(CSTAR, entry::MSR_COMPAT),
            msr(SFMASK, CALL_MASK),
            // General protection.
            msr(SYSENTER_CS, 0),
        ];
        let msrs = Msrs::from_entries(&msrs)
            .map_err(|e| unfit("setting up a virtual CPU", format!("{e:?}")))?;
        if fd.set_msrs(&msrs).map_err(&setting)? != msrs.as_slice().len() {
            return Err(unfit(
                "setting up a virtual CPU",
                "the host does not take the registers of `syscall`",
            ));
        }
        if cpu.has_xcr0 {
            let mut xcrs = kvm_xcrs {
                nr_xcrs: 1,
                ..kvm_xcrs::default()
            };
            // The register needs OSXSAVE, which `user` sets.
            xcrs.xcrs[0] = kvm_xcr {
                xcr: 0,
                reserved: 0,
                value: cpu.components,
            };
            fd.set_xcrs(&xcrs).map_err(&setting)?;
        }
        fd.set_sync_valid_reg(SyncReg::Register);
        fd.set_sync_valid_reg(SyncReg::SystemRegister);
        // What is there now is unlike anything that is going to be wanted.
        fd.sync_regs_mut().sregs = kvm_sregs::default();
        Ok(Vcpu {
            fd,
            user,
            descriptors,
            stack,
            list,
            seen: (0, 0),
        })
    }

    /// Opens the port of calls to user code.
    pub(crate) fn open_port(&self, arena: &Arena) {
        entry::open_port(arena, self.descriptors);
    }

    /// Puts in registers that were admitted, of a guest whose tables are at `root`. The host takes
    /// them at the next run; if that never came to be, what was put in before is still to be taken,
    /// though it looks as if it had been.
    #[inline]
    pub(crate) fn load(&mut self, regs: &Registers, root: u64) {
        let sync = self.fd.sync_regs_mut();
        sync.regs = kvm_regs {
            rax: regs.rax,
            rbx: regs.rbx,
            rcx: regs.rcx,
            rdx: regs.rdx,
            rsi: regs.rsi,
            rdi: regs.rdi,
            rsp: regs.rsp,
            rbp: regs.rbp,
            r8: regs.r8,
            r9: regs.r9,
            r10: regs.r10,
            r11: regs.r11,
            r12: regs.r12,
            r13: regs.r13,
            r14: regs.r14,
            r15: regs.r15,
            rip: regs.rip,
            rflags: admit::flags(regs.eflags),
        };
        let now = &sync.sregs;
        let same = now.cr3 == root
            && now.cs.dpl == 3
            && now.ss.dpl == 3
            && u64::from(now.cs.selector) == regs.cs
            && u64::from(now.ss.selector) == regs.ss
            && now.fs.base == regs.fs_base
            && now.gs.base == regs.gs_base
            && u64::from(now.ds.selector) == regs.ds
            && u64::from(now.es.selector) == regs.es
            && u64::from(now.fs.selector) == regs.fs
            && u64::from(now.gs.selector) == regs.gs;
        let mut dirty = u64::from(KVM_SYNC_X86_REGS);
        if !same {
            let mut want = self.user;
            want.cr3 = root;
            if regs.cs == USER32_CS {
                want.cs = code(USER32_CS, 3, false);
            }
            (want.ds, want.es) = (data(regs.ds, 3), data(regs.es, 3));
            (want.fs, want.gs) = (data(regs.fs, 3), data(regs.gs, 3));
            (want.fs.base, want.gs.base) = (regs.fs_base, regs.gs_base);
            sync.sregs = want;
            dirty |= u64::from(KVM_SYNC_X86_SREGS);
        }
        // The host takes away what it has taken.
        self.fd.get_kvm_run().kvm_dirty_regs |= dirty;
    }

    /// Arms the signal: from now on until the run has ended, it is not lost.
    pub(crate) fn arm(&mut self) -> Armed<'_> {
        Armed::new(&mut self.fd)
    }

    /// Takes the general registers out.
    #[inline]
    pub(crate) fn store(&mut self, regs: &mut Registers) {
        let sync = self.fd.sync_regs_mut();
        let (r, s) = (&sync.regs, &sync.sregs);
        *regs = Registers {
            r15: r.r15,
            r14: r.r14,
            r13: r.r13,
            r12: r.r12,
            rbp: r.rbp,
            rbx: r.rbx,
            r11: r.r11,
            r10: r.r10,
            r9: r.r9,
            r8: r.r8,
            rax: r.rax,
            rcx: r.rcx,
            rdx: r.rdx,
            rsi: r.rsi,
            rdi: r.rdi,
            orig_rax: u64::MAX,
            rip: r.rip,
            cs: u64::from(s.cs.selector),
            eflags: r.rflags,
            rsp: r.rsp,
            ss: USER_DS,
            fs_base: s.fs.base,
            gs_base: s.gs.base,
            ds: u64::from(s.ds.selector),
            es: u64::from(s.es.selector),
            fs: u64::from(s.fs.selector),
            gs: u64::from(s.gs.selector),
        };
    }

    /// Completes registers that [`Vcpu::store`] took out at an exception by what the CPU stored
    /// on its stack.
    pub(crate) fn trap(&mut self, arena: &Arena, regs: &mut Registers) -> Trap {
        let word = |index| arena.word(self.stack, index).load(Ordering::Relaxed);
        regs.rip = word(RIP);
        regs.cs = word(CS) & 0xffff;
        regs.eflags = word(RFLAGS);
        regs.rsp = word(RSP);
        Trap {
            error: word(ERROR),
            addr: self.fd.sync_regs_mut().sregs.cr2,
        }
    }

    /// Lets the host finish what an instruction began that the guest must not see the end of.
    pub(crate) fn abandon(&mut self) {
        self.fd.set_kvm_immediate_exit(1);
        let _ = self.fd.run();
        self.fd.set_kvm_immediate_exit(0);
    }

    /// What it does for a space before guest code runs there: touches and flushes.
    pub(crate) fn touch(
        &mut self,
        arena: &Arena,
        root: u64,
        touches: &[Touch],
    ) -> Result<(), PlatformError> {
        // At least once, for the flush.
        let mut rest = touches;
        loop {
            let (now, later) = rest.split_at(rest.len().min(ENTRIES as usize));
            for (i, touch) in (0..).zip(now) {
                arena
                    .word(self.list, i)
                    .store(touch.addr(), Ordering::Release);
            }
            self.run_touch(arena, root, now.len() as u64)?;
            rest = later;
            if rest.is_empty() {
                return Ok(());
            }
        }
    }

    fn run_touch(&mut self, arena: &Arena, root: u64, count: u64) -> Result<(), PlatformError> {
        let sync = self.fd.sync_regs_mut();
        sync.regs = kvm_regs {
            rcx: count,
            rsi: self.list.virt(),
            rsp: self.stack.virt() + PAGE,
            rip: TOUCH_AT,
            rflags: 2,
            ..kvm_regs::default()
        };
        let mut want = self.user;
        want.cr3 = root;
        want.cs = code(u64::from(KERNEL_CS), 0, true);
        want.ss = data(u64::from(KERNEL_DS), 0);
        sync.sregs = want;
        let dirty = KVM_SYNC_X86_REGS | KVM_SYNC_X86_SREGS;
        self.fd.get_kvm_run().kvm_dirty_regs = u64::from(dirty);
        self.fd.set_kvm_immediate_exit(0);
        loop {
            match run(&mut self.fd)? {
                End::Way(Way::Touched) => return Ok(()),
                End::Kicked => self.fd.set_kvm_immediate_exit(0),
                other => {
                    let mut regs = Registers::default();
                    let trap = self.trap(arena, &mut regs);
                    return Err(unfit(
                        "flushing translations",
                        format!(
                            "the guest's own kernel code ended with {other:?} (at {:#x}, error \
                             {:#x}, address {:#x})",
                            regs.rip, trap.error, trap.addr
                        ),
                    ));
                }
            }
        }
    }

    /// The extended state.
    pub(crate) fn xsave(&self, into: &mut Vec<u8>) -> Result<(), PlatformError> {
        let state = self
            .fd
            .get_xsave()
            .map_err(kvm("reading the extended state"))?;
        into.clear();
        into.extend(state.region.iter().flat_map(|word| word.to_ne_bytes()));
        Ok(())
    }

    /// Sets the extended state.
    pub(crate) fn set_xsave(&self, state: &[u8]) -> io::Result<()> {
        let mut whole = kvm_xsave::default();
        let words = state[..state.len().min(XSAVE_LEN)].chunks_exact(4);
        for (to, word) in whole.region.iter_mut().zip(words) {
            *to = u32::from_ne_bytes([word[0], word[1], word[2], word[3]]);
        }
        vm::set_xsave(&self.fd, &whole)
    }
}

/// Runs a vCPU whose registers have been put in.
#[inline]
pub(crate) fn run(fd: &mut VcpuFd) -> Result<End, PlatformError> {
    let port = match fd.run() {
        Ok(VcpuExit::IoOut(port, _) | VcpuExit::IoIn(port, _)) => port,
        Ok(VcpuExit::InternalError | VcpuExit::Shutdown) => return Ok(End::Refused),
        Ok(VcpuExit::FailEntry(reason, _)) => {
            return Err(unfit(
                "running guest code",
                format!("the CPU refused its state (reason {reason:#x})"),
            ));
        }
        Ok(VcpuExit::Intr) => return Ok(End::Kicked),
        Ok(VcpuExit::MemoryFault { .. }) => return Ok(End::NoMemory),
        Ok(_) => return Ok(End::Refused),
        Err(e) => match e.errno() {
            libc::EINTR | libc::EAGAIN => return Ok(End::Kicked),
            libc::EFAULT => return Ok(End::NoMemory),
            _ => return Err(kvm("running guest code")(e)),
        },
    };
    let rip = fd.sync_regs_mut().regs.rip;
    Ok(End::Way(entry::way(port, rip)))
}

/// As [`run`], but not ended by a signal while the guest is on its way out by the entry page, nor
/// while an exception is: whatever is run next on this vCPU would get it.
#[inline]
pub(crate) fn run_out(fd: &mut VcpuFd) -> Result<End, PlatformError> {
    loop {
        let end = run(fd)?;
        if end != End::Kicked {
            return Ok(end);
        }
        let sync = fd.sync_regs_mut();
        let rip = sync.regs.rip;
        let leaving = sync.sregs.cs.dpl == 0 || matches!(rip, entry::MSR_CALL | entry::MSR_COMPAT);
        if !leaving && !excepting(fd) {
            return Ok(end);
        }
        fd.set_kvm_immediate_exit(0);
    }
}

/// Whether the host still has an exception to deliver. One of `int3` or `into` it has, but does not
/// tell of; that is dropped, since the instruction is run again.
fn excepting(fd: &VcpuFd) -> bool {
    let Ok(mut events) = fd.get_vcpu_events() else {
        return false;
    };
    if events.exception.injected | events.exception.pending != 0 {
        return true;
    }
    // Nothing else of it is to be set.
    events.flags = 0;
    let _ = fd.set_vcpu_events(&events);
    false
}
