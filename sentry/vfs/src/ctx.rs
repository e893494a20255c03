//! What file system code may ask of the task, beyond [`ctx::Ctx`].

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
}
