//! The numbers that go into a group.
//!
//! Limits on memory and tasks are the sentry's to enforce, with the errors and signals that Linux
//! gives. The host's stand above them, and only catch what the sentry missed: a host limit that
//! is reached ends the whole sandbox. What the sandbox needs beside the container's own memory and
//! tasks is the slack.

use super::{CgroupError, block, cause};
use crate::config::Resources;
use cgroups_rs::blkio::BlkIoController;
use cgroups_rs::cpu::CpuController;
use cgroups_rs::cpuset::CpuSetController;
use cgroups_rs::memory::MemController;
use cgroups_rs::pid::PidController;
use cgroups_rs::{Cgroup, Controller, MaxValue};
use std::path::Path;

/// Memory of the sandbox process and the gofer themselves.
const OWN_MEMORY: i64 = 64 << 20;
/// Threads of the sandbox process and the gofer that serve no task.
const OWN_TASKS: i64 = 64;

/// The host's limit above a container's of `limit` bytes: page tables and bookkeeping grow with
/// it.
pub(super) fn memory_above(limit: i64) -> i64 {
    limit.saturating_add(limit / 8).saturating_add(OWN_MEMORY)
}

/// The host's limit above a container's of `limit` tasks: each has a thread of the sentry and a
/// stub.
pub(super) fn tasks_above(limit: i64) -> i64 {
    limit.saturating_mul(2).saturating_add(OWN_TASKS)
}

/// Version 2's weight (1 to 10000) for version 1's shares (2 to 262144), or without any.
pub(crate) fn weight(shares: Option<u64>) -> u64 {
    shares.map_or(100, |n| 1 + (n.clamp(2, 262_144) - 2) * 9_999 / 262_142)
}

/// Puts `asked` into `group`, where all that was asked so far is `all`; `dir` is where a version 2
/// group is.
pub(super) fn apply(
    group: &Cgroup,
    dir: &Path,
    asked: &Resources,
    all: &Resources,
) -> Result<(), CgroupError> {
    let given = |n: Option<i64>| n.filter(|n| *n != 0);
    if asked.memory.is_some() || asked.swap.is_some() || given(asked.reservation).is_some() {
        memory(group, asked, all)?;
    }
    let (shares, period) = (asked.shares.unwrap_or(0), asked.period.unwrap_or(0));
    if shares > 0 || period > 0 || given(asked.quota).is_some() {
        cpu(group, asked)?;
    }
    if asked.cpus.is_some() || asked.mems.is_some() {
        let cpuset: &CpuSetController = group.controller_of().ok_or(absent("cpuset"))?;
        if let Some(cpus) = &asked.cpus {
            cpuset.set_cpus(cpus).map_err(set("cpu.cpus", cpus))?;
        }
        if let Some(mems) = &asked.mems {
            cpuset.set_mems(mems).map_err(set("cpu.mems", mems))?;
        }
    }
    match (given(asked.pids), group.controller_of::<PidController>()) {
        // Asked for no limit.
        (None, _) | (Some(..0), None) => {}
        (Some(_), None) => return Err(absent("pids")),
        (Some(limit), Some(pids)) => {
            let most = match limit {
                ..0 => MaxValue::Max,
                _ => MaxValue::Value(tasks_above(limit)),
            };
            pids.set_pid_max(most).map_err(set("pids.limit", limit))?;
        }
    }
    let blkio = group
        .controller_of::<BlkIoController>()
        .map(Controller::path);
    let block_dir = if group.v2() { Some(dir) } else { blkio };
    block::apply(block_dir, group.v2(), &asked.block_io)?;
    if !asked.unified.is_empty() && !group.v2() {
        return Err(CgroupError::Unified);
    }
    for (file, value) in &asked.unified {
        let value = match (file.as_str(), value.trim().parse::<i64>()) {
            ("memory.max", Ok(limit)) => memory_above(limit).to_string(),
            ("pids.max", Ok(limit)) => tasks_above(limit).to_string(),
            _ => value.clone(),
        };
        std::fs::write(dir.join(file), &value).map_err(|e| CgroupError::Set {
            what: format!("unified.{file}"),
            value,
            answer: e.to_string(),
        })?;
    }
    Ok(())
}

fn memory(group: &Cgroup, asked: &Resources, all: &Resources) -> Result<(), CgroupError> {
    let memory: &MemController = match group.controller_of() {
        Some(memory) => memory,
        // Asked for no limit.
        None if asked.limits().iter().all(|l| !l.starts_with("memory")) => return Ok(()),
        None => return Err(absent("memory")),
    };
    let above = |n: i64| if n > 0 { memory_above(n) } else { -1 };
    let limit = asked.memory.filter(|n| *n != 0);
    let set_limit = || {
        let done = limit.map_or(Ok(()), |limit| memory.set_limit(above(limit)));
        done.map_err(set("memory.limit", limit.unwrap_or_default()))
    };
    // Version 1 has the limit on both never below that on memory, and no memory is unlimited while
    // both together are limited.
    let swap = asked.swap.filter(|n| *n != 0);
    let swap = swap.or(limit.filter(|n| *n < 0 && !group.v2()));
    // Not by the crate, which panics where a file is missing.
    let now = std::fs::read_to_string(memory.path().join("memory.memsw.limit_in_bytes"));
    let now = now.ok().and_then(|text| text.trim().parse().ok());
    let now: i64 = now.unwrap_or(i64::MAX);
    let swap_first = !group.v2() && limit.is_some_and(|n| n < 0 || above(n) > now);
    if !swap_first {
        set_limit()?;
    }
    if let Some(swap) = swap {
        let value = match (group.v2(), all.memory.filter(|n| *n > 0)) {
            _ if swap < 0 => -1,
            (false, _) => above(swap),
            // Version 2 counts swap alone.
            (true, Some(limit)) if swap >= limit => swap - limit,
            (true, _) => {
                return Err(CgroupError::Set {
                    what: "memory.swap".to_owned(),
                    value: swap.to_string(),
                    answer: "it counts memory and swap together, so memory.limit must be given, \
                             and not be over it"
                        .to_owned(),
                });
            }
        };
        match memory.set_memswap_limit(value) {
            Err(e) if not_there(&e) => tracing::warn!(
                "config.json limits memory.swap, and this host does not account for swap (see \
                 swapaccount= in its boot parameters): the limit is not applied"
            ),
            done => done.map_err(set("memory.swap", swap))?,
        }
    }
    if swap_first {
        set_limit()?;
    }
    if let Some(bytes) = asked.reservation.filter(|n| *n != 0) {
        memory
            .set_soft_limit(bytes)
            .map_err(set("memory.reservation", bytes))?;
    }
    Ok(())
}

fn cpu(group: &Cgroup, asked: &Resources) -> Result<(), CgroupError> {
    let cpu: &CpuController = match group.controller_of() {
        Some(cpu) => cpu,
        // Asked for no limit.
        None if asked.limits().iter().all(|l| !l.starts_with("cpu.")) => return Ok(()),
        None => return Err(absent("cpu")),
    };
    if let Some(shares) = asked.shares.filter(|n| *n > 0) {
        let value = match group.v2() {
            true => weight(Some(shares)),
            false => shares,
        };
        cpu.set_shares(value).map_err(set("cpu.shares", shares))?;
    }
    let period = asked.period.filter(|n| *n > 0);
    let quota = asked.quota.filter(|n| *n != 0);
    if group.v2() {
        if period.is_some() || quota.is_some() {
            cpu.set_cfs_quota_and_period(quota, period)
                .map_err(set("cpu.quota", quota.unwrap_or(-1)))?;
        }
        return Ok(());
    }
    if let Some(period) = period {
        cpu.set_cfs_period(period)
            .map_err(set("cpu.period", period))?;
    }
    if let Some(quota) = quota {
        cpu.set_cfs_quota(quota).map_err(set("cpu.quota", quota))?;
    }
    Ok(())
}

fn absent(name: &'static str) -> CgroupError {
    CgroupError::Controller { name }
}

fn set(
    what: &'static str,
    value: impl ToString,
) -> impl FnOnce(cgroups_rs::error::Error) -> CgroupError {
    move |e| CgroupError::Set {
        what: what.to_owned(),
        value: value.to_string(),
        answer: cause(&e),
    }
}

fn not_there(error: &cgroups_rs::error::Error) -> bool {
    let cause = std::error::Error::source(error).and_then(|e| e.downcast_ref::<std::io::Error>());
    // The file system makes no files: what is not there cannot be created.
    cause.is_some_and(|e| {
        matches!(
            e.raw_os_error(),
            Some(libc::ENOENT | libc::EACCES | libc::EPERM)
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_limits_stand_above_the_containers() {
        for limit in [1, 4 << 20, 1 << 40, i64::MAX - 1] {
            assert!(memory_above(limit) > limit);
            assert!(tasks_above(limit) > limit);
        }
        assert_eq!(tasks_above(10), 84);
        assert_eq!(memory_above(i64::MAX), i64::MAX);
    }

    #[test]
    fn shares_become_weights() {
        let weight = |n| weight(Some(n));
        assert_eq!((weight(2), weight(1024), weight(262_144)), (1, 39, 10_000));
        assert_eq!((weight(0), weight(u64::MAX)), (1, 10_000));
        assert_eq!(super::weight(None), 100);
    }
}
