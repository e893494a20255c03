//! Pipes, FIFOs, event counters, poll and select.

use crate::out::Out;
use crate::sys::child;
use crate::util::{
    close, in_child, kind_text, now_ms, open, pipe, pipe2, read, sleep_ms, wait_text, write,
};
use crate::{cases, k, say, sys, tell};
use libc::*;

cases!(
    pipe_basics,
    pipe_flags,
    pipe_end_of_file,
    pipe_capacity,
    pipe_resize,
    pipe_atomic_writes,
    pipe_partial_nonblocking,
    pipe_blocks_and_wakes,
    pipe_wrong_end,
    pipe_bytes_waiting,
    pipe_packets,
    pipe_through_proc,
    pipe_big_transfer,
    pipe_tee,
    fifo_rendezvous,
    fifo_nonblocking,
    fifo_read_write,
    event_counter,
    event_semaphore,
    event_limits,
    event_blocks,
    poll_events,
    poll_arguments,
    poll_times_out,
    poll_many,
    ten_thousand,
    poll_regular_files,
    select_sets,
    select_arguments,
    select_times_out,
    pselect_and_ppoll,
);

fn pipe_basics(o: Out) {
    let (r, w) = pipe();
    let mut st: stat = sys::zeroed();
    k!(SYS_fstat, r, &mut st);
    tell!(o, "kind" => kind_text(st.st_mode), "mode" => format!("{:o}", st.st_mode & 0o777), "write" => write(w, b"abc"), "read" => read(r, 2).1, "rest" => read(r, 9).1, "flags" => format!("{:o} {:o}", k!(SYS_fcntl, r, F_GETFL).0, k!(SYS_fcntl, w, F_GETFL).0));
}

fn pipe_flags(o: Out) {
    let (r, w) = pipe2(O_CLOEXEC | O_NONBLOCK);
    let mut ends = [0i32; 2];
    tell!(o, "cloexec" => k!(SYS_fcntl, r, F_GETFD), "flags" => format!("{:o}", k!(SYS_fcntl, w, F_GETFL).0), "empty" => read(r, 1).0, "unknown flag" => k!(SYS_pipe2, &mut ends, O_APPEND), "null" => k!(SYS_pipe, 0));
}

fn pipe_end_of_file(o: Out) {
    let (r, w) = pipe();
    write(w, b"last");
    close(w);
    tell!(o, "rest" => read(r, 9).1, "end" => read(r, 9).0, "again" => read(r, 9).0);
    let (r, w) = pipe();
    let w2 = k!(SYS_dup, w).int();
    close(w);
    k!(SYS_fcntl, r, F_SETFL, O_NONBLOCK);
    tell!(o, "other writer" => read(r, 1).0, "closed" => close(w2), "end" => read(r, 1).0);
}

fn pipe_capacity(o: Out) {
    let (r, w) = pipe2(O_NONBLOCK);
    let block = [7u8; 4096];
    let mut total = 0;
    loop {
        let n = write(w, &block);
        if n.0 <= 0 {
            tell!(o, "full" => n);
            break;
        }
        total += n.0;
    }
    tell!(o, "total" => total, "one byte more" => write(w, b"x"), "read" => read(r, 100).0, "still" => write(w, b"x"), "a page" => read(r, 3996).0, "now" => write(w, b"x"));
}

fn pipe_resize(o: Out) {
    let (_r, w) = pipe2(O_NONBLOCK);
    tell!(o, "size" => k!(SYS_fcntl, w, F_GETPIPE_SZ), "set" => k!(SYS_fcntl, w, F_SETPIPE_SZ, 5000), "get" => k!(SYS_fcntl, w, F_GETPIPE_SZ), "fill" => write(w, &[0u8; 100_000]), "too small" => k!(SYS_fcntl, w, F_SETPIPE_SZ, 4096), "grow" => k!(SYS_fcntl, w, F_SETPIPE_SZ, 1 << 17), "more" => write(w, &[0u8; 200_000]), "not a pipe" => k!(SYS_fcntl, open(c"/dev/null", O_RDONLY, 0), F_GETPIPE_SZ));
}

fn pipe_atomic_writes(o: Out) {
    let (r, w) = pipe();
    let kids: Vec<i32> = (0..4u8)
        .map(|i| {
            child(|| {
                for _ in 0..20 {
                    write(w, &[b'a' + i; 512]);
                }
                0
            })
        })
        .collect();
    close(w);
    let mut whole = 0;
    let mut block = Vec::new();
    let mut b = [0u8; 4096];
    loop {
        let n = k!(SYS_read, r, &mut b, 4096);
        if n.0 <= 0 {
            break;
        }
        block.extend_from_slice(&b[..n.addr()]);
    }
    for c in block.chunks(512) {
        whole += i32::from(c.iter().all(|x| *x == c[0]));
    }
    kids.into_iter().for_each(|p| {
        wait_text(p);
    });
    tell!(o, "bytes" => block.len(), "whole" => whole);
}

fn pipe_partial_nonblocking(o: Out) {
    let (r, w) = pipe2(O_NONBLOCK);
    tell!(o, "part" => write(w, &[1u8; 70_000]), "small does not fit" => write(w, &[1u8; 10]), "drain 5000" => read(r, 5000).0, "small block" => write(w, &[1u8; 4096]), "big block" => write(w, &[1u8; 9000]));
}

fn pipe_blocks_and_wakes(o: Out) {
    let (r, w) = pipe();
    let kid = child(|| {
        let t = now_ms();
        let x = read(r, 5).1;
        i32::from(x == "\"hello\"") + 2 * i32::from(now_ms() - t >= 50)
    });
    sleep_ms(80);
    write(w, b"hello");
    tell!(o, "reader" => wait_text(kid));
    let kid = child(|| {
        close(r);
        let n = write(w, &vec![1u8; 150_000]);
        i32::from(n.0 == 150_000)
    });
    close(w);
    let mut total = 0;
    loop {
        let n = read(r, 30_000).0;
        if n.0 <= 0 {
            break;
        }
        total += n.0;
    }
    tell!(o, "total" => total, "writer" => wait_text(kid));
}

fn pipe_wrong_end(o: Out) {
    let (r, w) = pipe();
    tell!(o, "write to reader" => write(r, b"x"), "read from writer" => read(w, 1).0, "seek" => k!(SYS_lseek, r, 0, 0), "truncate" => k!(SYS_ftruncate, w, 0), "mmap" => crate::util::map_file(r, 4096, PROT_READ, MAP_PRIVATE, 0), "getdents" => k!(SYS_getdents64, r, &mut [0u8; 64], 64), "ioctl" => k!(SYS_ioctl, r, TCGETS, &mut [0u8; 64]));
}

fn pipe_bytes_waiting(o: Out) {
    let (r, w) = pipe();
    let mut n = 9i32;
    tell!(o, "empty" => k!(SYS_ioctl, r, FIONREAD, &mut n), "is" => n);
    write(w, b"12345");
    tell!(o, "five" => k!(SYS_ioctl, r, FIONREAD, &mut n), "is" => n, "of writer" => k!(SYS_ioctl, w, FIONREAD, &mut n), "is" => n, "nonblocking" => k!(SYS_ioctl, r, FIONBIO, &1i32), "flags" => format!("{:o}", k!(SYS_fcntl, r, F_GETFL).0), "cloexec" => k!(SYS_ioctl, r, FIOCLEX), "fd" => k!(SYS_fcntl, r, F_GETFD));
}

fn pipe_packets(o: Out) {
    let (r, w) = pipe2(O_DIRECT);
    write(w, b"one");
    write(w, b"twotwo");
    write(w, b"three");
    tell!(o, "first" => read(r, 99).1, "cut" => read(r, 3).1, "next" => read(r, 99).1);
}

fn pipe_through_proc(o: Out) {
    let (r, w) = pipe();
    write(w, b"via");
    let path = std::ffi::CString::new(format!("/proc/self/fd/{r}")).unwrap_or_default();
    let again = open(&path, O_RDONLY, 0);
    let mut b = [0u8; 64];
    let n = k!(SYS_readlinkat, AT_FDCWD, path.as_c_str(), &mut b, 64);
    tell!(o, "reopened" => again.yes(), "reads" => read(again.int(), 9).1, "link" => String::from_utf8_lossy(&b[..n.addr().min(64)]).starts_with("pipe:["));
}

fn pipe_big_transfer(o: Out) {
    let (r, w) = pipe();
    let kid = child(|| {
        close(r);
        let block: Vec<u8> = (0..10_007u32).map(|i| (i % 251) as u8).collect();
        for _ in 0..200 {
            write(w, &block);
        }
        0
    });
    close(w);
    let (mut total, mut sum) = (0u64, 0u64);
    let mut b = vec![0u8; 20_000];
    loop {
        let n = k!(SYS_read, r, &mut b[..], 20_000);
        if n.0 <= 0 {
            break;
        }
        total += n.0 as u64;
        sum += b[..n.addr()].iter().map(|x| u64::from(*x)).sum::<u64>();
    }
    tell!(o, "total" => total, "sum" => sum, "child" => wait_text(kid));
}

fn pipe_tee(o: Out) {
    let (r, w) = pipe();
    let (r2, w2) = pipe();
    write(w, b"copy me");
    tell!(o, "tee" => k!(SYS_tee, r, w2, 100, 0), "first" => read(r, 99).1, "second" => read(r2, 99).1, "not pipes" => k!(SYS_tee, open(c"/dev/null", O_RDONLY, 0), w2, 1, 0), "same" => k!(SYS_tee, r, w, 1, 0), "vmsplice" => { let v = iovec { iov_base: c"abc".as_ptr() as *mut c_void, iov_len: 3 }; k!(SYS_vmsplice, w, &v, 1, 0) }, "got" => read(r, 9).1);
}

fn fifo_rendezvous(o: Out) {
    tell!(o, "make" => k!(SYS_mknodat, AT_FDCWD, c"p", S_IFIFO | 0o644, 0), "again" => k!(SYS_mknodat, AT_FDCWD, c"p", S_IFIFO | 0o644, 0));
    let kid = child(|| {
        let fd = open(c"p", O_WRONLY, 0).int();
        sleep_ms(50);
        write(fd, b"through");
        0
    });
    let fd = open(c"p", O_RDONLY, 0).int();
    tell!(o, "read" => read(fd, 20).1, "end" => read(fd, 20).0, "child" => wait_text(kid), "stat" => crate::util::stat_text(c"p", 0));
}

fn fifo_nonblocking(o: Out) {
    k!(SYS_mknodat, AT_FDCWD, c"p", S_IFIFO | 0o644, 0);
    tell!(o, "writer alone" => open(c"p", O_WRONLY | O_NONBLOCK, 0));
    let r = open(c"p", O_RDONLY | O_NONBLOCK, 0).int();
    tell!(o, "no writer yet" => read(r, 1).0, "writer" => open(c"p", O_WRONLY | O_NONBLOCK, 0).yes(), "empty" => read(r, 1).0);
    let mut p = pollfd {
        fd: r,
        events: POLLIN,
        revents: 0,
    };
    tell!(o, "poll" => k!(SYS_poll, &mut p, 1, 0), "truncate" => k!(SYS_truncate, c"p", 0));
}

fn fifo_read_write(o: Out) {
    k!(SYS_mknodat, AT_FDCWD, c"p", S_IFIFO | 0o644, 0);
    let fd = open(c"p", O_RDWR, 0).int();
    tell!(o, "write" => write(fd, b"self"), "read" => read(fd, 9).1);
    let other = child(|| {
        let f = open(c"p", O_RDONLY, 0).int();
        i32::from(read(f, 9).1 == "\"to you\"")
    });
    write(fd, b"to you");
    tell!(o, "other" => wait_text(other), "exclusive" => open(c"p", O_CREAT | O_EXCL | O_RDWR, 0o600), "directory" => open(c"p", O_RDWR | O_DIRECTORY, 0));
}

fn eventfd(n: u32, flags: i32) -> i32 {
    k!(SYS_eventfd2, n, flags).int()
}

fn get(fd: i32) -> String {
    let mut v = 0u64;
    let r = k!(SYS_read, fd, &mut v, 8);
    if r.0 == 8 {
        v.to_string()
    } else {
        r.to_string()
    }
}

fn add(fd: i32, v: u64) -> sys::R {
    k!(SYS_write, fd, &v, 8)
}

fn event_counter(o: Out) {
    let fd = eventfd(3, EFD_NONBLOCK);
    tell!(o, "first" => get(fd), "empty" => get(fd), "add" => add(fd, 4), "add" => add(fd, 5), "sum" => get(fd), "zero" => add(fd, 0), "still empty" => get(fd));
}

fn event_semaphore(o: Out) {
    let fd = eventfd(2, EFD_SEMAPHORE | EFD_NONBLOCK);
    tell!(o, "one" => get(fd), "two" => get(fd), "none" => get(fd), "add" => add(fd, 1), "one" => get(fd));
}

fn event_limits(o: Out) {
    let fd = eventfd(0, EFD_NONBLOCK);
    let mut b = [0u8; 16];
    tell!(o, "max" => add(fd, u64::MAX), "most" => add(fd, u64::MAX - 1), "full" => add(fd, 1), "small read" => k!(SYS_read, fd, &mut b, 7), "long read" => k!(SYS_read, fd, &mut b, 16), "small write" => write(fd, b"1234567"), "flags" => k!(SYS_eventfd2, 0, 7), "old" => k!(SYS_eventfd, 1).ok(), "seek" => k!(SYS_lseek, fd, 0, 0), "pread" => k!(SYS_pread64, fd, &mut b, 8, 0));
}

fn event_blocks(o: Out) {
    let fd = eventfd(0, 0);
    let kid = child(|| {
        sleep_ms(60);
        add(fd, 9);
        0
    });
    tell!(o, "waits" => get(fd), "child" => wait_text(kid));
    add(fd, u64::MAX - 1);
    let kid = child(|| {
        sleep_ms(60);
        get(fd);
        0
    });
    tell!(o, "write waits" => add(fd, 2), "child" => wait_text(kid), "left" => get(fd));
}

fn polled(fd: i32, events: i16) -> String {
    let mut p = pollfd {
        fd,
        events,
        revents: -1,
    };
    let r = k!(SYS_poll, &mut p, 1, 0);
    format!("{r} {:#x}", p.revents)
}

fn poll_events(o: Out) {
    const ALL: i16 = POLLIN | POLLOUT | POLLPRI | POLLRDNORM | POLLWRNORM | POLLRDHUP;
    let (r, w) = pipe();
    tell!(o, "empty reader" => polled(r, ALL), "writer" => polled(w, ALL));
    write(w, b"x");
    tell!(o, "reader" => polled(r, ALL), "not asked" => polled(r, POLLOUT));
    close(w);
    tell!(o, "hung up with data" => polled(r, ALL));
    read(r, 1);
    tell!(o, "hung up" => polled(r, ALL), "nothing asked" => polled(r, 0));
    let (r, w) = pipe2(O_NONBLOCK);
    write(w, &[0u8; 65536]);
    tell!(o, "full" => polled(w, ALL));
    close(r);
    tell!(o, "no reader" => polled(w, ALL), "closed" => polled(99, ALL), "negative" => polled(-5, ALL), "eventfd" => polled(eventfd(1, 0), ALL), "empty eventfd" => polled(eventfd(0, 0), ALL), "full eventfd" => { let e = eventfd(0, 0); add(e, u64::MAX - 1); polled(e, ALL) });
}

fn poll_arguments(o: Out) {
    let l = rlimit {
        rlim_cur: 300,
        rlim_max: 300,
    };
    tell!(o, "none" => k!(SYS_poll, 0, 0, 0), "null" => k!(SYS_poll, 0, 1, 0), "limit" => { k!(SYS_prlimit64, 0, RLIMIT_NOFILE, &l, 0); k!(SYS_poll, 0, 301, 0) }, "huge" => k!(SYS_poll, 0, u32::MAX, 0), "nsec" => k!(SYS_ppoll, 0, 0, &timespec { tv_sec: 0, tv_nsec: 1 << 30 }, 0, 8), "size" => k!(SYS_ppoll, 0, 0, 0, &0u64, 4));
}

fn poll_times_out(o: Out) {
    let (r, _w) = pipe();
    let mut p = pollfd {
        fd: r,
        events: POLLIN,
        revents: 7,
    };
    let t = now_ms();
    tell!(o, "time out" => k!(SYS_poll, &mut p, 1, 60), "cleared" => p.revents, "long enough" => now_ms() - t >= 60);
}

fn ten_thousand(o: Out) {
    let limit = rlimit {
        rlim_cur: 20_003,
        rlim_max: 20_003,
    };
    tell!(o, "limit" => k!(SYS_prlimit64, 0, RLIMIT_NOFILE, &limit, 0));
    let mut pipes = Vec::new();
    let refused = loop {
        let mut ends = [0i32; 2];
        let made = k!(SYS_pipe2, &mut ends, 0);
        if !made.ok() {
            break made;
        }
        pipes.push(ends);
    };
    let number = |i: usize| (i as u32).to_le_bytes();
    for (i, [_, w]) in pipes.iter().enumerate() {
        write(*w, &number(i));
    }
    let wrong = pipes.iter().enumerate().filter(|(i, [r, _])| {
        let mut got = [0u8; 4];
        k!(SYS_read, *r, &mut got, 4);
        got != number(*i)
    });
    tell!(o, "wrong" => wrong.count(), "refused" => refused, "about ten thousand" => (9_900..=10_000).contains(&pipes.len()));
    let closed = pipes.iter().flatten().filter(|fd| close(**fd).ok()).count();
    tell!(o, "closed" => closed == 2 * pipes.len());
}

fn poll_many(o: Out) {
    let pipes: Vec<(i32, i32)> = (0..40).map(|_| pipe()).collect();
    let mut set: Vec<pollfd> = pipes
        .iter()
        .map(|p| pollfd {
            fd: p.0,
            events: POLLIN,
            revents: 0,
        })
        .collect();
    let kid = child(|| {
        sleep_ms(50);
        write(pipes[17].1, b"x");
        0
    });
    let n = k!(SYS_poll, set.as_mut_ptr(), 40, 5000);
    wait_text(kid);
    write(pipes[3].1, b"x");
    let m = k!(SYS_poll, set.as_mut_ptr(), 40, 0);
    let which: Vec<usize> = set
        .iter()
        .enumerate()
        .filter(|(_, p)| p.revents != 0)
        .map(|(i, _)| i)
        .collect();
    tell!(o, "first" => n, "then" => m, "which" => format!("{which:?}"));
}

fn poll_regular_files(o: Out) {
    crate::util::mk(c"f", b"");
    tell!(o, "file" => polled(open(c"f", O_RDWR, 0).int(), POLLIN | POLLOUT | POLLPRI), "directory" => polled(open(c".", O_RDONLY, 0).int(), POLLIN | POLLOUT), "null" => polled(open(c"/dev/null", O_RDWR, 0).int(), POLLIN | POLLOUT), "path only" => polled(open(c"f", O_PATH, 0).int(), POLLIN));
}

fn select_sets(o: Out) {
    let (r, w) = pipe();
    let ask = |wait: bool| {
        let (mut rs, mut ws, mut es) = ([0u64; 16], [0u64; 16], [0u64; 16]);
        rs[0] = 1 << r;
        ws[0] = 1 << w | 1 << r;
        es[0] = 1 << r;
        let t = timeval {
            tv_sec: i64::from(wait),
            tv_usec: 0,
        };
        let n = k!(SYS_select, w.max(r) + 1, &mut rs, &mut ws, &mut es, &t);
        format!("{n} {} {} {}", rs[0] >> r & 1, ws[0] >> w & 1, es[0])
    };
    tell!(o, "empty" => ask(false));
    write(w, b"x");
    tell!(o, "data" => ask(true), "closed" => { close(w); let (mut rs, t) = ([0u64; 16], timeval { tv_sec: 0, tv_usec: 0 }); rs[0] = 1 << r; k!(SYS_select, r + 1, &mut rs, 0, 0, &t) });
}

fn select_arguments(o: Out) {
    let mut set = [0u64; 16];
    set[1] = 1;
    let zero = timeval {
        tv_sec: 0,
        tv_usec: 0,
    };
    tell!(o, "closed descriptor" => k!(SYS_select, 65, &mut set, 0, 0, &zero), "negative n" => k!(SYS_select, -1, 0, 0, 0, &zero), "bad time" => k!(SYS_select, 0, 0, 0, 0, &timeval { tv_sec: -1, tv_usec: 0 }), "big usec" => k!(SYS_select, 0, 0, 0, 0, &timeval { tv_sec: 0, tv_usec: 2_000_000 }), "null set" => k!(SYS_select, 5, 16usize, 0, 0, &zero));
}

fn select_times_out(o: Out) {
    let (r, _w) = pipe();
    let mut set = [0u64; 16];
    set[0] = 1 << r;
    let t = timeval {
        tv_sec: 0,
        tv_usec: 50_000,
    };
    let t0 = now_ms();
    tell!(o, "select" => k!(SYS_select, r + 1, &mut set, 0, 0, &t), "cleared" => set[0], "waited" => now_ms() - t0 >= 50, "rest" => t.tv_usec);
    let kid = child(|| {
        sleep_ms(30);
        0
    });
    wait_text(kid);
    set[0] = 1 << r;
    let (r2, w2) = (r, _w);
    let kid = child(|| {
        sleep_ms(50);
        write(w2, b"x");
        0
    });
    let t = timeval {
        tv_sec: 5,
        tv_usec: 0,
    };
    tell!(o, "wakes" => k!(SYS_select, r2 + 1, &mut set, 0, 0, &t), "rest is less" => t.tv_sec == 4, "child" => wait_text(kid));
}

fn pselect_and_ppoll(o: Out) {
    let (r, w) = pipe();
    write(w, b"x");
    let mut set = [0u64; 16];
    set[0] = 1 << r;
    let ts = timespec {
        tv_sec: 1,
        tv_nsec: 0,
    };
    let mut p = pollfd {
        fd: r,
        events: POLLIN,
        revents: 0,
    };
    tell!(o, "pselect" => k!(SYS_pselect6, r + 1, &mut set, 0, 0, &ts, 0), "ppoll" => k!(SYS_ppoll, &mut p, 1, &ts, 0, 0), "revents" => p.revents);
    say!(
        o,
        "{}",
        in_child(|| k!(SYS_ppoll, &mut p, 1, 0, 0, 0).int())
    );
}
