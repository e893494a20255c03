//! A terminal whose other end is a raw pseudo-terminal of the host: the container's terminal.
//!
//! The launcher made that pty for us alone, put it into raw mode and donated its replica with
//! `O_NONBLOCK`, so that neither reads nor writes can block here. Bytes come in through the
//! reactor and go out as programs write them.

use crate::Tty;
use crate::termios::Winsize;
use crate::tty::OtherEnd;
use fs_host::{Interest, Reactor, Token};
use nix::errno::Errno;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, OnceLock, Weak};
use sync::{Mutex, ranks};
use wait::Events;

/// The host's end.
struct HostEnd {
    tty: Weak<Tty>,
    fd: Arc<OwnedFd>,
    token: OnceLock<Token>,
    /// Held by the one who hands output on. Without it two who do would let later bytes overtake
    /// earlier ones, and the one who armed the reactor last would have looked first.
    pumping: Mutex<(), ranks::TerminalHost>,
}

/// Makes the terminal number `index` over the host's pty `fd`.
pub fn open(
    reactor: &Arc<Reactor>,
    index: u32,
    fd: OwnedFd,
    size: Winsize,
) -> io::Result<Arc<Tty>> {
    let fd = Arc::new(fd);
    let mut made: Option<Arc<HostEnd>> = None;
    let tty = Tty::new(index, false, |tty| {
        let end = Arc::new(HostEnd {
            tty: tty.clone(),
            fd: fd.clone(),
            token: OnceLock::new(),
            pumping: Mutex::new(()),
        });
        made = Some(end.clone());
        Box::new(Shared(end))
    });
    tty.state.lock().winsize = size;
    if let Some(end) = made {
        let interest: Arc<dyn Interest> = end.clone();
        let token = reactor.register(fd.as_raw_fd() as u64, &fd, Arc::downgrade(&interest))?;
        token.arm(Events::IN);
        let _ = end.token.set(token);
    }
    Ok(tty)
}

/// The reactor and the terminal both keep the host's end.
struct Shared(Arc<HostEnd>);

impl OtherEnd for Shared {
    fn output_ready(&self, tty: &Tty) {
        self.0.pump(tty);
    }

    fn settle(&self) {
        drop(self.0.pumping.lock());
    }
}

impl HostEnd {
    /// Writes what there is, as far as the host takes it, and waits for what is missing.
    fn pump(&self, tty: &Tty) {
        let _one_at_a_time = self.pumping.lock();
        let mut want = Events::empty();
        loop {
            let data = tty.take_output(4096);
            if data.is_empty() {
                break;
            }
            match nix::unistd::write(self.fd.as_fd(), &data) {
                Ok(n) if n == data.len() => {}
                Ok(n) => {
                    tty.return_output(&data[n..]);
                    want |= Events::OUT;
                    break;
                }
                Err(Errno::EAGAIN) => {
                    tty.return_output(&data);
                    want |= Events::OUT;
                    break;
                }
                Err(Errno::EINTR) => tty.return_output(&data),
                // The other side is gone; the reactor will see the hang-up.
                Err(_) => break,
            }
        }
        if tty.input_room() > 0 {
            want |= Events::IN;
        }
        if let Some(t) = self.token.get() {
            t.arm(want);
        }
    }

    fn fill(&self, tty: &Tty) {
        let mut buf = [0u8; 1024];
        // No more than the line discipline takes: the rest waits at the host.
        loop {
            let room = tty.input_room().min(buf.len());
            if room == 0 {
                return;
            }
            match nix::unistd::read(self.fd.as_fd(), &mut buf[..room]) {
                Ok(0) => return tty.hang_up(),
                Ok(n) => {
                    tty.input(&buf[..n]);
                }
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => return,
                Err(_) => return tty.hang_up(),
            }
        }
    }
}

impl Interest for HostEnd {
    fn descriptor(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    fn ready(&self, events: Events) {
        let Some(tty) = self.tty.upgrade() else {
            return;
        };
        if events.intersects(Events::IN | Events::HUP | Events::ERR) {
            self.fill(&tty);
        }
        if tty.state.lock().hung_up {
            return;
        }
        self.pump(&tty);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::os::unix::net::UnixStream;
    use std::thread;

    #[test]
    fn output_of_many_writers_arrives_in_order() {
        const EACH: u16 = 5000;
        let (mut ours, theirs) = UnixStream::pair().unwrap();
        theirs.set_nonblocking(true).unwrap();
        let reactor = Reactor::new().unwrap();
        let tty = open(&reactor, 0, theirs.into(), Winsize::default()).unwrap();
        // Under the terminal's lock each takes the next number and puts it at the end.
        let next = Mutex::<u16, ranks::Inode>::new(0);
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    for _ in 0..EACH {
                        let mut s = tty.state.lock();
                        let mut n = next.lock();
                        s.output.bytes.extend(n.to_be_bytes());
                        *n += 1;
                        drop(n);
                        drop(s);
                        tty.kick();
                    }
                });
            }
            let mut got = vec![0; usize::from(EACH) * 4];
            ours.read_exact(&mut got).unwrap();
            let numbers = got.chunks(2).map(|c| u16::from_be_bytes([c[0], c[1]]));
            assert!(numbers.eq(0..EACH * 2));
        });
    }
}
