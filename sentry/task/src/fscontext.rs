//! Working directory, root and umask, which `CLONE_FS` shares.

use auth::{Share, UserNamespace};
use std::sync::Arc;
use sync::{RwLock, ranks};
use vfs::{MountNamespace, VfsPath};

/// A view of the file tree.
#[derive(Debug)]
pub struct FsContext(RwLock<Inner, ranks::FsContext>);

#[derive(Clone, Debug)]
struct Inner {
    cwd: VfsPath,
    root: VfsPath,
    umask: u32,
}

impl FsContext {
    /// A view from `cwd` below `root`.
    pub fn new(cwd: VfsPath, root: VfsPath, umask: u32) -> FsContext {
        FsContext(RwLock::new(Inner {
            cwd,
            root,
            umask: umask & 0o777,
        }))
    }

    /// A copy of its own.
    pub fn fork(&self) -> FsContext {
        let inner = self.0.read().clone();
        FsContext(RwLock::new(inner))
    }

    /// Moves both directories to where they are in a new copy of `mounts` for `owner`, counted as
    /// `share`, which it returns.
    pub(crate) fn move_to_copy_of(
        &self,
        mounts: &MountNamespace,
        owner: &UserNamespace,
        share: Share,
    ) -> Arc<MountNamespace> {
        let mut places = self.0.read().clone();
        let copy = mounts.copy(owner, share, &mut [&mut places.cwd, &mut places.root]);
        let old = std::mem::replace(&mut *self.0.write(), places);
        drop(old);
        copy
    }

    /// Moves the directories that are `old` to `new` (pivot_root(2)).
    pub(crate) fn move_root(&self, old: &VfsPath, new: &VfsPath) {
        let mut gone = Vec::new();
        let mut inner = self.0.write();
        let Inner { cwd, root, .. } = &mut *inner;
        for place in [cwd, root] {
            if place == old {
                gone.push(std::mem::replace(place, new.clone()));
            }
        }
        drop(inner);
        drop(gone);
    }

    /// The working directory.
    pub fn cwd(&self) -> VfsPath {
        self.0.read().cwd.clone()
    }

    /// The root directory.
    pub fn root(&self) -> VfsPath {
        self.0.read().root.clone()
    }

    /// The file mode creation mask.
    pub fn umask(&self) -> u32 {
        self.0.read().umask
    }

    /// Changes the working directory.
    pub fn set_cwd(&self, cwd: VfsPath) {
        let old = std::mem::replace(&mut self.0.write().cwd, cwd);
        drop(old);
    }

    /// Changes the root directory.
    pub fn set_root(&self, root: VfsPath) {
        let old = std::mem::replace(&mut self.0.write().root, root);
        drop(old);
    }

    /// Changes the mask; returns the former one.
    pub fn set_umask(&self, umask: u32) -> u32 {
        std::mem::replace(&mut self.0.write().umask, umask & 0o777)
    }
}
