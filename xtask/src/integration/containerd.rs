//! A private containerd, driven by `ctr`: its shim for runc, `io.containerd.runc.v2`, runs containers
//! and pods by the binary under test.

use super::{
    Case, Manager, PATIENCE, end, equal, eventually, expect, holds, last_lines, up, within_reach,
};
use anyhow::{Context, Result};
use serde_json::json;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use tempfile::TempDir;
use test_support::bundle::Bundle;
use test_support::rootfs;
use test_support::run::{Outcome, run};

pub(super) const CASES: &[Case<Daemon>] = &[
    ("run", run_gives_output_and_status),
    ("tasks", tasks_are_driven),
    ("terminal", a_terminal_is_given),
    ("pod", a_pod_is_one_sandbox),
];

/// The daemon; it ends with this.
pub(super) struct Daemon {
    dir: TempDir,
    tree: PathBuf,
    child: Child,
}

impl Manager for Daemon {
    const NAME: &str = "containerd";

    fn start(program: &Path) -> Result<Daemon> {
        let needed = ["containerd", "ctr", "containerd-shim-runc-v2"];
        let containerd = within_reach(&needed, "containerd")?;
        let dir = tempfile::Builder::new().prefix("rf-ctr.").tempdir()?;
        fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o755))?;
        fs::copy(program, dir.path().join("ringfence"))?;
        let at = dir.path().display();
        let config = format!(
            "version = 2\nroot = \"{at}/root\"\nstate = \"{at}/state\"\n\
             disabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n[grpc]\naddress = \"{at}/sock\"\n"
        );
        let file = dir.path().join("config.toml");
        fs::write(&file, config)?;
        let log = fs::File::create(dir.path().join("log"))?;
        let child = Command::new(containerd)
            .arg("--config")
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()?;
        let mut daemon = Daemon {
            dir,
            tree: rootfs::busybox()?,
            child,
        };
        let ready = up(&mut daemon.child, || {
            run(&mut ctr(daemon.dir.path(), &["version"]), b"", PATIENCE)
        });
        ready.with_context(|| format!("containerd: {}", daemon.last_words()))?;
        Ok(daemon)
    }

    fn clear(&self) {
        for list in ["tasks", "containers"] {
            let ids = self.ctr(&[list, "ls", "-q"]).out();
            for id in ids.split_whitespace() {
                match list {
                    "tasks" => self.ctr(&["tasks", "rm", "--force", id]),
                    _ => self.ctr(&["containers", "rm", id]),
                };
            }
        }
    }

    fn last_words(&self) -> String {
        last_lines(&self.dir.path().join("log"))
    }
}

/// The client's command line.
fn ctr(dir: &Path, args: &[&str]) -> Command {
    let mut command = Command::new("ctr");
    command.arg("--address").arg(dir.join("sock")).args(args);
    command
}

impl Daemon {
    fn command(&self, args: &[&str]) -> Command {
        ctr(self.dir.path(), args)
    }

    fn ctr(&self, args: &[&str]) -> Outcome {
        run(&mut self.command(args), b"", PATIENCE)
    }

    /// `ctr run` by the binary, with its state on a directory of ours.
    fn run_command(&self, args: &[&str]) -> Command {
        let mut command = self.command(&["run", "--runc-binary"]);
        command
            .arg(self.dir.path().join("ringfence"))
            .arg("--runc-root")
            .arg(self.dir.path().join("containers"))
            .args(args);
        command
    }

    /// A container called `id` that runs `script` in a tree of its own; `options` before it.
    fn run(&self, options: &[&str], id: &str, script: &str) -> Result<Outcome> {
        let tree = self.tree(id)?;
        let tree = tree.to_str().context("a path that is not text")?;
        let line = [&["--rootfs"], options, &[tree, id, "/bin/sh", "-c", script]].concat();
        Ok(run(&mut self.run_command(&line), b"", PATIENCE))
    }

    fn tree(&self, id: &str) -> Result<PathBuf> {
        let to = self.dir.path().join(format!("tree-{id}"));
        if !to.exists() {
            let mut copy = Command::new("cp");
            copy.arg("-a").arg(&self.tree).arg(&to);
            expect(&run(&mut copy, b"", PATIENCE), 0)?;
            fs::write(to.join("name"), format!("{id}\n"))?;
        }
        Ok(to)
    }

    /// A container of the pod `sandbox` that runs `script`, in the background. One of that name is
    /// the pod's own.
    fn in_pod(&self, sandbox: &str, id: &str, script: &str) -> Result<()> {
        let dir = self.dir.path().join(format!("bundle-{id}"));
        let tree = self.tree(id)?;
        let mut bundle = Bundle::new(&dir, &tree, &["/bin/sh", "-c", script]);
        let kind = if id == sandbox {
            "sandbox"
        } else {
            "container"
        };
        bundle.config["annotations"] = json!({
            "io.kubernetes.cri.container-type": kind, "io.kubernetes.cri.sandbox-id": sandbox,
        });
        for namespace in ["ipc", "uts", "network"] {
            let all = bundle.config["linux"]["namespaces"].as_array_mut();
            let all = all.into_iter().flatten();
            for entry in all.filter(|n| id != sandbox && n["type"] == namespace) {
                entry["path"] = format!("/proc/1/ns/{namespace}").into();
            }
        }
        bundle.write()?;
        let file = dir.join("config.json");
        let file = file.to_str().context("a path that is not text")?;
        // What the shim gives on to the container must not be a pipe that this waits for.
        let line = ["--detach", "--null-io", "--config", file, id];
        expect(&run(&mut self.run_command(&line), b"", PATIENCE), 0).map(drop)
    }

    fn exec(&self, id: &str, script: &str) -> Outcome {
        let line = [
            "tasks",
            "exec",
            "--exec-id",
            "e",
            id,
            "/bin/sh",
            "-c",
            script,
        ];
        self.ctr(&line)
    }

    /// What `tasks ls` says of a container: `RUNNING` and so on.
    fn status(&self, id: &str) -> String {
        let list = self.ctr(&["tasks", "ls"]).out();
        let line = list
            .lines()
            .find(|l| l.split_whitespace().next() == Some(id));
        let status = line.and_then(|l| l.split_whitespace().last());
        status.unwrap_or_default().to_owned()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}

fn run_gives_output_and_status(d: &Daemon) -> Result<()> {
    let said = d.run(&["--rm"], "one", "cat /name; echo err >&2; exit 7")?;
    equal("output", &expect(&said, 7)?, "one\n")?;
    holds("errors", &said.err(), "err\n")?;
    let tree = d.tree("two")?;
    let tree = tree.to_str().context("a path that is not text")?;
    let line = ["--rootfs", "--rm", tree, "two", "/nosuch"];
    let refused = run(&mut d.run_command(&line), b"", PATIENCE);
    holds("refusal", &refused.err(), "/nosuch")?;
    expect(&refused, 1).map(drop)
}

fn tasks_are_driven(d: &Daemon) -> Result<()> {
    let script = "trap 'exit 5' USR1; while :; do sleep 0.1; done";
    expect(&d.run(&["--detach", "--null-io"], "t", script)?, 0)?;
    equal("status", &d.status("t"), "RUNNING")?;
    equal(
        "output",
        &expect(&d.exec("t", "cat /name; exit 3"), 3)?,
        "t\n",
    )?;
    expect(&d.ctr(&["tasks", "pause", "t"]), 0)?;
    equal("status", &d.status("t"), "PAUSED")?;
    expect(&d.ctr(&["tasks", "resume", "t"]), 0)?;
    equal("status", &d.status("t"), "RUNNING")?;
    let metrics = expect(&d.ctr(&["tasks", "metrics", "t"]), 0)?;
    holds("metrics", &metrics, "memory")?;
    expect(&d.ctr(&["tasks", "ps", "t"]), 0)?;
    expect(&d.ctr(&["tasks", "kill", "--signal", "USR1", "t"]), 0)?;
    eventually("end", || d.status("t") == "STOPPED")?;
    let removed = d.ctr(&["tasks", "rm", "t"]);
    holds("status", &removed.err(), "exit code 5")
}

fn a_terminal_is_given(d: &Daemon) -> Result<()> {
    let script = "tty; until stty size 2>&1 | grep -x '33 66'; do sleep 0.1; done; exit 4";
    let tree = d.tree("terminal")?;
    let tree = tree.to_str().context("a path that is not text")?;
    let line = [
        "--rootfs", "--rm", "-t", tree, "terminal", "/bin/sh", "-c", script,
    ];
    let mut terminal = test_support::terminal::Terminal::start(&d.run_command(&line), 33, 66)?;
    for text in ["/dev/pts/0", "33 66"] {
        terminal.expect(text).map_err(anyhow::Error::msg)?;
    }
    equal("end", &terminal.finish(), "exit 4")
}

fn a_pod_is_one_sandbox(d: &Daemon) -> Result<()> {
    d.in_pod("pod", "pod", "exec sleep 1000")?;
    d.in_pod("pod", "a", "exec sleep 1000")?;
    d.in_pod("pod", "b", "exec sleep 1000")?;
    for id in ["pod", "a", "b"] {
        equal("status", &d.status(id), "RUNNING")?;
        let show = "cat /name; echo $(pidof sleep)";
        equal(
            "inside",
            &expect(&d.exec(id, show), 0)?,
            &format!("{id}\n1\n"),
        )?;
        expect(&d.ctr(&["tasks", "metrics", id]), 0)?;
    }
    expect(&d.ctr(&["tasks", "pause", "a"]), 0)?;
    equal("status", &d.status("a"), "PAUSED")?;
    equal("status", &d.status("b"), "RUNNING")?;
    expect(&d.exec("b", "true"), 0)?;
    expect(&d.ctr(&["tasks", "resume", "a"]), 0)?;
    expect(&d.ctr(&["tasks", "kill", "--signal", "KILL", "a"]), 0)?;
    eventually("end", || d.status("a") == "STOPPED")?;
    holds(
        "status",
        &d.ctr(&["tasks", "rm", "a"]).err(),
        "exit code 137",
    )?;
    expect(&d.ctr(&["containers", "rm", "a"]), 0)?;
    expect(&d.exec("b", "true"), 0)?;
    // The same container once more, as after a restart of it by the kubelet.
    d.in_pod("pod", "a", "exec sleep 1000")?;
    expect(&d.exec("a", "true"), 0)?;
    expect(&d.ctr(&["tasks", "kill", "--signal", "KILL", "pod"]), 0)?;
    eventually("end of all", || {
        ["pod", "a", "b"].iter().all(|id| d.status(id) == "STOPPED")
    })
}
