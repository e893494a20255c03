//! Further containers in the sandbox.
//!
//! One has files, memory, limits and standard streams of its own, and a kernel of its own: a PID
//! namespace. Where it shares the root container's, its processes are in that one's kernel. What
//! runs guest code, clocks, timers and futexes are the sandbox's.
//!
//! Whoever brought it up holds a connection as its hand, as with an executed process: what becomes
//! of it is told there, and it is ended, and all that it had is freed, when that closes.

use crate::contract::{End, Kernel, Process, Target};
use crate::exec::{News, hand_on, hear};
use crate::kernel::{Container, DRAIN, Machine, Namespaces, furnish, memory, uts};
use crate::process::{DonatedFds, EXIT_GOFER_GONE};
use control::message::{Failure, FailureKind, JoinSpec, SandboxState, WindowSize};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use parking_lot::{Condvar, Mutex};
use signal::Signal;
use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use vfs::nsfs::NamespaceId;
use wait::Events;

/// Wait status of one that was killed.
const KILLED: i32 = Signal::KILL.number();
/// How long whoever wants one gone waits for that: less than an answer may take.
const PATIENCE: Duration = Duration::from_secs(8);

/// Most memory of one that joined: as many as there may be connections fit into our address space.
const ROOM: u64 = 256 << 30;

/// The containers that joined, by id; one that is being made has its place already.
pub(crate) struct Pod {
    machine: Machine,
    members: Mutex<BTreeMap<String, Option<Arc<Member>>>>,
    left: Condvar,
}

/// A container that joined.
struct Member {
    container: Arc<Container>,
    end: Arc<End>,
    /// Wakes the thread that attends it.
    news: Arc<News>,
    killed: AtomicBool,
}

impl Member {
    /// Ends it; the thread that attends it does the rest.
    fn kill(&self) {
        self.killed.store(true, Ordering::SeqCst);
        self.container.own.kill_all();
        self.news.give();
    }
}

impl Pod {
    pub(crate) fn new(machine: Machine) -> Arc<Pod> {
        Arc::new(Pod {
            machine,
            members: Mutex::default(),
            left: Condvar::new(),
        })
    }

    /// Brings one up beside `root`.
    pub(crate) fn join(
        self: &Arc<Self>,
        root: &Container,
        spec: &JoinSpec,
        fds: Vec<OwnedFd>,
    ) -> Result<Arc<dyn Process>, Failure> {
        let place = Place::reserve(self, &spec.container.id)?;
        let mut fds = DonatedFds::new(fds);
        let connection = spec.container.root.connection;
        let gofer = fds.share(connection, "the root's gofer connection")?;
        let memory = memory(ROOM)?;
        let shared = spec.shared;
        let kernel = match shared.pid {
            true => root.kernel.clone(),
            false => self.machine.kernel(&memory, &spec.container)?,
        };
        let namespaces = Namespaces {
            kernel,
            own_pids: !shared.pid,
            joined: true,
            uts: match shared.uts {
                true => root.own.uts().clone(),
                false => uts(&spec.container),
            },
            ipc: match shared.ipc {
                true => root.own.ipc().clone(),
                false => self.machine.ipc(&memory),
            },
            network: match shared.network {
                true => root.own.network().clone(),
                false => {
                    task::NetNamespace::new(NamespaceId::new(), auth::UserNamespace::default())
                }
            },
        };
        let mut container = furnish(&self.machine, &spec.container, namespaces, memory, &mut fds)?;
        let news = Arc::new(News::new()?);
        if let Some(tty) = &container.console {
            hear(tty.queue(), Events::WRITABLE, &news);
        }
        container.news = Some(news.clone());
        let end = End::new().map_err(|answer| {
            let text = format!("cannot make an event descriptor: {answer}");
            Failure::new(FailureKind::Internal, text)
        })?;
        let member = Arc::new(Member {
            container: Arc::new(container),
            end: Arc::new(end),
            news,
            killed: AtomicBool::new(false),
        });
        place.fill(&member);
        Ok(Arc::new(Joined {
            member: Some(member),
            gofer,
            own_kernel: !shared.pid,
            place,
        }))
    }

    /// The one called `id`.
    pub(crate) fn find(&self, id: &str) -> Option<Target> {
        let members = self.members.lock();
        let member = members.get(id)?.as_ref()?;
        Some(Target {
            kernel: member.container.clone(),
            end: member.end.clone(),
        })
    }

    /// Ends the one called `id`, and waits until it has left.
    pub(crate) fn destroy(&self, id: &str) -> Result<(), Failure> {
        let deadline = Instant::now() + PATIENCE;
        let mut members = self.members.lock();
        while let Some(member) = members.get(id) {
            if let Some(member) = member.clone() {
                // Its own locks are not taken under this one.
                drop(members);
                member.kill();
                drop(member);
                members = self.members.lock();
                if !members.contains_key(id) {
                    break;
                }
            }
            if self.left.wait_until(&mut members, deadline).timed_out() {
                let text = format!("container {id} has not ended within {PATIENCE:?}");
                return Err(Failure::new(FailureKind::Internal, text));
            }
        }
        Ok(())
    }

    /// The sandbox ends: so do all.
    pub(crate) fn end(&self) {
        let members: Vec<_> = self.members.lock().values().flatten().cloned().collect();
        for member in members {
            member.kill();
        }
    }
}

/// The place of a container among the others; free again when dropped.
struct Place {
    pod: Arc<Pod>,
    id: String,
}

impl Place {
    fn reserve(pod: &Arc<Pod>, id: &str) -> Result<Place, Failure> {
        let mut members = pod.members.lock();
        if members.contains_key(id) {
            let text = format!("a container {id} is in the sandbox already");
            return Err(Failure::new(FailureKind::State, text));
        }
        members.insert(id.to_owned(), None);
        drop(members);
        Ok(Place {
            pod: pod.clone(),
            id: id.to_owned(),
        })
    }

    fn fill(&self, member: &Arc<Member>) {
        let mut members = self.pod.members.lock();
        members.insert(self.id.clone(), Some(member.clone()));
    }

    /// Nobody finds the container any more.
    fn clear(&self) {
        let member = self.pod.members.lock().insert(self.id.clone(), None);
        drop(member);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.pod.members.lock().remove(&self.id);
        self.pod.left.notify_all();
    }
}

/// One that joined, in the hand of the one who brought it up.
struct Joined {
    /// Gone only while this is dropped.
    member: Option<Arc<Member>>,
    /// Who serves its root.
    gofer: OwnedFd,
    /// Whether it has its kernel for itself.
    own_kernel: bool,
    place: Place,
}

impl Joined {
    fn member(&self) -> Option<&Member> {
        self.member.as_deref()
    }

    fn is_gofer_gone(&self) -> bool {
        let mut fds = [PollFd::new(self.gofer.as_fd(), PollFlags::empty())];
        matches!(poll(&mut fds, PollTimeout::ZERO), Ok(1..))
    }

    /// Why it is over, when it is.
    fn cause(&self, member: &Member) -> Option<i32> {
        if let Some(status) = member.container.status() {
            return Some(status);
        }
        if member.killed.load(Ordering::SeqCst) {
            return Some(KILLED);
        }
        if self.is_gofer_gone() {
            tracing::error!(id = self.place.id, "the gofer of a container is gone");
            return Some(EXIT_GOFER_GONE << 8);
        }
        None
    }
}

impl Process for Joined {
    fn pid(&self) -> Option<i32> {
        None
    }

    fn ended(&self) -> Option<i32> {
        let member = self.member()?;
        member.news.take();
        if let Some(status) = member.end.status() {
            return Some(status);
        }
        let status = self.cause(member)?;
        member.container.finish();
        if let Some(tty) = &member.container.console {
            hand_on(tty, &member.news);
        }
        member.end.announce(status);
        Some(status)
    }

    fn news(&self) -> BorrowedFd<'_> {
        match self.member() {
            Some(member) => member.news.fd(),
            None => self.gofer.as_fd(),
        }
    }

    fn depends_on(&self) -> Option<BorrowedFd<'_>> {
        Some(self.gofer.as_fd())
    }

    fn signal(&self, signal: i32) {
        let Some(member) = self.member() else { return };
        if member.container.state() == SandboxState::Created {
            // There is nobody yet who could handle it.
            if [Signal::KILL, Signal::TERM]
                .map(Signal::number)
                .contains(&signal)
            {
                member.kill();
            }
            return;
        }
        if let Err(e) = member.container.signal(None, signal, false) {
            tracing::debug!(signal, "not sent to a container: {e}");
        }
    }

    fn resize(&self, size: WindowSize) {
        if let Some(member) = self.member() {
            member.container.resize(size);
        }
    }
}

impl Drop for Joined {
    fn drop(&mut self) {
        self.place.clear();
        let Some(member) = self.member.take() else {
            return;
        };
        member.container.finish();
        member.end.announce(KILLED);
        if self.own_kernel {
            // Its idle threads would keep it.
            member.container.kernel.drain(Instant::now() + DRAIN);
        }
        // Before its place is free, and whoever waits for that goes on.
        drop(member);
    }
}
