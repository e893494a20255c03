//! The command line of ringfence, as a library: a binary with other platforms is a `main` of three
//! lines that names their crates and calls [`main_with`].
//!
//! Nothing heavy is done before it is needed: this process is on the way of every container's
//! start, and stays beside an attached one.
#![forbid(unsafe_code)]

mod args;
mod command;
mod debug;
mod exec;
mod features;
mod help;
mod hidden;
mod lifecycle;
mod list;
mod log;
mod observe;
mod platform_list;
mod pprof;
mod profile;
mod setup;
mod symbols;
mod update;

// The façade links the platforms in; nothing else names it.
use platforms as _;
use std::process::ExitCode;

/// What is particular to one binary.
#[derive(Clone, Debug)]
pub struct Build {
    /// Printed by `--version`.
    pub version: &'static str,
}

impl Default for Build {
    fn default() -> Build {
        Build {
            version: env!("CARGO_PKG_VERSION"),
        }
    }
}

/// Runs the command that the process was started with. The exit status is the container's for
/// commands that wait for one (128 + n for a signal); 127 or 126 when its program is not there or
/// cannot be executed; 128 for a failure of ours; 2 for a command line that makes no sense.
pub fn main_with(build: &Build) -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().collect();
    if let Some(status) = hidden::run(&arguments) {
        return status;
    }
    let cli = match args::parse(build, &arguments) {
        Ok(cli) => cli,
        Err(error) => {
            let _unheard = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    let log = match log::start(&cli.global) {
        Ok(log) => log,
        Err(text) => {
            eprintln!("error: {text}");
            return status(launcher::EXIT_FAILURE);
        }
    };
    match setup::dispatch(build, cli) {
        Ok(code) => status(code),
        Err(failure) => {
            log.error(&failure.text);
            status(failure.code)
        }
    }
}

fn status(code: i32) -> ExitCode {
    ExitCode::from(u8::try_from(code & 0xff).unwrap_or(u8::MAX))
}
