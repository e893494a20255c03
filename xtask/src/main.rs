//! The project's own tools: `cargo xtask TASK`. One struct and one module for
//! each task.
#![forbid(unsafe_code)]

mod bench;
mod build;
mod ci;
mod example;
mod integration;
mod ltp;
mod rootfs;
mod shell;
mod soak;
mod test;
mod tidy;

use clap::Parser;
use std::process::ExitCode;

/// Builds, tests, checks and measures ringfence.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", max_term_width = 100)]
enum Task {
    Build(build::Build),
    Test(test::Test),
    Ci(ci::Ci),
    Tidy(tidy::Tidy),
    Bench(bench::Bench),
    Rootfs(rootfs::Rootfs),
    Ltp(ltp::Ltp),
    Soak(soak::Soak),
}

fn main() -> ExitCode {
    let result = match Task::parse() {
        Task::Build(task) => task.run(),
        Task::Test(task) => task.run(),
        Task::Ci(task) => task.run(),
        Task::Tidy(task) => task.run(),
        Task::Bench(task) => task.run(),
        Task::Rootfs(task) => task.run(),
        Task::Ltp(task) => task.run(),
        Task::Soak(task) => task.run(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        // Without a backtrace, which would bury what was said before.
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
