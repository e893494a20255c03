//! Files about the system as a whole.

use crate::Proc;
use crate::node::Text;
use abi::Errno;
use ctx::Ctx;
use std::fmt::Write;
use std::sync::Arc;
use time::ClockId;

/// The files of the top directory.
pub(crate) const SYSTEM: &[(&str, System)] = &[
    ("cmdline", System::Cmdline),
    ("cpuinfo", System::Cpuinfo),
    ("filesystems", System::Filesystems),
    ("loadavg", System::Loadavg),
    ("meminfo", System::Meminfo),
    ("stat", System::Stat),
    ("uptime", System::Uptime),
    ("version", System::Version),
];

/// Which of them.
#[derive(Clone, Copy)]
pub(crate) enum System {
    Cmdline,
    Cpuinfo,
    Filesystems,
    Loadavg,
    Meminfo,
    Stat,
    Uptime,
    Version,
}

impl Text for System {
    fn read(&self, proc: &Arc<Proc>, cx: &dyn Ctx) -> Result<Vec<u8>, Errno> {
        let k = &proc.kernel;
        let clocks = cx.clocks();
        Ok(match self {
            System::Cmdline => b"ringfence\n".to_vec(),
            System::Cpuinfo => cpuinfo(k.cpus()).into_bytes(),
            System::Filesystems => {
                b"nodev\tproc\nnodev\ttmpfs\nnodev\tdevpts\nnodev\toverlay\n".to_vec()
            }
            System::Loadavg => {
                let (tasks, last) = k.task_count();
                format!("0.00 0.00 0.00 1/{tasks} {last}\n").into_bytes()
            }
            System::Meminfo => {
                meminfo(proc.container.memory_limit(), proc.container.memory_used()).into_bytes()
            }
            System::Stat => {
                let boot = (clocks.now(ClockId::Realtime) - clocks.uptime().as_nanos() as i64)
                    / 1_000_000_000;
                let mut s = String::from("cpu  0 0 0 0 0 0 0 0 0 0\n");
                for n in 0..k.cpus() {
                    let _ = writeln!(s, "cpu{n} 0 0 0 0 0 0 0 0 0 0");
                }
                let (tasks, last) = k.task_count();
                let _ = writeln!(
                    s,
                    "intr 0\nctxt 0\nbtime {boot}\nprocesses {last}\nprocs_running {}\nprocs_blocked 0",
                    tasks.min(1)
                );
                s.into_bytes()
            }
            System::Uptime => {
                let up = clocks.uptime();
                format!("{}.{:02} 0.00\n", up.as_secs(), up.subsec_millis() / 10).into_bytes()
            }
            System::Version => {
                let u = proc.container.uts().get();
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

fn cpuinfo(cpus: u32) -> String {
    let mut s = String::new();
    for n in 0..cpus {
        let _ = write!(
            s,
            "processor\t: {n}\nvendor_id\t: unknown\ncpu family\t: 6\nmodel\t\t: 0\nmodel name\t: unknown\n\
             stepping\t: 0\nphysical id\t: 0\nsiblings\t: {cpus}\ncore id\t\t: {n}\ncpu cores\t: {cpus}\n\
             fpu\t\t: yes\nfpu_exception\t: yes\nwp\t\t: yes\n\n"
        );
    }
    s
}
