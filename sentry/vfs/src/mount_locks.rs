//! What the less privileged cannot change of mounts that they were given (mount_namespaces(7),
//! "Restrictions on mount namespaces").

use crate::{Mount, MountFlags, MountNamespace, SuperFlags, VfsPath};
use auth::UserNamespace;
use std::sync::Arc;
use std::sync::atomic::Ordering;

bitflags::bitflags! {
    /// What cannot be changed of a mount.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    struct MountLocks: u32 {
        /// It stays read-only.
        const RDONLY = 1;
        /// It stays without set-id.
        const NOSUID = 2;
        /// It stays without devices.
        const NODEV = 4;
        /// It stays without programs.
        const NOEXEC = 8;
        /// Access times stay as they are.
        const ATIME = 16;
        /// It stays where it is.
        const PLACE = 32;
    }
}

impl MountLocks {
    /// Those of what `flags` forbid.
    fn from_flags(flags: MountFlags) -> MountLocks {
        MountLocks::from_bits_truncate(flags.bits() & 0xf)
    }
}

impl Mount {
    /// The user namespace that the file system was mounted in.
    #[inline]
    pub fn owner(&self) -> &UserNamespace {
        self.superblock().owner()
    }

    /// Whether devices on it cannot be opened: on most, anybody could have made them in a user
    /// namespace of their own.
    pub fn refuses_devices(&self) -> bool {
        self.flags().contains(MountFlags::NODEV)
            || (!self.owner().is_first() && self.fstype() != "devpts")
    }

    /// Whether set-id bits have an effect for a program in `ns`.
    pub fn honours_set_id(&self, ns: &UserNamespace) -> bool {
        !self.flags().contains(MountFlags::NOSUID) && ns.is_within(self.owner())
    }

    /// Keeps it as it is, in a namespace of mounts for the less privileged: what flags forbid stays
    /// forbidden, and with `place` what is below it stays hidden.
    pub(crate) fn lock_down(&self, place: bool) {
        let mut locks = MountLocks::ATIME | MountLocks::from_flags(self.flags());
        locks.set(MountLocks::PLACE, place);
        self.locks.fetch_or(locks.bits(), Ordering::Relaxed);
    }

    fn locks(&self) -> MountLocks {
        MountLocks::from_bits_truncate(self.locks.load(Ordering::Relaxed))
    }

    /// Whether it cannot be moved or unmounted (`MNT_LOCKED`).
    pub fn is_locked(&self) -> bool {
        self.locks().contains(MountLocks::PLACE)
    }

    /// Lets it be moved and unmounted; whether that was not so.
    pub(crate) fn unlock_place(&self) -> bool {
        let place = MountLocks::PLACE.bits();
        self.locks.fetch_and(!place, Ordering::Relaxed) & place != 0
    }

    /// What is hidden below it must not be seen.
    pub(crate) fn lock_place(&self) {
        self.locks
            .fetch_or(MountLocks::PLACE.bits(), Ordering::Relaxed);
    }

    /// Whether something below `at` on it is hidden by what is locked there.
    pub(crate) fn hides_below(&self, at: &VfsPath) -> bool {
        self.children().iter().any(|child| {
            let point = child.mountpoint();
            child.is_locked() && point.is_some_and(|p| at.dentry.is_ancestor_of(&p.dentry))
        })
    }

    /// What is locked of it that concerns its content. A file system that is read-only as a whole
    /// is so for a reason.
    fn content_locks(&self) -> MountLocks {
        let locks = self.locks() & (MountLocks::RDONLY | MountLocks::ATIME);
        match self.superblock().flags().contains(SuperFlags::RDONLY) {
            true => locks | MountLocks::RDONLY,
            false => locks,
        }
    }

    /// Whether what is locked of it lets another mount of its type have `flags`.
    fn may_be_seen_with(&self, flags: MountFlags) -> bool {
        self.allows(self.content_locks(), flags)
    }

    /// Takes over what of `other` is locked that concerns its content.
    fn lock_as(&self, other: &Mount) {
        let locks = other.content_locks().bits();
        self.locks.fetch_or(locks, Ordering::Relaxed);
    }

    /// Whether its flags can become these (`can_change_locked_flags`).
    pub fn may_become(&self, flags: MountFlags) -> bool {
        self.allows(self.locks(), flags)
    }

    fn allows(&self, locks: MountLocks, flags: MountFlags) -> bool {
        /// What is said of access times.
        const ATIME: MountFlags = MountFlags::NOATIME
            .union(MountFlags::NODIRATIME)
            .union(MountFlags::STRICTATIME);
        let kept = locks & !(MountLocks::PLACE | MountLocks::ATIME);
        MountLocks::from_flags(flags).contains(kept)
            && (!locks.contains(MountLocks::ATIME) || self.flags() & ATIME == flags & ATIME)
    }
}

impl MountNamespace {
    /// Whether a file system that is mounted with `flags` shows no more than one of its type that
    /// is mounted already, whole and with nothing locked on it; what of that one is locked is so of
    /// `new`, too (`mount_too_revealing`).
    pub fn shows_no_more(&self, new: &Mount, flags: MountFlags) -> bool {
        let list = self.list();
        let whole = |m: &&Arc<Mount>| {
            m.fstype() == new.fstype() && m.place() == b"/" && m.may_be_seen_with(flags)
        };
        match list
            .iter()
            .filter(whole)
            .find(|m| !m.hides_below(&m.root_path()))
        {
            Some(seen) => {
                new.lock_as(seen);
                true
            }
            None => false,
        }
    }
}
