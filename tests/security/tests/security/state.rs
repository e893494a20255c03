//! The state directory, and sandboxes that do not answer.

use crate::world::World;
use anyhow::{Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

pub(crate) fn files_of_others_are_left_alone(world: &World) -> Result<()> {
    // Somebody names a directory of his own with --root.
    let state = &world.runtime.state;
    fs::create_dir_all(state.join("etc/deep"))?;
    fs::write(state.join("etc/deep/passwd"), "root")?;
    world.must(&["list"])?;
    let bundle = world.bundle("true", |_| {})?;
    world.must(&["run", "--bundle", &bundle.to_string_lossy(), "c"])?;
    let _refused = world.ringfence(&["delete", "--force", "etc"])?;
    ensure!(state.join("etc/deep/passwd").exists(), "it was removed");
    Ok(())
}

/// A sandbox that was broken into may take connections and say nothing.
pub(crate) fn a_silent_sandbox_holds_nobody_up(world: &World) -> Result<()> {
    let running = world.start("c", &[], |_| {})?;
    kill(Pid::from_raw(running.sandbox), Signal::SIGSTOP)?;
    let started = Instant::now();
    let mut asking = Command::new(&world.runtime.program);
    asking.arg("--root").arg(&world.runtime.state);
    let output = asking
        .args(["kill", "c", "TERM"])
        .stdin(Stdio::null())
        .output()?;
    ensure!(!output.status.success(), "a stopped sandbox took a signal");
    ensure!(
        started.elapsed() < Duration::from_secs(60),
        "it took too long"
    );
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(
        said.starts_with("error: ") && said.contains("in time"),
        "it said: {said}"
    );
    // It can be ended all the same.
    world.must(&["kill", "c", "KILL"])?;
    world.must(&["delete", "c"])
}
