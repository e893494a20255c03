//! System V IPC (sysvipc(7)) and POSIX message queues (mq_overview(7)).
//!
//! [`Ipc`] is what an IPC namespace is in Linux; a sandbox has one. The three System V kinds share
//! their table of identifiers and their permissions (`ids`); each has a module with its objects,
//! its operations and the structures that its `*ctl` call moves. POSIX queues are files of a file
//! system of their own ([`mqueue`]).
//!
//! Neighbours: `syscalls` decodes and copies; `task` tells when a process has ended; `mm` maps
//! segments by the seam of `memmap`.
//!
//! Locks: a table's lock and an object's lock are leaves, and never held together.
#![forbid(unsafe_code)]

mod ids;
mod limits;
pub mod mqueue;
pub mod msg;
pub mod sem;
pub mod shm;

pub use ids::{Control, Perm, PermWords};
pub use limits::Limits;

use auth::UserNamespace;
use hostmem::MemoryFile;
use std::sync::Arc;
use time::Clocks;
use vfs::nsfs::NamespaceId;

/// `IPC_CREAT`
pub const CREAT: i32 = 0o1000;
/// `IPC_EXCL`
pub const EXCL: i32 = 0o2000;
/// `IPC_NOWAIT`
pub const NOWAIT: i32 = 0o4000;
/// `IPC_PRIVATE`
pub const PRIVATE: i32 = 0;

/// All IPC objects of a sandbox.
pub struct Ipc {
    id: NamespaceId,
    /// What there may be of them.
    pub limits: Arc<Limits>,
    /// Shared memory.
    pub shm: Arc<shm::Segments>,
    /// Semaphores.
    pub sem: sem::Semaphores,
    /// Messages.
    pub msg: msg::Queues,
    /// POSIX queues.
    pub mqueues: Arc<mqueue::Mqueues>,
}

impl std::fmt::Debug for Ipc {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Ipc")
    }
}

impl Ipc {
    /// Without objects, for `owner`; segments will be made of `memory`.
    pub fn new(
        memory: &Arc<MemoryFile>,
        clocks: &Arc<Clocks>,
        id: NamespaceId,
        owner: UserNamespace,
    ) -> Ipc {
        let limits = Arc::new(Limits::new(owner));
        Ipc {
            id,
            shm: shm::Segments::new(memory, clocks, &limits),
            sem: sem::Semaphores::new(clocks, &limits),
            msg: msg::Queues::new(clocks, &limits),
            mqueues: mqueue::Mqueues::new(clocks, &limits),
            limits,
        }
    }

    /// The number of its namespace's file in `/proc/PID/ns`.
    pub fn id(&self) -> u64 {
        self.id.get()
    }

    /// The user namespace whose it is.
    pub fn owner(&self) -> &UserNamespace {
        &self.limits.owner
    }
}

/// Seconds on the wall clock, as the objects keep them.
fn seconds(clocks: &Clocks) -> i64 {
    clocks.wall().sec
}
