//! `locks`, and the locks of an open file in its `fdinfo` (proc_locks(5)).

use crate::Proc;
use abi::libc;
use ctx::Ctx;
use std::collections::HashSet;
use std::sync::{Arc, Weak};
use vfs::LockLine;

/// Line `n`.
pub(crate) fn line(cx: &dyn Ctx, n: usize, lock: &LockLine) -> String {
    let inode = lock.inode.as_ref().and_then(Weak::upgrade);
    let attr = inode.and_then(|inode| inode.attr(cx).ok());
    let (dev, ino) = attr.map_or((0, 0), |attr| (attr.dev, attr.ino));
    let (first, last) = lock.range;
    let last = match i64::try_from(last) {
        Ok(i64::MAX) | Err(_) => "EOF".to_owned(),
        Ok(last) => last.to_string(),
    };
    format!(
        "{n}: {:<6} {:<9} {} {} {:02x}:{:02x}:{ino} {first} {last}\n",
        lock.class,
        lock.state,
        lock.kind,
        lock.pid,
        libc::major(dev),
        libc::minor(dev),
    )
}

/// What the processes of this tree hold.
pub(crate) fn text(proc: &Arc<Proc>, cx: &dyn Ctx) -> String {
    let mut files = HashSet::new();
    let mut tables = HashSet::new();
    for task in proc.kernel.tasks() {
        if let Some(fds) = task.fds()
            && tables.insert(fds.id())
        {
            files.extend(fds.list().into_iter().map(|(_, file)| file.id()));
        }
    }
    let locks = vfs::all_locks();
    let shown = locks.iter().filter(|lock| files.contains(&lock.file));
    (1..)
        .zip(shown)
        .map(|(n, lock)| line(cx, n, lock))
        .collect()
}
