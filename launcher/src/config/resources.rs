//! What the spec asks of control groups.

use super::{BlockIo, ConfigError, field};
use control::boot::Limits;
use oci_spec::runtime as oci;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;

/// Microseconds of a period of CPU time that is not given.
const PERIOD: u64 = 100_000;
/// Weight of CPU time that is not given.
const SHARES: u64 = 1024;
/// Fewest CPUs that are shown for a limit on CPU time.
const CPUS_BY_QUOTA: u64 = 2;

/// A group, and limits on it. Numbers are as in the spec: -1, and mostly 0, mean no limit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resources {
    /// Whether the container is to be in a control group of its own.
    pub group: bool,
    /// `cgroupsPath`
    pub path: Option<String>,
    /// Bytes.
    pub memory: Option<i64>,
    /// Bytes of memory and swap together.
    pub swap: Option<i64>,
    /// Bytes that are left to it when memory is short.
    pub reservation: Option<i64>,
    /// Weight against other groups, 1024 being an ordinary one.
    pub shares: Option<u64>,
    /// Microseconds of CPU time in a period.
    pub quota: Option<i64>,
    /// Microseconds of a period.
    pub period: Option<u64>,
    /// List of CPUs.
    pub cpus: Option<String>,
    /// List of memory nodes.
    pub mems: Option<String>,
    /// How many tasks.
    pub pids: Option<i64>,
    /// Of block devices.
    #[serde(default)]
    pub block_io: BlockIo,
    /// Files of a version 2 group and what to write to them.
    pub unified: BTreeMap<String, String>,
    /// Fields that are there and are not applied.
    #[serde(skip)]
    pub ignored: Vec<&'static str>,
}

impl Resources {
    /// The fields that limit something, by name.
    pub fn limits(&self) -> Vec<&'static str> {
        let over = |n: Option<i64>| n.is_some_and(|n| n > 0);
        let named = |list: &Option<String>| list.as_ref().is_some_and(|l| !l.is_empty());
        let all = [
            (over(self.memory), "memory.limit"),
            (over(self.swap), "memory.swap"),
            (over(self.reservation), "memory.reservation"),
            (self.shares.is_some_and(|n| n > 0), "cpu.shares"),
            (over(self.quota), "cpu.quota"),
            (named(&self.cpus), "cpu.cpus"),
            (named(&self.mems), "cpu.mems"),
            (over(self.pids), "pids.limit"),
            (self.block_io.limits(), "blockIO"),
            (!self.unified.is_empty(), "unified"),
        ];
        all.iter().filter(|(is, _)| *is).map(|(_, n)| *n).collect()
    }

    /// What they are once `asked` was done: what it leaves out, or has as 0, stays.
    pub fn changed_by(&self, asked: &Resources) -> Resources {
        fn new<T: Copy + Default + PartialEq>(old: Option<T>, asked: Option<T>) -> Option<T> {
            asked.filter(|n| *n != T::default()).or(old)
        }
        let mut unified = self.unified.clone();
        unified.extend(asked.unified.clone());
        Resources {
            group: self.group,
            path: self.path.clone(),
            memory: new(self.memory, asked.memory),
            swap: new(self.swap, asked.swap),
            reservation: new(self.reservation, asked.reservation),
            shares: new(self.shares, asked.shares),
            quota: new(self.quota, asked.quota),
            period: new(self.period, asked.period),
            cpus: asked.cpus.clone().or_else(|| self.cpus.clone()),
            mems: asked.mems.clone().or_else(|| self.mems.clone()),
            pids: new(self.pids, asked.pids),
            block_io: self.block_io.changed_by(&asked.block_io),
            unified,
            ignored: Vec::new(),
        }
    }

    /// What is to be asked to have these again after `asked` was done.
    pub(crate) fn in_place_of(&self, asked: &Resources) -> Resources {
        fn back<T>(asked: Option<T>, old: Option<T>, none: T) -> Option<T> {
            asked.map(|_| old.unwrap_or(none))
        }
        let named = |(file, _): &(&String, &String)| asked.unified.contains_key(*file);
        let unified = self.unified.iter().filter(named);
        Resources {
            memory: back(asked.memory, self.memory, -1),
            swap: back(asked.swap, self.swap, -1),
            reservation: back(asked.reservation, self.reservation, -1),
            shares: back(asked.shares, self.shares, SHARES),
            quota: back(asked.quota, self.quota, -1),
            period: back(asked.period, self.period, PERIOD),
            cpus: asked.cpus.as_ref().and_then(|_| self.cpus.clone()),
            mems: asked.mems.as_ref().and_then(|_| self.mems.clone()),
            pids: back(asked.pids, self.pids, -1),
            block_io: self.block_io.in_place_of(&asked.block_io),
            unified: unified.map(|(f, v)| (f.clone(), v.clone())).collect(),
            ..Resources::default()
        }
    }

    /// What the sandbox enforces of them itself, and shows the container.
    pub fn shown(&self) -> Limits {
        let over = |n: Option<i64>| n.and_then(|n| u64::try_from(n).ok()).filter(|n| *n > 0);
        let quota = over(self.quota);
        let period = self.period.filter(|p| *p > 0).unwrap_or(PERIOD);
        let by_quota = quota.map(|q| q.div_ceil(period).max(CPUS_BY_QUOTA));
        let by_set = self.cpus.as_deref().map(count).filter(|n| *n > 0);
        let here = possible_cpus();
        let least = [by_quota, by_set].into_iter().flatten().min();
        Limits {
            cpus: least.map_or(here, |n| u32::try_from(n).unwrap_or(here).min(here)),
            memory: over(self.memory),
            pids: over(self.pids),
            quota,
            period,
            weight: crate::cgroup::weight(self.shares.filter(|n| *n > 0)),
        }
    }

    /// What `text` asks for, which has the form of the spec's `linux.resources`; `from` is where it
    /// comes from.
    ///
    /// # Errors
    /// Where it has not.
    pub fn parse(from: &Path, text: &str) -> Result<Resources, ConfigError> {
        let read = serde_json::from_str(text).map_err(|source| ConfigError::Json {
            path: from.to_owned(),
            source,
        })?;
        let mut asked = Resources::default();
        asked.read(&read)?;
        Ok(asked)
    }
}

/// How many CPUs this process may use.
pub(crate) fn possible_cpus() -> u32 {
    let set = nix::sched::sched_getaffinity(nix::unistd::Pid::from_raw(0));
    let count = |set: nix::sched::CpuSet| {
        let all = 0..nix::sched::CpuSet::count();
        all.filter(|&c| set.is_set(c) == Ok(true)).count()
    };
    let count = set.map_or(1, count).max(1);
    u32::try_from(count).unwrap_or(1)
}

/// How many numbers a list like `0-2,7` has.
fn count(list: &str) -> u64 {
    let count = |part: &str| -> Option<u64> {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (u64, u64) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
        last.checked_sub(first)?.checked_add(1)
    };
    let parts = list.split(',').filter_map(count);
    parts.fold(0, u64::saturating_add)
}

/// Of a spec's `linux`. There is to be a group when it has a path or a limit.
pub(super) fn convert(linux: &oci::Linux) -> Result<Resources, ConfigError> {
    let mut asked = Resources::default();
    if let Some(path) = linux.cgroups_path() {
        let text = super::process::text("linux.cgroupsPath", path)?;
        asked.path = Some(text).filter(|p| !p.is_empty());
    }
    if let Some(resources) = linux.resources() {
        asked.read(resources)?;
    }
    asked.group = asked.path.is_some() || !asked.limits().is_empty();
    Ok(asked)
}

impl Resources {
    fn read(&mut self, resources: &oci::LinuxResources) -> Result<(), ConfigError> {
        let asked = self;
        if let Some(memory) = resources.memory() {
            asked.memory = memory.limit();
            asked.swap = memory.swap();
            asked.reservation = memory.reservation();
            if memory.disable_oom_killer() == Some(true) {
                asked.ignored.push("memory.disableOOMKiller");
            }
        }
        if let Some(cpu) = resources.cpu() {
            asked.shares = cpu.shares();
            asked.quota = cpu.quota();
            asked.period = cpu.period();
            asked.cpus = list("linux.resources.cpu.cpus", cpu.cpus())?;
            asked.mems = list("linux.resources.cpu.mems", cpu.mems())?;
            let set = |n: Option<i64>| n.is_some_and(|n| n != 0);
            for (is, name) in [
                (set(cpu.realtime_runtime()), "cpu.realtimeRuntime"),
                (set(cpu.idle()), "cpu.idle"),
                (cpu.burst().is_some_and(|n| n != 0), "cpu.burst"),
            ] {
                asked.ignored.extend(is.then_some(name));
            }
        }
        asked.pids = resources.pids().as_ref().map(oci::LinuxPids::limit);
        if let Some(block) = resources.block_io() {
            asked.block_io = BlockIo::read(block, &mut asked.ignored)?;
        }
        for (key, value) in resources.unified().iter().flatten() {
            let good = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
            if !key.contains('.') || key.starts_with('.') || !key.chars().all(good) {
                let problem = format!("{key:?} is no file of a control group");
                return Err(field("linux.resources.unified", problem));
            }
            asked.unified.insert(key.clone(), value.clone());
        }
        let some = |list: Option<usize>| list.is_some_and(|n| n > 0);
        for (is, name) in [
            (
                some(resources.hugepage_limits().as_ref().map(Vec::len)),
                "hugepageLimits",
            ),
            (resources.network().is_some(), "network"),
            (some(resources.rdma().as_ref().map(|r| r.len())), "rdma"),
        ] {
            asked.ignored.extend(is.then_some(name));
        }
        Ok(())
    }
}

fn list(name: &'static str, list: &Option<String>) -> Result<Option<String>, ConfigError> {
    let good = |c: char| c.is_ascii_digit() || ",- ".contains(c);
    match list.as_deref().map(str::trim) {
        None | Some("") => Ok(None),
        Some(text) if text.chars().all(good) => Ok(Some(text.to_owned())),
        Some(text) => Err(field(
            name,
            format!("{text:?} is no list of numbers such as 0-3,7"),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(linux: &str) -> Result<Resources, ConfigError> {
        convert(&serde_json::from_str::<oci::Linux>(linux).unwrap())
    }

    #[test]
    fn only_what_limits_something_counts() {
        assert!(!read("{}").unwrap().group);
        let devices = r#"{"resources":{"devices":[{"allow":false,"access":"rwm"}]}}"#;
        assert!(!read(devices).unwrap().group);
        let none = r#"{"resources":{"memory":{"limit":-1},"pids":{"limit":0}}}"#;
        assert!(!read(none).unwrap().group);
        let some = r#"{"cgroupsPath":"/a/b","resources":{"memory":{"limit":1048576,"swap":2097152,
            "disableOOMKiller":true},"cpu":{"shares":512,"quota":50000,"cpus":"0-1"},
            "pids":{"limit":10}}}"#;
        let some = read(some).unwrap();
        assert!(some.group);
        assert_eq!(some.path.as_deref(), Some("/a/b"));
        assert_eq!(
            some.limits(),
            [
                "memory.limit",
                "memory.swap",
                "cpu.shares",
                "cpu.quota",
                "cpu.cpus",
                "pids.limit"
            ]
        );
        assert_eq!(some.ignored, ["memory.disableOOMKiller"]);
    }

    #[test]
    fn the_container_is_shown_what_limits_leave_it() {
        let here = possible_cpus();
        let shown = Resources::default().shown();
        assert_eq!((shown.cpus, shown.memory, shown.pids), (here, None, None));
        assert_eq!(
            (shown.quota, shown.period, shown.weight),
            (None, 100_000, 100)
        );
        let of = |quota, cpus: &str| {
            let cpus = Some(cpus.to_owned());
            let asked = Resources {
                quota,
                cpus,
                ..Resources::default()
            };
            asked.shown().cpus
        };
        assert_eq!(of(Some(10_000), ""), here.min(2));
        assert_eq!(of(Some(150_000), ""), here.min(2));
        assert_eq!(of(Some(i64::MAX), ""), here);
        assert_eq!(of(Some(-1), "7"), 1);
        assert_eq!((count("0-2,7"), count(""), count("5-1,x")), (4, 0, 0));
        assert_eq!(count("0-18446744073709551615"), 0);
    }

    #[test]
    fn an_update_keeps_what_it_does_not_name() {
        let old = r#"{"cgroupsPath":"/a","resources":{"memory":{"limit":1048576},
            "cpu":{"quota":50000,"period":50000,"cpus":"0"},"pids":{"limit":10}}}"#;
        let old = read(old).unwrap();
        let parse = |text: &str| Resources::parse(Path::new("-"), text);
        let none = parse("{}").unwrap();
        assert_eq!(old.changed_by(&none), old);
        let zeros = r#"{"memory":{"limit":0},"cpu":{"quota":0,"shares":0},"pids":{"limit":0}}"#;
        assert_eq!(old.changed_by(&parse(zeros).unwrap()), old);
        let some = r#"{"memory":{"limit":-1},"cpu":{"quota":25000},"pids":{"limit":5}}"#;
        let new = old.changed_by(&parse(some).unwrap());
        assert_eq!(
            (new.memory, new.quota, new.period),
            (Some(-1), Some(25_000), Some(50_000))
        );
        assert_eq!((new.shown().memory, new.shown().pids), (None, Some(5)));
        assert!(parse(r#"{"cpu":{"cpus":"x"}}"#).is_err());
        let wrong = parse(r#"{"memory":5}"#).unwrap_err().to_string();
        assert!(
            wrong.starts_with("- is not what the runtime spec"),
            "{wrong}"
        );
    }

    #[test]
    fn nothing_but_lists_and_file_names_gets_into_a_group() {
        for bad in [
            r#"{"resources":{"cpu":{"cpus":"0\n1"}}}"#,
            r#"{"resources":{"cpu":{"mems":"../x"}}}"#,
            r#"{"resources":{"unified":{"../../x":"1"}}}"#,
            r#"{"resources":{"unified":{"nodot":"1"}}}"#,
            r#"{"resources":{"unified":{"..":"1"}}}"#,
        ] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}
