//! Names: link, unlink, rename, symlink, readlink, mkdir, rmdir, mknod.

use crate::user::{Args, path, path_at};
use abi::Errno;
use abi::libc;
use ctx::{Ctx, SysResult};
use task::TaskCx;
use vfs::{LookupFlags, Start};

/// `AT_FDCWD` as an argument register has it.
const CWD: u64 = libc::AT_FDCWD as u64;

pub(crate) fn link(cx: &mut TaskCx, &[old, new, ..]: &Args) -> SysResult<u64> {
    linkat(cx, &[CWD, old, CWD, new, 0, 0])
}

pub(crate) fn linkat(
    cx: &mut TaskCx,
    &[old_fd, old, new_fd, new, flags, _]: &Args,
) -> SysResult<u64> {
    let flags = flags as i32;
    if flags & !(libc::AT_SYMLINK_FOLLOW | libc::AT_EMPTY_PATH) != 0 {
        return Err(Errno::EINVAL.into());
    }
    let mut lookup = LookupFlags::empty();
    lookup.set(LookupFlags::FOLLOW, flags & libc::AT_SYMLINK_FOLLOW != 0);
    lookup.set(LookupFlags::EMPTY, flags & libc::AT_EMPTY_PATH != 0);
    let (old_start, old) = path_at(cx, old_fd, old)?;
    let (new_start, new) = match path_at(cx, new_fd, new) {
        Ok(new) => new,
        Err(e) => {
            // What is wrong with the old one is told before.
            vfs::walk::resolve(cx, old_start, &old, lookup)?;
            return Err(e.into());
        }
    };
    vfs::link(cx, (old_start, &old, lookup), new_start, &new)?;
    Ok(0)
}

pub(crate) fn unlink(cx: &mut TaskCx, &[name, ..]: &Args) -> SysResult<u64> {
    let name = path(cx, name)?;
    vfs::unlink(cx, Start::Cwd, &name)?;
    Ok(0)
}

pub(crate) fn rmdir(cx: &mut TaskCx, &[name, ..]: &Args) -> SysResult<u64> {
    let name = path(cx, name)?;
    vfs::rmdir(cx, Start::Cwd, &name)?;
    Ok(0)
}

pub(crate) fn unlinkat(cx: &mut TaskCx, &[dirfd, name, flags, ..]: &Args) -> SysResult<u64> {
    let flags = flags as i32;
    if flags & !libc::AT_REMOVEDIR != 0 {
        return Err(Errno::EINVAL.into());
    }
    let (start, name) = path_at(cx, dirfd, name)?;
    if flags & libc::AT_REMOVEDIR != 0 {
        vfs::rmdir(cx, start, &name)?;
    } else {
        vfs::unlink(cx, start, &name)?;
    }
    Ok(0)
}

pub(crate) fn rename(cx: &mut TaskCx, &[old, new, ..]: &Args) -> SysResult<u64> {
    renameat2(cx, &[CWD, old, CWD, new, 0, 0])
}

pub(crate) fn renameat(cx: &mut TaskCx, &[old_fd, old, new_fd, new, ..]: &Args) -> SysResult<u64> {
    renameat2(cx, &[old_fd, old, new_fd, new, 0, 0])
}

pub(crate) fn renameat2(
    cx: &mut TaskCx,
    &[old_fd, old, new_fd, new, flags, _]: &Args,
) -> SysResult<u64> {
    let flags = flags as u32;
    let known = vfs::rename::NOREPLACE | vfs::rename::EXCHANGE | vfs::rename::WHITEOUT;
    let exclusive = vfs::rename::NOREPLACE | vfs::rename::WHITEOUT;
    if flags & !known != 0 || (flags & vfs::rename::EXCHANGE != 0 && flags & exclusive != 0) {
        return Err(Errno::EINVAL.into());
    }
    let (old_start, old) = path_at(cx, old_fd, old)?;
    let (new_start, new) = match path_at(cx, new_fd, new) {
        Ok(new) => new,
        Err(e) => {
            // What is wrong with the way to the old one is told before.
            vfs::walk::resolve_parent(cx, old_start, &old, LookupFlags::empty())?;
            return Err(e.into());
        }
    };
    vfs::rename(cx, (old_start, &old), (new_start, &new), flags)?;
    Ok(0)
}

pub(crate) fn symlink(cx: &mut TaskCx, &[target, name, ..]: &Args) -> SysResult<u64> {
    symlinkat(cx, &[target, CWD, name, 0, 0, 0])
}

pub(crate) fn symlinkat(cx: &mut TaskCx, &[target, dirfd, name, ..]: &Args) -> SysResult<u64> {
    let target = path(cx, target)?;
    if target.is_empty() {
        return Err(Errno::ENOENT.into());
    }
    let (start, name) = path_at(cx, dirfd, name)?;
    vfs::symlink(cx, &target, start, &name)?;
    Ok(0)
}

pub(crate) fn readlink(cx: &mut TaskCx, &[name, buf, size, ..]: &Args) -> SysResult<u64> {
    readlinkat(cx, &[CWD, name, buf, size, 0, 0])
}

pub(crate) fn readlinkat(cx: &mut TaskCx, &[dirfd, name, buf, size, ..]: &Args) -> SysResult<u64> {
    let size = size as i32;
    if size <= 0 {
        return Err(Errno::EINVAL.into());
    }
    let (start, name) = path_at(cx, dirfd, name)?;
    if name.is_empty() && dirfd as i32 == libc::AT_FDCWD {
        return Err(Errno::ENOENT.into());
    }
    let text = vfs::readlink(cx, start, &name)?;
    let n = text.len().min(size as usize);
    cx.memory().write(buf, &text[..n])?;
    Ok(n as u64)
}

pub(crate) fn mkdir(cx: &mut TaskCx, &[name, mode, ..]: &Args) -> SysResult<u64> {
    mkdirat(cx, &[CWD, name, mode, 0, 0, 0])
}

pub(crate) fn mkdirat(cx: &mut TaskCx, &[dirfd, name, mode, ..]: &Args) -> SysResult<u64> {
    let (start, name) = path_at(cx, dirfd, name)?;
    vfs::mkdir(cx, start, &name, mode as u32)?;
    Ok(0)
}

pub(crate) fn mknod(cx: &mut TaskCx, &[name, mode, dev, ..]: &Args) -> SysResult<u64> {
    mknodat(cx, &[CWD, name, mode, dev, 0, 0])
}

pub(crate) fn mknodat(cx: &mut TaskCx, &[dirfd, name, mode, dev, ..]: &Args) -> SysResult<u64> {
    // The type is looked at before the path.
    match mode as u32 & libc::S_IFMT {
        0 | libc::S_IFREG | libc::S_IFCHR | libc::S_IFBLK | libc::S_IFIFO | libc::S_IFSOCK => {}
        libc::S_IFDIR => return Err(Errno::EPERM.into()),
        _ => return Err(Errno::EINVAL.into()),
    }
    let (start, name) = path_at(cx, dirfd, name)?;
    vfs::mknod(cx, start, &name, mode as u32, new_decode_dev(dev as u32))?;
    Ok(0)
}

/// The 32 bits in which mknod(2) takes a device number, as `dev_t`.
fn new_decode_dev(dev: u32) -> u64 {
    abi::stat::makedev((dev & 0xfff00) >> 8, (dev & 0xff) | ((dev >> 12) & 0xfff00))
}

#[cfg(test)]
mod tests {
    #[test]
    fn device_numbers_are_unpacked() {
        assert_eq!(super::new_decode_dev(0x0103), abi::stat::makedev(1, 3));
        assert_eq!(
            super::new_decode_dev(0x1234_5678),
            abi::stat::makedev(0x456, 0x12378)
        );
    }
}
