//! `list`

use crate::args::{List, ListFormat};
use crate::lifecycle::print;
use crate::setup::{Failure, Setup};
use launcher::{Container, container, state};
use std::fmt::Write;

/// Prints the containers.
pub(crate) fn run(setup: &Setup, how: &List) -> Result<i32, Failure> {
    let containers = container::list(&setup.state_root()?)?;
    let text = match (how.quiet, how.format) {
        (true, _) => containers
            .iter()
            .map(|c| format!("{}\n", c.state().id))
            .collect(),
        (_, ListFormat::Json) => json(&containers),
        (_, ListFormat::Table) => table(&containers),
    };
    print(&text);
    Ok(0)
}

fn json(containers: &[Container]) -> String {
    let rows: Vec<_> = containers.iter().map(Container::to_json).collect();
    format!("{}\n", serde_json::Value::from(rows))
}

fn table(containers: &[Container]) -> String {
    let mut rows = vec![["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"].map(String::from)];
    rows.extend(containers.iter().map(|c| {
        [
            c.state().id.clone(),
            c.pid().to_string(),
            c.state().status().to_owned(),
            c.state().bundle.display().to_string(),
            state::rfc3339(c.state().created),
            c.state().owner_name(),
        ]
    }));
    let width = |column: usize| {
        rows.iter()
            .map(|r| r[column].chars().count())
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = (0..6).map(width).collect();
    let mut text = String::new();
    for row in &rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            // Writing to a string does not fail.
            let _ = write!(line, "{cell:<width$}   ");
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}
