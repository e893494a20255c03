//! sysfs (sysfs(5)) and the view of its control group that a container has, as far as libc,
//! runtimes and ordinary tools read them.
//!
//! Both are trees that stand still: directories and links made once, and files whose text is made
//! when they are read (`tree`). What a machine without devices shows is in `machine`, the control
//! group in `cgroup`. Nothing here can be written.
#![forbid(unsafe_code)]

mod cgroup;
mod machine;
mod tree;

pub use cgroup::{Group, Limits};
pub use machine::Machine;
