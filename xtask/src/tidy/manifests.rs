//! Every crate inherits the workspace's package data and lints.

use crate::shell::metadata;
use anyhow::{Context, Result};
use std::fs;

/// What each manifest must hold, line by line.
const LINES: &[&str] = &[
    "version.workspace = true",
    "edition.workspace = true",
    "rust-version.workspace = true",
    "license.workspace = true",
    "publish.workspace = true",
    "[lints]",
    "workspace = true",
];

pub(super) fn check(wrong: &mut Vec<String>) -> Result<()> {
    let all = metadata(&["--no-deps"])?;
    for package in all["packages"]
        .as_array()
        .context("metadata has packages")?
    {
        let path = package["manifest_path"].as_str().unwrap_or_default();
        let text = fs::read_to_string(path)?;
        for line in LINES
            .iter()
            .filter(|line| !text.lines().any(|l| l == **line))
        {
            wrong.push(format!("{path} lacks `{line}`"));
        }
        let mut section = "";
        for line in text.lines() {
            if line.starts_with('[') {
                section = line;
            }
            let own = line.contains(" = \"") || (line.contains("version = ") && line.contains('{'));
            if section.ends_with("dependencies]") && own {
                wrong.push(format!(
                    "{path}: `{line}` names a version: use the workspace's"
                ));
            }
        }
    }
    Ok(())
}
