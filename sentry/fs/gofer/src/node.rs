//! One host inode.

use crate::client::{Moment, nonsense};
use crate::convert;
use crate::descriptors::Handles;
use crate::directory::Directory;
use crate::fs::Fs;
use abi::Errno;
use control::fs::{self as wire, NodeId, Reply, Request};
use memmap::Mappings;
use nix::sys::stat::fstat;
use std::any::Any;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::{Duration, Instant};
use sync::{Mutex, ranks};
use vfs::{Attr, Fifo, FileType, VfsPath};

/// For how long attributes that others may change are believed: long enough that one walk asks
/// once, and nobody can notice.
const BELIEVED: Duration = Duration::from_millis(1);

/// What makes a file that file: host device, inode number and birth.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    dev: u64,
    pub(crate) ino: u64,
    kind: u32,
    btime: Option<wire::Time>,
}

impl Key {
    pub(crate) fn of(attr: &wire::Attr) -> Key {
        let kind = attr.mode & 0o170000;
        Key {
            dev: attr.dev,
            ino: attr.ino,
            kind,
            btime: attr.btime,
        }
    }
}

/// One host inode.
pub(crate) struct Node {
    pub(crate) fs: Arc<Fs>,
    pub(crate) me: Weak<Node>,
    pub(crate) id: NodeId,
    pub(crate) key: Key,
    pub(crate) kind: FileType,
    state: Mutex<State, ranks::Leaf>,
    /// Something went through a descriptor: the host knows better than `state`.
    dirty: AtomicBool,
    pub(crate) handles: Mutex<Handles, ranks::Leaf>,
    /// Held while bytes are put at the end and their place is found out, and while mode or owner
    /// change.
    pub(crate) append: Mutex<(), ranks::Append>,
    /// How often mode or owner were changed.
    pub(crate) changes: AtomicU64,
    /// Made when it is first looked into: files need none.
    directory: OnceLock<Box<Directory>>,
    pub(crate) mappings: Mappings,
    /// The place it was last mapped from, while it is mapped: for /proc/PID/maps.
    pub(crate) mapped_at: Mutex<Option<VfsPath>, ranks::Leaf>,
    pub(crate) fifo: Option<Fifo>,
    pub(crate) endpoint: OnceLock<Arc<dyn Any + Send + Sync>>,
    /// It has no `security.capability`, which cannot be set either: exec asks for it each time.
    pub(crate) no_capability: AtomicBool,
    /// A symbolic link's target never changes.
    pub(crate) target: OnceLock<Vec<u8>>,
}

struct State {
    attr: Attr,
    at: Moment,
    /// Must be asked for again.
    stale: bool,
    fetched: Instant,
}

impl Node {
    pub(crate) fn build(fs: &Arc<Fs>, id: NodeId, key: Key, attr: Attr, at: Moment) -> Arc<Node> {
        let kind = attr.kind;
        let state = State {
            attr,
            at,
            stale: false,
            fetched: Instant::now(),
        };
        Arc::new_cyclic(|me| Node {
            fs: fs.clone(),
            me: me.clone(),
            id,
            key,
            kind,
            state: Mutex::new(state),
            dirty: AtomicBool::new(false),
            handles: Mutex::default(),
            append: Mutex::default(),
            changes: AtomicU64::new(0),
            directory: OnceLock::new(),
            mappings: Mappings::new(),
            mapped_at: Mutex::default(),
            fifo: (kind == FileType::Fifo).then(Fifo::new),
            endpoint: OnceLock::new(),
            no_capability: AtomicBool::new(false),
            target: OnceLock::new(),
        })
    }

    /// What is known of its names.
    pub(crate) fn directory(&self) -> &Directory {
        self.directory.get_or_init(Box::default)
    }

    /// Takes the children of a node that is no more.
    fn children(&mut self) -> Vec<Arc<Node>> {
        let children = self.directory.get_mut().map(|d| d.take());
        let children = children.unwrap_or_default();
        self.fs.note_dropped(children.len());
        children
    }

    pub(crate) fn is_dir(&self) -> bool {
        self.kind == FileType::Directory
    }

    /// The gofer said this at `at`.
    pub(crate) fn learn(&self, attr: &wire::Attr, at: Moment) {
        if Key::of(attr) != self.key {
            return;
        }
        let mut state = self.state.lock();
        if at < state.at {
            // Two answers crossed: neither is known to be the last word.
            state.stale = true;
            return;
        }
        let dev = state.attr.dev;
        *state = State {
            attr: convert::attr(attr, dev),
            at,
            stale: false,
            fetched: Instant::now(),
        };
    }

    /// What is known of its attributes is not true any more.
    pub(crate) fn outdated(&self) {
        self.state.lock().stale = true;
    }

    /// Something went through a descriptor of it.
    pub(crate) fn touched(&self) {
        self.dirty.store(true, Ordering::Release);
    }

    /// Its attributes now.
    pub(crate) fn attributes(&self) -> Result<Attr, Errno> {
        let mut dirty = self.dirty.swap(false, Ordering::AcqRel);
        if self.kind == FileType::Regular {
            // Writes through a mapping go unseen.
            dirty |= self.mappings.any_shared_write();
        }
        let state = self.state.lock();
        let believed = self.fs.options.exclusive || state.fetched.elapsed() < BELIEVED;
        if !dirty && !state.stale && believed {
            return Ok(state.attr.clone());
        }
        drop(state);
        // The host tells all but the owner, which is nobody in the sandbox process's namespace.
        if self.fs.options.exclusive
            && let Some(handle) = self.any_handle()
        {
            return self.ask_host(&handle.fd).inspect_err(|_| self.touched());
        }
        let asked = self.fs.client.ask(Request::Stat { node: self.id });
        let answer = asked.inspect_err(|_| self.touched())?;
        let Reply::Attr(attr) = answer.reply else {
            return nonsense();
        };
        self.learn(&attr, answer.at);
        Ok(self.state.lock().attr.clone())
    }

    fn ask_host(&self, fd: &std::os::fd::OwnedFd) -> Result<Attr, Errno> {
        let at = self.fs.client.now();
        let s = fstat(fd).map_err(|e| Errno::from_host(e as i32))?;
        let time = |sec, nsec| abi::time::Timespec { sec, nsec };
        let mut state = self.state.lock();
        let attr = Attr {
            perm: s.st_mode & 0o7777,
            nlink: s.st_nlink,
            size: u64::try_from(s.st_size).unwrap_or(0),
            blocks: u64::try_from(s.st_blocks).unwrap_or(0),
            atime: time(s.st_atime, s.st_atime_nsec),
            mtime: time(s.st_mtime, s.st_mtime_nsec),
            ctime: time(s.st_ctime, s.st_ctime_nsec),
            ..state.attr.clone()
        };
        if at >= state.at {
            let attr = attr.clone();
            *state = State {
                attr,
                at,
                stale: false,
                fetched: Instant::now(),
            };
        }
        Ok(attr)
    }

    /// The device number that the guest sees.
    pub(crate) fn known_dev(&self) -> u64 {
        self.state.lock().attr.dev
    }

    /// The permission bits as they were last heard of.
    pub(crate) fn known_perm(&self) -> u32 {
        self.state.lock().attr.perm
    }

    /// The size as it was last heard of.
    pub(crate) fn known_size(&self) -> u64 {
        self.state.lock().attr.size
    }

    /// The length now.
    pub(crate) fn length(&self) -> Result<u64, Errno> {
        match self.any_handle() {
            Some(h) if !self.fs.options.exclusive => Ok(self.ask_host(&h.fd)?.size),
            _ => Ok(self.attributes()?.size),
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.fs.gone(self);
        // Not by recursion: a guest can build trees deeper than our stack.
        let mut left = self.children();
        while let Some(node) = left.pop() {
            if let Some(mut node) = Arc::into_inner(node) {
                left.extend(node.children());
            }
        }
    }
}
