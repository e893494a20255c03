//! The namespaces that a task can leave and enter on its own (unshare(2), setns(2)): of host names,
//! of IPC objects, of networks and control groups, and that of PIDs for its children. Those of mounts are [`vfs::MountNamespace`].

use crate::{
    CloneFlags, Container, Kernel, NetNamespace, PidNamespace, Task, TaskCx, UtsNamespace,
};
use abi::Errno;
use auth::{Counted, Creds, Share, UserNamespace};
use ipc::Ipc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use vfs::nsfs::{self, NamespaceId};
use vfs::{FsCtx, MountNamespace, VfsPath};

/// Those a task is in. It begins in its container's.
#[derive(Clone, Debug)]
pub struct Namespaces {
    /// What uname(2) says.
    pub uts: Arc<UtsNamespace>,
    /// System V IPC and POSIX message queues.
    pub ipc: Arc<Ipc>,
    /// The names of its sockets.
    pub net: Arc<NetNamespace>,
    /// Where the tree of control groups begins for it.
    pub cgroup: Arc<CgroupNamespace>,
    /// Where the processes that it makes are: mostly where it is itself.
    pub pid_for_children: Arc<PidNamespace>,
}

impl Namespaces {
    /// Those that a container's processes begin in.
    pub fn of(container: &Container) -> Namespaces {
        Namespaces {
            uts: container.uts().clone(),
            ipc: container.ipc().clone(),
            net: container.network().clone(),
            cgroup: CgroupNamespace::first(),
            pid_for_children: container.pid_namespace().clone(),
        }
    }

    /// These, with new ones of `owner`, made by `user`, in place of those that `flags` name, for a
    /// task in the PID namespace `own`.
    ///
    /// # Errors
    /// `EINVAL` where its children are in another PID namespace already, or that one's owner is not
    /// around `owner`; `ENOSPC` where one more would be too deep, or too many.
    pub(crate) fn unshared(
        &self,
        flags: CloneFlags,
        (owner, user): (&UserNamespace, u32),
        kernel: &Kernel,
        container: &Container,
        own: &Arc<PidNamespace>,
    ) -> Result<Namespaces, Errno> {
        let mut new = self.clone();
        let counted = |kind| Share::of(owner, user, kind).map(NamespaceId::counted);
        if flags.contains(CloneFlags::NEWUTS) {
            let id = counted(Counted::Uts)?;
            new.uts = Arc::new(UtsNamespace::new(self.uts.get(), id, owner.clone()));
        }
        if flags.contains(CloneFlags::NEWIPC) {
            let id = counted(Counted::Ipc)?;
            let (memory, clocks) = (container.memory(), kernel.clocks());
            new.ipc = Arc::new(Ipc::new(memory, clocks, id, owner.clone()));
        }
        if flags.contains(CloneFlags::NEWNET) {
            new.net = NetNamespace::new(counted(Counted::Net)?, owner.clone());
        }
        if flags.contains(CloneFlags::NEWCGROUP) {
            new.cgroup = CgroupNamespace::new(counted(Counted::Cgroup)?, owner.clone());
        }
        if flags.contains(CloneFlags::NEWPID) {
            if !Arc::ptr_eq(&self.pid_for_children, own) {
                return Err(Errno::EINVAL);
            }
            new.pid_for_children = PidNamespace::nested(own, owner, user)?;
        }
        Ok(new)
    }
}

/// A namespace of control groups (cgroup_namespaces(7)). A container has one group and all its
/// processes are in that, so that it is the top of each of them: they differ in their numbers.
#[derive(Debug)]
pub struct CgroupNamespace {
    id: Option<NamespaceId>,
    owner: UserNamespace,
}

impl CgroupNamespace {
    /// That of processes which never went into another.
    fn first() -> Arc<CgroupNamespace> {
        Arc::new(CgroupNamespace {
            id: None,
            owner: UserNamespace::default(),
        })
    }

    fn new(id: NamespaceId, owner: UserNamespace) -> Arc<CgroupNamespace> {
        Arc::new(CgroupNamespace {
            id: Some(id),
            owner,
        })
    }

    /// The number of its file in `/proc/PID/ns`.
    pub fn id(&self) -> u64 {
        self.id.as_ref().map_or(nsfs::CGROUP_ID, NamespaceId::get)
    }

    /// The user namespace whose it is.
    pub fn owner(&self) -> &UserNamespace {
        &self.owner
    }
}

impl Task {
    /// Those it is in; none once it has ended.
    pub fn namespaces(&self) -> Option<Namespaces> {
        self.state.lock().namespaces.clone()
    }
}

impl TaskCx {
    /// Those it is in.
    pub fn namespaces(&self) -> &Namespaces {
        &self.namespaces
    }

    /// What uname(2) says to it.
    pub fn uts(&self) -> &Arc<UtsNamespace> {
        &self.namespaces.uts
    }

    /// The network that it sees.
    pub fn net(&self) -> &Arc<NetNamespace> {
        &self.namespaces.net
    }

    /// The IPC objects that it sees.
    pub fn ipc(&self) -> &Arc<Ipc> {
        &self.namespaces.ipc
    }

    /// Its share of the mount namespaces of `owner`, if `flags` name those.
    ///
    /// # Errors
    /// `ENOSPC` where there would be too many.
    pub fn share_of_mounts(
        &self,
        flags: CloneFlags,
        owner: &UserNamespace,
    ) -> Result<Option<Share>, Errno> {
        flags
            .contains(CloneFlags::NEWNS)
            .then(|| Share::of(owner, self.creds_ref().euid, Counted::Mount))
            .transpose()
    }

    /// New namespaces of `owner`, of those `flags` that are kept here, to be entered (unshare(2)).
    ///
    /// # Errors
    /// Those of [`Namespaces::unshared`].
    pub fn new_namespaces(
        &self,
        flags: CloneFlags,
        owner: &UserNamespace,
    ) -> Result<Namespaces, Errno> {
        let own = self.pid_namespace();
        let of = (owner, self.creds_ref().euid);
        self.namespaces
            .unshared(flags, of, self.kernel(), self.container(), own)
    }

    /// What it is in a new user namespace of its own (`CLONE_NEWUSER`).
    ///
    /// # Errors
    /// Those of [`Creds::in_new_user_namespace`].
    pub fn creds_in_new_namespace(&self) -> Result<Creds, Errno> {
        let root = self.root();
        let top = self.mounts.root();
        let chrooted =
            !Arc::ptr_eq(&root.mount, &top.mount) || !Arc::ptr_eq(&root.dentry, &top.dentry);
        let number = NamespaceId::new().get();
        self.creds_ref().in_new_user_namespace(number, chrooted)
    }

    /// Goes into these (unshare(2), setns(2)).
    pub fn enter_namespaces(&mut self, new: Namespaces) {
        if !Arc::ptr_eq(&new.ipc, &self.namespaces.ipc) {
            let group = self.group();
            if group.threads().len() > 1 {
                group.mixed_ipc.store(true, Ordering::Relaxed);
            }
            self.leave_ipc();
        }
        let old = self.task.state.lock().namespaces.replace(new.clone());
        self.namespaces = new;
        drop(old);
    }

    /// Its changes to semaphores are undone, unless another thread of the process is left to do
    /// that.
    pub(crate) fn leave_ipc(&self) {
        let me = &self.task;
        let alone = {
            let threads = &self.group().state.lock().threads;
            let mixed = self.group().mixed_ipc.load(Ordering::Relaxed);
            let stays = |t: &Arc<Task>| {
                let same = |n: &Namespaces| Arc::ptr_eq(&n.ipc, self.ipc());
                !Arc::ptr_eq(t, me)
                    && (!mixed || t.state.lock().namespaces.as_ref().is_some_and(same))
            };
            threads.len() <= 1 || (mixed && !threads.iter().any(stays))
        };
        if alone {
            self.undo_semaphores();
        }
    }

    pub(crate) fn undo_semaphores(&self) {
        let group = self.group();
        self.ipc().sem.process_ended(group.serial(), group.pid());
    }

    /// Moves all tasks of the container that stand at `old`, or have it for their root, to `new`
    /// (pivot_root(2)).
    pub fn move_roots(&self, old: &VfsPath, new: &VfsPath) {
        for task in self.container().all_tasks() {
            if let Some(fs) = task.fs() {
                fs.move_root(old, new);
            }
        }
    }

    /// Sees `mounts` from their top on (setns(2)).
    ///
    /// # Errors
    /// `EINVAL` where its root and working directory are not its alone.
    pub fn enter_mounts(&mut self, mounts: Arc<MountNamespace>) -> Result<(), Errno> {
        if self.fs.is_shared() {
            return Err(Errno::EINVAL);
        }
        let top = mounts.root();
        self.fs.get().set_root(top.clone());
        self.fs.get().set_cwd(top);
        self.mounts = mounts.clone();
        let old = self.task.state.lock().mounts.replace(mounts);
        drop(old);
        Ok(())
    }
}
