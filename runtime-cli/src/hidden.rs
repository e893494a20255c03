//! The commands by which the launcher starts this binary again, as another process.

use launcher::confine;
use std::ffi::OsString;
use std::process::ExitCode;

/// The one donated descriptor.
const DONATED: i32 = 3;

/// Runs one, if that is what the process was started as. Told apart before the command line is
/// parsed: these two are on the way of every start.
pub(crate) fn run(arguments: &[OsString]) -> Option<ExitCode> {
    let [_, role, how] = arguments else {
        return None;
    };
    let attached = match how.to_str()? {
        "attached" => true,
        "detached" => false,
        _ => return None,
    };
    if !matches!(role.to_str()?, "boot" | "gofer") {
        return None;
    }
    if !confine::started_by_launcher() {
        eprintln!("error: this command is for ringfence itself; `ringfence help` lists yours");
        return Some(ExitCode::from(2));
    }
    let cut_off = move |keep| move || confine::confine(keep, attached).map_err(|e| e.to_string());
    match role.to_str()? {
        "boot" => {
            let status = boot::process::main(DONATED, cut_off(0), boot::kernel::assemble);
            // Without unwinding through threads that still run.
            std::process::exit(status)
        }
        "gofer" => Some(gofer::run(DONATED, cut_off(confine::GOFER_CAPABILITIES))),
        _ => None,
    }
}
