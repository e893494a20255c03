//! The credentials of a task.

use crate::{CapSet, Capability};

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
        }
    }

    /// Whether `cap` is effective (`capable()`).
    pub fn has(&self, cap: Capability) -> bool {
        self.effective.has(cap)
    }

    /// Whether `gid` is the filesystem group or a supplementary one (`in_group_p`).
    pub fn in_group(&self, gid: u32) -> bool {
        self.fsgid == gid || self.groups.contains(&gid)
    }
}
