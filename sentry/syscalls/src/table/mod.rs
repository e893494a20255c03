//! The one table: what each call is named, what its arguments are, who handles it, how far.
//!
//! Dispatch ([`HANDLERS`]), strace formatting ([`entry`]), the compat table and
//! `ringfence help syscalls` ([`compat_markdown`], [`help_text`]) all come from it.

mod doc;
mod list;

use crate::Handler;
use abi::nr;

pub use doc::{compat_markdown, help_text};
pub use list::ENTRIES;

/// One system call.
pub struct Entry {
    /// Its number.
    pub nr: usize,
    /// Its name.
    pub name: &'static str,
    /// Its arguments, six at most.
    pub args: &'static [Arg],
    /// How far it is supported.
    pub support: Support,
    /// Who handles it; `None` is `ENOSYS`.
    pub handler: Option<Handler>,
}

/// An argument of a call.
pub struct Arg {
    /// As its man page names it.
    pub name: &'static str,
    /// What it means.
    pub kind: Kind,
}

/// How far a call is supported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Support {
    /// As Linux has it.
    Full,
    /// With what the text says left out.
    Partial(&'static str),
    /// `ENOSYS`; the text says what it belongs to.
    Absent(&'static str),
}

/// What an argument means, for strace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// 32 bits, signed.
    Int,
    /// 32 bits, unsigned.
    Uint,
    /// 64 bits, signed.
    Long,
    /// 64 bits, unsigned, decimal.
    Size,
    /// 64 bits, in hexadecimal.
    Hex,
    /// An address, shown as such.
    Ptr,
    /// A descriptor.
    Fd,
    /// A descriptor or `AT_FDCWD`.
    DirFd,
    /// A NUL-terminated string.
    Path,
    /// Bytes the guest gives; the next argument is their number.
    In,
    /// Bytes the guest gets; the result is their number.
    Out,
    /// As `Out`, a string.
    OutStr,
    /// An array of `struct iovec` the guest gives; the next argument is its length.
    Iov,
    /// Two descriptors, shown after the call.
    FdPair,
    /// Permission bits, octal.
    Mode,
    /// A user or group id, -1 for none.
    Id,
    /// `O_*`.
    Open,
    /// `F_*`.
    Fcntl,
    /// `AT_*`.
    AtFlags,
    /// `R_OK` and friends.
    Access,
    /// `SEEK_*`.
    Whence,
    /// A `struct stat` filled in by the call.
    Stat,
    /// `PROT_*`.
    Prot,
    /// `MAP_*`.
    Map,
    /// `CLONE_*`.
    Clone,
    /// A signal.
    Signal,
    /// A set of signals the guest gives.
    Sigset,
    /// A `struct sigaction` the guest gives.
    Sigaction,
    /// `SIG_BLOCK` and friends.
    SigHow,
    /// An array of strings.
    Argv,
    /// The environment: its length alone.
    Envp,
    /// A status word filled in by the call.
    WaitStatus,
    /// `W*`.
    WaitOptions,
    /// A `struct timespec` the guest gives.
    Timespec,
    /// A `struct timespec` the call fills in.
    TimespecOut,
    /// A `struct timeval` the guest gives.
    Timeval,
    /// A `struct timeval` the call fills in.
    TimevalOut,
    /// `CLOCK_*`.
    Clock,
    /// `FUTEX_*`.
    Futex,
    /// `PR_*`.
    Prctl,
    /// `RLIMIT_*`.
    Rlimit,
    /// `EPOLL_CTL_*`.
    EpollOp,
    /// A `struct epoll_event` the guest gives.
    EpollEvent,
    /// An array of `struct pollfd`; the next argument is its length.
    PollFds,
    /// `AF_*`.
    Family,
    /// `SOCK_*`.
    SockType,
    /// `MSG_*`.
    MsgFlags,
    /// A socket address the guest gives; the next argument is its length.
    Sockaddr,
}

/// The handlers by number; `None` is `ENOSYS`.
pub static HANDLERS: [Option<Handler>; nr::COUNT] = handlers();

/// Where each number stands in [`ENTRIES`]; `NOWHERE` where Linux has no such call.
static PLACES: [u16; nr::COUNT] = places();
const NOWHERE: u16 = u16::MAX;

const fn handlers() -> [Option<Handler>; nr::COUNT] {
    let mut all: [Option<Handler>; nr::COUNT] = [None; nr::COUNT];
    let mut i = 0;
    while i < list::LIST.len() {
        all[list::LIST[i].nr] = list::LIST[i].handler;
        i += 1;
    }
    all
}

const fn places() -> [u16; nr::COUNT] {
    let mut all = [NOWHERE; nr::COUNT];
    let mut i = 0;
    while i < list::LIST.len() {
        all[list::LIST[i].nr] = i as u16;
        i += 1;
    }
    all
}

/// The row of call `nr`, if Linux has one.
pub fn entry(nr: usize) -> Option<&'static Entry> {
    PLACES.get(nr).and_then(|at| ENTRIES.get(usize::from(*at)))
}

/// The name of call `nr`, for logs.
pub fn name(nr: usize) -> &'static str {
    entry(nr).map_or("?", |e| e.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_that_linux_has_stands_there_once_and_in_order() {
        assert!(ENTRIES.windows(2).all(|w| w[0].nr < w[1].nr));
        for nr in 0..nr::COUNT {
            assert_eq!(entry(nr).map(|e| e.name), nr::name(nr), "number {nr}");
        }
        assert!(entry(nr::COUNT).is_none() && entry(usize::MAX).is_none());
    }

    #[test]
    fn only_absent_calls_have_no_handler() {
        for e in ENTRIES {
            let absent = matches!(e.support, Support::Absent(_));
            assert_eq!(absent, e.handler.is_none(), "{}", e.name);
            assert!(e.args.len() <= 6, "{}", e.name);
        }
    }
}
