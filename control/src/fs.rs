//! The file protocol between a sentry and its gofer.
//!
//! One [`Call`] frame, one [`Reply`] frame, one at a time on a connection; a connection serves one
//! tree. Files are named by the numbers the gofer gave them ([`NodeId`]); names are single
//! components. What is opened travels as a descriptor beside the reply, and from then on reads,
//! writes and mappings need no gofer.

use serde::{Deserialize, Serialize};

/// A file of the tree, as numbered by the gofer. Each [`Entry`] carries a fresh number, even for a
/// file that has one; it is valid until forgotten.
pub type NodeId = u64;

/// The tree's root: a directory, or the one file of the tree. Never forgotten.
pub const ROOT: NodeId = 1;

/// Most bytes of a name.
pub const MAX_NAME: usize = 255;
/// Most bytes of a symbolic link's target.
pub const MAX_TARGET: usize = 4095;
/// Most bytes of an extended attribute's value.
pub const MAX_XATTR: usize = 64 << 10;

/// A request, with the numbers that are not needed any more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Call {
    /// Forgotten before the request is looked at. Unknown ones are ignored.
    pub forget: Vec<NodeId>,
    /// What is asked.
    pub request: Request,
}

/// What can be asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
#[expect(
    missing_docs,
    reason = "the fields are named as in the Linux call of that name"
)]
pub enum Request {
    /// Finds a name: [`Reply::Entry`]. With `open`, a regular file is opened for reading at once.
    Lookup {
        dir: NodeId,
        name: Vec<u8>,
        open: bool,
    },
    /// [`Reply::Attr`]
    Stat { node: NodeId },
    /// Lists a directory from a cookie on (0 is the start): [`Reply::Entries`]. With `nodes`,
    /// each entry comes with attributes and a number.
    ReadDir { dir: NodeId, from: u64, nodes: bool },
    /// Opens a regular file, for reading and, if asked, writing: [`Reply::Opened`].
    Open { node: NodeId, access: Access },
    /// Makes a regular file that is not there and opens it read-write: [`Reply::Entry`].
    Create {
        dir: NodeId,
        name: Vec<u8>,
        owner: Owner,
    },
    /// A regular file without a name, opened read-write: [`Reply::Entry`].
    Tmpfile { dir: NodeId, owner: Owner },
    /// [`Reply::Entry`]
    Mkdir {
        dir: NodeId,
        name: Vec<u8>,
        owner: Owner,
    },
    /// [`Reply::Entry`]
    Symlink {
        dir: NodeId,
        name: Vec<u8>,
        target: Vec<u8>,
        owner: Owner,
    },
    /// A FIFO or a socket's name: [`Reply::Entry`].
    Mknod {
        dir: NodeId,
        name: Vec<u8>,
        special: Special,
        owner: Owner,
    },
    /// [`Reply::Entry`]
    Link {
        dir: NodeId,
        name: Vec<u8>,
        node: NodeId,
    },
    /// Removes a name. `node` is what the name leads to, if it has a number: it stays usable.
    /// [`Reply::Changed`]
    Unlink {
        dir: NodeId,
        name: Vec<u8>,
        node: Option<NodeId>,
        directory: bool,
    },
    /// `moved` and `replaced` are what the names lead to, where that has a number.
    /// [`Reply::Changed`]
    Rename {
        dir: NodeId,
        name: Vec<u8>,
        moved: Option<NodeId>,
        new_dir: NodeId,
        new_name: Vec<u8>,
        replaced: Option<NodeId>,
        flags: u32,
    },
    /// [`Reply::Attr`]
    SetAttr { node: NodeId, set: SetAttr },
    /// [`Reply::Bytes`]
    ReadLink { node: NodeId },
    /// [`Reply::Statfs`]
    StatFs { node: NodeId },
    /// fsync(2) of a directory, which is never donated: [`Reply::Done`].
    Sync { node: NodeId },
    /// [`Reply::Bytes`]
    GetXattr { node: NodeId, name: Vec<u8> },
    /// [`Reply::Done`]
    SetXattr {
        node: NodeId,
        name: Vec<u8>,
        value: Vec<u8>,
        flags: i32,
    },
    /// [`Reply::Done`]
    RemoveXattr { node: NodeId, name: Vec<u8> },
    /// [`Reply::Names`]
    ListXattr { node: NodeId },
}

/// How a file is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Access {
    /// `O_RDONLY`
    Read,
    /// `O_RDWR`; `O_WRONLY` where the file cannot be read.
    ReadWrite,
    /// `O_WRONLY | O_APPEND`
    Append,
}

/// Special files that may be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Special {
    Fifo,
    Socket,
}

/// What a new file starts with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// Permission bits, final.
    pub perm: u32,
    /// Owner, as the container numbers it.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

/// A change of attributes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "named as in inode(7)")]
pub struct SetAttr {
    pub perm: Option<u32>,
    pub uid: Option<u32>,
    pub gid: Option<u32>,
    pub size: Option<u64>,
    pub atime: Option<Time>,
    pub mtime: Option<Time>,
}

/// A point in time since the epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Time {
    /// Seconds.
    pub sec: i64,
    /// Nanoseconds below a second.
    pub nsec: u32,
}

/// Attributes, as statx(2) has them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "named as in statx(2)")]
pub struct Attr {
    pub dev: u64,
    pub ino: u64,
    /// With the type bits.
    pub mode: u32,
    pub nlink: u64,
    pub uid: u32,
    pub gid: u32,
    pub rdev: u64,
    pub size: u64,
    pub blksize: u32,
    pub blocks: u64,
    pub atime: Time,
    pub mtime: Time,
    pub ctime: Time,
    pub btime: Option<Time>,
}

/// A file and its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Fresh.
    pub node: NodeId,
    /// Now.
    pub attr: Attr,
}

/// An entry of a directory; `.` and `..` are left out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DirEntry {
    /// Its name.
    pub name: Vec<u8>,
    /// Inode number.
    pub ino: u64,
    /// `d_type`
    pub kind: u8,
    /// Where asked for, and still there.
    pub entry: Option<Entry>,
}

/// What came with a donated descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Opened {
    /// The host lets it be mapped for execution.
    pub executable: bool,
    /// It can be read (false for a write-only fall-back of [`Access::ReadWrite`]).
    pub readable: bool,
}

/// File system statistics (statfs(2)).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "named as in statfs(2)")]
pub struct Statfs {
    pub kind: i64,
    pub bsize: i64,
    pub blocks: u64,
    pub bfree: u64,
    pub bavail: u64,
    pub files: u64,
    pub ffree: u64,
    pub namelen: i64,
    pub frsize: i64,
}

/// Answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Reply {
    /// A file that was found or made.
    Entry {
        /// It.
        entry: Entry,
        /// The directory after the change; `None` when nothing was changed.
        dir: Option<Attr>,
        /// Present when a descriptor comes with it.
        opened: Option<Opened>,
    },
    /// To `Stat` and `SetAttr`.
    Attr(Attr),
    /// To `Unlink` and `Rename`: the directories afterwards.
    Changed {
        /// Of the (old) name.
        dir: Attr,
        /// Of the new name, where that is another.
        new_dir: Option<Attr>,
    },
    /// To `ReadDir`.
    Entries {
        /// In the host's order.
        list: Vec<DirEntry>,
        /// The cookie to go on from; `None` at the end.
        next: Option<u64>,
    },
    /// A descriptor comes with it.
    Opened(Opened),
    /// To `ReadLink` and `GetXattr`.
    Bytes(Vec<u8>),
    /// To `ListXattr`.
    Names(Vec<Vec<u8>>),
    /// To `StatFs`.
    Statfs(Statfs),
    /// Nothing to say.
    Done,
    /// Linux's error number.
    Failed(i32),
}
