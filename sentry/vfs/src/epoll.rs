//! epoll(7).
//!
//! An [`Item`] is a file in an epoll's interest list. It listens at the file's wait queue and
//! puts itself on the ready list when told; whether the file is truly ready is asked by whoever
//! waits. The ready list and the queue of waiters are apart from the rest ([`Shared`]), because a
//! listener is called under a queue's lock and may take little there.
//!
//! Lock order: topology -> epoll (outer before inner) -> the files' own -> wait queue -> ready.

use crate::{File, FileOps};
use abi::Errno;
use ctx::{Ctx, Restart, SysErr, SysResult, wait_for};
use std::any::Any;
use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Instant;
use sync::{Mutex, ranks};
use wait::{EntryId, Events, Listener, Queue};

const ET: u32 = 1 << 31;
const ONESHOT: u32 = 1 << 30;
const WAKEUP: u32 = 1 << 29;
const EXCLUSIVE: u32 = 1 << 28;
/// What may be asked for together with `EPOLLEXCLUSIVE`.
const WITH_EXCLUSIVE: u32 = 0x1 | 0x4 | 0x8 | 0x10 | ET | WAKEUP | EXCLUSIVE;
/// How deep epolls nest.
const MAX_NESTS: usize = 4;

/// `struct epoll_event`, unpacked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EpollEvent {
    /// `EPOLL*` bits.
    pub events: u32,
    /// The user's own.
    pub data: u64,
}

/// What epoll_ctl(2) is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EpollOp {
    /// Add a descriptor.
    Add(EpollEvent),
    /// Change what is wanted of it.
    Modify(EpollEvent),
    /// Take it out.
    Delete,
}

/// An epoll instance.
pub struct Epoll {
    items: Mutex<BTreeMap<(i32, u64), Arc<Item>>, ranks::Epoll>,
    shared: Arc<Shared>,
    me: Weak<Epoll>,
}

#[derive(Default)]
struct Shared {
    ready: Mutex<VecDeque<Arc<Item>>, ranks::EpollReady>,
    queue: Queue,
}

struct Item {
    key: (i32, u64),
    me: Weak<Item>,
    file: Weak<File>,
    /// Kept for the registration alone.
    ops: Arc<dyn FileOps>,
    shared: Arc<Shared>,
    listed: AtomicBool,
    state: Mutex<Interest, ranks::EpollReady>,
}

struct Interest {
    wanted: EpollEvent,
    /// False after a one-shot event, until modified.
    armed: bool,
    entry: Option<EntryId>,
}

/// A file's note of an epoll that it is in.
pub(crate) struct Watcher {
    epoll: Weak<Epoll>,
    key: (i32, u64),
}

impl Watcher {
    pub(crate) fn alive(&self) -> bool {
        self.epoll.strong_count() > 0
    }

    /// The file's last reference has gone.
    pub(crate) fn file_gone(&self) {
        if let Some(epoll) = self.epoll.upgrade() {
            let item = epoll.items.lock_nested().remove(&self.key);
            if let Some(item) = item {
                item.unregister();
            }
        }
    }
}

impl Item {
    fn events(wanted: u32) -> Events {
        Events::from_bits_truncate(wanted) | Events::ERR | Events::HUP
    }

    fn register(self: &Arc<Self>) {
        let wanted = self.state.lock().wanted.events;
        let Some(queue) = self.ops.queue() else {
            return;
        };
        let listener: Arc<dyn Listener> = self.clone();
        let entry = if wanted & EXCLUSIVE != 0 {
            queue.add_exclusive(Item::events(wanted), listener)
        } else {
            queue.add(Item::events(wanted), listener)
        };
        self.state.lock().entry = Some(entry);
    }

    fn unregister(self: &Arc<Self>) {
        let entry = self.state.lock().entry.take();
        if let (Some(entry), Some(queue)) = (entry, self.ops.queue()) {
            queue.remove(entry);
        }
        let mut ready = self.shared.ready.lock();
        let mut gone = None;
        if let Some(at) = ready.iter().position(|i| Arc::ptr_eq(i, self)) {
            gone = ready.remove(at);
        }
        drop(ready);
        drop(gone);
    }

    fn list(self: &Arc<Self>) {
        if !self.listed.swap(true, Ordering::AcqRel) {
            self.shared.ready.lock().push_back(self.clone());
        }
    }

    /// What of the wanted is there now; nothing while disarmed.
    fn ready_now(&self, file: &File) -> Events {
        let (wanted, armed) = {
            let s = self.state.lock();
            (s.wanted.events, s.armed)
        };
        if armed {
            file.ready() & Item::events(wanted)
        } else {
            Events::empty()
        }
    }
}

impl Listener for Item {
    fn notify(&self, _events: Events) {
        if !self.state.lock().armed {
            return;
        }
        if let Some(me) = self.me.upgrade() {
            me.list();
        }
        self.shared.queue.notify(Events::IN);
    }

    fn is_attended(&self) -> bool {
        !self.shared.queue.is_empty()
    }
}

impl Epoll {
    /// An epoll with nothing in it.
    pub fn new() -> Arc<Epoll> {
        Arc::new_cyclic(|me| Epoll {
            items: Mutex::new(BTreeMap::new()),
            shared: Arc::new(Shared::default()),
            me: me.clone(),
        })
    }

    /// epoll_ctl(2) for descriptor `fd`, which is `file`.
    ///
    /// # Errors
    /// `EPERM` for files that are always ready, `EEXIST`, `ENOENT`, `EINVAL` for itself and for
    /// misuse of `EPOLLEXCLUSIVE`, `ELOOP` for epolls in a circle or nested too deep.
    pub fn ctl(&self, op: EpollOp, fd: i32, file: &Arc<File>) -> Result<(), Errno> {
        if file.queue().is_none() {
            return Err(Errno::EPERM);
        }
        let inner = file.ops_as::<Epoll>();
        if inner.is_some_and(|e| std::ptr::eq(e, self)) {
            return Err(Errno::EINVAL);
        }
        if let EpollOp::Add(e) | EpollOp::Modify(e) = op
            && e.events & EXCLUSIVE != 0
            && (matches!(op, EpollOp::Modify(_))
                || inner.is_some()
                || e.events & !WITH_EXCLUSIVE != 0)
        {
            return Err(Errno::EINVAL);
        }
        let key = (fd, file.id());
        match op {
            EpollOp::Add(wanted) => {
                let _topology = inner.map(|_| TOPOLOGY.lock());
                if let Some(inner) = inner {
                    inner.check_nesting(self, 1)?;
                }
                self.add(key, file, wanted)
            }
            EpollOp::Modify(wanted) => self.modify(key, file, wanted),
            EpollOp::Delete => {
                let mut items = self.items.lock();
                let item = items.remove(&key).ok_or(Errno::ENOENT)?;
                item.unregister();
                drop(items);
                Ok(())
            }
        }
    }

    fn add(&self, key: (i32, u64), file: &Arc<File>, wanted: EpollEvent) -> Result<(), Errno> {
        let item = Arc::new_cyclic(|me| Item {
            key,
            me: me.clone(),
            file: Arc::downgrade(file),
            ops: file.ops().clone(),
            shared: self.shared.clone(),
            listed: AtomicBool::new(false),
            state: Mutex::new(Interest {
                wanted,
                armed: true,
                entry: None,
            }),
        });
        let mut items = self.items.lock();
        if items.contains_key(&key) {
            return Err(Errno::EEXIST);
        }
        items.insert(key, item.clone());
        item.register();
        let ready = !item.ready_now(file).is_empty();
        drop(items);
        file.watch(Watcher {
            epoll: self.me.clone(),
            key,
        });
        self.announce(&item, ready);
        Ok(())
    }

    fn modify(&self, key: (i32, u64), file: &Arc<File>, wanted: EpollEvent) -> Result<(), Errno> {
        let items = self.items.lock();
        let item = items.get(&key).ok_or(Errno::ENOENT)?.clone();
        if item.state.lock().wanted.events & EXCLUSIVE != 0 {
            return Err(Errno::EINVAL);
        }
        let old = {
            let mut state = item.state.lock();
            state.wanted = wanted;
            state.armed = true;
            state.entry.take()
        };
        if let (Some(old), Some(queue)) = (old, item.ops.queue()) {
            queue.remove(old);
        }
        item.register();
        let ready = !item.ready_now(file).is_empty();
        drop(items);
        self.announce(&item, ready);
        Ok(())
    }

    fn announce(&self, item: &Arc<Item>, ready: bool) {
        if ready {
            item.list();
            self.shared.queue.notify(Events::IN);
        }
    }

    /// Whether `outer` may come to contain this epoll: `depth` levels lie above it.
    fn check_nesting(&self, outer: &Epoll, depth: usize) -> Result<(), Errno> {
        if depth > MAX_NESTS || std::ptr::eq(self, outer) {
            return Err(Errno::ELOOP);
        }
        let inner: Vec<Arc<Item>> = self.items.lock().values().cloned().collect();
        for item in inner {
            if let Some(epoll) = item.ops.as_any().downcast_ref::<Epoll>() {
                epoll.check_nesting(outer, depth + 1)?;
            }
        }
        Ok(())
    }

    /// epoll_wait(2): up to `max` events.
    ///
    /// # Errors
    /// `EINTR` (it is never restarted).
    pub fn wait(
        &self,
        cx: &dyn Ctx,
        max: usize,
        deadline: Option<Instant>,
    ) -> SysResult<Vec<EpollEvent>> {
        let attempt = || {
            let events = self.collect(max);
            Ok((!events.is_empty()).then_some(events))
        };
        if deadline.is_some_and(|d| d <= Instant::now()) {
            return Ok(self.collect(max));
        }
        match wait_for(
            cx,
            &self.shared.queue,
            Events::READABLE,
            deadline,
            Restart::NoHandler,
            attempt,
        ) {
            Ok(events) => Ok(events.unwrap_or_default()),
            Err(e) => Err(SysErr::Errno(e.errno())),
        }
    }

    /// Takes what is on the ready list, as far as it is still true.
    fn collect(&self, max: usize) -> Vec<EpollEvent> {
        if self.shared.ready.lock().is_empty() {
            return Vec::new();
        }
        let mut out = Vec::new();
        // What is dropped last must not be dropped under our lock: it would come back to us.
        let mut held: Vec<(Arc<Item>, Option<Arc<File>>)> = Vec::new();
        let items = self.items.lock();
        let mut again = Vec::new();
        let count = self.shared.ready.lock().len();
        for _ in 0..count {
            if out.len() >= max {
                break;
            }
            let Some(item) = self.shared.ready.lock().pop_front() else {
                break;
            };
            item.listed.store(false, Ordering::Release);
            let file = item.file.upgrade();
            if let Some(file) = &file
                && items.get(&item.key).is_some_and(|i| Arc::ptr_eq(i, &item))
            {
                let ready = item.ready_now(file);
                if !ready.is_empty() {
                    let mut state = item.state.lock();
                    out.push(EpollEvent {
                        events: ready.bits(),
                        data: state.wanted.data,
                    });
                    if state.wanted.events & ONESHOT != 0 {
                        state.armed = false;
                    } else if state.wanted.events & ET == 0 {
                        again.push(item.clone());
                    }
                }
            }
            held.push((item, file));
        }
        for item in &again {
            item.list();
        }
        drop(items);
        if !self.shared.ready.lock().is_empty() {
            // Level-triggered files, and what did not fit, are others' to see.
            self.shared.queue.notify(Events::IN);
        }
        drop(held);
        out
    }

    /// What is in it, for /proc/PID/fdinfo: descriptor, events, data.
    pub fn interest(&self) -> Vec<(i32, EpollEvent)> {
        let items: Vec<Arc<Item>> = self.items.lock().values().cloned().collect();
        items
            .iter()
            .map(|i| (i.key.0, i.state.lock().wanted))
            .collect()
    }
}

static TOPOLOGY: Mutex<(), ranks::EpollTopology> = Mutex::new(());

impl FileOps for Epoll {
    fn seekable(&self) -> bool {
        false
    }

    fn takes_reads(&self) -> bool {
        false
    }

    fn takes_writes(&self) -> bool {
        false
    }

    fn stays_at_start(&self) -> bool {
        true
    }

    // It has calls of its own on Linux (6.9), and what is none of them is refused like this.
    fn ioctl(&self, _: &dyn Ctx, _: &File, _: u32, _: u64) -> SysResult<u64> {
        Err(Errno::EINVAL.into())
    }

    fn ready(&self, _file: &File) -> Events {
        let listed: Vec<Arc<Item>> = self.shared.ready.lock().iter().cloned().collect();
        let mut held = Vec::with_capacity(listed.len());
        let mut ready = Events::empty();
        for item in listed {
            let file = item.file.upgrade();
            if file.as_ref().is_some_and(|f| !item.ready_now(f).is_empty()) {
                ready = Events::READABLE;
            }
            held.push((item, file));
            if !ready.is_empty() {
                break;
            }
        }
        ready
    }

    fn queue(&self) -> Option<&Queue> {
        Some(&self.shared.queue)
    }

    fn anonymous_name(&self) -> Option<Vec<u8>> {
        Some(b"anon_inode:[eventpoll]".to_vec())
    }

    fn fdinfo(&self) -> String {
        use std::fmt::Write;
        let mut s = String::new();
        for (fd, e) in self.interest() {
            let _ = writeln!(
                s,
                "tfd: {fd:8} events: {:8x} data: {:16x} ",
                e.events, e.data
            );
        }
        s
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl Drop for Epoll {
    fn drop(&mut self) {
        for item in std::mem::take(self.items.get_mut()).into_values() {
            item.unregister();
        }
        // Items hold the shared part, and its list holds items.
        let left = std::mem::take(&mut *self.shared.ready.lock());
        drop(left);
    }
}
