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

/// File systems whose files are the host's kernel itself: proc, sysfs, both cgroups, debugfs,
/// tracefs, securityfs, bpf, configfs, efivarfs, pstore, binfmt_misc, selinuxfs, smackfs, fusectl,
/// resctrl. A tree of the host's own may hold them (`do` on `/`), and the container has its own in
/// their places; a sentry that was broken into must not read the host's through its gofer.
pub const KERNELS: [i64; 16] = [
    0x9fa0,
    0x6265_6572,
    0x0027_e0eb,
    0x6367_7270,
    0x6462_6720,
    0x7472_6163,
    0x7363_6673,
    0xcafe_4a11,
    0x6265_6570,
    0xde5e_81e4,
    0x6165_676c,
    0x4249_4e4d,
    0xf97c_ff8c,
    0x4341_5d53,
    0x6573_5543,
    0x0765_5821,
];

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
    /// Whether config.json names it not, but the host has it mounted below what a recursive bind
    /// mount shows: then it is not served where it is one of [`KERNELS`].
    pub below: bool,
    /// Refuse everything that would change the tree.
    pub readonly: bool,
    /// For log lines: where the tree comes from.
    pub name: String,
}
