//! The devpts file system: one instance a mount (`newinstance`, as containers have it).

use crate::master::{MasterEnd, MasterFile};
use crate::{SlaveFile, Tty};
use abi::Errno;
use abi::stat::Statfs;
use abi::time::Timespec;
use ctx::{Ctx, SysErr};
use std::any::Any;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::{Arc, Weak};
use sync::{Mutex, ranks};
use vfs::{
    Attr, Caching, DirSink, File, FileOps, FileSystem, FileType, FsCtx, Inode, OpenFlags, SetAttr,
    VfsPath,
};

/// `DEVPTS_SUPER_MAGIC`
const MAGIC: i64 = 0x1cd1;
/// The number of terminals an instance may hold (`/proc/sys/kernel/pty/max`).
const MAX: u32 = 4096;
/// What `max=` can be at most (`NR_UNIX98_PTY_MAX`).
const LIMIT: u32 = 1 << 20;
const ROOT_INO: u64 = 1;
const PTMX_INO: u64 = 2;

/// An instance of devpts.
pub struct DevPts {
    me: Weak<DevPts>,
    device: u64,
    made: Timespec,
    /// Owner and group of new terminals (`uid=`, `gid=`), where they were given.
    uid: Option<u32>,
    gid: Option<u32>,
    /// Mode of new terminals (`mode=`).
    mode: u32,
    ptmx_mode: u32,
    /// How many there may be.
    max: u32,
    slaves: Mutex<BTreeMap<u32, Arc<SlaveInode>>, ranks::Leaf>,
}

impl std::fmt::Debug for DevPts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "DevPts(dev {})", self.device)
    }
}

impl DevPts {
    /// An empty instance, with the options of its mount (`gid=5,mode=620,ptmxmode=666`).
    ///
    /// # Errors
    /// `EINVAL` for an option that is none.
    pub fn new(cx: &dyn Ctx, options: &str) -> Result<Arc<DevPts>, Errno> {
        let (mut uid, mut gid, mut mode, mut ptmx_mode, mut max) = (None, None, 0o600, 0o000, MAX);
        for option in options.split(',').filter(|o| !o.is_empty()) {
            let octal = |v: &str| u32::from_str_radix(v, 8).map_err(|_| Errno::EINVAL);
            match option.split_once('=') {
                Some(("uid", v)) => {
                    let id = v.parse().map_err(|_| Errno::EINVAL)?;
                    uid = Some(cx.creds().user_ns.uid(id).ok_or(Errno::EINVAL)?);
                }
                Some(("gid", v)) => {
                    let id = v.parse().map_err(|_| Errno::EINVAL)?;
                    gid = Some(cx.creds().user_ns.gid(id).ok_or(Errno::EINVAL)?);
                }
                Some(("max", v)) => {
                    max = v.parse().map_err(|_| Errno::EINVAL)?;
                    if max > LIMIT {
                        return Err(Errno::EINVAL);
                    }
                }
                Some(("mode", v)) => mode = octal(v)? & 0o777,
                Some(("ptmxmode", v)) => ptmx_mode = octal(v)? & 0o777,
                None if option == "newinstance" => {}
                _ => return Err(Errno::EINVAL),
            }
        }
        let device = vfs::anon::next_dev();
        let made = cx.clocks().wall();
        Ok(Arc::new_cyclic(|me| DevPts {
            me: me.clone(),
            device,
            made,
            uid,
            gid,
            mode,
            ptmx_mode,
            max,
            slaves: Mutex::default(),
        }))
    }

    /// The root directory.
    pub fn root(&self) -> Arc<dyn Inode> {
        Arc::new(Root { fs: self.handle() })
    }

    /// The instance whose root stands at `place`.
    pub fn at(place: &VfsPath) -> Option<Arc<DevPts>> {
        let root = place.inode().as_any().downcast_ref::<Root>()?;
        Some(root.fs.clone())
    }

    fn handle(&self) -> Arc<DevPts> {
        self.me
            .upgrade()
            .unwrap_or_else(|| unreachable!("a live instance has a handle"))
    }

    /// Opens a new pair; what open("/dev/ptmx") gives.
    pub fn open_master(&self, cx: &dyn Ctx) -> Result<Arc<dyn FileOps>, SysErr> {
        let mut slaves = self.slaves.lock();
        let index = self.free_index(&slaves)?;
        let end = MasterEnd::default();
        let queue = end.queue.clone();
        let tty = Tty::new(index, true, |_| Box::new(end));
        slaves.insert(index, Arc::new(self.slave(cx, tty.clone())));
        drop(slaves);
        Ok(Arc::new(MasterFile::new(tty, queue, self.handle())))
    }

    /// Gives a terminal that exists already (the container's) a name here.
    pub fn adopt(&self, cx: &dyn Ctx, tty: &Arc<Tty>) {
        self.slaves
            .lock()
            .insert(tty.index, Arc::new(self.slave(cx, tty.clone())));
    }

    /// As [`DevPts::adopt`], of one that `make` makes for the number it is given. It is asked
    /// again where another terminal took that number meanwhile.
    ///
    /// # Errors
    /// `ENOSPC` where there are too many, and those of `make`.
    pub fn adopt_new<E: From<Errno>>(
        &self,
        cx: &dyn Ctx,
        make: impl Fn(u32) -> Result<Arc<Tty>, E>,
    ) -> Result<Arc<Tty>, E> {
        loop {
            let index = self.free_index(&self.slaves.lock())?;
            let tty = make(index)?;
            let inode = Arc::new(self.slave(cx, tty.clone()));
            if let Entry::Vacant(place) = self.slaves.lock().entry(index) {
                place.insert(inode);
                return Ok(tty);
            }
        }
    }

    fn free_index(&self, taken: &BTreeMap<u32, Arc<SlaveInode>>) -> Result<u32, Errno> {
        let mut all = 0..self.max.min(MAX);
        all.find(|n| !taken.contains_key(n)).ok_or(Errno::ENOSPC)
    }

    /// The inode of terminal `index`.
    pub fn inode(&self, index: u32) -> Option<Arc<dyn Inode>> {
        Some(self.slaves.lock().get(&index)?.clone())
    }

    /// Where terminal `index` stands among the caller's mounts.
    ///
    /// # Errors
    /// `ENODEV` where the instance is not mounted, `ENOENT` where the terminal is gone.
    pub(crate) fn place(&self, cx: &dyn FsCtx, index: u32) -> Result<VfsPath, Errno> {
        let is_mine = |m: &Arc<vfs::Mount>| {
            let root = m.root().inode().as_any().downcast_ref::<Root>();
            root.is_some_and(|r| std::ptr::eq(&*r.fs, self))
        };
        let mounts = cx.mounts().list();
        let mount = mounts.into_iter().find(is_mine).ok_or(Errno::ENODEV)?;
        let name = index.to_string();
        let dentry = mount.root().lookup(cx, name.as_bytes())?;
        Ok(VfsPath {
            dentry: dentry.ok_or(Errno::ENOENT)?,
            mount,
        })
    }

    /// Takes the name of terminal `index` away.
    pub fn remove(&self, index: u32) {
        self.slaves.lock().remove(&index);
    }

    fn slave(&self, cx: &dyn Ctx, tty: Arc<Tty>) -> SlaveInode {
        let creds = cx.creds();
        let now = cx.clocks().wall();
        let attr = Attr {
            dev: self.device,
            ino: u64::from(tty.index) + 3,
            kind: FileType::CharDevice,
            perm: self.mode,
            nlink: 1,
            uid: self.uid.unwrap_or(creds.fsuid),
            gid: self.gid.unwrap_or(creds.fsgid),
            rdev: tty.device_number(),
            size: 0,
            blksize: 1024,
            blocks: 0,
            atime: now,
            mtime: now,
            ctime: now,
            btime: None,
        };
        SlaveInode {
            tty,
            attr: Mutex::new(attr),
        }
    }

    fn node(&self, ino: u64, kind: FileType, perm: u32, nlink: u64, rdev: u64) -> Attr {
        Attr {
            dev: self.device,
            ino,
            kind,
            perm,
            nlink,
            uid: 0,
            gid: 0,
            rdev,
            size: 0,
            blksize: 1024,
            blocks: 0,
            atime: self.made,
            mtime: self.made,
            ctime: self.made,
            btime: None,
        }
    }
}

impl FileSystem for DevPts {
    fn options(&self) -> String {
        let mut all = Vec::new();
        for (name, id) in [("uid", self.uid), ("gid", self.gid)] {
            if let Some(id) = id {
                all.push(format!("{name}={id}"));
            }
        }
        all.push(format!(
            "mode={:03o},ptmxmode={:03o}",
            self.mode, self.ptmx_mode
        ));
        if self.max != MAX {
            all.push(format!("max={}", self.max));
        }
        all.join(",")
    }
}

/// The directory.
struct Root {
    fs: Arc<DevPts>,
}

impl Inode for Root {
    fn attr(&self, _cx: &dyn Ctx) -> Result<Attr, Errno> {
        Ok(self.fs.node(ROOT_INO, FileType::Directory, 0o755, 2, 0))
    }
    fn kind(&self) -> FileType {
        FileType::Directory
    }
    fn lookup(&self, _cx: &dyn Ctx, name: &[u8]) -> Result<Arc<dyn Inode>, Errno> {
        if name == b"ptmx" {
            return Ok(Arc::new(Ptmx {
                fs: self.fs.clone(),
            }));
        }
        let text = std::str::from_utf8(name).map_err(|_| Errno::ENOENT)?;
        let index: u32 = text.parse().map_err(|_| Errno::ENOENT)?;
        if index.to_string() != text {
            return Err(Errno::ENOENT);
        }
        self.fs.inode(index).ok_or(Errno::ENOENT)
    }
    fn open(
        self: Arc<Self>,
        _cx: &dyn Ctx,
        _at: &VfsPath,
        _flags: OpenFlags,
    ) -> Result<Arc<dyn FileOps>, SysErr> {
        Ok(Arc::new(Listing {
            fs: self.fs.clone(),
        }))
    }
    fn statfs(&self, _cx: &dyn Ctx) -> Result<Statfs, Errno> {
        Ok(Statfs::simple(MAGIC))
    }
    fn caching(&self) -> Caching {
        Caching::Never
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
}

struct Listing {
    fs: Arc<DevPts>,
}

impl FileOps for Listing {
    fn readdir(
        &self,
        _cx: &dyn Ctx,
        _file: &File,
        from: u64,
        sink: &mut dyn DirSink,
    ) -> Result<u64, Errno> {
        let mut entries = vec![
            (b".".to_vec(), ROOT_INO, FileType::Directory),
            (b"..".to_vec(), ROOT_INO, FileType::Directory),
            (b"ptmx".to_vec(), PTMX_INO, FileType::CharDevice),
        ];
        for n in self.fs.slaves.lock().keys() {
            entries.push((
                n.to_string().into_bytes(),
                u64::from(*n) + 3,
                FileType::CharDevice,
            ));
        }
        Ok(vfs::list_entries(entries, from, sink))
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// `ptmx`
struct Ptmx {
    fs: Arc<DevPts>,
}

impl Inode for Ptmx {
    fn attr(&self, _cx: &dyn Ctx) -> Result<Attr, Errno> {
        Ok(self.fs.node(
            PTMX_INO,
            FileType::CharDevice,
            self.fs.ptmx_mode,
            1,
            abi::stat::makedev(5, 2),
        ))
    }
    fn kind(&self) -> FileType {
        FileType::CharDevice
    }
    fn open(
        self: Arc<Self>,
        cx: &dyn Ctx,
        _at: &VfsPath,
        _flags: OpenFlags,
    ) -> Result<Arc<dyn FileOps>, SysErr> {
        self.fs.open_master(cx)
    }
    fn statfs(&self, _cx: &dyn Ctx) -> Result<Statfs, Errno> {
        Ok(Statfs::simple(MAGIC))
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// A terminal's name.
struct SlaveInode {
    tty: Arc<Tty>,
    attr: Mutex<Attr, ranks::Inode>,
}

impl Inode for SlaveInode {
    fn attr(&self, _cx: &dyn Ctx) -> Result<Attr, Errno> {
        Ok(self.attr.lock().clone())
    }
    fn kind(&self) -> FileType {
        FileType::CharDevice
    }
    fn set_attr(&self, cx: &dyn Ctx, set: &SetAttr) -> Result<(), Errno> {
        let mut a = self.attr.lock();
        a.ctime = cx.clocks().wall();
        a.change(set);
        Ok(())
    }
    fn open(
        self: Arc<Self>,
        cx: &dyn Ctx,
        _at: &VfsPath,
        flags: OpenFlags,
    ) -> Result<Arc<dyn FileOps>, SysErr> {
        Ok(SlaveFile::open(cx, &self.tty, flags)?)
    }
    fn statfs(&self, _cx: &dyn Ctx) -> Result<Statfs, Errno> {
        Ok(Statfs::simple(MAGIC))
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
}
