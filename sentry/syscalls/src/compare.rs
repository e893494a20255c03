//! kcmp(2): whether two processes share something.

use crate::user::Args;
use abi::Errno;
use ctx::SysResult;
use std::cmp::Ordering;
use std::sync::Arc;
use task::{Ids, Task, TaskCx};

const FILE: i32 = 0;
const VM: i32 = 1;
const FILES: i32 = 2;
const FS: i32 = 3;
const SIGHAND: i32 = 4;
const IO: i32 = 5;
const SYSVSEM: i32 = 6;
const EPOLL_TFD: i32 = 7;

pub(crate) fn kcmp(cx: &mut TaskCx, &[a, b, kind, x, y, _]: &Args) -> SysResult<u64> {
    let task = |pid: u64| cx.task_called(pid as i32).ok_or(Errno::ESRCH);
    let (a, b) = (task(a)?, task(b)?);
    let both = || compare(&a, &b, kind as i32, x, y);
    let looked = a.look(cx, Ids::Real, || b.look(cx, Ids::Real, both));
    Ok(match looked.flatten().ok_or(Errno::EPERM)?? {
        Ordering::Equal => 0,
        Ordering::Less => 1,
        Ordering::Greater => 2,
    })
}

fn compare(a: &Arc<Task>, b: &Arc<Task>, kind: i32, x: u64, y: u64) -> Result<Ordering, Errno> {
    Ok(match kind {
        FILE => {
            let file = |task: &Task, fd: u64| {
                let fd = i32::try_from(fd).map_err(|_| Errno::EBADF)?;
                task.fds().ok_or(Errno::EBADF)?.get_path_ok(fd)
            };
            place(&file(a, x)?).cmp(&place(&file(b, y)?))
        }
        VM => place_of(a.mm()).cmp(&place_of(b.mm())),
        FILES => place_of(a.fds()).cmp(&place_of(b.fds())),
        FS => place_of(a.fs()).cmp(&place_of(b.fs())),
        SIGHAND => place(a.group()).cmp(&place(b.group())),
        // Made when a priority is set for the first time; none equals none.
        IO if a.io_priority() == 0 && b.io_priority() == 0 => Ordering::Equal,
        IO => place(a).cmp(&place(b)),
        SYSVSEM => {
            let list = |t: &Task| {
                let process = t.group().serial();
                let undoes = t.namespaces().is_some_and(|n| n.ipc.sem.undoes(process));
                if undoes { process } else { 0 }
            };
            list(a).cmp(&list(b))
        }
        EPOLL_TFD => return Err(Errno::EOPNOTSUPP),
        _ => return Err(Errno::EINVAL),
    })
}

/// An address that is never told, only compared.
fn place<T: ?Sized>(of: &Arc<T>) -> usize {
    Arc::as_ptr(of).cast::<()>().addr()
}

fn place_of<T>(of: Option<Arc<T>>) -> usize {
    of.as_ref().map_or(0, place)
}
