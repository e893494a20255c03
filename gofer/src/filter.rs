//! The filter over the gofer's own system calls.
//!
//! It allows what [`crate::tree`] does with descriptors, and no mapping that can be executed, no
//! program, no socket, no process and no way to other processes. What it cannot see is where a
//! path leads: `openat2`'s policy lies in memory. The empty root and the capabilities bound that.

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch, sock_filter,
};
use std::collections::BTreeMap;

/// A filter that cannot be compiled or installed.
#[derive(Debug, thiserror::Error)]
#[error("cannot set the gofer's system call filter up: {0}")]
pub struct FilterError(String);

fn failed(e: impl ToString) -> FilterError {
    FilterError(e.to_string())
}

/// Any arguments.
const PLAIN: &[i64] = &[
    // Connections and the log.
    libc::SYS_recvmsg,
    libc::SYS_sendmsg,
    libc::SYS_poll,
    libc::SYS_write,
    libc::SYS_close,
    // Files.
    libc::SYS_openat2,
    libc::SYS_statx,
    libc::SYS_newfstatat,
    libc::SYS_fstat,
    libc::SYS_fstatfs,
    libc::SYS_getdents64,
    libc::SYS_lseek,
    libc::SYS_readlinkat,
    libc::SYS_mkdirat,
    libc::SYS_symlinkat,
    libc::SYS_linkat,
    libc::SYS_unlinkat,
    // The C library makes the first of these where there are no flags.
    libc::SYS_renameat,
    libc::SYS_renameat2,
    libc::SYS_ftruncate,
    libc::SYS_fchownat,
    libc::SYS_fchmodat,
    libc::SYS_utimensat,
    libc::SYS_fsync,
    libc::SYS_getxattr,
    libc::SYS_setxattr,
    libc::SYS_listxattr,
    libc::SYS_removexattr,
    // Memory, signals, the end.
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_brk,
    libc::SYS_futex,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    libc::SYS_restart_syscall,
    libc::SYS_getrandom,
    libc::SYS_clock_gettime,
    libc::SYS_getpid,
    libc::SYS_exit,
    libc::SYS_exit_group,
];

fn condition(arg: u8, op: SeccompCmpOp, value: u64) -> Result<SeccompCondition, FilterError> {
    SeccompCondition::new(arg, SeccompCmpArgLen::Qword, op, value).map_err(failed)
}

/// The filter as `struct sock_filter` bytes.
pub fn compile() -> Result<Vec<u8>, FilterError> {
    let mut calls: BTreeMap<i64, Vec<SeccompRule>> =
        PLAIN.iter().map(|&call| (call, Vec::new())).collect();
    let mut allow = |call: i64, condition: SeccompCondition| {
        let rule = SeccompRule::new(vec![condition]).map_err(failed)?;
        calls.entry(call).or_default().push(rule);
        Ok::<(), FilterError>(())
    };
    // Memory is never executable.
    let not = |bits: i32| !(bits as u64);
    let data = not(libc::PROT_READ | libc::PROT_WRITE);
    for call in [libc::SYS_mmap, libc::SYS_mprotect] {
        allow(call, condition(2, SeccompCmpOp::MaskedEq(data), 0)?)?;
    }
    // Once more through a magic link: never creating.
    let access = libc::O_ACCMODE | libc::O_APPEND | libc::O_CLOEXEC | libc::O_NOCTTY;
    allow(
        libc::SYS_openat,
        condition(2, SeccompCmpOp::MaskedEq(not(access)), 0)?,
    )?;
    // Never leases, locks or owners.
    for command in [libc::F_DUPFD_CLOEXEC, libc::F_GETFD] {
        let is = SeccompCondition::new(
            1,
            SeccompCmpArgLen::Dword,
            SeccompCmpOp::Eq,
            command.cast_unsigned().into(),
        );
        allow(libc::SYS_fcntl, is.map_err(failed)?)?;
    }
    // The C library names its heaps.
    let naming = libc::PR_SET_VMA as u64;
    allow(libc::SYS_prctl, condition(0, SeccompCmpOp::Eq, naming)?)?;
    // FIFOs and sockets; never devices.
    for kind in [libc::S_IFIFO, libc::S_IFSOCK] {
        let format = SeccompCmpOp::MaskedEq(libc::S_IFMT.into());
        allow(libc::SYS_mknodat, condition(2, format, kind.into())?)?;
    }
    let kill = SeccompAction::KillProcess;
    let filter = SeccompFilter::new(calls, kill, SeccompAction::Allow, TargetArch::x86_64)
        .map_err(failed)?;
    let program = BpfProgram::try_from(filter).map_err(failed)?;
    let mut bytes = Vec::with_capacity(8 * program.len());
    for i in &program {
        bytes.extend(i.code.to_ne_bytes());
        bytes.extend([i.jt, i.jf]);
        bytes.extend(i.k.to_ne_bytes());
    }
    Ok(bytes)
}

/// Installs a compiled filter on this, the only, thread.
pub(crate) fn install(program: &[u8]) -> Result<(), FilterError> {
    if !program.len().is_multiple_of(8) {
        return Err(FilterError(format!(
            "{} bytes are no program",
            program.len()
        )));
    }
    let program: Vec<sock_filter> = program
        .chunks_exact(8)
        .map(|b| sock_filter {
            code: u16::from_ne_bytes([b[0], b[1]]),
            jt: b[2],
            jf: b[3],
            k: u32::from_ne_bytes([b[4], b[5], b[6], b[7]]),
        })
        .collect();
    seccompiler::apply_filter(&program).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_compiles_and_names_nothing_twice() {
        assert!(compile().unwrap().len() > 8 * PLAIN.len());
        for (i, call) in PLAIN.iter().enumerate() {
            assert!(!PLAIN[..i].contains(call), "{call}");
        }
    }
}
