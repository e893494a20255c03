//! What the auxiliary vector tells of the machine.

use std::sync::OnceLock;

/// The host's own answers, which hold for guests as well: their instructions run on it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Hardware {
    /// `AT_HWCAP`: CPUID leaf 1, EDX.
    pub(crate) hwcap: u64,
    /// `AT_HWCAP2`: whether FSGSBASE instructions may be used (bit 1).
    pub(crate) hwcap2: u64,
    /// `AT_MINSIGSTKSZ`: the room a signal frame takes, in bytes.
    pub(crate) min_signal_stack: u64,
}

impl Hardware {
    /// As the host told this process. A platform that withholds something clears its bit.
    pub(crate) fn host() -> Hardware {
        static HOST: OnceLock<Hardware> = OnceLock::new();
        *HOST.get_or_init(|| {
            let (hwcap, hwcap2) = rustix::param::linux_hwcap();
            Hardware {
                hwcap: hwcap as u64,
                hwcap2: hwcap2 as u64,
                min_signal_stack: rustix::param::linux_minsigstksz() as u64,
            }
        })
    }
}
