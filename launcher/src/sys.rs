//! The host calls of the launcher for which there is no safe wrapper, and the code that runs in a
//! new process before it becomes the sandbox process or the gofer.
// UNSAFETY: raw clone, execveat, open_tree, capset and adoption of descriptors. The child half
// runs in a copy of a process with one thread, touches only what was prepared before, and ends in
// exec or _exit.
#![expect(
    unsafe_code,
    reason = "clone, exec and capabilities have no safe wrapper"
)]

use nix::NixPath;
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, OpenHow, ResolveFlag, openat2};
use nix::sys::stat::fstat;
use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// Exit status of a child that could not become what it was to be.
pub(crate) const EXIT_BEFORE_EXEC: i32 = 71;
/// The number of the one donated descriptor.
pub(crate) const DONATED: RawFd = 3;
/// The executable, until exec.
const EXE: RawFd = 4;
/// The controlling terminal, until exec.
const TERMINAL: RawFd = 5;
/// Descriptors are parked above this before they are put in their places.
const PARK: RawFd = 64;

/// What the child does between clone and exec; all of it prepared beforehand.
pub(crate) struct Child<'a> {
    /// The executable, by descriptor: its path need not be reachable for nobody.
    pub(crate) exe: BorrowedFd<'a>,
    /// Argument vector.
    pub(crate) argv: Vec<CString>,
    /// `CLONE_NEW…`
    pub(crate) namespaces: i32,
    /// Becomes [`DONATED`].
    pub(crate) donated: BorrowedFd<'a>,
    /// Becomes standard input and output.
    pub(crate) null: BorrowedFd<'a>,
    /// Becomes standard error.
    pub(crate) words: BorrowedFd<'a>,
    /// User and group to become once the id maps stand, dropping other groups when `drop_groups`.
    pub(crate) become_ids: Option<(u32, u32)>,
    /// Whether supplementary groups can and shall be dropped.
    pub(crate) drop_groups: bool,
    /// Capabilities kept across exec, bit n being number n.
    pub(crate) keep: u64,
    /// Made the controlling terminal, so that its window changes reach the process.
    pub(crate) terminal: Option<BorrowedFd<'a>>,
    /// Opened in the child's namespaces and sent back over `donated` in one message.
    pub(crate) trees: Vec<TreePath>,
}

/// A tree that is to be opened.
#[derive(Debug)]
pub(crate) struct TreePath {
    /// Its root.
    pub(crate) path: CString,
    /// What was found there, of a mount that config.json does not name: its path is not trusted to
    /// lead there still.
    pub(crate) found: Option<Found>,
    /// Whether with what is mounted below.
    pub(crate) recursive: bool,
    /// How access times are kept in it, where not as in what it is a clone of.
    pub(crate) atime: Option<Atime>,
}

/// A mount's root that was found, open.
#[derive(Debug)]
pub(crate) struct Found {
    at: OwnedFd,
    /// Device and inode.
    file: (u64, u64),
}

impl Found {
    pub(crate) fn new(at: OwnedFd) -> Result<Found, Errno> {
        let file = fstat(&at).map(|s| (s.st_dev, s.st_ino))?;
        Ok(Found { at, file })
    }

    /// The same in another mount namespace, where `path` still leads to it.
    fn again(&self, path: &CStr) -> Result<Found, Errno> {
        let found = Found::new(open_found(path)?)?;
        match found.file == self.file {
            true => Ok(found),
            false => Err(Errno::ESTALE),
        }
    }
}

/// Opens a path that has no links in it, to look at: one that has them now was changed by somebody.
pub(crate) fn open_found<P: NixPath + ?Sized>(path: &P) -> Result<OwnedFd, Errno> {
    let how = OpenHow::new()
        .flags(OFlag::O_PATH | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_NO_SYMLINKS | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    openat2(AT_FDCWD, path, how)
}

/// How access times are kept: some of mount_setattr(2)'s attributes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Atime {
    pub(crate) never: bool,
    pub(crate) always: bool,
    pub(crate) not_of_directories: bool,
}

struct Failed(&'static CStr, Errno);

fn check(result: libc::c_long, what: &'static CStr) -> Result<libc::c_long, Failed> {
    Errno::result(result).map_err(|e| Failed(what, e))
}

/// Starts the child. It waits for one byte on `donated` before it changes ids: by then its id
/// maps must stand.
///
/// # Preconditions
/// This process has one thread: the child is a copy of it and allocates.
pub(crate) fn start(child: &Child<'_>) -> Result<libc::pid_t, Errno> {
    let mut argv: Vec<*const libc::c_char> = child.argv.iter().map(|a| a.as_ptr()).collect();
    argv.push(std::ptr::null());
    let flags = (child.namespaces | libc::SIGCHLD) as libc::c_ulong;
    // SAFETY: no stack is given and memory is not shared, so this is fork with namespaces.
    let pid = Errno::result(unsafe { libc::syscall(libc::SYS_clone, flags, 0, 0, 0, 0) })?;
    if pid != 0 {
        return Ok(pid as libc::pid_t);
    }
    let Failed(what, errno) = match run(child, &argv) {
        Ok(never) => match never {},
        Err(failed) => failed,
    };
    let text = format!("cannot {}: {}\n", what.to_string_lossy(), errno.desc());
    // SAFETY: plain write of our own bytes, then the end.
    unsafe {
        libc::write(2, text.as_ptr().cast(), text.len());
        libc::_exit(EXIT_BEFORE_EXEC);
    }
}

enum Never {}

fn run(child: &Child<'_>, argv: &[*const libc::c_char]) -> Result<Never, Failed> {
    // SAFETY: each call gets descriptors that are open or pointers to what `child` and the stack
    // hold; results are checked.
    unsafe {
        // Out of the way of the places that they are to take.
        let park = |fd: BorrowedFd<'_>| {
            check(
                libc::fcntl(fd.as_raw_fd(), libc::F_DUPFD_CLOEXEC, PARK).into(),
                c"duplicate a descriptor",
            )
        };
        let words = park(child.words)? as RawFd;
        let null = park(child.null)? as RawFd;
        let donated = park(child.donated)? as RawFd;
        let exe = park(child.exe)? as RawFd;
        let terminal = child.terminal.map(park).transpose()?;
        for (from, to) in [(words, 2), (null, 0), (null, 1), (donated, DONATED)] {
            check(libc::dup2(from, to).into(), c"place a descriptor")?;
        }
        check(
            libc::dup3(exe, EXE, libc::O_CLOEXEC).into(),
            c"place a descriptor",
        )?;
        let terminal = match terminal {
            Some(from) => Some(check(
                libc::dup3(from as RawFd, TERMINAL, libc::O_CLOEXEC).into(),
                c"place a descriptor",
            )?),
            None => None,
        };
        // Everything else goes at once: this copy holds the launcher's ends of the sockets, too,
        // and would not see that the launcher died; and it holds the container's lock.
        let first = if terminal.is_some() {
            TERMINAL + 1
        } else {
            EXE + 1
        };
        close_from(first, 0)?;
        check(
            libc::prctl(libc::PR_SET_DUMPABLE, 1).into(),
            c"become dumpable",
        )?;
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&mut none);
        check(
            libc::sigprocmask(libc::SIG_SETMASK, &none, std::ptr::null_mut()).into(),
            c"unblock signals",
        )?;
        for signal in 1..=31 {
            if signal != libc::SIGPIPE && signal != libc::SIGKILL && signal != libc::SIGSTOP {
                libc::signal(signal, libc::SIG_DFL);
            }
        }
        check(libc::setsid().into(), c"make a session")?;
        if let Some(terminal) = terminal {
            check(
                libc::ioctl(terminal as RawFd, libc::TIOCSCTTY, 0).into(),
                c"make the container's terminal the controlling one",
            )?;
        }
        let mut byte = 0u8;
        let admitted = libc::read(DONATED, (&raw mut byte).cast(), 1);
        if admitted != 1 {
            return Err(Failed(c"wait for the launcher", Errno::ECONNRESET));
        }
        if !child.trees.is_empty() {
            send_trees(&child.trees)?;
        }
        if let Some((uid, gid)) = child.become_ids {
            if child.drop_groups {
                check(libc::setgroups(0, std::ptr::null()).into(), c"drop groups")?;
            }
            check(
                libc::setresgid(gid, gid, gid).into(),
                c"change the group id",
            )?;
            check(libc::setresuid(uid, uid, uid).into(), c"change the user id")?;
            check(
                libc::prctl(libc::PR_SET_DUMPABLE, 1).into(),
                c"become dumpable",
            )?;
        }
        limit_capabilities(child.keep)?;
        // What was opened since.
        close_from(DONATED + 1, libc::CLOSE_RANGE_CLOEXEC)?;
        let environment = [std::ptr::null::<libc::c_char>()];
        check(
            libc::syscall(
                libc::SYS_execveat,
                EXE,
                c"".as_ptr(),
                argv.as_ptr(),
                environment.as_ptr(),
                libc::AT_EMPTY_PATH,
            ),
            c"execute ringfence's own binary again",
        )?;
    }
    Err(Failed(
        c"execute ringfence's own binary again",
        Errno::ENOEXEC,
    ))
}

/// Goes on as two processes: `None` in the new one.
///
/// # Preconditions
/// This process has one thread.
pub(crate) fn fork() -> Result<Option<libc::pid_t>, Errno> {
    // SAFETY: a copy of a process with one thread is as good as it.
    let pid = Errno::result(unsafe { libc::fork() })?;
    Ok((pid != 0).then_some(pid))
}

/// Leaves the caller's session, terminal and descriptors but for `kept`; `terminal`, one of them,
/// becomes the controlling one, where that is possible. Nothing that wraps another descriptor may
/// be used any more.
pub(crate) fn become_stand_in(
    null: BorrowedFd<'_>,
    kept: &[BorrowedFd<'_>],
    terminal: Option<BorrowedFd<'_>>,
) {
    // SAFETY: plain numbers of open descriptors; the caller keeps to what is said above.
    unsafe {
        libc::setsid();
        if let Some(terminal) = terminal {
            libc::ioctl(terminal.as_raw_fd(), libc::TIOCSCTTY, 0);
        }
        for number in 0..3 {
            libc::dup2(null.as_raw_fd(), number);
        }
        let mut first = 3u32;
        let mut kept: Vec<u32> = kept.iter().map(|k| k.as_raw_fd().unsigned_abs()).collect();
        kept.sort_unstable();
        for keep in kept {
            if first < keep {
                libc::syscall(libc::SYS_close_range, first, keep - 1, 0);
            }
            first = first.max(keep + 1);
        }
        libc::syscall(libc::SYS_close_range, first, u32::MAX, 0);
    }
}

/// Closes descriptors from `first` on, or with a flag does so at exec.
fn close_from(first: RawFd, flags: libc::c_uint) -> Result<(), Failed> {
    // SAFETY: the caller owns this process's descriptors; values that wrap those closed here are
    // not used after it.
    let closed = unsafe {
        libc::syscall(
            libc::SYS_close_range,
            first as libc::c_uint,
            u32::MAX,
            flags,
        )
    };
    check(closed, c"close descriptors").map(drop)
}

/// Opens each tree here and sends all of them to the launcher, with a byte.
fn send_trees(trees: &[TreePath]) -> Result<(), Failed> {
    use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
    let mut numbers = Vec::with_capacity(trees.len());
    for tree in trees {
        // What the launcher found is of its mount namespace, and closed here.
        let found = tree.found.as_ref().map(|f| f.again(&tree.path));
        let opened = found.transpose().and_then(|f| clone_tree(tree, f));
        let tree = opened.map_err(|e| Failed(c"open a tree for the gofer", e))?;
        numbers.push(std::os::fd::IntoRawFd::into_raw_fd(tree));
    }
    sendmsg::<()>(
        DONATED,
        &[std::io::IoSlice::new(b"t")],
        &[ControlMessage::ScmRights(&numbers)],
        MsgFlags::MSG_NOSIGNAL,
        None,
    )
    .map(drop)
    .map_err(|e| Failed(c"send trees to the launcher", e))
}

/// A descriptor of a tree on a detached mount of its own, so that nothing above it is reachable
/// from it; on hosts that do not allow that, a plain `O_PATH` one.
///
/// Where a user namespace must not see what mounts hide, it cannot have one without those below it:
/// then they come along.
pub(crate) fn open_tree(mut tree: TreePath) -> Result<OwnedFd, Errno> {
    let found = tree.found.take();
    clone_tree(&tree, found)
}

/// The same, of what was `found` at its path, if it was.
fn clone_tree(tree: &TreePath, found: Option<Found>) -> Result<OwnedFd, Errno> {
    let clone = |more: libc::c_int| {
        let (at, path, how) = match &found {
            Some(found) => {
                let how = libc::AT_EMPTY_PATH | libc::AT_NO_AUTOMOUNT;
                (found.at.as_raw_fd(), c"", how)
            }
            None => (libc::AT_FDCWD, tree.path.as_c_str(), 0),
        };
        let flags = libc::OPEN_TREE_CLONE | libc::OPEN_TREE_CLOEXEC | (more | how) as u32;
        // SAFETY: an open descriptor, a NUL-terminated path and plain flags.
        unsafe { libc::syscall(libc::SYS_open_tree, at, path.as_ptr(), flags) }
    };
    let mut cloned = -1;
    if !tree.recursive {
        cloned = clone(0);
    }
    if cloned < 0 {
        cloned = clone(libc::AT_RECURSIVE);
    }
    if cloned >= 0 {
        // SAFETY: a new descriptor of ours.
        let cloned = unsafe { OwnedFd::from_raw_fd(cloned as RawFd) };
        if let Some(atime) = tree.atime {
            set_atime(cloned.as_fd(), atime);
        }
        return Ok(cloned);
    }
    if let Some(found) = found {
        return Ok(found.at);
    }
    // SAFETY: a NUL-terminated path and plain flags.
    let plain = unsafe { libc::open(tree.path.as_ptr(), libc::O_PATH | libc::O_CLOEXEC) };
    Errno::result(plain)?;
    // SAFETY: a new descriptor of ours.
    Ok(unsafe { OwnedFd::from_raw_fd(plain) })
}

/// Sets how access times are kept in a mount of ours. Where the host does not let us, they are kept as
/// it does.
fn set_atime(tree: BorrowedFd<'_>, atime: Atime) {
    const NOATIME: u64 = 0x10;
    const STRICTATIME: u64 = 0x20;
    const ALL_ATIME: u64 = 0x70;
    const NODIRATIME: u64 = 0x80;
    let mode = match (atime.never, atime.always) {
        (true, _) => NOATIME,
        (false, true) => STRICTATIME,
        (false, false) => 0,
    };
    let dirs = if atime.not_of_directories {
        NODIRATIME
    } else {
        0
    };
    // `struct mount_attr`: set, clear, propagation, user namespace.
    let attributes = [mode | dirs, ALL_ATIME | NODIRATIME, 0, 0];
    // SAFETY: a descriptor, an empty path, and a structure of the size that is given.
    unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            attributes.as_ptr(),
            size_of_val(&attributes),
        );
    }
}

#[repr(C)]
struct CapHeader {
    version: u32,
    pid: i32,
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct CapData {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// `_LINUX_CAPABILITY_VERSION_3`
const CAP_VERSION: u32 = 0x2008_0522;

/// Leaves `keep` in every set, ambient too, so that it survives exec whatever the user id.
fn limit_capabilities(keep: u64) -> Result<(), Failed> {
    match limit_bounding_set(keep) {
        // Without CAP_SETPCAP there is nothing in the other sets either.
        Ok(()) | Err(Errno::EPERM) => {}
        Err(e) => return Err(Failed(c"limit capabilities", e)),
    }
    set_capabilities(keep, keep).map_err(|e| Failed(c"limit capabilities", e))?;
    for number in (0..64).filter(|n| keep >> n & 1 == 1) {
        // SAFETY: plain numbers.
        let raised = unsafe {
            libc::prctl(
                libc::PR_CAP_AMBIENT,
                libc::PR_CAP_AMBIENT_RAISE,
                number,
                0,
                0,
            )
        };
        check(raised.into(), c"keep a capability")?;
    }
    Ok(())
}

/// Takes everything but `keep` out of the bounding set.
pub(crate) fn limit_bounding_set(keep: u64) -> Result<(), Errno> {
    for number in (0..64).filter(|n| keep >> n & 1 == 0) {
        // SAFETY: plain numbers.
        let dropped = unsafe { libc::prctl(libc::PR_CAPBSET_DROP, number, 0, 0, 0) };
        match Errno::result(dropped) {
            // Past the last capability this kernel knows.
            Err(Errno::EINVAL) => break,
            Err(e) => return Err(e),
            Ok(_) => {}
        }
    }
    Ok(())
}

/// Sets permitted and effective capabilities of this thread, and inheritable ones; ambient ones that
/// are not among both fall.
pub(crate) fn set_capabilities(keep: u64, inherit: u64) -> Result<(), Errno> {
    let header = CapHeader {
        version: CAP_VERSION,
        pid: 0,
    };
    let half = |shift: u32| CapData {
        effective: (keep >> shift) as u32,
        permitted: (keep >> shift) as u32,
        inheritable: (inherit >> shift) as u32,
    };
    let data = [half(0), half(32)];
    // SAFETY: both structures have the layout of version 3 and live through the call.
    Errno::result(unsafe { libc::syscall(libc::SYS_capset, &raw const header, &raw const data) })
        .map(drop)
}

/// Receives the descriptors that [`send_trees`] sent.
pub(crate) fn receive_trees(socket: BorrowedFd<'_>) -> Result<Vec<OwnedFd>, Errno> {
    use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
    let mut space = nix::cmsg_space!([RawFd; control::MAX_FDS]);
    let mut byte = [0u8];
    let mut iov = [std::io::IoSliceMut::new(&mut byte)];
    let flags = MsgFlags::MSG_CMSG_CLOEXEC;
    let message = recvmsg::<()>(socket.as_raw_fd(), &mut iov, Some(&mut space), flags)?;
    let mut trees = Vec::new();
    for part in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(numbers) = part {
            // SAFETY: the kernel has just installed these for us.
            trees.extend(numbers.iter().map(|&n| unsafe { OwnedFd::from_raw_fd(n) }));
        }
    }
    if message.bytes == 0 {
        return Err(Errno::ECONNRESET);
    }
    Ok(trees)
}

/// A handle of a process that is not a child.
pub(crate) fn pidfd_open(pid: i32) -> Result<OwnedFd, Errno> {
    // SAFETY: plain numbers.
    let fd = Errno::result(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) })?;
    // SAFETY: a new descriptor of ours.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

/// Signals the process behind a handle.
pub(crate) fn pidfd_send_signal(pidfd: BorrowedFd<'_>, signal: i32) -> Result<(), Errno> {
    // SAFETY: plain numbers and no siginfo.
    let sent = unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            pidfd.as_raw_fd(),
            signal,
            0usize,
            0,
        )
    };
    Errno::result(sent).map(drop)
}

/// Whether `number` is an open descriptor; the caller says that it is one donated to this process
/// and used by nobody else.
pub(crate) fn borrow(number: RawFd) -> Result<BorrowedFd<'static>, Errno> {
    // SAFETY: fcntl on any number is harmless.
    Errno::result(unsafe { libc::fcntl(number, libc::F_GETFD) })?;
    // SAFETY: open, as just seen; donated descriptors stay open for the process's whole life.
    Ok(unsafe { BorrowedFd::borrow_raw(number) })
}

/// Whether two descriptors are of one open file description. A host that cannot tell says no.
pub(crate) fn same_description(a: BorrowedFd<'_>, b: BorrowedFd<'_>) -> bool {
    /// `KCMP_FILE` of <linux/kcmp.h>
    const FILE: i32 = 0;
    let me = nix::unistd::getpid().as_raw();
    let (a, b) = (a.as_raw_fd(), b.as_raw_fd());
    // SAFETY: kcmp takes numbers alone and changes nothing.
    unsafe { libc::syscall(libc::SYS_kcmp, me, me, FILE, a, b) == 0 }
}

/// As [`borrow`], of a descriptor that this process was started with: all that it opens itself
/// are closed at exec, and those were not.
pub(crate) fn inherited(number: RawFd) -> Result<BorrowedFd<'static>, Errno> {
    // SAFETY: fcntl on any number is harmless.
    let flags = Errno::result(unsafe { libc::fcntl(number, libc::F_GETFD) })?;
    if flags & libc::FD_CLOEXEC != 0 {
        return Err(Errno::EBADF);
    }
    borrow(number)
}

/// Sets a terminal's window size.
pub(crate) fn set_window_size(terminal: BorrowedFd<'_>, size: libc::winsize) -> Result<(), Errno> {
    // SAFETY: the structure lives through the call.
    let set = unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCSWINSZ, &raw const size) };
    Errno::result(set).map(drop)
}

/// A terminal's window size.
pub(crate) fn window_size(terminal: BorrowedFd<'_>) -> Result<libc::winsize, Errno> {
    // SAFETY: all zero is a valid winsize; it lives through the call.
    unsafe {
        let mut size: libc::winsize = std::mem::zeroed();
        Errno::result(libc::ioctl(
            terminal.as_raw_fd(),
            libc::TIOCGWINSZ,
            &raw mut size,
        ))?;
        Ok(size)
    }
}
