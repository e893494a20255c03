//! Turning lists of host calls into a filter.

use platform_api::{ArgCheck, HostRule};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch, sock_filter,
};
use std::collections::BTreeMap;

/// A list that cannot be compiled: a fault in this program or in a platform.
#[derive(Debug, thiserror::Error)]
#[error("cannot compile the sandbox's system call filter: {0}")]
pub struct FilterError(String);

fn failed(error: impl ToString) -> FilterError {
    FilterError(error.to_string())
}

/// A filter that allows `rules` and kills the process on anything else; with `trap`, it gets
/// SIGSYS instead, so that it can say what it did.
pub(crate) fn compile(rules: &[HostRule], trap: bool) -> Result<Vec<u8>, FilterError> {
    let mut calls: BTreeMap<i64, Vec<SeccompRule>> = BTreeMap::new();
    for rule in rules {
        let forms = calls.entry(rule.call).or_default();
        if !rule.checks.is_empty() {
            let checks = rule
                .checks
                .iter()
                .map(condition)
                .collect::<Result<_, _>>()?;
            forms.push(SeccompRule::new(checks).map_err(failed)?);
        }
    }
    for rule in rules.iter().filter(|r| r.checks.is_empty()) {
        // An empty list allows any arguments, whatever other rules say.
        calls.insert(rule.call, Vec::new());
    }
    let refusal = if trap {
        SeccompAction::Trap
    } else {
        SeccompAction::KillProcess
    };
    let filter = SeccompFilter::new(calls, refusal, SeccompAction::Allow, TargetArch::x86_64)
        .map_err(failed)?;
    let program = BpfProgram::try_from(filter).map_err(failed)?;
    let head = answered();
    let mut bytes = Vec::with_capacity(8 * (head.len() + program.len()));
    for i in head.iter().chain(&program) {
        bytes.extend(i.code.to_ne_bytes());
        bytes.extend([i.jt, i.jf]);
        bytes.extend(i.k.to_ne_bytes());
    }
    Ok(bytes)
}

/// What the C library tries by itself, and takes an error for an answer to. Killing for it would
/// let a guest end the sandbox by making it allocate.
const ANSWERED: [(i64, i32); 2] = [
    // `clone3` passes its flags in memory, where a filter cannot see them: the library falls back
    // to `clone`.
    (libc::SYS_clone3, libc::ENOSYS),
    // malloc looks into /proc/sys/vm/overcommit_memory before it gives back a part of a heap, and
    // into /sys for the number of processors; there is nothing to open in an empty root anyway.
    (libc::SYS_openat, libc::EACCES),
];

/// The head of the filter: gives [`ANSWERED`] calls their errors.
fn answered() -> Vec<sock_filter> {
    let instruction = |code, jt, jf, k| sock_filter { code, jt, jf, k };
    // Load the call's number; where it is one of them, return its error; else go on.
    let load = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
    let equal = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
    let ret = (libc::BPF_RET | libc::BPF_K) as u16;
    let mut head = vec![instruction(load, 0, 0, 0)];
    for (call, error) in ANSWERED {
        head.push(instruction(equal, 0, 1, call as u32));
        head.push(instruction(
            ret,
            0,
            0,
            libc::SECCOMP_RET_ERRNO | error as u32,
        ));
    }
    head
}

fn condition(check: &ArgCheck) -> Result<SeccompCondition, FilterError> {
    let (arg, width, op, value) = match *check {
        ArgCheck::Dword { arg, value } => (
            arg,
            SeccompCmpArgLen::Dword,
            SeccompCmpOp::Eq,
            u64::from(value),
        ),
        ArgCheck::Qword { arg, value } => (arg, SeccompCmpArgLen::Qword, SeccompCmpOp::Eq, value),
        ArgCheck::Within { arg, mask } => (
            arg,
            SeccompCmpArgLen::Qword,
            SeccompCmpOp::MaskedEq(!mask),
            0,
        ),
    };
    SeccompCondition::new(arg, width, op, value).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_is_whole_instructions_and_depends_on_the_rules() {
        let some = compile(&[HostRule::any(libc::SYS_read)], false).unwrap();
        assert_eq!(some.len() % 8, 0);
        let check = ArgCheck::Within { arg: 2, mask: 3 };
        let more = [
            HostRule::any(libc::SYS_read),
            HostRule::with(libc::SYS_mmap, &[check]),
        ];
        assert!(compile(&more, false).unwrap().len() > some.len());
    }

    #[test]
    fn what_the_c_library_tries_is_refused_and_survived() {
        let rules: Vec<HostRule> = sandboxed_thread().map(HostRule::any).collect();
        let program: Vec<sock_filter> = compile(&rules, false)
            .unwrap()
            .chunks_exact(8)
            .map(|b| sock_filter {
                code: u16::from_ne_bytes([b[0], b[1]]),
                jt: b[2],
                jf: b[3],
                k: u32::from_ne_bytes([b[4], b[5], b[6], b[7]]),
            })
            .collect();
        let error = std::thread::spawn(move || {
            seccompiler::apply_filter(&program).unwrap();
            std::fs::File::open("/").unwrap_err().raw_os_error()
        });
        assert_eq!(error.join().unwrap(), Some(libc::EACCES));
    }

    /// What a thread of a test does between here and its end.
    fn sandboxed_thread() -> impl Iterator<Item = i64> {
        [
            libc::SYS_close,
            libc::SYS_exit,
            libc::SYS_futex,
            libc::SYS_madvise,
            libc::SYS_mmap,
            libc::SYS_mprotect,
            libc::SYS_munmap,
            libc::SYS_prctl,
            libc::SYS_rseq,
            libc::SYS_rt_sigprocmask,
            libc::SYS_sigaltstack,
        ]
        .into_iter()
    }

    #[test]
    fn a_rule_without_checks_wins() {
        let check = ArgCheck::Dword { arg: 1, value: 1 };
        let any = [HostRule::any(libc::SYS_ioctl)];
        let both = [HostRule::with(libc::SYS_ioctl, &[check]), any[0].clone()];
        assert_eq!(
            compile(&both, false).unwrap(),
            compile(&any, false).unwrap()
        );
    }

    #[test]
    fn an_argument_that_does_not_exist_is_an_error() {
        let check = ArgCheck::Dword { arg: 6, value: 0 };
        assert!(compile(&[HostRule::with(libc::SYS_read, &[check])], false).is_err());
    }
}
