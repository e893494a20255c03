//! unshare(2) and setns(2).

use crate::user::{Args, file};
use abi::Errno;
use auth::{Capability, UserNamespace};
use ctx::{Ctx, SysResult};
use std::sync::Arc;
use task::{
    CgroupNamespace, CloneFlags, Ids, Namespaces, NetNamespace, PidFd, PidNamespace, TaskCx,
    UtsNamespace,
};
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
    let inside = match new_user {
        true => Some(cx.creds_in_new_namespace()?),
        false => None,
    };
    // Of a new namespace of users are the others, too.
    let owner = inside
        .as_ref()
        .map_or(&cx.creds_ref().user_ns, |c| &c.user_ns);
    let mounts = cx.share_of_mounts(flags, owner)?;
    let new = cx.new_namespaces(flags, owner)?;
    if flags.contains(CloneFlags::FILES) {
        cx.unshare_fds();
    }
    if flags.contains(CloneFlags::FS) || new_user {
        cx.unshare_fs();
    }
    if let Some(inside) = inside {
        cx.set_creds(inside);
    }
    if let Some(mounts) = mounts {
        cx.unshare_mounts(mounts);
    }
    if flags.intersects(CloneFlags::NAMESPACES) {
        cx.enter_namespaces(new);
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
    // One of another container of the sandbox has nothing to do with this one.
    let outermost = cx.kernel().pid_namespace().space();
    if process.group().pid().seen_from(outermost) == 0 {
        return Err(Errno::EINVAL);
    }
    let all = || (task.creds(), task.namespaces(), task.mounts());
    let (creds, theirs, mounts) = task.look(cx, Ids::Real, all).ok_or(Errno::EPERM)?;
    let (users, mounts) = (creds.user_ns.clone(), mounts.ok_or(Errno::ESRCH)?);
    let theirs = theirs.ok_or(Errno::ESRCH)?;
    let pids = task.group().pid_namespace();
    type Choice = (CloneFlags, u64, Held);
    let none = || -> Held { Arc::new(()) };
    // In Linux's order.
    let all: [Choice; 8] = [
        (CloneFlags::NEWUSER, users.number(), Arc::new(users)),
        (CloneFlags::NEWNS, mounts.id(), mounts),
        (CloneFlags::NEWUTS, theirs.uts.id(), theirs.uts),
        (CloneFlags::NEWIPC, theirs.ipc.id(), theirs.ipc),
        (CloneFlags::NEWPID, pids.id(), pids.clone()),
        (CloneFlags::NEWCGROUP, theirs.cgroup.id(), theirs.cgroup),
        (CloneFlags::NEWNET, theirs.net.id(), theirs.net),
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
        .unwrap_or_else(|| cx.namespaces().clone());
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
    } else if kind == CloneFlags::NEWPID {
        let pids: Arc<PidNamespace> = held.downcast().map_err(|_| Errno::EINVAL)?;
        // One's own, or one below: its processes must be seen.
        if !pids.is_within(cx.pid_namespace()) {
            return Err(Errno::EINVAL);
        }
        namespaces.pid_for_children = pids;
    } else if kind == CloneFlags::NEWNET {
        namespaces.net = held.downcast::<NetNamespace>().map_err(|_| Errno::EINVAL)?;
    } else if kind == CloneFlags::NEWCGROUP {
        namespaces.cgroup = held
            .downcast::<CgroupNamespace>()
            .map_err(|_| Errno::EINVAL)?;
    } else if id != nsfs::TIME_ID {
        // Of clocks there is one.
        return Err(Errno::EINVAL);
    }
    entered.namespaces = Some(namespaces);
    Ok(())
}

/// The user namespace whose the namespace `held` of a kind is; for one of users, the one around it.
fn owner(kind: CloneFlags, held: &Held) -> UserNamespace {
    fn of<T: 'static>(held: &Held, owner: fn(&T) -> &UserNamespace) -> Option<&UserNamespace> {
        held.downcast_ref().map(owner)
    }
    let found = match kind {
        CloneFlags::NEWNS => of(held, MountNamespace::owner),
        CloneFlags::NEWUTS => of(held, UtsNamespace::owner),
        CloneFlags::NEWIPC => of(held, ipc::Ipc::owner),
        CloneFlags::NEWPID => of(held, PidNamespace::owner),
        CloneFlags::NEWNET => of(held, NetNamespace::owner),
        CloneFlags::NEWCGROUP => of(held, CgroupNamespace::owner),
        // Of clocks there is what the container began with.
        _ => None,
    };
    found.cloned().unwrap_or_default()
}

/// ioctl(2) of a namespace's file that gives a descriptor: the namespace of users that owns it, or
/// the one, of users or of PIDs, that it is nested in. `None` for everything else.
pub(crate) fn open_relative(
    cx: &TaskCx,
    file: &File,
    request: u32,
) -> Option<Result<Arc<File>, Errno>> {
    let ns = file.ops_as::<NamespaceFile>()?;
    let pids: Option<&PidNamespace> = ns.held().downcast_ref();
    if let Some(pids) = pids
        && request == nsfs::NS_GET_PARENT
    {
        // Only what the caller is in, or what is below that, is shown to it.
        let parent = pids.parent().filter(|p| p.is_within(cx.pid_namespace()));
        return Some(match parent {
            Some(parent) => Ok(nsfs::open(cx, &nsfs::PID, parent.id(), parent.clone())),
            None => Err(Errno::EPERM),
        });
    }
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

/// `NS_GET_PID_FROM_PIDNS`, which asks what a thread with a number there is called here, and its
/// three relatives.
const PID_FROM: u32 = 0x8004_b706;
const TGID_FROM: u32 = 0x8004_b707;
const PID_IN: u32 = 0x8004_b708;
const TGID_IN: u32 = 0x8004_b709;

/// ioctl(2) of a namespace's file that asks for the number of a process. `None` for everything
/// else.
pub(crate) fn tell_number(
    cx: &TaskCx,
    file: &File,
    request: u32,
    number: u64,
) -> Option<SysResult<u64>> {
    let ns = file.ops_as::<NamespaceFile>()?;
    if !matches!(request, PID_FROM | TGID_FROM | PID_IN | TGID_IN) {
        return None;
    }
    let Ok(there) = ns.held().clone().downcast::<PidNamespace>() else {
        return Some(Err(Errno::EINVAL.into()));
    };
    let here = cx.pid_namespace();
    let (named_in, told_in) = match request {
        PID_FROM | TGID_FROM => (&there, here),
        _ => (here, &there),
    };
    // One of another container of the sandbox has nothing to do with this one.
    let known = there.is_within(cx.kernel().pid_namespace());
    let task = known.then(|| cx.kernel().task_in(named_in, number as i32));
    let task = task.flatten();
    let told = task.map_or(0, |task| {
        let process = matches!(request, TGID_FROM | TGID_IN);
        let pid = if process {
            task.group().pid()
        } else {
            task.pid()
        };
        pid.seen_from(told_in.space())
    });
    Some(match told {
        0 => Err(Errno::ESRCH.into()),
        told => Ok(told as u64),
    })
}
