//! Taking ownership of descriptors that arrived with a message.
// UNSAFETY: a descriptor number from SCM_RIGHTS becomes an OwnedFd; nothing else.
#![expect(
    unsafe_code,
    reason = "nix hands received descriptors out as plain numbers"
)]

use nix::errno::Errno;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
use std::io::IoSliceMut;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// What one `recvmsg` gave.
pub(crate) struct Received {
    /// Bytes; none means that the peer closed.
    pub(crate) len: usize,
    /// Whether descriptors were dropped for want of room.
    pub(crate) truncated: bool,
}

/// Receives into `buf`, appending arrived descriptors (close-on-exec) to `fds`.
pub(crate) fn receive(
    socket: BorrowedFd<'_>,
    buf: &mut [u8],
    fds: &mut Vec<OwnedFd>,
) -> Result<Received, Errno> {
    let mut space = nix::cmsg_space!([std::os::fd::RawFd; crate::MAX_FDS]);
    let mut iov = [IoSliceMut::new(buf)];
    let message = loop {
        let flags = MsgFlags::MSG_CMSG_CLOEXEC;
        match recvmsg::<()>(socket.as_raw_fd(), &mut iov, Some(&mut space), flags) {
            Err(Errno::EINTR) => {}
            other => break other?,
        }
    };
    let truncated = message.flags.contains(MsgFlags::MSG_CTRUNC);
    let len = message.bytes;
    // `cmsgs` fails on a truncated control area; what did arrive is lost to us then, and the
    // connection is given up by the caller.
    if let Ok(parts) = message.cmsgs() {
        for part in parts {
            if let ControlMessageOwned::ScmRights(numbers) = part {
                for number in numbers {
                    // SAFETY: the kernel has just installed this descriptor for us and nobody
                    // else knows its number.
                    fds.push(unsafe { OwnedFd::from_raw_fd(number) });
                }
            }
        }
    }
    Ok(Received { len, truncated })
}
