//! System V shared memory.

use crate::memory::{effective_prot, limits};
use crate::user::Args;
use abi::Errno;
use abi::page::{PAGE_SIZE, is_page_aligned, page_down, page_up};
use ctx::{Ctx, SysResult, UserMemoryExt};
use ipc::Control;
use ipc::shm::SegmentWords;
use mm::{MapFile, MapFlags, MapRequest, Prot};
use task::TaskCx;

const RDONLY: i32 = 0o10000;
const RND: i32 = 0o20000;
const REMAP: i32 = 0o40000;
const EXEC: i32 = 0o100000;

const LOCK: i32 = 11;
const UNLOCK: i32 = 12;
const STAT: i32 = 13;
const INFO: i32 = 14;
const STAT_ANY: i32 = 15;

pub(crate) fn shmget(cx: &mut TaskCx, &[key, size, flags, ..]: &Args) -> SysResult<u64> {
    let shm = &cx.ipc().shm;
    Ok(shm.get(cx, key as i32, size, flags as i32)? as u64)
}

pub(crate) fn shmat(cx: &mut TaskCx, &[id, addr, flags, ..]: &Args) -> SysResult<u64> {
    let (id, flags) = (id as i32, flags as i32);
    if id < 0 {
        return Err(Errno::EINVAL.into());
    }
    let at = place(addr, flags)?;
    let (mut prot, mut wanted) = if flags & RDONLY != 0 {
        (Prot::READ, 0o444)
    } else {
        (Prot::READ | Prot::WRITE, 0o666)
    };
    if flags & EXEC != 0 {
        prot |= Prot::EXECUTE;
        wanted |= 0o111;
    }
    let segment = cx.ipc().shm.attachable(cx, id, wanted)?;
    let mut how = MapFlags::SHARED;
    if let Some(at) = at {
        at.checked_add(segment.size()).ok_or(Errno::EINVAL)?;
        how |= if flags & REMAP != 0 {
            MapFlags::FIXED
        } else {
            MapFlags::FIXED_NOREPLACE
        };
    }
    let request = MapRequest {
        addr: at.unwrap_or(0),
        len: segment.size(),
        prot: effective_prot(cx, prot),
        flags: how,
        file: Some(MapFile {
            mappable: segment.clone(),
            offset: 0,
            // As a file that is open for reading alone.
            max_prot: if flags & RDONLY != 0 {
                Prot::all() - Prot::WRITE
            } else {
                Prot::all()
            },
        }),
        name: None,
    };
    let addr = cx.mm().mmap(request, &limits(cx)).map_err(|e| match e {
        // Something is there already.
        Errno::EEXIST => Errno::EINVAL,
        other => other,
    })?;
    segment.used_by(cx.process_id());
    Ok(addr)
}

/// Where shmat(2) is to attach; `None` for anywhere.
fn place(addr: u64, flags: i32) -> Result<Option<u64>, Errno> {
    if addr == 0 {
        return if flags & REMAP != 0 {
            Err(Errno::EINVAL)
        } else {
            Ok(None)
        };
    }
    if is_page_aligned(addr) {
        return Ok(Some(addr));
    }
    if flags & RND == 0 {
        return Err(Errno::EINVAL);
    }
    match page_down(addr) {
        0 if flags & REMAP != 0 => Err(Errno::EINVAL),
        // As if it had been given so.
        0 => Ok(None),
        down => Ok(Some(down)),
    }
}

pub(crate) fn shmdt(cx: &mut TaskCx, &[addr, ..]: &Args) -> SysResult<u64> {
    if !addr.is_multiple_of(PAGE_SIZE) {
        return Err(Errno::EINVAL.into());
    }
    // Also what was attached in another namespace.
    let size = |object| page_up(ipc::shm::by_object(object)?.size());
    // Found before it may go with its last mapping.
    let held = std::cell::RefCell::new(None);
    cx.mm().unmap_object(addr, |object| {
        let size = size(object)?;
        held.replace(ipc::shm::by_object(object));
        Some(size)
    })?;
    if let Some(segment) = held.take() {
        segment.used_by(cx.process_id());
    }
    Ok(0)
}

pub(crate) fn shmctl(cx: &mut TaskCx, &[id, op, buf, ..]: &Args) -> SysResult<u64> {
    let (id, op) = (id as i32, op as i32);
    if id < 0 || op < 0 {
        return Err(Errno::EINVAL.into());
    }
    let shm = &cx.ipc().shm;
    let memory = cx.memory();
    match (Control::from_number(op), op) {
        (Some(Control::Info), _) => {
            let (words, highest) = shm.limits();
            memory.write_obj(buf, &words)?;
            Ok(u64::from(highest))
        }
        (_, INFO) => {
            let (words, highest) = shm.usage();
            memory.write_obj(buf, &words)?;
            Ok(u64::from(highest))
        }
        (Some(Control::Stat), _) => {
            let (_, words) = shm.stat(cx, id, false, true)?;
            memory.write_obj(buf, &words)?;
            Ok(0)
        }
        (_, STAT | STAT_ANY) => {
            let (id, words) = shm.stat(cx, id, true, op == STAT)?;
            memory.write_obj(buf, &words)?;
            Ok(id as u64)
        }
        (Some(Control::Set), _) => {
            let words: SegmentWords = memory.read_obj(buf)?;
            shm.set(cx, id, &words)?;
            Ok(0)
        }
        (Some(Control::Remove), _) => {
            shm.remove(cx, id)?;
            Ok(0)
        }
        (_, LOCK | UNLOCK) => {
            shm.lock(cx, id, op == LOCK)?;
            Ok(0)
        }
        _ => Err(Errno::EINVAL.into()),
    }
}
