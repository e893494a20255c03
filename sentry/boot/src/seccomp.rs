//! Which host system calls the sentry makes, and the installing of the filter made from them.
//!
//! The launcher compiles the list together with the platform's own; what is not on it kills the
//! process. No rule allows a mapping to become executable, a program to be started, a file to be
//! opened by name, or a socket to be made.

use crate::error::BootError;
use platform_api::{ArgCheck, HostRule};
use seccompiler::sock_filter;

const READ_WRITE: u64 = (libc::PROT_READ | libc::PROT_WRITE) as u64;
/// What pthread_create asks of clone, here and in every C library so far.
const THREAD: u32 = (libc::CLONE_VM
    | libc::CLONE_FS
    | libc::CLONE_FILES
    | libc::CLONE_SIGHAND
    | libc::CLONE_THREAD
    | libc::CLONE_SYSVSEM
    | libc::CLONE_SETTLS
    | libc::CLONE_PARENT_SETTID
    | libc::CLONE_CHILD_CLEARTID) as u32;

/// Calls whose arguments are the sentry's to choose: they act on descriptors it holds, on its own
/// memory, or on nothing but time.
const PLAIN: &[i64] = &[
    // Donated files and the memory file.
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_readv,
    libc::SYS_writev,
    libc::SYS_pread64,
    libc::SYS_pwrite64,
    libc::SYS_preadv,
    libc::SYS_pwritev,
    libc::SYS_preadv2,
    libc::SYS_pwritev2,
    libc::SYS_lseek,
    libc::SYS_fstat,
    libc::SYS_close,
    libc::SYS_ftruncate,
    libc::SYS_fallocate,
    libc::SYS_fsync,
    libc::SYS_fdatasync,
    libc::SYS_memfd_create,
    // Waiting for descriptors.
    libc::SYS_poll,
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_wait,
    libc::SYS_eventfd2,
    // Connections that are there: control, gofer.
    libc::SYS_accept4,
    libc::SYS_sendmsg,
    libc::SYS_recvmsg,
    // Memory.
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_brk,
    // Threads and signals.
    libc::SYS_futex,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigtimedwait,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    libc::SYS_restart_syscall,
    libc::SYS_set_robust_list,
    libc::SYS_rseq,
    libc::SYS_gettid,
    libc::SYS_getpid,
    libc::SYS_sched_yield,
    libc::SYS_sched_getaffinity,
    libc::SYS_getcpu,
    libc::SYS_exit,
    libc::SYS_exit_group,
    // Time and what the machine is.
    libc::SYS_clock_gettime,
    libc::SYS_clock_getres,
    libc::SYS_clock_nanosleep,
    libc::SYS_getrandom,
    libc::SYS_sysinfo,
];

/// Requests on terminals and other donated descriptors: none that changes anything. `TIOCSTI` would
/// type on the terminal of whoever called us, `TCSETS` change its settings.
const IOCTLS: &[u64] = &[libc::TIOCGWINSZ, libc::FIONREAD];

/// `F_SETFL` is not among them: an open file description is shared with whoever donated it.
const FCNTLS: &[i32] = &[
    libc::F_DUPFD_CLOEXEC,
    libc::F_GETFD,
    libc::F_SETFD,
    libc::F_GETFL,
];

/// The host calls the sentry makes after boot.
pub fn sentry_rules() -> Vec<HostRule> {
    let mut rules: Vec<HostRule> = PLAIN.iter().map(|&call| HostRule::any(call)).collect();
    rules.extend(IOCTLS.iter().map(|&request| {
        HostRule::with(
            libc::SYS_ioctl,
            &[ArgCheck::Dword {
                arg: 1,
                value: request as u32,
            }],
        )
    }));
    rules.extend(FCNTLS.iter().map(|&command| {
        HostRule::with(
            libc::SYS_fcntl,
            &[ArgCheck::Dword {
                arg: 1,
                value: command as u32,
            }],
        )
    }));
    let not_executable = |arg| ArgCheck::Within {
        arg,
        mask: READ_WRITE,
    };
    rules.extend([
        HostRule::with(libc::SYS_mmap, &[not_executable(2)]),
        HostRule::with(libc::SYS_mprotect, &[not_executable(2)]),
        HostRule::with(
            libc::SYS_clone,
            &[ArgCheck::Dword {
                arg: 0,
                value: THREAD,
            }],
        ),
        // Reading limits, not setting them.
        HostRule::with(libc::SYS_prlimit64, &[ArgCheck::Qword { arg: 2, value: 0 }]),
        HostRule::with(
            libc::SYS_prctl,
            &[ArgCheck::Dword {
                arg: 0,
                value: libc::PR_SET_NAME as u32,
            }],
        ),
        // The C library names its heaps.
        HostRule::with(
            libc::SYS_prctl,
            &[ArgCheck::Dword {
                arg: 0,
                value: libc::PR_SET_VMA as u32,
            }],
        ),
        // For a report of stacks: a thread is asked for its own.
        HostRule::with(
            libc::SYS_tgkill,
            &[ArgCheck::Dword {
                arg: 2,
                value: control::debug::STACK_SIGNAL as u32,
            }],
        ),
        // By descriptor alone: the empty root has no names anyway.
        HostRule::with(
            libc::SYS_newfstatat,
            &[ArgCheck::Dword {
                arg: 3,
                value: libc::AT_EMPTY_PATH as u32,
            }],
        ),
        HostRule::with(
            libc::SYS_statx,
            &[ArgCheck::Dword {
                arg: 2,
                value: libc::AT_EMPTY_PATH as u32,
            }],
        ),
    ]);
    rules
}

/// Those that it makes beside, to profile itself, in sandboxes that were created for that: timers
/// on threads' CPU clocks. Whom they signal stands in memory, where a filter cannot see it; the host
/// lets them signal this process alone.
pub fn profile_rules() -> Vec<HostRule> {
    let calls = [
        libc::SYS_timer_create,
        libc::SYS_timer_settime,
        libc::SYS_timer_delete,
    ];
    calls.map(HostRule::any).to_vec()
}

/// Installs a compiled filter (`struct sock_filter` bytes) on this, the only, thread.
pub(crate) fn install(program: &[u8]) -> Result<(), BootError> {
    if program.is_empty() {
        return Err(BootError::Filter("the launcher sent none".to_owned()));
    }
    if !program.len().is_multiple_of(8) {
        return Err(BootError::Filter(format!(
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
    seccompiler::apply_filter(&program).map_err(|e| BootError::Filter(e.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_rule_stands_twice() {
        let mut rules = sentry_rules();
        rules.extend(profile_rules());
        for (i, rule) in rules.iter().enumerate() {
            assert!(!rules[..i].contains(rule), "{rule:?}");
        }
    }

    #[test]
    fn what_the_caller_shares_with_us_is_not_changed() {
        let rules = sentry_rules();
        let second = |call| {
            let of = |r: &platform_api::HostRule| match r.checks.as_slice() {
                [ArgCheck::Dword { arg: 1, value }] => *value,
                other => panic!("{call}: {other:?}"),
            };
            let values: Vec<u32> = rules.iter().filter(|r| r.call == call).map(of).collect();
            values
        };
        for request in [
            libc::TIOCSTI,
            libc::TCSETS,
            libc::TIOCSWINSZ,
            libc::TIOCSCTTY,
        ] {
            assert!(!second(libc::SYS_ioctl).contains(&(request as u32)));
        }
        for command in [
            libc::F_SETFL,
            libc::F_SETOWN,
            libc::F_SETLEASE,
            libc::F_NOTIFY,
        ] {
            assert!(!second(libc::SYS_fcntl).contains(&(command as u32)));
        }
    }

    #[test]
    fn nothing_is_allowed_that_opens_runs_or_connects() {
        let rules = sentry_rules();
        let never = [
            libc::SYS_open,
            libc::SYS_openat,
            libc::SYS_openat2,
            libc::SYS_execve,
            libc::SYS_execveat,
            libc::SYS_socket,
            libc::SYS_connect,
            libc::SYS_bind,
            libc::SYS_listen,
            libc::SYS_sendto,
            libc::SYS_process_vm_readv,
            libc::SYS_process_vm_writev,
            libc::SYS_pidfd_getfd,
            libc::SYS_keyctl,
            libc::SYS_seccomp,
            libc::SYS_userfaultfd,
            libc::SYS_perf_event_open,
            libc::SYS_fork,
            libc::SYS_vfork,
            libc::SYS_clone3,
            libc::SYS_mount,
            libc::SYS_setns,
            libc::SYS_unshare,
            libc::SYS_bpf,
            libc::SYS_io_uring_setup,
        ];
        assert!(!rules.iter().any(|r| never.contains(&r.call)));
        for rule in rules
            .iter()
            .filter(|r| [libc::SYS_mmap, libc::SYS_mprotect].contains(&r.call))
        {
            assert_eq!(
                rule.checks,
                [ArgCheck::Within {
                    arg: 2,
                    mask: READ_WRITE
                }]
            );
        }
    }
}
