//! One mount of a file system.

use crate::propagation::PeerGroup;
use crate::superblock::{FileSystem, FixedOptions, SuperBlock, SuperFlags};
use crate::{Dentry, FileType, Inode, MountFlags, MountNamespace, VfsPath};
use abi::Errno;
use abi::time::Timespec;
use auth::UserNamespace;
use ctx::Ctx;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use sync::{Mutex, MutexGuard, RwLock, ranks};

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
    /// Flags of the file system.
    pub super_flags: SuperFlags,
    /// The file system as a whole.
    pub fs: Arc<dyn FileSystem>,
    /// The user namespace that it is mounted in first.
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
            super_flags: SuperFlags::empty(),
            fs: Arc::new(FixedOptions(String::new())),
            owner: UserNamespace::default(),
        }
    }
}

/// A mounted file system, or a part of one (bind mount).
pub struct Mount {
    id: u64,
    root: Arc<Dentry>,
    superblock: Arc<SuperBlock>,
    source: Arc<[u8]>,
    flags: AtomicU32,
    /// What of it cannot be changed where it is: see `mount_locks`.
    pub(crate) locks: AtomicU32,
    /// Open descriptions that write through it.
    writers: AtomicU32,
    /// `MNT_EXPIRE` has been asked for, and nobody has come by since.
    expiring: AtomicBool,
    point: RwLock<Option<VfsPath>, ranks::Leaf>,
    /// What is mounted on places in it, by the address of the dentry, which the mount that is
    /// found by it keeps alive.
    children: RwLock<BTreeMap<usize, Arc<Mount>>, ranks::Leaf>,
    /// Where something of those stands that knows nothing of it any more ([`Mount::take_off`]).
    hidden: Mutex<Vec<Arc<Dentry>>, ranks::Leaf>,
    links: Mutex<Links, ranks::Leaf>,
}

/// What a mount belongs to.
#[derive(Default)]
pub(crate) struct Links {
    pub(crate) namespace: Weak<MountNamespace>,
    pub(crate) peers: Option<Arc<PeerGroup>>,
    pub(crate) master: Option<Arc<PeerGroup>>,
    pub(crate) unbindable: bool,
}

impl std::fmt::Debug for Mount {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Mount({}, {})", self.id, self.fstype())
    }
}

static NEXT_ID: AtomicU64 = AtomicU64::new(1);

/// What the number of a mount that is never used again is above, as in Linux.
const UNIQUE: u64 = 1 << 31;

fn key(dentry: &Arc<Dentry>) -> usize {
    Arc::as_ptr(dentry).addr()
}

impl Mount {
    /// A mount that is not attached anywhere.
    pub fn detached(spec: MountSpec) -> Arc<Mount> {
        let root = Dentry::root(spec.root.clone());
        let (source, flags) = (spec.source.as_slice().into(), spec.flags);
        let superblock = SuperBlock::new(&root, spec);
        Mount::of(superblock, root, source, flags, 0)
    }

    /// Another mount of the same file system, with `root` as its top.
    pub(crate) fn bound(&self, root: Arc<Dentry>) -> Arc<Mount> {
        Mount::of(
            self.superblock.clone(),
            root,
            self.source.clone(),
            self.flags(),
            self.locks.load(Ordering::Relaxed),
        )
    }

    fn of(
        superblock: Arc<SuperBlock>,
        root: Arc<Dentry>,
        source: Arc<[u8]>,
        flags: MountFlags,
        locks: u32,
    ) -> Arc<Mount> {
        Arc::new(Mount {
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            root,
            superblock,
            source,
            flags: AtomicU32::new(flags.bits()),
            locks: AtomicU32::new(locks),
            writers: AtomicU32::new(0),
            expiring: AtomicBool::new(false),
            point: RwLock::new(None),
            children: RwLock::default(),
            hidden: Mutex::default(),
            links: Mutex::default(),
        })
    }

    /// Its number (`/proc/PID/mountinfo`, first column).
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Its number, as statmount(2) and `STATX_MNT_ID_UNIQUE` have it.
    pub fn unique_id(&self) -> u64 {
        UNIQUE + self.id
    }

    /// What it shares with other mounts of its file system.
    pub fn superblock(&self) -> &Arc<SuperBlock> {
        &self.superblock
    }

    /// The device number of its files.
    pub fn device(&self, cx: &dyn Ctx) -> u64 {
        self.root.inode().attr(cx).map_or(0, |a| a.dev)
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
        self.superblock.fstype()
    }

    /// Source, as given to mount(2).
    pub fn source(&self) -> &[u8] {
        &self.source
    }

    /// Where in its file system its top is (`/proc/PID/mountinfo`, fourth column).
    pub fn place(&self) -> Vec<u8> {
        if let Some(name) = crate::anon::name_of(self.root.inode()) {
            return name;
        }
        let mut names = Vec::new();
        let mut at = self.root.clone();
        while let Some(parent) = at.parent() {
            names.push(at.name());
            at = parent;
        }
        let mut text = self.superblock.top().to_vec();
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
    pub fn options(&self) -> String {
        self.superblock.fs().options()
    }

    /// Per-mount flags.
    #[inline]
    pub fn flags(&self) -> MountFlags {
        MountFlags::from_bits_truncate(self.flags.load(Ordering::Relaxed))
    }

    /// Changes the per-mount flags.
    pub fn set_flags(&self, flags: MountFlags) {
        self.flags.store(flags.bits(), Ordering::SeqCst);
    }

    /// As [`Mount::set_flags`], unless that would take from those that write.
    ///
    /// # Errors
    /// `EBUSY`.
    pub fn change_flags(&self, flags: MountFlags) -> Result<(), Errno> {
        let old = self.flags();
        self.set_flags(flags);
        if (flags - old).contains(MountFlags::RDONLY) && self.writers.load(Ordering::SeqCst) > 0 {
            self.set_flags(old);
            return Err(Errno::EBUSY);
        }
        Ok(())
    }

    /// Whether nothing may be changed through it.
    #[inline]
    pub fn is_read_only(&self) -> bool {
        self.flags().contains(MountFlags::RDONLY)
            || self.superblock.flags().contains(SuperFlags::RDONLY)
    }

    /// Counts an open description that writes; `EROFS` where that may not be.
    pub(crate) fn add_writer(&self) -> Result<(), Errno> {
        self.writers.fetch_add(1, Ordering::SeqCst);
        self.superblock.add_writer();
        if self.is_read_only() {
            self.drop_writer();
            return Err(Errno::EROFS);
        }
        Ok(())
    }

    pub(crate) fn drop_writer(&self) {
        self.writers.fetch_sub(1, Ordering::SeqCst);
        self.superblock.drop_writer();
    }

    /// The place it is mounted on; `None` at the top of the tree and when detached.
    pub fn mountpoint(&self) -> Option<VfsPath> {
        self.point.read().clone()
    }

    /// Whether it is mounted on `dentry`.
    pub(crate) fn stands_on(&self, dentry: &Arc<Dentry>) -> bool {
        let point = self.point.read();
        point
            .as_ref()
            .is_some_and(|p| Arc::ptr_eq(&p.dentry, dentry))
    }

    pub(crate) fn links(&self) -> MutexGuard<'_, Links> {
        self.links.lock()
    }

    /// The namespace it is in.
    pub fn namespace(&self) -> Option<Arc<MountNamespace>> {
        self.links.lock().namespace.upgrade()
    }

    /// Whether it is in that namespace.
    pub fn is_in(&self, namespace: &MountNamespace) -> bool {
        std::ptr::eq(self.links.lock().namespace.as_ptr(), namespace)
    }

    /// What is mounted on `dentry` of it.
    #[inline]
    pub(crate) fn child_on(&self, dentry: &Arc<Dentry>) -> Option<Arc<Mount>> {
        self.children.read().get(&key(dentry)).cloned()
    }

    /// What is mounted on places in it, oldest first.
    pub(crate) fn children(&self) -> Vec<Arc<Mount>> {
        let mut all: Vec<Arc<Mount>> = self.children.read().values().cloned().collect();
        all.sort_unstable_by_key(|m| m.id);
        all
    }

    pub(crate) fn has_children(&self) -> bool {
        !self.children.read().is_empty()
    }

    /// Puts it on `at`. With the trees locked.
    pub(crate) fn put_on(self: &Arc<Self>, at: VfsPath) {
        at.dentry.mounted_by(true);
        let old = at
            .mount
            .children
            .write()
            .insert(key(&at.dentry), self.clone());
        debug_assert!(old.is_none(), "one mount stands on a place");
        *self.point.write() = Some(at);
    }

    /// Takes it from where it is. With `stays` it does not know of that place any more, but is
    /// still found from there, and lives for as long as what it stood on. With the trees locked;
    /// what it returns must not be dropped under that lock.
    pub(crate) fn take_off(self: &Arc<Self>, stays: bool) -> Option<VfsPath> {
        let at = self.point.write().take()?;
        if stays {
            at.mount.hidden.lock().push(at.dentry.clone());
            return Some(at);
        }
        at.mount.children.write().remove(&key(&at.dentry));
        at.dentry.mounted_by(false);
        Some(at)
    }

    /// At its end: what still stood on it.
    fn part_from_children(&mut self) -> Vec<Arc<Mount>> {
        for dentry in std::mem::take(self.hidden.get_mut()) {
            dentry.mounted_by(false);
        }
        std::mem::take(self.children.get_mut())
            .into_values()
            .collect()
    }

    /// Marks it for `MNT_EXPIRE`; whether it was so already.
    pub(crate) fn expire(&self) -> bool {
        self.expiring.swap(true, Ordering::Relaxed)
    }

    /// Somebody has come by.
    #[inline]
    pub(crate) fn entered(&self) {
        if self.expiring.load(Ordering::Relaxed) {
            self.expiring.store(false, Ordering::Relaxed);
        }
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
        if self.mountpoint().is_some() {
            return None;
        }
        crate::anon::name_of(at.inode())
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // Not by recursion: a guest can mount upon mounts deeper than our stack.
        let mut left = self.part_from_children();
        while let Some(mount) = left.pop() {
            if let Some(mut mount) = Arc::into_inner(mount) {
                left.extend(mount.part_from_children());
            }
        }
    }
}
