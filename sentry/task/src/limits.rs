//! Resource limits (getrlimit(2)).

use abi::Errno;
use ctx::Resource;
use mm::MmLimits;
use sync::{Mutex, ranks};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// `struct rlimit64`. `u64::MAX` is no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Rlimit {
    /// Soft limit.
    pub soft: u64,
    /// Hard limit.
    pub hard: u64,
}

impl Rlimit {
    /// None.
    pub const INFINITE: Rlimit = Rlimit {
        soft: u64::MAX,
        hard: u64::MAX,
    };

    /// Both the same.
    pub const fn both(value: u64) -> Rlimit {
        Rlimit {
            soft: value,
            hard: value,
        }
    }
}

/// How many resources there are.
pub const RESOURCES: usize = 16;

/// The limits of a process.
#[derive(Debug)]
pub struct Limits(Mutex<[Rlimit; RESOURCES], ranks::Leaf>);

impl Default for Limits {
    /// What Linux starts init with.
    fn default() -> Self {
        let mut all = [Rlimit::INFINITE; RESOURCES];
        all[Resource::Stack as usize].soft = 8 << 20;
        all[Resource::Core as usize].soft = 0;
        all[Resource::Nofile as usize] = Rlimit {
            soft: 1024,
            hard: 4096,
        };
        all[Resource::Memlock as usize] = Rlimit::both(8 << 20);
        all[Resource::Sigpending as usize] = Rlimit::both(32_768);
        all[Resource::Msgqueue as usize] = Rlimit::both(819_200);
        all[Resource::Nice as usize] = Rlimit::both(0);
        all[Resource::Rtprio as usize] = Rlimit::both(0);
        Limits(Mutex::new(all))
    }
}

impl Limits {
    /// From a full set.
    pub fn new(all: [Rlimit; RESOURCES]) -> Limits {
        Limits(Mutex::new(all))
    }

    /// All of them.
    pub fn all(&self) -> [Rlimit; RESOURCES] {
        *self.0.lock()
    }

    /// One.
    pub fn get(&self, resource: Resource) -> Rlimit {
        self.0.lock()[resource as usize]
    }

    /// Changes one.
    ///
    /// # Errors
    /// `EINVAL` where the soft limit is above the hard one, `EPERM` where the hard one would rise
    /// without `may_raise` (`CAP_SYS_RESOURCE`).
    pub fn set(&self, resource: Resource, new: Rlimit, may_raise: bool) -> Result<Rlimit, Errno> {
        if new.soft > new.hard {
            return Err(Errno::EINVAL);
        }
        if resource == Resource::Nofile && new.hard > sysctl::NR_OPEN.size() as u64 {
            return Err(Errno::EPERM);
        }
        let mut all = self.0.lock();
        let slot = &mut all[resource as usize];
        if new.hard > slot.hard && !may_raise {
            return Err(Errno::EPERM);
        }
        Ok(std::mem::replace(slot, new))
    }

    /// Those that concern memory.
    pub fn memory(&self) -> MmLimits {
        let all = self.0.lock();
        let soft = |r: Resource| all[r as usize].soft;
        MmLimits {
            address_space: soft(Resource::As),
            data: soft(Resource::Data),
            stack: soft(Resource::Stack),
            memlock: soft(Resource::Memlock),
        }
    }
}

/// The resource with Linux number `n`; `EINVAL` where there is none.
pub fn resource_from_number(n: u32) -> Result<Resource, Errno> {
    const ALL: [Resource; RESOURCES] = [
        Resource::Cpu,
        Resource::Fsize,
        Resource::Data,
        Resource::Stack,
        Resource::Core,
        Resource::Rss,
        Resource::Nproc,
        Resource::Nofile,
        Resource::Memlock,
        Resource::As,
        Resource::Locks,
        Resource::Sigpending,
        Resource::Msgqueue,
        Resource::Nice,
        Resource::Rtprio,
        Resource::Rttime,
    ];
    ALL.get(n as usize).copied().ok_or(Errno::EINVAL)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hard_limits_only_fall_without_the_capability() {
        let l = Limits::default();
        let files = Resource::Nofile;
        assert_eq!(
            l.set(files, Rlimit { soft: 9, hard: 8 }, true),
            Err(Errno::EINVAL)
        );
        assert_eq!(l.set(files, Rlimit::both(5000), false), Err(Errno::EPERM));
        assert!(l.set(files, Rlimit::both(5000), true).is_ok());
        assert!(l.set(files, Rlimit::both(100), false).is_ok());
        assert_eq!(l.set(files, Rlimit::both(101), false), Err(Errno::EPERM));
        assert_eq!(l.get(files), Rlimit::both(100));
        assert_eq!(resource_from_number(16), Err(Errno::EINVAL));
        assert_eq!(resource_from_number(7), Ok(files));
    }
}
