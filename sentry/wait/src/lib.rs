//! Waiting: readiness events, wait queues, and the waker of a task.
//!
//! Anything that can become ready owns a [`Queue`]. Whoever wants to know registers a
//! [`Listener`] with it: a task's [`Waker`] while it blocks, an epoll item for as long as it
//! lives, the reactor. Nothing here polls and nothing here knows tasks; how a task parks, and
//! what interrupts it, is `ctx::Ctx::park`.
#![forbid(unsafe_code)]

mod events;
mod queue;
mod waker;

pub use events::Events;
pub use queue::{EntryId, Listener, Queue};
pub use waker::{Waker, note_wakes};
