//! For those who look for a fault in a running sandbox: stacks, logging, traces.

use crate::kernel::Container;
use crate::{log, sys};
use control::debug::{Counters, Logging, MAX_THREADS, SLOT, Stacks, TaskInfo, Traced};
use control::message::{Failure, FailureKind};
use nix::sys::stat::{SFlag, fstat};
use std::collections::HashMap;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use sync::census::{Kind, alive};

fn invalid(text: impl Into<String>) -> Failure {
    Failure::new(FailureKind::Invalid, text)
}

/// The one descriptor that came along, if it is a regular file: writing to anything else might
/// wait for somebody. With its size.
fn regular(fds: Vec<OwnedFd>, what: &str) -> Result<(OwnedFd, u64), Failure> {
    let Ok([file]) = <[OwnedFd; 1]>::try_from(fds) else {
        return Err(invalid(format!("{what} takes one file")));
    };
    let kind =
        fstat(&file).map_err(|e| invalid(format!("{what}: the file cannot be used: {e}")))?;
    match SFlag::from_bits_truncate(kind.st_mode) & SFlag::S_IFMT == SFlag::S_IFREG {
        true => Ok((file, kind.st_size.cast_unsigned())),
        false => Err(invalid(format!(
            "{what} can only be written to a regular file"
        ))),
    }
}

/// Has `threads` write their stacks, and says what else there is to know.
pub(crate) fn stacks(
    container: &Container,
    threads: &[i32],
    fds: Vec<OwnedFd>,
) -> Result<Stacks, Failure> {
    let (file, size) = regular(fds, "a report of stacks")?;
    if threads.len() > MAX_THREADS || size < SLOT * threads.len() as u64 {
        return Err(invalid("the file for stacks is too small"));
    }
    sys::stacks::write(file.as_fd(), threads).map_err(|errno| Failure {
        kind: FailureKind::Internal,
        errno: Some(errno as i32),
        text: format!("the threads cannot be asked for their stacks: {errno}"),
    })?;
    let kernel = &container.kernel;
    let mut tasks: Vec<TaskInfo> = kernel
        .tasks()
        .into_iter()
        .filter(|task| container.own.owns(task.group()))
        .map(|task| TaskInfo {
            pid: task.tgid(),
            tid: task.tid(),
            thread: task.thread(),
            state: char::from(task.state_letter()),
            in_guest: task.is_in_guest(),
            call: task.call().map(|nr| match kernel.call_name(nr) {
                "?" => format!("syscall {nr}"),
                name => name.to_owned(),
            }),
            command: String::from_utf8_lossy(&task.name()).into_owned(),
        })
        .collect();
    tasks.sort_unstable_by_key(|t| (t.pid, t.tid));
    Ok(Stacks {
        modules: sys::stacks::modules(),
        tasks,
    })
}

/// Counts what there is.
pub(crate) fn counters(container: &Container) -> Counters {
    let kernel = &container.kernel;
    let (mut spaces, mut tables) = (HashMap::new(), HashMap::new());
    for task in kernel.tasks() {
        if container.own.owns(task.group()) {
            spaces.extend(task.mm().map(|mm| (mm.id(), mm.pieces())));
            tables.extend(task.fds().map(|fds| (fds.id(), fds.count())));
        }
    }
    Counters {
        tasks: alive(Kind::Task) as u64,
        processes: alive(Kind::ThreadGroup) as u64,
        address_spaces: alive(Kind::AddressSpace) as u64,
        open_files: alive(Kind::OpenFile) as u64,
        dentries: alive(Kind::Dentry) as u64,
        cached_dentries: vfs::cached_dentries() as u64,
        sockets: alive(Kind::Socket) as u64,
        descriptors: tables.values().sum::<usize>() as u64,
        mappings: spaces.values().map(|(vmas, _)| vmas).sum::<usize>() as u64,
        extents: spaces.values().map(|(_, extents)| extents).sum::<usize>() as u64,
        memory: container.own.memory_used(),
        futex_waiters: kernel.futexes().waiting() as u64,
        timers: kernel.timers().armed() as u64,
    }
}

/// Changes what is logged.
pub(crate) fn logging(
    container: &Container,
    wanted: &Logging,
    fds: Vec<OwnedFd>,
) -> Result<(), Failure> {
    let file = match fds.is_empty() {
        true => None,
        false => Some(regular(fds, "a log")?.0),
    };
    log::change(wanted, file)?;
    if let Some(on) = wanted.strace {
        container.kernel.set_strace(on);
    }
    Ok(())
}

/// Begins a trace.
pub(crate) fn begin_trace(container: &Container, fds: Vec<OwnedFd>) -> Result<(), Failure> {
    let (file, _) = regular(fds, "a trace")?;
    match container.kernel.begin_trace(File::from(file)) {
        Ok(true) => Ok(()),
        Ok(false) => Err(Failure::new(
            FailureKind::State,
            "a trace of this sandbox is being made already; wait for its end",
        )),
        Err(e) => Err(invalid(format!("the trace cannot be written: {e}"))),
    }
}

/// Ends it.
pub(crate) fn end_trace(container: &Container) -> Traced {
    let (events, lost) = container.kernel.end_trace();
    Traced { events, lost }
}
