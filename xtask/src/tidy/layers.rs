//! The direction of dependencies, from `cargo metadata`.

use crate::shell::metadata;
use anyhow::{Context, Result};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// The sentry from the ground up. A crate depends on those in rows above its
/// own and on none of its own row.
const SENTRY: &[&[&str]] = &[
    &["sentry-abi", "sentry-sync", "sentry-sysctl", "sentry-vdso"],
    &[
        "sentry-auth",
        "sentry-time",
        "sentry-wait",
        "sentry-signal",
        "sentry-seccomp",
        "sentry-hostmem",
    ],
    &["sentry-ctx", "sentry-memmap"],
    &["sentry-mm", "sentry-vfs", "sentry-futex"],
    &[
        "sentry-loader",
        "sentry-fs-anon",
        "sentry-fs-host",
        "sentry-fs-tmpfs",
        "sentry-fs-gofer",
        "sentry-fs-overlay",
        "sentry-fs-sys",
        "sentry-ipc",
        "sentry-net",
    ],
    &["sentry-fs-devpts", "sentry-net-unix"],
    &["sentry-fs-dev", "sentry-task"],
    &["sentry-fs-proc", "sentry-syscalls"],
    &["sentry-strace"],
    &["sentry-boot"],
];
/// What anyone in the sentry may use beside it.
const BELOW_SENTRY: &[&str] = &["platform-api", "control", "coverage", "resident"];
/// What those outside the sentry may use of ours. A platform knows the contract
/// and nothing else; the launcher never links the kernel.
const OUTSIDE: &[(&str, &[&str])] = &[
    ("platform-api", &[]),
    ("control", &[]),
    ("coverage", &[]),
    ("resident", &[]),
    ("gofer", &["control", "coverage", "resident"]),
    (
        "launcher",
        &["control", "coverage", "platform-api", "resident"],
    ),
    (
        "runtime-cli",
        &[
            "sentry-boot",
            "gofer",
            "launcher",
            "platform-api",
            "platforms",
            "control",
            "sentry-syscalls",
        ],
    ),
    ("test-support", &[]),
    ("parity-tests", &[]),
    ("bench-probe", &[]),
    ("e2e-tests", &[]),
    ("fuzz-tests", &["control", "launcher"]),
    ("xtask", &["test-support"]),
];
/// What nothing below the sentry reaches, at any depth: the kernel parses no
/// command lines and no OCI documents, and runs no async runtime.
const KEPT_OUT: &[&str] = &[
    "clap",
    "oci-spec",
    "cgroups-rs",
    "caps",
    "tokio",
    "async-std",
    "smol",
    "async-executor",
];

pub(super) fn check(wrong: &mut Vec<String>) -> Result<()> {
    let all = metadata(&[])?;
    let packages = Packages::read(&all)?;
    for name in &packages.members {
        let deps = &packages.direct[name];
        let allowed = |dep: &str| may_use(name, dep);
        for dep in deps.iter().filter(|dep| packages.members.contains(*dep)) {
            if !allowed(dep)? {
                wrong.push(format!(
                    "{name} must not depend on {dep} (xtask/src/tidy/layers.rs)"
                ));
            }
        }
        if name.starts_with("sentry-") {
            let reached = packages.reach(name);
            for kept in KEPT_OUT.iter().filter(|k| reached.contains(**k)) {
                wrong.push(format!(
                    "{name} reaches {kept}, which is kept out of the sentry"
                ));
            }
        }
    }
    Ok(())
}

fn may_use(name: &str, dep: &str) -> Result<bool> {
    if let Some(row) = row(name) {
        return Ok(BELOW_SENTRY.contains(&dep) || self::row(dep).is_some_and(|d| d < row));
    }
    if name == "platforms" {
        return Ok(dep.starts_with("platform-"));
    }
    if let Some((_, list)) = OUTSIDE.iter().find(|(n, _)| *n == name) {
        return Ok(list.contains(&dep));
    }
    if name.starts_with("platform-") {
        return Ok(dep == "platform-api");
    }
    anyhow::bail!("{name} has no place in xtask/src/tidy/layers.rs yet: give it one")
}

fn row(name: &str) -> Option<usize> {
    SENTRY.iter().position(|row| row.contains(&name))
}

struct Packages {
    members: BTreeSet<String>,
    /// What each package needs to be built, by name; not for its tests.
    direct: BTreeMap<String, BTreeSet<String>>,
}

impl Packages {
    fn read(all: &Value) -> Result<Self> {
        let list = |v: &Value, what: &str| -> Result<Vec<Value>> {
            Ok(v.as_array()
                .with_context(|| format!("metadata has {what}"))?
                .clone())
        };
        let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
        let mut names = BTreeMap::new();
        for package in list(&all["packages"], "packages")? {
            names.insert(text(&package["id"]), text(&package["name"]));
        }
        let name_of = |id: &Value| names.get(&text(id)).cloned().unwrap_or_default();
        let members = list(&all["workspace_members"], "members")?
            .iter()
            .map(name_of)
            .collect();
        let mut direct: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for node in list(&all["resolve"]["nodes"], "a resolve")? {
            let deps = list(&node["deps"], "dependencies")?
                .iter()
                .filter(|dep| {
                    let kinds = dep["dep_kinds"].as_array();
                    kinds.is_some_and(|kinds| kinds.iter().any(|k| k["kind"] != "dev"))
                })
                .map(|dep| name_of(&dep["pkg"]))
                .collect::<Vec<_>>();
            direct.entry(name_of(&node["id"])).or_default().extend(deps);
        }
        Ok(Self { members, direct })
    }

    fn reach(&self, from: &str) -> BTreeSet<&str> {
        let mut seen = BTreeSet::new();
        let mut open = vec![from];
        while let Some(name) = open.pop() {
            for dep in self.direct.get(name).into_iter().flatten() {
                if seen.insert(dep.as_str()) {
                    open.push(dep);
                }
            }
        }
        seen
    }
}
