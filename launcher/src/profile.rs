//! Profiles of a running sandbox process: its samples, as they come.
//!
//! Which threads there are and what they are called is the host's to say. A sample's words are the
//! sandbox's: its length is checked here, and whoever makes something of it bounds what it may
//! cost. However many come, listening ends with the profile's time.

use crate::client::{Client, ClientError, PATIENCE};
use crate::container::Container;
use crate::debug::{Thread, checked, look, threads};
use crate::error::LaunchError;
use control::ChannelError;
use control::debug::{MAX_THREADS, Module};
use control::profile::{
    MAX_SAMPLE, MAX_SAMPLE_STACK, ProfileKind, ProfileSpec, Profiled, SampleHead, words,
};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::sockopt::{SndBuf, SndBufForce};
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, recv, setsockopt, socketpair};
use std::collections::HashMap;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Room for samples that wait to be read, in bytes; the host may give less.
const ROOM: usize = 4 << 20;
/// How often the host's list of threads is read again, for one that was not in it.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// What is heard while a profile is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard<'a> {
    /// It has begun.
    Begun {
        /// What is loaded into the process.
        modules: Vec<Module>,
        /// The host's name for the process's executable.
        executable: PathBuf,
    },
    /// A thread took a sample.
    Sample {
        /// Its registers, and how much.
        head: SampleHead,
        /// Its stack from the stack pointer up, as much of it as there is.
        stack: &'a [u8],
        /// What it is called; empty when the host no longer knew.
        thread: &'a str,
    },
    /// An allocation, by the id in its sample, that was there at the end.
    Live(u64),
}

impl Container {
    /// Profiles the sandbox process for `duration`, or until the container ends. The sandbox must
    /// have been created with [`crate::sandbox::Options::profile_rules`].
    pub fn profile(
        &self,
        kind: ProfileKind,
        duration: Duration,
        mut hear: impl FnMut(Heard<'_>),
    ) -> Result<Profiled, LaunchError> {
        self.must_live("profile")?;
        let process = PathBuf::from(format!("/proc/{}", self.sandbox_pid()));
        let mut names = Names::new(&process).map_err(look("list the sandbox process's threads"))?;
        let (ours, theirs) = pair().map_err(|e| look("make a socket pair")(e.into()))?;
        let spec = ProfileSpec {
            kind,
            duration: u64::try_from(duration.as_millis()).unwrap_or(u64::MAX),
            threads: std::mem::take(&mut names.first),
        };
        let mut client = self.client()?;
        let begun = client.begin_profile(spec, theirs.as_fd())?;
        drop(theirs);
        hear(Heard::Begun {
            modules: begun.modules.into_iter().map(checked).collect(),
            executable: process.join("exe"),
        });
        let deadline = Instant::now().checked_add(duration.saturating_add(PATIENCE));
        let mut samples = Samples::new(ours, kind);
        Ok(listen(
            &mut samples,
            &mut client,
            deadline,
            |message| match message {
                Message::Sample(head, stack) => hear(Heard::Sample {
                    head,
                    stack,
                    thread: names.of(head.tid),
                }),
                Message::Live(ids) => words(ids).for_each(|id| hear(Heard::Live(id))),
            },
        )?)
    }
}

/// Hands on what comes until the sandbox says that that is all.
fn listen(
    samples: &mut Samples,
    client: &mut Client,
    deadline: Option<Instant>,
    mut hear: impl FnMut(Message<'_>),
) -> Result<Profiled, ClientError> {
    loop {
        let left = deadline.map(|d| d.saturating_duration_since(Instant::now()));
        let patience = match left {
            Some(Duration::ZERO) => return Err(ChannelError::Late.into()),
            Some(left) => PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX),
            None => PollTimeout::NONE,
        };
        let mut fds = vec![PollFd::new(client.socket(), PollFlags::POLLIN)];
        if !samples.over {
            fds.push(PollFd::new(samples.socket.as_fd(), PollFlags::POLLIN));
        }
        match poll(&mut fds, patience) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(e) => return Err(ChannelError::Host("wait for samples", e).into()),
        }
        let replied = client.has_input() || fds.first().is_some_and(|f| f.any() == Some(true));
        // Those that were sent before the reply are there by now.
        samples.drain(deadline, &mut hear);
        if replied {
            let profiled = client.end_profile(deadline)?;
            samples.drain(deadline, &mut hear);
            return Ok(profiled);
        }
    }
}

/// One message of the sandbox's.
enum Message<'a> {
    Sample(SampleHead, &'a [u8]),
    Live(&'a [u8]),
}

/// Where they come from.
struct Samples {
    socket: OwnedFd,
    kind: ProfileKind,
    buffer: Vec<u8>,
    /// No more can come.
    over: bool,
}

impl Samples {
    fn new(socket: OwnedFd, kind: ProfileKind) -> Samples {
        Samples {
            socket,
            kind,
            buffer: vec![0; MAX_SAMPLE],
            over: false,
        }
    }

    /// Whatever is there, until `deadline`: more may come all the time. What makes no sense is left
    /// out.
    fn drain(&mut self, deadline: Option<Instant>, hear: &mut impl FnMut(Message<'_>)) {
        // The length that it had, though it be longer than the buffer.
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_TRUNC;
        while !self.over && deadline.is_none_or(|d| Instant::now() < d) {
            match recv(self.socket.as_raw_fd(), &mut self.buffer, flags) {
                Ok(0) => self.over = true,
                Ok(len) => {
                    if let Some(message) = self.buffer.get(..len)
                        && let Some(message) = understood(message, self.kind)
                    {
                        hear(message);
                    }
                }
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => return,
                Err(_) => self.over = true,
            }
        }
    }
}

fn understood(message: &[u8], kind: ProfileKind) -> Option<Message<'_>> {
    let (head, rest) = SampleHead::split(message)?;
    match head.tid {
        0 if kind == ProfileKind::Heap => Some(Message::Live(rest)),
        0 => None,
        _ => (rest.len() <= MAX_SAMPLE_STACK).then_some(Message::Sample(head, rest)),
    }
}

/// What the sandbox process's threads are called.
struct Names<'a> {
    process: &'a Path,
    names: HashMap<u64, String>,
    /// Those that were there at first.
    first: Vec<i32>,
    looked: Instant,
}

impl Names<'_> {
    fn new(process: &Path) -> std::io::Result<Names<'_>> {
        let threads = threads(process)?;
        // The host's own never run in this process, and take no signals.
        let ours = threads.iter().filter(|t| t.takes_signals);
        Ok(Names {
            process,
            first: ours.map(|t| t.tid).take(MAX_THREADS).collect(),
            names: named(threads),
            looked: Instant::now(),
        })
    }

    fn of(&mut self, tid: u64) -> &str {
        if !self.names.contains_key(&tid) && self.looked.elapsed() > LOOK_AGAIN {
            self.looked = Instant::now();
            self.names
                .extend(named(threads(self.process).unwrap_or_default()));
        }
        self.names.get(&tid).map_or("", String::as_str)
    }
}

fn named(threads: Vec<Thread>) -> HashMap<u64, String> {
    let named = |t: Thread| Some((u64::try_from(t.tid).ok()?, t.name));
    threads.into_iter().filter_map(named).collect()
}

/// Two ends for whole messages, ours first.
fn pair() -> Result<(OwnedFd, OwnedFd), Errno> {
    let flags = SockFlag::SOCK_CLOEXEC;
    let (ours, theirs) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags)?;
    // As an ordinary user only as much as the host lets.
    setsockopt(&theirs, SndBufForce, &ROOM).or_else(|_| setsockopt(&theirs, SndBuf, &ROOM))?;
    Ok((ours, theirs))
}

#[cfg(test)]
mod tests {
    use super::*;
    use control::Channel;
    use control::message::Reply;
    use nix::sys::socket::{MsgFlags, send};

    fn said(socket: &OwnedFd, message: &[u8]) {
        send(socket.as_raw_fd(), message, MsgFlags::MSG_DONTWAIT).unwrap();
    }

    fn sample(tid: u64, stack: &[u8]) -> Vec<u8> {
        let head = SampleHead {
            tid,
            value: 3,
            ..SampleHead::default()
        };
        [&head.to_bytes(), stack].concat()
    }

    /// What is heard of a sandbox that sends these messages and then replies.
    fn heard(kind: ProfileKind, messages: &[Vec<u8>], reply: &Reply) -> (Vec<String>, String) {
        let (ours, theirs) = pair().unwrap();
        let (near, far) = Channel::pair().unwrap();
        messages.iter().for_each(|m| said(&theirs, m));
        drop(theirs);
        far.send(reply, &[]).unwrap();
        let mut heard = Vec::new();
        let mut samples = Samples::new(ours, kind);
        let deadline = Instant::now().checked_add(PATIENCE);
        let end = listen(&mut samples, &mut Client::over(near), deadline, |m| {
            heard.push(match m {
                Message::Sample(head, stack) => format!("{} {}", head.tid, stack.len()),
                Message::Live(ids) => format!("{:?}", words(ids).collect::<Vec<_>>()),
            });
        });
        (heard, format!("{end:?}"))
    }

    #[test]
    fn what_makes_no_sense_is_left_out() {
        let done = Reply::Profiled(Profiled {
            samples: 9,
            lost: 1,
        });
        let messages = [
            sample(7, b"some stack"),
            // Cut off, empty, too long, and ids where there are none.
            sample(8, b"")[..40].to_vec(),
            sample(9, &vec![1; MAX_SAMPLE_STACK + 1]),
            sample(0, &[1; 8]),
            sample(u64::MAX, &vec![1; MAX_SAMPLE_STACK]),
        ];
        let (all, end) = heard(ProfileKind::Cpu, &messages, &done);
        let longest = format!("{} {MAX_SAMPLE_STACK}", u64::MAX);
        assert_eq!(all, ["7 10", &longest]);
        assert!(end.contains("lost: 1"), "{end}");
        let ids = [sample(0, &[&5u64.to_le_bytes()[..], b"abc"].concat())];
        assert_eq!(heard(ProfileKind::Heap, &ids, &done).0, ["[5]"]);
    }

    #[test]
    fn any_bytes_are_survived() {
        let mut state = 1u64;
        let mut random = || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (state >> 33) as usize
        };
        for _ in 0..2000 {
            let len = random() % 200;
            let message: Vec<u8> = (0..len).map(|_| random() as u8).collect();
            for kind in [ProfileKind::Cpu, ProfileKind::Heap] {
                if let Some(Message::Sample(_, stack)) = understood(&message, kind) {
                    assert_eq!(stack.len() + SampleHead::BYTES, len);
                }
            }
        }
    }

    #[test]
    fn another_reply_or_none_is_an_error() {
        let (_, end) = heard(ProfileKind::Cpu, &[], &Reply::Done);
        assert!(end.contains("Answer"), "{end}");
        let (ours, _theirs) = pair().unwrap();
        let (near, far) = Channel::pair().unwrap();
        let mut samples = Samples::new(ours, ProfileKind::Cpu);
        let mut client = Client::over(near);
        let soon = Instant::now().checked_add(Duration::from_millis(5));
        let end = listen(&mut samples, &mut client, soon, |_| ());
        assert!(matches!(end, Err(ClientError::Channel(ChannelError::Late))));
        drop(far);
        let end = listen(&mut samples, &mut client, None, |_| ());
        assert!(end.is_err());
    }

    #[test]
    fn one_that_never_stops_sending_is_not_listened_to_for_ever() {
        let (ours, theirs) = pair().unwrap();
        let (near, _far) = Channel::pair().unwrap();
        let mut samples = Samples::new(ours, ProfileKind::Cpu);
        let soon = Instant::now().checked_add(Duration::from_millis(20));
        said(&theirs, &sample(1, b""));
        let end = listen(&mut samples, &mut Client::over(near), soon, |_| {
            // There is always one more.
            said(&theirs, &sample(1, b""));
        });
        assert!(end.is_err());
    }
}
