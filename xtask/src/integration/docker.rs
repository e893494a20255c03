//! A private Docker daemon, on directories of its own and without a network, that runs its containers
//! by the binary under test.

use super::{
    Case, Manager, PATIENCE, end, equal, eventually, expect, holds, last_lines, packed, up,
    within_reach,
};
use anyhow::{Context, Result};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use tempfile::TempDir;
use test_support::rootfs;
use test_support::run::{Outcome, run};

/// What the image is called.
const IMAGE: &str = "ringfence-test";

pub(super) const CASES: &[Case<Daemon>] = &[
    ("run", run_gives_output_and_status),
    ("exec", exec_runs_beside),
    ("terminal", a_terminal_is_given),
    ("logs_and_stop", logs_and_stop),
    ("kill_and_restart", kill_and_restart),
    ("pause", pause_and_unpause),
    ("watching", what_is_watched),
    ("files", files_are_the_hosts),
];

/// The daemon; it ends with this.
pub(super) struct Daemon {
    dir: TempDir,
    child: Child,
}

impl Manager for Daemon {
    const NAME: &str = "docker";

    fn start(program: &Path) -> Result<Daemon> {
        let dockerd = within_reach(&["dockerd", "docker"], "docker.io")?;
        let tree = rootfs::busybox()?;
        let dir = tempfile::Builder::new().prefix("rf-docker.").tempdir()?;
        fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o755))?;
        let runtime = dir.path().join("ringfence");
        fs::copy(program, &runtime)?;
        let config = serde_json::json!({
            "data-root": dir.path().join("data"), "exec-root": dir.path().join("exec"),
            "pidfile": dir.path().join("pid"), "storage-driver": "vfs",
            "hosts": [format!("unix://{}/sock", dir.path().display())],
            "bridge": "none", "iptables": false, "ip6tables": false,
            "exec-opts": ["native.cgroupdriver=cgroupfs"],
            "runtimes": {"ringfence": {"path": runtime}}, "default-runtime": "ringfence",
        });
        let file = dir.path().join("daemon.json");
        fs::write(&file, config.to_string())?;
        let log = fs::File::create(dir.path().join("log"))?;
        let child = Command::new(dockerd)
            .arg("--config-file")
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()?;
        let mut daemon = Daemon { dir, child };
        let ready = up(&mut daemon.child, || {
            run(&mut docker(daemon.dir.path(), &["version"]), b"", PATIENCE)
        });
        ready.with_context(|| format!("dockerd: {}", daemon.last_words()))?;
        let image = packed(&tree, daemon.dir.path())?;
        let path = image.to_str().context("a path that is not text")?;
        expect(&daemon.docker(&["import", path, IMAGE]), 0)?;
        Ok(daemon)
    }

    fn clear(&self) {
        let left = self.docker(&["ps", "-aq"]).out();
        for id in left.split_whitespace() {
            self.docker(&["rm", "-f", id]);
        }
    }

    fn last_words(&self) -> String {
        last_lines(&self.dir.path().join("log"))
    }
}

/// The client's command line.
fn docker(dir: &Path, args: &[&str]) -> Command {
    let mut command = Command::new("docker");
    command
        .arg("--host")
        .arg(format!("unix://{}/sock", dir.display()))
        .args(args);
    command
}

impl Daemon {
    fn command(&self, args: &[&str]) -> Command {
        docker(self.dir.path(), args)
    }

    fn docker(&self, args: &[&str]) -> Outcome {
        run(&mut self.command(args), b"", PATIENCE)
    }

    /// `docker run` without a network.
    fn run(&self, args: &[&str]) -> Outcome {
        self.docker(&[&["run", "--network", "none"], args].concat())
    }

    /// A container called `name` that runs `script` in the background.
    fn detached(&self, name: &str, script: &str) -> Result<()> {
        let line = ["--detach", "--name", name, IMAGE, "/bin/sh", "-c", script];
        expect(&self.run(&line), 0).map(drop)
    }

    fn status(&self, name: &str) -> String {
        let format = "{{.State.Status}} {{.State.ExitCode}}";
        let outcome = self.docker(&["inspect", "--format", format, name]);
        outcome.out().trim().to_owned()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}

fn run_gives_output_and_status(d: &Daemon) -> Result<()> {
    let said = d.run(&[
        "--rm",
        IMAGE,
        "/bin/sh",
        "-c",
        "echo out; echo err >&2; exit 7",
    ]);
    equal("output", &expect(&said, 7)?, "out\n")?;
    equal("errors", &said.err(), "err\n")?;
    let mut command = d.command(&["run", "--rm", "-i", "--network", "none", IMAGE, "/bin/cat"]);
    equal(
        "input",
        &expect(&run(&mut command, b"typed", PATIENCE), 0)?,
        "typed",
    )?;
    for (program, status) in [("/nosuch", 127), ("/etc", 126)] {
        let refused = d.run(&["--rm", IMAGE, program]);
        expect(&refused, status)?;
        holds("refusal", &refused.err(), program)?;
    }
    let limits = [
        "--rm",
        "--memory",
        "64m",
        IMAGE,
        "/bin/sh",
        "-c",
        "free | grep Mem",
    ];
    holds("limit", &expect(&d.run(&limits), 0)?, " 65536 ")
}

fn exec_runs_beside(d: &Daemon) -> Result<()> {
    d.detached("beside", "exec sleep 1000")?;
    let line = [
        "exec",
        "-u",
        "5:6",
        "-w",
        "/tmp",
        "-e",
        "X=y",
        "beside",
        "/bin/sh",
        "-c",
        "id -u; pwd; echo $X; exit 3",
    ];
    equal("output", &expect(&d.docker(&line), 3)?, "5\n/tmp\ny\n")?;
    let mut command = d.command(&["exec", "-i", "beside", "/bin/cat"]);
    equal(
        "input",
        &expect(&run(&mut command, b"typed", PATIENCE), 0)?,
        "typed",
    )?;
    let refused = d.docker(&["exec", "beside", "/nosuch"]);
    expect(&refused, 126)?;
    holds("refusal", &refused.out(), "no such file or directory")?;
    expect(
        &d.docker(&["exec", "-d", "beside", "/bin/touch", "/mark"]),
        0,
    )?;
    eventually("mark", || {
        d.docker(&["exec", "beside", "/bin/ls", "/mark"]).code() == Some(0)
    })
}

fn a_terminal_is_given(d: &Daemon) -> Result<()> {
    d.detached("terminal", "exec sleep 1000")?;
    let script = "tty; until stty size 2>&1 | grep -x '33 66'; do sleep 0.1; done; exit 4";
    for args in [
        &["exec", "-it", "terminal"] as &[&str],
        &["run", "--rm", "-it", "--network", "none", IMAGE],
    ] {
        let command = d.command(&[args, &["/bin/sh", "-c", script]].concat());
        let mut terminal = test_support::terminal::Terminal::start(&command, 33, 66)?;
        for text in ["/dev/pts/0", "33 66"] {
            terminal.expect(text).map_err(anyhow::Error::msg)?;
        }
        equal("end", &terminal.finish(), "exit 4")?;
    }
    Ok(())
}

fn logs_and_stop(d: &Daemon) -> Result<()> {
    d.detached(
        "logs",
        "trap 'echo bye; exit 5' TERM; echo up; while :; do sleep 0.1; done",
    )?;
    let logs = || d.docker(&["logs", "logs"]).out();
    eventually("first line", || logs() == "up\n")?;
    expect(&d.docker(&["stop", "logs"]), 0)?;
    equal("logs", &logs(), "up\nbye\n")?;
    equal("status", &d.status("logs"), "exited 5")?;
    d.detached("deaf", "trap '' TERM; while :; do sleep 0.1; done")?;
    expect(&d.docker(&["stop", "-t", "1", "deaf"]), 0)?;
    equal("status", &d.status("deaf"), "exited 137")
}

fn kill_and_restart(d: &Daemon) -> Result<()> {
    d.detached("again", "trap 'exit 6' USR1; while :; do sleep 0.1; done")?;
    expect(&d.docker(&["kill", "-s", "USR1", "again"]), 0)?;
    eventually("end", || d.status("again") == "exited 6")?;
    expect(&d.docker(&["start", "again"]), 0)?;
    expect(&d.docker(&["restart", "-t", "1", "again"]), 0)?;
    equal("status", &d.status("again"), "running 0")?;
    expect(&d.docker(&["kill", "again"]), 0)?;
    eventually("end", || d.status("again") == "exited 137")?;
    expect(&d.docker(&["rm", "again"]), 0).map(drop)
}

fn pause_and_unpause(d: &Daemon) -> Result<()> {
    d.detached("pause", "while :; do echo x; sleep 0.05; done")?;
    let logs = || d.docker(&["logs", "pause"]).out().len();
    eventually("output", || logs() > 0)?;
    expect(&d.docker(&["pause", "pause"]), 0)?;
    equal("status", &d.status("pause"), "paused 0")?;
    expect(&d.docker(&["exec", "pause", "/bin/true"]), 1)?;
    expect(&d.docker(&["unpause", "pause"]), 0)?;
    let before = logs();
    eventually("more output", || logs() > before)
}

fn what_is_watched(d: &Daemon) -> Result<()> {
    let line = [
        "--detach",
        "--name",
        "watched",
        "--health-cmd",
        "/bin/true",
        "--health-interval",
        "1s",
        IMAGE,
        "/bin/sleep",
        "1000",
    ];
    expect(&d.run(&line), 0)?;
    // The host knows one process: the sandbox.
    holds(
        "top",
        &expect(&d.docker(&["top", "watched"]), 0)?,
        "ringfence",
    )?;
    let stats = expect(&d.docker(&["stats", "--no-stream", "watched"]), 0)?;
    holds("stats", &stats, "watched")?;
    let format = "{{.State.Health.Status}}";
    eventually("health", || {
        let health = d.docker(&["inspect", "--format", format, "watched"]);
        health.out().trim() == "healthy"
    })
}

fn files_are_the_hosts(d: &Daemon) -> Result<()> {
    d.detached("files", "echo it > /made; exec sleep 1000")?;
    let here = d.dir.path().join("copied");
    let path = here.to_str().context("a path that is not text")?;
    eventually("file", || {
        d.docker(&["cp", "files:/made", path]).code() == Some(0)
    })?;
    equal("copy", &fs::read_to_string(&here)?, "it\n")?;
    expect(&d.docker(&["cp", path, "files:/back"]), 0)?;
    let seen = d.docker(&["exec", "files", "/bin/cat", "/back"]);
    equal("other way", &expect(&seen, 0)?, "it\n")?;
    holds(
        "diff",
        &expect(&d.docker(&["diff", "files"]), 0)?,
        "A /made",
    )
}
