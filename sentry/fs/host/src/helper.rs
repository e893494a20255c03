//! A thread that makes blocking reads of one host descriptor, for hosts' files that know no
//! `RWF_NOWAIT` (terminals). It reads only when somebody in the sandbox wants to read, so that
//! input meant for others is not eaten.

use nix::errno::Errno as HostErrno;
use parking_lot::{Condvar, Mutex};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use wait::{Events, Queue};

/// The helper's state, shared with the file.
#[derive(Default)]
pub(crate) struct Helper {
    state: Mutex<State>,
    wanted: Condvar,
}

#[derive(Default)]
struct State {
    running: bool,
    want: bool,
    closed: bool,
    data: Vec<u8>,
    end: Option<Result<(), HostErrno>>,
}

impl std::fmt::Debug for Helper {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Helper")
    }
}

impl Helper {
    /// Takes up to `max` bytes that have been read; `None` when there are none yet, in which
    /// case the thread goes to fetch some and `queue` hears of it.
    pub(crate) fn take(
        self: &Arc<Self>,
        fd: &Arc<OwnedFd>,
        queue: &Arc<Queue>,
        max: usize,
    ) -> Option<Result<Vec<u8>, HostErrno>> {
        let mut s = self.state.lock();
        if !s.data.is_empty() {
            let n = max.min(s.data.len());
            return Some(Ok(s.data.drain(..n).collect()));
        }
        if let Some(end) = s.end.take() {
            return Some(end.map(|()| Vec::new()));
        }
        s.want = true;
        if !s.running {
            let (me, fd, queue) = (self.clone(), fd.clone(), queue.clone());
            let spawned = std::thread::Builder::new()
                .name("host-read".into())
                .spawn(move || me.run(&fd, &queue));
            if spawned.is_err() {
                return Some(Err(HostErrno::EAGAIN));
            }
            s.running = true;
        }
        drop(s);
        self.wanted.notify_one();
        None
    }

    /// Whether [`Helper::take`] would give something.
    pub(crate) fn has_data(&self) -> bool {
        let s = self.state.lock();
        !s.data.is_empty() || s.end.is_some()
    }

    /// The file is closed; the thread ends after the read it may be in.
    pub(crate) fn close(&self) {
        self.state.lock().closed = true;
        self.wanted.notify_one();
    }

    fn run(&self, fd: &OwnedFd, queue: &Queue) {
        let mut buf = [0u8; 4096];
        loop {
            let mut s = self.state.lock();
            while !s.want && !s.closed {
                self.wanted.wait(&mut s);
            }
            if s.closed {
                return;
            }
            drop(s);
            let got = nix::unistd::read(fd.as_fd(), &mut buf);
            let mut s = self.state.lock();
            match got {
                Err(HostErrno::EINTR) => continue,
                Ok(0) => s.end = Some(Ok(())),
                Ok(n) => s.data.extend_from_slice(&buf[..n]),
                Err(e) => s.end = Some(Err(e)),
            }
            s.want = false;
            drop(s);
            queue.notify(Events::READABLE);
        }
    }
}
