//! The tree's own rules.

use anyhow::{Context, bail};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Lines a file may have, its tests included; the aim is far below.
const MAX_LINES: usize = 800;
/// Where unsafe code may stand.
const UNSAFE_HOMES: &[&str] = &[
    "control/src/sys.rs",
    "gofer/src/sys.rs",
    "launcher/src/sys",
    "platform-api/src/conformance",
    "platform-ptrace/",
    "runtime-cli/src/sys.rs",
    "sentry/boot/src/sys.rs",
    "sentry/hostmem/",
    "sentry/vdso/",
    "tests/",
];
/// Packages that nothing under `sentry/` may depend upon.
const NOT_IN_SENTRY: &[&str] = &[
    "clap",
    "oci-spec",
    "cgroups-rs",
    "caps",
    "tokio",
    "async-std",
    "launcher",
];

/// Runs every check and reports all that is wrong.
pub(crate) fn run() -> anyhow::Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .context("the workspace's root")?;
    let mut wrong = Vec::new();
    let listed = Command::new("git")
        .args(["ls-files", "*.rs", "*Cargo.toml"])
        .current_dir(root)
        .output()?;
    for name in String::from_utf8(listed.stdout)?.lines() {
        let Ok(text) = std::fs::read_to_string(root.join(name)) else {
            continue;
        };
        if name.ends_with(".rs") {
            check_source(name, &text, &mut wrong);
        } else if name != "Cargo.toml" {
            check_manifest(name, &text, &mut wrong);
        }
    }
    if wrong.is_empty() {
        return Ok(());
    }
    bail!("tidy:\n  {}", wrong.join("\n  "))
}

fn check_source(name: &str, text: &str, wrong: &mut Vec<String>) {
    let lines = text.lines().count();
    if lines > MAX_LINES {
        wrong.push(format!(
            "{name}: {lines} lines; split it (the cap is {MAX_LINES})"
        ));
    }
    let home = UNSAFE_HOMES.iter().any(|h| name.starts_with(h));
    let uses = text.lines().any(|l| {
        let code = l.split("//").next().unwrap_or(l);
        code.contains("unsafe {") || code.contains("unsafe impl") || code.contains("unsafe fn")
    });
    if uses && !home {
        wrong.push(format!(
            "{name}: unsafe code outside the crates that may hold it"
        ));
    }
}

fn check_manifest(name: &str, text: &str, wrong: &mut Vec<String>) {
    if !text.contains("[lints]\nworkspace = true") {
        wrong.push(format!("{name}: does not inherit the workspace's lints"));
    }
    if !PathBuf::from(name).starts_with("sentry") {
        return;
    }
    for line in text.lines() {
        let dependency = line.split(['.', ' ', '=']).next().unwrap_or("");
        if NOT_IN_SENTRY.contains(&dependency) {
            wrong.push(format!(
                "{name}: nothing under sentry/ may depend on {dependency}"
            ));
        }
    }
}
