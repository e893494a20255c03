//! User namespaces: what ids mean in them, whose they are, and what may be in their maps
//! (user_namespaces(7)).

use crate::counts::{self, Counted, Counts, Share};
use crate::idmap::{self, Extent, IdMap};
use crate::{Capability, Creds, NO_ID};
use abi::Errno;
use abi::page::PAGE_SIZE;
use std::fmt::Write;
use std::sync::{Arc, OnceLock};
use sync::{Mutex, ranks};
use sysctl::Knob;

/// The number of the first, as Linux has it.
pub const FIRST_USER_NAMESPACE: u64 = 0xefff_fffd;
/// How deep they can lie in each other.
const DEPTH: u32 = 33;

/// Of what ids a map is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdKind {
    /// `uid_map`
    User,
    /// `gid_map`
    Group,
    /// `projid_map`
    Project,
}

/// A user namespace. The first is its own case: there, every id is itself.
#[derive(Clone, Default)]
pub struct UserNamespace(Option<Arc<Inner>>);

struct Inner {
    number: u64,
    level: u32,
    parent: UserNamespace,
    /// Whose it is: the effective user and group of who made it.
    owner: u32,
    group: u32,
    maker_could_setfcap: bool,
    maps: [OnceLock<IdMap>; 3],
    /// Whether setgroups(2) is allowed; held while a map is written.
    setgroups: Mutex<bool, ranks::Leaf>,
    counts: Counts,
    /// Itself, in the parent.
    _counted: Share,
}

impl PartialEq for UserNamespace {
    #[inline]
    fn eq(&self, other: &UserNamespace) -> bool {
        match (&self.0, &other.0) {
            (None, None) => true,
            (Some(a), Some(b)) => Arc::ptr_eq(a, b),
            _ => false,
        }
    }
}

impl Eq for UserNamespace {}

impl std::fmt::Debug for UserNamespace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "UserNamespace({})", self.number())
    }
}

impl UserNamespace {
    /// A new one inside that of `maker`, whose it is. See [`Creds::in_new_user_namespace`].
    pub(crate) fn new(maker: &Creds, number: u64, chrooted: bool) -> Result<UserNamespace, Errno> {
        let parent = maker.user_ns.clone();
        if parent.level() >= DEPTH {
            return Err(Errno::ENOSPC);
        }
        let counted = Share::of(&parent, maker.euid, Counted::User)?;
        let allowed = match &parent.0 {
            Some(p) => *p.setgroups.lock(),
            None => true,
        };
        let new = Inner {
            number,
            level: parent.level() + 1,
            owner: maker.euid,
            group: maker.egid,
            maker_could_setfcap: maker.effective.has(Capability::Setfcap),
            maps: [const { OnceLock::new() }; 3],
            setgroups: Mutex::new(allowed),
            counts: Counts::new(),
            _counted: counted,
            parent,
        };
        // Who has no name in the parent could not be told of as the owner.
        if chrooted || !new.parent.names(new.owner, new.group) {
            return Err(Errno::EPERM);
        }
        Ok(UserNamespace(Some(Arc::new(new))))
    }

    /// Whether it is the one that all begins in.
    #[inline]
    pub fn is_first(&self) -> bool {
        self.0.is_none()
    }

    /// The number of its file in `/proc/PID/ns`.
    pub fn number(&self) -> u64 {
        self.0.as_ref().map_or(FIRST_USER_NAMESPACE, |n| n.number)
    }

    /// How many it lies inside of.
    pub fn level(&self) -> u32 {
        self.0.as_ref().map_or(0, |n| n.level)
    }

    /// The one it is in.
    pub fn parent(&self) -> Option<&UserNamespace> {
        self.0.as_ref().map(|n| &n.parent)
    }

    /// The user whose it is.
    pub fn owner(&self) -> u32 {
        self.0.as_ref().map_or(0, |n| n.owner)
    }

    pub(crate) fn counts(&self) -> &Counts {
        self.0.as_ref().map_or(&counts::FIRST, |n| &n.counts)
    }

    /// How many of `kind` one user may have in it (`user.max_…_namespaces`).
    pub fn limit(&self, kind: Counted) -> &Knob {
        self.counts().limit(kind)
    }

    /// Whether it is `other` or lies inside it.
    pub fn is_within(&self, other: &UserNamespace) -> bool {
        let mut at = Some(self);
        while let Some(ns) = at {
            if ns == other {
                return true;
            }
            at = ns.parent();
        }
        false
    }

    /// The user that is called `id` in it; [`NO_ID`] is nobody.
    #[inline]
    pub fn uid(&self, id: u32) -> Option<u32> {
        self.outside(IdKind::User, id)
    }

    /// The group that is called `id` in it.
    #[inline]
    pub fn gid(&self, id: u32) -> Option<u32> {
        self.outside(IdKind::Group, id)
    }

    /// The user and the group that are called so, of which [`NO_ID`] means none.
    ///
    /// # Errors
    /// `EINVAL` where nobody is.
    pub fn ids(&self, uid: u32, gid: u32) -> Result<(u32, u32), Errno> {
        let or_none = |id: u32, found: Option<u32>| match id {
            NO_ID => Ok(NO_ID),
            _ => found.ok_or(Errno::EINVAL),
        };
        Ok((or_none(uid, self.uid(uid))?, or_none(gid, self.gid(gid))?))
    }

    /// What user `id` is called in it.
    #[inline]
    pub fn uid_name(&self, id: u32) -> Option<u32> {
        self.inside(IdKind::User, id)
    }

    /// What group `id` is called in it.
    #[inline]
    pub fn gid_name(&self, id: u32) -> Option<u32> {
        self.inside(IdKind::Group, id)
    }

    /// What a program in it is told user `id` is: the overflow id where it has no name.
    #[inline]
    pub fn shown_uid(&self, id: u32) -> u32 {
        match &self.0 {
            None if id != NO_ID => id,
            _ => self
                .uid_name(id)
                .unwrap_or(sysctl::OVERFLOW_UID.get() as u32),
        }
    }

    /// What a program in it is told group `id` is.
    #[inline]
    pub fn shown_gid(&self, id: u32) -> u32 {
        match &self.0 {
            None if id != NO_ID => id,
            _ => self
                .gid_name(id)
                .unwrap_or(sysctl::OVERFLOW_GID.get() as u32),
        }
    }

    /// Whether user and group have names in it.
    #[inline]
    pub fn names(&self, uid: u32, gid: u32) -> bool {
        self.is_first() || (self.uid_name(uid).is_some() && self.gid_name(gid).is_some())
    }

    /// The user that is root in it.
    #[inline]
    pub fn root_uid(&self) -> Option<u32> {
        self.uid(0)
    }

    fn map(&self, kind: IdKind) -> Result<Option<&IdMap>, ()> {
        match &self.0 {
            None => Err(()),
            Some(n) => Ok(n.maps[kind as usize].get()),
        }
    }

    fn outside(&self, kind: IdKind, id: u32) -> Option<u32> {
        self.outside_all(kind, id, 1)
    }

    fn outside_all(&self, kind: IdKind, id: u32, count: u32) -> Option<u32> {
        match self.map(kind) {
            Err(()) => (count <= u32::MAX - id).then_some(id),
            Ok(map) => map?.outside(id, count),
        }
    }

    fn inside(&self, kind: IdKind, id: u32) -> Option<u32> {
        match self.map(kind) {
            Err(()) => (id != NO_ID).then_some(id),
            Ok(map) => map?.inside(id),
        }
    }

    /// The text of its map as a program in `reader` sees it.
    pub fn show_map(&self, kind: IdKind, reader: &UserNamespace) -> String {
        let Some(inner) = &self.0 else {
            let outer = reader.inside(kind, 0).unwrap_or(NO_ID);
            return format!("{:>10} {outer:>10} {:>10}\n", 0, u32::MAX);
        };
        // What is outside is told in the words of the reader; for one inside, of the parent.
        let reader = match reader == self {
            true => &inner.parent,
            false => reader,
        };
        let mut text = String::new();
        let map = inner.maps[kind as usize].get();
        for e in map.map_or(&[][..], IdMap::extents) {
            let outer = reader.inside(kind, e.outer).unwrap_or(NO_ID);
            let _ = writeln!(text, "{:>10} {:>10} {:>10}", e.inner, outer, e.count);
        }
        text
    }

    /// A write of `text` to its map at `offset`, by `writer` through a file that `opener` opened.
    ///
    /// # Errors
    /// `EPERM`, `EINVAL`.
    pub fn write_map(
        &self,
        kind: IdKind,
        (opener, writer): (&Creds, &Creds),
        offset: u64,
        text: &[u8],
    ) -> Result<(), Errno> {
        let inner = self.0.as_ref().ok_or(Errno::EPERM)?;
        if opener.user_ns != *self && opener.user_ns != inner.parent {
            return Err(Errno::EPERM);
        }
        if offset != 0 || text.len() as u64 >= PAGE_SIZE {
            return Err(Errno::EINVAL);
        }
        let setgroups = inner.setgroups.lock();
        let map = &inner.maps[kind as usize];
        if map.get().is_some() {
            return Err(Errno::EPERM);
        }
        if kind != IdKind::Project && !opener.has_in(self, Capability::SysAdmin) {
            return Err(Errno::EPERM);
        }
        let mut extents = idmap::parse(text)?;
        if !inner.permits(self, kind, (opener, writer), *setgroups, &extents) {
            return Err(Errno::EPERM);
        }
        for e in &mut extents {
            e.outer = inner
                .parent
                .outside_all(kind, e.outer, e.count)
                .ok_or(Errno::EPERM)?;
        }
        map.set(IdMap::new(extents)).map_err(|_| Errno::EPERM)
    }

    /// Whether setgroups(2) can be had in it at all.
    pub fn may_setgroups(&self) -> bool {
        let Some(inner) = &self.0 else { return true };
        let allowed = inner.setgroups.lock();
        *allowed && inner.maps[IdKind::Group as usize].get().is_some()
    }

    /// What its `setgroups` says.
    pub fn allows_setgroups(&self) -> bool {
        self.0.as_ref().is_none_or(|n| *n.setgroups.lock())
    }

    /// A write to its `setgroups`.
    ///
    /// # Errors
    /// `EPERM` where it is forbidden already and is to be allowed, or the other way round once
    /// there is a map.
    pub fn set_setgroups(&self, allow: bool) -> Result<(), Errno> {
        let Some(inner) = &self.0 else {
            return if allow { Ok(()) } else { Err(Errno::EPERM) };
        };
        let mut allowed = inner.setgroups.lock();
        if allow {
            return if *allowed { Ok(()) } else { Err(Errno::EPERM) };
        }
        if inner.maps[IdKind::Group as usize].get().is_some() {
            return Err(Errno::EPERM);
        }
        *allowed = false;
        Ok(())
    }
}

impl Inner {
    /// Whether a map with these may be written (`new_idmap_permitted`).
    fn permits(
        &self,
        this: &UserNamespace,
        kind: IdKind,
        (opener, writer): (&Creds, &Creds),
        setgroups: bool,
        extents: &[Extent],
    ) -> bool {
        // Root's files could be given capabilities that count outside.
        if kind == IdKind::User && extents.iter().any(|e| e.outer == 0) {
            let may = match opener.user_ns == *this {
                true => self.maker_could_setfcap,
                false => opener.has_in(&self.parent, Capability::Setfcap),
            };
            if !may {
                return false;
            }
        }
        // One's own id, and that alone.
        if let [
            Extent {
                outer, count: 1, ..
            },
        ] = extents
            && self.owner == opener.euid
        {
            let own = match kind {
                IdKind::User => self.parent.uid(*outer) == Some(opener.euid),
                IdKind::Group => !setgroups && self.parent.gid(*outer) == Some(opener.egid),
                IdKind::Project => false,
            };
            if own {
                return true;
            }
        }
        let cap = match kind {
            IdKind::User => Capability::Setuid,
            IdKind::Group => Capability::Setgid,
            IdKind::Project => return true,
        };
        writer.has_in(&self.parent, cap) && opener.has_in(&self.parent, cap)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::CapSet;

    fn child(of: &Creds) -> Creds {
        of.in_new_user_namespace(1, false).unwrap()
    }

    fn map(ns: &UserNamespace, by: &Creds, kind: IdKind, text: &str) -> Result<(), Errno> {
        ns.write_map(kind, (by, by), 0, text.as_bytes())
    }

    #[test]
    fn one_without_a_map_names_nobody() {
        let c = child(&Creds::user(1000, 1000));
        assert_eq!(c.user_ns.uid(0), None);
        assert_eq!(c.user_ns.shown_uid(1000), 65534);
        assert_eq!(c.permitted, CapSet::ALL);
        assert!(!c.has(Capability::Chown));
        assert!(c.has_own(Capability::SysAdmin));
        assert!(!c.has_over(1000, 1000, Capability::Chown));
    }

    #[test]
    fn one_may_map_oneself_and_nobody_else() {
        let user = Creds::user(1000, 1001);
        let c = child(&user);
        let ns = &c.user_ns;
        assert_eq!(map(ns, &user, IdKind::User, "0 0 1"), Err(Errno::EPERM));
        assert_eq!(map(ns, &user, IdKind::User, "0 999 1"), Err(Errno::EPERM));
        assert_eq!(map(ns, &user, IdKind::User, "0 1000 2"), Err(Errno::EPERM));
        assert_eq!(map(ns, &c, IdKind::User, "5 1000 1"), Ok(()));
        assert_eq!(map(ns, &c, IdKind::User, "5 1000 1"), Err(Errno::EPERM));
        assert_eq!(ns.uid(5), Some(1000));
        assert_eq!(ns.shown_uid(1000), 5);
        // Groups could be left, and with them what is forbidden to their members.
        assert_eq!(map(ns, &c, IdKind::Group, "0 1001 1"), Err(Errno::EPERM));
        assert_eq!(ns.set_setgroups(false), Ok(()));
        assert_eq!(map(ns, &c, IdKind::Group, "0 1001 1"), Ok(()));
        assert_eq!(ns.set_setgroups(true), Err(Errno::EPERM));
        assert!(!c.may_setgroups());
    }

    #[test]
    fn a_stranger_may_write_no_map() {
        let c = child(&Creds::user(1000, 1000));
        let stranger = Creds::user(2000, 2000);
        assert_eq!(
            map(&c.user_ns, &stranger, IdKind::User, "0 2000 1"),
            Err(Errno::EPERM)
        );
        let root = Creds::root();
        assert_eq!(map(&c.user_ns, &root, IdKind::User, "0 5000 9"), Ok(()));
    }

    #[test]
    fn capabilities_reach_inwards_alone() {
        let user = Creds::user(1000, 1000);
        let outer = child(&user);
        map(&outer.user_ns, &outer, IdKind::User, "0 1000 1").unwrap();
        outer.user_ns.set_setgroups(false).unwrap();
        map(&outer.user_ns, &outer, IdKind::Group, "0 1000 1").unwrap();
        let inner = child(&outer);
        let cap = Capability::SysAdmin;
        for ns in [&outer.user_ns, &inner.user_ns] {
            assert!(Creds::root().has_in(ns, cap));
            assert!(outer.has_in(ns, cap));
            assert!(user.has_in(ns, cap));
            assert!(!Creds::user(1001, 1000).has_in(ns, cap));
        }
        assert!(!inner.has_in(&outer.user_ns, cap));
        assert!(!outer.has_in(&UserNamespace::default(), cap));
        let sibling = child(&Creds::user(1000, 1000));
        assert!(!sibling.has_in(&outer.user_ns, cap));
    }

    #[test]
    fn they_lie_in_each_other_to_a_depth() {
        let mut at = Creds::root();
        for _ in 0..DEPTH {
            at = child(&at);
            map(&at.user_ns, &at, IdKind::User, "0 0 1").unwrap();
            at.user_ns.set_setgroups(false).unwrap();
            map(&at.user_ns, &at, IdKind::Group, "0 0 1").unwrap();
        }
        assert_eq!(at.in_new_user_namespace(1, false), Err(Errno::ENOSPC));
    }

    #[test]
    fn who_is_chrooted_or_nameless_makes_none() {
        let user = Creds::user(7, 7);
        assert_eq!(user.in_new_user_namespace(1, true), Err(Errno::EPERM));
        let inside = child(&user);
        assert_eq!(inside.in_new_user_namespace(1, false), Err(Errno::EPERM));
    }

    #[test]
    fn maps_are_told_in_the_readers_words() {
        let root = Creds::root();
        let outer = child(&root);
        map(
            &outer.user_ns,
            &root,
            IdKind::User,
            "0 1000 100\n500 5000 10",
        )
        .unwrap();
        map(&outer.user_ns, &root, IdKind::Group, "0 0 10").unwrap();
        let inner = child(&Creds {
            euid: 1000,
            ..outer.clone()
        });
        map(&inner.user_ns, &outer, IdKind::User, "0 50 10").unwrap();
        assert_eq!(inner.user_ns.uid(3), Some(1053));
        let told = |reader: &Creds| inner.user_ns.show_map(IdKind::User, &reader.user_ns);
        assert_eq!(told(&root), "         0       1050         10\n");
        assert_eq!(told(&outer), "         0         50         10\n");
        assert_eq!(told(&inner), "         0         50         10\n");
        let other = child(&root);
        assert_eq!(told(&other), "         0 4294967295         10\n");
        // An extent must lie in one of the parent's.
        let next = child(&Creds {
            euid: 1000,
            ..outer.clone()
        });
        assert_eq!(
            map(&next.user_ns, &outer, IdKind::User, "0 95 10"),
            Err(Errno::EPERM)
        );
    }

    #[test]
    fn ids_change_by_what_root_is_inside() {
        let c = child(&Creds::user(1000, 1000));
        map(&c.user_ns, &c, IdKind::User, "0 1000 1").unwrap();
        let root = c.user_ns.root_uid().unwrap();
        assert_eq!(root, 1000);
        let left = c.setresuid(2000, 2000, 2000).unwrap();
        assert_eq!(left.permitted, CapSet::EMPTY);
    }
}
