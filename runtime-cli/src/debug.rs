//! `debug`

use crate::args::{Debug, LogFormat, Switch};
use crate::lifecycle::{open, print};
use crate::profile;
use crate::setup::{Failure, Setup};
use crate::symbols::{Function, Symbols};
use launcher::debug::{Report, Thread};
use launcher::{LaunchError, Logging, TaskInfo};
use serde_json::json;
use std::fmt::Write;
use std::fs::File;
use std::io;
use std::path::Path;
use std::time::Duration;

/// Does what is asked for; stacks where nothing is.
pub(crate) fn run(setup: &Setup, debug: &Debug) -> Result<i32, Failure> {
    let container = open(setup, &debug.id)?;
    let global = &setup.global;
    let logging = Logging {
        level: global.log_level.clone(),
        filter: debug.log_filter.clone(),
        strace: global.strace.map(|switch| switch == Switch::On),
        json: global.log_format == LogFormat::Json,
    };
    let dir = global.debug_log.as_deref();
    let log_changes = dir.is_some()
        || logging.level.is_some()
        || logging.filter.is_some()
        || logging.strace.is_some();
    if log_changes {
        container.set_logging(logging, dir)?;
    }
    if let (Some(path), Some(duration)) = (&debug.trace, debug.duration) {
        trace(&container, path, duration)?;
    }
    let profiles = profile::wanted(debug);
    if let (Some((kind, path)), Some(duration)) = (profiles, debug.duration) {
        profile::run(&container, kind, path, debug.svg.as_ref(), duration)?;
    }
    if debug.counters {
        print(&format!("{}\n", json!(container.counters()?)));
    }
    let other = debug.counters || debug.trace.is_some() || profiles.is_some();
    if debug.stacks || !(log_changes || other) {
        let report = container.stacks()?;
        print(&text(
            &report,
            &Symbols::new(&report.modules, &report.executable),
        ));
    }
    Ok(0)
}

/// A file of the caller's that cannot be written.
pub(crate) fn unwritten(path: &Path) -> impl FnOnce(io::Error) -> LaunchError {
    move |source| LaunchError::Write {
        path: path.to_owned(),
        source,
    }
}

fn trace(container: &launcher::Container, path: &Path, duration: Duration) -> Result<(), Failure> {
    let file = File::create(path).map_err(unwritten(path))?;
    let traced = container.trace(&file, duration)?;
    match traced.lost {
        0 => Ok(()),
        lost => Err(Failure::new(format!(
            "{lost} of {} events of the trace are not in {}: the file took no more",
            lost.saturating_add(traced.events),
            path.display()
        ))),
    }
}

fn text(report: &Report, symbols: &Symbols) -> String {
    let mut text = String::from("tasks:\n");
    // Writing to a string does not fail.
    let _ = writeln!(
        text,
        "{:>7} {:>7} {:>7} S {:<20} COMMAND",
        "PID", "TID", "THREAD", "DOING"
    );
    for task in &report.tasks {
        let _ = writeln!(
            text,
            "{:>7} {:>7} {:>7} {} {:<20} {}",
            task.pid,
            task.tid,
            task.thread,
            task.state,
            doing(task),
            task.command
        );
    }
    for thread in &report.threads {
        let _ = write!(
            text,
            "\nthread {} `{}`, {} on the host",
            thread.tid, thread.name, thread.host_tid
        );
        if let Some(task) = report.tasks.iter().find(|t| t.thread == thread.tid) {
            let _ = write!(text, ", runs task {}", task.tid);
        }
        text.push_str(":\n");
        frames(&mut text, thread, symbols);
    }
    text
}

fn doing(task: &TaskInfo) -> String {
    match &task.call {
        Some(call) => call.clone(),
        None if task.in_guest => "guest code".to_owned(),
        None => "-".to_owned(),
    }
}

fn frames(text: &mut String, thread: &Thread, symbols: &Symbols) {
    let Some(head) = &thread.registers else {
        text.push_str(match thread.takes_signals {
            true => "  it did not answer\n",
            false => "  one of the host's own: it takes no signals\n",
        });
        return;
    };
    let (frames, whole) = symbols.unwind(head.into(), &thread.stack);
    for (n, frame) in frames.iter().enumerate() {
        let place = symbols.place(frame.address());
        let mut lines: Vec<String> = symbols
            .functions(frame.address_for_lookup())
            .iter()
            .map(Function::to_string)
            .collect();
        if lines.is_empty() {
            lines.push("?".to_owned());
        }
        for (level, line) in lines.iter().enumerate() {
            // What was inlined has no number of its own.
            let number = match level {
                0 => format!("#{n}"),
                _ => String::new(),
            };
            let _ = writeln!(text, "  {number:<4} {place} {line}");
        }
    }
    if !whole {
        text.push_str("  ... the rest is not known\n");
    }
}
