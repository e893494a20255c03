//! Reading, writing, seeking, syncing.

use crate::user::{Args, MAX_RW_COUNT, fd, file, iovecs, user_range};
use abi::Errno;
use abi::libc;
use ctx::{Ctx, Dst, Iovec, Src, SysResult};
use task::TaskCx;
use vfs::{File, FileType, Pipe, Whence};

pub(crate) fn read(cx: &mut TaskCx, &[fd, buf, count, ..]: &Args) -> SysResult<u64> {
    let file = file(cx, fd)?;
    readable(&file)?;
    user_range(buf, count).map_err(|e| takes(file.ops().takes_reads()).err().unwrap_or(e))?;
    let mut dst = Dst::guest(cx.memory(), buf, count.min(MAX_RW_COUNT));
    counted_read(cx, file.read(cx, &mut dst))
}

pub(crate) fn write(cx: &mut TaskCx, &[fd, buf, count, ..]: &Args) -> SysResult<u64> {
    let file = file(cx, fd)?;
    writable(&file)?;
    user_range(buf, count).map_err(|e| takes(file.ops().takes_writes()).err().unwrap_or(e))?;
    let mut src = Src::guest(cx.memory(), buf, count.min(MAX_RW_COUNT));
    counted_write(cx, file.write(cx, &mut src))
}

/// The end of a call that reads, which counts for the task.
fn counted_read(cx: &TaskCx, result: SysResult) -> SysResult<u64> {
    cx.task().io().count_read(&result);
    Ok(result? as u64)
}

/// The end of one that writes.
fn counted_write(cx: &TaskCx, result: SysResult) -> SysResult<u64> {
    cx.task().io().count_write(&result);
    Ok(result? as u64)
}

/// A bad address range is told only after a descriptor that cannot do it.
fn readable(file: &File) -> Result<(), Errno> {
    if file.flags().readable() {
        Ok(())
    } else {
        Err(Errno::EBADF)
    }
}

fn writable(file: &File) -> Result<(), Errno> {
    if file.flags().writable() {
        Ok(())
    } else {
        Err(Errno::EBADF)
    }
}

/// What has nothing to be read, or to be written, is told before the addresses are looked at.
fn takes(at_all: bool) -> Result<(), Errno> {
    if at_all { Ok(()) } else { Err(Errno::EINVAL) }
}

/// An offset of pread(2) and its kin, looked at before the descriptor.
fn offset(arg: u64) -> Result<u64, Errno> {
    if (arg as i64) < 0 {
        Err(Errno::EINVAL)
    } else {
        Ok(arg)
    }
}

pub(crate) fn pread64(cx: &mut TaskCx, &[fd, buf, count, pos, ..]: &Args) -> SysResult<u64> {
    let pos = offset(pos)?;
    let file = file(cx, fd)?;
    seekable(&file)?;
    readable(&file)?;
    user_range(buf, count)?;
    end_of(pos, count)?;
    let mut dst = Dst::guest(cx.memory(), buf, count.min(MAX_RW_COUNT));
    counted_read(cx, file.pread(cx, pos, &mut dst))
}

pub(crate) fn pwrite64(cx: &mut TaskCx, &[fd, buf, count, pos, ..]: &Args) -> SysResult<u64> {
    let pos = offset(pos)?;
    let file = file(cx, fd)?;
    seekable(&file)?;
    writable(&file)?;
    user_range(buf, count)?;
    let mut src = Src::guest(cx.memory(), buf, count.min(MAX_RW_COUNT));
    counted_write(cx, file.pwrite(cx, pos, &mut src))
}

/// Whether what is asked for ends where a file can.
fn end_of(pos: u64, count: u64) -> Result<(), Errno> {
    match pos.checked_add(count) {
        Some(end) if end <= i64::MAX as u64 => Ok(()),
        _ => Err(Errno::EINVAL),
    }
}

fn seekable(file: &File) -> Result<(), Errno> {
    if file.seekable() {
        Ok(())
    } else {
        Err(Errno::ESPIPE)
    }
}

pub(crate) fn readv(cx: &mut TaskCx, &[fd, iov, count, ..]: &Args) -> SysResult<u64> {
    counted_read(cx, read_vectors(cx, fd, iov, count, None, 0))
}

pub(crate) fn writev(cx: &mut TaskCx, &[fd, iov, count, ..]: &Args) -> SysResult<u64> {
    counted_write(cx, write_vectors(cx, fd, iov, count, None, 0))
}

pub(crate) fn preadv(cx: &mut TaskCx, &[fd, iov, count, pos, ..]: &Args) -> SysResult<u64> {
    counted_read(cx, read_vectors(cx, fd, iov, count, Some(offset(pos)?), 0))
}

pub(crate) fn pwritev(cx: &mut TaskCx, &[fd, iov, count, pos, ..]: &Args) -> SysResult<u64> {
    counted_write(cx, write_vectors(cx, fd, iov, count, Some(offset(pos)?), 0))
}

/// Offset -1 stands for the file's position.
fn offset_or_position(pos: u64) -> Result<Option<u64>, Errno> {
    if pos == u64::MAX {
        Ok(None)
    } else {
        offset(pos).map(Some)
    }
}

pub(crate) fn preadv2(cx: &mut TaskCx, &[fd, iov, count, pos, _, flags]: &Args) -> SysResult<u64> {
    let (pos, flags) = (offset_or_position(pos)?, flags as u32 as i32);
    counted_read(cx, read_vectors(cx, fd, iov, count, pos, flags))
}

pub(crate) fn pwritev2(cx: &mut TaskCx, &[fd, iov, count, pos, _, flags]: &Args) -> SysResult<u64> {
    let (pos, flags) = (offset_or_position(pos)?, flags as u32 as i32);
    counted_write(cx, write_vectors(cx, fd, iov, count, pos, flags))
}

/// `EOPNOTSUPP` for flags that are not known. Reads take too what has no meaning for them.
pub(crate) fn check_rw_flags(flags: i32) -> Result<(), Errno> {
    const KNOWN: i32 = libc::RWF_HIPRI | libc::RWF_DSYNC | libc::RWF_SYNC | libc::RWF_APPEND;
    if flags & !KNOWN == 0 {
        Ok(())
    } else {
        Err(Errno::EOPNOTSUPP)
    }
}

/// What a write of `n` bytes with these flags does in the end.
pub(crate) fn sync_after(cx: &TaskCx, file: &File, n: usize, flags: i32) -> Result<(), Errno> {
    if n > 0 && flags & (libc::RWF_DSYNC | libc::RWF_SYNC) != 0 {
        file.sync(cx, flags & libc::RWF_SYNC == 0)?;
    }
    Ok(())
}

fn read_vectors(
    cx: &TaskCx,
    fd: u64,
    iov: u64,
    count: u64,
    pos: Option<u64>,
    flags: i32,
) -> SysResult {
    let file = file(cx, fd)?;
    if pos.is_some() {
        seekable(&file)?;
    }
    readable(&file)?;
    takes(file.ops().takes_reads())?;
    let list: Vec<Iovec> = iovecs(cx, iov, count)?;
    let mut dst = Dst::vectors(cx.memory(), &list);
    if dst.remaining() == 0 {
        return Ok(0);
    }
    check_rw_flags(flags)?;
    let n = match pos {
        Some(pos) => file.pread(cx, pos, &mut dst)?,
        None => file.read(cx, &mut dst)?,
    };
    Ok(n)
}

fn write_vectors(
    cx: &TaskCx,
    fd: u64,
    iov: u64,
    count: u64,
    pos: Option<u64>,
    flags: i32,
) -> SysResult {
    let file = file(cx, fd)?;
    if pos.is_some() {
        seekable(&file)?;
    }
    writable(&file)?;
    takes(file.ops().takes_writes())?;
    let list: Vec<Iovec> = iovecs(cx, iov, count)?;
    let mut src = Src::vectors(cx.memory(), &list);
    if src.remaining() == 0 {
        return Ok(0);
    }
    check_rw_flags(flags)?;
    let n = match pos {
        _ if flags & libc::RWF_APPEND != 0 => file.append(cx, &mut src)?,
        Some(pos) => file.pwrite(cx, pos, &mut src)?,
        None => file.write(cx, &mut src)?,
    };
    sync_after(cx, &file, n, flags)?;
    Ok(n)
}

pub(crate) fn lseek(cx: &mut TaskCx, &[fd, offset, whence, ..]: &Args) -> SysResult<u64> {
    let file = file(cx, fd)?;
    let whence = Whence::from_number(whence as u32)?;
    Ok(file.seek(cx, offset as i64, whence)?)
}

pub(crate) fn fsync(cx: &mut TaskCx, &[fd, ..]: &Args) -> SysResult<u64> {
    file(cx, fd)?.sync(cx, false)?;
    Ok(0)
}

pub(crate) fn fdatasync(cx: &mut TaskCx, &[fd, ..]: &Args) -> SysResult<u64> {
    file(cx, fd)?.sync(cx, true)?;
    Ok(0)
}

/// The host keeps what was written; there is no cache of ours to write back.
pub(crate) fn sync(_cx: &mut TaskCx, _args: &Args) -> SysResult<u64> {
    Ok(0)
}

pub(crate) fn syncfs(cx: &mut TaskCx, &[fd, ..]: &Args) -> SysResult<u64> {
    file(cx, fd)?;
    Ok(0)
}

pub(crate) fn sync_file_range(
    cx: &mut TaskCx,
    &[fd, offset, len, flags, ..]: &Args,
) -> SysResult<u64> {
    let (offset, len, flags) = (offset as i64, len as i64, flags as u32);
    let file = file(cx, fd)?;
    if flags & !7 != 0 || offset < 0 || len < 0 || offset.checked_add(len).is_none() {
        return Err(Errno::EINVAL.into());
    }
    match file.kind() {
        Some(
            FileType::Regular | FileType::BlockDevice | FileType::Directory | FileType::Symlink,
        ) => {}
        _ => return Err(Errno::ESPIPE.into()),
    }
    if flags != 0 {
        file.sync(cx, true)?;
    }
    Ok(0)
}

/// Advice is checked and then not needed: the host's page cache reads ahead as it sees fit.
pub(crate) fn fadvise64(cx: &mut TaskCx, &[fd, _offset, len, advice, ..]: &Args) -> SysResult<u64> {
    let file = file(cx, fd)?;
    if Pipe::of(&file).is_some() {
        return Err(Errno::ESPIPE.into());
    }
    if (len as i64) < 0 || !(0..=5).contains(&(advice as i32)) {
        return Err(Errno::EINVAL.into());
    }
    Ok(0)
}

pub(crate) fn readahead(cx: &mut TaskCx, &[fd, _, len, ..]: &Args) -> SysResult<u64> {
    let file = file(cx, fd)?;
    readable(&file)?;
    match file.kind() {
        _ if (len as i64) < 0 => Err(Errno::EINVAL.into()),
        Some(FileType::Regular | FileType::BlockDevice) => Ok(0),
        _ => Err(Errno::EINVAL.into()),
    }
}

pub(crate) fn fallocate(
    cx: &mut TaskCx,
    &[fd_arg, mode, offset, len, ..]: &Args,
) -> SysResult<u64> {
    let file = cx.fd_table().get(fd(fd_arg))?;
    if (offset as i64) < 0 || (len as i64) <= 0 {
        return Err(Errno::EINVAL.into());
    }
    file.allocate(cx, mode as u32, offset as i64, len as i64)?;
    Ok(0)
}
