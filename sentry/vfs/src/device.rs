//! Which code stands behind a device number.

use crate::{FileOps, FileType, OpenFlags, VfsPath};
use abi::Errno;
use ctx::{Ctx, SysErr};
use std::collections::BTreeMap;
use std::sync::Arc;
use sync::{RwLock, ranks};

/// A device driver: opens a node of its number, wherever that stands.
pub trait Device: Send + Sync {
    /// Opens the node at `at`.
    fn open(
        &self,
        cx: &dyn Ctx,
        at: &VfsPath,
        flags: OpenFlags,
    ) -> Result<Arc<dyn FileOps>, SysErr>;
}

impl<F> Device for F
where
    F: Fn(&dyn Ctx, &VfsPath, OpenFlags) -> Result<Arc<dyn FileOps>, SysErr> + Send + Sync,
{
    fn open(
        &self,
        cx: &dyn Ctx,
        at: &VfsPath,
        flags: OpenFlags,
    ) -> Result<Arc<dyn FileOps>, SysErr> {
        self(cx, at, flags)
    }
}

/// By `S_IFMT` bits and device number.
type Devices = BTreeMap<(u32, u64), Arc<dyn Device>>;

/// The devices of a sandbox, by type and number.
#[derive(Default)]
pub struct DeviceRegistry {
    devices: RwLock<Devices, ranks::Leaf>,
}

impl std::fmt::Debug for DeviceRegistry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "DeviceRegistry({} devices)", self.devices.read().len())
    }
}

impl DeviceRegistry {
    /// A registry without devices.
    pub fn new() -> Arc<DeviceRegistry> {
        Arc::new(DeviceRegistry::default())
    }

    /// Registers the driver of nodes of `kind` with number `rdev`, in the place of any before.
    pub fn register(&self, kind: FileType, rdev: u64, device: Arc<dyn Device>) {
        let old = self.devices.write().insert((kind as u32, rdev), device);
        drop(old);
    }

    /// Opens the device node at `at`; `ENXIO` where no driver is registered for its number.
    pub fn open(
        &self,
        cx: &dyn Ctx,
        kind: FileType,
        rdev: u64,
        at: &VfsPath,
        flags: OpenFlags,
    ) -> Result<Arc<dyn FileOps>, SysErr> {
        let device = self.devices.read().get(&(kind as u32, rdev)).cloned();
        device.ok_or(Errno::ENXIO)?.open(cx, at, flags)
    }
}
