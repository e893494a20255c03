//! /dev/tty, /dev/console and /dev/ptmx.

use abi::Errno;
use abi::stat::makedev;
use ctx::{Ctx, SysErr};
use fs_devpts::{DevPts, SlaveFile, Tty, open_controlling};
use std::sync::Arc;
use vfs::{DeviceRegistry, FileOps, FileType, OpenFlags, VfsPath};

/// Registers the drivers. `console` is the container's own terminal, if it has one.
pub fn register_terminals(registry: &DeviceRegistry, pts: &Arc<DevPts>, console: Option<Arc<Tty>>) {
    type Opened = Result<Arc<dyn FileOps>, SysErr>;
    let tty = |cx: &dyn Ctx, _: &VfsPath, _: OpenFlags| -> Opened { open_controlling(cx) };
    registry.register(FileType::CharDevice, makedev(5, 0), Arc::new(tty));

    let open_console = move |cx: &dyn Ctx, _: &VfsPath, flags: OpenFlags| -> Opened {
        // Without a terminal there is nothing behind it, as on a machine without a console.
        let tty = console.as_ref().ok_or(Errno::ENODEV)?;
        Ok(SlaveFile::open(cx, tty, flags)?)
    };
    registry.register(FileType::CharDevice, makedev(5, 1), Arc::new(open_console));

    let pts = pts.clone();
    let ptmx = move |cx: &dyn Ctx, at: &VfsPath, _: OpenFlags| -> Opened {
        // The instance that is mounted beside it, where one is (a container's own).
        match beside(cx, at)? {
            Some(own) => own.open_master(cx),
            None => pts.open_master(cx),
        }
    };
    registry.register(FileType::CharDevice, makedev(5, 2), Arc::new(ptmx));
}

/// The devpts on `pts` in the directory of `ptmx`.
fn beside(cx: &dyn Ctx, ptmx: &VfsPath) -> Result<Option<Arc<DevPts>>, Errno> {
    let mut at = ptmx.parent();
    let Some(pts) = at.dentry.lookup(cx, b"pts")? else {
        return Ok(None);
    };
    at.dentry = pts;
    Ok(DevPts::at(&at.topmost()))
}
