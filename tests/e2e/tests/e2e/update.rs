//! Limits that change while the container runs.

use crate::case::{Result, Stop, cases, ensure, equal, exited, refused, said};
use crate::place::{Place, eventually};
use serde_json::{Value, json};
use std::io::Write;
use std::path::PathBuf;
use std::process::Stdio;
use test_support::run::Outcome;

cases!("update":
    memory_and_tasks_need_no_group,
    what_is_used_cannot_be_taken,
    limits_come_from_a_file_and_from_standard_input,
    what_cannot_be_changed_is_said,
    the_host_and_the_container_see_a_change,
    block_devices_are_limited_on_the_host,
    a_group_that_is_gone,
);

const MB: u64 = 1 << 20;

/// A container `c` that waits, with these fields of `linux`, and sees its group.
fn started(place: &Place<'_>, linux: Value) -> Result {
    started_with(place, "exec sleep 1000", linux)
}

fn started_with(place: &Place<'_>, script: &str, linux: Value) -> Result {
    let dir = place.shell(script, |config| {
        for (name, value) in linux.as_object().into_iter().flatten() {
            config["linux"][name] = value.clone();
        }
        let group = json!({"destination": "/group", "type": "cgroup2", "source": "cgroup2"});
        if let Some(mounts) = config["mounts"].as_array_mut() {
            mounts.push(group);
        }
    })?;
    let dir = dir.to_string_lossy().into_owned();
    exited(&place.ringfence(&["run", "--detach", "-b", &dir, "c"]), 0)
}

fn exec(place: &Place<'_>, script: &str) -> Outcome {
    place.ringfence(&["exec", "c", "sh", "-c", script])
}

fn update(place: &Place<'_>, options: &[&str]) -> Outcome {
    place.ringfence(&[&["update"], options, &["c"]].concat())
}

/// What the container sees of its limits.
fn seen(place: &Place<'_>, want: &str) -> Result {
    let script = "cd /group; echo $(cat memory.max pids.max cpu.max)";
    said(&exec(place, script), 0, want)
}

fn memory_and_tasks_need_no_group(place: &Place<'_>) -> Result {
    started(place, json!({}))?;
    equal("groups", &groups(place)?, &Vec::new())?;
    seen(place, "max max max 100000\n")?;
    said(&exec(place, "cat /proc/self/cgroup"), 0, "0::/\n")?;
    said(
        &update(place, &["--memory", "64m", "--pids-limit", "20"]),
        0,
        "",
    )?;
    seen(place, "67108864 20 max 100000\n")?;
    let total = exec(place, "grep MemTotal /proc/meminfo");
    said(&total, 0, "MemTotal:          65536 kB\n")?;
    // A line without an end.
    exited(&exec(place, "tail -n 1 /dev/zero"), 137)?;
    let many = "n=0; while [ $n -lt 30 ]; do sleep 1000 & n=$((n+1)); done; echo all";
    let outcome = exec(place, many);
    ensure(
        outcome.code() != Some(0) && outcome.out().is_empty(),
        || format!("30 tasks of 20 were made: {}", outcome.err()),
    )?;
    place.gone()?;
    started(
        place,
        limited(
            place,
            json!({"memory": {"limit": 32 * MB}, "pids": {"limit": 4}}),
        ),
    )?;
    seen(place, "33554432 4 max 100000\n")?;
    said(&update(place, &["--memory=-1", "--pids-limit=-1"]), 0, "")?;
    seen(place, "max max max 100000\n")?;
    exited(
        &exec(place, "dd if=/dev/zero of=/dev/null bs=60M count=1"),
        0,
    )?;
    place.gone()
}

fn what_is_used_cannot_be_taken(place: &Place<'_>) -> Result {
    let script = "head -c 40000000 /dev/zero > /dev/shm/f; echo > /ready; exec sleep 1000";
    let limits = limited(place, json!({"memory": {"limit": 128 * MB}}));
    started_with(place, script, limits)?;
    let ready = place.tree()?.join("ready");
    eventually("file", || Ok(ready.exists()))?;
    let outcome = update(place, &["--memory", "16m", "--pids-limit", "9"]);
    refused(&outcome, 128, &["uses", "16777216", "memory"])?;
    seen(place, "134217728 max max 100000\n")?;
    said(&exec(place, "rm /dev/shm/f"), 0, "")?;
    said(
        &update(place, &["--memory", "16m", "--pids-limit", "9"]),
        0,
        "",
    )?;
    seen(place, "16777216 9 max 100000\n")?;
    place.gone()
}

fn limits_come_from_a_file_and_from_standard_input(place: &Place<'_>) -> Result {
    started(place, json!({}))?;
    let file = place.dir.join("limits.json");
    let limits =
        json!({"memory": {"limit": 96 * MB}, "pids": {"limit": 30}, "blockIO": {"weight": 0}});
    std::fs::write(&file, limits.to_string())?;
    let file = file.to_string_lossy().into_owned();
    // The command line goes before the file, and what is 0 stays.
    said(
        &update(place, &["--resources", &file, "--pids-limit", "40"]),
        0,
        "",
    )?;
    seen(place, "100663296 40 max 100000\n")?;
    let mut command = place.runtime.command();
    command.args(["update", "-r", "-", "c"]);
    let mut child = command.stdin(Stdio::piped()).spawn()?;
    if let Some(mut pipe) = child.stdin.take() {
        pipe.write_all(br#"{"memory":{"limit":0,"swap":0},"pids":{"limit":50}}"#)?;
    }
    ensure(child.wait()?.success(), || "it failed".to_owned())?;
    seen(place, "100663296 50 max 100000\n")?;
    std::fs::write(&file, "{")?;
    refused(
        &update(place, &["-r", &file]),
        128,
        &["limits.json", "JSON"],
    )?;
    std::fs::write(&file, r#"{"pids":{"limit":"x"}}"#)?;
    refused(
        &update(place, &["-r", &file]),
        128,
        &["limits.json", "spec"],
    )?;
    refused(&update(place, &["-r", "/no/such"]), 128, &["/no/such"])?;
    seen(place, "100663296 50 max 100000\n")?;
    place.gone()
}

fn what_cannot_be_changed_is_said(place: &Place<'_>) -> Result {
    refused(
        &update(place, &["--memory", "64m"]),
        128,
        &["does not exist"],
    )?;
    exited(&update(place, &["--memory", "64x"]), 2)?;
    started(place, json!({}))?;
    let no_group = update(place, &["--cpu-quota", "50000", "--pids-limit", "5"]);
    refused(
        &no_group,
        128,
        &["cpu.quota", "control group", "cgroupsPath"],
    )?;
    seen(place, "max max max 100000\n")?;
    exited(&place.ringfence(&["kill", "c", "KILL"]), 0)?;
    eventually("end", || Ok(place.status("c")? == "stopped"))?;
    refused(&update(place, &["--pids-limit", "5"]), 128, &["stopped"])?;
    place.gone()
}

/// The directories of its group on the host.
fn groups(place: &Place<'_>) -> Result<Vec<PathBuf>> {
    let text = std::fs::read(place.runtime.state.join("c/state.json"))?;
    let state: Value = serde_json::from_slice(&text)?;
    let dirs = state["cgroup"].as_array().cloned().unwrap_or_default();
    let dirs = dirs.iter().filter_map(|d| d.as_str().map(PathBuf::from));
    Ok(dirs.collect())
}

/// These limits, and a group of the test's own for them.
fn limited(place: &Place<'_>, resources: Value) -> Value {
    json!({"cgroupsPath": place.group(), "resources": resources})
}

/// A container with a group that was made for it.
fn grouped(place: &Place<'_>, resources: Value) -> Result<Vec<PathBuf>> {
    started(place, limited(place, resources))?;
    let dirs: Vec<PathBuf> = groups(place)?;
    match dirs.first().is_some_and(|dir| dir.is_dir()) {
        true => Ok(dirs),
        false => Err(Stop::Skipped("control groups cannot be made here".into())),
    }
}

/// What is in the first of these files that is there, of version 1 or 2.
fn value(dirs: &[PathBuf], files: [&str; 2]) -> Result<String> {
    let mut all = files
        .iter()
        .flat_map(|f| dirs.iter().map(move |d| d.join(f)));
    match all.find(|path| path.exists()) {
        Some(path) => Ok(std::fs::read_to_string(path)?.trim().to_owned()),
        None => Err(Stop::Skipped(format!("there is no {} here", files[0]))),
    }
}

fn the_host_and_the_container_see_a_change(place: &Place<'_>) -> Result {
    let limits =
        json!({"memory": {"limit": 64 * MB}, "cpu": {"shares": 512}, "pids": {"limit": 50}});
    let dirs = grouped(place, limits)?;
    let memory = || value(&dirs, ["memory.limit_in_bytes", "memory.max"]);
    let above = |limit: u64| (limit + limit / 8 + 64 * MB).to_string();
    equal("memory", &memory()?, &above(64 * MB))?;
    let cpus = || -> Result<usize> { Ok(exec(place, "nproc").out().trim().parse()?) };
    let here = std::thread::available_parallelism()?.get();
    equal("CPUs", &cpus()?, &here)?;
    let options = [
        "--memory",
        "128m",
        "--cpu-quota",
        "20000",
        "--cpu-period",
        "50000",
    ];
    said(&update(place, &options), 0, "")?;
    equal("memory", &memory()?, &above(128 * MB))?;
    let quota = value(&dirs, ["cpu.cfs_quota_us", "cpu.max"])?;
    ensure(quota.starts_with("20000"), || quota.clone())?;
    seen(place, "134217728 50 20000 50000\n")?;
    equal("CPUs by quota", &cpus()?, &here.min(2))?;
    said(
        &update(
            place,
            &["--cpu-quota=-1", "--memory", "32m", "--pids-limit", "20"],
        ),
        0,
        "",
    )?;
    seen(place, "33554432 20 max 50000\n")?;
    equal("memory", &memory()?, &above(32 * MB))?;
    equal(
        "tasks",
        &value(&dirs, ["pids.max", "pids.max"])?,
        &"104".to_owned(),
    )?;
    said(
        &update(place, &["--pids-limit=-1", "--cpu-share", "1024"]),
        0,
        "",
    )?;
    equal(
        "tasks",
        &value(&dirs, ["pids.max", "pids.max"])?,
        &"max".to_owned(),
    )?;
    // Programs that run see it as they see a CPU go and come.
    said(&update(place, &["--cpuset-cpus", "0"]), 0, "")?;
    let counts =
        "nproc; cat /proc/self/status | grep Cpus_allowed_list; grep -c ^processor /proc/cpuinfo";
    said(&exec(place, counts), 0, "1\nCpus_allowed_list:\t0\n1\n")?;
    // A limit that the host refuses changes nothing.
    let refusal = update(place, &["--cpuset-cpus", "9999", "--memory", "16m"]);
    refused(&refusal, 128, &["cpu.cpus", "9999"])?;
    seen(place, "33554432 max max 50000\n")?;
    place.gone()?;
    ensure(dirs.iter().all(|dir| !dir.exists()), || {
        "the group stays".to_owned()
    })
}

/// The number of a block device of the host's, as its control groups write it.
fn block_device() -> Result<(u64, u64)> {
    for entry in std::fs::read_dir("/sys/block")?.flatten() {
        let text = std::fs::read_to_string(entry.path().join("dev"))?;
        if let Some((major, minor)) = text.trim().split_once(':') {
            return Ok((major.parse()?, minor.parse()?));
        }
    }
    Err(Stop::Skipped("this host has no block device".into()))
}

fn block_devices_are_limited_on_the_host(place: &Place<'_>) -> Result {
    let (major, minor) = block_device()?;
    let device = |rate: u64| json!([{"major": major, "minor": minor, "rate": rate}]);
    // Without a controller it says so, as with any other limit.
    let limit = json!({"blockIO": {"throttleReadBpsDevice": device(1 << 30)}});
    let dir = place.shell("exec sleep 1000", |config| {
        config["linux"]["resources"] = limit.clone();
        config["linux"]["cgroupsPath"] = place.group().into();
    })?;
    let dir = dir.to_string_lossy().into_owned();
    let outcome = place.ringfence(&["run", "--detach", "-b", &dir, "c"]);
    if outcome.code() == Some(128) && outcome.err().contains("control group") {
        place.nothing_left()?;
        return Err(Stop::Skipped("no controller of block devices here".into()));
    }
    exited(&outcome, 0)?;
    let dirs = groups(place)?;
    let reads = || value(&dirs, ["blkio.throttle.read_bps_device", "io.max"]);
    let has = |text: String, want: &str| ensure(text.contains(want), || text.clone());
    has(reads()?, &format!("{major}:{minor} "))?;
    has(reads()?, "1073741824")?;
    // What is named changes, and the host's refusal of one thing takes all of it back.
    let changed = |text: Value| -> Result<Outcome> {
        let file = place.dir.join("limits.json");
        std::fs::write(&file, text.to_string())?;
        Ok(update(place, &["-r", &file.to_string_lossy()]))
    };
    let lower = json!({"blockIO": {"throttleReadBpsDevice": device(1 << 20)}});
    said(&changed(lower)?, 0, "")?;
    has(reads()?, "1048576")?;
    let nowhere = json!([{"major": 4095, "minor": 1048575, "rate": 1}]);
    let wrong = json!({"blockIO": {"throttleReadBpsDevice": device(1 << 25),
        "throttleWriteBpsDevice": nowhere}});
    refused(
        &changed(wrong)?,
        128,
        &["throttleWriteBpsDevice", "no whole disk"],
    )?;
    has(reads()?, "1048576")?;
    let none = json!({"blockIO": {"throttleReadBpsDevice": device(0)}});
    said(&changed(none)?, 0, "")?;
    equal("without a limit", &reads()?, &String::new())?;
    refused(
        &update(place, &["--blkio-weight", "5"]),
        128,
        &["blockIO.weight", "10 to 1000"],
    )?;
    let files = [
        "blkio.bfq.weight",
        "io.bfq.weight",
        "io.weight",
        "blkio.weight",
    ];
    let weighed = |text: &str| {
        let files = files
            .iter()
            .flat_map(|f| dirs.iter().map(move |d| d.join(f)));
        let mut texts = files.filter_map(|path| std::fs::read_to_string(path).ok());
        texts.any(|t| t.contains(text))
    };
    match dirs
        .iter()
        .any(|d| files.iter().any(|f| d.join(f).exists()))
    {
        true => {
            said(&update(place, &["--blkio-weight", "1000"]), 0, "")?;
            ensure(weighed("1000"), || "the weight is not there".to_owned())?;
        }
        false => {
            let refusal = update(place, &["--blkio-weight", "1000"]);
            refused(&refusal, 128, &["blockIO.weight"])?;
        }
    }
    let events = place.ringfence(&["events", "--stats", "c"]);
    let events: Value = serde_json::from_str(&events.out())?;
    ensure(
        events["data"]["blkio"]["ioServicedRecursive"].is_array(),
        || events.to_string(),
    )?;
    place.gone()
}

fn a_group_that_is_gone(place: &Place<'_>) -> Result {
    let dirs = grouped(place, json!({"memory": {"limit": 64 * MB}}))?;
    for dir in dirs.iter().filter(|dir| dir.is_dir()) {
        let above = dir
            .parent()
            .map(|d| d.join("cgroup.procs"))
            .unwrap_or_default();
        for pid in std::fs::read_to_string(dir.join("cgroup.procs"))?.lines() {
            // One that was listed may have ended.
            match std::fs::write(&above, pid) {
                Err(e) if e.raw_os_error() == Some(nix::libc::ESRCH) => {}
                moved => moved?,
            }
        }
        std::fs::remove_dir(dir)?;
    }
    equal("status", &place.status("c")?, &"running".to_owned())?;
    let outcome = update(place, &["--memory", "32m"]);
    exited(&outcome, 0)?;
    seen(place, "33554432 max max 100000\n")?;
    let quota = update(place, &["--cpu-quota", "50000"]);
    refused(&quota, 128, &["cpu.quota", "removed"])?;
    said(&place.ringfence(&["pause", "c"]), 0, "")?;
    said(&place.ringfence(&["resume", "c"]), 0, "")?;
    exited(&place.ringfence(&["events", "--stats", "c"]), 0)?;
    exited(&place.ringfence(&["kill", "c", "KILL"]), 0)?;
    eventually("end", || Ok(place.status("c")? == "stopped"))?;
    said(&place.ringfence(&["delete", "c"]), 0, "")?;
    place.nothing_left()
}
