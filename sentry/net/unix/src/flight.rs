//! Descriptors on the way from a socket to another.
//!
//! A socket that is sent over a socket is held by that one's inbox. Sockets that only each other's
//! inboxes hold are out of everybody's reach and would stay for ever. They are looked for when a
//! socket is closed, as Linux does, and when many are on the way.
//!
//! What is out of reach stays so: a further reference to an open file can only be made from one
//! that is not in an inbox. So a file that has no more references than the inboxes hold, all of
//! which are locked meanwhile, is kept alive by those inboxes alone.

use crate::UnixSocket;
use crate::inbox::Packet;
use crate::socket::State;
use net::socket_of;
use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use sync::{Mutex, MutexGuard, ranks};
use vfs::File;

/// Carriers before it is first worth looking.
const ENOUGH: usize = 64;

struct Flight {
    /// Sockets with sockets in their inboxes, and some that have had them, by their numbers.
    carriers: BTreeMap<u64, Weak<UnixSocket>>,
    /// How many are to be there before a sender looks.
    enough: usize,
}

// Lock order: flight -> the carriers, by their numbers.
static FLIGHT: Mutex<Flight, ranks::Flight> = Mutex::new(Flight {
    carriers: BTreeMap::new(),
    enough: ENOUGH,
});
/// How many carriers there are, for those who have nothing to look for.
static CARRIERS: AtomicUsize = AtomicUsize::new(0);
/// Sockets closed since somebody looked.
static CLOSED: AtomicUsize = AtomicUsize::new(0);
/// A close pays for looking at so many carriers.
const PAYS: usize = 16;

/// The socket of this family behind a file, by its number.
fn socket_in(file: &File) -> Option<u64> {
    let socket = socket_of(file).ok()?.as_any();
    socket.downcast_ref::<UnixSocket>().map(|s| s.ino)
}

/// Whether sockets are among `files`.
pub(crate) fn has_sockets(files: &[Arc<File>]) -> bool {
    files.iter().any(|file| socket_in(file).is_some())
}

/// Sockets have come into the inbox of `carrier`. To be told after that: until then they count as
/// in somebody's reach.
pub(crate) fn landed(carrier: &UnixSocket) {
    let mut flight = FLIGHT.lock();
    flight.carriers.insert(carrier.ino, carrier.me.clone());
    let many = flight.carriers.len() > flight.enough;
    CARRIERS.store(flight.carriers.len(), Ordering::Relaxed);
    drop(flight);
    if many {
        collect();
    }
}

/// A socket was closed, which may have been the last that somebody could reach of some. Where many
/// are on the way they are looked through after as many closes as pay for that.
pub(crate) fn closed() {
    let carriers = CARRIERS.load(Ordering::Relaxed);
    if carriers > 0 && CLOSED.fetch_add(1, Ordering::Relaxed) >= carriers / PAYS {
        collect();
    }
}

/// Closes sockets that nobody can reach any more.
fn collect() {
    let mut flight = FLIGHT.lock();
    CLOSED.store(0, Ordering::Relaxed);
    let carriers: Vec<_> = flight.carriers.values().filter_map(Weak::upgrade).collect();
    let mut states: Vec<_> = carriers.iter().map(|c| c.state.lock_nested()).collect();
    let dead = unreachable(&carriers, &states);
    let mut left = Vec::new();
    flight.carriers.clear();
    for (n, (carrier, state)) in carriers.iter().zip(&mut states).enumerate() {
        if dead.contains(&n) {
            left.extend(state.inbox.clear());
        } else if state.inbox.rights().any(|f| socket_in(f).is_some()) {
            flight.carriers.insert(carrier.ino, carrier.me.clone());
        }
    }
    flight.enough = ENOUGH.max(2 * flight.carriers.len());
    CARRIERS.store(flight.carriers.len(), Ordering::Relaxed);
    drop(states);
    drop(flight);
    // Without a lock, as these may be the last references.
    drop(carriers);
    discard(left);
}

/// Which of the carriers nobody can reach.
fn unreachable(carriers: &[Arc<UnixSocket>], states: &[MutexGuard<'_, State>]) -> HashSet<usize> {
    // References to each socket on the way: all that there are, and those of inboxes.
    let mut sockets = HashMap::<u64, (usize, usize)>::new();
    for file in states.iter().flat_map(|s| s.inbox.rights()) {
        if let Some(ino) = socket_in(file) {
            let counts = sockets.entry(ino).or_insert((Arc::strong_count(file), 0));
            counts.1 += 1;
        }
    }
    let held = |ino: &u64| sockets.get(ino).is_none_or(|(all, inboxes)| all > inboxes);
    // One that was not accepted yet is reached through who listens.
    let mut owned = HashMap::<u64, Vec<usize>>::new();
    for (n, (carrier, state)) in carriers.iter().zip(states).enumerate() {
        let owner = state.listener.upgrade().map_or(carrier.ino, |l| l.ino);
        owned.entry(owner).or_default().push(n);
    }
    let mut dead: HashSet<usize> = (0..carriers.len()).collect();
    let mut next: Vec<u64> = owned.keys().filter(|ino| held(ino)).copied().collect();
    while let Some(owner) = next.pop() {
        for n in owned.remove(&owner).unwrap_or_default() {
            dead.remove(&n);
            let inside = states.get(n).into_iter().flat_map(|s| s.inbox.rights());
            next.extend(inside.filter_map(|file| socket_in(file)));
        }
    }
    dead
}

thread_local! {
    /// What the outermost [`discard`] of this thread has still to do.
    static LEFT: RefCell<Option<Vec<Packet>>> = const { RefCell::new(None) };
}

/// Drops what nobody received. A socket among it may have been the last holder of an inbox with
/// further sockets, and so on as deep as its sender liked, so that it is done piece by piece.
pub(crate) fn discard(packets: impl IntoIterator<Item = Packet>) {
    let outermost = LEFT.with_borrow_mut(|left| {
        let outermost = left.is_none();
        left.get_or_insert_default().extend(packets);
        outermost
    });
    if !outermost {
        return;
    }
    while let Some(packet) = LEFT.with_borrow_mut(|left| left.as_mut()?.pop()) {
        drop(packet);
    }
    LEFT.set(None);
}
