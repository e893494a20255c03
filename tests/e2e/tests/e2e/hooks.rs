//! The specification's hooks.

use crate::case::{Result, cases, ensure, equal, exited, refused, said};
use crate::place::Place;
use serde_json::{Value, json};

cases!("hooks":
    all_six_kinds_in_their_order,
    one_inside_is_a_process_of_the_container,
    a_failure_before_the_program_ends_it,
    a_late_failure_is_a_warning,
    what_takes_too_long_is_killed,
    a_failed_start_is_told,
);

/// A hook on the host that logs its name and its input.
fn logged(place: &Place<'_>, name: &str, end: &str) -> Value {
    let log = place.dir.join("hooks");
    let script = format!("echo {name} $(cat) >> {}; {end}", log.display());
    json!({"path": "/bin/sh", "args": ["sh", "-c", script]})
}

/// The names that were logged, each with the state it was given.
fn log(place: &Place<'_>) -> Result<Vec<(String, Value)>> {
    let text = std::fs::read_to_string(place.dir.join("hooks")).unwrap_or_default();
    let mut all = Vec::new();
    for line in text.lines() {
        let (name, state) = line.split_once(' ').unwrap_or((line, "{}"));
        all.push((name.to_owned(), serde_json::from_str(state)?));
    }
    Ok(all)
}

fn names(place: &Place<'_>) -> Result<Vec<String>> {
    Ok(log(place)?.into_iter().map(|(name, _)| name).collect())
}

fn all_six_kinds_in_their_order(place: &Place<'_>) -> Result {
    let inside = json!({"path": "/bin/sh", "args": ["sh", "-c", "cat > /state"]});
    let dir = place.shell("test -s /state && echo started; exit 3", |c| {
        c["annotations"] = json!({"a.b": "c"});
        c["hooks"] = json!({
            "poststop": [logged(place, "poststop", "")],
            "poststart": [logged(place, "poststart", "")],
            "startContainer": [inside],
            "createContainer": [logged(place, "createContainer", "")],
            "createRuntime": [logged(place, "first", ""), logged(place, "second", "")],
            "prestart": [logged(place, "prestart", "")],
        });
    })?;
    said(&place.run(&dir, "c"), 3, "started\n")?;
    let want = [
        "prestart",
        "first",
        "second",
        "createContainer",
        "poststart",
        "poststop",
    ];
    equal("hooks", &names(place)?, &want.map(String::from).to_vec())?;
    let text = std::fs::read(place.tree()?.join("state"))?;
    let started: Value = serde_json::from_slice(&text)?;
    let mut states = log(place)?;
    states.insert(4, ("startContainer".to_owned(), started));
    let statuses: Vec<_> = states.iter().map(|(_, s)| s["status"].as_str()).collect();
    // Also when the program is over by the time that poststart sees it.
    equal("status", &statuses[5], &Some("running"))?;
    let early = [Some("creating"); 4];
    equal("statuses", &&statuses[..4], &&early[..])?;
    equal(
        "statuses",
        &[statuses[4], statuses[6]],
        &[Some("created"), Some("stopped")],
    )?;
    for (name, state) in &states {
        let good = state["id"] == "c"
            && state["bundle"] == json!(dir.canonicalize()?)
            && state["annotations"]["a.b"] == "c"
            && state["ociVersion"].is_string();
        ensure(good, || format!("{name}: {state}"))?;
        let alive = state["pid"].as_i64().is_some_and(|pid| pid > 1);
        equal(
            name,
            &alive,
            &(name != "poststop" && state["status"] != "stopped"),
        )?;
    }
    place.nothing_left()
}

fn one_inside_is_a_process_of_the_container(place: &Place<'_>) -> Result {
    // Arguments and environment are its own, the rest is the program's.
    let script = "{ echo $0 $A $(id -u) $(hostname) $(pwd); test $$ != 1 && echo not init; \
                  grep NoNewPrivs /proc/self/status; test -d /proc/1 || echo first; } > /tmp/said";
    let dir = place.shell("cat /tmp/said; echo $$", |c| {
        c["process"]["user"] = json!({"uid": 7, "gid": 8});
        c["process"]["cwd"] = "/tmp".into();
        c["process"]["noNewPrivileges"] = true.into();
        c["hooks"] = json!({"startContainer": [
            {"path": "/bin/sh", "args": ["sh", "-c", script, "zero"], "env": ["A=b", "PATH=/bin"]},
        ]});
    })?;
    let want = "b 7 ringfence /tmp\nnot init\nNoNewPrivs:\t1\nfirst\n1\n";
    said(&place.run(&dir, "c"), 0, &format!("zero {want}"))?;
    place.nothing_left()
}

fn a_failure_before_the_program_ends_it(place: &Place<'_>) -> Result {
    for kind in [
        "prestart",
        "createRuntime",
        "createContainer",
        "startContainer",
    ] {
        let dir = place.shell("echo must not run", |c| {
            c["hooks"] = json!({
                kind: [{"path": "/bin/sh", "args": ["sh", "-c", "exit 5"]}],
                "poststart": [logged(place, "poststart", "")],
                "poststop": [logged(place, "poststop", "")],
            });
        })?;
        let outcome = place.run(&dir, "c");
        refused(&outcome, 128, &[kind, "/bin/sh", "exit status: 5"])?;
        equal("after it", &names(place)?, &vec!["poststop".to_owned()])?;
        std::fs::remove_file(place.dir.join("hooks"))?;
        place.nothing_left()?;
    }
    let dir = place.shell("echo must not run", |c| {
        c["hooks"] = json!({"startContainer": [{"path": "/bin/nosuch"}]});
    })?;
    refused(
        &place.run(&dir, "c"),
        128,
        &["startContainer", "/bin/nosuch"],
    )?;
    place.nothing_left()
}

fn a_late_failure_is_a_warning(place: &Place<'_>) -> Result {
    let dir = place.shell("echo in it", |c| {
        c["hooks"] = json!({
            "poststart": [logged(place, "a", "exit 1"), logged(place, "b", "")],
            "poststop": [logged(place, "c", "exit 1"), logged(place, "d", "")],
        });
    })?;
    said(&place.run(&dir, "c"), 0, "in it\n")?;
    equal(
        "all",
        &names(place)?,
        &["a", "b", "c", "d"].map(String::from).to_vec(),
    )?;
    place.nothing_left()
}

fn what_takes_too_long_is_killed(place: &Place<'_>) -> Result {
    for kind in ["createRuntime", "startContainer"] {
        let dir = place.shell("echo must not run", |c| {
            c["hooks"] = json!({kind: [
                {"path": "/bin/sh", "args": ["sh", "-c", "exec sleep 1000"], "timeout": 1},
            ]});
        })?;
        refused(
            &place.run(&dir, "c"),
            128,
            &[kind, "did not end within 1 s"],
        )?;
        place.nothing_left()?;
    }
    Ok(())
}

fn a_failed_start_is_told(place: &Place<'_>) -> Result {
    let dir = place.shell("echo must not run", |c| {
        c["hooks"] = json!({
            "startContainer": [{"path": "/bin/false"}],
            "poststop": [logged(place, "poststop", "")],
        });
    })?;
    let bundle = dir.to_string_lossy().into_owned();
    exited(&place.ringfence(&["create", "--bundle", &bundle, "c"]), 0)?;
    refused(
        &place.ringfence(&["start", "c"]),
        128,
        &["startContainer", "/bin/false"],
    )?;
    equal("status", &place.status("c")?, &"stopped".to_owned())?;
    exited(&place.ringfence(&["delete", "c"]), 0)?;
    equal("after it", &names(place)?, &vec!["poststop".to_owned()])?;
    place.nothing_left()
}
