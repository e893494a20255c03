//! Host calls on stubs.

use platform_api::Registers;
use std::io;

/// A host process or thread id.
pub(crate) type Pid = libc::pid_t;

/// What `GETSIGINFO` tells, as far as it is used.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct SigInfo {
    /// `si_code`
    pub(crate) code: i32,
    /// `si_addr`, or `si_call_addr` of a `SIGSYS`
    pub(crate) addr: u64,
    /// `si_syscall` of a `SIGSYS`
    pub(crate) syscall: i32,
}

/// A raw wait status.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Status(pub(crate) i32);

impl Status {
    /// The stop signal with the event in its upper byte, when stopped.
    pub(crate) fn stop(self) -> Option<i32> {
        libc::WIFSTOPPED(self.0).then_some(self.0 >> 8)
    }
}

fn check(result: libc::c_long) -> io::Result<libc::c_long> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

/// A ptrace request. Where `data` is an address, it is one whose provenance was exposed: the host
/// reads or writes there behind the compiler's back.
fn ptrace(request: libc::c_uint, pid: Pid, addr: u64, data: u64) -> io::Result<()> {
    // SAFETY: only called with requests that take numbers, and by the wrappers below with the
    // address of what is valid for what the request reads or writes, and borrowed through the call.
    check(unsafe {
        libc::syscall(
            libc::SYS_ptrace,
            libc::c_long::from(request),
            pid,
            addr,
            data,
        )
    })
    .map(drop)
}

/// Becomes the tracer of `pid`, which dies when the calling thread ends.
pub(crate) fn seize(pid: Pid) -> io::Result<()> {
    let options =
        libc::PTRACE_O_EXITKILL | libc::PTRACE_O_TRACESYSGOOD | libc::PTRACE_O_TRACESECCOMP;
    ptrace(libc::PTRACE_SEIZE, pid, 0, options as u64)
}

/// Stops a traced process that runs.
pub(crate) fn interrupt(pid: Pid) -> io::Result<()> {
    ptrace(libc::PTRACE_INTERRUPT, pid, 0, 0)
}

/// Lets it run, its calls being executed by the host.
pub(crate) fn cont(pid: Pid) -> io::Result<()> {
    ptrace(libc::PTRACE_CONT, pid, 0, 0)
}

/// Lets it run until its next call, which the host does not execute.
pub(crate) fn sysemu(pid: Pid) -> io::Result<()> {
    ptrace(libc::PTRACE_SYSEMU, pid, 0, 0)
}

/// Stops tracing and lets it run.
pub(crate) fn detach(pid: Pid) -> io::Result<()> {
    ptrace(libc::PTRACE_DETACH, pid, 0, 0)
}

/// Reads the general registers.
pub(crate) fn get_registers(pid: Pid, into: &mut Registers) -> io::Result<()> {
    const { assert!(size_of::<Registers>() == size_of::<libc::user_regs_struct>()) };
    ptrace(
        libc::PTRACE_GETREGS,
        pid,
        0,
        (&raw mut *into).expose_provenance() as u64,
    )
}

/// Writes the general registers.
pub(crate) fn set_registers(pid: Pid, from: &Registers) -> io::Result<()> {
    ptrace(
        libc::PTRACE_SETREGS,
        pid,
        0,
        (&raw const *from).expose_provenance() as u64,
    )
}

/// Writes the general registers up to and with `ss`, leaving bases and data segments.
pub(crate) fn set_registers_without_bases(pid: Pid, from: &Registers) -> io::Result<()> {
    const NT_PRSTATUS: u64 = 1;
    let mut iov = libc::iovec {
        iov_base: (&raw const *from).cast_mut().cast(),
        iov_len: core::mem::offset_of!(Registers, fs_base),
    };
    ptrace(
        libc::PTRACE_SETREGSET,
        pid,
        NT_PRSTATUS,
        (&raw mut iov).expose_provenance() as u64,
    )
}

const NT_X86_XSTATE: u64 = 0x202;

/// Reads the extended state into `into`, whose length bounds it; returns the length there is.
pub(crate) fn get_xstate(pid: Pid, into: &mut [u8]) -> io::Result<usize> {
    let mut iov = libc::iovec {
        iov_base: into.as_mut_ptr().cast(),
        iov_len: into.len(),
    };
    ptrace(
        libc::PTRACE_GETREGSET,
        pid,
        NT_X86_XSTATE,
        (&raw mut iov).expose_provenance() as u64,
    )?;
    Ok(iov.iov_len)
}

/// Writes the extended state.
pub(crate) fn set_xstate(pid: Pid, from: &[u8]) -> io::Result<()> {
    let mut iov = libc::iovec {
        iov_base: from.as_ptr().cast_mut().cast(),
        iov_len: from.len(),
    };
    ptrace(
        libc::PTRACE_SETREGSET,
        pid,
        NT_X86_XSTATE,
        (&raw mut iov).expose_provenance() as u64,
    )
}

/// The bits of MXCSR this CPU has; zero: the CPU is too old to tell.
pub(crate) fn mxcsr_mask() -> u32 {
    #[repr(align(16))]
    struct Area([u8; 512]);
    let mut area = Area([0; 512]);
    // SAFETY: 512 aligned bytes, of which the CPU fills some. FXSAVE is part of x86-64.
    unsafe { core::arch::x86_64::_fxsave64(area.0.as_mut_ptr()) };
    u32::from_le_bytes([area.0[28], area.0[29], area.0[30], area.0[31]])
}

/// One past the last byte of a feature's component in an extended state.
pub(crate) fn component_end(feature: u32) -> usize {
    let leaf = core::arch::x86_64::__cpuid_count(0xd, feature);
    (leaf.eax as usize).saturating_add(leaf.ebx as usize)
}

/// The signal it stopped for.
pub(crate) fn get_siginfo(pid: Pid) -> io::Result<SigInfo> {
    let mut raw = [0u64; 16];
    const { assert!(size_of::<[u64; 16]>() == size_of::<libc::siginfo_t>()) };
    ptrace(
        libc::PTRACE_GETSIGINFO,
        pid,
        0,
        raw.as_mut_ptr().expose_provenance() as u64,
    )?;
    Ok(SigInfo {
        code: raw[1] as u32 as i32,
        addr: raw[2],
        syscall: raw[3] as u32 as i32,
    })
}

/// Eight bytes of its memory, whatever their protection.
pub(crate) fn peek(pid: Pid, addr: u64) -> io::Result<[u8; 8]> {
    let mut word = 0u64;
    ptrace(
        libc::PTRACE_PEEKTEXT,
        pid,
        addr,
        (&raw mut word).expose_provenance() as u64,
    )?;
    Ok(word.to_ne_bytes())
}

/// The `AUDIT_ARCH_…` of the call it stopped at.
pub(crate) fn syscall_arch(pid: Pid) -> io::Result<u32> {
    // The head of struct ptrace_syscall_info: op, padding, arch.
    let mut head = [0u32; 2];
    let len = size_of_val(&head) as u64;
    ptrace(
        libc::PTRACE_GET_SYSCALL_INFO,
        pid,
        len,
        head.as_mut_ptr().expose_provenance() as u64,
    )?;
    Ok(head[1])
}

/// Waits for `pid` to stop or end.
pub(crate) fn wait(pid: Pid) -> io::Result<Status> {
    let mut status = 0;
    loop {
        // SAFETY: `status` is valid for the host to write; no usage is asked for.
        let got = unsafe { libc::wait4(pid, &raw mut status, libc::__WALL, core::ptr::null_mut()) };
        match check(got.into()) {
            Ok(_) => return Ok(Status(status)),
            Err(e) if e.raw_os_error() == Some(libc::EINTR) => {}
            Err(e) => return Err(e),
        }
    }
}

/// Sends a signal to a stub.
pub(crate) fn kill(pid: Pid, signal: i32) {
    // SAFETY: numbers only. A stub that is gone already is no error.
    unsafe { libc::kill(pid, signal) };
}

/// This process.
pub(crate) fn own_pid() -> Pid {
    // SAFETY: no arguments.
    unsafe { libc::getpid() }
}

/// The calling thread.
pub(crate) fn own_thread() -> Pid {
    // SAFETY: no arguments.
    unsafe { libc::gettid() }
}

/// Milliseconds of the monotonic clock, as of the host's last tick; costs next to nothing.
pub(crate) fn coarse_milliseconds() -> u64 {
    let mut now = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `now` is valid for the host to write.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC_COARSE, &raw mut now) };
    now.tv_sec as u64 * 1000 + now.tv_nsec as u64 / 1_000_000
}

/// The CPU the calling thread runs on; a hint by the time it is used.
pub(crate) fn current_cpu() -> usize {
    // SAFETY: no arguments.
    usize::try_from(unsafe { libc::sched_getcpu() }).unwrap_or(0)
}

/// A set of CPUs.
#[derive(Clone, Copy)]
pub(crate) struct Cpus(libc::cpu_set_t);

impl Cpus {
    /// Those the calling thread may use.
    pub(crate) fn allowed() -> io::Result<Cpus> {
        // SAFETY: all zeros is an empty set.
        let mut set: libc::cpu_set_t = unsafe { core::mem::zeroed() };
        // SAFETY: `set` is valid for its size.
        check(unsafe { libc::sched_getaffinity(0, size_of_val(&set), &raw mut set) }.into())?;
        Ok(Cpus(set))
    }

    /// Just `cpu`.
    pub(crate) fn one(cpu: usize) -> Cpus {
        // SAFETY: all zeros is an empty set.
        let mut set: libc::cpu_set_t = unsafe { core::mem::zeroed() };
        if cpu < libc::CPU_SETSIZE as usize {
            // SAFETY: the index is inside the set.
            unsafe { libc::CPU_SET(cpu, &mut set) };
        }
        Cpus(set)
    }

    /// Whether `cpu` is among them.
    pub(crate) fn has(&self, cpu: usize) -> bool {
        // SAFETY: the index is inside the set.
        cpu < libc::CPU_SETSIZE as usize && unsafe { libc::CPU_ISSET(cpu, &self.0) }
    }

    /// One past the highest of them.
    pub(crate) fn end(&self) -> usize {
        (0..libc::CPU_SETSIZE as usize)
            .rev()
            .find(|&cpu| self.has(cpu))
            .map_or(0, |last| last + 1)
    }

    /// Lets `pid` (0: the calling thread) run on these CPUs only.
    pub(crate) fn bind(&self, pid: Pid) -> io::Result<()> {
        // SAFETY: the set is valid for its size.
        check(
            unsafe { libc::sched_setaffinity(pid, size_of_val(&self.0), &raw const self.0) }.into(),
        )
        .map(drop)
    }
}

/// Stops make no `SIGCHLD`: nobody reads it, and making it costs.
pub(crate) fn ignore_child_stops() -> io::Result<()> {
    // SAFETY: all zeros is SIG_DFL with an empty mask.
    let mut action: libc::sigaction = unsafe { core::mem::zeroed() };
    action.sa_flags = libc::SA_NOCLDSTOP;
    // SAFETY: installs a disposition, no handler of ours.
    check(
        unsafe { libc::sigaction(libc::SIGCHLD, &raw const action, core::ptr::null_mut()) }.into(),
    )
    .map(drop)
}
