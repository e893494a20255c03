//! `cargo xtask ci`: all that must hold before a change goes in.

use crate::shell::{cargo, run};
use crate::test::Test;
use crate::tidy::Tidy;
use anyhow::Result;
use test_support::which;

/// Formatting, clippy, tidy, tests, documentation, licences: what CI runs
#[derive(Debug, clap::Args)]
pub(crate) struct Ci {
    /// Leave out the tests
    #[arg(long)]
    no_test: bool,
}

impl Ci {
    pub(crate) fn run(self) -> Result<()> {
        run(&mut cargo(["fmt", "--all", "--check"]))?;
        run(&mut cargo([
            "clippy",
            "--workspace",
            "--all-targets",
            "--",
            "-D",
            "warnings",
        ]))?;
        Tidy::default().run()?;
        let mut doc = cargo([
            "doc",
            "--workspace",
            "--no-deps",
            "--document-private-items",
            "--quiet",
        ]);
        run(doc.env("RUSTDOCFLAGS", "-D warnings"))?;
        let home = std::env::var_os("CARGO_HOME").unwrap_or_default();
        if which("cargo-deny").is_some()
            || std::path::Path::new(&home).join("bin/cargo-deny").exists()
        {
            run(&mut cargo([
                "deny",
                "--offline",
                "check",
                "licenses",
                "bans",
                "sources",
            ]))?;
        } else {
            println!("SKIPPED deny: cargo-deny is not installed");
        }
        if !self.no_test {
            Test::default().run()?;
        }
        Ok(())
    }
}
