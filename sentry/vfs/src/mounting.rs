//! What mount(2), umount2(2), pivot_root(2) and their like do to a namespace, with Linux's checks
//! in Linux's order. Whether the caller may mount at all was asked before.

use crate::propagation::{Kinship, Propagation};
use crate::tree::{self, Change, Copying};
use crate::{Dentry, Mount, MountFlags, MountNamespace, MountSpec, VfsPath, nsfs};
use abi::Errno;
use auth::{Capability, Creds};
use std::sync::Arc;

/// What is to be done to the attributes of a mount (mount_setattr(2)).
#[derive(Clone, Copy, Debug, Default)]
pub struct AttributeChange {
    /// Flags to be set.
    pub set: MountFlags,
    /// Flags to be cleared before that.
    pub clear: MountFlags,
    /// How it is to take part in propagation from now on.
    pub propagation: Option<Propagation>,
    /// What is mounted below it is changed too.
    pub recursive: bool,
}

/// Where something that is mounted on `at` will stand: upon what is there already.
fn free_place(at: &VfsPath) -> Result<VfsPath, Errno> {
    let at = tree::topmost(at.clone());
    if at.dentry.is_deleted() || !at.inode().takes_mounts() {
        return Err(Errno::ENOENT);
    }
    Ok(at)
}

/// A copy of what `from` shows, for a bind mount or a tree of its own.
fn copy_for(
    change: &mut Change,
    namespace: &MountNamespace,
    from: &VfsPath,
    recursive: bool,
) -> Result<Arc<Mount>, Errno> {
    if from.mount.is_unbindable()
        || !namespace.may_copy(change, from)
        || (!recursive && from.mount.hides_below(from))
    {
        return Err(Errno::EINVAL);
    }
    let how = Copying::BIND;
    let (top, _) = tree::copy_tree(change, &from.mount, &from.dentry, recursive, how)?;
    top.unlock_place();
    Ok(top)
}

/// Whether a tree has a mount that may not be bound elsewhere.
fn has_unbindable(top: &Arc<Mount>) -> bool {
    tree::subtree(top).iter().any(|m| m.is_unbindable())
}

/// Whether `at` is `under`, or lies below it in the tree of mounts.
fn reachable(at: &VfsPath, under: &VfsPath) -> bool {
    let mut at = at.clone();
    while !Arc::ptr_eq(&at.mount, &under.mount) {
        match at.mount.mountpoint() {
            Some(point) => at = point,
            None => return false,
        }
    }
    under.dentry.is_ancestor_of(&at.dentry)
}

impl MountNamespace {
    /// Whether a name leads to the file of a namespace that must not be mounted in this one: no
    /// namespace may be kept by what it shows, nor by what one shows that it keeps. So each keeps
    /// younger ones alone.
    fn is_kept_by(&self, dentry: &Dentry) -> bool {
        nsfs::mounts_behind(dentry).is_some_and(|id| id <= self.id())
    }

    /// Whether it is a tree that a task of `self` may change.
    fn may_use(&self, change: &mut Change, mount: &Mount) -> bool {
        mount.is_in(self) || change.home(mount).is_some_and(|n| n.is_usable_from(self))
    }

    fn may_copy(&self, change: &mut Change, from: &VfsPath) -> bool {
        // What is in no tree (a namespace's file) can be bound, too.
        self.may_use(change, &from.mount) || from.inode().can_be_bound()
    }

    /// Mounts a file system on `at`.
    ///
    /// # Errors
    /// `ENOTDIR` unless both or neither are directories, `ENOENT` where `at` was removed, `EINVAL`
    /// where it is not of this namespace.
    pub fn mount(&self, at: &VfsPath, spec: MountSpec) -> Result<Arc<Mount>, Errno> {
        self.mount_made(at, Mount::detached(spec))
    }

    /// As [`MountNamespace::mount`], of a mount that was made and stands nowhere.
    ///
    /// # Errors
    /// As there; `EBUSY` for the file system that is mounted on `at` already.
    pub fn mount_made(&self, at: &VfsPath, mount: Arc<Mount>) -> Result<Arc<Mount>, Errno> {
        let mut change = Change::begin();
        let at = free_place(at)?;
        if !at.mount.is_in(self) {
            return Err(Errno::EINVAL);
        }
        if at.is_mount_root()
            && Arc::ptr_eq(at.mount.superblock(), mount.superblock())
            && Arc::ptr_eq(at.mount.root(), mount.root())
        {
            return Err(Errno::EBUSY);
        }
        self.graft(&mut change, &mount, at)?;
        Ok(mount)
    }

    fn graft(&self, change: &mut Change, mount: &Arc<Mount>, at: VfsPath) -> Result<(), Errno> {
        if at.is_dir() != mount.root().is_dir() {
            return Err(Errno::ENOTDIR);
        }
        let home = change.home(&at.mount).ok_or(Errno::EINVAL)?;
        tree::attach(change, mount, at, &home)
    }

    /// Makes `from` visible at `at` also; with `recursive`, what is mounted below `from` too.
    ///
    /// # Errors
    /// As [`MountNamespace::mount`]; `EINVAL` for what is unbindable, and where what is locked and
    /// hidden below `from` would be seen.
    pub fn bind(&self, from: &VfsPath, at: &VfsPath, recursive: bool) -> Result<Arc<Mount>, Errno> {
        if self.is_kept_by(&from.dentry) {
            return Err(Errno::EINVAL);
        }
        let mut change = Change::begin();
        let at = free_place(at)?;
        if !at.mount.is_in(self) {
            return Err(Errno::EINVAL);
        }
        let copy = copy_for(&mut change, self, from, recursive)?;
        self.graft(&mut change, &copy, at)
            .inspect_err(|_| tree::dissolve(&mut change, &copy))?;
        Ok(copy)
    }

    /// A copy of what `from` shows, as a tree of its own (`OPEN_TREE_CLONE`).
    ///
    /// # Errors
    /// `EINVAL` for what is unbindable, or out of reach.
    pub fn clone_tree(
        &self,
        from: &VfsPath,
        recursive: bool,
    ) -> Result<Arc<MountNamespace>, Errno> {
        let mut change = Change::begin();
        let copy = copy_for(&mut change, self, from, recursive)?;
        let origin = match change.home(&from.mount).filter(|n| n.is_anonymous()) {
            Some(tree) => tree.origin(),
            None => self.id(),
        };
        Ok(self.around(&mut change, &copy, origin))
    }

    /// A new mount as a tree of its own (fsmount(2)).
    pub fn tree_of(&self, mount: &Arc<Mount>) -> Arc<MountNamespace> {
        self.around(&mut Change::begin(), mount, 0)
    }

    /// Moves a mount (`MS_MOVE`, move_mount(2)): `from` must be the root of one. With `beneath`,
    /// under the mount whose root `to` is; `root` is the caller's root directory.
    ///
    /// # Errors
    /// `EINVAL` where `from` is no mount's root or cannot be moved, `ELOOP` where `to` lies inside
    /// it.
    pub fn move_mount(
        &self,
        from: &VfsPath,
        to: &VfsPath,
        beneath: bool,
        root: &VfsPath,
    ) -> Result<(), Errno> {
        if !from.is_mount_root() || from.is_dir() != to.is_dir() {
            return Err(Errno::EINVAL);
        }
        let mut change = Change::begin();
        let mount = &from.mount;
        let to = match beneath {
            false => free_place(to)?,
            true if !to.is_mount_root() => return Err(Errno::EINVAL),
            true => tree::topmost(to.clone()),
        };
        let place = match beneath {
            false => to.clone(),
            true => to.mount.mountpoint().ok_or(Errno::EINVAL)?,
        };
        if mount.is_locked() {
            return Err(Errno::EINVAL);
        }
        if mount.is_in(self) {
            let point = mount.mountpoint().ok_or(Errno::EINVAL)?;
            if point.mount.is_shared() || !place.mount.is_in(self) {
                return Err(Errno::EINVAL);
            }
        } else {
            let tree = change.home(mount).filter(|n| n.is_anonymous());
            let tree = tree.ok_or(Errno::EINVAL)?;
            let is_top = tree.bottom().is_some_and(|b| Arc::ptr_eq(&b, mount));
            if !is_top || place.mount.is_in(&tree) || !self.may_use(&mut change, &place.mount) {
                return Err(Errno::EINVAL);
            }
        }
        if beneath {
            self.can_go_beneath(mount, &to.mount, &place, root)?;
        }
        if place.mount.is_shared() && has_unbindable(mount) {
            return Err(Errno::EINVAL);
        }
        let mut all = tree::subtree(mount).into_iter();
        if all.any(|m| self.is_kept_by(m.root())) || tree::is_below(mount, &place.mount) {
            return Err(Errno::ELOOP);
        }
        let home = change.home(&place.mount).ok_or(Errno::EINVAL)?;
        tree::attach(&mut change, mount, place, &home)
    }

    fn can_go_beneath(
        &self,
        mount: &Arc<Mount>,
        over: &Arc<Mount>,
        place: &VfsPath,
        root: &VfsPath,
    ) -> Result<(), Errno> {
        let covered = mount.child_on(mount.root()).is_some();
        let bottom = self.bottom();
        let on_bottom = bottom.is_some_and(|b| Arc::ptr_eq(&b, &place.mount));
        let roots = Arc::ptr_eq(over, &root.mount) || on_bottom;
        // What would be shown upon `over`, or upon the mount itself, defeats the purpose.
        let receivers = place.mount.receivers();
        let covers = |m: &Arc<Mount>| {
            Arc::ptr_eq(m.root(), &place.dentry) && receivers.iter().any(|r| Arc::ptr_eq(r, m))
        };
        if covered
            || roots
            || over.is_locked()
            || tree::is_below(over, mount)
            || covers(over)
            || (mount.is_in(self) && covers(mount))
        {
            return Err(Errno::EINVAL);
        }
        Ok(())
    }

    /// Puts the mount of `to` into the groups of that of `from` (`MOVE_MOUNT_SET_GROUP`).
    ///
    /// # Errors
    /// `EINVAL` unless both are roots of one file system's mounts, `to` is private and `from` not;
    /// `EPERM` unless `creds` administer the namespaces of both.
    pub fn set_group(&self, creds: &Creds, from: &VfsPath, to: &VfsPath) -> Result<(), Errno> {
        let mut change = Change::begin();
        may_change_groups(&mut change, creds, &from.mount)?;
        may_change_groups(&mut change, creds, &to.mount)?;
        let (old, new) = (&from.mount, &to.mount);
        let has_groups = |m: &Arc<Mount>| m.is_shared() || m.master_id().is_some();
        if !from.is_mount_root()
            || !to.is_mount_root()
            || !Arc::ptr_eq(old.superblock(), new.superblock())
            || !old.root().is_ancestor_of(new.root())
            || has_groups(new)
            || !has_groups(old)
        {
            return Err(Errno::EINVAL);
        }
        new.related(old, Kinship::Same);
        Ok(())
    }

    /// Changes how the mount whose root `at` is takes part in propagation, with `recursive` what
    /// is mounted below it too.
    ///
    /// # Errors
    /// `EINVAL` where `at` is no mount's root, or of no namespace; `EPERM` unless `creds` administer
    /// that one.
    pub fn set_propagation(
        &self,
        creds: &Creds,
        at: &VfsPath,
        kind: Propagation,
        recursive: bool,
    ) -> Result<(), Errno> {
        let mut change = Change::begin();
        if !at.is_mount_root() {
            return Err(Errno::EINVAL);
        }
        // What is mounted below it is of the same namespace.
        may_change_groups(&mut change, creds, &at.mount)?;
        for mount in chosen(&at.mount, recursive) {
            mount.set_propagation(kind);
            change.keep(mount);
        }
        Ok(())
    }

    /// mount_setattr(2), of the mount whose root `at` is.
    ///
    /// # Errors
    /// `EINVAL` where it is none, or of another namespace; `EPERM` where flags are locked; `EBUSY`
    /// where a mount is to be read-only and is written through.
    pub fn change_attributes(&self, at: &VfsPath, how: &AttributeChange) -> Result<(), Errno> {
        let mut change = Change::begin();
        let mount = &at.mount;
        let tree = change.home(mount).filter(|n| n.is_anonymous());
        let is_top = tree
            .and_then(|n| n.bottom())
            .is_some_and(|b| Arc::ptr_eq(&b, mount));
        if !at.is_mount_root() || !(is_top || mount.is_in(self)) {
            return Err(Errno::EINVAL);
        }
        let all = chosen(mount, how.recursive);
        let mut done: Vec<(&Arc<Mount>, MountFlags)> = Vec::new();
        for mount in &all {
            let old = mount.flags();
            let new = (old - how.clear) | how.set;
            let changed = match mount.may_become(new) {
                true => mount.change_flags(new),
                false => Err(Errno::EPERM),
            };
            if let Err(e) = changed {
                // All of them or none.
                for (mount, old) in done {
                    mount.set_flags(old);
                }
                return Err(e);
            }
            done.push((mount, old));
        }
        if let Some(namespace) = change.home(mount) {
            change.touch(&namespace);
        }
        for mount in all {
            if let Some(kind) = how.propagation {
                mount.set_propagation(kind);
            }
            change.keep(mount);
        }
        Ok(())
    }

    /// Changes the per-mount flags of the mount whose root `at` is (`MS_REMOUNT | MS_BIND`).
    ///
    /// # Errors
    /// `EINVAL` where it is none, or of another namespace; `EPERM` where they are locked; `EBUSY`
    /// where it is written through.
    pub fn remount(&self, at: &VfsPath, flags: MountFlags) -> Result<(), Errno> {
        if !at.mount.is_in(self) || !at.is_mount_root() {
            return Err(Errno::EINVAL);
        }
        if !at.mount.may_become(flags) {
            return Err(Errno::EPERM);
        }
        at.mount.change_flags(flags)?;
        self.changed();
        Ok(())
    }

    /// Whether `at` is the root of a mount of this namespace.
    ///
    /// # Errors
    /// `EINVAL`.
    pub fn check_root(&self, at: &VfsPath) -> Result<(), Errno> {
        match at.is_mount_root() && at.mount.is_in(self) {
            true => Ok(()),
            false => Err(Errno::EINVAL),
        }
    }

    /// Whether the mount whose root `at` is can be unmounted or expire here.
    ///
    /// # Errors
    /// `EINVAL`, also where it is locked.
    pub fn check_umount(&self, at: &VfsPath) -> Result<(), Errno> {
        self.check_root(at)?;
        match at.mount.is_locked() {
            false => Ok(()),
            true => Err(Errno::EINVAL),
        }
    }

    /// `MNT_EXPIRE`: whether the mount of `at`, which nobody uses, was marked by an earlier call.
    ///
    /// # Errors
    /// `EBUSY` where it is in use, `EAGAIN` where this call marks it.
    pub fn expire(&self, at: &VfsPath) -> Result<(), Errno> {
        // That of the table, that of its place, and the caller's.
        if at.mount.has_children() || Arc::strong_count(&at.mount) > 3 {
            return Err(Errno::EBUSY);
        }
        match at.mount.expire() {
            true => Ok(()),
            false => Err(Errno::EAGAIN),
        }
    }

    /// Unmounts the mount whose root `at` is. With `detach` (`MNT_DETACH`) it goes from the tree,
    /// with all that is mounted below it, and lives on for who uses it.
    ///
    /// # Errors
    /// `EINVAL` where `at` is no mount's root, or the bottom; `EBUSY` where it is in use.
    pub fn umount(&self, at: VfsPath, detach: bool) -> Result<(), Errno> {
        let mut change = Change::begin();
        self.check_umount(&at)?;
        let mount = at.mount.clone();
        let point = mount.mountpoint().ok_or(Errno::EINVAL)?;
        drop(at);
        if !detach && tree::is_busy(&mount, 1) {
            return Err(Errno::EBUSY);
        }
        tree::unmount(&mut change, &mount);
        change.keep(mount);
        change.keep(point.mount);
        Ok(())
    }

    /// pivot_root(2): `new` becomes the root of the tree in place of `root`, which is mounted on
    /// `old`.
    ///
    /// # Errors
    /// Those of pivot_root(2).
    pub fn pivot(&self, root: &VfsPath, new: &VfsPath, old: &VfsPath) -> Result<(), Errno> {
        let mut change = Change::begin();
        let old = free_place(old)?;
        let (root_mount, new_mount) = (&root.mount, &new.mount);
        let (root_point, new_point) = (root_mount.mountpoint(), new_mount.mountpoint());
        let shared = |p: &Option<VfsPath>| p.as_ref().is_some_and(|p| p.mount.is_shared());
        if old.mount.is_shared()
            || shared(&new_point)
            || shared(&root_point)
            || !root_mount.is_in(self)
            || !new_mount.is_in(self)
            || new_mount.is_locked()
        {
            return Err(Errno::EINVAL);
        }
        if new.dentry.is_deleted() {
            return Err(Errno::ENOENT);
        }
        if Arc::ptr_eq(new_mount, root_mount) || Arc::ptr_eq(&old.mount, root_mount) {
            return Err(Errno::EBUSY);
        }
        if !root.is_mount_root() || !new.is_mount_root() {
            return Err(Errno::EINVAL);
        }
        let root_point = root_point.ok_or(Errno::EINVAL)?;
        if new_point.is_none() || !reachable(&old, new) || !reachable(new, root) {
            return Err(Errno::EINVAL);
        }
        if root_mount.unlock_place() {
            new_mount.lock_place();
        }
        change.take(new_mount);
        change.take(root_mount);
        change.put(new_mount, root_point);
        change.put(root_mount, old);
        change.touch(&self.handle());
        Ok(())
    }
}

/// Whether who has `creds` may say who hears of what is mounted below `mount`: in whichever
/// namespace it is, but as an administrator of that one (`may_change_propagation`).
fn may_change_groups(change: &mut Change, creds: &Creds, mount: &Mount) -> Result<(), Errno> {
    let home = change.home(mount).ok_or(Errno::EINVAL)?;
    match creds.has_in(home.owner(), Capability::SysAdmin) {
        true => Ok(()),
        false => Err(Errno::EPERM),
    }
}

fn chosen(mount: &Arc<Mount>, recursive: bool) -> Vec<Arc<Mount>> {
    match recursive {
        true => tree::subtree(mount),
        false => vec![mount.clone()],
    }
}
