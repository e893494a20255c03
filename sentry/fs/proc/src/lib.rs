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
mod memory;
mod node;
mod ns;
mod process;
mod status;
mod sys;
mod system;
mod tree;

use abi::Errno;
use ctx::Ctx;
use std::sync::Arc;
use task::{Container, Kernel, Namespaces};
use vfs::Inode;

/// What all files of an instance share.
pub(crate) struct Proc {
    pub(crate) kernel: Arc<Kernel>,
    /// Whose names, memory and IPC objects it shows.
    pub(crate) container: Arc<Container>,
    pub(crate) dev: u64,
}

impl Proc {
    /// The namespaces of who reads; of a reader that it does not show, its container's.
    pub(crate) fn seen_by(&self, cx: &dyn Ctx) -> Namespaces {
        let task = self.kernel.task(cx.tid());
        match task.filter(|t| t.group().serial() == cx.process()) {
            Some(task) => task.namespaces(),
            None => Namespaces::of(&self.container),
        }
    }

    /// `EACCES` unless the reader may look into a task (proc(5), `PTRACE_MODE_READ_FSCREDS`).
    pub(crate) fn may_look(&self, cx: &dyn Ctx, task: &task::Task) -> Result<(), Errno> {
        match task.lets_look(cx, task::Ids::Files) {
            true => Ok(()),
            false => Err(Errno::EACCES),
        }
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

/// The root of a new instance, which shows the tasks of `kernel` and the rest as `container` has it.
pub fn root(kernel: &Arc<Kernel>, container: &Arc<Container>) -> Arc<dyn Inode> {
    let proc = Arc::new(Proc {
        kernel: kernel.clone(),
        container: container.clone(),
        dev: abi::stat::makedev(0, 5),
    });
    node::directory(&proc, 1, Owner::Root, Arc::new(tree::Top))
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
