//! One overlay.

use crate::node::{Layers, Node, Place};
use abi::Errno;
use ctx::Ctx;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Weak};
use sync::{Mutex, ranks};
use vfs::{Attr, File, FileOps, FileType, Inode, Mount, MountSpec, OpenFlags, SetAttr, VfsPath};

/// On a directory of the upper tree: what is below does not show through.
pub(crate) const OPAQUE: &[u8] = b"trusted.overlay.opaque";
/// On a copied file: the identity it has had below.
pub(crate) const ORIGIN: &[u8] = b"trusted.overlay.origin";
/// Attributes that are ours alone.
pub(crate) const PRIVATE: &[u8] = b"trusted.overlay.";

/// Where in an inode number the level is of the overlay whose upper tree the file is of.
const LEVEL_SHIFT: u32 = 48;
/// How many overlays can lie below each other, those that one of many layers is made of included:
/// what is asked of one is asked of the next, on one stack.
pub(crate) const LEVELS: u64 = 100;

/// How a file is known to the guest: device and inode number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Identity {
    pub(crate) dev: u64,
    pub(crate) ino: u64,
}

impl Identity {
    pub(crate) fn to_bytes(self) -> Vec<u8> {
        [self.dev.to_le_bytes(), self.ino.to_le_bytes()].concat()
    }

    fn from_bytes(bytes: &[u8]) -> Option<Identity> {
        let (dev, ino) = bytes.split_at_checked(8)?;
        let word = |b: &[u8]| b.try_into().ok().map(u64::from_le_bytes);
        Some(Identity {
            dev: word(dev)?,
            ino: word(ino)?,
        })
    }
}

/// One overlay.
pub(crate) struct Overlay {
    dev: u64,
    /// Device of the lower tree's root, for which `dev` stands.
    lower_dev: u64,
    /// Device of the upper tree's root, for which `dev` stands as well.
    upper_dev: u64,
    /// How many overlays there are below it, and itself.
    level: u64,
    /// How many of these a guest has mounted upon each other.
    depth: u32,
    /// Devices that stand for those of the trees, by whether it is the upper one, where numbers of
    /// files do not fit in with others.
    devices: Mutex<BTreeMap<(bool, u64), u64>, ranks::Leaf>,
    /// What is in the upper tree may have been copied there by another overlay, whose identities
    /// are not ours.
    again: bool,
    nodes: Mutex<HashMap<Identity, Weak<Node>>, ranks::Leaf>,
    /// Files with several names below that were copied up: the other names must find them.
    shared: Mutex<HashMap<Identity, Arc<Node>>, ranks::Leaf>,
    /// For places of files of the two trees, which are not mounted anywhere.
    hidden: Arc<Mount>,
}

/// Unites `lower` and `upper`, both roots of trees; returns the root of the whole. The upper root
/// takes owner, mode and times of the lower one.
///
/// # Errors
/// What the two trees say.
pub fn mount(
    cx: &dyn Ctx,
    lower: Arc<dyn Inode>,
    upper: Arc<dyn Inode>,
) -> Result<Arc<dyn Inode>, Errno> {
    if lower.kind() != FileType::Directory || upper.kind() != FileType::Directory {
        return Err(Errno::ENOTDIR);
    }
    let attr = lower.attr(cx)?;
    let set = SetAttr {
        perm: Some(attr.perm),
        uid: Some(attr.uid),
        gid: Some(attr.gid),
        atime: Some(attr.atime),
        mtime: Some(attr.mtime),
        ..SetAttr::default()
    };
    upper.set_attr(cx, &set)?;
    // It is the file system of the machine, as far as programs can tell.
    layered(cx, lower, upper, 0)
}

/// The overlay that a file is of.
fn overlay_of(inode: &Arc<dyn Inode>) -> Option<&Overlay> {
    let node = inode.as_any().downcast_ref::<Node>();
    node.map(|node| &*node.fs)
}

/// How many overlays guests have mounted upon each other where `inode` is.
pub(crate) fn depth_of(inode: &Arc<dyn Inode>) -> u32 {
    overlay_of(inode).map_or(0, |fs| fs.depth)
}

/// As [`mount`], with the attributes of the upper root as they are. One with a `depth` is a
/// guest's, whose upper tree may have been that of an overlay before.
///
/// # Errors
/// `EINVAL` where it would be one too many below each other.
pub(crate) fn layered(
    cx: &dyn Ctx,
    lower: Arc<dyn Inode>,
    upper: Arc<dyn Inode>,
    depth: u32,
) -> Result<Arc<dyn Inode>, Errno> {
    let level_of = |inode| overlay_of(inode).map_or(0, |fs| fs.level);
    let level = level_of(&lower).max(level_of(&upper)) + 1;
    if level > LEVELS {
        return Err(Errno::EINVAL);
    }
    let attr = lower.attr(cx)?;
    let fs = Arc::new(Overlay {
        dev: vfs::anon::next_dev(),
        lower_dev: attr.dev,
        upper_dev: upper.attr(cx)?.dev,
        level,
        depth,
        devices: Mutex::default(),
        again: depth > 0,
        nodes: Mutex::default(),
        shared: Mutex::default(),
        hidden: Mount::detached(MountSpec::new(upper.clone(), "overlay")),
    });
    let identity = fs.below(&attr);
    let layers = Layers {
        lower: Some(lower),
        upper: Some(upper),
    };
    Ok(fs.intern(identity, FileType::Directory, layers, None))
}

impl Overlay {
    /// The identity of a file of the lower tree.
    pub(crate) fn below(&self, attr: &Attr) -> Identity {
        let dev = match attr.dev == self.lower_dev {
            // What overlays below have marked, they have marked with less.
            true if attr.ino >> LEVEL_SHIFT < self.level => self.dev,
            true => self.device(false, attr.dev),
            false => attr.dev,
        };
        Identity { dev, ino: attr.ino }
    }

    /// The identity of a file that is of the upper tree alone, or was copied there.
    pub(crate) fn above(&self, cx: &dyn Ctx, upper: &Arc<dyn Inode>) -> Result<Identity, Errno> {
        if let Ok(origin) = upper.get_xattr(cx, ORIGIN)
            && let Some(identity) = Identity::from_bytes(&origin)
            && (!self.again || identity.dev == self.dev)
        {
            return Ok(identity);
        }
        let attr = upper.attr(cx)?;
        if attr.dev == self.upper_dev && attr.ino >> LEVEL_SHIFT == 0 {
            return Ok(Identity {
                dev: self.dev,
                ino: attr.ino | self.level << LEVEL_SHIFT,
            });
        }
        Ok(Identity {
            dev: self.device(true, attr.dev),
            ino: attr.ino,
        })
    }

    /// The device that stands for `dev` of one of the trees.
    fn device(&self, upper: bool, dev: u64) -> u64 {
        let mut devices = self.devices.lock();
        *devices
            .entry((upper, dev))
            .or_insert_with(vfs::anon::next_dev)
    }

    /// The node of a file, made where there is none yet.
    pub(crate) fn intern(
        self: &Arc<Self>,
        identity: Identity,
        kind: FileType,
        layers: Layers,
        place: Option<Place>,
    ) -> Arc<Node> {
        let fresh = Node::build(self, identity, kind, layers, place);
        let mut nodes = self.nodes.lock();
        let known = nodes
            .get(&identity)
            .and_then(Weak::upgrade)
            .filter(|n| n.kind == kind);
        if known.is_none() {
            nodes.insert(identity, Arc::downgrade(&fresh));
        }
        drop(nodes);
        known.unwrap_or(fresh)
    }

    /// `node` is no more.
    pub(crate) fn gone(&self, node: &Node) {
        let mut nodes = self.nodes.lock();
        // Another may have taken its place already.
        if nodes
            .get(&node.identity)
            .is_some_and(|n| std::ptr::eq(n.as_ptr(), node))
        {
            nodes.remove(&node.identity);
        }
    }

    /// Keeps a copied file that has other names below.
    pub(crate) fn keep(&self, node: &Arc<Node>) {
        let old = self.shared.lock().insert(node.identity, node.clone());
        drop(old);
    }

    /// The last name is gone.
    pub(crate) fn let_go(&self, node: &Node) {
        let old = self.shared.lock().remove(&node.identity);
        drop(old);
    }

    /// A file of one of the two trees, open for ourselves.
    pub(crate) fn open(
        &self,
        cx: &dyn Ctx,
        inode: &Arc<dyn Inode>,
        flags: OpenFlags,
    ) -> Result<(Arc<dyn FileOps>, Arc<File>), Errno> {
        let at = VfsPath::unlisted(&self.hidden, inode.clone(), b"overlay");
        let opened = inode.clone().open(cx, &at, flags);
        let ops = opened.map_err(ctx::SysErr::errno)?;
        let file = File::new(ops.clone(), Some(at), flags, cx.creds());
        Ok((ops, file))
    }

    /// The upper tree's root.
    pub(crate) fn root_upper(&self) -> Option<Arc<dyn Inode>> {
        Some(self.hidden.root().inode().clone())
    }

    /// Device number of the overlay.
    pub(crate) fn dev(&self) -> u64 {
        self.dev
    }
}

/// Whether a file of the upper tree only says that a name is gone.
pub(crate) fn is_whiteout(cx: &dyn Ctx, upper: &Arc<dyn Inode>) -> Result<bool, Errno> {
    Ok(upper.kind() == FileType::CharDevice && upper.attr(cx)?.rdev == 0)
}

/// `Ok(None)` for `ENOENT`.
pub(crate) fn absent_is_none<T>(result: Result<T, Errno>) -> Result<Option<T>, Errno> {
    match result {
        Ok(found) => Ok(Some(found)),
        Err(Errno::ENOENT) => Ok(None),
        Err(e) => Err(e),
    }
}
