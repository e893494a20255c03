//! Extended attributes (xattr(7)).

use crate::user::{Args, file, path};
use abi::Errno;
use ctx::{Ctx, SysResult};
use task::TaskCx;
use vfs::{FsCtx, LookupFlags, Start, VfsPath};

/// Bytes of a name, at most, without its NUL.
const NAME_MAX: usize = 255;
/// Bytes of a value and of a list, at most.
const SIZE_MAX: u64 = 65536;

/// What a call names its file by.
#[derive(Clone, Copy)]
enum By {
    /// A path, symbolic links followed.
    Path(u64),
    /// A path, a symbolic link itself.
    Link(u64),
    /// A descriptor.
    Fd(u64),
}

fn place(cx: &TaskCx, by: By) -> SysResult<VfsPath> {
    let (addr, lookup) = match by {
        By::Path(addr) => (addr, LookupFlags::FOLLOW),
        By::Link(addr) => (addr, LookupFlags::empty()),
        // Since Linux 6.13, this number means the working directory here too.
        By::Fd(fd) if fd as i32 == abi::libc::AT_FDCWD => return Ok(cx.cwd()),
        By::Fd(fd) => return Ok(file(cx, fd)?.place()),
    };
    let name = path(cx, addr)?;
    vfs::walk::resolve(cx, Start::Cwd, &name, lookup)
}

/// The name of an attribute: one byte at least.
fn name(cx: &TaskCx, addr: u64) -> Result<Vec<u8>, Errno> {
    match cx.memory().read_cstr(addr, NAME_MAX)? {
        Some(name) if !name.is_empty() => Ok(name),
        _ => Err(Errno::ERANGE),
    }
}

fn set(cx: &TaskCx, by: By, attr: u64, value: u64, size: u64, flags: u64) -> SysResult<u64> {
    let flags = flags as i32;
    if flags & !(abi::libc::XATTR_CREATE | abi::libc::XATTR_REPLACE) != 0 {
        return Err(Errno::EINVAL.into());
    }
    let attr = name(cx, attr)?;
    if size > SIZE_MAX {
        return Err(Errno::E2BIG.into());
    }
    let mut bytes = vec![0; size as usize];
    cx.memory().read(value, &mut bytes)?;
    let at = place(cx, by)?;
    vfs::set_xattr(cx, &at, &attr, &bytes, flags)?;
    Ok(0)
}

/// Hands out a value or a list: with no room asked for, its size alone.
fn hand_out(cx: &TaskCx, bytes: &[u8], addr: u64, size: u64) -> SysResult<u64> {
    if size != 0 {
        if bytes.len() as u64 > size {
            return Err(Errno::ERANGE.into());
        }
        cx.memory().write(addr, bytes)?;
    }
    Ok(bytes.len() as u64)
}

fn get(cx: &TaskCx, by: By, attr: u64, value: u64, size: u64) -> SysResult<u64> {
    let attr = name(cx, attr)?;
    let at = place(cx, by)?;
    let bytes = vfs::get_xattr(cx, &at, &attr)?;
    hand_out(cx, &bytes, value, size)
}

fn list(cx: &TaskCx, by: By, addr: u64, size: u64) -> SysResult<u64> {
    let at = place(cx, by)?;
    let mut bytes = Vec::new();
    for name in vfs::list_xattr(cx, &at)? {
        bytes.extend_from_slice(&name);
        bytes.push(0);
    }
    hand_out(cx, &bytes, addr, size)
}

fn remove(cx: &TaskCx, by: By, attr: u64) -> SysResult<u64> {
    let attr = name(cx, attr)?;
    let at = place(cx, by)?;
    vfs::remove_xattr(cx, &at, &attr)?;
    Ok(0)
}

pub(crate) fn setxattr(
    cx: &mut TaskCx,
    &[at, name, value, size, flags, _]: &Args,
) -> SysResult<u64> {
    set(cx, By::Path(at), name, value, size, flags)
}

pub(crate) fn lsetxattr(
    cx: &mut TaskCx,
    &[at, name, value, size, flags, _]: &Args,
) -> SysResult<u64> {
    set(cx, By::Link(at), name, value, size, flags)
}

pub(crate) fn fsetxattr(
    cx: &mut TaskCx,
    &[at, name, value, size, flags, _]: &Args,
) -> SysResult<u64> {
    set(cx, By::Fd(at), name, value, size, flags)
}

pub(crate) fn getxattr(cx: &mut TaskCx, &[at, name, value, size, ..]: &Args) -> SysResult<u64> {
    get(cx, By::Path(at), name, value, size)
}

pub(crate) fn lgetxattr(cx: &mut TaskCx, &[at, name, value, size, ..]: &Args) -> SysResult<u64> {
    get(cx, By::Link(at), name, value, size)
}

pub(crate) fn fgetxattr(cx: &mut TaskCx, &[at, name, value, size, ..]: &Args) -> SysResult<u64> {
    get(cx, By::Fd(at), name, value, size)
}

pub(crate) fn listxattr(cx: &mut TaskCx, &[at, buf, size, ..]: &Args) -> SysResult<u64> {
    list(cx, By::Path(at), buf, size)
}

pub(crate) fn llistxattr(cx: &mut TaskCx, &[at, buf, size, ..]: &Args) -> SysResult<u64> {
    list(cx, By::Link(at), buf, size)
}

pub(crate) fn flistxattr(cx: &mut TaskCx, &[at, buf, size, ..]: &Args) -> SysResult<u64> {
    list(cx, By::Fd(at), buf, size)
}

pub(crate) fn removexattr(cx: &mut TaskCx, &[at, name, ..]: &Args) -> SysResult<u64> {
    remove(cx, By::Path(at), name)
}

pub(crate) fn lremovexattr(cx: &mut TaskCx, &[at, name, ..]: &Args) -> SysResult<u64> {
    remove(cx, By::Link(at), name)
}

pub(crate) fn fremovexattr(cx: &mut TaskCx, &[at, name, ..]: &Args) -> SysResult<u64> {
    remove(cx, By::Fd(at), name)
}
