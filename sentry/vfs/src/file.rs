//! Open file descriptions: what descriptors share.

use crate::epoll::Watcher;
use crate::sigio::{OwnerKind, Recipient};
use crate::{Attr, FileOps, FileType, FsCtx, OpenFlags, VfsPath, anon, leases, locks, notify};
use abi::Errno;
use auth::Creds;
use ctx::Ctx;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use sync::census::{Counted, Kind};
use sync::{Mutex, ranks};
use wait::{Events, Queue};

/// An open file description (open(2)).
///
/// When the last reference goes, its locks go, epolls forget it, and its [`FileOps`] are dropped:
/// that is how they learn of the release.
pub struct File {
    id: u64,
    ops: Arc<dyn FileOps>,
    path: Option<VfsPath>,
    kind: Option<FileType>,
    seekable: bool,
    /// Whether reading and writing move a position.
    moves: bool,
    /// Whether the position is not the description's alone ([`FileOps::own_position`]).
    shares_position: bool,
    counted: Opening,
    flags: AtomicU32,
    pub(crate) position: Mutex<u64, ranks::FilePosition>,
    creds: Arc<Creds>,
    /// Made when somebody first asks for signals.
    recipient: OnceLock<Arc<Recipient>>,
    watchers: Mutex<Vec<Watcher>, ranks::Leaf>,
    pub(crate) locked: AtomicU32,
    _counted: Counted,
}

/// As what a description is counted at its dentry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Opening {
    Uncounted,
    Reader,
    Writer,
}

static NEXT_ID: AtomicU64 = AtomicU64::new(1);

impl std::fmt::Debug for File {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "File({}, {})",
            self.id,
            String::from_utf8_lossy(&self.name())
        )
    }
}

impl File {
    /// A description of `ops`, opened at `path` (`None`: it has no place) with `flags`.
    pub fn new(
        ops: Arc<dyn FileOps>,
        path: Option<VfsPath>,
        flags: OpenFlags,
        creds: Arc<Creds>,
    ) -> Arc<File> {
        File::build(ops, path, flags, creds, Opening::Uncounted)
    }

    pub(crate) fn build(
        ops: Arc<dyn FileOps>,
        path: Option<VfsPath>,
        flags: OpenFlags,
        creds: Arc<Creds>,
        counted: Opening,
    ) -> Arc<File> {
        let flags = flags - OpenFlags::CREATION - OpenFlags::CLOEXEC;
        Arc::new(File {
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            seekable: ops.seekable(),
            moves: ops.seekable() && !ops.stays_at_start(),
            shares_position: ops.own_position().is_some(),
            kind: path.as_ref().map(VfsPath::kind),
            ops,
            path,
            counted,
            flags: AtomicU32::new(flags.bits()),
            position: Mutex::new(0),
            creds,
            recipient: OnceLock::new(),
            watchers: Mutex::new(Vec::new()),
            locked: AtomicU32::new(0),
            _counted: Counted::new(Kind::OpenFile),
        })
    }

    /// A description of something without a place: a pipe, a socket, an eventfd.
    pub fn anonymous(cx: &dyn Ctx, ops: Arc<dyn FileOps>, flags: OpenFlags) -> Arc<File> {
        File::new(ops, None, flags, cx.creds())
    }

    /// A number of its own, never used again.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// What it can do.
    #[inline]
    pub fn ops(&self) -> &Arc<dyn FileOps> {
        &self.ops
    }

    /// Its operations as a concrete type, where they are that.
    pub fn ops_as<T: FileOps>(&self) -> Option<&T> {
        self.ops.as_any().downcast_ref()
    }

    /// Where it was opened; `None` for what has no place.
    pub fn path(&self) -> Option<&VfsPath> {
        self.path.as_ref()
    }

    /// Where it was opened, or a place made up for a file that has none.
    pub fn place(self: &Arc<Self>) -> VfsPath {
        anon::place_of(self)
    }

    /// The type of the inode it was opened at; `None` for what has no place.
    #[inline]
    pub fn kind(&self) -> Option<FileType> {
        self.kind
    }

    /// Whether it is an open directory.
    pub fn is_dir(&self) -> bool {
        self.kind == Some(FileType::Directory)
    }

    /// Whether it has positions.
    #[inline]
    pub fn seekable(&self) -> bool {
        self.seekable
    }

    /// Whether reading and writing move its position.
    #[inline]
    pub(crate) fn moves(&self) -> bool {
        self.moves
    }

    /// Whether others, outside the sandbox, move its position too.
    #[inline]
    pub(crate) fn shares_position(&self) -> bool {
        self.shares_position
    }

    /// Its flags (F_GETFL).
    #[inline]
    pub fn flags(&self) -> OpenFlags {
        OpenFlags::from_bits_retain(self.flags.load(Ordering::Relaxed))
    }

    /// Sets the flags that can be changed (F_SETFL, by descriptor `fd`); others in `new` are
    /// ignored.
    ///
    /// # Errors
    /// `EPERM` for `O_NOATIME` on another's file, `EINVAL` for `O_DIRECT` where the file cannot.
    pub fn set_flags(&self, cx: &dyn FsCtx, fd: i32, new: OpenFlags) -> Result<(), Errno> {
        let old = self.flags();
        let signals = new.contains(OpenFlags::ASYNC);
        let new = (old - OpenFlags::SETTABLE) | (new & OpenFlags::SETTABLE);
        if (new - old).contains(OpenFlags::NOATIME) {
            crate::access::owner_or_capable(&cx.creds(), &self.attr(cx)?)?;
        }
        self.ops.flags_changing(new)?;
        // Of what sends none, nothing is said.
        match self.set_async(cx, fd, signals) {
            Ok(()) | Err(Errno::ENOTTY) => {}
            Err(e) => return Err(e),
        }
        // That bit is `set_async`'s alone, which another thread may be in.
        let _always = self
            .flags
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |now| {
                let kept = OpenFlags::from_bits_retain(now) & OpenFlags::ASYNC;
                Some(((new - OpenFlags::ASYNC) | kept).bits())
            });
        Ok(())
    }

    /// Sets or clears `O_NONBLOCK` (`FIONBIO`).
    pub fn set_nonblocking(&self, yes: bool) {
        if yes {
            self.flags
                .fetch_or(OpenFlags::NONBLOCK.bits(), Ordering::Relaxed);
        } else {
            self.flags
                .fetch_and(!OpenFlags::NONBLOCK.bits(), Ordering::Relaxed);
        }
    }

    /// Whether calls must not block.
    #[inline]
    pub fn nonblocking(&self) -> bool {
        self.flags().contains(OpenFlags::NONBLOCK)
    }

    /// Whether it stands for a place alone (`O_PATH`).
    #[inline]
    pub fn is_path_only(&self) -> bool {
        self.flags().contains(OpenFlags::PATH)
    }

    /// The credentials it was opened with.
    pub fn creds(&self) -> &Arc<Creds> {
        &self.creds
    }

    /// Who gets its signals, and which; made where there is none yet.
    pub fn recipient(&self) -> &Arc<Recipient> {
        self.recipient.get_or_init(Arc::default)
    }

    /// Begins or ends to send signals (`O_ASYNC`), naming descriptor `fd` in them.
    ///
    /// # Errors
    /// `ENOTTY` where there is nothing to be told of it.
    pub fn set_async(&self, cx: &dyn FsCtx, fd: i32, yes: bool) -> Result<(), Errno> {
        if self.flags().contains(OpenFlags::ASYNC) == yes {
            return Ok(());
        }
        let watchers = self.ops.watchers();
        if watchers.iter().all(Option::is_none) {
            return Err(Errno::ENOTTY);
        }
        for watchers in watchers.into_iter().flatten() {
            match yes {
                true => watchers.add(self.id, fd, self.recipient()),
                false => watchers.remove(self.id),
            }
        }
        let bit = OpenFlags::ASYNC.bits();
        if !yes {
            self.flags.fetch_and(!bit, Ordering::Relaxed);
            return Ok(());
        }
        self.flags.fetch_or(bit, Ordering::Relaxed);
        match self.ops.signals_to(cx) {
            Some(0) => self.own_unless_owned(cx, OwnerKind::Process, cx.tid()),
            Some(group) => self.own_unless_owned(cx, OwnerKind::Group, group),
            None => {}
        }
        Ok(())
    }

    /// Makes process or group `id` the owner, unless there is one.
    pub(crate) fn own_unless_owned(&self, cx: &dyn FsCtx, kind: OwnerKind, id: i32) {
        let recipient = self.recipient();
        if recipient.owner().1.is_none() {
            recipient.set_owner(kind, cx.file_owner(kind, id));
        }
    }

    /// Attributes of the file (fstat(2)).
    pub fn attr(&self, cx: &dyn Ctx) -> Result<Attr, Errno> {
        if let Some(attr) = self.ops.anonymous_attr(cx) {
            return Ok(attr);
        }
        match &self.path {
            Some(path) => path.attr(cx),
            None => Ok(anon::anonymous_attr(
                cx,
                FileType::Anonymous,
                0o600,
                self.id,
            )),
        }
    }

    /// What is ready now.
    #[inline]
    pub fn ready(&self) -> Events {
        self.ops.ready(self)
    }

    /// The queue that hears of changes in readiness.
    #[inline]
    pub fn queue(&self) -> Option<&Queue> {
        self.ops.queue()
    }

    /// Its name for /proc/PID/fd, where it has no place: `pipe:[12]`; else its path from the top.
    pub fn name(&self) -> Vec<u8> {
        match (&self.path, self.ops.anonymous_name()) {
            (_, Some(name)) => name,
            (Some(path), None) => path.text(),
            (None, None) => b"anon_inode:[unknown]".to_vec(),
        }
    }

    /// What identifies the file for locks: the same for all descriptions of an inode.
    pub(crate) fn lock_key(&self) -> usize {
        match &self.path {
            Some(path) => path.inode_key(),
            None => Arc::as_ptr(&self.ops).cast::<u8>().addr(),
        }
    }

    pub(crate) fn watch(&self, watcher: Watcher) {
        let mut watchers = self.watchers.lock();
        watchers.retain(Watcher::alive);
        watchers.push(watcher);
    }
}

impl Drop for File {
    fn drop(&mut self) {
        notify::closed(self);
        // Whoever has ever asked for signals has a recipient; what the flags say may be the one
        // half of two changes at once.
        if self.recipient.get().is_some() {
            for watchers in self.ops.watchers().into_iter().flatten() {
                watchers.remove(self.id);
            }
        }
        for watcher in std::mem::take(self.watchers.get_mut()) {
            watcher.file_gone();
        }
        if self.locked.load(Ordering::Relaxed) != 0 {
            locks::description_gone(self);
            leases::description_gone(self);
        }
        if let Some(path) = &self.path {
            path.end(self.counted);
        }
    }
}
