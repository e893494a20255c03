//! Readiness as poll(2) has it.

bitflags::bitflags! {
    /// Events of poll(2) and epoll(7), with their Linux values.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Hash)]
    pub struct Events: u32 {
        /// There is data to read.
        const IN = 0x001;
        /// There is an exceptional condition (out-of-band data, packet-mode change).
        const PRI = 0x002;
        /// Writing is possible.
        const OUT = 0x004;
        /// Error; always reported.
        const ERR = 0x008;
        /// Hang-up; always reported.
        const HUP = 0x010;
        /// Invalid descriptor (poll alone).
        const NVAL = 0x020;
        /// As `IN`.
        const RDNORM = 0x040;
        /// Priority band data.
        const RDBAND = 0x080;
        /// As `OUT`.
        const WRNORM = 0x100;
        /// Priority data may be written.
        const WRBAND = 0x200;
        /// A message is there (unused by Linux).
        const MSG = 0x400;
        /// The peer shut down its writing half.
        const RDHUP = 0x2000;
        /// Everything that has become readable, errors included.
        const READABLE = Self::IN.bits() | Self::RDNORM.bits();
        /// Everything that has become writable.
        const WRITABLE = Self::OUT.bits() | Self::WRNORM.bits();
    }
}
