//! Names of constants.

use abi::libc;

/// Constants with their names.
pub(crate) type Names = &'static [(u64, &'static str)];

macro_rules! names {
    ($($name:ident),* $(,)?) => {
        &[$((libc::$name as u32 as u64, stringify!($name))),*]
    };
}

pub(crate) const OPEN: Names = names![
    O_CREAT,
    O_EXCL,
    O_NOCTTY,
    O_TRUNC,
    O_APPEND,
    O_NONBLOCK,
    O_DSYNC,
    O_ASYNC,
    O_DIRECT,
    O_DIRECTORY,
    O_NOFOLLOW,
    O_NOATIME,
    O_CLOEXEC,
    O_PATH,
];
pub(crate) const AT: Names = names![
    AT_SYMLINK_NOFOLLOW,
    AT_REMOVEDIR,
    AT_SYMLINK_FOLLOW,
    AT_NO_AUTOMOUNT,
    AT_EMPTY_PATH,
];
pub(crate) const ACCESS: Names = names![R_OK, W_OK, X_OK];
pub(crate) const WHENCE: Names = names![SEEK_SET, SEEK_CUR, SEEK_END, SEEK_DATA, SEEK_HOLE];
pub(crate) const PROT: Names = names![PROT_READ, PROT_WRITE, PROT_EXEC, PROT_GROWSDOWN];
pub(crate) const MAP: Names = names![
    MAP_SHARED,
    MAP_PRIVATE,
    MAP_FIXED,
    MAP_ANONYMOUS,
    MAP_32BIT,
    MAP_GROWSDOWN,
    MAP_DENYWRITE,
    MAP_LOCKED,
    MAP_NORESERVE,
    MAP_POPULATE,
    MAP_NONBLOCK,
    MAP_STACK,
    MAP_HUGETLB,
    MAP_FIXED_NOREPLACE,
];
pub(crate) const CLONE: Names = names![
    CLONE_VM,
    CLONE_FS,
    CLONE_FILES,
    CLONE_SIGHAND,
    CLONE_PIDFD,
    CLONE_PTRACE,
    CLONE_VFORK,
    CLONE_PARENT,
    CLONE_THREAD,
    CLONE_NEWNS,
    CLONE_SYSVSEM,
    CLONE_SETTLS,
    CLONE_PARENT_SETTID,
    CLONE_CHILD_CLEARTID,
    CLONE_UNTRACED,
    CLONE_CHILD_SETTID,
    CLONE_NEWCGROUP,
    CLONE_NEWUTS,
    CLONE_NEWIPC,
    CLONE_NEWUSER,
    CLONE_NEWPID,
    CLONE_NEWNET,
    CLONE_IO,
];
pub(crate) const WAIT: Names = names![
    WNOHANG,
    WUNTRACED,
    WEXITED,
    WCONTINUED,
    WNOWAIT,
    __WNOTHREAD,
    __WALL,
    __WCLONE
];
pub(crate) const CLOCK: Names = names![
    CLOCK_REALTIME,
    CLOCK_MONOTONIC,
    CLOCK_PROCESS_CPUTIME_ID,
    CLOCK_THREAD_CPUTIME_ID,
    CLOCK_MONOTONIC_RAW,
    CLOCK_REALTIME_COARSE,
    CLOCK_MONOTONIC_COARSE,
    CLOCK_BOOTTIME,
    CLOCK_REALTIME_ALARM,
    CLOCK_BOOTTIME_ALARM,
    CLOCK_TAI,
];
pub(crate) const SIG_HOW: Names = names![SIG_BLOCK, SIG_UNBLOCK, SIG_SETMASK];
pub(crate) const FCNTL: Names = names![
    F_DUPFD,
    F_GETFD,
    F_SETFD,
    F_GETFL,
    F_SETFL,
    F_GETLK,
    F_SETLK,
    F_SETLKW,
    F_SETOWN,
    F_GETOWN,
    F_OFD_GETLK,
    F_OFD_SETLK,
    F_OFD_SETLKW,
    F_DUPFD_CLOEXEC,
    F_SETPIPE_SZ,
    F_GETPIPE_SZ,
    F_ADD_SEALS,
    F_GET_SEALS,
];
pub(crate) const PRCTL: Names = names![
    PR_SET_PDEATHSIG,
    PR_GET_PDEATHSIG,
    PR_GET_DUMPABLE,
    PR_SET_DUMPABLE,
    PR_GET_KEEPCAPS,
    PR_SET_KEEPCAPS,
    PR_SET_NAME,
    PR_GET_NAME,
    PR_GET_SECCOMP,
    PR_SET_SECCOMP,
    PR_CAPBSET_READ,
    PR_CAPBSET_DROP,
    PR_GET_TSC,
    PR_GET_SECUREBITS,
    PR_SET_SECUREBITS,
    PR_SET_TIMERSLACK,
    PR_GET_TIMERSLACK,
    PR_SET_MM,
    PR_SET_CHILD_SUBREAPER,
    PR_GET_CHILD_SUBREAPER,
    PR_SET_NO_NEW_PRIVS,
    PR_GET_NO_NEW_PRIVS,
    PR_GET_THP_DISABLE,
    PR_SET_THP_DISABLE,
    PR_CAP_AMBIENT,
    PR_SET_VMA,
    PR_SET_PTRACER,
];
pub(crate) const RLIMIT: Names = names![
    RLIMIT_CPU,
    RLIMIT_FSIZE,
    RLIMIT_DATA,
    RLIMIT_STACK,
    RLIMIT_CORE,
    RLIMIT_RSS,
    RLIMIT_NPROC,
    RLIMIT_NOFILE,
    RLIMIT_MEMLOCK,
    RLIMIT_AS,
    RLIMIT_LOCKS,
    RLIMIT_SIGPENDING,
    RLIMIT_MSGQUEUE,
    RLIMIT_NICE,
    RLIMIT_RTPRIO,
    RLIMIT_RTTIME,
];
pub(crate) const EPOLL_OP: Names = names![EPOLL_CTL_ADD, EPOLL_CTL_DEL, EPOLL_CTL_MOD];
pub(crate) const EPOLL: Names = names![
    EPOLLIN,
    EPOLLPRI,
    EPOLLOUT,
    EPOLLERR,
    EPOLLHUP,
    EPOLLRDHUP,
    EPOLLEXCLUSIVE,
    EPOLLWAKEUP,
    EPOLLONESHOT,
    EPOLLET,
];
pub(crate) const POLL: Names = names![
    POLLIN, POLLPRI, POLLOUT, POLLERR, POLLHUP, POLLNVAL, POLLRDHUP
];
pub(crate) const FAMILY: Names =
    names![AF_UNSPEC, AF_UNIX, AF_INET, AF_INET6, AF_NETLINK, AF_PACKET];
pub(crate) const SOCKET: Names = names![SOCK_STREAM, SOCK_DGRAM, SOCK_RAW, SOCK_SEQPACKET];
pub(crate) const SOCKET_FLAGS: Names = names![SOCK_NONBLOCK, SOCK_CLOEXEC];
pub(crate) const MSG: Names = names![
    MSG_OOB,
    MSG_PEEK,
    MSG_CTRUNC,
    MSG_TRUNC,
    MSG_DONTWAIT,
    MSG_EOR,
    MSG_WAITALL,
    MSG_NOSIGNAL,
    MSG_MORE,
    MSG_WAITFORONE,
    MSG_CMSG_CLOEXEC,
];
pub(crate) const FUTEX: Names = names![
    FUTEX_WAIT,
    FUTEX_WAKE,
    FUTEX_FD,
    FUTEX_REQUEUE,
    FUTEX_CMP_REQUEUE,
    FUTEX_WAKE_OP,
    FUTEX_LOCK_PI,
    FUTEX_UNLOCK_PI,
    FUTEX_TRYLOCK_PI,
    FUTEX_WAIT_BITSET,
    FUTEX_WAKE_BITSET,
];
pub(crate) const FUTEX_FLAGS: Names = names![FUTEX_PRIVATE_FLAG, FUTEX_CLOCK_REALTIME];

/// The name of one constant, or its number.
pub(crate) fn one(value: u64, names: Names) -> String {
    let found = names.iter().find(|(v, _)| *v == value);
    found.map_or_else(
        || format!("{}", value as i32),
        |(_, name)| (*name).to_owned(),
    )
}

/// Bits by name, joined by `|`; what has no name in hexadecimal.
pub(crate) fn set(value: u64, names: Names) -> String {
    let mut left = value;
    let mut parts = Vec::new();
    for (bits, name) in names {
        if *bits != 0 && left & bits == *bits {
            parts.push((*name).to_owned());
            left &= !bits;
        }
    }
    if left != 0 {
        parts.push(format!("{left:#x}"));
    }
    if parts.is_empty() {
        "0".to_owned()
    } else {
        parts.join("|")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_bits_are_shown_too() {
        assert_eq!(set(0x3 | 0x100, PROT), "PROT_READ|PROT_WRITE|0x100");
        assert_eq!(set(0, PROT), "0");
        assert_eq!(one(9, WHENCE), "9");
    }
}
