//! A private Docker daemon, on directories of its own and without a network, that runs its containers
//! by the binary under test.

use super::engine::{self, Engine, IMAGE};
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
use test_support::run::run;

pub(super) const CASES: &[Case<Daemon>] = &[
    ("run", engine::run_gives_output_and_status),
    ("exec", exec_runs_beside),
    ("terminal", engine::a_terminal_is_given),
    ("logs_and_stop", engine::logs_and_stop),
    ("kill_and_restart", engine::kill_and_restart),
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
        expect(&daemon.call(&["import", path, IMAGE]), 0)?;
        Ok(daemon)
    }

    fn clear(&self) {
        let left = self.call(&["ps", "-aq"]).out();
        for id in left.split_whitespace() {
            self.call(&["rm", "-f", id]);
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

impl Engine for Daemon {
    fn command(&self, args: &[&str]) -> Command {
        docker(self.dir.path(), args)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}

fn exec_runs_beside(d: &Daemon) -> Result<()> {
    engine::exec_runs_beside(d)?;
    let refused = d.call(&["exec", "beside", "/nosuch"]);
    expect(&refused, 126)?;
    holds("refusal", &refused.out(), "no such file or directory")
}

fn pause_and_unpause(d: &Daemon) -> Result<()> {
    engine::pause_and_unpause(d, |d| {
        expect(&d.call(&["exec", "pause", "/bin/true"]), 1).map(drop)
    })
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
        &expect(&d.call(&["top", "watched"]), 0)?,
        "ringfence",
    )?;
    let stats = expect(&d.call(&["stats", "--no-stream", "watched"]), 0)?;
    holds("stats", &stats, "watched")?;
    let format = "{{.State.Health.Status}}";
    eventually("health", || {
        let health = d.call(&["inspect", "--format", format, "watched"]);
        health.out().trim() == "healthy"
    })
}

fn files_are_the_hosts(d: &Daemon) -> Result<()> {
    d.detached("files", "echo it > /made; exec sleep 1000")?;
    let here = d.dir.path().join("copied");
    let path = here.to_str().context("a path that is not text")?;
    eventually("file", || {
        d.call(&["cp", "files:/made", path]).code() == Some(0)
    })?;
    equal("copy", &fs::read_to_string(&here)?, "it\n")?;
    expect(&d.call(&["cp", path, "files:/back"]), 0)?;
    let seen = d.call(&["exec", "files", "/bin/cat", "/back"]);
    equal("other way", &expect(&seen, 0)?, "it\n")?;
    holds("diff", &expect(&d.call(&["diff", "files"]), 0)?, "A /made")
}
