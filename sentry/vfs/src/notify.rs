//! Who watches which files, and telling them (inotify(7)).
//!
//! A [`Mark`] is a watch on one inode. Operations of this crate tell of themselves here once they
//! are done; while nobody in the sandbox watches anything, that costs one relaxed load each
//! ([`watched`]). What becomes of an event (masks, queues) is the mark's matter.
//!
//! Marks hang on inodes, names only lead there. The first name that a file was watched by is kept
//! alive with it: else the cache could forget it and a later walk find another inode of the same
//! file. Once the file's last name is gone, that reference is let go, and the end of the last
//! dentry (the last close) is the end of the file: `IN_DELETE_SELF`.
//!
//! Locks: the table's lock is a leaf and never held while a mark is told.

use crate::{Dentry, File, FileType, Inode, OpenFlags, VfsPath};
use ctx::Ctx;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use sync::{RwLock, ranks};

bitflags::bitflags! {
    /// What happened, with the bits of inotify(7).
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
    pub struct Happened: u32 {
        /// The file was read.
        const ACCESS = 0x1;
        /// The file was written or cut.
        const MODIFY = 0x2;
        /// Attributes changed.
        const ATTRIB = 0x4;
        /// A description open for writing was closed.
        const CLOSE_WRITE = 0x8;
        /// Another one was closed.
        const CLOSE_NOWRITE = 0x10;
        /// The file was opened.
        const OPEN = 0x20;
        /// A name left the directory.
        const MOVED_FROM = 0x40;
        /// A name came into the directory.
        const MOVED_TO = 0x80;
        /// A name was made.
        const CREATE = 0x100;
        /// A name was removed.
        const DELETE = 0x200;
        /// The file itself is gone.
        const DELETE_SELF = 0x400;
        /// The file itself was given another name.
        const MOVE_SELF = 0x800;
        /// The file system was unmounted.
        const UNMOUNT = 0x2000;
        /// A name was given another in the same directory; inotify does not tell of it.
        const RENAME = 0x1000_0000;
        /// It was about a directory.
        const ISDIR = 0x4000_0000;
    }
}

/// An event, as a mark is told of it.
#[derive(Clone, Copy, Debug)]
pub struct Event<'a> {
    /// What happened.
    pub what: Happened,
    /// Ties the two halves of a move together; else 0.
    pub cookie: u32,
    /// The name in the watched directory; `None` where it is about the watched file itself.
    pub name: Option<&'a [u8]>,
    /// It came through an open file whose name is gone (`IN_EXCL_UNLINK`).
    pub unlinked: bool,
}

/// A watch on one inode.
pub trait Mark: Send + Sync {
    /// Something has happened. The mark looks whether it wants to know.
    fn event(&self, event: &Event<'_>);

    /// The inode is gone for good, and the mark with it.
    fn gone(&self);
}

struct Watched {
    /// Keeps the address that the table knows it by.
    inode: Arc<dyn Inode>,
    /// Keeps the name; `None` once the last name is gone.
    pin: Option<Arc<Dentry>>,
    marks: Vec<Arc<dyn Mark>>,
    doomed: bool,
}

/// Watched inodes by their address. One sandbox lives in a process, so that it can be a static.
static TABLE: RwLock<Option<HashMap<usize, Watched>>, ranks::Leaf> = RwLock::new(None);
static MARKS: AtomicUsize = AtomicUsize::new(0);
static COOKIE: AtomicU32 = AtomicU32::new(0);

/// Whether anybody watches anything.
#[inline]
pub(crate) fn watched() -> bool {
    MARKS.load(Ordering::Relaxed) != 0
}

fn key(inode: &Arc<dyn Inode>) -> usize {
    Arc::as_ptr(inode).cast::<u8>().addr()
}

/// The number that identifies an inode while it is watched.
pub fn id(at: &VfsPath) -> usize {
    key(at.inode())
}

/// Begins to watch what is at `at`.
pub fn add(at: &VfsPath, mark: Arc<dyn Mark>) {
    let mut table = TABLE.write();
    let watched = table
        .get_or_insert_default()
        .entry(id(at))
        .or_insert_with(|| Watched {
            inode: at.inode().clone(),
            pin: (!at.dentry.is_deleted()).then(|| at.dentry.clone()),
            marks: Vec::new(),
            doomed: at.dentry.is_deleted(),
        });
    watched.marks.push(mark);
    MARKS.fetch_add(1, Ordering::Relaxed);
}

/// Ends a watch of the inode with number `id`.
pub fn remove(id: usize, mark: &Arc<dyn Mark>) {
    let mut table = TABLE.write();
    let Some(all) = table.as_mut() else { return };
    let Some(watched) = all.get_mut(&id) else {
        return;
    };
    let Some(at) = watched.marks.iter().position(|m| same(m, mark)) else {
        return;
    };
    let removed = watched.marks.swap_remove(at);
    MARKS.fetch_sub(1, Ordering::Relaxed);
    let last = if watched.marks.is_empty() {
        all.remove(&id)
    } else {
        None
    };
    drop(table);
    drop((removed, last));
}

fn same(a: &Arc<dyn Mark>, b: &Arc<dyn Mark>) -> bool {
    std::ptr::addr_eq(Arc::as_ptr(a), Arc::as_ptr(b))
}

fn marks(inode: &Arc<dyn Inode>) -> Vec<Arc<dyn Mark>> {
    let table = TABLE.read();
    match table.as_ref().and_then(|all| all.get(&key(inode))) {
        Some(watched) => watched.marks.clone(),
        None => Vec::new(),
    }
}

fn tell(inode: &Arc<dyn Inode>, event: &Event<'_>) {
    for mark in marks(inode) {
        mark.event(event);
    }
}

fn about(kind: FileType, what: Happened) -> Happened {
    if kind == FileType::Directory {
        what | Happened::ISDIR
    } else {
        what
    }
}

/// Tells of a file, to its directory (by name) and to itself.
fn up_and_here(dentry: &Arc<Dentry>, what: Happened, unlinked: bool) {
    let itself = Event {
        what: about(dentry.kind(), what),
        cookie: 0,
        name: None,
        unlinked,
    };
    let (parent, name) = dentry.parent_and_name();
    // Who may list a directory need not be allowed to see when a terminal in it is typed at.
    let private = Happened::ACCESS | Happened::MODIFY;
    let special = !matches!(
        dentry.kind(),
        FileType::Regular | FileType::Directory | FileType::Symlink
    );
    if let Some(parent) = parent
        && !(special && what.intersects(private))
    {
        let named = Event {
            name: Some(&name),
            ..itself
        };
        tell(parent.inode(), &named);
    }
    tell(dentry.inode(), &itself);
}

/// Something was done to the file at `at` (attributes, length).
#[inline]
pub(crate) fn place(at: &VfsPath, what: Happened) {
    if watched() {
        up_and_here(&at.dentry, what, false);
    }
}

/// Something was done through an open file.
#[inline]
pub(crate) fn file(file: &File, what: Happened) {
    if watched()
        && let Some(at) = file.path()
        && !file.is_path_only()
    {
        up_and_here(&at.dentry, what, at.dentry.is_deleted());
    }
}

/// A description of `place` is being closed for the last time.
#[inline]
pub(crate) fn closed(file: &File) {
    if watched() {
        let what = if file.flags().writable() {
            Happened::CLOSE_WRITE
        } else {
            Happened::CLOSE_NOWRITE
        };
        self::file(file, what);
    }
}

/// A file was opened.
#[inline]
pub(crate) fn opened(at: &VfsPath, flags: OpenFlags) {
    if watched() && !flags.contains(OpenFlags::PATH) {
        up_and_here(&at.dentry, Happened::OPEN, at.dentry.is_deleted());
    }
}

/// A name was made in a directory.
#[inline]
pub(crate) fn created(dir: &VfsPath, name: &[u8], kind: FileType) {
    if watched() {
        in_directory(&dir.dentry, name, about(kind, Happened::CREATE), 0);
    }
}

/// A file got another name in a directory.
#[inline]
pub(crate) fn linked(file: &VfsPath, dir: &VfsPath, name: &[u8]) {
    if watched() {
        links_changed(&file.dentry);
        in_directory(&dir.dentry, name, about(file.kind(), Happened::CREATE), 0);
    }
}

fn in_directory(dir: &Arc<Dentry>, name: &[u8], what: Happened, cookie: u32) {
    let event = Event {
        what,
        cookie,
        name: Some(name),
        unlinked: false,
    };
    tell(dir.inode(), &event);
}

/// Its number of links has changed, which is an attribute that the directory does not hear of.
fn links_changed(dentry: &Arc<Dentry>) {
    here(dentry, Happened::ATTRIB);
}

fn here(dentry: &Arc<Dentry>, what: Happened) {
    let event = Event {
        what: about(dentry.kind(), what),
        cookie: 0,
        name: None,
        unlinked: false,
    };
    tell(dentry.inode(), &event);
}

/// A name that is about to be removed, and what has to be told once it is.
pub(crate) struct Removal {
    dentry: Arc<Dentry>,
    /// It is watched, and this is its last name.
    last: bool,
}

/// To be called before the name of `victim` is removed or given to another file.
#[inline]
pub(crate) fn removing(cx: &dyn Ctx, victim: &VfsPath) -> Option<Removal> {
    watched().then(|| {
        let seen = {
            let table = TABLE.read();
            let all = table.as_ref();
            all.is_some_and(|all| all.contains_key(&key(victim.inode())))
        };
        let links = || victim.attr(cx).map_or(1, |a| a.nlink);
        Removal {
            dentry: victim.dentry.clone(),
            last: seen && (victim.is_dir() || links() <= 1),
        }
    })
}

impl Removal {
    /// The file has lost its name: to be called without locks, and without a reference of the
    /// caller's to its dentry.
    pub(crate) fn done(self) {
        if !self.dentry.is_dir() {
            links_changed(&self.dentry);
        }
        self.let_go();
    }

    fn let_go(self) {
        if !self.last {
            return;
        }
        let pin = {
            let mut table = TABLE.write();
            let entry = table
                .as_mut()
                .and_then(|all| all.get_mut(&key(self.dentry.inode())));
            entry.and_then(|watched| {
                watched.doomed = true;
                watched.pin.take()
            })
        };
        // The last reference tells of the end.
        drop(pin);
        drop(self.dentry);
    }
}

/// `name` was removed from `dir`.
#[inline]
pub(crate) fn removed(dir: &VfsPath, name: &[u8], kind: FileType) {
    if watched() {
        in_directory(&dir.dentry, name, about(kind, Happened::DELETE), 0);
    }
}

/// A dentry without a name has lost its last user.
pub(crate) fn dentry_gone(inode: &Arc<dyn Inode>) {
    let gone = {
        let mut table = TABLE.write();
        let Some(all) = table.as_mut() else { return };
        match all.get(&key(inode)) {
            Some(w) if w.doomed => all.remove(&key(inode)),
            _ => None,
        }
    };
    if let Some(watched) = gone {
        MARKS.fetch_sub(watched.marks.len(), Ordering::Relaxed);
        end(&watched, Happened::DELETE_SELF);
    }
}

fn end(watched: &Watched, what: Happened) {
    let event = Event {
        what: about(watched.inode.kind(), what),
        cookie: 0,
        name: None,
        unlinked: false,
    };
    for mark in &watched.marks {
        mark.event(&event);
        mark.gone();
    }
}

/// The file system with number `tree` is mounted no more: those who watch it are told.
pub(crate) fn unmounted(tree: u64) {
    if !watched() {
        return;
    }
    let gone: Vec<Watched> = {
        let mut table = TABLE.write();
        let Some(all) = table.as_mut() else { return };
        let of_it = |w: &Watched| w.pin.as_ref().is_some_and(|d| d.tree() == tree);
        let keys: Vec<usize> = all
            .iter()
            .filter(|(_, w)| of_it(w))
            .map(|(k, _)| *k)
            .collect();
        keys.iter().filter_map(|k| all.remove(k)).collect()
    };
    for watched in gone {
        MARKS.fetch_sub(watched.marks.len(), Ordering::Relaxed);
        end(&watched, Happened::UNMOUNT);
    }
}

/// A rename of `moved` is done: from `old` (directory and name) to `new`.
pub(crate) fn moved(
    moved: &VfsPath,
    (old_dir, old_name): (&VfsPath, &[u8]),
    (new_dir, new_name): (&VfsPath, &[u8]),
    replaced: Option<Removal>,
) {
    if !watched() {
        return;
    }
    let cookie = COOKIE.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
    let what = |half| about(moved.kind(), half);
    if Arc::ptr_eq(old_dir.inode(), new_dir.inode()) {
        in_directory(&old_dir.dentry, old_name, what(Happened::RENAME), 0);
    }
    in_directory(
        &old_dir.dentry,
        old_name,
        what(Happened::MOVED_FROM),
        cookie,
    );
    in_directory(&new_dir.dentry, new_name, what(Happened::MOVED_TO), cookie);
    if let Some(r) = &replaced {
        links_changed(&r.dentry);
    }
    here(&moved.dentry, Happened::MOVE_SELF);
    if let Some(r) = replaced {
        r.let_go();
    }
}
