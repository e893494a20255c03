//! Control groups of real containers.

use crate::world::{Skip, World};
use anyhow::{Result, bail, ensure};
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};

/// A path that no other test has.
fn path(name: &str) -> String {
    format!("/ringfence-security-{}-{name}", std::process::id())
}

fn limited(path: &str) -> impl FnOnce(&mut Value) {
    let path = path.to_owned();
    move |config| {
        config["linux"]["cgroupsPath"] = json!(path);
        config["linux"]["resources"] = json!({
            "memory": {"limit": 256 << 20},
            "cpu": {"shares": 512, "cpus": "0"},
            "pids": {"limit": 50},
        });
    }
}

/// The directories of all groups whose name ends so.
fn directories(path: &str) -> Vec<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let of_groups = mounts.lines().filter_map(|line| {
        let mut fields = line.split(' ').skip(1);
        let (place, kind) = (fields.next()?, fields.next()?);
        kind.starts_with("cgroup").then_some(place)
    });
    let found = of_groups.map(|place| Path::new(place).join(path.trim_start_matches('/')));
    found.filter(|d| d.is_dir()).collect()
}

fn gone(path: &str) -> Result<()> {
    match directories(path) {
        left if left.is_empty() => Ok(()),
        left => bail!("left: {left:?}"),
    }
}

pub(crate) fn a_group_holds_every_process(world: &World) -> Result<()> {
    let path = path("holds");
    let running = world.start("c", &[], limited(&path))?;
    if directories(&path).is_empty() {
        bail!(Skip("no control groups can be made here".to_owned()));
    }
    for pid in running.all()? {
        let of = fs::read_to_string(format!("/proc/{pid}/cgroup"))?;
        ensure!(of.contains(&path), "process {pid} is elsewhere:\n{of}");
    }
    let memory = |dir: &PathBuf| {
        let files = ["memory.limit_in_bytes", "memory.max"];
        files
            .iter()
            .find_map(|f| fs::read_to_string(dir.join(f)).ok())
    };
    let limits = directories(&path)
        .iter()
        .filter_map(memory)
        .collect::<Vec<_>>();
    let above = limits.iter().filter_map(|l| l.trim().parse::<u64>().ok());
    // A backstop above what the guest may have.
    let above: Vec<u64> = above.collect();
    ensure!(
        above.iter().any(|n| (256 << 20 < *n) && (*n < 512 << 20)),
        "memory is limited to {above:?}"
    );
    drop(running);
    gone(&path)
}

pub(crate) fn a_group_goes_after_a_crash(world: &World) -> Result<()> {
    let path = path("crash");
    let running = world.start("c", &[], limited(&path))?;
    if directories(&path).is_empty() {
        bail!(Skip("no control groups can be made here".to_owned()));
    }
    running.crash()?;
    world.must(&["delete", "c"])?;
    gone(&path)
}

pub(crate) fn a_refused_limit_leaves_nothing(world: &World) -> Result<()> {
    let path = path("refused");
    let bundle = world.bundle("true", |config| {
        config["linux"]["cgroupsPath"] = json!(path);
        config["linux"]["resources"] = json!({"cpu": {"cpus": "4000"}});
    })?;
    let bundle = bundle.to_string_lossy().into_owned();
    let output = world.ringfence(&["run", "--bundle", &bundle, "c"])?;
    let said = String::from_utf8_lossy(&output.stdout);
    ensure!(!output.status.success(), "it ran");
    ensure!(said.starts_with("error: "), "it said: {said}");
    gone(&path)?;
    let state = fs::read_dir(&world.runtime.state)?.count();
    ensure!(state == 0, "{state} files are left in the state directory");
    Ok(())
}

pub(crate) fn systemds_form_is_mapped(world: &World) -> Result<()> {
    let name = format!("n{}", std::process::id());
    let form = format!("ringfence.slice:test:{name}");
    let place = format!("/ringfence.slice/test-{name}.scope");
    let running = world.start("c", &["--systemd-cgroup"], limited(&form))?;
    if directories(&place).is_empty() {
        bail!(Skip("no control groups can be made here".to_owned()));
    }
    drop(running);
    gone(&place)?;
    // The slice is systemd's as a rule; here it is ours.
    for dir in directories("/ringfence.slice") {
        let _others = fs::remove_dir(dir);
    }
    Ok(())
}
