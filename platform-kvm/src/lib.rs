//! The KVM platform: guest code runs on virtual CPUs, in user mode, and every system call, fault
//! and exception of its is an exit to this process.
//!
//! - One **VM** a sandbox. Its physical memory is the backing files, in chunks that are mapped
//!   into this process while something maps them (`memory`), and the **arena**, which holds page
//!   tables and what the CPU itself reads (`arena`).
//! - A **space** (`space`) is a tree of page tables (`tables`).
//! - A **context** (`context`) borrows a virtual CPU (`vcpu`, `pool`) and keeps it until another
//!   context needs one and all are taken.
//! - The guest's kernel half holds the **entry page** (`entry`), which guest code can read and
//!   run but not write, and the arena, which it can't reach. Code of ours that runs in the guest
//!   is a few port writes, each an exit, and one loop that makes a host without nested paging
//!   notice changed page tables.
//!
//! Two kinds of hosts. With nested paging the CPU walks our page tables, and what is left to do
//! after a change is to flush its translations. Without it (old CPUs, software nesting) the host
//! keeps copies of page tables and notices only writes made *by the guest*: so a table from which
//! something was taken is touched by guest code of ours before other guest code runs on it. Both
//! are done in one pass, by `Core::settle`, whatever the host.

#[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
compile_error!("the KVM platform is for x86-64 Linux");

mod admit;
mod arena;
mod context;
mod cpu;
mod engine;
mod entry;
mod error;
mod exits;
mod handle;
mod layout;
mod leaf;
mod memory;
mod platform;
mod pool;
mod probe;
mod rules;
mod space;
mod sys;
mod tables;
mod vcpu;

pub use platform::Kvm;

#[cfg(feature = "testing")]
pub mod testing;
