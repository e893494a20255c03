//! A mounted instance.

use crate::Options;
use crate::node::Node;
use abi::Errno;
use abi::page::PAGE_SIZE;
use abi::stat::Statfs;
use ctx::Ctx;
use hostmem::MemoryFile;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use time::Clocks;
use vfs::{DeviceRegistry, FileSystem, Inode, MountFlags, MountSpec, NewFile, NewKind, SuperFlags};

/// A tmpfs.
pub struct Tmpfs {
    memory: Arc<MemoryFile>,
    devices: Arc<DeviceRegistry>,
    dev: u64,
    options: Options,
    /// Bytes, and inodes, that there may be; `u64::MAX` is no limit.
    size: AtomicU64,
    most_inodes: AtomicU64,
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
        let new = options.root();
        Tmpfs::instance(memory, devices, options).root_of(&new, clocks)
    }

    fn root_of(self: &Arc<Self>, new: &NewFile, clocks: &Clocks) -> Arc<Node> {
        self.inodes.store(1, Ordering::Relaxed);
        Node::build(self, NewKind::Directory, new, clocks.wall())
    }

    /// As [`Tmpfs::root`], ready to be mounted from `source` with `flags`.
    pub fn mount_spec(
        memory: &Arc<MemoryFile>,
        devices: &Arc<DeviceRegistry>,
        options: Options,
        clocks: &Clocks,
        flags: MountFlags,
    ) -> MountSpec {
        let new = options.root();
        let fs = Tmpfs::instance(memory, devices, options);
        MountSpec {
            flags,
            fs: fs.clone(),
            ..MountSpec::new(fs.root_of(&new, clocks), "tmpfs")
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
            size: AtomicU64::new(options.size.unwrap_or(u64::MAX)),
            most_inodes: AtomicU64::new(options.inodes.unwrap_or(u64::MAX)),
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
        add_within(&self.bytes, bytes, &self.size)
    }

    pub(crate) fn uncharge(&self, bytes: u64) {
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    pub(crate) fn charge_inode(&self) -> Result<(), Errno> {
        add_within(&self.inodes, 1, &self.most_inodes)
    }

    pub(crate) fn uncharge_inode(&self) {
        self.inodes.fetch_sub(1, Ordering::Relaxed);
    }

    /// Its options with the limits that it has now.
    fn limits(&self) -> Options {
        let limit = |at: &AtomicU64| Some(at.load(Ordering::Relaxed)).filter(|l| *l != u64::MAX);
        Options {
            size: limit(&self.size),
            inodes: limit(&self.most_inodes),
            ..self.options.clone()
        }
    }

    pub(crate) fn statfs(&self) -> Statfs {
        const TMPFS_MAGIC: i64 = 0x0102_1994;
        let left = |limit: Option<u64>, used: &AtomicU64| {
            limit.map_or(0, |l| l.saturating_sub(used.load(Ordering::Relaxed)))
        };
        let now = self.limits();
        let free = left(now.size, &self.bytes) / PAGE_SIZE;
        Statfs {
            kind: TMPFS_MAGIC,
            bsize: PAGE_SIZE as i64,
            frsize: PAGE_SIZE as i64,
            blocks: now.size.unwrap_or(0) / PAGE_SIZE,
            bfree: free,
            bavail: free,
            files: now.inodes.unwrap_or(0),
            ffree: left(now.inodes, &self.inodes),
            fsid: [self.dev as i32, 0],
            namelen: 255,
            ..Statfs::default()
        }
    }
}

impl FileSystem for Tmpfs {
    fn options(&self) -> String {
        self.limits().text()
    }

    /// Other limits, of those that are said; owner and mode stay, as in Linux.
    fn reconfigure(&self, _cx: &dyn Ctx, _flags: SuperFlags, options: &str) -> Result<(), Errno> {
        let usual = self.options.usual.unwrap_or(0);
        let memory = usual.saturating_mul(2 * PAGE_SIZE);
        let new = Options::parse_changes(options, memory)?;
        let limits = [
            (new.size, &self.size, &self.bytes),
            (new.inodes, &self.most_inodes, &self.inodes),
        ];
        for (limit, now, used) in &limits {
            let Some(limit) = limit else { continue };
            let unlimited = now.load(Ordering::Relaxed) == u64::MAX;
            if *limit != u64::MAX && (unlimited || used.load(Ordering::Relaxed) > *limit) {
                return Err(Errno::EINVAL);
            }
        }
        for (limit, now, _) in limits {
            if let Some(limit) = limit {
                now.store(limit, Ordering::Relaxed);
            }
        }
        Ok(())
    }
}

fn add_within(used: &AtomicU64, more: u64, limit: &AtomicU64) -> Result<(), Errno> {
    let limit = limit.load(Ordering::Relaxed);
    let add = |now: u64| now.checked_add(more).filter(|sum| *sum <= limit);
    match used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add) {
        Ok(_) => Ok(()),
        Err(_) => Err(Errno::ENOSPC),
    }
}
