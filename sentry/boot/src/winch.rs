//! The size of the container's terminal.
//!
//! The sandbox process is the host terminal's session, so whoever resizes the master makes the
//! host send it SIGWINCH. One thread waits for that, asleep otherwise, and hands the new size on.

use crate::contract::Kernel;
use crate::error::BootError;
use crate::sys;
use nix::errno::Errno;
use nix::sys::signal::{SigSet, Signal};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::thread;

fn set() -> SigSet {
    [Signal::SIGWINCH].into_iter().collect()
}

/// Keeps the signal for [`watch`]. Called while there is one thread; later ones inherit it.
pub(crate) fn block() -> Result<(), BootError> {
    set()
        .thread_block()
        .map_err(BootError::host("block SIGWINCH"))
}

/// Hands the size of `terminal` to the kernel each time it changes.
pub(crate) fn watch(terminal: OwnedFd, kernel: Arc<dyn Kernel>) -> Result<(), BootError> {
    let work = move || {
        while let Ok(_winch) = set().wait() {
            if let Ok(size) = sys::window_size(terminal.as_fd()) {
                kernel.resize(size);
            }
        }
    };
    let spawned = thread::Builder::new()
        .name("winch".into())
        .stack_size(64 << 10)
        .spawn(work);
    spawned.map(drop).map_err(|e| BootError::Host {
        what: "start the window size thread",
        answer: Errno::from_raw(e.raw_os_error().unwrap_or(0)),
    })
}
