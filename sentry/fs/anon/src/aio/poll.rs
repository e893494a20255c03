//! `IOCB_CMD_POLL`: one event when a file becomes ready.
//!
//! A wake-up that says plainly what has become true completes the request then and there, as Linux
//! does. Where it says more than one thing (a hang-up beside data), the file itself must be asked,
//! which cannot be done from within its queue; and a file whose request is done must be let go of,
//! which cannot either. Both are done by one thread for all, started by the first poll.
//!
//! So is raising the request's eventfd where what was polled is an eventfd or an epoll itself.
//! Their queues are told of things under the lock of another queue, that of an eventfd by a poll
//! and that of an epoll by all that is in it, and so can form circles and chains of any length:
//! an eventfd whose poll raises it again, two that raise each other, one in the epoll whose poll
//! raises it. Any other file's queue stands at the beginning of all that.

use super::context::{Context, Done};
use crate::EventFd;
use abi::Errno;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, OnceLock, Weak};
use sync::{Mutex, ranks};
use vfs::{Epoll, File};
use wait::{EntryId, Events, Listener};

/// A request under way.
pub(super) struct Poll {
    context: Weak<Context>,
    file: Arc<File>,
    wanted: Events,
    done: Done,
    me: Weak<Poll>,
    /// Its event has been, or is being, put into the ring.
    ended: AtomicBool,
    /// The file's queue may be told of something under another queue's lock.
    relays: bool,
    /// It ended under a queue's lock, and its eventfd is still to be raised.
    owes: AtomicBool,
    /// The thread has it in its list.
    listed: AtomicBool,
    entry: Mutex<Option<EntryId>, ranks::AioRing>,
    worker: &'static Sender<Arc<Poll>>,
}

impl Poll {
    /// Waits for `wanted` of `file`, and completes `done` with what there is then.
    ///
    /// # Errors
    /// `EINVAL` for a file that cannot be waited for and is not ready, `EAGAIN` where there can be
    /// no thread.
    pub(super) fn start(
        context: &Arc<Context>,
        file: Arc<File>,
        wanted: Events,
        done: Done,
    ) -> Result<(), Errno> {
        let wanted = wanted | Events::ERR | Events::HUP;
        let Some(queue) = file.queue() else {
            let ready = file.ready() & wanted;
            if ready.is_empty() {
                return Err(Errno::EINVAL);
            }
            context.complete(&done, ready.bits().into());
            done.tell();
            return Ok(());
        };
        let worker = worker()?;
        let poll = Arc::new_cyclic(|me| Poll {
            context: Arc::downgrade(context),
            file: file.clone(),
            wanted,
            done,
            me: me.clone(),
            ended: AtomicBool::new(false),
            relays: file.ops_as::<EventFd>().is_some() || file.ops_as::<Epoll>().is_some(),
            owes: AtomicBool::new(false),
            listed: AtomicBool::new(false),
            entry: Mutex::new(None),
            worker,
        });
        if !context.add_poll(&poll) {
            return Err(Errno::EINVAL);
        }
        let id = queue.add(wanted, poll.clone());
        *poll.entry.lock() = Some(id);
        poll.look();
        if poll.ended.load(Ordering::SeqCst) {
            poll.leave();
        }
        Ok(())
    }

    /// Where its request is in user space.
    pub(super) fn obj(&self) -> u64 {
        self.done.obj
    }

    /// Ends it with nothing; `false` where it had ended.
    pub(super) fn cancel(&self) -> bool {
        let mine = self.end(Events::empty());
        if mine {
            self.done.tell();
            self.leave();
        }
        mine
    }

    /// Completes it, once; whether it was this time, so that its eventfd is to be raised.
    fn end(&self, events: Events) -> bool {
        if self.ended.swap(true, Ordering::SeqCst) {
            return false;
        }
        if let Some(context) = self.context.upgrade() {
            // Kept until the event is there: it may be the last reference but the queue's.
            let _me = context.forget_poll(self);
            context.complete(&self.done, events.bits().into());
        }
        true
    }

    /// Asks the file.
    fn look(&self) {
        let ready = self.file.ready() & self.wanted;
        if !ready.is_empty() && self.end(ready) {
            self.done.tell();
        }
    }

    /// Takes it out of the file's queue.
    fn leave(&self) {
        let entry = self.entry.lock().take();
        if let (Some(entry), Some(queue)) = (entry, self.file.queue()) {
            queue.remove(entry);
        }
    }

    /// What is left to the thread.
    fn work(&self) {
        self.listed.store(false, Ordering::SeqCst);
        if !self.ended.load(Ordering::SeqCst) {
            self.look();
        }
        if self.ended.load(Ordering::SeqCst) {
            // Waits for who is notifying it, so that what it owes is seen here.
            self.leave();
        }
        if self.owes.swap(false, Ordering::SeqCst) {
            self.done.tell();
        }
    }
}

impl Listener for Poll {
    fn notify(&self, events: Events) {
        if self.ended.load(Ordering::SeqCst) {
            return;
        }
        let plain = Events::READABLE.contains(events) || Events::WRITABLE.contains(events);
        if plain && self.end(events) {
            if self.relays {
                self.owes.store(true, Ordering::SeqCst);
            } else {
                self.done.tell();
            }
        }
        if !self.listed.swap(true, Ordering::SeqCst)
            && let Some(me) = self.me.upgrade()
        {
            // The thread lives as long as the process.
            let _ = self.worker.send(me);
        }
    }
}

fn worker() -> Result<&'static Sender<Arc<Poll>>, Errno> {
    static WORKER: OnceLock<Sender<Arc<Poll>>> = OnceLock::new();
    if let Some(worker) = WORKER.get() {
        return Ok(worker);
    }
    let (sender, list) = mpsc::channel::<Arc<Poll>>();
    std::thread::Builder::new()
        .name("aio".into())
        .spawn(move || {
            for poll in list {
                poll.work();
            }
        })
        .map_err(|_| Errno::EAGAIN)?;
    // Of two that came at once, one has made a thread that ends here.
    Ok(WORKER.get_or_init(|| sender))
}
