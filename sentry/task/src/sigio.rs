//! Owners of files: to whom the signals for input and output go (fcntl(2), F_SETOWN).

use crate::send::{Reach, may_signal_by_ids};
use crate::{Kernel, PidNamespace, Task, TaskCx, ThreadGroup};
use abi::Errno;
use signal::{SigInfo, Signal};
use std::any::Any;
use std::sync::{Arc, Weak};
use vfs::sigio::{Owner, OwnerKind, Reason};

/// Whom somebody made the owner of a file. A task stays that one: who gets the same number later is
/// another. A process group is told by its number, whoever is in it then.
struct FileOwner {
    kernel: Weak<Kernel>,
    target: Target,
    /// Real and effective user of who said so: what is sent is sent by them.
    users: (u32, u32),
}

enum Target {
    Thread(Weak<Task>),
    /// A process, by the id of one of its threads.
    Process(Weak<ThreadGroup>, i32),
    Group(i32),
}

impl FileOwner {
    /// Its number in a PID namespace of `kernel`; 0 where it is not there, or not any more.
    fn number(&self, kernel: &Arc<Kernel>, space: &PidNamespace) -> i32 {
        let own = self.kernel.upgrade();
        if own.is_none_or(|own| !Arc::ptr_eq(&own, kernel)) {
            return 0;
        }
        let tree = kernel.tree.lock();
        let id = match &self.target {
            Target::Thread(task) => task
                .upgrade()
                .map(|task| task.tid())
                .filter(|tid| tree.tasks.contains_key(tid)),
            // One that was named by another thread than its first is not told, as on Linux.
            Target::Process(group, named) => group
                .upgrade()
                .map(|group| group.tgid())
                .filter(|tgid| tgid == named && tree.nodes.contains_key(tgid)),
            Target::Group(pgid) => Some(*pgid).filter(|pgid| tree.groups.contains_key(pgid)),
        };
        tree.number_in(space, id.unwrap_or(0))
    }

    fn may(&self, task: &Task) -> bool {
        may_signal_by_ids(self.users, &task.creds())
    }

    /// Sends by `to`, and `SIGIO` without details where that fails.
    fn send(
        signal: i32,
        fd: i32,
        reason: Reason,
        mut to: impl FnMut(Signal, SigInfo) -> Result<(), Errno>,
    ) {
        if let Ok(signal) = Signal::new(signal) {
            // Codes that mean something else with that signal are not used with it.
            let code = match signal != Signal::IO && signal.has_codes_of_its_own() {
                true => abi::libc::SI_SIGIO,
                false => reason.code(),
            };
            if to(signal, SigInfo::ready(signal, code, reason.band(), fd)).is_ok() {
                return;
            }
        }
        let _ = to(Signal::IO, SigInfo::kernel(Signal::IO));
    }
}

impl Owner for FileOwner {
    fn tell(&self, signal: i32, fd: i32, reason: Reason) {
        let Some(kernel) = self.kernel.upgrade() else {
            return;
        };
        match &self.target {
            Target::Thread(task) => {
                if let Some(task) = task.upgrade().filter(|t| self.may(t)) {
                    FileOwner::send(signal, fd, reason, |signal, info| {
                        task.group().send_to(&task, signal, info)
                    });
                }
            }
            Target::Process(group, _) => {
                let group = group.upgrade();
                let leader = group.as_ref().and_then(|g| kernel.task(g.tgid()));
                if let (Some(group), Some(leader)) = (group, leader)
                    && self.may(&leader)
                {
                    FileOwner::send(signal, fd, reason, |signal, info| group.send(signal, info));
                }
            }
            Target::Group(pgid) => {
                let mut continued = Vec::new();
                let tree = kernel.tree.lock();
                for group in tree.members(*pgid) {
                    let leader = tree.tasks.get(&group.tgid());
                    if leader.is_none_or(|leader| !self.may(leader)) {
                        continue;
                    }
                    FileOwner::send(signal, fd, reason, |signal, info| {
                        let (goes_on, sent) = group.queue(Reach::Many, signal, info, false);
                        if goes_on {
                            continued.push(group.clone());
                        }
                        sent
                    });
                }
                drop(tree);
                kernel.report_continued(&continued);
            }
        }
    }
}

impl TaskCx {
    pub(crate) fn make_file_owner(&self, kind: OwnerKind, id: i32) -> Option<Arc<dyn Owner>> {
        let tree = self.kernel().tree.lock();
        let id = tree.id_in(self.pid_namespace(), id);
        let task = tree.tasks.get(&id);
        let target = match kind {
            OwnerKind::Thread => Target::Thread(Arc::downgrade(task?)),
            OwnerKind::Process => Target::Process(Arc::downgrade(task?.group()), id),
            OwnerKind::Group => {
                // A number that is in use at all will do.
                let known = task.is_some()
                    || tree.groups.contains_key(&id)
                    || tree.sessions.contains_key(&id);
                known.then_some(Target::Group(id))?
            }
        };
        drop(tree);
        let creds = self.creds_ref();
        Some(Arc::new(FileOwner {
            kernel: Arc::downgrade(self.kernel()),
            target,
            users: (creds.ruid, creds.euid),
        }))
    }

    /// The number of an owner of a file as this task sees it; 0 where there is no such any more.
    pub fn file_owner_id(&self, owner: &dyn Owner) -> i32 {
        let owner: &dyn Any = owner;
        let owner = owner.downcast_ref::<FileOwner>();
        owner.map_or(0, |owner| owner.number(self.kernel(), self.pid_namespace()))
    }

    /// Real and effective user of who made it the owner (F_GETOWNER_UIDS).
    pub fn file_owner_users(&self, owner: &dyn Owner) -> (u32, u32) {
        let owner: &dyn Any = owner;
        let owner = owner.downcast_ref::<FileOwner>();
        owner.map_or((0, 0), |owner| owner.users)
    }
}
