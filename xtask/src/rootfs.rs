//! `cargo xtask rootfs`: root file systems and bundles for tests and for trying
//! things out.

use anyhow::Result;
use std::path::PathBuf;
use test_support::bundle::Bundle;
use test_support::rootfs;

/// Make the root file systems of the tests, or an OCI bundle of one
#[derive(Debug, clap::Args)]
pub(crate) struct Rootfs {
    /// Which tree
    #[arg(long, value_enum, default_value_t = Which::Debian)]
    tree: Which,
    /// Write a bundle for the tree into this directory
    #[arg(long, value_name = "DIR")]
    bundle: Option<PathBuf>,
    /// What the bundle runs
    #[arg(last = true, default_value = "/bin/sh")]
    command: Vec<String>,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Which {
    /// A small Debian with python3 and perl
    Debian,
    /// busybox alone
    Busybox,
}

impl Rootfs {
    pub(crate) fn run(self) -> Result<()> {
        let tree = match self.tree {
            Which::Debian => rootfs::debian()?,
            Which::Busybox => rootfs::busybox()?,
        };
        println!("{}", tree.display());
        if let Some(dir) = self.bundle {
            let command: Vec<&str> = self.command.iter().map(String::as_str).collect();
            Bundle::new(&dir, &tree, &command).write()?;
            println!("{}", dir.join("config.json").display());
        }
        Ok(())
    }
}
