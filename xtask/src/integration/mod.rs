//! `cargo xtask test --integration`: what Docker, containerd and Podman do with the binary under test,
//! each a private instance on directories of its own.

mod containerd;
mod docker;
mod engine;
mod podman;

use anyhow::{Context, Result, bail};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};
use test_support::report::Report;
use test_support::run::{Outcome, run};
use test_support::{is_root, rootfs, which};

/// For what must happen and is not measured.
const PATIENCE: Duration = Duration::from_secs(60);
/// Set where a machine is nobody's and may be changed: what is missing is installed.
const CI_ENV: &str = "CI";

/// Runs all of it against `program`; whether nothing failed.
pub(crate) fn integration(program: &Path) -> bool {
    let mut report = Report::default();
    each(program, docker::CASES, &mut report);
    each(program, containerd::CASES, &mut report);
    each(program, podman::CASES, &mut report);
    let good = report.is_good();
    report.close("integration");
    good
}

/// One who runs containers.
trait Manager: Sized {
    /// What it is called.
    const NAME: &str;
    /// Starts it, to run its containers by `program`. It ends when dropped.
    fn start(program: &Path) -> Result<Self>;
    /// Removes all containers: the next case finds nothing.
    fn clear(&self);
    /// The end of its log.
    fn last_words(&self) -> String;
}

type Case<M> = (&'static str, fn(&M) -> Result<()>);

fn each<M: Manager>(program: &Path, cases: &[Case<M>], report: &mut Report) {
    let manager = match M::start(program) {
        Ok(manager) => manager,
        Err(error) => {
            report.skip(&format!("integration/{}", M::NAME), &format!("{error:#}"));
            return;
        }
    };
    for (name, case) in cases {
        let name = format!("integration/{}/{name}", M::NAME);
        match case(&manager) {
            Ok(()) => report.pass_named(&name),
            Err(error) => {
                let words = manager.last_words();
                report.fail(&name, &format!("{error:#}\nits log: {words}"));
            }
        }
        manager.clear();
    }
}

/// The first of these programs, when all are there. Their Debian package is not installed on
/// somebody's machine, whose own daemon it would start.
fn within_reach(programs: &[&str], package: &str) -> Result<PathBuf> {
    if !is_root() {
        bail!("a private instance needs root");
    }
    for name in programs {
        if std::env::var_os(CI_ENV).is_some() {
            rootfs::tool(name, package)?;
        } else if which(name).is_none() {
            bail!("there is no {name} (Debian: apt-get install {package})");
        }
    }
    let first = programs.first().copied().and_then(which);
    first.context("no program is named")
}

/// Waits until a daemon answers.
fn up(daemon: &mut Child, mut ask: impl FnMut() -> Outcome) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while ask().code() != Some(0) {
        if daemon.try_wait()?.is_some() || Instant::now() > deadline {
            bail!("it does not start");
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    Ok(())
}

/// An archive of `tree`, in `dir`.
fn packed(tree: &Path, dir: &Path) -> Result<PathBuf> {
    let image = dir.join("image.tar");
    let mut tar = Command::new("tar");
    tar.arg("-C").arg(tree).arg("-cf").arg(&image).arg(".");
    expect(&run(&mut tar, b"", PATIENCE), 0)?;
    Ok(image)
}

/// The end of a log.
fn last_lines(log: &Path) -> String {
    let log = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<_> = log.lines().collect();
    let from = lines.len().saturating_sub(5);
    lines.get(from..).unwrap_or_default().join("\n")
}

/// Ends a daemon, by force if it does not go.
fn end(child: &mut Child) {
    let pid = nix::unistd::Pid::from_raw(child.id().cast_signed());
    let _gone = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM);
    let deadline = Instant::now() + PATIENCE;
    while matches!(child.try_wait(), Ok(None)) && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(50));
    }
    let _gone = child.kill();
    let _reaped = child.wait();
}

/// What it printed, if it ended with `status`.
fn expect(outcome: &Outcome, status: i32) -> Result<String> {
    if outcome.code() != Some(status) {
        bail!(
            "{} instead of exit {status}\nstdout: {}\nstderr: {}",
            outcome.status,
            outcome.out(),
            outcome.err()
        );
    }
    Ok(outcome.out())
}

fn equal(what: &str, got: &str, want: &str) -> Result<()> {
    if got != want {
        bail!("{what}: {got:?} instead of {want:?}");
    }
    Ok(())
}

fn holds(what: &str, text: &str, word: &str) -> Result<()> {
    if !text.contains(word) {
        bail!("{what} lacks {word:?}: {text}");
    }
    Ok(())
}

fn eventually(what: &str, mut true_now: impl FnMut() -> bool) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while !true_now() {
        if Instant::now() > deadline {
            bail!("no {what} after {PATIENCE:?}");
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}
