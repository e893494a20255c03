//! Files as a task sees them: the operations of `vfs` over a tmpfs.

mod common;
mod content;
mod epoll;
mod locks;
mod mounts;
mod names;
mod opening;
mod permissions;
mod pipes;
mod table;
mod walking;
