//! Asynchronous I/O: io_setup(2), io_submit(2), io_getevents(2) and their kin.

use crate::file_io::check_rw_flags;
use crate::sched::check_io_priority;
use crate::user::{Args, MAX_RW_COUNT, file, iovecs, sigset, user_range};
use abi::aio::{self, Iocb};
use abi::time::Timespec;
use abi::{Errno, libc};
use ctx::{Ctx, Dst, Iovec, Restart, Src, SysErr, SysResult, UserMemoryExt};
use fs_anon::EventFd;
use fs_anon::aio::{Context, Contexts, Done, Slot, Until};
use mm::{MapFile, MapFlags, MapRequest, Prot};
use std::any::Any;
use std::sync::Arc;
use std::time::{Duration, Instant};
use task::TaskCx;
use vfs::{File, FileType};
use wait::Events;
use zerocopy::IntoBytes;

/// Offset of `key` in a `struct iocb`.
const KEY: u64 = 8;
/// What the kernel stores there.
const IOCB_KEY: u32 = 0;

/// The contexts of the caller's process, if it ever had one.
fn contexts(cx: &TaskCx) -> Option<Arc<Contexts>> {
    cx.mm().companion()?.downcast().ok()
}

/// The context that user space calls `id`: the address of its ring, which says its number.
fn context(cx: &TaskCx, id: u64) -> Result<Arc<Context>, Errno> {
    let number: u32 = cx.memory().read_obj(id).map_err(|_| Errno::EINVAL)?;
    let found = contexts(cx)
        .and_then(|all| all.get(number))
        .ok_or(Errno::EINVAL)?;
    if found.addr() != id {
        // mremap(2) may have moved it.
        let here = cx.mm().mapping_at(id).ok_or(Errno::EINVAL)?;
        let ring = Some(found.mappable().identity());
        if here.range.start != id || here.offset != 0 || here.identity != ring {
            return Err(Errno::EINVAL);
        }
        found.set_addr(id);
    }
    Ok(found)
}

pub(crate) fn io_setup(cx: &mut TaskCx, &[requests, at, ..]: &Args) -> SysResult<u64> {
    let old: u64 = cx.memory().read_obj(at)?;
    let requests = requests as u32;
    if old != 0 || requests == 0 {
        return Err(Errno::EINVAL.into());
    }
    let fresh: Arc<dyn Any + Send + Sync> = Contexts::new();
    let all: Arc<Contexts> = cx
        .mm()
        .companion_or(fresh)
        .downcast()
        .map_err(|_| Errno::EINVAL)?;
    let cpus = cx.kernel().possible_cpus();
    let context = Context::new(cx.container().memory(), requests, cpus)?;
    let addr = match map(cx, &context) {
        Ok(addr) => addr,
        Err(e) => {
            context.kill();
            return Err(e.into());
        }
    };
    context.set_addr(addr);
    all.insert(&context);
    if let Err(e) = cx.memory().write_obj(at, &addr) {
        all.remove(&context);
        destroy(cx, &context);
        return Err(e.into());
    }
    Ok(0)
}

fn map(cx: &TaskCx, context: &Context) -> Result<u64, Errno> {
    let ring = context.mappable();
    let request = MapRequest {
        addr: 0,
        len: ring.size()?,
        prot: Prot::READ | Prot::WRITE,
        flags: MapFlags::SHARED | MapFlags::SPECIAL,
        file: Some(MapFile {
            mappable: ring,
            offset: 0,
            max_prot: Prot::all(),
        }),
        name: None,
    };
    cx.mm().mmap(request, &crate::memory::limits(cx))
}

fn destroy(cx: &TaskCx, context: &Context) {
    context.kill();
    // Whatever lies there now: as Linux.
    if let Ok(len) = context.mappable().size() {
        let _ = cx.mm().munmap(context.addr(), len);
    }
}

pub(crate) fn io_destroy(cx: &mut TaskCx, &[id, ..]: &Args) -> SysResult<u64> {
    let context = context(cx, id)?;
    // Of two that come at once, one is late.
    if !contexts(cx).is_some_and(|all| all.remove(&context)) {
        return Err(Errno::EINVAL.into());
    }
    destroy(cx, &context);
    Ok(0)
}

pub(crate) fn io_submit(cx: &mut TaskCx, &[id, count, list, ..]: &Args) -> SysResult<u64> {
    let count = u64::try_from(count as i64).map_err(|_| Errno::EINVAL)?;
    let context = context(cx, id)?;
    let count = count.min(u64::from(context.events()));
    for i in 0..count {
        // They are done here, one after another, which may take as long as you like.
        if i > 0 && is_stopping(cx) {
            return Ok(i);
        }
        match submit_one(cx, &context, list.wrapping_add(i * 8)) {
            Ok(()) => {}
            Err(e) if i == 0 => return Err(e.into()),
            Err(_) => return Ok(i),
        }
    }
    Ok(count)
}

/// Whether it is being killed, or its container paused. Another signal waits, as on Linux.
fn is_stopping(cx: &TaskCx) -> bool {
    cx.container().is_paused() || (cx.interrupted() && cx.is_killed())
}

/// Submits the request whose address stands at `at`.
fn submit_one(cx: &TaskCx, context: &Arc<Context>, at: u64) -> Result<(), Errno> {
    let obj: u64 = cx.memory().read_obj(at)?;
    let iocb: Iocb = cx.memory().read_obj(obj)?;
    if iocb.reserved2 != 0 || (iocb.nbytes as i64) < 0 {
        return Err(Errno::EINVAL);
    }
    let slot = context.slot()?;
    let file = file(cx, u64::from(iocb.fildes))?;
    let mut done = Done {
        data: iocb.data,
        obj,
        eventfd: None,
    };
    if iocb.flags & aio::FLAG_RESFD != 0 {
        let eventfd = crate::user::file(cx, u64::from(iocb.resfd))?;
        eventfd.ops_as::<EventFd>().ok_or(Errno::EINVAL)?;
        done.eventfd = Some(eventfd);
    }
    let key = obj.wrapping_add(KEY);
    cx.memory().write_obj(key, &IOCB_KEY)?;
    match iocb.opcode {
        aio::CMD_PREAD | aio::CMD_PREADV => read(cx, &file, &iocb, slot, &done),
        aio::CMD_PWRITE | aio::CMD_PWRITEV => write(cx, &file, &iocb, slot, &done),
        aio::CMD_FSYNC | aio::CMD_FDSYNC => sync(cx, &file, &iocb, slot, &done),
        aio::CMD_POLL => poll(file, &iocb, slot, done),
        _ => Err(Errno::EINVAL),
    }
}

/// The event of a call that was made meanwhile. One that a signal ended is not made again: others
/// may be on their way.
fn complete(slot: Slot, done: &Done, result: SysResult) -> Result<(), Errno> {
    let res = match result {
        Ok(n) => n as i64,
        Err(e) => -i64::from(e.errno().code()),
    };
    slot.complete(done, res);
    Ok(())
}

/// What reads and writes check first.
fn prepare(cx: &TaskCx, iocb: &Iocb) -> Result<(), Errno> {
    if iocb.flags & aio::FLAG_IOPRIO != 0 {
        check_io_priority(cx, i32::from(iocb.reqprio))?;
    }
    check_rw_flags(iocb.rw_flags)
}

/// The places of a request's data.
fn places(cx: &TaskCx, iocb: &Iocb) -> Result<Vec<Iovec>, Errno> {
    if matches!(iocb.opcode, aio::CMD_PREADV | aio::CMD_PWRITEV) {
        return iovecs(cx, iocb.buf, iocb.nbytes);
    }
    let len = iocb.nbytes.min(MAX_RW_COUNT);
    user_range(iocb.buf, len)?;
    Ok(vec![Iovec {
        base: iocb.buf,
        len,
    }])
}

/// The offset; streams check it too, and then leave it alone.
fn offset(iocb: &Iocb, len: usize) -> Result<u64, Errno> {
    let end = iocb.offset.checked_add_unsigned(len as u64);
    match u64::try_from(iocb.offset) {
        Ok(offset) if end.is_some() => Ok(offset),
        _ => Err(Errno::EINVAL),
    }
}

fn read(cx: &TaskCx, file: &File, iocb: &Iocb, slot: Slot, done: &Done) -> Result<(), Errno> {
    prepare(cx, iocb)?;
    if !file.flags().readable() {
        return Err(Errno::EBADF);
    }
    if file.kind() == Some(FileType::Directory) || !file.ops().takes_async_reads() {
        return Err(Errno::EINVAL);
    }
    let places = places(cx, iocb)?;
    let mut dst = Dst::vectors(cx.memory(), &places);
    let offset = offset(iocb, dst.remaining())?;
    let result = if file.seekable() {
        file.pread(cx, offset, &mut dst)
    } else {
        file.read(cx, &mut dst)
    };
    complete(slot, done, result)
}

fn write(cx: &TaskCx, file: &File, iocb: &Iocb, slot: Slot, done: &Done) -> Result<(), Errno> {
    prepare(cx, iocb)?;
    if !file.flags().writable() {
        return Err(Errno::EBADF);
    }
    if !file.ops().takes_async_writes() {
        return Err(Errno::EINVAL);
    }
    let places = places(cx, iocb)?;
    let mut src = Src::vectors(cx.memory(), &places);
    let offset = offset(iocb, src.remaining())?;
    let result = if iocb.rw_flags & libc::RWF_APPEND != 0 {
        file.append(cx, &mut src)
    } else if file.seekable() {
        file.pwrite(cx, offset, &mut src)
    } else {
        file.write(cx, &mut src)
    };
    let result = result.and_then(|n| {
        crate::file_io::sync_after(cx, file, n, iocb.rw_flags)?;
        Ok(n)
    });
    complete(slot, done, result)
}

fn sync(cx: &TaskCx, file: &File, iocb: &Iocb, slot: Slot, done: &Done) -> Result<(), Errno> {
    if iocb.buf != 0 || iocb.offset != 0 || iocb.nbytes != 0 || iocb.rw_flags != 0 {
        return Err(Errno::EINVAL);
    }
    match file.sync(cx, iocb.opcode == aio::CMD_FDSYNC) {
        // What has nothing to be synced is told at once.
        Err(Errno::EINVAL) => Err(Errno::EINVAL),
        result => complete(slot, done, result.map(|()| 0).map_err(SysErr::from)),
    }
}

fn poll(file: Arc<File>, iocb: &Iocb, slot: Slot, done: Done) -> Result<(), Errno> {
    let wanted = u16::try_from(iocb.buf).map_err(|_| Errno::EINVAL)?;
    if iocb.offset != 0 || iocb.nbytes != 0 || iocb.rw_flags != 0 {
        return Err(Errno::EINVAL);
    }
    slot.poll(file, Events::from_bits_truncate(u32::from(wanted)), done)
}

pub(crate) fn io_cancel(cx: &mut TaskCx, &[id, obj, ..]: &Args) -> SysResult<u64> {
    let key: u32 = cx.memory().read_obj(obj.wrapping_add(KEY))?;
    if key != IOCB_KEY {
        return Err(Errno::EINVAL.into());
    }
    // The event tells how it ended, as that of any other.
    Err(if context(cx, id)?.cancel(obj) {
        Errno::EINPROGRESS
    } else {
        Errno::EINVAL
    }
    .into())
}

/// How long the timeout at `addr` says to wait. Linux takes any numbers here; a negative time is
/// none at all.
fn until(cx: &TaskCx, addr: u64) -> Result<Until, Errno> {
    if addr == 0 {
        return Ok(Until::Ever);
    }
    let t: Timespec = cx.memory().read_obj(addr)?;
    let wait = t.sec.saturating_mul(1_000_000_000).saturating_add(t.nsec);
    Ok(match u64::try_from(wait) {
        Ok(0) => Until::Now,
        Ok(wait) => match Instant::now().checked_add(Duration::from_nanos(wait)) {
            Some(at) => Until::At(at),
            None => Until::Ever,
        },
        Err(_) => Until::Ever,
    })
}

fn events(
    cx: &TaskCx,
    id: u64,
    [min, most]: [u64; 2],
    addr: u64,
    until: Until,
) -> Result<u64, Errno> {
    let context = context(cx, id)?;
    let (min, most) = (min as i64, most as i64);
    let (Ok(min), Ok(most)) = (usize::try_from(min), usize::try_from(most)) else {
        return Err(Errno::EINVAL);
    };
    if min > most {
        return Err(Errno::EINVAL);
    }
    Ok(context.read_events(cx, (min, most), addr, until)? as u64)
}

pub(crate) fn io_getevents(
    cx: &mut TaskCx,
    &[id, min, most, addr, timeout, _]: &Args,
) -> SysResult<u64> {
    let until = until(cx, timeout)?;
    match events(cx, id, [min, most], addr, until)? {
        0 if cx.interrupted() => Err(Errno::EINTR.into()),
        n => Ok(n),
    }
}

pub(crate) fn io_pgetevents(
    cx: &mut TaskCx,
    &[id, min, most, addr, timeout, packed]: &Args,
) -> SysResult<u64> {
    let until = until(cx, timeout)?;
    if packed != 0 {
        let mut mask = [0u64; 2];
        cx.memory().read(packed, mask.as_mut_bytes())?;
        if let Some(mask) = sigset(cx, mask[0], mask[1])? {
            cx.set_temporary_mask(mask);
        }
    }
    let result = events(cx, id, [min, most], addr, until);
    match result {
        Ok(0) if cx.interrupted() => return Err(SysErr::Restart(Restart::NoHandler)),
        // A signal that came meanwhile is delivered, whatever else there is to tell.
        _ if packed != 0 && cx.interrupted() => cx.keep_temporary_mask(),
        _ => {}
    }
    Ok(result?)
}
