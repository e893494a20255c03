//! The programs under test, built once for each run of the tests.

use crate::{target_dir, workspace};
use anyhow::{Context, Result, bail};
use std::path::PathBuf;
use std::process::Command;

/// Names the runtime's executable, so that it isn't built again.
pub const RUNTIME_ENV: &str = "RINGFENCE_TEST_RUNTIME";
/// Names the platforms to test, separated by commas.
pub const PLATFORMS_ENV: &str = "RINGFENCE_TEST_PLATFORMS";
/// The host triple that static programs are built for; naming it keeps their
/// flags away from build scripts.
const TRIPLE: &str = "x86_64-unknown-linux-gnu";

/// The runtime's executable: what [`RUNTIME_ENV`] says, or a release build.
///
/// # Errors
/// When it doesn't build.
pub fn runtime() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os(RUNTIME_ENV) {
        return Ok(path.into());
    }
    cargo(
        &["build", "--quiet", "--release", "--package", "runtime-cli"],
        None,
    )?;
    Ok(target_dir().join("release/ringfence"))
}

/// The runtime's executable in a debug build, which has a system call that makes its kernel panic.
///
/// # Errors
/// When it doesn't build.
pub fn debug_runtime() -> Result<PathBuf> {
    cargo(&["build", "--quiet", "--package", "runtime-cli"], None)?;
    Ok(target_dir().join("debug/ringfence"))
}

/// The platforms to test, from [`PLATFORMS_ENV`]; else those in the default
/// build.
pub fn platforms() -> Vec<String> {
    let list = std::env::var(PLATFORMS_ENV).unwrap_or_else(|_| "ptrace".into());
    list.split(',')
        .map(str::to_owned)
        .filter(|p| !p.is_empty())
        .collect()
}

/// A program of `package` built as a static executable, which needs no library
/// in the tree it runs in.
///
/// # Errors
/// When it doesn't build.
pub fn static_program(package: &str, name: &str) -> Result<PathBuf> {
    // A directory of its own: other flags would build everything anew each time.
    let dir = target_dir().join("static");
    let target = dir.to_string_lossy().into_owned();
    let args = [
        "build",
        "--quiet",
        "--release",
        "--package",
        package,
        "--bin",
        name,
        "--target",
        TRIPLE,
        "--target-dir",
        &target,
    ];
    cargo(&args, Some("-C target-feature=+crt-static"))?;
    Ok(dir.join(TRIPLE).join("release").join(name))
}

fn cargo(args: &[&str], flags: Option<&str>) -> Result<()> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(args).current_dir(workspace());
    if let Some(flags) = flags {
        command
            .env("RUSTFLAGS", flags)
            .env_remove("CARGO_ENCODED_RUSTFLAGS")
            // Such a program is a guest; how small it is matters less than how soon it is built.
            .env("CARGO_PROFILE_RELEASE_LTO", "off")
            .env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "4");
    }
    let status = command.status().context("cannot start cargo")?;
    if !status.success() {
        bail!("cargo {} failed: {status}", args.join(" "));
    }
    Ok(())
}
