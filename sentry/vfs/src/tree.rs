//! Changing the trees of mounts: copies, attaching, unmounting, with propagation.
//!
//! One lock ([`Change`]) covers the trees of all namespaces, since what is mounted in one can show
//! in others. Walks take none of it: they read what a mount has on its places.

use crate::mount::Mount;
use crate::propagation::{Kinship, PeerGroup, Propagation};
use crate::{Dentry, MountNamespace, VfsPath, nsfs};
use abi::Errno;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Weak};
use sync::{Mutex, MutexGuard, ranks};

/// What is mounted on each dentry, by its address, in all namespaces.
type Points = BTreeMap<usize, Vec<Weak<Mount>>>;

static TREES: Mutex<Points, ranks::Mounts> = Mutex::new(Points::new());

/// Mounts that one namespace can have (`fs.mount-max`).
const MOUNT_MAX: usize = 100_000;

/// The trees, locked for a change. What has ended by it is dropped after the lock, and who watches
/// the namespaces that it touched is told.
pub(crate) struct Change {
    trees: MutexGuard<'static, Points>,
    touched: Vec<Arc<MountNamespace>>,
    homes: Vec<Arc<MountNamespace>>,
    mounts: Vec<Arc<Mount>>,
    places: Vec<VfsPath>,
}

impl Change {
    pub(crate) fn begin() -> Change {
        Change {
            trees: TREES.lock(),
            touched: Vec::new(),
            homes: Vec::new(),
            mounts: Vec::new(),
            places: Vec::new(),
        }
    }

    /// The namespace of a mount. It outlives the lock, which its end would take.
    pub(crate) fn home(&mut self, mount: &Mount) -> Option<Arc<MountNamespace>> {
        let found = mount.namespace()?;
        self.homes.push(found.clone());
        Some(found)
    }

    /// It has changed.
    pub(crate) fn touch(&mut self, namespace: &Arc<MountNamespace>) {
        self.touched.push(namespace.clone());
    }

    /// Keeps what must not be dropped under the lock.
    pub(crate) fn keep(&mut self, mount: Arc<Mount>) {
        self.mounts.push(mount);
    }

    pub(crate) fn put(&mut self, mount: &Arc<Mount>, at: VfsPath) {
        let on = self.trees.entry(address(&at.dentry)).or_default();
        on.push(Arc::downgrade(mount));
        mount.put_on(at);
    }

    pub(crate) fn take(&mut self, mount: &Arc<Mount>) {
        self.take_from(mount, false);
    }

    /// Takes a mount that goes for good. One that is locked where it is and goes with what it is
    /// mounted on stays upon that: who still stands there must not see what it hides.
    pub(crate) fn part(&mut self, mount: &Arc<Mount>, goes: impl Fn(&Mount) -> bool) {
        let below = mount.mountpoint();
        let hides = mount.is_locked() && below.as_ref().is_some_and(|at| goes(&at.mount));
        self.places.extend(below);
        self.take_from(mount, hides);
    }

    fn take_from(&mut self, mount: &Arc<Mount>, stays: bool) {
        let Some(at) = mount.take_off(stays) else {
            return;
        };
        let key = address(&at.dentry);
        if let Some(on) = self.trees.get_mut(&key) {
            on.retain(|m| !std::ptr::eq(m.as_ptr(), Arc::as_ptr(mount)));
            if on.is_empty() {
                self.trees.remove(&key);
            }
        }
        self.places.push(at);
    }

    /// What stands on a dentry, in whichever namespace.
    fn on(&self, dentry: &Arc<Dentry>) -> Vec<Arc<Mount>> {
        let on = self.trees.get(&address(dentry));
        on.map_or_else(Vec::new, |on| on.iter().filter_map(Weak::upgrade).collect())
    }

    /// Enters a tree into a namespace.
    pub(crate) fn enter(&mut self, top: &Arc<Mount>, namespace: &Arc<MountNamespace>) {
        for mount in subtree(top) {
            let old = std::mem::replace(&mut mount.links().namespace, Arc::downgrade(namespace));
            if let Some(old) = old.upgrade() {
                old.forget(&mount);
                self.touched.push(old);
            }
            namespace.remember(mount);
        }
        self.touched.push(namespace.clone());
    }
}

impl Drop for Change {
    fn drop(&mut self) {
        for namespace in &self.touched {
            namespace.changed();
        }
    }
}

fn address(dentry: &Arc<Dentry>) -> usize {
    Arc::as_ptr(dentry).addr()
}

/// A mount and what is mounted below it, parents first.
pub(crate) fn subtree(top: &Arc<Mount>) -> Vec<Arc<Mount>> {
    let mut all = Vec::new();
    let mut left = vec![top.clone()];
    while let Some(mount) = left.pop() {
        left.extend(mount.children().into_iter().rev());
        all.push(mount);
    }
    all
}

/// Keeps a tree as it is, for the less privileged.
pub(crate) fn lock_down(top: &Arc<Mount>) {
    for mount in subtree(top) {
        mount.lock_down(!Arc::ptr_eq(&mount, top));
    }
}

/// What lies uppermost on `at`.
pub(crate) fn topmost(mut at: VfsPath) -> VfsPath {
    while at.dentry.is_mountpoint()
        && let Some(mount) = at.mount.child_on(&at.dentry)
    {
        at = mount.root_path();
    }
    at
}

/// The uppermost of the mounts that cover the whole of `mount`, one upon the other.
fn cover(mount: &Arc<Mount>) -> Arc<Mount> {
    topmost(mount.root_path()).mount
}

/// Whether `mount` is `above` or lies below it.
pub(crate) fn is_below(above: &Arc<Mount>, mount: &Arc<Mount>) -> bool {
    let mut at = Some(mount.clone());
    while let Some(mount) = at {
        if Arc::ptr_eq(&mount, above) {
            return true;
        }
        at = mount.mountpoint().map(|p| p.mount);
    }
    false
}

/// How a tree is copied.
#[derive(Clone, Copy)]
pub(crate) struct Copying {
    pub(crate) kinship: Kinship,
    /// The copies are shared, whatever the originals are.
    pub(crate) shared: bool,
    /// What is unbindable is copied too (a whole namespace is).
    pub(crate) unbindable: bool,
    /// Files of mount namespaces are copied too. They keep those, and copies in others than the
    /// caller's could keep each other.
    pub(crate) namespaces: bool,
}

impl Copying {
    /// As a bind mount does.
    pub(crate) const BIND: Copying = Copying {
        kinship: Kinship::Same,
        shared: false,
        unbindable: false,
        namespaces: true,
    };
}

fn copy_one(old: &Arc<Mount>, root: Arc<Dentry>, how: Copying) -> Arc<Mount> {
    let copy = old.bound(root);
    copy.related(old, how.kinship);
    if how.shared {
        copy.make_shared();
    }
    copy
}

/// Copies, by the number of the mount that each is one of.
pub(crate) type Copies = BTreeMap<u64, Arc<Mount>>;

/// A copy of the mount `old` from `root` on, and with `whole` of what is mounted below that; in no
/// namespace yet.
///
/// # Errors
/// `EPERM` where what is left out would show what is hidden below it, `EINVAL` for a namespace's
/// file where those are left out.
pub(crate) fn copy_tree(
    change: &mut Change,
    old: &Arc<Mount>,
    root: &Arc<Dentry>,
    whole: bool,
    how: Copying,
) -> Result<(Arc<Mount>, Copies), Errno> {
    if !how.namespaces && nsfs::mounts_behind(root).is_some() {
        return Err(Errno::EINVAL);
    }
    let top = copy_one(old, root.clone(), how);
    let mut copies = BTreeMap::from([(old.id(), top.clone())]);
    let below = if whole { subtree(old) } else { Vec::new() };
    for source in below.iter().skip(1) {
        let Some(point) = source.mountpoint() else {
            continue;
        };
        let outside = Arc::ptr_eq(&point.mount, old) && !root.is_ancestor_of(&point.dentry);
        let Some(parent) = copies.get(&point.mount.id()).cloned() else {
            continue;
        };
        if outside {
            continue;
        }
        if source.is_unbindable() && !how.unbindable {
            if source.is_locked() {
                dissolve(change, &top);
                return Err(Errno::EPERM);
            }
            continue;
        }
        if !how.namespaces && nsfs::mounts_behind(source.root()).is_some() {
            continue;
        }
        let copy = copy_one(source, source.root().clone(), how);
        let at = VfsPath {
            mount: parent,
            dentry: point.dentry,
        };
        change.put(&copy, at);
        copies.insert(source.id(), copy);
    }
    Ok((top, copies))
}

/// Takes a copy that will not be used apart.
pub(crate) fn dissolve(change: &mut Change, top: &Arc<Mount>) {
    for mount in subtree(top) {
        change.take(&mount);
        mount.set_propagation(Propagation::Private);
        change.keep(mount);
    }
}

/// Copies of a tree on their way to those that hear of it.
struct Spread<'a> {
    change: &'a mut Change,
    dentry: &'a Arc<Dentry>,
    /// Mounts that may still be made.
    left: usize,
    size: usize,
    made: Vec<(Arc<Mount>, VfsPath)>,
}

impl Spread<'_> {
    /// Copies `from` to each of `to`, the first as `kinship` says and the others as its peers;
    /// returns the last copy.
    fn over(
        &mut self,
        to: Vec<Arc<Mount>>,
        from: &Arc<Mount>,
        mut kinship: Kinship,
    ) -> Result<Arc<Mount>, Errno> {
        let mut last = from.clone();
        for mount in to {
            // Trees that no task is in do not hear of it.
            let home = self.change.home(&mount);
            let attached = home.is_some_and(|n| !n.is_anonymous());
            if !attached || !mount.root().is_ancestor_of(self.dentry) {
                continue;
            }
            self.left = self.left.checked_sub(self.size).ok_or(Errno::ENOSPC)?;
            let how = Copying {
                kinship,
                shared: mount.is_shared(),
                unbindable: false,
                namespaces: false,
            };
            let root = last.root().clone();
            let (copy, _) = copy_tree(self.change, &last, &root, true, how)?;
            let at = VfsPath {
                mount,
                dentry: self.dentry.clone(),
            };
            self.made.push((copy.clone(), at));
            last = copy;
            kinship = Kinship::Same;
        }
        Ok(last)
    }

    /// To all that hear of what is mounted on `dest`.
    fn from(&mut self, dest: &Arc<Mount>, source: &Arc<Mount>) -> Result<(), Errno> {
        let Some(group) = dest.peer_group() else {
            return Ok(());
        };
        self.over(group.peers(Some(dest)), source, Kinship::Same)?;
        let mut all: Vec<(Arc<PeerGroup>, Arc<Mount>)> = vec![(group, source.clone())];
        let mut next = 0;
        while let Some((group, from)) = all.get(next).cloned() {
            next += 1;
            for slave in group.slaves() {
                match slave.peer_group() {
                    None => drop(self.over(vec![slave], &from, Kinship::Slave)?),
                    Some(own) if all.iter().any(|(g, _)| Arc::ptr_eq(g, &own)) => {}
                    Some(own) => {
                        let last = self.over(own.peers(None), &from, Kinship::Slave)?;
                        all.push((own, last));
                    }
                }
            }
        }
        Ok(())
    }
}

/// Copies of `source`, which has `size` mounts, for all that hear of what is mounted on `dentry` of
/// `dest`.
fn propagate(
    change: &mut Change,
    dest: &Arc<Mount>,
    dentry: &Arc<Dentry>,
    (source, size): (&Arc<Mount>, usize),
) -> Result<Vec<(Arc<Mount>, VfsPath)>, Errno> {
    let mut spread = Spread {
        change,
        dentry,
        left: MOUNT_MAX,
        size,
        made: Vec::new(),
    };
    let done = spread.from(dest, source);
    let made = spread.made;
    if let Err(e) = done {
        for (copy, at) in made {
            dissolve(change, &copy);
            change.places.push(at);
        }
        return Err(e);
    }
    Ok(made)
}

/// Puts the tree of `source` on `at`, on which nothing stands (or, with `beneath`, under what
/// stands there), and shows it wherever that is heard of.
///
/// # Errors
/// `ENOENT` where what is to be shown was removed, `ENOSPC` where a namespace would have too many
/// mounts.
pub(crate) fn attach(
    change: &mut Change,
    source: &Arc<Mount>,
    at: VfsPath,
    namespace: &Arc<MountNamespace>,
) -> Result<(), Errno> {
    if source.root().is_deleted() {
        return Err(Errno::ENOENT);
    }
    let count = subtree(source).len();
    let copies = if at.mount.is_shared() {
        for mount in subtree(source) {
            mount.make_shared();
        }
        propagate(change, &at.mount, &at.dentry, (source, count))?
    } else {
        Vec::new()
    };
    let mut more = BTreeMap::from([(namespace.id(), (namespace.clone(), count))]);
    for (_, at) in &copies {
        if let Some(home) = change.home(&at.mount) {
            more.entry(home.id()).or_insert((home, 0)).1 += count;
        }
    }
    let full = more.values().any(|(n, more)| n.count() + more > MOUNT_MAX);
    if full {
        for (copy, _) in copies {
            dissolve(change, &copy);
        }
        return Err(Errno::ENOSPC);
    }
    change.take(source);
    put_under(change, source, at);
    change.enter(source, namespace);
    for (copy, at) in copies {
        let home = change.home(&at.mount);
        put_under(change, &copy, at);
        if let Some(home) = home {
            if home.owner() != namespace.owner() {
                lock_down(&copy);
            }
            copy.unlock_place();
            change.enter(&copy, &home);
        }
    }
    Ok(())
}

/// Puts `mount` on `at`; what stands there is put upon it.
fn put_under(change: &mut Change, mount: &Arc<Mount>, at: VfsPath) {
    let above = at.mount.child_on(&at.dentry);
    if let Some(above) = &above {
        change.take(above);
    }
    let upper = cover(mount);
    change.put(mount, at);
    if let Some(above) = above {
        change.put(&above, upper.root_path());
    }
}

/// What goes with the mounts `going` wherever they were heard of, parents first. What still has
/// others below it stays.
fn propagated(going: &[Arc<Mount>]) -> Vec<Arc<Mount>> {
    let mut known: BTreeSet<u64> = going.iter().map(|m| m.id()).collect();
    let mut all: Vec<Arc<Mount>> = Vec::new();
    for mount in going {
        let Some(point) = mount.mountpoint() else {
            continue;
        };
        for receiver in point.mount.receivers() {
            let there = receiver.child_on(&point.dentry);
            if let Some(there) = there.filter(|m| known.insert(m.id())) {
                all.push(there);
            }
        }
    }
    loop {
        let stays = |mount: &Arc<Mount>| {
            let mut children = mount.children().into_iter();
            children.any(|c| {
                let covers = c.mountpoint().is_some_and(|p| p.is_mount_root());
                !covers && !known.contains(&c.id())
            })
        };
        let (stay, go): (Vec<_>, Vec<_>) = all.into_iter().partition(stays);
        all = go;
        if stay.is_empty() {
            return all;
        }
        for mount in stay {
            known.remove(&mount.id());
        }
    }
}

/// Unmounts `top` with all below it, and where that is heard of what corresponds to it.
pub(crate) fn unmount(change: &mut Change, top: &Arc<Mount>) {
    let mut going = subtree(top);
    let more = propagated(&going);
    let ids: BTreeSet<u64> = going.iter().chain(&more).map(|m| m.id()).collect();
    for mount in &more {
        // What covers the whole of it and stays takes its place.
        let above = mount.child_on(mount.root());
        let Some(above) = above.filter(|m| !ids.contains(&m.id())) else {
            continue;
        };
        change.take(&above);
        let at = mount.mountpoint();
        change.take(mount);
        if let Some(at) = at {
            change.put(&above, at);
        }
    }
    going.extend(more);
    for mount in going {
        if let Some(namespace) = change.home(&mount) {
            namespace.forget(&mount);
            change.touched.push(namespace);
        }
        change.part(&mount, |m| ids.contains(&m.id()));
        mount.links().namespace = Weak::new();
        mount.set_propagation(Propagation::Private);
        change.keep(mount);
    }
}

/// Whether `mount`, or what would go with it, is in use; `users` is how many references the
/// caller has.
pub(crate) fn is_busy(mount: &Arc<Mount>, users: usize) -> bool {
    // In the table of the namespace, and on its place.
    let used = |m: &Arc<Mount>, users: usize| Arc::strong_count(m) > 2 + users;
    if mount.has_children() || used(mount, users) {
        return true;
    }
    let Some(point) = mount.mountpoint() else {
        return false;
    };
    for receiver in point.mount.receivers() {
        let Some(there) = receiver.child_on(&point.dentry) else {
            continue;
        };
        let children = there.children();
        let covered = children.len() == 1 && there.child_on(there.root()).is_some();
        if (children.is_empty() || covered) && used(&there, 1 + children.len()) {
            return true;
        }
    }
    false
}

/// Unmounts, in all namespaces, what is mounted on a dentry that is gone.
pub(crate) fn place_gone(dentry: &Arc<Dentry>) {
    if !dentry.is_mountpoint() {
        return;
    }
    let mut change = Change::begin();
    for mount in change.on(dentry) {
        if mount.mountpoint().is_some() {
            unmount(&mut change, &mount);
        }
        change.keep(mount);
    }
}
