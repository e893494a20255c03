//! Job control, as a terminal needs it.
//!
//! Terminals stand below tasks. A task hands its view of sessions and process groups through
//! [`crate::Ctx::job`]; the session keeps its controlling terminal as an opaque [`Terminal`].

use crate::PidSpace;
use std::any::Any;
use std::sync::Arc;

/// A session, told from those of the sandbox's other kernels, which number theirs alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionId {
    /// The outermost PID namespace of its kernel, which numbers its process groups, too.
    pub space: PidSpace,
    /// Its number there.
    pub number: i32,
}

/// The session and process group of the calling task. Ids are the kernel's own, which terminals
/// keep; [`JobControl::named`] and [`JobControl::shown`] are where the caller's numbers for them
/// come in and go out.
pub trait JobControl {
    /// What the caller calls `number`; 0 for nothing that there is.
    fn named(&self, number: i32) -> i32;

    /// What the caller calls `id`; 0 where its PID namespace has no number for it.
    fn shown(&self, id: i32) -> i32;

    /// Session id.
    fn session(&self) -> SessionId;

    /// Process group id.
    fn group(&self) -> i32;

    /// Whether the task's thread group leads its session.
    fn leads_session(&self) -> bool;

    /// Whether the task's process group is orphaned.
    fn orphaned(&self) -> bool;

    /// Whether `signal` is blocked or ignored by the task (`SIGTTIN` and `SIGTTOU` rules).
    fn ignores(&self, signal: i32) -> bool;

    /// The session of process group `group`, if there is such a group.
    fn session_of_group(&self, group: i32) -> Option<SessionId>;

    /// The session's controlling terminal.
    fn controlling_terminal(&self) -> Option<Arc<dyn Terminal>>;

    /// Makes `terminal` the session's controlling terminal, or takes it away.
    fn set_controlling_terminal(&self, terminal: Option<Arc<dyn Terminal>>);

    /// A handle for signals that arise later, without a task (`^C` typed on the host).
    fn signaller(&self) -> Arc<dyn GroupSignaller>;
}

/// Sends signals to process groups of one kernel, from any thread.
pub trait GroupSignaller: Send + Sync {
    /// Sends `signal`, as the kernel, to every member of `group`.
    fn signal_group(&self, group: i32, signal: i32);

    /// Sends `signal` to the leader of `session`.
    fn signal_session_leader(&self, session: i32, signal: i32);

    /// Takes `session`'s controlling terminal away. When its leader ends, what was the foreground
    /// group (0 for none) hears of it.
    fn drop_terminal(&self, session: i32, foreground: i32);
}

/// A controlling terminal, from the session's side.
pub trait Terminal: Send + Sync + Any {
    /// From now on it is the controlling terminal of `session`, whose leader's group is in the
    /// foreground.
    fn belong_to(&self, session: SessionId, signaller: Arc<dyn GroupSignaller>);

    /// The session leader gives the terminal up, or exits: a signal to the foreground group, and
    /// no session any more.
    fn disassociate(&self, leader_exits: bool);

    /// The foreground process group, 0 for none.
    fn foreground(&self) -> i32;

    /// Device number (`tty_nr` of /proc/PID/stat).
    fn device(&self) -> u64;

    /// For /dev/tty, which opens the terminal again.
    fn as_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync>;
}
