//! Asynchronous I/O (io_submit(2)).

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// `struct iocb`.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
#[expect(missing_docs, reason = "io_submit(2) names every field")]
pub struct Iocb {
    pub data: u64,
    pub key: u32,
    pub rw_flags: i32,
    pub opcode: u16,
    pub reqprio: u16,
    pub fildes: u32,
    pub buf: u64,
    pub nbytes: u64,
    pub offset: i64,
    pub reserved2: u64,
    pub flags: u32,
    pub resfd: u32,
}

/// `struct io_event`.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct IoEvent {
    /// What the request's `data` was.
    pub data: u64,
    /// Where the request was.
    pub obj: u64,
    /// Bytes, events of poll, or a negative error number.
    pub res: i64,
    /// Always 0.
    pub res2: i64,
}

/// `struct aio_ring`, at the start of a ring; events follow.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct RingHeader {
    /// Which of the process's contexts it is.
    pub id: u32,
    /// Events that fit.
    pub nr: u32,
    /// The first that was not taken; who takes events in user space stores it.
    pub head: u32,
    /// Behind the last.
    pub tail: u32,
    /// `AIO_RING_MAGIC`
    pub magic: u32,
    /// 1
    pub compat_features: u32,
    /// 0
    pub incompat_features: u32,
    /// Bytes of this.
    pub header_length: u32,
}

/// What `magic` of a [`RingHeader`] is.
pub const RING_MAGIC: u32 = 0xa10a_10a1;

/// `IOCB_CMD_*`
pub const CMD_PREAD: u16 = 0;
/// `IOCB_CMD_PWRITE`
pub const CMD_PWRITE: u16 = 1;
/// `IOCB_CMD_FSYNC`
pub const CMD_FSYNC: u16 = 2;
/// `IOCB_CMD_FDSYNC`
pub const CMD_FDSYNC: u16 = 3;
/// `IOCB_CMD_POLL`
pub const CMD_POLL: u16 = 5;
/// `IOCB_CMD_PREADV`
pub const CMD_PREADV: u16 = 7;
/// `IOCB_CMD_PWRITEV`
pub const CMD_PWRITEV: u16 = 8;

/// `IOCB_FLAG_RESFD`
pub const FLAG_RESFD: u32 = 1;
/// `IOCB_FLAG_IOPRIO`
pub const FLAG_IOPRIO: u32 = 2;
