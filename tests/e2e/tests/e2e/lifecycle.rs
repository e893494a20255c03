//! The life of a container as OCI has it, and the commands around it.

use crate::case::{Result, cases, ensure, equal, exited, refused, said};
use crate::place::{Place, eventually};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use std::time::Duration;
use test_support::run;

cases!("lifecycle":
    run_gives_the_programs_output_and_status,
    a_signals_number_is_in_the_status,
    input_is_passed_and_ends,
    files_are_shared_with_the_caller,
    other_descriptors_are_not_passed_on,
    create_start_kill_delete,
    state_is_as_runcs,
    signals_by_name_and_number,
    kill_all_reaches_every_process,
    the_group_of_the_first_process_is_not_all,
    a_running_container_is_not_deleted,
    an_id_is_taken_once,
    commands_in_the_wrong_state,
    a_detached_container_outlives_its_caller,
    options_before_or_after_the_id,
    the_pid_file,
    run_hands_signals_on,
    lists,
    an_example_is_written_and_runs,
    what_can_be_asked,
    hooks_run_in_their_order,
    annotations_and_hostname,
    kernel_parameters,
    devices_and_where_mounts_come_from,
    two_containers_at_once,
    do_runs_on_this_machines_tree,
);

/// A container that says so and waits.
const WAITS: &str = "echo up; exec sleep 1000";

fn run_gives_the_programs_output_and_status(place: &Place<'_>) -> Result {
    for status in [0, 1, 42, 127, 255] {
        let script = format!("echo out; echo err >&2; exit {status}");
        let dir = place.shell(&script, |_| {})?;
        let outcome = place.run(&dir, "c");
        said(&outcome, status, "out\n")?;
        equal("standard error", &outcome.err(), &"err\n".to_owned())?;
        place.nothing_left()?;
    }
    Ok(())
}

fn a_signals_number_is_in_the_status(place: &Place<'_>) -> Result {
    // Process 1 cannot be killed from inside by most signals, as on Linux; its faults do kill it.
    let outcome = place.ringfence(&["do", "--", "sh", "-c", "kill -TERM $$"]);
    exited(&outcome, 143)?;
    let outcome = place.ringfence(&["do", "--", "sh", "-c", "kill -KILL $$"]);
    exited(&outcome, 137)?;
    let dir = place.shell("kill -TERM $$; kill -KILL $$; exit 3", |_| {})?;
    exited(&place.run(&dir, "c"), 3)?;
    let dir = place.shell("sh -c 'kill -SEGV $$'; exit $?", |_| {})?;
    exited(&place.run(&dir, "c"), 139)
}

fn input_is_passed_and_ends(place: &Place<'_>) -> Result {
    let input: Vec<u8> = (0..3_000_000u32).map(|n| (n % 251) as u8).collect();
    let dir = place.shell("cat; echo end >&2", |_| {})?;
    let outcome = run::run(
        &mut place.runtime.run(&dir, "c"),
        &input,
        Duration::from_secs(20),
    );
    exited(&outcome, 0)?;
    ensure(outcome.stdout == input, || "other bytes came out".into())?;
    // What the container did not read is not eaten by us.
    let dir = place.shell("read x; echo $x", |_| {})?;
    let run = place.runtime.run(&dir, "c");
    let mut shell = std::process::Command::new("sh");
    shell
        .args(["-c", "(\"$@\"; cat)", "sh"])
        .arg(run.get_program())
        .args(run.get_args());
    let outcome = run::run(&mut shell, b"one\ntwo\n", Duration::from_secs(20));
    said(&outcome, 0, "one\ntwo\n")
}

/// One file as standard output and error, written to by two containers and their caller in turn;
/// one that is read from by both.
fn files_are_shared_with_the_caller(place: &Place<'_>) -> Result {
    let dir = place.shell("echo out; echo err >&2; read x; echo \"read $x\"", |_| {})?;
    let run = place.runtime.run(&dir, "c");
    let (input, output) = (place.dir.join("input"), place.dir.join("output"));
    std::fs::write(&input, "one\ntwo\nthree\n")?;
    let script = "in=$1 out=$2; shift 2
        { echo before; \"$@\"; echo between; \"$@\"; cat; echo after; } <$in >$out 2>&1";
    let mut shell = std::process::Command::new("sh");
    shell
        .args(["-c", script, "sh"])
        .args([&input, &output])
        .arg(run.get_program())
        .args(run.get_args());
    exited(&run::run_plain(&mut shell), 0)?;
    let want = "before\nout\nerr\nread one\nbetween\nout\nerr\nread two\nthree\nafter\n";
    equal("file", &std::fs::read_to_string(&output)?, &want.to_owned())
}

fn other_descriptors_are_not_passed_on(place: &Place<'_>) -> Result {
    let dir = place.shell("ls /proc/self/fd >&2", |_| {})?;
    let run = place.runtime.run(&dir, "c");
    let mut shell = std::process::Command::new("sh");
    shell
        .args(["-c", "\"$@\" <&- >&- 9</etc/passwd", "sh"])
        .arg(run.get_program())
        .args(run.get_args());
    let outcome = run::run_plain(&mut shell);
    exited(&outcome, 0)?;
    // Rust opens /dev/null in the place of a closed one, as Go does for runc; 3 is the directory.
    equal("open", &outcome.err(), &"0\n1\n2\n3\n".to_owned())
}

fn create_start_kill_delete(place: &Place<'_>) -> Result {
    let dir = place.shell("echo ran > /ran; exec sleep 1000", |_| {})?;
    let bundle = dir.to_string_lossy().into_owned();
    said(&place.ringfence(&["create", "-b", &bundle, "c1"]), 0, "")?;
    equal("status", &place.status("c1")?, &"created".to_owned())?;
    let ran = place.tree()?.join("ran");
    ensure(!ran.exists(), || "it ran before start".into())?;
    said(&place.ringfence(&["start", "c1"]), 0, "")?;
    equal("status", &place.status("c1")?, &"running".to_owned())?;
    eventually("trace of the program", || Ok(ran.exists()))?;
    said(&place.ringfence(&["kill", "c1", "KILL"]), 0, "")?;
    eventually("stopped container", || Ok(place.status("c1")? == "stopped"))?;
    equal("pid", &place.state("c1")?["pid"], &Value::from(0))?;
    said(&place.ringfence(&["delete", "c1"]), 0, "")?;
    refused(&place.ringfence(&["state", "c1"]), 128, &["c1", "list"])?;
    place.nothing_left()
}

fn state_is_as_runcs(place: &Place<'_>) -> Result {
    let dir = place.shell(WAITS, |c| {
        c["annotations"] = serde_json::json!({"org.example.key": "value"});
    })?;
    let bundle = dir.to_string_lossy().into_owned();
    exited(&place.ringfence(&["create", "-b", &bundle, "c1"]), 0)?;
    let state = place.state("c1")?;
    let root = place.tree()?.canonicalize()?;
    equal("id", &state["id"], &"c1".into())?;
    equal("bundle", &state["bundle"], &bundle.into())?;
    equal("rootfs", &state["rootfs"], &root.to_string_lossy().into())?;
    equal(
        "annotation",
        &state["annotations"]["org.example.key"],
        &"value".into(),
    )?;
    let version = state["ociVersion"].as_str().unwrap_or_default();
    ensure(version.starts_with("1."), || format!("{state}"))?;
    let created = state["created"].as_str().unwrap_or_default();
    ensure(created.len() == 30 && created.ends_with('Z'), || {
        format!("{state}")
    })?;
    equal("owner", &state["owner"], &"root".into())?;
    let pid = state["pid"].as_i64().unwrap_or_default();
    let exe = std::fs::read_link(format!("/proc/{pid}/exe"))?;
    equal("whose pid", &exe, &place.runtime.program.canonicalize()?)?;
    exited(&place.ringfence(&["delete", "--force", "c1"]), 0)
}

fn signals_by_name_and_number(place: &Place<'_>) -> Result {
    let script = "for s in HUP INT USR1 USR2 TERM WINCH; do trap \"echo got $s\" $s; done; \
                  trap 'echo bye; exit 6' QUIT; echo up; while :; do sleep 0.05; done";
    let dir = place.shell(script, |_| {})?;
    let mut run = place.spawn(&mut place.runtime.run(&dir, "c"))?;
    run.wait_for("up")?;
    for (signal, name) in [
        ("HUP", "HUP"),
        ("SIGINT", "INT"),
        ("10", "USR1"),
        ("sigusr2", "USR2"),
        ("WINCH", "WINCH"),
    ] {
        said(&place.ringfence(&["kill", "c", signal]), 0, "")?;
        run.wait_for(&format!("got {name}"))?;
    }
    // TERM is what is sent unless told otherwise.
    said(&place.ringfence(&["kill", "c"]), 0, "")?;
    run.wait_for("got TERM")?;
    for bad in ["NOSUCH", "0", "65", "-1", ""] {
        let outcome = place.ringfence(&["kill", "--", "c", bad]);
        refused(&outcome, 128, &["signal"])?;
    }
    said(&place.ringfence(&["kill", "c", "3"]), 0, "")?;
    equal("end", &run.finish(), &"exit 6".to_owned())
}

fn kill_all_reaches_every_process(place: &Place<'_>) -> Result {
    let script = "(trap 'echo inner; exit' USR1; echo i; while :; do sleep 0.05; done) & \
                  trap 'echo outer' USR1; sleep 0.2; echo up; wait; wait; exit 4";
    let dir = place.shell(script, |_| {})?;
    let mut run = place.spawn(&mut place.runtime.run(&dir, "c"))?;
    run.wait_for("up")?;
    exited(&place.ringfence(&["kill", "--all", "c", "USR1"]), 0)?;
    run.wait_for("inner")?;
    run.wait_for("outer")?;
    equal("end", &run.finish(), &"exit 4".to_owned())
}

/// Process 1 is the leader of group 1, whose negative id kill(2) takes for everybody.
fn the_group_of_the_first_process_is_not_all(place: &Place<'_>) -> Result {
    let script = "
import ctypes, os, signal, time
signal.signal(signal.SIGUSR1, lambda *_: print('first', flush=True))
child = os.fork()
if child == 0:
    os.setsid()
    while True: time.sleep(1)
while os.getpgid(child) == 1: time.sleep(0.01)
PIDFD_SEND_SIGNAL, TO_GROUP = 424, 4
libc = ctypes.CDLL(None, use_errno=True)
sent = libc.syscall(PIDFD_SEND_SIGNAL, os.pidfd_open(1), signal.SIGUSR1, None, TO_GROUP)
print(os.getpid(), os.getpgid(0), sent, flush=True)
os.kill(child, signal.SIGTERM)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
";
    let mut bundle = place.bundle(&["python3", "-B", "-c", script])?;
    bundle.config["root"]["path"] = json!(place.debian()?);
    bundle.write()?;
    said(&place.run(&bundle.dir, "c"), 0, "first\n1 1 0\n-15\n")
}

fn detached(place: &Place<'_>, id: &str, script: &str) -> Result {
    let dir = place.shell(script, |_| {})?;
    let mut command = place.runtime.command();
    command
        .args(["run", "--detach", "--bundle"])
        .arg(&dir)
        .arg(id);
    let mut run = place.spawn(&mut command)?;
    equal("run --detach", &run.finish(), &"exit 0".to_owned())
}

fn a_running_container_is_not_deleted(place: &Place<'_>) -> Result {
    detached(place, "c", WAITS)?;
    let outcome = place.ringfence(&["delete", "c"]);
    refused(&outcome, 128, &["running", "--force"])?;
    equal("status", &place.status("c")?, &"running".to_owned())?;
    said(&place.ringfence(&["delete", "--force", "c"]), 0, "")?;
    // As runc has it, also one that is not there.
    said(&place.ringfence(&["delete", "--force", "c"]), 0, "")?;
    refused(&place.ringfence(&["delete", "c"]), 128, &["c"])?;
    place.nothing_left()
}

fn an_id_is_taken_once(place: &Place<'_>) -> Result {
    detached(place, "c", WAITS)?;
    let dir = place.shell("true", |_| {})?;
    refused(&place.run(&dir, "c"), 128, &["`c` exists", "delete"])?;
    let bundle = dir.to_string_lossy().into_owned();
    let outcome = place.ringfence(&["create", "-b", &bundle, "c"]);
    refused(&outcome, 128, &["`c` exists"])?;
    equal("status", &place.status("c")?, &"running".to_owned())?;
    exited(&place.ringfence(&["delete", "-f", "c"]), 0)?;
    said(&place.run(&dir, "c"), 0, "")
}

fn commands_in_the_wrong_state(place: &Place<'_>) -> Result {
    detached(place, "c", WAITS)?;
    refused(&place.ringfence(&["start", "c"]), 128, &["running"])?;
    exited(&place.ringfence(&["kill", "c", "9"]), 0)?;
    eventually("stopped container", || Ok(place.status("c")? == "stopped"))?;
    refused(&place.ringfence(&["kill", "c"]), 128, &["stopped"])?;
    said(&place.ringfence(&["kill", "--all", "c", "9"]), 0, "")?;
    refused(&place.ringfence(&["start", "c"]), 128, &["stopped"])?;
    exited(&place.ringfence(&["delete", "c"]), 0)?;
    for command in ["start", "state", "kill", "delete"] {
        let outcome = place.ringfence(&[command, "nosuch"]);
        refused(&outcome, 128, &["`nosuch` does not exist"])?;
    }
    Ok(())
}

fn a_detached_container_outlives_its_caller(place: &Place<'_>) -> Result {
    let dir = place.shell(
        "trap 'echo done; exit' TERM; echo up; while :; do sleep 0.05; done",
        |_| {},
    )?;
    let output = place.dir.join("output");
    let mut shell = std::process::Command::new("setsid");
    let run = place.runtime.command();
    shell
        .args([
            "sh",
            "-c",
            "out=$1; shift; \"$@\" > $out 2>&1; exit 5",
            "sh",
        ])
        .arg(&output)
        .arg(run.get_program())
        .args(run.get_args())
        .args(["run", "--detach", "--bundle"])
        .arg(&dir)
        .arg("c");
    exited(&run::run_plain(&mut shell), 5)?;
    equal("status", &place.status("c")?, &"running".to_owned())?;
    let says = |text: &str| Ok(std::fs::read_to_string(&output)?.contains(text));
    eventually("first line", || says("up"))?;
    said(&place.ringfence(&["kill", "c"]), 0, "")?;
    eventually("last line", || says("done"))?;
    eventually("stopped container", || Ok(place.status("c")? == "stopped"))?;
    said(&place.ringfence(&["delete", "c"]), 0, "")
}

fn options_before_or_after_the_id(place: &Place<'_>) -> Result {
    let dir = place.shell("echo it; exit 3", |_| {})?;
    let bundle = dir.to_string_lossy().into_owned();
    let pid = place.dir.join("pid").to_string_lossy().into_owned();
    for line in [
        &["run", "--bundle", &bundle, "--pid-file", &pid, "c"] as &[&str],
        &["run", "c", "--bundle", &bundle, "--pid-file", &pid],
        &["run", "-b", &bundle, "c", "--pid-file", &pid],
        &["run", "--no-pivot", "c", "-b", &bundle, "--systemd-cgroup"],
    ] {
        said(&place.ringfence(line), 3, "it\n")?;
    }
    // The bundle is where one is unless told otherwise.
    let mut command = place.runtime.command();
    command.args(["run", "c"]).current_dir(&dir);
    said(&run::run_plain(&mut command), 3, "it\n")
}

fn the_pid_file(place: &Place<'_>) -> Result {
    let dir = place.shell(WAITS, |_| {})?;
    let (bundle, file) = (dir.to_string_lossy().into_owned(), place.dir.join("pid"));
    let path = file.to_string_lossy().into_owned();
    exited(
        &place.ringfence(&["create", "-b", &bundle, "--pid-file", &path, "c"]),
        0,
    )?;
    let text = std::fs::read_to_string(&file)?;
    equal(
        "pid",
        &Value::from(text.parse::<i64>()?),
        &place.state("c")?["pid"],
    )?;
    exited(&place.ringfence(&["delete", "-f", "c"]), 0)?;
    // One that cannot be written undoes the start.
    let outcome = place.ringfence(&["create", "-b", &bundle, "--pid-file", "/nosuch/pid", "c"]);
    refused(&outcome, 128, &["/nosuch/pid"])?;
    place.nothing_left()
}

fn run_hands_signals_on(place: &Place<'_>) -> Result {
    let script = "trap 'echo term; exit 9' TERM; trap 'echo usr1' USR1; trap 'echo int' INT; echo up; \
                  while :; do sleep 0.05; done";
    let dir = place.shell(script, |_| {})?;
    let mut run = place.spawn(&mut place.runtime.run(&dir, "c"))?;
    run.wait_for("up")?;
    run.signal(Signal::SIGUSR1)?;
    run.wait_for("usr1")?;
    run.signal(Signal::SIGINT)?;
    run.wait_for("int")?;
    run.signal(Signal::SIGTERM)?;
    run.wait_for("term")?;
    equal("end", &run.finish(), &"exit 9".to_owned())
}

fn lists(place: &Place<'_>) -> Result {
    said(&place.ringfence(&["list", "-q"]), 0, "")?;
    said(&place.ringfence(&["list", "--format", "json"]), 0, "[]\n")?;
    detached(place, "running-one", WAITS)?;
    detached(place, "another", "exit 0")?;
    eventually("stopped container", || {
        Ok(place.status("another")? == "stopped")
    })?;
    said(
        &place.ringfence(&["list", "--quiet"]),
        0,
        "another\nrunning-one\n",
    )?;
    let table = place.ringfence(&["list"]).out();
    let lines: Vec<Vec<&str>> = table
        .lines()
        .map(|l| l.split_whitespace().collect())
        .collect();
    equal(
        "head",
        &lines[0],
        &vec!["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"],
    )?;
    equal(
        "first",
        &lines[1][..3].to_vec(),
        &vec!["another", "0", "stopped"],
    )?;
    equal(
        "second",
        &(lines[2][0], lines[2][2]),
        &("running-one", "running"),
    )?;
    let outcome = place.ringfence(&["list", "-f", "json"]);
    let list: Vec<Value> = serde_json::from_slice(&outcome.stdout)?;
    equal("count", &list.len(), &2)?;
    for (row, id) in list.iter().zip(["another", "running-one"]) {
        equal("id", &row["id"], &id.into())?;
        let mut state = place.state(id)?;
        state["owner"] = row["owner"].clone();
        equal("row", row, &state)?;
        equal("owner", &row["owner"], &"root".into())?;
    }
    exited(&place.ringfence(&["delete", "-f", "running-one"]), 0)?;
    exited(&place.ringfence(&["delete", "another"]), 0)
}

fn an_example_is_written_and_runs(place: &Place<'_>) -> Result {
    let bundle = place.dir.join("example");
    std::fs::create_dir(&bundle)?;
    let dir = bundle.to_string_lossy().into_owned();
    said(&place.ringfence(&["spec", "--bundle", &dir]), 0, "")?;
    let written = std::fs::read(bundle.join("config.json"))?;
    // It is somebody's work now.
    refused(
        &place.ringfence(&["spec", "-b", &dir]),
        128,
        &["config.json"],
    )?;
    equal(
        "file",
        &std::fs::read(bundle.join("config.json"))?,
        &written,
    )?;
    crate::place::need_root()?;
    let mut copy = std::process::Command::new("cp");
    copy.arg("-a").arg(place.tree()?).arg(bundle.join("rootfs"));
    exited(&run::run_plain(&mut copy), 0)?;
    let mut config: Value = serde_json::from_slice(&written)?;
    equal("terminal", &config["process"]["terminal"], &true.into())?;
    config["process"]["terminal"] = false.into();
    config["process"]["args"] = [
        "sh",
        "-c",
        "hostname; id -u; touch /x; ls /proc/self/fd | wc -l",
    ]
    .as_slice()
    .into();
    std::fs::write(bundle.join("config.json"), config.to_string())?;
    let outcome = place.run(&bundle, "c");
    exited(&outcome, 0)?;
    equal("output", &outcome.out(), &"ringfence\n0\n4\n".to_owned())
}

fn what_can_be_asked(place: &Place<'_>) -> Result {
    let ask = |args: &[&str], words: &[&str]| -> Result {
        let mut command = std::process::Command::new(&place.runtime.program);
        let outcome = run::run_plain(command.args(args));
        exited(&outcome, 0)?;
        for word in words {
            let text = outcome.out();
            ensure(text.contains(word), || {
                format!("{args:?} lacks {word}:\n{text}")
            })?;
        }
        equal("standard error", &outcome.err(), &String::new())
    };
    ask(&["--version"], &["ringfence version 0.", "\nspec: 1.2.0\n"])?;
    let all = [
        "run",
        "do",
        "create",
        "start",
        "state",
        "kill",
        "delete",
        "list",
        "spec",
        "platforms",
        "help",
        "--root",
        "--platform",
        "--log",
        "--debug-log",
        "--strace",
        "--rootless",
        "--network",
        "--overlay",
    ];
    ask(&["help"], &all)?;
    ask(&["--help"], &all)?;
    ask(
        &["help", "run"],
        &["--bundle", "--detach", "--pid-file", "--console-socket"],
    )?;
    ask(&["run", "--help"], &["--bundle"])?;
    ask(
        &["help", "syscalls"],
        &["openat", "supported", "Absent (ENOSYS)"],
    )?;
    let linked = match place.runtime.platform.as_str() {
        // All that are linked in, of which one is chosen.
        "auto" => vec!["ptrace", "kvm", "ready"],
        one => vec![one, "ready"],
    };
    ask(&["platforms"], &linked)?;
    refused(
        &place.ringfence(&["help", "nosuch"]),
        128,
        &["nosuch", "ringfence help"],
    )?;
    exited(&place.ringfence(&[]), 2)?;
    exited(&place.ringfence(&["nosuch"]), 2)?;
    exited(&place.ringfence(&["run", "--nosuch", "c"]), 2)
}

fn hooks_run_in_their_order(place: &Place<'_>) -> Result {
    let log = place.dir.join("hooks");
    let hook = |name: &str| {
        let script = format!("echo {name} $(cat) >> {}", log.display());
        serde_json::json!([{"path": "/bin/sh", "args": ["sh", "-c", script]}])
    };
    let dir = place.shell("echo in it", |c| {
        c["hooks"] = serde_json::json!({
            "prestart": hook("prestart"), "createRuntime": hook("createRuntime"),
            "poststart": hook("poststart"), "poststop": hook("poststop"),
        });
    })?;
    said(&place.run(&dir, "c"), 0, "in it\n")?;
    let text = std::fs::read_to_string(&log)?;
    let names: Vec<&str> = text.lines().filter_map(|l| l.split(' ').next()).collect();
    equal(
        "hooks",
        &names,
        &vec!["prestart", "createRuntime", "poststart", "poststop"],
    )?;
    for line in text.lines() {
        let state: Value = serde_json::from_str(line.split_once(' ').map_or("", |l| l.1))?;
        equal("id", &state["id"], &"c".into())?;
    }
    let dir = place.shell("echo must not run", |c| {
        c["hooks"] = serde_json::json!({"createRuntime": [{"path": "/bin/false"}]});
    })?;
    refused(&place.run(&dir, "c"), 128, &["createRuntime", "/bin/false"])?;
    place.nothing_left()
}

fn annotations_and_hostname(place: &Place<'_>) -> Result {
    let dir = place.shell(
        "hostname; cat /proc/sys/kernel/hostname; pwd; umask; id",
        |c| {
            c["hostname"] = "other".into();
            c["process"]["cwd"] = "/tmp".into();
            c["process"]["user"] =
                serde_json::json!({"uid": 7, "gid": 8, "umask": 0o27, "additionalGids": [9, 10]});
        },
    )?;
    let want = "other\nother\n/tmp\n0027\nuid=7 gid=8 groups=9,10\n";
    said(&place.run(&dir, "c"), 0, want)
}

fn kernel_parameters(place: &Place<'_>) -> Result {
    let names = "kernel/shmmni kernel/sem net/core/somaxconn fs/inotify/max_user_watches";
    let dir = place.shell(&format!("cd /proc/sys; cat {names}"), |c| {
        c["linux"]["sysctl"] = json!({
            "kernel.shmmni": "77",
            "kernel.sem": "10 20 30 40",
            "net.core.somaxconn": "5",
            "fs/inotify/max_user_watches": "6",
            // What engines set for all; there is no such network here.
            "net.ipv4.ip_unprivileged_port_start": "0",
        });
    })?;
    said(&place.run(&dir, "c"), 0, "77\n10\t20\t30\t40\n5\n6\n")?;
    for (name, value, why) in [
        ("kernel.nonsense", "1", "no such value"),
        ("kernel.ostype", "Other", "does not let that be changed"),
        ("kernel.shmmni", "many", "cannot be that"),
    ] {
        let dir = place.shell("echo must not run", |c| {
            c["linux"]["sysctl"] = json!({name: value});
        })?;
        refused(&place.run(&dir, "c"), 128, &["linux.sysctl", name, why])?;
        place.nothing_left()?;
    }
    Ok(())
}

fn devices_and_where_mounts_come_from(place: &Place<'_>) -> Result {
    let bound = place.dir.join("bound");
    std::fs::create_dir_all(bound.join("below"))?;
    let script = "cd /dev; stat -c '%n %F %t %T %a %u %g' x y f null d/z; cat x; cat y 2>&1
        mkdir -p /tmp/a/b /tmp/c; mount -o bind /tmp/a/b /tmp/c; mount -o bind /mnt/below /tmp/a
        awk '$5 ~ /^.(tmp|mnt)/ {print $4, $5}' /proc/self/mountinfo";
    let dir = place.shell(script, |config| {
        let device = |path: &str, kind: &str, major: u32, minor: u32| {
            json!({"path": path, "type": kind, "major": major, "minor": minor,
                "fileMode": 0o640, "uid": 7, "gid": 8})
        };
        let mut fifo = json!({"path": "/dev/f", "type": "p", "major": 0, "minor": 0});
        fifo["fileMode"] = json!(0o600);
        config["linux"]["devices"] = json!([
            device("/dev/x", "c", 1, 3),
            device("/dev/y", "c", 10, 229),
            fifo,
            device("/dev/null", "c", 1, 3),
            device("/dev/d/z", "b", 7, 1),
        ]);
        let mount = json!({"destination": "/mnt", "source": bound, "options": ["bind"]});
        if let Some(mounts) = config["mounts"].as_array_mut() {
            mounts.push(mount);
        }
    })?;
    let from = bound.display();
    let expected = format!(
        "x character special file 1 3 640 7 8\ny character special file a e5 640 7 8\n\
         f fifo 0 0 600 0 0\nnull character special file 1 3 666 0 0\n\
         d/z block special file 7 1 640 7 8\n\
         cat: can't open 'y': No such device or address\n\
         / /tmp\n{from} /mnt\n/a/b /tmp/c\n{from}/below /tmp/a\n"
    );
    said(&place.run(&dir, "c"), 0, &expected)
}

fn two_containers_at_once(place: &Place<'_>) -> Result {
    detached(place, "a", WAITS)?;
    detached(place, "b", WAITS)?;
    let (a, b) = (place.state("a")?, place.state("b")?);
    ensure(a["pid"] != b["pid"], || format!("{a} {b}"))?;
    exited(&place.ringfence(&["kill", "a", "KILL"]), 0)?;
    eventually("stopped container", || Ok(place.status("a")? == "stopped"))?;
    equal("the other", &place.status("b")?, &"running".to_owned())?;
    exited(&place.ringfence(&["delete", "a"]), 0)?;
    exited(&place.ringfence(&["delete", "-f", "b"]), 0)
}

fn do_runs_on_this_machines_tree(place: &Place<'_>) -> Result {
    let canary = place.dir.join("canary");
    let script = format!(
        "uname -s; echo changed > {0}; cat {0}; rm /etc/passwd && ls /etc/passwd 2>/dev/null; exit 8",
        canary.display()
    );
    std::fs::write(&canary, "as it was\n")?;
    let outcome = place.ringfence(&["do", "--", "sh", "-c", &script]);
    said(&outcome, 8, "Linux\nchanged\n")?;
    equal(
        "canary",
        &std::fs::read_to_string(&canary)?,
        &"as it was\n".to_owned(),
    )?;
    ensure(std::path::Path::new("/etc/passwd").exists(), || "oh".into())?;
    let tree = place.tree()?.to_string_lossy().into_owned();
    let outcome = place.ringfence(&["do", "--root", &tree, "--cwd", "/tmp", "/bin/pwd"]);
    said(&outcome, 0, "/tmp\n")?;
    let outcome = place.ringfence(&["do", "--root", "/nosuch", "true"]);
    refused(&outcome, 128, &["/nosuch", "--root"])?;
    place.nothing_left()
}
