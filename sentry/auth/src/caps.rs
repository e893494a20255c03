//! Capabilities (`linux/capability.h`).

macro_rules! capabilities {
    ($($name:ident = $bit:literal,)*) => {
        /// One capability, by its Linux number.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        #[expect(missing_docs, reason = "capabilities(7) says what each permits")]
        pub enum Capability { $($name = $bit,)* }

        impl Capability {
            /// All there are, in numeric order.
            pub const ALL: &'static [Capability] = &[$(Capability::$name,)*];
        }
    };
}

capabilities! {
    Chown = 0, DacOverride = 1, DacReadSearch = 2, Fowner = 3, Fsetid = 4, Kill = 5, Setgid = 6,
    Setuid = 7, Setpcap = 8, LinuxImmutable = 9, NetBindService = 10, NetBroadcast = 11,
    NetAdmin = 12, NetRaw = 13, IpcLock = 14, IpcOwner = 15, SysModule = 16, SysRawio = 17,
    SysChroot = 18, SysPtrace = 19, SysPacct = 20, SysAdmin = 21, SysBoot = 22, SysNice = 23,
    SysResource = 24, SysTime = 25, SysTtyConfig = 26, Mknod = 27, Lease = 28, AuditWrite = 29,
    AuditControl = 30, Setfcap = 31, MacOverride = 32, MacAdmin = 33, Syslog = 34, WakeAlarm = 35,
    BlockSuspend = 36, AuditRead = 37, Perfmon = 38, Bpf = 39, CheckpointRestore = 40,
}

impl Capability {
    /// The capability with Linux number `n`.
    pub fn from_number(n: u32) -> Option<Capability> {
        Capability::ALL.get(n as usize).copied()
    }
}

/// A set of capabilities.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Hash)]
pub struct CapSet(u64);

impl CapSet {
    /// None.
    pub const EMPTY: CapSet = CapSet(0);
    /// All that Linux defines.
    pub const ALL: CapSet = CapSet((1 << 41) - 1);

    /// From the kernel's bit mask; bits without a meaning are dropped.
    pub const fn from_bits(bits: u64) -> CapSet {
        CapSet(bits & CapSet::ALL.0)
    }

    /// The kernel's bit mask.
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// Whether `cap` is in it.
    pub const fn has(self, cap: Capability) -> bool {
        self.0 & (1 << cap as u64) != 0
    }

    /// With `cap` added.
    #[must_use]
    pub const fn with(self, cap: Capability) -> CapSet {
        CapSet(self.0 | (1 << cap as u64))
    }

    /// With `cap` removed.
    #[must_use]
    pub const fn without(self, cap: Capability) -> CapSet {
        CapSet(self.0 & !(1 << cap as u64))
    }

    /// Whether every member of `other` is in it.
    pub const fn contains(self, other: CapSet) -> bool {
        self.0 & other.0 == other.0
    }
}

impl std::ops::BitAnd for CapSet {
    type Output = CapSet;
    fn bitand(self, o: CapSet) -> CapSet {
        CapSet(self.0 & o.0)
    }
}

impl std::ops::BitOr for CapSet {
    type Output = CapSet;
    fn bitor(self, o: CapSet) -> CapSet {
        CapSet(self.0 | o.0)
    }
}

impl FromIterator<Capability> for CapSet {
    fn from_iter<I: IntoIterator<Item = Capability>>(iter: I) -> CapSet {
        iter.into_iter().fold(CapSet::EMPTY, CapSet::with)
    }
}
