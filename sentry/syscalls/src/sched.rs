//! Scheduling: what a task asks for is kept and told; the host decides.

use crate::user::Args;
use abi::Errno;
use abi::libc;
use abi::process::SchedAttr;
use abi::time::Timespec;
use auth::{Capability, Creds};
use ctx::{Ctx, Resource, SysResult, UserMemoryExt};
use std::ops::RangeInclusive;
use std::sync::Arc;
use task::{Scheduling, Task, TaskCx};

const RESET_ON_FORK: i32 = 0x4000_0000;
/// `SCHED_FLAG_RESET_ON_FORK`
const FLAG_RESET_ON_FORK: u64 = 1;
/// The time slice of `SCHED_RR`.
const SLICE: i64 = 100_000_000;

pub(crate) fn sched_yield(_cx: &mut TaskCx, _args: &Args) -> SysResult<u64> {
    std::thread::yield_now();
    Ok(0)
}

/// The task that `tid` means: 0 is the caller.
fn target(cx: &TaskCx, tid: u64) -> Result<Arc<Task>, Errno> {
    match tid as i32 {
        0 => Ok(cx.task().clone()),
        tid if tid < 0 => Err(Errno::EINVAL),
        tid => cx.task_called(tid).ok_or(Errno::ESRCH),
    }
}

/// As [`target`], for the calls to which a negative id is one that nobody has.
fn by_id(cx: &TaskCx, tid: u64) -> Result<Arc<Task>, Errno> {
    if (tid as i32) < 0 {
        return Err(Errno::ESRCH);
    }
    target(cx, tid)
}

/// Whether `other` is the caller's own, so far as how it is scheduled goes.
fn is_own(mine: &Creds, theirs: &Creds) -> bool {
    mine.euid == theirs.euid || mine.euid == theirs.ruid
}

/// Whether the caller may choose where `other` runs, and how nice it is.
fn may_change(cx: &TaskCx, other: &Task) -> bool {
    let (mine, theirs) = (cx.creds(), other.creds());
    is_own(&mine, &theirs) || mine.has_in(&theirs.user_ns, Capability::SysNice)
}

/// The static priorities of a policy, and of the one that later kernels know whether they have it or
/// not (`SCHED_EXT`).
fn told_priorities(policy: u64) -> Result<RangeInclusive<i32>, Errno> {
    const SCHED_EXT: i32 = 7;
    match policy as i32 {
        SCHED_EXT => Ok(0..=0),
        policy => Scheduling::priorities(policy),
    }
}

pub(crate) fn sched_get_priority_max(_cx: &mut TaskCx, &[policy, ..]: &Args) -> SysResult<u64> {
    Ok(*told_priorities(policy)?.end() as u64)
}

pub(crate) fn sched_get_priority_min(_cx: &mut TaskCx, &[policy, ..]: &Args) -> SysResult<u64> {
    Ok(*told_priorities(policy)?.start() as u64)
}

/// Checks and keeps policy and priority.
fn set(
    cx: &TaskCx,
    task: &Task,
    policy: i32,
    priority: i32,
    reset_on_fork: bool,
) -> Result<(), Errno> {
    let new = Scheduling::new(policy, priority, reset_on_fork)?;
    let capable = cx.creds().has(Capability::SysNice);
    if !capable {
        let old = task.scheduling();
        if priority > 0 {
            let limit = cx.limit(Resource::Rtprio);
            let same = policy == old.policy;
            if (limit == 0 && !same) || (priority > old.priority && priority as u64 > limit) {
                return Err(Errno::EPERM);
            }
        }
        let own = is_own(&cx.creds(), &task.creds());
        if !own || (old.reset_on_fork && !reset_on_fork) {
            return Err(Errno::EPERM);
        }
    }
    task.set_scheduling(new);
    Ok(())
}

pub(crate) fn sched_setscheduler(
    cx: &mut TaskCx,
    &[tid, policy, param, ..]: &Args,
) -> SysResult<u64> {
    let policy = policy as i32;
    if policy < 0 || tid as i32 != 0 && (tid as i32) < 0 || param == 0 {
        return Err(Errno::EINVAL.into());
    }
    let priority: i32 = cx.memory().read_obj(param)?;
    let task = target(cx, tid)?;
    set(
        cx,
        &task,
        policy & !RESET_ON_FORK,
        priority,
        policy & RESET_ON_FORK != 0,
    )?;
    Ok(0)
}

pub(crate) fn sched_setparam(cx: &mut TaskCx, &[tid, param, ..]: &Args) -> SysResult<u64> {
    if (tid as i32) < 0 || param == 0 {
        return Err(Errno::EINVAL.into());
    }
    let priority: i32 = cx.memory().read_obj(param)?;
    let task = target(cx, tid)?;
    let now = task.scheduling();
    set(cx, &task, now.policy, priority, now.reset_on_fork)?;
    Ok(0)
}

pub(crate) fn sched_getparam(cx: &mut TaskCx, &[tid, param, ..]: &Args) -> SysResult<u64> {
    if param == 0 {
        return Err(Errno::EINVAL.into());
    }
    let priority = target(cx, tid)?.scheduling().priority;
    cx.memory().write_obj(param, &priority)?;
    Ok(0)
}

pub(crate) fn sched_getscheduler(cx: &mut TaskCx, &[tid, ..]: &Args) -> SysResult<u64> {
    let s = target(cx, tid)?.scheduling();
    Ok((s.policy | if s.reset_on_fork { RESET_ON_FORK } else { 0 }) as u64)
}

pub(crate) fn sched_rr_get_interval(cx: &mut TaskCx, &[tid, tp, ..]: &Args) -> SysResult<u64> {
    let slice = match target(cx, tid)?.scheduling().policy {
        libc::SCHED_FIFO => 0,
        libc::SCHED_RR => SLICE,
        // What CFS would give on a machine of this size.
        _ => 4_000_000,
    };
    cx.memory().write_obj(tp, &Timespec::from_nanos(slice))?;
    Ok(0)
}

pub(crate) fn sched_setattr(cx: &mut TaskCx, &[tid, addr, flags, ..]: &Args) -> SysResult<u64> {
    if addr == 0 || (tid as i32) < 0 || flags as u32 != 0 {
        return Err(Errno::EINVAL.into());
    }
    let size: u32 = cx.memory().read_obj(addr)?;
    let size = if size == 0 {
        size_of::<SchedAttr>() as u32
    } else {
        size
    };
    let attr: SchedAttr =
        match crate::user::extensible(cx, addr, u64::from(size), size_of::<SchedAttr>() as u64) {
            Ok(attr) => attr,
            Err(Errno::EINVAL | Errno::E2BIG) => {
                cx.memory()
                    .write_obj(addr, &(size_of::<SchedAttr>() as u32))?;
                return Err(Errno::E2BIG.into());
            }
            Err(e) => return Err(e.into()),
        };
    if attr.flags & !FLAG_RESET_ON_FORK != 0 {
        return Err(Errno::EINVAL.into());
    }
    let task = target(cx, tid)?;
    let policy = i32::try_from(attr.policy).map_err(|_| Errno::EINVAL)?;
    let priority = i32::try_from(attr.priority).map_err(|_| Errno::EINVAL)?;
    set(
        cx,
        &task,
        policy,
        priority,
        attr.flags & FLAG_RESET_ON_FORK != 0,
    )?;
    if matches!(policy, libc::SCHED_OTHER | libc::SCHED_BATCH) {
        renice(cx, &task, attr.nice)?;
    }
    Ok(0)
}

pub(crate) fn sched_getattr(
    cx: &mut TaskCx,
    &[tid, addr, size, flags, ..]: &Args,
) -> SysResult<u64> {
    let (size, flags) = (size as u32, flags as u32);
    let ours = size_of::<SchedAttr>() as u32;
    if addr == 0
        || (tid as i32) < 0
        || flags != 0
        || size < ours
        || u64::from(size) > abi::page::PAGE_SIZE
    {
        return Err(Errno::EINVAL.into());
    }
    let task = target(cx, tid)?;
    let s = task.scheduling();
    let attr = SchedAttr {
        size: ours,
        policy: s.policy as u32,
        flags: if s.reset_on_fork {
            FLAG_RESET_ON_FORK
        } else {
            0
        },
        nice: task.nice(),
        priority: s.priority as u32,
        ..SchedAttr::default()
    };
    cx.memory().write_obj(addr, &attr)?;
    Ok(0)
}

pub(crate) fn sched_setaffinity(cx: &mut TaskCx, &[tid, size, mask, ..]: &Args) -> SysResult<u64> {
    let mut bits = vec![0u8; affinity_bytes(cx)];
    let given = bits.len().min(size as u32 as usize);
    cx.memory().read(mask, &mut bits[..given])?;
    let task = by_id(cx, tid)?;
    if !may_change(cx, &task) {
        return Err(Errno::EPERM.into());
    }
    task.set_affinity(&bits)?;
    Ok(0)
}

/// Bytes of an affinity mask that holds every CPU, in whole words.
fn affinity_bytes(cx: &TaskCx) -> usize {
    (cx.kernel().possible_cpus() as usize).div_ceil(64).max(1) * 8
}

pub(crate) fn sched_getaffinity(cx: &mut TaskCx, &[tid, size, mask, ..]: &Args) -> SysResult<u64> {
    let size = size as u32 as usize;
    let bytes = affinity_bytes(cx);
    if size < bytes || !size.is_multiple_of(8) {
        return Err(Errno::EINVAL.into());
    }
    let task = by_id(cx, tid)?;
    let mut bits = task.affinity();
    bits.resize(bytes, 0);
    cx.memory().write(mask, &bits)?;
    Ok(bytes as u64)
}

pub(crate) fn getcpu(cx: &mut TaskCx, &[cpu, node, ..]: &Args) -> SysResult<u64> {
    // Which of the virtual CPUs it is has no meaning: one that the task may run on.
    let host = nix::sched::sched_getcpu().unwrap_or(0);
    let number = cx.task().cpu(host as u32);
    crate::user::put(cx, cpu, &number)?;
    crate::user::put(cx, node, &0u32)?;
    Ok(0)
}

/// The tasks that `which` and `who` mean.
fn chosen(cx: &TaskCx, which: i32, who: i32) -> Result<Vec<Arc<Task>>, Errno> {
    const PRIO_PROCESS: i32 = 0;
    const PRIO_PGRP: i32 = 1;
    const PRIO_USER: i32 = 2;
    let kernel = cx.kernel();
    let found: Vec<Arc<Task>> = match which {
        PRIO_PROCESS if who == 0 => vec![cx.task().clone()],
        PRIO_PROCESS => cx.task_called(who).into_iter().collect(),
        PRIO_PGRP => {
            let pgid = if who == 0 {
                kernel.process_group(cx.task().tgid())?
            } else {
                cx.id_of(who)
            };
            kernel
                .group_members(pgid)
                .iter()
                .flat_map(|g| g.threads())
                .collect()
        }
        PRIO_USER => {
            let uid = if who == 0 {
                cx.creds().ruid
            } else {
                cx.creds().user_ns.uid(who as u32).ok_or(Errno::ESRCH)?
            };
            let all = kernel.pids_in(cx.pid_namespace());
            let groups = all.into_iter().filter_map(|pid| cx.process_called(pid));
            groups
                .flat_map(|g| g.threads())
                .filter(|t| t.creds().ruid == uid)
                .collect()
        }
        _ => return Err(Errno::EINVAL),
    };
    if found.is_empty() {
        Err(Errno::ESRCH)
    } else {
        Ok(found)
    }
}

pub(crate) fn getpriority(cx: &mut TaskCx, &[which, who, ..]: &Args) -> SysResult<u64> {
    let tasks = chosen(cx, which as i32, who as i32)?;
    // Told as 40 to 1, so that no result looks like an error.
    let best = tasks.iter().map(|t| t.nice()).min().unwrap_or(0);
    Ok((20 - best) as u64)
}

pub(crate) fn setpriority(cx: &mut TaskCx, &[which, who, nice, ..]: &Args) -> SysResult<u64> {
    let mut result = Ok(());
    for task in chosen(cx, which as i32, who as i32)? {
        if let Err(e) = renice(cx, &task, nice as i32) {
            result = Err(e);
        }
    }
    result?;
    Ok(0)
}

fn renice(cx: &TaskCx, task: &Task, nice: i32) -> Result<(), Errno> {
    let nice = nice.clamp(-20, 19);
    if !may_change(cx, task) {
        return Err(Errno::EPERM);
    }
    let capable = cx.creds().has(Capability::SysNice);
    // RLIMIT_NICE counts from 1 (nice 19) to 40 (nice -20).
    let floor = 20 - cx.limit(Resource::Nice).min(40) as i32;
    if nice < task.nice() && nice < floor && !capable {
        return Err(Errno::EACCES);
    }
    task.set_nice(nice);
    Ok(())
}

/// The tasks that ioprio_get(2) means: its `which` counts from one.
fn io_chosen(cx: &TaskCx, which: u64, who: u64) -> Result<Vec<Arc<Task>>, Errno> {
    match which as i32 {
        kind @ 1..=3 => chosen(cx, kind - 1, who as i32),
        _ => Err(Errno::EINVAL),
    }
}

const IO_CLASS_SHIFT: i32 = 13;
const IO_REALTIME: i32 = 1;
const IO_BEST_EFFORT: i32 = 2;
const IO_IDLE: i32 = 3;

pub(crate) fn ioprio_get(cx: &mut TaskCx, &[which, who, ..]: &Args) -> SysResult<u64> {
    let tasks = io_chosen(cx, which, who)?;
    // The best of them: a lower class and a lower level come first, none at all last.
    let rank = |p: i32| {
        if p == 0 {
            IO_BEST_EFFORT << IO_CLASS_SHIFT | 4
        } else {
            p
        }
    };
    let best = tasks
        .iter()
        .map(|t| t.io_priority())
        .min_by_key(|p| rank(*p))
        .unwrap_or(0);
    Ok(best as u64)
}

/// Whether the caller may give this priority: a class and a level.
pub(crate) fn check_io_priority(cx: &TaskCx, value: i32) -> Result<(), Errno> {
    let (class, level) = (value >> IO_CLASS_SHIFT & 7, value & 7);
    match class {
        IO_REALTIME
            if !cx.creds().has(Capability::SysAdmin) && !cx.creds().has(Capability::SysNice) =>
        {
            Err(Errno::EPERM)
        }
        IO_REALTIME | IO_BEST_EFFORT | IO_IDLE => Ok(()),
        0 if level == 0 => Ok(()),
        _ => Err(Errno::EINVAL),
    }
}

pub(crate) fn ioprio_set(cx: &mut TaskCx, &[which, who, value, ..]: &Args) -> SysResult<u64> {
    // Linux keeps sixteen bits, of which three are the class.
    let value = value as i32 & 0xffff;
    check_io_priority(cx, value)?;
    for task in io_chosen(cx, which, who)? {
        let (mine, theirs) = (cx.creds(), task.creds());
        let own = [mine.euid, mine.ruid].contains(&theirs.ruid);
        if !own && !mine.has(Capability::SysNice) {
            return Err(Errno::EPERM.into());
        }
        task.set_io_priority(value);
    }
    Ok(0)
}
