//! A world to try things in.

use abi::Errno;
use abi::stat::Stat;
use auth::Creds;
use ctx::{Dst, Src, SysErr};
use hostmem::MemoryFile;
use sentry_fs_tmpfs::{Options, Tmpfs};
use std::sync::Arc;
use time::Clocks;
use vfs::{
    DeviceRegistry, File, KernelFsCtx, LookupFlags, MountFlags, MountNamespace, OpenFlags, Start,
    VfsPath, walk,
};

pub(crate) struct World {
    pub(crate) clocks: Arc<Clocks>,
    pub(crate) memory: Arc<MemoryFile>,
    pub(crate) devices: Arc<DeviceRegistry>,
    pub(crate) mounts: Arc<MountNamespace>,
    pub(crate) cx: KernelFsCtx,
}

impl World {
    pub(crate) fn new() -> World {
        World::with(Options {
            mode: Some(0o755),
            ..Options::default()
        })
    }

    pub(crate) fn with(options: Options) -> World {
        let clocks = Arc::new(Clocks::new());
        let memory = MemoryFile::new().unwrap();
        let devices = DeviceRegistry::new();
        let spec = Tmpfs::mount_spec(&memory, &devices, options, &clocks, MountFlags::empty());
        let mounts = MountNamespace::new(spec);
        let cx = KernelFsCtx::new(clocks.clone(), mounts.clone());
        World {
            clocks,
            memory,
            devices,
            mounts,
            cx,
        }
    }

    /// The same world, seen by a user without capabilities.
    pub(crate) fn user(&self, uid: u32, gid: u32) -> KernelFsCtx {
        self.with_creds(Creds::user(uid, gid))
    }

    pub(crate) fn with_creds(&self, creds: Creds) -> KernelFsCtx {
        KernelFsCtx::with_creds(self.clocks.clone(), self.mounts.clone(), Arc::new(creds))
    }

    /// The kernel's own context, for another thread.
    pub(crate) fn root(&self) -> KernelFsCtx {
        KernelFsCtx::new(self.clocks.clone(), self.mounts.clone())
    }

    pub(crate) fn mount_tmpfs(&self, at: &str, flags: MountFlags) {
        let options = Options {
            mode: Some(0o755),
            ..Options::default()
        };
        let spec = Tmpfs::mount_spec(&self.memory, &self.devices, options, &self.clocks, flags);
        self.mounts
            .mount(&place(&self.cx, at).unwrap(), spec)
            .unwrap();
    }
}

pub(crate) fn e<T>(r: Result<T, SysErr>) -> Result<T, Errno> {
    r.map_err(SysErr::errno)
}

pub(crate) fn open(cx: &KernelFsCtx, path: &str, flags: OpenFlags) -> Result<Arc<File>, Errno> {
    e(vfs::open(
        cx,
        Start::Cwd,
        path.as_bytes(),
        flags,
        0o644,
        LookupFlags::empty(),
    ))
}

/// Makes a file with `text` in it.
pub(crate) fn put(cx: &KernelFsCtx, path: &str, text: &str) {
    let flags = OpenFlags::CREAT | OpenFlags::TRUNC | OpenFlags::WRONLY;
    write(cx, &open(cx, path, flags).unwrap(), text.as_bytes()).unwrap();
}

pub(crate) fn get(cx: &KernelFsCtx, path: &str) -> Result<String, Errno> {
    let file = open(cx, path, OpenFlags::RDONLY)?;
    let bytes = read(cx, &file, 4096)?;
    Ok(String::from_utf8(bytes).unwrap())
}

pub(crate) fn read(cx: &KernelFsCtx, file: &File, len: usize) -> Result<Vec<u8>, Errno> {
    let mut buf = vec![0; len];
    let n = e(file.read(cx, &mut Dst::ours(&mut buf)))?;
    buf.truncate(n);
    Ok(buf)
}

pub(crate) fn write(cx: &KernelFsCtx, file: &File, bytes: &[u8]) -> Result<usize, Errno> {
    e(file.write(cx, &mut Src::ours(bytes)))
}

pub(crate) fn mkdir(cx: &KernelFsCtx, path: &str) -> Result<(), Errno> {
    e(vfs::mkdir(cx, Start::Cwd, path.as_bytes(), 0o755))
}

pub(crate) fn symlink(cx: &KernelFsCtx, target: &str, path: &str) -> Result<(), Errno> {
    e(vfs::symlink(
        cx,
        target.as_bytes(),
        Start::Cwd,
        path.as_bytes(),
    ))
}

pub(crate) fn link(cx: &KernelFsCtx, old: &str, new: &str) -> Result<(), Errno> {
    let old = (Start::Cwd, old.as_bytes(), LookupFlags::empty());
    e(vfs::link(cx, old, Start::Cwd, new.as_bytes()))
}

pub(crate) fn unlink(cx: &KernelFsCtx, path: &str) -> Result<(), Errno> {
    e(vfs::unlink(cx, Start::Cwd, path.as_bytes()))
}

pub(crate) fn rmdir(cx: &KernelFsCtx, path: &str) -> Result<(), Errno> {
    e(vfs::rmdir(cx, Start::Cwd, path.as_bytes()))
}

pub(crate) fn rename(cx: &KernelFsCtx, old: &str, new: &str, flags: u32) -> Result<(), Errno> {
    e(vfs::rename(
        cx,
        (Start::Cwd, old.as_bytes()),
        (Start::Cwd, new.as_bytes()),
        flags,
    ))
}

pub(crate) fn place(cx: &KernelFsCtx, path: &str) -> Result<VfsPath, Errno> {
    e(walk::resolve(
        cx,
        Start::Cwd,
        path.as_bytes(),
        LookupFlags::FOLLOW,
    ))
}

pub(crate) fn lplace(cx: &KernelFsCtx, path: &str) -> Result<VfsPath, Errno> {
    e(walk::resolve(
        cx,
        Start::Cwd,
        path.as_bytes(),
        LookupFlags::empty(),
    ))
}

pub(crate) fn stat(cx: &KernelFsCtx, path: &str) -> Result<Stat, Errno> {
    e(vfs::stat(
        cx,
        Start::Cwd,
        path.as_bytes(),
        LookupFlags::FOLLOW,
    ))
}

pub(crate) fn chmod(cx: &KernelFsCtx, path: &str, mode: u32) -> Result<(), Errno> {
    vfs::chmod(cx, &place(cx, path)?, mode)
}

pub(crate) fn chown(cx: &KernelFsCtx, path: &str, uid: u32, gid: u32) -> Result<(), Errno> {
    vfs::chown(cx, &place(cx, path)?, uid, gid)
}

/// The names in a directory, in order.
pub(crate) fn list(cx: &KernelFsCtx, path: &str) -> Vec<String> {
    let dir = open(cx, path, OpenFlags::DIRECTORY).unwrap();
    let mut names: Vec<String> = dir
        .entries(cx)
        .unwrap()
        .into_iter()
        .map(|(n, ..)| String::from_utf8(n).unwrap())
        .collect();
    names.sort();
    names
}
