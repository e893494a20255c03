//! Mount namespaces: the mounts that a set of tasks sees.

use crate::nsfs::NamespaceId;
use crate::propagation::{Kinship, Propagation};
use crate::rootfs::Empty;
use crate::tree::{self, Change, Copying};
use crate::{Dentry, Mount, MountSpec, VfsPath};
use auth::{Share, UserNamespace};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use sync::{RwLock, ranks};
use wait::{Events, Queue};

/// The mounts that a set of tasks sees.
pub struct MountNamespace {
    me: Weak<MountNamespace>,
    id: NamespaceId,
    owner: UserNamespace,
    /// It is a tree that a descriptor holds, and no task is in it.
    anonymous: bool,
    /// The namespace that such a tree was copied from; 0 where it was none.
    origin: u64,
    /// By id, which is the order of mounting.
    mounts: RwLock<BTreeMap<u64, Arc<Mount>>, ranks::MountTable>,
    /// Id of the mount at the bottom.
    bottom: u64,
    changes: AtomicU64,
    watchers: Queue,
}

impl std::fmt::Debug for MountNamespace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "MountNamespace({}, {} mounts)", self.id(), self.count())
    }
}

impl MountNamespace {
    /// A namespace with `spec` at its top, upon an empty file system that no task sees: as in
    /// Linux, where the root is that of the start, and can be left by pivot_root(2).
    pub fn new(spec: MountSpec) -> Arc<MountNamespace> {
        let bottom = Mount::detached(MountSpec::new(Empty::root(), "rootfs"));
        let top = Mount::detached(spec);
        let owner = UserNamespace::default();
        let namespace = MountNamespace::with(NamespaceId::new(), bottom.id(), None, owner);
        let mut change = Change::begin();
        change.put(&top, bottom.root_path());
        change.enter(&bottom, &namespace);
        namespace
    }

    /// Empty, for the tree of the mount `bottom`; anonymous with `origin`.
    fn with(
        id: NamespaceId,
        bottom: u64,
        origin: Option<u64>,
        owner: UserNamespace,
    ) -> Arc<MountNamespace> {
        Arc::new_cyclic(|me| MountNamespace {
            me: me.clone(),
            id,
            owner,
            anonymous: origin.is_some(),
            origin: origin.unwrap_or_default(),
            mounts: RwLock::default(),
            bottom,
            changes: AtomicU64::new(0),
            watchers: Queue::default(),
        })
    }

    /// A tree of mounts, unattached, as a namespace that no task is in, made by one in this one.
    pub(crate) fn around(
        &self,
        change: &mut Change,
        top: &Arc<Mount>,
        origin: u64,
    ) -> Arc<MountNamespace> {
        let namespace = MountNamespace::with(
            NamespaceId::new(),
            top.id(),
            Some(origin),
            self.owner.clone(),
        );
        change.enter(top, &namespace);
        namespace
    }

    /// The number of its file in `/proc/PID/ns`.
    pub fn id(&self) -> u64 {
        self.id.get()
    }

    /// The user namespace whose it is.
    pub fn owner(&self) -> &UserNamespace {
        &self.owner
    }

    /// Whether it is a tree that a descriptor holds.
    pub fn is_anonymous(&self) -> bool {
        self.anonymous
    }

    pub(crate) fn origin(&self) -> u64 {
        self.origin
    }

    /// Whether it is a tree that tasks in `namespace` may change.
    pub(crate) fn is_usable_from(&self, namespace: &MountNamespace) -> bool {
        self.anonymous && (self.origin == 0 || self.origin == namespace.id())
    }

    pub(crate) fn handle(&self) -> Arc<MountNamespace> {
        self.me
            .upgrade()
            .unwrap_or_else(|| unreachable!("a live namespace has a handle"))
    }

    /// The mount at the bottom, which cannot be unmounted.
    pub(crate) fn bottom(&self) -> Option<Arc<Mount>> {
        self.mounts.read().get(&self.bottom).cloned()
    }

    /// The top of the tree.
    pub fn root(&self) -> VfsPath {
        let bottom = self.bottom();
        tree::topmost(bottom.expect("the bottom is never unmounted").root_path())
    }

    /// The top of a tree that no task is in; `None` once it was moved somewhere.
    pub fn top(&self) -> Option<VfsPath> {
        self.bottom().map(|m| m.root_path())
    }

    /// All mounts in the order of mounting, for /proc/PID/mounts and mountinfo.
    pub fn list(&self) -> Vec<Arc<Mount>> {
        self.mounts.read().values().cloned().collect()
    }

    /// How many mounts there are.
    pub fn count(&self) -> usize {
        self.mounts.read().len()
    }

    pub(crate) fn remember(&self, mount: Arc<Mount>) {
        self.mounts.write().insert(mount.id(), mount);
    }

    pub(crate) fn forget(&self, mount: &Mount) {
        let old = self.mounts.write().remove(&mount.id());
        drop(old);
    }

    /// How often it has changed.
    pub fn changes(&self) -> u64 {
        self.changes.load(Ordering::Acquire)
    }

    /// Who waits for a change.
    pub fn watchers(&self) -> &Queue {
        &self.watchers
    }

    /// It has changed: who watches it is told.
    pub fn changed(&self) {
        self.changes.fetch_add(1, Ordering::AcqRel);
        self.watchers.notify(Events::ERR | Events::PRI);
    }

    /// Whether something is mounted on `dentry` in this namespace.
    pub(crate) fn has_on(&self, dentry: &Arc<Dentry>) -> bool {
        dentry.is_mountpoint() && self.mounts.read().values().any(|m| m.stands_on(dentry))
    }

    /// A copy with mounts of its own for `owner`, counted as `share` (`CLONE_NEWNS`), and the place
    /// in it that corresponds to each of `places` (root and working directory of the task). For
    /// another owner than this one's the mounts are locked, and receive alone.
    pub fn copy(
        &self,
        owner: &UserNamespace,
        share: Share,
        places: &mut [&mut VfsPath],
    ) -> Arc<MountNamespace> {
        let same = *owner == self.owner;
        let how = Copying {
            kinship: if same { Kinship::Same } else { Kinship::Slave },
            shared: false,
            unbindable: true,
            namespaces: false,
        };
        let mut change = Change::begin();
        let bottom = self.bottom().expect("the bottom is never unmounted");
        let copied = tree::copy_tree(&mut change, &bottom, bottom.root(), true, how);
        let (top, copies) = copied.expect("a whole namespace can be copied");
        if !same {
            tree::lock_down(&top);
        }
        let namespace =
            MountNamespace::with(NamespaceId::counted(share), top.id(), None, owner.clone());
        change.enter(&top, &namespace);
        for place in places {
            if let Some(copy) = copies.get(&place.mount.id()) {
                place.mount = copy.clone();
            }
        }
        namespace
    }
}

impl Drop for MountNamespace {
    fn drop(&mut self) {
        let all = std::mem::take(self.mounts.get_mut());
        let mut change = Change::begin();
        for mount in all.into_values() {
            change.part(&mount, |_| true);
            mount.links().namespace = Weak::new();
            mount.set_propagation(Propagation::Private);
            change.keep(mount);
        }
    }
}
