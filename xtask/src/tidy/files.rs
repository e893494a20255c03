//! How long files are, and where unsafe code is.

use anyhow::Result;
use std::fs;
use std::path::Path;
use test_support::workspace;

/// No file is longer, without its tests.
const CAP: usize = 800;
/// Files that are longer all the same, and how long they may be. The list only
/// shrinks.
const LONGER: &[(&str, usize)] = &[];
/// Where unsafe code may be; a folder ends in a slash.
const UNSAFE: &[&str] = &[
    "platform-",
    "sentry/hostmem/src/",
    "sentry/vdso/src/",
    "sentry/boot/src/sys.rs",
    "sentry/boot/src/sys/",
    "control/src/sys.rs",
    "coverage/src/lib.rs",
    "gofer/src/sys.rs",
    "resident/src/lib.rs",
    "launcher/src/sys.rs",
    "launcher/src/sys/",
    // The probes make raw system calls; they are not part of the runtime.
    "tests/parity/src/sys.rs",
    "tests/bench/src/kvm.rs",
    "tests/bench/src/sys.rs",
    "tests/support/src/sys.rs",
];

pub(super) fn check(wrong: &mut Vec<String>) -> Result<()> {
    let root = workspace();
    let mut used = Vec::new();
    visit(&root, &root, &mut |name, text| {
        length(name, text, &mut used, wrong);
        unsafety(name, text, wrong);
    })?;
    for (name, _) in LONGER.iter().filter(|(name, _)| !used.contains(name)) {
        wrong.push(format!(
            "{name} is no longer long: take it off the list in files.rs"
        ));
    }
    Ok(())
}

fn visit(root: &Path, dir: &Path, see: &mut impl FnMut(&str, &str)) -> Result<()> {
    let mut entries: Vec<_> = fs::read_dir(dir)?.flatten().collect();
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let (path, name) = (entry.path(), entry.file_name());
        let kind = entry.file_type()?;
        let name = name.to_string_lossy();
        if kind.is_dir() && name != "target" && !name.starts_with('.') {
            visit(root, &path, see)?;
        } else if kind.is_file() && name.ends_with(".rs") {
            let relative = path.strip_prefix(root)?.to_string_lossy().into_owned();
            see(&relative, &fs::read_to_string(&path)?);
        }
    }
    Ok(())
}

fn length(name: &str, text: &str, used: &mut Vec<&'static str>, wrong: &mut Vec<String>) {
    let lines = text
        .lines()
        .take_while(|line| *line != "mod tests {")
        .count();
    if lines <= CAP {
        return;
    }
    match LONGER.iter().find(|(n, _)| *n == name) {
        Some((listed, most)) => {
            used.push(listed);
            if lines > *most {
                wrong.push(format!(
                    "{name} has grown to {lines} lines (at most {most})"
                ));
            }
        }
        None => wrong.push(format!(
            "{name} has {lines} lines; split it (at most {CAP})"
        )),
    }
}

fn unsafety(name: &str, text: &str, wrong: &mut Vec<String>) {
    let opts_in = text.lines().any(|line| {
        let line = line.trim();
        !line.starts_with("//")
            && !line.starts_with('"')
            && line.contains("unsafe_code")
            && !line.contains("forbid(unsafe_code)")
    });
    if !opts_in {
        return;
    }
    if !UNSAFE.iter().any(|place| name.starts_with(place)) {
        // This file itself names the lint.
        if name != "xtask/src/tidy/files.rs" {
            wrong.push(format!(
                "{name} opts in to unsafe code outside the listed places"
            ));
        }
    } else if !text.contains("// UNSAFETY:") {
        wrong.push(format!(
            "{name} opts in to unsafe code without an `// UNSAFETY:` line"
        ));
    }
}
