//! The stubs' own seccomp filter.
//!
//! Guest code runs under `PTRACE_SYSEMU`, where no call is executed; the filter is what remains
//! when that is not enough. The vsyscall page is: the host runs its three calls without a stop,
//! but asks the filter first, which traps them. Otherwise only the calls of the stub's code, made
//! *from* the stub's code page, pass.

use crate::layout::{CLONE_SPACE_STUB, CLONE_THREAD_STUB, CODE_LEN, STUB_BASE};
use libc::sock_filter;

const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
const JEQ: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
const AND: u16 = (libc::BPF_ALU | libc::BPF_AND | libc::BPF_K) as u16;
const RET: u16 = (libc::BPF_RET | libc::BPF_K) as u16;

/// Offsets in `struct seccomp_data`.
const NR: u32 = 0;
const ARCH: u32 = 4;
const IP_LOW: u32 = 8;
const IP_HIGH: u32 = 12;
const ARG0: u32 = 16;

/// `AUDIT_ARCH_X86_64`
pub(crate) const ARCH_X86_64: u32 = 0xc000_003e;

fn op(code: u16, k: u32, jt: u8, jf: u8) -> sock_filter {
    sock_filter { code, jt, jf, k }
}

/// Goes on when the accumulator is `k`, else traps.
fn require(program: &mut Vec<sock_filter>, k: u32) {
    program.push(op(JEQ, k, 1, 0));
    program.push(op(RET, libc::SECCOMP_RET_TRAP, 0, 0));
}

/// The program.
pub(crate) fn program() -> Vec<sock_filter> {
    let mut p = Vec::new();
    p.push(op(LOAD, ARCH, 0, 0));
    require(&mut p, ARCH_X86_64);
    p.push(op(LOAD, IP_HIGH, 0, 0));
    require(&mut p, (STUB_BASE >> 32) as u32);
    p.push(op(LOAD, IP_LOW, 0, 0));
    p.push(op(AND, !(CODE_LEN as u32 - 1), 0, 0));
    require(&mut p, STUB_BASE as u32);

    let plain = [
        libc::SYS_mmap,
        libc::SYS_munmap,
        libc::SYS_mprotect,
        libc::SYS_pause,
        libc::SYS_restart_syscall,
        libc::SYS_getppid,
        libc::SYS_exit_group,
    ];
    for call in plain {
        p.push(op(LOAD, NR, 0, 0));
        p.push(op(JEQ, call as u32, 0, 1));
        p.push(op(RET, libc::SECCOMP_RET_ALLOW, 0, 0));
    }
    // Stops a stub that is traced when it comes to its waiting loop.
    p.push(op(LOAD, NR, 0, 0));
    p.push(op(JEQ, libc::SYS_getpid as u32, 0, 1));
    p.push(op(RET, libc::SECCOMP_RET_TRACE, 0, 0));
    // Calls whose first argument must be one of a few.
    let first = [
        (libc::SYS_clone, CLONE_THREAD_STUB as u32),
        (libc::SYS_clone, CLONE_SPACE_STUB as u32),
        (libc::SYS_prctl, libc::PR_SET_PDEATHSIG as u32),
    ];
    for (call, arg) in first {
        p.push(op(LOAD, NR, 0, 0));
        p.push(op(JEQ, call as u32, 0, 3));
        p.push(op(LOAD, ARG0, 0, 0));
        p.push(op(JEQ, arg, 0, 1));
        p.push(op(RET, libc::SECCOMP_RET_ALLOW, 0, 0));
    }
    p.push(op(RET, libc::SECCOMP_RET_TRAP, 0, 0));
    p
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs the program on one call, as the host would.
    fn verdict(nr: i64, arch: u32, ip: u64, arg0: u64) -> u32 {
        let word = |offset: u32| match offset {
            NR => nr as u32,
            ARCH => arch,
            IP_LOW => ip as u32,
            IP_HIGH => (ip >> 32) as u32,
            ARG0 => arg0 as u32,
            _ => 0,
        };
        let program = program();
        let (mut pc, mut acc) = (0usize, 0u32);
        loop {
            let i = program[pc];
            pc += 1;
            match i.code {
                LOAD => acc = word(i.k),
                AND => acc &= i.k,
                JEQ => pc += usize::from(if acc == i.k { i.jt } else { i.jf }),
                _ => return i.k,
            }
        }
    }

    #[test]
    fn only_the_stubs_calls_from_the_stubs_code_pass() {
        let inside = STUB_BASE + 0x20;
        let ok = libc::SECCOMP_RET_ALLOW;
        let no = libc::SECCOMP_RET_TRAP;
        assert_eq!(verdict(libc::SYS_mmap, ARCH_X86_64, inside, 0), ok);
        assert_eq!(
            verdict(libc::SYS_clone, ARCH_X86_64, inside, CLONE_SPACE_STUB),
            ok
        );
        assert_eq!(verdict(libc::SYS_clone, ARCH_X86_64, inside, 0), no);
        assert_eq!(verdict(libc::SYS_prctl, ARCH_X86_64, inside, 4), no);
        assert_eq!(verdict(libc::SYS_execve, ARCH_X86_64, inside, 0), no);
        assert_eq!(
            verdict(libc::SYS_mmap, ARCH_X86_64, STUB_BASE + CODE_LEN, 0),
            no
        );
        assert_eq!(
            verdict(libc::SYS_mmap, ARCH_X86_64, inside & 0xffff_ffff, 0),
            no
        );
        assert_eq!(verdict(libc::SYS_mmap, 0x4000_0003, inside, 0), no);
        assert_eq!(
            verdict(libc::SYS_time, ARCH_X86_64, 0xffff_ffff_ff60_0400, 0),
            no
        );
    }
}
