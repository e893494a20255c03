//! Processes of the host, told from later ones of the same number.

use serde::{Deserialize, Serialize};
use std::fs;
use std::str::SplitAsciiWhitespace;

/// A process that is not confused with a later one of the same number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessId {
    /// Its number.
    pub pid: i32,
    /// When it was started, in ticks since the host's boot.
    pub started: u64,
}

impl ProcessId {
    /// The running process numbered `pid`.
    pub fn of(pid: i32) -> Option<ProcessId> {
        let (_, started) = status(pid)?;
        Some(ProcessId { pid, started })
    }

    /// This process.
    pub fn own() -> Option<ProcessId> {
        ProcessId::of(std::process::id() as i32)
    }

    /// Whether it still runs. One that ended and was not reaped does not.
    pub fn alive(&self) -> bool {
        status(self.pid)
            .is_some_and(|(state, started)| started == self.started && state != 'Z' && state != 'X')
    }
}

/// State letter and start time from `/proc/<pid>/stat`.
fn status(pid: i32) -> Option<(char, u64)> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    parse_status(&text)
}

fn parse_status(text: &str) -> Option<(char, u64)> {
    let mut fields = stat_fields(text)?;
    let state = fields.next()?.chars().next()?;
    // Field 22 of the whole, field 20 of what follows the name; one is taken.
    let started = fields.nth(18)?.parse().ok()?;
    Some((state, started))
}

/// The fields of a `/proc/<pid>/stat` behind the command's name, which is in parentheses and may hold
/// anything: the state first, then the parent's number.
pub(crate) fn stat_fields(text: &str) -> Option<SplitAsciiWhitespace<'_>> {
    let (_, fields) = text.rsplit_once(')')?;
    Some(fields.split_ascii_whitespace())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn process_status_survives_odd_names() {
        let line = "12 (a) b) S 1 12 12 0 -1 4 0 0 0 0 0 0 0 0 20 0 1 0 4242 0 0";
        assert_eq!(parse_status(line), Some(('S', 4242)));
        assert!(ProcessId::own().unwrap().alive());
    }
}
