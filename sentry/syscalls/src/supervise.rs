//! Requests on a descriptor that decides about another's calls (seccomp_unotify(2)).

use crate::user::extensible;
use abi::{Errno, libc};
use ctx::{Ctx, SysResult, UserMemoryExt};
use task::{Decision, Gift, Listener, TaskCx};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

const RECV: u32 = 0xc050_2100;
const SEND: u32 = 0xc018_2101;
const ID_VALID: u32 = 0x4008_2102;
/// With the direction that Linux before 5.10 had.
const ID_VALID_OF_OLD: u32 = 0x8008_2102;
const SET_FLAGS: u32 = 0x4008_2104;
/// `SECCOMP_IOCTL_NOTIF_ADDFD` without its size, which may grow, and direction.
const ADD_FD: u32 = 0x2103;
/// The bits of a request that say what it is.
const WHAT: u32 = 0xffff;

const CONTINUE: u32 = libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE as u32;
/// `SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP`, which is a hint to a scheduler.
const SYNC_WAKE_UP: u64 = 1;
/// `SECCOMP_ADDFD_FLAG_SETFD`
const SET_FD: u32 = 1;
/// `SECCOMP_ADDFD_FLAG_SEND`
const AND_SEND: u32 = 2;

/// `struct seccomp_notif_sizes`
#[derive(IntoBytes, Immutable)]
#[repr(C)]
struct Sizes {
    notice: u16,
    response: u16,
    data: u16,
}

/// `struct seccomp_notif`
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct RawNotice {
    id: u64,
    pid: i32,
    flags: u32,
    nr: u32,
    arch: u32,
    ip: u64,
    args: [u64; 6],
}

/// `struct seccomp_notif_resp`
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct RawResponse {
    id: u64,
    val: i64,
    error: i32,
    flags: u32,
}

/// `struct seccomp_notif_addfd`
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct RawGift {
    id: u64,
    flags: u32,
    from: u32,
    number: u32,
    number_flags: u32,
}

const _: () = assert!(size_of::<RawNotice>() == 80 && size_of::<RawResponse>() == 24);
const _: () = assert!(size_of::<RawGift>() == 24);

/// `SECCOMP_GET_NOTIF_SIZES`
pub(crate) fn put_sizes(cx: &TaskCx, addr: u64) -> Result<(), Errno> {
    /// `struct seccomp_data`
    const DATA: u16 = 64;
    let sizes = Sizes {
        notice: size_of::<RawNotice>() as u16,
        response: size_of::<RawResponse>() as u16,
        data: DATA,
    };
    cx.memory().write_obj(addr, &sizes)
}

pub(crate) fn ioctl(cx: &TaskCx, listener: &Listener, request: u32, arg: u64) -> SysResult<u64> {
    match request {
        RECV => receive(cx, listener, arg)?,
        SEND => respond(cx, listener, arg)?,
        ID_VALID | ID_VALID_OF_OLD => {
            if !listener.is_valid(cx.memory().read_obj(arg)?) {
                return Err(Errno::ENOENT.into());
            }
        }
        SET_FLAGS => {
            if arg & !SYNC_WAKE_UP != 0 {
                return Err(Errno::EINVAL.into());
            }
        }
        _ if request & WHAT == ADD_FD => return give(cx, listener, request, arg),
        _ => return Err(Errno::EINVAL.into()),
    }
    Ok(0)
}

fn receive(cx: &TaskCx, listener: &Listener, addr: u64) -> SysResult<()> {
    let room: RawNotice = cx.memory().read_obj(addr)?;
    if room.as_bytes().iter().any(|b| *b != 0) {
        return Err(Errno::EINVAL.into());
    }
    let taken = listener.take(cx)?;
    let notice = RawNotice {
        id: taken.id,
        pid: taken.tid,
        flags: 0,
        nr: taken.call.nr,
        arch: seccomp::ARCH,
        ip: taken.call.ip,
        args: taken.call.args,
    };
    if let Err(e) = cx.memory().write_obj(addr, &notice) {
        listener.untake(taken.id);
        return Err(e.into());
    }
    Ok(())
}

fn respond(cx: &TaskCx, listener: &Listener, addr: u64) -> Result<(), Errno> {
    let response: RawResponse = cx.memory().read_obj(addr)?;
    let goes_on = response.flags & CONTINUE != 0;
    let says = response.error != 0 || response.val != 0;
    if response.flags & !CONTINUE != 0 || (goes_on && says) {
        return Err(Errno::EINVAL);
    }
    let decision = match (goes_on, response.error) {
        (true, _) => Decision::Make,
        (false, 0) => Decision::Answer(response.val as u64),
        (false, error) => Decision::Answer(i64::from(error) as u64),
    };
    listener.decide(response.id, decision)
}

fn give(cx: &TaskCx, listener: &Listener, request: u32, addr: u64) -> SysResult<u64> {
    let size = u64::from(request >> 16 & 0x3fff);
    if size >= abi::page::PAGE_SIZE {
        return Err(Errno::EINVAL.into());
    }
    let raw: RawGift = extensible(cx, addr, size, size_of::<RawGift>() as u64)?;
    let cloexec = libc::O_CLOEXEC as u32;
    if raw.number_flags & !cloexec != 0
        || raw.flags & !(SET_FD | AND_SEND) != 0
        || (raw.number != 0 && raw.flags & SET_FD == 0)
    {
        return Err(Errno::EINVAL.into());
    }
    let gift = Gift::new(
        cx,
        cx.fd_table().get(raw.from as i32)?,
        (raw.flags & SET_FD != 0).then_some(raw.number as i32),
        raw.number_flags != 0,
        raw.flags & AND_SEND != 0,
    );
    listener.give(cx, raw.id, gift)
}
