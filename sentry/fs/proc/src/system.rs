//! Files about the system as a whole.

use crate::node::Text;
use crate::status::NANOS_PER_TICK;
use crate::{Proc, cpuinfo, locks};
use abi::Errno;
use ctx::Ctx;
use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;
use task::CpuTime;
use time::{ClockId, Clocks};

/// The files of the top directory.
pub(crate) const SYSTEM: &[(&str, System)] = &[
    ("cgroups", System::Cgroups),
    ("cmdline", System::Cmdline),
    ("cpuinfo", System::Cpuinfo),
    ("devices", System::Devices),
    ("diskstats", System::Diskstats),
    ("filesystems", System::Filesystems),
    ("loadavg", System::Loadavg),
    ("locks", System::Locks),
    ("meminfo", System::Meminfo),
    ("partitions", System::Partitions),
    ("stat", System::Stat),
    ("swaps", System::Swaps),
    ("uptime", System::Uptime),
    ("version", System::Version),
    ("vmstat", System::Vmstat),
];

/// Which of them.
#[derive(Clone, Copy)]
pub(crate) enum System {
    Cgroups,
    Cmdline,
    Cpuinfo,
    Devices,
    Diskstats,
    Filesystems,
    Loadavg,
    Locks,
    Meminfo,
    Partitions,
    Stat,
    Swaps,
    Uptime,
    Version,
    Vmstat,
}

impl Text for System {
    fn read(&self, proc: &Arc<Proc>, cx: &dyn Ctx) -> Result<Vec<u8>, Errno> {
        let k = &proc.kernel;
        let clocks = cx.clocks();
        Ok(match self {
            System::Cmdline => b"ringfence\n".to_vec(),
            System::Cgroups => CGROUPS.into(),
            System::Cpuinfo => cpuinfo::text(k).into_bytes(),
            System::Devices => DEVICES.into(),
            // There are no disks.
            System::Diskstats => Vec::new(),
            System::Filesystems => [
                "sysfs", "tmpfs", "proc", "mqueue", "cgroup2", "devpts", "overlay",
            ]
            .map(|name| format!("nodev\t{name}\n"))
            .concat()
            .into_bytes(),
            System::Locks => locks::text(proc, cx).into_bytes(),
            System::Loadavg => {
                let [one, five, fifteen] = proc.container.load();
                let (tasks, last) = (k.task_count(), k.last_pid(&proc.pids));
                let running = proc.container.runnable();
                format!("{one:.2} {five:.2} {fifteen:.2} {running}/{tasks} {last}\n").into_bytes()
            }
            System::Partitions => b"major minor  #blocks  name\n\n".to_vec(),
            System::Swaps => b"Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n".to_vec(),
            System::Meminfo => {
                meminfo(proc.container.memory_limit(), proc.container.memory_used()).into_bytes()
            }
            System::Stat => stat(proc, clocks).into_bytes(),
            System::Uptime => {
                let idle = idle(proc, clocks, proc.container.cpu_time());
                let text = |t: Duration| format!("{}.{:02}", t.as_secs(), t.subsec_millis() / 10);
                format!("{} {}\n", text(clocks.uptime()), text(idle)).into_bytes()
            }
            System::Vmstat => vmstat(proc).into_bytes(),
            System::Version => {
                let u = proc.seen_by(cx).uts.get();
                let part = |b: &[u8]| String::from_utf8_lossy(b).into_owned();
                format!(
                    "{} version {} {}\n",
                    part(&u.sysname),
                    part(&u.release),
                    part(&u.version)
                )
                .into_bytes()
            }
        })
    }
}

fn meminfo(total: u64, used: u64) -> String {
    let free = total.saturating_sub(used);
    let mut s = String::new();
    for (name, bytes) in [
        ("MemTotal", total),
        ("MemFree", free),
        ("MemAvailable", free),
        ("Buffers", 0),
        ("Cached", 0),
        ("SwapCached", 0),
        ("Active", used),
        ("Inactive", 0),
        ("SwapTotal", 0),
        ("SwapFree", 0),
        ("Dirty", 0),
        ("Writeback", 0),
        ("AnonPages", used),
        ("Mapped", 0),
        ("Shmem", 0),
        ("Slab", 0),
    ] {
        let _ = writeln!(s, "{:<15} {:>8} kB", format!("{name}:"), bytes / 1024);
    }
    s
}

/// CPU time that nobody used, where `time` was used.
fn idle(proc: &Proc, clocks: &Clocks, time: CpuTime) -> Duration {
    let spent = Duration::from_nanos(time.total());
    (clocks.uptime() * proc.kernel.cpus()).saturating_sub(spent)
}

/// `stat`. On which CPU something ran is the host's to know: each has an equal part of it.
fn stat(proc: &Proc, clocks: &Clocks) -> String {
    let cpus = u64::from(proc.kernel.cpus());
    let time = proc.container.cpu_time();
    let ticks = |nanos: u64| nanos / NANOS_PER_TICK;
    let idle = idle(proc, clocks, time).as_nanos() as u64;
    let line = |parts: u64| {
        let [user, system, idle] = [time.user, time.system, idle].map(|n| ticks(n / parts));
        format!("{user} 0 {system} {idle} 0 0 0 0 0 0\n")
    };
    let mut s = format!("cpu  {}", line(1));
    for n in 0..cpus {
        let _ = write!(s, "cpu{n} {}", line(cpus));
    }
    let boot = (clocks.now(ClockId::Realtime) - clocks.uptime().as_nanos() as i64) / 1_000_000_000;
    let last = proc.kernel.last_pid(proc.kernel.pid_namespace());
    let _ = writeln!(
        s,
        "intr 0\nctxt {}\nbtime {boot}\nprocesses {last}\nprocs_running {}\nprocs_blocked 0",
        time.switches,
        proc.container.runnable()
    );
    s
}

/// `vmstat`: what there is of it. Nothing is paged out here, and what the host does is its own.
fn vmstat(proc: &Proc) -> String {
    let used = proc.container.memory_used();
    let free = proc.container.memory_limit().saturating_sub(used);
    [
        ("nr_free_pages", free / 4096),
        ("nr_anon_pages", used / 4096),
        ("pgpgin", 0),
        ("pgpgout", 0),
        ("pswpin", 0),
        ("pswpout", 0),
        ("pgfault", proc.container.cpu_time().faults),
        ("pgmajfault", 0),
        ("oom_kill", proc.container.oom_kills()),
    ]
    .map(|(name, n)| format!("{name} {n}\n"))
    .concat()
}

/// Version 1's view of the controllers: all are version 2's.
const CGROUPS: &str = "#subsys_name\thierarchy\tnum_cgroups\tenabled\n\
    cpu\t0\t1\t1\nmemory\t0\t1\t1\npids\t0\t1\t1\n";

/// `devices`: what there are drivers for.
const DEVICES: &str = "Character devices:\n  1 mem\n  5 /dev/tty\n  5 /dev/console\n  5 /dev/ptmx\n\
    128 ptm\n136 pts\n\nBlock devices:\n";
