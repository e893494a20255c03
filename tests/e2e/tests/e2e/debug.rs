//! `debug`: stacks, logging and traces of a sandbox that runs.

use crate::case::{Result, cases, ensure, equal, exited, failed, refused, said};
use crate::place::{Background, Place, eventually};
use nix::sys::signal::Signal;
use serde_json::Value;
use std::path::Path;

cases!("debug":
    every_thread_has_a_stack,
    stacks_are_there_before_the_start_and_not_after_the_end,
    looking_on_disturbs_nobody,
    the_log_changes_while_it_runs,
    a_trace_holds_what_tasks_do,
    a_trace_ends_with_the_container_or_its_caller,
    what_cannot_be_traced_into,
    nothing_of_what_ended_is_kept,
);

/// Guest code that computes, that sleeps, that makes processes and faults, and that wakes others.
const BUSY: &str = "(while :; do :; done) & (while :; do sleep 0.01; done) &
    (yes | while read x; do echo x; done > /dev/null) & wait";

fn every_thread_has_a_stack(place: &Place<'_>) -> Result {
    place.started(BUSY)?;
    // The shell waits once it has started the others.
    eventually("waiting shell", || {
        Ok(place.ringfence(&["debug", "c"]).out().contains(" wait4 "))
    })?;
    for _ in 0..10 {
        let outcome = place.ringfence(&["debug", "--stacks", "c"]);
        exited(&outcome, 0)?;
        let text = outcome.out();
        let threads: Vec<&str> = text.split("\nthread ").skip(1).collect();
        let good = threads.len() >= 4
            // The first thread waits in `main`, and one runs the shell, which waits for others.
            && threads[0].contains("__libc_start_main")
            && threads[0].contains("main")
            && text.contains("wait4")
            && threads.iter().any(|t| t.contains("runs task 1:") && t.contains("park"))
            && threads.iter().all(|t| t.contains("#0 ") || t.contains("takes no signals"));
        ensure(good, || text.clone())?;
    }
    place.gone()
}

fn stacks_are_there_before_the_start_and_not_after_the_end(place: &Place<'_>) -> Result {
    let dir = place.shell("exit 3", |_| {})?;
    let bundle = dir.to_string_lossy().into_owned();
    exited(&place.ringfence(&["create", "-b", &bundle, "c"]), 0)?;
    let outcome = place.ringfence(&["debug", "c"]);
    exited(&outcome, 0)?;
    ensure(outcome.out().contains("#0 "), || outcome.out())?;
    exited(&place.ringfence(&["start", "c"]), 0)?;
    eventually("stopped container", || Ok(place.status("c")? == "stopped"))?;
    refused(&place.ringfence(&["debug", "c"]), 128, &["stopped"])?;
    refused(
        &place.ringfence(&["debug", "--log-level", "info", "c"]),
        128,
        &["stopped"],
    )?;
    refused(
        &place.ringfence(&["debug", "nobody"]),
        128,
        &["nobody", "not exist"],
    )?;
    place.gone()
}

/// Calls that wait are not cut short, and nothing is lost of what goes on.
fn looking_on_disturbs_nobody(place: &Place<'_>) -> Result {
    let script = "n=0; mkfifo /in; (read x < /in; echo \"read $x\" > /read) &
        while [ $n -lt 300 ]; do n=$((n + $(echo 1))); done | cat; sleep 0.5; seq 1 20000 | tail -n 1;
        echo > /counted; wait; cat /read";
    let dir = place.shell(script, |_| {})?;
    let mut run = place.spawn(&mut place.runtime.run(&dir, "c"))?;
    let counted = place.tree()?.join("counted");
    eventually("control socket", || {
        Ok(place.ringfence(&["debug", "c"]).code() == Some(0))
    })?;
    let mut looked = 0;
    while !counted.exists() {
        let outcome = place.ringfence(&["debug", "--stacks", "c"]);
        exited(&outcome, 0)?;
        looked += 1;
    }
    ensure(looked > 0, || "it was over too soon".to_owned())?;
    // It may end together with the container.
    place.ringfence(&["exec", "c", "sh", "-c", "echo it > /in"]);
    equal("end", &run.finish(), &"exit 0".to_owned())?;
    equal("output", &run.output(), &"20000\nread it\n".to_owned())?;
    place.nothing_left()
}

fn lines(file: &Path, word: &str) -> usize {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    text.lines().filter(|l| l.contains(word)).count()
}

fn the_log_changes_while_it_runs(place: &Place<'_>) -> Result {
    place.started("while :; do read x < /etc/passwd; sleep 0.01; done")?;
    refused(
        &place.ringfence(&["debug", "--strace=on", "c"]),
        128,
        &["without a log", "--debug-log"],
    )?;
    let logs = place.dir.join("logs");
    let log = logs.join("boot.log");
    let to = logs.to_string_lossy().into_owned();
    let debug = |args: &[&str]| {
        let line = [&["debug"], args, &["c"]].concat();
        said(&place.ringfence(&line), 0, "")
    };
    let state = || place.status("c").map(drop);
    // The control server's own records are of the level debug.
    debug(&["--debug-log", &to])?;
    state()?;
    exited(&place.ringfence(&["ps", "c"]), 0)?;
    equal("records at first", &lines(&log, "DEBUG"), &0)?;
    debug(&["--log-level", "debug"])?;
    exited(&place.ringfence(&["ps", "c"]), 0)?;
    equal("records of ps", &lines(&log, "Processes"), &1)?;
    debug(&["--log-filter", "sentry_boot=off"])?;
    exited(&place.ringfence(&["ps", "c"]), 0)?;
    equal("records of ps", &lines(&log, "Processes"), &1)?;
    debug(&["--log-level", "off", "--log-filter", "", "--strace=on"])?;
    eventually("call in the log", || Ok(lines(&log, "read(0, ") > 3))?;
    debug(&["--strace=off"])?;
    // A call that was under way is the last: after the next process's end there is none.
    let calls = || lines(&log, "strace");
    let reads = place.ringfence(&["exec", "c", "sh", "-c", "read x < /etc/passwd"]);
    exited(&reads, 0)?;
    let then = calls();
    exited(&place.ringfence(&["exec", "c", "sleep", "0.2"]), 0)?;
    equal("calls in the log", &calls(), &then)?;
    for (args, words) in [
        (["--log-level", "loud"], ["loud", "info"]),
        (["--log-filter", "a=b=c"], ["a=b=c", "TARGET=LEVEL"]),
    ] {
        let line = [&["debug"], &args as &[&str], &["c"]].concat();
        refused(&place.ringfence(&line), 128, &words)?;
    }
    place.gone()
}

/// The events of a trace, which must be whole JSON.
fn events(file: &Path) -> Result<Vec<Value>> {
    let text = std::fs::read(file)?;
    match serde_json::from_slice(&text) {
        Ok(Value::Array(events)) => Ok(events),
        other => failed(format!("{other:?}: {}", String::from_utf8_lossy(&text))),
    }
}

fn a_trace_holds_what_tasks_do(place: &Place<'_>) -> Result {
    place.started(BUSY)?;
    let file = place.dir.join("trace.json");
    let to = file.to_string_lossy().into_owned();
    eventually("trace with all there is", || {
        let line = ["debug", "--trace", &to, "--duration", "0.5", "c"];
        said(&place.ringfence(&line), 0, "")?;
        let events = events(&file)?;
        let mut last = 0.0f64;
        for event in events.iter().filter(|e| e["ph"] == "X") {
            let (start, took) = (event["ts"].as_f64(), event["dur"].as_f64());
            let (Some(start), Some(took)) = (start, took) else {
                return failed(event.to_string());
            };
            last = last.max(start + took);
        }
        let has = |kind: &str, name: &str| {
            let is = |e: &&Value| e["cat"] == kind && e["name"] == name;
            events.iter().any(|e| is(&e))
        };
        // The shell, which waits all the time, is in it too, and by its name.
        let of_the_first = |e: &Value| e["tid"] == 1 && e["name"] == "blocked";
        let named = |e: &Value| e["ph"] == "M" && e["tid"] == 1 && e["args"]["name"] == "sh";
        Ok(last > 0.0
            && has("syscall", "read")
            && has("syscall", "clock_nanosleep")
            && has("fault", "fault")
            && has("sleep", "blocked")
            && has("sleep", "wake-up")
            && events.iter().any(of_the_first)
            && events.iter().any(named))
    })?;
    place.gone()
}

fn a_trace_ends_with_the_container_or_its_caller(place: &Place<'_>) -> Result {
    place.started("exec sleep 1000")?;
    let file = place.dir.join("trace.json");
    let begin = || -> Result<Background> {
        let mut command = place.runtime.command();
        command
            .args(["debug", "--duration", "5000", "--trace"])
            .arg(&file)
            .arg("c");
        let run = place.spawn(&mut command)?;
        eventually("trace", || {
            Ok(std::fs::metadata(&file).is_ok_and(|m| m.len() > 0))
        })?;
        Ok(run)
    };
    let other = place.dir.join("other.json").to_string_lossy().into_owned();
    let second = || place.ringfence(&["debug", "--trace", &other, "--duration", "0.01", "c"]);
    let mut run = begin()?;
    refused(&second(), 128, &["already"])?;
    run.signal(Signal::SIGKILL)?;
    equal("end", &run.finish(), &"signal 9".to_owned())?;
    eventually("end of the first trace", || Ok(second().code() == Some(0)))?;
    std::fs::remove_file(&file)?;
    let mut run = begin()?;
    exited(&place.ringfence(&["kill", "c", "KILL"]), 0)?;
    equal("end", &run.finish(), &"exit 0".to_owned())?;
    ensure(!events(&file)?.is_empty(), || "no events".to_owned())?;
    place.gone()
}

fn what_cannot_be_traced_into(place: &Place<'_>) -> Result {
    place.started("exec sleep 1000")?;
    for (file, word) in [
        ("/dev/full", "regular file"),
        ("/proc/nothing/trace", "/proc/nothing/trace"),
    ] {
        let line = ["debug", "--trace", file, "--duration", "0.1", "c"];
        refused(&place.ringfence(&line), 128, &[word])?;
    }
    equal("status", &place.status("c")?, &"running".to_owned())?;
    place.gone()
}

/// What `debug --counters` says, without what caches and pools may keep.
fn counters(place: &Place<'_>) -> Result<Vec<(String, u64)>> {
    let outcome = place.ringfence(&["debug", "--counters", "c"]);
    exited(&outcome, 0)?;
    let all: Value = serde_json::from_slice(&outcome.stdout)?;
    let get = |name: &str| all[name].as_u64().unwrap_or(u64::MAX);
    ensure(
        get("host_threads") > 0 && get("gofer_descriptors") > 0,
        || outcome.out(),
    )?;
    let mut some: Vec<_> = [
        "tasks",
        "processes",
        "address_spaces",
        "open_files",
        "sockets",
        "descriptors",
        "mappings",
        "futex_waiters",
        "timers",
    ]
    .map(|name| (name.to_owned(), get(name)))
    .into();
    let used = get("dentries").saturating_sub(get("cached_dentries"));
    some.push(("dentries in use".to_owned(), used));
    Ok(some)
}

fn nothing_of_what_ended_is_kept(place: &Place<'_>) -> Result {
    place.started("exec sleep 1000")?;
    let script = "mkdir /d && cd /d && for n in 1 2 3 4 5 6 7 8 9; do echo $n > f$n; done
        (sleep 1000 & a=$!; mkfifo p; cat p & kill -9 $a $!; wait)
        seq 1000 | sort | grep 7 | tee t | wc -l; cp -r /d /e; mv f1 g; ln g h; cat /proc/*/maps > m
        script -qc 'tty; ls' /dev/null; cd /; rm -r /d /e; kill -SEGV $$";
    let work = &["exec", "c", "/bin/sh", "-c", script];
    exited(&place.ringfence(work), 139)?;
    let mut before = counters(place)?;
    eventually("rest", || {
        let now = counters(place)?;
        let rests = now == before && now[0].1 == 1;
        before = now;
        Ok(rests)
    })?;
    for _ in 0..10 {
        exited(&place.ringfence(work), 139)?;
    }
    let mut now = Vec::new();
    let same = eventually("as much as before", || {
        now = counters(place)?;
        Ok(now == before)
    });
    ensure(same.is_ok(), || format!("{before:?}, then {now:?}"))?;
    place.gone()
}
