//! A context: what may be under way, and what became of it.

use super::COUNT;
use super::poll::Poll;
use super::ring::Ring;
use super::slots::Slots;
use crate::EventFd;
use abi::Errno;
use abi::aio::IoEvent;
use ctx::{Ctx, Wake};
use hostmem::MemoryFile;
use memmap::Mappable;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;
use sync::{Mutex, ranks};
use vfs::File;
use wait::{Events, Listener, Queue};
use zerocopy::IntoBytes;

/// The most events a ring may be asked for.
const MAX_EVENTS: u32 = 0x1000_0000 / size_of::<IoEvent>() as u32;
/// Events that are copied at a time.
const CHUNK: usize = 64;

/// What io_setup(2) makes.
pub struct Context {
    /// One at a time takes events out of the ring.
    readers: Mutex<(), ranks::AioReaders>,
    state: Mutex<State, ranks::AioRing>,
    ring: Arc<Ring>,
    /// Where user space has the ring, which is how it names the context.
    addr: AtomicU64,
    /// What it counts against [`sysctl::AIO_MAX`].
    counted: u64,
    /// Hears of events.
    queue: Queue,
}

struct State {
    slots: Slots,
    tail: u32,
    polls: Vec<Arc<Poll>>,
    dead: bool,
}

/// How a request reports: what its event says, and what is told.
#[derive(Clone)]
pub struct Done {
    /// The `data` of the request.
    pub data: u64,
    /// Where the request is in user space.
    pub obj: u64,
    /// An eventfd that is raised by one.
    pub eventfd: Option<Arc<File>>,
}

impl Done {
    /// Raises the eventfd.
    pub(super) fn tell(&self) {
        if let Some(eventfd) = self.eventfd.as_ref().and_then(|f| f.ops_as::<EventFd>()) {
            eventfd.signal(1);
        }
    }
}

/// Room for the event of one request; unused, it is given back.
pub struct Slot {
    context: Option<Arc<Context>>,
}

impl Drop for Slot {
    fn drop(&mut self) {
        if let Some(context) = &self.context {
            context.state.lock().slots.give_back();
        }
    }
}

impl Slot {
    /// The request it was for is done.
    pub fn complete(mut self, done: &Done, res: i64) {
        if let Some(context) = self.context.take() {
            context.complete(done, res);
            done.tell();
        }
    }

    /// Waits for a file instead: see [`Poll::start`].
    ///
    /// # Errors
    /// `EINVAL` for a file that cannot be waited for and is not ready, `EAGAIN`.
    pub fn poll(mut self, file: Arc<File>, wanted: Events, done: Done) -> Result<(), Errno> {
        let Some(context) = &self.context else {
            return Ok(());
        };
        Poll::start(context, file, wanted, done)?;
        self.context = None;
        Ok(())
    }
}

impl Context {
    /// One for `requests` at a time, on a machine of so many CPUs.
    ///
    /// # Errors
    /// `EINVAL` for more than any ring holds, `EAGAIN` beyond `fs.aio-max-nr`, `ENOMEM`.
    pub fn new(memory: &Arc<MemoryFile>, requests: u32, cpus: u32) -> Result<Arc<Context>, Errno> {
        let events = requests.max(cpus.saturating_mul(4)).wrapping_mul(2);
        if events > MAX_EVENTS {
            return Err(Errno::EINVAL);
        }
        let counted = u64::from(requests);
        let count = |n: u64| {
            n.checked_add(counted)
                .filter(|n| *n <= sysctl::AIO_MAX.size() as u64)
        };
        if events == 0
            || COUNT
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, count)
                .is_err()
        {
            return Err(Errno::EAGAIN);
        }
        let ring = Ring::new(memory, events).inspect_err(|_| {
            COUNT.fetch_sub(counted, Ordering::Relaxed);
        })?;
        Ok(Arc::new(Context {
            readers: Mutex::new(()),
            state: Mutex::new(State {
                slots: Slots::new(ring.nr(), cpus),
                tail: 0,
                polls: Vec::new(),
                dead: false,
            }),
            ring: Arc::new(ring),
            addr: AtomicU64::new(0),
            counted,
            queue: Queue::new(),
        }))
    }

    pub(super) fn ring(&self) -> &Ring {
        &self.ring
    }

    /// What user space maps.
    pub fn mappable(&self) -> Arc<dyn Mappable> {
        self.ring.clone()
    }

    /// How many events its ring has: no more requests are taken at a time.
    pub fn events(&self) -> u32 {
        self.ring.nr()
    }

    /// Where user space has the ring.
    pub fn addr(&self) -> u64 {
        self.addr.load(Ordering::Relaxed)
    }

    /// It was mapped there, or moved.
    pub fn set_addr(&self, addr: u64) {
        self.addr.store(addr, Ordering::Relaxed);
    }

    /// Room for one request.
    ///
    /// # Errors
    /// `EAGAIN` where as many are under way, or done and not taken, as the ring holds.
    pub fn slot(self: &Arc<Self>) -> Result<Slot, Errno> {
        let mut state = self.state.lock();
        let tail = state.tail;
        if !state.slots.take(self.ring.head(), tail) {
            return Err(Errno::EAGAIN);
        }
        Ok(Slot {
            context: Some(self.clone()),
        })
    }

    /// Puts an event into the ring and tells those who wait for it; the eventfd is the caller's
    /// part ([`Done::tell`]).
    ///
    /// Takes no lock below a wait queue, and may be called under that of a file. Its own queue is
    /// no file's: only the wakers of io_getevents(2) are in it, which take nothing and tell nobody
    /// else, so that no circle and no depth can come of this.
    pub(super) fn complete(&self, done: &Done, res: i64) {
        let event = IoEvent {
            data: done.data,
            obj: done.obj,
            res,
            res2: 0,
        };
        {
            let mut state = self.state.lock();
            self.ring.put(state.tail, &event);
            state.tail = (state.tail + 1) % self.ring.nr();
            state.slots.completed();
            self.ring.set_tail(state.tail);
        }
        self.queue.notify_all(Events::IN);
    }

    /// A poll begins; `false` where the context is gone.
    pub(super) fn add_poll(&self, poll: &Arc<Poll>) -> bool {
        let mut state = self.state.lock();
        if !state.dead {
            state.polls.push(poll.clone());
        }
        !state.dead
    }

    pub(super) fn forget_poll(&self, poll: &Poll) -> Option<Arc<Poll>> {
        let mut state = self.state.lock();
        let at = state.polls.iter().position(|p| std::ptr::eq(&**p, poll))?;
        Some(state.polls.swap_remove(at))
    }

    /// io_cancel(2): ends the poll whose request is at `obj`, whose event then says 0; whether
    /// there was one.
    pub fn cancel(&self, obj: u64) -> bool {
        let poll = {
            let state = self.state.lock();
            state.polls.iter().find(|p| p.obj() == obj).cloned()
        };
        poll.is_some_and(|poll| poll.cancel())
    }

    /// Ends it: what is under way is cancelled, and who waits for events hears of it.
    pub fn kill(&self) {
        let polls = {
            let mut state = self.state.lock();
            if std::mem::replace(&mut state.dead, true) {
                return;
            }
            state.polls.clone()
        };
        COUNT.fetch_sub(self.counted, Ordering::Relaxed);
        for poll in polls {
            poll.cancel();
        }
        self.queue.notify_all(Events::IN | Events::HUP);
    }

    fn is_dead(&self) -> bool {
        self.state.lock().dead
    }

    /// io_getevents(2): waits for `min` events, until `until`, and stores up to `most` at `addr`.
    /// A signal or the deadline ends it with what there is.
    ///
    /// # Errors
    /// `EFAULT` (the events stay), `EINVAL` where the context goes meanwhile; both only where
    /// nothing was stored before.
    pub fn read_events(
        &self,
        cx: &dyn Ctx,
        (min, most): (usize, usize),
        addr: u64,
        until: Until,
    ) -> Result<usize, Errno> {
        let mut got = 0;
        if self.read_some(cx, &mut got, (min, most), addr)? || until == Until::Now {
            return Ok(got);
        }
        let deadline = match until {
            Until::At(at) => Some(at),
            _ => None,
        };
        let waker: Arc<dyn Listener> = cx.waker().clone();
        let id = self.queue.add(Events::IN, waker);
        let result = loop {
            // Fewer than are wanted are left to others.
            if self.waiting() >= min - got {
                match self.read_some(cx, &mut got, (min, most), addr) {
                    Ok(false) => {}
                    other => break other,
                }
            }
            if cx.park(deadline) != Wake::Notified {
                // What came at the last moment counts.
                break self.read_some(cx, &mut got, (min, most), addr);
            }
        };
        self.queue.remove(id);
        result.map(|_| got)
    }

    /// Takes what there is; whether that is all there will be.
    fn read_some(
        &self,
        cx: &dyn Ctx,
        got: &mut usize,
        (min, most): (usize, usize),
        addr: u64,
    ) -> Result<bool, Errno> {
        let result = self.take(cx, addr, *got, most);
        *got += result.unwrap_or(0);
        let result = if self.is_dead() {
            Err(Errno::EINVAL)
        } else {
            result
        };
        match result {
            Ok(_) => Ok(*got >= min),
            Err(e) if *got == 0 => Err(e),
            Err(_) => Ok(true),
        }
    }

    /// Events in the ring; of a context that has gone, as many as anybody may want.
    pub(super) fn waiting(&self) -> usize {
        let (head, nr) = (self.ring.head(), self.ring.nr());
        let (tail, dead) = {
            let state = self.state.lock();
            (state.tail, state.dead)
        };
        let n = if head <= tail {
            tail - head
        } else {
            nr - (head - tail)
        };
        if dead { usize::MAX } else { n as usize }
    }

    /// Takes events out of the ring, to behind the first `got` of the array at `addr`.
    fn take(&self, cx: &dyn Ctx, addr: u64, got: usize, most: usize) -> Result<usize, Errno> {
        let _one = self.readers.lock();
        let nr = self.ring.nr();
        let (mut head, tail) = (self.ring.head(), self.state.lock().tail);
        let mut events = [IoEvent::default(); CHUNK];
        let mut taken = 0;
        while head != tail && got + taken < most {
            let run = if head < tail { tail - head } else { nr - head };
            let run = (run as usize).min(CHUNK).min(most - got - taken);
            let Some(part) = events.get_mut(..run) else {
                break;
            };
            self.ring.read(head, part)?;
            let at = addr.wrapping_add(((got + taken) * size_of::<IoEvent>()) as u64);
            cx.memory().write(at, part.as_bytes())?;
            taken += run;
            head = (head + run as u32) % nr;
        }
        if taken > 0 {
            self.ring.set_head(head);
        }
        Ok(taken)
    }
}

/// How long to wait for events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// Not at all.
    Now,
    /// Until then.
    At(Instant),
    /// Until they are there.
    Ever,
}
