//! POSIX message queues.

use crate::event_fds::insert;
use crate::user::{Args, file, path, put};
use abi::time::Timespec;
use abi::{Errno, libc};
use ctx::{Ctx, SysResult, UserMemoryExt};
use ipc::mqueue::{MqAttr, Notification, PRIORITIES, QueueFile};
use net::SocketFile;
use signal::Signal;
use std::sync::Arc;
use std::time::Instant;
use task::TaskCx;
use time::ClockId;
use vfs::{File, OpenFlags};

pub(crate) fn mq_open(cx: &mut TaskCx, &[name, flags, mode, attr, ..]: &Args) -> SysResult<u64> {
    let attr = match attr {
        0 => None,
        at => Some(cx.memory().read_obj::<MqAttr>(at)?),
    };
    let name = path(cx, name)?;
    let flags = OpenFlags::from_bits_truncate(flags as u32);
    let queues = cx.ipc().mqueues.clone();
    let file = queues.open(cx, &name, flags, mode as u32, attr)?;
    insert(cx, file, true)
}

pub(crate) fn mq_unlink(cx: &mut TaskCx, &[name, ..]: &Args) -> SysResult<u64> {
    let name = path(cx, name)?;
    let queues = cx.ipc().mqueues.clone();
    queues.unlink(cx, &name)?;
    Ok(0)
}

/// The queue behind a descriptor.
fn queue(file: &File) -> Result<&QueueFile, Errno> {
    file.ops_as::<QueueFile>().ok_or(Errno::EBADF)
}

/// When to give up, on the wall clock. The outer `None` is never.
fn deadline(cx: &TaskCx, addr: u64) -> Result<Option<Instant>, Errno> {
    if addr == 0 {
        return Ok(None);
    }
    let nanos = cx.memory().read_obj::<Timespec>(addr)?.to_duration()?;
    let nanos = i64::try_from(nanos).unwrap_or(i64::MAX);
    Ok(cx.clocks().instant(ClockId::Realtime, nanos))
}

pub(crate) fn mq_timedsend(
    cx: &mut TaskCx,
    &[fd, text, len, priority, timeout, _]: &Args,
) -> SysResult<u64> {
    let until = deadline(cx, timeout)?;
    let priority = priority as u32;
    if priority >= PRIORITIES {
        return Err(Errno::EINVAL.into());
    }
    let file = file(cx, fd)?;
    let queue = queue(&file)?;
    if !file.flags().writable() {
        return Err(Errno::EBADF.into());
    }
    if len > queue.message_size() {
        return Err(Errno::EMSGSIZE.into());
    }
    let mut bytes = vec![0; len as usize];
    cx.memory().read(text, &mut bytes)?;
    queue.send(cx, &file, priority, bytes.into(), until)?;
    Ok(0)
}

pub(crate) fn mq_timedreceive(
    cx: &mut TaskCx,
    &[fd, buf, len, priority, timeout, _]: &Args,
) -> SysResult<u64> {
    let until = deadline(cx, timeout)?;
    let file = file(cx, fd)?;
    let queue = queue(&file)?;
    if !file.flags().readable() {
        return Err(Errno::EBADF.into());
    }
    if len < queue.message_size() {
        return Err(Errno::EMSGSIZE.into());
    }
    let (found, text) = queue.receive(cx, &file, until)?;
    put(cx, priority, &found)?;
    cx.memory().write(buf, &text)?;
    Ok(text.len() as u64)
}

/// The part of `struct sigevent` that counts here: value, signal, kind.
type Sigevent = [u64; 2];

pub(crate) fn mq_notify(cx: &mut TaskCx, &[fd, event, ..]: &Args) -> SysResult<u64> {
    let wanted = match event {
        0 => None,
        at => Some(notification(cx, cx.memory().read_obj(at)?)?),
    };
    let file = file(cx, fd)?;
    queue(&file)?.notify(cx, wanted)?;
    Ok(0)
}

fn notification(cx: &TaskCx, [value, words]: Sigevent) -> Result<Notification, Errno> {
    let (signo, kind) = (words as u32 as i32, (words >> 32) as u32 as i32);
    let signal = match kind {
        libc::SIGEV_NONE => None,
        libc::SIGEV_SIGNAL if signo == 0 => None,
        libc::SIGEV_SIGNAL => Some((Signal::new(signo).map_err(|_| Errno::EINVAL)?, value)),
        // Threads are told by a netlink socket, of which there are none.
        libc::SIGEV_THREAD => {
            let file = file(cx, signo as u64)?;
            return Err(if file.ops_as::<SocketFile>().is_some() {
                Errno::EINVAL
            } else {
                Errno::ENOTSOCK
            });
        }
        _ => return Err(Errno::EINVAL),
    };
    let group = Arc::downgrade(cx.group());
    Ok(Notification {
        signal,
        told: cx.creds().user_ns.clone(),
        sender: Arc::new(move |signal, info| {
            if let Some(group) = group.upgrade() {
                // A full queue of pending signals loses it, as on Linux.
                let _ = group.send(signal, info);
            }
        }),
    })
}

pub(crate) fn mq_getsetattr(cx: &mut TaskCx, &[fd, new, old, ..]: &Args) -> SysResult<u64> {
    let nonblock = i64::from(OpenFlags::NONBLOCK.bits());
    let new = match new {
        0 => None,
        at => Some(cx.memory().read_obj::<MqAttr>(at)?),
    };
    if new.is_some_and(|new| new.flags & !nonblock != 0) {
        return Err(Errno::EINVAL.into());
    }
    let file = file(cx, fd)?;
    let before = queue(&file)?.attributes(&file);
    if let Some(new) = new {
        file.set_nonblocking(new.flags & nonblock != 0);
    }
    put(cx, old, &before)?;
    Ok(0)
}
