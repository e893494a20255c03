//! What the sandbox process and the gofer do first, right after exec: an empty read-only root, no
//! capability but those named, and no way to get any.

use crate::sys;
use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl;
use nix::sys::signal::Signal;
use nix::sys::socket::{getsockopt, sockopt::SockType};

/// Needed to change the root (`CAP_SYS_ADMIN`) and to empty the bounding set (`CAP_SETPCAP`); what
/// both processes are given for the time until then.
pub const CAPABILITIES_TO_CONFINE: u64 = 1 << 21 | 1 << 8;

/// What a gofer works with: `CAP_CHOWN`, `CAP_DAC_OVERRIDE`, `CAP_FOWNER`, `CAP_FSETID`. Not
/// `CAP_DAC_READ_SEARCH`, which opens files by handle, past any root; nor `CAP_MKNOD`.
pub const GOFER_CAPABILITIES: u64 = 1 | 1 << 1 | 1 << 3 | 1 << 4;

/// A step that the host refused.
#[derive(Debug, thiserror::Error)]
#[error("cannot {what}: {answer}")]
pub struct ConfineError {
    what: &'static str,
    answer: Errno,
}

fn refused(what: &'static str) -> impl FnOnce(Errno) -> ConfineError {
    move |answer| ConfineError { what, answer }
}

/// Whether this process looks like one that this crate started: nothing in its environment, and a
/// socket as its one donated descriptor. In any other, [`confine`] would take the caller's own
/// mounts apart.
pub fn started_by_launcher() -> bool {
    let socket = sys::borrow(sys::DONATED)
        .ok()
        .and_then(|fd| getsockopt(&fd, SockType).ok());
    let wiped = std::env::vars_os().all(|(name, _)| coverage::is_own_variable(&name));
    wiped && socket == Some(nix::sys::socket::SockType::Stream)
}

/// Cuts this process off. `keep` holds the capabilities that stay. With `attached`, the host
/// kills it when the launcher ends.
///
/// # Preconditions
/// One thread; a mount namespace of its own; started by this crate.
pub fn confine(keep: u64, attached: bool) -> Result<(), ConfineError> {
    empty_root()?;
    sys::limit_bounding_set(keep).map_err(refused("empty the capability bounding set"))?;
    sys::set_capabilities(keep, 0).map_err(refused("drop capabilities"))?;
    prctl::set_no_new_privs().map_err(refused("set no_new_privs"))?;
    if attached {
        // Credentials do not change any more: a change would clear it.
        prctl::set_pdeathsig(Signal::SIGKILL)
            .map_err(refused("ask for the launcher's death signal"))?;
        // The launcher may have died before that; then the other end is closed.
        let socket = sys::borrow(sys::DONATED).map_err(refused("find the launcher's socket"))?;
        let mut fds = [PollFd::new(socket, PollFlags::empty())];
        if poll(&mut fds, PollTimeout::ZERO).is_ok_and(|n| n > 0) {
            std::process::exit(128 + Signal::SIGKILL as i32);
        }
    }
    Ok(())
}

fn empty_root() -> Result<(), ConfineError> {
    const NONE: Option<&str> = None;
    // Stacked over a directory that every Linux has.
    let place = "/proc";
    mount(NONE, "/", NONE, MsFlags::MS_REC | MsFlags::MS_PRIVATE, NONE)
        .map_err(refused("make the mounts private"))?;
    let locked = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC | MsFlags::MS_RDONLY;
    mount(
        Some("none"),
        place,
        Some("tmpfs"),
        locked,
        Some("mode=0555,size=4k"),
    )
    .map_err(refused("mount an empty root"))?;
    nix::unistd::chdir(place).map_err(refused("enter the empty root"))?;
    nix::unistd::pivot_root(".", ".").map_err(refused("pivot into the empty root"))?;
    umount2(".", MntFlags::MNT_DETACH).map_err(refused("drop the host's root"))?;
    nix::unistd::chdir("/").map_err(refused("enter the empty root"))
}
