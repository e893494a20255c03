//! Semaphore sets (semget(2), semop(2), semctl(2)).
//!
//! The operations of one semop(2) happen all at once or not at all. A task that has to wait leaves
//! them in the set's queue; whoever changes a value then does them for it and wakes it, so that
//! nobody barges in between. What `SEM_UNDO` asks for is kept in the set, by process.

use crate::ids::{Ids, Object, Perm};
use crate::{Limits, NOWAIT, PermWords, seconds};
use abi::Errno;
use auth::UserNamespace;
use ctx::{Ctx, Pid, Wake};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Instant;
use sync::{Mutex, ranks};
use time::Clocks;
use wait::Waker;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// The largest value (`SEMVMX`).
pub const MAX_VALUE: i32 = 32767;
/// `SEM_UNDO`
const UNDO: i16 = 0x1000;

/// `struct sembuf`.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
#[expect(missing_docs, reason = "semop(2) says what each is")]
pub struct SemOp {
    pub num: u16,
    pub op: i16,
    pub flags: i16,
}

/// `struct semid64_ds`.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
#[expect(missing_docs, reason = "semctl(2) says what each is")]
pub struct SetWords {
    pub perm: PermWords,
    pub otime: i64,
    pub unused1: u64,
    pub ctime: i64,
    pub unused2: u64,
    pub nsems: u64,
    pub unused3: [u64; 2],
}

const _: () = assert!(size_of::<SetWords>() == 104);

/// All sets of a sandbox.
pub struct Semaphores {
    ids: Ids<Set>,
    clocks: Arc<Clocks>,
    limits: Arc<Limits>,
    /// How many there are in all sets.
    count: Arc<AtomicUsize>,
    /// Whether any process has ever asked for an undo.
    undone: AtomicBool,
}

struct Set(Mutex<State, ranks::Leaf>);

/// What a set counts for among all semaphores.
struct Share {
    all: Arc<AtomicUsize>,
    mine: usize,
}

impl Share {
    fn of(all: &Arc<AtomicUsize>, mine: usize) -> Share {
        all.fetch_add(mine, Ordering::Relaxed);
        Share {
            all: all.clone(),
            mine,
        }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.all.fetch_sub(self.mine, Ordering::Relaxed);
    }
}

struct State {
    _share: Share,
    perm: Perm,
    values: Vec<Value>,
    otime: i64,
    ctime: i64,
    waiting: Vec<Arc<Waiting>>,
    /// What is to be added when a process ends, by its id.
    undo: BTreeMap<u64, Vec<i32>>,
    removed: bool,
}

#[derive(Clone, Default)]
struct Value {
    now: i32,
    /// Who operated on it last.
    pid: Pid,
}

/// A process, by its numbers and by what tells it from all others.
#[derive(Clone)]
struct Who {
    pid: Pid,
    process: u64,
}

/// A task in a set's queue.
struct Waiting {
    ops: Box<[SemOp]>,
    who: Who,
    waker: Arc<Waker>,
    state: Mutex<Progress, ranks::WaitQueue>,
}

struct Progress {
    /// Which operation it waits for.
    blocked: usize,
    result: Option<Result<(), Errno>>,
}

/// How far the operations of a call got.
enum Attempt {
    Done,
    /// The one at this place has to wait.
    Blocked(usize),
}

/// What semctl(2) asks of single semaphores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ask {
    /// `GETVAL`
    Value,
    /// `GETPID`
    Pid,
    /// `GETNCNT`
    WaitingForMore,
    /// `GETZCNT`
    WaitingForZero,
}

impl Object for Set {
    fn perm(&self) -> Perm {
        self.0.lock().perm
    }
}

impl Semaphores {
    pub(crate) fn new(clocks: &Arc<Clocks>, limits: &Arc<Limits>) -> Semaphores {
        Semaphores {
            ids: Ids::new(limits, |l| (&l.semmni, &l.sem_next_id)),
            clocks: clocks.clone(),
            limits: limits.clone(),
            count: Arc::default(),
            undone: AtomicBool::new(false),
        }
    }

    /// semget(2).
    ///
    /// # Errors
    /// Those of semget(2).
    pub fn get(&self, cx: &dyn Ctx, key: i32, count: i32, flags: i32) -> Result<i32, Errno> {
        if !(0..=self.limits.semmsl.get()).contains(&i64::from(count)) {
            return Err(Errno::EINVAL);
        }
        let check = |set: &Set| {
            if count as usize > set.0.lock().values.len() {
                Err(Errno::EINVAL)
            } else {
                Ok(())
            }
        };
        let make = |_, perm| {
            if count == 0 {
                return Err(Errno::EINVAL);
            }
            let share = Share::of(&self.count, count as usize);
            if self.count.load(Ordering::Relaxed) > self.limits.semmns.size() {
                return Err(Errno::ENOSPC);
            }
            Ok(Set(Mutex::new(State {
                _share: share,
                perm,
                values: vec![Value::default(); count as usize],
                otime: 0,
                ctime: seconds(&self.clocks),
                waiting: Vec::new(),
                undo: BTreeMap::new(),
                removed: false,
            })))
        };
        self.ids.get_or_make(cx, key, flags, check, make)
    }

    /// semop(2), semtimedop(2): waits until `deadline` at most.
    ///
    /// # Errors
    /// Those of semop(2). A signal is always `EINTR`: this call is never restarted.
    pub fn operate(
        &self,
        cx: &dyn Ctx,
        id: i32,
        ops: &[SemOp],
        deadline: Option<Instant>,
    ) -> Result<(), Errno> {
        let set = self.ids.get(id)?;
        let who = Who {
            pid: cx.process_id(),
            process: cx.process(),
        };
        let alters = ops.iter().any(|o| o.op != 0);
        if ops.iter().any(|o| o.flags & UNDO != 0) {
            self.undone.store(true, Ordering::SeqCst);
        }
        let waiting = {
            let mut st = set.0.lock();
            if ops.iter().any(|o| usize::from(o.num) >= st.values.len()) {
                return Err(Errno::EFBIG);
            }
            let wanted = if alters { 0o222 } else { 0o444 };
            st.perm.check(&cx.creds(), &self.limits.owner, wanted)?;
            if st.removed {
                return Err(Errno::EIDRM);
            }
            match st.attempt(ops, &who)? {
                Attempt::Done => {
                    st.otime = seconds(&self.clocks);
                    if alters {
                        st.serve();
                    }
                    return Ok(());
                }
                Attempt::Blocked(at) => {
                    let waiting = Arc::new(Waiting {
                        ops: ops.into(),
                        who,
                        waker: cx.waker().clone(),
                        state: Mutex::new(Progress {
                            blocked: at,
                            result: None,
                        }),
                    });
                    st.waiting.push(waiting.clone());
                    waiting
                }
            }
        };
        let failed = loop {
            if let Some(result) = waiting.state.lock().result {
                return result;
            }
            match cx.park(deadline) {
                Wake::Notified => {}
                Wake::TimedOut => break Errno::EAGAIN,
                Wake::Interrupted => break Errno::EINTR,
            }
        };
        let mut st = set.0.lock();
        // What was done for it in the last moment counts.
        if let Some(result) = waiting.state.lock().result {
            return result;
        }
        st.waiting.retain(|w| !Arc::ptr_eq(w, &waiting));
        Err(failed)
    }

    /// A process ([`Ctx::process`]) has ended: its undos are done.
    pub fn process_ended(&self, process: u64, pid: &Pid) {
        if !self.undone.load(Ordering::SeqCst) {
            return;
        }
        for (_, set) in self.ids.all() {
            let mut st = set.0.lock();
            let Some(undo) = st.undo.remove(&process) else {
                continue;
            };
            for (value, more) in st.values.iter_mut().zip(undo) {
                if more != 0 {
                    value.now = (value.now + more).clamp(0, MAX_VALUE);
                    value.pid = pid.clone();
                }
            }
            st.otime = seconds(&self.clocks);
            st.serve();
        }
    }

    /// Whether a process ([`Ctx::process`]) has asked for an undo that is still to come.
    pub fn undoes(&self, process: u64) -> bool {
        let sets = self.ids.all();
        self.undone.load(Ordering::SeqCst)
            && sets
                .iter()
                .any(|(_, s)| s.0.lock().undo.contains_key(&process))
    }

    /// `GETVAL` and its relatives.
    ///
    /// # Errors
    /// `EINVAL`, `EIDRM`, `EACCES`.
    pub fn ask(&self, cx: &dyn Ctx, id: i32, num: i32, what: Ask) -> Result<i32, Errno> {
        let set = self.ids.get(id)?;
        let st = set.0.lock();
        st.perm.check(&cx.creds(), &self.limits.owner, 0o444)?;
        let at = usize::try_from(num).map_err(|_| Errno::EINVAL)?;
        let value = st.values.get(at).ok_or(Errno::EINVAL)?;
        let waiting = |zero: bool| {
            let here = st.waiting.iter().filter(|w| {
                let blocked = w.state.lock().blocked;
                w.ops.get(blocked).is_some_and(|o| {
                    i32::from(o.num) == num && (if zero { o.op == 0 } else { o.op < 0 })
                })
            });
            here.count() as i32
        };
        Ok(match what {
            Ask::Value => value.now,
            Ask::Pid => value.pid.seen_from(cx.pid_space()),
            Ask::WaitingForMore => waiting(false),
            Ask::WaitingForZero => waiting(true),
        })
    }

    /// `GETALL`.
    ///
    /// # Errors
    /// `EINVAL`, `EIDRM`, `EACCES`.
    pub fn all(&self, cx: &dyn Ctx, id: i32) -> Result<Vec<u16>, Errno> {
        let set = self.ids.get(id)?;
        let st = set.0.lock();
        st.perm.check(&cx.creds(), &self.limits.owner, 0o444)?;
        Ok(st.values.iter().map(|v| v.now as u16).collect())
    }

    /// How many semaphores `SETALL` needs values for, once the caller has been found to be
    /// allowed to set them.
    ///
    /// # Errors
    /// `EINVAL`, `EIDRM`, `EACCES`.
    pub fn size_to_set(&self, cx: &dyn Ctx, id: i32) -> Result<usize, Errno> {
        let set = self.ids.get(id)?;
        let st = set.0.lock();
        st.perm.check(&cx.creds(), &self.limits.owner, 0o222)?;
        Ok(st.values.len())
    }

    /// `SETALL`.
    ///
    /// # Errors
    /// `ERANGE`, `EIDRM`.
    pub fn set_all(&self, cx: &dyn Ctx, id: i32, values: &[u16]) -> Result<(), Errno> {
        if values.iter().any(|v| i32::from(*v) > MAX_VALUE) {
            return Err(Errno::ERANGE);
        }
        let set = self.ids.get(id)?;
        let mut st = set.0.lock();
        if st.removed {
            return Err(Errno::EIDRM);
        }
        for (place, value) in st.values.iter_mut().zip(values) {
            *place = Value {
                now: i32::from(*value),
                pid: cx.process_id(),
            };
        }
        st.undo.clear();
        st.ctime = seconds(&self.clocks);
        st.serve();
        Ok(())
    }

    /// `SETVAL`.
    ///
    /// # Errors
    /// `ERANGE`, `EINVAL`, `EIDRM`, `EACCES`.
    pub fn set_value(&self, cx: &dyn Ctx, id: i32, num: i32, value: i32) -> Result<(), Errno> {
        if !(0..=MAX_VALUE).contains(&value) {
            return Err(Errno::ERANGE);
        }
        let set = self.ids.get(id)?;
        let mut st = set.0.lock();
        let at = usize::try_from(num).map_err(|_| Errno::EINVAL)?;
        if at >= st.values.len() {
            return Err(Errno::EINVAL);
        }
        st.perm.check(&cx.creds(), &self.limits.owner, 0o222)?;
        if let Some(place) = st.values.get_mut(at) {
            *place = Value {
                now: value,
                pid: cx.process_id(),
            };
        }
        for undo in st.undo.values_mut() {
            if let Some(more) = undo.get_mut(at) {
                *more = 0;
            }
        }
        st.ctime = seconds(&self.clocks);
        st.serve();
        Ok(())
    }

    /// What `IPC_STAT` says; by place for `SEM_STAT` (see [`crate::shm::Segments::stat`]).
    ///
    /// # Errors
    /// `EINVAL`, `EIDRM`, `EACCES`.
    pub fn stat(
        &self,
        cx: &dyn Ctx,
        id: i32,
        by_place: bool,
        checked: bool,
    ) -> Result<(i32, SetWords), Errno> {
        let (id, set) = if by_place {
            self.ids.at(id)?
        } else {
            (id, self.ids.get(id)?)
        };
        let st = set.0.lock();
        if checked {
            st.perm.check(&cx.creds(), &self.limits.owner, 0o444)?;
        }
        Ok((
            id,
            SetWords {
                perm: st.perm.words(&cx.creds().user_ns),
                otime: st.otime,
                ctime: st.ctime,
                nsems: st.values.len() as u64,
                ..SetWords::default()
            },
        ))
    }

    /// `IPC_SET`.
    ///
    /// # Errors
    /// `EINVAL`, `EIDRM`, `EPERM`.
    pub fn set(&self, cx: &dyn Ctx, id: i32, words: &SetWords) -> Result<(), Errno> {
        let set = self.ids.get(id)?;
        let mut st = set.0.lock();
        st.perm.check_owner(&cx.creds(), &self.limits.owner)?;
        st.perm.set(&words.perm, &cx.creds().user_ns)?;
        st.ctime = seconds(&self.clocks);
        Ok(())
    }

    /// `IPC_RMID`: whoever waits is told `EIDRM`.
    ///
    /// # Errors
    /// `EINVAL`, `EIDRM`, `EPERM`.
    pub fn remove(&self, cx: &dyn Ctx, id: i32) -> Result<(), Errno> {
        let set = self.ids.get(id)?;
        {
            let mut st = set.0.lock();
            st.perm.check_owner(&cx.creds(), &self.limits.owner)?;
            st.removed = true;
            for waiting in st.waiting.drain(..) {
                waiting.end(Err(Errno::EIDRM));
            }
        }
        self.ids.remove(id);
        Ok(())
    }

    /// `IPC_INFO` or, with what is in use, `SEM_INFO`: `struct seminfo`, and the highest place.
    pub fn limits(&self, in_use: bool) -> ([i32; 10], u32) {
        let (size, adjust) = if in_use {
            let sets = self.ids.all();
            let all: usize = sets.iter().map(|(_, s)| s.0.lock().values.len()).sum();
            (sets.len() as i32, all as i32)
        } else {
            (20, MAX_VALUE)
        };
        let limits = &self.limits;
        let [all, sets, in_set, ops] = [
            &limits.semmns,
            &limits.semmni,
            &limits.semmsl,
            &limits.semopm,
        ]
        .map(|knob| knob.get() as i32);
        let words = [
            all, sets, all, all, in_set, ops, ops, size, MAX_VALUE, adjust,
        ];
        (words, self.ids.highest())
    }

    /// /proc/sysvipc/sem
    pub fn table(&self, ns: &UserNamespace) -> String {
        let mut text = String::from(
            "       key      semid perms      nsems   uid   gid  cuid  cgid      otime      ctime\n",
        );
        for (id, set) in self.ids.all() {
            let st = set.0.lock();
            let p = st.perm.words(ns);
            let _ = writeln!(
                text,
                "{:10} {id:10}  {:4o} {:10} {:5} {:5} {:5} {:5} {:10} {:10}",
                p.key,
                p.mode,
                st.values.len(),
                p.uid,
                p.gid,
                p.cuid,
                p.cgid,
                st.otime,
                st.ctime
            );
        }
        text
    }
}

impl State {
    /// Does all of `ops`, or nothing.
    fn attempt(&mut self, ops: &[SemOp], who: &Who) -> Result<Attempt, Errno> {
        let mut done = 0;
        let ended = loop {
            let Some(op) = ops.get(done) else {
                for op in ops {
                    self.values[usize::from(op.num)].pid = who.pid.clone();
                }
                return Ok(Attempt::Done);
            };
            match self.step(op, who) {
                Ok(true) => done += 1,
                Ok(false) if i32::from(op.flags) & NOWAIT != 0 => break Err(Errno::EAGAIN),
                Ok(false) => break Ok(Attempt::Blocked(done)),
                Err(e) => break Err(e),
            }
        };
        for op in ops[..done].iter().rev() {
            self.values[usize::from(op.num)].now -= i32::from(op.op);
            if op.flags & UNDO != 0
                && let Some(undo) = self.undo.get_mut(&who.process)
            {
                undo[usize::from(op.num)] += i32::from(op.op);
            }
        }
        ended
    }

    /// One operation; `false` where it has to wait.
    fn step(&mut self, op: &SemOp, who: &Who) -> Result<bool, Errno> {
        let count = self.values.len();
        let at = usize::from(op.num);
        let change = i32::from(op.op);
        let value = &mut self.values[at];
        if change == 0 && value.now != 0 {
            return Ok(false);
        }
        let new = value.now + change;
        if new < 0 {
            return Ok(false);
        }
        if new > MAX_VALUE {
            return Err(Errno::ERANGE);
        }
        if op.flags & UNDO != 0 {
            let undo = self
                .undo
                .entry(who.process)
                .or_insert_with(|| vec![0; count]);
            let more = undo[at] - change;
            if !(-MAX_VALUE - 1..=MAX_VALUE).contains(&more) {
                return Err(Errno::ERANGE);
            }
            undo[at] = more;
        }
        value.now = new;
        Ok(true)
    }

    /// Does for those who wait what can be done now: those who wait for zeros first, then the
    /// others in the order in which they came, from the start again after each change.
    fn serve(&mut self) {
        loop {
            let mut changed = false;
            for altering in [false, true] {
                let mut at = 0;
                while let Some(waiting) = self.waiting.get(at).cloned() {
                    let alters = waiting.ops.iter().any(|o| o.op != 0);
                    if alters != altering {
                        at += 1;
                        continue;
                    }
                    let result = match self.attempt(&waiting.ops, &waiting.who) {
                        Ok(Attempt::Blocked(blocked)) => {
                            waiting.state.lock().blocked = blocked;
                            at += 1;
                            continue;
                        }
                        Ok(Attempt::Done) => Ok(()),
                        Err(e) => Err(e),
                    };
                    self.waiting.remove(at);
                    waiting.end(result);
                    if alters && result.is_ok() {
                        changed = true;
                        break;
                    }
                }
                if changed {
                    break;
                }
            }
            if !changed {
                return;
            }
        }
    }
}

impl Waiting {
    fn end(&self, result: Result<(), Errno>) {
        self.state.lock().result = Some(result);
        self.waker.wake();
    }
}
