//! Development tasks: `cargo xtask <task>`.

mod commands;
mod tidy;

use clap::{Parser, Subcommand};

/// Development tasks of Ringfence.
#[derive(Parser)]
#[command(name = "cargo xtask")]
struct Args {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Runs every test.
    Test,
    /// Runs what CI runs.
    Ci,
    /// Checks what the compiler does not: layering, file lengths, where unsafe code may live.
    Tidy,
}

fn main() -> anyhow::Result<()> {
    match Args::parse().task {
        Task::Test => commands::test(),
        Task::Ci => commands::ci(),
        Task::Tidy => tidy::run(),
    }
}
