//! The host calls this platform makes after the sentry's filter is on.

use crate::layout::KICK;
use platform_api::{ArgCheck, HostRule};

/// Requests the tracer makes.
const REQUESTS: [libc::c_uint; 12] = [
    libc::PTRACE_SYSEMU,
    libc::PTRACE_CONT,
    libc::PTRACE_GETREGS,
    libc::PTRACE_SETREGS,
    libc::PTRACE_GETREGSET,
    libc::PTRACE_SETREGSET,
    libc::PTRACE_GETSIGINFO,
    libc::PTRACE_PEEKTEXT,
    libc::PTRACE_SEIZE,
    libc::PTRACE_INTERRUPT,
    libc::PTRACE_DETACH,
    libc::PTRACE_GET_SYSCALL_INFO,
];

/// See [`platform_api::Platform::host_rules`].
pub(crate) fn rules() -> Vec<HostRule> {
    let first = |value: u32| ArgCheck::Dword { arg: 0, value };
    let second = |value: i32| ArgCheck::Dword {
        arg: 1,
        value: value as u32,
    };
    let mut rules: Vec<_> = REQUESTS
        .iter()
        .map(|r| HostRule::with(libc::SYS_ptrace, &[first(*r)]))
        .collect();
    let all = ArgCheck::Dword {
        arg: 2,
        value: libc::__WALL as u32,
    };
    rules.push(HostRule::with(libc::SYS_wait4, &[all]));
    rules.push(HostRule::with(libc::SYS_kill, &[second(libc::SIGKILL)]));
    rules.push(HostRule::with(libc::SYS_kill, &[second(KICK)]));
    rules.push(HostRule::any(libc::SYS_sched_setaffinity));
    rules.push(HostRule::any(libc::SYS_getcpu));
    rules.push(HostRule::any(libc::SYS_gettid));
    rules.push(HostRule::any(libc::SYS_clock_gettime));
    // Locks.
    rules.push(HostRule::any(libc::SYS_futex));
    rules.push(HostRule::any(libc::SYS_sched_yield));
    rules
}
