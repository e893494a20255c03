//! The worked example of `docs/platforms.md`: a platform out of tree, held to what the tree is
//! held to.

use crate::build::Build;
use crate::shell::{cargo, run};
use anyhow::{Context, Result, bail};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use test_support::{target_dir, workspace};

/// The name of its platform.
pub(crate) const PLATFORM: &str = "counted";

fn dir() -> PathBuf {
    workspace().join("docs/example-platform")
}

/// cargo on the example, which is a workspace of its own. What it needs of others is built once for
/// it and the tree.
fn own(args: &[&str]) -> Result<Command> {
    // The same versions of everything as in the workspace.
    fs::copy(workspace().join("Cargo.lock"), dir().join("Cargo.lock"))
        .context("giving the example its versions")?;
    let mut command = cargo(args);
    command
        .current_dir(dir())
        .env("CARGO_TARGET_DIR", target_dir());
    Ok(command)
}

/// Formatting and lints.
pub(crate) fn check() -> Result<()> {
    run(&mut own(&["fmt", "--check"])?)?;
    run(&mut own(&[
        "clippy",
        "--all-targets",
        "--",
        "-D",
        "warnings",
    ])?)
}

/// Its own tests: the conformance kit.
pub(crate) fn tests() -> Result<Command> {
    own(&["test", "--no-fail-fast", "--", "--show-output"])
}

/// A runtime with its platform.
pub(crate) fn runtime() -> Result<PathBuf> {
    Build::with(dir()).build()
}

/// Whether `program`, with the platform, runs a command and tells its exits.
pub(crate) fn counts(program: &Path) -> Result<()> {
    let dir = tempfile::tempdir()?;
    let log = dir.path().join("log");
    let mut command = Command::new(program);
    command.arg("--root").arg(dir.path().join("state"));
    command.args(["--platform", PLATFORM, "--debug", "--debug-log"]);
    command.arg(&log).args(["do", "--", "/bin/true"]);
    let told = command.output().context("starting it")?;
    if !told.status.success() {
        bail!("{}: {}", told.status, String::from_utf8_lossy(&told.stderr));
    }
    let text = fs::read_to_string(log.join("boot.log")).context("reading its log")?;
    if !text.contains("exits of a thread calls=") {
        bail!("its log tells no exits: {text}");
    }
    Ok(())
}
