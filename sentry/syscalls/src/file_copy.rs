//! Moving data between files: sendfile, copy_file_range, splice, tee, vmsplice.

use crate::user::{Args, MAX_RW_COUNT, file, iovecs};
use abi::Errno;
use ctx::{Ctx, Dst, Src, SysResult, UserMemoryExt};
use std::sync::Arc;
use task::TaskCx;
use vfs::{File, FileType, OpenFlags, Pipe};

const SPLICE_F_NONBLOCK: u32 = 2;
const SPLICE_FLAGS: u32 = 0xf;

/// An optional offset in guest memory.
struct Offset {
    addr: u64,
    value: u64,
}

impl Offset {
    fn read(cx: &TaskCx, addr: u64) -> Result<Option<Offset>, Errno> {
        if addr == 0 {
            return Ok(None);
        }
        let value: u64 = cx.memory().read_obj(addr)?;
        Ok(Some(Offset { addr, value }))
    }

    fn checked(this: Option<Offset>) -> Result<Option<Offset>, Errno> {
        match this {
            Some(o) if o.value > i64::MAX as u64 => Err(Errno::EINVAL),
            this => Ok(this),
        }
    }

    fn store(this: &Option<Offset>, cx: &TaskCx) -> Result<(), Errno> {
        match this {
            Some(o) => cx.memory().write_obj(o.addr, &o.value),
            None => Ok(()),
        }
    }
}

fn limited(count: u64) -> usize {
    count.min(MAX_RW_COUNT) as usize
}

/// A copy within the kernel is a read and a write (splice(2) is neither).
fn counted(cx: &TaskCx, moved: &SysResult) {
    cx.task().io().count_read(moved);
    cx.task().io().count_write(moved);
}

pub(crate) fn sendfile(cx: &mut TaskCx, &[out, input, offset, count, ..]: &Args) -> SysResult<u64> {
    let at = Offset::read(cx, offset)?;
    let input = file(cx, input)?;
    if !input.flags().readable() {
        return Err(Errno::EBADF.into());
    }
    if at.is_some() && !input.seekable() {
        return Err(Errno::ESPIPE.into());
    }
    let mut at = Offset::checked(at)?;
    let out = file(cx, out)?;
    let moved = vfs::splice::sendfile(
        cx,
        &out,
        &input,
        at.as_mut().map(|o| &mut o.value),
        limited(count),
    );
    counted(cx, &moved);
    let moved = moved?;
    Offset::store(&at, cx)?;
    Ok(moved as u64)
}

pub(crate) fn copy_file_range(
    cx: &mut TaskCx,
    &[input, in_off, out, out_off, count, flags]: &Args,
) -> SysResult<u64> {
    let input = file(cx, input)?;
    let out = file(cx, out)?;
    let (in_at, out_at) = (Offset::read(cx, in_off)?, Offset::read(cx, out_off)?);
    if flags as u32 != 0 {
        return Err(Errno::EINVAL.into());
    }
    if [&input, &out].iter().any(|f| f.is_dir()) {
        return Err(Errno::EISDIR.into());
    }
    for file in [&input, &out] {
        match file.kind() {
            Some(FileType::Regular) => {}
            None if file.seekable() => {}
            _ => return Err(Errno::EINVAL.into()),
        }
    }
    let open = out.flags();
    if !input.flags().readable() || !open.writable() || open.contains(OpenFlags::APPEND) {
        return Err(Errno::EBADF.into());
    }
    // Between file systems it is for sendfile(2) to copy. (Two bind mounts of one file system of the
    // host are two, as by their device numbers.)
    let file_system = |f: &File| f.path().map(|p| Arc::as_ptr(p.mount.superblock()));
    if file_system(&input) != file_system(&out) {
        return Err(Errno::EXDEV.into());
    }
    let (mut in_at, mut out_at) = (Offset::checked(in_at)?, Offset::checked(out_at)?);
    let moved = vfs::splice::copy_file_range(
        cx,
        (&input, in_at.as_mut().map(|o| &mut o.value)),
        (&out, out_at.as_mut().map(|o| &mut o.value)),
        limited(count),
    );
    counted(cx, &moved);
    let moved = moved?;
    Offset::store(&in_at, cx)?;
    Offset::store(&out_at, cx)?;
    Ok(moved as u64)
}

pub(crate) fn splice(
    cx: &mut TaskCx,
    &[input, in_off, out, out_off, count, flags]: &Args,
) -> SysResult<u64> {
    let flags = flags as u32;
    if count == 0 {
        return Ok(0);
    }
    if flags & !SPLICE_FLAGS != 0 {
        return Err(Errno::EINVAL.into());
    }
    let input = file(cx, input)?;
    let out = file(cx, out)?;
    refuse_pipe_offset(&input, in_off)?;
    refuse_pipe_offset(&out, out_off)?;
    // Both are there before either is looked at.
    let (in_at, out_at) = (Offset::read(cx, in_off)?, Offset::read(cx, out_off)?);
    let (mut in_at, mut out_at) = (Offset::checked(in_at)?, Offset::checked(out_at)?);
    let moved = vfs::splice::splice(
        cx,
        (&input, in_at.as_mut().map(|o| &mut o.value)),
        (&out, out_at.as_mut().map(|o| &mut o.value)),
        limited(count),
        flags & SPLICE_F_NONBLOCK != 0,
    )?;
    Offset::store(&in_at, cx)?;
    Offset::store(&out_at, cx)?;
    Ok(moved as u64)
}

fn refuse_pipe_offset(file: &File, offset: u64) -> Result<(), Errno> {
    if offset != 0 && Pipe::of(file).is_some() {
        Err(Errno::ESPIPE)
    } else {
        Ok(())
    }
}

pub(crate) fn tee(cx: &mut TaskCx, &[input, out, count, flags, ..]: &Args) -> SysResult<u64> {
    let flags = flags as u32;
    if flags & !SPLICE_FLAGS != 0 {
        return Err(Errno::EINVAL.into());
    }
    if count == 0 {
        return Ok(0);
    }
    let input = file(cx, input)?;
    let out = file(cx, out)?;
    Ok(vfs::splice::tee(
        cx,
        &input,
        &out,
        limited(count),
        flags & SPLICE_F_NONBLOCK != 0,
    )? as u64)
}

/// Copies, as it may: nothing says that the pages themselves must move.
pub(crate) fn vmsplice(cx: &mut TaskCx, &[fd, iov, count, flags, ..]: &Args) -> SysResult<u64> {
    if flags as u32 & !SPLICE_FLAGS != 0 {
        return Err(Errno::EINVAL.into());
    }
    let file = file(cx, fd)?;
    let open = file.flags();
    if !open.readable() && !open.writable() {
        return Err(Errno::EBADF.into());
    }
    let list = iovecs(cx, iov, count)?;
    if list.iter().all(|v| v.len == 0) {
        return Ok(0);
    }
    if Pipe::of(&file).is_none() {
        return Err(Errno::EBADF.into());
    }
    let nonblocking = flags as u32 & SPLICE_F_NONBLOCK != 0;
    let moved = if open.writable() {
        vfs::splice::fill(
            cx,
            &file,
            &mut Src::vectors(cx.memory(), &list),
            nonblocking,
        )?
    } else {
        vfs::splice::drain(
            cx,
            &file,
            &mut Dst::vectors(cx.memory(), &list),
            nonblocking,
        )?
    };
    Ok(moved as u64)
}
