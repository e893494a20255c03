//! What a container may use, and changes of it while it runs.
//!
//! Memory and tasks are limited in here. CPU time is the host's to give: of that a container is only
//! told, by the number of CPUs that it sees and by its group's files.

use crate::kernel::Container;
use control::boot::Limits;
use control::message::{Failure, FailureKind, SandboxState};
use parking_lot::Mutex;
use std::sync::Arc;

/// What a guest is shown as the machine's memory when no limit was given and the host's size is
/// not known.
const DEFAULT_MEMORY: u64 = 2 << 30;

/// The limits in force, as the container's group shows them.
pub(crate) type Current = Arc<Mutex<Limits>>;

/// The size of the machine that the guest sees: its limit, or the host's memory.
pub(crate) fn memory_seen(limits: &Limits) -> u64 {
    let host = nix::sys::sysinfo::sysinfo().map_or(DEFAULT_MEMORY, |i| i.ram_total());
    limits.memory.map_or(host, |limit| limit.min(host))
}

/// What its group's files say.
pub(crate) fn shown(current: &Current) -> fs_sys::Limits {
    let limits = *current.lock();
    fs_sys::Limits {
        memory: limits.memory,
        pids: limits.pids,
        quota: limits.quota,
        period: limits.period,
        weight: limits.weight,
    }
}

/// Changes them.
pub(crate) fn update(container: &Container, wanted: &Limits) -> Result<(), Failure> {
    use crate::contract::Kernel;
    if let SandboxState::Stopped(_) = container.state() {
        let text = "the container's program has ended: there is nothing to limit";
        return Err(Failure::new(FailureKind::State, text));
    }
    let own = &container.own;
    own.set_memory_limit(wanted.memory, memory_seen(wanted))
        .map_err(|used| {
            let limit = wanted.memory.unwrap_or(u64::MAX);
            let text = format!(
                "the container uses {used} bytes of memory, more than the limit of {limit} that it \
                 is to get; give it more, or stop some of its processes first"
            );
            Failure::new(FailureKind::Invalid, text)
        })?;
    own.set_pids_limit(wanted.pids);
    // Where processes are shared, so is what they are shown: that of the root container.
    if container.own_pids {
        container.kernel.set_cpus(wanted.cpus);
    }
    *container.limits.lock() = *wanted;
    Ok(())
}
