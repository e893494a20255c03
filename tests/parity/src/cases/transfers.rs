//! Bytes between descriptors, the slots of pipes, and waits with a mask of their own.

use crate::out::Out;
use crate::sys::{self, child, count, on};
use crate::util::{
    AT, bit, cat, close, in_child, mask, mask_text, mk, now_ms, open, pipe, pipe2, read, show,
    sleep_ms, wait_text, write,
};
use crate::{cases, k, say, tell};
use libc::*;

cases!(
    slots_of_odd_writes,
    slots_after_reads,
    slots_of_a_small_pipe,
    slots_and_polling,
    waiting_bytes_of_slots,
    vectors_into_pipes,
    splice_between_pipes,
    splice_from_full_and_empty,
    splice_to_file_at_offset,
    splice_arguments,
    splice_ends,
    tee_leaves_and_limits,
    vmsplice_both_ways,
    sendfile_offsets,
    sendfile_arguments,
    sendfile_to_socket,
    copy_range_arguments,
    ppoll_mask,
    pselect_mask,
    epoll_pwait_mask,
    mask_comes_back,
    signal_while_polling,
    several_signals_while_polling,
    null_device_forms,
    positions_at_the_end,
    proc_text_positions,
    proc_text_writes,
    proc_names_of_threads,
    proc_descriptor_details,
    proc_of_the_dead,
);

fn fill(fd: i32, len: usize) -> sys::R {
    write(fd, &vec![b'f'; len])
}

fn room(w: i32) -> i16 {
    let mut p = pollfd {
        fd: w,
        events: POLLOUT,
        revents: 0,
    };
    k!(SYS_poll, &mut p, 1, 0);
    p.revents
}

fn waiting(r: i32) -> i32 {
    let mut n = 0i32;
    k!(SYS_ioctl, r, FIONREAD, &mut n);
    n
}

fn slots_of_odd_writes(o: Out) {
    for size in [
        1, 100, 2048, 2049, 3000, 4095, 4096, 4097, 5000, 8191, 10_000,
    ] {
        let (r, w) = pipe2(O_NONBLOCK);
        let mut writes = 0;
        let last = loop {
            let n = fill(w, size);
            if n.0 != size as i64 {
                break n;
            }
            writes += 1;
        };
        say!(o, "{size}: {writes} writes, then {last}, {}", waiting(r));
        close(r);
        close(w);
    }
}

fn slots_after_reads(o: Out) {
    let (r, w) = pipe2(O_NONBLOCK);
    fill(w, 65_536);
    for take in [1, 4094, 1, 4096, 8191, 2, 5000] {
        let took = read(r, take).0;
        say!(
            o,
            "took {took}: room {:#x} one {} page {} waiting {}",
            room(w),
            fill(w, 1),
            fill(w, 4096),
            waiting(r)
        );
    }
}

fn slots_of_a_small_pipe(o: Out) {
    let (r, w) = pipe2(O_NONBLOCK);
    tell!(o, "one slot" => k!(SYS_fcntl, w, F_SETPIPE_SZ, 1), "part" => fill(w, 10), "joins" => fill(w, 20), "does not" => fill(w, 4090), "fills" => fill(w, 4066), "full" => fill(w, 1), "grow" => k!(SYS_fcntl, w, F_SETPIPE_SZ, 8192), "more" => fill(w, 5000), "shrink" => k!(SYS_fcntl, w, F_SETPIPE_SZ, 4096), "read" => read(r, 4096).0, "shrink again" => k!(SYS_fcntl, w, F_SETPIPE_SZ, 4096), "waiting" => waiting(r));
    tell!(o, "zero" => k!(SYS_fcntl, w, F_SETPIPE_SZ, 0), "three pages" => k!(SYS_fcntl, w, F_SETPIPE_SZ, 12_288), "beyond" => k!(SYS_fcntl, w, F_SETPIPE_SZ, -1));
}

fn slots_and_polling(o: Out) {
    let (r, w) = pipe2(O_NONBLOCK);
    tell!(o, "empty" => room(w));
    fill(w, 61_440);
    tell!(o, "one left" => room(w));
    fill(w, 1);
    tell!(o, "none, though bytes fit" => room(w), "they do" => fill(w, 4095), "now" => fill(w, 1));
    read(r, 4095);
    tell!(o, "most of a page" => room(w));
    read(r, 1);
    tell!(o, "a page" => room(w));
}

fn waiting_bytes_of_slots(o: Out) {
    let (r, w) = pipe2(O_NONBLOCK | O_DIRECT);
    fill(w, 10);
    fill(w, 5000);
    tell!(o, "waiting" => waiting(r), "first" => read(r, 99).0, "second" => read(r, 9999).0, "third" => read(r, 9999).0, "left" => waiting(r));
    for _ in 0..16 {
        fill(w, 1);
    }
    tell!(o, "sixteen packets" => fill(w, 1), "room" => room(w), "cut" => { fill(w, 0); read(r, 0).0 }, "waiting" => waiting(r));
}

fn vectors_into_pipes(o: Out) {
    let (r, w) = pipe2(O_NONBLOCK);
    let block = vec![b'v'; 3000];
    let v: Vec<iovec> = (0..40)
        .map(|_| iovec {
            iov_base: block.as_ptr() as *mut c_void,
            iov_len: block.len(),
        })
        .collect();
    tell!(o, "some" => k!(SYS_writev, w, v.as_ptr(), 3), "as much as goes" => k!(SYS_writev, w, v.as_ptr(), 40), "waiting" => waiting(r), "full" => k!(SYS_writev, w, v.as_ptr(), 1));
    let bad = [
        v[0],
        iovec {
            iov_base: 16 as *mut c_void,
            iov_len: 100,
        },
    ];
    let (r, w) = pipe2(O_NONBLOCK);
    tell!(o, "bad second" => k!(SYS_writev, w, bad.as_ptr(), 2), "waiting" => waiting(r));
}

fn splice(from: i32, to: i32, len: usize, flags: u32) -> sys::R {
    k!(SYS_splice, from, 0, to, 0, len, flags)
}

fn splice_between_pipes(o: Out) {
    let (r, w) = pipe2(O_NONBLOCK);
    let (r2, w2) = pipe2(O_NONBLOCK);
    write(w, b"abcdef");
    tell!(o, "part" => splice(r, w2, 3, 0), "there" => read(r2, 9).1, "rest" => splice(r, w2, 100, 0), "there" => read(r2, 9).1, "empty" => splice(r, w2, 1, 0), "none" => splice(r, w2, 0, 0));
    for _ in 0..5 {
        fill(w, 4096);
    }
    tell!(o, "many" => splice(r, w2, 1 << 20, 0), "waiting" => waiting(r2), "itself" => splice(r2, w2, 1, 0));
    // A part that was moved is joined by nothing.
    let (r, w) = pipe2(O_NONBLOCK);
    let (r2, w2) = pipe2(O_NONBLOCK);
    k!(SYS_fcntl, w2, F_SETPIPE_SZ, 4096);
    fill(w, 100);
    splice(r, w2, 50, 0);
    tell!(o, "joined" => fill(w2, 1), "waiting" => waiting(r2));
}

fn splice_from_full_and_empty(o: Out) {
    let (r, w) = pipe();
    let (_r2, w2) = pipe();
    fill(w2, 65_536);
    write(w, b"x");
    tell!(o, "full" => splice(r, w2, 1, SPLICE_F_NONBLOCK), "kept" => read(r, 5).1, "empty" => splice(r, w2, 1, SPLICE_F_NONBLOCK));
    close(w);
    tell!(o, "ended" => splice(r, w2, 1, SPLICE_F_NONBLOCK));
    let (r, w) = pipe();
    let (r2, w2) = pipe();
    let kid = child(|| {
        sleep_ms(50);
        write(w, b"late");
        0
    });
    tell!(o, "waits" => splice(r, w2, 99, 0), "got" => read(r2, 9).1, "child" => wait_text(kid));
}

fn splice_to_file_at_offset(o: Out) {
    mk(c"f", b"0123456789");
    let f = open(c"f", O_RDWR, 0).int();
    let (r, w) = pipe2(O_NONBLOCK);
    let mut off = 4i64;
    write(w, b"abc");
    tell!(o, "out" => k!(SYS_splice, r, 0, f, &mut off, 9, 0), "moved" => off, "cat" => cat(c"f"), "position" => k!(SYS_lseek, f, 0, SEEK_CUR));
    off = 8;
    tell!(o, "in" => k!(SYS_splice, f, &mut off, w, 0, 9, 0), "moved" => off, "got" => read(r, 9).1, "at end" => k!(SYS_splice, f, &mut off, w, 0, 9, 0));
    off = -1;
    tell!(o, "negative" => k!(SYS_splice, f, &mut off, w, 0, 9, 0));
    let a = open(c"f", O_WRONLY | O_APPEND, 0).int();
    write(w, b"z");
    tell!(o, "appending" => splice(r, a, 1, 0), "kept" => read(r, 1).1);
}

fn splice_arguments(o: Out) {
    mk(c"f", b"abc");
    let f = open(c"f", O_RDONLY, 0).int();
    let (r, w) = pipe2(O_NONBLOCK);
    tell!(o, "flags" => splice(f, w, 1, 0x100), "closed" => splice(99, w, 1, 0), "to closed" => splice(f, 99, 1, 0), "zero of closed" => splice(99, w, 0, 0), "ends turned" => splice(w, r, 1, 0), "read only" => splice(r, f, 1, 0), "directory" => splice(open(c".", O_RDONLY, 0).int(), w, 1, 0), "bad offset" => k!(SYS_splice, f, 16usize, w, 0, 1, 0), "path" => splice(open(c"f", O_PATH, 0).int(), w, 1, 0), "null device" => { write(w, b"gone"); splice(r, open(c"/dev/null", O_WRONLY, 0).int(), 99, 0) }, "zero device" => splice(open(c"/dev/zero", O_RDONLY, 0).int(), w, 10, 0), "got" => read(r, 99).1);
}

fn splice_ends(o: Out) {
    let (r, w) = pipe();
    mk(c"f", b"abc");
    let f = open(c"f", O_RDONLY, 0).int();
    close(r);
    on(SIGPIPE, 0);
    tell!(o, "no reader" => splice(f, w, 3, 0), "signals" => count(SIGPIPE));
}

fn tee_leaves_and_limits(o: Out) {
    let (r, w) = pipe2(O_NONBLOCK);
    let (r2, w2) = pipe2(O_NONBLOCK);
    let tee = |from, to, len: usize, flags: i32| k!(SYS_tee, from, to, len, flags);
    tell!(o, "empty" => tee(r, w2, 9, 0), "zero" => tee(r, w2, 0, 0), "flags" => tee(r, w2, 1, 0x100));
    write(w, b"abcdef");
    tell!(o, "part" => tee(r, w2, 4, 0), "again" => tee(r, w2, 4, 0), "copies" => read(r2, 99).1, "kept" => waiting(r));
    fill(w, 20_000);
    k!(SYS_fcntl, w2, F_SETPIPE_SZ, 8192);
    tell!(o, "two slots" => tee(r, w2, 1 << 20, 0), "full" => tee(r, w2, 1, 0), "kept" => waiting(r));
    close(w);
    read(r, 1 << 20);
    tell!(o, "ended" => { read(r2, 1 << 20); tee(r, w2, 1, 0) });
}

fn vmsplice_both_ways(o: Out) {
    let (r, w) = pipe2(O_NONBLOCK);
    let mut b = [0u8; 16];
    let v = |p: *const u8, n: usize| iovec {
        iov_base: p as *mut c_void,
        iov_len: n,
    };
    tell!(o, "in" => k!(SYS_vmsplice, w, &[v(b"one".as_ptr(), 3), v(b"two".as_ptr(), 3)], 2, 0), "out" => k!(SYS_vmsplice, r, &v(b.as_mut_ptr(), 4), 1, 0), "got" => show(&b[..4]), "left" => waiting(r), "flags" => k!(SYS_vmsplice, w, &v(b"x".as_ptr(), 1), 1, 0x100), "not a pipe" => k!(SYS_vmsplice, open(c"/dev/null", O_WRONLY, 0), &v(b"x".as_ptr(), 1), 1, 0), "none" => k!(SYS_vmsplice, w, 0, 0, 0), "closed" => k!(SYS_vmsplice, 99, 0, 0, 0));
}

fn sendfile_offsets(o: Out) {
    mk(c"a", b"0123456789");
    let a = open(c"a", O_RDONLY, 0).int();
    let b = open(c"b", O_CREAT | O_RDWR, 0o644).int();
    let mut off = 8i64;
    tell!(o, "to the end" => k!(SYS_sendfile, b, a, &mut off, 100), "off" => off, "beyond" => k!(SYS_sendfile, b, a, &mut off, 100), "position" => k!(SYS_lseek, a, 0, SEEK_CUR), "by position" => k!(SYS_sendfile, b, a, 0, 3), "moved" => k!(SYS_lseek, a, 0, SEEK_CUR), "cat" => cat(c"b"));
    off = -5;
    tell!(o, "negative" => k!(SYS_sendfile, b, a, &mut off, 1), "bad offset" => k!(SYS_sendfile, b, a, 16usize, 1), "zero" => k!(SYS_sendfile, b, a, 0, 0));
    off = i64::MAX;
    tell!(o, "far" => k!(SYS_sendfile, b, a, &mut off, 1));
}

fn sendfile_arguments(o: Out) {
    mk(c"a", b"abc");
    let a = open(c"a", O_RDONLY, 0).int();
    let (r, w) = pipe2(O_NONBLOCK);
    tell!(o, "read only" => k!(SYS_sendfile, a, a, 0, 1), "closed" => k!(SYS_sendfile, 99, a, 0, 1), "from closed" => k!(SYS_sendfile, w, 99, 0, 1), "appending" => k!(SYS_sendfile, open(c"b", O_CREAT | O_WRONLY | O_APPEND, 0o644), a, 0, 1), "offset of pipe" => k!(SYS_sendfile, w, r, &mut 0i64, 1), "directory" => k!(SYS_sendfile, w, open(c".", O_RDONLY, 0), 0, 1), "full" => { fill(w, 65_536); k!(SYS_sendfile, w, a, 0, 1) }, "position kept" => k!(SYS_lseek, a, 0, SEEK_CUR));
}

fn sendfile_to_socket(o: Out) {
    let mut s = [0i32; 2];
    k!(SYS_socketpair, AF_UNIX, SOCK_STREAM, 0, &mut s);
    mk(c"a", &[b's'; 10_000]);
    let a = open(c"a", O_RDONLY, 0).int();
    tell!(o, "sent" => k!(SYS_sendfile, s[0], a, 0, 20_000), "got" => { let mut n = 0; while n < 10_000 { n += read(s[1], 4096).0.0; } n }, "from socket" => k!(SYS_sendfile, s[0], s[1], 0, 1));
}

fn copy_range_arguments(o: Out) {
    mk(c"a", b"0123456789");
    let a = open(c"a", O_RDWR, 0).int();
    let b = open(c"b", O_CREAT | O_RDWR, 0o644).int();
    let (mut x, mut y) = (2i64, 5i64);
    let copy = |from: i32, to: i32, n: usize, flags: i32| {
        k!(SYS_copy_file_range, from, 0, to, 0, n, flags)
    };
    tell!(o, "at" => k!(SYS_copy_file_range, a, &mut x, b, &mut y, 4, 0), "moved" => x, "to" => y, "cat" => cat(c"b"), "flags" => copy(a, b, 1, 1), "pipe" => copy(pipe().0, b, 1, 0), "directory" => copy(open(c".", O_RDONLY, 0).int(), b, 1, 0), "read only" => copy(a, open(c"b", O_RDONLY, 0).int(), 1, 0), "write only" => copy(open(c"a", O_WRONLY, 0).int(), b, 1, 0), "appending" => copy(a, open(c"b", O_WRONLY | O_APPEND, 0).int(), 1, 0), "closed" => copy(99, b, 1, 0), "zero" => copy(a, b, 0, 0));
    (x, y) = (0, 3);
    tell!(o, "overlap" => k!(SYS_copy_file_range, a, &mut x, a, &mut y, 5, 0), "beside" => k!(SYS_copy_file_range, a, &mut x, a, &mut y, 3, 0), "cat" => cat(c"a"));
    x = 100;
    tell!(o, "beyond" => k!(SYS_copy_file_range, a, &mut x, b, 0, 5, 0));
}

fn ppoll_mask(o: Out) {
    on(SIGUSR1, 0);
    mask(SIG_BLOCK, bit(SIGUSR1));
    k!(SYS_kill, k!(SYS_getpid), SIGUSR1);
    let (r, w) = pipe();
    let mut p = pollfd {
        fd: r,
        events: POLLIN,
        revents: 0,
    };
    let none = timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    let long = timespec {
        tv_sec: 5,
        tv_nsec: 0,
    };
    tell!(o, "blocked" => k!(SYS_ppoll, &mut p, 1, &none, 0, 8), "runs" => count(SIGUSR1), "opened" => k!(SYS_ppoll, &mut p, 1, &long, &0u64, 8), "runs" => count(SIGUSR1));
    k!(SYS_kill, k!(SYS_getpid), SIGUSR1);
    // What is ready at once wins, and the signal waits.
    write(w, b"x");
    tell!(o, "ready" => k!(SYS_ppoll, &mut p, 1, &long, &0u64, 8), "runs" => count(SIGUSR1), "pending" => mask_text(crate::util::pending()));
}

fn pselect_mask(o: Out) {
    on(SIGUSR1, 0);
    mask(SIG_BLOCK, bit(SIGUSR1));
    k!(SYS_kill, k!(SYS_getpid), SIGUSR1);
    let (r, w) = pipe();
    let mut set = [0u64; 16];
    set[r as usize / 64] = 1 << (r % 64);
    let all = set;
    let opened = 0u64;
    let arg = [std::ptr::from_ref(&opened) as usize, 8];
    let long = timespec {
        tv_sec: 5,
        tv_nsec: 0,
    };
    tell!(o, "opened" => k!(SYS_pselect6, r + 1, &mut set, 0, 0, &long, &arg), "runs" => count(SIGUSR1), "set kept" => set == all, "bad size" => k!(SYS_pselect6, r + 1, &mut set, 0, 0, &long, &[arg[0], 7]));
    k!(SYS_kill, k!(SYS_getpid), SIGUSR1);
    write(w, b"x");
    tell!(o, "ready" => k!(SYS_pselect6, r + 1, &mut set, 0, 0, &long, &arg), "runs" => count(SIGUSR1));
}

fn epoll_pwait_mask(o: Out) {
    on(SIGUSR1, 0);
    mask(SIG_BLOCK, bit(SIGUSR1));
    let e = k!(SYS_epoll_create1, 0);
    let (r, w) = pipe();
    let mut ev = epoll_event {
        events: EPOLLIN as u32,
        u64: 1,
    };
    k!(SYS_epoll_ctl, e, EPOLL_CTL_ADD, r, &mut ev);
    k!(SYS_kill, k!(SYS_getpid), SIGUSR1);
    tell!(o, "no time" => k!(SYS_epoll_pwait, e, &mut ev, 1, 0, &0u64, 8), "runs" => count(SIGUSR1));
    k!(SYS_kill, k!(SYS_getpid), SIGUSR1);
    write(w, b"x");
    tell!(o, "ready" => k!(SYS_epoll_pwait, e, &mut ev, 1, 1000, &0u64, 8), "runs" => count(SIGUSR1), "size" => k!(SYS_epoll_pwait, e, &mut ev, 1, 0, &0u64, 9), "bad mask" => k!(SYS_epoll_pwait, e, &mut ev, 1, 0, 16usize, 8));
}

fn mask_comes_back(o: Out) {
    on(SIGUSR1, 0);
    on(SIGUSR2, 0);
    let blocked = bit(SIGUSR1) | bit(SIGTERM);
    mask(SIG_SETMASK, blocked);
    k!(SYS_kill, k!(SYS_getpid), SIGUSR1);
    let other = bit(SIGUSR2) | bit(SIGHUP);
    let long = timespec {
        tv_sec: 5,
        tv_nsec: 0,
    };
    tell!(o, "poll" => k!(SYS_ppoll, 0, 0, &long, &other, 8), "in the handler" => mask_text(sys::seen(SIGUSR1).mask.load(std::sync::atomic::Ordering::SeqCst)));
    let mut now = 0u64;
    k!(SYS_rt_sigprocmask, 0, 0, &mut now, 8);
    tell!(o, "after" => mask_text(now));
    let short = timespec {
        tv_sec: 0,
        tv_nsec: 1_000_000,
    };
    k!(SYS_ppoll, 0, 0, &short, &other, 8);
    k!(SYS_rt_sigprocmask, 0, 0, &mut now, 8);
    tell!(o, "after a time-out" => mask_text(now));
}

fn signal_while_polling(o: Out) {
    for restart in [0, SA_RESTART] {
        on(SIGALRM, restart);
        let after = itimerval {
            it_interval: sys::zeroed(),
            it_value: timeval {
                tv_sec: 0,
                tv_usec: 40_000,
            },
        };
        k!(SYS_setitimer, ITIMER_REAL, &after, 0);
        let start = now_ms();
        let mut left = timespec {
            tv_sec: 5,
            tv_nsec: 0,
        };
        let r = k!(SYS_ppoll, 0, 0, &mut left, 0, 8);
        tell!(o, "poll" => r, "in between" => (30..3000).contains(&(now_ms() - start)), "time left" => left.tv_sec);
        let mut ev = epoll_event { events: 0, u64: 0 };
        k!(SYS_setitimer, ITIMER_REAL, &after, 0);
        tell!(o, "epoll" => k!(SYS_epoll_wait, k!(SYS_epoll_create1, 0), &mut ev, 1, 5000), "runs" => count(SIGALRM));
    }
}

fn several_signals_while_polling(o: Out) {
    for s in [SIGUSR1, SIGUSR2, 40] {
        on(s, 0);
    }
    mask(SIG_BLOCK, bit(SIGUSR1) | bit(SIGUSR2) | bit(40));
    let me = k!(SYS_getpid);
    for s in [40, SIGUSR2, SIGUSR1, 40] {
        k!(SYS_kill, me, s);
    }
    let long = timespec {
        tv_sec: 5,
        tv_nsec: 0,
    };
    tell!(o, "poll" => k!(SYS_ppoll, 0, 0, &long, &0u64, 8), "usr1" => count(SIGUSR1), "usr2" => count(SIGUSR2), "real time" => count(40), "still blocked" => { let mut now = 0u64; k!(SYS_rt_sigprocmask, 0, 0, &mut now, 8); mask_text(now) });
}

fn null_device_forms(o: Out) {
    for path in [c"/dev/null", c"/dev/zero", c"/dev/full"] {
        let fd = open(path, O_RDWR, 0).int();
        let mut b = [1u8; 4];
        say!(
            o,
            "{path:?}: set {} end {} data {} read {} then {} pread {} pwrite {} sync {} lock {} map {} size {}",
            k!(SYS_lseek, fd, 77, SEEK_SET),
            k!(SYS_lseek, fd, -9, SEEK_END),
            k!(SYS_lseek, fd, 5, SEEK_DATA),
            k!(SYS_read, fd, &mut b, 4),
            k!(SYS_lseek, fd, 0, SEEK_CUR),
            k!(SYS_pread64, fd, &mut b, 4, 100),
            k!(SYS_pwrite64, fd, &b, 4, 100),
            k!(SYS_fsync, fd),
            k!(SYS_flock, fd, LOCK_EX),
            k!(SYS_mmap, 0, 4096, PROT_READ, MAP_PRIVATE, fd, 0).ok(),
            waiting(fd),
        );
    }
}

fn positions_at_the_end(o: Out) {
    mk(c"f", b"abc");
    let fd = open(c"f", O_RDWR, 0).int();
    let mut b = [0u8; 4];
    tell!(o, "last" => k!(SYS_pread64, fd, &mut b, 1, i64::MAX - 1), "over" => k!(SYS_pread64, fd, &mut b, 2, i64::MAX - 1), "none" => k!(SYS_pread64, fd, &mut b, 0, i64::MAX), "write none" => k!(SYS_pwrite64, fd, &b, 0, i64::MAX), "vector" => k!(SYS_preadv, fd, &iovec { iov_base: b.as_mut_ptr().cast(), iov_len: 4 }, 1, i64::MAX, 0));
    tell!(o, "truncate" => k!(SYS_ftruncate, fd, -1), "allocate" => k!(SYS_fallocate, fd, 0, i64::MAX, 1), "size" => crate::util::fstat(fd).st_size);
}

fn proc_text_positions(o: Out) {
    let fd = open(c"/proc/version", O_RDONLY, 0).int();
    let whole = std::fs::read("/proc/version").unwrap_or_default();
    let mut all = Vec::new();
    let mut b = [0u8; 3];
    loop {
        let n = k!(SYS_read, fd, &mut b, 3);
        if n.0 <= 0 {
            break;
        }
        all.extend_from_slice(&b[..n.addr()]);
    }
    tell!(o, "piece by piece" => all == whole, "back" => k!(SYS_lseek, fd, 2, SEEK_SET), "from there" => { k!(SYS_read, fd, &mut b, 3); whole.get(2..5) == Some(&b[..]) }, "pread" => { k!(SYS_pread64, fd, &mut b, 3, 1); whole.get(1..4) == Some(&b[..]) }, "far" => k!(SYS_pread64, fd, &mut b, 3, 1 << 30), "end" => k!(SYS_lseek, fd, 0, SEEK_END), "map" => k!(SYS_mmap, 0, 4096, PROT_READ, MAP_PRIVATE, fd, 0).ok(), "write" => open(c"/proc/self/maps", O_WRONLY, 0), "truncate" => k!(SYS_truncate, c"/proc/self/comm", 0));
}

fn proc_text_writes(o: Out) {
    let comm = open(c"/proc/self/comm", O_RDWR, 0).int();
    tell!(o, "name" => write(comm, b"new-name\n"), "read" => cat(c"/proc/self/comm"), "long" => write(comm, b"a-name-that-is-much-too-long"), "read" => cat(c"/proc/thread-self/comm"));
    let score = open(c"/proc/self/oom_score_adj", O_RDWR, 0).int();
    tell!(o, "score" => write(score, b"500"), "read" => cat(c"/proc/self/oom_score_adj"), "too much" => write(score, b"1001"), "words" => write(score, b"many"), "as user" => crate::util::as_user(|| { tell!(o, "lower" => write(score, b"499")); }));
    tell!(o, "inherited" => in_child(|| i32::from(cat(c"/proc/self/oom_score_adj") == "\"500\\n\"")));
}

fn proc_names_of_threads(o: Out) {
    let me = k!(SYS_getpid);
    let text = std::thread::spawn(move || {
        k!(SYS_prctl, PR_SET_NAME, c"second");
        let tid = k!(SYS_gettid);
        let mut b = [0u8; 64];
        let n = k!(SYS_readlinkat, AT, c"/proc/thread-self", &mut b, 64);
        format!(
            "link {} name {} of process {} count {}",
            b[..n.addr()] == *format!("{me}/task/{tid}").as_bytes(),
            cat(c"/proc/thread-self/comm"),
            std::fs::read_to_string(format!("/proc/{tid}/status"))
                .is_ok_and(|s| s.contains(&format!("Tgid:\t{me}"))),
            std::fs::read_dir("/proc/self/task").map_or(0, Iterator::count),
        )
    })
    .join()
    .unwrap_or_default();
    say!(o, "{text}");
}

fn proc_descriptor_details(o: Out) {
    mk(c"f", b"0123456789");
    let fd = open(c"f", O_RDWR | O_APPEND | O_CLOEXEC, 0).int();
    k!(SYS_lseek, fd, 4, SEEK_SET);
    let field = |fd: i32, name: &str| {
        let text = std::fs::read_to_string(format!("/proc/self/fdinfo/{fd}")).unwrap_or_default();
        text.lines()
            .find(|l| l.starts_with(name))
            .map(|l| l.replace('\t', " "))
            .unwrap_or_else(|| "absent".into())
    };
    tell!(o, "position" => field(fd, "pos:"), "flags" => field(fd, "flags:"));
    let null = open(c"/dev/zero", O_RDONLY, 0).int();
    read(null, 5);
    tell!(o, "of zero" => field(null, "pos:"));
    let e = k!(SYS_eventfd2, 5, 0).int();
    tell!(o, "event" => field(e, "eventfd-count:"), "pipe" => field(pipe().0, "flags:"), "closed" => std::fs::read("/proc/self/fdinfo/99").is_ok());
    let mode = |fd: i32| {
        let path = std::ffi::CString::new(format!("/proc/self/fd/{fd}")).unwrap_or_default();
        crate::util::stat_at(&path, AT_SYMLINK_NOFOLLOW).map_or(0, |s| s.st_mode & 0o777)
    };
    tell!(o, "both" => format!("{:o}", mode(fd)), "reads" => format!("{:o}", mode(null)), "writes" => format!("{:o}", mode(pipe().1)));
}

fn proc_of_the_dead(o: Out) {
    let pid = child(|| {
        k!(SYS_pause);
        0
    });
    let path =
        |what: &str| std::ffi::CString::new(format!("/proc/{pid}/{what}")).unwrap_or_default();
    let status = open(&path("status"), O_RDONLY, 0).int();
    let dir = open(&path(""), O_RDONLY | O_DIRECTORY, 0).int();
    k!(SYS_kill, pid, SIGKILL);
    sleep_ms(40);
    let state = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    tell!(o, "zombie" => state.lines().find(|l| l.starts_with("State:")).unwrap_or_default().to_owned(), "memory" => state.contains("VmSize"), "cmdline" => cat(&path("cmdline")), "exe" => k!(SYS_readlinkat, AT, path("exe").as_c_str(), &mut [0u8; 64], 64), "maps" => cat(&path("maps")), "descriptors" => open(&path("fd"), O_RDONLY, 0).ok());
    wait_text(pid);
    let mut b = [0u8; 16];
    tell!(o, "open status" => k!(SYS_read, status, &mut b, 16), "below" => k!(SYS_openat, dir, c"status", O_RDONLY, 0), "list" => k!(SYS_getdents64, dir, &mut [0u8; 512], 512), "gone" => open(&path("status"), O_RDONLY, 0));
}
