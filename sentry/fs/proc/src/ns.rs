//! `/proc/PID/ns`

use crate::node::{Directory, Entry, Target, link, number};
use crate::{Owner, Proc};
use abi::Errno;
use ctx::Ctx;
use std::sync::Arc;
use task::Task;
use vfs::nsfs::{self, Held, NamespaceKind};
use vfs::{FileType, Inode, Link};

type Namespace = (
    &'static str,
    &'static NamespaceKind,
    fn(&Task) -> Option<(u64, Held)>,
);

/// One of a kind that nobody leaves.
fn fixed(id: u64) -> Option<(u64, Held)> {
    Some((id, Arc::new(())))
}

/// In Linux's order.
const ALL: &[Namespace] = &[
    ("net", &nsfs::NET, |t| {
        let net = t.namespaces()?.net;
        Some((net.id(), net))
    }),
    ("uts", &nsfs::UTS, |t| {
        let uts = t.namespaces()?.uts;
        Some((uts.id(), uts))
    }),
    ("ipc", &nsfs::IPC, |t| {
        let ipc = t.namespaces()?.ipc;
        Some((ipc.id(), ipc))
    }),
    ("pid", &nsfs::PID, |t| {
        let pids = t.group().pid_namespace();
        Some((pids.id(), pids.clone()))
    }),
    ("pid_for_children", &nsfs::PID, |t| {
        let pids = t.namespaces()?.pid_for_children;
        // Before its first process there is nothing to be seen of it.
        pids.has_begun().then(|| (pids.id(), pids as Held))
    }),
    ("user", &nsfs::USER, |t| {
        let users = t.creds().user_ns.clone();
        Some((users.number(), Arc::new(users)))
    }),
    ("mnt", &nsfs::MNT, |t| {
        let mounts = t.mounts()?;
        Some((mounts.id(), mounts))
    }),
    ("cgroup", &nsfs::CGROUP, |t| {
        let cgroup = t.namespaces()?.cgroup;
        Some((cgroup.id(), cgroup))
    }),
    ("time", &nsfs::TIME, |_| fixed(nsfs::TIME_ID)),
    ("time_for_children", &nsfs::TIME, |_| fixed(nsfs::TIME_ID)),
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
    fn find(&self) -> Result<(u64, Held), Errno> {
        (self.namespace.2)(&self.task).ok_or(Errno::ENOENT)
    }
}

impl Target for NsLink {
    fn text(&self, proc: &Arc<Proc>, cx: &dyn Ctx) -> Result<Vec<u8>, Errno> {
        let (id, _) = proc.look(cx, &self.task, || self.find())??;
        Ok(nsfs::name(self.namespace.1, id))
    }

    fn follow(&self, proc: &Arc<Proc>, cx: &dyn Ctx) -> Result<Link, Errno> {
        let (id, held) = proc.look(cx, &self.task, || self.find())??;
        Ok(Link::File(nsfs::open(cx, self.namespace.1, id, held)))
    }
}
