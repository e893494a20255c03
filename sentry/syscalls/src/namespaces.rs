//! unshare(2) and setns(2).

use crate::user::{Args, file};
use abi::Errno;
use auth::{Capability, UserNamespace};
use ctx::{Ctx, SysResult};
use std::sync::Arc;
use task::{CloneFlags, Ids, Namespaces, PidFd, TaskCx, UtsNamespace};
use vfs::nsfs::{self, Held, NamespaceFile};
use vfs::{File, MountNamespace};

pub(crate) fn unshare(cx: &mut TaskCx, &[flags, ..]: &Args) -> SysResult<u64> {
    let alone = CloneFlags::THREAD | CloneFlags::SIGHAND | CloneFlags::VM;
    let own = CloneFlags::FS | CloneFlags::FILES | CloneFlags::SYSVSEM;
    let flags = CloneFlags::from_bits(flags).ok_or(Errno::EINVAL)?;
    if !(alone | own | CloneFlags::NAMESPACES).contains(flags) {
        return Err(Errno::EINVAL.into());
    }
    task::may_unshare(&cx.creds(), flags)?;
    let new_user = flags.contains(CloneFlags::NEWUSER);
    // For a task with a thread beside it these cannot be had; for one alone they are so already.
    if (flags.intersects(alone) || new_user) && cx.group().threads().len() > 1 {
        return Err(Errno::EINVAL.into());
    }
    let new = match new_user {
        true => Some(cx.creds_in_new_namespace()?),
        false => None,
    };
    if flags.contains(CloneFlags::FILES) {
        cx.unshare_fds();
    }
    if flags.contains(CloneFlags::FS) || new_user {
        cx.unshare_fs();
    }
    // First, so that the others are its.
    if let Some(new) = new {
        cx.set_creds(new);
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
    users: Option<UserNamespace>,
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
    if let Some(users) = entered.users {
        let inside = cx.creds().inside(users);
        cx.set_creds(inside);
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
    let users = task.creds().user_ns.clone();
    let theirs = task.namespaces();
    let mounts = task.mounts().ok_or(Errno::ESRCH)?;
    let (pids, net) = (task.kernel().pid_namespace(), task.group().container());
    type Choice = (CloneFlags, u64, Held);
    let none = || -> Held { Arc::new(()) };
    // In Linux's order.
    let all: [Choice; 8] = [
        (CloneFlags::NEWUSER, users.number(), Arc::new(users)),
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
    held: Held,
) -> Result<(), Errno> {
    let creds = cx.creds();
    if kind == CloneFlags::NEWUSER {
        let users: &UserNamespace = held.downcast_ref().ok_or(Errno::EINVAL)?;
        // Entering one's own anew would give capabilities back.
        if *users == creds.user_ns || cx.group().threads().len() > 1 || cx.shares_fs() {
            return Err(Errno::EINVAL);
        }
        if !creds.has_in(users, Capability::SysAdmin) {
            return Err(Errno::EPERM);
        }
        entered.users = Some(users.clone());
        return Ok(());
    }
    if kind == CloneFlags::NEWTIME && cx.group().threads().len() > 1 {
        return Err(Errno::EUSERS);
    }
    let inside = entered.users.as_ref().unwrap_or(&creds.user_ns);
    let chroot = kind != CloneFlags::NEWNS || creds.has_in(inside, Capability::SysChroot);
    let owner = owner(kind, &held);
    if !creds.has_in(&owner, Capability::SysAdmin)
        || !creds.has_in(inside, Capability::SysAdmin)
        || !chroot
    {
        return Err(Errno::EPERM);
    }
    let mut namespaces = entered
        .namespaces
        .take()
        .unwrap_or_else(|| cx.task().namespaces());
    if kind == CloneFlags::NEWNS {
        if cx.shares_fs() {
            return Err(Errno::EINVAL);
        }
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

/// The user namespace whose the namespace `held` of a kind is; for one of users, the one around it.
fn owner(kind: CloneFlags, held: &Held) -> UserNamespace {
    let found = match kind {
        CloneFlags::NEWNS => held
            .downcast_ref::<MountNamespace>()
            .map(MountNamespace::owner),
        CloneFlags::NEWUTS => held.downcast_ref::<UtsNamespace>().map(UtsNamespace::owner),
        CloneFlags::NEWIPC => held.downcast_ref::<ipc::Ipc>().map(ipc::Ipc::owner),
        // Of the others there is what the container began with.
        _ => None,
    };
    found.cloned().unwrap_or_default()
}

/// ioctl(2) of a namespace's file that gives a descriptor: the namespace of users that owns it, or
/// that it is in. `None` for everything else.
pub(crate) fn open_owner(
    cx: &TaskCx,
    file: &File,
    request: u32,
) -> Option<Result<Arc<File>, Errno>> {
    let ns = file.ops_as::<NamespaceFile>()?;
    let users: Option<&UserNamespace> = ns.held().downcast_ref();
    let wanted = match request {
        nsfs::NS_GET_USERNS => true,
        nsfs::NS_GET_PARENT => users.is_some(),
        _ => false,
    };
    wanted.then(|| {
        let kind = CloneFlags::from_bits_retain(u64::from(ns.kind().flag));
        let owner = match users {
            Some(users) => users.parent().cloned(),
            None => Some(owner(kind, ns.held())),
        };
        // What is not inside the caller's own is out of reach.
        let near = |owner: &UserNamespace| owner.is_within(&cx.creds_ref().user_ns);
        let owner = owner.filter(near).ok_or(Errno::EPERM)?;
        Ok(nsfs::open(cx, &nsfs::USER, owner.number(), Arc::new(owner)))
    })
}
