//! Files about the system as a whole.

use crate::node::{Directory, Entry, Text, directory, number, text};
use crate::{Owner, Proc};
use abi::Errno;
use ctx::Ctx;
use std::fmt::Write;
use std::sync::{Arc, OnceLock};
use time::ClockId;
use vfs::{FileType, Inode};

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

/// A directory of `/proc/sys`.
pub(crate) struct SysDir {
    path: String,
}

/// Makes the text of a value.
type Show = fn(&Proc) -> String;

/// Path below `/proc/sys`, and what it says.
const SYS: &[(&str, Show)] = &[
    ("fs/file-max", |_| "1048576\n".into()),
    ("fs/nr_open", |_| "1048576\n".into()),
    ("fs/pipe-max-size", |_| "1048576\n".into()),
    ("fs/inotify/max_queued_events", |_| {
        format!("{}\n", fs_anon::inotify::MAX_QUEUED)
    }),
    ("fs/inotify/max_user_instances", |_| {
        format!("{}\n", fs_anon::inotify::MAX_INSTANCES)
    }),
    ("fs/inotify/max_user_watches", |_| {
        format!("{}\n", fs_anon::inotify::MAX_WATCHES)
    }),
    ("kernel/cap_last_cap", |_| "40\n".into()),
    ("kernel/core_pattern", |_| "core\n".into()),
    ("kernel/domainname", |p| {
        line(&p.container.uts().get().domainname)
    }),
    ("kernel/hostname", |p| {
        line(&p.container.uts().get().nodename)
    }),
    ("kernel/msgmax", |_| format!("{}\n", ipc::msg::MAX_MESSAGE)),
    ("kernel/msgmnb", |_| format!("{}\n", ipc::msg::QUEUE_BYTES)),
    ("kernel/msgmni", |_| format!("{}\n", ipc::msg::MAX_QUEUES)),
    ("kernel/ngroups_max", |_| "65536\n".into()),
    ("kernel/osrelease", |p| {
        line(&p.container.uts().get().release)
    }),
    ("kernel/ostype", |p| line(&p.container.uts().get().sysname)),
    ("kernel/overflowgid", |_| "65534\n".into()),
    ("kernel/overflowuid", |_| "65534\n".into()),
    ("kernel/pid_max", |_| "4194304\n".into()),
    ("kernel/random/boot_id", |_| boot_id()),
    ("kernel/random/entropy_avail", |_| "256\n".into()),
    ("kernel/random/poolsize", |_| "256\n".into()),
    ("kernel/random/uuid", |_| uuid()),
    ("kernel/sem", |_| {
        use ipc::sem::{MAX_ALL, MAX_IN_SET, MAX_OPS, MAX_SETS};
        format!("{MAX_IN_SET}\t{MAX_ALL}\t{MAX_OPS}\t{MAX_SETS}\n")
    }),
    ("kernel/shmall", |_| format!("{}\n", ipc::shm::MAX_BYTES)),
    ("kernel/shmmax", |_| format!("{}\n", ipc::shm::MAX_BYTES)),
    ("kernel/shmmni", |_| format!("{}\n", ipc::shm::MAX_SEGMENTS)),
    ("kernel/tainted", |_| "0\n".into()),
    ("kernel/version", |p| line(&p.container.uts().get().version)),
    ("vm/max_map_count", |_| "65530\n".into()),
    ("vm/overcommit_memory", |_| "0\n".into()),
];

/// A random UUID (version 4).
fn uuid() -> String {
    let mut b = [0u8; 16];
    // The host's generator has long been ready and does not fail for so few bytes.
    let _all = rustix::rand::getrandom(&mut b, rustix::rand::GetRandomFlags::empty());
    b[6] = b[6] & 0x0f | 0x40;
    b[8] = b[8] & 0x3f | 0x80;
    let hex: String = b.iter().map(|b| format!("{b:02x}")).collect();
    let (a, b, c, d, e) = (
        &hex[..8],
        &hex[8..12],
        &hex[12..16],
        &hex[16..20],
        &hex[20..],
    );
    format!("{a}-{b}-{c}-{d}-{e}\n")
}

/// One for as long as the sandbox runs.
fn boot_id() -> String {
    static ID: OnceLock<String> = OnceLock::new();
    ID.get_or_init(uuid).clone()
}

fn line(b: &[u8]) -> String {
    format!("{}\n", String::from_utf8_lossy(b))
}

impl SysDir {
    /// `/proc/sys`
    pub(crate) fn top() -> SysDir {
        SysDir {
            path: String::new(),
        }
    }

    /// Names below, with whether they are directories, in order and once each.
    fn names(&self) -> Vec<(&'static str, bool)> {
        let mut names: Vec<(&str, bool)> = Vec::new();
        for (path, _) in SYS {
            let Some(rest) = path.strip_prefix(self.path.as_str()) else {
                continue;
            };
            let (name, dir) = rest
                .split_once('/')
                .map_or((rest, false), |(n, _)| (n, true));
            if !names.iter().any(|(n, _)| *n == name) {
                names.push((name, dir));
            }
        }
        names
    }
}

impl Directory for SysDir {
    fn find(&self, proc: &Arc<Proc>, _cx: &dyn Ctx, name: &[u8]) -> Result<Arc<dyn Inode>, Errno> {
        let names = self.names();
        let (name, dir) = names
            .iter()
            .find(|(n, _)| n.as_bytes() == name)
            .ok_or(Errno::ENOENT)?;
        let path = format!("{}{name}", self.path);
        let ino = number(0, path.as_bytes());
        if *dir {
            let below = SysDir {
                path: format!("{path}/"),
            };
            return Ok(directory(proc, ino, Owner::Root, Arc::new(below)));
        }
        let (_, value) = SYS.iter().find(|(p, _)| *p == path).ok_or(Errno::ENOENT)?;
        Ok(text(proc, ino, Owner::Root, Arc::new(Value(*value))))
    }

    fn list(&self, _proc: &Arc<Proc>, _cx: &dyn Ctx) -> Result<Vec<Entry>, Errno> {
        let kind = |dir| {
            if dir {
                FileType::Directory
            } else {
                FileType::Regular
            }
        };
        Ok(self
            .names()
            .into_iter()
            .map(|(n, dir)| Entry::new(n, kind(dir)))
            .collect())
    }
}

struct Value(Show);

impl Text for Value {
    fn has_end(&self) -> bool {
        true
    }

    fn read(&self, proc: &Arc<Proc>, _cx: &dyn Ctx) -> Result<Vec<u8>, Errno> {
        Ok((self.0)(proc).into_bytes())
    }
}
