//! The stub's code: position-independent, uses no stack, keeps its state in registers.
//!
//! It runs on its own only before a tracer has taken the stub, and when a tracer has pointed the
//! registers at one of its entries. When the *guest* jumps here it runs under `PTRACE_SYSEMU` like
//! all guest code, so that no call in it is executed by the host.

use crate::layout::{BATCH_ADDR, BATCH_LEN, STUB_BASE, STUB_END, USER_END};

core::arch::global_asm!(
    // Read-only data of ours: executable only as a copy, in a stub.
    ".pushsection .rodata.ringfence_stub, \"a\", @progbits",
    ".globl ringfence_stub_begin",
    ".globl ringfence_stub_init",
    ".globl ringfence_stub_park",
    ".globl ringfence_stub_waiting",
    ".globl ringfence_stub_parked",
    ".globl ringfence_stub_spawn",
    ".globl ringfence_stub_batch",
    ".globl ringfence_stub_bases",
    ".globl ringfence_stub_end",
    ".hidden ringfence_stub_begin",
    ".hidden ringfence_stub_init",
    ".hidden ringfence_stub_park",
    ".hidden ringfence_stub_waiting",
    ".hidden ringfence_stub_parked",
    ".hidden ringfence_stub_spawn",
    ".hidden ringfence_stub_batch",
    ".hidden ringfence_stub_bases",
    ".hidden ringfence_stub_end",
    "ringfence_stub_begin:",
    // The template comes here with everything of its parent still mapped.
    "ringfence_stub_init:",
    "mov eax, {sys_munmap}",
    "movabs rdi, {stub_end}",
    "mov rsi, {above}",
    "syscall",
    "mov edi, 101",
    "test rax, rax",
    "jnz 9f",
    // A new stub. r12: the sandbox process; r13, r14: offset and descriptor of its batch pages
    // (descriptor negative: they are its maker's); r15: whether to unmap all that is the guest's.
    "2:",
    "mov eax, {sys_prctl}",
    "mov edi, {pdeathsig}",
    "mov esi, {sigkill}",
    "syscall",
    // The parent may have died before the call above.
    "mov eax, {sys_getppid}",
    "syscall",
    "mov edi, 102",
    "cmp eax, r12d",
    "jne 9f",
    "test r15, r15",
    "jz 3f",
    "mov eax, {sys_munmap}",
    "xor edi, edi",
    "movabs rsi, {stub_base}",
    "syscall",
    "mov edi, 103",
    "test rax, rax",
    "jnz 9f",
    "3:",
    "test r14d, r14d",
    "js ringfence_stub_park",
    "mov eax, {sys_mmap}",
    "movabs rdi, {batch}",
    "mov esi, {batch_len}",
    "mov edx, {prot_read}",
    "mov r10d, {shared_fixed}",
    "mov r8, r14",
    "mov r9, r13",
    "syscall",
    "movabs rdx, {batch}",
    "mov edi, 104",
    "cmp rax, rdx",
    "jne 9f",
    // Waits to be taken by a tracer. At the first call the filter stops a stub that was taken on
    // its way here; one that nobody traces gets ENOSYS from it and goes on.
    "ringfence_stub_park:",
    "mov eax, {sys_getpid}",
    "syscall",
    "ringfence_stub_waiting:",
    "mov eax, {sys_pause}",
    "syscall",
    "ringfence_stub_parked:",
    "jmp ringfence_stub_park",
    "9:",
    "mov eax, {sys_exit_group}",
    "syscall",
    "hlt",
    // Injected: clone with the arguments in place. The maker stops with the answer in rax.
    "ringfence_stub_spawn:",
    "syscall",
    "test rax, rax",
    "jz 2b",
    "int3",
    // Injected: r12 operations at rbx. Stops with r12 left and rax the answer of the last call.
    "ringfence_stub_batch:",
    "4:",
    "test r12, r12",
    "jz 5f",
    "mov rax, [rbx]",
    "mov rdi, [rbx + 8]",
    "mov rsi, [rbx + 16]",
    "mov rdx, [rbx + 24]",
    "mov r10, [rbx + 32]",
    "mov r8, [rbx + 40]",
    "mov r9, [rbx + 48]",
    "syscall",
    "cmp rax, -4095",
    "jae 5f",
    "add rbx, 64",
    "dec r12",
    "jmp 4b",
    "5:",
    "int3",
    // Injected: segment bases that the host's call refuses but the CPU takes.
    "ringfence_stub_bases:",
    "wrfsbase rax",
    "wrgsbase rbx",
    "int3",
    "ringfence_stub_end:",
    ".popsection",
    sys_munmap = const libc::SYS_munmap,
    sys_prctl = const libc::SYS_prctl,
    sys_getppid = const libc::SYS_getppid,
    sys_mmap = const libc::SYS_mmap,
    sys_getpid = const libc::SYS_getpid,
    sys_pause = const libc::SYS_pause,
    sys_exit_group = const libc::SYS_exit_group,
    pdeathsig = const libc::PR_SET_PDEATHSIG,
    sigkill = const libc::SIGKILL,
    prot_read = const libc::PROT_READ,
    shared_fixed = const libc::MAP_SHARED | libc::MAP_FIXED,
    stub_base = const STUB_BASE,
    stub_end = const STUB_END,
    above = const USER_END - STUB_END,
    batch = const BATCH_ADDR,
    batch_len = const BATCH_LEN,
);

// SAFETY: labels of the block above; only their addresses and the bytes between begin and end
// are used.
unsafe extern "C" {
    safe static ringfence_stub_begin: u8;
    safe static ringfence_stub_init: u8;
    safe static ringfence_stub_park: u8;
    safe static ringfence_stub_waiting: u8;
    safe static ringfence_stub_parked: u8;
    safe static ringfence_stub_spawn: u8;
    safe static ringfence_stub_batch: u8;
    safe static ringfence_stub_bases: u8;
    safe static ringfence_stub_end: u8;
}

/// Addresses of the stub's entries, as the stub has them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entries {
    /// The template's first instruction after the jump.
    pub(crate) init: u64,
    /// The waiting loop.
    pub(crate) park: u64,
    /// In it: behind the call that stops those who are traced already.
    pub(crate) waiting: u64,
    /// Behind the waiting loop's call.
    pub(crate) parked: u64,
    /// Clone.
    pub(crate) spawn: u64,
    /// Runs a batch.
    pub(crate) batch: u64,
    /// Sets segment bases.
    pub(crate) bases: u64,
}

/// The bytes to copy to [`STUB_BASE`].
pub(crate) fn code() -> &'static [u8] {
    let begin = &raw const ringfence_stub_begin;
    let len = (&raw const ringfence_stub_end).addr() - begin.addr();
    // SAFETY: both labels delimit one run of read-only bytes of this binary.
    unsafe { core::slice::from_raw_parts(begin, len) }
}

/// Where the entries are once the code lies at [`STUB_BASE`].
pub(crate) fn entries() -> Entries {
    let begin = (&raw const ringfence_stub_begin).addr();
    let at = |label: *const u8| STUB_BASE + (label.addr() - begin) as u64;
    Entries {
        init: at(&raw const ringfence_stub_init),
        park: at(&raw const ringfence_stub_park),
        waiting: at(&raw const ringfence_stub_waiting),
        parked: at(&raw const ringfence_stub_parked),
        spawn: at(&raw const ringfence_stub_spawn),
        batch: at(&raw const ringfence_stub_batch),
        bases: at(&raw const ringfence_stub_bases),
    }
}
