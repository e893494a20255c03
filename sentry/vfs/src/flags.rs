//! Flag words of open(2), openat2(2) and mount(2).

use abi::Errno;

bitflags::bitflags! {
    /// Flags of open(2), with their values on x86-64.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Hash)]
    pub struct OpenFlags: u32 {
        /// Writing alone.
        const WRONLY = 0o1;
        /// Reading and writing.
        const RDWR = 0o2;
        /// Make it if it is not there.
        const CREAT = 0o100;
        /// With `CREAT`: fail if it is there.
        const EXCL = 0o200;
        /// A terminal does not become the controlling one.
        const NOCTTY = 0o400;
        /// Empty it.
        const TRUNC = 0o1000;
        /// Each write goes to the end.
        const APPEND = 0o2000;
        /// Calls do not block.
        const NONBLOCK = 0o4000;
        /// Writes reach the disk, with what is needed to read them again.
        const DSYNC = 0o10000;
        /// `SIGIO` when it becomes ready.
        const ASYNC = 0o20000;
        /// Without caches; packet mode of pipes.
        const DIRECT = 0o40000;
        /// Offsets beyond 2 GiB; set on all files.
        const LARGEFILE = 0o100000;
        /// It must be a directory.
        const DIRECTORY = 0o200000;
        /// It must not be a symbolic link.
        const NOFOLLOW = 0o400000;
        /// Reads leave the access time.
        const NOATIME = 0o1000000;
        /// Closed by exec (of the descriptor, not the file).
        const CLOEXEC = 0o2000000;
        /// Writes reach the disk, with all attributes.
        const SYNC = 0o4000000 | Self::DSYNC.bits();
        /// A place alone.
        const PATH = 0o10000000;
        /// A file without a name.
        const TMPFILE = 0o20000000 | Self::DIRECTORY.bits();
    }
}

impl OpenFlags {
    /// Reading alone.
    pub const RDONLY: OpenFlags = OpenFlags::empty();

    /// What only matters while opening, and F_GETFL does not show.
    pub const CREATION: OpenFlags = OpenFlags::CREAT
        .union(OpenFlags::EXCL)
        .union(OpenFlags::NOCTTY)
        .union(OpenFlags::TRUNC);

    /// What F_SETFL changes.
    pub const SETTABLE: OpenFlags = OpenFlags::APPEND
        .union(OpenFlags::NONBLOCK)
        .union(OpenFlags::DIRECT)
        .union(OpenFlags::NOATIME);

    /// From a guest's word; bits without a meaning are dropped, as open(2) does.
    pub fn from_guest(bits: u32) -> OpenFlags {
        OpenFlags::from_bits_truncate(bits)
    }

    /// The access mode: 0, 1, 2, or 3 (which asks for both permissions and gives neither).
    pub fn access_mode(self) -> u32 {
        self.bits() & 3
    }

    /// Whether reads are allowed.
    #[inline]
    pub fn readable(self) -> bool {
        matches!(self.access_mode(), 0 | 2) && !self.contains(OpenFlags::PATH)
    }

    /// Whether writes are allowed.
    #[inline]
    pub fn writable(self) -> bool {
        matches!(self.access_mode(), 1 | 2) && !self.contains(OpenFlags::PATH)
    }
}

bitflags::bitflags! {
    /// How a path is walked: `AT_*` flags and openat2(2)'s `RESOLVE_*`.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
    pub struct LookupFlags: u32 {
        /// A symbolic link in the last place is followed.
        const FOLLOW = 1 << 0;
        /// The result must be a directory (`ENOTDIR`).
        /// It must be a directory.
        const DIRECTORY = 1 << 1;
        /// An empty path is the start itself (`AT_EMPTY_PATH`).
        const EMPTY = 1 << 2;
        /// `RESOLVE_NO_SYMLINKS`
        const NO_SYMLINKS = 1 << 3;
        /// `RESOLVE_BENEATH`
        const BENEATH = 1 << 4;
        /// `RESOLVE_IN_ROOT`
        const IN_ROOT = 1 << 5;
        /// `RESOLVE_NO_XDEV`
        const NO_XDEV = 1 << 6;
        /// `RESOLVE_NO_MAGICLINKS`
        const NO_MAGICLINKS = 1 << 7;
        /// What the walk goes through is not used by it (umount2(2): `MNT_EXPIRE`).
        const NO_USE = 1 << 8;
    }
}

impl LookupFlags {
    /// From openat2(2)'s `resolve`: `EINVAL` for unknown bits and contradictions, `EAGAIN` for
    /// `RESOLVE_CACHED`, which promises nothing.
    pub fn from_resolve(resolve: u64) -> Result<LookupFlags, Errno> {
        if resolve & !0x3f != 0 || resolve & 0x18 == 0x18 {
            return Err(Errno::EINVAL);
        }
        if resolve & 0x20 != 0 {
            return Err(Errno::EAGAIN);
        }
        let mut flags = LookupFlags::empty();
        flags.set(LookupFlags::NO_XDEV, resolve & 0x01 != 0);
        flags.set(LookupFlags::NO_MAGICLINKS, resolve & 0x02 != 0);
        flags.set(LookupFlags::NO_SYMLINKS, resolve & 0x04 != 0);
        flags.set(LookupFlags::BENEATH, resolve & 0x08 != 0);
        flags.set(LookupFlags::IN_ROOT, resolve & 0x10 != 0);
        Ok(flags)
    }
}

bitflags::bitflags! {
    /// Flags of a mount, with mount(2)'s values.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
    pub struct MountFlags: u32 {
        /// Nothing can be changed.
        const RDONLY = 1;
        /// Set-id bits have no effect.
        const NOSUID = 2;
        /// Devices cannot be opened.
        const NODEV = 4;
        /// Programs cannot be executed.
        const NOEXEC = 8;
        /// Symbolic links cannot be followed.
        const NOSYMFOLLOW = 1 << 8;
        /// Access times are not kept.
        const NOATIME = 1 << 10;
        /// Access times of directories are not kept.
        const NODIRATIME = 1 << 11;
        /// Access times are kept roughly (the default).
        const RELATIME = 1 << 21;
        /// Access times are kept exactly.
        const STRICTATIME = 1 << 24;
    }
}

impl MountFlags {
    /// As the options column of /proc/mounts has them: `rw,nosuid,relatime`.
    pub fn options(self) -> String {
        let mut s = String::from(if self.contains(MountFlags::RDONLY) {
            "ro"
        } else {
            "rw"
        });
        for (flag, text) in [
            (MountFlags::NOSUID, ",nosuid"),
            (MountFlags::NODEV, ",nodev"),
            (MountFlags::NOEXEC, ",noexec"),
            (MountFlags::NOATIME, ",noatime"),
            (MountFlags::NODIRATIME, ",nodiratime"),
        ] {
            if self.contains(flag) {
                s.push_str(text);
            }
        }
        if !self.intersects(MountFlags::NOATIME | MountFlags::STRICTATIME) {
            s.push_str(",relatime");
        }
        if self.contains(MountFlags::NOSYMFOLLOW) {
            s.push_str(",nosymfollow");
        }
        s
    }
}
