//! open(2) and its relatives.

use crate::access::{self, READ, WRITE};
use crate::create::new_file;
use crate::file::Opening;
use crate::leases::break_leases;
use crate::notify::{self, Happened};
use crate::walk::Walker;
use crate::{
    Dentry, File, FileOps, FileType, FsCtx, Last, LookupFlags, MountFlags, NewKind, OpenFlags,
    SetAttr, Start, VfsPath, walk,
};
use abi::Errno;
use auth::Creds;
use ctx::SysErr;
use std::any::Any;
use std::sync::Arc;

/// Opens `path`. `lookup` carries openat2(2)'s restrictions; the rest of how to walk is said by
/// `flags`. `mode` is for a new file, before the umask.
///
/// # Errors
/// Those of open(2).
pub fn open(
    cx: &dyn FsCtx,
    start: Start,
    path: &[u8],
    flags: OpenFlags,
    mode: u32,
    lookup: LookupFlags,
) -> Result<Arc<File>, SysErr> {
    let flags = check_flags(flags)?;
    let creds = cx.creds();
    let mut lookup = lookup - LookupFlags::FOLLOW - LookupFlags::EMPTY;
    lookup.set(LookupFlags::DIRECTORY, flags.contains(OpenFlags::DIRECTORY));
    lookup.set(LookupFlags::FOLLOW, !flags.contains(OpenFlags::NOFOLLOW));
    if flags.contains(OpenFlags::CREAT) {
        return open_or_create(cx, &creds, start, path, flags, mode, lookup);
    }
    let place = walk::resolve_as(cx, &creds, start, path, lookup)?;
    if flags.contains(OpenFlags::PATH) {
        return Ok(File::new(Arc::new(PathOnly), Some(place), flags, creds));
    }
    if flags.contains(OpenFlags::TMPFILE) {
        return open_unnamed(cx, &creds, place, flags, mode);
    }
    open_place(cx, &creds, place, flags)
}

/// Opens a place that is known: permission checks, truncation, and the file system's part.
///
/// # Errors
/// Those of open(2) for an existing file.
pub fn open_at(cx: &dyn FsCtx, place: VfsPath, flags: OpenFlags) -> Result<Arc<File>, SysErr> {
    let flags = check_flags(flags)?;
    if flags.contains(OpenFlags::PATH) {
        return Ok(File::new(
            Arc::new(PathOnly),
            Some(place),
            flags,
            cx.creds(),
        ));
    }
    if flags.contains(OpenFlags::DIRECTORY) && !place.is_dir() {
        return Err(Errno::ENOTDIR.into());
    }
    open_place(cx, &cx.creds(), place, flags)
}

fn check_flags(mut flags: OpenFlags) -> Result<OpenFlags, Errno> {
    if flags.contains(OpenFlags::PATH) {
        return Ok(flags
            & (OpenFlags::PATH | OpenFlags::DIRECTORY | OpenFlags::NOFOLLOW | OpenFlags::CLOEXEC));
    }
    if flags.contains(OpenFlags::CREAT | OpenFlags::DIRECTORY) {
        return Err(Errno::EINVAL);
    }
    let tmpfile_bit = OpenFlags::TMPFILE - OpenFlags::DIRECTORY;
    if flags.contains(tmpfile_bit) && !(flags.contains(OpenFlags::TMPFILE) && flags.writable()) {
        return Err(Errno::EINVAL);
    }
    // As on every 64-bit kernel.
    flags |= OpenFlags::LARGEFILE;
    Ok(flags)
}

fn open_or_create(
    cx: &dyn FsCtx,
    creds: &Arc<Creds>,
    start: Start,
    path: &[u8],
    flags: OpenFlags,
    mode: u32,
    lookup: LookupFlags,
) -> Result<Arc<File>, SysErr> {
    let mut walker = Walker::new(cx, creds, start, path, lookup)?;
    let mut parent = walker.parent(path)?;
    loop {
        let Last::Name(name) = &parent.last else {
            let exclusive = flags.contains(OpenFlags::EXCL);
            return Err(if exclusive {
                Errno::EEXIST
            } else {
                Errno::EISDIR
            }
            .into());
        };
        if parent.slash {
            return Err(Errno::EISDIR.into());
        }
        let dir = &parent.dir;
        let child = match dir.dentry.lookup(cx, name)? {
            Some(child) => child,
            None => {
                let locked = dir.dentry.lock();
                match dir.dentry.lookup_locked(cx, name)? {
                    Some(child) => child,
                    None => {
                        let place = create_regular(cx, creds, dir, name, mode)?;
                        drop(locked);
                        return finish(cx, creds, place, flags - OpenFlags::TRUNC);
                    }
                }
            }
        };
        if flags.contains(OpenFlags::EXCL) {
            return Err(Errno::EEXIST.into());
        }
        let place = crate::tree::topmost(VfsPath {
            mount: dir.mount.clone(),
            dentry: child,
        });
        if lookup.contains(LookupFlags::NO_XDEV) && !Arc::ptr_eq(&place.mount, &dir.mount) {
            return Err(Errno::EXDEV.into());
        }
        let place = if place.kind() != FileType::Symlink {
            place
        } else if flags.contains(OpenFlags::NOFOLLOW) {
            return Err(Errno::ELOOP.into());
        } else if let Some(next) = walker.follow_to_parent(&place)? {
            parent = next;
            continue;
        } else {
            walker.at.clone()
        };
        if place.is_dir() {
            return Err(Errno::EISDIR.into());
        }
        return open_place(cx, creds, place, flags);
    }
}

/// Makes a regular file; its directory is locked.
fn create_regular(
    cx: &dyn FsCtx,
    creds: &Creds,
    dir: &VfsPath,
    name: &[u8],
    mode: u32,
) -> Result<VfsPath, Errno> {
    access::mount_writable(dir)?;
    access::may_create(cx, creds, dir)?;
    let new = new_file(cx, creds, dir, mode & 0o7777, false)?;
    let inode = dir.inode().create(cx, name, NewKind::Regular, &new)?;
    let made = VfsPath {
        mount: dir.mount.clone(),
        dentry: dir.dentry.adopt(inode, name),
    };
    notify::created(dir, name, FileType::Regular);
    Ok(made)
}

fn open_unnamed(
    cx: &dyn FsCtx,
    creds: &Arc<Creds>,
    dir: VfsPath,
    flags: OpenFlags,
    mode: u32,
) -> Result<Arc<File>, SysErr> {
    access::mount_writable(&dir)?;
    access::may_create(cx, creds, &dir)?;
    let new = new_file(cx, creds, &dir, mode & 0o7777, false)?;
    let inode = dir.inode().create_unnamed(cx, &new)?;
    let name = format!("#{}", inode.attr(cx)?.ino);
    let dentry = Dentry::unlisted(inode, Some(dir.dentry.clone()), name.as_bytes());
    dentry.set_linkable(!flags.contains(OpenFlags::EXCL));
    finish(
        cx,
        creds,
        VfsPath {
            mount: dir.mount,
            dentry,
        },
        flags,
    )
}

/// Checks of an existing file (`may_open`), then the opening.
fn open_place(
    cx: &dyn FsCtx,
    creds: &Arc<Creds>,
    place: VfsPath,
    mut flags: OpenFlags,
) -> Result<Arc<File>, SysErr> {
    let mut mask = match flags.access_mode() {
        0 => READ,
        1 => WRITE,
        _ => READ | WRITE,
    };
    if flags.contains(OpenFlags::TRUNC) {
        mask |= WRITE;
    }
    match place.kind() {
        FileType::Symlink => return Err(Errno::ELOOP.into()),
        FileType::Directory if mask & WRITE != 0 => return Err(Errno::EISDIR.into()),
        FileType::Regular if flags.contains(OpenFlags::TRUNC) => access::mount_writable(&place)?,
        FileType::CharDevice | FileType::BlockDevice if place.mount.refuses_devices() => {
            return Err(Errno::EACCES.into());
        }
        _ => {}
    }
    if place.kind() != FileType::Regular {
        flags -= OpenFlags::TRUNC;
    }
    let attr = place.attr(cx)?;
    access::permission_of(cx, creds, &place, &attr, mask)?;
    if flags.contains(OpenFlags::NOATIME) {
        access::owner_or_capable(creds, &attr)?;
    }
    finish(cx, creds, place, flags)
}

/// Opens after all checks.
fn finish(
    cx: &dyn FsCtx,
    creds: &Arc<Creds>,
    place: VfsPath,
    flags: OpenFlags,
) -> Result<Arc<File>, SysErr> {
    if place.kind() != FileType::Regular {
        let ops = place.inode().clone().open(cx, &place, flags)?;
        notify::opened(&place, flags);
        return Ok(File::new(ops, Some(place), flags, creds.clone()));
    }
    let truncates = flags.contains(OpenFlags::TRUNC);
    let counted = Counted::new(&place, flags.writable())?;
    let nonblocking = flags.contains(OpenFlags::NONBLOCK);
    break_leases(cx, &place, flags.writable(), nonblocking)?;
    if truncates {
        let _writer = (!flags.writable())
            .then(|| Counted::new(&place, true))
            .transpose()?;
        truncate(cx, creds, &place)?;
    }
    let ops = place.inode().clone().open(cx, &place, flags)?;
    tell_opened(&place, flags);
    let opening = counted.keep();
    Ok(File::build(ops, Some(place), flags, creds.clone(), opening))
}

/// A place that is counted as open, until it is dropped or an open description is.
struct Counted<'p>(&'p VfsPath, Opening);

impl Counted<'_> {
    fn new(place: &VfsPath, writer: bool) -> Result<Counted<'_>, Errno> {
        if writer {
            place.add_writer()?;
            return Ok(Counted(place, Opening::Writer));
        }
        place.dentry.add_reader();
        Ok(Counted(place, Opening::Reader))
    }

    /// It is the description's to end.
    fn keep(mut self) -> Opening {
        std::mem::replace(&mut self.1, Opening::Uncounted)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.end(self.1);
    }
}

/// Tells of an opening, and of the truncation that came with it: in this order, as Linux does.
fn tell_opened(place: &VfsPath, flags: OpenFlags) {
    notify::opened(place, flags);
    if flags.contains(OpenFlags::TRUNC) {
        notify::place(place, Happened::MODIFY);
    }
}

fn truncate(cx: &dyn FsCtx, creds: &Creds, place: &VfsPath) -> Result<(), Errno> {
    let now = cx.clocks().wall();
    let mut set = SetAttr {
        size: Some(0),
        mtime: Some(now),
        ctime: Some(now),
        ..SetAttr::default()
    };
    crate::attributes::strip_privileges(creds, &place.attr(cx)?, &mut set);
    place.inode().set_attr(cx, &set)
}

/// A promise that nobody writes to a file while it is being executed.
#[derive(Debug)]
pub struct DenyWrite(VfsPath);

impl DenyWrite {
    /// # Errors
    /// `ETXTBSY` while somebody has it open for writing.
    pub fn new(place: &VfsPath) -> Result<DenyWrite, Errno> {
        place.dentry.deny_writers()?;
        Ok(DenyWrite(place.clone()))
    }

    /// The file.
    pub fn place(&self) -> &VfsPath {
        &self.0
    }
}

impl Drop for DenyWrite {
    fn drop(&mut self) {
        self.0.dentry.allow_writers();
    }
}

/// Opens a program for execve(2): it must be a regular file that may be executed. It is readable
/// to the kernel whatever its mode.
///
/// # Errors
/// `EACCES`, `ETXTBSY`, and those of walking.
pub fn open_exec(
    cx: &dyn FsCtx,
    start: Start,
    path: &[u8],
    lookup: LookupFlags,
) -> Result<(Arc<File>, DenyWrite), SysErr> {
    let place = walk::resolve(cx, start, path, lookup)?;
    if place.kind() == FileType::Symlink {
        return Err(Errno::ELOOP.into());
    }
    if place.kind() != FileType::Regular || place.mount.flags().contains(MountFlags::NOEXEC) {
        return Err(Errno::EACCES.into());
    }
    let creds = cx.creds();
    access::permission(cx, &creds, &place, access::EXEC)?;
    let deny = DenyWrite::new(&place)?;
    let flags = OpenFlags::RDONLY | OpenFlags::LARGEFILE;
    let counted = Counted::new(&place, false)?;
    let nonblocking = false;
    break_leases(cx, &place, false, nonblocking)?;
    let ops = place.inode().clone().open(cx, &place, flags)?;
    notify::opened(&place, flags);
    let opening = counted.keep();
    Ok((File::build(ops, Some(place), flags, creds, opening), deny))
}

/// What an `O_PATH` descriptor can do: nothing. The descriptor table answers `EBADF` before these
/// are reached.
struct PathOnly;

impl FileOps for PathOnly {
    fn seekable(&self) -> bool {
        false
    }

    fn ioctl(&self, _: &dyn ctx::Ctx, _: &File, _: u32, _: u64) -> ctx::SysResult<u64> {
        Err(Errno::EBADF.into())
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
