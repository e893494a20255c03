//! The connection: one request, one reply.

use abi::Errno;
use control::Channel;
use control::fs::{Call, NodeId, ROOT, Reply, Request};
use nix::sys::resource::{Resource, getrlimit};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use sync::{Mutex, ranks};

/// When a reply was made, in the order in which the gofer worked; later ones win.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) struct Moment(u64);

#[cfg(test)]
impl Moment {
    /// Which one it is.
    pub(crate) fn count(self) -> u64 {
        self.0
    }
}

pub(crate) struct Answer {
    pub(crate) reply: Reply,
    pub(crate) fd: Option<OwnedFd>,
    pub(crate) at: Moment,
}

/// Descriptors left for everything but donated files. The kernel gives out the lowest number that
/// is free, so a high one says that there are few left.
const RESERVE: u64 = 128;

/// A connection to a gofer.
pub(crate) struct Client {
    channel: Mutex<Channel, ranks::Gofer>,
    /// Numbers not needed any more, told with the next request.
    unneeded: Mutex<Vec<NodeId>, ranks::Leaf>,
    clock: AtomicU64,
    /// From this number on a donated descriptor is one too many.
    highest: i32,
    /// After a failure nobody knows which answer belongs to which question.
    broken: AtomicBool,
}

impl Client {
    pub(crate) fn new(socket: OwnedFd) -> Client {
        let limit = getrlimit(Resource::RLIMIT_NOFILE).map_or(1024, |(soft, _)| soft);
        let highest = limit.saturating_sub(RESERVE.min(limit / 4));
        Client {
            highest: i32::try_from(highest).unwrap_or(i32::MAX),
            broken: AtomicBool::new(false),
            channel: Mutex::new(Channel::new(socket)),
            unneeded: Mutex::default(),
            clock: AtomicU64::new(1),
        }
    }

    /// A moment that is now.
    pub(crate) fn now(&self) -> Moment {
        Moment(self.clock.fetch_add(1, Ordering::SeqCst))
    }

    /// `node` is not needed any more.
    pub(crate) fn forget(&self, node: NodeId) {
        if node != ROOT {
            self.unneeded.lock().push(node);
        }
    }

    /// Asks. Blocks the host thread for as long as the gofer works, which is short.
    ///
    /// # Errors
    /// What the gofer says; `EIO` when it is gone or does not make sense.
    ///
    /// A descriptor that came is closed where there are too many already.
    pub(crate) fn ask(&self, request: Request) -> Result<Answer, Errno> {
        let forget = std::mem::take(&mut *self.unneeded.lock());
        let call = Call { forget, request };
        let mut channel = self.channel.lock();
        if self.broken.load(Ordering::Relaxed) {
            return Err(Errno::EIO);
        }
        let at = self.now();
        let answer = channel
            .send(&call, &[])
            .and_then(|()| channel.recv::<Reply>());
        if answer.is_err() {
            self.broken.store(true, Ordering::Relaxed);
        }
        drop(channel);
        match answer {
            Ok((Reply::Failed(number), _)) => Err(Errno::from_host(number)),
            Ok((reply, fds)) => {
                let fd = fds.into_iter().next();
                let fd = fd.filter(|fd| fd.as_raw_fd() < self.highest);
                Ok(Answer { reply, fd, at })
            }
            Err(e) => {
                tracing::error!("gofer: {e}");
                Err(Errno::EIO)
            }
        }
    }
}

/// The gofer answered something that is no answer to the request.
pub(crate) fn nonsense<T>() -> Result<T, Errno> {
    tracing::error!("gofer: an answer to another question");
    Err(Errno::EIO)
}
