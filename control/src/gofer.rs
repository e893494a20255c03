//! What a gofer process needs to begin its work: one frame on its first descriptor.

use crate::boot::FdIndex;
use serde::{Deserialize, Serialize};

/// The trees of one container, sent with their descriptors.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct GoferArgs {
    /// For log lines.
    pub container: String,
    /// What to serve, one connection each; the root file system first.
    pub trees: Vec<Tree>,
    /// BPF of the filter to install before the first request (empty: the gofer's own), as
    /// `struct sock_filter` bytes.
    pub seccomp: Vec<u8>,
    /// File to log to.
    pub log: Option<FdIndex>,
    /// Where a build that counts what runs writes its counts.
    pub coverage: Option<FdIndex>,
    /// Whether to log each request.
    pub debug: bool,
    /// Whether the gofer has other users' privileges over the trees (root or subordinate ids),
    /// or just the caller's.
    pub privileged: bool,
}

/// One tree.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Tree {
    /// An `O_PATH` descriptor of the tree's root: a directory, or a single file. It stands on a
    /// detached mount of its own (`open_tree`), so that `..` of the root is the root.
    pub root: FdIndex,
    /// The gofer's end of the connection that serves it ([`crate::Channel`]).
    pub connection: FdIndex,
    /// Whether `root` is a directory.
    pub directory: bool,
    /// Refuse everything that would change the tree.
    pub readonly: bool,
    /// For log lines: where the tree comes from.
    pub name: String,
}
