//! `update`: a running container's limits.

use crate::args::Update;
use crate::lifecycle::open;
use crate::setup::{Failure, Setup};
use launcher::LaunchError;
use launcher::config::Resources;
use std::io::Read;
use std::path::Path;

/// Most of a file of limits.
const MAX_SIZE: u64 = 1 << 20;

/// Changes them.
pub(crate) fn run(setup: &Setup, update: &Update) -> Result<i32, Failure> {
    let mut text = serde_json::json!({});
    if let Some(path) = &update.resources {
        text = serde_json::from_str(&read(path)?)
            .map_err(|e| Failure::new(format!("{} is no JSON: {e}", path.display())))?;
    }
    let from = update
        .resources
        .as_deref()
        .unwrap_or(Path::new("the command line"));
    put(&mut text, update);
    let asked = Resources::parse(from, &text.to_string()).map_err(LaunchError::from)?;
    open(setup, &update.id)?.update(&asked)?;
    Ok(0)
}

fn read(path: &Path) -> Result<String, Failure> {
    let mut text = String::new();
    let done = match path.as_os_str().as_encoded_bytes() {
        b"-" => std::io::stdin().take(MAX_SIZE).read_to_string(&mut text),
        _ => std::fs::File::open(path).and_then(|f| f.take(MAX_SIZE).read_to_string(&mut text)),
    };
    match done {
        Ok(_) => Ok(text),
        Err(e) => {
            let path = path.display();
            Err(Failure::new(format!(
                "cannot read the limits from {path}: {e}"
            )))
        }
    }
}

/// What was said on the command line, where the spec has it.
fn put(resources: &mut serde_json::Value, update: &Update) {
    let number = |n: Option<i64>| n.map(serde_json::Value::from);
    let count = |n: Option<u64>| n.map(serde_json::Value::from);
    let list = |l: &Option<String>| l.clone().map(serde_json::Value::from);
    for (part, name, value) in [
        ("memory", "limit", number(update.memory)),
        ("memory", "reservation", number(update.memory_reservation)),
        ("memory", "swap", number(update.memory_swap)),
        ("cpu", "quota", number(update.cpu_quota)),
        ("cpu", "period", count(update.cpu_period)),
        ("cpu", "shares", count(update.cpu_share)),
        ("cpu", "cpus", list(&update.cpuset_cpus)),
        ("cpu", "mems", list(&update.cpuset_mems)),
        ("pids", "limit", number(update.pids_limit)),
        (
            "blockIO",
            "weight",
            update.blkio_weight.map(serde_json::Value::from),
        ),
    ] {
        if let (Some(value), Some(resources)) = (value, resources.as_object_mut()) {
            let part = resources.entry(part).or_insert(serde_json::Value::Null);
            if part.is_null() {
                *part = serde_json::json!({});
            }
            if let Some(part) = part.as_object_mut() {
                part.insert(name.to_owned(), value);
            }
        }
    }
}
