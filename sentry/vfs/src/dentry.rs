//! Names in the tree.
//!
//! A [`Dentry`] is a name that leads to an inode. A directory knows its children weakly; what
//! keeps those alive that nobody uses is the bounded cache ([`crate::cache`]). Names known to be
//! absent are kept too, where the file system says that it may be done.
//!
//! Lock order: directory lock (parent, then child) -> children -> place.

use crate::{Caching, FileType, Inode, cache, notify};
use abi::Errno;
use ctx::Ctx;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use sync::census::{Counted, Kind};
use sync::{Mutex, MutexGuard, RwLock, ranks};

/// Absent names remembered in one directory, at most.
const MAX_ABSENT: usize = 256;

/// A name and the inode it leads to.
pub struct Dentry {
    inode: Arc<dyn Inode>,
    kind: FileType,
    caching: Caching,
    /// Names below it change without us (it is the upper tree of an overlay).
    changes_elsewhere: AtomicBool,
    /// Which file system it is of: a number for each root.
    tree: u64,
    /// Held by what changes this directory, so that its inode's operations come one at a time.
    directory: Mutex<(), ranks::Directory>,
    children: RwLock<Children, ranks::DentryCache>,
    place: RwLock<Place, ranks::Leaf>,
    deleted: AtomicBool,
    linkable: AtomicBool,
    mounted: AtomicU32,
    /// Places below it that something is mounted on, where names are never kept otherwise.
    mounted_below: AtomicU32,
    /// Open descriptions that write (positive), or executions that forbid it (negative).
    writers: AtomicI32,
    /// Open descriptions of a regular file that read alone.
    readers: AtomicU32,
    pub(crate) used: AtomicBool,
    pub(crate) slot: AtomicU32,
    _counted: Counted,
}

struct Place {
    parent: Option<Arc<Dentry>>,
    name: Arc<[u8]>,
}

#[derive(Default)]
struct Children {
    names: HashMap<Box<[u8]>, Child>,
    absent: usize,
    /// Size at which dead entries are swept out.
    sweep_at: usize,
}

enum Child {
    Live(Weak<Dentry>),
    Absent,
}

/// What the cache says of a name.
enum Cached {
    Live(Arc<Dentry>),
    Absent,
    Unknown,
}

static NEXT_TREE: AtomicU64 = AtomicU64::new(1);

impl std::fmt::Debug for Dentry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Dentry({})", String::from_utf8_lossy(&self.name()))
    }
}

impl Dentry {
    /// The root of a file system.
    pub fn root(inode: Arc<dyn Inode>) -> Arc<Dentry> {
        Dentry::new(inode, None, b"/")
    }

    /// A name that no directory lists: an `O_TMPFILE` file, or one that is gone.
    pub(crate) fn unlisted(
        inode: Arc<dyn Inode>,
        parent: Option<Arc<Dentry>>,
        name: &[u8],
    ) -> Arc<Dentry> {
        let d = Dentry::new(inode, parent, name);
        d.deleted.store(true, Ordering::Relaxed);
        d
    }

    fn new(inode: Arc<dyn Inode>, parent: Option<Arc<Dentry>>, name: &[u8]) -> Arc<Dentry> {
        let tree = match &parent {
            Some(parent) => parent.tree,
            None => NEXT_TREE.fetch_add(1, Ordering::Relaxed),
        };
        Arc::new(Dentry {
            kind: inode.kind(),
            tree,
            caching: inode.caching(),
            changes_elsewhere: AtomicBool::new(
                parent.as_ref().is_some_and(|p| p.is_changed_elsewhere()),
            ),
            inode,
            directory: Mutex::new(()),
            children: RwLock::new(Children::default()),
            place: RwLock::new(Place {
                parent,
                name: name.into(),
            }),
            deleted: AtomicBool::new(false),
            linkable: AtomicBool::new(false),
            mounted: AtomicU32::new(0),
            mounted_below: AtomicU32::new(0),
            writers: AtomicI32::new(0),
            readers: AtomicU32::new(0),
            used: AtomicBool::new(false),
            slot: AtomicU32::new(cache::NO_SLOT),
            _counted: Counted::new(Kind::Dentry),
        })
    }

    /// The file behind the name.
    #[inline]
    pub fn inode(&self) -> &Arc<dyn Inode> {
        &self.inode
    }

    /// The file's type.
    #[inline]
    pub fn kind(&self) -> FileType {
        self.kind
    }

    /// Whether it is a directory.
    #[inline]
    pub fn is_dir(&self) -> bool {
        self.kind == FileType::Directory
    }

    pub(crate) fn tree(&self) -> u64 {
        self.tree
    }

    /// Its last component; `/` for the root of a file system.
    pub fn name(&self) -> Arc<[u8]> {
        self.place.read().name.clone()
    }

    /// The directory it is in; `None` for the root of a file system.
    pub fn parent(&self) -> Option<Arc<Dentry>> {
        self.place.read().parent.clone()
    }

    /// Whether it is the root of a file system.
    pub(crate) fn is_root(&self) -> bool {
        self.place.read().parent.is_none()
    }

    pub(crate) fn parent_and_name(&self) -> (Option<Arc<Dentry>>, Arc<[u8]>) {
        let place = self.place.read();
        (place.parent.clone(), place.name.clone())
    }

    /// Whether the name was removed (the file may live on, held open).
    pub fn is_deleted(&self) -> bool {
        self.deleted.load(Ordering::Acquire)
    }

    /// Whether a file without a name may be given one (`O_TMPFILE` without `O_EXCL`).
    pub(crate) fn linkable(&self) -> bool {
        self.linkable.load(Ordering::Relaxed)
    }

    pub(crate) fn set_linkable(&self, yes: bool) {
        self.linkable.store(yes, Ordering::Relaxed);
    }

    /// Whether something is mounted on it, in any namespace.
    #[inline]
    pub fn is_mountpoint(&self) -> bool {
        self.mounted.load(Ordering::Acquire) > 0
    }

    pub(crate) fn mounted_by(&self, one_more: bool) {
        let count = |at: &AtomicU32| match one_more {
            true => at.fetch_add(1, Ordering::AcqRel),
            false => at.fetch_sub(1, Ordering::AcqRel),
        };
        count(&self.mounted);
        let mut above = self.parent();
        while let Some(dir) = above.filter(|d| d.caching == Caching::Never) {
            count(&dir.mounted_below);
            above = dir.parent();
        }
    }

    /// Whether it must be found again, since something is mounted on it or below.
    fn must_stay(&self) -> bool {
        self.is_mountpoint() || self.mounted_below.load(Ordering::Acquire) > 0
    }

    /// Whether `other` is this dentry or lies below it.
    pub fn is_ancestor_of(self: &Arc<Self>, other: &Arc<Dentry>) -> bool {
        let mut at = Some(other.clone());
        while let Some(d) = at {
            if Arc::ptr_eq(self, &d) {
                return true;
            }
            at = d.parent();
        }
        false
    }

    /// Counts a writer; `ETXTBSY` while the file is being executed.
    pub(crate) fn add_writer(&self) -> Result<(), Errno> {
        let up = |n: i32| (n >= 0).then(|| n + 1);
        match self
            .writers
            .fetch_update(Ordering::SeqCst, Ordering::Relaxed, up)
        {
            Ok(_) => Ok(()),
            Err(_) => Err(Errno::ETXTBSY),
        }
    }

    pub(crate) fn drop_writer(&self) {
        self.writers.fetch_sub(1, Ordering::AcqRel);
    }

    /// Forbids writers; `ETXTBSY` while there are some.
    pub(crate) fn deny_writers(&self) -> Result<(), Errno> {
        let down = |n: i32| (n <= 0).then(|| n - 1);
        match self
            .writers
            .fetch_update(Ordering::AcqRel, Ordering::Relaxed, down)
        {
            Ok(_) => Ok(()),
            Err(_) => Err(Errno::ETXTBSY),
        }
    }

    pub(crate) fn allow_writers(&self) {
        self.writers.fetch_add(1, Ordering::AcqRel);
    }

    pub(crate) fn add_reader(&self) {
        self.readers.fetch_add(1, Ordering::SeqCst);
    }

    pub(crate) fn drop_reader(&self) {
        self.readers.fetch_sub(1, Ordering::AcqRel);
    }

    /// How many descriptions read alone, and how many write (negative: while it is executed).
    pub(crate) fn openings(&self) -> (u32, i32) {
        (
            self.readers.load(Ordering::SeqCst),
            self.writers.load(Ordering::SeqCst),
        )
    }

    /// From now on names below it change without us: what is known of them is asked again.
    pub fn changes_elsewhere(self: &Arc<Self>) {
        let mut left = vec![self.clone()];
        while let Some(dentry) = left.pop() {
            dentry.changes_elsewhere.store(true, Ordering::Relaxed);
            let children = dentry.children.read();
            left.extend(children.names.values().filter_map(|c| match c {
                Child::Live(weak) => weak.upgrade(),
                Child::Absent => None,
            }));
        }
    }

    fn is_changed_elsewhere(&self) -> bool {
        self.changes_elsewhere.load(Ordering::Relaxed)
    }

    /// How names below it may be cached, and whether files change through us alone.
    #[inline]
    pub(crate) fn caching(&self) -> Caching {
        match self.caching {
            Caching::Exclusive if self.is_changed_elsewhere() => Caching::Revalidate,
            caching => caching,
        }
    }

    /// Whether `name` still leads to `child` where it may not be taken for granted.
    fn still_leads(&self, cx: &dyn Ctx, name: &[u8], child: &Dentry) -> Result<bool, Errno> {
        if !self.is_changed_elsewhere() {
            return self.inode.revalidate(cx, name, &child.inode);
        }
        let address = |i: &Arc<dyn Inode>| Arc::as_ptr(i).cast::<u8>();
        match self.inode.lookup(cx, name) {
            Ok(found) => Ok(address(&found) == address(&child.inode)),
            Err(Errno::ENOENT) => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// Locks the directory against changes by others.
    pub(crate) fn lock(&self) -> MutexGuard<'_, ()> {
        self.directory.lock()
    }

    /// As [`Dentry::lock`], while an ancestor or, under the rename lock, another one is locked.
    pub(crate) fn lock_nested(&self) -> MutexGuard<'_, ()> {
        self.directory.lock_nested()
    }

    /// Finds `name` in this directory; `None` where there is none. The directory must not be
    /// locked by the caller.
    pub fn lookup(
        self: &Arc<Self>,
        cx: &dyn Ctx,
        name: &[u8],
    ) -> Result<Option<Arc<Dentry>>, Errno> {
        match (self.cached(name), self.caching()) {
            (Cached::Live(d), Caching::Exclusive) => return Ok(Some(d)),
            (Cached::Absent, Caching::Exclusive) => return Ok(None),
            // Where it has gone stale it is asked again under the lock: a rename may have been in
            // between.
            (Cached::Live(d), Caching::Revalidate)
                if d.is_mountpoint() || self.still_leads(cx, name, &d)? =>
            {
                return Ok(Some(d));
            }
            // What is mounted on must be found again, or the mount would be lost.
            (Cached::Live(d), Caching::Never) if d.must_stay() => return Ok(Some(d)),
            (_, Caching::Never) => return self.look_in_fs(cx, name),
            _ => {}
        }
        let _locked = self.lock();
        self.lookup_locked(cx, name)
    }

    /// As [`Dentry::lookup`], with the directory locked by the caller. What it answers holds for
    /// as long as that lock does, as far as changes come through us.
    pub(crate) fn lookup_locked(
        self: &Arc<Self>,
        cx: &dyn Ctx,
        name: &[u8],
    ) -> Result<Option<Arc<Dentry>>, Errno> {
        match self.cached(name) {
            Cached::Live(d) => match self.caching() {
                Caching::Exclusive => return Ok(Some(d)),
                Caching::Revalidate => {
                    if d.is_mountpoint() || self.still_leads(cx, name, &d)? {
                        return Ok(Some(d));
                    }
                    self.drop_stale(&d, name);
                }
                Caching::Never if d.must_stay() => return Ok(Some(d)),
                Caching::Never => {}
            },
            Cached::Absent if self.caching() == Caching::Exclusive => return Ok(None),
            Cached::Absent | Cached::Unknown => {}
        }
        self.look_in_fs(cx, name)
    }

    fn look_in_fs(
        self: &Arc<Self>,
        cx: &dyn Ctx,
        name: &[u8],
    ) -> Result<Option<Arc<Dentry>>, Errno> {
        match self.inode.lookup(cx, name) {
            Ok(inode) => Ok(Some(self.adopt(inode, name))),
            Err(Errno::ENOENT) if !self.inode.refuses_new_names() => {
                self.note_absent(name);
                Ok(None)
            }
            Err(e) => Err(e),
        }
    }

    fn cached(&self, name: &[u8]) -> Cached {
        match self.children.read().names.get(name) {
            Some(Child::Live(weak)) => match weak.upgrade() {
                Some(d) => {
                    if !d.used.load(Ordering::Relaxed) {
                        d.used.store(true, Ordering::Relaxed);
                    }
                    Cached::Live(d)
                }
                None => Cached::Unknown,
            },
            Some(Child::Absent) => Cached::Absent,
            None => Cached::Unknown,
        }
    }

    /// Enters a child that the file system has found or made.
    pub(crate) fn adopt(self: &Arc<Self>, inode: Arc<dyn Inode>, name: &[u8]) -> Arc<Dentry> {
        let child = Dentry::new(inode, Some(self.clone()), name);
        self.enter(name, &child);
        if self.caching != Caching::Never {
            cache::keep(&child);
        }
        child
    }

    fn enter(&self, name: &[u8], child: &Arc<Dentry>) {
        let mut children = self.children.write();
        children.insert(name, Child::Live(Arc::downgrade(child)));
    }

    fn note_absent(&self, name: &[u8]) {
        if self.caching() != Caching::Exclusive {
            return;
        }
        let mut children = self.children.write();
        if children.absent >= MAX_ABSENT {
            children.names.retain(|_, c| matches!(c, Child::Live(_)));
            children.absent = 0;
        }
        children.insert(name, Child::Absent);
    }

    /// The name is gone from this directory. The file may live on.
    pub(crate) fn removed(&self, child: &Arc<Dentry>, name: &[u8]) {
        child.gone();
        self.children.write().remove(name);
        self.note_absent(name);
    }

    /// What the file system says is no longer what the cache says.
    fn drop_stale(&self, child: &Arc<Dentry>, name: &[u8]) {
        child.gone();
        self.children.write().remove(name);
    }

    /// No name leads here any more: it was removed, or another has taken its place.
    pub(crate) fn gone(self: &Arc<Self>) {
        self.deleted.store(true, Ordering::Release);
        cache::forget(self);
    }

    /// `name` has come to be by other means (a new link); what was known of it is forgotten.
    pub(crate) fn forget_name(&self, name: &[u8]) {
        self.children.write().remove(name);
    }

    /// Takes out the entry of a child that has died.
    pub(crate) fn sweep_name(&self, name: &[u8]) {
        let mut children = self.children.write();
        if let Some(Child::Live(weak)) = children.names.get(name)
            && weak.strong_count() == 0
        {
            children.remove(name);
        }
    }

    /// Moves a child here, from `old_parent` and `old_name`, over what has been at `name`: a walk
    /// that takes no lock finds the one or the other. Both directories are locked.
    pub(crate) fn moved_here(
        self: &Arc<Self>,
        child: &Arc<Dentry>,
        old_parent: &Arc<Dentry>,
        old_name: &[u8],
        name: &[u8],
    ) {
        old_parent.forget_name(old_name);
        old_parent.note_absent(old_name);
        self.place_child(child, name);
    }

    /// Swaps two children. Both directories are locked.
    pub(crate) fn exchanged(
        (parent_a, a, name_a): (&Arc<Dentry>, &Arc<Dentry>, &[u8]),
        (parent_b, b, name_b): (&Arc<Dentry>, &Arc<Dentry>, &[u8]),
    ) {
        parent_b.place_child(a, name_b);
        parent_a.place_child(b, name_a);
    }

    fn place_child(self: &Arc<Self>, child: &Arc<Dentry>, name: &[u8]) {
        let old = {
            let mut place = child.place.write();
            place.name = name.into();
            place.parent.replace(self.clone())
        };
        // The old parent may die here: not under the lock.
        drop(old);
        self.enter(name, child);
    }
}

impl Children {
    fn insert(&mut self, name: &[u8], child: Child) {
        if self.names.len() >= self.sweep_at {
            self.names.retain(|_, c| match c {
                Child::Live(weak) => weak.strong_count() > 0,
                Child::Absent => true,
            });
            self.sweep_at = (self.names.len() * 2).max(64);
        }
        let absent = matches!(child, Child::Absent);
        let old = match self.names.get_mut(name) {
            Some(place) => Some(std::mem::replace(place, child)),
            None => self.names.insert(name.into(), child),
        };
        self.absent += usize::from(absent);
        self.absent -= usize::from(matches!(old, Some(Child::Absent)));
    }

    fn remove(&mut self, name: &[u8]) {
        if let Some(Child::Absent) = self.names.remove(name) {
            self.absent -= 1;
        }
    }
}

impl Drop for Dentry {
    fn drop(&mut self) {
        if *self.deleted.get_mut() && notify::watched() {
            notify::dentry_gone(&self.inode);
        }
        // Not by recursion: a guest can build directories deeper than our stack.
        let mut next = self.place.get_mut().parent.take();
        while let Some(parent) = next {
            next = Arc::into_inner(parent).and_then(|mut d| d.place.get_mut().parent.take());
        }
    }
}
