//! One tree: its connection and what is known of it.

use crate::client::{Client, Moment, nonsense};
use crate::convert;
use crate::descriptors::Cache;
use crate::directory::LEAST_PATIENCE;
use crate::node::{Key, Node};
use abi::Errno;
use control::fs::{self as wire, ROOT, Reply, Request};
use std::collections::{HashMap, VecDeque};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use sync::{Mutex, ranks};
use vfs::{DeviceRegistry, FileType, Inode};

/// Most entries of listed directories that are kept.
const MAX_LISTED: usize = 50_000;

/// How a tree is used.
#[derive(Clone, Debug)]
pub struct Options {
    /// Nobody else changes it: names and attributes are kept.
    pub exclusive: bool,
    /// Nothing may be changed (the gofer refuses it as well).
    pub readonly: bool,
    /// What device nodes in it lead to.
    pub devices: Arc<DeviceRegistry>,
}

pub(crate) struct Fs {
    pub(crate) client: Client,
    pub(crate) options: Options,
    pub(crate) cache: Cache,
    nodes: Mutex<HashMap<Key, Weak<Node>>, ranks::Leaf>,
    /// Nodes with an endpoint bound to them stay for as long as their name does.
    bound: Mutex<HashMap<Key, Arc<Node>>, ranks::Leaf>,
    /// The host's device numbers, and ours in their place.
    devs: Mutex<HashMap<u64, u64>, ranks::Leaf>,
    /// How many listings were worth making, up to [`LEAST_PATIENCE`], since one was not.
    pub(crate) walks: AtomicU32,
    listed: AtomicUsize,
    listed_dirs: Mutex<VecDeque<Weak<Node>>, ranks::Leaf>,
}

/// Connects to the gofer behind `socket`; returns the root of its tree, a directory or a file.
///
/// # Errors
/// `EIO` when the gofer does not answer, and what it says of its root.
pub fn connect(socket: OwnedFd, options: Options) -> Result<Arc<dyn Inode>, Errno> {
    let fs = Arc::new(Fs {
        client: Client::new(socket),
        options,
        cache: Cache::default(),
        nodes: Mutex::default(),
        bound: Mutex::default(),
        devs: Mutex::default(),
        walks: AtomicU32::new(0),
        listed: AtomicUsize::new(0),
        listed_dirs: Mutex::default(),
    });
    let answer = fs.client.ask(Request::Stat { node: ROOT })?;
    let Reply::Attr(attr) = answer.reply else {
        return nonsense();
    };
    Ok(fs.intern(&wire::Entry { node: ROOT, attr }, answer.at))
}

impl Fs {
    /// The node of what the gofer has found.
    pub(crate) fn intern(self: &Arc<Self>, entry: &wire::Entry, at: Moment) -> Arc<Node> {
        let key = Key::of(&entry.attr);
        let dev = self.dev(entry.attr.dev);
        let fresh = Node::build(self, entry.node, key, convert::attr(&entry.attr, dev), at);
        let mut nodes = self.nodes.lock();
        let known = nodes.get(&key).and_then(Weak::upgrade);
        if known.is_none() {
            nodes.insert(key, Arc::downgrade(&fresh));
        }
        drop(nodes);
        match known {
            Some(known) => {
                // The fresh node tells the gofer that its number is not needed.
                known.learn(&entry.attr, at);
                known
            }
            None => fresh,
        }
    }

    /// `node` is no more.
    pub(crate) fn gone(&self, node: &Node) {
        let mut nodes = self.nodes.lock();
        // Another may have taken its place already.
        if nodes
            .get(&node.key)
            .is_some_and(|n| std::ptr::eq(n.as_ptr(), node))
        {
            nodes.remove(&node.key);
        }
        drop(nodes);
        self.client.forget(node.id);
    }

    /// The device number that the guest sees for the host's.
    fn dev(&self, host: u64) -> u64 {
        *self
            .devs
            .lock()
            .entry(host)
            .or_insert_with(vfs::anon::next_dev)
    }

    pub(crate) fn bind(&self, node: &Arc<Node>) {
        let old = self.bound.lock().insert(node.key, node.clone());
        drop(old);
    }

    pub(crate) fn unbind(&self, node: &Node) {
        if node.kind == FileType::Socket {
            let old = self.bound.lock().remove(&node.key);
            drop(old);
        }
    }

    /// A directory keeps its whole listing from now on; older listings go when there are many.
    pub(crate) fn note_listed(&self, dir: &Arc<Node>, entries: usize) {
        self.listed_dirs.lock().push_back(Arc::downgrade(dir));
        self.listed.fetch_add(entries, Ordering::Relaxed);
        while self.listed.load(Ordering::Relaxed) > MAX_LISTED {
            let Some(oldest) = self.listed_dirs.lock().pop_front() else {
                break;
            };
            if let Some(oldest) = oldest.upgrade() {
                oldest.drop_listing();
            }
        }
    }

    /// A listing has answered enough look-ups.
    pub(crate) fn worth_listing(&self) {
        let more = |n: u32| (n < LEAST_PATIENCE).then_some(n + 1);
        let _at_most = self
            .walks
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
    }

    /// That many entries are not kept any more.
    pub(crate) fn note_dropped(&self, entries: usize) {
        let sub = |n: usize| Some(n.saturating_sub(entries));
        let _always = self
            .listed
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, sub);
    }
}
