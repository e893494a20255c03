//! What ordinary programs once tripped over, each as small as it goes.

use crate::out::Out;
use crate::sys::child;
use crate::util::{
    AT, anon, as_user, bit, cat, in_child, mask, mk, open, pipe, sleep_ms, stat_text, wait_text,
};
use crate::{cases, k, sys, tell};
use libc::*;
use std::collections::BTreeSet;

cases!(
    many_files_then_none,
    affinity_of_nobody,
    awaited_signal_from_another_thread,
    awaited_signal_that_was_open,
    descriptors_closed_while_listed,
    processes_ended_while_listed,
    space_of_a_file_system,
    splice_memory_into_full_pipe,
    splice_memory_out_of_pipe,
    signal_through_process_directory,
    mounts_of_ones_own,
    mounts_of_a_clone,
    random_numbers_of_proc,
);

/// Whatever a kernel keeps for so many files, it gives up again.
fn many_files_then_none(o: Out) {
    let name = |i: usize| std::ffi::CString::new(format!("a file of many {i}")).unwrap_or_default();
    let mut made = 0;
    for i in 0..4000 {
        let fd = open(&name(i), O_CREAT | O_WRONLY, 0o644);
        made += i32::from(fd.ok());
        k!(SYS_close, fd);
    }
    let gone = (0..4000).filter(|i| k!(SYS_unlink, name(*i).as_c_str()).ok());
    tell!(o, "made" => made, "gone" => gone.count());
}

/// CPython counts on the errno to tell a small mask from a bad id.
fn affinity_of_nobody(o: Out) {
    let mut bits = [0u64; 16];
    tell!(o, "get" => k!(SYS_sched_getaffinity, -1, 128, &mut bits), "none" => k!(SYS_sched_getaffinity, i32::MAX, 128, &mut bits), "small" => k!(SYS_sched_getaffinity, -1, 4, &mut bits), "set" => k!(SYS_sched_setaffinity, -1, 128, &bits));
}

fn awaited_signal_from_another_thread(o: Out) {
    for how in ["process", "thread"] {
        let said = wait_text(child(|| {
            mask(SIG_BLOCK, bit(SIGUSR1));
            let (pid, tid) = (k!(SYS_getpid), k!(SYS_gettid));
            let sender = std::thread::spawn(move || {
                sleep_ms(50);
                if how == "process" {
                    k!(SYS_kill, pid, SIGUSR1)
                } else {
                    k!(SYS_tgkill, pid, tid, SIGUSR1)
                }
            });
            let got = k!(SYS_rt_sigtimedwait, &bit(SIGUSR1), 0, 0, 8);
            let _sent = sender.join();
            i32::from(got.0 == i64::from(SIGUSR1))
        }));
        tell!(o, "to the" => how, "waiter" => said);
    }
}

/// A signal that was not blocked before the wait does what it always does.
fn awaited_signal_that_was_open(o: Out) {
    let waiter = child(|| {
        k!(SYS_rt_sigtimedwait, &bit(SIGUSR1), 0, 0, 8);
        7
    });
    sleep_ms(50);
    k!(SYS_kill, waiter, SIGUSR1);
    tell!(o, "waiter" => wait_text(waiter));
}

/// The names in a directory, a few at a time, `each` called after each batch.
fn names(fd: i32, mut each: impl FnMut(&[String])) {
    let mut buf = [0u8; 100];
    loop {
        let n = k!(SYS_getdents64, fd, &mut buf, buf.len());
        if n.0 <= 0 {
            return;
        }
        let mut batch = Vec::new();
        let mut at = 0;
        while at < n.addr() {
            let len = usize::from(u16::from_ne_bytes([buf[at + 16], buf[at + 17]]));
            let name = &buf[at + 19..at + len];
            let end = name.iter().position(|b| *b == 0).unwrap_or(name.len());
            batch.push(String::from_utf8_lossy(&name[..end]).into_owned());
            at += len;
        }
        each(&batch);
    }
}

/// As subprocess modules close what a child must not have.
fn descriptors_closed_while_listed(o: Out) {
    for fd in 100..140 {
        k!(SYS_dup2, 0, fd);
    }
    let dir = open(c"/proc/self/fd", O_RDONLY, 0).int();
    let mut seen = BTreeSet::new();
    names(dir, |batch| {
        for fd in batch.iter().filter_map(|n| n.parse::<i32>().ok()) {
            if (100..140).contains(&fd) {
                seen.insert(fd);
                k!(SYS_close, fd);
            }
        }
    });
    let left = (100..140).filter(|fd| k!(SYS_fcntl, *fd, F_GETFD).ok());
    tell!(o, "seen" => seen.len(), "left" => left.count());
}

fn processes_ended_while_listed(o: Out) {
    let mut children: BTreeSet<i32> = (0..12)
        .map(|_| {
            child(|| {
                k!(SYS_pause);
                0
            })
        })
        .collect();
    let dir = open(c"/proc", O_RDONLY | O_DIRECTORY, 0).int();
    names(dir, |batch| {
        for pid in batch.iter().filter_map(|n| n.parse::<i32>().ok()) {
            if children.remove(&pid) {
                k!(SYS_kill, pid, SIGKILL);
                wait_text(pid);
            }
        }
    });
    tell!(o, "not seen" => children.len());
    for pid in children {
        k!(SYS_kill, pid, SIGKILL);
    }
}

/// Programs refuse to write where there seems to be no room.
fn space_of_a_file_system(o: Out) {
    for path in [c".", c"/", c"/dev/shm"] {
        let mut s: statfs = sys::zeroed();
        tell!(o, "statfs" => k!(SYS_statfs, path, &mut s), "has blocks" => s.f_blocks > 0, "has room" => s.f_bavail > 0, "has inodes" => s.f_files > 0, "free inodes" => s.f_ffree > 0);
    }
    let mut s: statfs = sys::zeroed();
    let fd = k!(SYS_openat, AT, c"/proc", O_RDONLY, 0);
    tell!(o, "proc" => k!(SYS_fstatfs, fd, &mut s), "blocks" => s.f_blocks);
}

/// vmsplice(2) takes what there is room for, and waits only where there is none.
fn splice_memory_into_full_pipe(o: Out) {
    const NONBLOCK: u32 = 2;
    let (_r, w) = pipe();
    let iov = iovec {
        iov_base: anon(1 << 17) as *mut c_void,
        iov_len: 1 << 17,
    };
    tell!(o, "first" => k!(SYS_vmsplice, w, &iov, 1, 0), "full" => k!(SYS_vmsplice, w, &iov, 1, NONBLOCK), "nothing" => k!(SYS_vmsplice, w, &iov, 0, 0));
}

fn splice_memory_out_of_pipe(o: Out) {
    const NONBLOCK: u32 = 2;
    let (r, w) = pipe();
    let mut bytes = [0u8; 16];
    let iov = iovec {
        iov_base: bytes.as_mut_ptr().cast(),
        iov_len: bytes.len(),
    };
    tell!(o, "empty" => k!(SYS_vmsplice, r, &iov, 1, NONBLOCK));
    k!(SYS_write, w, b"some", 4);
    k!(SYS_write, w, b"more", 4);
    tell!(o, "got" => k!(SYS_vmsplice, r, &iov, 1, 0), "bytes" => crate::util::show(&bytes));
}

/// What there was before descriptors of processes.
fn signal_through_process_directory(o: Out) {
    let waiter = child(|| {
        k!(SYS_pause);
        0
    });
    let name =
        |rest: &str| std::ffi::CString::new(format!("/proc/{waiter}{rest}")).unwrap_or_default();
    let send = |path: &std::ffi::CStr, signal: i32| {
        let fd = open(path, O_RDONLY, 0);
        k!(SYS_pidfd_send_signal, fd, signal, 0, 0)
    };
    tell!(o, "file" => send(&name("/stat"), 0), "below" => send(&name("/fd"), 0), "none" => send(c"/proc", 0), "check" => send(&name(""), 0), "term" => send(&name(""), SIGTERM), "waiter" => wait_text(waiter));
}

fn has_line_of(path: &std::ffi::CStr) -> bool {
    let mounts = cat(c"/proc/self/mountinfo");
    mounts.contains(path.to_str().unwrap_or("?"))
}

/// A mount below the working directory, which is seen where it was made and nowhere else.
fn mount_here(o: Out) {
    tell!(o, "mount" => k!(SYS_mount, c"none", c"own", c"tmpfs", 0, 0));
    mk(c"own/inside", b"x");
    tell!(o, "inside" => k!(SYS_access, c"own/inside", F_OK), "listed" => has_line_of(c"/own "));
}

fn mounts_of_ones_own(o: Out) {
    k!(SYS_mkdir, c"own", 0o755);
    let said = in_child(|| {
        tell!(o, "unshare" => k!(SYS_unshare, CLONE_NEWNS), "private" => k!(SYS_mount, 0, c"/", 0, MS_REC | MS_PRIVATE, 0));
        mount_here(o);
        const NOSYMFOLLOW: u64 = 256;
        k!(SYS_symlink, c"inside", c"own/link");
        tell!(o, "followed" => cat(c"own/link"), "no links" => k!(SYS_mount, 0, c"own", 0, MS_REMOUNT | MS_BIND | NOSYMFOLLOW, 0), "link" => cat(c"own/link"), "create" => open(c"own/link", O_CREAT | O_RDWR, 0o644), "itself" => stat_text(c"own/link", AT_SYMLINK_NOFOLLOW), "told" => has_line_of(c"/own rw,relatime,nosymfollow "), "again" => k!(SYS_mount, 0, c"own", 0, MS_REMOUNT | MS_BIND, 0), "now" => cat(c"own/link"));
        let inner = in_child(|| k!(SYS_access, c"own/inside", F_OK).int());
        tell!(o, "child sees it" => inner);
        0
    });
    tell!(o, "child" => said, "outside" => k!(SYS_access, c"own/inside", F_OK), "listed" => has_line_of(c"/own "));
    as_user(|| {
        tell!(o, "user" => k!(SYS_unshare, CLONE_NEWNS));
    });
}

fn mounts_of_a_clone(o: Out) {
    k!(SYS_mkdir, c"own", 0o755);
    tell!(o, "with files" => k!(SYS_clone, CLONE_NEWNS | CLONE_FS | SIGCHLD, 0, 0, 0, 0));
    let pid = k!(SYS_clone, CLONE_NEWNS | SIGCHLD, 0, 0, 0, 0).int();
    if pid == 0 {
        mount_here(o);
        k!(SYS_exit_group, 0);
    }
    tell!(o, "child" => wait_text(pid), "outside" => k!(SYS_access, c"own/inside", F_OK), "listed" => has_line_of(c"/own "));
}

/// A UUID's form, and whether it is another one at each reading.
fn random_numbers_of_proc(o: Out) {
    for path in [
        c"/proc/sys/kernel/random/uuid",
        c"/proc/sys/kernel/random/boot_id",
    ] {
        let (a, b) = (cat(path), cat(path));
        let form: String = a
            .chars()
            .map(|c| if c.is_ascii_hexdigit() { 'x' } else { c })
            .collect();
        tell!(o, "form" => form, "same again" => a == b, "version" => a.chars().nth(15).unwrap_or('?'));
    }
    tell!(o, "tainted" => !cat(c"/proc/sys/kernel/tainted").starts_with('-'));
}
