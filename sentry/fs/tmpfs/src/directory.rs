//! The content of a directory.

use crate::node::Node;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// Names and nodes. Each entry has a number that it keeps while it lives: listing goes by these,
/// so that it is not disturbed by what comes and goes.
#[derive(Default)]
pub(crate) struct Directory {
    by_name: HashMap<Box<[u8]>, u64>,
    entries: BTreeMap<u64, (Box<[u8]>, Arc<Node>)>,
    last: u64,
}

/// Positions 0 and 1 are `.` and `..`.
const FIRST: u64 = 2;

impl Directory {
    pub(crate) fn get(&self, name: &[u8]) -> Option<&Arc<Node>> {
        self.entries
            .get(self.by_name.get(name)?)
            .map(|(_, node)| node)
    }

    /// Adds an entry, or leads one elsewhere; returns what it led to.
    pub(crate) fn insert(&mut self, name: &[u8], node: Arc<Node>) -> Option<Arc<Node>> {
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

    pub(crate) fn remove(&mut self, name: &[u8]) -> Option<Arc<Node>> {
        let at = self.by_name.remove(name)?;
        self.entries.remove(&at).map(|(_, node)| node)
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Entries from position `from` on.
    pub(crate) fn list(&self, from: u64) -> impl Iterator<Item = (u64, &[u8], &Arc<Node>)> {
        self.entries
            .range(from.max(FIRST)..)
            .map(|(at, (name, node))| (*at, &**name, node))
    }
}

impl Directory {
    /// All nodes, for taking a tree apart.
    pub(crate) fn into_nodes(self) -> Vec<Arc<Node>> {
        self.entries.into_values().map(|(_, node)| node).collect()
    }
}
