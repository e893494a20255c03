//! Bring-up of the sandbox process.
//!
//! The process was started by the launcher in fresh namespaces, as nobody, with one donated
//! descriptor, and has one thread. In this order it cuts itself off (empty root, no capabilities),
//! reads its one message, boots the platform, turns the system call filter on, and only then
//! makes threads: the kernel's, and the control server's. It ends with the status of the
//! container's root process.

use crate::contract::Kernel;
use crate::error::BootError;
use crate::server;
use crate::{log, seccomp, sys, winch};
use control::Channel;
use control::boot::{BootArgs, BootReply, FdIndex};
use nix::errno::Errno;
use nix::sys::prctl::set_dumpable;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use platform_api::Engine;
use std::os::fd::{OwnedFd, RawFd};
use std::panic;
use std::sync::Arc;

/// Exit status after a panic of ours, anywhere in the process.
pub const EXIT_PANIC: i32 = 70;
/// Exit status when the sandbox could not be brought up; the reason went to the launcher.
pub const EXIT_BOOT_FAILED: i32 = 71;
/// Exit status when (with debugging on) a host call was made that the filter forbids. Without
/// debugging the host kills the process with SIGSYS.
pub const EXIT_FORBIDDEN_CALL: i32 = 72;
/// Exit status when the process that serves the container's files went away.
pub const EXIT_GOFER_GONE: i32 = 73;
/// Exit status when the launcher went away and had not let go of the sandbox.
pub const EXIT_LAUNCHER_GONE: i32 = 128 + 9;

/// The descriptors that came with the boot message, each to be taken once.
#[derive(Debug)]
pub struct DonatedFds(Vec<Option<OwnedFd>>);

impl DonatedFds {
    /// Wraps what arrived.
    pub fn new(fds: Vec<OwnedFd>) -> DonatedFds {
        DonatedFds(fds.into_iter().map(Some).collect())
    }

    /// Takes the descriptor at `index`; `what` names its purpose in the error when it is not
    /// there (any more).
    pub fn take(&mut self, index: FdIndex, what: &'static str) -> Result<OwnedFd, BootError> {
        usize::try_from(index.0)
            .ok()
            .and_then(|i| self.0.get_mut(i))
            .and_then(Option::take)
            .ok_or(BootError::Descriptor { what, index })
    }

    /// A second descriptor of what is at `index` and is to be taken later.
    pub(crate) fn share(&self, index: FdIndex, what: &'static str) -> Result<OwnedFd, BootError> {
        let fd = usize::try_from(index.0)
            .ok()
            .and_then(|i| self.0.get(i))
            .and_then(Option::as_ref);
        let fd = fd.ok_or(BootError::Descriptor { what, index })?;
        fd.try_clone().map_err(|e| BootError::Host {
            what: "share a donated descriptor",
            answer: Errno::from_raw(e.raw_os_error().unwrap_or(0)),
        })
    }

    /// As [`DonatedFds::take`], for what may be absent.
    pub fn take_opt(
        &mut self,
        index: Option<FdIndex>,
        what: &'static str,
    ) -> Result<Option<OwnedFd>, BootError> {
        index.map(|i| self.take(i, what)).transpose()
    }
}

/// Puts a kernel together from the launcher's message. Runs with the filter on.
pub type Assemble =
    fn(&BootArgs, &mut DonatedFds, Arc<dyn Engine>) -> Result<Arc<dyn Kernel>, BootError>;

/// The whole life of a sandbox process: `channel` is the number of the donated descriptor,
/// `confine` takes the host's tree and privileges away from this process. Returns the exit status.
pub fn main(
    channel: RawFd,
    confine: impl FnOnce() -> Result<(), String>,
    assemble: Assemble,
) -> i32 {
    if let Err(e) = confine() {
        log::tell_launcher!("{e}");
        return EXIT_BOOT_FAILED;
    }
    let mut channel = match sys::adopt(channel) {
        Ok(socket) => Channel::new(socket),
        Err(e) => {
            log::tell_launcher!(
                "no descriptor {channel} with a boot message: {e}; this is a hidden command"
            );
            return EXIT_BOOT_FAILED;
        }
    };
    let booted = match boot(&mut channel, assemble) {
        Ok(booted) => booted,
        Err(error) => {
            tracing::error!("boot failed: {error}");
            let reply = BootReply::Failed(error.into());
            if let Err(e) = channel.send(&reply, &[]) {
                log::tell_launcher!("{reply:?} (and the launcher cannot be told: {e})");
            }
            return EXIT_BOOT_FAILED;
        }
    };
    let wait_status = booted.kernel.wait();
    let coverage = booted.coverage;
    tracing::info!(wait_status, "the root process ended");
    booted.server.finish(wait_status);
    if let Some(coverage) = coverage {
        coverage.write();
    }
    exit_code(wait_status)
}

/// A wait status as an exit status: 128 + n for a signal.
pub fn exit_code(wait_status: i32) -> i32 {
    match wait_status & 0x7f {
        0 => (wait_status >> 8) & 0xff,
        signal => 128 + signal,
    }
}

struct Booted {
    kernel: Arc<dyn Kernel>,
    server: server::Server,
    coverage: Option<coverage::Profile>,
}

fn boot(channel: &mut Channel, assemble: Assemble) -> Result<Booted, BootError> {
    let (args, fds) = channel.recv::<BootArgs>()?;
    let mut fds = DonatedFds::new(fds);
    log::start(&args.debug, fds.take_opt(args.debug.log, "the debug log")?);
    let coverage = fds.take_opt(args.debug.coverage, "the file of a coverage profile")?;
    let coverage = coverage.map(|fd| coverage::Profile::new(fd.into()));
    report_panics();
    tracing::info!(
        container = args.container.id,
        platform = args.platform,
        "booting"
    );

    raise_descriptor_limit()?;
    sys::share_heap();

    let platform = platform_api::registry::lookup(&args.platform)?;
    let device = fds.take_opt(args.device, "the platform's device")?;
    let engine = platform.boot(device)?;
    // Not before: what the platform forked must stay traceable for us.
    set_dumpable(false).map_err(BootError::host("become undumpable"))?;
    if args.debug.verbose {
        sys::report_forbidden_calls().map_err(BootError::host("handle SIGSYS"))?;
    }
    seccomp::install(&args.seccomp)?;
    let terminal = args
        .container
        .console
        .map(|i| fds.share(i, "the terminal"))
        .transpose()?;
    if terminal.is_some() {
        winch::block()?;
    }
    // From here on there may be threads.
    let listener = fds.take_opt(args.control, "the control socket")?;
    let gofer = fds.share(
        args.container.root.connection,
        "the root's gofer connection",
    )?;
    let kernel = assemble(&args, &mut fds, engine)?;
    drop(fds);
    if let Some(terminal) = terminal {
        winch::watch(terminal, kernel.clone())?;
    }
    let reply = if args.start {
        kernel.start()?;
        BootReply::Started
    } else {
        BootReply::Ready
    };
    channel.send(&reply, &[])?;
    let watched = server::Watched {
        launcher: Some(dup(channel)?),
        gofer: Some(gofer),
    };
    let server = server::spawn(listener, watched, kernel.clone())?;
    Ok(Booted {
        kernel,
        server,
        coverage,
    })
}

fn dup(channel: &Channel) -> Result<OwnedFd, BootError> {
    channel
        .socket()
        .try_clone_to_owned()
        .map_err(|e| BootError::Host {
            what: "duplicate the launcher's socket",
            answer: Errno::from_raw(e.raw_os_error().unwrap_or(0)),
        })
}

/// Open host descriptors are a budget, and the hard limit is it.
fn raise_descriptor_limit() -> Result<(), BootError> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)
        .map_err(BootError::host("read the limit of descriptors"))?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard)
        .map_err(BootError::host("raise the limit of descriptors"))
}

/// A panic on any thread ends the sandbox, with a report, rather than leaving a container that
/// hangs on a thread that is gone.
fn report_panics() {
    panic::set_hook(Box::new(|info| {
        let thread = std::thread::current();
        let name = thread.name().unwrap_or("unnamed");
        tracing::error!("panic on thread `{name}`: {info}");
        log::tell_launcher!("the sandbox's kernel panicked on thread `{name}`: {info}");
        std::process::exit(EXIT_PANIC);
    }));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_are_those_of_shells() {
        assert_eq!(exit_code(0), 0);
        assert_eq!(exit_code(7 << 8), 7);
        assert_eq!(exit_code(9), 137);
        assert_eq!(exit_code(11 | 0x80), 139);
    }

    #[test]
    fn a_descriptor_is_taken_once() {
        let file = std::fs::File::open("/dev/null").unwrap();
        let mut fds = DonatedFds::new(vec![file.into()]);
        assert!(fds.share(FdIndex(0), "a file").is_ok());
        assert!(fds.take(FdIndex(0), "a file").is_ok());
        for index in [0, 1, u32::MAX] {
            let error = fds.take(FdIndex(index), "a file").unwrap_err();
            assert!(matches!(error, BootError::Descriptor { .. }));
        }
    }
}
