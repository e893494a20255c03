//! The `ringfence` binary.
#![forbid(unsafe_code)]

fn main() -> std::process::ExitCode {
    runtime_cli::main_with(&runtime_cli::Build::default())
}
