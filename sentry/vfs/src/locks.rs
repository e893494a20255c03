//! Advisory locks: POSIX byte ranges, those of open file descriptions, and flock(2).
//!
//! They live in one table by inode, since almost no file has any.

use crate::{File, Inode, leases};
use abi::Errno;
use ctx::{Ctx, Pid, Restart, SysErr, wait_for};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use sync::{Mutex, ranks};
use wait::{Events, Queue};

/// Whose a byte-range lock is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LockOwner {
    /// A process: its descriptor table ([`crate::FdTable::id`]) and its pid (F_SETLK).
    Process {
        /// [`crate::FdTable::id`]
        table: u64,
        /// For F_GETLK.
        pid: Pid,
    },
    /// The open file description itself (F_OFD_SETLK).
    Description,
}

/// A byte-range lock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RangeLock {
    /// Whether it excludes readers too (`F_WRLCK`).
    pub write: bool,
    /// First byte.
    pub start: u64,
    /// Last byte; `i64::MAX as u64` is the end of the file, wherever that is.
    pub last: u64,
    /// Who holds it; nobody for a description.
    pub pid: Option<Pid>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Holder {
    Table(u64),
    File(u64),
}

#[derive(Clone)]
struct Record {
    holder: Holder,
    /// The description it was asked for by.
    file: u64,
    lock: RangeLock,
}

/// A lock of flock(2).
#[derive(Clone)]
struct Flock {
    file: u64,
    exclusive: bool,
    /// The process that took it.
    pid: Pid,
}

#[derive(Default)]
struct State {
    /// The file, where it has a place.
    inode: Option<Weak<dyn Inode>>,
    ranges: Vec<Record>,
    flocks: Vec<Flock>,
    queue: Arc<Queue>,
}

struct All {
    files: BTreeMap<usize, State>,
    /// Process that waits -> process it waits for, to see a deadlock coming.
    waits: BTreeMap<u64, u64>,
}

static ALL: Mutex<All, ranks::FileLocks> = Mutex::new(All {
    files: BTreeMap::new(),
    waits: BTreeMap::new(),
});
/// Byte-range records in all, so that close(2) costs one load where there are none.
static RANGES: AtomicUsize = AtomicUsize::new(0);

fn holder(file: &File, owner: &LockOwner) -> Holder {
    match owner {
        LockOwner::Process { table, .. } => Holder::Table(*table),
        LockOwner::Description => Holder::File(file.id()),
    }
}

impl State {
    fn conflict(&self, holder: Holder, write: bool, start: u64, last: u64) -> Option<&Record> {
        self.ranges.iter().find(|r| {
            r.holder != holder
                && (write || r.lock.write)
                && r.lock.start <= last
                && start <= r.lock.last
        })
    }

    /// Takes `start..=last` away from `holder`, cutting what reaches beyond.
    fn clear(&mut self, holder: Holder, start: u64, last: u64) {
        let mut left = Vec::with_capacity(self.ranges.len());
        for r in self.ranges.drain(..) {
            if r.holder != holder || r.lock.last < start || last < r.lock.start {
                left.push(r);
                continue;
            }
            if r.lock.start < start {
                left.push(Record {
                    lock: RangeLock {
                        last: start - 1,
                        ..r.lock.clone()
                    },
                    ..r
                });
            }
            if r.lock.last > last {
                left.push(Record {
                    lock: RangeLock {
                        start: last + 1,
                        ..r.lock
                    },
                    ..r
                });
            }
        }
        self.ranges = left;
    }

    fn place(&mut self, holder: Holder, file: u64, mut lock: RangeLock) {
        let before = self.ranges.iter().position(|r| r.holder == holder);
        self.clear(holder, lock.start, lock.last);
        // Neighbours of the same kind become one, as F_GETLK shows them.
        self.ranges.retain(|r| {
            let touches = r.lock.start <= lock.last.saturating_add(1)
                && lock.start <= r.lock.last.saturating_add(1);
            if r.holder != holder || r.lock.write != lock.write || !touches {
                return true;
            }
            lock.start = lock.start.min(r.lock.start);
            lock.last = lock.last.max(r.lock.last);
            false
        });
        // Those of one holder stand together, in order, and holders in the order in which they
        // came: the first of all is the one that F_GETLK tells.
        let own = |r: &&Record| r.holder == holder && r.lock.start < lock.start;
        let at = before.map_or(self.ranges.len(), |before| {
            before + self.ranges[before..].iter().take_while(own).count()
        });
        self.ranges.insert(at, Record { holder, file, lock });
    }
}

impl All {
    /// Changes the state of one file, keeps the count, forgets states without content. Also returns
    /// the queue to be notified, where somebody may wait in it.
    fn change<T>(
        &mut self,
        file: &File,
        f: impl FnOnce(&mut State) -> T,
    ) -> (T, Option<Arc<Queue>>) {
        let key = file.lock_key();
        let state = self.files.entry(key).or_default();
        if state.inode.is_none() {
            state.inode = file.path().map(|at| Arc::downgrade(at.inode()));
        }
        let before = state.ranges.len();
        let result = f(state);
        let after = state.ranges.len();
        if after >= before {
            RANGES.fetch_add(after - before, Ordering::Relaxed);
        } else {
            RANGES.fetch_sub(before - after, Ordering::Relaxed);
        }
        let waited_for = Arc::strong_count(&state.queue) > 1;
        let queue = waited_for.then(|| state.queue.clone());
        if state.ranges.is_empty() && state.flocks.is_empty() && !waited_for {
            self.files.remove(&key);
        }
        (result, queue)
    }

    /// Whether `waiter`, made to wait for `holder`, would wait for itself.
    fn deadlock(&self, waiter: u64, mut holder: u64) -> bool {
        for _ in 0..64 {
            if holder == waiter {
                return true;
            }
            match self.waits.get(&holder) {
                Some(next) => holder = *next,
                None => return false,
            }
        }
        false
    }
}

/// The first lock that stands in the way of the one described (F_GETLK, F_OFD_GETLK).
pub fn conflicting_lock(
    file: &File,
    owner: LockOwner,
    write: bool,
    start: u64,
    last: u64,
) -> Option<RangeLock> {
    let all = ALL.lock();
    all.files
        .get(&file.lock_key())?
        .conflict(holder(file, &owner), write, start, last)
        .map(|r| r.lock.clone())
}

/// The first lock of `owner` itself that reaches into a range (F_OFD_GETLK with F_UNLCK).
pub fn own_lock(file: &File, owner: LockOwner, start: u64, last: u64) -> Option<RangeLock> {
    let holder = holder(file, &owner);
    let all = ALL.lock();
    let found = all
        .files
        .get(&file.lock_key())?
        .ranges
        .iter()
        .find(|r| r.holder == holder && r.lock.start <= last && start <= r.lock.last);
    found.map(|r| r.lock.clone())
}

/// Releases a range.
pub fn unlock_range(file: &File, owner: LockOwner, start: u64, last: u64) {
    let holder = holder(file, &owner);
    let ((), queue) = ALL.lock().change(file, |s| s.clear(holder, start, last));
    tell(queue);
}

/// Locks were given up, or became weaker.
fn tell(queue: Option<Arc<Queue>>) {
    if let Some(queue) = queue {
        queue.notify_all(Events::IN);
    }
}

/// Takes a range, or converts the kind of what is held there. With `wait`, blocks while another's
/// lock stands in the way.
///
/// # Errors
/// `EAGAIN` without `wait`; `EDEADLK` where waiting would never end; a restart when interrupted.
pub fn lock_range(
    cx: &dyn Ctx,
    file: &File,
    owner: LockOwner,
    write: bool,
    (start, last): (u64, u64),
    wait: bool,
) -> Result<(), SysErr> {
    let key = file.lock_key();
    let holder = holder(file, &owner);
    let pid = match owner {
        LockOwner::Process { pid, .. } => Some(pid),
        LockOwner::Description => None,
    };
    if matches!(holder, Holder::File(_)) {
        file.locked.store(1, Ordering::Relaxed);
    }
    let attempt = || -> Result<Option<()>, SysErr> {
        let mut all = ALL.lock();
        let blocker = match all
            .files
            .get(&key)
            .and_then(|s| s.conflict(holder, write, start, last))
        {
            Some(r) => r.holder,
            None => {
                let lock = RangeLock {
                    write,
                    start,
                    last,
                    pid: pid.clone(),
                };
                let ((), queue) = all.change(file, |s| s.place(holder, file.id(), lock));
                drop(all);
                // A lock that became weaker lets others in.
                tell(queue);
                return Ok(Some(()));
            }
        };
        if !wait {
            return Err(Errno::EAGAIN.into());
        }
        if let (Holder::Table(me), Holder::Table(it)) = (holder, blocker) {
            if all.deadlock(me, it) {
                return Err(Errno::EDEADLK.into());
            }
            all.waits.insert(me, it);
        }
        Ok(None)
    };
    let queue = ALL.lock().files.entry(key).or_default().queue.clone();
    let result = wait_for(cx, &queue, Events::IN, None, Restart::Sys, attempt);
    drop(queue);
    let mut all = ALL.lock();
    if let Holder::Table(me) = holder {
        all.waits.remove(&me);
    }
    let _nothing = all.change(file, |_| ());
    result.map(|_| ())
}

/// flock(2): `Some(exclusive)` locks, `None` unlocks.
///
/// # Errors
/// `EWOULDBLOCK` with `nonblocking`; a restart when interrupted.
pub fn flock(
    cx: &dyn Ctx,
    file: &File,
    lock: Option<bool>,
    nonblocking: bool,
) -> Result<(), SysErr> {
    let key = file.lock_key();
    let id = file.id();
    let Some(exclusive) = lock else {
        release(file, |s| s.flocks.retain(|l| l.file != id));
        return Ok(());
    };
    let pid = cx.process_id();
    file.locked.store(1, Ordering::Relaxed);
    if ALL.lock().files.get(&key).is_some_and(|s| {
        let mut own = s.flocks.iter().filter(|l| l.file == id);
        own.any(|l| l.exclusive == exclusive)
    }) {
        return Ok(());
    }
    // A conversion gives the old lock up first (flock(2)).
    release(file, |s| s.flocks.retain(|l| l.file != id));
    let attempt = || -> Result<Option<()>, SysErr> {
        let mut all = ALL.lock();
        let (taken, _) = all.change(file, |s| {
            let others = |l: &Flock| l.file != id && (exclusive || l.exclusive);
            let free = !s.flocks.iter().any(others);
            if free {
                s.flocks.push(Flock {
                    file: id,
                    exclusive,
                    pid: pid.clone(),
                });
            }
            free
        });
        match (taken, nonblocking) {
            (true, _) => Ok(Some(())),
            (false, true) => Err(Errno::EAGAIN.into()),
            (false, false) => Ok(None),
        }
    };
    let queue = ALL.lock().files.entry(key).or_default().queue.clone();
    let result = wait_for(cx, &queue, Events::IN, None, Restart::Sys, attempt);
    drop(queue);
    let _nothing = ALL.lock().change(file, |_| ());
    result.map(|_| ())
}

fn release(file: &File, f: impl FnOnce(&mut State)) {
    let mut all = ALL.lock();
    if !all.files.contains_key(&file.lock_key()) {
        return;
    }
    let ((), queue) = all.change(file, f);
    drop(all);
    tell(queue);
}

/// A process has closed a descriptor of `file`: its POSIX locks on it go.
pub(crate) fn descriptor_closed(table: u64, file: &File) {
    if RANGES.load(Ordering::Relaxed) != 0 {
        release(file, |s| {
            s.ranges.retain(|r| r.holder != Holder::Table(table))
        });
    }
}

/// A description has gone: its own locks go.
pub(crate) fn description_gone(file: &File) {
    let id = file.id();
    release(file, |s| {
        s.ranges.retain(|r| r.holder != Holder::File(id));
        s.flocks.retain(|l| l.file != id);
    });
}

/// A lock or a lease, as /proc/locks tells of it (proc_locks(5)).
#[derive(Clone, Debug)]
pub struct LockLine {
    /// `POSIX`, `OFDLCK`, `FLOCK` or `LEASE`.
    pub class: &'static str,
    /// What is said of it beside the class: `ADVISORY`, or how a lease is doing.
    pub state: &'static str,
    /// `READ`, `WRITE` or `UNLCK`.
    pub kind: &'static str,
    /// The description it was asked for by ([`File::id`]).
    pub file: u64,
    /// Whose it is; `None` for a description.
    pub pid: Option<Pid>,
    /// The file; `None` where it has no place.
    pub inode: Option<Weak<dyn Inode>>,
    /// First and last byte, as of [`RangeLock`].
    pub range: (u64, u64),
}

pub(crate) fn kind_text(write: bool) -> &'static str {
    if write { "WRITE" } else { "READ" }
}

/// The whole of a file.
pub(crate) const WHOLE: (u64, u64) = (0, i64::MAX as u64);

impl State {
    fn lines(&self, wanted: impl Fn(u64, Holder) -> bool) -> Vec<LockLine> {
        let flocks = self.flocks.iter().map(|l| LockLine {
            class: "FLOCK",
            state: "ADVISORY",
            kind: kind_text(l.exclusive),
            file: l.file,
            pid: Some(l.pid.clone()),
            inode: self.inode.clone(),
            range: WHOLE,
        });
        let flocks = self.flocks.iter().zip(flocks);
        let flocks = flocks.filter(|(l, _)| wanted(l.file, Holder::File(l.file)));
        let ranges = self.ranges.iter().filter(|r| wanted(r.file, r.holder));
        let ranges = ranges.map(|r| LockLine {
            class: match r.holder {
                Holder::Table(_) => "POSIX",
                Holder::File(_) => "OFDLCK",
            },
            state: "ADVISORY",
            kind: kind_text(r.lock.write),
            file: r.file,
            pid: r.lock.pid.clone(),
            inode: self.inode.clone(),
            range: (r.lock.start, r.lock.last),
        });
        flocks.map(|(_, line)| line).chain(ranges).collect()
    }
}

/// All locks and leases there are.
pub fn all_locks() -> Vec<LockLine> {
    let mut lines = Vec::new();
    for state in ALL.lock().files.values() {
        lines.extend(state.lines(|_, _| true));
    }
    lines.extend(leases::lines(None));
    lines
}

/// Those that were taken by `file`, and are its own or those of the process with descriptor table
/// `table`.
pub fn locks_of(file: &File, table: u64) -> Vec<LockLine> {
    let id = file.id();
    let wanted =
        |by, holder| by == id && [Holder::Table(table), Holder::File(id)].contains(&holder);
    let mut lines = match ALL.lock().files.get(&file.lock_key()) {
        Some(state) => state.lines(wanted),
        None => Vec::new(),
    };
    lines.extend(leases::lines(Some(id)));
    lines
}
