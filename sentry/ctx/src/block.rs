//! Blocking, in the one way there is.

use crate::{Ctx, Restart, SysErr};
use std::sync::Arc;
use std::time::Instant;
use wait::{Events, Listener, Queue};

/// Why [`Ctx::park`] returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wake {
    /// Something that the waker is registered with said so. Check again.
    Notified,
    /// The deadline has passed.
    TimedOut,
    /// A signal, kill, stop, exec or checkpoint wants the task: end the call.
    Interrupted,
}

/// Calls `attempt` until it gives a value, blocking on `queue` for `events` in between.
///
/// `attempt` answers `Ok(Some(v))` when done and `Ok(None)` to block. With a deadline, the result
/// is `Ok(None)` when it passes first. An interruption is `restart`.
///
/// The first attempt is made before anything is registered: the path that need not block costs
/// nothing.
pub fn wait_for<T>(
    cx: &dyn Ctx,
    queue: &Queue,
    events: Events,
    deadline: Option<Instant>,
    restart: Restart,
    mut attempt: impl FnMut() -> Result<Option<T>, SysErr>,
) -> Result<Option<T>, SysErr> {
    if let Some(v) = attempt()? {
        return Ok(Some(v));
    }
    let waker: Arc<dyn Listener> = cx.waker().clone();
    let id = queue.add_exclusive(events, waker);
    let result = loop {
        match attempt() {
            Ok(None) => {}
            Ok(Some(v)) => break Ok(Some(v)),
            Err(e) => break Err(e),
        }
        match cx.park(deadline) {
            Wake::Notified => {}
            Wake::TimedOut => {
                // What came at the last moment counts.
                break attempt();
            }
            // What has come about counts before the signal does.
            Wake::Interrupted => match attempt() {
                Ok(None) => break Err(restart.into()),
                other => break other,
            },
        }
    };
    queue.remove(id);
    // An exclusive wake-up that this task got and has no use for goes to the next: where nothing
    // came of the wait, and where one more came after the attempt that succeeded.
    if !matches!(result, Ok(Some(_))) || cx.waker().is_woken() {
        queue.pass_on(events);
    }
    result
}
