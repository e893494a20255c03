//! General registers, in the layout of `struct user_regs_struct` (ptrace's `PTRACE_GETREGS`).

/// The general registers, instruction pointer, flags, segments and bases of a guest thread.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
#[expect(missing_docs, reason = "the fields are the CPU's own names")]
pub struct Registers {
    pub r15: u64,
    pub r14: u64,
    pub r13: u64,
    pub r12: u64,
    pub rbp: u64,
    pub rbx: u64,
    pub r11: u64,
    pub r10: u64,
    pub r9: u64,
    pub r8: u64,
    pub rax: u64,
    pub rcx: u64,
    pub rdx: u64,
    pub rsi: u64,
    pub rdi: u64,
    /// The system call number at an [`crate::Exit::Syscall`].
    pub orig_rax: u64,
    pub rip: u64,
    pub cs: u64,
    pub eflags: u64,
    pub rsp: u64,
    pub ss: u64,
    pub fs_base: u64,
    pub gs_base: u64,
    pub ds: u64,
    pub es: u64,
    pub fs: u64,
    pub gs: u64,
}

impl Registers {
    /// Registers as a fresh 64-bit program has them, but for `rip` and `rsp`.
    pub fn user() -> Registers {
        Registers {
            cs: 0x33,
            ss: 0x2b,
            eflags: 0x202,
            orig_rax: u64::MAX,
            ..Registers::default()
        }
    }

    /// The six arguments of a system call.
    pub fn args(&self) -> [u64; 6] {
        [self.rdi, self.rsi, self.rdx, self.r10, self.r8, self.r9]
    }
}
