//! Changing identities: setuid(2), setreuid(2), setresuid(2), setfsuid(2) and their group kin.

use crate::{CapSet, Capability, Creds, NO_ID, Securebits};
use abi::Errno;

impl Creds {
    /// setuid(2).
    pub fn setuid(&self, uid: u32) -> Result<Creds, Errno> {
        valid(uid)?;
        let mut new = self.clone();
        if self.has_own(Capability::Setuid) {
            (new.ruid, new.suid) = (uid, uid);
        } else if uid != self.ruid && uid != self.suid {
            return Err(Errno::EPERM);
        }
        (new.euid, new.fsuid) = (uid, uid);
        Ok(new.fix_caps(self))
    }

    /// setreuid(2).
    pub fn setreuid(&self, ruid: u32, euid: u32) -> Result<Creds, Errno> {
        let any = self.has_own(Capability::Setuid);
        let mut new = self.clone();
        if ruid != NO_ID {
            if !any && ruid != self.ruid && ruid != self.euid {
                return Err(Errno::EPERM);
            }
            new.ruid = ruid;
        }
        if euid != NO_ID {
            if !any && ![self.ruid, self.euid, self.suid].contains(&euid) {
                return Err(Errno::EPERM);
            }
            new.euid = euid;
        }
        if ruid != NO_ID || (euid != NO_ID && euid != self.ruid) {
            new.suid = new.euid;
        }
        new.fsuid = new.euid;
        Ok(new.fix_caps(self))
    }

    /// setresuid(2).
    pub fn setresuid(&self, ruid: u32, euid: u32, suid: u32) -> Result<Creds, Errno> {
        let old = [self.ruid, self.euid, self.suid];
        let any = self.has_own(Capability::Setuid);
        let mut new = self.clone();
        for (want, slot) in [
            (ruid, &mut new.ruid),
            (euid, &mut new.euid),
            (suid, &mut new.suid),
        ] {
            if want != NO_ID {
                if !any && !old.contains(&want) {
                    return Err(Errno::EPERM);
                }
                *slot = want;
            }
        }
        new.fsuid = new.euid;
        Ok(new.fix_caps(self))
    }

    /// setfsuid(2): the credentials after the call, unchanged where it is refused.
    pub fn setfsuid(&self, uid: u32) -> Creds {
        let mut new = self.clone();
        let may = self.has_own(Capability::Setuid)
            || [self.ruid, self.euid, self.suid, self.fsuid].contains(&uid);
        if uid != NO_ID && may {
            new.fsuid = uid;
            let fs_caps: CapSet = FS_CAPS.iter().copied().collect();
            if !self.securebits.contains(Securebits::NO_SETUID_FIXUP) {
                if self.is_root(self.fsuid) && !self.is_root(uid) {
                    new.effective = CapSet::from_bits(new.effective.bits() & !fs_caps.bits());
                } else if !self.is_root(self.fsuid) && self.is_root(uid) {
                    new.effective = new.effective | (new.permitted & fs_caps);
                }
            }
        }
        new
    }

    /// setgid(2).
    pub fn setgid(&self, gid: u32) -> Result<Creds, Errno> {
        valid(gid)?;
        let mut new = self.clone();
        if self.has_own(Capability::Setgid) {
            (new.rgid, new.sgid) = (gid, gid);
        } else if gid != self.rgid && gid != self.sgid {
            return Err(Errno::EPERM);
        }
        (new.egid, new.fsgid) = (gid, gid);
        Ok(new)
    }

    /// setregid(2).
    pub fn setregid(&self, rgid: u32, egid: u32) -> Result<Creds, Errno> {
        let any = self.has_own(Capability::Setgid);
        let mut new = self.clone();
        if rgid != NO_ID {
            if !any && rgid != self.rgid && rgid != self.egid {
                return Err(Errno::EPERM);
            }
            new.rgid = rgid;
        }
        if egid != NO_ID {
            if !any && ![self.rgid, self.egid, self.sgid].contains(&egid) {
                return Err(Errno::EPERM);
            }
            new.egid = egid;
        }
        if rgid != NO_ID || (egid != NO_ID && egid != self.rgid) {
            new.sgid = new.egid;
        }
        new.fsgid = new.egid;
        Ok(new)
    }

    /// setresgid(2).
    pub fn setresgid(&self, rgid: u32, egid: u32, sgid: u32) -> Result<Creds, Errno> {
        let old = [self.rgid, self.egid, self.sgid];
        let any = self.has_own(Capability::Setgid);
        let mut new = self.clone();
        for (want, slot) in [
            (rgid, &mut new.rgid),
            (egid, &mut new.egid),
            (sgid, &mut new.sgid),
        ] {
            if want != NO_ID {
                if !any && !old.contains(&want) {
                    return Err(Errno::EPERM);
                }
                *slot = want;
            }
        }
        new.fsgid = new.egid;
        Ok(new)
    }

    /// setfsgid(2): the credentials after the call, unchanged where it is refused.
    pub fn setfsgid(&self, gid: u32) -> Creds {
        let mut new = self.clone();
        let may = self.has_own(Capability::Setgid)
            || [self.rgid, self.egid, self.sgid, self.fsgid].contains(&gid);
        if gid != NO_ID && may {
            new.fsgid = gid;
        }
        new
    }

    /// Whether setgroups(2) is for it at all.
    pub fn may_setgroups(&self) -> bool {
        self.has_own(Capability::Setgid) && self.user_ns.may_setgroups()
    }

    /// setgroups(2).
    pub fn setgroups(&self, groups: Vec<u32>) -> Result<Creds, Errno> {
        if !self.may_setgroups() {
            return Err(Errno::EPERM);
        }
        if groups.contains(&NO_ID) {
            return Err(Errno::EINVAL);
        }
        Ok(Creds {
            groups,
            ..self.clone()
        })
    }

    /// What gaining and losing uid 0 does to the capability sets (capabilities(7), "Effect of
    /// user ID changes on capabilities").
    fn fix_caps(mut self, old: &Creds) -> Creds {
        if self.securebits.contains(Securebits::NO_SETUID_FIXUP) {
            return self;
        }
        let root = self.user_ns.root_uid();
        let is_root = |uid: u32| root == Some(uid);
        let had_root = [old.ruid, old.euid, old.suid].into_iter().any(is_root);
        let has_root = [self.ruid, self.euid, self.suid].into_iter().any(is_root);
        if had_root && !has_root {
            if !self.securebits.contains(Securebits::KEEP_CAPS) {
                self.permitted = CapSet::EMPTY;
                self.effective = CapSet::EMPTY;
            }
            self.ambient = CapSet::EMPTY;
        }
        if is_root(old.euid) && !is_root(self.euid) {
            self.effective = CapSet::EMPTY;
        } else if !is_root(old.euid) && is_root(self.euid) {
            self.effective = self.permitted;
        }
        self
    }
}

const FS_CAPS: &[Capability] = &[
    Capability::Chown,
    Capability::DacOverride,
    Capability::DacReadSearch,
    Capability::Fowner,
    Capability::Fsetid,
    Capability::LinuxImmutable,
    Capability::Mknod,
    Capability::MacOverride,
];

fn valid(id: u32) -> Result<(), Errno> {
    if id == NO_ID {
        Err(Errno::EINVAL)
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_gives_up_everything_with_setuid() {
        let c = Creds::root().setuid(1000).unwrap();
        assert_eq!((c.ruid, c.euid, c.suid, c.fsuid), (1000, 1000, 1000, 1000));
        assert_eq!(c.permitted, CapSet::EMPTY);
        assert_eq!(c.setuid(0), Err(Errno::EPERM));
    }

    #[test]
    fn a_saved_root_uid_can_be_taken_back() {
        let c = Creds::root().setresuid(NO_ID, 1000, 0).unwrap();
        assert_eq!(c.effective, CapSet::EMPTY);
        assert_eq!(c.permitted, CapSet::ALL);
        let back = c.setresuid(NO_ID, 0, NO_ID).unwrap();
        assert_eq!(back.effective, CapSet::ALL);
    }

    #[test]
    fn minus_one_is_no_id() {
        assert_eq!(Creds::root().setuid(NO_ID), Err(Errno::EINVAL));
        assert_eq!(Creds::user(5, 5).setfsuid(7).fsuid, 5);
    }
}
