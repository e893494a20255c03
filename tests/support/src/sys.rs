//! The host calls of tests for which there is no safe wrapper.
// UNSAFETY: adoption of descriptors that came over a socket; signals back to their defaults.
#![expect(unsafe_code, reason = "received descriptors come as numbers")]

use nix::sys::signal::{SigHandler, Signal, signal};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
use std::io::{self, IoSliceMut};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;

/// Lets `which` do what it does when nobody says otherwise.
pub(crate) fn default_signal(which: Signal) -> nix::Result<()> {
    // SAFETY: the default is no function of ours.
    unsafe { signal(which, SigHandler::SigDfl) }.map(drop)
}

/// Receives one message and the descriptors that came with it.
pub(crate) fn receive(stream: &UnixStream) -> io::Result<(Vec<u8>, Vec<OwnedFd>)> {
    let mut bytes = [0; 4096];
    let mut space = nix::cmsg_space!([RawFd; 4]);
    let mut iov = [IoSliceMut::new(&mut bytes)];
    let flags = MsgFlags::MSG_CMSG_CLOEXEC;
    let message = recvmsg::<()>(stream.as_raw_fd(), &mut iov, Some(&mut space), flags)?;
    let length = message.bytes;
    let mut fds = Vec::new();
    for part in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(numbers) = part {
            // SAFETY: the kernel has just installed these for us, and nobody else knows them.
            fds.extend(numbers.iter().map(|&n| unsafe { OwnedFd::from_raw_fd(n) }));
        }
    }
    Ok((bytes[..length].to_vec(), fds))
}
