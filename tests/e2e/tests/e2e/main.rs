//! Starts the real binary as its users do, and looks at what comes out: output, exit status, and
//! what is left behind.
//!
//! `cargo test -p e2e-tests --test e2e -- WORD…` runs the tests whose names hold one of the words.
//! Each has its own directory, state directory and copy of the binary, so that what it leaves
//! behind can be told from what others do; two run at once.
#![forbid(unsafe_code)]

use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;
use test_support::build;
use test_support::report::Report;

mod bad_config;
mod bad_input;
mod bad_programs;
mod case;
mod debug;
mod exec;
mod faults;
mod flags;
mod hooks;
mod leftovers;
mod lifecycle;
mod limits;
mod pause;
mod place;
mod pods;
mod profiles;
mod profiling;
mod programs;
mod propagation;
mod rootless;
mod steps;
mod strain;
mod terminals;
mod update;
mod world;

use case::{Case, Stop};
use place::Place;
use world::World;

/// How many tests run at once: most of them wait rather than work.
const WORKERS: usize = 2;

fn main() -> ExitCode {
    test_support::as_from_a_shell();
    let mut wanted: Vec<String> = std::env::args().skip(1).collect();
    if wanted.iter().any(|a| a == "--list") {
        return ExitCode::SUCCESS;
    }
    wanted.retain(|a| !a.starts_with('-'));
    let mut report = Report::default();
    let program = match build::runtime() {
        Ok(program) => program,
        Err(error) => {
            report.fail("e2e", &format!("{error:#}"));
            return report.close("e2e");
        }
    };
    for platform in build::platforms() {
        match World::new(&program, &platform) {
            Ok(world) => run_all(&world, &wanted, &mut report),
            Err(error) => report.fail(&format!("e2e/{platform}"), &format!("{error:#}")),
        }
    }
    report.close("e2e")
}

fn cases() -> Vec<Case> {
    [
        programs::CASES,
        terminals::CASES,
        update::CASES,
        lifecycle::CASES,
        exec::CASES,
        pause::CASES,
        profiles::CASES,
        profiling::CASES,
        hooks::CASES,
        debug::CASES,
        pods::CASES,
        flags::CASES,
        propagation::CASES,
        bad_input::CASES,
        bad_config::CASES,
        bad_programs::CASES,
        leftovers::CASES,
        rootless::CASES,
        faults::CASES,
        limits::CASES,
        steps::CASES,
        strain::CASES,
    ]
    .concat()
}

fn run_all(world: &World, wanted: &[String], report: &mut Report) {
    let cases = cases();
    let chosen: Vec<&Case> = cases
        .iter()
        .filter(|case| wanted.is_empty() || wanted.iter().any(|w| case.name.contains(w.as_str())))
        .collect();
    let next = AtomicUsize::new(0);
    let report = Mutex::new(report);
    std::thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(|| {
                while let Some(case) = chosen.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let start = Instant::now();
                    let result = run_one(world, case);
                    let name = format!("e2e/{}/{}", world.platform, case.name);
                    let Ok(mut report) = report.lock() else {
                        return;
                    };
                    match result {
                        Ok(()) => {
                            let time = start.elapsed().as_secs_f64();
                            report.pass_named(&format!("{name} ({time:.1} s)"));
                        }
                        Err(Stop::Failed(why)) => report.fail(&name, &why),
                        Err(Stop::Skipped(why)) => report.skip(&name, &why),
                    }
                }
            });
        }
    });
}

/// A test is over when it passed and left nothing behind.
fn run_one(world: &World, case: &Case) -> case::Result {
    let place = Place::new(world, case.name)?;
    let result = (case.run)(&place);
    let left = place.close();
    result?;
    if left.is_empty() {
        Ok(())
    } else {
        Err(Stop::Failed(format!("left behind:\n{left}")))
    }
}
