//! Files: fcntl(2) locks, poll(2) and epoll(7) entries, openat2(2).

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// `struct flock`.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
#[expect(missing_docs, reason = "fcntl(2) names every field")]
pub struct Flock {
    pub kind: i16,
    pub whence: i16,
    pub pad0: u32,
    pub start: i64,
    pub len: i64,
    pub pid: i32,
    pub pad1: u32,
}

/// `struct f_owner_ex`.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct OwnerEx {
    /// `F_OWNER_*`
    pub kind: i32,
    /// Thread, process or group.
    pub pid: i32,
}

/// `struct pollfd`.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
#[expect(missing_docs, reason = "poll(2) names every field")]
pub struct PollFd {
    pub fd: i32,
    pub events: i16,
    pub revents: i16,
}

/// `struct epoll_event`, which x86-64 packs.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct EpollEvent {
    /// `EPOLL*`
    pub events: u32,
    /// The user's own, low half first.
    pub data: [u32; 2],
}

/// `struct open_how` (openat2(2)).
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
#[expect(missing_docs, reason = "openat2(2) names every field")]
pub struct OpenHow {
    pub flags: u64,
    pub mode: u64,
    pub resolve: u64,
}

const _: () = assert!(size_of::<Flock>() == 32);
const _: () = assert!(size_of::<EpollEvent>() == 12);
