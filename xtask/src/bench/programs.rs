//! The machine's own programs, in a tree with what they need.

use crate::shell::output;
use anyhow::{Context, Result};
use std::fs;
use std::path::Path;
use std::process::Command;
use test_support::rootfs;

/// A tree without programs.
pub(super) fn tree(tree: &Path) -> Result<()> {
    rootfs::bare(tree, &[])?;
    // Natively some want one to be there; the directory may be where devices don't work.
    fs::write(tree.join("dev/null"), "")?;
    Ok(())
}

/// Puts `program` and its libraries where they are here; the program as `name`.
pub(super) fn place(program: &Path, tree: &Path, name: &str) -> Result<()> {
    copy(program, tree, name)?;
    let libraries = output(Command::new("ldd").arg(program))
        .with_context(|| format!("which libraries {} needs", program.display()))?;
    let libraries = String::from_utf8_lossy(&libraries).into_owned();
    for library in libraries.split_whitespace().filter(|w| w.starts_with('/')) {
        copy(Path::new(library), tree, &library[1..])?;
    }
    Ok(())
}

fn copy(file: &Path, tree: &Path, name: &str) -> Result<()> {
    let to = tree.join(name);
    if let Some(directory) = to.parent() {
        fs::create_dir_all(directory)?;
    }
    fs::copy(file, &to).with_context(|| format!("copying {}", file.display()))?;
    Ok(())
}
