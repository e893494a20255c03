//! What file system code may ask of the task, beyond [`ctx::Ctx`].

use crate::sigio::{Owner, OwnerKind};
use crate::{FdTable, MountNamespace, VfsPath};
use ctx::Ctx;
use std::sync::Arc;

/// A task's view of the file tree.
pub trait FsCtx: Ctx {
    /// Current working directory.
    fn cwd(&self) -> VfsPath;

    /// Root directory (chroot(2)).
    fn root(&self) -> VfsPath;

    /// File mode creation mask.
    fn umask(&self) -> u32;

    /// Descriptor table.
    fn fds(&self) -> Arc<FdTable>;

    /// Mount namespace.
    fn mounts(&self) -> Arc<MountNamespace>;

    /// The thread, process or group with number `id` as an owner of files, set by this task;
    /// `None` where there is none.
    fn file_owner(&self, kind: OwnerKind, id: i32) -> Option<Arc<dyn Owner>>;
}
