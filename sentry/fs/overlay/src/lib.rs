//! A throw-away layer of files over others, and the overlays that guests mount ([`Stack`]).
//!
//! [`mount`] unites a *lower* tree, which is never changed, with an *upper* one, which takes all
//! changes: a file is copied up when it is first opened for writing or its attributes change. A
//! removed name leaves a whiteout in the upper tree (a character device 0:0), a directory that
//! hides the lower one of its name is marked by an extended attribute, both as in Linux's
//! overlayfs. A directory that exists below cannot be renamed (`EXDEV`, as there without
//! redirections); programs copy it then.
//!
//! Better than there: a file open for reading sees what is written after it was copied up; the
//! names of one lower file stay names of one file; inode numbers never change.
//!
//! Neighbours: both trees are any [`vfs::Inode`]; in practice `fs/gofer` below and `fs/tmpfs`
//! above.
#![forbid(unsafe_code)]

mod copy_up;
mod file;
mod fs;
mod inode;
mod listing;
mod names;
mod node;
mod rename;
mod stack;

pub use fs::mount;
pub use stack::Stack;
