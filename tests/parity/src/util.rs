//! Short forms of what most cases need.

use crate::k;
use crate::sys::{self, R};
use std::ffi::CStr;

/// The current directory, for the `*at` calls.
pub const AT: i32 = libc::AT_FDCWD;
/// The size of a page.
pub const PAGE: usize = 4096;

/// `open(2)`.
pub fn open(path: &CStr, flags: i32, mode: u32) -> R {
    k!(SYS_openat, AT, path, flags, mode)
}

/// `close(2)`.
pub fn close(fd: i32) -> R {
    k!(SYS_close, fd)
}

/// `read(2)` of at most `len` bytes: the result and what came, as text.
pub fn read(fd: i32, len: usize) -> (R, String) {
    let mut buf = vec![0u8; len];
    let n = k!(SYS_read, fd, &mut buf[..], len);
    let got = if n.ok() { n.addr().min(len) } else { 0 };
    (n, show(&buf[..got]))
}

/// `write(2)`.
pub fn write(fd: i32, bytes: &[u8]) -> R {
    k!(SYS_write, fd, bytes, bytes.len())
}

/// Bytes as text with escapes.
pub fn show(bytes: &[u8]) -> String {
    format!("\"{}\"", bytes.escape_ascii())
}

/// Makes a file with `bytes` in it.
pub fn mk(path: &CStr, bytes: &[u8]) {
    let fd = open(path, libc::O_CREAT | libc::O_TRUNC | libc::O_WRONLY, 0o644).int();
    write(fd, bytes);
    close(fd);
}

/// The whole of a (small) file as text, or the error.
pub fn cat(path: &CStr) -> String {
    let fd = open(path, libc::O_RDONLY, 0);
    if !fd.ok() {
        return fd.to_string();
    }
    let mut all = Vec::new();
    let mut buf = [0u8; 4096];
    loop {
        let n = k!(SYS_read, fd, &mut buf, buf.len());
        if n.0 <= 0 {
            break;
        }
        all.extend_from_slice(&buf[..n.addr()]);
    }
    close(fd.int());
    show(&all)
}

/// `stat` (or `lstat`) of a path.
pub fn stat_at(path: &CStr, flags: i32) -> Result<libc::stat, R> {
    let mut st: libc::stat = sys::zeroed();
    let r = k!(SYS_newfstatat, AT, path, &mut st, flags);
    if r.ok() { Ok(st) } else { Err(r) }
}

/// `fstat(2)`.
pub fn fstat(fd: i32) -> libc::stat {
    let mut st: libc::stat = sys::zeroed();
    k!(SYS_fstat, fd, &mut st);
    st
}

/// The stable part of a `stat`: type, mode, links, size of a regular file.
pub fn stat_text(path: &CStr, flags: i32) -> String {
    match stat_at(path, flags) {
        Err(r) => r.to_string(),
        Ok(st) => {
            let kind = kind_text(st.st_mode);
            let mode = st.st_mode & 0o7777;
            match st.st_mode & libc::S_IFMT {
                libc::S_IFDIR => format!("{kind} {mode:04o}"),
                _ => format!(
                    "{kind} {mode:04o} links {} size {}",
                    st.st_nlink, st.st_size
                ),
            }
        }
    }
}

/// The type of a file as a word.
pub fn kind_text(mode: u32) -> &'static str {
    match mode & libc::S_IFMT {
        libc::S_IFREG => "file",
        libc::S_IFDIR => "dir",
        libc::S_IFLNK => "link",
        libc::S_IFCHR => "char",
        libc::S_IFBLK => "block",
        libc::S_IFIFO => "fifo",
        libc::S_IFSOCK => "socket",
        _ => "other",
    }
}

/// The name of a signal.
pub fn signal_name(signal: i32) -> String {
    match nix::sys::signal::Signal::try_from(signal) {
        Ok(s) => s.as_str().to_string(),
        Err(_) => format!("signal {signal}"),
    }
}

/// A wait status in words.
pub fn status_text(status: i32) -> String {
    if libc::WIFEXITED(status) {
        format!("exited {}", libc::WEXITSTATUS(status))
    } else if libc::WIFSIGNALED(status) {
        let core = if libc::WCOREDUMP(status) { " core" } else { "" };
        format!("killed by {}{core}", signal_name(libc::WTERMSIG(status)))
    } else if libc::WIFSTOPPED(status) {
        format!("stopped by {}", signal_name(libc::WSTOPSIG(status)))
    } else if libc::WIFCONTINUED(status) {
        "continued".into()
    } else {
        format!("status {status:#x}")
    }
}

/// Waits for `pid` and tells how it ended; a core dump's making is left out,
/// as it hangs on limits and the host's configuration.
pub fn wait_text(pid: i32) -> String {
    let mut status = 0i32;
    loop {
        let r = k!(SYS_wait4, pid, &mut status, 0, 0);
        if r.0 == i64::from(-libc::EINTR) {
            continue;
        }
        if !r.ok() {
            return format!("wait {r}");
        }
        return status_text(status & !0x80);
    }
}

/// Runs `f` in a child and tells how that ended.
pub fn in_child(f: impl FnOnce() -> i32) -> String {
    wait_text(sys::child(f))
}

/// Runs `f` in a child as an ordinary user (uid and gid 1000, no groups).
pub fn as_user(f: impl FnOnce()) -> String {
    in_child(|| {
        k!(SYS_setgroups, 0, 0);
        k!(SYS_setresgid, 1000, 1000, 1000);
        k!(SYS_setresuid, 1000, 1000, 1000);
        f();
        0
    })
}

/// Sleeps for so many milliseconds.
pub fn sleep_ms(ms: i64) {
    let ts = libc::timespec {
        tv_sec: ms / 1000,
        tv_nsec: ms % 1000 * 1_000_000,
    };
    k!(SYS_nanosleep, &ts, 0);
}

/// Milliseconds on the monotonic clock.
pub fn now_ms() -> i64 {
    let mut ts: libc::timespec = sys::zeroed();
    k!(SYS_clock_gettime, libc::CLOCK_MONOTONIC, &mut ts);
    ts.tv_sec * 1000 + ts.tv_nsec / 1_000_000
}

/// A pipe: reading end, writing end.
pub fn pipe() -> (i32, i32) {
    pipe2(0)
}

/// A pipe with flags.
pub fn pipe2(flags: i32) -> (i32, i32) {
    let mut ends = [0i32; 2];
    k!(SYS_pipe2, &mut ends, flags);
    (ends[0], ends[1])
}

/// Anonymous memory of `len` bytes, readable and writable.
pub fn anon(len: usize) -> usize {
    map(
        0,
        len,
        libc::PROT_READ | libc::PROT_WRITE,
        libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
    )
    .addr()
}

/// Memory shared with children.
pub fn shared(len: usize) -> usize {
    map(
        0,
        len,
        libc::PROT_READ | libc::PROT_WRITE,
        libc::MAP_SHARED | libc::MAP_ANONYMOUS,
    )
    .addr()
}

/// `mmap(2)` without a file.
pub fn map(addr: usize, len: usize, prot: i32, flags: i32) -> R {
    k!(SYS_mmap, addr, len, prot, flags, -1, 0)
}

/// `mmap(2)` of a file from `offset`.
pub fn map_file(fd: i32, len: usize, prot: i32, flags: i32, offset: usize) -> R {
    k!(SYS_mmap, 0, len, prot, flags, fd, offset)
}

/// The bit of a signal in a mask.
pub fn bit(signal: i32) -> u64 {
    1 << (signal - 1)
}

/// Blocks, unblocks or sets signals; `how` is SIG_BLOCK and so on.
pub fn mask(how: i32, set: u64) -> R {
    k!(SYS_rt_sigprocmask, how, &set, 0, 8)
}

/// The pending signals.
pub fn pending() -> u64 {
    let mut set = 0u64;
    k!(SYS_rt_sigpending, &mut set, 8);
    set
}

/// The names of the signals in a mask.
pub fn mask_text(set: u64) -> String {
    let names: Vec<String> = (1..=64)
        .filter(|s| set & bit(*s) != 0)
        .map(signal_name)
        .collect();
    format!("[{}]", names.join(" "))
}

/// A control message for `sendmsg(2)`, padded.
pub fn control(level: i32, kind: i32, data: &[u8]) -> Vec<u8> {
    let mut c = Vec::new();
    c.extend_from_slice(&(16 + data.len()).to_ne_bytes());
    c.extend_from_slice(&level.to_ne_bytes());
    c.extend_from_slice(&kind.to_ne_bytes());
    c.extend_from_slice(data);
    c.resize(c.len().div_ceil(8) * 8, 0);
    c
}

/// A control message of descriptors.
pub fn rights(fds: &[i32]) -> Vec<u8> {
    let data: Vec<u8> = fds.iter().flat_map(|f| f.to_ne_bytes()).collect();
    control(libc::SOL_SOCKET, libc::SCM_RIGHTS, &data)
}

/// `sendmsg(2)` of `data` in one piece.
pub fn send_message(fd: i32, data: &[u8], control: &[u8]) -> R {
    let v = libc::iovec {
        iov_base: data.as_ptr() as *mut libc::c_void,
        iov_len: data.len(),
    };
    let mut m: libc::msghdr = sys::zeroed();
    m.msg_iov = std::ptr::from_ref(&v).cast_mut();
    m.msg_iovlen = 1;
    m.msg_control = control.as_ptr() as *mut libc::c_void;
    m.msg_controllen = control.len();
    k!(SYS_sendmsg, fd, &m, libc::MSG_NOSIGNAL)
}
