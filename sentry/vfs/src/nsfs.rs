//! Namespaces as files: what `/proc/PID/ns` leads to (namespaces(7), ioctl_ns(2)).

use crate::anon::plain_attr;
use crate::{Attr, File, FileOps, FileType, OpenFlags};
use abi::Errno;
use abi::time::Timespec;
use ctx::{Ctx, SysErr, SysResult};
use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// `_IO(0xb7, 2)`
const NS_GET_PARENT: u32 = 0xb702;
/// `_IO(0xb7, 3)`
const NS_GET_NSTYPE: u32 = 0xb703;

/// Behind those that Linux has from the beginning.
static NEXT: AtomicU64 = AtomicU64::new(0xf000_0000);

/// What tells a namespace from others: the number of its file.
#[derive(Debug, PartialEq, Eq)]
pub struct NamespaceId(u64);

impl NamespaceId {
    /// A namespace's, which nothing else has had.
    pub fn new() -> NamespaceId {
        NamespaceId(NEXT.fetch_add(1, Ordering::Relaxed))
    }

    /// The number.
    pub fn get(&self) -> u64 {
        self.0
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

/// A namespace's file.
struct NamespaceFile {
    kind: &'static NamespaceKind,
    id: u64,
    made: Timespec,
}

/// The file of a namespace by its number.
pub fn open(cx: &dyn Ctx, kind: &'static NamespaceKind, id: u64) -> Arc<File> {
    let made = cx.clocks().wall();
    let file = NamespaceFile { kind, id, made };
    File::anonymous(cx, Arc::new(file), OpenFlags::empty())
}

/// What readlink(2) says of it: `mnt:[4026531840]`.
pub fn name(kind: &NamespaceKind, id: u64) -> Vec<u8> {
    format!("{}:[{id}]", kind.name).into_bytes()
}

impl FileOps for NamespaceFile {
    fn ioctl(&self, _cx: &dyn Ctx, _file: &File, request: u32, _arg: u64) -> SysResult<u64> {
        match request {
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
        Ok(Arc::new(NamespaceFile { ..*self }))
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
