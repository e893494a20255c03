//! The tree of mounts.

use crate::nsfs::NamespaceId;
use crate::{Mount, MountFlags, MountSpec, VfsPath};
use abi::Errno;
use auth::UserNamespace;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use sync::{RwLock, ranks};

/// The mounts that a set of tasks sees.
#[derive(Debug)]
pub struct MountNamespace {
    id: NamespaceId,
    owner: UserNamespace,
    table: RwLock<Table, ranks::Mounts>,
}

#[derive(Default)]
struct Table {
    /// By id, which is the order of mounting.
    all: BTreeMap<u64, Arc<Mount>>,
    /// What is mounted where, by [`key`].
    on: HashMap<(u64, usize), u64>,
    /// Id of the mount at the top.
    top: u64,
}

/// A place as a key. The mount that is found by it keeps the dentry alive, so that the address
/// stays its own.
fn key(at: &VfsPath) -> (u64, usize) {
    (at.mount.id(), Arc::as_ptr(&at.dentry).addr())
}

impl MountNamespace {
    /// A namespace with `spec` at its top.
    pub fn new(spec: MountSpec) -> Arc<MountNamespace> {
        let top = Mount::detached(spec);
        let mut table = Table {
            top: top.id(),
            ..Table::default()
        };
        table.all.insert(top.id(), top);
        Arc::new(MountNamespace {
            id: NamespaceId::new(),
            owner: UserNamespace::default(),
            table: RwLock::new(table),
        })
    }

    /// The number of its file in `/proc/PID/ns`.
    pub fn id(&self) -> u64 {
        self.id.get()
    }

    /// The user namespace whose it is.
    pub fn owner(&self) -> &UserNamespace {
        &self.owner
    }

    /// Whether `mount` is one of its.
    pub fn has(&self, mount: &Mount) -> bool {
        self.table.read().all.contains_key(&mount.id())
    }

    /// The top of the tree.
    pub fn root(&self) -> VfsPath {
        let table = self.table.read();
        let (_, first) = table
            .all
            .first_key_value()
            .expect("the top mount cannot be unmounted");
        let top = table.all.get(&table.top).unwrap_or(first);
        covered(&table, top.root_path())
    }

    /// What is mounted on `at`, if anything is: the uppermost.
    pub(crate) fn mounted_on(&self, at: &VfsPath) -> Option<Arc<Mount>> {
        let table = self.table.read();
        table
            .on
            .get(&key(at))
            .and_then(|id| table.all.get(id))
            .cloned()
    }

    /// `EINVAL` where `at` is on a mount of another namespace (`check_mnt`).
    fn check(&self, at: &VfsPath) -> Result<(), Errno> {
        if self.has(&at.mount) {
            Ok(())
        } else {
            Err(Errno::EINVAL)
        }
    }

    /// Mounts a file system on `at`.
    ///
    /// # Errors
    /// `EINVAL` where `at` is on a mount of another namespace, `ENOTDIR` unless both or neither are directories, `ENOENT` where `at` was removed.
    pub fn mount(&self, at: &VfsPath, spec: MountSpec) -> Result<Arc<Mount>, Errno> {
        let mount = Mount::detached(spec);
        self.attach(at, &mount)?;
        Ok(mount)
    }

    /// Makes `from` visible at `at` also; with `recursive`, what is mounted below `from` too.
    ///
    /// # Errors
    /// As [`MountNamespace::mount`]; `EINVAL` where what is hidden below `from` would be seen.
    pub fn bind(&self, from: &VfsPath, at: &VfsPath, recursive: bool) -> Result<Arc<Mount>, Errno> {
        self.check(from)?;
        // Chosen before the new mount exists, so that it is not copied into itself.
        let mut below: Vec<Arc<Mount>> = self.mounts_below(from);
        if !recursive {
            let locked = |m: &Arc<Mount>| {
                let point = m.mountpoint();
                m.is_locked() && point.is_some_and(|p| Arc::ptr_eq(&p.mount, &from.mount))
            };
            if below.iter().any(locked) {
                return Err(Errno::EINVAL);
            }
            below.clear();
        }
        let mount = from.mount.bound(from.dentry.clone());
        mount.unlock_place();
        self.attach(at, &mount)?;
        let mut copies: Vec<(u64, Arc<Mount>)> = vec![(from.mount.id(), mount.clone())];
        for old in below {
            let Some(point) = old.mountpoint() else {
                continue;
            };
            let Some((_, parent)) = copies.iter().find(|(id, _)| *id == point.mount.id()) else {
                continue;
            };
            let copy = old.bound(old.root().clone());
            let place = VfsPath {
                mount: parent.clone(),
                dentry: point.dentry.clone(),
            };
            self.attach(&place, &copy)?;
            copies.push((old.id(), copy));
        }
        Ok(mount)
    }

    /// The mounts on places below `from`, parents first.
    fn mounts_below(&self, from: &VfsPath) -> Vec<Arc<Mount>> {
        let all: Vec<Arc<Mount>> = self.table.read().all.values().cloned().collect();
        let mut found: Vec<Arc<Mount>> = Vec::new();
        loop {
            let more: Vec<Arc<Mount>> = all
                .iter()
                .filter(|m| !found.iter().any(|f| Arc::ptr_eq(f, m)))
                .filter(|m| {
                    m.mountpoint().is_some_and(|p| {
                        found.iter().any(|f| Arc::ptr_eq(f, &p.mount))
                            || (Arc::ptr_eq(&p.mount, &from.mount)
                                && from.dentry.is_ancestor_of(&p.dentry))
                    })
                })
                .cloned()
                .collect();
            if more.is_empty() {
                return found;
            }
            found.extend(more);
        }
    }

    /// Puts a mount that is nowhere yet on `at`.
    ///
    /// # Errors
    /// As [`MountNamespace::mount`].
    pub fn attach(&self, at: &VfsPath, mount: &Arc<Mount>) -> Result<(), Errno> {
        self.check(at)?;
        if at.is_dir() != mount.root().is_dir() {
            return Err(Errno::ENOTDIR);
        }
        if at.dentry.is_deleted() {
            return Err(Errno::ENOENT);
        }
        let mut table = self.table.write();
        // On top of what is there already.
        let at = covered(&table, at.clone());
        at.dentry.mounted_by(true);
        table.on.insert(key(&at), mount.id());
        mount.set_mountpoint(Some(at));
        table.all.insert(mount.id(), mount.clone());
        Ok(())
    }

    /// Moves a mount (`MS_MOVE`): `from` must be the root of one.
    ///
    /// # Errors
    /// `EINVAL` where `from` is no mount's root or locked, `ELOOP` where `to` lies inside it.
    pub fn move_mount(&self, from: &VfsPath, to: &VfsPath) -> Result<(), Errno> {
        if !from.is_mount_root() || from.mount.mountpoint().is_none() || from.mount.is_locked() {
            return Err(Errno::EINVAL);
        }
        self.check(from)?;
        self.check(to)?;
        let mut up = Some(to.clone());
        while let Some(at) = up {
            if Arc::ptr_eq(&at.mount, &from.mount) {
                return Err(Errno::ELOOP);
            }
            up = at.mount.mountpoint();
        }
        if to.is_dir() != from.is_dir() {
            return Err(Errno::ENOTDIR);
        }
        let old = {
            let mut table = self.table.write();
            let to = covered(&table, to.clone());
            to.dentry.mounted_by(true);
            table.on.insert(key(&to), from.mount.id());
            let old = from.mount.set_mountpoint(Some(to));
            if let Some(old) = &old {
                table.on.remove(&key(old));
            }
            old
        };
        if let Some(old) = old {
            old.dentry.mounted_by(false);
        }
        Ok(())
    }

    /// Unmounts the mount whose root `at` is. With `detach` (`MNT_DETACH`) it goes from the tree,
    /// with all that is mounted below it, and lives on for who uses it.
    ///
    /// # Errors
    /// `EINVAL` where `at` is no mount's root, or the top, or locked; `EBUSY` where it is in use.
    pub fn umount(&self, at: VfsPath, detach: bool) -> Result<(), Errno> {
        if !at.is_mount_root() || at.mount.mountpoint().is_none() || at.mount.is_locked() {
            return Err(Errno::EINVAL);
        }
        let mount = at.mount.clone();
        drop(at);
        let mut going = if detach {
            self.mounts_below(&mount.root_path())
        } else {
            Vec::new()
        };
        let mut table = self.table.write();
        if !table.all.contains_key(&mount.id()) {
            return Err(Errno::EINVAL);
        }
        // In use: more references than the table's and ours.
        if !detach && Arc::strong_count(&mount) > 2 {
            return Err(Errno::EBUSY);
        }
        going.push(mount);
        let mut points = Vec::new();
        for m in &going {
            table.all.remove(&m.id());
            if let Some(point) = m.set_mountpoint(None) {
                table.on.remove(&key(&point));
                point.dentry.mounted_by(false);
                points.push(point);
            }
        }
        // Mounts and places end here, or with their last user: not under the lock.
        drop(table);
        drop((going, points));
        Ok(())
    }

    /// Changes the per-mount flags of the mount whose root `at` is; `EINVAL` where it is none,
    /// `EPERM` where they are locked.
    pub fn remount(&self, at: &VfsPath, flags: MountFlags) -> Result<(), Errno> {
        if !at.is_mount_root() {
            return Err(Errno::EINVAL);
        }
        self.check(at)?;
        if !at.mount.may_become(flags) {
            return Err(Errno::EPERM);
        }
        at.mount.set_flags(flags);
        Ok(())
    }

    /// Whether a file system of type `fstype` that is mounted with `flags` shows no more than one
    /// that is mounted already, whole and with nothing locked on it; what of that one is locked is
    /// so of `new`, too (`mount_too_revealing`).
    pub fn shows_no_more(&self, new: &Mount, flags: MountFlags) -> bool {
        let list = self.list();
        let whole = |m: &&Arc<Mount>| {
            m.fstype() == new.fstype() && m.place() == b"/" && m.may_be_seen_with(flags)
        };
        let covered = |m: &Arc<Mount>| {
            list.iter().any(|child| {
                let point = child.mountpoint();
                child.is_locked() && point.is_some_and(|p| Arc::ptr_eq(&p.mount, m))
            })
        };
        match list.iter().filter(whole).find(|m| !covered(m)) {
            Some(seen) => {
                new.lock_as(seen);
                true
            }
            None => false,
        }
    }

    /// All mounts in the order of mounting, for /proc/PID/mounts and mountinfo.
    pub fn list(&self) -> Vec<Arc<Mount>> {
        self.table.read().all.values().cloned().collect()
    }

    /// The uppermost of what is mounted on `at`, root included; `at` itself where there is
    /// nothing.
    pub fn cross(&self, at: VfsPath) -> VfsPath {
        if !at.dentry.is_mountpoint() {
            return at;
        }
        covered(&self.table.read(), at)
    }

    /// A copy with mounts of its own for `owner` (`CLONE_NEWNS`), and the place in it that
    /// corresponds to each of `places` (root and working directory of the task). For another owner
    /// than this one's the mounts are locked.
    pub fn copy(&self, owner: &UserNamespace, places: &mut [&mut VfsPath]) -> Arc<MountNamespace> {
        let list = self.list();
        let top = self.table.read().top;
        let mut copies: BTreeMap<u64, Arc<Mount>> = BTreeMap::new();
        for m in &list {
            let copy = m.bound(m.root().clone());
            if *owner != self.owner {
                copy.lock_down(m.id() != top);
            }
            copies.insert(m.id(), copy);
        }
        let mut table = Table::default();
        for m in &list {
            let Some(copy) = copies.get(&m.id()) else {
                continue;
            };
            if let Some(point) = m.mountpoint()
                && let Some(parent) = copies.get(&point.mount.id())
            {
                let place = VfsPath {
                    mount: parent.clone(),
                    dentry: point.dentry,
                };
                place.dentry.mounted_by(true);
                table.on.insert(key(&place), copy.id());
                copy.set_mountpoint(Some(place));
            }
            if m.id() == top {
                table.top = copy.id();
            }
            table.all.insert(copy.id(), copy.clone());
        }
        for place in places {
            if let Some(copy) = copies.get(&place.mount.id()) {
                place.mount = copy.clone();
            }
        }
        Arc::new(MountNamespace {
            id: NamespaceId::new(),
            owner: owner.clone(),
            table: RwLock::new(table),
        })
    }
}

/// What lies uppermost on `at`.
fn covered(table: &Table, mut at: VfsPath) -> VfsPath {
    while at.dentry.is_mountpoint()
        && let Some(m) = table.on.get(&key(&at)).and_then(|id| table.all.get(id))
    {
        at = m.root_path();
    }
    at
}

impl std::fmt::Debug for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} mounts", self.all.len())
    }
}

impl Drop for MountNamespace {
    fn drop(&mut self) {
        // A mount names its mountpoint, and that the mount below it: no cycle, but counts to keep.
        for m in self.table.get_mut().all.values() {
            if let Some(point) = m.set_mountpoint(None) {
                point.dentry.mounted_by(false);
            }
        }
    }
}
