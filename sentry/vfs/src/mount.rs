//! One mount of a file system.

use crate::{Dentry, FileType, Inode, MountFlags, VfsPath, notify};
use abi::time::Timespec;
use auth::UserNamespace;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use sync::{RwLock, ranks};

/// What is to be mounted.
#[derive(Clone)]
pub struct MountSpec {
    /// The root of the file system.
    pub root: Arc<dyn Inode>,
    /// Type, as /proc/mounts has it.
    pub fstype: String,
    /// Source, as /proc/mounts has it.
    pub source: Vec<u8>,
    /// Where in its file system the root is, as /proc/PID/mountinfo has it; empty at its top.
    pub top: Vec<u8>,
    /// Per-mount flags.
    pub flags: MountFlags,
    /// The file system's own options, comma-separated, after `rw` or `ro` (`size=64k,mode=755`).
    pub options: String,
    /// The user namespace that it was mounted in first.
    pub owner: UserNamespace,
}

impl MountSpec {
    /// A mount of `root` without flags and options.
    pub fn new(root: Arc<dyn Inode>, fstype: &str) -> MountSpec {
        MountSpec {
            root,
            fstype: fstype.to_owned(),
            source: fstype.as_bytes().to_vec(),
            top: Vec::new(),
            flags: MountFlags::empty(),
            options: String::new(),
            owner: UserNamespace::default(),
        }
    }
}

bitflags::bitflags! {
    /// What cannot be changed of a mount.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    struct MountLocks: u32 {
        /// It stays read-only.
        const RDONLY = 1;
        /// It stays without set-id.
        const NOSUID = 2;
        /// It stays without devices.
        const NODEV = 4;
        /// It stays without programs.
        const NOEXEC = 8;
        /// Access times stay as they are.
        const ATIME = 16;
        /// It stays where it is.
        const PLACE = 32;
    }
}

impl MountLocks {
    /// Those of what `flags` forbid.
    fn from_flags(flags: MountFlags) -> MountLocks {
        MountLocks::from_bits_truncate(flags.bits() & 0xf)
    }
}

/// A mounted file system, or a part of one (bind mount).
pub struct Mount {
    id: u64,
    root: Arc<Dentry>,
    fstype: String,
    source: Vec<u8>,
    /// Where in its file system the tree of `root` begins.
    top: Vec<u8>,
    options: String,
    flags: AtomicU32,
    owner: UserNamespace,
    /// What of it cannot be changed where it is.
    locks: AtomicU32,
    point: RwLock<Option<VfsPath>, ranks::Leaf>,
}

impl std::fmt::Debug for Mount {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Mount({}, {})", self.id, self.fstype)
    }
}

static NEXT_ID: AtomicU64 = AtomicU64::new(1);

impl Mount {
    /// A mount that is not attached anywhere.
    pub fn detached(spec: MountSpec) -> Arc<Mount> {
        let root = Dentry::root(spec.root);
        notify::mounted(root.tree());
        Arc::new(Mount {
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            root,
            fstype: spec.fstype,
            source: spec.source,
            top: spec.top,
            options: spec.options,
            flags: AtomicU32::new(spec.flags.bits()),
            owner: spec.owner,
            locks: AtomicU32::new(0),
            point: RwLock::new(None),
        })
    }

    /// Another mount of the same file system, with `root` as its top.
    pub(crate) fn bound(&self, root: Arc<Dentry>) -> Arc<Mount> {
        notify::mounted(root.tree());
        Arc::new(Mount {
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            root,
            fstype: self.fstype.clone(),
            source: self.source.clone(),
            top: self.top.clone(),
            options: self.options.clone(),
            flags: AtomicU32::new(self.flags.load(Ordering::Relaxed)),
            owner: self.owner.clone(),
            locks: AtomicU32::new(self.locks.load(Ordering::Relaxed)),
            point: RwLock::new(None),
        })
    }

    /// Its number (`/proc/PID/mountinfo`, first column).
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Its top.
    #[inline]
    pub fn root(&self) -> &Arc<Dentry> {
        &self.root
    }

    /// Its top, as a place.
    pub fn root_path(self: &Arc<Self>) -> VfsPath {
        VfsPath {
            mount: self.clone(),
            dentry: self.root.clone(),
        }
    }

    /// File system type.
    pub fn fstype(&self) -> &str {
        &self.fstype
    }

    /// Source, as given to mount(2).
    pub fn source(&self) -> &[u8] {
        &self.source
    }

    /// Where in its file system its top is (`/proc/PID/mountinfo`, fourth column).
    pub fn place(&self) -> Vec<u8> {
        let mut names = Vec::new();
        let mut at = self.root.clone();
        while let Some(parent) = at.parent() {
            names.push(at.name());
            at = parent;
        }
        let mut text = self.top.clone();
        if text.ends_with(b"/") {
            text.pop();
        }
        for name in names.iter().rev() {
            text.push(b'/');
            text.extend_from_slice(name);
        }
        if text.is_empty() {
            text.push(b'/');
        }
        text
    }

    /// The file system's own options.
    pub fn options(&self) -> &str {
        &self.options
    }

    /// Per-mount flags.
    #[inline]
    pub fn flags(&self) -> MountFlags {
        MountFlags::from_bits_truncate(self.flags.load(Ordering::Relaxed))
    }

    /// Changes the per-mount flags (`MS_REMOUNT`).
    pub fn set_flags(&self, flags: MountFlags) {
        self.flags.store(flags.bits(), Ordering::Relaxed);
    }

    /// The user namespace that the file system was mounted in.
    #[inline]
    pub fn owner(&self) -> &UserNamespace {
        &self.owner
    }

    /// Whether devices on it cannot be opened: on most, anybody could have made them in a user
    /// namespace of their own.
    pub fn refuses_devices(&self) -> bool {
        self.flags().contains(MountFlags::NODEV)
            || (!self.owner.is_first() && self.fstype != "devpts")
    }

    /// Whether set-id bits have an effect for a program in `ns`.
    pub fn honours_set_id(&self, ns: &UserNamespace) -> bool {
        !self.flags().contains(MountFlags::NOSUID) && ns.is_within(&self.owner)
    }

    /// Keeps it as it is, in a namespace of mounts for the less privileged: what flags forbid stays
    /// forbidden, and with `place` what is below it stays hidden.
    pub(crate) fn lock_down(&self, place: bool) {
        let mut locks = MountLocks::ATIME | MountLocks::from_flags(self.flags());
        locks.set(MountLocks::PLACE, place);
        self.locks.fetch_or(locks.bits(), Ordering::Relaxed);
    }

    fn locks(&self) -> MountLocks {
        MountLocks::from_bits_truncate(self.locks.load(Ordering::Relaxed))
    }

    /// Whether it cannot be moved or unmounted (`MNT_LOCKED`).
    pub fn is_locked(&self) -> bool {
        self.locks().contains(MountLocks::PLACE)
    }

    /// Lets it be moved and unmounted.
    pub(crate) fn unlock_place(&self) {
        self.locks
            .fetch_and(!MountLocks::PLACE.bits(), Ordering::Relaxed);
    }

    /// Whether what is locked of it lets another mount of its type have `flags`.
    pub(crate) fn may_be_seen_with(&self, flags: MountFlags) -> bool {
        let locks = self.locks() & (MountLocks::RDONLY | MountLocks::ATIME);
        self.allows(locks, flags)
    }

    /// Takes over what of `other` is locked that concerns its content.
    pub(crate) fn lock_as(&self, other: &Mount) {
        let locks = other.locks() & (MountLocks::RDONLY | MountLocks::ATIME);
        self.locks.fetch_or(locks.bits(), Ordering::Relaxed);
    }

    /// Whether its flags can become these (`can_change_locked_flags`).
    pub fn may_become(&self, flags: MountFlags) -> bool {
        self.allows(self.locks(), flags)
    }

    fn allows(&self, locks: MountLocks, flags: MountFlags) -> bool {
        /// What is said of access times.
        const ATIME: MountFlags = MountFlags::NOATIME
            .union(MountFlags::NODIRATIME)
            .union(MountFlags::STRICTATIME);
        let kept = locks & !(MountLocks::PLACE | MountLocks::ATIME);
        MountLocks::from_flags(flags).contains(kept)
            && (!locks.contains(MountLocks::ATIME) || self.flags() & ATIME == flags & ATIME)
    }

    /// Whether nothing may be changed through it.
    #[inline]
    pub fn is_read_only(&self) -> bool {
        self.flags().contains(MountFlags::RDONLY)
    }

    /// The place it is mounted on; `None` at the top of the tree and when detached.
    pub fn mountpoint(&self) -> Option<VfsPath> {
        self.point.read().clone()
    }

    pub(crate) fn set_mountpoint(&self, point: Option<VfsPath>) -> Option<VfsPath> {
        std::mem::replace(&mut *self.point.write(), point)
    }

    /// Whether a read now must set the access time (relatime and its relatives).
    pub fn wants_atime(
        &self,
        kind: FileType,
        atime: Timespec,
        mtime: Timespec,
        ctime: Timespec,
        now: Timespec,
    ) -> bool {
        let flags = self.flags();
        if flags.intersects(MountFlags::NOATIME | MountFlags::RDONLY)
            || (kind == FileType::Directory && flags.contains(MountFlags::NODIRATIME))
        {
            return false;
        }
        const DAY: i64 = 24 * 60 * 60;
        flags.contains(MountFlags::STRICTATIME)
            || atime <= mtime
            || atime <= ctime
            || now.sec.saturating_sub(atime.sec) >= DAY
    }

    /// The name of a file that has no place in any tree, where `at` is one.
    pub(crate) fn anonymous_name(&self, at: &VfsPath) -> Option<Vec<u8>> {
        crate::anon::name_of(at.inode())
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // Nobody can reach the file system any more (or only through a bind mount, which looks
        // names up again): its dentries need not be kept.
        if self.root.parent().is_none() {
            crate::cache::forget_tree(&self.root);
        }
        notify::unmounted(self.root.tree());
    }
}
