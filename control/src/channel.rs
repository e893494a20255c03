//! Frames with descriptors over a Unix stream socket.
//!
//! A frame is a header (payload length and number of descriptors, both little-endian `u32`), then
//! the payload. The descriptors travel with the frame's first byte.

use crate::codec::{self, CodecError};
use crate::sys;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, sendmsg, socketpair,
};
use serde::{Serialize, de::DeserializeOwned};
use std::collections::VecDeque;
use std::io::IoSlice;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::time::Instant;

/// Most descriptors of one frame (the kernel's own limit, `SCM_MAX_FD`).
pub const MAX_FDS: usize = 253;
/// Most payload bytes of one frame.
pub const MAX_FRAME: usize = codec::LIMIT;

const HEADER: usize = 8;
/// What is asked of the kernel at once: most frames arrive whole.
const CHUNK: usize = 4096;

/// A failure of one connection.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ChannelError {
    /// The peer closed between frames.
    #[error("the peer closed the connection")]
    Closed,
    /// The peer closed within a frame.
    #[error("the peer closed the connection in the middle of a message")]
    Short,
    /// The host refused.
    #[error("cannot {0} on a control connection: {1}")]
    Host(&'static str, #[source] Errno),
    /// The frame is larger than [`MAX_FRAME`].
    #[error("a message of {0} bytes is over the limit of {MAX_FRAME}")]
    TooLong(usize),
    /// More descriptors than [`MAX_FDS`], or not as many as the frame announced.
    #[error("a message came with {got} descriptors where {want} were announced (limit {MAX_FDS})")]
    Descriptors {
        /// Announced.
        want: usize,
        /// There.
        got: usize,
    },
    /// The deadline passed; see [`Channel::set_deadline`].
    #[error("the peer did not answer in time")]
    Late,
    /// The payload is no such message.
    #[error(transparent)]
    Codec(#[from] CodecError),
}

/// One end of a connection.
#[derive(Debug)]
pub struct Channel {
    socket: OwnedFd,
    input: Vec<u8>,
    arrived: VecDeque<OwnedFd>,
    deadline: Option<Instant>,
}

impl Channel {
    /// Over a connected stream socket (blocking).
    pub fn new(socket: OwnedFd) -> Channel {
        Channel {
            socket,
            input: Vec::new(),
            arrived: VecDeque::new(),
            deadline: None,
        }
    }

    /// Until when messages are waited for; for ever with none. A peer that sends a byte now and
    /// then is no better than one that sends nothing.
    pub fn set_deadline(&mut self, deadline: Option<Instant>) {
        self.deadline = deadline;
    }

    /// Two connected channels, both ends close-on-exec.
    pub fn pair() -> Result<(Channel, Channel), ChannelError> {
        let (a, b) = socket_pair().map_err(|e| ChannelError::Host("make a socket pair", e))?;
        Ok((Channel::new(a), Channel::new(b)))
    }

    /// The socket, for polling.
    pub fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// The socket itself; what had been read ahead is dropped.
    pub fn into_socket(self) -> OwnedFd {
        self.socket
    }

    /// Sends one message with descriptors (which stay the caller's). Blocks while the peer is
    /// slow. Usable from several threads only if the caller orders them.
    pub fn send<T: Serialize>(
        &self,
        message: &T,
        fds: &[BorrowedFd<'_>],
    ) -> Result<(), ChannelError> {
        if fds.len() > MAX_FDS {
            return Err(ChannelError::Descriptors {
                want: fds.len(),
                got: fds.len(),
            });
        }
        let mut frame = vec![0; HEADER];
        codec::encode_into(message, &mut frame)?;
        let len = frame.len() - HEADER;
        if len > MAX_FRAME {
            return Err(ChannelError::TooLong(len));
        }
        frame[..4].copy_from_slice(&(len as u32).to_le_bytes());
        frame[4..8].copy_from_slice(&(fds.len() as u32).to_le_bytes());
        let numbers: Vec<RawFd> = fds.iter().map(AsRawFd::as_raw_fd).collect();
        let rights = [ControlMessage::ScmRights(&numbers)];
        let mut control: &[ControlMessage<'_>] = if numbers.is_empty() { &[] } else { &rights };
        let mut rest = frame.as_slice();
        while !rest.is_empty() {
            let sent = sendmsg::<()>(
                self.socket.as_raw_fd(),
                &[IoSlice::new(rest)],
                control,
                MsgFlags::MSG_NOSIGNAL,
                None,
            );
            match sent {
                Err(Errno::EINTR) => continue,
                Err(Errno::EPIPE | Errno::ECONNRESET) => return Err(ChannelError::Closed),
                Err(e) => return Err(ChannelError::Host("send", e)),
                Ok(n) => {
                    // The descriptors went with the first byte.
                    if n > 0 {
                        control = &[];
                    }
                    rest = rest.get(n..).unwrap_or_default();
                }
            }
        }
        Ok(())
    }

    /// Whether bytes of a further message have been read already: the socket may never become
    /// readable for those.
    pub fn has_input(&self) -> bool {
        !self.input.is_empty()
    }

    /// Waits for one message.
    pub fn recv<T: DeserializeOwned>(&mut self) -> Result<(T, Vec<OwnedFd>), ChannelError> {
        self.fill(HEADER)?;
        let word = |at: usize| -> usize {
            let bytes = self.input.get(at..at + 4).and_then(|b| b.try_into().ok());
            bytes.map_or(usize::MAX, |b| u32::from_le_bytes(b) as usize)
        };
        let (len, want) = (word(0), word(4));
        if len > MAX_FRAME {
            return Err(ChannelError::TooLong(len));
        }
        if want > MAX_FDS {
            return Err(ChannelError::Descriptors { want, got: 0 });
        }
        self.fill(HEADER + len).map_err(|e| match e {
            ChannelError::Closed => ChannelError::Short,
            other => other,
        })?;
        if self.arrived.len() < want {
            return Err(ChannelError::Descriptors {
                want,
                got: self.arrived.len(),
            });
        }
        let fds = self.arrived.drain(..want).collect();
        let message = codec::decode(self.input.get(HEADER..HEADER + len).unwrap_or_default())?;
        self.input.drain(..HEADER + len);
        if self.input.is_empty() && !self.arrived.is_empty() {
            // Descriptors come with their frame's first byte: these belong to no frame.
            return Err(ChannelError::Descriptors {
                want,
                got: want + self.arrived.len(),
            });
        }
        Ok((message, fds))
    }

    /// Waits for something to read, where there is a deadline.
    fn wait(&self) -> Result<(), ChannelError> {
        let Some(deadline) = self.deadline else {
            return Ok(());
        };
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            // Rounded up, so that the last wait is not a busy one.
            let left = left.as_millis().saturating_add(u128::from(!left.is_zero()));
            let left = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
            match poll(&mut [PollFd::new(self.socket(), PollFlags::POLLIN)], left) {
                Ok(0) if Instant::now() >= deadline => return Err(ChannelError::Late),
                Ok(0) | Err(Errno::EINTR) => {}
                Ok(_) => return Ok(()),
                Err(e) => return Err(ChannelError::Host("wait", e)),
            }
        }
    }

    /// Reads until `len` bytes are there.
    fn fill(&mut self, len: usize) -> Result<(), ChannelError> {
        while self.input.len() < len {
            self.wait()?;
            let have = self.input.len();
            self.input.resize(have + room_for(have, len), 0);
            let mut fds = Vec::new();
            let room = self.input.get_mut(have..).unwrap_or_default();
            let got = sys::receive(self.socket.as_fd(), room, &mut fds);
            self.input
                .truncate(have + got.as_ref().map_or(0, |g| g.len));
            self.arrived.extend(fds);
            match got {
                Err(Errno::ECONNRESET) => return Err(ChannelError::Closed),
                Err(e) => return Err(ChannelError::Host("receive", e)),
                Ok(g) if g.truncated || self.arrived.len() > 2 * MAX_FDS => {
                    return Err(ChannelError::Descriptors {
                        want: 0,
                        got: self.arrived.len(),
                    });
                }
                Ok(g) if g.len == 0 && have == 0 => return Err(ChannelError::Closed),
                Ok(g) if g.len == 0 => return Err(ChannelError::Short),
                Ok(_) => {}
            }
        }
        Ok(())
    }
}

/// How much more to make room for when `have` bytes of `len` are there. What was announced need not
/// come: at most as much as there is already.
fn room_for(have: usize, len: usize) -> usize {
    CHUNK.max(have.min(len.saturating_sub(have)))
}

fn socket_pair() -> nix::Result<(OwnedFd, OwnedFd)> {
    socketpair(
        AddressFamily::Unix,
        SockType::Stream,
        None,
        SockFlag::SOCK_CLOEXEC,
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::unistd::{pipe, read, write};
    use std::thread;

    #[test]
    fn messages_and_descriptors_arrive_in_order() {
        let (a, mut b) = Channel::pair().unwrap();
        let (r, w) = pipe().unwrap();
        a.send(&1u32, &[]).unwrap();
        a.send(&String::from("with one"), &[w.as_fd()]).unwrap();
        a.send(&3u32, &[r.as_fd(), w.as_fd()]).unwrap();
        drop(w);
        let (one, fds) = b.recv::<u32>().unwrap();
        assert_eq!((one, fds.len()), (1, 0));
        let (two, fds) = b.recv::<String>().unwrap();
        assert_eq!((two.as_str(), fds.len()), ("with one", 1));
        write(&fds[0], b"x").unwrap();
        let (three, fds) = b.recv::<u32>().unwrap();
        assert_eq!((three, fds.len()), (3, 2));
        let mut byte = [0];
        assert_eq!(read(&fds[0], &mut byte).unwrap(), 1);
        drop(a);
        assert!(matches!(b.recv::<u32>(), Err(ChannelError::Closed)));
    }

    #[test]
    fn a_long_message_arrives_whole() {
        let (a, mut b) = Channel::pair().unwrap();
        let long = vec![7u8; 3 << 20];
        let copy = long.clone();
        let sender = thread::spawn(move || a.send(&copy, &[]).map(|()| a));
        assert_eq!(b.recv::<Vec<u8>>().unwrap().0, long);
        sender.join().unwrap().unwrap();
    }

    #[test]
    fn room_is_made_for_what_comes_and_not_for_what_is_announced() {
        let mut have = 0;
        let mut steps = 0;
        while have < MAX_FRAME {
            let room = room_for(have, MAX_FRAME);
            assert!(room <= CHUNK.max(have), "{room} for {have}");
            have += room;
            steps += 1;
        }
        assert!(steps < 20, "{steps} calls for one message");
    }

    #[test]
    fn lying_headers_are_refused() {
        type Expected = fn(&ChannelError) -> bool;
        let cases: [(&[u8], Expected); 4] = [
            (&[255, 255, 255, 255, 0, 0, 0, 0], |e| {
                matches!(e, ChannelError::TooLong(_))
            }),
            (&[1, 0, 0, 0, 255, 0, 0, 0, 0], |e| {
                matches!(e, ChannelError::Descriptors { .. })
            }),
            (&[1, 0, 0, 0, 2, 0, 0, 0, 0], |e| {
                matches!(e, ChannelError::Descriptors { want: 2, .. })
            }),
            (&[9, 0, 0, 0, 0, 0, 0, 0, 1], |e| {
                matches!(e, ChannelError::Short)
            }),
        ];
        for (bytes, expected) in cases {
            let (a, mut b) = Channel::pair().unwrap();
            write(a.socket(), bytes).unwrap();
            drop(a);
            let error = b.recv::<u32>().unwrap_err();
            assert!(expected(&error), "{bytes:?}: {error}");
        }
    }

    #[test]
    fn a_peer_that_dawdles_is_given_up() {
        let (a, mut b) = Channel::pair().unwrap();
        b.set_deadline(Some(Instant::now()));
        assert!(matches!(b.recv::<u32>(), Err(ChannelError::Late)));
        // Half a message is not an answer.
        write(a.socket(), &[1, 0, 0]).unwrap();
        assert!(matches!(b.recv::<u32>(), Err(ChannelError::Late)));
        b.set_deadline(None);
        write(a.socket(), &[0, 0, 0, 0, 0, 7]).unwrap();
        assert_eq!(b.recv::<u32>().unwrap().0, 7);
    }

    #[test]
    fn too_many_descriptors_are_refused_by_the_sender() {
        let (a, _b) = Channel::pair().unwrap();
        let fds = vec![a.socket(); MAX_FDS + 1];
        assert!(matches!(
            a.send(&0u8, &fds),
            Err(ChannelError::Descriptors { .. })
        ));
    }
}
