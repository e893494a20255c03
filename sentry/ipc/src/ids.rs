//! Identifiers, keys and permissions, which the three kinds have in common.

use abi::Errno;
use auth::{Capability, Creds, UserNamespace};
use ctx::Ctx;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use sync::{Mutex, ranks};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::{CREAT, EXCL, Limits, PRIVATE};
use sysctl::Knob;

/// Bits of an identifier that are its place in the table; above them is a sequence number, so
/// that an identifier kept too long is told from a new one at the same place.
const INDEX_BITS: u32 = 15;
/// Places are used in a circle of at least so many.
const CIRCLE: u32 = 64;

/// The commands that all `*ctl` calls have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Control {
    /// `IPC_RMID`
    Remove,
    /// `IPC_SET`
    Set,
    /// `IPC_STAT`
    Stat,
    /// `IPC_INFO`
    Info,
}

impl Control {
    /// By its number.
    pub fn from_number(n: i32) -> Option<Control> {
        Some(match n {
            0 => Control::Remove,
            1 => Control::Set,
            2 => Control::Stat,
            3 => Control::Info,
            _ => return None,
        })
    }
}

/// Whose an object is, and what others may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(
    missing_docs,
    reason = "sysvipc(7), `struct ipc_perm`, says what each is"
)]
pub struct Perm {
    pub key: i32,
    pub uid: u32,
    pub gid: u32,
    pub cuid: u32,
    pub cgid: u32,
    pub mode: u32,
    pub seq: u16,
}

/// `struct ipc64_perm`.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
#[expect(
    missing_docs,
    reason = "sysvipc(7), `struct ipc_perm`, says what each is"
)]
pub struct PermWords {
    pub key: i32,
    pub uid: u32,
    pub gid: u32,
    pub cuid: u32,
    pub cgid: u32,
    pub mode: u32,
    pub seq: u16,
    pub pad: [u16; 3],
    pub unused: [u64; 2],
}

impl Perm {
    fn new(creds: &Creds, key: i32, mode: i32, seq: u32) -> Perm {
        Perm {
            key,
            uid: creds.euid,
            gid: creds.egid,
            cuid: creds.euid,
            cgid: creds.egid,
            mode: mode as u32 & 0o777,
            seq: seq as u16,
        }
    }

    /// Whether all bits of `wanted` (`0o444`, `0o222`, or a mode as given to a `*get` call) are
    /// granted to the caller, in a namespace of `owner`.
    ///
    /// # Errors
    /// `EACCES`.
    pub fn check(&self, creds: &Creds, owner: &UserNamespace, wanted: i32) -> Result<(), Errno> {
        let wanted = wanted as u32;
        let requested = wanted >> 6 | wanted >> 3 | wanted;
        let granted = if creds.euid == self.cuid || creds.euid == self.uid {
            self.mode >> 6
        } else if creds.in_group(self.cgid) || creds.in_group(self.gid) {
            self.mode >> 3
        } else {
            self.mode
        };
        if requested & !granted & 7 != 0 && !creds.has_in(owner, Capability::IpcOwner) {
            return Err(Errno::EACCES);
        }
        Ok(())
    }

    /// Whether the caller may change or remove the object, in a namespace of `owner`.
    ///
    /// # Errors
    /// `EPERM`.
    pub fn check_owner(&self, creds: &Creds, owner: &UserNamespace) -> Result<(), Errno> {
        let own = creds.euid == self.cuid || creds.euid == self.uid;
        if own || creds.has_in(owner, Capability::SysAdmin) {
            Ok(())
        } else {
            Err(Errno::EPERM)
        }
    }

    /// `IPC_SET`: the owner, the group and the permission bits, as a program in `ns` says them.
    ///
    /// # Errors
    /// `EINVAL` for ids that cannot be.
    pub fn set(&mut self, words: &PermWords, ns: &UserNamespace) -> Result<(), Errno> {
        let ids = (ns.uid(words.uid), ns.gid(words.gid));
        let (Some(uid), Some(gid)) = ids else {
            return Err(Errno::EINVAL);
        };
        (self.uid, self.gid) = (uid, gid);
        self.mode = self.mode & !0o777 | words.mode & 0o777;
        Ok(())
    }

    /// As `IPC_STAT` gives it to a program in `ns`.
    pub fn words(&self, ns: &UserNamespace) -> PermWords {
        PermWords {
            key: self.key,
            uid: ns.shown_uid(self.uid),
            gid: ns.shown_gid(self.gid),
            cuid: ns.shown_uid(self.cuid),
            cgid: ns.shown_gid(self.cgid),
            mode: self.mode,
            seq: self.seq,
            ..PermWords::default()
        }
    }
}

/// An object of one of the three kinds.
pub(crate) trait Object {
    /// Its permissions now.
    fn perm(&self) -> Perm;
}

/// The objects of one kind.
pub(crate) struct Ids<T> {
    limits: Arc<Limits>,
    /// Of the limits, how many there may be, and which identifier the next is to have.
    mine: fn(&Limits) -> (&Knob, &Knob),
    inner: Mutex<Inner<T>, ranks::Leaf>,
}

struct Inner<T> {
    objects: BTreeMap<u32, (i32, Arc<T>)>,
    keys: HashMap<i32, u32>,
    next: u32,
    last: Option<u32>,
    seq: u32,
}

impl<T: Object> Ids<T> {
    pub(crate) fn new(limits: &Arc<Limits>, mine: fn(&Limits) -> (&Knob, &Knob)) -> Ids<T> {
        Ids {
            limits: limits.clone(),
            mine,
            inner: Mutex::new(Inner {
                objects: BTreeMap::new(),
                keys: HashMap::new(),
                next: 0,
                last: None,
                seq: 0,
            }),
        }
    }

    /// The `*get` calls. `check` looks at an object that is there already, `make` makes a new one
    /// with its identifier and permissions.
    pub(crate) fn get_or_make(
        &self,
        cx: &dyn Ctx,
        key: i32,
        flags: i32,
        check: impl FnOnce(&T) -> Result<(), Errno>,
        make: impl FnOnce(i32, Perm) -> Result<T, Errno>,
    ) -> Result<i32, Errno> {
        let creds = cx.creds();
        let mut inner = self.inner.lock();
        let known = inner.keys.get(&key).filter(|_| key != PRIVATE);
        if let Some((id, object)) = known.and_then(|at| inner.objects.get(at)) {
            if flags & (CREAT | EXCL) == CREAT | EXCL {
                return Err(Errno::EEXIST);
            }
            let (id, object) = (*id, object.clone());
            drop(inner);
            check(&object)?;
            object.perm().check(&creds, &self.limits.owner, flags)?;
            return Ok(id);
        }
        if key != PRIVATE && flags & CREAT == 0 {
            return Err(Errno::ENOENT);
        }
        let (most, next_id) = (self.mine)(&self.limits);
        let full = inner.objects.len() >= most.size();
        let wanted = u32::try_from(next_id.get()).ok();
        let place = wanted.map_or_else(|| inner.place(), |id| inner.place_for(id));
        let (index, seq) = place.filter(|_| !full).unwrap_or((0, 0));
        let id = (seq << INDEX_BITS | index) as i32;
        // What cannot be made is refused before the want of room is.
        let object = make(id, Perm::new(&creds, key, flags, seq))?;
        if full {
            // The object takes locks when it goes.
            drop(inner);
            return Err(Errno::ENOSPC);
        }
        match wanted {
            Some(_) => next_id.clear(),
            None => inner.follow(index, seq),
        }
        inner.objects.insert(index, (id, Arc::new(object)));
        if key != PRIVATE {
            inner.keys.insert(key, index);
        }
        Ok(id)
    }

    /// The object with identifier `id`.
    ///
    /// # Errors
    /// `EINVAL` where there is none at its place, `EIDRM` where there is another.
    pub(crate) fn get(&self, id: i32) -> Result<Arc<T>, Errno> {
        let index = u32::try_from(id).map_err(|_| Errno::EINVAL)? & ((1 << INDEX_BITS) - 1);
        match self.inner.lock().objects.get(&index) {
            None => Err(Errno::EINVAL),
            Some((known, _)) if *known != id => Err(Errno::EIDRM),
            Some((_, object)) => Ok(object.clone()),
        }
    }

    /// The object at place `index` of the table, and its identifier (`*_STAT`).
    pub(crate) fn at(&self, index: i32) -> Result<(i32, Arc<T>), Errno> {
        let index = u32::try_from(index).map_err(|_| Errno::EINVAL)? & ((1 << INDEX_BITS) - 1);
        let inner = self.inner.lock();
        let found = inner.objects.get(&index).ok_or(Errno::EINVAL)?;
        Ok((found.0, found.1.clone()))
    }

    /// Takes an object out; whether it was there.
    pub(crate) fn remove(&self, id: i32) -> bool {
        let mut inner = self.inner.lock();
        let index = id as u32 & ((1 << INDEX_BITS) - 1);
        if inner
            .objects
            .get(&index)
            .is_none_or(|(known, _)| *known != id)
        {
            return false;
        }
        inner.keys.retain(|_, at| *at != index);
        let gone = inner.objects.remove(&index);
        drop(inner);
        gone.is_some()
    }

    /// The object can no longer be found by its key.
    pub(crate) fn forget_key(&self, key: i32) {
        self.inner.lock().keys.remove(&key);
    }

    /// All of them, in the order of their places.
    pub(crate) fn all(&self) -> Vec<(i32, Arc<T>)> {
        let inner = self.inner.lock();
        inner.objects.values().cloned().collect()
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.inner.lock().objects.len()
    }

    /// The highest place in use; 0 for none.
    pub(crate) fn highest(&self) -> u32 {
        let inner = self.inner.lock();
        inner.objects.keys().next_back().copied().unwrap_or(0)
    }
}

impl<T> Inner<T> {
    /// The place and the sequence number for a new object.
    fn place(&self) -> Option<(u32, u32)> {
        let used = self.objects.len() as u32;
        let end = (used * 3 / 2).clamp(CIRCLE, 1 << INDEX_BITS);
        let free = |i: &u32| !self.objects.contains_key(i);
        let index = (self.next..end)
            .find(free)
            .or_else(|| (0..end).find(free))?;
        let wrapped = self.last.is_some_and(|last| index <= last);
        let seq = if wrapped {
            (self.seq + 1) & 0xffff
        } else {
            self.seq
        };
        Some((index, seq))
    }

    /// The place and the sequence number for one that is to have identifier `id`: the first free
    /// place from there on.
    fn place_for(&self, id: u32) -> Option<(u32, u32)> {
        let end = 1 << INDEX_BITS;
        let index = (id % end..end).find(|i| !self.objects.contains_key(i))?;
        Some((index, id >> INDEX_BITS))
    }

    /// What [`Inner::place`] said is taken.
    fn follow(&mut self, index: u32, seq: u32) {
        self.next = index + 1;
        self.last = Some(index);
        self.seq = seq;
    }
}
