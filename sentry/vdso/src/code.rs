//! The machine code of the vDSO, and the two instructions that the sentry itself needs.
//!
//! The code is data here: it lies in a read-only section and is copied into the image. It finds
//! its parameters at a fixed distance below itself ([`TEXT_OFFSET`] into the image, which stands
//! one page above them).
// UNSAFETY: reading the blob between two linker symbols, and `rdtsc`.
#![expect(
    unsafe_code,
    reason = "the blob is bounded by symbols of our own assembly"
)]

use std::arch::x86_64::{__cpuid, _rdtsc};
use std::sync::OnceLock;

/// Where the code stands in the image.
pub(crate) const TEXT_OFFSET: u64 = 0x800;

std::arch::global_asm!(
    ".pushsection .rodata.ringfence_vdso, \"a\", @progbits",
    ".balign 64",
    // Visible to other objects of this program (code and blob may be compiled apart), and no further.
    ".globl ringfence_vdso_begin",
    ".hidden ringfence_vdso_begin",
    ".globl ringfence_vdso_clock_gettime",
    ".hidden ringfence_vdso_clock_gettime",
    ".globl ringfence_vdso_gettimeofday",
    ".hidden ringfence_vdso_gettimeofday",
    ".globl ringfence_vdso_time",
    ".hidden ringfence_vdso_time",
    ".globl ringfence_vdso_getcpu",
    ".hidden ringfence_vdso_getcpu",
    ".globl ringfence_vdso_clock_getres",
    ".hidden ringfence_vdso_clock_getres",
    ".globl ringfence_vdso_end",
    ".hidden ringfence_vdso_end",
    "ringfence_vdso_begin:",
    // Time of clock r10d (0 to 7) in rax, carry clear; carry set: make the system call.
    // Layout of the parameters: see params.rs.
    "20:",
    "lea r8, [rip + ringfence_vdso_begin - {to_params}]",
    "21:",
    "mov r9d, dword ptr [r8]",
    "test r9d, 1",
    "jnz 29f",
    "cmp dword ptr [r8 + 4], 0",
    "je 29f",
    "lfence",
    "rdtsc",
    "shl rdx, 32",
    "or rax, rdx",
    "cmp rax, qword ptr [r8 + 16]",
    "ja 29f",
    "sub rax, qword ptr [r8 + 8]",
    "jb 29f",
    "mul qword ptr [r8 + 24]",
    "shrd rax, rdx, 32",
    "add rax, qword ptr [r8 + 32]",
    "add rax, qword ptr [r8 + r10 * 8 + 40]",
    "cmp r9d, dword ptr [r8]",
    "jne 21b",
    // Seconds in rax, nanoseconds in rdx.
    "xor edx, edx",
    "mov ecx, 1000000000",
    "div rcx",
    "clc",
    "ret",
    "29:",
    "stc",
    "ret",
    ".balign 16",
    "ringfence_vdso_clock_gettime:",
    "cmp edi, 7",
    "ja 31f",
    // Realtime, monotonic, their coarse kin, boottime.
    "mov ecx, 0xe3",
    "bt ecx, edi",
    "jnc 31f",
    "mov r10d, edi",
    "call 20b",
    "jc 31f",
    "mov qword ptr [rsi], rax",
    "mov qword ptr [rsi + 8], rdx",
    "xor eax, eax",
    "ret",
    "31:",
    "mov eax, 228",
    "syscall",
    "ret",
    ".balign 16",
    "ringfence_vdso_gettimeofday:",
    "test rdi, rdi",
    "jz 41f",
    "test rsi, rsi",
    "jnz 41f",
    "xor r10d, r10d",
    "call 20b",
    "jc 41f",
    "mov qword ptr [rdi], rax",
    "mov eax, edx",
    "xor edx, edx",
    "mov ecx, 1000",
    "div ecx",
    "mov qword ptr [rdi + 8], rax",
    "xor eax, eax",
    "ret",
    "41:",
    "mov eax, 96",
    "syscall",
    "ret",
    ".balign 16",
    "ringfence_vdso_time:",
    "xor r10d, r10d",
    "call 20b",
    "jc 51f",
    "test rdi, rdi",
    "jz 52f",
    "mov qword ptr [rdi], rax",
    "52:",
    "ret",
    "51:",
    "mov eax, 201",
    "syscall",
    "ret",
    ".balign 16",
    "ringfence_vdso_getcpu:",
    "lea r8, [rip + ringfence_vdso_begin - {to_params}]",
    "mov r9d, dword ptr [r8 + {cpus}]",
    "test r9d, r9d",
    "jz 61f",
    "rdtscp",
    "mov eax, ecx",
    "and eax, 0xfff",
    "xor edx, edx",
    "div r9d",
    "test rdi, rdi",
    "jz 62f",
    "mov dword ptr [rdi], edx",
    "62:",
    "test rsi, rsi",
    "jz 63f",
    "mov dword ptr [rsi], 0",
    "63:",
    "xor eax, eax",
    "ret",
    "61:",
    "mov eax, 309",
    "syscall",
    "ret",
    ".balign 16",
    "ringfence_vdso_clock_getres:",
    "mov eax, 229",
    "syscall",
    "ret",
    "ringfence_vdso_end:",
    ".popsection",
    to_params = const TEXT_OFFSET + crate::PARAMS_BELOW,
    cpus = const crate::params::CPUS_OFFSET,
);

unsafe extern "C" {
    static ringfence_vdso_begin: u8;
    static ringfence_vdso_clock_gettime: u8;
    static ringfence_vdso_gettimeofday: u8;
    static ringfence_vdso_time: u8;
    static ringfence_vdso_getcpu: u8;
    static ringfence_vdso_clock_getres: u8;
    static ringfence_vdso_end: u8;
}

/// The code.
pub(crate) fn text() -> &'static [u8] {
    // SAFETY: the two symbols bound one read-only section fragment of our own, whose bytes are
    // initialised and live for ever.
    unsafe {
        let start = &raw const ringfence_vdso_begin;
        let end = &raw const ringfence_vdso_end;
        std::slice::from_raw_parts(start, end.addr() - start.addr())
    }
}

/// Each function's name, offset into [`text`] and length.
pub(crate) fn functions() -> [(&'static str, u64, u64); 5] {
    let start = (&raw const ringfence_vdso_begin).addr();
    let at = |p: *const u8| (p.addr() - start) as u64;
    let gettime = at(&raw const ringfence_vdso_clock_gettime);
    let day = at(&raw const ringfence_vdso_gettimeofday);
    let time = at(&raw const ringfence_vdso_time);
    let cpu = at(&raw const ringfence_vdso_getcpu);
    let res = at(&raw const ringfence_vdso_clock_getres);
    let end = at(&raw const ringfence_vdso_end);
    [
        ("__vdso_clock_gettime", gettime, day - gettime),
        ("__vdso_gettimeofday", day, time - day),
        ("__vdso_time", time, cpu - time),
        ("__vdso_getcpu", cpu, res - cpu),
        ("__vdso_clock_getres", res, end - res),
    ]
}

/// Whether the counter is the same everywhere and always, and `rdtscp` is there.
pub(crate) fn invariant() -> bool {
    static ANSWER: OnceLock<bool> = OnceLock::new();
    *ANSWER.get_or_init(|| {
        let highest = __cpuid(0x8000_0000).eax;
        highest >= 0x8000_0007
            && __cpuid(0x8000_0007).edx & 1 << 8 != 0
            && __cpuid(0x8000_0001).edx & 1 << 27 != 0
    })
}

/// The counter.
pub(crate) fn read_tsc() -> u64 {
    // SAFETY: reading the counter has no effect; hosts where it faults (`PR_SET_TSC`) do not
    // run us.
    unsafe { _rdtsc() }
}

#[cfg(test)]
pub(crate) mod run {
    //! Runs the code against parameters of the test's choice.

    use nix::sys::mman::{MapFlags, MmapAdvise, ProtFlags, madvise, mmap_anonymous};
    use std::num::NonZeroUsize;

    /// A mapped copy of parameters and image.
    pub(crate) struct Mapped(*mut u8);

    impl Mapped {
        pub(crate) fn new(params: &[u8]) -> Mapped {
            let image = crate::image();
            let len = NonZeroUsize::new(4096 + image.len()).unwrap();
            let prot = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE | ProtFlags::PROT_EXEC;
            // SAFETY: a fresh anonymous mapping, filled within its length.
            unsafe {
                let at = mmap_anonymous(None, len, prot, MapFlags::MAP_PRIVATE).unwrap();
                let _ = madvise(at, len.get(), MmapAdvise::MADV_NORMAL);
                let at = at.cast::<u8>().as_ptr();
                at.copy_from_nonoverlapping(params.as_ptr(), params.len());
                at.add(4096)
                    .copy_from_nonoverlapping(image.as_ptr(), image.len());
                Mapped(at)
            }
        }

        pub(crate) fn clock_gettime(&self, offset: u64, clock: i32) -> (i64, [i64; 2]) {
            let mut ts = [0i64; 2];
            // SAFETY: `offset` is that of `__vdso_clock_gettime` in the image.
            let r = unsafe {
                let f: extern "C" fn(i32, *mut i64) -> i64 =
                    std::mem::transmute(self.0.add(4096 + offset as usize));
                f(clock, ts.as_mut_ptr())
            };
            (r, ts)
        }

        pub(crate) fn getcpu(&self, offset: u64) -> u32 {
            let mut cpu = u32::MAX;
            // SAFETY: `offset` is that of `__vdso_getcpu` in the image.
            unsafe {
                let f: extern "C" fn(*mut u32, *mut u32) -> i64 =
                    std::mem::transmute(self.0.add(4096 + offset as usize));
                f(&mut cpu, std::ptr::null_mut());
            }
            cpu
        }
    }
}
