//! Places in the mounted tree.

use crate::file::Opening;
use crate::{Attr, Dentry, FileType, Inode, Mount};
use abi::Errno;
use ctx::Ctx;
use std::sync::Arc;

/// A place in the tree: a dentry, seen through a mount.
#[derive(Clone)]
pub struct VfsPath {
    /// The mount it is reached by.
    pub mount: Arc<Mount>,
    /// The name there.
    pub dentry: Arc<Dentry>,
}

impl PartialEq for VfsPath {
    fn eq(&self, other: &VfsPath) -> bool {
        Arc::ptr_eq(&self.mount, &other.mount) && Arc::ptr_eq(&self.dentry, &other.dentry)
    }
}

impl Eq for VfsPath {}

impl std::fmt::Debug for VfsPath {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "VfsPath({}:{})",
            self.mount.id(),
            String::from_utf8_lossy(&self.text())
        )
    }
}

impl VfsPath {
    /// A place for a file that no directory of `mount` lists, to be shown as `name` at its top
    /// (memfds).
    pub fn unlisted(mount: &Arc<Mount>, inode: Arc<dyn Inode>, name: &[u8]) -> VfsPath {
        let dentry = Dentry::unlisted(inode, Some(mount.root().clone()), name);
        VfsPath {
            mount: mount.clone(),
            dentry,
        }
    }

    /// The file there.
    #[inline]
    pub fn inode(&self) -> &Arc<dyn Inode> {
        self.dentry.inode()
    }

    /// What identifies the file as long as it lives.
    pub(crate) fn inode_key(&self) -> usize {
        Arc::as_ptr(self.inode()).cast::<u8>().addr()
    }

    /// The file's type.
    #[inline]
    pub fn kind(&self) -> FileType {
        self.dentry.kind()
    }

    /// Whether it is a directory.
    #[inline]
    pub fn is_dir(&self) -> bool {
        self.dentry.is_dir()
    }

    /// The file's attributes.
    pub fn attr(&self, cx: &dyn Ctx) -> Result<Attr, Errno> {
        self.inode().attr(cx)
    }

    /// Somebody begins to write there.
    ///
    /// # Errors
    /// `EROFS`, and `ETXTBSY` while it is being executed.
    pub(crate) fn add_writer(&self) -> Result<(), Errno> {
        self.mount.add_writer()?;
        let added = self.dentry.add_writer();
        added.inspect_err(|_| self.mount.drop_writer())
    }

    /// What was counted as `opening` is open no more.
    pub(crate) fn end(&self, opening: Opening) {
        match opening {
            Opening::Uncounted => {}
            Opening::Reader => self.dentry.drop_reader(),
            Opening::Writer => self.drop_writer(),
        }
    }

    /// Somebody who writes there has ended.
    pub(crate) fn drop_writer(&self) {
        self.dentry.drop_writer();
        self.mount.drop_writer();
    }

    /// The uppermost of what is mounted on it; itself where there is nothing.
    pub fn topmost(self) -> VfsPath {
        crate::tree::topmost(self)
    }

    /// The same in a mount of its own that nobody sees: what keeps it keeps the file system, and
    /// not the mount it was found by.
    pub fn apart(&self) -> VfsPath {
        VfsPath {
            mount: self.mount.bound(self.dentry.clone()),
            dentry: self.dentry.clone(),
        }
    }

    /// Whether it is the root of its mount.
    pub fn is_mount_root(&self) -> bool {
        Arc::ptr_eq(&self.dentry, self.mount.root())
    }

    /// The directory it is in, across mount points; itself at the top of the tree.
    pub fn parent(&self) -> VfsPath {
        let mut at = self.clone();
        while at.is_mount_root() {
            match at.mount.mountpoint() {
                Some(below) => at = below,
                None => return at,
            }
        }
        if let Some(dentry) = at.dentry.parent() {
            at.dentry = dentry;
        }
        at
    }

    /// The absolute path as seen from `root`. A file whose name is gone has ` (deleted)` behind
    /// it; one that cannot be reached from `root` has `(unreachable)` before it.
    pub fn path_from(&self, root: &VfsPath) -> Vec<u8> {
        let (reached, mut text) = self.walk_up(Some(root));
        self.note_deleted(&mut text);
        if !reached {
            text.splice(0..0, *b"(unreachable)");
        }
        text
    }

    /// The absolute path as seen from `root`, whether its name is gone or not; `None` for what
    /// cannot be reached from there.
    pub fn path_below(&self, root: &VfsPath) -> Option<Vec<u8>> {
        let (reached, text) = self.walk_up(Some(root));
        reached.then_some(text)
    }

    /// The absolute path from the top of the tree it is in.
    pub fn text(&self) -> Vec<u8> {
        let mut text = self.walk_up(None).1;
        self.note_deleted(&mut text);
        text
    }

    fn walk_up(&self, root: Option<&VfsPath>) -> (bool, Vec<u8>) {
        if let Some(name) = self.mount.anonymous_name(self) {
            return (true, name);
        }
        // Components back to front, each reversed; turned round at the end.
        let mut back: Vec<u8> = Vec::new();
        let mut at = self.clone();
        let reached = loop {
            if root.is_some_and(|r| *r == at) {
                break true;
            }
            if at.is_mount_root() {
                match at.mount.mountpoint() {
                    Some(below) => at = below,
                    None => break root.is_none(),
                }
                continue;
            }
            let (parent, name) = at.dentry.parent_and_name();
            match parent {
                Some(p) => {
                    back.extend(name.iter().rev());
                    back.push(b'/');
                    at.dentry = p;
                }
                None => break root.is_none(),
            }
        };
        if back.is_empty() {
            back.push(b'/');
        }
        back.reverse();
        (reached, back)
    }

    fn note_deleted(&self, text: &mut Vec<u8>) {
        if self.dentry.is_deleted() && self.mount.anonymous_name(self).is_none() {
            text.extend_from_slice(b" (deleted)");
        }
    }
}
