//! Calls about what tasks share or order between them: membarrier, kcmp, file handles, advice for
//! others.

use crate::out::Out;
use crate::sys::{self, child, word};
use crate::util::{AT, anon, as_user, in_child, mk, open, pipe, shared, wait_text};
use crate::{cases, k, say, tell};
use libc::*;
use std::sync::atomic::Ordering::SeqCst;
use std::thread;

cases!(
    barriers,
    barriers_over_fork_and_exec,
    barriers_order_stores,
    comparing_processes,
    comparing_files,
    comparing_arguments,
    handles,
    advice_for_oneself,
    advice_for_others,
);

fn barrier(op: i32) -> sys::R {
    k!(SYS_membarrier, op, 0, 0)
}

fn barriers(o: Out) {
    let known = barrier(0).0;
    tell!(o, "basic ones" => known & 0x7f, "flags" => k!(SYS_membarrier, 0, 1, 0), "unknown" => barrier(1 << 20), "two" => barrier(3), "private" => barrier(8), "sync" => barrier(32), "global" => barrier(1), "global expedited" => barrier(2),
        "register" => barrier(16), "private" => barrier(8), "sync" => barrier(32), "register sync" => barrier(64), "sync" => barrier(32), "register global" => barrier(4), "registered" => barrier(512));
}

fn barriers_over_fork_and_exec(o: Out) {
    barrier(16);
    let kid = in_child(|| i32::from(!barrier(8).ok()));
    tell!(o, "child" => kid);
    let t = thread::spawn(|| barrier(8).to_string());
    tell!(o, "thread" => t.join().unwrap_or_default());
}

fn barriers_order_stores(o: Out) {
    barrier(16);
    let m = anon(8192);
    let t = thread::spawn(move || {
        let mut broken = 0;
        let mut last = 0;
        while last < 2000 {
            let flag = word(m).load(SeqCst);
            let data = word(m + 4096).load(SeqCst);
            if data < flag {
                broken += 1;
            }
            last = flag;
        }
        broken
    });
    for i in 1..=2000 {
        word(m + 4096).store(i, SeqCst);
        if i % 50 == 0 {
            barrier(8);
        }
        word(m).store(i, SeqCst);
    }
    tell!(o, "broken" => t.join().unwrap_or(-1));
}

fn kcmp(a: i64, b: i64, kind: i32, x: i32, y: i32) -> String {
    let r = k!(SYS_kcmp, a, b, kind, x, y);
    match r.0 {
        1 | 2 => "ordered".into(),
        _ => r.to_string(),
    }
}

fn comparing_processes(o: Out) {
    let me = k!(SYS_getpid).0;
    let kid = child(|| {
        k!(SYS_pause);
        0
    });
    let other = i64::from(kid);
    for kind in 1..=6 {
        tell!(o, "itself" => kcmp(me, me, kind, 0, 0), "child" => kcmp(me, other, kind, 0, 0));
    }
    let t = thread::spawn(move || {
        let tid = k!(SYS_gettid).0;
        (1..=4)
            .map(|kind| kcmp(me, tid, kind, 0, 0))
            .collect::<Vec<_>>()
    });
    say!(o, "thread {:?}", t.join().unwrap_or_default());
    k!(SYS_kill, kid, SIGKILL);
    wait_text(kid);
}

fn comparing_files(o: Out) {
    mk(c"f", b"");
    let a = open(c"f", O_RDONLY, 0).int();
    let b = open(c"f", O_RDONLY, 0).int();
    let c = k!(SYS_dup, a).int();
    let me = k!(SYS_getpid).0;
    tell!(o, "same" => kcmp(me, me, 0, a, a), "dup" => kcmp(me, me, 0, a, c), "opened twice" => kcmp(me, me, 0, a, b), "closed" => kcmp(me, me, 0, a, 99));
    let (r, w) = pipe();
    let kid = child(|| {
        k!(SYS_read, r, &mut [0u8; 1], 1);
        0
    });
    tell!(o, "inherited" => kcmp(me, i64::from(kid), 0, a, a), "another" => kcmp(me, i64::from(kid), 0, a, b));
    k!(SYS_write, w, &[1u8], 1);
    wait_text(kid);
    let ab = k!(SYS_kcmp, me, me, 0, a, b).0;
    let ba = k!(SYS_kcmp, me, me, 0, b, a).0;
    tell!(o, "antisymmetric" => ab + ba);
}

fn comparing_arguments(o: Out) {
    let me = k!(SYS_getpid).0;
    tell!(o, "no such" => kcmp(me, 0x3fff_fff0, 1, 0, 0), "zero" => kcmp(me, 0, 1, 0, 0), "kind" => kcmp(me, me, 99, 0, 0));
    let text = as_user(|| {
        tell!(o, "not allowed" => kcmp(k!(SYS_getppid).0, k!(SYS_getpid).0, 1, 0, 0));
    });
    say!(o, "{text}");
}

fn handles(o: Out) {
    mk(c"f", b"");
    let mut handle = [0u8; 136];
    let mut id = 0i32;
    tell!(o, "flags" => k!(SYS_name_to_handle_at, AT, c"f", &mut handle, &mut id, 0x8000), "missing" => k!(SYS_name_to_handle_at, AT, c"none", &mut handle, &mut id, 0), "bad path" => k!(SYS_name_to_handle_at, AT, 16, &mut handle, &mut id, 0), "bad directory" => k!(SYS_name_to_handle_at, 99, c"f", &mut handle, &mut id, 0));
    tell!(o, "empty bad" => k!(SYS_open_by_handle_at, 99, &handle, O_RDONLY), "empty" => k!(SYS_open_by_handle_at, AT, &handle, O_RDONLY));
    handle[0] = 8;
    tell!(o, "open bad" => k!(SYS_open_by_handle_at, 99, &handle, O_RDONLY));
    let text = as_user(|| {
        tell!(o, "unprivileged" => k!(SYS_open_by_handle_at, AT, &handle, O_RDONLY));
    });
    say!(o, "{text}");
}

fn advise(pidfd: sys::R, addr: usize, len: usize, advice: i32, flags: i32) -> sys::R {
    let iov = [addr, len];
    k!(SYS_process_madvise, pidfd, &iov, 1, advice, flags)
}

fn advice_for_oneself(o: Out) {
    let m = anon(8192);
    let me = k!(SYS_pidfd_open, k!(SYS_getpid), 0);
    tell!(o, "willneed" => advise(me, m, 8192, MADV_WILLNEED, 0), "cold" => advise(me, m, 4096, MADV_COLD, 0), "unaligned" => advise(me, m + 1, 4096, MADV_COLD, 0), "flags" => advise(me, m, 4096, MADV_COLD, 1), "unmapped" => advise(me, 0x10000, 4096, MADV_COLD, 0),
        "bad descriptor" => advise(sys::R(99), m, 4096, MADV_COLD, 0), "not a process" => advise(sys::R(0), m, 4096, MADV_COLD, 0), "unknown" => advise(me, m, 4096, 999, 0), "bad vector" => k!(SYS_process_madvise, me, 16, 1, MADV_COLD, 0), "none" => k!(SYS_process_madvise, me, 16, 0, MADV_COLD, 0));
    let two = [m, 4096, 0x10000, 4096];
    tell!(o, "partly" => k!(SYS_process_madvise, me, &two, 2, MADV_COLD, 0));
}

fn advice_for_others(o: Out) {
    let m = shared(8192);
    let kid = child(|| {
        k!(SYS_pause);
        0
    });
    let fd = k!(SYS_pidfd_open, kid, 0);
    tell!(o, "cold" => advise(fd, m, 8192, MADV_COLD, 0), "willneed" => advise(fd, m, 4096, MADV_WILLNEED, 0), "dontneed" => advise(fd, m, 4096, MADV_DONTNEED, 0));
    let text = as_user(|| {
        tell!(o, "not allowed" => advise(fd, m, 4096, MADV_COLD, 0));
    });
    say!(o, "{text}");
    k!(SYS_kill, kid, SIGKILL);
    wait_text(kid);
    tell!(o, "gone" => advise(fd, m, 4096, MADV_COLD, 0));
}
