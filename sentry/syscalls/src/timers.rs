//! Timers that send signals: setitimer(2), alarm(2), timer_create(2).

use crate::user::{Args, put};
use abi::Errno;
use abi::libc;
use abi::time::{Itimerspec, Itimerval, Timespec, Timeval};
use ctx::{Ctx, SysResult, UserMemoryExt};
use signal::Signal;
use std::sync::Arc;
use task::{Interval, Notify, Setting, TaskCx, TimerClock};
use time::ClockId;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

const SECOND: u64 = 1_000_000_000;

fn interval(which: u64) -> Result<Interval, Errno> {
    match which as i32 {
        libc::ITIMER_REAL => Ok(Interval::Real),
        libc::ITIMER_VIRTUAL => Ok(Interval::Virtual),
        libc::ITIMER_PROF => Ok(Interval::Prof),
        _ => Err(Errno::EINVAL),
    }
}

fn nanos(t: Timeval) -> Result<u64, Errno> {
    if t.sec < 0 || !(0..1_000_000).contains(&t.usec) {
        return Err(Errno::EINVAL);
    }
    Ok((t.sec as u64)
        .saturating_mul(SECOND)
        .saturating_add(t.usec as u64 * 1000))
}

/// Rounded up: what is left of a timer must not look like nothing.
fn timeval(nanos: u64) -> Timeval {
    let micros = nanos.div_ceil(1000);
    Timeval {
        sec: (micros / 1_000_000) as i64,
        usec: (micros % 1_000_000) as i64,
    }
}

fn itimerval(s: Setting) -> Itimerval {
    Itimerval {
        interval: timeval(s.interval),
        value: timeval(s.value),
    }
}

pub(crate) fn getitimer(cx: &mut TaskCx, &[which, value, ..]: &Args) -> SysResult<u64> {
    let now = cx.group().timers().interval(interval(which)?);
    cx.memory().write_obj(value, &itimerval(now))?;
    Ok(0)
}

pub(crate) fn setitimer(cx: &mut TaskCx, &[which, new, old, ..]: &Args) -> SysResult<u64> {
    let setting = match new {
        // As Linux: no new value disarms.
        0 => Setting::default(),
        addr => {
            let raw: Itimerval = cx.memory().read_obj(addr)?;
            Setting {
                interval: nanos(raw.interval)?,
                value: nanos(raw.value)?,
            }
        }
    };
    let before = cx.group().timers().set_interval(interval(which)?, setting);
    put(cx, old, &itimerval(before))?;
    Ok(0)
}

pub(crate) fn alarm(cx: &mut TaskCx, &[seconds, ..]: &Args) -> SysResult<u64> {
    let setting = Setting {
        interval: 0,
        value: u64::from(seconds as u32) * SECOND,
    };
    let left = cx
        .group()
        .timers()
        .set_interval(Interval::Real, setting)
        .value;
    // Rounded to whole seconds, but never to none.
    let rounded = (left + SECOND / 2) / SECOND;
    Ok(if left > 0 { rounded.max(1) } else { 0 })
}

/// `struct sigevent`, as the kernel reads it.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Sigevent {
    value: u64,
    signo: i32,
    notify: i32,
    tid: i32,
    rest: [u32; 11],
}

const _: () = assert!(size_of::<Sigevent>() == 64);

fn clock(cx: &TaskCx, arg: u64) -> Result<TimerClock, Errno> {
    match arg as i32 {
        libc::CLOCK_PROCESS_CPUTIME_ID => Ok(TimerClock::Process),
        libc::CLOCK_THREAD_CPUTIME_ID => Ok(TimerClock::Thread(Arc::downgrade(cx.task()))),
        n => match ClockId::from_number(n)? {
            id @ (ClockId::Realtime | ClockId::Monotonic | ClockId::Boottime | ClockId::Tai) => {
                Ok(TimerClock::System(id))
            }
            _ => Err(Errno::EOPNOTSUPP),
        },
    }
}

pub(crate) fn timer_create(
    cx: &mut TaskCx,
    &[clock_arg, event, id_addr, ..]: &Args,
) -> SysResult<u64> {
    let event: Option<Sigevent> = match event {
        0 => None,
        addr => Some(cx.memory().read_obj(addr)?),
    };
    let clock = clock(cx, clock_arg)?;
    let id = match event {
        None => cx
            .group()
            .timers()
            .create(clock, |id| Notify::Process(Signal::ALRM, id as u64))?,
        Some(e) => {
            let notify = notify(cx, &e)?;
            cx.group().timers().create(clock, |_| notify)?
        }
    };
    if let Err(e) = cx.memory().write_obj(id_addr, &id) {
        let _ = cx.group().timers().delete(id);
        return Err(e.into());
    }
    Ok(0)
}

fn notify(cx: &TaskCx, e: &Sigevent) -> Result<Notify, Errno> {
    const THREAD_ID: i32 = libc::SIGEV_THREAD_ID;
    let signal = || Signal::new(e.signo);
    match e.notify {
        libc::SIGEV_NONE => Ok(Notify::None),
        libc::SIGEV_SIGNAL | libc::SIGEV_THREAD => Ok(Notify::Process(signal()?, e.value)),
        THREAD_ID => {
            let task = cx
                .task_called(e.tid)
                .filter(|t| t.tgid() == cx.task().tgid())
                .ok_or(Errno::EINVAL)?;
            Ok(Notify::Thread(Arc::downgrade(&task), signal()?, e.value))
        }
        _ => Err(Errno::EINVAL),
    }
}

fn itimerspec(s: Setting) -> Itimerspec {
    let spec = |n: u64| Timespec::from_nanos(i64::try_from(n).unwrap_or(i64::MAX));
    Itimerspec {
        interval: spec(s.interval),
        value: spec(s.value),
    }
}

pub(crate) fn timer_settime(cx: &mut TaskCx, &[id, flags, new, old, ..]: &Args) -> SysResult<u64> {
    if new == 0 {
        return Err(Errno::EINVAL.into());
    }
    let raw: Itimerspec = cx.memory().read_obj(new)?;
    let setting = Setting {
        interval: raw.interval.to_duration()?,
        value: raw.value.to_duration()?,
    };
    let absolute = flags as i32 & libc::TIMER_ABSTIME != 0;
    let before = cx.group().timers().set(id as i32, setting, absolute)?;
    put(cx, old, &itimerspec(before))?;
    Ok(0)
}

pub(crate) fn timer_gettime(cx: &mut TaskCx, &[id, value, ..]: &Args) -> SysResult<u64> {
    let now = cx.group().timers().get(id as i32)?;
    cx.memory().write_obj(value, &itimerspec(now))?;
    Ok(0)
}

pub(crate) fn timer_getoverrun(cx: &mut TaskCx, &[id, ..]: &Args) -> SysResult<u64> {
    Ok(cx.group().timers().overrun(id as i32)? as u64)
}

pub(crate) fn timer_delete(cx: &mut TaskCx, &[id, ..]: &Args) -> SysResult<u64> {
    cx.group().timers().delete(id as i32)?;
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_never_rounds_to_nothing() {
        assert_eq!(timeval(1), Timeval { sec: 0, usec: 1 });
        assert_eq!(timeval(999_999_001), Timeval { sec: 1, usec: 0 });
        assert_eq!(
            nanos(Timeval {
                sec: 1,
                usec: 1_000_000
            }),
            Err(Errno::EINVAL)
        );
    }
}
