//! What Docker and Podman do by the same command line.

use super::{Manager, PATIENCE, equal, eventually, expect, holds};
use anyhow::Result;
use std::process::Command;
use test_support::run::{Outcome, run};
use test_support::terminal::Terminal;

/// What the image is called.
pub(super) const IMAGE: &str = "ringfence-test";

/// One of the two.
pub(super) trait Engine: Manager {
    /// Its command line.
    fn command(&self, args: &[&str]) -> Command;

    fn call(&self, args: &[&str]) -> Outcome {
        run(&mut self.command(args), b"", PATIENCE)
    }

    /// The same, with what is typed.
    fn call_with(&self, args: &[&str], input: &[u8]) -> Outcome {
        run(&mut self.command(args), input, PATIENCE)
    }

    /// `run` without a network.
    fn run(&self, args: &[&str]) -> Outcome {
        self.call(&[&["run", "--network", "none"], args].concat())
    }

    /// A container called `name` that runs `script` in the background.
    fn detached(&self, name: &str, script: &str) -> Result<()> {
        let line = ["--detach", "--name", name, IMAGE, "/bin/sh", "-c", script];
        expect(&self.run(&line), 0).map(drop)
    }

    fn status(&self, name: &str) -> String {
        let format = "{{.State.Status}} {{.State.ExitCode}}";
        let outcome = self.call(&["inspect", "--format", format, name]);
        outcome.out().trim().to_owned()
    }
}

pub(super) fn run_gives_output_and_status<E: Engine>(e: &E) -> Result<()> {
    let script = "echo out; echo err >&2; exit 7";
    let said = e.run(&["--rm", IMAGE, "/bin/sh", "-c", script]);
    equal("output", &expect(&said, 7)?, "out\n")?;
    equal("errors", &said.err(), "err\n")?;
    let line = ["run", "--rm", "-i", "--network", "none", IMAGE, "/bin/cat"];
    equal("input", &expect(&e.call_with(&line, b"typed"), 0)?, "typed")?;
    for (program, status) in [("/nosuch", 127), ("/etc", 126)] {
        let refused = e.run(&["--rm", IMAGE, program]);
        expect(&refused, status)?;
        holds("refusal", &refused.err(), program)?;
    }
    let script = "free | grep Mem";
    let said = e.run(&["--rm", "--memory", "64m", IMAGE, "/bin/sh", "-c", script]);
    holds("limit", &expect(&said, 0)?, " 65536 ")
}

/// In a container `beside`, which goes on.
pub(super) fn exec_runs_beside<E: Engine>(e: &E) -> Result<()> {
    e.detached("beside", "exec sleep 1000")?;
    let script = "id -u; pwd; echo $X; exit 3";
    let line = [
        &["exec", "-u", "5:6", "-w", "/tmp", "-e", "X=y", "beside"] as &[&str],
        &["/bin/sh", "-c", script],
    ];
    let said = e.call(&line.concat());
    equal("output", &expect(&said, 3)?, "5\n/tmp\ny\n")?;
    let said = e.call_with(&["exec", "-i", "beside", "/bin/cat"], b"typed");
    equal("input", &expect(&said, 0)?, "typed")?;
    let made = e.call(&["exec", "-d", "beside", "/bin/touch", "/mark"]);
    expect(&made, 0)?;
    eventually("mark", || {
        e.call(&["exec", "beside", "/bin/ls", "/mark"]).code() == Some(0)
    })
}

pub(super) fn a_terminal_is_given<E: Engine>(e: &E) -> Result<()> {
    e.detached("terminal", "exec sleep 1000")?;
    let script = "tty; until stty size 2>&1 | grep -x '33 66'; do sleep 0.1; done; exit 4";
    for args in [
        &["exec", "-it", "terminal"] as &[&str],
        &["run", "--rm", "-it", "--network", "none", IMAGE],
    ] {
        let command = e.command(&[args, &["/bin/sh", "-c", script]].concat());
        let mut terminal = Terminal::start(&command, 33, 66)?;
        for text in ["/dev/pts/0", "33 66"] {
            terminal.expect(text).map_err(anyhow::Error::msg)?;
        }
        equal("end", &terminal.finish(), "exit 4")?;
    }
    Ok(())
}

pub(super) fn logs_and_stop<E: Engine>(e: &E) -> Result<()> {
    let script = "trap 'echo bye; exit 5' TERM; echo up; while :; do sleep 0.1; done";
    e.detached("logs", script)?;
    let logs = || e.call(&["logs", "logs"]).out();
    eventually("first line", || logs() == "up\n")?;
    expect(&e.call(&["stop", "logs"]), 0)?;
    equal("logs", &logs(), "up\nbye\n")?;
    equal("status", &e.status("logs"), "exited 5")?;
    e.detached("deaf", "trap '' TERM; while :; do sleep 0.1; done")?;
    expect(&e.call(&["stop", "-t", "1", "deaf"]), 0)?;
    equal("status", &e.status("deaf"), "exited 137")
}

pub(super) fn kill_and_restart<E: Engine>(e: &E) -> Result<()> {
    e.detached("again", "trap 'exit 6' USR1; while :; do sleep 0.1; done")?;
    expect(&e.call(&["kill", "-s", "USR1", "again"]), 0)?;
    eventually("end", || e.status("again") == "exited 6")?;
    expect(&e.call(&["start", "again"]), 0)?;
    expect(&e.call(&["restart", "-t", "1", "again"]), 0)?;
    equal("status", &e.status("again"), "running 0")?;
    expect(&e.call(&["kill", "again"]), 0)?;
    eventually("end", || e.status("again") == "exited 137")?;
    expect(&e.call(&["rm", "again"]), 0).map(drop)
}

/// What else is to be seen of a container `pause` while it is paused is `meanwhile`'s to say.
pub(super) fn pause_and_unpause<E: Engine>(
    e: &E,
    meanwhile: impl FnOnce(&E) -> Result<()>,
) -> Result<()> {
    e.detached("pause", "while :; do echo x; sleep 0.05; done")?;
    let logs = || e.call(&["logs", "pause"]).out().len();
    eventually("output", || logs() > 0)?;
    expect(&e.call(&["pause", "pause"]), 0)?;
    equal("status", &e.status("pause"), "paused 0")?;
    meanwhile(e)?;
    expect(&e.call(&["unpause", "pause"]), 0)?;
    let before = logs();
    eventually("more output", || logs() > before)
}
