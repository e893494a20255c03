//! The container's own control group, as /sys/fs/cgroup shows it to a container with a cgroup
//! namespace: version 2, read-only.

use crate::tree::Dir;
use ctx::Pid;
use std::fmt::Write;
use std::sync::Arc;
use time::Clocks;
use vfs::Inode;

/// `CGROUP2_SUPER_MAGIC`
const MAGIC: i64 = 0x6367_7270;

/// What the group counts and limits.
#[derive(Clone)]
pub struct Group {
    /// What limits it.
    pub limits: Arc<dyn Fn() -> Limits + Send + Sync>,
    /// Bytes of memory in use.
    pub memory: Arc<dyn Fn() -> u64 + Send + Sync>,
    /// The processes.
    pub processes: Arc<dyn Fn() -> Vec<Pid> + Send + Sync>,
    /// How many tasks there are.
    pub tasks: Arc<dyn Fn() -> usize + Send + Sync>,
}

/// What limits a group.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of memory; `None` without a limit.
    pub memory: Option<u64>,
    /// Tasks.
    pub pids: Option<u64>,
    /// Microseconds of CPU time in each period.
    pub quota: Option<u64>,
    /// Microseconds of a period.
    pub period: u64,
    /// Of its CPU time against others', 1 to 10000.
    pub weight: u64,
}

impl std::fmt::Debug for Group {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Group({:?})", (self.limits)())
    }
}

impl Group {
    /// The root of a cgroup2 file system.
    pub fn cgroup2(&self, clocks: &Clocks) -> Arc<dyn Inode> {
        let mut root = Dir::default();
        let limited = |text: fn(Limits) -> String| {
            let limits = self.limits.clone();
            move || text(limits())
        };
        let (memory, processes, tasks) = (
            self.memory.clone(),
            self.processes.clone(),
            self.tasks.clone(),
        );
        root.text("cgroup.controllers", "cpu memory pids\n")
            .text("cgroup.subtree_control", "\n")
            .text("cgroup.type", "domain\n")
            .text("cgroup.events", "populated 1\nfrozen 0\n")
            .text("cgroup.freeze", "0\n")
            .text("cgroup.max.depth", "max\n")
            .text("cgroup.max.descendants", "max\n")
            .text("cgroup.stat", "nr_descendants 0\nnr_dying_descendants 0\n")
            .show_to("cgroup.procs", move |cx| {
                processes().iter().fold(String::new(), |mut text, pid| {
                    let _ = writeln!(text, "{}", pid.seen_from(cx.pid_space()));
                    text
                })
            })
            .show(
                "cpu.max",
                limited(|l| format!("{} {}\n", most(l.quota), l.period)),
            )
            .show("cpu.weight", limited(|l| format!("{}\n", l.weight)))
            .show("memory.max", limited(|l| most(l.memory) + "\n"))
            .text("memory.high", "max\n")
            .text("memory.low", "0\n")
            .text("memory.min", "0\n")
            .text("memory.swap.max", "0\n")
            .text("memory.swap.current", "0\n")
            .show("memory.current", move || format!("{}\n", memory()))
            .show("pids.max", limited(|l| most(l.pids) + "\n"))
            .show("pids.current", move || format!("{}\n", tasks()));
        root.mount(MAGIC, 0, clocks)
    }
}

fn most(limit: Option<u64>) -> String {
    limit.map_or("max".into(), |l| l.to_string())
}
