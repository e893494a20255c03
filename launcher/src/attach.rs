//! Staying with a container, or with a process in one: its terminal, the signals meant for it, and
//! its end.

use crate::console::{self, RawMode};
use control::message::WindowSize;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::pty::PtyMaster;
use nix::sys::signal::{SigSet, SigmaskHow, Signal, sigprocmask};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::stat::{SFlag, fstat};
use nix::unistd::{read, write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Signals that are handed on to the container.
const FORWARDED: &[Signal] = &[
    Signal::SIGHUP,
    Signal::SIGINT,
    Signal::SIGQUIT,
    Signal::SIGTERM,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGALRM,
    Signal::SIGCONT,
];
/// Signals that are not handed on by a process that stands for one inside: its own, and those that
/// cannot be taken.
const KEPT: &[Signal] = &[
    Signal::SIGKILL,
    Signal::SIGSTOP,
    Signal::SIGCHLD,
    Signal::SIGWINCH,
];
/// Those that ask this process to end, while there is no container yet to hand them to.
const ENDING: &[Signal] = &[
    Signal::SIGHUP,
    Signal::SIGINT,
    Signal::SIGQUIT,
    Signal::SIGTERM,
];
/// That many interrupts mean that somebody wants it to end whatever the container does with them.
const PATIENCE: usize = 3;
const CHUNK: usize = 8192;

/// The signals that concern an attached container, as a descriptor.
#[derive(Debug)]
pub struct Signals(SignalFd);

impl Signals {
    /// Blocks them from now on; to be called before the container is started, so that none is
    /// lost.
    pub fn block() -> Result<Signals, Errno> {
        Signals::block_these(FORWARDED.iter().copied().collect())
    }

    /// As [`Signals::block`], of all signals that there are names for.
    pub(crate) fn block_all() -> Result<Signals, Errno> {
        let forwarded = Signal::iterator().filter(|s| !KEPT.contains(s));
        Signals::block_these(forwarded.collect())
    }

    fn block_these(mut set: SigSet) -> Result<Signals, Errno> {
        set.add(Signal::SIGCHLD);
        set.add(Signal::SIGWINCH);
        sigprocmask(SigmaskHow::SIG_BLOCK, Some(&set), None)?;
        SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK).map(Signals)
    }

    /// Waits until `fd` is readable or closed; a signal that asks this process to end comes back
    /// instead.
    pub(crate) fn wait_unless_ready(&self, fd: BorrowedFd<'_>) -> Option<Signal> {
        loop {
            let mut fds = [
                PollFd::new(fd, PollFlags::POLLIN),
                PollFd::new(self.0.as_fd(), PollFlags::POLLIN),
            ];
            let _interrupted = poll(&mut fds, PollTimeout::NONE);
            if fds[0].any() == Some(true) {
                return None;
            }
            while let Ok(Some(info)) = self.0.read_signal() {
                let signal = Signal::try_from(info.ssi_signo as i32).ok();
                if let Some(signal) = signal.filter(|s| ENDING.contains(s)) {
                    return Some(signal);
                }
            }
        }
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Bytes on their way from one descriptor to another.
struct Flow {
    held: Vec<u8>,
    open: bool,
}

impl Flow {
    fn new() -> Flow {
        Flow {
            held: Vec::new(),
            open: true,
        }
    }

    fn wants_input(&self) -> bool {
        self.open && self.held.is_empty()
    }

    /// Nothing will come any more: an end was closed.
    fn is_over(&self) -> bool {
        !self.open && self.held.is_empty()
    }

    fn read(&mut self, from: BorrowedFd<'_>) {
        let mut chunk = [0; CHUNK];
        match read(from, &mut chunk) {
            Ok(n @ 1..) => self
                .held
                .extend_from_slice(chunk.get(..n).unwrap_or_default()),
            Err(Errno::EAGAIN | Errno::EINTR) => {}
            // End of input; a terminal whose other end is closed says EIO.
            Ok(_) | Err(_) => self.open = false,
        }
    }

    fn write(&mut self, to: BorrowedFd<'_>) {
        match write(to, &self.held) {
            Ok(n) => drop(self.held.drain(..n)),
            Err(Errno::EAGAIN | Errno::EINTR) => {}
            Err(_) => {
                self.held.clear();
                self.open = false;
            }
        }
    }
}

/// Whether `fd` is a terminal that nobody sits at any more: its other end is closed.
fn hung_up(fd: BorrowedFd<'_>) -> bool {
    let mut fds = [PollFd::new(fd, PollFlags::empty())];
    is_device(fd)
        && poll(&mut fds, PollTimeout::ZERO).is_ok()
        && fds[0]
            .revents()
            .is_some_and(|e| e.contains(PollFlags::POLLHUP))
}

/// Whether `fd` may be a terminal. One that hung up does not say so to isatty(3) any more; pipes
/// and sockets whose writer is gone have merely ended.
fn is_device(fd: BorrowedFd<'_>) -> bool {
    fstat(fd).is_ok_and(|s| s.st_mode & SFlag::S_IFMT.bits() == SFlag::S_IFCHR.bits())
}

/// What is attended.
pub(crate) trait Attended {
    /// Whether it ended: then its exit status, if it could be had.
    fn poll_end(&mut self) -> Option<Option<i32>>;
    /// What becomes readable when it ends; without one SIGCHLD tells.
    fn news(&self) -> Option<BorrowedFd<'_>>;
    /// Hands a signal on.
    fn signal(&mut self, signal: Signal);
    /// Tells it of a new size of its terminal.
    fn resize(&mut self, size: WindowSize);
    /// Ends it whatever it does.
    fn kill(&mut self);
}

/// Its terminal, from our side.
pub(crate) enum Terminal {
    /// There is none, or somebody else's.
    None,
    /// Our own terminal is joined to it.
    Held(PtyMaster),
    /// Somebody else holds it; it is the controlling terminal of this process, which thus hears of
    /// new sizes.
    Watched(OwnedFd),
}

/// Stays until it ended; its exit status.
pub(crate) fn attend(
    subject: &mut dyn Attended,
    terminal: Terminal,
    signals: &Signals,
) -> Option<i32> {
    let (mut pair, watched) = match terminal {
        Terminal::None => (None, None),
        Terminal::Held(master) => (Some(master), None),
        Terminal::Watched(replica) => (None, Some(replica)),
    };
    let stdin = std::io::stdin();
    let stdout = std::io::stdout();
    let has_terminal = pair.is_some();
    let raw = pair.as_ref().and_then(|_| RawMode::enter(stdin.as_fd()));
    if let Some(master) = &pair {
        let _blocking_is_survivable =
            fcntl(master, FcntlArg::F_SETFL(OFlag::O_RDWR | OFlag::O_NONBLOCK));
    }
    // It may have changed before we were its session.
    if let Some(size) = watched.as_ref().and_then(|w| console::size(w.as_fd())) {
        subject.resize(size);
    }
    let (mut typed, mut shown) = (Flow::new(), Flow::new());
    resident::let_go();
    let mut interrupts = 0;
    let status = loop {
        if let Some(ended) = subject.poll_end() {
            break ended;
        }
        wait_for_events(
            signals,
            subject.news(),
            pair.as_ref().map(AsFd::as_fd),
            &mut typed,
            &mut shown,
        );
        if pair.is_some() && (hung_up(stdin.as_fd()) || shown.is_over()) {
            // Nobody is left to type, or to see. Without its master the container's terminal
            // hangs up, too; what that does to programs is between them and the sentry.
            pair = None;
        }
        while let Ok(Some(info)) = signals.0.read_signal() {
            match Signal::try_from(info.ssi_signo as i32) {
                Ok(Signal::SIGCHLD) | Err(_) => {}
                Ok(Signal::SIGWINCH) => {
                    if let (Some(master), Some(size)) = (&pair, console::size(stdin.as_fd())) {
                        // A sandbox process hears of it: it is the terminal's session.
                        let _unsized = console::resize(master.as_fd(), size);
                        subject.resize(size);
                    }
                    let size = watched.as_ref().and_then(|w| console::size(w.as_fd()));
                    if let Some(size) = size {
                        subject.resize(size);
                    }
                }
                // Of our own terminal's hang-up the container hears by its own.
                Ok(Signal::SIGHUP)
                    if has_terminal
                        && info.ssi_code == libc::SI_KERNEL
                        && hung_up(stdin.as_fd()) => {}
                // The same of the one it was given: the sentry sees it, too.
                Ok(Signal::SIGHUP | Signal::SIGCONT)
                    if watched.is_some() && info.ssi_code == libc::SI_KERNEL => {}
                Ok(signal) => {
                    interrupts += usize::from(signal == Signal::SIGINT);
                    if interrupts >= PATIENCE {
                        subject.kill();
                    } else {
                        subject.signal(signal);
                    }
                }
            }
        }
    };
    if let Some(master) = &pair {
        // What the container wrote last.
        while shown.open || !shown.held.is_empty() {
            if shown.held.is_empty() {
                let before = shown.open;
                shown.read(master.as_fd());
                if before && shown.held.is_empty() {
                    break;
                }
            } else {
                shown.write(stdout.as_fd());
            }
        }
    }
    drop(raw);
    status
}

fn wait_for_events(
    signals: &Signals,
    news: Option<BorrowedFd<'_>>,
    master: Option<BorrowedFd<'_>>,
    typed: &mut Flow,
    shown: &mut Flow,
) {
    let (stdin, stdout) = (std::io::stdin(), std::io::stdout());
    let mut fds = vec![PollFd::new(signals.0.as_fd(), PollFlags::POLLIN)];
    fds.extend(news.map(|fd| PollFd::new(fd, PollFlags::POLLIN)));
    let Some(master) = master else {
        let _interrupted = poll(&mut fds, PollTimeout::NONE);
        return;
    };
    let mut flags = PollFlags::empty();
    flags.set(PollFlags::POLLIN, shown.wants_input());
    flags.set(PollFlags::POLLOUT, !typed.held.is_empty());
    let mut add = |fd, flags: PollFlags, wanted: bool| {
        wanted.then(|| {
            fds.push(PollFd::new(fd, flags));
            fds.len() - 1
        })
    };
    // A descriptor nobody waits for is left out: its hang-up would wake us again and again.
    let at_master = add(master, flags, !flags.is_empty());
    let mut typing = PollFlags::empty();
    typing.set(PollFlags::POLLIN, typed.wants_input());
    // The hang-up of a person's terminal is always waited for, and ends the wait for both.
    let at_stdin = add(
        stdin.as_fd(),
        typing,
        typed.wants_input() || is_device(stdin.as_fd()),
    );
    let at_stdout = add(stdout.as_fd(), PollFlags::POLLOUT, !shown.held.is_empty());
    if poll(&mut fds, PollTimeout::NONE).is_err() {
        return;
    }
    let events = |at: Option<usize>| {
        at.and_then(|i| fds.get(i))
            .and_then(PollFd::revents)
            .unwrap_or(PollFlags::empty())
    };
    let input = PollFlags::POLLIN | PollFlags::POLLHUP | PollFlags::POLLERR;
    let output = PollFlags::POLLOUT | PollFlags::POLLERR;
    if events(at_master).intersects(input) && shown.wants_input() {
        shown.read(master);
    }
    if events(at_master).intersects(output) && !typed.held.is_empty() {
        typed.write(master);
    }
    if events(at_stdin).intersects(input) && typed.wants_input() {
        typed.read(stdin.as_fd());
    }
    if events(at_stdout).intersects(output) {
        shown.write(stdout.as_fd());
    }
}
