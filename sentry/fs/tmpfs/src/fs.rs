//! A mounted instance.

use crate::Options;
use crate::node::Node;
use abi::Errno;
use abi::page::PAGE_SIZE;
use abi::stat::Statfs;
use hostmem::MemoryFile;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use time::Clocks;
use vfs::{DeviceRegistry, Inode, MountFlags, MountSpec, NewFile, NewKind};

/// A tmpfs.
pub struct Tmpfs {
    memory: Arc<MemoryFile>,
    devices: Arc<DeviceRegistry>,
    dev: u64,
    options: Options,
    bytes: AtomicU64,
    inodes: AtomicU64,
    next_ino: AtomicU64,
}

impl std::fmt::Debug for Tmpfs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Tmpfs({})", self.options.text())
    }
}

impl Tmpfs {
    /// A new, empty one; returns its root. `devices` is what its device nodes lead to.
    pub fn root(
        memory: &Arc<MemoryFile>,
        devices: &Arc<DeviceRegistry>,
        options: Options,
        clocks: &Clocks,
    ) -> Arc<dyn Inode> {
        let new = NewFile {
            perm: options.mode.unwrap_or(0o1777),
            uid: options.uid.unwrap_or(0),
            gid: options.gid.unwrap_or(0),
        };
        let fs = Tmpfs::instance(memory, devices, options);
        fs.inodes.store(1, Ordering::Relaxed);
        Node::build(&fs, NewKind::Directory, &new, clocks.wall())
    }

    /// As [`Tmpfs::root`], ready to be mounted from `source` with `flags`.
    pub fn mount_spec(
        memory: &Arc<MemoryFile>,
        devices: &Arc<DeviceRegistry>,
        options: Options,
        clocks: &Clocks,
        flags: MountFlags,
    ) -> MountSpec {
        let text = options.text();
        let root = Tmpfs::root(memory, devices, options, clocks);
        MountSpec {
            flags,
            options: text,
            ..MountSpec::new(root, "tmpfs")
        }
    }

    pub(crate) fn instance(
        memory: &Arc<MemoryFile>,
        devices: &Arc<DeviceRegistry>,
        options: Options,
    ) -> Arc<Tmpfs> {
        Arc::new(Tmpfs {
            memory: memory.clone(),
            devices: devices.clone(),
            dev: vfs::anon::next_dev(),
            options,
            bytes: AtomicU64::new(0),
            inodes: AtomicU64::new(0),
            next_ino: AtomicU64::new(1),
        })
    }

    pub(crate) fn memory(&self) -> &Arc<MemoryFile> {
        &self.memory
    }

    pub(crate) fn devices(&self) -> &DeviceRegistry {
        &self.devices
    }

    pub(crate) fn dev(&self) -> u64 {
        self.dev
    }

    pub(crate) fn next_ino(&self) -> u64 {
        self.next_ino.fetch_add(1, Ordering::Relaxed)
    }

    /// Takes `bytes` off what is left; `ENOSPC` where that is not enough.
    pub(crate) fn charge(&self, bytes: u64) -> Result<(), Errno> {
        add_within(&self.bytes, bytes, self.options.size)
    }

    pub(crate) fn uncharge(&self, bytes: u64) {
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    pub(crate) fn charge_inode(&self) -> Result<(), Errno> {
        add_within(&self.inodes, 1, self.options.inodes)
    }

    pub(crate) fn uncharge_inode(&self) {
        self.inodes.fetch_sub(1, Ordering::Relaxed);
    }

    pub(crate) fn statfs(&self) -> Statfs {
        const TMPFS_MAGIC: i64 = 0x0102_1994;
        let left = |limit: Option<u64>, used: &AtomicU64| {
            limit.map_or(0, |l| l.saturating_sub(used.load(Ordering::Relaxed)))
        };
        let free = left(self.options.size, &self.bytes) / PAGE_SIZE;
        Statfs {
            kind: TMPFS_MAGIC,
            bsize: PAGE_SIZE as i64,
            frsize: PAGE_SIZE as i64,
            blocks: self.options.size.unwrap_or(0) / PAGE_SIZE,
            bfree: free,
            bavail: free,
            files: self.options.inodes.unwrap_or(0),
            ffree: left(self.options.inodes, &self.inodes),
            fsid: [self.dev as i32, 0],
            namelen: 255,
            ..Statfs::default()
        }
    }
}

fn add_within(used: &AtomicU64, more: u64, limit: Option<u64>) -> Result<(), Errno> {
    let limit = limit.unwrap_or(u64::MAX);
    let add = |now: u64| now.checked_add(more).filter(|sum| *sum <= limit);
    match used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add) {
        Ok(_) => Ok(()),
        Err(_) => Err(Errno::ENOSPC),
    }
}
