//! The life of a gofer process.

use crate::{Magic, Server, TreeConfig, filter, sys};
use control::boot::FdIndex;
use control::gofer::GoferArgs;
use control::{Channel, ChannelError};
use nix::errno::Errno;
use nix::sys::prctl::set_dumpable;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use std::fs::File;
use std::io::Write as _;
use std::os::fd::{OwnedFd, RawFd};
use std::process::ExitCode;

/// Most descriptors kept open for look-ups.
const DESCRIPTORS: u64 = 4096;
/// Left for what is donated and in passing.
const RESERVE: u64 = 256;
/// Most descriptors at all: each open file without a name holds one.
const MOST: u64 = 1 << 16;

/// Why a gofer ended before it served.
#[derive(Debug, thiserror::Error)]
enum GoferError {
    #[error("cannot {0}: {1}")]
    Host(&'static str, #[source] Errno),
    #[error("cannot receive what to serve: {0}")]
    Args(#[from] ChannelError),
    #[error("descriptor {0} was announced and did not come, or twice")]
    Missing(u32),
    #[error(transparent)]
    Filter(#[from] crate::FilterError),
    #[error("{0}")]
    Confine(String),
}

fn host(what: &'static str) -> impl FnOnce(Errno) -> GoferError {
    move |e| GoferError::Host(what, e)
}

/// Runs a gofer: receives its [`GoferArgs`] on descriptor `socket`, and serves until all
/// connections have closed. `confine` takes the host's tree and privileges away from this process
/// (which must be single-threaded); this function looks at /proc/self/fd before that.
///
/// What goes wrong is said on standard error.
pub fn run(socket: RawFd, confine: impl FnOnce() -> Result<(), String>) -> ExitCode {
    match serve(socket, confine) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            // Not `eprintln!`, which panics when nobody reads any more.
            let _unheard = writeln!(std::io::stderr(), "gofer: {e}");
            ExitCode::FAILURE
        }
    }
}

fn serve(socket: RawFd, confine: impl FnOnce() -> Result<(), String>) -> Result<(), GoferError> {
    let magic = Magic::open().map_err(host("open /proc/self/fd"))?;
    confine().map_err(GoferError::Confine)?;
    // A gofer may serve a tree in which its like are to be seen, under /proc.
    set_dumpable(false).map_err(host("become undumpable"))?;
    let magic = Magic::confined(magic).map_err(host("enter /proc/self/fd"))?;
    let mut channel = Channel::new(sys::adopt(socket).map_err(host("use the first descriptor"))?);
    let (args, fds) = channel.recv::<GoferArgs>()?;
    let mut fds: Vec<Option<OwnedFd>> = fds.into_iter().map(Some).collect();
    let mut take = |index: FdIndex| {
        let slot = usize::try_from(index.0).ok().and_then(|i| fds.get_mut(i));
        slot.and_then(Option::take)
            .ok_or(GoferError::Missing(index.0))
    };
    if let Some(log) = args.log {
        start_log(take(log)?.into(), args.debug);
    }
    let coverage = match args.coverage {
        Some(file) => Some(coverage::Profile::new(take(file)?.into())),
        None => None,
    };
    let mut trees = Vec::with_capacity(args.trees.len());
    for tree in args.trees {
        trees.push(TreeConfig {
            root: take(tree.root)?,
            connection: take(tree.connection)?,
            below: tree.below,
            readonly: tree.readonly,
            name: tree.name,
        });
    }
    drop(fds);
    nix::sys::stat::umask(nix::sys::stat::Mode::empty());
    let descriptors = raise_descriptors().map_err(host("raise the limit of open files"))?;
    let server = Server::new(trees, magic, descriptors).map_err(host("look at a tree's root"))?;
    let program = match args.seccomp.is_empty() {
        true => filter::compile()?,
        false => args.seccomp,
    };
    filter::install(&program)?;
    tracing::debug!(container = args.container, "serving");
    server.run();
    if let Some(coverage) = coverage {
        coverage.write();
    }
    // The channel to the launcher stays open as long as this process lives.
    drop(channel);
    Ok(())
}

/// Raises the limit of descriptors as far as the host lets us and sense goes; how many may be kept for look-ups.
fn raise_descriptors() -> Result<usize, Errno> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    let hard = hard.min(MOST);
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    Ok((hard.saturating_sub(RESERVE) / 2).clamp(16, DESCRIPTORS) as usize)
}

fn start_log(file: File, debug: bool) {
    let level = if debug {
        tracing::Level::TRACE
    } else {
        tracing::Level::INFO
    };
    let subscriber = tracing_subscriber::fmt()
        .with_writer(std::sync::Mutex::new(file))
        .with_max_level(level)
        .with_ansi(false)
        .finish();
    // Set once, here.
    let _only = tracing::subscriber::set_global_default(subscriber);
}
