//! `IOCB_CMD_POLL`: one event when a file becomes ready.
//!
//! A wake-up that says plainly what has become true completes the request then and there, as Linux
//! does. Where it says more than one thing (a hang-up beside data), the file itself must be asked,
//! which cannot be done from within its queue; and a file whose request is done must be let go of,
//! which cannot either. Both are done by one thread for all, started by the first poll.

use super::context::{Context, Done};
use abi::Errno;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, OnceLock, Weak};
use sync::{Mutex, ranks};
use vfs::File;
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
            self.leave();
        }
        mine
    }

    /// Completes it, once.
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
        if !ready.is_empty() {
            self.end(ready);
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
            self.leave();
        }
    }
}

impl Listener for Poll {
    fn notify(&self, events: Events) {
        if self.ended.load(Ordering::SeqCst) {
            return;
        }
        if Events::READABLE.contains(events) || Events::WRITABLE.contains(events) {
            self.end(events);
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
