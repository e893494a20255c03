//! Clocks and sleeping.

use crate::user::{Args, put};
use abi::Errno;
use abi::libc;
use abi::system::Timex;
use abi::time::{Timespec, Timeval};
use ctx::{Ctx, Restart, SysErr, SysResult, UserMemoryExt, Wake};
use std::sync::Arc;
use std::time::{Duration, Instant};
use task::{TaskCx, ThreadGroup};
use time::ClockId;

const CLOCK_PROCESS_CPUTIME_ID: i32 = 2;
const CLOCK_THREAD_CPUTIME_ID: i32 = 3;

/// A clock by the number a guest gives: a system-wide one, or the CPU time of a process or task.
#[derive(Clone, Copy)]
enum Clock {
    System(ClockId),
    /// 0 is the caller's.
    Process(i32),
    Thread(i32),
}

impl Clock {
    /// Negative numbers are made of a pid and the kind of clock (clock_getcpuclockid(3)).
    fn parse(arg: u64) -> Result<Clock, Errno> {
        const PER_THREAD: i32 = 4;
        const FD: i32 = 3;
        const NO_CLOCK: i32 = 3;
        let n = arg as i32;
        match n {
            CLOCK_PROCESS_CPUTIME_ID => Ok(Clock::Process(0)),
            CLOCK_THREAD_CPUTIME_ID => Ok(Clock::Thread(0)),
            n if n >= 0 => match ClockId::from_number(n)? {
                // As on a machine without a clock that can wake it.
                ClockId::RealtimeAlarm | ClockId::BoottimeAlarm => Err(Errno::EINVAL),
                id => Ok(Clock::System(id)),
            },
            n if n & 7 == FD || n & 3 == NO_CLOCK => Err(Errno::EINVAL),
            n if n & PER_THREAD != 0 => Ok(Clock::Thread(!(n >> 3))),
            n => Ok(Clock::Process(!(n >> 3))),
        }
    }

    fn now(self, cx: &TaskCx) -> Result<i64, Errno> {
        let nanos = match self {
            Clock::System(id) => return Ok(cx.kernel().now(id)),
            Clock::Process(0) => cx.task().group().cpu_time().total(),
            Clock::Thread(0) => cx.task().cpu_time().total(),
            Clock::Process(pid) => cx
                .process_called(pid)
                .ok_or(Errno::EINVAL)?
                .cpu_time()
                .total(),
            Clock::Thread(tid) => {
                // Only of one's own process.
                let task = cx.task_called(tid).filter(|t| t.tgid() == cx.task().tgid());
                task.ok_or(Errno::EINVAL)?.cpu_time().total()
            }
        };
        Ok(i64::try_from(nanos).unwrap_or(i64::MAX))
    }
}

pub(crate) fn clock_gettime(cx: &mut TaskCx, &[clock, tp, ..]: &Args) -> SysResult<u64> {
    let now = Clock::parse(clock)?.now(cx)?;
    cx.memory().write_obj(tp, &Timespec::from_nanos(now))?;
    Ok(0)
}

pub(crate) fn clock_getres(cx: &mut TaskCx, &[clock, res, ..]: &Args) -> SysResult<u64> {
    let resolution = match Clock::parse(clock)? {
        Clock::System(id) => cx.clocks().resolution(id),
        other => {
            other.now(cx)?;
            1
        }
    };
    put(cx, res, &Timespec::from_nanos(resolution))?;
    Ok(0)
}

/// The host's clocks are not the sandbox's to set.
pub(crate) fn clock_settime(cx: &mut TaskCx, &[clock, tp, ..]: &Args) -> SysResult<u64> {
    match Clock::parse(clock)? {
        Clock::System(ClockId::Realtime) => {}
        Clock::System(_) | Clock::Process(_) | Clock::Thread(_) => return Err(Errno::EINVAL.into()),
    }
    let t: Timespec = cx.memory().read_obj(tp)?;
    t.to_duration()?;
    Err(Errno::EPERM.into())
}

pub(crate) fn settimeofday(cx: &mut TaskCx, &[tv, tz, ..]: &Args) -> SysResult<u64> {
    if tv != 0 {
        let t: Timeval = cx.memory().read_obj(tv)?;
        if !(0..1_000_000).contains(&t.usec) {
            return Err(Errno::EINVAL.into());
        }
    }
    if tz != 0 {
        let _: [i32; 2] = cx.memory().read_obj(tz)?;
    }
    Err(Errno::EPERM.into())
}

pub(crate) fn gettimeofday(cx: &mut TaskCx, &[tv, tz, ..]: &Args) -> SysResult<u64> {
    let now = Timespec::from_nanos(cx.kernel().now(ClockId::Realtime));
    put(
        cx,
        tv,
        &Timeval {
            sec: now.sec,
            usec: now.nsec / 1000,
        },
    )?;
    put(cx, tz, &[0i32; 2])?;
    Ok(0)
}

pub(crate) fn time(cx: &mut TaskCx, &[tloc, ..]: &Args) -> SysResult<u64> {
    let sec = Timespec::from_nanos(cx.kernel().now(ClockId::Realtime)).sec;
    put(cx, tloc, &sec)?;
    Ok(sec as u64)
}

pub(crate) fn adjtimex(cx: &mut TaskCx, &[buf, ..]: &Args) -> SysResult<u64> {
    clock_adjtime(cx, &[0, buf, 0, 0, 0, 0])
}

pub(crate) fn clock_adjtime(cx: &mut TaskCx, &[clock, buf, ..]: &Args) -> SysResult<u64> {
    const STA_UNSYNC: i32 = 0x40;
    const TIME_ERROR: u64 = 5;
    const ADJ_OFFSET_SS_READ: u32 = 0xa001;
    match Clock::parse(clock)? {
        Clock::System(ClockId::Realtime) => {}
        _ => return Err(Errno::EOPNOTSUPP.into()),
    }
    let asked: Timex = cx.memory().read_obj(buf)?;
    if asked.modes != 0 && asked.modes != ADJ_OFFSET_SS_READ {
        // The clock is the host's. What is asked for is not even looked at, whatever the caller's
        // capabilities, as in a container without CAP_SYS_TIME.
        return Err(Errno::EPERM.into());
    }
    let now = Timespec::from_nanos(cx.kernel().now(ClockId::Realtime));
    let state = Timex {
        modes: asked.modes,
        status: STA_UNSYNC,
        maxerror: 16_000_000,
        esterror: 16_000_000,
        constant: 2,
        precision: 1,
        tolerance: 32_768_000,
        tick: 10_000,
        time: Timeval {
            sec: now.sec,
            usec: now.nsec / 1000,
        },
        ..Timex::default()
    };
    cx.memory().write_obj(buf, &state)?;
    Ok(TIME_ERROR)
}

pub(crate) fn nanosleep(cx: &mut TaskCx, &[duration, rem, ..]: &Args) -> SysResult<u64> {
    let t: Timespec = cx.memory().read_obj(duration)?;
    sleep_for(cx, t, rem)
}

pub(crate) fn clock_nanosleep(
    cx: &mut TaskCx,
    &[clock, flags, t, rem, ..]: &Args,
) -> SysResult<u64> {
    // A clock that no sleep is known for is told before the time is looked at; one on which this
    // kernel cannot sleep (what wakes a machine up) after it.
    let number = clock as i32;
    let clock = match Clock::parse(clock) {
        Ok(
            id @ Clock::System(
                ClockId::Realtime | ClockId::Monotonic | ClockId::Boottime | ClockId::Tai,
            ),
        ) => Ok(id),
        Ok(id @ Clock::Process(_)) => Ok(id),
        // Of CPU clocks, a thread's is none to sleep on, nor is one that is nobody's.
        _ if number < 0 && is_sleepable(number) => Err(Errno::EINVAL),
        _ if is_sleepable(number) => Err(Errno::EOPNOTSUPP),
        Ok(_) => return Err(Errno::EOPNOTSUPP.into()),
        Err(e) => return Err(e.into()),
    };
    let t: Timespec = cx.memory().read_obj(t)?;
    let nanos = t.to_duration()?;
    let absolute = flags as i32 & libc::TIMER_ABSTIME != 0;
    let clock = match clock? {
        Clock::System(clock) => clock,
        Clock::Process(pid) => return sleep_on_cpu_time(cx, pid, nanos, absolute, rem),
        Clock::Thread(_) => return Err(Errno::EINVAL.into()),
    };
    if !absolute {
        return sleep_for(cx, t, rem);
    }
    let at = cx
        .clocks()
        .instant(clock, i64::try_from(nanos).unwrap_or(i64::MAX));
    match sleep(cx, at) {
        true => Ok(0),
        false => Err(Restart::NoHandler.into()),
    }
}

/// Sleeps until a process (0 is the caller's) has used so much more CPU time, or so much.
fn sleep_on_cpu_time(
    cx: &mut TaskCx,
    pid: i32,
    nanos: u64,
    absolute: bool,
    rem: u64,
) -> SysResult<u64> {
    let group = match pid {
        0 => cx.task().group().clone(),
        pid => cx.process_called(pid).ok_or(Errno::EINVAL)?,
    };
    let until = match absolute {
        true => nanos,
        false => group.cpu_time().total().saturating_add(nanos),
    };
    if !absolute {
        return sleep_until_used(cx, group, until, rem);
    }
    match cx.sleep_on_cpu_time(&group, until) {
        true => Ok(0),
        false => Err(Restart::NoHandler.into()),
    }
}

/// As [`sleep_until`], on the CPU time of a process.
fn sleep_until_used(
    cx: &mut TaskCx,
    group: Arc<ThreadGroup>,
    until: u64,
    rem: u64,
) -> SysResult<u64> {
    if cx.sleep_on_cpu_time(&group, until) {
        return Ok(0);
    }
    let left = until.saturating_sub(group.cpu_time().total());
    let left = Timespec::from_nanos(i64::try_from(left).unwrap_or(i64::MAX));
    put(cx, rem, &left)?;
    cx.restart_with(Box::new(move |cx: &mut TaskCx| {
        sleep_until_used(cx, group, until, rem)
    }))
}

/// The clocks beyond the usual ones for which Linux has a way to sleep: a process's CPU time, the
/// alarm clocks, and those of negative numbers but for descriptors.
fn is_sleepable(number: i32) -> bool {
    match number {
        CLOCK_PROCESS_CPUTIME_ID => true,
        n if n >= 0 => matches!(
            ClockId::from_number(n),
            Ok(ClockId::RealtimeAlarm | ClockId::BoottimeAlarm)
        ),
        n => n & 7 != 3,
    }
}

fn sleep_for(cx: &mut TaskCx, t: Timespec, rem: u64) -> SysResult<u64> {
    let until = Instant::now().checked_add(Duration::from_nanos(t.to_duration()?));
    sleep_until(cx, until, rem)
}

/// Sleeps, and goes on with the rest when a signal without a handler came between.
fn sleep_until(cx: &mut TaskCx, until: Option<Instant>, rem: u64) -> SysResult<u64> {
    if sleep(cx, until) {
        return Ok(0);
    }
    let left = until.map_or(Duration::MAX, |u| {
        u.saturating_duration_since(Instant::now())
    });
    if left.is_zero() {
        return Ok(0);
    }
    let left = Timespec::from_nanos(i64::try_from(left.as_nanos()).unwrap_or(i64::MAX));
    put(cx, rem, &left).map_err(SysErr::from)?;
    cx.restart_with(Box::new(move |cx: &mut TaskCx| sleep_until(cx, until, rem)))
}

/// Whether the time came before a signal did.
fn sleep(cx: &TaskCx, until: Option<Instant>) -> bool {
    loop {
        match cx.park(until) {
            Wake::Notified => {}
            Wake::TimedOut => return true,
            Wake::Interrupted => return false,
        }
    }
}
