//! Profiles of this process: one at a time, of all its threads, for as long as somebody listens.
//!
//! Each kind has its own source of samples ([`sys::cputime`], [`sys::heap`], and what
//! [`sync::observe`] tells of waiting), and all go through [`sys::sampler`]. Nothing of it is there
//! before the first profile.

use crate::contract;
use crate::kernel::Container;
use crate::sys::{self, cputime, heap, sampler};
use control::debug::{MAX_STACK, SLOT, SlotHead};
use control::message::{Failure, FailureKind};
use control::profile::{
    MAX_SAMPLE_STACK, ProfileKind, ProfileSpec, Profiled, Profiling, SampleHead, WAIT_RATE,
};
use nix::errno::Errno;
use nix::sys::stat::{SFlag, fstat};
use nix::unistd::ftruncate;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use sync::observe::{self, Interest, Observer};
use task::{Kernel, Task};

/// Whether there is one.
static BUSY: AtomicBool = AtomicBool::new(false);
/// Most threads that are asked where they sleep when a profile of sleeps ends.
const MAX_SLEEPERS: usize = 1024;

/// A profile in the making. Dropped, it is over.
pub(crate) struct Profile {
    kind: ProfileKind,
    socket: OwnedFd,
    kernel: Arc<Kernel>,
    begun: Profiling,
    began: Instant,
}

/// Begins one, into the socket that came along.
pub(crate) fn begin(
    container: &Container,
    spec: &ProfileSpec,
    fds: Vec<OwnedFd>,
) -> Result<Profile, Failure> {
    if !container.profiles {
        return Err(Failure::new(
            FailureKind::State,
            "this sandbox was created without --profile, and what it may ask of the host was fixed \
             then; create the container anew with --profile (`ringfence --profile run …`)",
        ));
    }
    let socket = socket(fds)?;
    if BUSY.swap(true, Ordering::SeqCst) {
        return Err(Failure::new(
            FailureKind::State,
            "a profile of this sandbox is being made already; wait for its end",
        ));
    }
    let profile = Profile {
        kind: spec.kind,
        socket,
        kernel: container.kernel.clone(),
        // Ahead: what this allocates is not to be in the profile.
        begun: Profiling {
            modules: sys::stacks::modules(),
        },
        began: Instant::now(),
    };
    profile.start(&spec.threads).map_err(|errno| Failure {
        kind: FailureKind::Internal,
        errno: Some(errno as i32),
        text: format!("the threads' CPU time cannot be watched: {errno}"),
    })?;
    Ok(profile)
}

/// The one descriptor that came along, if it is a socket.
fn socket(fds: Vec<OwnedFd>) -> Result<OwnedFd, Failure> {
    let invalid = |text| Failure::new(FailureKind::Invalid, text);
    let [socket] =
        <[OwnedFd; 1]>::try_from(fds).map_err(|_| invalid("a profile takes one socket"))?;
    let kind = fstat(&socket).map(|s| SFlag::from_bits_truncate(s.st_mode) & SFlag::S_IFMT);
    match kind == Ok(SFlag::S_IFSOCK) {
        true => Ok(socket),
        false => Err(invalid("a profile can only be written to a socket")),
    }
}

impl Profile {
    fn start(&self, threads: &[i32]) -> Result<(), Errno> {
        sampler::open(self.socket.as_fd());
        match self.kind {
            ProfileKind::Cpu => {
                cputime::begin()?;
                observe::observe(&WATCHER, Interest::Threads);
                let own = self.kernel.tasks();
                let own = own.iter().map(|t| t.thread()).filter(|&t| t != 0);
                for thread in threads.iter().copied().chain(own) {
                    match cputime::add(thread) {
                        // It ended meanwhile, or was none of ours.
                        Ok(()) | Err(Errno::EINVAL | Errno::ESRCH) => {}
                        Err(errno) => return Err(errno),
                    }
                }
            }
            ProfileKind::Heap => heap::begin(),
            ProfileKind::Block => WATCHER.watch(self.began, Interest::Sleeps),
            ProfileKind::Mutex => WATCHER.watch(self.began, Interest::Locks),
        }
        Ok(())
    }

    fn stop(&self) {
        observe::ignore();
        heap::end();
        cputime::end();
    }

    /// Which allocations are still there.
    fn tell_live(&self) {
        let none = SampleHead::default();
        for ids in heap::live().chunks(MAX_SAMPLE_STACK / 8) {
            let bytes: Vec<u8> = ids.iter().flat_map(|id| id.to_le_bytes()).collect();
            sampler::send_whole(self.socket.as_fd(), none, &bytes);
        }
    }

    /// Where those sleep who have not been woken. A sleep is told when it is over, and the longest
    /// are those that are not.
    fn tell_sleepers(&self) {
        let asleep = |task: Arc<Task>| {
            let since = task.sleeps_since()?.max(self.began);
            Some((task.thread(), since.elapsed()))
        };
        let mut sleepers: Vec<(i32, Duration)> =
            self.kernel.tasks().into_iter().filter_map(asleep).collect();
        sleepers.truncate(MAX_SLEEPERS);
        let threads: Vec<i32> = sleepers.iter().map(|(thread, _)| *thread).collect();
        match stacks(&threads) {
            Ok(stacks) => {
                for (mut head, stack) in stacks {
                    let slept = sleepers
                        .iter()
                        .find(|(t, _)| u64::try_from(*t) == Ok(head.tid));
                    let slept = slept.map_or(Duration::ZERO, |(_, slept)| *slept);
                    head.value = nanos(slept);
                    if likely(head.value) {
                        sampler::send_whole(self.socket.as_fd(), head, &stack);
                    }
                }
            }
            Err(errno) => tracing::warn!("a profile without those who still sleep: {errno}"),
        }
    }
}

impl contract::Profile for Profile {
    fn begun(&self) -> &Profiling {
        &self.begun
    }

    fn end(self: Box<Self>) -> Profiled {
        self.stop();
        match self.kind {
            ProfileKind::Heap => self.tell_live(),
            ProfileKind::Block => self.tell_sleepers(),
            ProfileKind::Cpu | ProfileKind::Mutex => {}
        }
        let (samples, lost) = sampler::close();
        Profiled { samples, lost }
    }
}

impl Drop for Profile {
    fn drop(&mut self) {
        self.stop();
        sampler::close();
        BUSY.store(false, Ordering::SeqCst);
    }
}

/// Where threads are, that are asked by a signal.
fn stacks(threads: &[i32]) -> Result<Vec<(SampleHead, Vec<u8>)>, Errno> {
    let flags = nix::sys::memfd::MFdFlags::MFD_CLOEXEC;
    let file = File::from(nix::sys::memfd::memfd_create(c"sleepers", flags)?);
    ftruncate(&file, (SLOT * threads.len() as u64).cast_signed())?;
    sys::stacks::write(file.as_fd(), threads)?;
    let slot = |n: usize| {
        let at = SLOT * n as u64;
        let mut bytes = [0; SlotHead::BYTES];
        file.read_exact_at(&mut bytes, at).ok()?;
        let slot = SlotHead::from_bytes(bytes);
        let len = usize::try_from(slot.len.min(MAX_STACK)).ok()?;
        let mut stack = vec![0; len.min(MAX_SAMPLE_STACK)];
        file.read_exact_at(&mut stack, at + SlotHead::BYTES as u64)
            .ok()?;
        let SlotHead {
            tid, ip, sp, bp, ..
        } = slot;
        let head = SampleHead {
            tid,
            ip,
            sp,
            bp,
            ..SampleHead::default()
        };
        (tid != 0).then_some((head, stack))
    };
    Ok((0..threads.len()).filter_map(slot).collect())
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// Whether a wait of so many nanoseconds is sampled.
fn likely(nanos: u64) -> bool {
    nanos >= WAIT_RATE || sampler::random() % WAIT_RATE < nanos
}

/// Takes a sample of those who waited, and has each thread that begins watched.
#[derive(Debug)]
struct Watcher {
    /// When the profile began, in nanoseconds since some time before.
    began: AtomicU64,
    epoch: std::sync::OnceLock<Instant>,
}

static WATCHER: Watcher = Watcher {
    began: AtomicU64::new(0),
    epoch: std::sync::OnceLock::new(),
};

impl Watcher {
    fn watch(&'static self, began: Instant, interest: Interest) {
        let epoch = *self.epoch.get_or_init(|| began);
        self.began.store(
            nanos(began.saturating_duration_since(epoch)),
            Ordering::SeqCst,
        );
        observe::observe(self, interest);
    }
}

impl Observer for Watcher {
    fn waited(&self, time: Duration) {
        let now = self.epoch.get().map_or(Duration::ZERO, Instant::elapsed);
        let profiled = nanos(now).saturating_sub(self.began.load(Ordering::SeqCst));
        let time = nanos(time).min(profiled);
        if likely(time) {
            sampler::sample_here(time, 0);
        }
    }

    fn begins(&self) {
        if let Err(errno) = cputime::add_own() {
            tracing::warn!("a thread's CPU time is not in the profile: {errno}");
        }
    }

    fn ends(&self) {
        cputime::remove_own();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, recv, socketpair};
    use std::os::fd::AsRawFd;
    use std::sync::Mutex;

    /// Profiles are the whole process's.
    static ONE: Mutex<()> = Mutex::new(());

    fn pair() -> (OwnedFd, OwnedFd) {
        let flags = SockFlag::SOCK_CLOEXEC;
        socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags).unwrap()
    }

    fn messages(socket: &OwnedFd) -> Vec<Vec<u8>> {
        let mut messages = Vec::new();
        let mut buffer = vec![0; 64 << 10];
        while let Ok(n) = recv(socket.as_raw_fd(), &mut buffer, MsgFlags::MSG_DONTWAIT) {
            if n == 0 {
                break;
            }
            messages.push(buffer[..n].to_vec());
        }
        messages
    }

    fn own() -> u64 {
        nix::unistd::gettid().as_raw() as u64
    }

    /// The samples of this thread; others of the test program may be in it.
    fn samples(messages: &[Vec<u8>]) -> Vec<(SampleHead, &[u8])> {
        let all = messages.iter().map(|m| SampleHead::split(m).unwrap());
        all.filter(|(head, _)| head.tid == own()).collect()
    }

    #[test]
    fn a_thread_that_works_is_sampled_with_its_stack() {
        let _one = ONE
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        let (ours, theirs) = pair();
        sampler::open(theirs.as_fd());
        cputime::begin().unwrap();
        cputime::add_own().unwrap();
        let marker = 0u64;
        let mut got = Vec::new();
        while samples(&got).len() < 3 {
            std::hint::black_box((0..100_000u64).sum::<u64>());
            got.extend(messages(&ours));
        }
        cputime::end();
        let (sent, _) = sampler::close();
        assert!(sent >= 3);
        let address = (&raw const marker) as u64;
        for (head, stack) in samples(&got) {
            assert!(head.value >= control::profile::CPU_PERIOD);
            assert!(
                (head.sp..head.sp + stack.len() as u64).contains(&address),
                "{head:x?}"
            );
        }
    }

    /// The sizes, in MiB, of this thread's sampled allocations, and whether each was there at the
    /// end.
    fn allocations() -> Vec<(u64, bool)> {
        let (ours, theirs) = pair();
        sampler::open(theirs.as_fd());
        heap::begin();
        // Far above the rate: certain to be sampled.
        let kept = std::hint::black_box(vec![1u8; 8 << 20]);
        drop(std::hint::black_box(vec![1u8; 9 << 20]));
        let mut grown = std::hint::black_box(vec![1u8; 10 << 20]);
        grown.reserve_exact(11 << 20);
        heap::end();
        let live = heap::live();
        sampler::close();
        drop((kept, std::hint::black_box(grown)));
        drop(std::hint::black_box(vec![1u8; 8 << 20]));
        let got = messages(&ours);
        let samples = samples(&got);
        let large = samples.iter().filter(|(head, _)| head.value >= 1 << 20);
        large
            .map(|(head, _)| (head.value >> 20, live.contains(&head.id)))
            .collect()
    }

    #[test]
    fn allocations_are_sampled_and_those_that_are_left_are_told() {
        let _one = ONE
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        let expected = [(8, true), (9, false), (10, false), (21, true)];
        // Other tests of the program may leave no room in the socket meanwhile.
        assert!((0..100).any(|_| allocations() == expected));
    }

    #[test]
    fn waits_count_from_the_beginning_of_the_profile() {
        let _one = ONE
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        let (ours, theirs) = pair();
        sampler::open(theirs.as_fd());
        let hour = Duration::from_secs(3600);
        let began = Instant::now();
        WATCHER.watch(began, Interest::Sleeps);
        std::thread::sleep(Duration::from_millis(2));
        WATCHER.waited(hour);
        WATCHER.waited(Duration::ZERO);
        observe::ignore();
        sampler::close();
        let most = nanos(began.elapsed());
        let got = messages(&ours);
        let values: Vec<u64> = samples(&got).iter().map(|(h, _)| h.value).collect();
        assert!(
            matches!(values.as_slice(), [value] if (WAIT_RATE..=most).contains(value)),
            "{values:?}"
        );
    }

    #[test]
    fn what_there_is_no_room_for_is_lost_and_nobody_waits() {
        let _one = ONE
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        let (ours, theirs) = pair();
        sampler::open(theirs.as_fd());
        for _ in 0..2000 {
            sampler::sample_here(1, 0);
        }
        let (sent, lost) = sampler::close();
        assert!(lost > 0);
        let got = messages(&ours);
        assert_eq!(samples(&got).len() as u64, sent);
        assert!(sent + lost >= 2000);
    }

    #[test]
    fn only_a_socket_will_do() {
        assert!(socket(Vec::new()).is_err());
        assert!(socket(vec![tempfile::tempfile().unwrap().into()]).is_err());
        let (ours, theirs) = pair();
        assert!(socket(vec![ours]).is_ok());
        assert!(socket(vec![theirs.try_clone().unwrap(), theirs]).is_err());
    }
}
