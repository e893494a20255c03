//! A tree with git and a repository of ten thousand files in it.

use super::programs;
use crate::shell::run;
use anyhow::Result;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use test_support::which;

/// What is timed. Of a file's data only what is the same in each place is compared, or each would
/// find all changed by the one before.
pub(super) const STATUS: [&str; 10] = [
    "/usr/bin/git",
    "-C",
    "/repository",
    "-c",
    "safe.directory=*",
    "-c",
    "core.checkStat=minimal",
    "-c",
    "core.trustctime=false",
    "status",
];
const DIRECTORIES: u32 = 100;
const FILES: u32 = 100;

/// Makes it below `work`; none on a machine without git.
pub(super) fn tree(work: &Path) -> Result<Option<PathBuf>> {
    let Some(git) = which("git") else {
        println!("SKIPPED git_status: git is not on the PATH");
        return Ok(None);
    };
    let tree = work.join("git-tree");
    programs::tree(&tree)?;
    programs::place(&git, &tree, "usr/bin/git")?;
    let repository = tree.join("repository");
    for directory in 0..DIRECTORIES {
        let directory = repository.join(format!("{directory}"));
        fs::create_dir_all(&directory)?;
        for file in 0..FILES {
            fs::write(directory.join(format!("{file}")), format!("file {file}\n"))?;
        }
    }
    for words in [
        "init --quiet",
        "add .",
        "-c user.name=b -c user.email=b commit --quiet --message all",
    ] {
        let mut command = Command::new(&git);
        run(command.arg("-C").arg(&repository).args(words.split(' ')))?;
    }
    Ok(Some(tree))
}
