//! What the spec asks of control groups.

use super::{ConfigError, field};
use oci_spec::runtime as oci;
use std::collections::BTreeMap;

/// A group, and limits on it. Numbers are as in the spec: -1, and mostly 0, mean no limit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resources {
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
    /// Files of a version 2 group and what to write to them.
    pub unified: BTreeMap<String, String>,
    /// Fields that are there and are not applied.
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
            (!self.unified.is_empty(), "unified"),
        ];
        all.iter().filter(|(is, _)| *is).map(|(_, n)| *n).collect()
    }
}

/// Of a spec's `linux`; none when it asks for no group and no limit.
pub(super) fn convert(linux: &oci::Linux) -> Result<Option<Resources>, ConfigError> {
    let mut asked = Resources::default();
    if let Some(path) = linux.cgroups_path() {
        let text = super::process::text("linux.cgroupsPath", path)?;
        asked.path = Some(text).filter(|p| !p.is_empty());
    }
    if let Some(resources) = linux.resources() {
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
            (resources.block_io().is_some(), "blockIO"),
            (
                some(resources.hugepage_limits().as_ref().map(Vec::len)),
                "hugepageLimits",
            ),
            (resources.network().is_some(), "network"),
            (some(resources.rdma().as_ref().map(|r| r.len())), "rdma"),
        ] {
            asked.ignored.extend(is.then_some(name));
        }
    }
    let nothing = asked.path.is_none() && asked.limits().is_empty();
    Ok((!nothing).then_some(asked))
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

    fn read(linux: &str) -> Result<Option<Resources>, ConfigError> {
        convert(&serde_json::from_str::<oci::Linux>(linux).unwrap())
    }

    #[test]
    fn only_what_limits_something_counts() {
        assert_eq!(read("{}").unwrap(), None);
        let devices = r#"{"resources":{"devices":[{"allow":false,"access":"rwm"}]}}"#;
        assert_eq!(read(devices).unwrap(), None);
        let none = r#"{"resources":{"memory":{"limit":-1},"pids":{"limit":0}}}"#;
        assert_eq!(read(none).unwrap(), None);
        let some = r#"{"cgroupsPath":"/a/b","resources":{"memory":{"limit":1048576,"swap":2097152,
            "disableOOMKiller":true},"cpu":{"shares":512,"quota":50000,"cpus":"0-1"},
            "pids":{"limit":10}}}"#;
        let some = read(some).unwrap().unwrap();
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
