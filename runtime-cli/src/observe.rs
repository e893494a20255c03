//! `ps`, `events`, `wait`

use crate::args::{Events, Ps, PsFormat};
use crate::lifecycle::{open, print};
use crate::setup::{Failure, Setup};
use launcher::ProcessInfo;
use serde_json::json;
use std::fmt::Write;
use std::thread;
use std::time::Duration;

const SECOND: u64 = 1_000_000_000;

/// `ps`
pub(crate) fn ps(setup: &Setup, ps: &Ps) -> Result<i32, Failure> {
    let container = open(setup, &ps.id)?;
    let processes = container.processes()?;
    let text = match ps.format {
        PsFormat::Json => format!("{}\n", json!([container.pid()])),
        PsFormat::Full => {
            let row = |p: &ProcessInfo| {
                json!({
                    "pid": p.pid, "ppid": p.parent, "uid": p.uid, "threads": p.threads,
                    "state": p.state.to_string(), "user_ns": p.user, "system_ns": p.system,
                    "elapsed_ns": p.age, "command": p.command,
                })
            };
            let rows: Vec<_> = processes.iter().map(row).collect();
            format!("{}\n", json!(rows))
        }
        PsFormat::Table => {
            let mut text = format!(
                "{:>7} {:>7} {:>7} {:>4} S {:>12} {:>12} COMMAND\n",
                "PID", "PPID", "UID", "THR", "ELAPSED", "TIME"
            );
            for p in &processes {
                let (age, time) = (duration(p.age), duration(p.user.saturating_add(p.system)));
                // Writing to a string does not fail.
                let _ = writeln!(
                    text,
                    "{:>7} {:>7} {:>7} {:>4} {} {age:>12} {time:>12} {}",
                    p.pid, p.parent, p.uid, p.threads, p.state, p.command
                );
            }
            text
        }
    };
    print(&text);
    Ok(0)
}

/// Hours, minutes and seconds.
fn duration(ns: u64) -> String {
    let s = ns / SECOND;
    format!("{:02}:{:02}:{:02}", s / 3600, s / 60 % 60, s % 60)
}

/// `events`
pub(crate) fn events(setup: &Setup, events: &Events) -> Result<i32, Failure> {
    let mut known_kills = None;
    loop {
        let container = open(setup, &events.id)?;
        if !events.stats && container.state().status() == "stopped" {
            return Ok(0);
        }
        let stats = container.stats()?;
        let block = container.block_stats();
        // Since the last look: of what was before the first nobody is told.
        if known_kills
            .replace(stats.oom_kills)
            .is_some_and(|n| n < stats.oom_kills)
        {
            print(&format!("{}\n", json!({"type": "oom", "id": events.id})));
        }
        // The names are those of runc, as far as there is a value.
        let line = json!({
            "type": "stats",
            "id": events.id,
            "data": {
                "cpu": {"usage": {
                    "total": stats.user.saturating_add(stats.system),
                    "user": stats.user,
                    "kernel": stats.system,
                }},
                "memory": {"usage": {"usage": stats.memory, "limit": stats.memory_limit}},
                "pids": {"current": stats.tasks},
                "blkio": {
                    "ioServiceBytesRecursive": block.bytes,
                    "ioServicedRecursive": block.operations,
                },
            },
        });
        print(&format!("{line}\n"));
        if events.stats {
            return Ok(0);
        }
        thread::sleep(Duration::from_secs(events.interval));
    }
}

/// `wait`
pub(crate) fn wait(setup: &Setup, id: &str) -> Result<i32, Failure> {
    Ok(open(setup, id)?.wait()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_hours_minutes_and_seconds() {
        assert_eq!(duration(0), "00:00:00");
        assert_eq!(duration(100 * 3600 * SECOND + 61 * SECOND), "100:01:01");
    }
}
