//! New tasks, new programs, the end.

use crate::user::{Args, extensible, fd, path};
use abi::Errno;
use abi::libc;
use abi::process::CloneArgs as Raw;
use ctx::{Ctx, Resource, SysResult, UserMemoryExt};
use loader::ByDescriptor;
use task::{CloneArgs, CloneFlags, TaskCx};
use vfs::{LookupFlags, Start};

/// The part of clone(2)'s flags that is a signal.
const SIGNAL_MASK: u64 = 0xff;
/// Ids in `set_tid`, at most (`MAX_PID_NS_LEVEL`).
const SET_TID_MAX: u64 = 32;

pub(crate) fn fork(cx: &mut TaskCx, _args: &Args) -> SysResult<u64> {
    cx.fork()
}

pub(crate) fn vfork(cx: &mut TaskCx, _args: &Args) -> SysResult<u64> {
    cx.vfork()
}

pub(crate) fn clone(
    cx: &mut TaskCx,
    &[flags, stack, parent_tid, child_tid, tls, _]: &Args,
) -> SysResult<u64> {
    // Only the low half is flags here.
    let word = u64::from(flags as u32);
    let flags = CloneFlags::from_bits_retain(word & !SIGNAL_MASK);
    let both = CloneFlags::PIDFD | CloneFlags::PARENT_SETTID;
    if flags.contains(both) || flags.contains(CloneFlags::PIDFD | CloneFlags::DETACHED) {
        return Err(Errno::EINVAL.into());
    }
    cx.clone_task(&CloneArgs {
        flags,
        exit_signal: (word & SIGNAL_MASK) as i32,
        stack,
        parent_tid,
        child_tid,
        // The two share an argument.
        pidfd: parent_tid,
        tls,
        set_tid: Vec::new(),
    })
}

pub(crate) fn clone3(cx: &mut TaskCx, &[addr, size, ..]: &Args) -> SysResult<u64> {
    /// The version without `set_tid` and `cgroup`.
    const FIRST_VERSION: u64 = 64;
    let raw: Raw = extensible(cx, addr, size, FIRST_VERSION)?;
    if raw.set_tid_size > SET_TID_MAX || (raw.set_tid == 0) != (raw.set_tid_size == 0) {
        return Err(Errno::EINVAL.into());
    }
    // The signal has a field of its own; the bits where clone(2) has it mean nothing, but for
    // CLONE_NEWTIME.
    let flags = CloneFlags::from_bits(raw.flags).ok_or(Errno::EINVAL)?;
    if raw.exit_signal > 64 || flags.intersects(CloneFlags::DETACHED) {
        return Err(Errno::EINVAL.into());
    }
    if flags.contains(CloneFlags::SIGHAND | CloneFlags::CLEAR_SIGHAND) {
        return Err(Errno::EINVAL.into());
    }
    if flags.intersects(CloneFlags::THREAD | CloneFlags::PARENT) && raw.exit_signal != 0 {
        return Err(Errno::EINVAL.into());
    }
    if (raw.stack == 0) != (raw.stack_size == 0) {
        return Err(Errno::EINVAL.into());
    }
    let stack = raw.stack.checked_add(raw.stack_size).ok_or(Errno::EINVAL)?;
    crate::user::user_range(raw.stack, raw.stack_size).map_err(|_| Errno::EINVAL)?;
    if flags.contains(CloneFlags::INTO_CGROUP) {
        // There are no control groups inside to be put into.
        return Err(Errno::EBADF.into());
    }
    let mut set_tid = vec![0i32; raw.set_tid_size as usize];
    cx.memory().read(
        raw.set_tid,
        zerocopy::IntoBytes::as_mut_bytes(set_tid.as_mut_slice()),
    )?;
    cx.clone_task(&CloneArgs {
        flags,
        exit_signal: raw.exit_signal as i32,
        stack,
        parent_tid: raw.parent_tid,
        child_tid: raw.child_tid,
        pidfd: raw.pidfd,
        tls: raw.tls,
        set_tid,
    })
}

pub(crate) fn execve(cx: &mut TaskCx, &[name, argv, envp, ..]: &Args) -> SysResult<u64> {
    let name = path(cx, name)?;
    exec(cx, Start::Cwd, &name, LookupFlags::FOLLOW, None, argv, envp)
}

pub(crate) fn execveat(
    cx: &mut TaskCx,
    &[dirfd, name, argv, envp, flags, _]: &Args,
) -> SysResult<u64> {
    let flags = flags as i32;
    if flags & !(libc::AT_EMPTY_PATH | libc::AT_SYMLINK_NOFOLLOW) != 0 {
        return Err(Errno::EINVAL.into());
    }
    let name = path(cx, name)?;
    let dirfd = fd(dirfd);
    let start = Start::from_fd(dirfd, &name);
    let by = matches!(start, Start::Fd(_)).then(|| {
        let mut called = format!("/dev/fd/{dirfd}").into_bytes();
        if !name.is_empty() {
            called.push(b'/');
            called.extend_from_slice(&name);
        }
        ByDescriptor {
            name: called,
            closes: cx.fd_table().cloexec(dirfd).unwrap_or(false),
        }
    });
    exec(
        cx,
        start,
        &name,
        crate::file_stat::lookup(flags),
        by.as_ref(),
        argv,
        envp,
    )
}

fn exec(
    cx: &mut TaskCx,
    start: Start,
    name: &[u8],
    lookup: LookupFlags,
    by: Option<&ByDescriptor>,
    argv: u64,
    envp: u64,
) -> SysResult<u64> {
    // What both may take together; the loader counts again, with the pointers.
    let mut room = (cx.limit(Resource::Stack) / 4).clamp(32 * 4096, 6 << 20);
    let argv = strings(cx, argv, &mut room)?;
    let envp = strings(cx, envp, &mut room)?;
    cx.exec(start, name, lookup, by, argv, envp)
}

/// A NULL-terminated array of strings; a null pointer is an empty one.
fn strings(cx: &TaskCx, addr: u64, room: &mut u64) -> Result<Vec<Vec<u8>>, Errno> {
    /// `MAX_ARG_STRLEN`, without the NUL.
    const LONGEST: usize = 32 * 4096 - 1;
    let mut list = Vec::new();
    if addr == 0 {
        return Ok(list);
    }
    let memory = cx.memory();
    let mut at = addr;
    loop {
        let pointer: u64 = memory.read_obj(at)?;
        if pointer == 0 {
            return Ok(list);
        }
        let text = memory.read_cstr(pointer, LONGEST)?.ok_or(Errno::E2BIG)?;
        // The string, its NUL, and the pointer to it.
        *room = room
            .checked_sub(text.len() as u64 + 9)
            .ok_or(Errno::E2BIG)?;
        list.push(text);
        at = at.checked_add(8).ok_or(Errno::EFAULT)?;
    }
}

pub(crate) fn exit(cx: &mut TaskCx, &[status, ..]: &Args) -> SysResult<u64> {
    cx.exit_thread(status as i32);
    Ok(0)
}

pub(crate) fn exit_group(cx: &mut TaskCx, &[status, ..]: &Args) -> SysResult<u64> {
    cx.exit_group(status as i32);
    Ok(0)
}
