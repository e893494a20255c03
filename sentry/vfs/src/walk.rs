//! From a path to a place (path_resolution(7)).

use crate::access::may_search;
use crate::{FileType, FsCtx, Link, LookupFlags, MountFlags, VfsPath};
use abi::Errno;
use auth::Creds;
use ctx::SysErr;
use std::sync::Arc;

/// Symbolic links followed in one walk, at most.
const MAX_LINKS: u32 = 40;
/// Bytes in a component, at most.
const NAME_MAX: usize = 255;
/// Bytes in a path with its NUL, at most.
pub const PATH_MAX: usize = 4096;

/// Where a relative path starts.
#[derive(Clone, Debug)]
pub enum Start {
    /// The working directory.
    Cwd,
    /// A place.
    At(VfsPath),
    /// The directory descriptor of an `*at` call, which is looked at when the walk begins: a path
    /// that is none is told before.
    Fd(i32),
}

impl Start {
    /// By the descriptor argument of an `*at` call. It is not looked at for absolute paths.
    pub fn from_fd(dirfd: i32, path: &[u8]) -> Start {
        if dirfd == abi::libc::AT_FDCWD || path.first() == Some(&b'/') {
            return Start::Cwd;
        }
        Start::Fd(dirfd)
    }
}

/// The last component of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Last {
    /// A name.
    Name(Vec<u8>),
    /// `.`
    Dot,
    /// `..`
    DotDot,
    /// There is none: the path is `/`.
    Root,
}

/// A path but for its last component.
#[derive(Clone, Debug)]
pub struct Parent {
    /// The directory.
    pub dir: VfsPath,
    /// What is to be looked up there.
    pub last: Last,
    /// Whether slashes follow: it must be a directory.
    pub slash: bool,
}

/// Walks `path`.
///
/// # Errors
/// `ENOENT`, `ENOTDIR`, `EACCES`, `ELOOP`, `ENAMETOOLONG`, `EXDEV` (for what `flags` confine),
/// and what file systems say.
pub fn resolve(
    cx: &dyn FsCtx,
    start: Start,
    path: &[u8],
    flags: LookupFlags,
) -> Result<VfsPath, SysErr> {
    resolve_as(cx, &cx.creds(), start, path, flags)
}

/// As [`resolve`], with other credentials than the task's.
pub fn resolve_as(
    cx: &dyn FsCtx,
    creds: &Creds,
    start: Start,
    path: &[u8],
    flags: LookupFlags,
) -> Result<VfsPath, SysErr> {
    if path.is_empty() && !flags.contains(LookupFlags::EMPTY) {
        return Err(Errno::ENOENT.into());
    }
    let mut walker = Walker::new(cx, creds, start, path, flags)?;
    if !path.is_empty() {
        walker.run(path, flags.contains(LookupFlags::FOLLOW), false)?;
    }
    if flags.contains(LookupFlags::DIRECTORY) && !walker.at.is_dir() {
        return Err(Errno::ENOTDIR.into());
    }
    Ok(walker.at)
}

/// Walks `path` up to its last component.
///
/// # Errors
/// As [`resolve`].
pub fn resolve_parent(
    cx: &dyn FsCtx,
    start: Start,
    path: &[u8],
    flags: LookupFlags,
) -> Result<Parent, SysErr> {
    if path.is_empty() {
        return Err(Errno::ENOENT.into());
    }
    let creds = cx.creds();
    let mut walker = Walker::new(cx, &creds, start, path, flags)?;
    walker.parent(path)
}

/// A walk under way.
pub(crate) struct Walker<'a> {
    cx: &'a dyn FsCtx,
    creds: &'a Creds,
    flags: LookupFlags,
    root: VfsPath,
    links: u32,
    pub(crate) at: VfsPath,
}

impl<'a> Walker<'a> {
    pub(crate) fn new(
        cx: &'a dyn FsCtx,
        creds: &'a Creds,
        start: Start,
        path: &[u8],
        flags: LookupFlags,
    ) -> Result<Walker<'a>, Errno> {
        if path.len() >= PATH_MAX {
            return Err(Errno::ENAMETOOLONG);
        }
        let place = match start {
            Start::Cwd => None,
            Start::At(place) => Some(place),
            Start::Fd(fd) => Some(cx.fds().get_path_ok(fd)?.place()),
        };
        let confined = flags.intersects(LookupFlags::BENEATH | LookupFlags::IN_ROOT);
        let (root, at) = match place {
            None if path.first() == Some(&b'/') && !confined => {
                let root = cx.root();
                (root.clone(), root)
            }
            None if confined => (cx.cwd(), cx.cwd()),
            None => (cx.root(), cx.cwd()),
            Some(place) if confined => (place.clone(), place),
            Some(place) => (cx.root(), place),
        };
        Ok(Walker {
            cx,
            creds,
            flags,
            root,
            links: 0,
            at,
        })
    }

    pub(crate) fn parent(&mut self, path: &[u8]) -> Result<Parent, SysErr> {
        if path.is_empty() {
            return Err(Errno::ENOENT.into());
        }
        let (last, slash) = self.run(path, false, true)?.unwrap_or((Last::Root, false));
        Ok(Parent {
            dir: self.at.clone(),
            last,
            slash,
        })
    }

    /// Walks `path` from where the walk stands. With `stop`, up to the last component, which is
    /// returned; `follow` says whether a link in the last place is followed.
    fn run(
        &mut self,
        path: &[u8],
        follow: bool,
        stop: bool,
    ) -> Result<Option<(Last, bool)>, SysErr> {
        let mut rest = path;
        if rest.first() == Some(&b'/') {
            if self.flags.contains(LookupFlags::BENEATH) {
                return Err(Errno::EXDEV.into());
            }
            self.check_crossing(&self.root)?;
            self.at = self.root.clone();
            rest = without_slashes(rest);
            if rest.is_empty() {
                return Ok(stop.then_some((Last::Root, true)));
            }
        }
        loop {
            let end = rest.iter().position(|b| *b == b'/').unwrap_or(rest.len());
            let (name, after) = rest.split_at(end);
            let slash = !after.is_empty();
            let after = without_slashes(after);
            let is_last = after.is_empty();
            if !self.at.is_dir() {
                return Err(Errno::ENOTDIR.into());
            }
            may_search(self.cx, self.creds, &self.at)?;
            if name.len() > NAME_MAX {
                return Err(Errno::ENAMETOOLONG.into());
            }
            if is_last && stop {
                let last = match name {
                    b"." => Last::Dot,
                    b".." => Last::DotDot,
                    _ => Last::Name(name.to_vec()),
                };
                return Ok(Some((last, slash)));
            }
            match name {
                b"." => {}
                b".." => self.up()?,
                _ => self.down(name, !is_last || slash || follow)?,
            }
            if is_last {
                if slash && !self.at.is_dir() {
                    return Err(Errno::ENOTDIR.into());
                }
                return Ok(None);
            }
            rest = after;
        }
    }

    /// To the parent directory, at most to the root.
    fn up(&mut self) -> Result<(), Errno> {
        loop {
            if self.at == self.root {
                if self.flags.contains(LookupFlags::BENEATH) {
                    return Err(Errno::EXDEV);
                }
                break;
            }
            if self.at.is_mount_root() {
                match self.at.mount.mountpoint() {
                    Some(below) => {
                        self.check_crossing(&below)?;
                        self.at = below;
                    }
                    None => break,
                }
                continue;
            }
            if let Some(parent) = self.at.dentry.parent() {
                // What was moved out of the part that a bind mount shows leads nowhere from there.
                let top = self.at.mount.root();
                if !top.is_root() && !top.is_ancestor_of(&parent) {
                    return Err(Errno::ENOENT);
                }
                self.at.dentry = parent;
            }
            break;
        }
        self.cross()
    }

    /// To `name` in this directory.
    fn down(&mut self, name: &[u8], follow: bool) -> Result<(), SysErr> {
        let child = self.at.dentry.lookup(self.cx, name)?.ok_or(Errno::ENOENT)?;
        if follow && child.kind() == FileType::Symlink {
            let link = VfsPath {
                mount: self.at.mount.clone(),
                dentry: child,
            };
            return self.follow(&link);
        }
        self.at.dentry = child;
        Ok(self.cross()?)
    }

    /// Onto what is mounted here.
    fn cross(&mut self) -> Result<(), Errno> {
        while self.at.dentry.is_mountpoint() {
            let Some(mount) = self.at.mount.child_on(&self.at.dentry) else {
                break;
            };
            if !self.flags.contains(LookupFlags::NO_USE) {
                mount.entered();
            }
            let root = mount.root_path();
            self.check_crossing(&root)?;
            self.at = root;
        }
        Ok(())
    }

    fn check_crossing(&self, to: &VfsPath) -> Result<(), Errno> {
        if self.flags.contains(LookupFlags::NO_XDEV) && !Arc::ptr_eq(&self.at.mount, &to.mount) {
            return Err(Errno::EXDEV);
        }
        Ok(())
    }

    /// Follows a symbolic link that stands in the directory where the walk is.
    pub(crate) fn follow(&mut self, link: &VfsPath) -> Result<(), SysErr> {
        match self.link_target(link)? {
            Some(path) => self.run(&path, true, false).map(|_| ()),
            None => Ok(()),
        }
    }

    /// Follows a link up to the last component of where it leads; `None` where that is a place
    /// and the walk stands there.
    pub(crate) fn follow_to_parent(&mut self, link: &VfsPath) -> Result<Option<Parent>, SysErr> {
        match self.link_target(link)? {
            Some(path) => self.parent(&path).map(Some),
            None => Ok(None),
        }
    }

    /// The path in a link, or `None` after a jump to the place it stands for.
    fn link_target(&mut self, link: &VfsPath) -> Result<Option<Vec<u8>>, SysErr> {
        self.links += 1;
        if self.links > MAX_LINKS || self.flags.contains(LookupFlags::NO_SYMLINKS) {
            return Err(Errno::ELOOP.into());
        }
        self.check_protected(link)?;
        if link.mount.flags().contains(MountFlags::NOSYMFOLLOW) {
            return Err(Errno::ELOOP.into());
        }
        let place = match link.inode().readlink(self.cx)? {
            Link::Path(path) if path.is_empty() => return Err(Errno::ENOENT.into()),
            Link::Path(path) => return Ok(Some(path)),
            Link::Place(place) => place,
            Link::File(file) => file.place(),
        };
        if self.flags.contains(LookupFlags::NO_MAGICLINKS) {
            return Err(Errno::ELOOP.into());
        }
        if self
            .flags
            .intersects(LookupFlags::BENEATH | LookupFlags::IN_ROOT)
        {
            return Err(Errno::EXDEV.into());
        }
        self.check_crossing(&place)?;
        self.at = place;
        Ok(None)
    }

    /// `fs.protected_symlinks`: in a sticky directory that all can write to, links are followed
    /// only for their owner, or where they belong to the directory's owner.
    fn check_protected(&self, link: &VfsPath) -> Result<(), Errno> {
        const STICKY_FOR_ALL: u32 = 0o1002;
        if !sysctl::PROTECTED_SYMLINKS.is_on() {
            return Ok(());
        }
        let dir = self.at.attr(self.cx)?;
        if dir.perm & STICKY_FOR_ALL != STICKY_FOR_ALL {
            return Ok(());
        }
        let owner = link.attr(self.cx)?.uid;
        if owner == self.creds.fsuid || owner == dir.uid {
            Ok(())
        } else {
            Err(Errno::EACCES)
        }
    }
}

fn without_slashes(path: &[u8]) -> &[u8] {
    let start = path.iter().position(|b| *b != b'/').unwrap_or(path.len());
    path.get(start..).unwrap_or_default()
}
