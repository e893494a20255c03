//! `test` and `ci`: other programs, one after the other.

use anyhow::{Context, bail};
use std::process::Command;

/// Everything that tests: the tree's own rules, then unit tests, the conformance kit and doc
/// tests.
pub(crate) fn test() -> anyhow::Result<()> {
    crate::tidy::run()?;
    cargo(&["test", "--workspace"])
}

/// Formatting, lints, tests.
pub(crate) fn ci() -> anyhow::Result<()> {
    cargo(&["fmt", "--all", "--check"])?;
    cargo(&[
        "clippy",
        "--workspace",
        "--all-targets",
        "--",
        "-D",
        "warnings",
    ])?;
    test()
}

fn cargo(args: &[&str]) -> anyhow::Result<()> {
    let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(program)
        .args(args)
        .status()
        .with_context(|| format!("start cargo {}", args.join(" ")))?;
    if !status.success() {
        bail!("cargo {} failed with {status}", args.join(" "));
    }
    Ok(())
}
