//! tmpfs: files in the sandbox's own memory.
//!
//! [`Tmpfs`] is a mounted instance with its limits, a node (`node`) one file of it: inode, open
//! file and mappable in one object, so that opening a file allocates nothing. What a regular file
//! holds is in `data`: frames in chunks, and which pages of them count. [`Memfds`] makes files
//! without a name (memfd_create(2)).
//!
//! Used for /tmp, /dev, /dev/shm and as the upper layer of an overlay.
//!
//! Lock order: a directory's or file's content (`ranks::Inode`) -> its attributes (`ranks::Leaf`).
//! Guest memory is never touched under either: it may be a mapping of the same file.
#![forbid(unsafe_code)]

mod data;
mod directory;
mod file;
mod fs;
mod inode;
mod memfd;
mod node;
mod options;
mod ranges;

pub use fs::Tmpfs;
pub use memfd::{MemfdFlags, Memfds};
pub use options::Options;
