//! The second futex API: futex_waitv(2), futex_wait(2), futex_wake(2), futex_requeue(2).

use crate::futexes::deadline;
use crate::user::Args;
use abi::{Errno, libc};
use ctx::{Ctx, Restart, SysResult, UserMemoryExt};
use std::time::Instant;
use task::{TaskCx, WaitOn};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// The bits that say how large the word is.
const SIZE_MASK: u32 = 3;
const SIZE_U32: u32 = 2;
const PRIVATE: u32 = 128;
/// With NUMA nodes (4) and MPOL (8), which a machine with one node need not have.
const KNOWN: u32 = SIZE_MASK | PRIVATE;
/// `FUTEX_WAITV_MAX`
const MOST: u32 = 128;

/// `struct futex_waitv`.
#[derive(Clone, Copy, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Waitv {
    val: u64,
    uaddr: u64,
    flags: u32,
    reserved: u32,
}

/// Whether the word is shared.
fn flags(word: u32) -> Result<bool, Errno> {
    if word & !KNOWN != 0 || word & SIZE_MASK != SIZE_U32 {
        return Err(Errno::EINVAL);
    }
    Ok(word & PRIVATE == 0)
}

fn value(word: u64) -> Result<u32, Errno> {
    u32::try_from(word).map_err(|_| Errno::EINVAL)
}

fn until(cx: &TaskCx, timeout: u64, clock: u64) -> Result<Option<Instant>, Errno> {
    if timeout == 0 {
        return Ok(None);
    }
    let wall = match clock as i32 {
        libc::CLOCK_REALTIME => true,
        libc::CLOCK_MONOTONIC => false,
        _ => return Err(Errno::EINVAL),
    };
    deadline(cx, timeout, false, wall)
}

fn elements(cx: &TaskCx, addr: u64, count: u32) -> Result<Vec<WaitOn>, Errno> {
    let mut all = Vec::with_capacity(count as usize);
    for i in 0..u64::from(count) {
        let at = addr.checked_add(i * size_of::<Waitv>() as u64);
        let element: Waitv = cx.memory().read_obj(at.ok_or(Errno::EFAULT)?)?;
        let shared = flags(element.flags)?;
        if element.reserved != 0 {
            return Err(Errno::EINVAL);
        }
        all.push(WaitOn {
            addr: element.uaddr,
            expected: value(element.val)?,
            shared,
        });
    }
    Ok(all)
}

pub(crate) fn futex_waitv(
    cx: &mut TaskCx,
    &[waiters, count, word, timeout, clock, _]: &Args,
) -> SysResult<u64> {
    let count = count as u32;
    if word as u32 != 0 || !(1..=MOST).contains(&count) || waiters == 0 {
        return Err(Errno::EINVAL.into());
    }
    let until = until(cx, timeout, clock)?;
    let all = elements(cx, waiters, count)?;
    cx.futex_wait_many(&all, until)
}

pub(crate) fn futex_wait(
    cx: &mut TaskCx,
    &[addr, val, mask, word, timeout, clock]: &Args,
) -> SysResult<u64> {
    let shared = flags(word as u32)?;
    let (val, mask) = (value(val)?, value(mask)?);
    let until = until(cx, timeout, clock)?;
    cx.futex_wait(addr, shared, val, mask, until, Restart::Sys)
}

pub(crate) fn futex_wake(cx: &mut TaskCx, &[addr, mask, count, word, ..]: &Args) -> SysResult<u64> {
    let shared = flags(word as u32)?;
    let mask = value(mask)?;
    // Unlike futex(2), no count wakes nobody.
    match count as i32 {
        n if n <= 0 && mask != 0 => Ok(0),
        n => Ok(u64::from(cx.futex_wake(
            addr,
            shared,
            n.max(0) as u32,
            mask,
        )?)),
    }
}

pub(crate) fn futex_requeue(
    cx: &mut TaskCx,
    &[waiters, word, wake, requeue, ..]: &Args,
) -> SysResult<u64> {
    if word as u32 != 0 || waiters == 0 {
        return Err(Errno::EINVAL.into());
    }
    let all = elements(cx, waiters, 2)?;
    let (Ok(wake), Ok(requeue)) = (u32::try_from(wake as i32), u32::try_from(requeue as i32))
    else {
        return Err(Errno::EINVAL.into());
    };
    let [from, to] = all[..] else {
        return Err(Errno::EINVAL.into());
    };
    let keys = (from.addr, from.shared, to.addr, to.shared);
    let (woken, moved) = cx.futex_requeue_two(keys, wake, requeue, from.expected)?;
    Ok(u64::from(woken + moved))
}
