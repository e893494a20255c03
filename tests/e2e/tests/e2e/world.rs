//! What all tests share: the binary, the platform, the trees.

use crate::case::{Result, Stop};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use test_support::rootfs;

pub(crate) struct World {
    pub(crate) program: PathBuf,
    pub(crate) platform: String,
    pub(crate) base: tempfile::TempDir,
    debian: std::result::Result<PathBuf, String>,
    busybox: std::result::Result<PathBuf, String>,
}

impl World {
    pub(crate) fn new(program: &Path, platform: &str) -> anyhow::Result<Self> {
        let base = tempfile::Builder::new()
            .prefix("ringfence-e2e.")
            .tempdir()?;
        // Ordinary users run it from here, too.
        std::fs::set_permissions(base.path(), PermissionsExt::from_mode(0o755))?;
        let copy = base.path().join("ringfence");
        std::fs::copy(program, &copy)?;
        std::fs::set_permissions(&copy, PermissionsExt::from_mode(0o755))?;
        Ok(Self {
            program: copy,
            platform: platform.to_owned(),
            base,
            debian: rootfs::debian().map_err(|e| format!("{e:#}")),
            busybox: rootfs::busybox().map_err(|e| format!("{e:#}")),
        })
    }

    pub(crate) fn debian(&self) -> Result<&Path> {
        tree(&self.debian)
    }

    pub(crate) fn busybox(&self) -> Result<&Path> {
        tree(&self.busybox)
    }
}

fn tree(made: &std::result::Result<PathBuf, String>) -> Result<&Path> {
    match made {
        Ok(path) => Ok(path),
        Err(why) => Err(Stop::Skipped(why.clone())),
    }
}
