//! Arguments from guest memory.

use abi::Errno;
use ctx::{Ctx, Iovec, UserMemoryExt};
use std::ops::Deref;
use std::sync::Arc;
use task::TaskCx;
use vfs::{File, Start};

/// The six argument registers.
pub(crate) type Args = [u64; 6];

/// What one read or write moves at most (`MAX_RW_COUNT`).
pub(crate) const MAX_RW_COUNT: u64 = 0x7fff_f000;
/// Elements of an iovec array, at most (`UIO_MAXIOV`).
const MAX_IOV: u64 = 1024;
/// Bytes of a path that fit without an allocation.
const SHORT: usize = 256;

/// A path read from guest memory.
pub(crate) struct UserPath {
    short: [u8; SHORT],
    len: usize,
    long: Option<Vec<u8>>,
}

impl Deref for UserPath {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.long {
            Some(long) => long,
            None => self.short.get(..self.len).unwrap_or(&[]),
        }
    }
}

/// The path at `addr`, NUL excluded.
///
/// # Errors
/// `EFAULT`; `ENAMETOOLONG` for more than 4095 bytes.
pub(crate) fn path(cx: &TaskCx, addr: u64) -> Result<UserPath, Errno> {
    let memory = cx.memory();
    let mut path = UserPath {
        short: [0; SHORT],
        len: 0,
        long: None,
    };
    let to_page_end = (abi::page::PAGE_SIZE - addr % abi::page::PAGE_SIZE) as usize;
    let room = to_page_end.min(SHORT);
    let got = memory.read_some(addr, &mut path.short[..room])?;
    if let Some(nul) = path.short[..got.min(room)].iter().position(|b| *b == 0) {
        path.len = nul;
        return Ok(path);
    }
    path.long = Some(
        memory
            .read_cstr(addr, vfs::walk::PATH_MAX - 1)?
            .ok_or(Errno::ENAMETOOLONG)?,
    );
    Ok(path)
}

/// A path and where it starts, for the `*at` calls.
pub(crate) fn path_at(cx: &TaskCx, dirfd: u64, addr: u64) -> Result<(Start, UserPath), Errno> {
    let path = path(cx, addr)?;
    Ok((Start::from_fd(fd(dirfd), &path), path))
}

/// As [`path_at`], where `AT_EMPTY_PATH` allows a null pointer for the empty path.
pub(crate) fn path_at_or_null(
    cx: &TaskCx,
    dirfd: u64,
    addr: u64,
    empty: bool,
) -> Result<(Start, UserPath), Errno> {
    if empty && addr == 0 {
        let path = UserPath {
            short: [0; SHORT],
            len: 0,
            long: None,
        };
        return Ok((Start::from_fd(fd(dirfd), &path), path));
    }
    path_at(cx, dirfd, addr)
}

/// A descriptor argument.
#[inline]
pub(crate) fn fd(arg: u64) -> i32 {
    arg as i32
}

/// The file behind a descriptor argument.
#[inline]
pub(crate) fn file(cx: &TaskCx, arg: u64) -> Result<Arc<File>, Errno> {
    cx.fd_table().get(fd(arg))
}

/// The vectors at `addr`: their lengths sum up to [`MAX_RW_COUNT`] at most, what is beyond is cut.
///
/// # Errors
/// `EINVAL` for too many or a negative length, `EFAULT`.
pub(crate) fn iovecs(cx: &TaskCx, addr: u64, count: u64) -> Result<Vec<Iovec>, Errno> {
    if count > MAX_IOV {
        return Err(Errno::EINVAL);
    }
    let memory = cx.memory();
    let mut list = Vec::with_capacity(count as usize);
    let mut total = 0u64;
    for i in 0..count {
        let at = addr
            .checked_add(i * size_of::<Iovec>() as u64)
            .ok_or(Errno::EFAULT)?;
        let mut v: Iovec = memory.read_obj(at)?;
        if v.len > i64::MAX as u64 {
            return Err(Errno::EINVAL);
        }
        user_range(v.base, v.len)?;
        v.len = v.len.min(MAX_RW_COUNT - total);
        total += v.len;
        list.push(v);
    }
    Ok(list)
}

/// Whether a range can be a user's at all (`access_ok`).
///
/// # Errors
/// `EFAULT`.
#[inline]
pub(crate) fn user_range(addr: u64, len: u64) -> Result<(), Errno> {
    match addr.checked_add(len) {
        Some(end) if end <= abi::page::TASK_SIZE => Ok(()),
        _ => Err(Errno::EFAULT),
    }
}

/// A signal mask argument with its size; `None` for a null pointer.
///
/// # Errors
/// `EINVAL` for a size that is not 8, `EFAULT`.
pub(crate) fn sigset(cx: &TaskCx, addr: u64, size: u64) -> Result<Option<signal::SigSet>, Errno> {
    if addr == 0 {
        return Ok(None);
    }
    if size != 8 {
        return Err(Errno::EINVAL);
    }
    Ok(Some(signal::SigSet::from_bits(
        cx.memory().read_obj::<u64>(addr)?,
    )))
}

/// Reads a structure that later kernels extend (`copy_struct_from_user`): what `size` has beyond
/// ours must be zero.
///
/// # Errors
/// `EINVAL` for less than `min` bytes, `E2BIG` for more than a page or content not known here.
pub(crate) fn extensible<T>(cx: &TaskCx, addr: u64, size: u64, min: u64) -> Result<T, Errno>
where
    T: zerocopy::FromBytes + zerocopy::IntoBytes,
{
    if size < min {
        return Err(Errno::EINVAL);
    }
    if size > abi::page::PAGE_SIZE {
        return Err(Errno::E2BIG);
    }
    let mut bytes = vec![0u8; size as usize];
    cx.memory().read(addr, &mut bytes)?;
    let mut value = T::new_zeroed();
    let ours = value.as_mut_bytes();
    let known = ours.len().min(bytes.len());
    let (head, tail) = bytes.split_at(known);
    ours[..known].copy_from_slice(head);
    if tail.iter().any(|b| *b != 0) {
        return Err(Errno::E2BIG);
    }
    Ok(value)
}

/// Stores an offset or another word, where there is somewhere to store it.
pub(crate) fn put<T>(cx: &TaskCx, addr: u64, value: &T) -> Result<(), Errno>
where
    T: zerocopy::IntoBytes + zerocopy::Immutable,
{
    if addr == 0 {
        Ok(())
    } else {
        cx.memory().write_obj(addr, value)
    }
}
