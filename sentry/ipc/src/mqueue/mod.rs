//! POSIX message queues (mq_overview(7)).
//!
//! A queue is a file of a file system of its own (`fs`), which may be mounted at /dev/mqueue; the
//! `mq_*` calls work on open files of it. The messages are in `queue`.

mod fs;
mod queue;

pub use fs::QueueFile;
pub use queue::{Notification, Sender};

use crate::Limits;
use abi::Errno;
use auth::Capability;
use ctx::{Ctx, Resource, SysErr};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use sync::{Mutex, ranks};
use time::Clocks;
use vfs::{File, FsCtx, Inode, Mount, MountSpec, OpenFlags, Start, VfsPath, access};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Priorities of messages are below this (`MQ_PRIO_MAX`).
pub const PRIORITIES: u32 = 32768;
/// For the capable.
const HARD_MAX_MESSAGES: i64 = 65536;
const HARD_MAX_SIZE: i64 = 16 << 20;
/// What a message costs beside its text.
const MESSAGE_COST: u64 = 48;
const PRIORITY_COST: u64 = 48;

/// `struct mq_attr`.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
#[expect(missing_docs, reason = "mq_getattr(3) says what each is")]
pub struct MqAttr {
    pub flags: i64,
    pub maxmsg: i64,
    pub msgsize: i64,
    pub curmsgs: i64,
    pub reserved: [i64; 4],
}

/// All POSIX queues of a sandbox.
pub struct Mqueues {
    root: Arc<fs::Root>,
    mount: Arc<Mount>,
    clocks: Arc<Clocks>,
    limits: Arc<Limits>,
    count: AtomicUsize,
    /// Bytes promised to the queues of each user (RLIMIT_MSGQUEUE).
    charged: Mutex<BTreeMap<u32, u64>, ranks::Leaf>,
}

/// What a queue's making has been charged for.
struct Charge {
    queues: Weak<Mqueues>,
    uid: u32,
    bytes: u64,
}

impl Drop for Charge {
    fn drop(&mut self) {
        let Some(queues) = self.queues.upgrade() else {
            return;
        };
        queues.count.fetch_sub(1, Ordering::Relaxed);
        let mut charged = queues.charged.lock();
        if let Some(bytes) = charged.get_mut(&self.uid) {
            *bytes -= self.bytes;
            if *bytes == 0 {
                charged.remove(&self.uid);
            }
        }
    }
}

impl Mqueues {
    pub(crate) fn new(clocks: &Arc<Clocks>, limits: &Arc<Limits>) -> Arc<Mqueues> {
        Arc::new_cyclic(|this: &Weak<Mqueues>| {
            let root = fs::Root::new(this.clone(), clocks);
            let spec = MountSpec::new(root.clone(), "mqueue");
            Mqueues {
                root,
                mount: Mount::detached(spec),
                clocks: clocks.clone(),
                limits: limits.clone(),
                count: AtomicUsize::new(0),
                charged: Mutex::new(BTreeMap::new()),
            }
        })
    }

    /// The root of the file system, to be mounted.
    pub fn root(&self) -> Arc<dyn Inode> {
        self.root.clone()
    }

    /// mq_open(2): `name` has no slash before it.
    ///
    /// # Errors
    /// Those of mq_open(2).
    pub fn open(
        &self,
        cx: &dyn FsCtx,
        name: &[u8],
        flags: OpenFlags,
        mode: u32,
        attr: Option<MqAttr>,
    ) -> Result<Arc<File>, SysErr> {
        check_name(name)?;
        let found = self.mount.root().lookup(cx, name)?;
        let dentry = match found {
            None if !flags.contains(OpenFlags::CREAT) => return Err(Errno::ENOENT.into()),
            None => {
                let perm = mode & 0o7777 & !cx.umask();
                self.root.make(cx, name, perm, attr.as_ref())?;
                let made = self.mount.root().lookup(cx, name)?;
                made.ok_or(Errno::ENOENT)?
            }
            Some(_) if flags.contains(OpenFlags::CREAT | OpenFlags::EXCL) => {
                return Err(Errno::EEXIST.into());
            }
            Some(dentry) => {
                let mask = match flags.access_mode() {
                    0 => access::READ,
                    1 => access::WRITE,
                    2 => access::READ | access::WRITE,
                    _ => return Err(Errno::EINVAL.into()),
                };
                let at = self.place(dentry.clone());
                access::permission(cx, &cx.creds(), &at, mask)?;
                dentry
            }
        };
        let at = self.place(dentry);
        let keep = flags & (OpenFlags::NONBLOCK | OpenFlags::RDWR | OpenFlags::WRONLY);
        let ops = at.inode().clone().open(cx, &at, keep)?;
        Ok(File::new(ops, Some(at), keep, cx.creds()))
    }

    fn place(&self, dentry: Arc<vfs::Dentry>) -> VfsPath {
        VfsPath {
            mount: self.mount.clone(),
            dentry,
        }
    }

    /// mq_unlink(2).
    ///
    /// # Errors
    /// Those of mq_unlink(2).
    pub fn unlink(&self, cx: &dyn FsCtx, name: &[u8]) -> Result<(), SysErr> {
        check_name(name)?;
        vfs::unlink(cx, Start::At(self.mount.root_path()), name)
    }

    /// Checks the attributes of a new queue and charges its maker.
    fn admit(
        self: &Arc<Self>,
        cx: &dyn Ctx,
        attr: Option<&MqAttr>,
    ) -> Result<(i64, i64, Charge), Errno> {
        let creds = cx.creds();
        let capable = creds.has(Capability::SysResource);
        let limits = &self.limits;
        if self.count.load(Ordering::Relaxed) >= limits.mq_queues_max.size() && !capable {
            return Err(Errno::ENOSPC);
        }
        let (count_max, size_max) = (limits.mq_msg_max.get(), limits.mq_msgsize_max.get());
        let usual = || {
            (
                limits.mq_msg_default.get().min(count_max),
                limits.mq_msgsize_default.get().min(size_max),
            )
        };
        let (count, size) = attr.map_or_else(usual, |a| (a.maxmsg, a.msgsize));
        let (most, largest) = if capable {
            (HARD_MAX_MESSAGES, HARD_MAX_SIZE)
        } else {
            (count_max, size_max)
        };
        if count <= 0 || size <= 0 || count > most || size > largest {
            return Err(Errno::EINVAL);
        }
        let n = count as u64;
        let bytes = n * (MESSAGE_COST + size as u64) + n.min(u64::from(PRIORITIES)) * PRIORITY_COST;
        let limit = cx.limit(Resource::Msgqueue);
        let mut charged = self.charged.lock();
        let now = charged.entry(creds.euid).or_default();
        if now.saturating_add(bytes) > limit {
            return Err(Errno::EMFILE);
        }
        *now += bytes;
        self.count.fetch_add(1, Ordering::Relaxed);
        let charge = Charge {
            queues: Arc::downgrade(self),
            uid: creds.euid,
            bytes,
        };
        Ok((count, size, charge))
    }
}

fn check_name(name: &[u8]) -> Result<(), Errno> {
    if name.is_empty() {
        return Err(Errno::ENOENT);
    }
    if name == b"." || name == b".." || name.contains(&b'/') {
        return Err(Errno::EACCES);
    }
    if name.len() > 255 {
        return Err(Errno::ENAMETOOLONG);
    }
    Ok(())
}
