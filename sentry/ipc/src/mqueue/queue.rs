//! The messages of one queue, and those who wait for them.
//!
//! A message goes straight to a task that waits for one; a task that waits for room leaves its
//! message, which whoever makes room puts in. So nobody who comes later overtakes, and a
//! notification is sent only for a message that nobody waited for.

use abi::Errno;
use auth::UserNamespace;
use ctx::{Ctx, Pid, PidSpace, Restart, SysErr, Wake};
use signal::{SigInfo, Signal};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;
use sync::{Mutex, ranks};
use wait::{Events, Queue, Waker};

/// Sends a signal to the process that asked to be notified.
pub type Sender = Arc<dyn Fn(Signal, SigInfo) + Send + Sync>;

/// What mq_notify(2) asks for.
#[derive(Clone)]
pub struct Notification {
    /// The signal and its value; `None` for `SIGEV_NONE`.
    pub signal: Option<(Signal, u64)>,
    /// In whose words it says who sent the message.
    pub told: UserNamespace,
    /// Delivers it.
    pub sender: Sender,
}

type Text = Box<[u8]>;

/// A queue.
pub(super) struct Messages {
    pub(super) maxmsg: i64,
    pub(super) msgsize: i64,
    state: Mutex<State, ranks::Leaf>,
    pub(super) queue: Queue,
}

#[derive(Default)]
struct State {
    by_priority: BTreeMap<u32, VecDeque<Text>>,
    count: i64,
    bytes: u64,
    receivers: VecDeque<Arc<Waiting>>,
    senders: VecDeque<Arc<Waiting>>,
    notify: Option<(Pid, Notification)>,
}

/// A task that waits, and what it waits with or for.
struct Waiting {
    waker: Arc<Waker>,
    slot: Mutex<Slot, ranks::WaitQueue>,
}

#[derive(Default)]
struct Slot {
    message: Option<(u32, Text)>,
    done: bool,
}

impl Waiting {
    fn new(cx: &dyn Ctx, message: Option<(u32, Text)>) -> Arc<Waiting> {
        Arc::new(Waiting {
            waker: cx.waker().clone(),
            slot: Mutex::new(Slot {
                message,
                done: false,
            }),
        })
    }
}

impl State {
    fn put(&mut self, priority: u32, text: Text) {
        self.count += 1;
        self.bytes += text.len() as u64;
        self.by_priority
            .entry(priority)
            .or_default()
            .push_back(text);
    }

    /// The oldest message of the highest priority.
    fn take(&mut self) -> Option<(u32, Text)> {
        let mut last = self.by_priority.last_entry()?;
        let priority = *last.key();
        let text = last.get_mut().pop_front()?;
        if last.get().is_empty() {
            last.remove();
        }
        self.count -= 1;
        self.bytes -= text.len() as u64;
        Some((priority, text))
    }
}

impl Messages {
    pub(super) fn new(maxmsg: i64, msgsize: i64) -> Messages {
        Messages {
            maxmsg,
            msgsize,
            state: Mutex::new(State::default()),
            queue: Queue::new(),
        }
    }

    pub(super) fn count(&self) -> i64 {
        self.state.lock().count
    }

    /// Puts a message in; waits for room until `deadline`, unless `nonblocking`.
    pub(super) fn send(
        &self,
        cx: &dyn Ctx,
        priority: u32,
        text: Text,
        nonblocking: bool,
        deadline: Option<Instant>,
    ) -> Result<(), SysErr> {
        let waiting = {
            let mut st = self.state.lock();
            if st.count < self.maxmsg {
                if let Some(receiver) = st.receivers.pop_front() {
                    let mut slot = receiver.slot.lock();
                    slot.message = Some((priority, text));
                    slot.done = true;
                    drop(slot);
                    receiver.waker.wake();
                    return Ok(());
                }
                st.put(priority, text);
                let told = if st.count == 1 {
                    st.notify.take()
                } else {
                    None
                };
                drop(st);
                if let Some((owner, notification)) = told {
                    notification.send(cx, &owner);
                }
                self.queue.notify(Events::READABLE);
                return Ok(());
            }
            if nonblocking {
                return Err(Errno::EAGAIN.into());
            }
            let waiting = Waiting::new(cx, Some((priority, text)));
            st.senders.push_back(waiting.clone());
            waiting
        };
        self.wait(cx, &waiting, deadline, |st| &mut st.senders)
    }

    /// Takes a message out; waits for one until `deadline`, unless `nonblocking`.
    pub(super) fn receive(
        &self,
        cx: &dyn Ctx,
        nonblocking: bool,
        deadline: Option<Instant>,
    ) -> Result<(u32, Text), SysErr> {
        let waiting = {
            let mut st = self.state.lock();
            if let Some(message) = st.take() {
                if let Some(sender) = st.senders.pop_front() {
                    let mut slot = sender.slot.lock();
                    if let Some((priority, text)) = slot.message.take() {
                        st.put(priority, text);
                    }
                    slot.done = true;
                    drop(slot);
                    sender.waker.wake();
                }
                drop(st);
                self.queue.notify(Events::WRITABLE);
                return Ok(message);
            }
            if nonblocking {
                return Err(Errno::EAGAIN.into());
            }
            let waiting = Waiting::new(cx, None);
            st.receivers.push_back(waiting.clone());
            waiting
        };
        self.wait(cx, &waiting, deadline, |st| &mut st.receivers)?;
        let message = waiting.slot.lock().message.take();
        Ok(message.ok_or(Errno::EAGAIN)?)
    }

    fn wait(
        &self,
        cx: &dyn Ctx,
        waiting: &Arc<Waiting>,
        deadline: Option<Instant>,
        list: impl Fn(&mut State) -> &mut VecDeque<Arc<Waiting>>,
    ) -> Result<(), SysErr> {
        let failed: SysErr = loop {
            if waiting.slot.lock().done {
                return Ok(());
            }
            match cx.park(deadline) {
                Wake::Notified => {}
                Wake::TimedOut => break Errno::ETIMEDOUT.into(),
                Wake::Interrupted => break Restart::Sys.into(),
            }
        };
        let mut st = self.state.lock();
        // What was done for it in the last moment counts.
        if waiting.slot.lock().done {
            return Ok(());
        }
        list(&mut st).retain(|w| !Arc::ptr_eq(w, waiting));
        Err(failed)
    }

    /// mq_notify(2).
    pub(super) fn notify(&self, cx: &dyn Ctx, wanted: Option<Notification>) -> Result<(), Errno> {
        let mut st = self.state.lock();
        let owner = st.notify.as_ref().map(|(pid, _)| pid);
        match wanted {
            Some(_) if owner.is_some() => return Err(Errno::EBUSY),
            Some(wanted) => st.notify = Some((cx.process_id(), wanted)),
            None if owner == Some(&cx.process_id()) => st.notify = None,
            None => {}
        }
        Ok(())
    }

    /// What the file says when it is read.
    pub(super) fn text(&self, space: PidSpace) -> String {
        let st = self.state.lock();
        let (kind, signo, pid) = match &st.notify {
            None => (0, 0, 0),
            Some((pid, n)) => match n.signal {
                Some((signal, _)) => (0, signal.number(), pid.seen_from(space)),
                None => (1, 0, pid.seen_from(space)),
            },
        };
        format!(
            "QSIZE:{:<10} NOTIFY:{kind:<5} SIGNO:{signo:<5} NOTIFY_PID:{pid:<6}\n",
            st.bytes
        )
    }

    pub(super) fn ready(&self) -> Events {
        let count = self.count();
        let mut ready = Events::empty();
        ready.set(Events::READABLE, count > 0);
        ready.set(Events::WRITABLE, count < self.maxmsg);
        ready
    }
}

impl Notification {
    fn send(&self, cx: &dyn Ctx, owner: &Pid) {
        if let Some((signal, value)) = self.signal {
            let pid = cx.process_id().seen_from(owner.space());
            let uid = self.told.shown_uid(cx.creds().ruid);
            let info = SigInfo::message(signal, pid, uid, value);
            (self.sender)(signal, info);
        }
    }
}
