//! `cargo xtask tidy`: what compilers and clippy don't check.

mod files;
mod layers;
mod manifests;

use anyhow::{Result, bail};

/// Check the direction of dependencies, the length of files, where unsafe code is, manifests
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Tidy {}

impl Tidy {
    pub(crate) fn run(self) -> Result<()> {
        let mut wrong = Vec::new();
        layers::check(&mut wrong)?;
        manifests::check(&mut wrong)?;
        files::check(&mut wrong)?;
        for line in &wrong {
            println!("tidy: {line}");
        }
        if !wrong.is_empty() {
            bail!("tidy found {} things", wrong.len());
        }
        println!("tidy: fine");
        Ok(())
    }
}
