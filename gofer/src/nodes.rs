//! The numbers of a tree's files.
//!
//! A node is a place (parent and name) and an identity (device, inode, birth). Its `O_PATH`
//! descriptor is opened when it is needed and closed when many are open: it can be opened again
//! by its place, and the identity says whether it is still that file. A file whose name was
//! removed keeps its descriptor instead of a place.

use crate::sys;
use control::fs::{Attr, NodeId, ROOT, Time};
use control::gofer::KERNELS;
use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
use nix::sys::statfs::{Statfs, fstatfs};
use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

/// Deepest place.
const MAX_DEPTH: usize = 4096;
/// What makes a file that file, even after its inode number was used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Identity {
    dev: u64,
    ino: u64,
    kind: u32,
    btime: Option<Time>,
}

impl Identity {
    fn of(attr: &Attr) -> Identity {
        let kind = attr.mode & libc::S_IFMT;
        Identity {
            dev: attr.dev,
            ino: attr.ino,
            kind,
            btime: attr.btime,
        }
    }
}

/// How much of what one tree may use.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Room {
    /// About how many descriptors for files that have a place.
    pub(crate) descriptors: usize,
    /// Nodes.
    pub(crate) nodes: usize,
}

struct Node {
    /// `None` for the root, and for what has no name any more.
    place: Option<(NodeId, OsString)>,
    identity: Identity,
    fd: Option<Arc<OwnedFd>>,
    /// The descriptor is all there is.
    pinned: bool,
    /// Root of a file system that is an interface to the host's kernel: nothing but its attributes
    /// is to be had.
    sealed: bool,
    /// Nodes that have this one as their parent.
    children: usize,
    forgotten: bool,
    /// When the descriptor was last asked for.
    used: u64,
}

/// All nodes of one tree.
pub(crate) struct Nodes {
    map: HashMap<NodeId, Node>,
    next: NodeId,
    clock: u64,
    open: usize,
    room: Room,
}

/// Opens a single component as it is, symbolic links included.
pub(crate) fn open_path(dir: BorrowedFd<'_>, name: &OsStr) -> Result<OwnedFd, Errno> {
    open_beneath(dir, name, OFlag::O_PATH | OFlag::O_NOFOLLOW)
}

/// Opens a single component in `dir`, never following or leaving.
pub(crate) fn open_beneath(
    dir: BorrowedFd<'_>,
    name: &OsStr,
    flags: OFlag,
) -> Result<OwnedFd, Errno> {
    let how = OpenHow::new()
        .flags(flags | OFlag::O_CLOEXEC)
        .resolve(policy());
    openat2(dir, name, how)
}

/// What every look-up of a name obeys.
pub(crate) fn policy() -> ResolveFlag {
    ResolveFlag::RESOLVE_BENEATH
        | ResolveFlag::RESOLVE_NO_SYMLINKS
        | ResolveFlag::RESOLVE_NO_MAGICLINKS
}

/// Whether the host's kernel is talked to there. One that cannot be looked at is not entered.
fn is_kernel(found: Result<Statfs, Errno>) -> bool {
    found.map_or(true, |s| KERNELS.contains(&s.filesystem_type().0))
}

impl Nodes {
    /// With `root`, which config.json names, or which the host has mounted `below` such a one.
    pub(crate) fn new(root: OwnedFd, below: bool, room: Room) -> Result<Nodes, Errno> {
        let attr = sys::statx(root.as_fd(), c"")?;
        let sealed = below && is_kernel(fstatfs(&root));
        let root = Node {
            place: None,
            identity: Identity::of(&attr),
            fd: Some(Arc::new(root)),
            pinned: true,
            sealed,
            children: 0,
            forgotten: false,
            used: 0,
        };
        let map = HashMap::from([(ROOT, root)]);
        Ok(Nodes {
            map,
            next: ROOT + 1,
            clock: 0,
            open: 0,
            room: Room {
                descriptors: room.descriptors.max(16),
                ..room
            },
        })
    }

    /// `S_IFMT` bits of a node.
    pub(crate) fn kind(&self, id: NodeId) -> Result<u32, Errno> {
        Ok(self.map.get(&id).ok_or(Errno::EBADF)?.identity.kind)
    }

    /// Numbers the file that was found at `name` in `parent`, with its descriptor if it is open.
    pub(crate) fn insert(
        &mut self,
        parent: NodeId,
        name: &OsStr,
        attr: &Attr,
        fd: Option<Arc<OwnedFd>>,
    ) -> Result<NodeId, Errno> {
        self.check_room()?;
        let sealed = self.is_seal(parent, name, attr, fd.as_deref())?;
        let place = Some((parent, name.to_owned()));
        self.map.get_mut(&parent).ok_or(Errno::EBADF)?.children += 1;
        if fd.is_some() {
            self.open += 1;
            self.shed();
        }
        let id = self.add(place, attr, fd, false);
        if let Some(node) = self.map.get_mut(&id).filter(|_| sealed) {
            node.sealed = true;
        }
        Ok(id)
    }

    /// Whether a mount begins at `name` behind which the host's kernel is talked to. Not looked at
    /// but where the device changes.
    fn is_seal(
        &mut self,
        parent: NodeId,
        name: &OsStr,
        attr: &Attr,
        fd: Option<&OwnedFd>,
    ) -> Result<bool, Errno> {
        let above = self.map.get(&parent).ok_or(Errno::EBADF)?.identity.dev;
        if above == attr.dev || attr.mode & libc::S_IFMT != libc::S_IFDIR {
            return Ok(false);
        }
        let found = match fd {
            Some(fd) => fstatfs(fd),
            None => open_path(self.fd(parent)?.as_fd(), name).and_then(fstatfs),
        };
        Ok(is_kernel(found))
    }

    /// Numbers a file without a name.
    pub(crate) fn insert_unnamed(&mut self, attr: &Attr, fd: OwnedFd) -> Result<NodeId, Errno> {
        self.check_room()?;
        Ok(self.add(None, attr, Some(Arc::new(fd)), true))
    }

    fn check_room(&self) -> Result<(), Errno> {
        if self.map.len() >= self.room.nodes {
            Err(Errno::ENOMEM)
        } else {
            Ok(())
        }
    }

    fn add(
        &mut self,
        place: Option<(NodeId, OsString)>,
        attr: &Attr,
        fd: Option<Arc<OwnedFd>>,
        pinned: bool,
    ) -> NodeId {
        let id = self.next;
        self.next += 1;
        self.clock += 1;
        let identity = Identity::of(attr);
        let node = Node {
            place,
            identity,
            fd,
            pinned,
            sealed: false,
            children: 0,
            forgotten: false,
            used: self.clock,
        };
        self.map.insert(id, node);
        id
    }

    /// The `O_PATH` descriptor of a node; `ESTALE` when its name leads elsewhere now, `EACCES` when
    /// it is sealed.
    pub(crate) fn fd(&mut self, id: NodeId) -> Result<Arc<OwnedFd>, Errno> {
        match self.map.get(&id).ok_or(Errno::EBADF)?.sealed {
            true => Err(Errno::EACCES),
            false => self.fd_to_look_at(id),
        }
    }

    /// As [`Nodes::fd`], also of what is sealed.
    pub(crate) fn fd_to_look_at(&mut self, id: NodeId) -> Result<Arc<OwnedFd>, Errno> {
        // Up to something open, then down again.
        let mut chain = Vec::new();
        let mut at = id;
        let mut fd = loop {
            self.clock += 1;
            let node = self.map.get_mut(&at).ok_or(Errno::EBADF)?;
            node.used = self.clock;
            if let Some(fd) = &node.fd {
                break fd.clone();
            }
            let Some((parent, _)) = &node.place else {
                return Err(Errno::ESTALE);
            };
            chain.push(at);
            if chain.len() > MAX_DEPTH {
                return Err(Errno::ELOOP);
            }
            at = *parent;
        };
        for id in chain.into_iter().rev() {
            let node = self.map.get_mut(&id).ok_or(Errno::EBADF)?;
            let Some((_, name)) = &node.place else {
                return Err(Errno::ESTALE);
            };
            let opened = open_path(fd.as_fd(), name).map_err(|e| match e {
                Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP | Errno::EXDEV => Errno::ESTALE,
                other => other,
            })?;
            if Identity::of(&sys::statx(opened.as_fd(), c"")?) != node.identity {
                return Err(Errno::ESTALE);
            }
            fd = Arc::new(opened);
            node.fd = Some(fd.clone());
            self.open += 1;
        }
        self.shed();
        Ok(fd)
    }

    /// Closes the half of the descriptors that was not used for longest, when there are many.
    fn shed(&mut self) {
        if self.open <= self.room.descriptors {
            return;
        }
        let closable = |n: &Node| n.fd.is_some() && !n.pinned;
        let mut ages: Vec<u64> = self
            .map
            .values()
            .filter(|n| closable(n))
            .map(|n| n.used)
            .collect();
        ages.sort_unstable();
        let limit = ages.get(ages.len() / 2).copied().unwrap_or(0);
        for node in self
            .map
            .values_mut()
            .filter(|n| closable(n) && n.used < limit)
        {
            node.fd = None;
        }
        self.open = self.map.values().filter(|n| closable(n)).count();
    }

    /// The name of `id` is gone, or leads to something else: from now on there is only its
    /// descriptor, opened by the caller before that ([`Nodes::fd`]).
    pub(crate) fn detach(&mut self, id: NodeId, fd: Arc<OwnedFd>) {
        let Some(node) = self.map.get_mut(&id) else {
            return;
        };
        if id == ROOT || node.pinned {
            return;
        }
        if node.fd.replace(fd).is_some() {
            self.open = self.open.saturating_sub(1);
        }
        node.pinned = true;
        if let Some((parent, _)) = node.place.take() {
            self.release(parent);
        }
    }

    /// `id` has another place now. Of unknown numbers nothing is noted.
    pub(crate) fn moved(&mut self, id: NodeId, parent: NodeId, name: &OsStr) {
        let known = id != ROOT && self.map.contains_key(&id);
        let Some(new) = self.map.get_mut(&parent).filter(|_| known) else {
            return;
        };
        new.children += 1;
        let Some(node) = self.map.get_mut(&id) else {
            return;
        };
        if node.pinned {
            node.pinned = false;
            self.open += 1;
        }
        let old = node.place.replace((parent, name.to_owned()));
        if let Some((old, _)) = old {
            self.release(old);
        }
    }

    /// Takes a number back. It stays in use while others lie below it.
    pub(crate) fn forget(&mut self, id: NodeId) {
        if id == ROOT {
            return;
        }
        if let Some(node) = self.map.get_mut(&id) {
            node.forgotten = true;
            self.reap(id);
        }
    }

    fn release(&mut self, parent: NodeId) {
        if let Some(node) = self.map.get_mut(&parent) {
            node.children = node.children.saturating_sub(1);
            self.reap(parent);
        }
    }

    /// Removes a node that nobody needs, and what it alone kept above it.
    fn reap(&mut self, mut id: NodeId) {
        while let Some(node) = self.map.get(&id) {
            if !node.forgotten || node.children > 0 {
                return;
            }
            let Some(node) = self.map.remove(&id) else {
                return;
            };
            if node.fd.is_some() && !node.pinned {
                self.open = self.open.saturating_sub(1);
            }
            let Some((parent, _)) = node.place else {
                return;
            };
            if let Some(above) = self.map.get_mut(&parent) {
                above.children = above.children.saturating_sub(1);
            }
            id = parent;
        }
    }
}
