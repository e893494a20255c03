//! Files of the host, through a gofer.
//!
//! [`connect`] gives the root of the tree that a connection serves. Walking, making and removing
//! names asks the gofer; open files are read, written and mapped through donated descriptors
//! without it. One node stands for each host inode, whatever its names, so that
//! locks, FIFOs and mappings are shared as they should be.
//!
//! An *exclusive* tree changes through us alone: attributes and names are kept, and a directory
//! that is looked into more than a few times is listed once, with all attributes. Any other tree
//! is asked again at each walk.
//!
//! Special files are the sandbox's own: a FIFO is a [`vfs::Fifo`] of the node, a device node
//! leads to the sandbox's [`vfs::DeviceRegistry`], a socket is what was bound inside. The host's
//! are never opened. Device nodes cannot be made (`EPERM`, as without `CAP_MKNOD`).
//!
//! Neighbours: [`control::fs`] is the protocol, `gofer` the other end.
#![forbid(unsafe_code)]

mod client;
mod convert;
mod descriptors;
mod directory;
mod file;
mod fs;
mod inode;
mod listing;
mod mapped;
mod node;

pub use fs::{Options, connect};

#[cfg(test)]
mod tests;
