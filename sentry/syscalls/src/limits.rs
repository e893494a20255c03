//! Limits and usage.

use crate::user::{Args, put};
use abi::Errno;
use abi::process::{Rusage, Tms};
use abi::time::{Timespec, Timeval};
use auth::Capability;
use ctx::{Ctx, Resource, SysResult, UserMemoryExt};
use std::sync::Arc;
use task::{CpuTime, Rlimit, TaskCx, ThreadGroup, resource_from_number};
use time::ClockId;

const RUSAGE_SELF: i32 = 0;
const RUSAGE_CHILDREN: i32 = -1;
const RUSAGE_THREAD: i32 = 1;
/// Nanoseconds of a clock tick (`USER_HZ` is 100).
const TICK: u64 = 10_000_000;

pub(crate) fn getrlimit(cx: &mut TaskCx, &[resource, addr, ..]: &Args) -> SysResult<u64> {
    let resource = resource_from_number(resource as u32)?;
    let limit = cx.task().group().limits().get(resource);
    cx.memory().write_obj(addr, &limit)?;
    Ok(0)
}

pub(crate) fn setrlimit(cx: &mut TaskCx, &[resource, addr, ..]: &Args) -> SysResult<u64> {
    let new: Rlimit = cx.memory().read_obj(addr)?;
    let resource = resource_from_number(resource as u32)?;
    let may_raise = cx.creds().has(Capability::SysResource);
    let group = cx.task().group();
    group.limits().set(resource, new, may_raise)?;
    watch(group, resource);
    Ok(0)
}

pub(crate) fn prlimit64(cx: &mut TaskCx, &[pid, resource, new, old, ..]: &Args) -> SysResult<u64> {
    let new: Option<Rlimit> = match new {
        0 => None,
        addr => Some(cx.memory().read_obj(addr)?),
    };
    let group: Arc<ThreadGroup> = match pid as i32 {
        0 => cx.task().group().clone(),
        pid => {
            let other = cx.task_called(pid).ok_or(Errno::ESRCH)?;
            if !may_limit(cx, &other) {
                return Err(Errno::EPERM.into());
            }
            other.group().clone()
        }
    };
    let resource = resource_from_number(resource as u32)?;
    let before = match new {
        Some(new) => {
            let before =
                group
                    .limits()
                    .set(resource, new, cx.creds().has(Capability::SysResource))?;
            watch(&group, resource);
            before
        }
        None => group.limits().get(resource),
    };
    put(cx, old, &before)?;
    Ok(0)
}

/// RLIMIT_CPU is a timer, and the limit on the stack is looked at when it grows.
fn watch(group: &ThreadGroup, resource: Resource) {
    match resource {
        Resource::Cpu => group.timers().cpu_limit_changed(),
        Resource::Stack | Resource::As => {
            if let Some(mm) = group.any_thread().and_then(|t| t.mm()) {
                mm.set_limits(&group.limits().memory());
            }
        }
        _ => {}
    }
}

/// The rule of prlimit(2).
fn may_limit(cx: &TaskCx, other: &task::Task) -> bool {
    if other.tid() == cx.task().tid() {
        return true;
    }
    let (mine, theirs) = (cx.creds(), other.creds());
    let same = [theirs.ruid, theirs.euid, theirs.suid]
        .iter()
        .all(|id| *id == mine.ruid)
        && [theirs.rgid, theirs.egid, theirs.sgid]
            .iter()
            .all(|id| *id == mine.rgid);
    same || mine.has_in(&theirs.user_ns, Capability::SysResource)
}

fn timeval(nanos: u64) -> Timeval {
    let t = Timespec::from_nanos(i64::try_from(nanos).unwrap_or(i64::MAX));
    Timeval {
        sec: t.sec,
        usec: t.nsec / 1000,
    }
}

/// CPU time and memory as `struct rusage` has them.
pub(crate) fn rusage(time: CpuTime, peak_resident: u64) -> Rusage {
    Rusage {
        utime: timeval(time.user),
        stime: timeval(time.system),
        maxrss: (peak_resident / 1024) as i64,
        minflt: time.faults as i64,
        nvcsw: time.switches as i64,
        ..Rusage::default()
    }
}

pub(crate) fn getrusage(cx: &mut TaskCx, &[who, addr, ..]: &Args) -> SysResult<u64> {
    let group = cx.task().group();
    let usage = match who as i32 {
        RUSAGE_SELF => rusage(group.cpu_time(), group.peak_resident().0),
        RUSAGE_CHILDREN => rusage(group.children_time(), group.peak_resident().1),
        RUSAGE_THREAD => rusage(cx.task().cpu_time(), group.peak_resident().0),
        _ => return Err(Errno::EINVAL.into()),
    };
    cx.memory().write_obj(addr, &usage)?;
    Ok(0)
}

pub(crate) fn times(cx: &mut TaskCx, &[addr, ..]: &Args) -> SysResult<u64> {
    if addr != 0 {
        let (own, children) = (
            cx.task().group().cpu_time(),
            cx.task().group().children_time(),
        );
        let ticks = |nanos: u64| (nanos / TICK) as i64;
        let tms = Tms {
            utime: ticks(own.user),
            stime: ticks(own.system),
            cutime: ticks(children.user),
            cstime: ticks(children.system),
        };
        cx.memory().write_obj(addr, &tms)?;
    }
    // An arbitrary point in the past: the machine's start.
    Ok((cx.clocks().now(ClockId::Boottime) / TICK as i64) as u64)
}
