//! `cargo xtask bench`: what a sandbox costs, as ratios within one run.
//!
//! The same probe runs natively, in this runtime under each platform, and in the runtimes found on
//! the PATH, in turn and round after round, so that a busy moment of the machine meets all of
//! them. The least figure of all rounds counts. `docs/performance.md` explains the rows.

mod compile;
mod git;
mod idle;
mod lifecycle;
mod places;
mod programs;
mod start;
mod table;

use anyhow::{Context, Result, bail};
use places::{Kind, Place};
use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use test_support::build::{runtime, static_program};
use test_support::run::{Outcome, run};
use test_support::{is_root, rootfs};

/// A place may be silent for so long before it is given up.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often a start is taken in each round: it is short, and varies most.
const STARTS: u32 = 4;

/// Measure against native, the bare host primitives, and the runtimes on the PATH
#[derive(Debug, clap::Args)]
pub(crate) struct Bench {
    /// Only this platform of ours, may be given several times [default: each that is ready]
    #[arg(long, value_name = "NAME")]
    platform: Vec<String>,
    /// Only this row, may be given several times; `start`, `python`, `git_status`, `compile`, `life`
    /// and `idle` are rows too
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,
    /// How often everything is measured; the best round counts
    #[arg(long, value_name = "N", default_value_t = 3)]
    rounds: u32,
    /// Milliseconds that each single-threaded measure takes in a round
    #[arg(long, value_name = "MS", default_value_t = 60)]
    budget: u32,
    /// Leave the other runtimes out
    #[arg(long)]
    no_peers: bool,
    /// Also write the figures, nanoseconds or bytes, to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// The least figure of each row in each place.
#[derive(Debug, Default)]
pub(crate) struct Figures(BTreeMap<(String, String), f64>);

impl Figures {
    fn add(&mut self, place: &str, row: &str, value: f64) {
        let key = (place.to_owned(), row.to_owned());
        let best = self.0.entry(key).or_insert(f64::MAX);
        *best = best.min(value);
    }

    fn get(&self, place: &str, row: &str) -> Option<f64> {
        self.0.get(&(place.to_owned(), row.to_owned())).copied()
    }
}

impl Bench {
    pub(crate) fn run(self) -> Result<()> {
        if !is_root() {
            bail!("the bench starts containers of several runtimes: run it as root");
        }
        let started = Instant::now();
        places::one_kind_of_cgroups()?;
        let probe = static_program("bench-probe", "bench-probe")?;
        let program = runtime()?;
        let debian = rootfs::debian()?;
        // In memory, as the directories are that runtimes keep their state in.
        let work = tempfile::Builder::new()
            .prefix("ringfence-bench")
            .tempdir_in("/run")
            .context("a directory for the bundles")?;
        let tree = work.path().join("tree");
        rootfs::bare(&tree, &[&probe])?;
        fs::write(tree.join("data/file"), "a file\n")?;
        let git = match self.wants("git_status") {
            true => git::tree(work.path())?,
            false => None,
        };
        let compiler = match self.wants("compile") {
            true => compile::tree(work.path())?,
            false => None,
        };
        let site = places::Site {
            work: work.path(),
            tree,
            debian,
            git,
            compiler,
        };
        let places = places::all(&site, &program, &self.platform, !self.no_peers)?;

        let mut figures = Figures::default();
        for round in 1..=self.rounds.max(1) {
            eprintln!("round {round} of {}", self.rounds.max(1));
            for place in &places {
                self.probe(place, &mut figures)?;
            }
            let git = site.git.as_ref().map(|_| "git_status");
            let compile = site.compiler.as_ref().map(|_| "compile");
            let starts = ["start", "python"].into_iter().chain(git).chain(compile);
            for row in starts.filter(|row| self.wants(row)) {
                // The long ones settle by themselves.
                let long = ["git_status", "compile"].contains(&row);
                let times = if long { 1 } else { STARTS };
                for _ in 0..times {
                    for place in &places {
                        start::measure(place, row, &mut figures)?;
                    }
                }
            }
            if self.wants(lifecycle::NAME) {
                for _ in 0..STARTS {
                    for place in places.iter().filter(|p| p.kind != Kind::Native) {
                        lifecycle::measure(place, &mut figures)?;
                    }
                }
            }
            // Nothing about it varies much.
            if self.wants("idle") && round == 1 {
                for place in places.iter().filter(|p| p.kind != Kind::Native) {
                    idle::measure(place, &mut figures)?;
                }
            }
        }
        table::print(&figures, &places);
        table::targets(&figures, &places);
        println!("\ntook {} s", started.elapsed().as_secs());
        if let Some(file) = &self.json {
            fs::write(file, table::json(&figures))
                .with_context(|| format!("writing {}", file.display()))?;
        }
        Ok(())
    }

    fn wants(&self, row: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|name| name == row)
    }

    /// One round of the probe's own measures in one place.
    fn probe(&self, place: &Place, figures: &mut Figures) -> Result<()> {
        let budget = self.budget.to_string();
        let measures = |what| {
            let mut args = vec![what, budget.as_str()];
            args.extend(self.only.iter().map(String::as_str));
            args
        };
        let rows = &self.only;
        let others = ["start", "python", "git_status", "compile", "life", "idle"];
        let starts = |row: &String| others.contains(&row.as_str());
        if !rows.is_empty() && rows.iter().all(starts) {
            return Ok(());
        }
        let mut take = |what, command: &mut Command| -> Result<()> {
            let outcome = succeed(place, what, command)?;
            for line in outcome.out().lines() {
                let (row, value) = line.split_once(' ').context("a line of the probe")?;
                figures.add(&place.name, row, value.parse()?);
            }
            Ok(())
        };
        take("measuring", &mut place.probe(&measures("measure"))?)?;
        if place.kind == Kind::Native {
            take("measuring", &mut place.probe(&measures("raw"))?)?;
        }
        Ok(())
    }
}

/// Runs `command`, which must succeed.
fn succeed(place: &Place, what: &str, command: &mut Command) -> Result<Outcome> {
    let outcome = run(command.stdin(Stdio::null()), b"", PATIENCE);
    if outcome.code() != Some(0) {
        place.clean_up();
        bail!(
            "{}: {what}: {}: {}",
            place.name,
            outcome.status,
            outcome.err().trim()
        );
    }
    Ok(outcome)
}
