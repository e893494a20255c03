//! `cargo xtask bench`: written next.

use anyhow::Result;

/// Measure
#[derive(Debug, clap::Args)]
pub(crate) struct Bench {}

impl Bench {
    pub(crate) fn run(self) -> Result<()> {
        Ok(())
    }
}
