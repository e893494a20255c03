//! The file system of queues: one directory, and queues in it.

use super::queue::{Messages, Notification};
use super::{Charge, MqAttr, Mqueues};
use abi::Errno;
use abi::stat::Statfs;
use ctx::{Ctx, Dst, SysErr, SysResult};
use std::any::Any;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Instant;
use sync::{Mutex, ranks};
use time::Clocks;
use vfs::anon::plain_attr;
use vfs::{
    Attr, Caching, DirSink, File, FileOps, FileType, Inode, NewFile, NewKind, OpenFlags, SetAttr,
    VfsPath,
};
use wait::{Events, Queue};

/// `MQUEUE_MAGIC`
const MAGIC: i64 = 0x1980_0202;
/// `FILENT_SIZE`
const FILE_SIZE: u64 = 80;

/// The directory.
pub(super) struct Root {
    queues: Weak<Mqueues>,
    dev: u64,
    next_ino: AtomicU64,
    meta: Mutex<Attr, ranks::Leaf>,
    names: Mutex<BTreeMap<Box<[u8]>, Arc<QueueFile>>, ranks::Inode>,
}

impl Root {
    pub(super) fn new(queues: Weak<Mqueues>, clocks: &Clocks) -> Arc<Root> {
        let dev = vfs::anon::next_dev();
        Arc::new(Root {
            queues,
            dev,
            next_ino: AtomicU64::new(2),
            meta: Mutex::new(Attr {
                dev,
                nlink: 2,
                ..plain_attr(FileType::Directory, 0o1777, 1, clocks.wall())
            }),
            names: Mutex::new(BTreeMap::new()),
        })
    }

    /// Makes a queue.
    pub(super) fn make(
        &self,
        cx: &dyn Ctx,
        name: &[u8],
        perm: u32,
        attr: Option<&MqAttr>,
    ) -> Result<Arc<QueueFile>, Errno> {
        let queues = self.queues.upgrade().ok_or(Errno::ENOENT)?;
        let (maxmsg, msgsize, charge) = queues.admit(cx, attr)?;
        let creds = cx.creds();
        let now = queues.clocks.wall();
        let ino = self.next_ino.fetch_add(1, Ordering::Relaxed);
        let file = Arc::new(QueueFile {
            messages: Messages::new(maxmsg, msgsize),
            ino,
            meta: Mutex::new(Attr {
                dev: self.dev,
                uid: creds.fsuid,
                gid: creds.fsgid,
                size: FILE_SIZE,
                ..plain_attr(FileType::Regular, perm, ino, now)
            }),
            _charge: charge,
        });
        let mut names = self.names.lock();
        if names.contains_key(name) {
            return Err(Errno::EEXIST);
        }
        names.insert(name.into(), file.clone());
        let mut meta = self.meta.lock();
        (meta.mtime, meta.ctime) = (now, now);
        Ok(file)
    }
}

impl Inode for Root {
    fn attr(&self, _cx: &dyn Ctx) -> Result<Attr, Errno> {
        let size = self.names.lock().len() as u64 * 20;
        let meta = self.meta.lock().clone();
        Ok(Attr { size, ..meta })
    }

    fn kind(&self) -> FileType {
        FileType::Directory
    }

    fn set_attr(&self, _cx: &dyn Ctx, set: &SetAttr) -> Result<(), Errno> {
        self.meta.lock().change(set);
        Ok(())
    }

    fn lookup(&self, _cx: &dyn Ctx, name: &[u8]) -> Result<Arc<dyn Inode>, Errno> {
        let names = self.names.lock();
        let file = names.get(name).ok_or(Errno::ENOENT)?;
        Ok(file.clone())
    }

    fn create(
        &self,
        cx: &dyn Ctx,
        name: &[u8],
        kind: NewKind,
        new: &NewFile,
    ) -> Result<Arc<dyn Inode>, Errno> {
        match kind {
            NewKind::Regular => Ok(self.make(cx, name, new.perm, None)?),
            _ => Err(Errno::EPERM),
        }
    }

    fn unlink(&self, cx: &dyn Ctx, name: &[u8]) -> Result<(), Errno> {
        let gone = self.names.lock().remove(name).ok_or(Errno::ENOENT)?;
        let now = cx.clocks().wall();
        let mut meta = gone.meta.lock();
        meta.nlink = 0;
        meta.ctime = now;
        drop(meta);
        let mut meta = self.meta.lock();
        (meta.mtime, meta.ctime) = (now, now);
        Ok(())
    }

    fn open(
        self: Arc<Self>,
        _cx: &dyn Ctx,
        _at: &VfsPath,
        _flags: OpenFlags,
    ) -> Result<Arc<dyn FileOps>, SysErr> {
        Ok(self)
    }

    fn statfs(&self, _cx: &dyn Ctx) -> Result<Statfs, Errno> {
        Ok(Statfs::simple(MAGIC))
    }

    // Queues come and go by calls that no directory sees.
    fn caching(&self) -> Caching {
        Caching::Never
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl FileOps for Root {
    fn read(&self, _cx: &dyn Ctx, _file: &File, _at: u64, _dst: &mut Dst<'_>) -> SysResult {
        Err(Errno::EISDIR.into())
    }

    fn readdir(
        &self,
        _cx: &dyn Ctx,
        _file: &File,
        from: u64,
        sink: &mut dyn DirSink,
    ) -> Result<u64, Errno> {
        let names = self.names.lock();
        let dots = [(&b"."[..], 1), (&b".."[..], 1)];
        let dots = dots.map(|(name, ino)| (name, ino, FileType::Directory));
        let files = names
            .iter()
            .map(|(name, file)| (&name[..], file.ino, FileType::Regular));
        let all = dots.into_iter().chain(files);
        Ok(vfs::list_entries(all, from, sink))
    }

    fn size(&self, _cx: &dyn Ctx) -> Result<u64, Errno> {
        Ok(0)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// A queue, as a file: what the `mq_*` calls find behind a descriptor.
pub struct QueueFile {
    messages: Messages,
    ino: u64,
    meta: Mutex<Attr, ranks::Leaf>,
    _charge: Charge,
}

impl QueueFile {
    /// Bytes of a message, at most.
    pub fn message_size(&self) -> u64 {
        self.messages.msgsize as u64
    }

    /// mq_getattr(3), as seen through `file`.
    pub fn attributes(&self, file: &File) -> MqAttr {
        MqAttr {
            flags: i64::from((file.flags() & OpenFlags::NONBLOCK).bits()),
            maxmsg: self.messages.maxmsg,
            msgsize: self.messages.msgsize,
            curmsgs: self.messages.count(),
            reserved: [0; 4],
        }
    }

    /// mq_timedsend(2): the text has been found to be small enough.
    ///
    /// # Errors
    /// `EAGAIN`, `ETIMEDOUT`, a restart.
    pub fn send(
        &self,
        cx: &dyn Ctx,
        file: &File,
        priority: u32,
        text: Box<[u8]>,
        deadline: Option<Instant>,
    ) -> Result<(), SysErr> {
        self.messages
            .send(cx, priority, text, file.nonblocking(), deadline)?;
        let now = cx.clocks().wall();
        let mut meta = self.meta.lock();
        (meta.atime, meta.mtime, meta.ctime) = (now, now, now);
        Ok(())
    }

    /// mq_timedreceive(2): priority and text.
    ///
    /// # Errors
    /// `EAGAIN`, `ETIMEDOUT`, a restart.
    pub fn receive(
        &self,
        cx: &dyn Ctx,
        file: &File,
        deadline: Option<Instant>,
    ) -> Result<(u32, Box<[u8]>), SysErr> {
        let message = self.messages.receive(cx, file.nonblocking(), deadline)?;
        let now = cx.clocks().wall();
        let mut meta = self.meta.lock();
        (meta.atime, meta.mtime, meta.ctime) = (now, now, now);
        Ok(message)
    }

    /// mq_notify(2) of the caller's process.
    ///
    /// # Errors
    /// `EBUSY` where another process is to be notified.
    pub fn notify(&self, cx: &dyn Ctx, wanted: Option<Notification>) -> Result<(), Errno> {
        self.messages.notify(cx, wanted)
    }
}

impl Inode for QueueFile {
    fn attr(&self, _cx: &dyn Ctx) -> Result<Attr, Errno> {
        Ok(self.meta.lock().clone())
    }

    fn kind(&self) -> FileType {
        FileType::Regular
    }

    fn set_attr(&self, _cx: &dyn Ctx, set: &SetAttr) -> Result<(), Errno> {
        self.meta.lock().change(set);
        Ok(())
    }

    fn open(
        self: Arc<Self>,
        _cx: &dyn Ctx,
        _at: &VfsPath,
        _flags: OpenFlags,
    ) -> Result<Arc<dyn FileOps>, SysErr> {
        Ok(self)
    }

    fn statfs(&self, _cx: &dyn Ctx) -> Result<Statfs, Errno> {
        Ok(Statfs::simple(MAGIC))
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl FileOps for QueueFile {
    fn read(&self, cx: &dyn Ctx, _file: &File, offset: u64, dst: &mut Dst<'_>) -> SysResult {
        let text = self.messages.text(cx.pid_space()).into_bytes();
        Ok(dst.put_from(&text, offset)?)
    }

    fn size(&self, _cx: &dyn Ctx) -> Result<u64, Errno> {
        Ok(FILE_SIZE)
    }

    fn ready(&self, _file: &File) -> Events {
        self.messages.ready()
    }

    fn queue(&self) -> Option<&Queue> {
        Some(&self.messages.queue)
    }

    // A process that closes a descriptor of the queue is no longer to be notified.
    fn flush(&self, cx: &dyn Ctx) -> Result<(), Errno> {
        self.messages.notify(cx, None)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
