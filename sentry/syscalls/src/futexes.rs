//! futex(2) and robust lists.

use crate::user::Args;
use abi::Errno;
use abi::time::Timespec;
use ctx::{Ctx, Restart, SysErr, SysResult, UserMemoryExt};
use futex::BITSET_ANY;
use std::time::{Duration, Instant};
use task::{Ids, TaskCx};
use time::ClockId;

const WAIT: u32 = 0;
const WAKE: u32 = 1;
const REQUEUE: u32 = 3;
const CMP_REQUEUE: u32 = 4;
const WAKE_OP: u32 = 5;
const LOCK_PI: u32 = 6;
const UNLOCK_PI: u32 = 7;
const TRYLOCK_PI: u32 = 8;
const WAIT_BITSET: u32 = 9;
const WAKE_BITSET: u32 = 10;
const WAIT_REQUEUE_PI: u32 = 11;
const CMP_REQUEUE_PI: u32 = 12;
const LOCK_PI2: u32 = 13;
const PRIVATE: u32 = 128;
const CLOCK_REALTIME: u32 = 256;

pub(crate) fn futex(
    cx: &mut TaskCx,
    &[addr, op, val, timeout, addr2, val3]: &Args,
) -> SysResult<u64> {
    let op = op as u32;
    let command = op & !(PRIVATE | CLOCK_REALTIME);
    let shared = op & PRIVATE == 0;
    let (val, val3) = (val as u32, val3 as u32);
    // The clock can be chosen for these alone.
    let wall = op & CLOCK_REALTIME != 0;
    if wall && !matches!(command, WAIT_BITSET | WAIT_REQUEUE_PI | LOCK_PI2) {
        // A time that is none is told before.
        if matches!(command, WAIT | LOCK_PI) && timeout != 0 {
            deadline(cx, timeout, false, true)?;
        }
        return Err(Errno::ENOSYS.into());
    }
    match command {
        WAIT | WAIT_BITSET => {
            let bitset = if command == WAIT { BITSET_ANY } else { val3 };
            let until = match timeout {
                0 => None,
                at => Some(deadline(cx, at, command == WAIT, op & CLOCK_REALTIME != 0)?),
            };
            let wait = Wait {
                addr,
                val,
                bitset,
                shared,
            };
            wait.run(cx, until, command == WAIT)
        }
        WAKE | WAKE_BITSET => {
            let bitset = if command == WAKE { BITSET_ANY } else { val3 };
            Ok(u64::from(cx.futex_wake(
                addr,
                shared,
                at_least_one(val),
                bitset,
            )?))
        }
        REQUEUE | CMP_REQUEUE => {
            let (Ok(wake), Ok(requeue)) =
                (u32::try_from(val as i32), u32::try_from(timeout as i32))
            else {
                return Err(Errno::EINVAL.into());
            };
            let expected = (command == CMP_REQUEUE).then_some(val3);
            let (woken, moved) = cx.futex_requeue(addr, addr2, shared, wake, requeue, expected)?;
            // Both count, whatever the manual page says of FUTEX_REQUEUE.
            Ok(u64::from(woken + moved))
        }
        WAKE_OP => {
            let (first, second) = (at_least_one(val), at_least_one(timeout as u32));
            Ok(u64::from(
                cx.futex_wake_op(addr, addr2, shared, first, second, val3)?,
            ))
        }
        LOCK_PI | LOCK_PI2 => {
            let until = match timeout {
                0 => None,
                at => deadline(cx, at, false, wall || command == LOCK_PI)?,
            };
            cx.futex_lock_pi(addr, shared, until, false)
        }
        TRYLOCK_PI => cx.futex_lock_pi(addr, shared, None, true),
        UNLOCK_PI => cx.futex_unlock_pi(addr, shared),
        WAIT_REQUEUE_PI => {
            let until = match timeout {
                0 => None,
                at => deadline(cx, at, false, wall)?,
            };
            cx.futex_wait_requeue_pi(addr, val, addr2, shared, until)
        }
        CMP_REQUEUE_PI => {
            let requeue = u32::try_from(timeout as i32).map_err(|_| Errno::EINVAL)?;
            if val != 1 {
                return Err(Errno::EINVAL.into());
            }
            Ok(cx.futex_requeue_pi(addr, val3, addr2, shared, requeue)? as u64)
        }
        _ => Err(Errno::ENOSYS.into()),
    }
}

/// When a wait gives up: `None` where that is further away than a clock can tell.
pub(crate) fn deadline(
    cx: &TaskCx,
    addr: u64,
    relative: bool,
    wall: bool,
) -> Result<Option<Instant>, Errno> {
    let t: Timespec = cx.memory().read_obj(addr)?;
    let nanos = t.to_duration()?;
    if relative {
        return Ok(Instant::now().checked_add(Duration::from_nanos(nanos)));
    }
    let clock = if wall {
        ClockId::Realtime
    } else {
        ClockId::Monotonic
    };
    Ok(cx
        .clocks()
        .instant(clock, i64::try_from(nanos).unwrap_or(i64::MAX)))
}

#[derive(Clone, Copy)]
struct Wait {
    addr: u64,
    val: u32,
    bitset: u32,
    shared: bool,
}

impl Wait {
    /// An absolute time needs nothing to go on by after a signal; a relative one goes on with
    /// what is left of it.
    fn run(
        self,
        cx: &mut TaskCx,
        until: Option<Option<Instant>>,
        relative: bool,
    ) -> SysResult<u64> {
        let goes_on = until.is_some() && relative;
        let restart = if goes_on {
            Restart::Block
        } else {
            Restart::Sys
        };
        let (addr, val) = (self.addr, self.val);
        match cx.futex_wait(
            addr,
            self.shared,
            val,
            self.bitset,
            until.flatten(),
            restart,
        ) {
            Err(SysErr::Restart(Restart::Block)) => {
                cx.restart_with(Box::new(move |cx: &mut TaskCx| {
                    self.run(cx, until, relative)
                }))
            }
            other => other,
        }
    }
}

/// A count of waiters: an `int` of which Linux looks at the sign only after the first wake-up.
fn at_least_one(count: u32) -> u32 {
    (count as i32).max(1) as u32
}

/// Bytes of `struct robust_list_head`.
const ROBUST_HEAD: u64 = 24;

pub(crate) fn set_robust_list(cx: &mut TaskCx, &[head, len, ..]: &Args) -> SysResult<u64> {
    if len != ROBUST_HEAD {
        return Err(Errno::EINVAL.into());
    }
    cx.set_robust_list(head);
    Ok(0)
}

pub(crate) fn get_robust_list(cx: &mut TaskCx, &[tid, head, len, ..]: &Args) -> SysResult<u64> {
    let tid = tid as i32;
    let value = if tid == 0 || tid == cx.tid() {
        cx.robust_list(cx.task())
    } else {
        let other = cx.task_called(tid).ok_or(Errno::ESRCH)?;
        let list = other.look(cx, Ids::Real, || cx.robust_list(&other));
        list.ok_or(Errno::EPERM)?
    };
    cx.memory().write_obj(len, &ROBUST_HEAD)?;
    cx.memory().write_obj(head, &value)?;
    Ok(0)
}
