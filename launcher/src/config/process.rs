//! The spec's process.

use super::{ConfigError, field, scheduling};
use control::boot::{Capabilities, ProcessSpec, Rlimit};
use control::message::WindowSize;
use oci_spec::runtime::{self as oci, PosixRlimitType};
use std::collections::HashSet;
use std::str::FromStr;

/// Checks and converts.
pub(super) fn convert(process: &oci::Process) -> Result<ProcessSpec, ConfigError> {
    let args = process.args().clone().unwrap_or_default();
    if args.is_empty() {
        return Err(field(
            "process.args",
            "it is empty; name the program to run",
        ));
    }
    let env = process.env().clone().unwrap_or_default();
    if let Some(bad) = args.iter().chain(&env).find(|s| s.contains('\0')) {
        return Err(field("process", format!("{bad:?} has a NUL byte")));
    }
    let cwd = text("process.cwd", process.cwd())?;
    if !cwd.starts_with('/') {
        return Err(field(
            "process.cwd",
            format!("`{cwd}` is not an absolute path"),
        ));
    }
    let terminal = process.terminal().unwrap_or(false);
    let user = process.user();
    let rlimits = process
        .rlimits()
        .iter()
        .flatten()
        .map(rlimit)
        .collect::<Result<_, _>>()?;
    Ok(ProcessSpec {
        args,
        program: None,
        env,
        cwd,
        uid: user.uid(),
        gid: user.gid(),
        groups: user.additional_gids().clone().unwrap_or_default(),
        umask: user.umask(),
        capabilities: process
            .capabilities()
            .as_ref()
            .map(capabilities)
            .unwrap_or_default(),
        no_new_privs: process.no_new_privileges().unwrap_or(false),
        rlimits,
        oom_score_adj: process.oom_score_adj(),
        nice: own_nice(),
        scheduler: match process.scheduler() {
            Some(scheduler) => Some(scheduling::scheduler(scheduler)?),
            None => None,
        },
        io_priority: match process.io_priority() {
            Some(priority) => Some(scheduling::io_priority(priority)?),
            None => None,
        },
        personality: None,
        affinity: match process.exec_cpu_affinity() {
            Some(cpus) => scheduling::affinity(cpus)?,
            None => None,
        },
        seccomp: None,
        mortal: false,
        terminal,
        console_size: process.console_size().as_ref().map(|size| WindowSize {
            rows: u16::try_from(size.height()).unwrap_or(u16::MAX),
            columns: u16::try_from(size.width()).unwrap_or(u16::MAX),
        }),
    })
}

/// The nice value of this process, which what it starts inherits.
pub(super) fn own_nice() -> i32 {
    rustix::process::getpriority_process(None).unwrap_or(0)
}

/// A path as text; what is not UTF-8 cannot be in JSON.
pub(super) fn text(name: &'static str, path: &std::path::Path) -> Result<String, ConfigError> {
    match path.to_str() {
        Some(s) if !s.contains('\0') => Ok(s.to_owned()),
        _ => Err(field(name, format!("{path:?} has a NUL byte"))),
    }
}

fn capabilities(sets: &oci::LinuxCapabilities) -> Capabilities {
    let bits = |set: &Option<HashSet<oci::Capability>>| {
        set.iter()
            .flatten()
            .fold(0u64, |bits, c| bits | capability_bit(&c.to_string()))
    };
    Capabilities {
        bounding: bits(sets.bounding()),
        effective: bits(sets.effective()),
        inheritable: bits(sets.inheritable()),
        permitted: bits(sets.permitted()),
        ambient: bits(sets.ambient()),
    }
}

/// Adds the capability called `name` to `sets`, as `exec --cap` does: to the ambient set only
/// where something can be inherited. Whether there is one of that name.
pub fn add_capability(sets: &mut Capabilities, name: &str) -> bool {
    let bit = capability_bit(&name.to_ascii_uppercase());
    for set in [&mut sets.bounding, &mut sets.effective, &mut sets.permitted] {
        *set |= bit;
    }
    if sets.inheritable != 0 {
        sets.inheritable |= bit;
        sets.ambient |= bit;
    }
    bit != 0
}

/// The names of all capabilities that can be given, sorted.
pub fn capability_names() -> Vec<String> {
    let mut names: Vec<String> = caps::all().iter().map(ToString::to_string).collect();
    names.sort();
    names
}

/// The bit of a capability by its name with or without `CAP_`.
fn capability_bit(name: &str) -> u64 {
    let name = match name.starts_with("CAP_") {
        true => name.to_owned(),
        false => format!("CAP_{name}"),
    };
    caps::Capability::from_str(&name).map_or(0, |c| 1 << c.index())
}

fn rlimit(limit: &oci::PosixRlimit) -> Result<Rlimit, ConfigError> {
    let resource = match limit.typ() {
        PosixRlimitType::RlimitCpu => libc::RLIMIT_CPU,
        PosixRlimitType::RlimitFsize => libc::RLIMIT_FSIZE,
        PosixRlimitType::RlimitData => libc::RLIMIT_DATA,
        PosixRlimitType::RlimitStack => libc::RLIMIT_STACK,
        PosixRlimitType::RlimitCore => libc::RLIMIT_CORE,
        PosixRlimitType::RlimitRss => libc::RLIMIT_RSS,
        PosixRlimitType::RlimitNproc => libc::RLIMIT_NPROC,
        PosixRlimitType::RlimitNofile => libc::RLIMIT_NOFILE,
        PosixRlimitType::RlimitMemlock => libc::RLIMIT_MEMLOCK,
        PosixRlimitType::RlimitAs => libc::RLIMIT_AS,
        PosixRlimitType::RlimitLocks => libc::RLIMIT_LOCKS,
        PosixRlimitType::RlimitSigpending => libc::RLIMIT_SIGPENDING,
        PosixRlimitType::RlimitMsgqueue => libc::RLIMIT_MSGQUEUE,
        PosixRlimitType::RlimitNice => libc::RLIMIT_NICE,
        PosixRlimitType::RlimitRtprio => libc::RLIMIT_RTPRIO,
        PosixRlimitType::RlimitRttime => libc::RLIMIT_RTTIME,
    };
    if limit.soft() > limit.hard() {
        let problem = format!(
            "{}: soft {} is over hard {}",
            limit.typ(),
            limit.soft(),
            limit.hard()
        );
        return Err(field("process.rlimits", problem));
    }
    Ok(Rlimit {
        resource,
        soft: limit.soft(),
        hard: limit.hard(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capability_names_become_bits() {
        assert_eq!(capability_bit("CAP_CHOWN"), 1);
        assert_eq!(capability_bit("SYS_ADMIN"), 1 << 21);
        let all: oci::Capabilities =
            [oci::Capability::Kill, oci::Capability::CheckpointRestore].into();
        let sets = oci::LinuxCapabilitiesBuilder::default()
            .effective(all)
            .build()
            .unwrap();
        assert_eq!(capabilities(&sets).effective, 1 << 5 | 1 << 40);
    }
}
