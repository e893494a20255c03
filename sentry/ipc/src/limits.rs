//! What an IPC namespace allows, and root may change (proc(5), /proc/sys/kernel and
//! /proc/sys/fs/mqueue).

use auth::UserNamespace;
use std::sync::atomic::{AtomicU64, Ordering};
use sysctl::Knob;

/// The most objects of a kind there can ever be (`IPCMNI`): identifiers have no more room.
const MOST: i64 = 32768;
const INT: i64 = i32::MAX as i64;
/// The most bytes of messages, and semaphores of a set, where Linux has as good as no bound: what
/// they take is the sandbox's own memory.
const BYTES: i64 = 64 << 20;
const COUNT: i64 = 1 << 20;

/// The limits of a namespace, and whose it is.
#[derive(Debug)]
pub struct Limits {
    /// The user namespace whose it is.
    pub owner: UserNamespace,
    /// `msgmax`: bytes of a message.
    pub msgmax: Knob,
    /// `msgmnb`: bytes in a new queue.
    pub msgmnb: Knob,
    /// `msgmni`: queues.
    pub msgmni: Knob,
    /// `msg_next_id`: the identifier that the next queue is to have, if it is free; -1 for any.
    pub msg_next_id: Knob,
    /// `semmsl`, the first of `sem`: semaphores in a set.
    pub semmsl: Knob,
    /// `semmns`: semaphores.
    pub semmns: Knob,
    /// `semopm`: operations in a semop(2).
    pub semopm: Knob,
    /// `semmni`: sets.
    pub semmni: Knob,
    /// `sem_next_id`
    pub sem_next_id: Knob,
    /// `shmmax`: bytes of a segment.
    pub shmmax: AtomicU64,
    /// `shmall`: pages of all segments.
    pub shmall: AtomicU64,
    /// `shmmni`: segments.
    pub shmmni: Knob,
    /// `shm_next_id`
    pub shm_next_id: Knob,
    /// `fs.mqueue.msg_default`: messages in a POSIX queue that is made without attributes.
    pub mq_msg_default: Knob,
    /// `fs.mqueue.msg_max`: messages in a POSIX queue, unless capable.
    pub mq_msg_max: Knob,
    /// `fs.mqueue.msgsize_default`: bytes of a message, likewise.
    pub mq_msgsize_default: Knob,
    /// `fs.mqueue.msgsize_max`
    pub mq_msgsize_max: Knob,
    /// `fs.mqueue.queues_max`: POSIX queues, unless capable.
    pub mq_queues_max: Knob,
}

impl Limits {
    /// Linux's, for a namespace of `owner`.
    pub fn new(owner: UserNamespace) -> Limits {
        let next = || Knob::new(-1, 0, INT);
        let huge = || AtomicU64::new(u64::MAX - (1 << 24));
        Limits {
            owner,
            msgmax: Knob::new(8192, 0, BYTES),
            msgmnb: Knob::new(16384, 0, BYTES),
            msgmni: Knob::new(32000, 0, MOST),
            msg_next_id: next(),
            semmsl: Knob::new(32000, 0, COUNT),
            semmns: Knob::new(1_024_000_000, 0, INT),
            semopm: Knob::new(500, 0, COUNT),
            semmni: Knob::new(32000, 0, MOST),
            sem_next_id: next(),
            shmmax: huge(),
            shmall: huge(),
            shmmni: Knob::new(4096, 0, MOST),
            shm_next_id: next(),
            mq_msg_default: Knob::new(10, 1, 65536),
            mq_msg_max: Knob::new(10, 1, 65536),
            mq_msgsize_default: Knob::new(8192, 128, 16 << 20),
            mq_msgsize_max: Knob::new(8192, 128, 16 << 20),
            mq_queues_max: Knob::new(256, 0, INT),
        }
    }
}

impl Limits {
    pub(crate) fn shmmax(&self) -> u64 {
        self.shmmax.load(Ordering::Relaxed)
    }

    pub(crate) fn shmall(&self) -> u64 {
        self.shmall.load(Ordering::Relaxed)
    }
}
