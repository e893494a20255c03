//! Podman, which has no daemon, with its storage on directories of its own and without a network.

use super::{Case, Manager, PATIENCE, equal, eventually, expect, holds, packed, within_reach};
use anyhow::{Context, Result};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;
use test_support::rootfs;
use test_support::run::{Outcome, run};

/// What the image is called.
const IMAGE: &str = "ringfence-test";

pub(super) const CASES: &[Case<Podman>] = &[
    ("run", run_gives_output_and_status),
    ("exec", exec_runs_beside),
    ("terminal", a_terminal_is_given),
    ("logs_and_stop", logs_and_stop),
    ("kill_and_restart", kill_and_restart),
    ("pause", pause_and_unpause),
    ("watching", what_is_watched),
];

/// Its storage; gone with this.
pub(super) struct Podman {
    dir: TempDir,
    program: PathBuf,
}

impl Manager for Podman {
    const NAME: &str = "podman";

    fn start(program: &Path) -> Result<Podman> {
        let podman = within_reach(&["podman", "conmon"], "podman")?;
        let tree = rootfs::busybox()?;
        let dir = tempfile::Builder::new().prefix("rf-podman.").tempdir()?;
        fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o755))?;
        // State on a directory of ours; what cleans up after an end knows no option that was given to
        // podman for the runtime.
        let runtime = dir.path().join("ringfence");
        let at = dir.path().display();
        fs::copy(program, dir.path().join("program"))?;
        fs::write(
            &runtime,
            format!("#!/bin/sh\nexec {at}/program --root {at}/state \"$@\"\n"),
        )?;
        fs::set_permissions(&runtime, PermissionsExt::from_mode(0o755))?;
        let image = packed(&tree, dir.path())?;
        let podman = Podman {
            dir,
            program: podman,
        };
        let path = image.to_str().context("a path that is not text")?;
        expect(&podman.podman(&["import", path, IMAGE]), 0)?;
        Ok(podman)
    }

    fn clear(&self) {
        self.podman(&["rm", "--all", "--force", "--time", "0"]);
    }

    fn last_words(&self) -> String {
        "none; each command says what went wrong".to_owned()
    }
}

impl Podman {
    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        for (option, name) in [
            ("--root", "root"),
            ("--runroot", "run"),
            ("--tmpdir", "tmp"),
            ("--runtime", "ringfence"),
        ] {
            command.arg(option).arg(self.dir.path().join(name));
        }
        command
            .args(["--cgroup-manager", "cgroupfs", "--events-backend", "file"])
            .args(["--storage-driver", "vfs"])
            .args(args);
        command
    }

    fn podman(&self, args: &[&str]) -> Outcome {
        run(&mut self.command(args), b"", PATIENCE)
    }

    fn run(&self, args: &[&str]) -> Outcome {
        self.podman(&[&["run", "--network", "none"], args].concat())
    }

    /// A container called `name` that runs `script` in the background.
    fn detached(&self, name: &str, script: &str) -> Result<()> {
        let line = ["--detach", "--name", name, IMAGE, "/bin/sh", "-c", script];
        expect(&self.run(&line), 0).map(drop)
    }

    fn status(&self, name: &str) -> String {
        let format = "{{.State.Status}} {{.State.ExitCode}}";
        let outcome = self.podman(&["inspect", "--format", format, name]);
        outcome.out().trim().to_owned()
    }
}

fn run_gives_output_and_status(p: &Podman) -> Result<()> {
    let script = "echo out; echo err >&2; exit 7";
    let said = p.run(&["--rm", IMAGE, "/bin/sh", "-c", script]);
    equal("output", &expect(&said, 7)?, "out\n")?;
    equal("errors", &said.err(), "err\n")?;
    let mut command = p.command(&["run", "--rm", "-i", "--network", "none", IMAGE, "/bin/cat"]);
    let said = run(&mut command, b"typed", PATIENCE);
    equal("input", &expect(&said, 0)?, "typed")?;
    for (program, status) in [("/nosuch", 127), ("/etc", 126)] {
        let refused = p.run(&["--rm", IMAGE, program]);
        expect(&refused, status)?;
        holds("refusal", &refused.err(), program)?;
    }
    let script = "free | grep Mem";
    let said = p.run(&["--rm", "--memory", "64m", IMAGE, "/bin/sh", "-c", script]);
    holds("limit", &expect(&said, 0)?, " 65536 ")
}

fn exec_runs_beside(p: &Podman) -> Result<()> {
    p.detached("beside", "exec sleep 1000")?;
    let script = "id -u; pwd; echo $X; exit 3";
    let line = [
        &["exec", "-u", "5:6", "-w", "/tmp", "-e", "X=y", "beside"] as &[&str],
        &["/bin/sh", "-c", script],
    ];
    let said = p.podman(&line.concat());
    equal("output", &expect(&said, 3)?, "5\n/tmp\ny\n")?;
    expect(&p.podman(&["exec", "beside", "/nosuch"]), 127)?;
    expect(&p.podman(&["exec", "-d", "beside", "touch", "/mark"]), 0)?;
    eventually("mark", || {
        p.podman(&["exec", "beside", "ls", "/mark"]).code() == Some(0)
    })?;
    holds(
        "diff",
        &expect(&p.podman(&["diff", "beside"]), 0)?,
        "A /mark",
    )
}

fn a_terminal_is_given(p: &Podman) -> Result<()> {
    p.detached("terminal", "exec sleep 1000")?;
    let script = "tty; until stty size 2>&1 | grep -x '33 66'; do sleep 0.1; done; exit 4";
    for args in [
        &["exec", "-it", "terminal"] as &[&str],
        &["run", "--rm", "-it", "--network", "none", IMAGE],
    ] {
        let command = p.command(&[args, &["/bin/sh", "-c", script]].concat());
        let mut terminal = test_support::terminal::Terminal::start(&command, 33, 66)?;
        for text in ["/dev/pts/0", "33 66"] {
            terminal.expect(text).map_err(anyhow::Error::msg)?;
        }
        equal("end", &terminal.finish(), "exit 4")?;
    }
    Ok(())
}

fn logs_and_stop(p: &Podman) -> Result<()> {
    let script = "trap 'echo bye; exit 5' TERM; echo up; while :; do sleep 0.1; done";
    p.detached("logs", script)?;
    let logs = || p.podman(&["logs", "logs"]).out();
    eventually("first line", || logs() == "up\n")?;
    expect(&p.podman(&["stop", "logs"]), 0)?;
    equal("logs", &logs(), "up\nbye\n")?;
    equal("status", &p.status("logs"), "exited 5")?;
    p.detached("deaf", "trap '' TERM; while :; do sleep 0.1; done")?;
    expect(&p.podman(&["stop", "-t", "1", "deaf"]), 0)?;
    equal("status", &p.status("deaf"), "exited 137")
}

fn kill_and_restart(p: &Podman) -> Result<()> {
    p.detached("again", "trap 'exit 6' USR1; while :; do sleep 0.1; done")?;
    expect(&p.podman(&["kill", "-s", "USR1", "again"]), 0)?;
    eventually("end", || p.status("again") == "exited 6")?;
    expect(&p.podman(&["start", "again"]), 0)?;
    expect(&p.podman(&["restart", "-t", "1", "again"]), 0)?;
    equal("status", &p.status("again"), "running 0")?;
    expect(&p.podman(&["kill", "again"]), 0)?;
    eventually("end", || p.status("again") == "exited 137")
}

fn pause_and_unpause(p: &Podman) -> Result<()> {
    p.detached("pause", "while :; do echo x; sleep 0.05; done")?;
    let logs = || p.podman(&["logs", "pause"]).out().len();
    eventually("output", || logs() > 0)?;
    expect(&p.podman(&["pause", "pause"]), 0)?;
    equal("status", &p.status("pause"), "paused 0")?;
    expect(&p.podman(&["unpause", "pause"]), 0)?;
    let before = logs();
    eventually("more output", || logs() > before)
}

fn what_is_watched(p: &Podman) -> Result<()> {
    let line = ["--detach", "--name", "watched", "--health-cmd", "/bin/true"];
    // Without systemd there is no timer that would run it.
    let rest = ["--health-interval", "disable", IMAGE, "/bin/sleep", "1000"];
    expect(&p.run(&[&line[..], &rest].concat()), 0)?;
    expect(&p.podman(&["healthcheck", "run", "watched"]), 0)?;
    let top = p.podman(&["top", "watched", "-o", "pid,args"]);
    holds("top", &expect(&top, 0)?, "sleep 1000")?;
    let stats = expect(&p.podman(&["stats", "--no-stream", "watched"]), 0)?;
    holds("stats", &stats, "watched")
}
