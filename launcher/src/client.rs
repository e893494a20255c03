//! The launcher's end of a sandbox's control socket.

use crate::state::ContainerDir;
use crate::words::printable;
use control::boot::Limits;
use control::debug::{Counters, Logging, Stacks, Traced};
use control::hello::{Hello, HelloError};
use control::message::{
    ExecSpec, Failure, JoinSpec, ProcessInfo, Reply, Request, SandboxState, Stats, WindowSize,
};
use control::profile::{ProfileSpec, Profiled, Profiling};
use control::{Channel, ChannelError};
use nix::errno::Errno;
use nix::sys::socket::sockopt::SendTimeout;
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, connect, listen, setsockopt, socket,
};
use nix::sys::stat::{FchmodatFlags, Mode, fchmodat};
use nix::sys::time::{TimeVal, TimeValLike};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

/// How long an answer may take. A sandbox that was broken into would otherwise hold up whoever
/// asks, and with him the container's lock.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);
/// The same for the start, which reads the container's program.
const START_PATIENCE: Duration = Duration::from_secs(60);
/// Most of a refusal that is shown.
const MAX_TEXT: usize = 4 << 10;
/// Most of a report that is shown.
const MAX_REPORT: usize = 4 << 20;

/// A request that did not succeed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// Nobody listens.
    #[error("cannot reach the sandbox of container `{id}`: {answer}")]
    Unreachable {
        /// The container.
        id: String,
        /// The host's answer.
        answer: Errno,
    },
    /// The conversation broke.
    #[error("the sandbox does not answer as it should: {0}")]
    Channel(#[from] ChannelError),
    /// It speaks another protocol.
    #[error(transparent)]
    Hello(#[from] HelloError),
    /// It refused.
    #[error(transparent)]
    Refused(#[from] Failure),
    /// It answered another question.
    #[error("the sandbox gave an answer to another question")]
    Answer,
}

/// Makes the listening socket in a container's directory, for its owner alone.
pub(crate) fn listener(container: &ContainerDir) -> Result<OwnedFd, Errno> {
    let path = container.socket_path();
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    bind(socket.as_raw_fd(), &UnixAddr::new(&path)?)?;
    // The directory is closed to others anyway.
    let mode = Mode::S_IRUSR | Mode::S_IWUSR;
    fchmodat(
        nix::fcntl::AT_FDCWD,
        &path,
        mode,
        FchmodatFlags::FollowSymlink,
    )?;
    listen(&socket, Backlog::new(16)?)?;
    Ok(socket)
}

/// A sandbox's refusal, as it may be shown.
pub(crate) fn checked(failure: Failure) -> Failure {
    Failure {
        text: printable(&failure.text, MAX_TEXT),
        ..failure
    }
}

/// A name and a state as they may be shown.
fn shown(command: &mut String, state: &mut char) {
    *command = printable(command, MAX_TEXT).replace('\n', "?");
    if !state.is_ascii_uppercase() {
        *state = '?';
    }
}

/// A connection to a running sandbox.
#[derive(Debug)]
pub struct Client(Channel);

impl Client {
    /// Over a connection whose hellos have been exchanged.
    #[cfg(test)]
    pub(crate) fn over(channel: Channel) -> Client {
        Client(channel)
    }

    /// Connects and exchanges hellos.
    pub fn connect(container: &ContainerDir) -> Result<Client, ClientError> {
        let unreachable = |answer| ClientError::Unreachable {
            id: container.id().to_string(),
            answer,
        };
        let flags = SockFlag::SOCK_CLOEXEC;
        let socket =
            socket(AddressFamily::Unix, SockType::Stream, flags, None).map_err(unreachable)?;
        let address = UnixAddr::new(&container.socket_path()).map_err(unreachable)?;
        // Also for connecting: its backlog may be full.
        let patience = TimeVal::seconds(PATIENCE.as_secs().cast_signed());
        setsockopt(&socket, SendTimeout, &patience).map_err(unreachable)?;
        connect(socket.as_raw_fd(), &address).map_err(unreachable)?;
        let mut channel = Channel::new(socket);
        channel.set_deadline(Some(Instant::now() + PATIENCE));
        channel.send(&Hello::ours(), &[])?;
        let (hello, _) = channel.recv::<Hello>()?;
        hello.check()?;
        Ok(Client(channel))
    }

    fn ask(&mut self, request: &Request) -> Result<Reply, ClientError> {
        self.ask_with(request, &[])
    }

    /// Asks, with descriptors.
    fn ask_with(
        &mut self,
        request: &Request,
        fds: &[BorrowedFd<'_>],
    ) -> Result<Reply, ClientError> {
        let patience = match request {
            Request::Wait => None,
            Request::Start => Some(START_PATIENCE),
            Request::Trace(duration) => Duration::from_millis(*duration).checked_add(PATIENCE),
            _ => Some(PATIENCE),
        };
        self.0
            .set_deadline(patience.and_then(|p| Instant::now().checked_add(p)));
        self.0.send(request, fds)?;
        match self.0.recv::<Reply>()?.0 {
            Reply::Failed(failure) => Err(checked(failure).into()),
            reply => Ok(reply),
        }
    }

    fn done(&mut self, request: &Request) -> Result<(), ClientError> {
        match self.ask(request)? {
            Reply::Done => Ok(()),
            _ => Err(ClientError::Answer),
        }
    }

    /// Runs the root process.
    pub fn start(&mut self) -> Result<(), ClientError> {
        self.done(&Request::Start)
    }

    /// Whether the root process's program is there; see [`Request::Check`].
    pub fn check(&mut self) -> Result<(), ClientError> {
        self.done(&Request::Check)
    }

    /// Sends a signal; see [`Request::Signal`].
    pub fn signal(&mut self, pid: Option<i32>, signal: i32, all: bool) -> Result<(), ClientError> {
        self.done(&Request::Signal { pid, signal, all })
    }

    /// Pauses all tasks.
    pub fn pause(&mut self) -> Result<(), ClientError> {
        self.done(&Request::Pause)
    }

    /// Lets them go on.
    pub fn resume(&mut self) -> Result<(), ClientError> {
        self.done(&Request::Resume)
    }

    /// Changes what the container may use.
    pub fn update(&mut self, limits: Limits) -> Result<(), ClientError> {
        self.done(&Request::Update(limits))
    }

    /// Asks for a checkpoint; no sandbox can make one yet.
    pub fn checkpoint(&mut self) -> Result<(), ClientError> {
        self.done(&Request::Checkpoint)
    }

    /// Sets the terminal's size.
    pub fn resize(&mut self, size: WindowSize) -> Result<(), ClientError> {
        self.done(&Request::Resize(size))
    }

    /// Where the root process stands.
    pub fn state(&mut self) -> Result<SandboxState, ClientError> {
        match self.ask(&Request::State)? {
            Reply::State(state) => Ok(state),
            _ => Err(ClientError::Answer),
        }
    }

    /// Runs a further process. The connection is its from then on, and with it comes its number
    /// inside.
    pub(crate) fn exec(
        mut self,
        spec: ExecSpec,
        fds: &[BorrowedFd<'_>],
    ) -> Result<(Channel, i32), ClientError> {
        self.0.set_deadline(Some(Instant::now() + START_PATIENCE));
        self.0.send(&Request::Exec(Box::new(spec)), fds)?;
        match self.0.recv::<Reply>()?.0 {
            Reply::Executed(pid) => Ok((self.0, pid)),
            Reply::Failed(failure) => Err(checked(failure).into()),
            _ => Err(ClientError::Answer),
        }
    }

    /// Brings a further container up. The connection is its from then on.
    pub(crate) fn join(
        mut self,
        spec: JoinSpec,
        fds: &[BorrowedFd<'_>],
    ) -> Result<Channel, ClientError> {
        self.0.set_deadline(Some(Instant::now() + START_PATIENCE));
        self.0.send(&Request::Join(Box::new(spec)), fds)?;
        match self.0.recv::<Reply>()?.0 {
            Reply::Done => Ok(self.0),
            Reply::Failed(failure) => Err(checked(failure).into()),
            _ => Err(ClientError::Answer),
        }
    }

    /// What follows is about the container called `id`, which joined.
    pub fn select(&mut self, id: &str) -> Result<(), ClientError> {
        self.done(&Request::Select(id.to_owned()))
    }

    /// Ends the container called `id`, which joined, if it is there, and waits until all that it had
    /// in the sandbox is freed.
    pub fn destroy(&mut self, id: &str) -> Result<(), ClientError> {
        self.done(&Request::Destroy(id.to_owned()))
    }

    /// Waits for the end of the root process; its wait status.
    pub fn wait(&mut self) -> Result<i32, ClientError> {
        match self.ask(&Request::Wait)? {
            Reply::Exited(status) => Ok(status),
            _ => Err(ClientError::Answer),
        }
    }

    /// The container's processes.
    pub fn processes(&mut self) -> Result<Vec<ProcessInfo>, ClientError> {
        match self.ask(&Request::Processes)? {
            Reply::Processes(mut list) => {
                for process in &mut list {
                    shown(&mut process.command, &mut process.state);
                }
                Ok(list)
            }
            _ => Err(ClientError::Answer),
        }
    }

    /// What the container uses.
    pub fn stats(&mut self) -> Result<Stats, ClientError> {
        match self.ask(&Request::Stats)? {
            Reply::Stats(stats) => Ok(stats),
            _ => Err(ClientError::Answer),
        }
    }

    /// Has threads write their stacks into a file; see [`crate::debug`].
    pub(crate) fn stacks(
        &mut self,
        threads: Vec<i32>,
        file: BorrowedFd<'_>,
    ) -> Result<Stacks, ClientError> {
        match self.ask_with(&Request::Stacks(threads), &[file])? {
            Reply::Stacks(mut stacks) => {
                for task in &mut stacks.tasks {
                    shown(&mut task.command, &mut task.state);
                    let call = task.call.take();
                    task.call = call.map(|c| printable(&c, MAX_TEXT).replace('\n', "?"));
                }
                Ok(stacks)
            }
            _ => Err(ClientError::Answer),
        }
    }

    /// How much there is of what the sandbox keeps.
    pub(crate) fn counters(&mut self) -> Result<Counters, ClientError> {
        match self.ask(&Request::Counters)? {
            Reply::Counters(counters) => Ok(counters),
            _ => Err(ClientError::Answer),
        }
    }

    /// Changes what is logged.
    pub(crate) fn set_logging(
        &mut self,
        wanted: Logging,
        file: Option<BorrowedFd<'_>>,
    ) -> Result<(), ClientError> {
        match self.ask_with(&Request::Logging(wanted), file.as_slice())? {
            Reply::Done => Ok(()),
            _ => Err(ClientError::Answer),
        }
    }

    /// Traces into a file.
    pub(crate) fn trace(
        &mut self,
        file: BorrowedFd<'_>,
        duration: Duration,
    ) -> Result<Traced, ClientError> {
        let duration = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        match self.ask_with(&Request::Trace(duration), &[file])? {
            Reply::Traced(traced) => Ok(traced),
            _ => Err(ClientError::Answer),
        }
    }

    /// Begins a profile, whose samples go into a socket.
    pub(crate) fn begin_profile(
        &mut self,
        spec: ProfileSpec,
        socket: BorrowedFd<'_>,
    ) -> Result<Profiling, ClientError> {
        match self.ask_with(&Request::Profile(spec), &[socket])? {
            Reply::Profiling(begun) => Ok(begun),
            _ => Err(ClientError::Answer),
        }
    }

    /// Waits for its end, until `deadline`.
    pub(crate) fn end_profile(
        &mut self,
        deadline: Option<Instant>,
    ) -> Result<Profiled, ClientError> {
        self.0.set_deadline(deadline);
        match self.0.recv::<Reply>()?.0 {
            Reply::Profiled(profiled) => Ok(profiled),
            Reply::Failed(failure) => Err(checked(failure).into()),
            _ => Err(ClientError::Answer),
        }
    }

    /// Whether a reply has come, or can never come, is for this to say, and
    /// [`Client::has_input`].
    pub(crate) fn socket(&self) -> BorrowedFd<'_> {
        self.0.socket()
    }

    /// Whether some of a reply has been read already.
    pub(crate) fn has_input(&self) -> bool {
        self.0.has_input()
    }

    /// A report for people who look for a fault.
    pub fn dump(&mut self) -> Result<String, ClientError> {
        match self.ask(&Request::Dump)? {
            Reply::Text(text) => Ok(printable(&text, MAX_REPORT)),
            _ => Err(ClientError::Answer),
        }
    }
}
