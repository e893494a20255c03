//! Who hears of a mount: peer groups and their slaves (mount_namespaces(7)).
//!
//! All of it changes with the trees locked ([`crate::tree`]).

use crate::{Mount, VfsPath};
use std::collections::BTreeSet;
use std::sync::{Arc, Weak};
use sync::{Mutex, ranks};

/// How a mount takes part in propagation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Propagation {
    /// What is mounted below it is mounted below its peers too, and the other way round.
    Shared,
    /// It receives from those that were its peers and gives nothing.
    Slave,
    /// It neither gives nor receives.
    Private,
    /// As private, and it cannot be bound elsewhere.
    Unbindable,
}

/// Mounts that hear of each other.
pub(crate) struct PeerGroup {
    id: u32,
    members: Mutex<Members, ranks::Leaf>,
}

#[derive(Default)]
struct Members {
    peers: Vec<Weak<Mount>>,
    /// Those that receive from it, whether they are in a group of their own or not.
    slaves: Vec<Weak<Mount>>,
}

/// The numbers that are in use, of which the smallest free one is the next; it is `from` or above.
struct Ids {
    used: BTreeSet<u32>,
    from: u32,
}

static IDS: Mutex<Ids, ranks::Leaf> = Mutex::new(Ids {
    used: BTreeSet::new(),
    from: 1,
});

impl PeerGroup {
    fn new() -> Arc<PeerGroup> {
        let mut ids = IDS.lock();
        let free = (ids.from..).find(|n| !ids.used.contains(n));
        let id = free.unwrap_or(u32::MAX);
        ids.used.insert(id);
        ids.from = id.saturating_add(1);
        Arc::new(PeerGroup {
            id,
            members: Mutex::default(),
        })
    }

    /// As /proc/PID/mountinfo has it.
    pub(crate) fn id(&self) -> u32 {
        self.id
    }

    /// Its mounts, beginning behind `after` where that is one.
    pub(crate) fn peers(&self, after: Option<&Arc<Mount>>) -> Vec<Arc<Mount>> {
        let mut all: Vec<Arc<Mount>> = {
            let members = self.members.lock();
            members.peers.iter().filter_map(Weak::upgrade).collect()
        };
        if let Some(at) = after.and_then(|m| all.iter().position(|p| Arc::ptr_eq(p, m))) {
            all.rotate_left(at);
            all.remove(0);
        }
        all
    }

    /// Those that receive from it.
    pub(crate) fn slaves(&self) -> Vec<Arc<Mount>> {
        let members = self.members.lock();
        members.slaves.iter().filter_map(Weak::upgrade).collect()
    }

    fn join(&self, mount: &Arc<Mount>, beside: Option<&Arc<Mount>>) {
        let mut members = self.members.lock();
        let place = beside.and_then(|b| position(&members.peers, b));
        let place = place.map_or(members.peers.len(), |at| at + 1);
        members.peers.insert(place, Arc::downgrade(mount));
    }

    /// Whether others are left.
    fn leave(&self, mount: &Arc<Mount>) -> bool {
        let mut members = self.members.lock();
        if let Some(at) = position(&members.peers, mount) {
            members.peers.remove(at);
        }
        !members.peers.is_empty()
    }

    /// Behind another of them, or as the first.
    fn add_slave(&self, mount: &Arc<Mount>, beside: Option<&Arc<Mount>>) {
        let mut members = self.members.lock();
        let place = beside.and_then(|b| position(&members.slaves, b));
        let place = place.map_or(0, |at| at + 1);
        members.slaves.insert(place, Arc::downgrade(mount));
    }

    fn remove_slave(&self, mount: &Arc<Mount>) {
        let mut members = self.members.lock();
        if let Some(at) = position(&members.slaves, mount) {
            members.slaves.remove(at);
        }
    }

    fn take_slaves(&self) -> Vec<Arc<Mount>> {
        let all = std::mem::take(&mut self.members.lock().slaves);
        all.iter().filter_map(Weak::upgrade).collect()
    }
}

impl Drop for PeerGroup {
    fn drop(&mut self) {
        let mut ids = IDS.lock();
        ids.used.remove(&self.id);
        ids.from = ids.from.min(self.id);
    }
}

fn position(all: &[Weak<Mount>], mount: &Arc<Mount>) -> Option<usize> {
    let at = Arc::as_ptr(mount);
    all.iter().position(|m| std::ptr::eq(m.as_ptr(), at))
}

/// What a copy of a mount has to do with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kinship {
    /// It is in the same groups.
    Same,
    /// It receives from it.
    Slave,
}

impl Mount {
    /// The group it is in, where it is shared.
    pub(crate) fn peer_group(&self) -> Option<Arc<PeerGroup>> {
        self.links().peers.clone()
    }

    /// The group it receives from.
    pub(crate) fn master(&self) -> Option<Arc<PeerGroup>> {
        self.links().master.clone()
    }

    /// Whether it gives on what is mounted below it.
    pub fn is_shared(&self) -> bool {
        self.links().peers.is_some()
    }

    /// Whether it may not be bound elsewhere.
    pub fn is_unbindable(&self) -> bool {
        self.links().unbindable
    }

    /// The number of its peer group (`shared:` of /proc/PID/mountinfo).
    pub fn shared_id(&self) -> Option<u32> {
        self.peer_group().map(|g| g.id())
    }

    /// The number of the group that it receives from (`master:`).
    pub fn master_id(&self) -> Option<u32> {
        self.master().map(|g| g.id())
    }

    /// The nearest group, going from who it receives from to theirs, of which a mount can be
    /// reached from `root` in its namespace (`propagate_from:`), where that is not the first.
    pub fn propagate_from(&self, root: &VfsPath) -> Option<u32> {
        let namespace = self.namespace()?;
        let first = self.master()?;
        let mut group = first.clone();
        loop {
            let peers = group.peers(None);
            let seen =
                |m: &Arc<Mount>| m.is_in(&namespace) && m.root_path().path_below(root).is_some();
            if peers.iter().any(seen) {
                return (!Arc::ptr_eq(&group, &first)).then(|| group.id());
            }
            group = peers.first()?.master()?;
        }
    }

    pub(crate) fn make_shared(self: &Arc<Self>) {
        if self.is_shared() {
            return;
        }
        let group = PeerGroup::new();
        group.join(self, None);
        let mut links = self.links();
        links.peers = Some(group);
        links.unbindable = false;
    }

    /// Makes a new copy of `old` what `kinship` says. What was unbindable is only private in a copy.
    pub(crate) fn related(self: &Arc<Self>, old: &Arc<Mount>, kinship: Kinship) {
        let (peers, master) = {
            let links = old.links();
            (links.peers.clone(), links.master.clone())
        };
        let (peers, master) = match (kinship, peers) {
            (Kinship::Slave, Some(group)) => (None, Some(group)),
            (Kinship::Slave, None) => (None, master),
            (Kinship::Same, peers) => (peers, master),
        };
        if let Some(group) = &peers {
            group.join(self, Some(old));
        }
        if let Some(group) = &master {
            group.add_slave(self, Some(old));
        }
        let mut links = self.links();
        links.peers = peers;
        links.master = master;
    }

    pub(crate) fn set_propagation(self: &Arc<Self>, kind: Propagation) {
        if kind == Propagation::Shared {
            return self.make_shared();
        }
        let (group, old_master) = {
            let mut links = self.links();
            (links.peers.take(), links.master.take())
        };
        let mut source = old_master.clone();
        if let Some(group) = group {
            if group.leave(self) {
                source = Some(group);
            } else {
                // Who received from it receives from where it did.
                for slave in group.take_slaves() {
                    if let Some(master) = &old_master {
                        master.add_slave(&slave, None);
                    }
                    slave.links().master.clone_from(&old_master);
                }
            }
        }
        if let Some(master) = &old_master {
            master.remove_slave(self);
        }
        let mut links = self.links();
        if kind == Propagation::Slave {
            links.master.clone_from(&source);
        } else {
            links.unbindable = kind == Propagation::Unbindable;
        }
        drop(links);
        if kind == Propagation::Slave
            && let Some(source) = source
        {
            source.add_slave(self, None);
        }
    }

    /// All that hear of what is mounted below it, itself excluded.
    pub(crate) fn receivers(self: &Arc<Self>) -> Vec<Arc<Mount>> {
        let Some(group) = self.peer_group() else {
            return Vec::new();
        };
        let mut all = group.peers(Some(self));
        let mut groups = vec![group];
        let mut next = 0;
        while let Some(group) = groups.get(next).cloned() {
            next += 1;
            for slave in group.slaves() {
                match slave.peer_group() {
                    None => all.push(slave),
                    Some(own) if groups.iter().any(|g| Arc::ptr_eq(g, &own)) => {}
                    Some(own) => {
                        all.extend(own.peers(None));
                        groups.push(own);
                    }
                }
            }
        }
        all
    }
}
