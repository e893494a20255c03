//! The control server: answers the launcher's requests about this sandbox.
//!
//! One thread accepts and watches the launcher until that lets go; each connection has a
//! thread of its own, so that a `wait` holds nobody up. All sleep when there is nothing to do. A
//! connection that breaks the protocol is closed; nobody else notices.

use crate::contract::{End, Kernel, Process, Target};
use crate::error::BootError;
use crate::process::{EXIT_GOFER_GONE, EXIT_LAUNCHER_GONE};
use control::Channel;
use control::hello::Hello;
use control::message::{Failure, FailureKind, Reply, Request};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{SockFlag, accept4};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// Most connections served at once; further ones are closed at once.
const MAX_CONNECTIONS: usize = 256;
/// A connection's thread needs little, but for one that brings a container up.
const STACK: usize = 512 << 10;
/// How long the end of the sandbox waits for those who were told of it.
const GRACE: Duration = Duration::from_millis(200);

/// The running server.
pub(crate) struct Server {
    shared: Arc<Shared>,
}

struct Shared {
    root: Target,
    connections: AtomicUsize,
    /// How many callers are to hear of an end: inside [`Request::Wait`], or with a process.
    waiting: Mutex<usize>,
    told: Condvar,
}

/// Those without whom the sandbox ends: watched for the closing of their ends.
pub(crate) struct Watched {
    /// Who made the sandbox, until a byte comes from him ([`control::boot::LET_GO`]).
    pub(crate) launcher: Option<OwnedFd>,
    /// Who serves the container's root.
    pub(crate) gofer: Option<OwnedFd>,
}

/// Starts serving.
pub(crate) fn spawn(
    listener: Option<OwnedFd>,
    watched: Watched,
    kernel: Arc<dyn Kernel>,
) -> Result<Server, BootError> {
    let end = End::new().map_err(BootError::host("make an event descriptor"))?;
    let root = Target {
        kernel,
        end: Arc::new(end),
    };
    let shared = Arc::new(Shared {
        root,
        connections: AtomicUsize::new(0),
        waiting: Mutex::new(0),
        told: Condvar::new(),
    });
    if listener.is_some() || watched.launcher.is_some() || watched.gofer.is_some() {
        let shared = shared.clone();
        thread::Builder::new()
            .name("control".into())
            .stack_size(STACK)
            .spawn(move || shared.accept(listener.as_ref(), watched))
            .map_err(|e| BootError::Host {
                what: "start the control thread",
                answer: Errno::from_raw(e.raw_os_error().unwrap_or(0)),
            })?;
    }
    Ok(Server { shared })
}

impl Server {
    /// Tells those who wait for the end, and gives them a moment to hear it.
    pub(crate) fn finish(self, wait_status: i32) {
        self.shared.root.end.announce(wait_status);
        let waiting = self
            .shared
            .waiting
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let _done = self
            .shared
            .told
            .wait_timeout_while(waiting, GRACE, |n| *n > 0);
    }
}

impl Shared {
    fn accept(self: Arc<Self>, listener: Option<&OwnedFd>, watched: Watched) {
        let mut held_by = watched.launcher;
        let gofer = watched.gofer.as_ref();
        let mut patience = PollTimeout::from(resident::REST_MS);
        loop {
            let launcher = held_by.as_ref();
            let mut fds = Vec::with_capacity(3);
            fds.extend(launcher.map(|l| PollFd::new(l.as_fd(), PollFlags::POLLIN)));
            // Hang-up is reported without being asked for.
            fds.extend(gofer.map(|g| PollFd::new(g.as_fd(), PollFlags::empty())));
            fds.extend(listener.map(|l| PollFd::new(l.as_fd(), PollFlags::POLLIN)));
            match poll(&mut fds, patience) {
                Err(_) => continue,
                Ok(0) => {
                    // Once: an idle sandbox wakes nobody.
                    resident::let_go();
                    patience = PollTimeout::NONE;
                    continue;
                }
                Ok(_) => {}
            }
            let ready = |fd: Option<&OwnedFd>| {
                fds.iter().any(|p| {
                    Some(raw(p.as_fd())) == fd.map(|f| raw(f.as_fd())) && p.any() == Some(true)
                })
            };
            let (launcher_speaks, gofer_gone) = (ready(launcher), ready(gofer));
            if let Some(launcher) = launcher.filter(|_| launcher_speaks) {
                match nix::unistd::read(launcher, &mut [0]) {
                    Ok(1..) => held_by = None,
                    Err(Errno::EINTR) => {}
                    _ => {
                        tracing::info!("the launcher is gone");
                        std::process::exit(EXIT_LAUNCHER_GONE);
                    }
                }
                continue;
            }
            if gofer_gone {
                // It serves until we close: somebody killed it, or it crashed.
                tracing::error!("the gofer is gone");
                crate::log::tell_launcher!("the gofer ended, and with it the container's files");
                std::process::exit(EXIT_GOFER_GONE);
            }
            let Some(listener) = listener.filter(|_| ready(listener)) else {
                continue;
            };
            match accept4(listener.as_raw_fd(), SockFlag::SOCK_CLOEXEC) {
                Ok(number) => self.clone().connection(number),
                Err(Errno::EMFILE | Errno::ENFILE | Errno::ENOMEM) => {
                    // The connection stays in the backlog; look again when there may be room.
                    thread::sleep(Duration::from_millis(50));
                }
                Err(e) => tracing::debug!("accept: {e}"),
            }
        }
    }

    fn connection(self: Arc<Self>, number: i32) {
        let Ok(socket) = crate::sys::adopt(number) else {
            return;
        };
        if self.connections.fetch_add(1, Ordering::Relaxed) >= MAX_CONNECTIONS {
            self.connections.fetch_sub(1, Ordering::Relaxed);
            tracing::warn!("too many control connections");
            return;
        }
        let shared = self.clone();
        let spawned = thread::Builder::new()
            .name("connection".into())
            .stack_size(STACK)
            .spawn(move || {
                if let Err(e) = shared.serve(&mut Channel::new(socket)) {
                    tracing::debug!("control connection: {e}");
                }
                shared.connections.fetch_sub(1, Ordering::Relaxed);
            });
        if spawned.is_err() {
            self.connections.fetch_sub(1, Ordering::Relaxed);
        }
    }

    fn serve(&self, channel: &mut Channel) -> Result<(), Box<dyn std::error::Error>> {
        let (hello, _) = channel.recv::<Hello>()?;
        channel.send(&Hello::ours(), &[])?;
        hello.check()?;
        let mut target = self.root.clone();
        loop {
            let (request, fds) = match channel.recv::<Request>() {
                Err(control::ChannelError::Closed) => return Ok(()),
                other => other?,
            };
            match request {
                // Its environment is nobody's business.
                Request::Exec(_) => tracing::debug!("control: exec"),
                Request::Join(_) => tracing::debug!("control: join"),
                _ => tracing::debug!(?request, "control"),
            }
            match request {
                Request::Wait => self.counted(|| wait(channel, &target.end))?,
                Request::Exec(spec) => match target.kernel.exec(&spec, fds) {
                    Ok(process) => {
                        drop(spec);
                        return self
                            .counted(|| attend(channel, &*process))
                            .map_err(Into::into);
                    }
                    Err(failure) => channel.send(&Reply::Failed(failure), &[])?,
                },
                Request::Join(spec) => match target.kernel.join(&spec, fds) {
                    Ok(container) => {
                        drop(spec);
                        return self
                            .counted(|| attend(channel, &*container))
                            .map_err(Into::into);
                    }
                    Err(failure) => channel.send(&Reply::Failed(failure), &[])?,
                },
                Request::Select(id) => match self.root.kernel.joined(&id) {
                    Some(joined) => {
                        target = joined;
                        channel.send(&Reply::Done, &[])?;
                    }
                    None => channel.send(&Reply::Failed(no_container()), &[])?,
                },
                Request::Trace(duration) => match target.kernel.begin_trace(fds) {
                    Ok(()) => self.counted(|| {
                        sit_out(channel, &target.end, Duration::from_millis(duration));
                        channel.send(&Reply::Traced(target.kernel.end_trace()), &[])
                    })?,
                    Err(failure) => channel.send(&Reply::Failed(failure), &[])?,
                },
                Request::Profile(spec) => match target.kernel.profile(&spec, fds) {
                    Ok(profile) => self.counted(|| {
                        channel.send(&Reply::Profiling(profile.begun().clone()), &[])?;
                        sit_out(channel, &target.end, Duration::from_millis(spec.duration));
                        channel.send(&Reply::Profiled(profile.end()), &[])
                    })?,
                    Err(failure) => channel.send(&Reply::Failed(failure), &[])?,
                },
                _ => channel.send(&answer(&*target.kernel, request, fds), &[])?,
            }
        }
    }

    /// Does what the end of the sandbox waits for.
    fn counted<T>(&self, work: impl FnOnce() -> T) -> T {
        let count = |change: fn(usize) -> usize| {
            let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            *waiting = change(*waiting);
            self.told.notify_all();
        };
        count(|n| n + 1);
        let result = work();
        count(|n| n.saturating_sub(1));
        result
    }
}

fn answer(kernel: &dyn Kernel, request: Request, fds: Vec<OwnedFd>) -> Reply {
    let done = |result: Result<(), Failure>| match result {
        Ok(()) => Reply::Done,
        Err(failure) => Reply::Failed(failure),
    };
    match request {
        Request::Start => done(kernel.start()),
        Request::Check => done(kernel.check()),
        Request::State => Reply::State(kernel.state()),
        Request::Signal { pid, signal, all } => done(kernel.signal(pid, signal, all)),
        Request::Resize(size) => {
            kernel.resize(size);
            Reply::Done
        }
        Request::Pause => done(kernel.pause()),
        Request::Resume => {
            kernel.resume();
            Reply::Done
        }
        Request::Update(wanted) => done(kernel.update(&wanted)),
        Request::Destroy(id) => done(kernel.destroy(&id)),
        Request::Checkpoint | Request::Restore => Reply::Failed(Failure::new(
            FailureKind::Unsupported,
            "checkpoint and restore are not supported yet",
        )),
        Request::Stacks(threads) => match kernel.stacks(&threads, fds) {
            Ok(stacks) => Reply::Stacks(stacks),
            Err(failure) => Reply::Failed(failure),
        },
        Request::Counters => Reply::Counters(kernel.counters()),
        Request::Logging(wanted) => done(kernel.logging(&wanted, fds)),
        Request::Dump => Reply::Text(kernel.dump()),
        Request::Processes => Reply::Processes(kernel.processes()),
        Request::Stats => Reply::Stats(kernel.stats()),
        _ => Reply::Failed(Failure::new(
            FailureKind::Invalid,
            "this sandbox does not know that request",
        )),
    }
}

/// Until `duration` is over, a container ended, or the caller went away.
fn sit_out(channel: &Channel, end: &End, duration: Duration) {
    let deadline = Instant::now().checked_add(duration);
    loop {
        let left = deadline.map(|d| d.saturating_duration_since(Instant::now()));
        // Rounded up, so that the last wait is not a busy one.
        let left = left.map_or(PollTimeout::NONE, |left| {
            let whole = left.as_micros().div_ceil(1000);
            PollTimeout::try_from(whole).unwrap_or(PollTimeout::MAX)
        });
        let mut fds = [
            PollFd::new(end.fd(), PollFlags::POLLIN),
            // Hang-up is reported without being asked for.
            PollFd::new(channel.socket(), PollFlags::empty()),
        ];
        match poll(&mut fds, left) {
            Ok(0) if left == PollTimeout::MAX => {}
            Err(Errno::EINTR) => {}
            _ => return,
        }
    }
}

/// Until a container ended, or the caller went away.
fn wait(channel: &Channel, end: &End) -> Result<(), control::ChannelError> {
    let mut fds = [
        PollFd::new(end.fd(), PollFlags::POLLIN),
        // Hang-up is reported without being asked for.
        PollFd::new(channel.socket(), PollFlags::empty()),
    ];
    while poll(&mut fds, PollTimeout::NONE) == Err(Errno::EINTR) {}
    match (fds[0].any(), end.status()) {
        (Some(true), Some(status)) => channel.send(&Reply::Exited(status), &[]),
        _ => Err(control::ChannelError::Closed),
    }
}

fn no_container() -> Failure {
    let text = "no such container has joined this sandbox, or it has ended";
    Failure::new(FailureKind::NoContainer, text)
}

/// Stays with a process until it ended, or the caller went away.
fn attend(channel: &mut Channel, process: &dyn Process) -> Result<(), control::ChannelError> {
    let begun = process.pid().map_or(Reply::Done, Reply::Executed);
    channel.send(&begun, &[])?;
    loop {
        if let Some(status) = process.ended() {
            return channel.send(&Reply::Exited(status), &[]);
        }
        let mut fds = Vec::with_capacity(3);
        fds.push(PollFd::new(process.news(), PollFlags::POLLIN));
        fds.push(PollFd::new(channel.socket(), PollFlags::POLLIN));
        let other = process.depends_on();
        fds.extend(other.map(|fd| PollFd::new(fd, PollFlags::empty())));
        // A message may have been read together with the one before it.
        if !channel.has_input()
            && (poll(&mut fds, PollTimeout::NONE).is_err() || fds[1].any() != Some(true))
        {
            continue;
        }
        match channel.recv::<Request>()?.0 {
            Request::Signal {
                pid: None, signal, ..
            } => process.signal(signal),
            Request::Resize(size) => process.resize(size),
            other => tracing::debug!(?other, "not on a process's connection"),
        }
    }
}

fn raw(fd: BorrowedFd<'_>) -> i32 {
    fd.as_raw_fd()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::Profile;
    use control::boot::Limits;
    use control::debug::{Counters, Logging, Stacks, Traced};
    use control::message::{ExecSpec, JoinSpec, ProcessInfo, SandboxState, Stats, WindowSize};
    use control::profile::ProfileKind;
    use control::profile::{ProfileSpec, Profiled, Profiling};
    use nix::sys::eventfd::EventFd;
    use std::sync::atomic::AtomicI32;

    struct Fake;

    impl Kernel for Fake {
        fn start(&self) -> Result<(), Failure> {
            Err(Failure::new(FailureKind::ProgramMissing, "no such program"))
        }
        fn check(&self) -> Result<(), Failure> {
            self.start()
        }
        fn signal(&self, pid: Option<i32>, _: i32, _: bool) -> Result<(), Failure> {
            pid.map_or(Ok(()), |_| {
                Err(Failure::new(FailureKind::NoProcess, "no such process"))
            })
        }
        fn wait(&self) -> i32 {
            0
        }
        fn state(&self) -> SandboxState {
            SandboxState::Created
        }
        fn resize(&self, _: WindowSize) {}
        fn dump(&self) -> String {
            "nothing".to_owned()
        }
        fn processes(&self) -> Vec<ProcessInfo> {
            Vec::new()
        }
        fn stats(&self) -> Stats {
            Stats::default()
        }
        fn pause(&self) -> Result<(), Failure> {
            Ok(())
        }
        fn resume(&self) {}
        fn update(&self, _: &Limits) -> Result<(), Failure> {
            Ok(())
        }
        fn stacks(&self, _: &[i32], fds: Vec<OwnedFd>) -> Result<Stacks, Failure> {
            match fds.len() {
                1 => Ok(Stacks::default()),
                _ => Err(Failure::new(FailureKind::Invalid, "no file")),
            }
        }
        fn counters(&self) -> Counters {
            Counters::default()
        }
        fn logging(&self, _: &Logging, _: Vec<OwnedFd>) -> Result<(), Failure> {
            Ok(())
        }
        fn begin_trace(&self, _: Vec<OwnedFd>) -> Result<(), Failure> {
            Ok(())
        }
        fn end_trace(&self) -> Traced {
            Traced { events: 3, lost: 0 }
        }
        fn profile(&self, _: &ProfileSpec, _: Vec<OwnedFd>) -> Result<Box<dyn Profile>, Failure> {
            Ok(Box::new(FakeProfile::default()))
        }
        fn join(&self, _: &JoinSpec, _: Vec<OwnedFd>) -> Result<Arc<dyn Process>, Failure> {
            Err(Failure::new(FailureKind::State, "nobody joins"))
        }
        fn joined(&self, id: &str) -> Option<Target> {
            let end = Arc::new(End::new().unwrap());
            end.announce(3 << 8);
            (id == "there").then(|| Target {
                kernel: Arc::new(Fake),
                end,
            })
        }
        fn destroy(&self, _: &str) -> Result<(), Failure> {
            Ok(())
        }
        fn exec(&self, spec: &ExecSpec, _: Vec<OwnedFd>) -> Result<Arc<dyn Process>, Failure> {
            match spec.process.args.first() {
                Some(_) => Ok(Arc::new(FakeProcess::new())),
                None => Err(Failure::new(FailureKind::ProgramMissing, "nothing to run")),
            }
        }
    }

    #[derive(Default)]
    struct FakeProfile(Profiling);

    impl Profile for FakeProfile {
        fn begun(&self) -> &Profiling {
            &self.0
        }
        fn end(self: Box<Self>) -> Profiled {
            Profiled {
                samples: 5,
                lost: 0,
            }
        }
    }

    /// One that ends when it is signalled, with the signal's number as its status.
    struct FakeProcess {
        news: EventFd,
        status: AtomicI32,
    }

    impl FakeProcess {
        fn new() -> FakeProcess {
            FakeProcess {
                news: EventFd::new().unwrap(),
                status: AtomicI32::new(-1),
            }
        }
    }

    impl Process for FakeProcess {
        fn pid(&self) -> Option<i32> {
            Some(7)
        }
        fn ended(&self) -> Option<i32> {
            Some(self.status.load(Ordering::SeqCst)).filter(|s| *s >= 0)
        }
        fn news(&self) -> BorrowedFd<'_> {
            self.news.as_fd()
        }
        fn depends_on(&self) -> Option<BorrowedFd<'_>> {
            None
        }
        fn signal(&self, signal: i32) {
            self.status.store(signal, Ordering::SeqCst);
            self.news.write(1).unwrap();
        }
        fn resize(&self, _: WindowSize) {}
    }

    /// A connection to a server, after the hellos.
    fn connected() -> (Server, Channel) {
        let nobody = Watched {
            launcher: None,
            gofer: None,
        };
        let server = spawn(None, nobody, Arc::new(Fake)).unwrap();
        let (mut ours, mut theirs) = Channel::pair().unwrap();
        let shared = server.shared.clone();
        thread::spawn(move || drop(shared.serve(&mut theirs)));
        ours.send(&Hello::ours(), &[]).unwrap();
        ours.recv::<Hello>().unwrap().0.check().unwrap();
        (server, ours)
    }

    fn ask(channel: &mut Channel, request: &Request) -> Reply {
        channel.send(request, &[]).unwrap();
        channel.recv::<Reply>().unwrap().0
    }

    #[test]
    fn requests_are_answered_in_kind() {
        let (_server, mut channel) = connected();
        assert_eq!(
            ask(&mut channel, &Request::State),
            Reply::State(SandboxState::Created)
        );
        assert!(
            matches!(ask(&mut channel, &Request::Start), Reply::Failed(f) if f.text == "no such program")
        );
        assert_eq!(
            ask(&mut channel, &Request::Processes),
            Reply::Processes(Vec::new())
        );
        assert_eq!(
            ask(&mut channel, &Request::Stats),
            Reply::Stats(Stats::default())
        );
        let signal = |pid| Request::Signal {
            pid,
            signal: 15,
            all: false,
        };
        assert_eq!(ask(&mut channel, &signal(None)), Reply::Done);
        assert!(
            matches!(ask(&mut channel, &signal(Some(9))), Reply::Failed(f) if f.kind == FailureKind::NoProcess)
        );
    }

    fn exec(args: &[&str]) -> Request {
        let mut spec = ExecSpec {
            process: Default::default(),
            stdio: [None; 3],
            console: None,
            preserved: Vec::new(),
            while_paused: false,
            before_start: false,
        };
        spec.process.args = args.iter().map(|&a| a.to_owned()).collect();
        Request::Exec(Box::new(spec))
    }

    #[test]
    fn a_connection_is_a_processs_until_its_end() {
        let (_server, mut channel) = connected();
        assert!(
            matches!(ask(&mut channel, &exec(&[])), Reply::Failed(f) if f.kind == FailureKind::ProgramMissing)
        );
        assert_eq!(ask(&mut channel, &exec(&["it"])), Reply::Executed(7));
        channel
            .send(&Request::Resize(WindowSize::default()), &[])
            .unwrap();
        let signal = Request::Signal {
            pid: None,
            signal: 9,
            all: false,
        };
        assert_eq!(ask(&mut channel, &signal), Reply::Exited(9));
        assert!(channel.recv::<Reply>().is_err());
    }

    #[test]
    fn a_waiter_is_told_of_the_end() {
        let (server, mut channel) = connected();
        channel.send(&Request::Wait, &[]).unwrap();
        while *server.shared.waiting.lock().unwrap() == 0 {
            thread::yield_now();
        }
        server.finish(0x700);
        assert_eq!(channel.recv::<Reply>().unwrap().0, Reply::Exited(0x700));
    }

    #[test]
    fn a_waiter_that_goes_away_is_let_go() {
        let (server, channel) = connected();
        channel.send(&Request::Wait, &[]).unwrap();
        while *server.shared.waiting.lock().unwrap() == 0 {
            thread::yield_now();
        }
        drop(channel);
        while *server.shared.waiting.lock().unwrap() > 0 {
            thread::yield_now();
        }
    }

    #[test]
    fn descriptors_go_with_their_request() {
        let (_server, mut channel) = connected();
        assert!(matches!(
            ask(&mut channel, &Request::Stacks(vec![1])),
            Reply::Failed(_)
        ));
        let file = tempfile::tempfile().unwrap();
        channel
            .send(&Request::Stacks(vec![1]), &[file.as_fd()])
            .unwrap();
        assert_eq!(
            channel.recv::<Reply>().unwrap().0,
            Reply::Stacks(Stacks::default())
        );
    }

    #[test]
    fn a_trace_is_over_with_the_container() {
        let (server, mut channel) = connected();
        let Reply::Traced(traced) = ask(&mut channel, &Request::Trace(1)) else {
            panic!()
        };
        assert_eq!(traced.events, 3);
        channel.send(&Request::Trace(u64::MAX), &[]).unwrap();
        while *server.shared.waiting.lock().unwrap() == 0 {
            thread::yield_now();
        }
        server.finish(0);
        assert!(matches!(
            channel.recv::<Reply>().unwrap().0,
            Reply::Traced(_)
        ));
    }

    #[test]
    fn a_profile_has_a_beginning_and_an_end() {
        let (server, mut channel) = connected();
        let profile = |duration| {
            Request::Profile(ProfileSpec {
                kind: ProfileKind::Cpu,
                duration,
                threads: vec![1],
            })
        };
        let end = Reply::Profiled(Profiled {
            samples: 5,
            lost: 0,
        });
        let begun = ask(&mut channel, &profile(1));
        assert_eq!(begun, Reply::Profiling(Profiling::default()));
        assert_eq!(channel.recv::<Reply>().unwrap().0, end);
        ask(&mut channel, &profile(u64::MAX));
        server.finish(0);
        assert_eq!(channel.recv::<Reply>().unwrap().0, end);
    }

    #[test]
    fn nonsense_ends_the_connection() {
        let (_server, mut channel) = connected();
        channel.send(&[200u8, 1, 2], &[]).unwrap();
        assert!(channel.recv::<Reply>().is_err());
    }
}
