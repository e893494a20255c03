//! statmount(2), listmount(2).

use crate::mount_trees::attribute_bits;
use crate::user::Args;
use abi::{Errno, libc};
use auth::Capability;
use ctx::{Ctx, SysResult, UserMemoryExt};
use std::sync::Arc;
use task::TaskCx;
use vfs::{FsCtx, Mount, MountNamespace, SuperFlags, VfsPath};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout};

/// `struct mnt_id_req`.
#[derive(Clone, Copy, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Request {
    size: u32,
    spare: u32,
    mount: u64,
    param: u64,
    namespace: u64,
}

/// Without the namespace: the first version.
const REQUEST_MIN: u64 = 24;

/// `struct statmount` up to its strings.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Status {
    size: u32,
    mnt_opts: u32,
    mask: u64,
    sb_dev_major: u32,
    sb_dev_minor: u32,
    sb_magic: u64,
    sb_flags: u32,
    fs_type: u32,
    mnt_id: u64,
    mnt_parent_id: u64,
    mnt_id_old: u32,
    mnt_parent_id_old: u32,
    mnt_attr: u64,
    mnt_propagation: u64,
    mnt_peer_group: u64,
    mnt_master: u64,
    propagate_from: u64,
    mnt_root: u32,
    mnt_point: u32,
    mnt_ns_id: u64,
    fs_subtype: u32,
    sb_source: u32,
    opt_num: u32,
    opt_array: u32,
    opt_sec_num: u32,
    opt_sec_array: u32,
    supported_mask: u64,
    mnt_uidmap_num: u32,
    mnt_uidmap: u32,
    mnt_gidmap_num: u32,
    mnt_gidmap: u32,
    spare: [u64; 43],
}

const SB_BASIC: u64 = 0x1;
const MNT_BASIC: u64 = 0x2;
const PROPAGATE_FROM: u64 = 0x4;
const MNT_ROOT: u64 = 0x8;
const MNT_POINT: u64 = 0x10;
const FS_TYPE: u64 = 0x20;
const MNT_NS_ID: u64 = 0x40;
const MNT_OPTS: u64 = 0x80;
const SB_SOURCE: u64 = 0x200;
const OPT_ARRAY: u64 = 0x400;
const SUPPORTED_MASK: u64 = 0x1000;
/// What Linux 6.18 knows.
const SUPPORTED: u64 = 0x7fff;
/// `LSMT_ROOT`
const ROOT: u64 = u64::MAX;
/// `LISTMOUNT_REVERSE`
const REVERSE: u64 = 1;
/// Mounts that one call lists, at most.
const LIST_MAX: u64 = 1_000_000;

fn request(cx: &TaskCx, addr: u64) -> Result<Request, Errno> {
    let size: u32 = cx.memory().read_obj(addr)?;
    let size = u64::from(size);
    if size > abi::page::PAGE_SIZE {
        return Err(Errno::E2BIG);
    }
    if size < REQUEST_MIN {
        return Err(Errno::EINVAL);
    }
    let request: Request = crate::user::extensible(cx, addr, size, REQUEST_MIN)?;
    if request.spare != 0 {
        return Err(Errno::EINVAL);
    }
    // The first is that of nothing.
    if request.mount <= 1 << 31 {
        return Err(Errno::EINVAL);
    }
    Ok(request)
}

/// The caller's namespace: another can be named, and there is no way to see one from here.
fn namespace(cx: &TaskCx, request: &Request) -> Result<Arc<MountNamespace>, Errno> {
    let own = cx.mounts();
    match request.namespace {
        0 => Ok(own),
        id if id == own.id() => Ok(own),
        _ => Err(Errno::ENOENT),
    }
}

fn by_id(namespace: &MountNamespace, id: u64) -> Option<Arc<Mount>> {
    namespace.list().into_iter().find(|m| m.unique_id() == id)
}

/// Whether the caller may be told of what it cannot reach.
fn check_seen(cx: &TaskCx, seen: bool) -> Result<(), Errno> {
    match seen || cx.creds().has(Capability::SysAdmin) {
        true => Ok(()),
        false => Err(Errno::EPERM),
    }
}

/// The strings behind the structure.
#[derive(Default)]
struct Strings(Vec<u8>);

impl Strings {
    fn put(&mut self, text: &[u8]) -> u32 {
        if self.0.is_empty() {
            // What is not told is an empty string.
            self.0.push(0);
        }
        let at = self.0.len() as u32;
        self.0.extend_from_slice(text);
        self.0.push(0);
        at
    }
}

pub(crate) fn statmount(cx: &mut TaskCx, &[req, buf, size, flags, ..]: &Args) -> SysResult<u64> {
    if flags as u32 != 0 {
        return Err(Errno::EINVAL.into());
    }
    let request = request(cx, req)?;
    let namespace = namespace(cx, &request)?;
    let mount = by_id(&namespace, request.mount).ok_or(Errno::ENOENT)?;
    let root = cx.root();
    let point = mount.root_path().path_below(&root);
    check_seen(cx, point.is_some())?;
    let (mut status, strings) = describe(cx, &mount, point, request.param);
    let fixed = size_of::<Status>();
    // Strings are all there, or the call says that there is no room.
    if !strings.0.is_empty() && (size as usize) < fixed + strings.0.len() {
        return Err(Errno::EOVERFLOW.into());
    }
    status.size = (fixed + strings.0.len()) as u32;
    let head = status.as_bytes();
    let head = &head[..head.len().min(size as usize)];
    cx.memory().write(buf, head)?;
    if !strings.0.is_empty() {
        cx.memory().write(buf + fixed as u64, &strings.0)?;
    }
    Ok(0)
}

fn describe(
    cx: &TaskCx,
    mount: &Arc<Mount>,
    point: Option<Vec<u8>>,
    wanted: u64,
) -> (Status, Strings) {
    let mut s = Status::new_zeroed();
    let mut strings = Strings::default();
    let superblock = mount.superblock();
    let asked = |bit| wanted & bit != 0;
    if asked(SUPPORTED_MASK) {
        s.mask |= SUPPORTED_MASK;
        s.supported_mask = SUPPORTED;
    }
    if asked(SB_BASIC) {
        s.mask |= SB_BASIC;
        let device = mount.device(cx);
        s.sb_dev_major = libc::major(device);
        s.sb_dev_minor = libc::minor(device);
        let told = mount.root().inode().statfs(cx);
        s.sb_magic = told.map_or(0, |f| f.kind as u64);
        let shown = SuperFlags::RDONLY
            | SuperFlags::SYNCHRONOUS
            | SuperFlags::DIRSYNC
            | SuperFlags::LAZYTIME;
        s.sb_flags = (superblock.flags() & shown).bits();
    }
    if asked(MNT_BASIC) {
        s.mask |= MNT_BASIC;
        let parent = mount
            .mountpoint()
            .map_or_else(|| mount.clone(), |p| p.mount);
        s.mnt_id = mount.unique_id();
        s.mnt_parent_id = parent.unique_id();
        s.mnt_id_old = mount.id() as u32;
        s.mnt_parent_id_old = parent.id() as u32;
        s.mnt_attr = attribute_bits(mount.flags());
        let (group, master) = (mount.shared_id(), mount.master_id());
        s.mnt_propagation = [
            (group.is_some(), libc::MS_SHARED),
            (master.is_some(), libc::MS_SLAVE),
            (mount.is_unbindable(), libc::MS_UNBINDABLE),
        ]
        .iter()
        .filter(|(has, _)| *has)
        .fold(0, |all, (_, flag)| all | flag);
        if s.mnt_propagation == 0 {
            s.mnt_propagation = libc::MS_PRIVATE;
        }
        s.mnt_peer_group = group.unwrap_or(0).into();
        s.mnt_master = master.unwrap_or(0).into();
    }
    if asked(PROPAGATE_FROM) {
        s.mask |= PROPAGATE_FROM;
        s.propagate_from = mount.propagate_from(&cx.root()).unwrap_or(0).into();
    }
    if asked(MNT_NS_ID) {
        s.mask |= MNT_NS_ID;
        s.mnt_ns_id = mount.namespace().map_or(0, |n| n.id());
    }
    if asked(FS_TYPE) {
        s.mask |= FS_TYPE;
        s.fs_type = strings.put(superblock.fstype().as_bytes());
    }
    if asked(MNT_ROOT) {
        s.mask |= MNT_ROOT;
        s.mnt_root = strings.put(&mount.place());
    }
    if asked(MNT_POINT)
        && let Some(point) = &point
    {
        s.mask |= MNT_POINT;
        s.mnt_point = strings.put(point);
    }
    let options = mount.options();
    if asked(MNT_OPTS) && !options.is_empty() {
        s.mask |= MNT_OPTS;
        s.mnt_opts = strings.put(options.as_bytes());
    }
    if asked(OPT_ARRAY) && !options.is_empty() {
        s.mask |= OPT_ARRAY;
        let all: Vec<&str> = options.split(',').collect();
        s.opt_num = all.len() as u32;
        s.opt_array = strings.put(all.join("\0").as_bytes());
    }
    if asked(SB_SOURCE) && !mount.source().is_empty() {
        s.mask |= SB_SOURCE;
        s.sb_source = strings.put(mount.source());
    }
    (s, strings)
}

pub(crate) fn listmount(cx: &mut TaskCx, &[req, ids, count, flags, ..]: &Args) -> SysResult<u64> {
    let flags = u64::from(flags as u32);
    if flags & !REVERSE != 0 {
        return Err(Errno::EINVAL.into());
    }
    if count > LIST_MAX {
        return Err(Errno::EOVERFLOW.into());
    }
    crate::user::user_range(ids, count * 8)?;
    let request = request(cx, req)?;
    // The last one of a listing before.
    let after = request.param;
    if after != 0 && after <= 1 << 31 {
        return Err(Errno::EINVAL.into());
    }
    let namespace = namespace(cx, &request)?;
    let root = cx.root();
    let from: VfsPath = match request.mount {
        ROOT => root.clone(),
        id => by_id(&namespace, id).ok_or(Errno::ENOENT)?.root_path(),
    };
    let reached = from.path_below(&root).is_some();
    check_seen(cx, reached)?;
    let below = |m: &Arc<Mount>| {
        let same = std::ptr::eq(&**m, &*from.mount);
        !(same && request.mount != ROOT) && m.root_path().path_below(&from).is_some()
    };
    let mut all: Vec<u64> = namespace
        .list()
        .iter()
        .filter(|m| below(m))
        .map(|m| m.unique_id())
        .collect();
    if flags & REVERSE != 0 {
        all.reverse();
        all.retain(|id| after == 0 || *id < after);
    } else {
        all.retain(|id| *id > after);
    }
    all.truncate(count as usize);
    for (n, id) in all.iter().enumerate() {
        cx.memory().write_obj(ids + n as u64 * 8, id)?;
    }
    Ok(all.len() as u64)
}
