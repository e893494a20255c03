//! A container that does nothing: the memory of all its processes, and whether any wakes up.

use super::Figures;
use super::places::{Kind, Place};
use anyhow::{Context, Result, bail};
use std::fs;
use std::process::Stdio;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Until then a container has come up and to rest.
const SETTLE: Duration = Duration::from_millis(1500);
/// For so long nothing may wake up.
const WATCH: Duration = Duration::from_secs(2);

pub(super) fn measure(place: &Place, figures: &mut Figures) -> Result<()> {
    let mut child = place
        .run("idle")?
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .with_context(|| format!("starting {}", place.name))?;
    sleep(SETTLE);
    let processes = family(child.id());
    let before = switches(&processes);
    let begin = Instant::now();
    sleep(WATCH);
    let woken = switches(&processes).saturating_sub(before);
    let seconds = begin.elapsed().as_secs_f64();
    let memory: Option<u64> = processes.iter().map(|pid| memory_of(*pid, "Pss:")).sum();
    if place.kind == Kind::Ours {
        for wanted in ["run", "boot", "gofer"] {
            // Stubs are below the sandbox process, and have its words.
            let pid = processes.iter().find(|pid| is(**pid, wanted));
            let pid = *pid.with_context(|| format!("{}: no process `{wanted}`", place.name))?;
            for (kind, line) in [("pss", "Pss:"), ("rss", "Rss:")] {
                let bytes = memory_of(pid, line).unwrap_or_default();
                figures.add(&place.name, &format!("idle_{kind}_{wanted}"), bytes as f64);
            }
        }
    }
    let ended = child.try_wait()?;
    // Ours and runc hand SIGTERM on, which a first process ignores.
    let _gone_already = child.kill();
    child.wait()?;
    place.clean_up();
    if let Some(status) = ended {
        bail!("{}: the idle container ended: {status}", place.name);
    }
    let memory = memory.context("no smaps_rollup: is this process root?")?;
    figures.add(&place.name, "idle_bytes", memory as f64);
    figures.add(&place.name, "idle_wakeups", woken as f64 / seconds);
    figures.add(&place.name, "idle_processes", processes.len() as f64);
    Ok(())
}

/// `first` and all its descendants.
fn family(first: u32) -> Vec<u32> {
    let parents: Vec<(u32, u32)> = fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let pid = entry.file_name().to_str()?.parse().ok()?;
            let stat = fs::read_to_string(entry.path().join("stat")).ok()?;
            // Behind the name, which may hold anything: state, then the parent.
            let parent = stat.rsplit_once(')')?.1.split_whitespace().nth(1)?;
            Some((pid, parent.parse().ok()?))
        })
        .collect();
    let mut all = vec![first];
    let mut at = 0;
    while let Some(parent) = all.get(at).copied() {
        all.extend(parents.iter().filter(|(_, p)| *p == parent).map(|(c, _)| c));
        at += 1;
    }
    all
}

/// Whether a process was started with the command `wanted`.
fn is(pid: u32, wanted: &str) -> bool {
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    line.split(|b| *b == 0)
        .any(|word| word == wanted.as_bytes())
}

/// Bytes of memory: of the pages that are there, or (`Pss:`) with shared ones in proportion.
fn memory_of(pid: u32, what: &str) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    let kilobytes = text.lines().find_map(|line| line.strip_prefix(what))?;
    let number = kilobytes.trim().strip_suffix(" kB")?;
    Some(number.trim().parse::<u64>().ok()? * 1024)
}

/// How often any of their threads was put on or off a CPU.
fn switches(processes: &[u32]) -> u64 {
    let threads = processes
        .iter()
        .flat_map(|pid| fs::read_dir(format!("/proc/{pid}/task")))
        .flatten()
        .flatten();
    threads
        .filter_map(|thread| fs::read_to_string(thread.path().join("status")).ok())
        .map(|status| {
            status
                .lines()
                .filter(|line| line.contains("ctxt_switches"))
                .filter_map(|line| line.rsplit_once(char::is_whitespace)?.1.parse::<u64>().ok())
                .sum::<u64>()
        })
        .sum()
}
