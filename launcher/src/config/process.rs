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
    let capabilities = process.capabilities().as_ref().map(capabilities);
    let capabilities = capabilities.unwrap_or_default();
    possible(&capabilities)?;
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
        capabilities,
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

/// Refuses what capset(2) refuses to one whose bounding set was reduced first, as runtimes do it.
fn possible(sets: &Capabilities) -> Result<(), ConfigError> {
    for (bad, problem) in [
        (
            sets.inheritable & !sets.bounding,
            "inheritable, and not in the bounding set",
        ),
        (
            sets.effective & !sets.permitted,
            "effective, and not permitted",
        ),
    ] {
        let one = caps::all().into_iter().find(|c| bad & 1 << c.index() != 0);
        if let Some(one) = one {
            let problem = format!("{one} is {problem}: operation not permitted (EPERM)");
            return Err(field("process.capabilities", problem));
        }
    }
    Ok(())
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

/// The most descriptors that the host lets a process have.
fn descriptors_possible() -> u64 {
    let text = std::fs::read_to_string("/proc/sys/fs/nr_open");
    let number = text.ok().and_then(|text| text.trim().parse().ok());
    number.unwrap_or(u64::MAX)
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
    // As the host itself would.
    let most = descriptors_possible();
    if resource == libc::RLIMIT_NOFILE && limit.hard() > most {
        let problem = format!(
            "RLIMIT_NOFILE: {} is over what any process may have: operation not permitted (EPERM); \
             /proc/sys/fs/nr_open says {most}",
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

    #[test]
    fn what_the_host_would_refuse_is_refused() {
        let sets = |bounding, effective, inheritable, permitted| Capabilities {
            bounding,
            effective,
            inheritable,
            permitted,
            ambient: 0,
        };
        assert!(possible(&sets(1, 1, 1, 1)).is_ok());
        assert!(possible(&sets(0, 1, 0, 1)).is_ok());
        for (sets, word) in [
            (sets(0, 1, 1, 1), "inheritable"),
            (sets(1, 3, 0, 1), "effective"),
        ] {
            let error = possible(&sets).unwrap_err().to_string();
            assert!(error.contains(word) && error.contains("EPERM"), "{error}");
        }
        let limit = |hard| {
            let text = format!(r#"{{"type":"RLIMIT_NOFILE","soft":1,"hard":{hard}}}"#);
            rlimit(&serde_json::from_str(&text).unwrap())
        };
        assert!(limit(descriptors_possible()).is_ok());
        let error = limit(u64::MAX).unwrap_err().to_string();
        assert!(error.contains("nr_open"), "{error}");
    }
}
