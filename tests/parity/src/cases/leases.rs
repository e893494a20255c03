//! Leases on files, and what tells of them and of locks.

use crate::out::Out;
use crate::sys::{self, child, on};
use crate::util::{
    as_user, bit, close, in_child, mask, mk, open, pipe, read, sleep_ms, wait_text, write,
};
use crate::{cases, k, say, tell};
use libc::*;

cases!(
    lease_rules,
    lease_on_others,
    lease_on_what_has_none,
    lease_one_description,
    lease_against_leases,
    lease_ends_owner,
    lease_broken_at_once,
    lease_broken_by_writer,
    lease_weakened_for_reader,
    lease_kept_from_readers_of_readers,
    lease_broken_by_truncation,
    lease_broken_by_exec,
    lease_broken_by_close,
    lease_wait_interrupted,
    lease_plain_signal,
    lease_waiters,
    locks_in_fdinfo,
    locks_listed,
);

const F_SETSIG: i32 = 10;
const F_GETSIG: i32 = 11;
const RT: i32 = 40;

fn set(fd: i32, kind: i32) -> sys::R {
    k!(SYS_fcntl, fd, F_SETLEASE, kind)
}

fn get(fd: i32) -> sys::R {
    k!(SYS_fcntl, fd, F_GETLEASE)
}

fn file(flags: i32) -> i32 {
    mk(c"f", b"text");
    open(c"f", flags, 0).int()
}

/// Waits for `signal`, and says what it tells; never for more than ten seconds.
fn told(o: Out, signal: i32) {
    let mut info: siginfo_t = sys::zeroed();
    let wanted = bit(signal);
    let limit = timespec {
        tv_sec: 10,
        tv_nsec: 0,
    };
    let got = k!(SYS_rt_sigtimedwait, &wanted, &mut info, &limit, 8);
    let words = sys::bytes_of(&info);
    let int = |at: usize| {
        words[at..at + 4]
            .iter()
            .rev()
            .fold(0u32, |n, b| n << 8 | u32::from(*b))
    };
    say!(
        o,
        "signal {got} code {} band {:#x} fd {}",
        info.si_code,
        int(16),
        int(24) as i32
    );
}

fn block() {
    mask(SIG_BLOCK, bit(SIGIO) | bit(RT));
}

fn lease_rules(o: Out) {
    let r = file(O_RDONLY);
    for kind in [F_RDLCK, F_WRLCK, F_UNLCK, 3, -1] {
        tell!(o, "set" => set(r, kind), "get" => get(r), "end" => set(r, F_UNLCK));
    }
    let w = open(c"f", O_WRONLY, 0).int();
    for fd in [r, w] {
        for kind in [F_RDLCK, F_WRLCK] {
            tell!(o, "both open" => set(fd, kind), "get" => get(fd));
        }
    }
    close(r);
    tell!(o, "writer alone" => set(w, F_RDLCK), "writer alone" => set(w, F_WRLCK), "get" => get(w));
    close(w);
    let rw = open(c"f", O_RDWR, 0).int();
    tell!(o, "both ways" => set(rw, F_RDLCK), "both ways" => set(rw, F_WRLCK), "weaker" => set(rw, F_RDLCK), "get" => get(rw));
    close(rw);
    let made = open(c"new", O_CREAT | O_RDWR, 0o600).int();
    tell!(o, "new" => set(made, F_WRLCK), "get" => get(made));
}

fn lease_on_others(o: Out) {
    k!(SYS_chmod, c"f", 0o644);
    let r = file(O_RDONLY);
    let d = open(c".", O_RDONLY, 0).int();
    k!(SYS_chmod, c"f", 0o644);
    let (p, _) = pipe();
    let kid = as_user(|| {
        for kind in [F_RDLCK, F_UNLCK, 9] {
            tell!(o, "file" => set(r, kind), "directory" => set(d, kind), "pipe" => set(p, kind));
        }
        tell!(o, "get" => get(r));
    });
    tell!(o, "child" => kid);
}

fn lease_on_what_has_none(o: Out) {
    let d = open(c".", O_RDONLY, 0).int();
    let p = open(c".", O_PATH, 0).int();
    let (r, _) = pipe();
    let null = open(c"/dev/null", O_RDONLY, 0).int();
    for fd in [d, p, r, null, 99] {
        for kind in [F_RDLCK, F_WRLCK, F_UNLCK] {
            tell!(o, "set" => set(fd, kind));
        }
        tell!(o, "get" => get(fd));
    }
}

fn lease_one_description(o: Out) {
    let r = file(O_RDONLY);
    let again = k!(SYS_dup, r).int();
    let other = open(c"f", O_RDONLY, 0).int();
    tell!(o, "set" => set(r, F_RDLCK), "get" => get(r), "duplicate" => get(again), "other" => get(other));
    let kid = in_child(|| {
        tell!(o, "child" => get(r), "ends" => set(again, F_UNLCK));
        0
    });
    tell!(o, "child" => kid, "get" => get(r), "set" => set(again, F_RDLCK), "close" => close(again), "get" => get(r));
    let w = open(c"f", O_WRONLY | O_NONBLOCK, 0);
    tell!(o, "writer" => w, "get" => get(r));
}

fn lease_against_leases(o: Out) {
    let r = file(O_RDONLY);
    let other = open(c"f", O_RDONLY, 0).int();
    tell!(o, "one" => set(r, F_RDLCK), "two" => set(other, F_RDLCK), "stronger" => set(other, F_WRLCK), "own" => set(r, F_WRLCK), "close" => close(other), "own" => set(r, F_WRLCK), "get" => get(r));
    tell!(o, "reader" => open(c"f", O_RDONLY | O_NONBLOCK, 0), "get" => get(r), "path alone" => open(c"f", O_PATH, 0).ok());
    tell!(o, "link" => k!(SYS_link, c"f", c"g"), "mode" => k!(SYS_chmod, c"f", 0o600), "rename" => k!(SYS_rename, c"g", c"h"), "unlink" => k!(SYS_unlink, c"f"), "by name" => open(c"h", O_RDONLY | O_NONBLOCK, 0));
}

fn lease_ends_owner(o: Out) {
    let r = file(O_RDONLY);
    k!(SYS_fcntl, r, F_SETSIG, RT);
    tell!(o, "nobody" => k!(SYS_fcntl, r, F_GETOWN), "set" => set(r, F_RDLCK), "me" => k!(SYS_fcntl, r, F_GETOWN) == k!(SYS_getpid), "signal" => k!(SYS_fcntl, r, F_GETSIG));
    tell!(o, "end" => set(r, F_UNLCK), "nobody" => k!(SYS_fcntl, r, F_GETOWN), "signal" => k!(SYS_fcntl, r, F_GETSIG));
    let parent = k!(SYS_getppid);
    k!(SYS_fcntl, r, F_SETOWN, parent);
    tell!(o, "set" => set(r, F_RDLCK), "parent" => k!(SYS_fcntl, r, F_GETOWN) == parent);
}

fn lease_broken_at_once(o: Out) {
    block();
    let r = file(O_RDONLY);
    k!(SYS_fcntl, r, F_SETSIG, RT);
    tell!(o, "set" => set(r, F_RDLCK), "reader" => open(c"f", O_RDONLY | O_NONBLOCK, 0).ok());
    let other = open(c"f", O_RDONLY, 0).int();
    tell!(o, "writer" => open(c"f", O_WRONLY | O_NONBLOCK, 0), "get" => get(r));
    told(o, RT);
    tell!(o, "again" => open(c"f", O_RDWR | O_NONBLOCK, 0), "get" => get(r), "truncating reader" => open(c"f", O_RDONLY | O_TRUNC | O_NONBLOCK, 0).ok());
    tell!(o, "another lease" => set(other, F_RDLCK), "same" => set(r, F_RDLCK), "get" => get(r), "end" => set(r, F_UNLCK), "get" => get(r), "writer" => open(c"f", O_WRONLY | O_NONBLOCK, 0).ok());
    let limit: timespec = sys::zeroed();
    let wanted = bit(RT);
    tell!(o, "no second" => k!(SYS_rt_sigtimedwait, &wanted, 0, &limit, 8));
}

/// A child that opens `f` with `flags`, and ends with 7 where it could.
fn opener(flags: i32) -> i32 {
    child(|| if open(c"f", flags, 0).ok() { 7 } else { 1 })
}

fn lease_broken_by_writer(o: Out) {
    block();
    let r = file(O_RDONLY);
    k!(SYS_fcntl, r, F_SETSIG, RT);
    set(r, F_RDLCK);
    let kid = opener(O_WRONLY);
    told(o, RT);
    tell!(o, "get" => get(r), "end" => set(r, F_UNLCK), "child" => wait_text(kid));
}

fn lease_weakened_for_reader(o: Out) {
    block();
    let rw = file(O_RDWR);
    k!(SYS_fcntl, rw, F_SETSIG, RT);
    set(rw, F_WRLCK);
    let kid = opener(O_RDONLY);
    told(o, RT);
    // The one that waits is counted as open already.
    tell!(o, "get" => get(rw), "weaker" => set(rw, F_RDLCK), "end" => set(rw, F_UNLCK), "child" => wait_text(kid), "get" => get(rw));
    let r = open(c"f", O_RDONLY, 0).int();
    close(rw);
    tell!(o, "set" => set(r, F_WRLCK));
    k!(SYS_fcntl, r, F_SETSIG, RT);
    let kid = opener(O_RDONLY);
    told(o, RT);
    tell!(o, "get" => get(r), "weaker" => set(r, F_RDLCK), "get" => get(r), "child" => wait_text(kid));
}

fn lease_kept_from_readers_of_readers(o: Out) {
    let r = file(O_RDONLY);
    set(r, F_RDLCK);
    let kid = opener(O_RDONLY);
    tell!(o, "child" => wait_text(kid), "get" => get(r), "read" => read(r, 9).1);
}

fn lease_broken_by_truncation(o: Out) {
    block();
    let r = file(O_RDONLY);
    k!(SYS_fcntl, r, F_SETSIG, RT);
    set(r, F_RDLCK);
    let kid = child(|| if k!(SYS_truncate, c"f", 2).ok() { 7 } else { 1 });
    told(o, RT);
    tell!(o, "still" => read(r, 9).1, "end" => set(r, F_UNLCK), "child" => wait_text(kid));
    k!(SYS_lseek, r, 0, SEEK_SET);
    tell!(o, "now" => read(r, 9).1);
}

fn lease_broken_by_exec(o: Out) {
    block();
    mk(c"f", b"#!/nonexistent\n");
    k!(SYS_chmod, c"f", 0o755);
    let r = open(c"f", O_RDONLY, 0).int();
    k!(SYS_fcntl, r, F_SETSIG, RT);
    tell!(o, "set" => set(r, F_WRLCK));
    let kid = child(|| {
        let none = [0usize];
        i32::from(k!(SYS_execve, c"f", &none, &none).0 == -i64::from(ENOENT))
    });
    told(o, RT);
    tell!(o, "get" => get(r), "end" => set(r, F_UNLCK), "child" => wait_text(kid));
}

fn lease_broken_by_close(o: Out) {
    block();
    let r = file(O_RDONLY);
    k!(SYS_fcntl, r, F_SETSIG, RT);
    set(r, F_RDLCK);
    let kid = child(|| {
        close(r);
        if open(c"f", O_WRONLY, 0).ok() { 7 } else { 1 }
    });
    told(o, RT);
    tell!(o, "close" => close(r), "child" => wait_text(kid));
}

fn lease_wait_interrupted(o: Out) {
    block();
    let r = file(O_RDONLY);
    k!(SYS_fcntl, r, F_SETSIG, RT);
    set(r, F_RDLCK);
    for flags in [0, SA_RESTART] {
        on(SIGUSR1, flags);
        let kid = child(|| {
            tell!(o, "open" => open(c"f", O_WRONLY, 0).yes());
            0
        });
        // One signal may come too early, and for who goes on waiting, many are as one.
        for _ in 0..50 {
            sleep_ms(1);
            k!(SYS_kill, kid, SIGUSR1);
        }
        if flags == SA_RESTART {
            set(r, F_UNLCK);
        }
        tell!(o, "child" => wait_text(kid), "get" => get(r));
    }
}

fn lease_plain_signal(o: Out) {
    block();
    let r = file(O_RDONLY);
    set(r, F_RDLCK);
    tell!(o, "writer" => open(c"f", O_WRONLY | O_NONBLOCK, 0));
    let mut info: siginfo_t = sys::zeroed();
    let wanted = bit(SIGIO);
    tell!(o, "signal" => k!(SYS_rt_sigtimedwait, &wanted, &mut info, 0, 8), "code" => info.si_code);
}

fn lease_waiters(o: Out) {
    block();
    let r = file(O_RDONLY);
    k!(SYS_fcntl, r, F_SETSIG, RT);
    set(r, F_RDLCK);
    let (done_r, done_w) = pipe();
    let kids: Vec<i32> = (0..4)
        .map(|i| {
            child(|| {
                let fd = open(c"f", if i % 2 == 0 { O_WRONLY } else { O_RDWR }, 0);
                write(done_w, if fd.ok() { b"y" } else { b"n" });
                0
            })
        })
        .collect();
    told(o, RT);
    tell!(o, "end" => set(r, F_UNLCK));
    for kid in kids {
        tell!(o, "child" => wait_text(kid));
    }
    tell!(o, "all" => read(done_r, 9).1);
}

/// The lines about locks in the text, without what differs from machine to machine.
fn locks(text: &str, ino: u64, pid: sys::R) -> Vec<String> {
    let mine = format!(":{ino} ");
    let lines = text.lines().filter(|l| l.contains(&mine));
    let mut lines: Vec<String> = lines
        .map(|l| {
            let words = l.split(": ").nth(1).unwrap_or(l);
            let (head, tail) = words.split_once(&mine).unwrap_or((words, ""));
            let head = &head[..head.len() - 5];
            let pid = format!(" {pid} ");
            format!("{head}|{tail}").replace(&pid, " ME ")
        })
        .collect();
    lines.sort();
    lines
}

fn range_lock(fd: i32, op: i32, kind: i32, start: i64, len: i64) -> sys::R {
    let lock = flock {
        l_type: kind as i16,
        l_whence: 0,
        l_start: start,
        l_len: len,
        l_pid: 0,
    };
    k!(SYS_fcntl, fd, op, &lock)
}

fn some_locks(o: Out) -> (i32, u64) {
    let f = file(O_RDWR);
    tell!(o, "range" => range_lock(f, F_SETLK, F_RDLCK, 3, 5), "own" => range_lock(f, F_OFD_SETLK, F_WRLCK, 100, 0), "whole" => k!(SYS_flock, f, LOCK_EX));
    let ino = crate::util::fstat(f).st_ino;
    (f, ino)
}

fn locks_in_fdinfo(o: Out) {
    let (f, ino) = some_locks(o);
    let me = k!(SYS_getpid);
    let info = |fd: i32| std::fs::read_to_string(format!("/proc/self/fdinfo/{fd}"));
    let show = |fd: i32| {
        let text = info(fd).unwrap_or_default();
        let text = text.replace("lock:\t", "");
        for line in locks(&text, ino, me) {
            say!(o, "{line}");
        }
    };
    show(f);
    let other = open(c"f", O_RDONLY, 0).int();
    say!(o, "other");
    show(other);
    tell!(o, "lease" => set(other, F_RDLCK));
    close(f);
    tell!(o, "lease" => set(other, F_RDLCK));
    show(other);
    mask(SIG_BLOCK, bit(SIGIO));
    open(c"f", O_WRONLY | O_NONBLOCK, 0);
    show(other);
    let kid = in_child(|| {
        say!(o, "child");
        show(other);
        0
    });
    tell!(o, "child" => kid);
}

fn locks_listed(o: Out) {
    let (f, ino) = some_locks(o);
    let me = k!(SYS_getpid);
    let show = || {
        let text = std::fs::read_to_string("/proc/locks").unwrap_or_default();
        for line in locks(&text, ino, me) {
            say!(o, "{line}");
        }
    };
    show();
    k!(SYS_flock, f, LOCK_SH);
    range_lock(f, F_SETLK, F_UNLCK, 0, 0);
    say!(o, "later");
    show();
    close(f);
    say!(o, "closed");
    show();
}
