//! `cargo xtask test`: everything that is tested, with one count at the end.

use crate::integration::integration;
use crate::shell::{cargo, output, watch};
use crate::{build, example};
use anyhow::{Result, bail};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;
use test_support::build::{PLATFORMS_ENV, RUNTIME_ENV};
use test_support::{rootfs, target_dir};

/// Run all tests: unit and documentation tests, the platforms' conformance, parity, end to end
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Test {
    /// Only unit tests, documentation tests and conformance
    #[arg(long)]
    unit: bool,
    /// Only what starts real sandboxes
    #[arg(long, conflicts_with = "unit")]
    whole: bool,
    /// Only what other programs do with the binary: Docker, containerd and Podman
    #[arg(long, conflicts_with_all = ["unit", "whole"])]
    integration: bool,
}

/// The test programs that start sandboxes: package and target.
const WHOLE: [(&str, &str); 4] = [
    ("parity-tests", "parity"),
    ("parity-tests", "limits"),
    ("e2e-tests", "e2e"),
    ("security-tests", "security"),
];

#[derive(Debug, Default)]
struct Count {
    passed: u64,
    failed: u64,
    skipped: u64,
    /// What failing tests said, to be said again at the end.
    failures: Vec<String>,
    /// Whether the lines that come belong to a failure.
    telling: bool,
}

impl Count {
    /// Adds what a closing line tells: cargo's `test result: ok. 5 passed; 0
    /// failed; 0 ignored`, or ours, `parity: 5 passed, 0 failed, 1 skipped`.
    /// Single tests say `SKIPPED: reason` beside that.
    fn add(&mut self, line: &str) {
        if line.starts_with("SKIPPED: ") {
            self.skipped += 1;
        }
        self.telling = line.starts_with("FAILED  ")
            || (line.starts_with("test ") && line.ends_with(" ... FAILED"))
            || (line.starts_with("thread '") && line.contains(" panicked at "))
            || (self.telling && line.starts_with("        "));
        if self.telling {
            self.failures.push(line.to_owned());
        }
        let before = |word: &str| {
            let head = line[..line.find(word)?].trim_end();
            head.rsplit(|c: char| !c.is_ascii_digit())
                .next()?
                .parse::<u64>()
                .ok()
        };
        if let (Some(passed), Some(failed)) = (before(" passed"), before(" failed")) {
            self.passed += passed;
            self.failed += failed;
            self.skipped += before(" skipped")
                .or_else(|| before(" ignored"))
                .unwrap_or(0);
        }
    }
}

impl Test {
    pub(crate) fn run(self) -> Result<()> {
        if self.integration {
            let program = match std::env::var_os(RUNTIME_ENV) {
                Some(program) => program.into(),
                None => build::in_tree(&[], true, &target_dir())?,
            };
            if !integration(&program) {
                bail!("failed: integration");
            }
            return Ok(());
        }
        let start = Instant::now();
        let mut count = Count::default();
        let mut broken = Vec::new();
        if !self.whole {
            let mut command = cargo(["test", "--workspace", "--no-fail-fast"]);
            for (package, _) in WHOLE {
                command.args(["--exclude", package]);
            }
            // What passing tests say, too: one that could not run says why.
            command.args(["--", "--show-output"]);
            if !watch(&mut command, |line| count.add(line))? {
                broken.push("unit tests".to_owned());
            }
            if let Err(error) = example::check() {
                println!("FAILED  the example platform: {error:#}");
                broken.push("the example platform's code".to_owned());
            }
            if !watch(&mut example::tests()?, |line| count.add(line))? {
                broken.push("the example platform".to_owned());
            }
        }
        if !self.unit {
            prepare_trees();
            // Each platform by itself: nobody may lean on another's code.
            for platform in build::platforms()? {
                let program = alone(&platform)?;
                if let Some(reason) = unready(&program)? {
                    println!("SKIPPED: platform {platform}: {reason}");
                    count.skipped += 1;
                    continue;
                }
                for (package, target) in WHOLE {
                    let mut command = whole(package, target, &platform, &program);
                    command.args(["--", "--show-output"]);
                    if !watch(&mut command, |line| count.add(line))? {
                        broken.push(format!("{target} ({platform})"));
                    }
                }
            }
            // And all together, with the one that is chosen then.
            let program = build::in_tree(&[], true, &target_dir())?;
            let mut command = whole("e2e-tests", "e2e", "auto", &program);
            command.args(["--", "lifecycle/"]);
            if !watch(&mut command, |line| count.add(line))? {
                broken.push("e2e (all platforms in one)".to_owned());
            }
            // By those who run containers.
            let mut command = Command::new(std::env::current_exe()?);
            command
                .args(["test", "--integration"])
                .env(RUNTIME_ENV, &program);
            if !watch(&mut command, |line| count.add(line))? {
                broken.push("integration".to_owned());
            }
            // And with one out of tree.
            let program = example::runtime()?;
            if let Err(error) = example::counts(&program) {
                println!("FAILED  the example platform: {error:#}");
                broken.push("the example platform's counts".to_owned());
            }
            let mut command = whole("e2e-tests", "e2e", example::PLATFORM, &program);
            command.args(["--", "flags/"]);
            if !watch(&mut command, |line| count.add(line))? {
                broken.push("e2e (with the example platform)".to_owned());
            }
        }
        for line in &count.failures {
            println!("{line}");
        }
        println!(
            "all tests: {} passed, {} failed, {} skipped, in {} s",
            count.passed,
            count.failed,
            count.skipped,
            start.elapsed().as_secs()
        );
        if !broken.is_empty() || count.failed > 0 {
            bail!("failed: {}", broken.join(", "));
        }
        Ok(())
    }
}

/// The test `target` of `package`, against `program` on `platform`.
fn whole(package: &str, target: &str, platform: &str, program: &Path) -> Command {
    let mut command = cargo(["test", "--package", package, "--test", target]);
    command
        .env(PLATFORMS_ENV, platform)
        .env(RUNTIME_ENV, program);
    command
}

/// A runtime that holds just `platform`. Built where everything is, since little differs, and put
/// aside.
fn alone(platform: &str) -> Result<PathBuf> {
    let built = build::in_tree(&[platform.to_owned()], true, &target_dir())?;
    let dir = target_dir().join("alone").join(platform);
    fs::create_dir_all(&dir)?;
    let program = dir.join("ringfence");
    // Replaced, not overwritten: it may be running.
    let _was_not_there = fs::remove_file(&program);
    fs::copy(built, &program)?;
    Ok(program)
}

/// Why the one platform of `program` cannot be used on this machine.
fn unready(program: &Path) -> Result<Option<String>> {
    let said = output(Command::new(program).arg("platforms"))?;
    let said = String::from_utf8_lossy(&said);
    let verdict = said.lines().nth(1).unwrap_or_default().trim();
    Ok((!verdict.starts_with("ready")).then(|| verdict.to_owned()))
}

/// Made ahead, so that it is said once when one can't be; the tests that need
/// it count themselves as skipped.
fn prepare_trees() {
    for (name, tree) in [("Debian", rootfs::debian()), ("busybox", rootfs::busybox())] {
        match tree {
            Ok(path) => println!("{name} tree: {}", path.display()),
            Err(error) => println!("no {name} tree: {error:#}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Count;

    #[test]
    fn both_kinds_of_closing_lines_are_added() {
        let mut count = Count::default();
        count.add("test result: ok. 12 passed; 0 failed; 3 ignored; 0 measured; finished in 0.1s");
        count.add("parity: 700 passed, 2 failed, 1 skipped");
        count.add("test a::b ... ok");
        count.add("SKIPPED: this CPU has no AVX2");
        assert_eq!((count.passed, count.failed, count.skipped), (712, 2, 5));
    }

    #[test]
    fn what_failed_is_kept_with_its_reason() {
        let mut count = Count::default();
        let said = [
            "ok      e2e/a",
            "FAILED  e2e/b",
            "        no prompt",
            "ok      e2e/c",
        ];
        let cargos = [
            "test a::b ... ok",
            "test a::c ... FAILED",
            "        of no test",
        ];
        for line in said.iter().chain(&cargos) {
            count.add(line);
        }
        assert_eq!(count.failures[..2], said[1..3]);
        assert_eq!(count.failures[2], cargos[1]);
    }
}
