//! Namespaces as files: what `/proc/PID/ns` leads to (namespaces(7), ioctl_ns(2)).

use crate::anon::{self, plain_attr};
use crate::{Attr, Dentry, File, FileOps, FileType, OpenFlags};
use abi::Errno;
use abi::time::Timespec;
use auth::{Share, UserNamespace};
use ctx::{Ctx, SysErr, SysResult, UserMemoryExt};
use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// `_IO(0xb7, 1)`
pub const NS_GET_USERNS: u32 = 0xb701;
/// `_IO(0xb7, 4)`
const NS_GET_OWNER_UID: u32 = 0xb704;
/// `_IO(0xb7, 2)`
pub const NS_GET_PARENT: u32 = 0xb702;
/// `_IO(0xb7, 3)`
const NS_GET_NSTYPE: u32 = 0xb703;

/// Behind those that Linux has from the beginning.
static NEXT: AtomicU64 = AtomicU64::new(0xf000_0000);

/// What tells a namespace from others: the number of its file. It is counted while it has that.
#[derive(Debug)]
pub struct NamespaceId {
    number: u64,
    _counted: Option<Share>,
}

impl NamespaceId {
    /// That of one which counts for nobody, which nothing else has had.
    pub fn new() -> NamespaceId {
        NamespaceId {
            number: NEXT.fetch_add(1, Ordering::Relaxed),
            _counted: None,
        }
    }

    /// That of one which counts as `share`.
    pub fn counted(share: Share) -> NamespaceId {
        NamespaceId {
            _counted: Some(share),
            ..NamespaceId::new()
        }
    }

    /// The number.
    pub fn get(&self) -> u64 {
        self.number
    }
}

impl Default for NamespaceId {
    fn default() -> Self {
        NamespaceId::new()
    }
}

/// A kind of namespaces.
#[derive(Debug)]
pub struct NamespaceKind {
    /// As in front of the number: `mnt`.
    pub name: &'static str,
    /// Its `CLONE_NEW…`.
    pub flag: u32,
    /// Whether they have parents.
    pub nested: bool,
}

const fn kind(name: &'static str, flag: u32, nested: bool) -> NamespaceKind {
    NamespaceKind { name, flag, nested }
}

/// Of control groups.
pub static CGROUP: NamespaceKind = kind("cgroup", 0x0200_0000, false);
/// Of IPC objects.
pub static IPC: NamespaceKind = kind("ipc", 0x0800_0000, false);
/// Of mounts.
pub static MNT: NamespaceKind = kind("mnt", 0x0002_0000, false);
/// Of networks.
pub static NET: NamespaceKind = kind("net", 0x4000_0000, false);
/// Of processes.
pub static PID: NamespaceKind = kind("pid", 0x2000_0000, true);
/// Of clocks.
pub static TIME: NamespaceKind = kind("time", 0x80, false);
/// Of users.
pub static USER: NamespaceKind = kind("user", 0x1000_0000, true);
/// Of host names.
pub static UTS: NamespaceKind = kind("uts", 0x0400_0000, false);

/// The one of control groups: the kinds of which there is one have the numbers of Linux's first.
pub const CGROUP_ID: u64 = 0xefff_fffb;
/// The one of clocks.
pub const TIME_ID: u64 = 0xefff_fffa;

/// What keeps a namespace: whatever the layer that has it knows it by.
pub type Held = Arc<dyn Any + Send + Sync>;

/// A namespace's file, which keeps the namespace.
#[derive(Clone)]
pub struct NamespaceFile {
    kind: &'static NamespaceKind,
    id: u64,
    made: Timespec,
    held: Held,
}

impl NamespaceFile {
    /// Which kind it is of.
    pub fn kind(&self) -> &'static NamespaceKind {
        self.kind
    }

    /// Its number.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// The namespace.
    pub fn held(&self) -> &Held {
        &self.held
    }
}

/// The file of a namespace by its number.
pub fn open(cx: &dyn Ctx, kind: &'static NamespaceKind, id: u64, held: Held) -> Arc<File> {
    let file = NamespaceFile {
        kind,
        id,
        made: cx.clocks().wall(),
        held,
    };
    File::anonymous(cx, Arc::new(file), OpenFlags::empty())
}

/// The number of the mount namespace whose file a name leads to.
pub(crate) fn mounts_behind(dentry: &Dentry) -> Option<u64> {
    let file = anon::file_of(dentry.inode())?;
    let namespace = file.ops_as::<NamespaceFile>()?;
    (namespace.kind().flag == MNT.flag).then(|| namespace.id())
}

/// What readlink(2) says of it: `mnt:[4026531840]`.
pub fn name(kind: &NamespaceKind, id: u64) -> Vec<u8> {
    format!("{}:[{id}]", kind.name).into_bytes()
}

impl FileOps for NamespaceFile {
    fn ioctl(&self, cx: &dyn Ctx, _file: &File, request: u32, arg: u64) -> SysResult<u64> {
        match request {
            NS_GET_OWNER_UID if self.kind.flag == USER.flag => {
                let ns = self.held.downcast_ref::<UserNamespace>();
                let owner = ns.ok_or(Errno::EINVAL)?.owner();
                let told = cx.creds().user_ns.shown_uid(owner);
                cx.memory().write_obj(arg, &told)?;
                Ok(0)
            }
            NS_GET_OWNER_UID => Err(Errno::EINVAL.into()),
            NS_GET_NSTYPE => Ok(self.kind.flag.into()),
            // It is out of reach, or there is none.
            NS_GET_PARENT if self.kind.nested => Err(Errno::EPERM.into()),
            NS_GET_PARENT => Err(Errno::EINVAL.into()),
            _ => Err(Errno::ENOTTY.into()),
        }
    }

    fn anonymous_attr(&self, _cx: &dyn Ctx) -> Option<Attr> {
        Some(plain_attr(FileType::Regular, 0o444, self.id, self.made))
    }

    fn anonymous_name(&self) -> Option<Vec<u8>> {
        Some(name(self.kind, self.id))
    }

    fn reopen(&self, _cx: &dyn Ctx, flags: OpenFlags) -> Result<Arc<dyn FileOps>, SysErr> {
        if flags.writable() {
            return Err(Errno::EPERM.into());
        }
        Ok(Arc::new(self.clone()))
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
