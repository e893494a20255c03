//! The connection: one request, one reply.

use abi::Errno;
use control::Channel;
use control::fs::{Call, NodeId, ROOT, Reply, Request};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use sync::{Mutex, ranks};

/// When a reply was made, in the order in which the gofer worked; later ones win.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) struct Moment(u64);

pub(crate) struct Answer {
    pub(crate) reply: Reply,
    pub(crate) fd: Option<OwnedFd>,
    pub(crate) at: Moment,
}

/// A connection to a gofer.
pub(crate) struct Client {
    channel: Mutex<Channel, ranks::Gofer>,
    /// Numbers not needed any more, told with the next request.
    unneeded: Mutex<Vec<NodeId>, ranks::Leaf>,
    clock: AtomicU64,
}

impl Client {
    pub(crate) fn new(socket: OwnedFd) -> Client {
        Client {
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
    pub(crate) fn ask(&self, request: Request) -> Result<Answer, Errno> {
        let forget = std::mem::take(&mut *self.unneeded.lock());
        let call = Call { forget, request };
        let mut channel = self.channel.lock();
        let at = self.now();
        let answer = channel
            .send(&call, &[])
            .and_then(|()| channel.recv::<Reply>());
        drop(channel);
        match answer {
            Ok((Reply::Failed(number), _)) => Err(Errno::from_host(number)),
            Ok((reply, fds)) => Ok(Answer {
                reply,
                fd: fds.into_iter().next(),
                at,
            }),
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
