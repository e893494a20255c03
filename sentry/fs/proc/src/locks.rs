//! `locks`, and the locks of an open file in its `fdinfo` (proc_locks(5)).

use crate::Proc;
use abi::libc;
use ctx::Ctx;
use std::collections::HashSet;
use std::sync::{Arc, Weak};
use vfs::LockLine;

/// Line `n`.
pub(crate) fn line(proc: &Proc, cx: &dyn Ctx, n: usize, lock: &LockLine) -> String {
    let inode = lock.inode.as_ref().and_then(Weak::upgrade);
    let attr = inode.and_then(|inode| inode.attr(cx).ok());
    let (dev, ino) = attr.map_or((0, 0), |attr| (attr.dev, attr.ino));
    let pid = number(proc, lock).unwrap_or(-1);
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
        pid,
        libc::major(dev),
        libc::minor(dev),
    )
}

/// What the process that has it is called here: 0 where it is outside; none for a description.
fn number(proc: &Proc, lock: &LockLine) -> Option<i32> {
    lock.pid.as_ref().map(|pid| proc.number(pid))
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
    // Those of who is not seen here have numbers, too.
    (1..)
        .zip(shown)
        .filter(|(_, lock)| number(proc, lock) != Some(0))
        .map(|(n, lock)| line(proc, cx, n, lock))
        .collect()
}
