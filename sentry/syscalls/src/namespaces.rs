//! unshare(2) and setns(2).

use crate::user::{Args, file};
use abi::Errno;
use auth::Capability;
use ctx::{Ctx, SysResult};
use std::any::Any;
use std::sync::Arc;
use task::{CloneFlags, Ids, Namespaces, PidFd, TaskCx, UtsNamespace};
use vfs::nsfs::{self, NamespaceFile};
use vfs::{File, MountNamespace};

pub(crate) fn unshare(cx: &mut TaskCx, &[flags, ..]: &Args) -> SysResult<u64> {
    let alone = CloneFlags::THREAD | CloneFlags::SIGHAND | CloneFlags::VM;
    let own = CloneFlags::FS | CloneFlags::FILES | CloneFlags::SYSVSEM;
    let flags = CloneFlags::from_bits(flags).ok_or(Errno::EINVAL)?;
    if !(alone | own | CloneFlags::NAMESPACES).contains(flags) {
        return Err(Errno::EINVAL.into());
    }
    task::may_unshare(&cx.creds(), flags)?;
    // For a task with a thread beside it these cannot be had; for one alone they are so already.
    if flags.intersects(alone) && cx.group().threads().len() > 1 {
        return Err(Errno::EINVAL.into());
    }
    if flags.contains(CloneFlags::FILES) {
        cx.unshare_fds();
    }
    if flags.contains(CloneFlags::FS) {
        cx.unshare_fs();
    }
    if flags.contains(CloneFlags::NEWNS) {
        cx.unshare_mounts();
    }
    if flags.intersects(CloneFlags::NEWUTS | CloneFlags::NEWIPC) {
        cx.unshare_namespaces(flags);
    }
    Ok(0)
}

/// Where setns(2) is to go: what was found out before anything is changed.
#[derive(Default)]
struct Entered {
    namespaces: Option<Namespaces>,
    mounts: Option<Arc<MountNamespace>>,
}

pub(crate) fn setns(cx: &mut TaskCx, &[fd, flags, ..]: &Args) -> SysResult<u64> {
    let file = file(cx, fd)?;
    let flags = CloneFlags::from_bits_retain(u64::from(flags as u32));
    let mut entered = Entered::default();
    if let Some(ns) = file.ops_as::<NamespaceFile>() {
        let kind = CloneFlags::from_bits_retain(u64::from(ns.kind().flag));
        if !flags.is_empty() && flags != kind {
            return Err(Errno::EINVAL.into());
        }
        choose(cx, &mut entered, kind, ns.id(), ns.held().clone())?;
    } else if let Some(process) = file.ops_as::<PidFd>() {
        if flags.is_empty() || !CloneFlags::NAMESPACES.contains(flags) {
            return Err(Errno::EINVAL.into());
        }
        choose_all(cx, &mut entered, flags, process)?;
    } else {
        return Err(Errno::EINVAL.into());
    }
    if let Some(mounts) = entered.mounts {
        cx.enter_mounts(mounts)?;
    }
    if let Some(namespaces) = entered.namespaces {
        cx.enter_namespaces(namespaces);
    }
    Ok(0)
}

/// The namespaces of a process that `flags` name.
fn choose_all(
    cx: &TaskCx,
    entered: &mut Entered,
    flags: CloneFlags,
    process: &PidFd,
) -> Result<(), Errno> {
    let task = process.group().any_thread().ok_or(Errno::ESRCH)?;
    if !cx.sees(process.group()) {
        return Err(Errno::EINVAL);
    }
    if !task.lets_look(cx, Ids::Real) {
        return Err(Errno::EPERM);
    }
    let theirs = task.namespaces();
    let mounts = task.mounts().ok_or(Errno::ESRCH)?;
    let (pids, net) = (task.kernel().pid_namespace(), task.group().container());
    type Choice = (CloneFlags, u64, Arc<dyn Any + Send + Sync>);
    let none = || -> Arc<dyn Any + Send + Sync> { Arc::new(()) };
    // In Linux's order.
    let all: [Choice; 8] = [
        (CloneFlags::NEWUSER, nsfs::USER_ID, none()),
        (CloneFlags::NEWNS, mounts.id(), mounts),
        (CloneFlags::NEWUTS, theirs.uts.id(), theirs.uts),
        (CloneFlags::NEWIPC, theirs.ipc.id(), theirs.ipc),
        (CloneFlags::NEWPID, pids, none()),
        (CloneFlags::NEWCGROUP, nsfs::CGROUP_ID, none()),
        (CloneFlags::NEWNET, net.network(), none()),
        (CloneFlags::NEWTIME, nsfs::TIME_ID, none()),
    ];
    for (kind, id, held) in all {
        if flags.contains(kind) {
            choose(cx, entered, kind, id, held)?;
        }
    }
    Ok(())
}

/// Whether the caller may go into the namespace `held` of a kind, whose number is `id`.
fn choose(
    cx: &TaskCx,
    entered: &mut Entered,
    kind: CloneFlags,
    id: u64,
    held: Arc<dyn Any + Send + Sync>,
) -> Result<(), Errno> {
    let creds = cx.creds();
    if kind == CloneFlags::NEWUSER {
        // There is one, and entering one's own anew would give capabilities back.
        return Err(Errno::EINVAL);
    }
    if kind == CloneFlags::NEWTIME && cx.group().threads().len() > 1 {
        return Err(Errno::EUSERS);
    }
    let chroot = kind != CloneFlags::NEWNS || creds.has(Capability::SysChroot);
    if !creds.has(Capability::SysAdmin) || !chroot {
        return Err(Errno::EPERM);
    }
    let mut namespaces = entered
        .namespaces
        .take()
        .unwrap_or_else(|| cx.task().namespaces());
    if kind == CloneFlags::NEWNS {
        let mounts = held.downcast().map_err(|_| Errno::EINVAL)?;
        entered.mounts = Some(mounts);
    } else if kind == CloneFlags::NEWUTS {
        namespaces.uts = held.downcast::<UtsNamespace>().map_err(|_| Errno::EINVAL)?;
    } else if kind == CloneFlags::NEWIPC {
        namespaces.ipc = held.downcast::<ipc::Ipc>().map_err(|_| Errno::EINVAL)?;
    } else {
        // Of the others a process has one and cannot come to see another.
        let own = [
            cx.kernel().pid_namespace(),
            cx.container().network(),
            nsfs::CGROUP_ID,
            nsfs::TIME_ID,
        ];
        if !own.contains(&id) {
            return Err(Errno::EINVAL);
        }
    }
    entered.namespaces = Some(namespaces);
    Ok(())
}

/// ioctl(2) of a namespace's file that gives a descriptor: the namespace of users that owns it.
/// `None` for everything else.
pub(crate) fn open_owner(
    cx: &TaskCx,
    file: &File,
    request: u32,
) -> Option<Result<Arc<File>, Errno>> {
    let ns = file.ops_as::<NamespaceFile>()?;
    (request == nsfs::NS_GET_USERNS).then(|| {
        // What owns the first of users is out of reach.
        if ns.kind().flag == nsfs::USER.flag {
            return Err(Errno::EPERM);
        }
        Ok(nsfs::open(cx, &nsfs::USER, nsfs::USER_ID, Arc::new(())))
    })
}
