//! `pause` and `resume`.

use crate::case::{Result, cases, ensure, equal, exited, refused, said};
use crate::place::{Place, eventually};
use std::path::PathBuf;
use std::time::Duration;

cases!("pause":
    nothing_runs_until_it_goes_on,
    calls_are_not_cut_short,
    what_a_paused_container_answers,
    a_paused_container_is_killed,
    requests_that_are_not_there_yet,
);

fn size(file: &PathBuf) -> u64 {
    std::fs::metadata(file).map_or(0, |m| m.len())
}

/// Some compute, some sleep, some make processes: each leaves traces of its work.
const BUSY: &str = "for n in 1 2; do (while :; do echo x; done > /busy$n) & done
    (while :; do sleep 0.01; echo x; done > /sleepy) & (while :; do /bin/true; echo x; done > /forks) &
    (yes | while read x; do echo x; done > /piped) & wait";

fn nothing_runs_until_it_goes_on(place: &Place<'_>) -> Result {
    place.started(BUSY)?;
    let tree = place.tree()?;
    let files: Vec<PathBuf> = ["busy1", "busy2", "sleepy", "forks", "piped"]
        .iter()
        .map(|name| tree.join(name))
        .collect();
    let sizes = || files.iter().map(size).collect::<Vec<_>>();
    for _ in 0..3 {
        let before = sizes();
        eventually("work of all", || {
            Ok(sizes().iter().zip(&before).all(|(now, then)| now > then))
        })?;
        said(&place.ringfence(&["pause", "c"]), 0, "")?;
        equal("status", &place.status("c")?, &"paused".to_owned())?;
        let at_rest = sizes();
        std::thread::sleep(Duration::from_millis(150));
        equal("sizes", &sizes(), &at_rest)?;
        said(&place.ringfence(&["resume", "c"]), 0, "")?;
        equal("status", &place.status("c")?, &"running".to_owned())?;
    }
    place.gone()
}

fn calls_are_not_cut_short(place: &Place<'_>) -> Result {
    // One that waits for input, one that sleeps, one that waits for a child, one in poll(2).
    let script = "mkfifo /in /poll; trap 'echo usr1 >> /log' USR1
        (read x < /in; echo \"read $x\" >> /log) & (sleep 1; echo \"slept $?\" >> /log) &
        (sh -c 'exit 7' & sleep 0.1; wait $!; echo \"child $?\" >> /log) &
        while [ $(wc -l < /log) != 4 ]; do sleep 0.05; done; sort /log > /sorted; exec sleep 1000";
    std::fs::write(place.tree()?.join("log"), "")?;
    place.started(script)?;
    let (fifo, log) = (place.tree()?.join("in"), place.tree()?.join("sorted"));
    eventually("fifo", || Ok(fifo.exists()))?;
    for _ in 0..20 {
        exited(&place.ringfence(&["pause", "c"]), 0)?;
        exited(&place.ringfence(&["resume", "c"]), 0)?;
    }
    exited(&place.ringfence(&["pause", "c"]), 0)?;
    // It is taken now, and handled afterwards.
    exited(&place.ringfence(&["kill", "c", "USR1"]), 0)?;
    exited(&place.ringfence(&["resume", "c"]), 0)?;
    exited(
        &place.ringfence(&["exec", "c", "sh", "-c", "echo it > /in"]),
        0,
    )?;
    eventually("all four", || Ok(log.exists() && size(&log) > 0))?;
    let want = "child 7\nread it\nslept 0\nusr1\n".to_owned();
    eventually("whole file", || Ok(size(&log) == want.len() as u64))?;
    equal("log", &std::fs::read_to_string(&log)?, &want)?;
    place.gone()
}

fn what_a_paused_container_answers(place: &Place<'_>) -> Result {
    let dir = place.shell("exec sleep 1000", |_| {})?;
    let bundle = dir.to_string_lossy().into_owned();
    exited(&place.ringfence(&["create", "-b", &bundle, "c"]), 0)?;
    refused(
        &place.ringfence(&["pause", "c"]),
        128,
        &["created", "running"],
    )?;
    exited(&place.ringfence(&["start", "c"]), 0)?;
    refused(
        &place.ringfence(&["resume", "c"]),
        128,
        &["running", "paused"],
    )?;
    exited(&place.ringfence(&["pause", "c"]), 0)?;
    refused(&place.ringfence(&["pause", "c"]), 128, &["paused"])?;
    refused(&place.ringfence(&["start", "c"]), 128, &["paused"])?;
    refused(
        &place.ringfence(&["delete", "c"]),
        128,
        &["paused", "--force"],
    )?;
    refused(
        &place.ringfence(&["exec", "c", "true"]),
        128,
        &["paused", "resume", "--ignore-paused"],
    )?;
    for line in [
        &["ps", "c"] as &[&str],
        &["events", "--stats", "c"],
        &["state", "c"],
    ] {
        exited(&place.ringfence(line), 0)?;
    }
    // One that is let in all the same runs when the others do.
    let mut command = place.runtime.command();
    command.args(["exec", "--ignore-paused", "c", "echo", "late"]);
    let mut exec = place.spawn(&mut command)?;
    eventually("second process", || {
        Ok(place.ringfence(&["ps", "c"]).out().lines().count() == 3)
    })?;
    std::thread::sleep(Duration::from_millis(100));
    equal("output", &exec.output(), &String::new())?;
    exited(&place.ringfence(&["resume", "c"]), 0)?;
    equal("end", &exec.finish(), &"exit 0".to_owned())?;
    equal("output", &exec.output(), &"late\n".to_owned())?;
    place.gone()
}

fn a_paused_container_is_killed(place: &Place<'_>) -> Result {
    for (line, status) in [
        (&["kill", "c", "KILL"] as &[&str], "stopped"),
        (&["kill", "--all", "c", "KILL"], "stopped"),
        (&["delete", "--force", "c"], ""),
    ] {
        place.started(BUSY)?;
        exited(&place.ringfence(&["pause", "c"]), 0)?;
        exited(&place.ringfence(line), 0)?;
        if !status.is_empty() {
            eventually("stopped container", || Ok(place.status("c")? == status))?;
            refused(&place.ringfence(&["resume", "c"]), 128, &["stopped"])?;
        }
        place.gone()?;
    }
    // One process alone, by its number.
    place.started("sleep 1000; echo $? > /status; exec sleep 1000")?;
    eventually("second process", || {
        Ok(place.ringfence(&["ps", "c"]).out().contains(" 2 "))
    })?;
    exited(&place.ringfence(&["pause", "c"]), 0)?;
    exited(&place.ringfence(&["kill", "--pid", "2", "c", "KILL"]), 0)?;
    exited(&place.ringfence(&["resume", "c"]), 0)?;
    let file = place.tree()?.join("status");
    eventually("status", || Ok(size(&file) == 4))?;
    equal(
        "status",
        &std::fs::read_to_string(&file)?,
        &"137\n".to_owned(),
    )?;
    refused(
        &place.ringfence(&["kill", "--pid", "2", "c"]),
        128,
        &["No such process"],
    )?;
    place.gone()
}

fn requests_that_are_not_there_yet(place: &Place<'_>) -> Result {
    place.started("exec sleep 1000")?;
    for line in [
        &["checkpoint", "c"] as &[&str],
        &["checkpoint", "c", "--image-path", "/x", "--leave-running"],
        &["restore", "d", "--bundle", "/x", "--image-path", "/x"],
    ] {
        refused(&place.ringfence(line), 128, &["not supported yet"])?;
    }
    equal("status", &place.status("c")?, &"running".to_owned())?;
    let outcome = place.ringfence(&["features"]);
    exited(&outcome, 0)?;
    let features: serde_json::Value = serde_json::from_slice(&outcome.stdout)?;
    equal(
        "seccomp",
        &features["linux"]["seccomp"]["enabled"],
        &true.into(),
    )?;
    let names = features["linux"]["capabilities"].as_array();
    ensure(
        names.is_some_and(|n| n.contains(&"CAP_CHOWN".into())),
        || features.to_string(),
    )?;
    let options = features["mountOptions"].as_array();
    for name in ["ro", "rro", "bind", "nosymfollow", "rslave"] {
        let has = options.is_some_and(|n| n.contains(&name.into()));
        ensure(has, || format!("no {name} in {features}"))?;
    }
    place.gone()
}
