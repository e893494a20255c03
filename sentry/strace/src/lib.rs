//! `--strace`: system calls in the manner of strace(1), to the debug log.
//!
//! Formatted from the dispatch table's argument kinds. Inputs are read when the call begins
//! (execve(2) replaces the memory they lie in), outputs when it ends; a line is written then. A
//! kernel without a tracer pays one check of an `Option` for each call.
#![forbid(unsafe_code)]

mod args;
mod flags;
mod text;

use abi::nr;
use ctx::{Restart, SysErr};
use signal::SigInfo;
use std::collections::HashMap;
use std::sync::Arc;
use sync::{Mutex, ranks};
use syscalls::table;
use task::{ExitStatus, Task, TaskCx, Tracer};

/// Writes a line for each call to the log target `strace`.
#[derive(Default)]
pub struct Strace {
    /// What the calls under way had as arguments, by task.
    begun: Mutex<HashMap<i32, Vec<Option<String>>>, ranks::Leaf>,
}

impl Strace {
    /// A tracer for [`task::KernelConfig`].
    pub fn tracer() -> Arc<dyn Tracer> {
        Arc::new(Strace::default())
    }
}

/// Calls whose result is an address.
const GIVES_ADDRESS: [usize; 3] = [nr::mmap, nr::mremap, nr::brk];

/// What is known of call `nr`.
fn entry(nr: u64) -> Option<&'static table::Entry> {
    table::entry(usize::try_from(nr).ok()?)
}

impl Tracer for Strace {
    fn enter(&self, cx: &TaskCx, nr: u64, args: &[u64; 6]) {
        let Some(entry) = entry(nr) else { return };
        let inputs: Vec<Option<String>> = entry
            .args
            .iter()
            .enumerate()
            .map(|(i, a)| args::input(cx, a.kind, args, i))
            .collect();
        if tracing::enabled!(target: "strace", tracing::Level::DEBUG) {
            let shown: Vec<&str> = inputs.iter().map(|a| a.as_deref().unwrap_or("_")).collect();
            tracing::debug!(target: "strace", "[{}] {}({}) ...", cx.task().tid(), entry.name, shown.join(", "));
        }
        let old = self.begun.lock().insert(cx.task().tid(), inputs);
        drop(old);
    }

    fn exit(&self, cx: &TaskCx, nr: u64, args: &[u64; 6], result: &Result<u64, SysErr>) {
        let inputs = self
            .begun
            .lock()
            .remove(&cx.task().tid())
            .unwrap_or_default();
        let Some(entry) = entry(nr) else {
            tracing::info!(target: "strace", "[{}] syscall_{nr:#x}(...) = {}", cx.task().tid(), outcome(result));
            return;
        };
        let mut inputs = inputs.into_iter();
        let shown: Vec<String> = entry
            .args
            .iter()
            .enumerate()
            .map(|(i, a)| {
                inputs
                    .next()
                    .flatten()
                    .unwrap_or_else(|| args::output(cx, a.kind, args, i, result))
            })
            .collect();
        let outcome = match result {
            Ok(addr) if GIVES_ADDRESS.contains(&entry.nr) => format!("{addr:#x}"),
            other => outcome(other),
        };
        tracing::info!(target: "strace", "[{}] {}({}) = {outcome}", cx.task().tid(), entry.name, shown.join(", "));
    }

    fn signal(&self, cx: &TaskCx, info: &SigInfo) {
        let name = text::signal(info.signo);
        tracing::info!(target: "strace", "[{}] --- {name} {{si_code={}, si_pid={}}} ---", cx.task().tid(), info.code, info.pid());
    }

    fn ended(&self, task: &Task, status: ExitStatus) {
        // A call that never ended (exit_group by another thread) is forgotten.
        let gone = self.begun.lock().remove(&task.tid());
        drop(gone);
        match status {
            ExitStatus::Exited(code) => {
                tracing::info!(target: "strace", "[{}] +++ exited with {code} +++", task.tid())
            }
            ExitStatus::Killed { signal } => {
                tracing::info!(target: "strace", "[{}] +++ killed by {} +++", task.tid(), signal.name());
            }
            ExitStatus::Dumped { signal } => {
                tracing::info!(target: "strace", "[{}] +++ killed by {} (core dumped) +++", task.tid(), signal.name());
            }
        }
    }
}

/// What a call returned, as strace(1) shows it.
fn outcome(result: &Result<u64, SysErr>) -> String {
    match result {
        // What is not small is an address or a set of bits.
        Ok(value) if *value > u64::from(u32::MAX) => format!("{value:#x}"),
        Ok(value) => format!("{value}"),
        Err(SysErr::Errno(e)) => format!("-1 {} ({})", e.name(), e.text()),
        Err(SysErr::Restart(r)) => {
            let name = match r {
                Restart::Sys => "ERESTARTSYS",
                Restart::NoHandler => "ERESTARTNOHAND",
                Restart::Always => "ERESTARTNOINTR",
                Restart::Block => "ERESTART_RESTARTBLOCK",
            };
            format!("? {name} (interrupted)")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use abi::Errno;

    #[test]
    fn outcomes_read_like_strace() {
        assert_eq!(outcome(&Ok(3)), "3");
        assert_eq!(outcome(&Ok(0x7fff_0000_1000)), "0x7fff00001000");
        assert_eq!(
            outcome(&Err(Errno::ENOENT.into())),
            "-1 ENOENT (No such file or directory)"
        );
        assert_eq!(
            outcome(&Err(Restart::Sys.into())),
            "? ERESTARTSYS (interrupted)"
        );
    }
}
