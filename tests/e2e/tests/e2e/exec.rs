//! `exec`: further programs in a running container.

use crate::case::{Result, cases, ensure, equal, exited, refused, said};
use crate::place::{Place, eventually, need};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;
use test_support::run::{self, Outcome};
use test_support::terminal::{ConsoleSocket, Terminal};

cases!("exec":
    output_and_status,
    input_is_passed_and_ends,
    what_is_said_of_the_process_holds,
    a_process_by_a_file,
    scheduled_as_is_said,
    in_the_containers_group_and_no_other,
    programs_that_cannot_be_run,
    only_a_running_container_executes,
    signals_are_handed_on,
    a_detached_one_has_a_stand_in,
    a_stand_in_is_reaped_with_the_status,
    the_end_of_the_container_ends_it,
    at_a_terminal,
    over_a_console_socket,
    further_descriptors,
    many_at_once,
);

/// A container whose program waits.
fn container(place: &Place<'_>) -> Result {
    place.started("exec sleep 1000")
}

/// How many processes the container has, but for those that its own program does not reap.
fn processes(place: &Place<'_>) -> Result<usize> {
    let outcome = place.ringfence(&["ps", "--format", "full", "c"]);
    exited(&outcome, 0)?;
    let all: Vec<serde_json::Value> = serde_json::from_slice(&outcome.stdout)?;
    Ok(all.iter().filter(|p| p["state"] != "Z").count())
}

fn output_and_status(place: &Place<'_>) -> Result {
    container(place)?;
    for status in [0, 1, 42, 126, 255] {
        let script = format!("echo out; echo err >&2; exit {status}");
        let outcome = place.ringfence(&["exec", "c", "sh", "-c", &script]);
        said(&outcome, status, "out\n")?;
        equal("standard error", &outcome.err(), &"err\n".to_owned())?;
    }
    for (signal, status) in [("TERM", 143), ("KILL", 137), ("SEGV", 139)] {
        let script = format!("kill -{signal} $$");
        exited(
            &place.ringfence(&["exec", "c", "sh", "-c", &script]),
            status,
        )?;
    }
    // Beside the container's own program: it has no parent, and a session of its own.
    let script = "echo $PPID; cut -d ' ' -f 5,6 /proc/self/stat; ps | grep -c '[s]leep 1000'";
    let outcome = place.ringfence(&["exec", "c", "sh", "-c", script]);
    let lines = outcome.out();
    let lines: Vec<_> = lines.lines().collect();
    ensure(
        lines.first() == Some(&"0") && lines.last() == Some(&"1"),
        || format!("{lines:?}"),
    )?;
    place.gone()
}

fn input_is_passed_and_ends(place: &Place<'_>) -> Result {
    container(place)?;
    let input: Vec<u8> = (0..1_000_000u32).map(|n| (n % 251) as u8).collect();
    let mut command = place.runtime.command();
    command.args(["exec", "c", "sh", "-c", "cat; echo end >&2"]);
    let outcome = run::run(&mut command, &input, Duration::from_secs(20));
    exited(&outcome, 0)?;
    ensure(outcome.stdout == input, || "other bytes came out".into())?;
    // What was passed on is closed again: the writer of a pipe hears that its reader is gone.
    let mut shell = Command::new("sh");
    shell
        .args(["-c", "while echo y; do :; done | \"$@\"; echo over", "sh"])
        .arg(&place.runtime.program)
        .args(place.runtime.command().get_args())
        .args(["exec", "c", "head", "-n", "1"]);
    said(
        &run::run(&mut shell, b"", Duration::from_secs(20)),
        0,
        "y\nover\n",
    )?;
    place.gone()
}

fn what_is_said_of_the_process_holds(place: &Place<'_>) -> Result {
    let dir = place.shell("exec sleep 1000", |c| {
        c["process"]["env"] = json!(["PATH=/bin", "KEPT=1", "CHANGED=1"]);
        c["process"]["cwd"] = "/tmp".into();
    })?;
    let bundle = dir.to_string_lossy().into_owned();
    exited(&place.ringfence(&["create", "-b", &bundle, "c"]), 0)?;
    exited(&place.ringfence(&["start", "c"]), 0)?;
    // The container's, where nothing else is said; the bundle may have gone meanwhile.
    std::fs::remove_file(dir.join("config.json"))?;
    let show = "id -u; id -g; id -G; pwd; echo $KEPT $CHANGED $NEW";
    let outcome = place.ringfence(&["exec", "c", "sh", "-c", show]);
    said(&outcome, 0, "0\n0\n0\n/tmp\n1 1\n")?;
    let options = [
        "-u",
        "7:8",
        "--additional-gids",
        "9",
        "-g",
        "10",
        "-e",
        "CHANGED=2",
        "--env=NEW=3",
        "--cwd",
        "/",
    ];
    let want = "7\n8\n8 9 10\n/\n1 2 3\n";
    let before = [&["exec"], &options[..], &["c", "sh", "-c", show]].concat();
    said(&place.ringfence(&before), 0, want)?;
    let after = [&["exec", "c"], &options[..], &["sh", "-c", show]].concat();
    said(&place.ringfence(&after), 0, want)?;
    let show = "grep -E '^(CapBnd|CapEff|NoNewPrivs)' /proc/self/status | cut -f 2";
    let few = place.ringfence(&["exec", "c", "sh", "-c", show]);
    exited(&few, 0)?;
    let more = [
        "exec",
        "--cap",
        "CAP_SYS_PTRACE",
        "--cap",
        "sys_boot",
        "--no-new-privs",
        "c",
        "sh",
        "-c",
        show,
    ];
    let more = place.ringfence(&more);
    exited(&more, 0)?;
    let sets = |text: &str| -> Vec<u64> {
        text.lines()
            .map(|l| u64::from_str_radix(l, 16).unwrap_or(u64::MAX))
            .collect()
    };
    let (few, more) = (sets(&few.out()), sets(&more.out()));
    let added = 1 << 19 | 1 << 22;
    equal("without", &few.last(), &Some(&0))?;
    equal("sets", &more, &vec![few[0] | added, few[1] | added, 1])?;
    for (bad, words) in [
        (
            &["-e", "NOVALUE"] as &[&str],
            &["NOVALUE", "NAME=VALUE"] as &[&str],
        ),
        (&["-u", "root"], &["root", "UID"]),
        (&["--cwd", "tmp"], &["tmp", "absolute"]),
        (&["--cap", "CAP_NOSUCH"], &["CAP_NOSUCH"]),
        (&["--cwd", "/nosuch"], &["/nosuch", "working directory"]),
    ] {
        let line = [&["exec"], bad, &["c", "true"]].concat();
        refused(&place.ringfence(&line), 128, words)?;
    }
    refused(&place.ringfence(&["exec", "c"]), 128, &["what to run"])?;
    place.gone()
}

/// Nice value, priority and policy; priority of what is read; CPUs; the machine.
const SCHEDULED: &str = "cut -d ' ' -f 19,40,41 /proc/$$/stat; ionice -p $$;
    grep Cpus_allowed_list /proc/$$/status | cut -f 2; uname -m";

fn scheduled_as_is_said(place: &Place<'_>) -> Result {
    let here = std::thread::available_parallelism()?.get();
    let all = match here {
        1 => "0".to_owned(),
        n => format!("0-{}", n - 1),
    };
    let dir = place.shell(&format!("{SCHEDULED}; exec sleep 1000"), |c| {
        let process = &mut c["process"];
        process["scheduler"] = json!({"policy": "SCHED_BATCH", "nice": 7});
        process["ioPriority"] = json!({"class": "IOPRIO_CLASS_BE", "priority": 3});
        process["execCPUAffinity"] = json!({"initial": "0-1", "final": "0"});
        c["linux"]["personality"] = json!({"domain": "LINUX32"});
    })?;
    let bundle = dir.to_string_lossy().into_owned();
    let mut command = place.runtime.command();
    command.args(["run", "--bundle", &bundle, "c"]);
    let mut run = place.spawn(&mut command)?;
    // The first process has all CPUs: the affinity is of those that are executed.
    run.wait_for(&format!("7 0 3\nbest-effort: prio 3\n{all}\ni686\n"))?;
    let exec = place.ringfence(&["exec", "c", "sh", "-c", SCHEDULED]);
    said(&exec, 0, "7 0 3\nbest-effort: prio 3\n0\ni686\n")?;
    let file = place.dir.join("process.json");
    let by_file = |fields: Value| -> Result<Outcome> {
        let mut process = json!({
            "args": ["sh", "-c", SCHEDULED], "cwd": "/", "env": ["PATH=/bin"],
            "user": {"uid": 0, "gid": 0},
        });
        for (name, value) in fields.as_object().into_iter().flatten() {
            process[name] = value.clone();
        }
        std::fs::write(&file, process.to_string())?;
        Ok(place.ringfence(&["exec", "--process", &file.to_string_lossy(), "c"]))
    };
    let real_time = json!({
        "scheduler": {"policy": "SCHED_FIFO", "priority": 10, "flags": ["SCHED_RESET_ON_FORK"]},
        "ioPriority": {"class": "IOPRIO_CLASS_IDLE", "priority": 0},
    });
    let want = format!("0 10 1\nidle\n{all}\ni686\n");
    said(&by_file(real_time)?, 0, &want)?;
    for (fields, words) in [
        (json!({"scheduler": {"policy": "SCHED_X"}}), "SCHED_X"),
        (
            json!({"scheduler": {"policy": "SCHED_OTHER", "nice": -21}}),
            "scheduler.nice",
        ),
        (json!({"scheduler": {"policy": "SCHED_RR"}}), "EINVAL"),
        (json!({"scheduler": {"policy": "SCHED_ISO"}}), "EINVAL"),
        (
            json!({"scheduler": {"policy": "SCHED_DEADLINE", "runtime": 1}}),
            "EPERM",
        ),
        (
            json!({"ioPriority": {"class": "IOPRIO_CLASS_BE", "priority": 8}}),
            "ioPriority",
        ),
        (
            json!({"execCPUAffinity": {"final": "8000"}}),
            "execCPUAffinity",
        ),
        (
            json!({"execCPUAffinity": {"final": "x"}}),
            "execCPUAffinity",
        ),
    ] {
        refused(&by_file(fields)?, 128, &[words])?;
    }
    place.gone()
}

fn in_the_containers_group_and_no_other(place: &Place<'_>) -> Result {
    container(place)?;
    for path in ["/", "", "./", "//"] {
        let option = format!("--cgroup={path}");
        let outcome = place.ringfence(&["exec", &option, "c", "cat", "/proc/self/cgroup"]);
        said(&outcome, 0, "0::/\n")?;
    }
    for (path, words) in [
        ("..", "no such control group"),
        ("below", "no such control group"),
        ("/a/b", "no such control group"),
        ("cpu:below", "hierarchy `cpu`"),
        ("nosuch:/", "hierarchy `nosuch`"),
    ] {
        let outcome = place.ringfence(&["exec", "--cgroup", "/", "--cgroup", path, "c", "true"]);
        refused(&outcome, 128, &[path, words])?;
    }
    place.gone()
}

fn a_process_by_a_file(place: &Place<'_>) -> Result {
    container(place)?;
    let file = place.dir.join("process.json");
    let path = file.to_string_lossy().into_owned();
    let process = json!({
        "args": ["/bin/sh", "-c", "id -u; pwd; umask; echo $A; ulimit -n; exit 3"],
        "env": ["A=b"], "cwd": "/tmp", "user": {"uid": 5, "gid": 6, "umask": 0o77},
        "rlimits": [{"type": "RLIMIT_NOFILE", "soft": 99, "hard": 99}],
    });
    std::fs::write(&file, process.to_string())?;
    let outcome = place.ringfence(&["exec", "--process", &path, "c"]);
    said(&outcome, 3, "5\n/tmp\n0077\nb\n99\n")?;
    for (text, words) in [
        ("{", &["process.json", "line 1"] as &[&str]),
        (
            r#"{"cwd":"/","user":{"uid":0,"gid":0},"args":[]}"#,
            &["process.args"],
        ),
    ] {
        std::fs::write(&file, text)?;
        refused(&place.ringfence(&["exec", "-p", &path, "c"]), 128, words)?;
    }
    std::fs::remove_file(&file)?;
    refused(
        &place.ringfence(&["exec", "-p", &path, "c"]),
        128,
        &["process.json"],
    )?;
    place.gone()
}

fn programs_that_cannot_be_run(place: &Place<'_>) -> Result {
    container(place)?;
    for (program, status, words) in [
        (
            "nosuch",
            127,
            &["nosuch", "PATH", "no such file"] as &[&str],
        ),
        ("/no/such", 127, &["/no/such", "no such file"]),
        ("/etc", 126, &["/etc", "permission denied"]),
        ("/etc/passwd", 126, &["/etc/passwd", "permission denied"]),
    ] {
        refused(&place.ringfence(&["exec", "c", program]), status, words)?;
        let pid = place.dir.join("pid").to_string_lossy().into_owned();
        let line = ["exec", "--detach", "--pid-file", &pid, "c", program];
        refused(&place.ringfence(&line), status, words)?;
        ensure(!place.dir.join("pid").exists(), || "a pid file".into())?;
    }
    equal("processes", &processes(place)?, &1)?;
    place.gone()
}

fn only_a_running_container_executes(place: &Place<'_>) -> Result {
    let dir = place.shell("exec sleep 1000", |_| {})?;
    let bundle = dir.to_string_lossy().into_owned();
    let exec = || place.ringfence(&["exec", "c", "true"]);
    refused(&exec(), 128, &["`c` does not exist"])?;
    exited(&place.ringfence(&["create", "-b", &bundle, "c"]), 0)?;
    refused(&exec(), 128, &["created", "start"])?;
    exited(&place.ringfence(&["start", "c"]), 0)?;
    exited(&exec(), 0)?;
    exited(&place.ringfence(&["kill", "c", "KILL"]), 0)?;
    eventually("stopped container", || Ok(place.status("c")? == "stopped"))?;
    refused(&exec(), 128, &["stopped", "running"])?;
    place.gone()
}

fn signals_are_handed_on(place: &Place<'_>) -> Result {
    container(place)?;
    let script = "trap 'echo term; exit 9' TERM; trap 'echo usr1' USR1; trap 'echo int' INT; \
                  echo up; while :; do sleep 0.05; done";
    let mut command = place.runtime.command();
    command.args(["exec", "c", "sh", "-c", script]);
    let mut exec = place.spawn(&mut command)?;
    exec.wait_for("up")?;
    for (signal, word) in [
        (Signal::SIGUSR1, "usr1"),
        (Signal::SIGINT, "int"),
        (Signal::SIGTERM, "term"),
    ] {
        exec.signal(signal)?;
        exec.wait_for(word)?;
    }
    equal("end", &exec.finish(), &"exit 9".to_owned())?;
    // It does not outlive the one who waits for it.
    let mut exec = place.spawn(&mut command)?;
    exec.wait_for("up")?;
    equal("processes", &(processes(place)? >= 2), &true)?;
    exec.signal(Signal::SIGKILL)?;
    eventually("end of the process", || Ok(processes(place)? == 1))?;
    place.gone()
}

/// Runs `script` detached: the number of its stand-in.
fn detached(place: &Place<'_>, script: &str) -> Result<Pid> {
    let file = place.dir.join("exec.pid");
    let path = file.to_string_lossy().into_owned();
    let line = [
        "exec",
        "--detach",
        "--pid-file",
        &path,
        "c",
        "sh",
        "-c",
        script,
    ];
    said(&place.ringfence(&line), 0, "")?;
    let pid: i32 = std::fs::read_to_string(&file)?.parse()?;
    Ok(Pid::from_raw(pid))
}

/// Whether the process runs; one that nobody has reaped yet does not.
fn alive(pid: Pid) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(") ")
        .next()
        .is_some_and(|s| !s.is_empty() && !s.starts_with('Z'))
}

fn a_detached_one_has_a_stand_in(place: &Place<'_>) -> Result {
    container(place)?;
    let mark = place.tree()?.join("mark");
    let pid = detached(
        place,
        "trap 'echo usr1 > /mark' USR1; touch /mark; while :; do sleep 0.05; done",
    )?;
    eventually("mark", || Ok(mark.exists()))?;
    ensure(alive(pid), || "no stand-in".into())?;
    // It holds nothing of its caller's.
    for number in 0..3 {
        let link = std::fs::read_link(format!("/proc/{pid}/fd/{number}"))?;
        equal("stream", &link, &PathBuf::from("/dev/null"))?;
    }
    kill(pid, Signal::SIGUSR1)?;
    eventually("handled signal", || {
        Ok(std::fs::read_to_string(&mark)? == "usr1\n")
    })?;
    // It takes the process with it.
    kill(pid, Signal::SIGKILL)?;
    eventually("end of the process", || Ok(processes(place)? == 1))?;
    // It goes when the process does.
    let pid = detached(place, "exec sleep 1000")?;
    exited(
        &place.ringfence(&["exec", "c", "killall", "-TERM", "sleep"]),
        0,
    )?;
    eventually("end of the stand-in", || Ok(!alive(pid)))?;
    // A pid file that cannot be written undoes it.
    let line = [
        "exec",
        "--detach",
        "--pid-file",
        "/nosuch/pid",
        "c",
        "sleep",
        "1000",
    ];
    refused(&place.ringfence(&line), 128, &["/nosuch/pid"])?;
    eventually("end of the process", || Ok(processes(place)? == 1))?;
    place.gone()
}

/// As containerd's shim does it.
const SHIM: &str = "import ctypes,os,sys,subprocess
ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)
subprocess.run(sys.argv[2:], check=True)
pid = int(open(sys.argv[1]).read())
_, status = os.waitpid(pid, 0)
print(os.waitstatus_to_exitcode(status))";

fn a_stand_in_is_reaped_with_the_status(place: &Place<'_>) -> Result {
    let python = need("python3")?;
    container(place)?;
    let file = place.dir.join("shim.pid");
    for (script, status) in [
        ("exit 0", "0"),
        ("sleep 0.1; exit 42", "42"),
        ("kill -9 $$", "137"),
    ] {
        let mut shim = Command::new(&python);
        shim.args(["-c", SHIM])
            .arg(&file)
            .arg(&place.runtime.program)
            .args(place.runtime.command().get_args())
            .args(["exec", "--detach", "--pid-file"])
            .arg(&file)
            .args(["c", "sh", "-c", script]);
        said(&place.finish(&mut shim), 0, &format!("{status}\n"))?;
    }
    place.gone()
}

fn the_end_of_the_container_ends_it(place: &Place<'_>) -> Result {
    for how in [
        &["kill", "c", "KILL"] as &[&str],
        &["delete", "--force", "c"],
    ] {
        container(place)?;
        let stand_in = detached(place, "exec sleep 1000")?;
        let mut command = place.runtime.command();
        command.args(["exec", "c", "sh", "-c", "echo up; exec sleep 1000"]);
        let mut exec = place.spawn(&mut command)?;
        exec.wait_for("up")?;
        exited(&place.ringfence(how), 0)?;
        equal("end", &exec.finish(), &"exit 137".to_owned())?;
        eventually("end of the stand-in", || Ok(!alive(stand_in)))?;
        place.gone()?;
    }
    Ok(())
}

/// Says where it is, and asks to be resized, interrupted and typed at.
const AT_IT: &str = "tty; stty size; trap 'stty size' WINCH; trap 'echo c$((2+2))t' INT; \
    echo r$((1+1))y; while [ \"$x\" != end ]; do read x; done; echo last words; exit 9";

/// What a person does at [`AT_IT`].
fn talk(s: &mut Terminal, name: &str) -> std::result::Result<(), String> {
    s.expect(name)?;
    s.expect("33 66")?;
    s.expect("r2y")?;
    s.resize(40, 100).map_err(|e| e.to_string())?;
    s.expect("40 100")?;
    s.keys("\x03");
    s.expect("c4t")?;
    s.keys("end\r");
    s.expect("last words")
}

fn at_a_terminal(place: &Place<'_>) -> Result {
    container(place)?;
    for (line, name) in [
        (
            &["exec", "--tty", "c", "sh", "-c", AT_IT] as &[&str],
            "/dev/pts/0",
        ),
        (&["exec", "-t", "c", "sh", "-c", AT_IT], "/dev/pts/0"),
    ] {
        let mut command = place.runtime.command();
        command.args(line);
        let mut s = Terminal::start(&command, 33, 66)?;
        talk(&mut s, name).map_err(crate::case::Stop::Failed)?;
        equal("status", &s.finish(), &"exit 9".to_owned())?;
    }
    // Its name went with it.
    said(
        &place.ringfence(&["exec", "c", "ls", "/dev/pts"]),
        0,
        "ptmx\n",
    )?;
    place.gone()
}

fn over_a_console_socket(place: &Place<'_>) -> Result {
    container(place)?;
    let (socket, pid) = (place.dir.join("console.sock"), place.dir.join("pid"));
    let listener = ConsoleSocket::bind(&socket)?;
    let (socket, pid) = (
        socket.to_string_lossy().into_owned(),
        pid.to_string_lossy().into_owned(),
    );
    let process = place.dir.join("process.json");
    let path = process.to_string_lossy().into_owned();
    std::fs::write(
        &process,
        json!({
            "args": ["/bin/sh", "-c", AT_IT], "cwd": "/", "user": {"uid": 0, "gid": 0},
            "env": ["PATH=/bin"], "terminal": true, "consoleSize": {"height": 33, "width": 66},
        })
        .to_string(),
    )?;
    let line = [
        "exec",
        "--detach",
        "--process",
        &path,
        "--console-socket",
        &socket,
        "--pid-file",
        &pid,
        "c",
    ];
    said(&place.ringfence(&line), 0, "")?;
    let (master, _) = listener.receive()?;
    let mut s = Terminal::attach(master)?;
    talk(&mut s, "/dev/pts/0").map_err(crate::case::Stop::Failed)?;
    equal("the end", &s.finish(), &"hung up".to_owned())?;
    let line = ["exec", "--detach", "--tty", "c", "sh"];
    refused(&place.ringfence(&line), 128, &["--console-socket"])?;
    let line = ["exec", "--tty", "--console-socket", &socket, "c", "sh"];
    refused(&place.ringfence(&line), 128, &["--detach"])?;
    let line = ["exec", "--detach", "--console-socket", &socket, "c", "sh"];
    refused(&place.ringfence(&line), 128, &["--tty"])?;
    equal("processes", &processes(place)?, &1)?;
    place.gone()
}

fn further_descriptors(place: &Place<'_>) -> Result {
    container(place)?;
    let mut shell = Command::new("sh");
    shell
        .args(["-c", "echo three > $0.3; exec 3< $0.3 4> $0.4; \"$@\""])
        .arg(place.dir.join("file"))
        .arg(&place.runtime.program)
        .args(place.runtime.command().get_args())
        .args([
            "exec",
            "--preserve-fds",
            "2",
            "c",
            "sh",
            "-c",
            "cat <&3; echo four >&4",
        ]);
    said(&place.finish(&mut shell), 0, "three\n")?;
    let four = std::fs::read_to_string(place.dir.join("file.4"))?;
    equal("written", &four, &"four\n".to_owned())?;
    let outcome = place.ringfence(&["exec", "--preserve-fds", "9", "c", "true"]);
    refused(&outcome, 128, &["--preserve-fds"])?;
    place.gone()
}

fn many_at_once(place: &Place<'_>) -> Result {
    container(place)?;
    let script = "for n in $(seq 40); do \"$@\" sh -c \"exit $n\" & all=\"$all $!\"; done; s=0
        for p in $all; do wait $p; s=$((s+$?)); done; echo $s";
    let mut shell = Command::new("sh");
    shell
        .args(["-c", script, "sh"])
        .arg(&place.runtime.program)
        .args(place.runtime.command().get_args())
        .args(["exec", "c"]);
    said(&place.finish(&mut shell), 0, "820\n")?;
    equal("processes", &processes(place)?, &1)?;
    place.gone()
}
