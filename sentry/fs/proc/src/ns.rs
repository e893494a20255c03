//! `/proc/PID/ns`

use crate::node::{Directory, Entry, Target, link, number};
use crate::{Owner, Proc};
use abi::{Errno, libc};
use ctx::Ctx;
use std::sync::Arc;
use task::Task;
use vfs::nsfs::{self, NamespaceKind};
use vfs::{FileType, Inode, Link};

const fn kind(name: &'static str, flag: i32, nested: bool) -> NamespaceKind {
    NamespaceKind {
        name,
        flag: flag.cast_unsigned(),
        nested,
    }
}

static CGROUP: NamespaceKind = kind("cgroup", libc::CLONE_NEWCGROUP, false);
static IPC: NamespaceKind = kind("ipc", libc::CLONE_NEWIPC, false);
static MNT: NamespaceKind = kind("mnt", libc::CLONE_NEWNS, false);
static NET: NamespaceKind = kind("net", libc::CLONE_NEWNET, false);
static PID: NamespaceKind = kind("pid", libc::CLONE_NEWPID, true);
// libc has no name for `CLONE_NEWTIME`.
static TIME: NamespaceKind = kind("time", 0x80, false);
static USER: NamespaceKind = kind("user", libc::CLONE_NEWUSER, true);
static UTS: NamespaceKind = kind("uts", libc::CLONE_NEWUTS, false);

type Namespace = (
    &'static str,
    &'static NamespaceKind,
    fn(&Task) -> Option<u64>,
);

/// In Linux's order. The kinds of which there is one have the numbers of Linux's first.
const ALL: &[Namespace] = &[
    ("net", &NET, |t| Some(t.group().container().network())),
    ("uts", &UTS, |t| Some(t.group().container().uts().id())),
    ("ipc", &IPC, |t| Some(t.group().container().ipc().id())),
    ("pid", &PID, |t| Some(t.kernel().pid_namespace())),
    ("pid_for_children", &PID, |t| {
        Some(t.kernel().pid_namespace())
    }),
    ("user", &USER, |_| Some(0xefff_fffd)),
    ("mnt", &MNT, |t| Some(t.mounts()?.id())),
    ("cgroup", &CGROUP, |_| Some(0xefff_fffb)),
    ("time", &TIME, |_| Some(0xefff_fffa)),
    ("time_for_children", &TIME, |_| Some(0xefff_fffa)),
];

/// The directory.
pub(crate) struct NsDir {
    pub(crate) task: Arc<Task>,
}

impl Directory for NsDir {
    fn find(&self, proc: &Arc<Proc>, _cx: &dyn Ctx, name: &[u8]) -> Result<Arc<dyn Inode>, Errno> {
        let found = ALL.iter().find(|(n, ..)| n.as_bytes() == name);
        let target = NsLink {
            task: self.task.clone(),
            namespace: found.ok_or(Errno::ENOENT)?,
        };
        let ino = number(self.task.tid(), &[b"ns/", name].concat());
        let owner = Owner::Task(self.task.clone());
        Ok(link(proc, ino, owner, Arc::new(target)))
    }

    fn list(&self, _proc: &Arc<Proc>, _cx: &dyn Ctx) -> Result<Vec<Entry>, Errno> {
        let all = ALL.iter();
        Ok(all
            .map(|(n, ..)| Entry::new(*n, FileType::Symlink))
            .collect())
    }

    fn perm(&self) -> u32 {
        0o511
    }
}

struct NsLink {
    task: Arc<Task>,
    namespace: &'static Namespace,
}

impl NsLink {
    fn id(&self) -> Result<u64, Errno> {
        (self.namespace.2)(&self.task).ok_or(Errno::ENOENT)
    }
}

impl Target for NsLink {
    fn text(&self, _proc: &Arc<Proc>, _cx: &dyn Ctx) -> Result<Vec<u8>, Errno> {
        Ok(nsfs::name(self.namespace.1, self.id()?))
    }

    fn follow(&self, _proc: &Arc<Proc>, cx: &dyn Ctx) -> Result<Link, Errno> {
        Ok(Link::File(nsfs::open(cx, self.namespace.1, self.id()?)))
    }
}
