//! inotify(7): what is told of which operation, and in which order.

use crate::out::Out;
use crate::sys::{self, R, child};
use crate::util::{AT, close, in_child, mk, open, pipe, read, sleep_ms, wait_text, write};
use crate::{cases, k, say, tell};
use libc::*;
use std::ffi::CStr;

cases!(
    watch_arguments,
    watch_descriptors,
    masks_add_and_replace,
    create_write_close,
    reads_and_opens,
    truncations,
    attributes,
    link_and_unlink,
    unlink_while_open,
    directories,
    rename_within,
    rename_across,
    rename_over,
    rename_exchange,
    rename_directory,
    rename_watched_directory_itself,
    symlinks,
    not_following,
    special_files,
    coalescing,
    oneshot,
    excluding_unlinked,
    removed_watch,
    removed_file_ends_watch,
    child_and_parent_watched,
    read_buffers,
    name_padding,
    blocking_read,
    polled,
    overflow,
    two_instances,
    inherited_over_fork,
    listing_a_directory,
    copies,
);

const NAMES: &[(u32, &str)] = &[
    (IN_ACCESS, "access"),
    (IN_MODIFY, "modify"),
    (IN_ATTRIB, "attrib"),
    (IN_CLOSE_WRITE, "close-write"),
    (IN_CLOSE_NOWRITE, "close-nowrite"),
    (IN_OPEN, "open"),
    (IN_MOVED_FROM, "moved-from"),
    (IN_MOVED_TO, "moved-to"),
    (IN_CREATE, "create"),
    (IN_DELETE, "delete"),
    (IN_DELETE_SELF, "delete-self"),
    (IN_MOVE_SELF, "move-self"),
    (IN_UNMOUNT, "unmount"),
    (IN_Q_OVERFLOW, "overflow"),
    (IN_IGNORED, "ignored"),
    (IN_ISDIR, "dir"),
];

pub(super) fn start() -> i32 {
    k!(SYS_inotify_init1, IN_NONBLOCK).int()
}

pub(super) fn watch(fd: i32, path: &CStr, mask: u32) -> R {
    k!(SYS_inotify_add_watch, fd, path, mask)
}

fn number(b: &[u8], at: usize) -> u32 {
    b.get(at..at + 4)
        .and_then(|b| b.try_into().ok())
        .map_or(0, u32::from_ne_bytes)
}

/// Events in words; cookies are numbered in order of appearance.
fn words(mut bytes: &[u8]) -> Vec<String> {
    let mut cookies: Vec<u32> = Vec::new();
    let mut all = Vec::new();
    while bytes.len() >= 16 {
        let (wd, mask, cookie) = (number(bytes, 0) as i32, number(bytes, 4), number(bytes, 8));
        let len = number(bytes, 12) as usize;
        let name = &bytes[16..16 + len];
        let name = name.split(|b| *b == 0).next().unwrap_or_default();
        let mut text = format!("{wd}");
        for (bit, word) in NAMES {
            if mask & bit != 0 {
                text += &format!(" {word}");
            }
        }
        let other = NAMES.iter().fold(mask, |m, (bit, _)| m & !bit);
        if other != 0 {
            text += &format!(" {other:#x}");
        }
        if cookie != 0 {
            let at = cookies.iter().position(|c| *c == cookie);
            let at = at.unwrap_or_else(|| {
                cookies.push(cookie);
                cookies.len() - 1
            });
            text += &format!(" cookie {at}");
        }
        if len > 0 {
            text += &format!(" {:?} in {len}", String::from_utf8_lossy(name));
        }
        all.push(text);
        bytes = &bytes[16 + len..];
    }
    all
}

/// Everything that is queued.
pub(super) fn take(fd: i32) -> Vec<String> {
    let mut buf = vec![0u8; 65536];
    let n = k!(SYS_read, fd, &mut buf[..], buf.len());
    if !n.ok() {
        return vec![n.to_string()];
    }
    words(&buf[..n.addr()])
}

pub(super) fn events(o: Out, what: &str, fd: i32) {
    say!(o, "{what}:");
    for e in take(fd) {
        say!(o, "  {e}");
    }
}

fn watch_arguments(o: Out) {
    mk(c"f", b"x");
    k!(SYS_mkdir, c"d", 0o755);
    let fd = start();
    tell!(o,
        "no mask" => watch(fd, c"f", 0),
        "unknown bits" => watch(fd, c"f", 0x0001_0000),
        "unknown beside known" => watch(fd, c"f", IN_OPEN | 0x0080_0000),
        "flags alone" => watch(fd, c"f", IN_ONESHOT),
        "dir bit alone" => watch(fd, c"d", IN_ISDIR),
        "ignored bit alone" => watch(fd, c"d", IN_IGNORED),
        "add and create" => watch(fd, c"f", IN_OPEN | IN_MASK_ADD | IN_MASK_CREATE),
        "only a directory" => watch(fd, c"f", IN_OPEN | IN_ONLYDIR),
        "missing" => watch(fd, c"none", IN_OPEN),
        "empty" => watch(fd, c"", IN_OPEN),
        "bad descriptor" => watch(77, c"f", IN_OPEN),
        "bad descriptor, no mask" => watch(77, c"f", 0),
        "not an instance" => watch(0, c"f", IN_OPEN),
        "bad address" => k!(SYS_inotify_add_watch, fd, 16, IN_OPEN),
        "remove unknown" => k!(SYS_inotify_rm_watch, fd, 55),
        "remove of other" => k!(SYS_inotify_rm_watch, 0, 1),
        "remove of bad" => k!(SYS_inotify_rm_watch, 77, 1),
        "init flags" => k!(SYS_inotify_init1, 1),
        "init flags" => k!(SYS_inotify_init1, IN_CLOEXEC | IN_NONBLOCK).yes(),
    );
}

fn watch_descriptors(o: Out) {
    mk(c"f", b"x");
    k!(SYS_mkdir, c"d", 0o755);
    let fd = start();
    tell!(o, "first" => watch(fd, c"f", IN_OPEN), "second" => watch(fd, c"d", IN_OPEN), "again" => watch(fd, c"f", IN_CLOSE),
        "by another path" => watch(fd, c"d/../f", IN_OPEN), "exclusive" => watch(fd, c"f", IN_OPEN | IN_MASK_CREATE),
        "remove" => k!(SYS_inotify_rm_watch, fd, 1), "anew" => watch(fd, c"f", IN_OPEN), "remove twice" => k!(SYS_inotify_rm_watch, fd, 1));
    events(o, "queue", fd);
}

fn masks_add_and_replace(o: Out) {
    mk(c"f", b"x");
    let fd = start();
    watch(fd, c"f", IN_OPEN);
    watch(fd, c"f", IN_CLOSE_NOWRITE | IN_MASK_ADD);
    close(open(c"f", O_RDONLY, 0).int());
    events(o, "both", fd);
    watch(fd, c"f", IN_ACCESS);
    let f = open(c"f", O_RDONLY, 0).int();
    read(f, 1);
    close(f);
    events(o, "replaced", fd);
}

fn create_write_close(o: Out) {
    let fd = start();
    watch(fd, c".", IN_ALL_EVENTS);
    let f = open(c"new", O_CREAT | O_WRONLY, 0o644).int();
    events(o, "created", fd);
    write(f, b"one");
    write(f, b"two");
    events(o, "written", fd);
    write(f, b"");
    k!(SYS_pwrite64, f, b"x".as_slice(), 1, 0);
    k!(SYS_fallocate, f, 0, 0, 100);
    events(o, "more", fd);
    let g = k!(SYS_dup, f).int();
    close(f);
    events(o, "one closed", fd);
    close(g);
    events(o, "both closed", fd);
    close(open(c"new", O_CREAT | O_RDWR, 0o644).int());
    events(o, "existing", fd);
    close(open(c"new", O_PATH, 0).int());
    events(o, "path alone", fd);
    open(c"none", O_RDONLY, 0);
    open(c"new", O_CREAT | O_EXCL, 0);
    events(o, "failures", fd);
}

fn reads_and_opens(o: Out) {
    mk(c"f", b"hello");
    let fd = start();
    watch(fd, c"f", IN_ALL_EVENTS);
    let f = open(c"f", O_RDONLY, 0).int();
    read(f, 3);
    read(f, 100);
    read(f, 100);
    events(o, "read", fd);
    let mut b = [0u8; 4];
    k!(SYS_pread64, f, &mut b, 2, 0);
    events(o, "pread", fd);
    k!(SYS_lseek, f, 0, SEEK_SET);
    crate::util::fstat(f);
    let m = crate::util::map_file(f, 4096, PROT_READ, MAP_PRIVATE, 0).addr();
    sys::peek(m);
    events(o, "seek, stat, map", fd);
    k!(SYS_munmap, m, 4096);
    close(f);
    events(o, "close", fd);
}

fn truncations(o: Out) {
    mk(c"f", b"hello");
    let fd = start();
    watch(fd, c"f", IN_ALL_EVENTS);
    k!(SYS_truncate, c"f", 2);
    events(o, "truncate", fd);
    k!(SYS_truncate, c"f", 2);
    events(o, "to the same", fd);
    let f = open(c"f", O_WRONLY | O_TRUNC, 0).int();
    events(o, "open", fd);
    k!(SYS_ftruncate, f, 10);
    events(o, "ftruncate", fd);
    k!(SYS_truncate, c"f", -1);
    close(f);
    close(open(c"f", O_RDONLY | O_TRUNC, 0).int());
    events(o, "read-only with truncation", fd);
}

fn attributes(o: Out) {
    mk(c"f", b"hello");
    let fd = start();
    watch(fd, c"f", IN_ALL_EVENTS);
    let mut t = [timespec {
        tv_sec: 1000,
        tv_nsec: 0,
    }; 2];
    k!(SYS_chmod, c"f", 0o600);
    k!(SYS_chmod, c"f", 0o600);
    events(o, "chmod", fd);
    k!(SYS_chown, c"f", 1, 1);
    events(o, "chown", fd);
    k!(SYS_chown, c"f", -1, -1);
    events(o, "chown of nothing", fd);
    k!(SYS_utimensat, AT, c"f", &t, 0);
    events(o, "both times", fd);
    t[0].tv_nsec = UTIME_OMIT;
    k!(SYS_utimensat, AT, c"f", &t, 0);
    events(o, "mtime", fd);
    t[0].tv_nsec = 0;
    t[1].tv_nsec = UTIME_OMIT;
    k!(SYS_utimensat, AT, c"f", &t, 0);
    events(o, "atime", fd);
    t[0].tv_nsec = UTIME_OMIT;
    k!(SYS_utimensat, AT, c"f", &t, 0);
    events(o, "none", fd);
    let f = open(c"f", O_RDONLY, 0).int();
    k!(SYS_fchmod, f, 0o644);
    close(f);
    events(o, "fchmod", fd);
}

fn link_and_unlink(o: Out) {
    mk(c"f", b"x");
    let fd = start();
    watch(fd, c"f", IN_ALL_EVENTS);
    watch(fd, c".", IN_ALL_EVENTS);
    k!(SYS_link, c"f", c"g");
    events(o, "link", fd);
    k!(SYS_unlink, c"f");
    events(o, "first gone", fd);
    k!(SYS_unlink, c"g");
    events(o, "last gone", fd);
    tell!(o, "remove" => k!(SYS_inotify_rm_watch, fd, 1));
}

fn unlink_while_open(o: Out) {
    mk(c"f", b"x");
    let fd = start();
    let f = open(c"f", O_RDWR, 0).int();
    watch(fd, c"f", IN_ALL_EVENTS);
    k!(SYS_unlink, c"f");
    events(o, "unlinked", fd);
    write(f, b"y");
    k!(SYS_fchmod, f, 0o600);
    events(o, "written", fd);
    close(f);
    events(o, "closed", fd);
}

fn directories(o: Out) {
    let fd = start();
    watch(fd, c".", IN_ALL_EVENTS);
    k!(SYS_mkdir, c"d", 0o755);
    events(o, "mkdir", fd);
    watch(fd, c"d", IN_ALL_EVENTS);
    mk(c"d/f", b"");
    events(o, "file below", fd);
    k!(SYS_chmod, c"d", 0o700);
    events(o, "chmod", fd);
    k!(SYS_rmdir, c"d");
    events(o, "not empty", fd);
    k!(SYS_unlink, c"d/f");
    k!(SYS_rmdir, c"d");
    events(o, "gone", fd);
}

fn rename_within(o: Out) {
    mk(c"a", b"x");
    let fd = start();
    watch(fd, c".", IN_ALL_EVENTS);
    watch(fd, c"a", IN_ALL_EVENTS);
    k!(SYS_rename, c"a", c"b");
    events(o, "renamed", fd);
    k!(SYS_rename, c"b", c"b");
    events(o, "onto itself", fd);
    close(open(c"b", O_RDONLY, 0).int());
    events(o, "opened by the new name", fd);
}

fn rename_across(o: Out) {
    k!(SYS_mkdir, c"d1", 0o755);
    k!(SYS_mkdir, c"d2", 0o755);
    mk(c"d1/f", b"x");
    let fd = start();
    watch(fd, c"d1", IN_MOVE | IN_CREATE | IN_DELETE);
    watch(fd, c"d2", IN_MOVE | IN_CREATE | IN_DELETE);
    k!(SYS_rename, c"d1/f", c"d2/g");
    k!(SYS_rename, c"d2/g", c"d1/f");
    k!(SYS_rename, c"d1/f", c"out");
    events(o, "moves", fd);
}

fn rename_over(o: Out) {
    mk(c"a", b"a");
    mk(c"b", b"b");
    let fd = start();
    watch(fd, c".", IN_ALL_EVENTS);
    watch(fd, c"a", IN_ALL_EVENTS);
    watch(fd, c"b", IN_ALL_EVENTS);
    k!(SYS_rename, c"a", c"b");
    events(o, "replaced", fd);
    mk(c"c", b"c");
    let held = open(c"c", O_RDONLY, 0).int();
    watch(fd, c"c", IN_ALL_EVENTS);
    take(fd);
    k!(SYS_rename, c"b", c"c");
    events(o, "replaced while open", fd);
    close(held);
    events(o, "closed", fd);
}

fn rename_exchange(o: Out) {
    mk(c"a", b"a");
    k!(SYS_mkdir, c"b", 0o755);
    let fd = start();
    watch(fd, c".", IN_ALL_EVENTS);
    watch(fd, c"a", IN_ALL_EVENTS);
    watch(fd, c"b", IN_ALL_EVENTS);
    tell!(o, "exchange" => k!(SYS_renameat2, AT, c"a", AT, c"b", RENAME_EXCHANGE));
    events(o, "exchanged", fd);
}

fn rename_directory(o: Out) {
    k!(SYS_mkdir, c"d", 0o755);
    k!(SYS_mkdir, c"e", 0o755);
    let fd = start();
    watch(fd, c".", IN_ALL_EVENTS);
    watch(fd, c"e", IN_ALL_EVENTS);
    k!(SYS_rename, c"d", c"e");
    events(o, "over an empty one", fd);
}

fn rename_watched_directory_itself(o: Out) {
    k!(SYS_mkdir, c"d", 0o755);
    let fd = start();
    watch(fd, c"d", IN_ALL_EVENTS);
    k!(SYS_rename, c"d", c"e");
    mk(c"e/f", b"");
    events(o, "goes on watching", fd);
}

fn symlinks(o: Out) {
    mk(c"f", b"x");
    let fd = start();
    watch(fd, c".", IN_ALL_EVENTS);
    k!(SYS_symlink, c"f", c"l");
    events(o, "made", fd);
    let mut b = [0u8; 10];
    k!(SYS_readlink, c"l", &mut b, 10);
    close(open(c"l", O_RDONLY, 0).int());
    events(o, "followed", fd);
    k!(SYS_unlink, c"l");
    events(o, "gone", fd);
}

fn not_following(o: Out) {
    mk(c"f", b"x");
    k!(SYS_symlink, c"f", c"l");
    let fd = start();
    tell!(o, "link" => watch(fd, c"l", IN_ALL_EVENTS | IN_DONT_FOLLOW), "file" => watch(fd, c"l", IN_ALL_EVENTS), "only dirs" => watch(fd, c"l", IN_ALL_EVENTS | IN_DONT_FOLLOW | IN_ONLYDIR));
    close(open(c"l", O_RDONLY, 0).int());
    k!(SYS_unlink, c"l");
    events(o, "queue", fd);
}

fn special_files(o: Out) {
    let fd = start();
    watch(fd, c".", IN_ALL_EVENTS);
    k!(SYS_mknod, c"p", S_IFIFO | 0o644, 0);
    k!(SYS_mknod, c"r", S_IFREG | 0o644, 0);
    k!(SYS_mknod, c"s", S_IFSOCK | 0o644, 0);
    events(o, "made", fd);
    let p = open(c"p", O_RDWR | O_NONBLOCK, 0).int();
    write(p, b"abc");
    read(p, 2);
    close(p);
    events(o, "fifo", fd);
    watch(fd, c"p", IN_ALL_EVENTS);
    let p = open(c"p", O_RDWR | O_NONBLOCK, 0).int();
    write(p, b"abc");
    read(p, 2);
    close(p);
    events(o, "watched itself", fd);
}

fn coalescing(o: Out) {
    mk(c"f", b"");
    mk(c"g", b"");
    let fd = start();
    watch(fd, c".", IN_MODIFY);
    let f = open(c"f", O_WRONLY, 0).int();
    let g = open(c"g", O_WRONLY, 0).int();
    for _ in 0..5 {
        write(f, b"x");
    }
    write(g, b"x");
    write(f, b"x");
    write(f, b"x");
    let mut size = 0i32;
    tell!(o, "ioctl" => k!(SYS_ioctl, fd, FIONREAD, &mut size), "size" => size);
    events(o, "merged", fd);
    write(f, b"x");
    events(o, "anew", fd);
}

fn oneshot(o: Out) {
    mk(c"f", b"");
    let fd = start();
    watch(fd, c"f", IN_OPEN | IN_ONESHOT);
    close(open(c"f", O_WRONLY, 0).int());
    close(open(c"f", O_WRONLY, 0).int());
    events(o, "once", fd);
    tell!(o, "remove" => k!(SYS_inotify_rm_watch, fd, 1), "anew" => watch(fd, c"f", IN_OPEN));
}

fn excluding_unlinked(o: Out) {
    mk(c"f", b"");
    mk(c"g", b"");
    let f = open(c"f", O_WRONLY, 0).int();
    let g = open(c"g", O_WRONLY, 0).int();
    let (one, two) = (start(), start());
    watch(one, c".", IN_ALL_EVENTS | IN_EXCL_UNLINK);
    watch(two, c".", IN_ALL_EVENTS);
    k!(SYS_unlink, c"f");
    write(f, b"x");
    write(g, b"x");
    k!(SYS_fchmod, f, 0o600);
    close(f);
    close(g);
    events(o, "excluded", one);
    events(o, "all", two);
}

fn removed_watch(o: Out) {
    mk(c"f", b"");
    let fd = start();
    watch(fd, c"f", IN_OPEN);
    close(open(c"f", O_WRONLY, 0).int());
    k!(SYS_inotify_rm_watch, fd, 1);
    close(open(c"f", O_WRONLY, 0).int());
    events(o, "queue", fd);
}

fn removed_file_ends_watch(o: Out) {
    mk(c"f", b"");
    let fd = start();
    watch(fd, c"f", IN_DELETE_SELF);
    k!(SYS_unlink, c"f");
    events(o, "queue", fd);
    mk(c"f", b"");
    tell!(o, "another file" => watch(fd, c"f", IN_MODIFY));
    k!(SYS_unlink, c"f");
    events(o, "only ignored", fd);
}

fn child_and_parent_watched(o: Out) {
    mk(c"f", b"");
    let fd = start();
    watch(fd, c"f", IN_ALL_EVENTS);
    watch(fd, c".", IN_ALL_EVENTS);
    let f = open(c"f", O_RDWR, 0).int();
    write(f, b"x");
    close(f);
    events(o, "both", fd);
}

fn read_buffers(o: Out) {
    mk(c"f", b"");
    let fd = start();
    watch(fd, c".", IN_OPEN);
    close(open(c"f", O_RDONLY, 0).int());
    close(open(c".", O_RDONLY, 0).int());
    let mut b = [0u8; 64];
    tell!(o, "header alone" => k!(SYS_read, fd, &mut b, 16), "too small" => k!(SYS_read, fd, &mut b, 31), "none" => k!(SYS_read, fd, &mut b, 0), "one" => k!(SYS_read, fd, &mut b, 40), "the next" => k!(SYS_read, fd, &mut b, 64), "empty" => k!(SYS_read, fd, &mut b, 64));
    close(open(c"f", O_RDONLY, 0).int());
    tell!(o, "bad address" => k!(SYS_read, fd, 16, 64), "lost" => k!(SYS_read, fd, &mut b, 64));
}

fn name_padding(o: Out) {
    let fd = start();
    watch(fd, c".", IN_CREATE);
    for n in [1, 15, 16, 31, 32, 255] {
        let name = std::ffi::CString::new("n".repeat(n)).unwrap_or_default();
        mk(&name, b"");
    }
    let mut buf = [0u8; 2048];
    let n = k!(SYS_read, fd, &mut buf, 2048);
    tell!(o, "bytes" => n);
    for e in words(&buf[..n.addr()]) {
        say!(o, "{}", e.len());
    }
}

fn blocking_read(o: Out) {
    mk(c"f", b"");
    let fd = k!(SYS_inotify_init1, 0).int();
    watch(fd, c"f", IN_OPEN);
    let kid = child(|| {
        sleep_ms(80);
        close(open(c"f", O_RDONLY, 0).int());
        0
    });
    events(o, "woken", fd);
    say!(o, "{}", wait_text(kid));
    sys::on(SIGALRM, 0);
    let mut it = [0i64, 0, 0, 50_000];
    k!(SYS_setitimer, ITIMER_REAL, &it, 0);
    let mut b = [0u8; 64];
    tell!(o, "interrupted" => k!(SYS_read, fd, &mut b, 64));
    it[3] = 0;
    k!(SYS_setitimer, ITIMER_REAL, &it, 0);
}

fn polled(o: Out) {
    mk(c"f", b"");
    let fd = start();
    watch(fd, c"f", IN_OPEN);
    let ep = k!(SYS_epoll_create1, 0).int();
    let mut e = epoll_event {
        events: (EPOLLIN | EPOLLOUT | EPOLLET) as u32,
        u64: 5,
    };
    tell!(o, "add" => k!(SYS_epoll_ctl, ep, EPOLL_CTL_ADD, fd, &e));
    let mut p = pollfd {
        fd,
        events: POLLIN | POLLOUT | POLLRDNORM,
        revents: 0,
    };
    tell!(o, "nothing" => k!(SYS_poll, &mut p, 1, 0));
    close(open(c"f", O_RDONLY, 0).int());
    tell!(o, "ready" => k!(SYS_poll, &mut p, 1, 0), "what" => p.revents, "epoll" => k!(SYS_epoll_wait, ep, &mut e, 1, 0), "events" => { e.events }, "edge" => k!(SYS_epoll_wait, ep, &mut e, 1, 0));
    close(open(c"f", O_RDONLY, 0).int());
    tell!(o, "merged, but told" => k!(SYS_epoll_wait, ep, &mut e, 1, 0));
}

fn overflow(o: Out) {
    mk(c"f", b"");
    mk(c"g", b"");
    let fd = start();
    watch(fd, c"f", IN_OPEN);
    watch(fd, c"g", IN_OPEN);
    let limit: i32 = std::fs::read_to_string("/proc/sys/fs/inotify/max_queued_events")
        .ok()
        .and_then(|t| t.trim().parse().ok())
        .unwrap_or(16384);
    let f = open(c"f", O_RDONLY, 0);
    let mut size = 0i32;
    let _ = f;
    for i in 0..limit + 10 {
        close(open(if i % 2 == 0 { c"g" } else { c"f" }, O_RDONLY, 0).int());
    }
    k!(SYS_ioctl, fd, FIONREAD, &mut size);
    tell!(o, "one more than the limit" => size == (limit + 1) * 16);
    let mut all = Vec::new();
    loop {
        let more = take(fd);
        if more.iter().any(|e| e.starts_with("-E")) {
            break;
        }
        all.extend(more);
    }
    tell!(o, "last" => all.last().cloned().unwrap_or_default());
    close(open(c"f", O_RDONLY, 0).int());
    events(o, "goes on", fd);
}

fn two_instances(o: Out) {
    mk(c"f", b"");
    let (a, b) = (start(), start());
    watch(a, c"f", IN_OPEN);
    watch(b, c"f", IN_CLOSE);
    close(open(c"f", O_RDONLY, 0).int());
    events(o, "a", a);
    events(o, "b", b);
    close(a);
    close(open(c"f", O_RDONLY, 0).int());
    events(o, "b", b);
}

fn inherited_over_fork(o: Out) {
    mk(c"f", b"");
    let fd = start();
    let (r, w) = pipe();
    say!(
        o,
        "{}",
        in_child(|| {
            write(w, format!("{}", watch(fd, c"f", IN_OPEN)).as_bytes());
            0
        })
    );
    tell!(o, "by the child" => read(r, 10).1);
    close(open(c"f", O_RDONLY, 0).int());
    events(o, "queue", fd);
}

fn listing_a_directory(o: Out) {
    k!(SYS_mkdir, c"d", 0o755);
    mk(c"d/f", b"");
    let fd = start();
    watch(fd, c"d", IN_ALL_EVENTS);
    watch(fd, c".", IN_ALL_EVENTS);
    let d = open(c"d", O_RDONLY | O_DIRECTORY, 0).int();
    let mut b = [0u8; 1024];
    k!(SYS_getdents64, d, &mut b, 1024);
    events(o, "some", fd);
    k!(SYS_getdents64, d, &mut b, 1024);
    events(o, "end", fd);
    close(d);
    events(o, "close", fd);
}

fn copies(o: Out) {
    mk(c"f", b"hello");
    mk(c"g", b"");
    let fd = start();
    watch(fd, c".", IN_ALL_EVENTS);
    let f = open(c"f", O_RDONLY, 0).int();
    let g = open(c"g", O_RDWR, 0).int();
    take(fd);
    tell!(o, "sendfile" => k!(SYS_sendfile, g, f, 0, 5));
    events(o, "sendfile", fd);
    k!(SYS_lseek, f, 0, SEEK_SET);
    tell!(o, "copy" => k!(SYS_copy_file_range, f, 0, g, 0, 5, 0));
    events(o, "copy", fd);
    let (r, w) = pipe();
    k!(SYS_lseek, f, 0, SEEK_SET);
    tell!(o, "splice" => k!(SYS_splice, f, 0, w, 0, 5, 0));
    events(o, "into a pipe", fd);
    tell!(o, "splice" => k!(SYS_splice, r, 0, g, 0, 5, 0));
    events(o, "out of a pipe", fd);
}
