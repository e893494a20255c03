//! Signals for input and output (fcntl(2), "Managing signals").
//!
//! An object that `O_ASYNC` works on keeps [`Watchers`] and tells them what has happened, at the
//! points where Linux does: each event, not each change of readiness. A description that watches
//! stands there with its [`Recipient`]: whom the signal goes to and which one it is. Whoever
//! that is, `task` knows: to this crate it is an [`Owner`].
//!
//! While nobody watches an object, telling costs one relaxed load.

use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use sync::{Mutex, ranks};
use wait::Events;

/// What has happened, with the numbers of `si_code`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// There is something to read.
    In = 1,
    /// There is room to write.
    Out = 2,
    /// Something happened in a directory.
    Message = 3,
    /// The other side is gone.
    HangUp = 6,
}

impl Reason {
    /// `si_code`
    pub fn code(self) -> i32 {
        self as i32
    }

    /// `si_band`
    pub fn band(self) -> u64 {
        let events = match self {
            Reason::In => Events::IN | Events::RDNORM,
            Reason::Out => Events::OUT | Events::WRNORM | Events::WRBAND,
            Reason::Message => Events::IN | Events::RDNORM | Events::MSG,
            Reason::HangUp => Events::HUP | Events::ERR,
        };
        u64::from(events.bits())
    }
}

/// What the id of an owner is that of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OwnerKind {
    /// A thread.
    #[default]
    Thread,
    /// A process.
    Process,
    /// A process group.
    Group,
}

/// Who gets the signals.
pub trait Owner: Send + Sync + Any {
    /// Sends `signal`, or `SIGIO` without details for 0, about descriptor `fd`. Called without
    /// locks.
    fn tell(&self, signal: i32, fd: i32, reason: Reason);
}

/// Who gets a description's signals, and which.
#[derive(Default)]
pub struct Recipient {
    state: Mutex<State, ranks::Leaf>,
}

#[derive(Clone, Default)]
struct State {
    kind: OwnerKind,
    owner: Option<Arc<dyn Owner>>,
    signal: i32,
}

impl Recipient {
    /// Who it is.
    pub fn owner(&self) -> (OwnerKind, Option<Arc<dyn Owner>>) {
        let state = self.state.lock();
        (state.kind, state.owner.clone())
    }

    /// Sets who it is; nobody, for `None`.
    pub fn set_owner(&self, kind: OwnerKind, owner: Option<Arc<dyn Owner>>) {
        let mut state = self.state.lock();
        state.kind = kind;
        let old = std::mem::replace(&mut state.owner, owner);
        drop(state);
        drop(old);
    }

    /// The signal; 0 is `SIGIO` without details (F_GETSIG).
    pub fn signal(&self) -> i32 {
        self.state.lock().signal
    }

    /// Sets the signal (F_SETSIG).
    pub fn set_signal(&self, signal: i32) {
        self.state.lock().signal = signal;
    }

    /// Sends it.
    pub(crate) fn tell(&self, fd: i32, reason: Reason) {
        let State { owner, signal, .. } = self.state.lock().clone();
        if let Some(owner) = owner {
            owner.tell(signal, fd, reason);
        }
    }
}

/// The descriptions that watch one object.
pub struct Watchers {
    count: AtomicUsize,
    list: Mutex<Vec<Watcher>, ranks::Leaf>,
}

#[derive(Clone)]
struct Watcher {
    /// The number of the description.
    file: u64,
    /// The descriptor by which it was asked for.
    fd: i32,
    to: Arc<Recipient>,
}

impl std::fmt::Debug for Watchers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Watchers({})", self.count.load(Ordering::Relaxed))
    }
}

impl Default for Watchers {
    fn default() -> Self {
        Self::new()
    }
}

impl Watchers {
    /// Nobody.
    pub const fn new() -> Watchers {
        Watchers {
            count: AtomicUsize::new(0),
            list: Mutex::new(Vec::new()),
        }
    }

    /// Adds the description with number `file`, or changes what it was added with.
    pub(crate) fn add(&self, file: u64, fd: i32, to: &Arc<Recipient>) {
        let mut list = self.list.lock();
        match list.iter_mut().find(|w| w.file == file) {
            Some(watcher) => watcher.fd = fd,
            None => list.push(Watcher {
                file,
                fd,
                to: to.clone(),
            }),
        }
        self.count.store(list.len(), Ordering::Relaxed);
    }

    pub(crate) fn remove(&self, file: u64) {
        let mut list = self.list.lock();
        let at = list.iter().position(|w| w.file == file);
        let gone = at.map(|at| list.swap_remove(at));
        self.count.store(list.len(), Ordering::Relaxed);
        drop(list);
        drop(gone);
    }

    /// Sends the signals. To be called without locks that a signal's way needs: those of tasks,
    /// and leaves.
    #[inline]
    pub fn tell(&self, reason: Reason) {
        if self.count.load(Ordering::Relaxed) != 0 {
            self.tell_all(reason);
        }
    }

    #[cold]
    fn tell_all(&self, reason: Reason) {
        let all = self.list.lock().clone();
        for watcher in all {
            watcher.to.tell(watcher.fd, reason);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Heard(Mutex<Vec<(i32, i32, Reason)>, ranks::Leaf>);

    impl Owner for Heard {
        fn tell(&self, signal: i32, fd: i32, reason: Reason) {
            self.0.lock().push((signal, fd, reason));
        }
    }

    #[test]
    fn those_who_watch_are_told_by_the_descriptor_they_asked_with_last() {
        let (watchers, heard) = (Watchers::new(), Arc::new(Heard::default()));
        let to = Arc::new(Recipient::default());
        watchers.add(7, 3, &to);
        watchers.tell(Reason::In);
        to.set_owner(OwnerKind::Process, Some(heard.clone()));
        to.set_signal(40);
        watchers.tell(Reason::In);
        watchers.add(7, 4, &to);
        watchers.tell(Reason::HangUp);
        watchers.remove(7);
        watchers.tell(Reason::In);
        assert_eq!(
            *heard.0.lock(),
            [(40, 3, Reason::In), (40, 4, Reason::HangUp)]
        );
    }

    #[test]
    fn bands_are_those_of_poll() {
        assert_eq!((Reason::In.code(), Reason::In.band()), (1, 0x41));
        assert_eq!((Reason::Out.code(), Reason::Out.band()), (2, 0x304));
        assert_eq!((Reason::HangUp.code(), Reason::HangUp.band()), (6, 0x18));
    }
}
