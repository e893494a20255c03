//! Leases on files (fcntl(2), F_SETLEASE).
//!
//! Who holds one is told, by the description's signal, when somebody else opens or truncates the
//! file in a way that conflicts, and has `fs.lease-break-time` to give it up; so long the other
//! one waits. They live in one table by inode, since almost no file has any: while there is none
//! at all, an opening costs one load.

use crate::locks::{LockLine, WHOLE, kind_text};
use crate::sigio::{OwnerKind, Reason, Recipient};
use crate::{Caching, File, FileType, FsCtx, Inode, VfsPath};
use abi::Errno;
use auth::Capability;
use ctx::{Ctx, Pid, Restart, SysErr, wait_for};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};
use sync::{Mutex, ranks};
use wait::{Events, Queue};

/// What a lease is against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaseKind {
    /// Writers (`F_RDLCK`).
    Read,
    /// Everybody (`F_WRLCK`).
    Write,
}

/// Until when a holder who was told may keep what it has; `None` is for ever.
type Until = Option<Instant>;

struct Lease {
    /// The description that holds it.
    file: u64,
    kind: LeaseKind,
    /// It is to be given up.
    gives_up: Option<Until>,
    /// It is to become one against writers.
    weakens: Option<Until>,
    /// The descriptor it was asked for by, for the signal.
    fd: i32,
    pid: Pid,
    to: Arc<Recipient>,
}

struct State {
    inode: Weak<dyn Inode>,
    leases: Vec<Lease>,
    queue: Arc<Queue>,
}

static ALL: Mutex<BTreeMap<usize, State>, ranks::FileLocks> = Mutex::new(BTreeMap::new());
/// How many there are.
static COUNT: AtomicUsize = AtomicUsize::new(0);

impl Lease {
    fn conflicts(&self, write: bool) -> bool {
        write || self.kind == LeaseKind::Write
    }

    /// What it is, or has been told to become.
    fn target(&self) -> Option<LeaseKind> {
        match (self.gives_up, self.weakens) {
            (Some(_), _) => None,
            (None, Some(_)) => Some(LeaseKind::Read),
            (None, None) => Some(self.kind),
        }
    }

    /// Tells the holder; whether that is news.
    fn ask(&mut self, write: bool, until: Until) -> bool {
        let asked = match write {
            true => &mut self.gives_up,
            false if self.gives_up.is_some() => return false,
            false => &mut self.weakens,
        };
        let new = asked.is_none();
        if new {
            *asked = Some(until);
        }
        new
    }

    fn line(&self, inode: &Weak<dyn Inode>) -> LockLine {
        let told = self.gives_up.is_some() || self.weakens.is_some();
        LockLine {
            class: "LEASE",
            state: if told { "BREAKING" } else { "ACTIVE" },
            kind: match self.target() {
                Some(kind) => kind_text(kind == LeaseKind::Write),
                None => "UNLCK",
            },
            file: self.file,
            pid: Some(self.pid.clone()),
            inode: Some(inode.clone()),
            range: WHOLE,
        }
    }
}

fn past(asked: Option<Until>, now: Instant) -> bool {
    asked.flatten().is_some_and(|until| until <= now)
}

/// What is to be done once the table is not locked any more.
#[derive(Default)]
struct After {
    gone: Vec<Lease>,
    wake: Option<Arc<Queue>>,
    empty: Option<State>,
}

impl After {
    fn act(self) {
        // Who has no lease any more is not told of anything.
        for lease in &self.gone {
            lease.to.set_owner(OwnerKind::Process, None);
            lease.to.set_signal(0);
        }
        if let Some(queue) = self.wake {
            queue.notify_all(Events::IN);
        }
    }
}

impl State {
    fn of(at: &VfsPath) -> State {
        State {
            inode: Arc::downgrade(at.inode()),
            leases: Vec::new(),
            queue: Arc::default(),
        }
    }

    fn remove(&mut self, which: impl Fn(&Lease) -> bool, after: &mut After) {
        let gone: Vec<Lease> = self.leases.extract_if(.., |l| which(l)).collect();
        if !gone.is_empty() {
            COUNT.fetch_sub(gone.len(), Ordering::SeqCst);
            after.wake = Some(self.queue.clone());
            after.gone.extend(gone);
        }
    }

    /// Takes what was not given up in time.
    fn expire(&mut self, after: &mut After) {
        let now = Instant::now();
        for lease in &mut self.leases {
            if past(lease.weakens, now) {
                lease.kind = LeaseKind::Read;
                lease.weakens = None;
                after.wake = Some(self.queue.clone());
            }
        }
        self.remove(|l| past(l.gives_up, now), after);
    }
}

/// Calls `f` with what there is of one file, and acts upon what came of it; `None` where there is
/// nothing, unless it is to be made.
fn with<T>(at: &VfsPath, make: bool, f: impl FnOnce(&mut State, &mut After) -> T) -> Option<T> {
    let key = at.inode_key();
    let mut after = After::default();
    let mut all = ALL.lock();
    if make {
        all.entry(key).or_insert_with(|| State::of(at));
    }
    let state = all.get_mut(&key)?;
    state.expire(&mut after);
    let result = f(state, &mut after);
    if state.leases.is_empty()
        && Arc::strong_count(&state.queue) <= 1 + usize::from(after.wake.is_some())
    {
        after.empty = all.remove(&key);
    }
    drop(all);
    after.act();
    Some(result)
}

/// Takes a lease on what `file` has open, changes the one it has, or (`None`) gives it up
/// (F_SETLEASE by descriptor `fd`).
///
/// # Errors
/// `EACCES` on another's file, unless capable; `EINVAL` where there are no leases: on what is no
/// regular file, and on what changes without us; `EAGAIN` where somebody else has the file open
/// or leased in a way that conflicts, and where there is none to give up.
pub fn set_lease(
    cx: &dyn FsCtx,
    file: &File,
    fd: i32,
    kind: Option<LeaseKind>,
) -> Result<(), Errno> {
    let creds = cx.creds();
    if file.attr(cx)?.uid != creds.fsuid && !creds.has(Capability::Lease) {
        return Err(Errno::EACCES);
    }
    let at = file.path().filter(|at| at.kind() == FileType::Regular);
    let at = at.ok_or(Errno::EINVAL)?;
    if at.dentry.caching() != Caching::Exclusive {
        return Err(Errno::EINVAL);
    }
    let id = file.id();
    let Some(kind) = kind else {
        let given_up = with(at, false, |state, after| {
            state.remove(|l| l.file == id, after);
            !after.gone.is_empty()
        });
        return match given_up {
            Some(true) => Ok(()),
            Some(false) | None => Err(Errno::EAGAIN),
        };
    };
    file.locked.store(1, Ordering::Relaxed);
    let pid = cx.process_id();
    with(at, true, |state, after| {
        if conflicts_with_openings(file, at, kind) {
            return Err(Errno::EAGAIN);
        }
        let mut others = state.leases.iter().filter(|l| l.file != id);
        if others.any(|l| kind == LeaseKind::Write || l.gives_up.is_some()) {
            return Err(Errno::EAGAIN);
        }
        if let Some(own) = state.leases.iter_mut().find(|l| l.file == id) {
            own.kind = kind;
            own.fd = fd;
            if kind == LeaseKind::Read {
                own.weakens = None;
            }
            after.wake = Some(state.queue.clone());
            return Ok(());
        }
        if !sysctl::LEASES_ENABLE.is_on() {
            return Err(Errno::EINVAL);
        }
        state.leases.push(Lease {
            file: id,
            kind,
            gives_up: None,
            weakens: None,
            fd,
            pid,
            to: file.recipient().clone(),
        });
        COUNT.fetch_add(1, Ordering::SeqCst);
        // Who opens it counts itself first and then looks for leases: one of both sees the other.
        if conflicts_with_openings(file, at, kind) {
            state.leases.pop();
            COUNT.fetch_sub(1, Ordering::SeqCst);
            return Err(Errno::EAGAIN);
        }
        Ok(())
    })
    .unwrap_or(Err(Errno::EAGAIN))?;
    file.own_unless_owned(cx, OwnerKind::Process, cx.tid());
    Ok(())
}

fn conflicts_with_openings(file: &File, at: &VfsPath, kind: LeaseKind) -> bool {
    let (readers, writers) = at.dentry.openings();
    let flags = file.flags();
    match kind {
        LeaseKind::Read => writers > 0,
        LeaseKind::Write => {
            writers != i32::from(flags.writable()) || readers != u32::from(!flags.writable())
        }
    }
}

/// What lease `file` holds, or has been told to hold (F_GETLEASE).
pub fn lease(file: &File) -> Option<LeaseKind> {
    let at = file.path()?;
    if COUNT.load(Ordering::SeqCst) == 0 {
        return None;
    }
    with(at, false, |state, _| {
        let own = state.leases.iter().find(|l| l.file == file.id());
        own.and_then(Lease::target)
    })
    .flatten()
}

/// Has the leases given up that stand against somebody who has opened `at` (and is counted
/// there), to write or not.
///
/// # Errors
/// `EAGAIN` with `nonblocking`; a restart when interrupted.
#[inline]
pub(crate) fn break_leases(
    cx: &dyn Ctx,
    at: &VfsPath,
    write: bool,
    nonblocking: bool,
) -> Result<(), SysErr> {
    if COUNT.load(Ordering::SeqCst) == 0 {
        return Ok(());
    }
    break_them(cx, at, write, nonblocking)
}

#[cold]
fn break_them(cx: &dyn Ctx, at: &VfsPath, write: bool, nonblocking: bool) -> Result<(), SysErr> {
    let seconds = sysctl::LEASE_BREAK_TIME.size() as u64;
    let until = (seconds > 0).then(|| Instant::now() + Duration::from_secs(seconds));
    let mut told = Vec::new();
    let mut conflict = false;
    let queue = with(at, false, |state, _| {
        for lease in state.leases.iter_mut().filter(|l| l.conflicts(write)) {
            conflict = true;
            if lease.ask(write, until) {
                told.push((lease.to.clone(), lease.fd));
            }
        }
        // Whoever has it keeps the entry.
        (conflict && !nonblocking).then(|| state.queue.clone())
    })
    .flatten();
    for (to, fd) in told {
        to.tell(fd, Reason::Message);
    }
    if !conflict {
        return Ok(());
    }
    let queue = queue.ok_or(Errno::EAGAIN)?;
    let look = || {
        with(at, false, |state, _| {
            let conflicting = state.leases.iter().filter(|l| l.conflicts(write));
            let asked: Vec<Until> = conflicting
                .map(|l| l.gives_up.or(l.weakens).flatten())
                .collect();
            let first = asked.iter().flatten().min().copied();
            (!asked.is_empty()).then_some(first)
        })
        .flatten()
    };
    let mut result = Ok(());
    while let Some(deadline) = look() {
        let attempt = || Ok(look().is_none().then_some(()));
        match wait_for(cx, &queue, Events::IN, deadline, Restart::Sys, attempt) {
            Ok(Some(())) => break,
            // It is taken away now.
            Ok(None) => {}
            Err(e) => {
                result = Err(e);
                break;
            }
        }
    }
    drop(queue);
    // The queue may have been all that kept the entry.
    with(at, false, |_, _| ());
    result
}

/// A description has gone: its lease goes.
pub(crate) fn description_gone(file: &File) {
    if let Some(at) = file.path()
        && COUNT.load(Ordering::SeqCst) != 0
    {
        with(at, false, |state, after| {
            state.remove(|l| l.file == file.id(), after)
        });
    }
}

/// Those of one description, or all.
pub(crate) fn lines(of: Option<u64>) -> Vec<LockLine> {
    let all = ALL.lock();
    let mut lines = Vec::new();
    for state in all.values() {
        let wanted = state
            .leases
            .iter()
            .filter(|l| of.is_none_or(|id| l.file == id));
        lines.extend(wanted.map(|l| l.line(&state.inode)));
    }
    lines
}
