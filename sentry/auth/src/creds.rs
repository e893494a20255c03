//! The credentials of a task.

use crate::{CapSet, Capability, UserNamespace};
use abi::Errno;

/// "Leave as it is" in the set*id calls: `(uid_t) -1`.
pub const NO_ID: u32 = u32::MAX;

bitflags::bitflags! {
    /// Securebits (capabilities(7)), each with its lock.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
    pub struct Securebits: u32 {
        /// Uid 0 gets no capabilities on exec.
        const NOROOT = 1 << 0;
        /// Lock of `NOROOT`.
        const NOROOT_LOCKED = 1 << 1;
        /// Changing uids from and to 0 leaves capabilities alone.
        const NO_SETUID_FIXUP = 1 << 2;
        /// Lock of `NO_SETUID_FIXUP`.
        const NO_SETUID_FIXUP_LOCKED = 1 << 3;
        /// Permitted capabilities survive the loss of uid 0.
        const KEEP_CAPS = 1 << 4;
        /// Lock of `KEEP_CAPS`.
        const KEEP_CAPS_LOCKED = 1 << 5;
        /// The ambient set cannot grow.
        const NO_CAP_AMBIENT_RAISE = 1 << 6;
        /// Lock of `NO_CAP_AMBIENT_RAISE`.
        const NO_CAP_AMBIENT_RAISE_LOCKED = 1 << 7;
    }
}

/// Credentials of a task or of an open file.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(
    missing_docs,
    reason = "credentials(7) and capabilities(7) name every field"
)]
pub struct Creds {
    pub ruid: u32,
    pub euid: u32,
    pub suid: u32,
    pub fsuid: u32,
    pub rgid: u32,
    pub egid: u32,
    pub sgid: u32,
    pub fsgid: u32,
    pub groups: Vec<u32>,
    pub permitted: CapSet,
    pub effective: CapSet,
    pub inheritable: CapSet,
    pub bounding: CapSet,
    pub ambient: CapSet,
    pub securebits: Securebits,
    pub user_ns: UserNamespace,
}

impl Creds {
    /// Uid 0, gid 0, every capability: what the kernel itself acts as.
    pub fn root() -> Creds {
        Creds {
            permitted: CapSet::ALL,
            effective: CapSet::ALL,
            ..Creds::user(0, 0)
        }
    }

    /// A user without capabilities.
    pub fn user(uid: u32, gid: u32) -> Creds {
        Creds {
            ruid: uid,
            euid: uid,
            suid: uid,
            fsuid: uid,
            rgid: gid,
            egid: gid,
            sgid: gid,
            fsgid: gid,
            groups: Vec::new(),
            permitted: CapSet::EMPTY,
            effective: CapSet::EMPTY,
            inheritable: CapSet::EMPTY,
            bounding: CapSet::ALL,
            ambient: CapSet::EMPTY,
            securebits: Securebits::empty(),
            user_ns: UserNamespace::default(),
        }
    }

    /// Whether `cap` is effective over the machine as a whole (`capable()`): nobody in a user
    /// namespace but the first has that.
    #[inline]
    pub fn has(&self, cap: Capability) -> bool {
        self.user_ns.is_first() && self.effective.has(cap)
    }

    /// Whether `cap` is effective in its own user namespace (`ns_capable(current_user_ns())`).
    #[inline]
    pub fn has_own(&self, cap: Capability) -> bool {
        self.effective.has(cap)
    }

    /// Whether `cap` is effective over what `ns` owns (`ns_capable()`): in its own namespace, and
    /// in those inside it, all of which is also the owner's of the outermost of them.
    pub fn has_in(&self, ns: &UserNamespace, cap: Capability) -> bool {
        let (mut at, level) = (ns, self.user_ns.level());
        loop {
            if *at == self.user_ns {
                return self.effective.has(cap);
            }
            let Some(parent) = at.parent() else {
                return false;
            };
            if at.level() <= level {
                return false;
            }
            if *parent == self.user_ns && at.owner() == self.euid {
                return true;
            }
            at = parent;
        }
    }

    /// Whether `cap` is effective over a file of these (`capable_wrt_inode_uidgid()`): both must
    /// have a name in its user namespace.
    #[inline]
    pub fn has_over(&self, uid: u32, gid: u32, cap: Capability) -> bool {
        self.effective.has(cap) && self.user_ns.names(uid, gid)
    }

    /// What it is in a new user namespace of its own, whose number is `number` (`CLONE_NEWUSER`).
    ///
    /// # Errors
    /// `ENOSPC` where there are too many, or too deep; `EPERM` where it is `chrooted`, which it
    /// would get out of, or has no name in the namespace it is in.
    pub fn in_new_user_namespace(&self, number: u64, chrooted: bool) -> Result<Creds, Errno> {
        Ok(self.inside(UserNamespace::new(self, number, chrooted)?))
    }

    /// What it is inside `ns`: there, it may do everything.
    pub fn inside(&self, ns: UserNamespace) -> Creds {
        Creds {
            permitted: CapSet::ALL,
            effective: CapSet::ALL,
            inheritable: CapSet::EMPTY,
            bounding: CapSet::ALL,
            ambient: CapSet::EMPTY,
            securebits: Securebits::empty(),
            user_ns: ns,
            ..self.clone()
        }
    }

    /// Whether `new` is no more than these are already (`cred_cap_issubset`).
    pub fn covers(&self, new: &Creds) -> bool {
        if self.user_ns == new.user_ns {
            return self.permitted.contains(new.permitted);
        }
        let mut at = &new.user_ns;
        while let Some(parent) = at.parent() {
            if *parent == self.user_ns && at.owner() == self.euid {
                return true;
            }
            at = parent;
        }
        false
    }

    /// Whether `uid` is root's in its user namespace.
    pub fn is_root(&self, uid: u32) -> bool {
        self.user_ns.root_uid() == Some(uid)
    }

    /// Whether `gid` is the filesystem group or a supplementary one (`in_group_p`).
    pub fn in_group(&self, gid: u32) -> bool {
        self.fsgid == gid || self.groups.contains(&gid)
    }
}
