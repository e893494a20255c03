//! The system calls: one table, one file a family.
//!
//! A handler decodes and checks its arguments in Linux's order and calls one operation of the
//! crate that owns the matter; what it gets back is trusted. [`CALLS`] is what boot hands to the
//! kernel. [`Services`] holds what calls need beyond the kernel: where memfds live, the names of
//! Unix sockets, which file systems mount(2) knows.
//!
//! Neighbours: `task` dispatches; `vfs`, `mm`, `net`, `futex` and `time` do the work; `strace`
//! and the compat table read [`table`].
#![forbid(unsafe_code)]

mod services;
pub mod table;
mod user;

mod aio;
mod dirs;
mod fcntl;
mod file_attr;
mod file_copy;
mod file_fd;
mod file_io;
mod file_names;
mod file_open;
mod file_stat;
mod file_times;
mod file_xattr;
mod fs_context;
mod fs_params;
mod fs_setup;
mod handles;
mod mount;
mod mount_stat;
mod mount_trees;

mod epoll;
mod event_fds;
mod inotify;
mod messages;
mod poll;
mod sockets;

mod memory;
mod mqueues;
mod supervise;
mod sysv_msg;
mod sysv_sem;
mod sysv_shm;

mod barriers;
mod caps;
mod compare;
mod confine;
mod control;
mod creds;
mod ids;
mod limits;
mod namespaces;
mod pidfds;
mod process;
mod process_vm;
mod ptrace;
mod ptrace_sets;
mod sched;
mod wait;

mod clocks;
mod futexes;
mod futexes_two;
mod signals;
mod timers;

mod info;
mod refused;

pub use fs_params::{Parameter, ParameterKind, parameter};
pub use services::{FileSystemType, MountArgs, MountMaker, Services};
pub use task::Handler;

/// The calls, as the kernel takes them.
pub static CALLS: task::CallTable = task::CallTable {
    handlers: &table::HANDLERS,
    name: |nr| usize::try_from(nr).map_or("?", table::name),
};
