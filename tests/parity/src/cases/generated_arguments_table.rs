//! Which calls `generated_arguments` makes, and of what kind their arguments are. None of them
//! waits, ends the process or reaches beyond it, whatever is chosen.

use libc::*;

/// What an argument is chosen from.
#[derive(Clone, Copy)]
pub enum A {
    /// Descriptors.
    Fd,
    /// Addresses of buffers, and bad ones.
    Ptr,
    /// Paths, and bad addresses.
    Path,
    /// Lengths.
    Len,
    /// Positions in a file.
    Off,
    /// These values.
    V(&'static [i64]),
    /// Some of these bits, now and then one that is none of them.
    F(&'static [i32]),
}
use A::{F, Fd, Len, Off, Path, Ptr, V};

/// A call.
pub struct Call {
    /// Its name.
    pub name: &'static str,
    /// Its number.
    pub nr: i64,
    /// Its arguments.
    pub args: &'static [A],
    /// Whether what it returns is the same in every run; otherwise only that it did well is told.
    pub plain: bool,
    /// Whether it returns a descriptor, to be closed again.
    pub opens: bool,
}

macro_rules! calls {
    ($($how:ident $nr:ident ($($a:expr),*);)*) => {
        /// All.
        pub const CALLS: &[Call] = &[$(Call {
            name: stringify!($nr),
            nr: $nr,
            args: &[$($a),*],
            plain: matches!(stringify!($how).as_bytes(), b"plain"),
            opens: matches!(stringify!($how).as_bytes(), b"opens"),
        }),*];
    };
}

/// Not from the end: where a directory's is hangs on its file system.
const WHENCE: A = V(&[0, 1, 5, -1]);
/// Of pages, none beyond the buffers.
const ADVICE: A = V(&[0, 1, 2, 3, 10, 11, 16, 17, 99, -1]);
const CLOCK: A = V(&[0, 1, 2, 3, 4, 5, 6, 7, 9, 12, -1, -6]);
const SIGNUM: A = V(&[0, 1, 17, 18, 19, 9, 32, 64, 65, -1]);
const SIZE8: A = V(&[8, 8, 8, 0, 4, 16, -1]);
const LEVEL: A = V(&[1, 0, 6, 41, 99]);
const OPTION: A = V(&[2, 3, 4, 7, 8, 9, 13, 15, 16, 17, 20, 28, 30, 38, 39, 40, 99]);
const COUNT: A = V(&[0, 1, 2, 8, 1024, 1025, -1, i32::MAX as i64]);

calls! {
    plain SYS_lseek(Fd, V(&[-1, 0, 1, 5, 4096, i64::MIN]), WHENCE);
    plain SYS_read(Fd, Ptr, Len);
    plain SYS_write(Fd, Ptr, Len);
    plain SYS_pread64(Fd, Ptr, Len, Off);
    plain SYS_pwrite64(Fd, Ptr, V(&[0, 1, 5, 100]), V(&[-1, 0, 5, 4096, i64::MIN, i64::MAX]));
    plain SYS_readv(Fd, Ptr, COUNT);
    plain SYS_writev(Fd, Ptr, COUNT);
    plain SYS_preadv(Fd, Ptr, COUNT, Off, V(&[0]));
    plain SYS_preadv2(Fd, Ptr, COUNT, Off, V(&[0]), F(&[RWF_HIPRI, RWF_APPEND, RWF_DSYNC]));
    plain SYS_pwritev2(Fd, Ptr, V(&[0, 1025, -1]), Off, V(&[0]), F(&[RWF_DSYNC, RWF_SYNC, RWF_APPEND]));
    opens SYS_dup(Fd);
    plain SYS_fcntl(Fd, V(&[F_GETFD as i64, F_GETFL as i64, F_GETOWN as i64, F_GETPIPE_SZ as i64, F_GETLEASE as i64, 11, 99, -1]), Ptr);
    plain SYS_fcntl(Fd, V(&[F_SETLK as i64, F_GETLK as i64, F_OFD_SETLK as i64, F_OFD_GETLK as i64, 15, 16]), Ptr);
    plain SYS_fcntl(Fd, V(&[F_SETPIPE_SZ as i64, 10]), V(&[0, 1, 2, 4096, 65536, 99, -1]));
    plain SYS_flock(Fd, V(&[LOCK_UN as i64, 0, 3 | 4, 99]));
    plain SYS_ioctl(Fd, V(&[FIONREAD as i64, FIONBIO as i64, TCGETS as i64, TIOCGWINSZ as i64, TIOCGPGRP as i64, FIOCLEX as i64, FIONCLEX as i64, 0x1234, -1]), Ptr);
    plain SYS_ftruncate(Fd, V(&[-1, 0, 5, 4096, i64::MIN]));
    plain SYS_truncate(Path, V(&[-1, 0, 5, 4096, i64::MIN]));
    plain SYS_fallocate(Fd, V(&[0, 1, 3, 2, 0x40, 0x80]), V(&[-1, 0, 5]), V(&[-1, 0, 5, 4096]));
    plain SYS_fsync(Fd);
    plain SYS_fdatasync(Fd);
    plain SYS_sync_file_range(Fd, Off, Off, F(&[1, 2, 4]));
    plain SYS_readahead(Fd, Off, Len);
    plain SYS_fadvise64(Fd, Off, Len, V(&[0, 1, 2, 3, 4, 5, 6, -1]));
    plain SYS_sendfile(Fd, Fd, V(&[0, 1]), V(&[0, 1, 5]));
    plain SYS_splice(Fd, Ptr, Fd, Ptr, V(&[0, 1, 5, 100]), F(&[1, 2, 4, 8]));
    plain SYS_tee(Fd, Fd, V(&[0, 1, 5, 100]), F(&[1, 2, 4, 8]));
    plain SYS_vmsplice(Fd, Ptr, V(&[0, 1025, -1]), F(&[1, 2, 4, 8]));
    opens SYS_openat(Fd, Path, F(&[O_DIRECTORY, O_NOFOLLOW, O_PATH, O_RDWR, O_WRONLY, O_CLOEXEC, O_NONBLOCK]), V(&[0, 0o644, 0o7777, 0o17_7777]));
    opens SYS_openat2(Fd, Path, Ptr, V(&[24, 24, 0, 8, 32, 4096, 4097, -1]));
    plain SYS_mkdirat(Fd, Path, V(&[0o755, 0]));
    plain SYS_mknodat(Fd, Path, V(&[0o644, 0o10644, 0o140_644, 0o40755, 0o170_000]), V(&[0]));
    plain SYS_unlinkat(Fd, Path, V(&[0x100, 0x400]));
    plain SYS_symlinkat(Path, Fd, Path);
    plain SYS_readlinkat(Fd, Path, Ptr, V(&[-1, 0, 1, 100, i32::MIN as i64]));
    plain SYS_linkat(Fd, Path, Fd, Path, V(&[0, 0x400, 0x1000, 0x1400, 1]));
    plain SYS_renameat2(Fd, Path, Fd, Path, V(&[0, 1, 2, 3, 8, 6]));
    plain SYS_newfstatat(Fd, Path, Ptr, F(&[AT_SYMLINK_NOFOLLOW, AT_EMPTY_PATH, AT_NO_AUTOMOUNT]));
    plain SYS_statx(Fd, Path, F(&[AT_SYMLINK_NOFOLLOW, AT_EMPTY_PATH, AT_STATX_FORCE_SYNC, AT_STATX_DONT_SYNC]), F(&[0x7ff, 0x800, i32::MIN]), Ptr);
    plain SYS_fstat(Fd, Ptr);
    plain SYS_statfs(Path, Ptr);
    plain SYS_fstatfs(Fd, Ptr);
    plain SYS_faccessat2(Fd, Path, V(&[0, 1, 2, 4, 7, 8, -1]), F(&[AT_EACCESS, AT_SYMLINK_NOFOLLOW, AT_EMPTY_PATH]));
    plain SYS_fchmodat(Fd, Path, V(&[0o644, 0o755, 0o17_7777]));
    plain SYS_fchmod(Fd, V(&[0o644, 0o755, -1]));
    plain SYS_fchownat(Fd, Path, V(&[-1, 0]), V(&[-1, 0]), F(&[AT_SYMLINK_NOFOLLOW, AT_EMPTY_PATH]));
    plain SYS_fchown(Fd, V(&[-1, 0]), V(&[-1, 0]));
    plain SYS_utimensat(Fd, Path, Ptr, F(&[AT_SYMLINK_NOFOLLOW, AT_EMPTY_PATH]));
    plain SYS_futimesat(Fd, Path, Ptr);
    plain SYS_getdents64(Fd, Ptr, V(&[0, 1, 8, -1]));
    plain SYS_getcwd(Ptr, V(&[0, 1, 2]));
    plain SYS_fchdir(V(&[-1, 99, 3]));
    plain SYS_chroot(V(&[0, 1]));
    opens SYS_epoll_create(V(&[-1, 0, 1]));
    opens SYS_epoll_create1(F(&[O_CLOEXEC]));
    plain SYS_epoll_ctl(Fd, V(&[1, 2, 3, 0, 4]), Fd, Ptr);
    plain SYS_epoll_pwait(Fd, Ptr, COUNT, V(&[0]), Ptr, SIZE8);
    plain SYS_poll(Ptr, V(&[0, 1, 5, -1, i32::MAX as i64]), V(&[0]));
    opens SYS_eventfd2(V(&[0, 1, -1]), F(&[O_CLOEXEC, O_NONBLOCK, 1]));
    opens SYS_timerfd_create(CLOCK, F(&[O_CLOEXEC, O_NONBLOCK]));
    plain SYS_timerfd_settime(Fd, F(&[1, 2]), Ptr, Ptr);
    plain SYS_timerfd_gettime(Fd, V(&[0, 1]));
    opens SYS_signalfd4(V(&[-1, 99, 4]), Ptr, SIZE8, F(&[O_CLOEXEC, O_NONBLOCK]));
    opens SYS_inotify_init1(F(&[O_CLOEXEC, O_NONBLOCK]));
    plain SYS_inotify_add_watch(Fd, Path, F(&[2, 0x100, 0x0100_0000, 0x0200_0000]));
    plain SYS_inotify_rm_watch(Fd, V(&[-1, 0, 1000]));
    plain SYS_pipe2(Ptr, V(&[1, -1, 0x40]));
    opens SYS_memfd_create(Path, F(&[1, 2, 8, 0x10]));
    opens SYS_socket(V(&[0, 1, 99, -1]), V(&[1, 2, 5, 3, 9, 0x801, -1]), V(&[0, 1, 5]));
    plain SYS_socketpair(V(&[0, 1, 99]), V(&[1, 2, 5, 3, 9, -1]), V(&[0, 1, 5]), V(&[0, 1]));
    plain SYS_bind(Fd, Ptr, V(&[0, 1, 2, 111, -1]));
    plain SYS_connect(Fd, Ptr, V(&[0, 1, 2, 3, 110, 111, -1]));
    plain SYS_listen(Fd, V(&[0, -1, 5]));
    opens SYS_accept4(Fd, Ptr, Ptr, F(&[O_CLOEXEC, O_NONBLOCK]));
    plain SYS_getsockname(Fd, Ptr, Ptr);
    plain SYS_getpeername(Fd, Ptr, Ptr);
    plain SYS_sendto(Fd, Ptr, V(&[0, 1, 5, 100]), F(&[MSG_NOSIGNAL, MSG_EOR, MSG_DONTROUTE]), Ptr, V(&[0, 1, 2, 110, 200, -1]));
    plain SYS_recvfrom(Fd, Ptr, Len, F(&[MSG_PEEK, MSG_TRUNC]), Ptr, Ptr);
    plain SYS_sendmsg(Fd, Ptr, F(&[MSG_NOSIGNAL]));
    plain SYS_recvmsg(Fd, Ptr, F(&[MSG_PEEK, MSG_TRUNC]));
    plain SYS_shutdown(V(&[-1, 99, 4, 3]), V(&[0, 1, 2, 3, -1]));
    plain SYS_setsockopt(Fd, LEVEL, OPTION, Ptr, V(&[0, 1, 4, 8, 16, -1]));
    plain SYS_getsockopt(Fd, LEVEL, OPTION, Ptr, Ptr);
    plain SYS_mincore(Ptr, V(&[0, 1, 4096, -1]), Ptr);
    plain SYS_madvise(Ptr, V(&[0, 1, 4096, -1]), ADVICE);
    plain SYS_msync(Ptr, V(&[0, 1, 4096, -1]), F(&[1, 2, 4]));
    plain SYS_mlock2(Ptr, V(&[0, 1, -1]), F(&[1]));
    plain SYS_munlock(Ptr, V(&[0, 1, -1]));
    plain SYS_mprotect(V(&[0, 1, 4096, -4096]), V(&[0, 1, 4096, -1]), V(&[0, 1, 3, 7, 8, 16, -1]));
    plain SYS_munmap(V(&[0, 1, 4096, -4096]), V(&[0, -1, i64::MAX]));
    yes SYS_mmap(V(&[0, 1]), V(&[0, -1, i64::MAX, 4096]), V(&[0, 1]), V(&[0, 3, 4, 0x10]), Fd, V(&[1, -1, 5]));
    plain SYS_mremap(V(&[0, 1, 4096]), V(&[0, 4096, -1]), V(&[0, 4096, -1]), F(&[1, 2, 4]), V(&[0, 1]));
    yes SYS_brk(V(&[-1]));
    plain SYS_futex(Ptr, V(&[0, 9, 1, 10, 3, 4, 5, 128, 129, 131, 132, 133, 256, 99]), V(&[-7, 77]), V(&[0, 1]), Ptr, V(&[0, 1, 5, -1]));
    plain SYS_set_robust_list(V(&[0, 1]), V(&[0, 8, 23, 25]));
    plain SYS_get_robust_list(V(&[0, 999_999, -1]), Ptr, Ptr);
    plain SYS_rt_sigaction(SIGNUM, Ptr, Ptr, V(&[0, 4, 16, -1]));
    plain SYS_rt_sigprocmask(V(&[0, 1, 2, 3, -1]), V(&[0, 1]), Ptr, SIZE8);
    plain SYS_rt_sigpending(Ptr, SIZE8);
    plain SYS_rt_sigtimedwait(Ptr, Ptr, V(&[1, -1]), SIZE8);
    plain SYS_rt_sigqueueinfo(V(&[999_999, -1, 0]), SIGNUM, Ptr);
    plain SYS_sigaltstack(V(&[0, 1]), Ptr);
    plain SYS_kill(V(&[999_999, -999_999, i32::MIN as i64]), SIGNUM);
    plain SYS_tgkill(V(&[999_999, -1, 0]), V(&[999_999, -1, 0]), SIGNUM);
    plain SYS_tkill(V(&[999_999, -1, 0]), SIGNUM);
    plain SYS_clock_gettime(CLOCK, Ptr);
    plain SYS_clock_getres(CLOCK, Ptr);
    plain SYS_clock_nanosleep(CLOCK, V(&[0, 1, 2]), V(&[0, 1]), Ptr);
    plain SYS_timer_create(CLOCK, V(&[1, -1]), Ptr);
    plain SYS_timer_settime(V(&[-1, 99]), F(&[1, 2]), Ptr, Ptr);
    plain SYS_timer_gettime(V(&[-1, 99]), Ptr);
    plain SYS_timer_delete(V(&[-1, 99]));
    plain SYS_getitimer(V(&[0, 1, 2, 3, -1]), V(&[0, 1]));
    plain SYS_setitimer(V(&[0, 1, 2, 3, -1]), V(&[0, 1]), Ptr);
    plain SYS_gettimeofday(Ptr, Ptr);
    plain SYS_getrlimit(V(&[0, 1, 3, 4, 6, 7, 15, 16, -1]), Ptr);
    plain SYS_prlimit64(V(&[0, 999_999, -1]), V(&[3, 4, 16, -1]), V(&[0, 1]), Ptr);
    plain SYS_getrusage(V(&[0, -1, 1, 2, -2]), Ptr);
    plain SYS_times(V(&[1]));
    plain SYS_sysinfo(Ptr);
    plain SYS_uname(Ptr);
    plain SYS_getpriority(V(&[0, 1, 2, 3, -1]), V(&[999_999, -1]));
    plain SYS_setpriority(V(&[0, 1, 2, 3, -1]), V(&[999_999, -1]), V(&[0, 5]));
    plain SYS_ioprio_get(V(&[0, 1, 2, 3, 4]), V(&[999_999, -1]));
    plain SYS_sched_getparam(V(&[0, 999_999, -1]), Ptr);
    plain SYS_sched_getscheduler(V(&[0, 999_999, -1]));
    plain SYS_sched_setscheduler(V(&[0, 999_999, -1]), V(&[0, 3, 4, 7, -1]), Ptr);
    plain SYS_sched_get_priority_max(V(&[0, 1, 2, 3, 5, 6, 7, 9, -1]));
    plain SYS_sched_get_priority_min(V(&[0, 1, 2, 3, 5, 6, 7, 9, -1]));
    plain SYS_sched_rr_get_interval(V(&[0, 999_999, -1]), Ptr);
    plain SYS_sched_getattr(V(&[0, 999_999, -1]), Ptr, V(&[48, 47, 56, 4097, 0]), V(&[0, 1]));
    yes SYS_sched_getaffinity(V(&[0, 999_999, -1]), V(&[0, 1, 7, 8]), Ptr);
    plain SYS_getrandom(Ptr, V(&[0, 1, 100]), F(&[1, 2, 4]));
    plain SYS_getcpu(Ptr, Ptr, V(&[0, 1]));
    plain SYS_wait4(V(&[-1, 0, 999_999, i32::MIN as i64]), Ptr, F(&[1, 2, 8]), Ptr);
    plain SYS_waitid(V(&[0, 1, 2, 3, 4]), V(&[0, 999_999, -1]), Ptr, F(&[1, 2, 4, 8]), Ptr);
    plain SYS_setpgid(V(&[999_999, -1]), V(&[0, -1]));
    plain SYS_getpgid(V(&[999_999, -1]));
    plain SYS_getsid(V(&[999_999, -1]));
    plain SYS_getgroups(V(&[-1, 0]), Ptr);
    plain SYS_setgroups(V(&[-1, 65537]), Ptr);
    plain SYS_getresuid(Ptr, Ptr, Ptr);
    plain SYS_setresuid(V(&[-1, 0]), V(&[-1, 0]), V(&[-1, 0]));
    plain SYS_setfsuid(V(&[-1]));
    plain SYS_capget(Ptr, Ptr);
    plain SYS_capset(Ptr, V(&[0, 1]));
    plain SYS_prctl(V(&[1, 2, 3, 4, 7, 8, 15, 16, 21, 23, 27, 28, 29, 30, 36, 37, 38, 39, 40, 99, -1]), V(&[0, 1, 99, -1]), V(&[0, 1]), V(&[0, 1]), V(&[0, 1]));
    plain SYS_arch_prctl(V(&[0x1003, 0x1004, 0x1011, 0x1001, 99]), V(&[0, 1, -1]));
    opens SYS_pidfd_open(V(&[999_999, -1, 0]), F(&[O_NONBLOCK]));
    plain SYS_pidfd_send_signal(Fd, SIGNUM, Ptr, V(&[0, 1]));
    plain SYS_process_vm_readv(V(&[999_999, -1]), Ptr, COUNT, Ptr, COUNT, V(&[0, 1]));
    yes SYS_membarrier(V(&[0, 1, 99, -1]), V(&[0, 1]), V(&[0]));
    plain SYS_getxattr(Path, Path, Ptr, V(&[0, 1, 100, -1]));
    plain SYS_setxattr(Path, Path, Ptr, V(&[0, 1, 70_000, -1]), V(&[0, 1, 2, 3, 4]));
    plain SYS_fgetxattr(Fd, Path, Ptr, V(&[0, 1, 100, -1]));
    plain SYS_removexattr(Path, Path);
    plain SYS_shmget(V(&[0x7777]), V(&[0, 1, -1]), V(&[0, 0o2000]));
    plain SYS_shmctl(V(&[-1, 999_999]), V(&[0, 2, 3, 99]), Ptr);
    plain SYS_shmat(V(&[-1, 999_999]), V(&[0, 1]), V(&[0, 0x1000]));
    plain SYS_shmdt(Ptr);
    plain SYS_semget(V(&[0x7777]), V(&[0, -1, 99_999]), V(&[0, 0o1000]));
    plain SYS_semctl(V(&[-1, 999_999]), V(&[0, -1]), V(&[0, 2, 12, 13, 16, 99]), Ptr);
    plain SYS_semtimedop(V(&[-1, 999_999]), Ptr, V(&[0, 1, 501, -1]), V(&[0, 1]));
    plain SYS_msgget(V(&[0x7777]), V(&[0]));
    plain SYS_msgctl(V(&[-1, 999_999]), V(&[0, 2, 99]), Ptr);
    plain SYS_msgsnd(V(&[-1, 999_999]), Ptr, V(&[0, 1, -1, 99_999]), V(&[0o4000]));
    plain SYS_msgrcv(V(&[-1, 999_999]), Ptr, V(&[0, 1, -1]), V(&[0, 1]), V(&[0o4000]));
    opens SYS_mq_open(Path, V(&[0, 2, 3]), V(&[0]), V(&[0]));
    plain SYS_mq_unlink(Path);
    plain SYS_mq_timedsend(Fd, Ptr, V(&[0, 1, 8192, 8193]), V(&[0, 32_768]), V(&[0, 1]));
    plain SYS_mq_getsetattr(Fd, Ptr, Ptr);
    plain SYS_personality(V(&[-1]));
    plain SYS_unshare(V(&[1, -1, 0x0001_0000]));
    plain SYS_setns(Fd, V(&[0, 1, 0x0002_0000]));
    plain SYS_clone3(V(&[0, 1]), V(&[0, 8, 63, 88, 4097]));
    plain SYS_close_range(V(&[50, 60]), V(&[40, 49]), F(&[2, 4]));
    plain SYS_dup3(Fd, V(&[-1, 1_000_000]), V(&[1, 4]));
    plain SYS_kcmp(V(&[999_999, -1]), V(&[999_999]), V(&[0, 99]), V(&[0]), V(&[0]));
    plain SYS_syslog(V(&[99, -1]), Ptr, V(&[0, -1]));
}
