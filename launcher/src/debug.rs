//! Looking into a running sandbox: stacks of its threads, its log, traces.
//!
//! The sandbox's word is taken for nothing but its own state: which threads it has is the host's to
//! say, the file that stacks come in cannot grow, and no path that it names is opened.

use crate::container::Container;
use crate::error::LaunchError;
use crate::process_id::stat_fields;
use crate::words::printable;
use control::debug::{
    Counters, Logging, MAX_STACK, MAX_THREADS, Module, SLOT, STACK_SIGNAL, SlotHead, TaskInfo,
    Traced,
};
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use serde::Serialize;
use std::collections::HashMap;
use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Most of a name that is shown.
const MAX_NAME: usize = 256;

/// A thread of the sandbox process.
#[derive(Clone, Debug)]
pub struct Thread {
    /// Its number in the sandbox's PID namespace.
    pub tid: i32,
    /// On the host.
    pub host_tid: i32,
    /// What it is called.
    pub name: String,
    /// Whether it can be asked: the host kernel has threads of its own in the process.
    pub takes_signals: bool,
    /// Its registers; none when it did not answer.
    pub registers: Option<SlotHead>,
    /// Its stack from the stack pointer up.
    pub stack: Vec<u8>,
}

/// How much there is of what a sandbox keeps, inside and on the host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Census {
    /// By the sandbox's own word.
    #[serde(flatten)]
    pub inside: Counters,
    /// Threads of the sandbox process.
    pub host_threads: u64,
    /// Processes below it: a platform's stubs.
    pub host_processes: u64,
    /// Descriptors of the sandbox process.
    pub host_descriptors: u64,
    /// Descriptors of the container's gofer.
    pub gofer_descriptors: u64,
}

/// What the threads of a sandbox process are doing.
#[derive(Clone, Debug)]
pub struct Report {
    /// All of them.
    pub threads: Vec<Thread>,
    /// What is loaded into the process.
    pub modules: Vec<Module>,
    /// The container's tasks.
    pub tasks: Vec<TaskInfo>,
    /// The host's name for the process's executable.
    pub executable: PathBuf,
}

impl Container {
    /// The stacks of the sandbox process's threads, and what its tasks do.
    pub fn stacks(&self) -> Result<Report, LaunchError> {
        self.must_live("look into")?;
        let process = PathBuf::from(format!("/proc/{}", self.sandbox_pid()));
        let mut threads = threads(&process).map_err(look("list the sandbox process's threads"))?;
        threads.truncate(MAX_THREADS);
        let file = slots(threads.len()).map_err(look("make a file for stacks"))?;
        let asked = threads.iter().filter(|t| t.takes_signals);
        let numbers: Vec<i32> = asked.map(|t| t.tid).collect();
        let answer = self.client()?.stacks(numbers, file.as_fd())?;
        for (head, stack) in (0..threads.len()).filter_map(|n| slot(&file, n)) {
            let tid = i32::try_from(head.tid).unwrap_or(0);
            if let Some(thread) = threads.iter_mut().find(|t| t.tid == tid) {
                thread.registers = Some(head);
                thread.stack = stack;
            }
        }
        Ok(Report {
            threads,
            modules: answer.modules.into_iter().map(checked).collect(),
            tasks: answer.tasks,
            executable: process.join("exe"),
        })
    }

    /// Counts what the sandbox keeps.
    pub fn counters(&self) -> Result<Census, LaunchError> {
        self.must_live("look into")?;
        let inside = self.client()?.counters()?;
        let of = |pid: i32, what: &str| fs::read_dir(format!("/proc/{pid}/{what}"));
        let count = |pid, what| of(pid, what).map(|all| all.count() as u64);
        let (sandbox, gofer) = (self.sandbox_pid(), self.gofer_pid());
        let counts = || -> io::Result<Census> {
            Ok(Census {
                inside,
                host_threads: count(sandbox, "task")?,
                host_processes: descendants(sandbox)?,
                host_descriptors: count(sandbox, "fd")?,
                gofer_descriptors: count(gofer, "fd")?,
            })
        };
        counts().map_err(look("count what the sandbox's processes have"))
    }

    /// Changes what the sandbox process logs. With `dir`, that is where it logs to from now on.
    pub fn set_logging(&self, wanted: Logging, dir: Option<&Path>) -> Result<(), LaunchError> {
        self.must_live("change the log of")?;
        let file = dir
            .map(|dir| crate::prepare::append_log(dir, "boot"))
            .transpose()?;
        Ok(self
            .client()?
            .set_logging(wanted, file.as_ref().map(AsFd::as_fd))?)
    }

    /// Traces what the tasks do into `file`, in Chrome's trace event format, for `duration` or
    /// until the container ends.
    pub fn trace(&self, file: &File, duration: Duration) -> Result<Traced, LaunchError> {
        self.must_live("trace")?;
        Ok(self.client()?.trace(file.as_fd(), duration)?)
    }
}

pub(crate) fn look(what: &'static str) -> impl FnOnce(io::Error) -> LaunchError {
    move |source| LaunchError::Look { what, source }
}

/// How many processes there are below `process`.
fn descendants(process: i32) -> io::Result<u64> {
    let mut parents = HashMap::<i32, Vec<i32>>::new();
    for entry in fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(pid) = name.to_str().and_then(|n| n.parse::<i32>().ok()) else {
            continue;
        };
        // One that ends meanwhile is left out.
        let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else {
            continue;
        };
        let parent = stat_fields(&stat).and_then(|mut fields| fields.nth(1)?.parse().ok());
        parents
            .entry(parent.unwrap_or_default())
            .or_default()
            .push(pid);
    }
    let mut count = 0;
    let mut next = vec![process];
    while let Some(pid) = next.pop() {
        let below = parents.remove(&pid).unwrap_or_default();
        count += below.len() as u64;
        next.extend(below);
    }
    Ok(count)
}

/// The threads of a process, as the host has them.
pub(crate) fn threads(process: &Path) -> io::Result<Vec<Thread>> {
    let mut threads = Vec::new();
    for entry in fs::read_dir(process.join("task"))? {
        let path = entry?.path();
        // One that ends meanwhile is left out.
        let Ok(status) = fs::read_to_string(path.join("status")) else {
            continue;
        };
        let numbers = status
            .lines()
            .find_map(|l| l.strip_prefix("NSpid:"))
            .unwrap_or_default();
        let numbers: Vec<i32> = numbers
            .split_ascii_whitespace()
            .filter_map(|n| n.parse().ok())
            .collect();
        let (Some(&host_tid), Some(&tid)) = (numbers.first(), numbers.last()) else {
            continue;
        };
        let name = status.lines().find_map(|l| l.strip_prefix("Name:"));
        let blocked = status.lines().find_map(|l| l.strip_prefix("SigBlk:"));
        let blocked = u64::from_str_radix(blocked.unwrap_or_default().trim(), 16).unwrap_or(0);
        threads.push(Thread {
            tid,
            host_tid,
            name: printable(name.unwrap_or_default().trim(), MAX_NAME),
            takes_signals: blocked >> (STACK_SIGNAL - 1) & 1 == 0,
            registers: None,
            stack: Vec::new(),
        });
    }
    threads.sort_unstable_by_key(|t| t.tid);
    Ok(threads)
}

/// A file with room for `count` threads, which whoever holds it can make neither larger nor
/// smaller.
fn slots(count: usize) -> io::Result<File> {
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    let file = File::from(memfd_create(c"stacks", flags)?);
    file.set_len(SLOT * count as u64)?;
    let seals = SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_SEAL;
    fcntl(&file, FcntlArg::F_ADD_SEALS(seals))?;
    Ok(file)
}

/// What is in slot `n`, if anything.
fn slot(file: &File, n: usize) -> Option<(SlotHead, Vec<u8>)> {
    let at = SLOT * n as u64;
    let mut head = [0; SlotHead::BYTES];
    file.read_exact_at(&mut head, at).ok()?;
    let head = SlotHead::from_bytes(head);
    if head.tid == 0 || head.len > MAX_STACK {
        return None;
    }
    let mut stack = vec![0; usize::try_from(head.len).ok()?];
    file.read_exact_at(&mut stack, at + SlotHead::BYTES as u64)
        .ok()?;
    Some((head, stack))
}

pub(crate) fn checked(module: Module) -> Module {
    Module {
        name: printable(&module.name, MAX_NAME).replace('\n', "?"),
        ..module
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_are_those_of_the_host() {
        let own = nix::unistd::gettid().as_raw();
        let all = threads(Path::new("/proc/self")).unwrap();
        assert!(all.iter().any(|t| t.host_tid == own), "{own}: {all:?}");
    }

    #[test]
    fn a_slots_word_is_checked() {
        let file = slots(2).unwrap();
        assert!(file.set_len(1 << 30).is_err());
        assert!(slot(&file, 0).is_none());
        let mut head = SlotHead {
            tid: 9,
            len: 3,
            ..SlotHead::default()
        };
        file.write_all_at(&head.to_bytes(), SLOT).unwrap();
        file.write_all_at(b"abc", SLOT + SlotHead::BYTES as u64)
            .unwrap();
        assert_eq!(slot(&file, 1).unwrap(), (head, b"abc".to_vec()));
        head.len = MAX_STACK + 1;
        file.write_all_at(&head.to_bytes(), SLOT).unwrap();
        assert!(slot(&file, 1).is_none());
    }
}
