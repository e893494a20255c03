//! A tree with a C compiler and a file for it.

use super::programs;
use crate::shell::output;
use anyhow::{Context, Result};
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use test_support::which;

/// What is timed: the compiler proper and the assembler, of a file that needs no headers.
pub(super) const COMPILE: [&str; 6] = [
    "/usr/bin/gcc",
    "-O1",
    "-c",
    "/source.i",
    "-o",
    "/tmp/object.o",
];
/// How many functions the file has.
const FUNCTIONS: u32 = 60;

/// Makes it below `work`; none on a machine without gcc.
pub(super) fn tree(work: &Path) -> Result<Option<PathBuf>> {
    let Some(gcc) = which("gcc") else {
        println!("SKIPPED compile: gcc is not on the PATH");
        return Ok(None);
    };
    let tree = work.join("compile-tree");
    programs::tree(&tree)?;
    fs::create_dir_all(tree.join("tmp"))?;
    programs::place(&gcc, &tree, "usr/bin/gcc")?;
    // It looks for these by paths built into it.
    for part in ["cc1", "as"] {
        let asked = output(Command::new(&gcc).arg(format!("-print-prog-name={part}")))?;
        let asked = String::from_utf8_lossy(&asked).trim().to_owned();
        let path = match asked.contains('/') {
            true => PathBuf::from(asked),
            false => which(&asked).with_context(|| format!("where gcc's {asked} is"))?,
        };
        let name = path.strip_prefix("/").unwrap_or(&path).display();
        programs::place(&path, &tree, &name.to_string())?;
    }
    fs::write(tree.join("source.i"), source()?)?;
    Ok(Some(tree))
}

fn source() -> Result<String> {
    let mut text = String::new();
    for n in 0..FUNCTIONS {
        writeln!(
            text,
            "int f{n}(int *a, int k) {{ int s = {n}; for (int i = 0; i < k; i++) {{ \
             s += a[i] * {n} ^ i; if (s > k) a[i] = s / ({n} + 3); }} return s; }}"
        )?;
    }
    Ok(text)
}
