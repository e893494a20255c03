//! inotify(7).

use crate::event_fds::insert;
use crate::user::{Args, file, path};
use abi::Errno;
use ctx::{Ctx, SysResult};
use fs_anon::Inotify;
use fs_anon::inotify::{IN_DONT_FOLLOW, IN_ONLYDIR};
use task::TaskCx;
use vfs::{LookupFlags, OpenFlags, Start, access, walk};

pub(crate) fn inotify_init(cx: &mut TaskCx, _args: &Args) -> SysResult<u64> {
    inotify_init1(cx, &[0; 6])
}

pub(crate) fn inotify_init1(cx: &mut TaskCx, &[word, ..]: &Args) -> SysResult<u64> {
    let allowed = OpenFlags::NONBLOCK | OpenFlags::CLOEXEC;
    let flags = OpenFlags::from_bits(word as u32)
        .filter(|f| allowed.contains(*f))
        .ok_or(Errno::EINVAL)?;
    let file = Inotify::open(cx, flags)?;
    insert(cx, file, flags.contains(OpenFlags::CLOEXEC))
}

pub(crate) fn inotify_add_watch(cx: &mut TaskCx, &[fd, name, mask, ..]: &Args) -> SysResult<u64> {
    let mask = mask as u32;
    Inotify::check_mask(mask)?;
    let file = file(cx, fd)?;
    Inotify::check_flags(mask)?;
    let inotify = file.ops_as::<Inotify>().ok_or(Errno::EINVAL)?;
    let name = path(cx, name)?;
    let mut lookup = LookupFlags::empty();
    lookup.set(LookupFlags::FOLLOW, mask & IN_DONT_FOLLOW == 0);
    lookup.set(LookupFlags::DIRECTORY, mask & IN_ONLYDIR != 0);
    let at = walk::resolve(cx, Start::Cwd, &name, lookup)?;
    access::permission(cx, &cx.creds(), &at, access::READ)?;
    Ok(inotify.add(cx, &at, mask)? as u64)
}

pub(crate) fn inotify_rm_watch(cx: &mut TaskCx, &[fd, wd, ..]: &Args) -> SysResult<u64> {
    let file = file(cx, fd)?;
    let inotify = file.ops_as::<Inotify>().ok_or(Errno::EINVAL)?;
    inotify.remove(wd as i32)?;
    Ok(0)
}
