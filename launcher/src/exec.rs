//! `exec`: a further process in a running container.
//!
//! Whoever asked for it holds the connection that is its hand. Attached, that is this process,
//! which waits and ends with its status. Detached, it is a process of its own, the *stand-in*: its
//! number goes into the pid file, signals to it go to the process inside, it ends when that ends
//! and with its status, and it takes that along when it is killed. A caller who reaps what the
//! runtime leaves, as containerd's shim does, sees it as he sees a process of runc's.

use crate::Container;
use crate::attach::{self, Attended, Signals, Terminal};
use crate::client::{Client, ClientError};
use crate::console::{self, ConsoleError, Pair};
use crate::container::write_pid;
use crate::donation::Donations;
use crate::error::LaunchError;
use crate::hooks::{Hook, HookError};
use crate::prepare::{preserve, share_replica};
use crate::sandbox::Console;
use crate::spawn::{errno, host};
use crate::state;
use crate::step;
use crate::sys;
use control::Channel;
use control::boot::ProcessSpec;
use control::message::{ExecSpec, Reply, Request, WindowSize};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;
use std::fs::File;
use std::io::{Seek, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// How long a message of the sandbox's may take once it has begun.
const PATIENCE: Duration = Duration::from_secs(10);
/// The status of a process whose sandbox was killed: it was, too.
pub(crate) const KILLED: i32 = 128 + Signal::SIGKILL as i32;

/// What to run, and how.
#[derive(Clone, Debug)]
pub struct Options {
    /// The process.
    pub process: ProcessSpec,
    /// Who holds its terminal, when it has one.
    pub console: Console,
    /// Whether to come back once it runs.
    pub detach: bool,
    /// File that the number of the process's host process is written to: the stand-in's, or ours.
    pub pid_file: Option<PathBuf>,
    /// How many of our descriptors, from 3 on, it gets.
    pub preserve_fds: u32,
    /// Whether it may also be started while the container is paused, to run once that is resumed.
    pub ignore_paused: bool,
}

/// Runs it. Its exit status, 128 + n for a signal; 0 at once when detached.
pub(crate) fn run(container: &Container, options: &Options) -> Result<i32, LaunchError> {
    let signals = match options.detach {
        true => Signals::block_all(),
        false => Signals::block(),
    };
    let signals = signals.map_err(host("take signals as a descriptor"))?;
    let terminal = terminal(options)?;
    let mut donations = Donations::new("sandbox");
    let mut spec = ExecSpec {
        process: options.process.clone(),
        stdio: [None; 3],
        console: None,
        preserved: Vec::new(),
        while_paused: options.ignore_paused,
        before_start: false,
    };
    match &terminal {
        Some(pair) => {
            spec.process.console_size = console::size(pair.replica.as_fd());
            spec.console = Some(donations.give("terminal", share_replica(pair)?));
        }
        None => {
            let shared = donations.stdio();
            spec.stdio = shared.map_err(|e| host("share stdio")(errno(&e)))?;
        }
    }
    spec.preserved = preserve(&mut donations, options.preserve_fds)?;
    let client = container.client()?;
    step::reached("exec-connected");
    if let (Some(pair), Console::Socket(path)) = (&terminal, &options.console) {
        pair.send_master(path)?;
    }
    let (channel, pid) = client.exec(spec, &donations.borrow())?;
    drop(donations);
    tracing::debug!(pid, "executed");
    step::reached("exec-running");
    let mut process = Executed::new(channel);
    if options.detach {
        let replica = terminal.map(|pair| pair.replica);
        let stand_in = stand_in(process, replica, &signals)?;
        write_pid(options.pid_file.as_deref(), stand_in.pid())?;
        stand_in.let_go();
        return Ok(0);
    }
    write_pid(
        options.pid_file.as_deref(),
        std::process::id().cast_signed(),
    )?;
    let terminal = match terminal {
        Some(pair) if options.console == Console::Caller => Terminal::Held(pair.master),
        _ => Terminal::None,
    };
    Ok(attach::attend(&mut process, terminal, &signals).unwrap_or(KILLED))
}

/// Runs a `startContainer` hook: inside, before the container's program and as who that will be,
/// with `state` on standard input.
pub(crate) fn hook(
    client: Client,
    hook: &Hook,
    own: &ProcessSpec,
    state: &str,
) -> Result<(), LaunchError> {
    let failed = |answer| LaunchError::from(HookError::new("startContainer", hook, answer));
    let path = hook.path.display().to_string();
    let mut donations = Donations::new("sandbox");
    let input = stream_of(state).map_err(|e| failed(format!("cannot be given the state: {e}")))?;
    let null = File::options().write(true).open("/dev/null");
    let null = null.map_err(|e| host("open /dev/null")(errno(&e)))?;
    let input = donations.give("the state", input);
    let null = donations.give("/dev/null", null.into());
    let stderr = sys::borrow(2).map(|fd| donations.share("stderr", fd));
    let stderr = stderr.ok().and_then(Result::ok).unwrap_or(null);
    let spec = ExecSpec {
        process: ProcessSpec {
            args: match hook.args.is_empty() {
                true => vec![path.clone()],
                false => hook.args.clone(),
            },
            program: Some(path),
            env: hook.env.clone().unwrap_or_else(|| own.env.clone()),
            terminal: false,
            console_size: None,
            mortal: false,
            affinity: None,
            ..own.clone()
        },
        stdio: [Some(input), Some(null), Some(stderr)],
        console: None,
        preserved: Vec::new(),
        while_paused: false,
        before_start: true,
    };
    let asked = client.exec(spec, &donations.borrow());
    let (channel, pid) = asked.map_err(|e| failed(format!("cannot be run: {e}")))?;
    tracing::debug!(pid, "executed a hook");
    let mut process = Executed::new(channel);
    let deadline = hook.deadline();
    loop {
        match process.poll_end() {
            Some(Some(0)) => return Ok(()),
            Some(Some(status)) => return Err(failed(format!("failed: exit status: {status}"))),
            Some(None) => return Err(failed("failed: the sandbox ended".to_owned())),
            None => {}
        }
        let left = match deadline.map(|d| d.saturating_duration_since(Instant::now())) {
            None => PollTimeout::NONE,
            // It is killed when the connection goes.
            Some(Duration::ZERO) => return Err(failed(hook.too_late())),
            // Rounded up, lest the last millisecond is spent in turns.
            Some(left) => {
                PollTimeout::try_from(left + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX)
            }
        };
        let mut fds = [PollFd::new(process.channel.socket(), PollFlags::POLLIN)];
        let _or_late = poll(&mut fds, left);
    }
}

/// A file that holds `text`, at its beginning.
fn stream_of(text: &str) -> std::io::Result<OwnedFd> {
    let fd = rustix::fs::memfd_create("hook-state", rustix::fs::MemfdFlags::CLOEXEC)?;
    let mut file = File::from(fd);
    file.write_all(text.as_bytes())?;
    file.rewind()?;
    Ok(file.into())
}

fn terminal(options: &Options) -> Result<Option<Pair>, LaunchError> {
    if !options.process.terminal {
        return Ok(None);
    }
    if options.console == Console::Nobody {
        return Err(ConsoleError::NobodyForExec.into());
    }
    let size = sys::borrow(0).ok().and_then(console::size);
    Ok(Some(Pair::new(options.process.console_size.or(size))?))
}

/// A process that stands for one inside. Killed when dropped, and with it that one, unless it was
/// let go.
pub(crate) struct StandIn(Option<i32>);

impl StandIn {
    /// Its number.
    pub(crate) fn pid(&self) -> i32 {
        self.0.unwrap_or(0)
    }

    /// Lets it run on without us.
    pub(crate) fn let_go(mut self) {
        self.0 = None;
    }
}

impl Drop for StandIn {
    fn drop(&mut self) {
        if let Some(pid) = self.0 {
            let child = nix::unistd::Pid::from_raw(pid);
            let _gone = nix::sys::signal::kill(child, Signal::SIGKILL);
            let _gone = nix::sys::wait::waitpid(child, None);
        }
    }
}

/// Leaves the process to a stand-in. Where that fails, it is killed.
pub(crate) fn stand_in(
    mut process: Executed,
    replica: Option<OwnedFd>,
    signals: &Signals,
) -> Result<StandIn, LaunchError> {
    let null = File::options().read(true).write(true).open("/dev/null");
    let null = null.map_err(|e| host("open /dev/null")(errno(&e)))?;
    let Some(pid) = sys::fork().map_err(host("start the process that stands for it"))? else {
        let replica_fd = replica.as_ref().map(AsFd::as_fd);
        let kept = [
            Some(process.channel.socket()),
            Some(signals.as_fd()),
            replica_fd,
        ];
        let kept: Vec<_> = kept.into_iter().flatten().collect();
        sys::become_stand_in(null.as_fd(), &kept, replica_fd);
        let terminal = replica.map_or(Terminal::None, Terminal::Watched);
        let status = attach::attend(&mut process, terminal, signals);
        std::process::exit(status.unwrap_or(KILLED));
    };
    step::reached("exec-stand-in");
    Ok(StandIn(Some(pid)))
}

/// A process in our hand, or a container that joined a sandbox.
pub(crate) struct Executed {
    channel: Channel,
}

impl Executed {
    /// The one whose connection this is.
    pub(crate) fn new(channel: Channel) -> Executed {
        Executed { channel }
    }

    fn tell(&mut self, request: &Request) {
        // One that cannot take it any more is about to end anyway.
        if let Err(e) = self.channel.send(request, &[]) {
            tracing::debug!("{request:?} was not handed on: {e}");
        }
    }
}

impl Attended for Executed {
    fn poll_end(&mut self) -> Option<Option<i32>> {
        let mut fds = [PollFd::new(self.channel.socket(), PollFlags::POLLIN)];
        // A quick end may have been read together with the beginning.
        if !self.channel.has_input() && !matches!(poll(&mut fds, PollTimeout::ZERO), Ok(1..)) {
            return None;
        }
        self.channel.set_deadline(Some(Instant::now() + PATIENCE));
        match self.channel.recv::<Reply>() {
            Ok((Reply::Exited(status), _)) => Some(Some(state::exit_code(status))),
            other => {
                let lost = other.map_or_else(ClientError::from, |_| ClientError::Answer);
                tracing::warn!("{lost}; the process is taken for killed");
                Some(None)
            }
        }
    }

    fn news(&self) -> Option<BorrowedFd<'_>> {
        Some(self.channel.socket())
    }

    fn signal(&mut self, signal: Signal) {
        self.tell(&Request::Signal {
            pid: None,
            signal: signal as i32,
            all: false,
        });
    }

    fn resize(&mut self, size: WindowSize) {
        self.tell(&Request::Resize(size));
    }

    fn kill(&mut self) {
        self.signal(Signal::SIGKILL);
    }
}
