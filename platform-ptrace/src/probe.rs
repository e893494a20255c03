//! Whether it works here, by doing it.

use crate::engine::take_template;
use crate::stub::Stub;
use crate::sys::blob;
use crate::sys::calls;
use crate::sys::share::Share;
use crate::sys::template::{self, Seed};
use crate::tracee::{Stop, Waited};
use crate::{error, filter};
use platform_api::{PlatformError, Probe, Registers};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Round trips timed.
const ROUNDS: u32 = 32;

/// Forks a stub, traces it, and times how long a call of its takes to us and back.
pub(crate) fn probe() -> Probe {
    match round_trip() {
        Ok(round_trip) => Probe::Ready { round_trip },
        Err(e) => {
            let remedy = match std::fs::read_to_string("/proc/sys/kernel/yama/ptrace_scope") {
                Ok(scope) if matches!(scope.trim(), "2" | "3") => {
                    "set kernel.yama.ptrace_scope to 0 or 1 (sysctl), or use another platform"
                        .to_owned()
                }
                _ => e.remedy.clone(),
            };
            Probe::Unavailable {
                reason: format!("{}: {}", e.what, e.answer),
                remedy,
            }
        }
    }
}

fn round_trip() -> Result<Duration, PlatformError> {
    let host = |e| error::host("trying to trace a process", e);
    let share = Share::new().map_err(host)?;
    let filter = filter::program();
    let seed = Seed {
        parent: calls::own_pid(),
        batch_fd: share.fd(),
        batch_offset: 0,
        filter: &filter,
    };
    let pid = template::fork(&seed).map_err(|e| error::host("forking a process to trace", e))?;
    let stub = Arc::new(Stub::new(pid));
    let entries = blob::entries();
    let mut stopped = take_template(&stub, &entries)?;
    let regs = Registers {
        rip: entries.park,
        ..Registers::user()
    };
    stopped.set_registers(&regs).map_err(host)?;
    let mut best = Duration::MAX;
    for _ in 0..ROUNDS {
        let start = Instant::now();
        let running = stopped
            .resume_guest()
            .map_err(|e| error::host("PTRACE_SYSEMU (does this kernel have it?)", e))?;
        stopped = match running.wait().map_err(host)? {
            Waited::Stopped(stopped, Stop::Syscall) => stopped,
            Waited::Stopped(..) => {
                let odd = std::io::Error::from_raw_os_error(libc::ENOSYS);
                return Err(error::host("PTRACE_SYSEMU", odd));
            }
            Waited::Ended(status) => return Err(error::died("tracing a process", status)),
        };
        best = best.min(start.elapsed());
    }
    stub.end();
    Ok(best)
}
