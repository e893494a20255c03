//! Pods: further containers in a running sandbox.

use crate::case::{Result, cases, ensure, equal, exited, refused, said};
use crate::place::{Place, eventually, need_root};
use control::Channel;
use control::hello::{Hello, VERSION};
use nix::sys::signal::{Signal, kill};
use serde_json::{Value, json};

use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use test_support::bundle::Bundle;
use test_support::run::Outcome;
use test_support::terminal::{ConsoleSocket, Terminal};

cases!("pods":
    each_has_its_own_world,
    one_ends_and_the_rest_run_on,
    one_is_killed_and_paused_alone,
    the_root_container_takes_all_along,
    a_crash_of_the_sandbox_stops_all,
    a_gofer_is_one_containers,
    whoever_stands_for_it_takes_it_along,
    nothing_of_it_stays,
    processes_are_shared_when_asked,
    names_of_a_pod_are_shared_when_asked,
    kernel_parameters_of_names_are_its_own,
    what_cannot_be_joined,
    what_cannot_be_started_leaves_nothing,
    its_terminal_and_attached,
    memory_is_its_own,
    limits_change_for_one_alone,
    a_sandbox_of_another_release,
);

/// Namespaces of the pod that containers share with it, as containerd has it.
const POD: &[&str] = &["ipc", "uts", "network"];

/// A bundle called `id` that runs `args` in the tree `root`; without a sandbox it makes one.
fn bundle(
    place: &Place<'_>,
    id: &str,
    root: &Path,
    args: &[&str],
    joins: Option<(&str, &[&str])>,
) -> Result<Bundle> {
    need_root()?;
    let mut bundle = Bundle::new(&place.dir.join(format!("bundle-{id}")), root, args);
    let kind = if joins.is_some() {
        "container"
    } else {
        "sandbox"
    };
    let (sandbox, shared) = joins.unwrap_or((id, &[]));
    let config = &mut bundle.config;
    config["hostname"] = id.into();
    config["annotations"] = json!({
        "io.kubernetes.cri.container-type": kind, "io.kubernetes.cri.sandbox-id": sandbox,
    });
    for namespace in config["linux"]["namespaces"]
        .as_array_mut()
        .into_iter()
        .flatten()
    {
        let name = namespace["type"].as_str().unwrap_or_default().to_owned();
        if shared.contains(&name.as_str()) {
            namespace["path"] = format!("/proc/1/ns/{name}").into();
        }
    }
    Ok(bundle)
}

/// A busybox tree of its own, by whose name file it is known.
fn tree(place: &Place<'_>, id: &str) -> Result<PathBuf> {
    let tree = place.dir.join(format!("root-{id}"));
    if !tree.exists() {
        let mut copy = std::process::Command::new("cp");
        copy.arg("-a").arg(place.tree()?).arg(&tree);
        exited(&place.finish(&mut copy), 0)?;
        std::fs::write(tree.join("name"), format!("{id}\n"))?;
    }
    Ok(tree)
}

/// Writes the bundle of a container that runs `script`.
fn write(
    place: &Place<'_>,
    id: &str,
    script: &str,
    joins: Option<(&str, &[&str])>,
) -> Result<String> {
    let root = tree(place, id)?;
    let bundle = bundle(place, id, &root, &["/bin/sh", "-c", script], joins)?;
    bundle.write()?;
    Ok(bundle.dir.to_string_lossy().into_owned())
}

/// A sandbox `s` whose own container waits.
fn sandbox(place: &Place<'_>) -> Result {
    let dir = write(place, "s", "exec sleep 1000", None)?;
    exited(&place.ringfence(&["run", "--detach", "-b", &dir, "s"]), 0)
}

/// A container in `s` that runs `script`, started.
fn join(place: &Place<'_>, id: &str, script: &str, shared: &[&str]) -> Result {
    let dir = write(place, id, script, Some(("s", shared)))?;
    said(&place.ringfence(&["create", "-b", &dir, id]), 0, "")?;
    equal("status", &place.status(id)?, &"created".to_owned())?;
    said(&place.ringfence(&["start", id]), 0, "")
}

fn exec(place: &Place<'_>, id: &str, script: &str) -> Outcome {
    place.ringfence(&["exec", id, "sh", "-c", script])
}

fn stopped(place: &Place<'_>, id: &str) -> Result {
    eventually(&format!("end of {id}"), || {
        Ok(place.status(id)? == "stopped")
    })
}

/// All that were started are deleted, in the order given, and nothing is left.
fn gone(place: &Place<'_>, ids: &[&str]) -> Result {
    for id in ids {
        exited(&place.ringfence(&["delete", "--force", id]), 0)?;
    }
    place.nothing_left()
}

fn each_has_its_own_world(place: &Place<'_>) -> Result {
    sandbox(place)?;
    join(place, "a", "echo a > /tmp/mine; exec sleep 1000", POD)?;
    join(place, "b", "exec sleep 1000", &["ipc", "network"])?;
    let show = "cat /name; hostname; echo $(ls /tmp); ls -d /root-* /name; echo $(pidof sleep)";
    said(&exec(place, "s", show), 0, "s\ns\n\n/name\n1\n")?;
    eventually("file", || {
        Ok(exec(place, "a", "cat /tmp/mine").out() == "a\n")
    })?;
    said(&exec(place, "a", show), 0, "a\ns\nmine\n/name\n1\n")?;
    said(&exec(place, "b", show), 0, "b\nb\n\n/name\n1\n")?;
    // What one writes to its root is in its tree and in no other.
    exited(&exec(place, "a", "echo x > /made; mkdir /tmp/under"), 0)?;
    for id in ["s", "b"] {
        exited(&exec(place, id, "test -e /made"), 1)?;
    }
    ensure(tree(place, "a")?.join("made").exists(), || "no file".into())?;
    let processes = |id: &str| -> Result<Vec<i64>> {
        let outcome = place.ringfence(&["ps", "--format", "full", id]);
        exited(&outcome, 0)?;
        let all: Vec<Value> = serde_json::from_slice(&outcome.stdout)?;
        Ok(all.iter().filter_map(|p| p["pid"].as_i64()).collect())
    };
    for id in ["s", "a", "b"] {
        equal(id, &processes(id)?, &vec![1])?;
        let events = place.ringfence(&["events", "--stats", id]);
        exited(&events, 0)?;
        let stats: Value = serde_json::from_slice(&events.stdout)?;
        equal("tasks", &stats["data"]["pids"]["current"], &json!(1))?;
    }
    gone(place, &["b", "a", "s"])
}

fn one_ends_and_the_rest_run_on(place: &Place<'_>) -> Result {
    sandbox(place)?;
    join(place, "a", "exec sleep 1000", POD)?;
    let dir = write(place, "b", "cat; exit 7", Some(("s", POD)))?;
    exited(&place.ringfence(&["run", "-b", &dir, "b"]), 7)?;
    let dir = write(
        place,
        "b",
        "sleep 1000 & sleep 1000 & exit 0",
        Some(("s", POD)),
    )?;
    let pid = place.dir.join("pid").to_string_lossy().into_owned();
    exited(
        &place.ringfence(&["create", "--pid-file", &pid, "-b", &dir, "b"]),
        0,
    )?;
    equal(
        "pid",
        &std::fs::read_to_string(&pid)?,
        &place.state("b")?["pid"].to_string(),
    )?;
    exited(&place.ringfence(&["start", "b"]), 0)?;
    stopped(place, "b")?;
    refused(&exec(place, "b", "true"), 128, &["stopped"])?;
    said(&exec(place, "a", "cat /name"), 0, "a\n")?;
    exited(&place.ringfence(&["delete", "b"]), 0)?;
    // Its id is free again, in the sandbox, too.
    join(place, "b", "exec sleep 1000", POD)?;
    said(&exec(place, "b", "cat /name"), 0, "b\n")?;
    gone(place, &["a", "b", "s"])
}

fn one_is_killed_and_paused_alone(place: &Place<'_>) -> Result {
    sandbox(place)?;
    let busy = "while :; do echo x; sleep 0.01; done > /busy";
    join(place, "a", busy, POD)?;
    join(place, "b", busy, POD)?;
    let size = |id: &str| -> Result<u64> {
        let file = tree(place, id)?.join("busy");
        Ok(std::fs::metadata(file).map_or(0, |m| m.len()))
    };
    for id in ["a", "b"] {
        eventually("work", || Ok(size(id)? > 0))?;
    }
    exited(&place.ringfence(&["pause", "a"]), 0)?;
    equal("a", &place.status("a")?, &"paused".to_owned())?;
    equal("b", &place.status("b")?, &"running".to_owned())?;
    let (a, b) = (size("a")?, size("b")?);
    eventually("work of the other", || Ok(size("b")? > b + 10))?;
    equal("work of the paused one", &size("a")?, &a)?;
    exited(&place.ringfence(&["resume", "a"]), 0)?;
    eventually("work", || Ok(size("a")? > a))?;
    exited(&place.ringfence(&["kill", "--all", "a", "KILL"]), 0)?;
    equal("a", &place.status("a")?, &"stopped".to_owned())?;
    let b = size("b")?;
    eventually("work of the other", || Ok(size("b")? > b))?;
    // One that was never started.
    let dir = write(place, "c", "exec sleep 1000", Some(("s", POD)))?;
    exited(&place.ringfence(&["create", "-b", &dir, "c"]), 0)?;
    exited(&place.ringfence(&["kill", "c", "KILL"]), 0)?;
    stopped(place, "c")?;
    gone(place, &["a", "c", "b", "s"])
}

fn the_root_container_takes_all_along(place: &Place<'_>) -> Result {
    sandbox(place)?;
    join(place, "a", "exec sleep 1000", POD)?;
    let dir = write(place, "b", "exec sleep 1000", Some(("s", POD)))?;
    let mut command = place.runtime.command();
    command.args(["run", "-b", &dir, "b"]);
    let mut attached = place.spawn(&mut command)?;
    eventually("start", || Ok(exec(place, "b", "true").code() == Some(0)))?;
    exited(&place.ringfence(&["delete", "--force", "s"]), 0)?;
    equal("attached", &attached.finish(), &"exit 137".to_owned())?;
    stopped(place, "a")?;
    for line in [
        &["start", "a"] as &[&str],
        &["exec", "a", "true"],
        &["ps", "a"],
    ] {
        refused(&place.ringfence(line), 128, &["stopped"])?;
    }
    exited(&place.ringfence(&["delete", "a"]), 0)?;
    place.nothing_left()
}

fn a_crash_of_the_sandbox_stops_all(place: &Place<'_>) -> Result {
    sandbox(place)?;
    join(place, "a", "exec sleep 1000", POD)?;
    let dir = write(place, "b", "exec sleep 1000", Some(("s", POD)))?;
    exited(&place.ringfence(&["create", "-b", &dir, "b"]), 0)?;
    kill(place.pid("s", "sandbox")?, Signal::SIGKILL)?;
    for id in ["s", "a", "b"] {
        stopped(place, id)?;
    }
    gone(place, &["s", "b", "a"])
}

fn a_gofer_is_one_containers(place: &Place<'_>) -> Result {
    sandbox(place)?;
    join(place, "a", "exec sleep 1000", POD)?;
    join(place, "b", "exec sleep 1000", POD)?;
    kill(place.pid("a", "gofer")?, Signal::SIGKILL)?;
    stopped(place, "a")?;
    said(&exec(place, "b", "cat /name"), 0, "b\n")?;
    said(&exec(place, "s", "cat /name"), 0, "s\n")?;
    gone(place, &["a", "b", "s"])
}

fn whoever_stands_for_it_takes_it_along(place: &Place<'_>) -> Result {
    sandbox(place)?;
    join(
        place,
        "a",
        "trap 'echo it > /got' USR1; while :; do sleep 0.1; done",
        POD,
    )?;
    let file = tree(place, "a")?.join("got");
    let stand_in = place.pid("a", "sandbox")?;
    eventually("signal", || {
        kill(stand_in, Signal::SIGUSR1)?;
        Ok(file.exists())
    })?;
    kill(stand_in, Signal::SIGKILL)?;
    stopped(place, "a")?;
    exited(&place.ringfence(&["delete", "a"]), 0)?;
    join(place, "a", "exec sleep 1000", POD)?;
    gone(place, &["a", "s"])
}

fn nothing_of_it_stays(place: &Place<'_>) -> Result {
    sandbox(place)?;
    let sandbox = place.pid("s", "sandbox")?;
    let count = |what: &str| -> Result<usize> {
        Ok(std::fs::read_dir(format!("/proc/{sandbox}/{what}"))?.count())
    };
    let script = "echo x > /tmp/file; (sleep 1000 &) ; cat /name > /dev/null; exec sleep 1000";
    let around = |shared: &[&str]| {
        join(place, "a", script, shared)?;
        exited(&exec(place, "a", "ls -lR /proc/1 /dev | wc -l"), 0)?;
        exited(&place.ringfence(&["delete", "--force", "a"]), 0)
    };
    // The first ones leave what is kept for later ones: threads, and what they come with.
    for _ in 0..3 {
        around(POD)?;
        around(&["pid", "ipc", "uts", "network"])?;
    }
    let before = (count("fd")?, count("task")?);
    for _ in 0..8 {
        around(POD)?;
        around(&["pid", "ipc", "uts", "network"])?;
    }
    // A thread that was let go may take a moment.
    eventually("as many descriptors and threads", || {
        Ok(count("fd")? <= before.0 + 2 && count("task")? <= before.1 + 2)
    })?;
    equal(
        "processes",
        &exec(place, "s", "echo $(pidof sleep)").out(),
        &"1\n".to_owned(),
    )?;
    gone(place, &["s"])
}

fn processes_are_shared_when_asked(place: &Place<'_>) -> Result {
    sandbox(place)?;
    let all = &["pid", "ipc", "uts", "network"];
    join(place, "a", "(sleep 1000 &); exec sleep 1000", all)?;
    join(place, "b", "exec sleep 1000", POD)?;
    let sleeps = |id: &str| exec(place, id, "pidof sleep | wc -w").out();
    for (id, count) in [("s", "3\n"), ("a", "3\n"), ("b", "1\n")] {
        eventually(&format!("{count:?} processes in {id}"), || {
            Ok(sleeps(id) == count)
        })?;
    }
    // Its own are what its commands are about.
    let outcome = place.ringfence(&["ps", "--format", "full", "a"]);
    let listed: Vec<Value> = serde_json::from_slice(&outcome.stdout)?;
    equal("listed", &listed.len(), &2)?;
    refused(
        &place.ringfence(&["kill", "--pid", "1", "a"]),
        128,
        &["No such process"],
    )?;
    let first = listed[0]["pid"].to_string();
    said(
        &exec(place, "s", &format!("cat /proc/{first}/root/name")),
        0,
        "a\n",
    )?;
    // Killed from the pod's other container, by its number there.
    exited(&exec(place, "s", &format!("kill -KILL {first}")), 0)?;
    stopped(place, "a")?;
    eventually("end of what it left", || Ok(sleeps("s") == "1\n"))?;
    gone(place, &["a", "b", "s"])
}

/// Makes a message queue and an abstract socket, says so, and waits.
const MAKE: &str = "use Socket; $| = 1; defined msgget(42, 0666|01000) or die; \
    socket(S, AF_UNIX, SOCK_STREAM, 0); bind(S, pack_sockaddr_un(\"\\0pod\")) or die; \
    listen(S, 9); while (accept(C, S)) { close(C) }";
/// Says which of both it finds.
const FIND: &str = "use Socket; print defined msgget(42, 0) ? 'queue' : 'none'; \
    socket(S, AF_UNIX, SOCK_STREAM, 0); \
    print connect(S, pack_sockaddr_un(\"\\0pod\")) ? ' socket' : ' none'";

fn names_of_a_pod_are_shared_when_asked(place: &Place<'_>) -> Result {
    sandbox(place)?;
    let debian = place.debian()?;
    let perl = |id: &str, script: &str, shared: &[&str]| -> Result<String> {
        let args = ["/usr/bin/perl", "-e", script];
        let mut bundle = bundle(place, id, debian, &args, Some(("s", shared)))?;
        bundle.config["root"]["readonly"] = true.into();
        bundle.write()?;
        Ok(bundle.dir.to_string_lossy().into_owned())
    };
    let dir = perl("a", MAKE, POD)?;
    exited(&place.ringfence(&["run", "--detach", "-b", &dir, "a"]), 0)?;
    let find = |shared: &[&str]| -> Result<String> {
        let dir = perl("b", FIND, shared)?;
        let outcome = place.ringfence(&["run", "-b", &dir, "b"]);
        exited(&outcome, 0)?;
        Ok(outcome.out())
    };
    eventually("both", || Ok(find(POD)? == "queue socket"))?;
    for (shared, want) in [
        (&["uts", "network"] as &[&str], "none socket"),
        (&["ipc"], "queue none"),
        (&[], "none none"),
        (&["pid", "ipc", "network"], "queue socket"),
    ] {
        equal(&format!("{shared:?}"), &find(shared)?, &want.to_owned())?;
    }
    gone(place, &["a", "s"])
}

fn kernel_parameters_of_names_are_its_own(place: &Place<'_>) -> Result {
    let names = ["kernel.shmmni", "kernel.sem", "fs.mqueue.msg_max"];
    let change = |id: &str, joins: Option<(&str, &[&str])>, values: [&str; 3]| -> Result {
        let root = tree(place, id)?;
        let mut bundle = bundle(place, id, &root, &["/bin/sleep", "1000"], joins)?;
        bundle.config["linux"]["sysctl"] = names.into_iter().zip(values).collect();
        bundle.write()?;
        let dir = bundle.dir.to_string_lossy().into_owned();
        exited(&place.ringfence(&["run", "--detach", "-b", &dir, id]), 0)
    };
    change("s", None, ["7", "1 2 3 4", "17"])?;
    change("a", Some(("s", &["network"])), ["8", "5 6 7 8", "18"])?;
    join(place, "b", "exec sleep 1000", POD)?;
    let show = "cd /proc/sys; cat kernel/shmmni kernel/sem fs/mqueue/msg_max";
    let root = "7\n1\t2\t3\t4\n17\n";
    said(&exec(place, "s", show), 0, root)?;
    said(&exec(place, "a", show), 0, "8\n5\t6\t7\t8\n18\n")?;
    said(&exec(place, "b", show), 0, root)?;
    gone(place, &["a", "b", "s"])
}

fn what_cannot_be_joined(place: &Place<'_>) -> Result {
    let dir = write(place, "a", "exec sleep 1000", Some(("s", POD)))?;
    let create = || place.ringfence(&["create", "-b", &dir, "a"]);
    refused(&create(), 128, &["`a`", "`s`", "does not exist", "--root"])?;
    let root = write(place, "s", "exec sleep 1000", None)?;
    exited(&place.ringfence(&["create", "-b", &root, "s"]), 0)?;
    refused(&create(), 128, &["`s`", "created", "start"])?;
    exited(&place.ringfence(&["start", "s"]), 0)?;
    exited(&create(), 0)?;
    refused(&create(), 128, &["`a` exists already"])?;
    let other = match place.runtime.platform.as_str() {
        "kvm" => "ptrace",
        _ => "kvm",
    };
    let mut elsewhere = place.runtime.clone();
    elsewhere.platform = other.to_owned();
    let within = write(place, "b", "true", Some(("s", POD)))?;
    let mut command = elsewhere.command();
    let outcome = place.finish(command.args(["create", "-b", &within, "b"]));
    let listed = place.ringfence(&["platforms"]).out();
    let words = match listed.lines().any(|line| line.starts_with(other)) {
        true => ["it runs on platform", "--platform"],
        false => ["no platform", other],
    };
    refused(&outcome, 128, &words)?;
    let within = write(place, "b", "true", Some(("a", POD)))?;
    let outcome = place.ringfence(&["create", "-b", &within, "b"]);
    refused(&outcome, 128, &["`a`", "`s`"])?;
    kill(place.pid("s", "sandbox")?, Signal::SIGKILL)?;
    stopped(place, "s")?;
    let within = write(place, "b", "true", Some(("s", POD)))?;
    let outcome = place.ringfence(&["create", "-b", &within, "b"]);
    refused(&outcome, 128, &["`s`", "stopped"])?;
    gone(place, &["s", "a"])
}

fn what_cannot_be_started_leaves_nothing(place: &Place<'_>) -> Result {
    sandbox(place)?;
    let root = tree(place, "a")?;
    let empty = root.join("empty");
    std::fs::write(&empty, "")?;
    std::fs::set_permissions(&empty, PermissionsExt::from_mode(0o755))?;
    for (program, status) in [("/nosuch", 127), ("/etc", 126), ("/empty", 126)] {
        let bundle = bundle(place, "a", &root, &[program], Some(("s", POD)))?;
        bundle.write()?;
        let dir = bundle.dir.to_string_lossy().into_owned();
        let mut outcome = place.ringfence(&["create", "-b", &dir, "a"]);
        if program == "/empty" {
            exited(&outcome, 0)?;
            outcome = place.ringfence(&["start", "a"]);
            stopped(place, "a")?;
            exited(&place.ringfence(&["delete", "a"]), 0)?;
        }
        refused(&outcome, status, &[program])?;
        refused(
            &place.ringfence(&["run", "-b", &dir, "a"]),
            status,
            &[program],
        )?;
    }
    // A mount that cannot be made, and a hook that fails.
    for change in [
        (|c| c["mounts"][1]["options"] = json!(["size=nonsense"])) as fn(&mut Value),
        |c| c["hooks"] = json!({"createRuntime": [{"path": "/bin/false"}]}),
    ] {
        let mut bundle = bundle(place, "a", &root, &["/bin/true"], Some(("s", POD)))?;
        change(&mut bundle.config);
        bundle.write()?;
        let dir = bundle.dir.to_string_lossy().into_owned();
        for _ in 0..3 {
            refused(&place.ringfence(&["create", "-b", &dir, "a"]), 128, &[])?;
        }
    }
    join(place, "a", "exec sleep 1000", POD)?;
    gone(place, &["a", "s"])
}

fn its_terminal_and_attached(place: &Place<'_>) -> Result {
    sandbox(place)?;
    let script =
        "tty; until stty size | grep -x '33 66'; do sleep 0.1; done; read x; echo \"<$x>\"; exit 4";
    let root = tree(place, "a")?;
    let mut bundle = bundle(
        place,
        "a",
        &root,
        &["/bin/sh", "-c", script],
        Some(("s", POD)),
    )?;
    bundle.config["process"]["terminal"] = true.into();
    bundle.write()?;
    let dir = bundle.dir.to_string_lossy().into_owned();
    let mut command = place.runtime.command();
    command.args(["run", "-b", &dir, "a"]);
    let mut terminal = Terminal::start(&command, 33, 66)?;
    let talk = |terminal: &mut Terminal| -> std::result::Result<(), String> {
        terminal.expect("/dev/pts/0")?;
        terminal.expect("33 66")?;
        terminal.keys("typed\r");
        terminal.expect("<typed>").map(drop)
    };
    talk(&mut terminal).map_err(crate::case::Stop::Failed)?;
    equal("end", &terminal.finish(), &"exit 4".to_owned())?;
    let socket = place.dir.join("console.sock");
    let listener = ConsoleSocket::bind(&socket)?;
    let socket = socket.to_string_lossy().into_owned();
    let line = ["create", "-b", &dir, "--console-socket", &socket, "a"];
    exited(&place.ringfence(&line), 0)?;
    let (master, _) = listener.receive()?;
    let mut terminal = Terminal::attach(master)?;
    exited(&place.ringfence(&["start", "a"]), 0)?;
    terminal
        .resize(33, 66)
        .map_err(|e| crate::case::Stop::Failed(e.to_string()))?;
    talk(&mut terminal).map_err(crate::case::Stop::Failed)?;
    stopped(place, "a")?;
    gone(place, &["a", "s"])
}

fn memory_is_its_own(place: &Place<'_>) -> Result {
    sandbox(place)?;
    for shared in [POD, &["pid", "ipc", "uts", "network"]] {
        let script = "dd if=/dev/zero of=/dev/null bs=200M count=1 2>/dev/null; echo $?";
        let root = tree(place, "a")?;
        let args = ["/bin/sh", "-c", script];
        let mut bundle = bundle(place, "a", &root, &args, Some(("s", shared)))?;
        bundle.config["linux"]["resources"] = json!({"memory": {"limit": 64 << 20}});
        bundle.config["linux"]["cgroupsPath"] = place.group().into();
        bundle.write()?;
        let dir = bundle.dir.to_string_lossy().into_owned();
        said(&place.ringfence(&["run", "-b", &dir, "a"]), 0, "137\n")?;
        exited(
            &exec(place, "s", "dd if=/dev/zero of=/dev/null bs=200M count=1"),
            0,
        )?;
    }
    gone(place, &["s"])
}

fn limits_change_for_one_alone(place: &Place<'_>) -> Result {
    sandbox(place)?;
    join(place, "a", "exec sleep 1000", POD)?;
    let total = |id: &str| exec(place, id, "grep MemTotal /proc/meminfo");
    let before = total("s").out();
    let update = ["update", "--memory", "64m", "--pids-limit", "3", "a"];
    said(&place.ringfence(&update), 0, "")?;
    said(&total("a"), 0, "MemTotal:          65536 kB\n")?;
    said(&total("s"), 0, &before)?;
    exited(&exec(place, "a", "tail -n 1 /dev/zero"), 137)?;
    let many = "for i in 1 2 3 4; do sleep 1000 & done; echo all; kill $(jobs -p)";
    ensure(exec(place, "a", many).out().is_empty(), || {
        "4 of 3 tasks were made".to_owned()
    })?;
    said(&exec(place, "s", many), 0, "all\n")?;
    gone(place, &["a", "s"])
}

/// Answers on the control socket in `dir` as a release with the next protocol would, until dropped.
struct Newer<'a> {
    dir: &'a Path,
}

impl<'a> Newer<'a> {
    fn new(dir: &'a Path) -> Result<Self> {
        std::fs::rename(dir.join("control.sock"), dir.join("away"))?;
        let newer = Newer { dir };
        // The real path may be longer than an address can be.
        let opened = std::fs::File::open(dir)?;
        let path = format!("/proc/self/fd/{}/control.sock", opened.as_raw_fd());
        let listener = UnixListener::bind(path)?;
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let mut channel = Channel::new(stream.into());
                let ours = Hello::ours();
                let version = VERSION + 1;
                let _gone = channel.send(&Hello { version, ..ours }, &[]);
                let _closed = channel.recv::<Hello>();
            }
        });
        Ok(newer)
    }
}

impl Drop for Newer<'_> {
    fn drop(&mut self) {
        let _back = std::fs::rename(self.dir.join("away"), self.dir.join("control.sock"));
    }
}

fn a_sandbox_of_another_release(place: &Place<'_>) -> Result {
    sandbox(place)?;
    join(place, "a", "exec sleep 1000", POD)?;
    let dir = place.runtime.state.join("s");
    let newer = Newer::new(&dir)?;
    let words = ["another release", "protocol"];
    for id in ["s", "a"] {
        equal("status", &place.status(id)?, &"running".to_owned())?;
        refused(&place.ringfence(&["ps", id]), 128, &words)?;
        refused(&exec(place, id, "true"), 128, &words)?;
        refused(
            &place.ringfence(&["update", "--pids-limit", "5", id]),
            128,
            &words,
        )?;
    }
    let bundle = write(place, "b", "true", Some(("s", POD)))?;
    refused(
        &place.ringfence(&["create", "-b", &bundle, "b"]),
        128,
        &words,
    )?;
    refused(&place.ringfence(&["state", "b"]), 128, &["does not exist"])?;
    drop(newer);
    exited(&place.ringfence(&["ps", "a"]), 0)?;
    gone(place, &["a", "s"])
}
