//! What a family of sockets implements.

use abi::{Errno, libc};
use ctx::{Ctx, Dst, Pid, Src, SysErr, SysResult};
use std::any::Any;
use std::sync::Arc;
use std::time::Duration;
use vfs::sigio::Watchers;
use vfs::{File, FsCtx};
use wait::{Events, Queue};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// The type of a socket (socket(2)).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(i32)]
#[expect(missing_docs, reason = "socket(2) says what each is")]
pub enum SocketKind {
    Stream = libc::SOCK_STREAM,
    Datagram = libc::SOCK_DGRAM,
    SeqPacket = libc::SOCK_SEQPACKET,
}

impl SocketKind {
    /// From the low bits of socket(2)'s type.
    pub fn from_number(n: i32) -> Option<SocketKind> {
        Some(match n {
            libc::SOCK_STREAM => SocketKind::Stream,
            libc::SOCK_DGRAM => SocketKind::Datagram,
            libc::SOCK_SEQPACKET => SocketKind::SeqPacket,
            _ => return None,
        })
    }
}

/// `struct ucred`
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
#[expect(missing_docs, reason = "unix(7) names every field")]
pub struct Ucred {
    pub pid: i32,
    pub uid: u32,
    pub gid: u32,
}

/// Who somebody is, for whoever is told: process and users as [`Ucred`] has them, for all to see.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "unix(7) names every field")]
pub struct Identity {
    pub pid: Pid,
    pub uid: u32,
    pub gid: u32,
}

impl Identity {
    /// The caller's own.
    pub fn of(cx: &dyn Ctx) -> Identity {
        let c = cx.creds();
        Identity {
            pid: cx.process_id(),
            uid: c.euid,
            gid: c.egid,
        }
    }

    /// What the caller is told of it.
    pub fn seen_by(&self, cx: &dyn Ctx) -> Ucred {
        let creds = cx.creds();
        Ucred {
            pid: self.pid.seen_from(cx.pid_space()),
            uid: creds.user_ns.shown_uid(self.uid),
            gid: creds.user_ns.shown_gid(self.gid),
        }
    }
}

/// Ancillary data.
#[derive(Clone, Default)]
pub struct Control {
    /// `SCM_RIGHTS`
    pub rights: Vec<Arc<File>>,
    /// `SCM_CREDENTIALS`
    pub creds: Option<Identity>,
}

/// Flags of send(2) that a family sees.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SendFlags {
    /// `MSG_DONTWAIT`, or the file is non-blocking.
    pub nonblocking: bool,
    /// `MSG_NOSIGNAL`
    pub no_signal: bool,
    /// `MSG_OOB`
    pub out_of_band: bool,
}

/// Flags of recv(2) that a family sees.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RecvFlags {
    /// `MSG_DONTWAIT`, or the file is non-blocking.
    pub nonblocking: bool,
    /// `MSG_PEEK`
    pub peek: bool,
    /// `MSG_WAITALL`
    pub wait_all: bool,
    /// `MSG_OOB`
    pub out_of_band: bool,
}

/// What is sent along with the bytes.
#[derive(Default)]
pub struct Message<'a> {
    /// Destination address, raw.
    pub to: Option<&'a [u8]>,
    /// Ancillary data.
    pub control: Control,
    /// Flags.
    pub flags: SendFlags,
}

/// Outcome of a receive.
#[derive(Default)]
pub struct Received {
    /// Bytes put.
    pub count: usize,
    /// True length of the message, which may be more (`MSG_TRUNC`).
    pub full: usize,
    /// The sender's address, raw; `None` where there is none to tell (connected streams).
    pub from: Option<Vec<u8>>,
    /// Ancillary data.
    pub control: Control,
}

/// shutdown(2)
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "shutdown(2) says what each is")]
pub enum Shutdown {
    Read,
    Write,
    Both,
}

/// One socket. Addresses are raw `sockaddr` bytes, from the guest: a family checks them.
pub trait Socket: Send + Sync + Any {
    /// `AF_*`
    fn domain(&self) -> i32;
    /// Its type.
    fn kind(&self) -> SocketKind;
    /// `IPPROTO_*`
    fn protocol(&self) -> i32;

    /// bind(2)
    fn bind(&self, cx: &dyn FsCtx, addr: &[u8]) -> Result<(), SysErr>;
    /// listen(2)
    fn listen(&self, cx: &dyn Ctx, backlog: i32) -> Result<(), Errno>;
    /// accept(2)
    fn accept(&self, cx: &dyn Ctx, nonblocking: bool) -> SysResult<Arc<dyn Socket>>;
    /// connect(2)
    fn connect(&self, cx: &dyn FsCtx, addr: &[u8], nonblocking: bool) -> SysResult<()>;
    /// shutdown(2)
    fn shutdown(&self, how: Shutdown) -> Result<(), Errno>;
    /// getsockname(2)
    fn local_name(&self) -> Result<Vec<u8>, Errno>;
    /// getpeername(2)
    fn peer_name(&self) -> Result<Vec<u8>, Errno>;

    /// sendmsg(2) without a destination, or write(2).
    fn send(&self, cx: &dyn Ctx, message: Message<'_>, src: &mut Src<'_>) -> SysResult;
    /// sendmsg(2) to `message.to`.
    fn send_to(&self, cx: &dyn FsCtx, message: Message<'_>, src: &mut Src<'_>) -> SysResult;
    /// recvmsg(2)
    fn recv(&self, cx: &dyn Ctx, flags: RecvFlags, dst: &mut Dst<'_>) -> SysResult<Received>;

    /// getsockopt(2): the value's bytes.
    fn option(&self, cx: &dyn Ctx, level: i32, name: i32) -> Result<Vec<u8>, Errno>;
    /// setsockopt(2)
    fn set_option(&self, cx: &dyn Ctx, level: i32, name: i32, value: &[u8]) -> Result<(), Errno>;
    /// Whether received messages carry credentials (`SO_PASSCRED`).
    fn wants_credentials(&self) -> bool {
        false
    }

    /// What is ready.
    fn ready(&self) -> Events;
    /// Hears of changes of it.
    fn queue(&self) -> &Queue;
    /// Who hears by signals of what happens to it.
    fn watchers(&self) -> &Watchers;
    /// Bytes a read could take now (`FIONREAD`), and bytes not yet taken by the peer (`SIOCOUTQ`).
    fn queued(&self) -> Result<(usize, usize), Errno>;
    /// The last descriptor of it was closed.
    fn close(&self);

    /// Inode number, as /proc/PID/fd shows it.
    fn ino(&self) -> u64;
    /// For code that knows the concrete type.
    fn as_any(&self) -> &dyn Any;
}

/// A deadline from a receive or send time-out option; `None` is no limit.
pub fn timeout(option: Option<Duration>) -> Option<std::time::Instant> {
    option.and_then(|d| std::time::Instant::now().checked_add(d))
}
