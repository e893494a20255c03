//! One file of the overlay.

use crate::fs::{Identity, Overlay};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use sync::{Mutex, RwLock, ranks};
use vfs::{FileType, Inode};

/// Where a file was last found: its directory and its name there.
pub(crate) type Place = (Arc<Node>, Box<[u8]>);

/// The file in the two trees. At least one is there.
#[derive(Clone)]
pub(crate) struct Layers {
    pub(crate) lower: Option<Arc<dyn Inode>>,
    pub(crate) upper: Option<Arc<dyn Inode>>,
}

/// One file of the overlay, whatever its names.
pub(crate) struct Node {
    pub(crate) fs: Arc<Overlay>,
    pub(crate) me: Weak<Node>,
    pub(crate) identity: Identity,
    pub(crate) kind: FileType,
    state: RwLock<State, ranks::Leaf>,
    /// It has an upper file: readers of the lower one look again.
    copied: AtomicBool,
    /// Held while it is copied up.
    pub(crate) copying: Mutex<(), ranks::Overlay>,
}

struct State {
    layers: Layers,
    place: Option<Place>,
    /// Names added and removed since it was found below.
    links: i64,
}

impl Node {
    pub(crate) fn build(
        fs: &Arc<Overlay>,
        identity: Identity,
        kind: FileType,
        layers: Layers,
        place: Option<Place>,
    ) -> Arc<Node> {
        let copied = AtomicBool::new(layers.upper.is_some());
        Arc::new_cyclic(|me| Node {
            fs: fs.clone(),
            me: me.clone(),
            identity,
            kind,
            state: RwLock::new(State {
                layers,
                place,
                links: 0,
            }),
            copied,
            copying: Mutex::default(),
        })
    }

    pub(crate) fn is_dir(&self) -> bool {
        self.kind == FileType::Directory
    }

    pub(crate) fn upper(&self) -> Option<Arc<dyn Inode>> {
        self.state.read().layers.upper.clone()
    }

    pub(crate) fn lower(&self) -> Option<Arc<dyn Inode>> {
        self.state.read().layers.lower.clone()
    }

    /// The file in both trees.
    pub(crate) fn layers(&self) -> Layers {
        self.state.read().layers.clone()
    }

    /// Whether there is an upper file; cheap.
    pub(crate) fn is_copied(&self) -> bool {
        self.copied.load(Ordering::Acquire)
    }

    /// The file that counts. `ENOENT`-like states do not exist: one is always there.
    pub(crate) fn real(&self) -> Result<Arc<dyn Inode>, abi::Errno> {
        let state = self.state.read();
        let layers = &state.layers;
        layers
            .upper
            .clone()
            .or_else(|| layers.lower.clone())
            .ok_or(abi::Errno::ESTALE)
    }

    pub(crate) fn set_upper(&self, upper: Arc<dyn Inode>) {
        self.state.write().layers.upper = Some(upper);
        self.copied.store(true, Ordering::Release);
    }

    pub(crate) fn place(&self) -> Option<Place> {
        self.state.read().place.clone()
    }

    pub(crate) fn set_place(&self, place: Option<Place>) {
        let old = std::mem::replace(&mut self.state.write().place, place);
        drop(old);
    }

    /// Whether it was last found as `name` of `dir`.
    pub(crate) fn stands_at(&self, dir: &Node, name: &[u8]) -> bool {
        let state = self.state.read();
        state
            .place
            .as_ref()
            .is_some_and(|(d, n)| std::ptr::eq(&**d, dir) && **n == *name)
    }

    /// Names added since it was found below (negative: removed).
    pub(crate) fn links(&self) -> i64 {
        self.state.read().links
    }

    pub(crate) fn add_links(&self, change: i64) {
        let mut state = self.state.write();
        state.links = state.links.saturating_add(change);
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.fs.gone(self);
        // Directories are held by what is in them. Not by recursion: a guest can build trees
        // deeper than our stack.
        let mut above = self.state.get_mut().place.take();
        while let Some((dir, _)) = above {
            above = Arc::into_inner(dir).and_then(|mut n| n.state.get_mut().place.take());
        }
    }
}
