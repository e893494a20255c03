//! `/proc/sys`: what sysctl(8) shows and changes.
//!
//! A value that can be changed is acted upon by what it is about; one that nothing here depends
//! on cannot be written, not even by root.

use crate::node::{Directory, Entry, Text, directory, number, text};
use crate::{Owner, Proc};
use abi::Errno;
use auth::{Capability, Counted, UserNamespace};
use ctx::Ctx;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use sysctl::Knob;
use task::{Namespaces, Uts};
use vfs::{FileType, Inode};

/// A directory.
pub(crate) struct SysDir {
    path: String,
}

/// What a file is about.
#[derive(Clone, Copy)]
enum Value {
    /// Nobody can change it.
    Fixed(fn(&Namespaces) -> String),
    /// Numbers in a row.
    Numbers(fn(&Namespaces) -> Vec<&Knob>),
    /// A size in bytes, which is rounded up to a power of two of pages.
    Size(&'static Knob),
    /// A number without a sign, and without a bound.
    Large(fn(&Namespaces) -> &AtomicU64),
    /// How many namespaces a user may have, in the user namespace of who looked the file up.
    Most(Counted),
    /// A string of uname(2).
    Name(fn(&mut Uts) -> &mut Vec<u8>),
}

use Value::{Fixed, Large, Most, Name, Numbers, Size};

/// Path below `/proc/sys`, and what is there.
const SYS: &[(&str, Value)] = &[
    ("fs/aio-max-nr", Numbers(|_| vec![&sysctl::AIO_MAX])),
    (
        "fs/aio-nr",
        Fixed(|_| format!("{}\n", fs_anon::aio::count())),
    ),
    ("fs/file-max", Fixed(|_| "1048576\n".into())),
    (
        "fs/inotify/max_queued_events",
        Numbers(|_| vec![&sysctl::INOTIFY_EVENTS]),
    ),
    (
        "fs/inotify/max_user_instances",
        Numbers(|_| vec![&sysctl::INOTIFY_INSTANCES]),
    ),
    (
        "fs/inotify/max_user_watches",
        Numbers(|_| vec![&sysctl::INOTIFY_WATCHES]),
    ),
    (
        "fs/lease-break-time",
        Numbers(|_| vec![&sysctl::LEASE_BREAK_TIME]),
    ),
    (
        "fs/leases-enable",
        Numbers(|_| vec![&sysctl::LEASES_ENABLE]),
    ),
    (
        "fs/mqueue/msg_default",
        Numbers(|p| vec![&p.ipc.limits.mq_msg_default]),
    ),
    (
        "fs/mqueue/msg_max",
        Numbers(|p| vec![&p.ipc.limits.mq_msg_max]),
    ),
    (
        "fs/mqueue/msgsize_default",
        Numbers(|p| vec![&p.ipc.limits.mq_msgsize_default]),
    ),
    (
        "fs/mqueue/msgsize_max",
        Numbers(|p| vec![&p.ipc.limits.mq_msgsize_max]),
    ),
    (
        "fs/mqueue/queues_max",
        Numbers(|p| vec![&p.ipc.limits.mq_queues_max]),
    ),
    ("fs/nr_open", Numbers(|_| vec![&sysctl::NR_OPEN])),
    ("fs/overflowgid", Numbers(|_| vec![&sysctl::OVERFLOW_GID])),
    ("fs/overflowuid", Numbers(|_| vec![&sysctl::OVERFLOW_UID])),
    ("fs/pipe-max-size", Size(&sysctl::PIPE_MAX_SIZE)),
    ("fs/protected_fifos", Fixed(|_| "0\n".into())),
    (
        "fs/protected_hardlinks",
        Numbers(|_| vec![&sysctl::PROTECTED_HARDLINKS]),
    ),
    ("fs/protected_regular", Fixed(|_| "0\n".into())),
    (
        "fs/protected_symlinks",
        Numbers(|_| vec![&sysctl::PROTECTED_SYMLINKS]),
    ),
    ("fs/suid_dumpable", Fixed(|_| "0\n".into())),
    ("kernel/cap_last_cap", Fixed(|_| "40\n".into())),
    ("kernel/core_pattern", Fixed(|_| "core\n".into())),
    ("kernel/domainname", Name(|uts| &mut uts.domainname)),
    ("kernel/hostname", Name(|uts| &mut uts.nodename)),
    (
        "kernel/msg_next_id",
        Numbers(|p| vec![&p.ipc.limits.msg_next_id]),
    ),
    ("kernel/msgmax", Numbers(|p| vec![&p.ipc.limits.msgmax])),
    ("kernel/msgmnb", Numbers(|p| vec![&p.ipc.limits.msgmnb])),
    ("kernel/msgmni", Numbers(|p| vec![&p.ipc.limits.msgmni])),
    ("kernel/ngroups_max", Fixed(|_| "65536\n".into())),
    ("kernel/osrelease", Fixed(|p| uts(p, |u| u.release))),
    ("kernel/ostype", Fixed(|p| uts(p, |u| u.sysname))),
    (
        "kernel/overflowgid",
        Numbers(|_| vec![&sysctl::OVERFLOW_GID]),
    ),
    (
        "kernel/overflowuid",
        Numbers(|_| vec![&sysctl::OVERFLOW_UID]),
    ),
    ("kernel/pid_max", Fixed(|_| "4194304\n".into())),
    ("kernel/random/boot_id", Fixed(|_| boot_id())),
    ("kernel/random/entropy_avail", Fixed(|_| "256\n".into())),
    ("kernel/random/poolsize", Fixed(|_| "256\n".into())),
    ("kernel/random/uuid", Fixed(|_| uuid())),
    ("kernel/randomize_va_space", Fixed(|_| "2\n".into())),
    (
        "kernel/sem",
        Numbers(|p| {
            let l = &p.ipc.limits;
            vec![&l.semmsl, &l.semmns, &l.semopm, &l.semmni]
        }),
    ),
    (
        "kernel/sem_next_id",
        Numbers(|p| vec![&p.ipc.limits.sem_next_id]),
    ),
    (
        "kernel/shm_next_id",
        Numbers(|p| vec![&p.ipc.limits.shm_next_id]),
    ),
    ("kernel/shmall", Large(|p| &p.ipc.limits.shmall)),
    ("kernel/shmmax", Large(|p| &p.ipc.limits.shmmax)),
    ("kernel/shmmni", Numbers(|p| vec![&p.ipc.limits.shmmni])),
    ("kernel/tainted", Fixed(|_| "0\n".into())),
    ("kernel/version", Fixed(|p| uts(p, |u| u.version))),
    (
        "net/core/rmem_default",
        Numbers(|_| vec![&sysctl::RMEM_DEFAULT]),
    ),
    ("net/core/rmem_max", Numbers(|_| vec![&sysctl::RMEM_MAX])),
    ("net/core/somaxconn", Numbers(|_| vec![&sysctl::SOMAXCONN])),
    (
        "net/core/wmem_default",
        Numbers(|_| vec![&sysctl::WMEM_DEFAULT]),
    ),
    ("net/core/wmem_max", Numbers(|_| vec![&sysctl::WMEM_MAX])),
    ("user/max_cgroup_namespaces", Most(Counted::Cgroup)),
    ("user/max_ipc_namespaces", Most(Counted::Ipc)),
    ("user/max_mnt_namespaces", Most(Counted::Mount)),
    ("user/max_net_namespaces", Most(Counted::Net)),
    ("user/max_pid_namespaces", Most(Counted::Pid)),
    ("user/max_user_namespaces", Most(Counted::User)),
    ("user/max_uts_namespaces", Most(Counted::Uts)),
    (
        "vm/max_map_count",
        Numbers(|_| vec![&sysctl::MAX_MAP_COUNT]),
    ),
    ("vm/mmap_min_addr", Fixed(|_| "65536\n".into())),
    ("vm/overcommit_memory", Fixed(|_| "0\n".into())),
    ("vm/overcommit_ratio", Fixed(|_| "50\n".into())),
    ("vm/swappiness", Fixed(|_| "60\n".into())),
];

/// Sets the value that sysctl(8) calls `name` (`kernel.shmmax`), as root would.
///
/// # Errors
/// `ENOENT` where there is none, `EACCES` where it cannot be changed, `EINVAL` where it cannot be
/// `value`.
pub(crate) fn set(seen: &Namespaces, name: &str, value: &str) -> Result<(), Errno> {
    let path = name.replace('.', "/");
    let (_, found) = SYS.iter().find(|(p, _)| *p == path).ok_or(Errno::ENOENT)?;
    found.set(seen, &UserNamespace::default(), value.as_bytes())
}

impl Value {
    fn show(self, seen: &Namespaces, users: &UserNamespace) -> String {
        match self {
            Fixed(text) => text(seen),
            Numbers(knobs) => {
                let all: Vec<String> = knobs(seen).iter().map(|k| k.get().to_string()).collect();
                format!("{}\n", all.join("\t"))
            }
            Size(knob) => format!("{}\n", knob.get()),
            Large(number) => format!("{}\n", number(seen).load(Ordering::Relaxed)),
            Most(kind) => format!("{}\n", users.limit(kind).get()),
            Name(which) => line(which(&mut seen.uts.get())),
        }
    }

    fn set(self, seen: &Namespaces, users: &UserNamespace, data: &[u8]) -> Result<(), Errno> {
        match self {
            Fixed(_) => return Err(Errno::EACCES),
            _ if data.is_empty() => {}
            Numbers(knobs) => {
                let mut words = words(data);
                let mut first = true;
                let knobs = knobs(seen);
                // `sem` alone has several, and its bounds are looked at by a function of its own.
                let out_of_bounds = if knobs.len() > 1 {
                    Errno::ERANGE
                } else {
                    Errno::EINVAL
                };
                for knob in knobs {
                    match words.next() {
                        Some(word) => knob.set(signed(word)?).map_err(|_| out_of_bounds)?,
                        None if first => return Err(Errno::EINVAL),
                        // Those that are not named stay.
                        None => break,
                    }
                    first = false;
                }
            }
            Size(knob) => {
                let bytes = unsigned(words(data).next().ok_or(Errno::EINVAL)?)?;
                if bytes > 1 << 31 {
                    return Err(Errno::EINVAL);
                }
                let bytes = bytes.max(4096).next_power_of_two() as i64;
                knob.set(bytes).map_err(|_| Errno::EINVAL)?;
            }
            Large(number) => {
                let word = words(data).next().ok_or(Errno::EINVAL)?;
                number(seen).store(unsigned(word)?, Ordering::Relaxed);
            }
            Most(kind) => {
                let word = words(data).next().ok_or(Errno::EINVAL)?;
                let set = users.limit(kind).set(signed(word)?);
                set.map_err(|_| Errno::EINVAL)?;
            }
            Name(which) => {
                /// `__NEW_UTS_LEN`
                const MOST: usize = 64;
                let end = data.iter().position(|b| matches!(b, b'\n' | 0));
                let name = &data[..end.unwrap_or(data.len()).min(MOST)];
                seen.uts.update(|uts| *which(uts) = name.to_vec());
            }
        }
        Ok(())
    }
}

fn words(data: &[u8]) -> impl Iterator<Item = &[u8]> {
    data.split(|b| b.is_ascii_whitespace() || *b == 0)
        .filter(|word| !word.is_empty())
}

/// A number as strtoul(3) reads it with base 0.
fn unsigned(word: &[u8]) -> Result<u64, Errno> {
    let word = std::str::from_utf8(word).map_err(|_| Errno::EINVAL)?;
    let (digits, base) = match word.as_bytes() {
        [b'0', b'x' | b'X', ..] => (&word[2..], 16),
        [b'0', _, ..] => (&word[1..], 8),
        _ => (word, 10),
    };
    // from_str_radix takes a sign.
    if !digits.starts_with(|c: char| c.is_ascii_hexdigit()) {
        return Err(Errno::EINVAL);
    }
    u64::from_str_radix(digits, base).map_err(|_| Errno::EINVAL)
}

fn signed(word: &[u8]) -> Result<i64, Errno> {
    let (digits, negative) = match word {
        [b'-', digits @ ..] => (digits, true),
        digits => (digits, false),
    };
    let number = i64::try_from(unsigned(digits)?).map_err(|_| Errno::EINVAL)?;
    Ok(if negative { -number } else { number })
}

fn uts(seen: &Namespaces, pick: fn(Uts) -> Vec<u8>) -> String {
    line(&pick(seen.uts.get()))
}

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
    fn find(&self, proc: &Arc<Proc>, cx: &dyn Ctx, name: &[u8]) -> Result<Arc<dyn Inode>, Errno> {
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
        let (known, value) = SYS.iter().find(|(p, _)| *p == path).ok_or(Errno::ENOENT)?;
        Ok(text(
            proc,
            ino,
            Owner::Root,
            Arc::new(File {
                path: known,
                value: *value,
                users: cx.creds().user_ns.clone(),
            }),
        ))
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

struct File {
    path: &'static str,
    value: Value,
    users: UserNamespace,
}

impl File {
    /// The user and the group that may change it: the root of whose it is.
    fn root(&self, proc: &Arc<Proc>, cx: &dyn Ctx) -> (u32, u32) {
        let of_ipc = ["kernel/msg", "kernel/sem", "kernel/shm", "fs/mqueue/"];
        if !of_ipc.iter().any(|p| self.path.starts_with(p)) {
            return (0, 0);
        }
        let seen = proc.seen_by(cx);
        let ns = seen.ipc.owner();
        (ns.uid(0).unwrap_or(0), ns.gid(0).unwrap_or(0))
    }
}

impl Text for File {
    fn has_end(&self) -> bool {
        true
    }

    fn read(&self, proc: &Arc<Proc>, cx: &dyn Ctx) -> Result<Vec<u8>, Errno> {
        Ok(self.value.show(&proc.seen_by(cx), &self.users).into_bytes())
    }

    fn write(&self, proc: &Arc<Proc>, cx: &dyn Ctx, data: &[u8]) -> Result<(), Errno> {
        // Looked at again: who writes may be inside of where the file was opened.
        if matches!(self.value, Most(_)) && !cx.creds().has_in(&self.users, Capability::SysResource)
        {
            return Err(Errno::EPERM);
        }
        self.value.set(&proc.seen_by(cx), &self.users, data)
    }

    fn perm(&self) -> u32 {
        match self.value {
            Fixed(_) => 0o444,
            _ => 0o644,
        }
    }

    fn fixed_permission(&self, proc: &Arc<Proc>, cx: &dyn Ctx) -> Option<u32> {
        let creds = cx.creds();
        let (uid, gid) = self.root(proc, cx);
        Some(match self.perm() {
            // It bounds what is inside, too.
            perm if matches!(self.value, Most(_)) => {
                let may = creds.has_in(&self.users, Capability::SysResource);
                if may { perm >> 6 } else { perm }
            }
            perm if uid == creds.euid => perm >> 6,
            perm if creds.in_group(gid) => perm >> 3,
            perm => perm,
        })
    }

    fn owner(&self, proc: &Arc<Proc>, cx: &dyn Ctx) -> Option<(u32, u32)> {
        Some(self.root(proc, cx))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_as_strtoul_reads_them() {
        assert_eq!(unsigned(b"10"), Ok(10));
        assert_eq!(unsigned(b"0x10"), Ok(16));
        assert_eq!(unsigned(b"010"), Ok(8));
        assert_eq!(unsigned(b"0"), Ok(0));
        assert_eq!(signed(b"-3"), Ok(-3));
        for bad in [&b"x"[..], b"", b"-", b"0x", b"+1", b"--1", b"09"] {
            assert_eq!(signed(bad), Err(Errno::EINVAL), "{bad:?}");
        }
    }
}
