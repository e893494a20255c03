//! From the launcher's description of a process to what the kernel starts.

use auth::{CapSet, Creds};
use control::boot::{ProcessSpec, SeccompSpec};
use control::message::{Failure, FailureKind};
use ctx::Terminal;
use seccomp::{Filter, Unfit};
use signal::SigSet;
use std::sync::Arc;
use task::{Container, Limits, ProcessSpec as Program, RESOURCES, Rlimit, Scheduling};
use vfs::{FdTable, MountNamespace, VfsPath};

/// Where a process starts, and with what.
pub(crate) struct Surroundings {
    pub(crate) container: Arc<Container>,
    pub(crate) fds: Arc<FdTable>,
    pub(crate) mounts: Arc<MountNamespace>,
    pub(crate) root: VfsPath,
    pub(crate) cwd: VfsPath,
    pub(crate) terminal: Option<Arc<dyn Terminal>>,
}

/// How it is scheduled: what sched_setattr(2) would say to whom nothing is forbidden.
fn scheduling(p: &ProcessSpec) -> Result<Scheduling, Failure> {
    let Some(s) = p.scheduler else {
        return Ok(Scheduling::default());
    };
    let policy = i32::try_from(s.policy).unwrap_or(-1);
    Scheduling::new(policy, s.priority, s.reset_on_fork).map_err(|errno| Failure {
        kind: FailureKind::Invalid,
        errno: Some(errno.code()),
        text: format!(
            "process.scheduler cannot be applied: {errno}, to policy {} with priority {}; \
             SCHED_FIFO and SCHED_RR have priorities from 1 to 99, and SCHED_DEADLINE cannot be had",
            s.policy, s.priority
        ),
    })
}

/// Puts both together. The program is still to be looked for, and to be told whether it is init.
pub(crate) fn program(p: &ProcessSpec, at: Surroundings) -> Result<Program, Failure> {
    let bytes = |all: &[String]| all.iter().map(|s| s.clone().into_bytes()).collect();
    Ok(Program {
        container: at.container,
        path: p
            .program
            .as_ref()
            .or(p.args.first())
            .map(|a| a.clone().into_bytes())
            .unwrap_or_default(),
        argv: bytes(&p.args),
        envp: bytes(&p.env),
        creds: creds(p),
        fds: at.fds,
        mounts: at.mounts,
        root: at.root,
        cwd: at.cwd,
        umask: p.umask.unwrap_or(0o022),
        limits: rlimits(p),
        oom_score_adj: p.oom_score_adj.unwrap_or(0),
        nice: p.scheduler.and_then(|s| s.nice).unwrap_or(p.nice),
        scheduling: scheduling(p)?,
        io_priority: p.io_priority.unwrap_or(0).into(),
        personality: p.personality.unwrap_or(0),
        affinity: p.affinity.clone(),
        mortal: p.mortal,
        init: false,
        terminal: at.terminal,
        blocked: SigSet::default(),
        no_new_privs: p.no_new_privs,
        filter: p.seccomp.as_ref().map(filter).transpose()?,
    })
}

/// What the container's own system calls go through. It is put on last, so that neither setting
/// users nor dropping capabilities needs any call of it; the program's execve is looked at.
fn filter(spec: &SeccompSpec) -> Result<Arc<Filter>, Failure> {
    let invalid = |why: &str| {
        let text = format!("linux.seccomp cannot be applied: {why}");
        Failure::new(FailureKind::Invalid, text)
    };
    let code = seccomp::compile(spec).map_err(|e| match e {
        Unfit::TooLarge => {
            invalid("its rules make a filter of more than 4096 instructions; leave some out")
        }
        Unfit::Argument(n) => invalid(&format!("calls have no argument {n}")),
    })?;
    seccomp::Program::check(&code)
        .and_then(|program| Filter::new(program, None, spec.log, None))
        .map_err(|errno| invalid(&format!("its filter is not valid ({errno})")))
}

/// Why a process could not be executed, with the kind by which the caller chooses between
/// 127 and 126.
pub(crate) fn exec_failure(program: &str, errno: abi::Errno) -> Failure {
    let missing = matches!(errno, abi::Errno::ENOENT | abi::Errno::ENOTDIR);
    let (kind, advice) = if missing {
        (
            FailureKind::ProgramMissing,
            "check its name, and PATH in the container's environment",
        )
    } else {
        (
            FailureKind::ProgramNotExecutable,
            "check that it is an executable file for x86-64 Linux",
        )
    };
    // As Go's programs say it: docker chooses its own status by these words.
    let mut why = errno.to_string();
    if let Some(first) = why.get_mut(..1) {
        first.make_ascii_lowercase();
    }
    Failure {
        kind,
        errno: Some(errno.code()),
        text: format!("cannot execute `{program}` in the container: {why}; {advice}"),
    }
}

pub(crate) fn creds(p: &ProcessSpec) -> Creds {
    let c = p.capabilities;
    Creds {
        groups: p.groups.clone(),
        bounding: CapSet::from_bits(c.bounding),
        effective: CapSet::from_bits(c.effective),
        inheritable: CapSet::from_bits(c.inheritable),
        permitted: CapSet::from_bits(c.permitted),
        ambient: CapSet::from_bits(c.ambient),
        ..Creds::user(p.uid, p.gid)
    }
}

fn rlimits(p: &ProcessSpec) -> [Rlimit; RESOURCES] {
    let mut all = Limits::default().all();
    for l in &p.rlimits {
        if let Some(slot) = all.get_mut(l.resource as usize) {
            *slot = Rlimit {
                soft: l.soft.min(l.hard),
                hard: l.hard,
            };
        }
    }
    all
}
