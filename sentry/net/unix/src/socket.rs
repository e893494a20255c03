//! A Unix socket and its state.

use crate::inbox::Inbox;
use crate::{AbstractNames, Address};
use net::{Identity, SocketKind};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;
use sync::census::{Counted, Kind};
use sync::{Mutex, ranks};
use vfs::sigio::{Reason, Watchers};
use wait::Queue;

/// A Unix socket.
pub struct UnixSocket {
    pub(crate) me: Weak<UnixSocket>,
    pub(crate) kind: SocketKind,
    pub(crate) ino: u64,
    pub(crate) names: Arc<AbstractNames>,
    pub(crate) queue: Queue,
    pub(crate) watchers: Watchers,
    /// A task waits in a receiving call (streams): those who watch are not told of what it gets.
    pub(crate) awaited: AtomicBool,
    /// Somebody found no room to send, and those who watch are to be told of it.
    pub(crate) crowded: AtomicBool,
    _counted: Counted,
    // Lock order: never two sockets at once; what the peer must know is read first.
    pub(crate) state: Mutex<State, ranks::Socket>,
}

/// What changes of a socket.
pub(crate) struct State {
    pub(crate) address: Address,
    pub(crate) connection: Connection,
    pub(crate) inbox: Inbox,
    /// Who listens, while it waits to be accepted.
    pub(crate) listener: Weak<UnixSocket>,
    /// No more is received (`SHUT_RD`, or the peer's `SHUT_WR`).
    pub(crate) read_shut: bool,
    /// Nothing can be sent any more.
    pub(crate) write_shut: bool,
    pub(crate) closed: bool,
    pub(crate) options: Options,
    /// `SO_ERROR`, taken when told.
    pub(crate) error: Option<abi::Errno>,
    /// Who connected, or who listened (`SO_PEERCRED`).
    pub(crate) peer_creds: Option<Identity>,
}

/// Whether and how a socket is connected.
pub(crate) enum Connection {
    None,
    Listening(Backlog),
    /// Connected; for datagrams this is the default destination.
    To(Weak<UnixSocket>, Address),
    /// Was connected; the peer has gone.
    Gone(Address),
}

/// Connections that wait for accept(2).
pub(crate) struct Backlog {
    pub(crate) limit: usize,
    pub(crate) waiting: VecDeque<Arc<UnixSocket>>,
    pub(crate) creds: Identity,
}

/// Options with an effect here.
#[derive(Clone, Copy)]
pub(crate) struct Options {
    pub(crate) pass_creds: bool,
    pub(crate) send_buffer: usize,
    pub(crate) receive_buffer: usize,
    pub(crate) send_timeout: Option<Duration>,
    pub(crate) receive_timeout: Option<Duration>,
    pub(crate) reuse_address: bool,
    pub(crate) keep_alive: bool,
    pub(crate) broadcast: bool,
    pub(crate) linger: (i32, i32),
    pub(crate) priority: i32,
    pub(crate) receive_low_water: i32,
}

static NEXT_INO: AtomicU64 = AtomicU64::new(0x1000);

impl std::fmt::Debug for UnixSocket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "UnixSocket({:?}, {})", self.kind, self.ino)
    }
}

impl UnixSocket {
    /// A socket that is neither bound nor connected.
    pub fn new(kind: SocketKind, names: &Arc<AbstractNames>) -> Arc<UnixSocket> {
        Arc::new_cyclic(|me| UnixSocket {
            me: me.clone(),
            kind,
            ino: NEXT_INO.fetch_add(1, Ordering::Relaxed),
            names: names.clone(),
            _counted: Counted::new(Kind::Socket),
            queue: Queue::new(),
            watchers: Watchers::new(),
            awaited: AtomicBool::new(false),
            crowded: AtomicBool::new(false),
            state: Mutex::new(State {
                address: Address::Unnamed,
                connection: Connection::None,
                inbox: Inbox::default(),
                listener: Weak::new(),
                read_shut: false,
                write_shut: false,
                closed: false,
                options: Options {
                    pass_creds: false,
                    send_buffer: sysctl::WMEM_DEFAULT.size(),
                    receive_buffer: sysctl::RMEM_DEFAULT.size(),
                    send_timeout: None,
                    receive_timeout: None,
                    reuse_address: false,
                    keep_alive: false,
                    broadcast: false,
                    linger: (0, 0),
                    priority: 0,
                    receive_low_water: 1,
                },
                error: None,
                peer_creds: None,
            }),
        })
    }

    /// Two sockets connected with each other (socketpair(2)).
    pub fn pair(
        kind: SocketKind,
        names: &Arc<AbstractNames>,
        creds: &Identity,
    ) -> (Arc<UnixSocket>, Arc<UnixSocket>) {
        let (a, b) = (UnixSocket::new(kind, names), UnixSocket::new(kind, names));
        for (from, to) in [(&a, &b), (&b, &a)] {
            let mut s = from.state.lock();
            s.connection = Connection::To(Arc::downgrade(to), Address::Unnamed);
            s.peer_creds = Some(creds.clone());
        }
        (a, b)
    }

    /// A handle of its own.
    pub(crate) fn handle(&self) -> Arc<UnixSocket> {
        self.me
            .upgrade()
            .unwrap_or_else(|| unreachable!("a live socket has a handle"))
    }

    /// The connected peer, while it lives.
    pub(crate) fn peer(&self) -> Option<Arc<UnixSocket>> {
        match &self.state.lock().connection {
            Connection::To(peer, _) => peer.upgrade(),
            _ => None,
        }
    }

    /// Something can be received: those who watch are told.
    pub(crate) fn tell_data(&self) {
        if !self.awaited.load(Ordering::Relaxed) {
            self.watchers.tell(Reason::In);
        }
    }

    /// The other side is gone: likewise.
    pub(crate) fn tell_hang_up(&self) {
        if !self.awaited.load(Ordering::Relaxed) {
            self.watchers.tell(Reason::HangUp);
        }
    }

    /// Whether bytes rather than messages are carried.
    pub(crate) fn is_stream(&self) -> bool {
        self.kind == SocketKind::Stream
    }
}
