//! The requests on one tree.

use crate::magic::Magic;
use crate::nodes::{Nodes, Room, open_beneath, open_path, policy};
use crate::{names, sys, xattr};
use control::fs::{
    Access, Attr, DirEntry, Entry, NodeId, Opened, Owner, Reply, Request, SetAttr, Special, Statfs,
};
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag, OpenHow, RenameFlags, openat2, readlinkat, renameat2};
use nix::sys::stat::{
    FchmodatFlags, Mode, SFlag, UtimensatFlags, fchmodat, mkdirat, mknodat, utimensat,
};
use nix::sys::statvfs::{FsFlags, fstatvfs};
use nix::sys::time::TimeSpec;
use nix::unistd::{
    Gid, Uid, UnlinkatFlags, Whence, fchownat, fsync, ftruncate, linkat, lseek, symlinkat, unlinkat,
};
use std::ffi::{CString, OsStr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::sync::Arc;

/// How much of a directory is asked of the host at once, in bytes of its entries.
const LISTING: usize = 32 << 10;
/// A reply with so many entries is full.
const LISTED: usize = 512;

/// One tree.
pub(crate) struct Tree {
    nodes: Nodes,
    magic: Arc<Magic>,
    readonly: bool,
    buf: Vec<u8>,
}

/// An answer, perhaps with a descriptor.
type Answer = Result<(Reply, Option<OwnedFd>), Errno>;

fn plain(reply: Reply) -> Answer {
    Ok((reply, None))
}

impl Tree {
    pub(crate) fn new(
        root: OwnedFd,
        below: bool,
        readonly: bool,
        room: Room,
        magic: Arc<Magic>,
    ) -> Result<Tree, Errno> {
        Ok(Tree {
            nodes: Nodes::new(root, below, room)?,
            magic,
            readonly,
            buf: vec![0; LISTING],
        })
    }

    /// The sentry does not need these any more.
    pub(crate) fn forget(&mut self, nodes: &[NodeId]) {
        for &node in nodes {
            self.nodes.forget(node);
        }
    }

    /// Serves one request.
    pub(crate) fn serve(&mut self, request: Request) -> Answer {
        if self.readonly && changes(&request) {
            return Err(Errno::EROFS);
        }
        match request {
            Request::Lookup { dir, name, open } => self.lookup(dir, &name, open),
            Request::Stat { node } => plain(Reply::Attr(self.attr(node)?)),
            Request::ReadDir { dir, from, nodes } => plain(self.read_dir(dir, from, nodes)?),
            Request::Open { node, access } => {
                let (opened, fd) = self.open(node, access)?;
                Ok((Reply::Opened(opened), Some(fd)))
            }
            Request::Create { dir, name, owner } => self.create(dir, &name, owner),
            Request::Tmpfile { dir, owner } => self.tmpfile(dir, owner),
            Request::Mkdir { dir, name, owner } => self.make(dir, &name, owner, true, |d, n| {
                mkdirat(d, n, permissions(owner.perm))
            }),
            Request::Symlink {
                dir,
                name,
                target,
                owner,
            } => {
                let target = names::target(&target)?;
                self.make(dir, &name, owner, false, |d, n| symlinkat(target, d, n))
            }
            Request::Mknod {
                dir,
                name,
                special,
                owner,
            } => {
                let kind = match special {
                    Special::Fifo => SFlag::S_IFIFO,
                    Special::Socket => SFlag::S_IFSOCK,
                };
                self.make(dir, &name, owner, true, |d, n| {
                    mknodat(d, n, kind, permissions(owner.perm), 0)
                })
            }
            Request::Link { dir, name, node } => self.link(dir, &name, node),
            Request::Unlink {
                dir,
                name,
                node,
                directory,
            } => self.unlink(dir, &name, node, directory),
            Request::Rename {
                dir,
                name,
                moved,
                new_dir,
                new_name,
                replaced,
                flags,
            } => self.rename((dir, &name, moved), (new_dir, &new_name, replaced), flags),
            Request::SetAttr { node, set } => plain(Reply::Attr(self.set_attr(node, &set)?)),
            Request::ReadLink { node } => {
                let fd = self.nodes.fd(node)?;
                plain(Reply::Bytes(readlinkat(&*fd, "")?.into_vec()))
            }
            Request::StatFs { node } => plain(Reply::Statfs(statfs(self.nodes.fd(node)?.as_fd())?)),
            Request::Sync { node } => {
                let fd = self.nodes.fd(node)?;
                fsync(open_beneath(fd.as_fd(), OsStr::new("."), OFlag::O_RDONLY)?)?;
                plain(Reply::Done)
            }
            Request::GetXattr { node, name } => {
                let name = xattr::readable(&name)?;
                plain(Reply::Bytes(sys::getxattr(&self.path(node)?, &name)?))
            }
            Request::SetXattr {
                node,
                name,
                value,
                flags,
            } => {
                let name = xattr::writable(&name)?;
                if value.len() > control::fs::MAX_XATTR {
                    return Err(Errno::E2BIG);
                }
                sys::setxattr(&self.path(node)?, &name, &value, flags)?;
                plain(Reply::Done)
            }
            Request::RemoveXattr { node, name } => {
                let name = xattr::writable(&name)?;
                sys::removexattr(&self.path(node)?, &name)?;
                plain(Reply::Done)
            }
            Request::ListXattr { node } => plain(Reply::Names(xattr::visible(&sys::listxattr(
                &self.path(node)?,
            )?))),
            _ => Err(Errno::ENOSYS),
        }
    }

    fn attr(&mut self, node: NodeId) -> Result<Attr, Errno> {
        sys::statx(self.nodes.fd_to_look_at(node)?.as_fd(), c"")
    }

    /// The magic path of a node, good until its descriptor is closed.
    fn path(&mut self, node: NodeId) -> Result<CString, Errno> {
        // The table keeps it open: nothing is shed before the next look-up.
        let fd = self.nodes.fd(node)?;
        Ok(self.magic.path(fd.as_fd()))
    }

    fn dir(&mut self, node: NodeId) -> Result<Arc<OwnedFd>, Errno> {
        match self.nodes.kind(node)? {
            libc::S_IFDIR => self.nodes.fd(node),
            _ => Err(Errno::ENOTDIR),
        }
    }

    fn lookup(&mut self, dir: NodeId, name: &[u8], open: bool) -> Answer {
        let name = names::component(name)?;
        let parent = self.dir(dir)?;
        let found = open_path(parent.as_fd(), name)?;
        let attr = sys::statx(found.as_fd(), c"")?;
        let node = self.nodes.insert(dir, name, &attr, Some(Arc::new(found)))?;
        let entry = Entry { node, attr };
        let mut opened = None;
        let mut donated = None;
        if open && attr.mode & libc::S_IFMT == libc::S_IFREG {
            // Reading may be forbidden, or the descriptors spent: the name was found all the same.
            if let Ok((about, fd)) = self.open(node, Access::Read) {
                opened = Some(about);
                donated = Some(fd);
            }
        }
        Ok((
            Reply::Entry {
                entry,
                dir: None,
                opened,
            },
            donated,
        ))
    }

    fn read_dir(&mut self, dir: NodeId, from: u64, nodes: bool) -> Result<Reply, Errno> {
        let parent = self.dir(dir)?;
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY;
        let listing = open_beneath(parent.as_fd(), OsStr::new("."), flags)?;
        if from != 0 {
            let from = i64::try_from(from).map_err(|_| Errno::EINVAL)?;
            lseek(&listing, from, Whence::SeekSet)?;
        }
        let mut list = Vec::new();
        let mut next = Some(from);
        // The end is said with the last entries, not in a reply of its own.
        while next.is_some() && list.len() < LISTED {
            let found = sys::getdents(listing.as_fd(), &mut self.buf)?;
            next = found.last().map(|e| e.next);
            for e in found {
                if e.name == b"." || e.name == b".." {
                    continue;
                }
                let entry = if nodes {
                    self.entry(dir, &parent, &e.name)?
                } else {
                    None
                };
                list.push(DirEntry {
                    name: e.name,
                    ino: e.ino,
                    kind: e.kind,
                    entry,
                });
            }
        }
        Ok(Reply::Entries { list, next })
    }

    fn entry(
        &mut self,
        dir: NodeId,
        parent: &OwnedFd,
        name: &[u8],
    ) -> Result<Option<Entry>, Errno> {
        let c_name = CString::new(name).map_err(|_| Errno::EINVAL)?;
        let Ok(attr) = sys::statx(parent.as_fd(), &c_name) else {
            return Ok(None);
        };
        let node = self
            .nodes
            .insert(dir, OsStr::from_bytes(name), &attr, None)?;
        Ok(Some(Entry { node, attr }))
    }

    fn open(&mut self, node: NodeId, access: Access) -> Result<(Opened, OwnedFd), Errno> {
        match self.nodes.kind(node)? {
            libc::S_IFREG => {}
            libc::S_IFDIR => return Err(Errno::EISDIR),
            // FIFOs, sockets and devices of the host are not opened for anybody.
            _ => return Err(Errno::ENXIO),
        }
        let path_fd = self.nodes.fd(node)?;
        let reopen = |flags| self.magic.reopen(path_fd.as_fd(), flags);
        let mut readable = true;
        let fd = match access {
            Access::Read => reopen(OFlag::O_RDONLY)?,
            Access::ReadWrite => reopen(OFlag::O_RDWR).or_else(|e| match e {
                Errno::EACCES => {
                    readable = false;
                    reopen(OFlag::O_WRONLY)
                }
                e => Err(e),
            })?,
            Access::Append => {
                readable = false;
                reopen(OFlag::O_WRONLY | OFlag::O_APPEND)?
            }
        };
        Ok((
            Opened {
                executable: executable(&fd),
                readable,
            },
            fd,
        ))
    }

    fn create(&mut self, dir: NodeId, name: &[u8], owner: Owner) -> Answer {
        let name = names::component(name)?;
        let parent = self.dir(dir)?;
        let how = OpenHow::new()
            .flags(OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC)
            .mode(permissions(owner.perm & 0o777))
            .resolve(policy());
        let fd = openat2(&*parent, name, how)?;
        let attr = self.give(fd.as_fd(), owner, true).inspect_err(|_| {
            let _undone = unlinkat(&*parent, name, UnlinkatFlags::NoRemoveDir);
        })?;
        let node = self.nodes.insert(dir, name, &attr, None)?;
        let about = Opened {
            executable: executable(&fd),
            readable: true,
        };
        let dir = sys::statx(parent.as_fd(), c"")?;
        let entry = Entry { node, attr };
        Ok((
            Reply::Entry {
                entry,
                dir: Some(dir),
                opened: Some(about),
            },
            Some(fd),
        ))
    }

    fn tmpfile(&mut self, dir: NodeId, owner: Owner) -> Answer {
        let parent = self.dir(dir)?;
        let how = OpenHow::new()
            .flags(OFlag::O_RDWR | OFlag::O_TMPFILE | OFlag::O_CLOEXEC)
            .mode(permissions(owner.perm & 0o777))
            .resolve(policy());
        let fd = openat2(&*parent, ".", how)?;
        let attr = self.give(fd.as_fd(), owner, true)?;
        let node = self
            .nodes
            .insert_unnamed(&attr, fd.try_clone().map_err(io)?)?;
        let about = Opened {
            executable: executable(&fd),
            readable: true,
        };
        let entry = Entry { node, attr };
        Ok((
            Reply::Entry {
                entry,
                dir: None,
                opened: Some(about),
            },
            Some(fd),
        ))
    }

    /// Makes something that is not opened.
    fn make(
        &mut self,
        dir: NodeId,
        name: &[u8],
        owner: Owner,
        has_mode: bool,
        make: impl FnOnce(BorrowedFd<'_>, &OsStr) -> nix::Result<()>,
    ) -> Answer {
        let name = names::component(name)?;
        let parent = self.dir(dir)?;
        make(parent.as_fd(), name)?;
        let made = open_path(parent.as_fd(), name)?;
        let attr = self.give(made.as_fd(), owner, has_mode).inspect_err(|_| {
            let _undone = unlinkat(&*parent, name, UnlinkatFlags::NoRemoveDir)
                .or_else(|_| unlinkat(&*parent, name, UnlinkatFlags::RemoveDir));
        })?;
        let node = self.nodes.insert(dir, name, &attr, Some(Arc::new(made)))?;
        let dir = sys::statx(parent.as_fd(), c"")?;
        plain(Reply::Entry {
            entry: Entry { node, attr },
            dir: Some(dir),
            opened: None,
        })
    }

    /// Gives a new file its owner and mode, as far as it does not have them.
    fn give(&self, fd: BorrowedFd<'_>, owner: Owner, has_mode: bool) -> Result<Attr, Errno> {
        let mut attr = sys::statx(fd, c"")?;
        let mut changed = false;
        if (attr.uid, attr.gid) != (owner.uid, owner.gid) {
            let (uid, gid) = (Uid::from_raw(owner.uid), Gid::from_raw(owner.gid));
            fchownat(fd, "", Some(uid), Some(gid), AtFlags::AT_EMPTY_PATH).map_err(
                |e| match e {
                    // As Linux says it of a file whose owner the namespace cannot express.
                    Errno::EINVAL => Errno::EOVERFLOW,
                    e => e,
                },
            )?;
            changed = true;
        }
        // A change of owner takes set-id bits away, a default ACL and the host's umask others.
        let want = owner.perm & 0o7777;
        if has_mode && (attr.mode & 0o7777 != want || (changed && want & 0o6000 != 0)) {
            self.chmod(fd, want)?;
            changed = true;
        }
        if changed {
            attr = sys::statx(fd, c"")?;
        }
        Ok(attr)
    }

    fn chmod(&self, fd: BorrowedFd<'_>, perm: u32) -> Result<(), Errno> {
        let path = self.magic.path(fd);
        fchmodat(
            AT_FDCWD,
            path.as_c_str(),
            permissions(perm),
            FchmodatFlags::FollowSymlink,
        )
    }

    fn link(&mut self, dir: NodeId, name: &[u8], node: NodeId) -> Answer {
        let name = names::component(name)?;
        if self.nodes.kind(node)? == libc::S_IFDIR {
            return Err(Errno::EPERM);
        }
        let parent = self.dir(dir)?;
        let target = self.nodes.fd(node)?;
        let path = self.magic.path(target.as_fd());
        linkat(
            AT_FDCWD,
            path.as_c_str(),
            &*parent,
            name,
            AtFlags::AT_SYMLINK_FOLLOW,
        )?;
        let attr = sys::statx(target.as_fd(), c"")?;
        let node = self.nodes.insert(dir, name, &attr, None)?;
        let dir = sys::statx(parent.as_fd(), c"")?;
        plain(Reply::Entry {
            entry: Entry { node, attr },
            dir: Some(dir),
            opened: None,
        })
    }

    /// The descriptor that is all of `node` once its name is gone.
    fn last_hold(&mut self, node: Option<NodeId>) -> Option<(NodeId, Arc<OwnedFd>)> {
        let node = node?;
        // One that cannot be opened is stale already, and stays so.
        self.nodes.fd(node).ok().map(|fd| (node, fd))
    }

    fn unlink(
        &mut self,
        dir: NodeId,
        name: &[u8],
        node: Option<NodeId>,
        directory: bool,
    ) -> Answer {
        let name = names::component(name)?;
        let parent = self.dir(dir)?;
        let hold = self.last_hold(node);
        let how = if directory {
            UnlinkatFlags::RemoveDir
        } else {
            UnlinkatFlags::NoRemoveDir
        };
        unlinkat(&*parent, name, how)?;
        if let Some((node, fd)) = hold {
            self.nodes.detach(node, fd);
        }
        let dir = sys::statx(parent.as_fd(), c"")?;
        plain(Reply::Changed { dir, new_dir: None })
    }

    fn rename(
        &mut self,
        (dir, name, moved): (NodeId, &[u8], Option<NodeId>),
        (new_dir, new_name, replaced): (NodeId, &[u8], Option<NodeId>),
        flags: u32,
    ) -> Answer {
        let (name, new_name) = (names::component(name)?, names::component(new_name)?);
        let flags = RenameFlags::from_bits(flags).ok_or(Errno::EINVAL)?;
        if !(RenameFlags::RENAME_NOREPLACE | RenameFlags::RENAME_EXCHANGE).contains(flags) {
            return Err(Errno::EINVAL);
        }
        let (from, to) = (self.dir(dir)?, self.dir(new_dir)?);
        let exchange = flags.contains(RenameFlags::RENAME_EXCHANGE);
        // Two names of one file: nothing happens.
        let same = moved.is_some() && moved == replaced;
        let hold = if exchange || same {
            None
        } else {
            self.last_hold(replaced)
        };
        renameat2(&*from, name, &*to, new_name, flags)?;
        if let Some((node, fd)) = hold {
            self.nodes.detach(node, fd);
        }
        if !same {
            if let Some(node) = moved {
                self.nodes.moved(node, new_dir, new_name);
            }
            if let Some(node) = replaced.filter(|_| exchange) {
                self.nodes.moved(node, dir, name);
            }
        }
        let dir_attr = sys::statx(from.as_fd(), c"")?;
        let new_dir = match dir == new_dir {
            true => None,
            false => Some(sys::statx(to.as_fd(), c"")?),
        };
        plain(Reply::Changed {
            dir: dir_attr,
            new_dir,
        })
    }

    fn set_attr(&mut self, node: NodeId, set: &SetAttr) -> Result<Attr, Errno> {
        let kind = self.nodes.kind(node)?;
        let fd = self.nodes.fd(node)?;
        if let Some(size) = set.size {
            if kind != libc::S_IFREG {
                return Err(Errno::EINVAL);
            }
            let size = i64::try_from(size).map_err(|_| Errno::EFBIG)?;
            ftruncate(self.magic.reopen(fd.as_fd(), OFlag::O_WRONLY)?, size)?;
        }
        if set.uid.is_some() || set.gid.is_some() {
            let (uid, gid) = (set.uid.map(Uid::from_raw), set.gid.map(Gid::from_raw));
            fchownat(&*fd, "", uid, gid, AtFlags::AT_EMPTY_PATH)?;
        }
        if let Some(perm) = set.perm {
            if kind == libc::S_IFLNK {
                return Err(Errno::EOPNOTSUPP);
            }
            self.chmod(fd.as_fd(), perm)?;
        }
        if set.atime.is_some() || set.mtime.is_some() {
            let spec = |t: Option<control::fs::Time>| {
                t.map_or(TimeSpec::UTIME_OMIT, |t| {
                    TimeSpec::new(t.sec, t.nsec.into())
                })
            };
            let path = self.magic.path(fd.as_fd());
            let (atime, mtime) = (spec(set.atime), spec(set.mtime));
            let follow = UtimensatFlags::FollowSymlink;
            utimensat(AT_FDCWD, path.as_c_str(), &atime, &mtime, follow)?;
        }
        sys::statx(fd.as_fd(), c"")
    }
}

/// Whether a request would change the tree.
fn changes(request: &Request) -> bool {
    match request {
        Request::Open { access, .. } => *access != Access::Read,
        Request::Lookup { .. }
        | Request::Stat { .. }
        | Request::ReadDir { .. }
        | Request::ReadLink { .. }
        | Request::StatFs { .. }
        | Request::Sync { .. }
        | Request::GetXattr { .. }
        | Request::ListXattr { .. } => false,
        _ => true,
    }
}

fn permissions(perm: u32) -> Mode {
    Mode::from_bits_truncate(perm & 0o7777)
}

fn executable(fd: &OwnedFd) -> bool {
    fstatvfs(fd).is_ok_and(|s| !s.flags().contains(FsFlags::ST_NOEXEC))
}

fn statfs(fd: BorrowedFd<'_>) -> Result<Statfs, Errno> {
    let s = nix::sys::statfs::fstatfs(fd)?;
    Ok(Statfs {
        kind: s.filesystem_type().0,
        bsize: s.block_size(),
        blocks: s.blocks(),
        bfree: s.blocks_free(),
        bavail: s.blocks_available(),
        files: s.files(),
        ffree: s.files_free(),
        namelen: s.maximum_name_length(),
        frsize: s.block_size(),
    })
}

fn io(e: std::io::Error) -> Errno {
    Errno::from_raw(e.raw_os_error().unwrap_or(libc::EIO))
}
