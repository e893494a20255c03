//! Address spaces: mmap(2) and its kin.

use crate::user::{Args, file};
use abi::Errno;
use abi::libc;
use abi::page::{is_page_aligned, page_up};
use auth::Capability;
use ctx::{Ctx, SysResult};
use mm::{MapFile, MapFlags, MapRequest, MmLimits, Prot, RemapFlags, prot_from_bits};
use task::TaskCx;
use vfs::{FileType, MountFlags};

const PROT_KNOWN: u64 = (libc::PROT_READ | libc::PROT_WRITE | libc::PROT_EXEC | PROT_SEM) as u64;
const PROT_SEM: i32 = 8;
const MAP_32BIT: i32 = 0x40;
/// Flags that `MAP_SHARED_VALIDATE` accepts, beside the type.
const VALIDATED: i32 = libc::MAP_FIXED
    | libc::MAP_ANONYMOUS
    | MAP_32BIT
    | libc::MAP_GROWSDOWN
    | libc::MAP_DENYWRITE
    | libc::MAP_EXECUTABLE
    | libc::MAP_LOCKED
    | libc::MAP_NORESERVE
    | libc::MAP_POPULATE
    | libc::MAP_NONBLOCK
    | libc::MAP_STACK
    | libc::MAP_FIXED_NOREPLACE
    | 0xf;

/// The limits on memory; a capable task may lock as much as it likes.
pub(crate) fn limits(cx: &TaskCx) -> MmLimits {
    let mut limits = cx.task().group().limits().memory();
    if cx.creds().has(Capability::IpcLock) {
        limits.memlock = u64::MAX;
    }
    limits
}

pub(crate) fn mmap(
    cx: &mut TaskCx,
    &[addr, len, prot, flags, fd, offset]: &Args,
) -> SysResult<u64> {
    let flags = flags as i32;
    if !is_page_aligned(offset) {
        return Err(Errno::EINVAL.into());
    }
    let anonymous = flags & libc::MAP_ANONYMOUS != 0;
    let file = if anonymous { None } else { Some(file(cx, fd)?) };
    if len == 0 {
        return Err(Errno::EINVAL.into());
    }
    // Huge pages are a reserve of the host's that the sandbox has none of.
    if flags & libc::MAP_HUGETLB != 0 {
        return Err(if anonymous {
            Errno::ENOMEM
        } else {
            Errno::EINVAL
        }
        .into());
    }
    let shared = match flags & libc::MAP_TYPE {
        libc::MAP_SHARED => true,
        libc::MAP_SHARED_VALIDATE if anonymous => return Err(Errno::EINVAL.into()),
        libc::MAP_SHARED_VALIDATE if flags & !VALIDATED != 0 => {
            return Err(Errno::EOPNOTSUPP.into());
        }
        libc::MAP_SHARED_VALIDATE => true,
        libc::MAP_PRIVATE => false,
        _ => return Err(Errno::EINVAL.into()),
    };
    let prot = effective_prot(cx, prot_from_bits(prot));
    let mut max_prot = Prot::all();
    let file = match file {
        None => None,
        Some(file) => {
            let open = file.flags();
            if (shared && prot.contains(Prot::WRITE) && !open.writable()) || !open.readable() {
                return Err(Errno::EACCES.into());
            }
            // A seal against writing leaves what can only be read.
            let sealed = file.ops().seals().unwrap_or(0)
                & (libc::F_SEAL_WRITE | libc::F_SEAL_FUTURE_WRITE) as u32
                != 0;
            if shared && sealed && prot.contains(Prot::WRITE) {
                return Err(Errno::EPERM.into());
            }
            if shared && (sealed || !open.writable()) {
                max_prot -= Prot::WRITE;
            }
            if file
                .path()
                .is_some_and(|p| p.mount.flags().contains(MountFlags::NOEXEC))
            {
                if prot.contains(Prot::EXECUTE) {
                    return Err(Errno::EPERM.into());
                }
                max_prot -= Prot::EXECUTE;
            }
            if file.kind() == Some(FileType::Directory) {
                return Err(Errno::ENODEV.into());
            }
            if offset
                .checked_add(len)
                .is_none_or(|end| end > i64::MAX as u64)
            {
                return Err(Errno::EOVERFLOW.into());
            }
            if file.ops().maps_as_memory() {
                None
            } else {
                let mappable = file.ops().mappable(cx, &file)?;
                Some(MapFile {
                    mappable,
                    offset,
                    max_prot,
                })
            }
        }
    };
    let mut how = MapFlags::empty();
    how.set(MapFlags::SHARED, shared);
    how.set(
        MapFlags::READ_ONLY,
        file.is_none() && !max_prot.contains(Prot::WRITE),
    );
    how.set(MapFlags::FIXED, flags & libc::MAP_FIXED != 0);
    how.set(
        MapFlags::FIXED_NOREPLACE,
        flags & libc::MAP_FIXED_NOREPLACE != 0,
    );
    how.set(MapFlags::GROWSDOWN, flags & libc::MAP_GROWSDOWN != 0);
    how.set(MapFlags::NORESERVE, flags & libc::MAP_NORESERVE != 0);
    how.set(MapFlags::LOCKED, flags & libc::MAP_LOCKED != 0);
    how.set(MapFlags::LOW, flags & MAP_32BIT != 0);
    // With MAP_NONBLOCK, MAP_POPULATE does nothing.
    how.set(
        MapFlags::POPULATE,
        flags & (libc::MAP_POPULATE | libc::MAP_NONBLOCK) == libc::MAP_POPULATE,
    );
    let request = MapRequest {
        addr,
        len,
        prot,
        flags: how,
        file,
        name: None,
    };
    Ok(cx.mm().mmap(request, &limits(cx))?)
}

/// `READ_IMPLIES_EXEC` of personality(2).
pub(crate) fn effective_prot(cx: &TaskCx, prot: Prot) -> Prot {
    if prot.contains(Prot::READ) && cx.personality() & libc::READ_IMPLIES_EXEC as u32 != 0 {
        prot | Prot::EXECUTE
    } else {
        prot
    }
}

pub(crate) fn munmap(cx: &mut TaskCx, &[addr, len, ..]: &Args) -> SysResult<u64> {
    cx.mm().munmap(addr, len)?;
    Ok(0)
}

pub(crate) fn mprotect(cx: &mut TaskCx, &[addr, len, prot, ..]: &Args) -> SysResult<u64> {
    let grows = libc::PROT_GROWSDOWN as u64 | libc::PROT_GROWSUP as u64;
    let grow = prot & grows;
    if grow == grows || !is_page_aligned(addr) {
        return Err(Errno::EINVAL.into());
    }
    if len == 0 {
        return Ok(0);
    }
    let end = page_up(len).and_then(|len| addr.checked_add(len));
    if end.is_none_or(|end| end <= addr) {
        return Err(Errno::ENOMEM.into());
    }
    if prot & !(PROT_KNOWN | grows) != 0 || grow == libc::PROT_GROWSUP as u64 {
        return Err(Errno::EINVAL.into());
    }
    let down = grow != 0;
    let prot = effective_prot(cx, prot_from_bits(prot));
    cx.mm().mprotect(addr, len, prot, down, &limits(cx))?;
    Ok(0)
}

pub(crate) fn pkey_mprotect(cx: &mut TaskCx, &[addr, len, prot, key, ..]: &Args) -> SysResult<u64> {
    if key as i32 != -1 {
        return Err(Errno::EINVAL.into());
    }
    mprotect(cx, &[addr, len, prot, 0, 0, 0])
}

pub(crate) fn pkey_alloc(_cx: &mut TaskCx, &[flags, rights, ..]: &Args) -> SysResult<u64> {
    if flags != 0 || rights & !3 != 0 {
        return Err(Errno::EINVAL.into());
    }
    Err(Errno::ENOSPC.into())
}

pub(crate) fn pkey_free(_cx: &mut TaskCx, _args: &Args) -> SysResult<u64> {
    Err(Errno::EINVAL.into())
}

pub(crate) fn brk(cx: &mut TaskCx, &[addr, ..]: &Args) -> SysResult<u64> {
    Ok(cx.mm().brk(addr, &limits(cx)))
}

pub(crate) fn mremap(
    cx: &mut TaskCx,
    &[old, old_len, new_len, flags, new, _]: &Args,
) -> SysResult<u64> {
    let flags = u32::try_from(flags)
        .ok()
        .and_then(RemapFlags::from_bits)
        .ok_or(Errno::EINVAL)?;
    let ((_, old_len), (_, new_len)) = (rounded(0, old_len), rounded(0, new_len));
    Ok(cx
        .mm()
        .mremap(old, old_len, new_len, flags, new, &limits(cx))?)
}

pub(crate) fn madvise(cx: &mut TaskCx, &[addr, len, advice, ..]: &Args) -> SysResult<u64> {
    cx.mm().madvise(addr, len, advice as i32)?;
    Ok(0)
}

/// Start and length as Linux rounds them to whole pages: the length may wrap around.
fn rounded(addr: u64, len: u64) -> (u64, u64) {
    let within = addr % abi::page::PAGE_SIZE;
    let len = page_up(len.wrapping_add(within)).unwrap_or(0);
    (addr - within, len)
}

pub(crate) fn msync(cx: &mut TaskCx, &[addr, len, flags, ..]: &Args) -> SysResult<u64> {
    let (_, len) = rounded(0, len);
    cx.mm().msync(addr, len, flags as i32)?;
    Ok(0)
}

pub(crate) fn mincore(cx: &mut TaskCx, &[addr, len, vec, ..]: &Args) -> SysResult<u64> {
    // A window at a time, so that a giant costs no giant answer.
    const WINDOW: u64 = 1 << 30;
    if !is_page_aligned(addr) {
        return Err(Errno::EINVAL.into());
    }
    let end = addr
        .checked_add(len)
        .filter(|e| *e <= abi::page::TASK_SIZE)
        .ok_or(Errno::ENOMEM)?;
    crate::user::user_range(vec, len.div_ceil(abi::page::PAGE_SIZE))?;
    let (mut at, mut out) = (addr, vec);
    while at < end {
        let bytes = cx
            .mm()
            .mincore(at, (end - at).min(WINDOW), cx.creds_ref())?;
        cx.memory().write(out, &bytes)?;
        at += (end - at).min(WINDOW);
        out = out.wrapping_add(bytes.len() as u64);
        if cx.interrupted() && at < end {
            return Err(ctx::Restart::Sys.into());
        }
    }
    Ok(0)
}

pub(crate) fn mlock(cx: &mut TaskCx, &[addr, len, ..]: &Args) -> SysResult<u64> {
    let (start, len) = rounded(addr, len);
    cx.mm().mlock(start, len, false, &limits(cx))?;
    Ok(0)
}

pub(crate) fn mlock2(cx: &mut TaskCx, &[addr, len, flags, ..]: &Args) -> SysResult<u64> {
    const ON_FAULT: u64 = 1;
    if flags & !ON_FAULT != 0 {
        return Err(Errno::EINVAL.into());
    }
    let (start, len) = rounded(addr, len);
    cx.mm()
        .mlock(start, len, flags & ON_FAULT != 0, &limits(cx))?;
    Ok(0)
}

pub(crate) fn munlock(cx: &mut TaskCx, &[addr, len, ..]: &Args) -> SysResult<u64> {
    let (start, len) = rounded(addr, len);
    cx.mm().munlock(start, len)?;
    Ok(0)
}

pub(crate) fn mlockall(cx: &mut TaskCx, &[flags, ..]: &Args) -> SysResult<u64> {
    cx.mm().mlockall(flags as i32, &limits(cx))?;
    Ok(0)
}

pub(crate) fn munlockall(cx: &mut TaskCx, _args: &Args) -> SysResult<u64> {
    cx.mm().munlockall();
    Ok(0)
}
