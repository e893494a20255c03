//! The three kinds of files there are here: directories made up on look-up, texts made up on
//! open, and symbolic links.

use crate::{Owner, Proc};
use abi::Errno;
use abi::stat::Statfs;
use ctx::{Ctx, Dst, Src, SysErr, SysResult};
use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use sync::{Mutex, ranks};
use task::Task;
use vfs::{
    Attr, Caching, DirSink, File, FileOps, FileType, Inode, Link, MountNamespace, OpenFlags,
    SetAttr, VfsPath, Written,
};
use wait::{Events, Queue};

/// `PROC_SUPER_MAGIC`
const MAGIC: i64 = 0x9fa0;

/// One name of a directory.
pub(crate) struct Entry {
    pub(crate) name: Vec<u8>,
    pub(crate) kind: FileType,
    /// Where it stands in the listing, if not behind the one before it.
    place: Option<u64>,
}

impl Entry {
    pub(crate) fn new(name: impl Into<Vec<u8>>, kind: FileType) -> Entry {
        Entry {
            name: name.into(),
            kind,
            place: None,
        }
    }

    /// An entry that is a number. Its place depends on that alone: a listing goes on rightly
    /// when others have gone meanwhile.
    pub(crate) fn numbered(n: i32, kind: FileType) -> Entry {
        /// Behind all that are not numbers.
        const FIRST: u64 = 256;
        Entry {
            place: Some(FIRST + u64::from(n.unsigned_abs())),
            ..Entry::new(n.to_string(), kind)
        }
    }
}

/// What a directory holds.
pub(crate) trait Directory: Send + Sync {
    /// Finds a name.
    fn find(&self, proc: &Arc<Proc>, cx: &dyn Ctx, name: &[u8]) -> Result<Arc<dyn Inode>, Errno>;
    /// Lists the names, without `.` and `..`; numbered ones last and in order.
    fn list(&self, proc: &Arc<Proc>, cx: &dyn Ctx) -> Result<Vec<Entry>, Errno>;
    /// Whether it may be searched at all.
    fn check(&self, _proc: &Proc, _cx: &dyn Ctx) -> Result<(), Errno> {
        Ok(())
    }
    /// Whether `cx` may do all that its permission bits would refuse.
    fn grants(&self, _cx: &dyn Ctx) -> bool {
        false
    }
    /// The process whose directory this is.
    fn process(&self) -> Option<&Arc<Task>> {
        None
    }
    /// Permission bits.
    fn perm(&self) -> u32 {
        0o555
    }
    /// Number of links, where it is known without work.
    fn links(&self) -> u64 {
        2
    }
}

/// What a regular file says, and what it does with what is written to it.
pub(crate) trait Text: Send + Sync {
    /// Whether it can be opened.
    fn check(&self, _proc: &Arc<Proc>, _cx: &dyn Ctx) -> Result<(), Errno> {
        Ok(())
    }
    /// Its contents now.
    fn read(&self, proc: &Arc<Proc>, cx: &dyn Ctx) -> Result<Vec<u8>, Errno>;
    /// Takes a whole write.
    fn write(&self, _proc: &Arc<Proc>, _cx: &dyn Ctx, _data: &[u8]) -> Result<(), Errno> {
        Err(Errno::EACCES)
    }
    /// Whether lseek(2) finds an end (which is at 0) rather than failing.
    fn has_end(&self) -> bool {
        false
    }
    /// Permission bits.
    fn perm(&self) -> u32 {
        0o444
    }
    /// Whose it is, where that is not as its directory says.
    fn owner(&self, _proc: &Arc<Proc>, _cx: &dyn Ctx) -> Option<(u32, u32)> {
        None
    }
    /// Whether the permission bits hold for all, whatever they are capable of; then, what `cx` may
    /// do by them.
    fn fixed_permission(&self, _proc: &Arc<Proc>, _cx: &dyn Ctx) -> Option<u32> {
        None
    }
    /// The mounts whose changes who polls it is told of.
    fn watched(&self) -> Option<Arc<MountNamespace>> {
        None
    }
    /// Whether something can be mounted on it.
    fn takes_mounts(&self) -> bool {
        true
    }
}

/// Where a symbolic link leads.
pub(crate) trait Target: Send + Sync {
    /// What readlink(2) prints.
    fn text(&self, proc: &Arc<Proc>, cx: &dyn Ctx) -> Result<Vec<u8>, Errno>;
    /// Where a walk goes; the text, unless it is a magic link.
    fn follow(&self, proc: &Arc<Proc>, cx: &dyn Ctx) -> Result<Link, Errno> {
        Ok(Link::Path(self.text(proc, cx)?))
    }
    /// Permission bits.
    fn perm(&self) -> u32 {
        0o777
    }
    /// Length of the text, where it is always the same.
    fn size(&self) -> u64 {
        0
    }
    /// Whether something can be mounted on it.
    fn takes_mounts(&self) -> bool {
        true
    }
}

/// A regular file that is no text.
pub(crate) trait Special: Send + Sync {
    /// What an open file of it does.
    fn open(
        &self,
        proc: &Arc<Proc>,
        cx: &dyn Ctx,
        flags: OpenFlags,
    ) -> Result<Arc<dyn FileOps>, Errno>;
    /// Permission bits.
    fn perm(&self) -> u32;
}

#[derive(Clone)]
enum Kind {
    Directory(Arc<dyn Directory>),
    Text(Arc<dyn Text>),
    Special(Arc<dyn Special>),
    Link(Arc<dyn Target>),
}

struct Node {
    proc: Arc<Proc>,
    ino: u64,
    owner: Owner,
    kind: Kind,
}

/// A directory.
pub(crate) fn directory(
    proc: &Arc<Proc>,
    ino: u64,
    owner: Owner,
    d: Arc<dyn Directory>,
) -> Arc<dyn Inode> {
    Arc::new(Node {
        proc: proc.clone(),
        ino,
        owner,
        kind: Kind::Directory(d),
    })
}

/// A regular file.
pub(crate) fn text(proc: &Arc<Proc>, ino: u64, owner: Owner, t: Arc<dyn Text>) -> Arc<dyn Inode> {
    Arc::new(Node {
        proc: proc.clone(),
        ino,
        owner,
        kind: Kind::Text(t),
    })
}

/// A regular file that is no text.
pub(crate) fn special(
    proc: &Arc<Proc>,
    ino: u64,
    owner: Owner,
    s: Arc<dyn Special>,
) -> Arc<dyn Inode> {
    Arc::new(Node {
        proc: proc.clone(),
        ino,
        owner,
        kind: Kind::Special(s),
    })
}

/// A symbolic link.
pub(crate) fn link(proc: &Arc<Proc>, ino: u64, owner: Owner, t: Arc<dyn Target>) -> Arc<dyn Inode> {
    Arc::new(Node {
        proc: proc.clone(),
        ino,
        owner,
        kind: Kind::Link(t),
    })
}

/// An inode number for `name` of process `id`: stable, and different for different names.
pub(crate) fn number(id: i32, name: &[u8]) -> u64 {
    // FNV-1a over the name, beside the process.
    let hash = name.iter().fold(0x811c_9dc5u32, |h, b| {
        (h ^ u32::from(*b)).wrapping_mul(0x0100_0193)
    });
    (u64::from(id.unsigned_abs()) << 32 | u64::from(hash)).max(2)
}

impl Node {
    fn is_for_all(&self) -> bool {
        matches!(&self.kind, Kind::Directory(d) if d.perm() == 0o555)
    }
}

impl Inode for Node {
    fn attr(&self, cx: &dyn Ctx) -> Result<Attr, Errno> {
        let own = match &self.kind {
            Kind::Text(t) => t.owner(&self.proc, cx),
            _ => None,
        };
        let (uid, gid) = own.unwrap_or_else(|| match &self.owner {
            Owner::Root => (0, 0),
            // What a process that is not dumpable says of itself is some root's, but for
            // directories that all may see.
            Owner::Task(t) => match t.mm().map(|mm| mm.exec_info()) {
                Some(info) if info.dumpable != 1 && !self.is_for_all() => (
                    info.user_ns.uid(0).unwrap_or(0),
                    info.user_ns.gid(0).unwrap_or(0),
                ),
                _ => {
                    let c = t.creds();
                    (c.euid, c.egid)
                }
            },
        });
        let (perm, nlink) = match &self.kind {
            Kind::Directory(d) => (d.perm(), d.links()),
            Kind::Text(t) => (t.perm(), 1),
            Kind::Special(s) => (s.perm(), 1),
            Kind::Link(l) => (l.perm(), 1),
        };
        let size = match &self.kind {
            Kind::Link(l) => l.size(),
            _ => 0,
        };
        let now = cx.clocks().wall();
        Ok(Attr {
            dev: self.proc.dev,
            ino: self.ino,
            kind: self.kind(),
            perm,
            nlink,
            uid,
            gid,
            rdev: 0,
            size,
            blksize: 1024,
            blocks: 0,
            atime: now,
            mtime: now,
            ctime: now,
            btime: None,
        })
    }

    fn kind(&self) -> FileType {
        match self.kind {
            Kind::Directory(_) => FileType::Directory,
            Kind::Text(_) | Kind::Special(_) => FileType::Regular,
            Kind::Link(_) => FileType::Symlink,
        }
    }

    fn set_attr(&self, _cx: &dyn Ctx, set: &SetAttr) -> Result<(), Errno> {
        // O_TRUNC of a writable file is allowed and does nothing, as in Linux.
        if set.perm.is_some() || set.uid.is_some() || set.gid.is_some() {
            Err(Errno::EPERM)
        } else {
            Ok(())
        }
    }

    fn permission(&self, cx: &dyn Ctx, mask: u32) -> Result<(), Errno> {
        match &self.kind {
            Kind::Directory(d) => d.check(&self.proc, cx),
            Kind::Text(t) => match t.fixed_permission(&self.proc, cx) {
                Some(granted) if mask & !granted & 7 != 0 => Err(Errno::EACCES),
                _ => Ok(()),
            },
            Kind::Special(_) | Kind::Link(_) => Ok(()),
        }
    }

    fn grants(&self, cx: &dyn Ctx) -> bool {
        matches!(&self.kind, Kind::Directory(d) if d.grants(cx))
    }

    fn lookup(&self, cx: &dyn Ctx, name: &[u8]) -> Result<Arc<dyn Inode>, Errno> {
        match &self.kind {
            Kind::Directory(d) => d.find(&self.proc, cx, name),
            _ => Err(Errno::ENOTDIR),
        }
    }

    fn readlink(&self, cx: &dyn Ctx) -> Result<Link, Errno> {
        match &self.kind {
            Kind::Link(l) => l.follow(&self.proc, cx),
            _ => Err(Errno::EINVAL),
        }
    }

    fn readlink_text(&self, cx: &dyn Ctx) -> Result<Vec<u8>, Errno> {
        match &self.kind {
            Kind::Link(l) => l.text(&self.proc, cx),
            _ => Err(Errno::EINVAL),
        }
    }

    fn open(
        self: Arc<Self>,
        cx: &dyn Ctx,
        _at: &VfsPath,
        flags: OpenFlags,
    ) -> Result<Arc<dyn FileOps>, SysErr> {
        match &self.kind {
            Kind::Directory(_) => Ok(Arc::new(Open {
                node: self.clone(),
                text: Mutex::default(),
                watch: None,
            })),
            Kind::Text(t) => {
                t.check(&self.proc, cx)?;
                let watch = t.watched().map(|mounts| Watch {
                    seen: AtomicU64::new(mounts.changes()),
                    mounts,
                });
                Ok(Arc::new(Open {
                    node: self.clone(),
                    text: Mutex::default(),
                    watch,
                }))
            }
            Kind::Special(s) => Ok(s.open(&self.proc, cx, flags)?),
            Kind::Link(_) => Err(Errno::ELOOP.into()),
        }
    }

    fn statfs(&self, _cx: &dyn Ctx) -> Result<Statfs, Errno> {
        Ok(Statfs::simple(MAGIC))
    }

    fn takes_mounts(&self) -> bool {
        match &self.kind {
            Kind::Directory(_) | Kind::Special(_) => true,
            Kind::Text(t) => t.takes_mounts(),
            Kind::Link(l) => l.takes_mounts(),
        }
    }

    fn refuses_new_names(&self) -> bool {
        true
    }

    fn caching(&self) -> Caching {
        Caching::Never
    }

    // To pidfd_send_signal(2), which knows nothing of us, a process's directory is its task.
    fn as_any(&self) -> &dyn Any {
        match &self.kind {
            Kind::Directory(d) => d.process().map_or(self, |task| task),
            _ => self,
        }
    }
}

struct Open {
    node: Arc<Node>,
    /// What it said when it was read from the start last: what follows goes on with that.
    text: Mutex<Option<Arc<Vec<u8>>>, ranks::Leaf>,
    watch: Option<Watch>,
}

/// The mounts that it shows, and the change of them that was told of last.
struct Watch {
    mounts: Arc<MountNamespace>,
    seen: AtomicU64,
}

impl FileOps for Open {
    fn read(&self, cx: &dyn Ctx, _file: &File, offset: u64, dst: &mut Dst<'_>) -> SysResult {
        let Kind::Text(t) = &self.node.kind else {
            return Err(Errno::EISDIR.into());
        };
        // Reading from the start again shows the present state (top, free keep files open).
        let known = self.text.lock().clone().filter(|_| offset > 0);
        let text = match known {
            Some(text) => text,
            None => {
                let text = Arc::new(t.read(&self.node.proc, cx)?);
                let old = self.text.lock().replace(text.clone());
                drop(old);
                text
            }
        };
        Ok(dst.put_from(&text, offset)?)
    }

    fn write(
        &self,
        cx: &dyn Ctx,
        _file: &File,
        offset: u64,
        _append: bool,
        src: &mut Src<'_>,
    ) -> SysResult<Written> {
        let Kind::Text(t) = &self.node.kind else {
            return Err(Errno::EINVAL.into());
        };
        let mut data = vec![0; src.remaining().min(4096)];
        let count = src.take(&mut data)?;
        t.write(&self.node.proc, cx, &data[..count])?;
        Ok(Written {
            count,
            end: offset.saturating_add(count as u64),
        })
    }

    fn size(&self, _cx: &dyn Ctx) -> Result<u64, Errno> {
        Ok(0)
    }

    // Who has looked has been told, as in Linux.
    fn ready(&self, _file: &File) -> Events {
        let Some(watch) = &self.watch else {
            return Events::READABLE | Events::WRITABLE;
        };
        let now = watch.mounts.changes();
        match watch.seen.swap(now, Ordering::AcqRel) == now {
            true => Events::READABLE,
            false => Events::READABLE | Events::ERR | Events::PRI,
        }
    }

    fn queue(&self) -> Option<&Queue> {
        self.watch.as_ref().map(|watch| watch.mounts.watchers())
    }

    fn seeks_from_end(&self) -> bool {
        match &self.node.kind {
            Kind::Text(t) => t.has_end(),
            _ => true,
        }
    }

    fn readdir(
        &self,
        cx: &dyn Ctx,
        _file: &File,
        from: u64,
        sink: &mut dyn DirSink,
    ) -> Result<u64, Errno> {
        let Kind::Directory(d) = &self.node.kind else {
            return Err(Errno::ENOTDIR);
        };
        let mut entries = vec![
            Entry::new(".", FileType::Directory),
            Entry::new("..", FileType::Directory),
        ];
        entries.extend(d.list(&self.node.proc, cx)?);
        let mut next = from;
        for (i, e) in entries.iter().enumerate() {
            let place = e.place.unwrap_or(i as u64);
            if place < from {
                continue;
            }
            let ino = if e.name.starts_with(b".") {
                self.node.ino
            } else {
                number(0, &e.name)
            };
            if !sink.entry(&e.name, ino, e.kind, place + 1) {
                break;
            }
            next = place + 1;
        }
        Ok(next)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
