//! What is known of a directory's names.

use crate::client::nonsense;
use crate::node::Node;
use abi::Errno;
use control::fs::{Reply, Request};
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use sync::{Mutex, RwLock, ranks};

/// After so many look-ups a directory is listed instead; more where it is large: listing costs
/// about a tenth of a look-up for each entry.
const PATIENCE: u64 = 4;
/// Bytes of a directory for each further look-up.
const PATIENCE_SIZE: u64 = 512;
/// Each directory whose listing was worth it halves the patience with the next ones, down to this
/// part (an exponent of two): who goes through one directory of a tree goes through the others.
pub(crate) const LEAST_PATIENCE: u32 = 3;
/// Bytes of a directory that is listed sooner for that; a wrong guess costs little.
const SMALL: u64 = 16 << 10;
/// A listing that has answered so many look-ups was worth making.
const WORTH_IT: u32 = 8;
/// A directory with more entries is never listed for look-ups.
const LARGE: usize = 20_000;
/// Positions 0 and 1 are `.` and `..`.
pub(crate) const FIRST: u64 = 2;

/// A directory's names, all or some.
#[derive(Default)]
pub(crate) struct Directory {
    /// Every name, where the tree is exclusive and the directory was listed.
    listing: RwLock<Option<Listing>, ranks::Inode>,
    /// Single names that lead to nodes in use, while there is no listing.
    known: Mutex<HashMap<Box<[u8]>, Weak<Node>>, ranks::Leaf>,
    /// Changes so far, counted under the lock of `listing`.
    changes: AtomicU64,
    asked: AtomicU32,
    /// Look-ups that the listing has answered.
    answered: AtomicU32,
    large: AtomicBool,
}

/// All names. Each has a number that it keeps while it lives: readers go by these, so that they
/// are not disturbed by what comes and goes.
#[derive(Default)]
pub(crate) struct Listing {
    by_name: HashMap<Box<[u8]>, u64>,
    entries: BTreeMap<u64, (Box<[u8]>, Arc<Node>)>,
    last: u64,
}

impl Listing {
    fn get(&self, name: &[u8]) -> Option<&Arc<Node>> {
        self.entries
            .get(self.by_name.get(name)?)
            .map(|(_, node)| node)
    }

    fn insert(&mut self, name: &[u8], node: Arc<Node>) -> Option<Arc<Node>> {
        if let Some(entry) = self
            .by_name
            .get(name)
            .and_then(|at| self.entries.get_mut(at))
        {
            return Some(std::mem::replace(&mut entry.1, node));
        }
        self.last = self.last.max(FIRST - 1) + 1;
        self.by_name.insert(name.into(), self.last);
        self.entries.insert(self.last, (name.into(), node));
        None
    }

    fn remove(&mut self, name: &[u8]) -> Option<Arc<Node>> {
        let at = self.by_name.remove(name)?;
        self.entries.remove(&at).map(|(_, node)| node)
    }

    /// Entries from position `from` on.
    pub(crate) fn from(&self, from: u64) -> impl Iterator<Item = (u64, &[u8], &Arc<Node>)> {
        self.entries
            .range(from.max(FIRST)..)
            .map(|(at, (name, node))| (*at, &**name, node))
    }
}

impl Directory {
    /// Takes the listing apart, of a directory that is no more.
    pub(crate) fn take(&mut self) -> Vec<Arc<Node>> {
        let listing = self.listing.get_mut().take().unwrap_or_default();
        listing
            .entries
            .into_values()
            .map(|(_, node)| node)
            .collect()
    }
}

impl Node {
    /// Finds `name` in this directory.
    pub(crate) fn find(&self, name: &[u8]) -> Result<Arc<Node>, Errno> {
        if self.fs.options.exclusive {
            if let Some(answer) = self.find_listed(name) {
                return answer;
            }
            if let Some(child) = self.known(name) {
                return Ok(child);
            }
            let asked = self.directory().asked.fetch_add(1, Ordering::Relaxed);
            if u64::from(asked) >= self.patience()
                && self.list_all()?
                && let Some(answer) = self.find_listed(name)
            {
                return answer;
            }
        }
        let request = Request::Lookup {
            dir: self.id,
            name: name.to_vec(),
            open: self.fs.cache.guess(),
        };
        let answer = self.fs.client.ask(request)?;
        let Reply::Entry { entry, opened, .. } = answer.reply else {
            return nonsense();
        };
        let child = self.fs.intern(&entry, answer.at);
        if let (Some(opened), Some(fd)) = (opened, answer.fd) {
            child.keep_guessed(opened, fd);
        }
        self.remember(name, &child);
        Ok(child)
    }

    /// How many names are asked for one by one.
    fn patience(&self) -> u64 {
        let size = self.known_size();
        let usual = PATIENCE + size / PATIENCE_SIZE;
        if size > SMALL {
            return usual;
        }
        (usual >> self.fs.walks.load(Ordering::Relaxed)).max(1)
    }

    /// The listing's answer, where there is a listing.
    fn find_listed(&self, name: &[u8]) -> Option<Result<Arc<Node>, Errno>> {
        let directory = self.directory();
        let listing = directory.listing.read();
        let answer = listing.as_ref()?.get(name).cloned().ok_or(Errno::ENOENT);
        if directory.answered.fetch_add(1, Ordering::Relaxed) == WORTH_IT {
            self.fs.worth_listing();
        }
        Some(answer)
    }

    fn known(&self, name: &[u8]) -> Option<Arc<Node>> {
        self.directory().known.lock().get(name)?.upgrade()
    }

    /// The node behind `name`, if it is known without asking.
    pub(crate) fn child(&self, name: &[u8]) -> Option<Arc<Node>> {
        match self.find_listed(name) {
            Some(answer) => answer.ok(),
            None => self.known(name),
        }
    }

    fn remember(&self, name: &[u8], child: &Arc<Node>) {
        let mut known = self.directory().known.lock();
        // Names of nodes that are gone make room.
        if known.len() >= 64 && known.len().is_power_of_two() {
            known.retain(|_, node| node.strong_count() > 0);
        }
        known.insert(name.into(), Arc::downgrade(child));
    }

    /// `name` leads to `child` now.
    pub(crate) fn name_added(&self, name: &[u8], child: &Arc<Node>) {
        let mut listing = self.directory().listing.write();
        self.directory().changes.fetch_add(1, Ordering::Relaxed);
        let old = listing.as_mut().and_then(|l| l.insert(name, child.clone()));
        drop(listing);
        drop(old);
        self.remember(name, child);
    }

    /// `name` is gone; returns what it led to, if that is known.
    pub(crate) fn name_removed(&self, name: &[u8]) -> Option<Arc<Node>> {
        let mut listing = self.directory().listing.write();
        self.directory().changes.fetch_add(1, Ordering::Relaxed);
        let listed = listing.as_mut().and_then(|l| l.remove(name));
        drop(listing);
        let known = self.directory().known.lock().remove(name);
        listed.or_else(|| known?.upgrade())
    }

    /// Lists the whole directory, with all attributes; false where it is too large, or changes
    /// all the time.
    pub(crate) fn list_all(&self) -> Result<bool, Errno> {
        if self.directory().listing.read().is_some() {
            return Ok(true);
        }
        for _ in 0..3 {
            if self.directory().large.load(Ordering::Relaxed) {
                return Ok(false);
            }
            let before = self.directory().changes.load(Ordering::Relaxed);
            let all = self.gather()?;
            // The host has noted the access.
            self.touched();
            let Some(all) = all else {
                self.directory().large.store(true, Ordering::Relaxed);
                return Ok(false);
            };
            let mut listing = self.directory().listing.write();
            if self.directory().changes.load(Ordering::Relaxed) != before {
                // A name came or went meanwhile.
                drop(listing);
                continue;
            }
            let entries = all.entries.len();
            let old = listing.replace(all);
            drop(listing);
            drop(old);
            *self.directory().known.lock() = HashMap::new();
            if let Some(me) = self.me.upgrade() {
                self.fs.note_listed(&me, entries);
            }
            return Ok(true);
        }
        Ok(false)
    }

    fn gather(&self) -> Result<Option<Listing>, Errno> {
        let mut all = Listing::default();
        let mut from = 0;
        loop {
            let request = Request::ReadDir {
                dir: self.id,
                from,
                nodes: true,
            };
            let answer = self.fs.client.ask(request)?;
            let Reply::Entries { list, next } = answer.reply else {
                return nonsense();
            };
            for found in list {
                if let Some(entry) = found.entry {
                    all.insert(&found.name, self.fs.intern(&entry, answer.at));
                }
            }
            if all.entries.len() > LARGE {
                return Ok(None);
            }
            match next {
                Some(next) if next != from => from = next,
                _ => return Ok(Some(all)),
            }
        }
    }

    /// Gives the listing up; it can be had again.
    pub(crate) fn drop_listing(&self) {
        let old = self.directory().listing.write().take();
        let Some(old) = old else { return };
        self.fs.note_dropped(old.entries.len());
        self.directory().asked.store(0, Ordering::Relaxed);
        if self.directory().answered.swap(0, Ordering::Relaxed) < WORTH_IT {
            self.fs.walks.store(0, Ordering::Relaxed);
        }
        for (_, name, node) in old.from(0) {
            if Arc::strong_count(node) > 1 {
                self.remember(name, node);
            }
        }
    }

    /// Runs `f` with the listing, if there is one.
    pub(crate) fn with_listing<T>(&self, f: impl FnOnce(&Listing) -> T) -> Option<T> {
        self.directory().listing.read().as_ref().map(f)
    }
}
