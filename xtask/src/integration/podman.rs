//! Podman, which has no daemon, with its storage on directories of its own and without a network.

use super::engine::{self, Engine, IMAGE};
use super::{Case, Manager, expect, holds, packed, within_reach};
use anyhow::{Context, Result};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;
use test_support::rootfs;

pub(super) const CASES: &[Case<Podman>] = &[
    ("run", engine::run_gives_output_and_status),
    ("exec", exec_runs_beside),
    ("terminal", engine::a_terminal_is_given),
    ("logs_and_stop", engine::logs_and_stop),
    ("kill_and_restart", engine::kill_and_restart),
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
        expect(&podman.call(&["import", path, IMAGE]), 0)?;
        Ok(podman)
    }

    fn clear(&self) {
        self.call(&["rm", "--all", "--force", "--time", "0"]);
    }

    fn last_words(&self) -> String {
        "none; each command says what went wrong".to_owned()
    }
}

impl Engine for Podman {
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
}

fn exec_runs_beside(p: &Podman) -> Result<()> {
    engine::exec_runs_beside(p)?;
    expect(&p.call(&["exec", "beside", "/nosuch"]), 127)?;
    holds("diff", &expect(&p.call(&["diff", "beside"]), 0)?, "A /mark")
}

fn pause_and_unpause(p: &Podman) -> Result<()> {
    engine::pause_and_unpause(p, |_| Ok(()))
}

fn what_is_watched(p: &Podman) -> Result<()> {
    let line = ["--detach", "--name", "watched", "--health-cmd", "/bin/true"];
    // Without systemd there is no timer that would run it.
    let rest = ["--health-interval", "disable", IMAGE, "/bin/sleep", "1000"];
    expect(&p.run(&[&line[..], &rest].concat()), 0)?;
    expect(&p.call(&["healthcheck", "run", "watched"]), 0)?;
    let top = p.call(&["top", "watched", "-o", "pid,args"]);
    holds("top", &expect(&top, 0)?, "sleep 1000")?;
    let stats = expect(&p.call(&["stats", "--no-stream", "watched"]), 0)?;
    holds("stats", &stats, "watched")
}
