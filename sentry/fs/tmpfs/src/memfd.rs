//! Files without a name: memfd_create(2), and file seals.

use crate::node::{Node, Regular};
use crate::{Options, Tmpfs};
use abi::Errno;
use ctx::Ctx;
use hostmem::MemoryFile;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use time::Clocks;
use vfs::{DeviceRegistry, File, FileOps, Mount, MountSpec, NewFile, NewKind, OpenFlags, VfsPath};

pub(crate) const SEAL_SEAL: u32 = 0x01;
pub(crate) const SEAL_SHRINK: u32 = 0x02;
pub(crate) const SEAL_GROW: u32 = 0x04;
pub(crate) const SEAL_WRITE: u32 = 0x08;
pub(crate) const SEAL_FUTURE_WRITE: u32 = 0x10;
const SEAL_EXEC: u32 = 0x20;
const ALL_SEALS: u32 = 0x3f;

/// Bytes in a memfd's name, at most.
const NAME_MAX: usize = 249;

/// Flags of memfd_create(2), by their Linux bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemfdFlags(u32);

impl MemfdFlags {
    const CLOEXEC: u32 = 1;
    const ALLOW_SEALING: u32 = 2;
    const NOEXEC_SEAL: u32 = 8;
    const EXEC: u32 = 0x10;

    /// From a guest's word.
    ///
    /// # Errors
    /// `EINVAL` for unknown bits, huge pages (there are none), and contradictions.
    pub fn from_guest(bits: u32) -> Result<MemfdFlags, Errno> {
        let known = Self::CLOEXEC | Self::ALLOW_SEALING | Self::NOEXEC_SEAL | Self::EXEC;
        let both = Self::NOEXEC_SEAL | Self::EXEC;
        if bits & !known != 0 || bits & both == both {
            return Err(Errno::EINVAL);
        }
        Ok(MemfdFlags(bits))
    }

    /// Whether the descriptor is closed by exec.
    pub fn cloexec(self) -> bool {
        self.0 & Self::CLOEXEC != 0
    }
}

/// Where memfds live: a tmpfs that is mounted nowhere.
pub struct Memfds {
    fs: Arc<Tmpfs>,
    mount: Arc<Mount>,
}

impl std::fmt::Debug for Memfds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Memfds")
    }
}

impl Memfds {
    /// With no limit but the sandbox's memory.
    pub fn new(memory: &Arc<MemoryFile>, clocks: &Clocks) -> Memfds {
        let fs = Tmpfs::instance(memory, &DeviceRegistry::new(), Options::default());
        let new = NewFile {
            perm: 0o777,
            uid: 0,
            gid: 0,
        };
        let _ = fs.charge_inode();
        let root = Node::build(&fs, NewKind::Directory, &new, clocks.wall());
        Memfds {
            fs,
            mount: Mount::detached(MountSpec::new(root, "tmpfs")),
        }
    }

    /// memfd_create(2): a file shown as `/memfd:name (deleted)`.
    ///
    /// # Errors
    /// `EINVAL` where the name is too long.
    pub fn create(&self, cx: &dyn Ctx, name: &[u8], flags: MemfdFlags) -> Result<Arc<File>, Errno> {
        if name.len() > NAME_MAX {
            return Err(Errno::EINVAL);
        }
        let creds = cx.creds();
        let noexec = flags.0 & MemfdFlags::NOEXEC_SEAL != 0;
        let new = NewFile {
            perm: if noexec { 0o666 } else { 0o777 },
            uid: creds.fsuid,
            gid: creds.fsgid,
        };
        let node = Node::make(&self.fs, cx, NewKind::Regular, &new)?;
        node.meta.lock().nlink = 0;
        let seals = match (noexec, flags.0 & MemfdFlags::ALLOW_SEALING != 0) {
            (true, _) => SEAL_EXEC,
            (false, true) => 0,
            (false, false) => SEAL_SEAL,
        };
        node.regular()?.seals.store(seals, Ordering::Release);
        let shown = [b"memfd:", name].concat();
        let place = VfsPath::unlisted(&self.mount, node.clone(), &shown);
        let ops: Arc<dyn FileOps> = node;
        Ok(File::new(
            ops,
            Some(place),
            OpenFlags::RDWR | OpenFlags::LARGEFILE,
            creds,
        ))
    }
}

/// F_ADD_SEALS.
pub(crate) fn add_seals(r: &Regular, file: &File, seals: u32) -> Result<(), Errno> {
    if !file.flags().writable() {
        return Err(Errno::EPERM);
    }
    if seals & !ALL_SEALS != 0 {
        return Err(Errno::EINVAL);
    }
    // Held so that no mapping or write comes between the check and the seal.
    let _data = r.data.write();
    if r.sealed(SEAL_SEAL) {
        return Err(Errno::EPERM);
    }
    if seals & SEAL_WRITE != 0 && !r.sealed(SEAL_WRITE) && r.mappings.any_shared_write() {
        return Err(Errno::EBUSY);
    }
    r.seals.fetch_or(seals, Ordering::AcqRel);
    Ok(())
}
