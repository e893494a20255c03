//! Root file systems for tests, made once from Debian's packages and kept
//! under the target directory.

use crate::{is_root, target_dir, which};
use anyhow::{Context, Result, bail};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The release that the tree is made of.
const SUITE: &str = "bookworm";
/// What is in it beyond the smallest variant.
const PACKAGES: &str = "python3,perl,procps,file,bzip2,xz-utils,passwd";

/// A tree, or why there can be none here.
pub type Prepared = Result<PathBuf>;

/// A small Debian: shells, coreutils, findutils, grep, tar, gzip, perl, python3.
///
/// # Errors
/// When the tools to make one are missing and can't be installed, or fail.
pub fn debian() -> Prepared {
    made("debian", &format!("{SUITE} {PACKAGES}"), |dir| {
        if !is_root() {
            bail!("making a Debian tree needs root");
        }
        let tool = match tool("mmdebstrap", "mmdebstrap") {
            Ok(tool) => tool,
            Err(error) => match which("debootstrap") {
                Some(tool) => return debootstrap(&tool, dir),
                None => return Err(error),
            },
        };
        let mut command = Command::new(tool);
        command
            .args(["--quiet", "--mode=root", "--variant=minbase"])
            .arg(format!("--include={PACKAGES}"))
            .arg(SUITE)
            .arg(dir)
            .args(sources()?);
        succeed(&mut command)
    })
}

/// A tree that holds busybox under each of its names.
///
/// # Errors
/// When there is no static busybox and it can't be installed.
pub fn busybox() -> Prepared {
    made("busybox", "1", |dir| {
        let busybox = tool("busybox", "busybox-static")?;
        for sub in ["bin", "dev", "etc", "proc", "root", "sys", "tmp"] {
            fs::create_dir_all(dir.join(sub))?;
        }
        fs::copy(busybox, dir.join("bin/busybox"))?;
        let list = Command::new(dir.join("bin/busybox"))
            .arg("--list")
            .output()?;
        for name in String::from_utf8_lossy(&list.stdout)
            .lines()
            .filter(|n| *n != "busybox")
        {
            symlink("busybox", dir.join("bin").join(name))?;
        }
        fs::write(dir.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\n")?;
        fs::write(dir.join("etc/group"), "root:x:0:\n")?;
        Ok(())
    })
}

/// A tree that holds just `programs` (under their own names) and the places to
/// mount on, anew in `dir`.
///
/// # Errors
/// When it can't be written.
pub fn bare(dir: &Path, programs: &[&Path]) -> Result<()> {
    for sub in ["dev", "proc", "tmp", "data"] {
        fs::create_dir_all(dir.join(sub))?;
    }
    for program in programs {
        let name = program.file_name().context("a program has a name")?;
        let to = dir.join(name);
        // Replaced, not overwritten: it may be running.
        let _was_not_there = fs::remove_file(&to);
        fs::copy(program, &to).with_context(|| format!("copying {}", program.display()))?;
    }
    Ok(())
}

/// The tree `name`, made by `make` unless it stands already with this `recipe`.
fn made(name: &str, recipe: &str, make: impl FnOnce(&Path) -> Result<()>) -> Prepared {
    let base = target_dir().join("rootfs");
    let (dir, stamp) = (base.join(name), base.join(format!("{name}.recipe")));
    if fs::read_to_string(&stamp).is_ok_and(|s| s == recipe) {
        return Ok(dir);
    }
    fs::create_dir_all(&base)?;
    let _was_not_there = fs::remove_file(&stamp);
    for old in [&dir, &base.join(format!("{name}.new"))] {
        if old.exists() {
            fs::remove_dir_all(old).with_context(|| format!("removing {}", old.display()))?;
        }
    }
    let new = base.join(format!("{name}.new"));
    fs::create_dir_all(&new)?;
    if let Err(error) = make(&new) {
        let _half_made = fs::remove_dir_all(&new);
        return Err(error.context(format!("making the {name} tree")));
    }
    fs::rename(&new, &dir)?;
    fs::write(&stamp, recipe)?;
    Ok(dir)
}

/// The machine's own package sources that know the suite; with none, the tool
/// takes its default.
fn sources() -> Result<Vec<PathBuf>> {
    let mut all = vec![PathBuf::from("/etc/apt/sources.list")];
    if let Ok(entries) = fs::read_dir("/etc/apt/sources.list.d") {
        all.extend(entries.flatten().map(|e| e.path()));
    }
    all.sort();
    all.retain(|path| {
        let named = path
            .extension()
            .is_some_and(|e| e == "list" || e == "sources");
        named && fs::read_to_string(path).is_ok_and(|text| text.contains(SUITE))
    });
    Ok(all)
}

fn debootstrap(tool: &Path, dir: &Path) -> Result<()> {
    succeed(
        Command::new(tool)
            .arg("--variant=minbase")
            .arg(format!("--include={PACKAGES}"))
            .arg(SUITE)
            .arg(dir),
    )
}

/// The program `name`, installed from `package` when it is missing and we may.
///
/// # Errors
/// Says what to install.
pub fn tool(name: &str, package: &str) -> Result<PathBuf> {
    if let Some(path) = which(name) {
        return Ok(path);
    }
    if is_root() && which("apt-get").is_some() {
        let apt = |args: &[&str]| {
            let mut command = Command::new("apt-get");
            command.args(args).env("DEBIAN_FRONTEND", "noninteractive");
            succeed(&mut command)
        };
        let install = [
            "install",
            "--quiet",
            "--yes",
            "--no-install-recommends",
            package,
        ];
        if apt(&install).is_err() {
            apt(&["update", "--quiet"])?;
            apt(&install)?;
        }
    }
    which(name).with_context(|| format!("there is no {name}: install the package {package}"))
}

fn succeed(command: &mut Command) -> Result<()> {
    let output = command
        .output()
        .with_context(|| format!("cannot start {command:?}"))?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr);
        let last: Vec<&str> = text.lines().rev().take(5).collect();
        bail!(
            "{command:?} failed: {}",
            last.into_iter().rev().collect::<Vec<_>>().join(" / ")
        );
    }
    Ok(())
}
