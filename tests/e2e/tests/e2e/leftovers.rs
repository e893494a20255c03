//! Nothing is left behind, whoever ends and how: no process, mount, socket or file.

use crate::case::{Result, Stop, cases, ensure, equal, exited, said};
use crate::place::{Place, eventually};
use nix::sys::signal::{Signal, kill};
use std::time::Duration;

cases!("leftovers":
    background_processes_end_with_the_first,
    the_caller_is_told_to_end,
    a_stubborn_program_is_interrupted_three_times,
    the_caller_is_killed,
    the_caller_is_killed_while_it_starts,
    the_caller_is_told_to_end_while_it_starts,
    the_gofer_is_killed,
    the_sandbox_process_is_killed,
    both_are_killed_before_start,
    a_stub_is_killed,
    many_at_once,
    what_was_killed_is_collected,
);

const WAITS: &str = "echo up; exec sleep 1000";

fn background_processes_end_with_the_first(place: &Place<'_>) -> Result {
    let script = "for n in 1 2 3 4 5; do (trap '' TERM HUP INT; sleep 1000) & done; \
                  (setsid sleep 1000 &) ; nohup sleep 1000 >/dev/null 2>&1 & exit 4";
    let dir = place.shell(script, |_| {})?;
    exited(&place.run(&dir, "c"), 4)?;
    place.nothing_left()?;
    exited(&place.ringfence(&["do", "--", "sh", "-c", script]), 4)?;
    place.nothing_left()
}

fn the_caller_is_told_to_end(place: &Place<'_>) -> Result {
    for signal in [
        Signal::SIGTERM,
        Signal::SIGINT,
        Signal::SIGHUP,
        Signal::SIGQUIT,
    ] {
        let mut command = place.runtime.command();
        command.args(["do", "--", "sh", "-c", WAITS]);
        let mut run = place.spawn(&mut command)?;
        run.wait_for("up")?;
        run.signal(signal)?;
        equal(
            "end",
            &run.finish(),
            &format!("exit {}", 128 + signal as i32),
        )?;
        place.nothing_left()?;
    }
    Ok(())
}

fn a_stubborn_program_is_interrupted_three_times(place: &Place<'_>) -> Result {
    let dir = place.shell("trap '' INT; echo up; while :; do sleep 1; done", |_| {})?;
    let mut run = place.spawn(&mut place.runtime.run(&dir, "c"))?;
    run.wait_for("up")?;
    for _ in 0..3 {
        run.signal(Signal::SIGINT)?;
        // Two of the same at once are one.
        std::thread::sleep(Duration::from_millis(100));
    }
    equal("end", &run.finish(), &"exit 137".to_owned())?;
    place.nothing_left()
}

fn gone(place: &Place<'_>, what: &str) -> Result {
    eventually(&format!("end of all processes after {what}"), || {
        Ok(!place.left().contains("process "))
    })
}

fn the_caller_is_killed(place: &Place<'_>) -> Result {
    let dir = place.shell(WAITS, |_| {})?;
    let mut run = place.spawn(&mut place.runtime.run(&dir, "c"))?;
    run.wait_for("up")?;
    run.signal(Signal::SIGKILL)?;
    equal("end", &run.finish(), &"signal 9".to_owned())?;
    gone(place, "SIGKILL of the launcher")?;
    // Its files go with the next command, whichever that is.
    said(&place.ringfence(&["list", "-q"]), 0, "")?;
    place.nothing_left()?;
    // The id is free again.
    let dir = place.shell("echo again", |_| {})?;
    said(&place.run(&dir, "c"), 0, "again\n")
}

fn the_caller_is_killed_while_it_starts(place: &Place<'_>) -> Result {
    let dir = place.shell(WAITS, |_| {})?;
    for millis in [0, 1, 2, 4, 6, 8, 11, 14, 18, 24, 32, 45, 60] {
        let mut run = place.spawn(&mut place.runtime.run(&dir, "c"))?;
        std::thread::sleep(Duration::from_millis(millis));
        run.signal(Signal::SIGKILL)?;
        run.finish();
        gone(place, &format!("SIGKILL after {millis} ms"))?;
    }
    said(&place.ringfence(&["list", "-q"]), 0, "")?;
    place.nothing_left()
}

fn the_caller_is_told_to_end_while_it_starts(place: &Place<'_>) -> Result {
    let tree = place.tree()?;
    for millis in [0, 2, 5, 8, 12, 17, 25, 40] {
        let mut command = place.runtime.command();
        command
            .args(["do", "--root"])
            .arg(&tree)
            .args(["--", "/bin/sleep", "1000"]);
        let mut run = place.spawn(&mut command)?;
        std::thread::sleep(Duration::from_millis(millis));
        run.signal(Signal::SIGTERM)?;
        // By the signal itself, by our word for it, or by the program's end.
        let end = run.finish();
        ensure(end == "signal 15" || end == "exit 143", || {
            format!("{millis} ms: {end} {}", run.output())
        })?;
        place.nothing_left()?;
    }
    Ok(())
}

/// A container that runs detached.
fn detached(place: &Place<'_>, id: &str) -> Result {
    let dir = place.shell(WAITS, |_| {})?;
    let bundle = dir.to_string_lossy().into_owned();
    exited(&place.ringfence(&["run", "--detach", "-b", &bundle, id]), 0)
}

/// `state` says that it has stopped, and it can be deleted.
fn truth_is_told(place: &Place<'_>, id: &str) -> Result {
    eventually("stopped container", || Ok(place.status(id)? == "stopped"))?;
    equal("pid", &place.state(id)?["pid"], &0.into())?;
    gone(place, "that")?;
    said(&place.ringfence(&["delete", id]), 0, "")?;
    place.nothing_left()
}

fn the_gofer_is_killed(place: &Place<'_>) -> Result {
    // Attached: a failure with a message.
    let dir = place.shell(
        "echo up; sleep 1; while :; do ls / > /dev/null; sleep 0.1; done",
        |_| {},
    )?;
    let mut run = place.spawn(&mut place.runtime.run(&dir, "c"))?;
    run.wait_for("up")?;
    kill(place.pid("c", "gofer")?, Signal::SIGKILL)?;
    let end = run.finish();
    ensure(end.starts_with("exit ") && end != "exit 0", || end.clone())?;
    ensure(run.output().contains("gofer"), || run.output())?;
    place.nothing_left()?;
    detached(place, "d")?;
    kill(place.pid("d", "gofer")?, Signal::SIGKILL)?;
    truth_is_told(place, "d")
}

fn the_sandbox_process_is_killed(place: &Place<'_>) -> Result {
    let dir = place.shell(WAITS, |_| {})?;
    let mut run = place.spawn(&mut place.runtime.run(&dir, "c"))?;
    run.wait_for("up")?;
    kill(place.pid("c", "sandbox")?, Signal::SIGKILL)?;
    equal("end", &run.finish(), &"exit 137".to_owned())?;
    place.nothing_left()?;
    detached(place, "d")?;
    kill(place.pid("d", "sandbox")?, Signal::SIGKILL)?;
    truth_is_told(place, "d")
}

fn both_are_killed_before_start(place: &Place<'_>) -> Result {
    let dir = place.shell(WAITS, |_| {})?;
    let bundle = dir.to_string_lossy().into_owned();
    for which in [&["sandbox"] as &[&str], &["gofer"], &["gofer", "sandbox"]] {
        exited(&place.ringfence(&["create", "-b", &bundle, "c"]), 0)?;
        for process in which {
            // The one may have taken the other with it.
            let _gone = kill(place.pid("c", process)?, Signal::SIGKILL);
        }
        eventually("stopped container", || Ok(place.status("c")? == "stopped"))?;
        crate::case::refused(&place.ringfence(&["start", "c"]), 128, &["stopped"])?;
        truth_is_told(place, "c")?;
    }
    Ok(())
}

/// The stubs that run guest code are the sandbox process's children.
fn a_stub_is_killed(place: &Place<'_>) -> Result {
    let dir = place.shell("echo up; while :; do :; done", |_| {})?;
    let mut run = place.spawn(&mut place.runtime.run(&dir, "c"))?;
    run.wait_for("up")?;
    let sandbox = place.pid("c", "sandbox")?.to_string();
    let mut stubs = 0;
    for entry in std::fs::read_dir("/proc")?.flatten() {
        let stat = std::fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        let parent = stat
            .rsplit(')')
            .next()
            .and_then(|rest| rest.split(' ').nth(2));
        if parent == Some(&sandbox) {
            let pid = entry.file_name().to_string_lossy().parse()?;
            let _gone = kill(nix::unistd::Pid::from_raw(pid), Signal::SIGKILL);
            stubs += 1;
        }
    }
    if stubs == 0 {
        return Err(Stop::Skipped("this platform has no stubs".into()));
    }
    let end = run.finish();
    ensure(end != "timeout" && end != "exit 0", || end.clone())?;
    place.nothing_left()
}

fn many_at_once(place: &Place<'_>) -> Result {
    let dir = place.shell("echo $((6*7)); sleep 0.2; exit 5", |c| {
        c["root"]["readonly"] = true.into();
    })?;
    let outcomes: Vec<_> = std::thread::scope(|scope| {
        let runs: Vec<_> = (0..12)
            .map(|n| {
                let (place, dir) = (&place, &dir);
                scope.spawn(move || place.run(dir, &format!("c{n}")))
            })
            .collect();
        runs.into_iter().filter_map(|run| run.join().ok()).collect()
    });
    equal("how many", &outcomes.len(), &12)?;
    for outcome in &outcomes {
        said(outcome, 5, "42\n")?;
    }
    place.nothing_left()
}

fn what_was_killed_is_collected(place: &Place<'_>) -> Result {
    for command in [
        &["list"] as &[&str],
        &["state", "other"],
        &["do", "--", "true"],
    ] {
        let dir = place.shell(WAITS, |_| {})?;
        let mut run = place.spawn(&mut place.runtime.run(&dir, "c"))?;
        run.wait_for("up")?;
        run.signal(Signal::SIGKILL)?;
        run.finish();
        gone(place, "SIGKILL")?;
        place.ringfence(command);
        place.nothing_left()?;
    }
    Ok(())
}
