//! More of everything than is good: the guest gets what Linux gives it, and the sandbox goes on
//! answering.

use crate::case::{Result, cases, ensure, equal, exited};
use crate::place::{Place, eventually};
use serde_json::{Value, json};

cases!("limits":
    a_memory_hog,
    a_directory_of_a_hundred_thousand,
);

/// Runs `script` in a container `c` with these `linux.resources`.
fn started(place: &Place<'_>, resources: Value, script: &str) -> Result {
    let dir = place.shell(script, |config| config["linux"]["resources"] = resources)?;
    let dir = dir.to_string_lossy().into_owned();
    let mut command = place.runtime.command();
    command.args(["run", "--detach", "--bundle", &dir, "c"]);
    let mut run = place.spawn(&mut command)?;
    let end = run.finish();
    ensure(end == "exit 0", || format!("{end}: {}", run.output()))
}

/// How many processes `ps` lists.
fn processes(place: &Place<'_>) -> Result<usize> {
    let outcome = place.ringfence(&["ps", "c"]);
    exited(&outcome, 0)?;
    Ok(outcome.out().lines().count() - 1)
}

/// What is in a file of the container; nothing before it is there.
fn log(place: &Place<'_>) -> Result<String> {
    Ok(std::fs::read_to_string(place.tree()?.join("log")).unwrap_or_default())
}

fn a_memory_hog(place: &Place<'_>) -> Result {
    // One line without an end.
    let script = "tail -n 1 /dev/zero; echo $? > /log; exec sleep 1000";
    started(place, json!({"memory": {"limit": 64 << 20}}), script)?;
    eventually("status of the hog", || {
        exited(&place.ringfence(&["events", "--stats", "c"]), 0)?;
        Ok(log(place)?.ends_with('\n'))
    })?;
    equal("status", &log(place)?, &"137\n".to_owned())?;
    equal("processes", &processes(place)?, &1)?;
    place.gone()
}

fn a_directory_of_a_hundred_thousand(place: &Place<'_>) -> Result {
    let script = "mkdir /dev/shm/d; cd /dev/shm/d; n=0
        while [ $n -lt 100000 ]; do : > $n; n=$((n+1)); done
        echo $(ls | wc -l) $(ls | sort -n | tail -n 1) > /log
        rm [1-9]*; echo $(ls) >> /log; exec sleep 1000";
    started(place, json!({}), script)?;
    eventually("all names", || {
        equal("status", &place.status("c")?, &"running".to_owned())?;
        Ok(log(place)?.lines().count() == 2)
    })?;
    equal("log", &log(place)?, &"100000 99999\n0\n".to_owned())?;
    place.gone()
}
