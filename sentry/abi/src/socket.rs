//! Sockets: the headers of messages.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// `struct msghdr`.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
#[expect(missing_docs, reason = "recv(2) names every field")]
pub struct MsgHdr {
    pub name: u64,
    pub namelen: u32,
    pub pad0: u32,
    pub iov: u64,
    pub iovlen: u64,
    pub control: u64,
    pub controllen: u64,
    pub flags: u32,
    pub pad1: u32,
}

/// `struct mmsghdr`.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct MmsgHdr {
    /// The message.
    pub hdr: MsgHdr,
    /// Bytes sent or received.
    pub len: u32,
    /// Padding.
    pub pad: u32,
}

/// `struct cmsghdr`.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct CmsgHdr {
    /// Bytes, this header included.
    pub len: u64,
    /// `SOL_*`
    pub level: i32,
    /// `SCM_*`
    pub kind: i32,
}

/// `struct ucred`.
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

const _: () = assert!(size_of::<MsgHdr>() == 56);
const _: () = assert!(size_of::<MmsgHdr>() == 64);
