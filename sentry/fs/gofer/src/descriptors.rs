//! Donated descriptors: at most a few for each file, shared by all who open it.
//!
//! They stay when the file is closed, since what was opened is often opened again; beyond a
//! budget the oldest idle ones are closed. Those in use are bounded by the guest's own limits.

use crate::client::nonsense;
use crate::node::Node;
use abi::Errno;
use control::fs::{Access, Opened, Reply, Request};
use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Weak};
use sync::{Mutex, ranks};

/// What is looked up is often opened next, and so opened with it; but not after so many look-ups
/// that nobody made use of ...
const PATIENCE: u32 = 64;
/// ... except each so many-th, to see whether that has changed.
const RETRY: u32 = 16;
/// How many files of a tree may keep descriptors while nobody uses them.
const IDLE: usize = 512;

/// A descriptor, and what may be done with it.
#[derive(Clone)]
pub(crate) struct Handle {
    pub(crate) fd: Arc<OwnedFd>,
    pub(crate) executable: bool,
    readable: bool,
}

/// The descriptors of one file.
#[derive(Default)]
pub(crate) struct Handles {
    read: Option<Handle>,
    write: Option<Handle>,
    append: Option<Handle>,
    /// `read` came unasked, and nobody has wanted it so far.
    guessed: bool,
    /// It stands in the cache's queue.
    queued: bool,
}

impl Handles {
    fn slot(&mut self, access: Access) -> &mut Option<Handle> {
        match access {
            Access::Read => &mut self.read,
            Access::ReadWrite => &mut self.write,
            Access::Append => &mut self.append,
        }
    }

    fn get(&self, access: Access) -> Option<&Handle> {
        match access {
            // Whoever writes can read as well, mostly.
            Access::Read => self
                .read
                .as_ref()
                .or_else(|| self.write.as_ref().filter(|h| h.readable)),
            Access::ReadWrite => self.write.as_ref(),
            Access::Append => self.append.as_ref(),
        }
    }

    fn is_empty(&self) -> bool {
        self.read.is_none() && self.write.is_none() && self.append.is_none()
    }
}

/// The files that keep descriptors, oldest first.
#[derive(Default)]
pub(crate) struct Cache {
    queue: Mutex<VecDeque<Weak<Node>>, ranks::Leaf>,
    /// Look-ups since a descriptor that came with one was of use.
    in_vain: AtomicU32,
}

impl Cache {
    /// Whether to have the next file that is looked up opened too.
    pub(crate) fn guess(&self) -> bool {
        let n = self.in_vain.fetch_add(1, Ordering::Relaxed);
        n < PATIENCE || n.is_multiple_of(RETRY)
    }

    fn enqueue(&self, node: &Weak<Node>) {
        let mut queue = self.queue.lock();
        queue.push_back(node.clone());
        let over = queue.len() > IDLE;
        let oldest = if over { queue.pop_front() } else { None };
        drop(queue);
        if let Some(oldest) = oldest.and_then(|w| w.upgrade())
            && oldest.close_idle()
        {
            // In use: it comes up again.
            self.queue.lock().push_back(Arc::downgrade(&oldest));
        }
    }
}

impl Cache {
    /// Closes everything that nobody uses.
    fn shrink(&self) {
        let all = std::mem::take(&mut *self.queue.lock());
        let left: Vec<_> = all
            .into_iter()
            .filter(|w| w.upgrade().is_some_and(|node| node.close_idle()))
            .collect();
        self.queue.lock().extend(left);
    }
}

impl Node {
    /// A descriptor for `access`, from before or from the gofer.
    pub(crate) fn handle(&self, access: Access) -> Result<Handle, Errno> {
        {
            let mut handles = self.handles.lock();
            if let Some(handle) = handles.get(access).cloned() {
                if std::mem::take(&mut handles.guessed) {
                    self.fs.cache.in_vain.store(0, Ordering::Relaxed);
                }
                return Ok(handle);
            }
        }
        let answer = self.fs.client.ask(Request::Open {
            node: self.id,
            access,
        })?;
        let Reply::Opened(opened) = answer.reply else {
            return nonsense();
        };
        let Some(fd) = answer.fd else {
            // There are too many; the next may find room.
            self.fs.cache.shrink();
            return Err(Errno::ENFILE);
        };
        Ok(self.keep(access, opened, fd))
    }

    /// Any descriptor that is there, for asking about the file.
    pub(crate) fn any_handle(&self) -> Option<Handle> {
        let handles = self.handles.lock();
        handles
            .get(Access::Read)
            .or(handles.get(Access::ReadWrite))
            .cloned()
    }

    /// Keeps a descriptor for reading that came with a look-up.
    pub(crate) fn keep_guessed(&self, opened: Opened, fd: OwnedFd) {
        let first = self.handles.lock().read.is_none();
        self.keep(Access::Read, opened, fd);
        self.handles.lock().guessed |= first;
    }

    /// Keeps a descriptor that the gofer has donated; returns the one that is kept.
    pub(crate) fn keep(&self, access: Access, opened: Opened, fd: OwnedFd) -> Handle {
        let Opened {
            executable,
            readable,
        } = opened;
        let fresh = Handle {
            fd: Arc::new(fd),
            executable,
            readable,
        };
        let mut handles = self.handles.lock();
        let kept = handles
            .slot(access)
            .get_or_insert_with(|| fresh.clone())
            .clone();
        let queue = !std::mem::replace(&mut handles.queued, true);
        drop(handles);
        if queue {
            self.fs.cache.enqueue(&self.me);
        }
        kept
    }

    /// Closes what nobody uses; whether something is left.
    fn close_idle(&self) -> bool {
        let mut handles = self.handles.lock();
        let mut closed = Vec::new();
        for access in [Access::Read, Access::ReadWrite, Access::Append] {
            let slot = handles.slot(access);
            if slot.as_ref().is_some_and(|h| Arc::strong_count(&h.fd) == 1) {
                closed.push(slot.take());
            }
        }
        let left = !handles.is_empty();
        handles.queued = left;
        drop(handles);
        drop(closed);
        left
    }
}
