//! Calls that another process decides about (seccomp(2), seccomp_unotify(2)).
//!
//! A filter may have a [`Listener`], which a supervisor has a descriptor of. A task whose call the
//! filter hands over puts a notice there and sleeps; the supervisor takes it, may put descriptors
//! into the task's table, which the task itself does when it is woken for it, and answers.

use crate::TaskCx;
use crate::confine::Ruling;
use abi::Errno;
use ctx::{Ctx, Pid, Restart, SysResult, Wake, wait_for};
use seccomp::{Call, Supervisor};
use std::any::Any;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use sync::{Mutex, ranks};
use vfs::{File, FileOps, OpenFlags};
use wait::{Events, Queue, Waker};

/// Where the calls of one filter are decided.
pub struct Listener {
    state: Mutex<State, ranks::Leaf>,
    queue: Queue,
    /// Once a call has been taken, only the end of its task interrupts it.
    killable: bool,
}

#[derive(Default)]
struct State {
    notices: VecDeque<Notice>,
    /// Notices that nobody has come for; as on Linux, one that was withdrawn counts.
    requests: u64,
    /// The supervisor has gone.
    closed: bool,
    /// No task has the filter any more.
    orphaned: bool,
}

/// A call that waits.
struct Notice {
    id: u64,
    pid: Pid,
    call: Call,
    stage: Stage,
    waker: Arc<Waker>,
    /// Descriptors that the supervisor wants the task to have.
    gifts: VecDeque<Arc<Gift>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Waiting,
    Taken,
    Decided(Decision),
}

/// What a supervisor decides about a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It is made.
    Make,
    /// It is not; this is its result.
    Answer(u64),
}

/// A notice, as it is taken.
#[derive(Clone, Copy, Debug)]
pub struct Taken {
    /// What answers are to name.
    pub id: u64,
    /// The thread, as who takes it sees it; 0 for one of another PID namespace.
    pub tid: i32,
    /// The call.
    pub call: Call,
}

/// A descriptor for the task whose call it is.
pub struct Gift {
    /// What it refers to.
    pub file: Arc<File>,
    /// The number it must get, in place of what is there.
    pub number: Option<i32>,
    /// Closed by exec.
    pub cloexec: bool,
    /// Its number is also the answer to the call.
    pub answers: bool,
    giver: Arc<Waker>,
    result: Mutex<Option<Result<i32, Errno>>, ranks::WaitQueue>,
}

impl Gift {
    /// One of `cx`, which waits until it has been taken.
    pub fn new(
        cx: &dyn Ctx,
        file: Arc<File>,
        number: Option<i32>,
        cloexec: bool,
        answers: bool,
    ) -> Arc<Gift> {
        Arc::new(Gift {
            file,
            number,
            cloexec,
            answers,
            giver: cx.waker().clone(),
            result: Mutex::new(None),
        })
    }

    fn finish(&self, result: Result<i32, Errno>) {
        *self.result.lock() = Some(result);
        self.giver.wake();
    }
}

/// What the task is to do next.
enum Next {
    Sleep { killable: bool },
    Accept(Arc<Gift>),
    Done(Decision),
}

static NEXT_ID: AtomicU64 = AtomicU64::new(1);

impl std::fmt::Debug for Listener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Listener")
    }
}

impl Supervisor for Listener {
    fn orphaned(&self) {
        self.state.lock().orphaned = true;
        self.queue.notify_all(Events::READABLE | Events::HUP);
    }

    fn is_gone(&self) -> bool {
        self.state.lock().closed
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl Listener {
    pub(crate) fn new(killable: bool) -> Arc<Listener> {
        Arc::new(Listener {
            state: Mutex::new(State::default()),
            queue: Queue::new(),
            killable,
        })
    }

    /// The notice that has waited longest; waits for one.
    ///
    /// # Errors
    /// `ENOENT` where none can come any more, or where the one waited for was withdrawn.
    pub fn take(&self, cx: &TaskCx) -> SysResult<Taken> {
        wait_for(
            cx,
            &self.queue,
            Events::READABLE,
            None,
            Restart::Sys,
            || {
                let mut st = self.state.lock();
                if !st.orphaned {
                    match st.requests.checked_sub(1) {
                        Some(left) => st.requests = left,
                        None => return Ok(None),
                    }
                }
                Ok(Some(()))
            },
        )?;
        let mut st = self.state.lock();
        let notice = st.notices.iter_mut().find(|n| n.stage == Stage::Waiting);
        let notice = notice.ok_or(Errno::ENOENT)?;
        notice.stage = Stage::Taken;
        let taken = Taken {
            id: notice.id,
            tid: notice.pid.seen_from(cx.pid_namespace().space()),
            call: notice.call,
        };
        drop(st);
        self.queue.notify(Events::WRITABLE);
        Ok(taken)
    }

    /// Puts back what was taken and did not arrive.
    pub fn untake(&self, id: u64) {
        let mut st = self.state.lock();
        if let Some(notice) = st.find(id).filter(|n| n.stage == Stage::Taken) {
            notice.stage = Stage::Waiting;
            // Signals may interrupt it again.
            notice.waker.wake();
            st.requests += 1;
            drop(st);
            self.queue.notify(Events::READABLE);
        }
    }

    /// Decides about a call.
    ///
    /// # Errors
    /// `ENOENT` where it waits no more, `EINPROGRESS` where it was not taken or is decided.
    pub fn decide(&self, id: u64, decision: Decision) -> Result<(), Errno> {
        let mut st = self.state.lock();
        let notice = st.find(id).ok_or(Errno::ENOENT)?;
        if notice.stage != Stage::Taken {
            return Err(Errno::EINPROGRESS);
        }
        notice.stage = Stage::Decided(decision);
        notice.waker.wake();
        Ok(())
    }

    /// Whether a call that was taken still waits.
    pub fn is_valid(&self, id: u64) -> bool {
        let mut st = self.state.lock();
        st.find(id).is_some_and(|n| n.stage == Stage::Taken)
    }

    /// Gives the task of a call a descriptor, and waits until it has it: its number there.
    ///
    /// # Errors
    /// As [`Listener::decide`]; `EBUSY` for one that answers while others are on the way; `ESRCH`
    /// where the call was interrupted; those of the task's table.
    pub fn give(&self, cx: &TaskCx, id: u64, gift: Arc<Gift>) -> SysResult<u64> {
        {
            let mut st = self.state.lock();
            let notice = st.find(id).ok_or(Errno::ENOENT)?;
            if notice.stage != Stage::Taken {
                return Err(Errno::EINPROGRESS.into());
            }
            if gift.answers {
                if !notice.gifts.is_empty() {
                    return Err(Errno::EBUSY.into());
                }
                // Its number takes the place of this one once it is known.
                notice.stage = Stage::Decided(Decision::Answer(0));
            }
            notice.gifts.push_front(gift.clone());
            notice.waker.wake();
        }
        loop {
            if let Some(result) = *gift.result.lock() {
                return Ok(result.map(|fd| fd as u64)?);
            }
            if cx.park(None) == Wake::Interrupted {
                break;
            }
        }
        let withdrawn = self.state.lock().find(id).is_some_and(|notice| {
            let before = notice.gifts.len();
            notice.gifts.retain(|g| !Arc::ptr_eq(g, &gift));
            notice.gifts.len() < before
        });
        if withdrawn {
            return Err(Restart::Sys.into());
        }
        // It is being accepted: not to be given twice.
        loop {
            if let Some(result) = *gift.result.lock() {
                return Ok(result.map(|fd| fd as u64)?);
            }
            let wake = cx.park(None);
            if wake == Wake::Interrupted && self.state.lock().find(id).is_none() {
                return Err(Errno::ESRCH.into());
            }
        }
    }

    /// Adds the call of `cx`; `None` where nobody is there to decide.
    fn add(&self, cx: &TaskCx, call: Call) -> Option<u64> {
        let mut st = self.state.lock();
        if st.closed {
            return None;
        }
        let id = NEXT_ID.fetch_add(1, Ordering::Relaxed);
        st.notices.push_back(Notice {
            id,
            pid: cx.task().pid().clone(),
            call,
            stage: Stage::Waiting,
            waker: cx.waker().clone(),
            gifts: VecDeque::new(),
        });
        st.requests += 1;
        drop(st);
        self.queue.notify(Events::READABLE);
        Some(id)
    }

    fn next(&self, id: u64) -> Next {
        let mut st = self.state.lock();
        let Some(notice) = st.find(id) else {
            // It stands there until its task takes it away.
            return Next::Done(Decision::Answer(Errno::ENOSYS.to_return()));
        };
        if let Some(gift) = notice.gifts.pop_front() {
            return Next::Accept(gift);
        }
        match notice.stage {
            Stage::Decided(decision) => Next::Done(decision),
            stage => Next::Sleep {
                killable: self.killable && stage == Stage::Taken,
            },
        }
    }

    /// Whether its task has nothing to do but sleep, and if so whether only its end interrupts it.
    fn sleeps(&self, id: u64) -> Option<bool> {
        let mut st = self.state.lock();
        let notice = st.find(id).filter(|n| n.gifts.is_empty())?;
        match notice.stage {
            Stage::Decided(_) => None,
            stage => Some(self.killable && stage == Stage::Taken),
        }
    }

    /// What became of a gift that answers.
    fn answered_by(&self, id: u64, result: Result<i32, Errno>) {
        let mut st = self.state.lock();
        if let Some(notice) = st.find(id) {
            notice.stage = match result {
                Ok(fd) => Stage::Decided(Decision::Answer(fd as u64)),
                Err(_) => Stage::Taken,
            };
        }
    }

    /// The call waits no more.
    fn withdraw(&self, id: u64) {
        let mut st = self.state.lock();
        let at = st.notices.iter().position(|n| n.id == id);
        let notice = at.and_then(|at| st.notices.remove(at));
        drop(st);
        for gift in notice.into_iter().flat_map(|n| n.gifts) {
            gift.finish(Err(Errno::ESRCH));
        }
    }

    fn close(&self) {
        let mut st = self.state.lock();
        st.closed = true;
        for notice in &mut st.notices {
            if !matches!(notice.stage, Stage::Decided(_)) {
                notice.stage = Stage::Decided(Decision::Answer(Errno::ENOSYS.to_return()));
                notice.waker.wake();
            }
        }
    }
}

impl State {
    fn find(&mut self, id: u64) -> Option<&mut Notice> {
        self.notices.iter_mut().find(|n| n.id == id)
    }
}

/// Asks who listens what is to become of a call.
pub(crate) fn ask(cx: &mut TaskCx, supervisor: &Arc<dyn Supervisor>, call: Call) -> Ruling {
    let nobody = Ruling::Answer(Errno::ENOSYS.to_return());
    let Some(listener) = supervisor.as_any().downcast_ref::<Listener>() else {
        return nobody;
    };
    let Some(id) = listener.add(cx, call) else {
        return nobody;
    };
    let ruling = loop {
        match listener.next(id) {
            Next::Done(Decision::Make) => break Ruling::Make,
            Next::Done(Decision::Answer(value)) => break Ruling::Answer(value),
            Next::Accept(gift) => {
                let result = accept(cx, &gift);
                if gift.answers {
                    listener.answered_by(id, result);
                }
                gift.finish(result);
            }
            Next::Sleep { killable: true } => {
                if !cx.park_killable(|| listener.sleeps(id) != Some(true)) {
                    break Ruling::Interrupted;
                }
            }
            Next::Sleep { killable: false } => {
                let interrupted = cx.park(None) == Wake::Interrupted;
                // What has been decided counts before the signal does.
                if interrupted && listener.sleeps(id) == Some(false) {
                    break Ruling::Interrupted;
                }
            }
        }
    };
    listener.withdraw(id);
    ruling
}

fn accept(cx: &TaskCx, gift: &Gift) -> Result<i32, Errno> {
    let limit = cx.limit(ctx::Resource::Nofile);
    let (file, table) = (gift.file.clone(), cx.fd_table());
    match gift.number {
        Some(fd) => table.put_at(cx, fd, file, gift.cloexec, limit),
        None => table.insert(file, gift.cloexec, 0, limit),
    }
}

/// The supervisor's end, as an open file.
pub struct ListenerFile(Arc<Listener>);

impl ListenerFile {
    /// What it is the end of.
    pub fn listener(&self) -> &Arc<Listener> {
        &self.0
    }
}

impl Drop for ListenerFile {
    fn drop(&mut self) {
        self.0.close();
    }
}

impl FileOps for ListenerFile {
    fn seekable(&self) -> bool {
        false
    }

    fn takes_reads(&self) -> bool {
        false
    }

    fn takes_writes(&self) -> bool {
        false
    }

    fn ready(&self, _file: &File) -> Events {
        let st = self.0.state.lock();
        let any = |stage| st.notices.iter().any(|n| n.stage == stage);
        let mut ready = Events::empty();
        ready.set(Events::READABLE, any(Stage::Waiting));
        ready.set(Events::WRITABLE, any(Stage::Taken));
        ready.set(Events::HUP, st.orphaned);
        ready
    }

    fn queue(&self) -> Option<&Queue> {
        Some(&self.0.queue)
    }

    fn anonymous_name(&self) -> Option<Vec<u8>> {
        Some(b"anon_inode:seccomp notify".to_vec())
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl TaskCx {
    /// A file for a new listener, and its descriptor.
    pub(crate) fn open_listener(
        &self,
        listener: &Arc<Listener>,
    ) -> Result<(Arc<File>, i32), Errno> {
        let ops = Arc::new(ListenerFile(listener.clone()));
        let file = File::anonymous(self, ops, OpenFlags::RDWR);
        let limit = self.limit(ctx::Resource::Nofile);
        let fd = self.fd_table().insert(file.clone(), true, 0, limit)?;
        Ok((file, fd))
    }
}
