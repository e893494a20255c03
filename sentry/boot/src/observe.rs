//! What a container does and uses, for those who ask from outside.

use control::message::{ProcessInfo, Stats};
use std::sync::Arc;
use task::{Container, Kernel, ThreadGroup};
use time::ClockId;

/// All processes by number; one that ends meanwhile is left out.
pub(crate) fn processes(kernel: &Kernel, container: &Container) -> Vec<ProcessInfo> {
    let now = kernel.now(ClockId::Boottime);
    let info = |group: Arc<ThreadGroup>| {
        let pid = group.tgid();
        let task = kernel.task(pid)?;
        let time = group.cpu_time();
        Some(ProcessInfo {
            pid,
            parent: kernel.parent(pid),
            uid: task.creds().euid,
            threads: u32::try_from(group.threads().len().max(1)).unwrap_or(u32::MAX),
            state: char::from(task.state_letter()),
            user: time.user,
            system: time.system,
            age: now.saturating_sub(task.start_time()).max(0).cast_unsigned(),
            command: String::from_utf8_lossy(&task.name()).into_owned(),
        })
    };
    container.processes().into_iter().filter_map(info).collect()
}

/// What all of them use together.
pub(crate) fn stats(container: &Container) -> Stats {
    let time = container.cpu_time();
    Stats {
        user: time.user,
        system: time.system,
        memory: container.memory_used(),
        memory_limit: container.memory_limit(),
        oom_kills: container.oom_kills(),
        tasks: u32::try_from(container.task_count()).unwrap_or(u32::MAX),
    }
}
