//! The one thread that waits for host descriptors.

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Weak};
use wait::Events;

/// Hears when a host descriptor becomes ready. Called on the reactor's thread: must not block.
pub trait Interest: Send + Sync {
    /// The descriptor.
    fn descriptor(&self) -> BorrowedFd<'_>;

    /// What was waited for has come; the registration is used up.
    fn ready(&self, events: Events);
}

/// Waits for host descriptors on behalf of the sandbox. One thread, started with the first
/// registration; asleep while nothing happens.
pub struct Reactor {
    epoll: Epoll,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    running: bool,
    interests: HashMap<u64, Weak<dyn Interest>>,
}

/// A descriptor known to the reactor; its owner keeps it.
#[derive(Debug)]
pub struct Token {
    key: u64,
    fd: Arc<OwnedFd>,
    reactor: Arc<Reactor>,
}

impl std::fmt::Debug for Reactor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Reactor")
    }
}

impl Reactor {
    /// A reactor with nothing to wait for.
    pub fn new() -> io::Result<Arc<Reactor>> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        Ok(Arc::new(Reactor {
            epoll,
            state: Mutex::default(),
        }))
    }

    /// Makes `fd` known; nothing is waited for yet.
    ///
    /// # Errors
    /// `EPERM` for files that are always ready (regular files and directories).
    pub fn register(
        self: &Arc<Self>,
        key: u64,
        fd: &Arc<OwnedFd>,
        interest: Weak<dyn Interest>,
    ) -> io::Result<Token> {
        self.epoll
            .add(fd.as_fd(), EpollEvent::new(EpollFlags::EPOLLONESHOT, key))?;
        let mut s = self.state.lock();
        s.interests.insert(key, interest);
        if !s.running {
            let me = self.clone();
            std::thread::Builder::new()
                .name("reactor".into())
                .spawn(move || me.run())?;
            s.running = true;
        }
        Ok(Token {
            key,
            fd: fd.clone(),
            reactor: self.clone(),
        })
    }

    fn run(&self) {
        let mut events = [EpollEvent::empty(); 16];
        loop {
            let n = match self.epoll.wait(&mut events, EpollTimeout::NONE) {
                Ok(n) => n,
                Err(nix::errno::Errno::EINTR) => continue,
                Err(e) => {
                    tracing::error!(error = %e, "reactor: waiting for host descriptors failed");
                    return;
                }
            };
            for event in events.iter().take(n) {
                let interest = self
                    .state
                    .lock()
                    .interests
                    .get(&event.data())
                    .and_then(Weak::upgrade);
                if let Some(i) = interest {
                    // The bits of epoll are those of poll.
                    i.ready(Events::from_bits_truncate(event.events().bits() as u32));
                }
            }
        }
    }
}

impl Token {
    /// Waits once for `events`.
    pub fn arm(&self, events: Events) {
        let flags = EpollFlags::from_bits_truncate(events.bits() as i32) | EpollFlags::EPOLLONESHOT;
        let mut event = EpollEvent::new(flags, self.key);
        if let Err(e) = self.reactor.epoll.modify(self.fd.as_fd(), &mut event) {
            tracing::error!(error = %e, "reactor: arming a host descriptor failed");
        }
    }
}

impl Drop for Token {
    fn drop(&mut self) {
        self.reactor.state.lock().interests.remove(&self.key);
        // It may fail only if the descriptor is not there any more, which is what is wanted.
        let _ = self.reactor.epoll.delete(self.fd.as_fd());
    }
}
