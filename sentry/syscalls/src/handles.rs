//! name_to_handle_at(2) and open_by_handle_at(2), as a kernel answers whose file systems give out
//! no handles: a name here is no promise that outlives its dentry.

use crate::user::{Args, path_at_or_null};
use abi::{Errno, libc};
use auth::Capability;
use ctx::{Ctx, SysResult, UserMemoryExt};
use task::TaskCx;
use vfs::{LookupFlags, walk};

/// `MAX_HANDLE_SZ`
const MAX_HANDLE: u32 = 128;
/// `AT_HANDLE_FID`
const HANDLE_FID: i32 = 0x200;
/// `AT_HANDLE_MNT_ID_UNIQUE`
const MOUNT_ID_UNIQUE: i32 = 1;
/// `AT_HANDLE_CONNECTABLE`
const CONNECTABLE: i32 = 2;

pub(crate) fn name_to_handle_at(
    cx: &mut TaskCx,
    &[dirfd, name, _handle, _mount_id, flags, _]: &Args,
) -> SysResult<u64> {
    let flags = flags as i32;
    let known =
        libc::AT_SYMLINK_FOLLOW | libc::AT_EMPTY_PATH | HANDLE_FID | MOUNT_ID_UNIQUE | CONNECTABLE;
    if flags & !known != 0 || flags & HANDLE_FID != 0 && flags & CONNECTABLE != 0 {
        return Err(Errno::EINVAL.into());
    }
    let empty = flags & libc::AT_EMPTY_PATH != 0;
    let (start, name) = path_at_or_null(cx, dirfd, name, false)?;
    let mut lookup = LookupFlags::empty();
    lookup.set(LookupFlags::FOLLOW, flags & libc::AT_SYMLINK_FOLLOW != 0);
    lookup.set(LookupFlags::EMPTY, empty);
    walk::resolve(cx, start, &name, lookup)?;
    Err(Errno::EOPNOTSUPP.into())
}

pub(crate) fn open_by_handle_at(
    cx: &mut TaskCx,
    &[mount_fd, handle, _flags, ..]: &Args,
) -> SysResult<u64> {
    let [bytes, kind]: [u32; 2] = cx.memory().read_obj(handle)?;
    if bytes == 0 || bytes > MAX_HANDLE || (kind as i32) < 0 {
        return Err(Errno::EINVAL.into());
    }
    let fd = mount_fd as i32;
    if fd != libc::AT_FDCWD {
        cx.fd_table().get_path_ok(fd)?;
    }
    if !cx.creds().has(Capability::DacReadSearch) {
        return Err(Errno::EPERM.into());
    }
    let mut text = vec![0; bytes as usize];
    cx.memory().read(handle.wrapping_add(8), &mut text)?;
    Err(Errno::ESTALE.into())
}
