//! Message queues (msgget(2), msgsnd(2), msgrcv(2), msgctl(2)).

use crate::ids::{Ids, Object, Perm};
use crate::{Limits, NOWAIT, PermWords, seconds};
use abi::Errno;
use auth::{Capability, UserNamespace};
use ctx::{Ctx, Pid, PidSpace, Restart, SysErr, wait_for};
use std::collections::VecDeque;
use std::fmt::Write;
use std::sync::Arc;
use sync::{Mutex, ranks};
use time::Clocks;
use wait::{Events, Queue};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

const NOERROR: i32 = 0o10000;
const EXCEPT: i32 = 0o20000;
const COPY: i32 = 0o40000;

/// `struct msqid64_ds`.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
#[expect(missing_docs, reason = "msgctl(2) says what each is")]
pub struct QueueWords {
    pub perm: PermWords,
    pub stime: i64,
    pub rtime: i64,
    pub ctime: i64,
    pub cbytes: u64,
    pub qnum: u64,
    pub qbytes: u64,
    pub lspid: i32,
    pub lrpid: i32,
    pub unused: [u64; 2],
}

const _: () = assert!(size_of::<QueueWords>() == 120);

/// All queues of a sandbox.
pub struct Queues {
    ids: Ids<MessageQueue>,
    clocks: Arc<Clocks>,
    limits: Arc<Limits>,
}

struct MessageQueue {
    state: Mutex<State, ranks::Leaf>,
    /// Those who wait for messages (`IN`) and for room (`OUT`).
    queue: Queue,
}

struct State {
    perm: Perm,
    messages: VecDeque<Message>,
    cbytes: u64,
    qbytes: u64,
    stime: i64,
    rtime: i64,
    ctime: i64,
    lspid: Pid,
    lrpid: Pid,
    removed: bool,
}

/// A message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Its type, positive.
    pub kind: i64,
    /// Its text.
    pub text: Box<[u8]>,
}

/// Which message msgrcv(2) wants.
#[derive(Clone, Copy)]
enum Want {
    Any,
    Equal(i64),
    Other(i64),
    /// The lowest type up to this one.
    Lowest(i64),
    /// The one at this place, which stays there.
    Copy(i64),
}

impl Object for MessageQueue {
    fn perm(&self) -> Perm {
        self.state.lock().perm
    }
}

impl Queues {
    pub(crate) fn new(clocks: &Arc<Clocks>, limits: &Arc<Limits>) -> Queues {
        Queues {
            ids: Ids::new(limits, |l| (&l.msgmni, &l.msg_next_id)),
            clocks: clocks.clone(),
            limits: limits.clone(),
        }
    }

    /// msgget(2).
    ///
    /// # Errors
    /// Those of msgget(2).
    pub fn get(&self, cx: &dyn Ctx, key: i32, flags: i32) -> Result<i32, Errno> {
        let make = |_, perm| {
            Ok(MessageQueue {
                state: Mutex::new(State {
                    perm,
                    messages: VecDeque::new(),
                    cbytes: 0,
                    qbytes: self.limits.msgmnb.size() as u64,
                    stime: 0,
                    rtime: 0,
                    ctime: seconds(&self.clocks),
                    lspid: Pid::default(),
                    lrpid: Pid::default(),
                    removed: false,
                }),
                queue: Queue::new(),
            })
        };
        self.ids.get_or_make(cx, key, flags, |_| Ok(()), make)
    }

    /// msgsnd(2).
    ///
    /// # Errors
    /// Those of msgsnd(2); a restart unless a handler runs.
    pub fn send(&self, cx: &dyn Ctx, id: i32, message: Message, flags: i32) -> Result<(), SysErr> {
        let q = self.ids.get(id)?;
        let size = message.text.len() as u64;
        let mut message = Some(message);
        let attempt = || -> Result<Option<()>, SysErr> {
            let mut st = q.state.lock();
            st.perm.check(&cx.creds(), &self.limits.owner, 0o222)?;
            if st.removed {
                return Err(Errno::EIDRM.into());
            }
            let count = st.messages.len() as u64;
            if size + st.cbytes > st.qbytes || count + 1 > st.qbytes {
                return if flags & NOWAIT != 0 {
                    Err(Errno::EAGAIN.into())
                } else {
                    Ok(None)
                };
            }
            if let Some(message) = message.take() {
                st.messages.push_back(message);
                st.cbytes += size;
                st.lspid = cx.process_id();
                st.stime = seconds(&self.clocks);
            }
            Ok(Some(()))
        };
        wait_for(cx, &q.queue, Events::OUT, None, Restart::NoHandler, attempt)?;
        q.queue.notify_all(Events::IN);
        Ok(())
    }

    /// msgrcv(2): a message whose text has at most `room` bytes, or is cut with `MSG_NOERROR`.
    ///
    /// # Errors
    /// Those of msgrcv(2); a restart unless a handler runs.
    pub fn receive(
        &self,
        cx: &dyn Ctx,
        id: i32,
        room: u64,
        kind: i64,
        flags: i32,
    ) -> Result<Message, SysErr> {
        let want = Want::decode(kind, flags)?;
        let q = self.ids.get(id)?;
        let attempt = || -> Result<Option<Message>, SysErr> {
            let mut st = q.state.lock();
            st.perm.check(&cx.creds(), &self.limits.owner, 0o444)?;
            if st.removed {
                return Err(Errno::EIDRM.into());
            }
            let found = st
                .find(want)
                .and_then(|at| Some((at, st.messages.get(at)?)));
            let Some((at, message)) = found else {
                return if flags & NOWAIT != 0 {
                    Err(Errno::ENOMSG.into())
                } else {
                    Ok(None)
                };
            };
            if message.text.len() as u64 > room && flags & NOERROR == 0 {
                return Err(Errno::E2BIG.into());
            }
            if matches!(want, Want::Copy(_)) {
                return Ok(Some(message.clone()));
            }
            let message = st.messages.remove(at);
            st.cbytes -= message.as_ref().map_or(0, |m| m.text.len() as u64);
            st.lrpid = cx.process_id();
            st.rtime = seconds(&self.clocks);
            Ok(message)
        };
        let message = wait_for(cx, &q.queue, Events::IN, None, Restart::NoHandler, attempt)?;
        q.queue.notify_all(Events::OUT);
        Ok(message.ok_or(Errno::ENOMSG)?)
    }

    /// What `IPC_STAT` says; by place for `MSG_STAT` (see [`crate::shm::Segments::stat`]).
    ///
    /// # Errors
    /// `EINVAL`, `EIDRM`, `EACCES`.
    pub fn stat(
        &self,
        cx: &dyn Ctx,
        id: i32,
        by_place: bool,
        checked: bool,
    ) -> Result<(i32, QueueWords), Errno> {
        let (id, q) = if by_place {
            self.ids.at(id)?
        } else {
            (id, self.ids.get(id)?)
        };
        let st = q.state.lock();
        if checked {
            st.perm.check(&cx.creds(), &self.limits.owner, 0o444)?;
        }
        Ok((id, st.words(&cx.creds().user_ns, cx.pid_space())))
    }

    /// `IPC_SET`.
    ///
    /// # Errors
    /// `EINVAL`, `EIDRM`, `EPERM`.
    pub fn set(&self, cx: &dyn Ctx, id: i32, words: &QueueWords) -> Result<(), Errno> {
        let q = self.ids.get(id)?;
        {
            let mut st = q.state.lock();
            let creds = cx.creds();
            st.perm.check_owner(&creds, &self.limits.owner)?;
            if words.qbytes > self.limits.msgmnb.size() as u64
                && !creds.has(Capability::SysResource)
            {
                return Err(Errno::EPERM);
            }
            st.perm.set(&words.perm, &cx.creds().user_ns)?;
            st.qbytes = words.qbytes;
            st.ctime = seconds(&self.clocks);
        }
        // Permissions and room may be others now.
        q.queue.notify_all(Events::IN | Events::OUT);
        Ok(())
    }

    /// `IPC_RMID`: whoever waits is told `EIDRM`.
    ///
    /// # Errors
    /// `EINVAL`, `EIDRM`, `EPERM`.
    pub fn remove(&self, cx: &dyn Ctx, id: i32) -> Result<(), Errno> {
        let q = self.ids.get(id)?;
        let gone = {
            let mut st = q.state.lock();
            st.perm.check_owner(&cx.creds(), &self.limits.owner)?;
            st.removed = true;
            std::mem::take(&mut st.messages)
        };
        drop(gone);
        self.ids.remove(id);
        q.queue.notify_all(Events::IN | Events::OUT);
        Ok(())
    }

    /// `IPC_INFO` or, with what is in use, `MSG_INFO`: the ints of `struct msginfo`, its last word
    /// in the eighth, and the highest place.
    pub fn limits(&self, in_use: bool) -> ([i32; 8], u32) {
        let number = |knob: &sysctl::Knob| knob.get() as i32;
        let (mnb, mni) = (number(&self.limits.msgmnb), number(&self.limits.msgmni));
        let (pool, map, tql) = if in_use {
            let all = self.ids.all();
            let sum = |f: fn(&State) -> u64| {
                let total: u64 = all.iter().map(|(_, q)| f(&q.state.lock())).sum();
                total as i32
            };
            (
                self.ids.count() as i32,
                sum(|st| st.messages.len() as u64),
                sum(|st| st.cbytes),
            )
        } else {
            (mni.saturating_mul(mnb / 1024), mnb, mnb)
        };
        let words = [
            pool,
            map,
            number(&self.limits.msgmax),
            mnb,
            mni,
            16,
            tql,
            0xffff,
        ];
        (words, self.ids.highest())
    }

    /// /proc/sysvipc/msg, as who is in `ns` and `space` sees it.
    pub fn table(&self, ns: &UserNamespace, space: PidSpace) -> String {
        let mut text = String::from(
            "       key      msqid perms      cbytes       qnum lspid lrpid   uid   gid  cuid  cgid      stime      rtime      ctime\n",
        );
        for (id, q) in self.ids.all() {
            let w = q.state.lock().words(ns, space);
            let p = &w.perm;
            let _ = writeln!(
                text,
                "{:10} {id:10}  {:4o}  {:10} {:10} {:5} {:5} {:5} {:5} {:5} {:5} {:10} {:10} {:10}",
                p.key,
                p.mode,
                w.cbytes,
                w.qnum,
                w.lspid,
                w.lrpid,
                p.uid,
                p.gid,
                p.cuid,
                p.cgid,
                w.stime,
                w.rtime,
                w.ctime
            );
        }
        text
    }
}

impl Want {
    fn decode(kind: i64, flags: i32) -> Result<Want, Errno> {
        if flags & COPY != 0 {
            if flags & EXCEPT != 0 || flags & NOWAIT == 0 {
                return Err(Errno::EINVAL);
            }
            return Ok(Want::Copy(kind));
        }
        Ok(match kind {
            0 => Want::Any,
            i64::MIN..0 => Want::Lowest(kind.checked_neg().unwrap_or(i64::MAX)),
            _ if flags & EXCEPT != 0 => Want::Other(kind),
            _ => Want::Equal(kind),
        })
    }
}

impl State {
    fn find(&self, want: Want) -> Option<usize> {
        let mut all = self.messages.iter();
        match want {
            Want::Any => (!self.messages.is_empty()).then_some(0),
            Want::Equal(kind) => all.position(|m| m.kind == kind),
            Want::Other(kind) => all.position(|m| m.kind != kind),
            Want::Lowest(most) => {
                let lowest = all.filter(|m| m.kind <= most).map(|m| m.kind).min()?;
                self.messages.iter().position(|m| m.kind == lowest)
            }
            Want::Copy(at) => usize::try_from(at)
                .ok()
                .filter(|at| *at < self.messages.len()),
        }
    }

    fn words(&self, ns: &UserNamespace, space: PidSpace) -> QueueWords {
        QueueWords {
            perm: self.perm.words(ns),
            stime: self.stime,
            rtime: self.rtime,
            ctime: self.ctime,
            cbytes: self.cbytes,
            qnum: self.messages.len() as u64,
            qbytes: self.qbytes,
            lspid: self.lspid.seen_from(space),
            lrpid: self.lrpid.seen_from(space),
            ..QueueWords::default()
        }
    }
}
