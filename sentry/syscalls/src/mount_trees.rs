//! Mounts by descriptors: open_tree(2), move_mount(2), mount_setattr(2), open_tree_attr(2).

use crate::event_fds::insert;
use crate::mount::may_mount;
use crate::user::{Args, extensible, file, path_at_or_null};
use abi::{Errno, libc};
use ctx::{Ctx, SysResult};
use std::any::Any;
use std::sync::Arc;
use task::TaskCx;
use vfs::nsfs::{self, NamespaceFile};
use vfs::{
    AttributeChange, File, FileOps, FsCtx, LookupFlags, MountFlags, MountNamespace, OpenFlags,
    Propagation, VfsPath,
};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

const EMPTY_PATH: u64 = 0x1000;
const NOFOLLOW: u64 = 0x100;
const NO_AUTOMOUNT: u64 = 0x800;
const RECURSIVE: u64 = 0x8000;
/// `OPEN_TREE_CLONE`
const CLONE: u64 = 1;
const CLOEXEC: u64 = OpenFlags::CLOEXEC.bits() as u64;

/// The name of a mount, as these calls have it.
pub(crate) struct Where {
    pub(crate) dirfd: u64,
    pub(crate) path: u64,
    pub(crate) follow: bool,
    pub(crate) empty: bool,
}

impl Where {
    pub(crate) fn find(&self, cx: &TaskCx) -> SysResult<VfsPath> {
        let mut how = LookupFlags::empty();
        how.set(LookupFlags::FOLLOW, self.follow);
        how.set(LookupFlags::EMPTY, self.empty);
        let (start, path) = path_at_or_null(cx, self.dirfd, self.path, self.empty)?;
        vfs::walk::resolve(cx, start, &path, how)
    }

    fn by_flags(dirfd: u64, path: u64, flags: u64) -> Where {
        Where {
            dirfd,
            path,
            follow: flags & NOFOLLOW == 0,
            empty: flags & EMPTY_PATH != 0,
        }
    }
}

/// What keeps a tree that has no place: with the last descriptor goes what was not moved.
struct HeldTree {
    _tree: Arc<MountNamespace>,
}

impl FileOps for HeldTree {
    fn seekable(&self) -> bool {
        false
    }

    fn ioctl(&self, _: &dyn Ctx, _: &File, _: u32, _: u64) -> SysResult<u64> {
        Err(Errno::EBADF.into())
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// A descriptor of a tree that has no place yet, whose top is `top`: to be used as by `O_PATH`.
pub(crate) fn give_tree(
    cx: &TaskCx,
    top: VfsPath,
    tree: Arc<MountNamespace>,
    cloexec: bool,
) -> SysResult<u64> {
    let ops = Arc::new(HeldTree { _tree: tree });
    let file = File::new(ops, Some(top), OpenFlags::PATH, cx.creds());
    insert(cx, file, cloexec)
}

/// Checks the flags of open_tree(2).
fn check_open_tree(cx: &TaskCx, flags: u64) -> Result<(), Errno> {
    const KNOWN: u64 = EMPTY_PATH | NOFOLLOW | NO_AUTOMOUNT | RECURSIVE | CLONE | CLOEXEC;
    if flags & !KNOWN != 0 || flags & (RECURSIVE | CLONE) == RECURSIVE {
        return Err(Errno::EINVAL);
    }
    if flags & CLONE != 0 {
        may_mount(cx)?;
    }
    Ok(())
}

/// The tree that open_tree(2) clones, with its top.
fn cloned(cx: &TaskCx, at: &VfsPath, flags: u64) -> Result<(VfsPath, Arc<MountNamespace>), Errno> {
    let tree = cx.mounts().clone_tree(at, flags & RECURSIVE != 0)?;
    let top = tree.top().ok_or(Errno::EINVAL)?;
    Ok((top, tree))
}

pub(crate) fn open_tree(cx: &mut TaskCx, &[dirfd, path, flags, ..]: &Args) -> SysResult<u64> {
    let flags = u64::from(flags as u32);
    check_open_tree(cx, flags)?;
    let at = Where::by_flags(dirfd, path, flags).find(cx)?;
    let cloexec = flags & CLOEXEC != 0;
    if flags & CLONE == 0 {
        let file = vfs::open_at(cx, at, OpenFlags::PATH)?;
        return insert(cx, file, cloexec);
    }
    let (top, tree) = cloned(cx, &at, flags)?;
    give_tree(cx, top, tree, cloexec)
}

pub(crate) fn open_tree_attr(
    cx: &mut TaskCx,
    &[dirfd, path, flags, attr, size, _]: &Args,
) -> SysResult<u64> {
    let flags = u64::from(flags as u32);
    if attr == 0 && size != 0 {
        return Err(Errno::EINVAL.into());
    }
    check_open_tree(cx, flags)?;
    let at = Where::by_flags(dirfd, path, flags).find(cx)?;
    let tree = match flags & CLONE {
        0 => None,
        _ => Some(cloned(cx, &at, flags)?),
    };
    if attr != 0
        && let Some(how) = wanted(cx, attr, size, flags & RECURSIVE != 0)?
    {
        let top = tree.as_ref().map_or(&at, |(top, _)| top);
        cx.mounts().change_attributes(top, &how)?;
    }
    let cloexec = flags & CLOEXEC != 0;
    match tree {
        Some((top, tree)) => give_tree(cx, top, tree, cloexec),
        None => {
            let file = vfs::open_at(cx, at, OpenFlags::PATH)?;
            insert(cx, file, cloexec)
        }
    }
}

pub(crate) fn move_mount(
    cx: &mut TaskCx,
    &[from_fd, from, to_fd, to, flags, _]: &Args,
) -> SysResult<u64> {
    const FROM_SYMLINKS: u64 = 1;
    const FROM_EMPTY: u64 = 4;
    const TO_SYMLINKS: u64 = 0x10;
    const TO_EMPTY: u64 = 0x40;
    const SET_GROUP: u64 = 0x100;
    const BENEATH: u64 = 0x200;
    const KNOWN: u64 = 0x377;
    may_mount(cx)?;
    let flags = u64::from(flags as u32);
    let has = |f| flags & f != 0;
    if flags & !KNOWN != 0 || (has(SET_GROUP) && has(BENEATH)) {
        return Err(Errno::EINVAL.into());
    }
    let to = Where {
        dirfd: to_fd,
        path: to,
        follow: has(TO_SYMLINKS),
        empty: has(TO_EMPTY),
    };
    let to = to.find(cx)?;
    let from = Where {
        dirfd: from_fd,
        path: from,
        follow: has(FROM_SYMLINKS),
        empty: has(FROM_EMPTY),
    };
    let from = from.find(cx)?;
    match has(SET_GROUP) {
        true => cx.mounts().set_group(cx.creds_ref(), &from, &to)?,
        false => cx
            .mounts()
            .move_mount(&from, &to, has(BENEATH), &cx.root())?,
    }
    Ok(0)
}

const ATTR_ATIME: u64 = 0x70;
const ATTR_IDMAP: u64 = 0x10_0000;
/// `MOUNT_ATTR_*` but for those of access times.
const ATTRS: [(u64, MountFlags); 6] = [
    (0x01, MountFlags::RDONLY),
    (0x02, MountFlags::NOSUID),
    (0x04, MountFlags::NODEV),
    (0x08, MountFlags::NOEXEC),
    (0x80, MountFlags::NODIRATIME),
    (0x20_0000, MountFlags::NOSYMFOLLOW),
];
const ATTRS_KNOWN: u64 = 0x20_008f | ATTR_ATIME;

fn plain(attrs: u64) -> MountFlags {
    let set = ATTRS.iter().filter(|(bit, _)| attrs & bit != 0);
    set.fold(MountFlags::empty(), |all, (_, flag)| all | *flag)
}

fn access_times(attrs: u64) -> Result<MountFlags, Errno> {
    match attrs & ATTR_ATIME {
        0 => Ok(MountFlags::RELATIME),
        0x10 => Ok(MountFlags::NOATIME),
        0x20 => Ok(MountFlags::STRICTATIME),
        _ => Err(Errno::EINVAL),
    }
}

/// The flags of a mount by `MOUNT_ATTR_*`.
///
/// # Errors
/// `EINVAL` for what is not known, and for two kinds of access times.
pub(crate) fn attributes(attrs: u64) -> Result<MountFlags, Errno> {
    if attrs & !ATTRS_KNOWN != 0 {
        return Err(Errno::EINVAL);
    }
    Ok(plain(attrs) | access_times(attrs)?)
}

/// The `MOUNT_ATTR_*` of a mount's flags.
pub(crate) fn attribute_bits(flags: MountFlags) -> u64 {
    let set = ATTRS.iter().filter(|(_, flag)| flags.contains(*flag));
    let times = match flags {
        f if f.contains(MountFlags::NOATIME) => 0x10,
        f if f.contains(MountFlags::STRICTATIME) => 0x20,
        _ => 0,
    };
    set.fold(times, |all, (bit, _)| all | bit)
}

/// `struct mount_attr`.
#[derive(Clone, Copy, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct MountAttr {
    set: u64,
    clear: u64,
    propagation: u64,
    userns_fd: u64,
}

/// What a `struct mount_attr` asks for; `None` for nothing.
fn wanted(
    cx: &TaskCx,
    addr: u64,
    size: u64,
    recursive: bool,
) -> Result<Option<AttributeChange>, Errno> {
    if size > abi::page::PAGE_SIZE {
        return Err(Errno::E2BIG);
    }
    if size < size_of::<MountAttr>() as u64 {
        return Err(Errno::EINVAL);
    }
    may_mount(cx)?;
    let attr: MountAttr = extensible(cx, addr, size, 0)?;
    if attr.set | attr.clear | attr.propagation == 0 {
        return Ok(None);
    }
    let propagation = match attr.propagation {
        0 => None,
        kind => Some(kind_of_propagation(kind).ok_or(Errno::EINVAL)?),
    };
    let times = attr.clear & ATTR_ATIME;
    if (attr.set | attr.clear) & !(ATTRS_KNOWN | ATTR_IDMAP) != 0
        || (times != 0 && times != ATTR_ATIME)
        || (times == 0 && attr.set & ATTR_ATIME != 0)
    {
        return Err(Errno::EINVAL);
    }
    let (mut clear, mut set) = (plain(attr.clear), plain(attr.set));
    if times != 0 {
        clear |= MountFlags::RELATIME | MountFlags::NOATIME | MountFlags::STRICTATIME;
        set |= access_times(attr.set)?;
    }
    if (attr.set | attr.clear) & ATTR_IDMAP != 0 {
        return Err(mapped_ids(cx, &attr));
    }
    Ok(Some(AttributeChange {
        set,
        clear,
        propagation,
        recursive,
    }))
}

/// Why a mount cannot have ids of its own: no file system here takes that.
fn mapped_ids(cx: &TaskCx, attr: &MountAttr) -> Errno {
    if attr.clear & ATTR_IDMAP != 0 || attr.userns_fd > i32::MAX as u64 {
        return Errno::EINVAL;
    }
    match file(cx, attr.userns_fd) {
        Err(e) => e,
        Ok(file) => match file.ops_as::<NamespaceFile>() {
            Some(ns)
                if ns.kind().flag == nsfs::USER.flag && ns.id() == auth::FIRST_USER_NAMESPACE =>
            {
                Errno::EPERM
            }
            _ => Errno::EINVAL,
        },
    }
}

/// The kind of propagation that mount(2)'s flag names; `None` for more or less than one.
pub(crate) fn kind_of_propagation(flag: u64) -> Option<Propagation> {
    match flag {
        libc::MS_SHARED => Some(Propagation::Shared),
        libc::MS_PRIVATE => Some(Propagation::Private),
        libc::MS_SLAVE => Some(Propagation::Slave),
        libc::MS_UNBINDABLE => Some(Propagation::Unbindable),
        _ => None,
    }
}

pub(crate) fn mount_setattr(
    cx: &mut TaskCx,
    &[dirfd, path, flags, attr, size, _]: &Args,
) -> SysResult<u64> {
    const KNOWN: u64 = EMPTY_PATH | NOFOLLOW | NO_AUTOMOUNT | RECURSIVE;
    let flags = u64::from(flags as u32);
    if flags & !KNOWN != 0 {
        return Err(Errno::EINVAL.into());
    }
    let Some(how) = wanted(cx, attr, size, flags & RECURSIVE != 0)? else {
        return Ok(0);
    };
    let at = Where::by_flags(dirfd, path, flags).find(cx)?;
    cx.mounts().change_attributes(&at, &how)?;
    Ok(0)
}
