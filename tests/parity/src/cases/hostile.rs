//! Arguments that programs rarely make: clone3 and its structure, robust lists that lie, chains of
//! links, descriptors on their way, clocks by both ways in.

use crate::out::Out;
use crate::sys::{self, child, put, word};
use crate::util::{
    AT, anon, bit, cat, close, control, in_child, mask, mk, now_ms, open, pipe, pipe2, read,
    rights, send_message, shared, show, sleep_ms, stat_text, wait_text, write,
};
use crate::{cases, k, say, tell};
use libc::*;
use std::ffi::CString;
use std::sync::atomic::Ordering::SeqCst;

cases!(
    clone3_sizes,
    clone3_clears_handlers,
    clone3_descriptor_of_child,
    clone3_stacks,
    clone3_chosen_ids,
    clone3_signals_and_parents,
    clone_flag_pairs,
    robust_several,
    robust_pending,
    robust_of_others,
    robust_lists_that_lie,
    link_chains_across,
    links_through_proc,
    links_that_change,
    rights_in_streams,
    rights_peeked,
    rights_with_flags,
    rights_of_many_kinds,
    rights_twice_in_one_message,
    credentials_beside_rights,
    control_that_lies,
    clocks_by_both_ways,
    clock_library_goes_forward,
    wait_forms,
    two_at_one_pipe,
);

const CLONE_CLEAR_SIGHAND_FLAG: u64 = 0x1_0000_0000;

fn clone3(args: &[u64], size: usize) -> sys::R {
    k!(SYS_clone3, args.as_ptr(), size)
}

/// Runs clone3 and lets the child exit with what `f` says.
fn cloned(args: &[u64], size: usize, f: impl FnOnce() -> i32) -> String {
    let r = clone3(args, size);
    if r.0 == 0 {
        k!(SYS_exit_group, f());
    }
    if r.ok() {
        wait_text(r.int())
    } else {
        r.to_string()
    }
}

fn clone3_sizes(o: Out) {
    let mut a = [0u64; 600];
    a[4] = SIGCHLD as u64;
    for size in [0, 7, 63, 64, 65, 72, 80, 81, 88, 96, 4096, 4097] {
        say!(o, "{size}: {}", cloned(&a, size, || 3));
    }
    a[11] = 1;
    tell!(o, "unknown word" => cloned(&a, 96, || 3), "beyond what is told" => cloned(&a, 88, || 3));
}

fn clone3_clears_handlers(o: Out) {
    sys::on(SIGUSR1, 0);
    sys::set_handler(SIGUSR2, SIG_IGN, 0);
    let mut a = [0u64; 11];
    a[4] = SIGCHLD as u64;
    a[0] = CLONE_CLEAR_SIGHAND_FLAG;
    let look = || {
        let mut act = [0usize; 4];
        k!(SYS_rt_sigaction, SIGUSR1, 0, &mut act, 8);
        let first = act[0] as i32 & 1;
        let handled = i32::from(act[0] > 1);
        k!(SYS_rt_sigaction, SIGUSR2, 0, &mut act, 8);
        first + 2 * handled + 4 * (act[0] as i32 & 1)
    };
    tell!(o, "cleared" => cloned(&a, 88, look));
    a[0] = 0;
    tell!(o, "kept" => cloned(&a, 88, || i32::from(look() & 6 == 6)));
    a[0] = CLONE_CLEAR_SIGHAND_FLAG | (CLONE_SIGHAND | CLONE_VM) as u64;
    tell!(o, "with shared ones" => clone3(&a, 88));
}

fn clone3_descriptor_of_child(o: Out) {
    let mut fd = -1i32;
    let mut a = [0u64; 11];
    a[0] = CLONE_PIDFD as u64;
    a[1] = std::ptr::from_mut(&mut fd) as u64;
    a[4] = SIGCHLD as u64;
    let r = clone3(&a, 88);
    if r.0 == 0 {
        sleep_ms(30);
        k!(SYS_exit_group, 5);
    }
    let mut p = pollfd {
        fd,
        events: POLLIN,
        revents: 0,
    };
    tell!(o, "a descriptor" => fd >= 0, "close on exec" => k!(SYS_fcntl, fd, F_GETFD), "waits" => k!(SYS_poll, &mut p, 1, 3000), "revents" => p.revents, "status" => wait_text(r.int()));
    a[1] = 16;
    tell!(o, "bad address" => clone3(&a, 88));
    a[0] = (CLONE_PIDFD | CLONE_DETACHED) as u64;
    tell!(o, "detached" => clone3(&a, 88));
}

fn clone3_stacks(o: Out) {
    let mut a = [0u64; 11];
    a[4] = SIGCHLD as u64;
    a[5] = anon(8192) as u64;
    tell!(o, "no size" => clone3(&a, 88));
    a[6] = 1 << 63;
    tell!(o, "wraps" => clone3(&a, 88));
    (a[5], a[6]) = (u64::MAX - 4095, 4096);
    tell!(o, "beyond all" => clone3(&a, 88));
}

fn clone3_chosen_ids(o: Out) {
    let ids = anon(4096);
    let mut a = [0u64; 11];
    a[4] = SIGCHLD as u64;
    a[8] = ids as u64;
    tell!(o, "address alone" => clone3(&a, 88));
    a[9] = 33;
    tell!(o, "too many" => clone3(&a, 88));
    (a[8], a[9]) = (0, 1);
    tell!(o, "number alone" => clone3(&a, 88));
    a[8] = ids as u64;
    tell!(o, "zero" => clone3(&a, 88));
    put(ids, &(-5i32).to_ne_bytes());
    tell!(o, "negative" => clone3(&a, 88));
    put(ids, &k!(SYS_getpid).int().to_ne_bytes());
    tell!(o, "one in use" => clone3(&a, 88));
    a[8] = 16;
    tell!(o, "bad address" => clone3(&a, 88));
}

fn clone3_signals_and_parents(o: Out) {
    let mut a = [0u64; 11];
    mask(SIG_BLOCK, bit(64));
    for signal in [64u64, 65, 1 << 40] {
        a[4] = signal;
        let s = cloned(&a, 88, || 2);
        say!(
            o,
            "{signal}: {}",
            if s.starts_with("wait") {
                "made".into()
            } else {
                s
            }
        );
    }
    (a[0], a[4]) = (CLONE_PARENT as u64, SIGCHLD as u64);
    tell!(o, "parent with a signal" => clone3(&a, 88));
    (a[0], a[4]) = (
        (CLONE_THREAD | CLONE_SIGHAND | CLONE_VM) as u64,
        SIGCHLD as u64,
    );
    tell!(o, "thread with a signal" => clone3(&a, 88));
    (a[0], a[4]) = (0x8000_0000_0000, 0);
    tell!(o, "unknown flag" => clone3(&a, 88));
    (a[0], a[4]) = (0xff, 0);
    tell!(o, "signal among flags" => clone3(&a, 88));
}

fn clone_flag_pairs(o: Out) {
    for (name, flags) in [
        ("thread", CLONE_THREAD),
        ("thread and sighand", CLONE_THREAD | CLONE_SIGHAND),
        ("sighand", CLONE_SIGHAND),
        ("fs and new mounts", CLONE_FS | CLONE_NEWNS),
        ("fs and new user", CLONE_FS | CLONE_NEWUSER),
        (
            "thread and new pids",
            CLONE_THREAD | CLONE_SIGHAND | CLONE_VM | CLONE_NEWPID,
        ),
        ("pidfd and settid", CLONE_PIDFD | CLONE_PARENT_SETTID),
    ] {
        let r = k!(SYS_clone, flags | SIGCHLD, 0, 0, 0, 0);
        if r.0 == 0 {
            k!(SYS_exit_group, 0);
        }
        say!(o, "{name}: {r}");
    }
}

/// Puts a robust list of `entries` at `m`, each with its word 8 bytes behind it.
fn list(m: usize, entries: &[usize], pending: usize) {
    let mut all = entries.to_vec();
    all.push(m);
    put(m, &all[0].to_ne_bytes());
    put(m + 8, &8usize.to_ne_bytes());
    put(m + 16, &pending.to_ne_bytes());
    for pair in all.windows(2) {
        put(pair[0], &pair[1].to_ne_bytes());
    }
}

fn state(addr: usize) -> String {
    let w = word(addr).load(SeqCst);
    format!(
        "died {} waiters {} owner {}",
        w & FUTEX_OWNER_DIED != 0,
        w & FUTEX_WAITERS != 0,
        w & FUTEX_TID_MASK != 0
    )
}

fn robust_several(o: Out) {
    let m = shared(4096);
    let kid = child(|| {
        let tid = k!(SYS_gettid).0 as u32;
        let entries = [m + 256, m + 512, m + 768];
        list(m, &entries, 0);
        word(m + 264).store(tid, SeqCst);
        word(m + 520).store(tid | FUTEX_WAITERS, SeqCst);
        word(m + 776).store(0, SeqCst);
        k!(SYS_set_robust_list, m, 24).int()
    });
    tell!(o, "child" => wait_text(kid), "mine" => state(m + 264), "awaited" => state(m + 520), "free" => state(m + 776));
}

fn robust_pending(o: Out) {
    let m = shared(4096);
    let kid = child(|| {
        let tid = k!(SYS_gettid).0 as u32;
        list(m, &[], m + 256);
        word(m + 264).store(tid, SeqCst);
        k!(SYS_set_robust_list, m, 24);
        k!(SYS_kill, k!(SYS_getpid), SIGKILL);
        0
    });
    tell!(o, "child" => wait_text(kid), "pending one" => state(m + 264));
}

fn robust_of_others(o: Out) {
    let m = shared(4096);
    let kid = child(|| {
        list(m, &[m + 256], 0);
        word(m + 264).store(k!(SYS_getppid).0 as u32, SeqCst);
        k!(SYS_set_robust_list, m, 24).int()
    });
    tell!(o, "child" => wait_text(kid), "another's" => state(m + 264));
    let (mut head, mut len) = (0usize, 0usize);
    tell!(o, "mine is" => k!(SYS_get_robust_list, 0, &mut head, &mut len), "size" => len, "nobody's" => k!(SYS_get_robust_list, 999_999, &mut head, &mut len), "bad address" => k!(SYS_get_robust_list, 0, 16usize, &mut len));
}

fn robust_lists_that_lie(o: Out) {
    let m = shared(4096);
    let ends = |make: &dyn Fn()| {
        let kid = child(|| {
            make();
            k!(SYS_set_robust_list, m, 24).int()
        });
        wait_text(kid)
    };
    tell!(o, "round and round" => ends(&|| { list(m, &[m + 256], 0); put(m + 256, &(m + 256).to_ne_bytes()); }), "nowhere" => ends(&|| put(m, &16usize.to_ne_bytes())), "kernel's" => ends(&|| put(m, &usize::MAX.to_ne_bytes())), "odd word" => ends(&|| { list(m, &[m + 257], 0); }), "far word" => ends(&|| { list(m, &[m + 256], 0); put(m + 8, &(1usize << 60).to_ne_bytes()); }), "null" => ends(&|| put(m, &0usize.to_ne_bytes())));
}

fn link_chains_across(o: Out) {
    k!(SYS_mkdir, c"a", 0o755);
    k!(SYS_mkdir, c"b", 0o755);
    mk(c"b/f", b"end");
    // Each link leads into the other directory, by way of dots.
    for n in 0..45 {
        let (dir, other) = if n % 2 == 0 { ("a", "b") } else { ("b", "a") };
        let to = if n == 0 {
            "../b/f".to_string()
        } else {
            format!("../{other}/./l{}", n - 1)
        };
        let at = format!("{dir}/l{n}");
        let (to, at) = (CString::new(to), CString::new(at));
        k!(
            SYS_symlink,
            to.unwrap_or_default().as_c_str(),
            at.unwrap_or_default().as_c_str()
        );
    }
    for n in [0, 38, 39, 40, 41, 44] {
        let dir = if n % 2 == 0 { "a" } else { "b" };
        let path = CString::new(format!("{dir}/l{n}")).unwrap_or_default();
        say!(
            o,
            "{n}: {} {}",
            cat(&path),
            open(&path, O_RDONLY | O_NOFOLLOW, 0)
        );
    }
    k!(SYS_symlink, c"up/..", c"up");
    k!(SYS_symlink, c"x/y", c"x");
    k!(SYS_symlink, c"/proc/self/cwd/round", c"round");
    tell!(o, "through itself" => stat_text(c"up/", 0), "below itself" => stat_text(c"x", 0), "by proc" => stat_text(c"round", 0), "make" => open(c"x", O_CREAT | O_WRONLY, 0o644), "mkdir" => k!(SYS_mkdir, c"x", 0o755), "unlink" => k!(SYS_unlink, c"x"));
    let deep = "d/".repeat(60) + "..";
    let link = CString::new(deep).unwrap_or_default();
    tell!(o, "long target" => k!(SYS_symlink, link.as_c_str(), c"deep"), "walk" => stat_text(c"deep", 0));
}

fn links_through_proc(o: Out) {
    mk(c"f", b"text");
    let fd = open(c"f", O_RDONLY, 0).int();
    k!(SYS_unlink, c"f");
    let path = |fd: i32| CString::new(format!("/proc/self/fd/{fd}")).unwrap_or_default();
    let dir = open(c"/", O_PATH, 0).int();
    let below = CString::new(format!("/proc/self/fd/{fd}/x")).unwrap_or_default();
    let probes = CString::new(format!("/proc/self/fd/{dir}/probes")).unwrap_or_default();
    tell!(o, "deleted" => cat(&path(fd)), "nofollow" => open(&path(fd), O_RDONLY | O_NOFOLLOW, 0), "as directory" => open(&path(fd), O_RDONLY | O_DIRECTORY, 0), "below" => open(&below, O_RDONLY, 0), "from a directory" => stat_text(&probes, 0).starts_with("file"), "make" => open(&path(99), O_CREAT | O_WRONLY, 0o644), "unlink" => k!(SYS_unlink, path(fd).as_c_str()), "closed" => { close(fd); open(&path(fd), O_RDONLY, 0) });
}

fn links_that_change(o: Out) {
    k!(SYS_mkdir, c"one", 0o755);
    k!(SYS_mkdir, c"two", 0o755);
    mk(c"one/f", b"1");
    mk(c"two/f", b"2");
    k!(SYS_symlink, c"one", c"l");
    let kid = child(|| {
        for n in 0..400 {
            let to = if n % 2 == 0 { c"two" } else { c"one" };
            k!(SYS_symlink, to, c"new");
            k!(SYS_rename, c"new", c"l");
        }
        0
    });
    let mut odd = 0;
    for _ in 0..400 {
        let s = cat(c"l/f");
        odd += i32::from(s != "\"1\"" && s != "\"2\"");
    }
    tell!(o, "child" => wait_text(kid), "neither" => odd);
}

fn pair(kind: i32) -> (i32, i32) {
    let mut s = [0i32; 2];
    k!(SYS_socketpair, AF_UNIX, kind, 0, &mut s);
    (s[0], s[1])
}

/// What came: the bytes, the flags, and what kinds of control there were with how many bytes.
fn recv(fd: i32, len: usize, room: usize, flags: i32) -> (String, Vec<i32>) {
    let mut data = vec![0u8; len];
    let mut raw = vec![0u8; room];
    let v = iovec {
        iov_base: data.as_mut_ptr().cast(),
        iov_len: len,
    };
    let mut m: msghdr = sys::zeroed();
    m.msg_iov = std::ptr::from_ref(&v).cast_mut();
    m.msg_iovlen = 1;
    m.msg_control = raw.as_mut_ptr().cast();
    m.msg_controllen = room;
    let n = k!(SYS_recvmsg, fd, &mut m, flags | MSG_DONTWAIT);
    if !n.ok() {
        return (n.to_string(), Vec::new());
    }
    let (mut kinds, mut fds, mut at) = (Vec::new(), Vec::new(), 0);
    while at + 16 <= m.msg_controllen {
        let size = usize::from_ne_bytes(raw[at..at + 8].try_into().unwrap_or_default());
        let kind = i32::from_ne_bytes(raw[at + 12..at + 16].try_into().unwrap_or_default());
        kinds.push(format!("{kind}:{}", size.saturating_sub(16)));
        let body = raw.get(at + 16..(at + size).min(room)).unwrap_or_default();
        if kind == SCM_RIGHTS {
            fds.extend(
                body.chunks_exact(4)
                    .map(|c| i32::from_ne_bytes(c.try_into().unwrap_or_default())),
            );
        }
        at += size.div_ceil(8) * 8;
        if size < 16 {
            break;
        }
    }
    let text = format!(
        "{} flags {:#x} control {kinds:?}",
        show(&data[..n.addr().min(len)]),
        m.msg_flags
    );
    (text, fds)
}

fn rights_in_streams(o: Out) {
    let (a, b) = pair(SOCK_STREAM);
    let (r, w) = pipe();
    send_message(a, b"before", &[]);
    send_message(a, b"with", &rights(&[w]));
    send_message(a, b"after", &[]);
    for len in [3, 20, 2, 20] {
        let (text, fds) = recv(b, len, 64, 0);
        say!(o, "{len}: {text} {}", fds.len());
        for fd in fds {
            write(fd, b"!");
        }
    }
    tell!(o, "works" => read(r, 5).1);
    send_message(a, b"one", &rights(&[w]));
    send_message(a, b"two", &rights(&[r]));
    let (text, fds) = recv(b, 20, 64, 0);
    say!(o, "two in a row: {text} {}", fds.len());
    let (text, fds) = recv(b, 20, 64, 0);
    say!(o, "then: {text} {}", fds.len());
}

fn rights_peeked(o: Out) {
    for kind in [SOCK_STREAM, SOCK_DGRAM, SOCK_SEQPACKET] {
        let (a, b) = pair(kind);
        let (r, w) = pipe();
        send_message(a, b"text", &rights(&[w]));
        let (text, fds) = recv(b, 9, 64, MSG_PEEK);
        say!(o, "peek: {text} {}", fds.len());
        let (text, more) = recv(b, 9, 64, 0);
        say!(o, "take: {text} {} another {}", more.len(), more != fds);
        close(w);
        for f in fds.iter().chain(&more) {
            close(*f);
        }
        tell!(o, "all closed" => read(r, 1).0);
    }
}

fn rights_with_flags(o: Out) {
    let (a, b) = pair(SOCK_STREAM);
    let f = open(c"f", O_CREAT | O_RDWR | O_CLOEXEC, 0o644).int();
    write(f, b"0123");
    send_message(a, b"x", &rights(&[f, f]));
    let (_, fds) = recv(b, 1, 64, 0);
    tell!(o, "not close on exec" => k!(SYS_fcntl, fds[0], F_GETFD), "another number" => fds[0] != fds[1], "position is shared" => k!(SYS_lseek, fds[1], 0, SEEK_CUR), "flags" => k!(SYS_fcntl, fds[0], F_GETFL), "set on one" => k!(SYS_fcntl, fds[0], F_SETFL, O_APPEND), "seen on the other" => k!(SYS_fcntl, f, F_GETFL));
    let path = open(c"f", O_PATH, 0).int();
    tell!(o, "path only" => send_message(a, b"x", &rights(&[path])));
    let (text, fds) = recv(b, 1, 64, MSG_CMSG_CLOEXEC);
    tell!(o, "got" => text, "read" => fds.first().map_or("none".into(), |f| read(*f, 1).0.to_string()));
    let lim = rlimit {
        rlim_cur: 4,
        rlim_max: 4096,
    };
    send_message(a, b"x", &rights(&[f, f, f]));
    k!(SYS_prlimit64, 0, RLIMIT_NOFILE, &lim, 0);
    let (text, fds) = recv(b, 1, 64, 0);
    tell!(o, "no numbers left" => text, "count" => fds.len());
}

fn rights_of_many_kinds(o: Out) {
    let (a, b) = pair(SOCK_SEQPACKET);
    let e = k!(SYS_eventfd2, 7, 0).int();
    let ep = k!(SYS_epoll_create1, 0).int();
    let s = pair(SOCK_STREAM).0;
    let d = open(c".", O_RDONLY | O_DIRECTORY, 0).int();
    send_message(a, b"x", &rights(&[e, ep, s, d, b]));
    let (text, fds) = recv(b, 1, 128, 0);
    let mut n = 0u64;
    tell!(o, "got" => text, "event" => { k!(SYS_read, fds[0], &mut n, 8); n }, "directory" => k!(SYS_fchdir, fds[3]), "the socket itself" => { send_message(a, b"y", &[]); recv(fds[4], 9, 0, 0).0 });
}

fn rights_twice_in_one_message(o: Out) {
    let (a, b) = pair(SOCK_STREAM);
    let (r, w) = pipe();
    let both = [rights(&[r]), rights(&[w])].concat();
    tell!(o, "send" => send_message(a, b"x", &both), "got" => recv(b, 9, 128, 0).0);
}

fn credentials_beside_rights(o: Out) {
    let (a, b) = pair(SOCK_STREAM);
    let (r, _w) = pipe();
    k!(SYS_setsockopt, b, SOL_SOCKET, SO_PASSCRED, &1i32, 4);
    send_message(a, b"x", &rights(&[r]));
    tell!(o, "both" => recv(b, 9, 128, 0).0);
    send_message(a, b"x", &rights(&[r]));
    tell!(o, "room for one" => recv(b, 9, 32, 0).0);
    let mine = [k!(SYS_getpid).int(), 0, 0];
    let other = [1i32, 5, 5];
    let raw = |c: &[i32; 3]| c.iter().flat_map(|v| v.to_ne_bytes()).collect::<Vec<u8>>();
    tell!(o, "said" => send_message(a, b"y", &control(SOL_SOCKET, SCM_CREDENTIALS, &raw(&mine))), "got" => recv(b, 9, 128, 0).0, "short" => send_message(a, b"y", &control(SOL_SOCKET, SCM_CREDENTIALS, &raw(&mine)[..8])), "as user" => crate::util::as_user(|| { tell!(o, "others'" => send_message(a, b"y", &control(SOL_SOCKET, SCM_CREDENTIALS, &raw(&other)))); }));
}

fn control_that_lies(o: Out) {
    let (a, b) = pair(SOCK_STREAM);
    let mut c = rights(&[0]);
    for size in [0usize, 15, 16, 18, 25, usize::MAX] {
        c[..8].copy_from_slice(&size.to_ne_bytes());
        say!(o, "size {size:#x}: {}", send_message(a, b"x", &c));
    }
    tell!(o, "another level" => send_message(a, b"x", &control(77, 1, &[0; 4])), "another kind" => send_message(a, b"x", &control(SOL_SOCKET, 77, &[0; 4])), "half" => send_message(a, b"x", &c[..8]), "empty rights" => send_message(a, b"x", &rights(&[])), "negative" => send_message(a, b"x", &rights(&[-1])));
    let mut m: msghdr = sys::zeroed();
    m.msg_control = 16 as *mut c_void;
    m.msg_controllen = 64;
    tell!(o, "bad address" => k!(SYS_sendmsg, a, &m, 0));
    m.msg_controllen = usize::MAX;
    tell!(o, "huge" => k!(SYS_sendmsg, a, &m, 0));
    let mut n = 0;
    while recv(b, 1, 64, 0).0.starts_with('"') {
        n += 1;
    }
    tell!(o, "arrived" => n);
}

fn clocks_by_both_ways(o: Out) {
    let by_call = |id: i32| {
        let mut t: timespec = sys::zeroed();
        k!(SYS_clock_gettime, id, &mut t);
        t.tv_sec * 1_000_000_000 + t.tv_nsec
    };
    for id in [
        CLOCK_REALTIME,
        CLOCK_MONOTONIC,
        CLOCK_BOOTTIME,
        CLOCK_TAI,
        CLOCK_MONOTONIC_RAW,
        CLOCK_REALTIME_COARSE,
        CLOCK_MONOTONIC_COARSE,
        CLOCK_PROCESS_CPUTIME_ID,
        CLOCK_THREAD_CPUTIME_ID,
    ] {
        let coarse = id == CLOCK_REALTIME_COARSE || id == CLOCK_MONOTONIC_COARSE;
        let slack = if coarse { 20_000_000 } else { 0 };
        let mut wrong = 0;
        for _ in 0..200 {
            let first = by_call(id);
            let between = sys::library_clock(id);
            let last = by_call(id);
            wrong += i32::from(first > between + slack || between > last + slack);
        }
        say!(o, "clock {id}: {wrong} out of order");
    }
    let mut tv: timeval = sys::zeroed();
    let before = by_call(CLOCK_REALTIME) / 1000;
    k!(SYS_gettimeofday, &mut tv, 0);
    let now = tv.tv_sec * 1_000_000 + tv.tv_usec;
    tell!(o, "day" => before <= now && now <= by_call(CLOCK_REALTIME) / 1000, "seconds" => { let t = k!(SYS_time, 0).0; (0..=1).contains(&(by_call(CLOCK_REALTIME) / 1_000_000_000 - t)) });
}

fn clock_library_goes_forward(o: Out) {
    let threads: Vec<_> = (0..3)
        .map(|_| {
            std::thread::spawn(|| {
                let (mut back, mut last) = (0, 0);
                for _ in 0..20_000 {
                    let now = sys::library_clock(CLOCK_MONOTONIC);
                    back += i32::from(now < last);
                    last = now;
                }
                back
            })
        })
        .collect();
    let back: i32 = threads.into_iter().filter_map(|t| t.join().ok()).sum();
    tell!(o, "steps back" => back);
}

fn wait_forms(o: Out) {
    let pid = child(|| 4);
    let mut info: siginfo_t = sys::zeroed();
    tell!(o, "keeps" => k!(SYS_waitid, P_PID, pid, &mut info, WEXITED | WNOWAIT, 0), "info" => sys::child_info(&info, pid), "again" => k!(SYS_waitid, P_PID, pid, &mut info, WEXITED, 0), "gone" => k!(SYS_waitid, P_PID, pid, &mut info, WEXITED, 0), "nothing asked" => k!(SYS_waitid, P_ALL, 0, &mut info, 0, 0), "flags" => k!(SYS_waitid, P_ALL, 0, &mut info, WEXITED | 0x100, 0), "kind" => k!(SYS_waitid, 77, 0, &mut info, WEXITED, 0), "pid zero" => k!(SYS_waitid, P_PID, 0, &mut info, WEXITED, 0), "no children" => k!(SYS_wait4, -1, 0, 0, 0), "flag" => k!(SYS_wait4, -1, 0, 0x100, 0), "least" => k!(SYS_wait4, i32::MIN, 0, 0, 0));
    let pid = child(|| {
        k!(SYS_pause);
        0
    });
    tell!(o, "not yet" => k!(SYS_waitid, P_PID, pid, &mut info, WEXITED | WNOHANG, 0), "signo" => info.si_signo, "bad status" => { k!(SYS_kill, pid, SIGKILL); k!(SYS_wait4, pid, 16usize, 0, 0) }, "was it reaped" => k!(SYS_wait4, pid, 0, WNOHANG, 0));
}

fn two_at_one_pipe(o: Out) {
    mask(SIG_BLOCK, bit(SIGCHLD));
    let (r, w) = pipe();
    let (done, sign) = pipe2(0);
    let kids: Vec<i32> = (0..2)
        .map(|_| {
            child(|| {
                close(w);
                let n = read(r, 4).0;
                write(sign, b"d");
                n.int()
            })
        })
        .collect();
    sleep_ms(40);
    let start = now_ms();
    write(w, b"abcdefgh");
    tell!(o, "first" => read(done, 1).0, "second" => read(done, 1).0, "soon" => now_ms() - start < 4000);
    for k in kids {
        say!(o, "{}", wait_text(k));
    }
    close(w);
    tell!(o, "end" => in_child(|| read(r, 1).0.int()), "name" => k!(SYS_readlinkat, AT, c"/proc/self/fd/99", &mut [0u8; 8], 8));
}
