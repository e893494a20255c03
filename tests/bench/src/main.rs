//! `bench-probe`: measures what the kernel below it costs.
//!
//! `bench-probe measure MILLISECONDS [NAME…]` prints a line `name nanoseconds` for each measure:
//! the time of one operation in the best of many batches, since what else runs on the machine only
//! ever makes a batch slower. `raw` instead of `measure` takes the bare host primitives that a
//! sandbox is held against; that is for the host alone, and without those of KVM where it has none. `pause` sleeps for ever, `nothing` exits.

mod kvm;
mod measures;
mod raw;
mod sys;
mod talk;
mod timing;

use std::process::ExitCode;
use std::time::Duration;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["nothing"] => ExitCode::SUCCESS,
        ["pause"] => sys::pause(),
        [what @ ("measure" | "raw"), milliseconds, names @ ..] => {
            let Ok(milliseconds) = milliseconds.parse() else {
                return usage();
            };
            let all = match *what {
                "raw" => raw::ALL,
                _ => measures::ALL,
            };
            let budget = Duration::from_millis(milliseconds);
            let kvm = kvm::is_there();
            for (name, measure) in all
                .iter()
                .filter(|(name, _)| kvm || !name.starts_with("kvm"))
            {
                if names.is_empty() || names.contains(name) {
                    println!("{name} {:.1}", measure(budget));
                }
            }
            ExitCode::SUCCESS
        }
        _ => usage(),
    }
}

fn usage() -> ExitCode {
    eprintln!("usage: bench-probe measure|raw MILLISECONDS [NAME…] | pause | nothing");
    ExitCode::from(2)
}
