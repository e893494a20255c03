//! What a container says of itself, on its way to whoever asks.

use crate::world::{World, threads, wait_for};
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::process::Stdio;

pub(crate) fn names_of_processes_reach_no_terminal(world: &World) -> Result<()> {
    let _running = world.start("c", &[], |_| {})?;
    let table = world.ringfence(&["ps", "c"])?.stdout;
    let table = String::from_utf8_lossy(&table);
    ensure!(!table.contains('\x1b'), "{table:?}");
    ensure!(table.contains("a?[31mb"), "{table}");
    let full = world.ringfence(&["ps", "--format", "full", "c"])?.stdout;
    let full: Value = serde_json::from_slice(&full)?;
    let rows = full.as_array().context("no list")?;
    ensure!(rows.len() > 3 && rows[0]["pid"] == 1, "{full}");
    let stats = world.ringfence(&["events", "--stats", "c"])?.stdout;
    let stats: Value = serde_json::from_slice(&stats)?;
    let tasks = stats["data"]["pids"]["current"].as_u64();
    ensure!(tasks.is_some_and(|n| n > 3), "{stats}");
    Ok(())
}

pub(crate) fn any_number_may_wait(world: &World) -> Result<()> {
    let running = world.start("c", &[], |_| {})?;
    let wait = || {
        let mut command = world.runtime.command();
        command.args(["wait", "c"]).stdin(Stdio::null()).spawn()
    };
    let waiters = [wait()?, wait()?, wait()?];
    // One that came after the end would find it stopped, which is an error.
    let waits = |thread: &std::path::PathBuf| {
        std::fs::read_to_string(thread.join("comm")).is_ok_and(|c| c.trim() == "connection")
    };
    wait_for("the waiters", || {
        threads(running.sandbox).is_ok_and(|all| all.iter().filter(|t| waits(t)).count() == 3)
    })?;
    world.must(&["kill", "c", "KILL"])?;
    for mut waiter in waiters {
        let status = waiter.wait()?;
        ensure!(status.code() == Some(137), "{status}");
    }
    Ok(())
}
