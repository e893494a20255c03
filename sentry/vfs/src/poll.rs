//! Waiting for several files at once: the core of poll(2) and select(2).

use crate::File;
use ctx::{Ctx, SysErr, Wake};
use std::sync::Arc;
use std::time::Instant;
use wait::{EntryId, Events, Listener};

/// A file and what of it is wanted.
#[derive(Clone, Debug)]
pub struct PollItem {
    /// `None` is skipped (a negative descriptor).
    pub file: Option<Arc<File>>,
    /// What is wanted; errors and hang-ups are always reported.
    pub wanted: Events,
    /// What is there.
    pub ready: Events,
}

impl PollItem {
    /// Nothing of it known yet.
    pub fn new(file: Option<Arc<File>>, wanted: Events) -> PollItem {
        PollItem {
            file,
            wanted,
            ready: Events::empty(),
        }
    }
}

/// How a wait ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Polled {
    /// So many items are ready.
    Ready(usize),
    /// The deadline passed first.
    TimedOut,
    /// A signal came first.
    Interrupted,
}

fn check(items: &mut [PollItem]) -> usize {
    let mut count = 0;
    for item in items {
        if let Some(file) = &item.file {
            item.ready = file.ready() & (item.wanted | Events::ERR | Events::HUP);
        }
        count += usize::from(!item.ready.is_empty());
    }
    count
}

/// Waits until one of `items` is ready, at most until `deadline`. Items without a file count by
/// the `ready` they come with (`POLLNVAL`).
pub fn poll_wait(
    cx: &dyn Ctx,
    items: &mut [PollItem],
    deadline: Option<Instant>,
) -> Result<Polled, SysErr> {
    let ready = check(items);
    if ready > 0 {
        return Ok(Polled::Ready(ready));
    }
    if deadline.is_some_and(|d| d <= Instant::now()) {
        return Ok(Polled::TimedOut);
    }
    let registered: Vec<(usize, EntryId)> = items
        .iter()
        .enumerate()
        .filter_map(|(i, item)| {
            let listener: Arc<dyn Listener> = cx.waker().clone();
            let queue = item.file.as_ref()?.queue()?;
            Some((i, queue.add(item.wanted, listener)))
        })
        .collect();
    let result = loop {
        let ready = check(items);
        if ready > 0 {
            break Polled::Ready(ready);
        }
        match cx.park(deadline) {
            Wake::Notified => {}
            Wake::TimedOut => match check(items) {
                0 => break Polled::TimedOut,
                n => break Polled::Ready(n),
            },
            // What is ready counts before the signal does.
            Wake::Interrupted => match check(items) {
                0 => break Polled::Interrupted,
                n => break Polled::Ready(n),
            },
        }
    };
    for (i, id) in registered {
        if let Some(queue) = items
            .get(i)
            .and_then(|item| item.file.as_ref())
            .and_then(|f| f.queue())
        {
            queue.remove(id);
        }
    }
    Ok(result)
}
