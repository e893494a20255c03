//! How the spec's process is scheduled: `scheduler`, `ioPriority`, `execCPUAffinity`, and the
//! personality.

use super::{ConfigError, field};
use control::boot::Scheduler;
use oci_spec::runtime::{self as oci, IOPriorityClass, LinuxSchedulerFlag, LinuxSchedulerPolicy};

/// Bits of the class in what ioprio_set(2) takes.
const IO_CLASS_SHIFT: u32 = 13;
/// Levels of a class.
const IO_LEVELS: std::ops::RangeInclusive<i64> = 0..=7;
/// `PER_LINUX32`
const LINUX32: u32 = 8;
/// More CPUs than Linux can be built for.
const MAX_CPUS: u32 = 8192;

/// Checks as runc does. What is left to be refused, the sandbox's kernel refuses.
pub(super) fn scheduler(s: &oci::Scheduler) -> Result<Scheduler, ConfigError> {
    use LinuxSchedulerPolicy as P;
    let policy = *s.policy();
    let (nice, priority) = (s.nice().unwrap_or(0), s.priority().unwrap_or(0));
    let nices = matches!(policy, P::SchedOther | P::SchedBatch);
    if nices && !(-20..=19).contains(&nice) {
        let problem = format!("{nice} is no nice value; -20 to 19 are possible");
        return Err(field("process.scheduler.nice", problem));
    }
    let real_time = matches!(policy, P::SchedFifo | P::SchedRr);
    if priority != 0 && !real_time {
        let problem = format!("{policy} has none; SCHED_FIFO and SCHED_RR have");
        return Err(field("process.scheduler.priority", problem));
    }
    let times = [s.runtime(), s.deadline(), s.period()];
    if policy != P::SchedDeadline && times.iter().any(|t| t.is_some_and(|n| n != 0)) {
        let problem = format!("{policy} has no runtime, deadline or period; SCHED_DEADLINE has");
        return Err(field("process.scheduler", problem));
    }
    let mut reset_on_fork = false;
    for flag in s.flags().iter().flatten() {
        match flag {
            LinuxSchedulerFlag::SchedResetOnFork => reset_on_fork = true,
            other => {
                let problem = format!("the sandbox does not have {other}; leave it out");
                return Err(field("process.scheduler.flags", problem));
            }
        }
    }
    let number = match policy {
        P::SchedOther => libc::SCHED_OTHER,
        P::SchedFifo => libc::SCHED_FIFO,
        P::SchedRr => libc::SCHED_RR,
        P::SchedBatch => libc::SCHED_BATCH,
        // Reserved by Linux, and never had.
        P::SchedIso => 4,
        P::SchedIdle => libc::SCHED_IDLE,
        P::SchedDeadline => libc::SCHED_DEADLINE,
    };
    Ok(Scheduler {
        policy: number.cast_unsigned(),
        priority,
        reset_on_fork,
        nice: nices.then_some(nice),
    })
}

pub(super) fn io_priority(p: &oci::LinuxIOPriority) -> Result<u16, ConfigError> {
    let level = u16::try_from(p.priority()).ok();
    let Some(level) = level.filter(|_| IO_LEVELS.contains(&p.priority())) else {
        let problem = format!("{} is none; 0 to 7 are possible", p.priority());
        return Err(field("process.ioPriority.priority", problem));
    };
    let class = match p.class() {
        IOPriorityClass::IoprioClassRt => 1,
        IOPriorityClass::IoprioClassBe => 2,
        IOPriorityClass::IoprioClassIdle => 3,
    };
    Ok(class << IO_CLASS_SHIFT | level)
}

/// The CPUs that a process which `exec` runs may use. Nothing moves it into a group once it runs, so
/// that the last word is `final`, and `initial` where that is not given.
pub(super) fn affinity(a: &oci::ExecCPUAffinity) -> Result<Option<Vec<u8>>, ConfigError> {
    const INITIAL: &str = "process.execCPUAffinity.initial";
    const FINAL: &str = "process.execCPUAffinity.final";
    // An empty list is as none.
    let given = |l: &&str| !l.is_empty();
    let initial = a.initial().as_deref().filter(given);
    let last = a.cpu_affinity_final().as_deref().filter(given);
    let initial = initial.map(|l| cpus(INITIAL, l));
    let last = last.map(|l| cpus(FINAL, l));
    let (initial, last) = (initial.transpose()?, last.transpose()?);
    Ok(last.or(initial))
}

/// A list such as `0-3,7`, as bits.
fn cpus(name: &'static str, list: &str) -> Result<Vec<u8>, ConfigError> {
    let mut bits = Vec::new();
    let problem = || {
        let problem = format!("{list:?} is no list of CPUs such as 0-3,7");
        field(name, problem)
    };
    // Commas too many are no matter.
    for part in list.split(',').filter(|part| !part.trim().is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let number = |text: &str| text.trim().parse::<u32>().ok().filter(|n| *n < MAX_CPUS);
        let range = number(first).zip(number(last)).filter(|(a, b)| a <= b);
        let Some((first, last)) = range else {
            return Err(problem());
        };
        for cpu in first..=last {
            let byte = cpu as usize / 8;
            if bits.len() <= byte {
                bits.resize(byte + 1, 0);
            }
            if let Some(byte) = bits.get_mut(byte) {
                *byte |= 1 << (cpu % 8);
            }
        }
    }
    match bits.is_empty() {
        true => Err(problem()),
        false => Ok(bits),
    }
}

/// What personality(2) is told. The spec has no flags yet.
pub(super) fn personality(p: &oci::LinuxPersonality) -> u32 {
    if p.flags().as_ref().is_some_and(|flags| !flags.is_empty()) {
        tracing::warn!("config.json: linux.personality has flags, which are not applied");
    }
    match p.domain() {
        oci::LinuxPersonalityDomain::PerLinux => 0,
        oci::LinuxPersonalityDomain::PerLinux32 => LINUX32,
    }
}

/// Refuses what asks for memory of several nodes: the sandbox has one, and no calls for policies,
/// as Linux built without NUMA.
pub(super) fn memory_policy(p: &oci::LinuxMemoryPolicy) -> Result<(), ConfigError> {
    match p.mode() {
        oci::MemoryPolicyModeType::MpolDefault => Ok(()),
        mode => Err(field(
            "linux.memoryPolicy",
            format!("{mode} cannot be had: the sandbox has no NUMA; MPOL_DEFAULT is possible"),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_has_what_goes_with_it() {
        let read = |text: &str| scheduler(&serde_json::from_str(text).unwrap());
        let of = |policy, priority, reset_on_fork, nice| Scheduler {
            policy,
            priority,
            reset_on_fork,
            nice,
        };
        for (text, expected) in [
            (r#"{"policy":"SCHED_OTHER"}"#, of(0, 0, false, Some(0))),
            (
                r#"{"policy":"SCHED_BATCH","nice":19,"flags":["SCHED_RESET_ON_FORK"]}"#,
                of(3, 0, true, Some(19)),
            ),
            (
                r#"{"policy":"SCHED_FIFO","priority":10,"nice":5}"#,
                of(1, 10, false, None),
            ),
            // For the sandbox's kernel to refuse.
            (r#"{"policy":"SCHED_RR"}"#, of(2, 0, false, None)),
            (
                r#"{"policy":"SCHED_DEADLINE","runtime":1}"#,
                of(6, 0, false, None),
            ),
        ] {
            assert_eq!(read(text).unwrap(), expected, "{text}");
        }
        for (bad, word) in [
            (r#"{"policy":"SCHED_OTHER","nice":20}"#, "nice"),
            (r#"{"policy":"SCHED_BATCH","priority":1}"#, "priority"),
            (
                r#"{"policy":"SCHED_FIFO","priority":1,"period":1}"#,
                "period",
            ),
            (
                r#"{"policy":"SCHED_OTHER","flags":["SCHED_FLAG_RECLAIM"]}"#,
                "RECLAIM",
            ),
        ] {
            let error = read(bad).unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
        }
        let unknown = serde_json::from_str::<oci::Scheduler>(r#"{"policy":"SCHED_X"}"#);
        assert!(unknown.unwrap_err().to_string().contains("SCHED_X"));
    }

    #[test]
    fn io_priorities_are_linuxs_numbers() {
        let read = |class: &str, priority: i64| {
            let text = format!(r#"{{"class":"{class}","priority":{priority}}}"#);
            io_priority(&serde_json::from_str(&text).unwrap())
        };
        assert_eq!(read("IOPRIO_CLASS_RT", 0).unwrap(), 1 << 13);
        assert_eq!(read("IOPRIO_CLASS_BE", 7).unwrap(), 2 << 13 | 7);
        assert_eq!(read("IOPRIO_CLASS_IDLE", 0).unwrap(), 3 << 13);
        for bad in [-1, 8, i64::MAX] {
            assert!(read("IOPRIO_CLASS_BE", bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_last_word_on_cpus_counts() {
        let read = |text: &str| affinity(&serde_json::from_str(text).unwrap());
        assert_eq!(read("{}").unwrap(), None);
        assert_eq!(
            read(r#"{"initial":"0-1,9"}"#).unwrap(),
            Some(vec![0b11, 0b10])
        );
        assert_eq!(
            read(r#"{"initial":"0-1","final":"2"}"#).unwrap(),
            Some(vec![0b100])
        );
        for bad in [
            r#"{"final":"1-0"}"#,
            r#"{"initial":"8192","final":"0"}"#,
            r#"{"final":"0-18446744073709551615"}"#,
        ] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn there_is_one_node_of_memory() {
        let read = |mode: &str| {
            let text = format!(r#"{{"mode":"{mode}"}}"#);
            memory_policy(&serde_json::from_str(&text).unwrap())
        };
        assert!(read("MPOL_DEFAULT").is_ok());
        let error = read("MPOL_BIND").unwrap_err().to_string();
        assert!(error.contains("MPOL_BIND"), "{error}");
    }
}
