//! procfs (proc(5)), as far as shells, libc and ordinary tools read it.
//!
//! Stands above tasks: every file is made up from the kernel's state when it is opened. Names are
//! never cached.
#![forbid(unsafe_code)]

mod cpuinfo;
mod fds;
mod idmaps;
mod ipc;
mod locks;
mod mem;
mod memory;
mod mounts;
mod node;
mod ns;
mod options;
mod process;
mod status;
mod sys;
mod system;
mod tree;

use abi::Errno;
use ctx::{Ctx, Pid};
pub use options::{HidePid, Options};
use std::sync::Arc;
use sync::{RwLock, ranks};
use task::{Container, Kernel, Namespaces, PidNamespace};
use vfs::MountSpec;

/// What all files of an instance share.
pub(crate) struct Proc {
    pub(crate) kernel: Arc<Kernel>,
    /// Whose names, memory and IPC objects it shows.
    pub(crate) container: Arc<Container>,
    /// Whose numbers it has: that of who mounted it.
    pub(crate) pids: Arc<PidNamespace>,
    pub(crate) dev: u64,
    pub(crate) options: RwLock<Options, ranks::Leaf>,
}

impl Proc {
    /// The namespaces of who reads; of a reader that it does not show, its container's.
    pub(crate) fn seen_by(&self, cx: &dyn Ctx) -> Namespaces {
        let task = self.kernel.task(cx.thread_id().id());
        task.filter(|t| t.group().serial() == cx.process())
            .and_then(|t| t.namespaces())
            .unwrap_or_else(|| Namespaces::of(&self.container))
    }

    /// `EACCES` unless the reader may look into a task (proc(5), `PTRACE_MODE_READ_FSCREDS`).
    pub(crate) fn may_look(&self, cx: &dyn Ctx, task: &task::Task) -> Result<(), Errno> {
        self.look(cx, task, || ())
    }

    /// What `fetch` finds in a task that the reader may look into; `EACCES` in others.
    pub(crate) fn look<T>(
        &self,
        cx: &dyn Ctx,
        task: &task::Task,
        fetch: impl FnMut() -> T,
    ) -> Result<T, Errno> {
        task.look(cx, task::Ids::Files, fetch).ok_or(Errno::EACCES)
    }

    /// What `pid` is called here.
    pub(crate) fn number(&self, pid: &Pid) -> i32 {
        pid.seen_from(self.pids.space())
    }

    /// `ESRCH` once a task has gone, and been waited for.
    pub(crate) fn check_alive(&self, task: &Arc<task::Task>) -> Result<(), Errno> {
        match self.kernel.task(task.tid()) {
            // Another thread of it may have taken its place, by execve(2).
            Some(now) if Arc::ptr_eq(now.group(), task.group()) => Ok(()),
            _ => Err(Errno::ESRCH),
        }
    }
}

/// A new instance, which shows the tasks of `pids`, one of `kernel`'s PID namespaces, and the rest as
/// `container` has it.
pub fn mount_spec(
    kernel: &Arc<Kernel>,
    container: &Arc<Container>,
    pids: &Arc<PidNamespace>,
    options: Options,
) -> MountSpec {
    let proc = Arc::new(Proc {
        kernel: kernel.clone(),
        container: container.clone(),
        pids: pids.clone(),
        dev: vfs::anon::next_dev(),
        options: RwLock::new(options),
    });
    let root = node::directory(&proc, 1, Owner::Root, Arc::new(tree::Top));
    MountSpec {
        fs: proc,
        ..MountSpec::new(root, "proc")
    }
}

/// Sets what sysctl(8) calls `name` (`kernel.shmmax`) for `container`, as its root would.
///
/// # Errors
/// `ENOENT` where there is no such value, `EACCES` where it cannot be changed, `EINVAL` where it
/// cannot be `value`.
pub fn set_sysctl(container: &Container, name: &str, value: &str) -> Result<(), Errno> {
    sys::set(&Namespaces::of(container), name, value)
}

/// Whose a file is.
#[derive(Clone)]
pub(crate) enum Owner {
    Root,
    Task(Arc<task::Task>),
}
