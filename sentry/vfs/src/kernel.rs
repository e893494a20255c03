//! A context to work on files with, where there is no task: at boot, in tests.

use crate::sigio::{Owner, OwnerKind};
use crate::{FdTable, FsCtx, MountNamespace, VfsPath};
use auth::Creds;
use ctx::{Ctx, JobControl, KernelCtx, Resource, UserMemory, Wake};
use std::sync::Arc;
use std::time::Instant;
use time::Clocks;
use wait::Waker;

/// [`KernelCtx`] with a view of the file tree.
pub struct KernelFsCtx {
    cx: KernelCtx,
    mounts: Arc<MountNamespace>,
    fds: Arc<FdTable>,
    root: VfsPath,
    cwd: VfsPath,
    umask: u32,
}

impl KernelFsCtx {
    /// As the kernel, at the top of `mounts`, for the calling thread alone.
    pub fn new(clocks: Arc<Clocks>, mounts: Arc<MountNamespace>) -> KernelFsCtx {
        KernelFsCtx::from_ctx(KernelCtx::new(clocks), mounts)
    }

    /// As [`KernelFsCtx::new`], acting with `creds`.
    pub fn with_creds(
        clocks: Arc<Clocks>,
        mounts: Arc<MountNamespace>,
        creds: Arc<Creds>,
    ) -> KernelFsCtx {
        KernelFsCtx::from_ctx(KernelCtx::with_creds(clocks, creds), mounts)
    }

    fn from_ctx(cx: KernelCtx, mounts: Arc<MountNamespace>) -> KernelFsCtx {
        let root = mounts.root();
        KernelFsCtx {
            cx,
            mounts,
            fds: FdTable::new(),
            cwd: root.clone(),
            root,
            umask: 0,
        }
    }

    /// Stands at `cwd`.
    pub fn set_cwd(&mut self, cwd: VfsPath) {
        self.cwd = cwd;
    }

    /// Sees `root` as the top.
    pub fn set_root(&mut self, root: VfsPath) {
        self.root = root;
    }

    /// Makes files with `umask`.
    pub fn set_umask(&mut self, umask: u32) {
        self.umask = umask;
    }
}

impl Ctx for KernelFsCtx {
    fn creds(&self) -> Arc<Creds> {
        self.cx.creds()
    }
    fn memory(&self) -> &dyn UserMemory {
        self.cx.memory()
    }
    fn clocks(&self) -> &Clocks {
        self.cx.clocks()
    }
    fn waker(&self) -> &Arc<Waker> {
        self.cx.waker()
    }
    fn park(&self, deadline: Option<Instant>) -> Wake {
        self.cx.park(deadline)
    }
    fn interrupted(&self) -> bool {
        self.cx.interrupted()
    }
    fn raise(&self, signal: i32) {
        self.cx.raise(signal);
    }
    fn limit(&self, resource: Resource) -> u64 {
        self.cx.limit(resource)
    }
    fn pid(&self) -> i32 {
        self.cx.pid()
    }
    fn job(&self) -> Option<&dyn JobControl> {
        None
    }
}

impl FsCtx for KernelFsCtx {
    fn cwd(&self) -> VfsPath {
        self.cwd.clone()
    }
    fn root(&self) -> VfsPath {
        self.root.clone()
    }
    fn umask(&self) -> u32 {
        self.umask
    }
    fn fds(&self) -> Arc<FdTable> {
        self.fds.clone()
    }
    fn mounts(&self) -> Arc<MountNamespace> {
        self.mounts.clone()
    }
    fn file_owner(&self, _kind: OwnerKind, _id: i32) -> Option<Arc<dyn Owner>> {
        None
    }
}
