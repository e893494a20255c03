//! Signals for what happens in a directory (fcntl(2), F_NOTIFY), which inotify(7) came after.
//!
//! A watch belongs to an open directory and to the descriptor table by which it was asked for: any
//! close of a descriptor of the one in the other ends it.

use crate::notify::{self, Event, Happened, Mark};
use crate::sigio::{OwnerKind, Reason, Recipient};
use crate::{File, FsCtx};
use abi::Errno;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI32, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use sync::{Mutex, ranks};

/// `DN_MULTISHOT`: not only the first event.
const AGAIN: u32 = 0x8000_0000;

/// The watches, by file and table. As the marks of `notify`, of the whole process.
static WATCHES: Mutex<BTreeMap<(u64, u64), Arc<Watch>>, ranks::Leaf> = Mutex::new(BTreeMap::new());
/// How many, for those who close and have nothing to look for.
static COUNT: AtomicUsize = AtomicUsize::new(0);

struct Watch {
    me: Weak<Watch>,
    key: (u64, u64),
    inode: usize,
    to: Arc<Recipient>,
    fd: AtomicI32,
    /// What is told, as `DN_*`; nothing once it is over.
    mask: AtomicU32,
}

/// What each bit of F_NOTIFY asks for.
const BITS: [(u32, Happened); 6] = [
    (0x1, Happened::ACCESS),
    (0x2, Happened::MODIFY),
    (0x4, Happened::CREATE.union(Happened::MOVED_TO)),
    (0x8, Happened::DELETE.union(Happened::MOVED_FROM)),
    (0x10, Happened::RENAME),
    (0x20, Happened::ATTRIB),
];

fn wanted(mask: u32, what: Happened) -> bool {
    BITS.iter()
        .any(|(bit, events)| mask & bit != 0 && what.intersects(*events))
}

impl Mark for Watch {
    fn event(&self, event: &Event<'_>) {
        let mask = self.mask.load(Ordering::Acquire);
        if !wanted(mask, event.what) {
            return;
        }
        // Of two who would tell of the one event that is told, one does.
        if mask & AGAIN == 0 && self.mask.swap(0, Ordering::AcqRel) == 0 {
            return;
        }
        self.to
            .tell(self.fd.load(Ordering::Relaxed), Reason::Message);
        if mask & AGAIN == 0 {
            self.end();
        }
    }

    fn gone(&self) {
        self.forget();
    }
}

impl Watch {
    /// Another may have taken its place already.
    fn forget(&self) -> Option<Arc<Watch>> {
        let mut all = WATCHES.lock();
        let watch = match all.get(&self.key) {
            Some(found) if std::ptr::eq(&**found, self) => all.remove(&self.key),
            _ => None,
        };
        COUNT.store(all.len(), Ordering::Relaxed);
        watch
    }

    fn end(&self) {
        let found = self.forget();
        if let Some(me) = found.or_else(|| self.me.upgrade()) {
            let mark: Arc<dyn Mark> = me;
            notify::remove(self.inode, &mark);
        }
    }
}

/// fcntl(F_NOTIFY) of `file` by its descriptor `fd`: tells of `what` (`DN_*`) from now on, in
/// addition to what it tells of, or of nothing any more.
///
/// # Errors
/// `ENOTDIR`.
pub fn watch(cx: &dyn FsCtx, file: &File, fd: i32, what: u32) -> Result<(), Errno> {
    let key = (file.id(), cx.fds().id());
    if what & !AGAIN == 0 {
        end(key);
        return Ok(());
    }
    let at = file
        .path()
        .filter(|_| file.is_dir())
        .ok_or(Errno::ENOTDIR)?;
    file.own_unless_owned(cx, OwnerKind::Process, cx.tid());
    let new = {
        let mut all = WATCHES.lock();
        let old = all
            .get(&key)
            .filter(|w| w.mask.load(Ordering::Acquire) != 0);
        if let Some(old) = old {
            old.fd.store(fd, Ordering::Relaxed);
            old.mask.fetch_or(what, Ordering::AcqRel);
            let old = old.clone();
            drop(all);
            end_if_closed(cx, file, fd, &old);
            return Ok(());
        }
        let new = Arc::new_cyclic(|me| Watch {
            me: me.clone(),
            key,
            inode: notify::id(at),
            to: file.recipient().clone(),
            fd: AtomicI32::new(fd),
            mask: AtomicU32::new(what),
        });
        all.insert(key, new.clone());
        COUNT.store(all.len(), Ordering::Relaxed);
        new
    };
    notify::add(at, new.clone());
    end_if_closed(cx, file, fd, &new);
    Ok(())
}

/// Another thread may have closed the descriptor meanwhile, and found no watch to end.
fn end_if_closed(cx: &dyn FsCtx, file: &File, fd: i32, watch: &Watch) {
    if !cx.fds().holds(fd, file) {
        watch.end();
    }
}

/// A descriptor of `file` in table `table` was closed.
#[inline]
pub(crate) fn closed(table: u64, file: &File) {
    if COUNT.load(Ordering::Relaxed) != 0 && file.is_dir() {
        end((file.id(), table));
    }
}

fn end(key: (u64, u64)) {
    let found = WATCHES.lock().get(&key).cloned();
    if let Some(watch) = found {
        watch.end();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_move_is_a_making_or_a_removal_and_a_renaming_only_within_a_directory() {
        assert!(wanted(0x4, Happened::MOVED_TO | Happened::ISDIR));
        assert!(wanted(0x8 | AGAIN, Happened::MOVED_FROM));
        assert!(!wanted(0x10, Happened::MOVED_FROM));
        assert!(wanted(0x10, Happened::RENAME));
        assert!(!wanted(AGAIN, Happened::all()));
    }
}
