//! What code in the sentry may ask of the task it works for.
//!
//! Filesystems, sockets and memory stand below tasks and must not know them; each call gets a
//! `cx: &dyn Ctx` as its first argument instead: credentials, guest memory, clocks, a place to
//! block, a way to raise a signal. `task` implements it. vfs and net add what they need by
//! extending it (`FsCtx: Ctx`, `NetCtx: Ctx`).
//!
//! Neighbours: [`wait`] has the queues one blocks on; [`auth`] the credentials; `mm` implements
//! [`UserMemory`].
#![forbid(unsafe_code)]

mod block;
mod context;
mod io;
mod job;
mod memory;
mod outcome;
mod pid;

pub use block::{Wake, wait_for};
pub use context::{Ctx, KernelCtx, Resource};
pub use io::{Dst, Iovec, Src};
pub use job::{GroupSignaller, JobControl, SessionId, Terminal};
pub use memory::{NoMemory, UserMemory, UserMemoryExt};
pub use outcome::{Restart, SysErr, SysResult};
pub use pid::{Pid, PidSpace};
